package flare_test

import (
	"bytes"
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"errors"
	"fmt"
	"html/template"
	"io"
	"log"
	"mime/multipart"
	"net"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"net/url"
	"strings"
	"testing/fstest"

	"flare"
)

// One example for each thing that flare does. They run as tests: what they
// print is what stands below them.

// Addresses are read strictly: what other programs may read in another way is
// refused, and the error says where and why.
func ExampleParseAddrPort() {
	for _, s := range []string{"192.168.1.7:80", "[fd00::1]:443", "010.0.0.1:80", "127.1:80", "[::1]:65536"} {
		addr, err := flare.ParseAddrPort(s)
		if err != nil {
			fmt.Println(err)
			continue
		}
		fmt.Println(addr.Addr(), addr.Port(), "private:", addr.Addr().IsPrivate())
	}
	// Output:
	// 192.168.1.7 80 private: true
	// fd00::1 443 private: true
	// flare: address byte 0: leading zero in IPv4 field
	// flare: address byte 5: fewer than four IPv4 fields
	// flare: address byte 10: port above 65535
}

// A Resolver asks for IPv4 and IPv6 at the same time. The machine itself is
// known without asking.
func ExampleResolver() {
	addrs, err := new(flare.Resolver).LookupAddrs(context.Background(), "localhost")
	if err != nil {
		log.Fatal(err)
	}
	fmt.Println(addrs)

	_, err = new(flare.Resolver).LookupAddrs(context.Background(), "not a host")
	fmt.Println(err)
	// Output:
	// [::1 127.0.0.1]
	// flare: resolve: invalid address: octet that is not of a host name
}

// Errors are told apart with errors.Is; errors.As has the details.
func ExampleClientError() {
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		log.Fatal(err)
	}
	ln.Close() // now nobody listens there

	_, err = flare.Get(context.Background(), "http://"+ln.Addr().String()+"/")
	switch {
	case errors.Is(err, flare.ErrRefused):
		fmt.Println("nobody is there")
	case errors.Is(err, flare.ErrTimeout), errors.Is(err, flare.ErrNoSuchHost):
		fmt.Println("nobody answers")
	}
	var e *flare.ClientError
	if errors.As(err, &e) {
		fmt.Println("it happened in phase", e.Phase)
	}
	// Output:
	// nobody is there
	// it happened in phase dial
}

// echo is a protocol that sends everything back.
type echo struct{}

func (echo) Data(c *flare.Conn, in []byte, eof bool) (int, error) {
	return len(in), c.Write(in) // copied, and sent when the turn is over
}

func (echo) Drained(c *flare.Conn)           {}
func (echo) Closed(c *flare.Conn, err error) {}

// A TCP server with a protocol of its own on an event loop, and a client that
// blocks.
func ExampleLoop_ListenTCP() {
	loop, err := flare.NewLoop(nil)
	if err != nil {
		log.Fatal(err)
	}
	ln, err := loop.ListenTCP(netip.MustParseAddrPort("127.0.0.1:0"), nil, func(*flare.Conn) flare.Protocol { return echo{} })
	if err != nil {
		log.Fatal(err)
	}
	ended := make(chan error)
	go func() { ended <- loop.Run(context.Background()) }()

	conn, err := flare.Dial(context.Background(), "tcp", ln.Addr().String())
	if err != nil {
		log.Fatal(err)
	}
	fmt.Fprint(conn, "one\r\ntwo\n")
	lines := flare.NewLineReader(conn, 0)
	for range 2 {
		line, err := lines.ReadLine()
		fmt.Printf("%s %v\n", line, err)
	}
	conn.Close()

	loop.Close()
	fmt.Println(<-ended)
	// Output:
	// one <nil>
	// two <nil>
	// <nil>
}

// A client that keeps its connections, with JSON both ways.
func ExampleClient() {
	mux := flare.NewMux()
	mux.Post("/double", func(w *flare.ResponseWriter, r *flare.Request) error {
		var n int
		if err := r.JSON(&n); err != nil {
			return err // answered with 400
		}
		return w.JSON(200, 2*n)
	})
	base, stop := serve(mux)
	defer stop()

	client := &flare.Client{BaseURL: base}
	defer client.CloseIdleConnections()
	resp, err := client.Post(context.Background(), "/double", 21)
	if err != nil {
		log.Fatal(err)
	}
	var answer int
	if err := resp.JSON(&answer); err != nil {
		log.Fatal(err)
	}
	fmt.Println(resp.StatusCode, answer)

	resp, err = client.Get(context.Background(), "/nowhere")
	if err != nil {
		log.Fatal(err)
	}
	err = resp.Err() // a *flare.ResponseError outside 2xx
	fmt.Println(resp.OK(), err != nil)
	// Output:
	// 200 42
	// false true
}

// An echo over WebSocket: the handler blocks in Read like any Go code.
func ExampleDialWebSocket() {
	mux := flare.NewMux()
	mux.Get("/echo", func(w *flare.ResponseWriter, r *flare.Request) error {
		ws, err := flare.AcceptWebSocket(w, r, nil)
		if err != nil {
			return err // the handshake is refused with it
		}
		for {
			kind, p, err := ws.Read(context.Background())
			if err != nil {
				return nil // the client has said goodbye
			}
			if err := ws.Write(context.Background(), kind, p); err != nil {
				return nil
			}
		}
	})
	base, stop := serve(mux)
	defer stop()

	ctx := context.Background()
	ws, _, err := flare.DialWebSocket(ctx, strings.Replace(base, "http", "ws", 1)+"/echo", nil)
	if err != nil {
		log.Fatal(err)
	}
	if err := ws.WriteText(ctx, "hello"); err != nil {
		log.Fatal(err)
	}
	_, p, err := ws.Read(ctx)
	fmt.Printf("%s %v\n", p, err)
	fmt.Println(ws.Close(flare.CloseNormal, ""))
	// Output:
	// hello <nil>
	// <nil>
}

// Comforts: credentials, forms and JSON.
func ExampleRequireBasic() {
	users := flare.BasicUsers(map[string]string{"ada": "correct horse"})
	mux := flare.NewMux()
	mux.Post("/greet", func(w *flare.ResponseWriter, r *flare.Request) error {
		form, err := r.Form()
		if err != nil {
			return err
		}
		return w.JSON(200, map[string]string{"user": flare.AuthUser(r), "greets": form.Get("whom")})
	}, flare.RequireBasic("members", users))
	base, stop := serve(mux)
	defer stop()

	form := url.Values{"whom": {"Charles & Co"}}
	for _, password := range []string{"a guess", "correct horse"} {
		client := &flare.Client{BaseURL: base, Auth: flare.BasicAuth("ada", password)}
		resp, err := client.Post(context.Background(), "/greet", form) // url.Values are sent as a form
		if err != nil {
			log.Fatal(err)
		}
		text, err := resp.Text()
		if err != nil {
			log.Fatal(err)
		}
		fmt.Println(resp.StatusCode, strings.TrimSpace(text))
		client.CloseIdleConnections()
	}
	// Output:
	// 401 Unauthorized
	// 200 {"greets":"Charles \u0026 Co","user":"ada"}
}

// A server with routes. Handlers return what went wrong instead of answering.
func ExampleMux() {
	books := map[string]string{"1": "Sartor Resartus"}

	mux := flare.NewMux()
	mux.Use(flare.Compress)
	api := mux.Group("/books")
	api.Get("/{id}", func(w *flare.ResponseWriter, r *flare.Request) error {
		title, ok := books[r.PathValue("id")]
		if !ok {
			return &flare.StatusError{Code: 404, Message: "there is no such book"}
		}
		return w.Text(200, title)
	})
	base, stop := serve(mux)
	defer stop()

	client := &flare.Client{BaseURL: base}
	defer client.CloseIdleConnections()
	for _, path := range []string{"/books/1", "/books/2"} {
		resp, err := client.Get(context.Background(), path)
		if err != nil {
			log.Fatal(err)
		}
		text, err := resp.Text()
		fmt.Println(resp.StatusCode, strings.TrimSpace(text), err)
	}
	resp, err := client.Delete(context.Background(), "/books/1")
	if err != nil {
		log.Fatal(err)
	}
	resp.Body.Close()
	fmt.Println(resp.StatusCode, resp.Header.Get("Allow"))
	// Output:
	// 200 Sartor Resartus <nil>
	// 404 there is no such book <nil>
	// 405 GET, HEAD
}

// An upload: the file is gone when the handler returns, unless it was copied.
func ExampleRequest_FormFile() {
	mux := flare.NewMux()
	mux.Post("/photos", func(w *flare.ResponseWriter, r *flare.Request) error {
		file, head, err := r.FormFile("photo")
		if err != nil {
			return err // 400, 413, 415
		}
		defer file.Close()
		form, err := r.Form()
		if err != nil {
			return err
		}
		return w.Text(201, fmt.Sprintf("%s: %q, %d bytes", head.Filename, form.Get("title"), head.Size))
	})
	base, stop := serve(mux)
	defer stop()

	var body bytes.Buffer
	form := multipart.NewWriter(&body)
	form.WriteField("title", "The Analytical Engine")
	part, _ := form.CreateFormFile("photo", "engine.jpg")
	part.Write(make([]byte, 2000))
	form.Close()
	resp, err := http.Post(base+"/photos", form.FormDataContentType(), &body)
	if err != nil {
		log.Fatal(err)
	}
	defer resp.Body.Close()
	text, _ := io.ReadAll(resp.Body)
	fmt.Println(resp.StatusCode, string(text))
	// Output: 201 engine.jpg: "The Analytical Engine", 2000 bytes
}

// A request as a struct. What is wrong with it is named.
func ExampleBind() {
	type search struct {
		Shelf int    `path:"shelf"`
		Query string `query:"q,required"`
		Page  int    `query:"page" default:"1"`
	}
	mux := flare.NewMux()
	mux.Get("/shelves/{shelf}", func(w *flare.ResponseWriter, r *flare.Request) error {
		s, err := flare.Bind[search](r)
		if err != nil {
			return err
		}
		return w.JSON(200, s)
	})
	base, stop := serve(mux)
	defer stop()

	client := &flare.Client{BaseURL: base}
	defer client.CloseIdleConnections()
	for _, path := range []string{"/shelves/7?q=engine", "/shelves/top?page=2"} {
		resp, err := client.Get(context.Background(), path)
		if err != nil {
			log.Fatal(err)
		}
		text, _ := resp.Text()
		fmt.Println(resp.StatusCode, strings.TrimSpace(text))
	}
	fmt.Println(mux.Routes())
	// Output:
	// 200 {"Shelf":7,"Query":"engine","Page":1}
	// 400 path shelf: must be a whole number within its range; query q: is required
	// [GET /shelves/{shelf}]
}

// Pages from templates, and conditional requests for them.
func ExampleResponseWriter_Render() {
	pages := template.Must(template.New("book.html").Parse("<h1>{{.}}</h1>"))
	mux := flare.NewMux()
	mux.Get("/book", func(w *flare.ResponseWriter, r *flare.Request) error {
		return w.Render(200, pages, "book.html", "Sense & Sensibility")
	}, flare.ETag)
	base, stop := serve(mux)
	defer stop()

	etag := ""
	for range 2 {
		req, _ := http.NewRequest("GET", base+"/book", nil)
		req.Header.Set("If-None-Match", etag)
		resp, err := http.DefaultClient.Do(req)
		if err != nil {
			log.Fatal(err)
		}
		text, _ := io.ReadAll(resp.Body)
		resp.Body.Close()
		etag = resp.Header.Get("ETag")
		fmt.Println(resp.StatusCode, string(text))
	}
	http.DefaultClient.CloseIdleConnections()
	// Output:
	// 200 <h1>Sense &amp; Sensibility</h1>
	// 304
}

// A login that is remembered, in a cookie that nobody else can read or make.
func ExampleSessions() {
	key := []byte("32 or more bytes of crypto/rand!") // from where the other secrets are
	sessions := &flare.Sessions{Keys: [][]byte{key}}
	mux := flare.NewMux()
	mux.Use(sessions.Wrap)
	mux.Post("/login", func(w *flare.ResponseWriter, r *flare.Request) error {
		s := flare.CurrentSession(r)
		s.Renew()
		s.Set("user", "ada")
		s.Flash("notice", "welcome")
		return w.Text(200, "")
	})
	mux.Get("/", func(w *flare.ResponseWriter, r *flare.Request) error {
		s := flare.CurrentSession(r)
		return w.Text(200, fmt.Sprintf("%q %q", s.Get("user"), s.TakeFlash("notice")))
	})
	base, stop := serve(mux)
	defer stop()

	login, err := http.Post(base+"/login", "", nil)
	if err != nil {
		log.Fatal(err)
	}
	login.Body.Close()
	cookie := login.Cookies()[0]
	for range 2 {
		req, _ := http.NewRequest("GET", base+"/", nil)
		req.AddCookie(&http.Cookie{Name: cookie.Name, Value: cookie.Value})
		resp, err := http.DefaultClient.Do(req)
		if err != nil {
			log.Fatal(err)
		}
		text, _ := io.ReadAll(resp.Body)
		resp.Body.Close()
		fmt.Println(string(text))
		if set := resp.Cookies(); len(set) > 0 {
			cookie = set[0]
		}
	}
	http.DefaultClient.CloseIdleConnections()
	// Output:
	// "ada" "welcome"
	// "ada" ""
}

// A form with a file, from a client.
func ExampleClientForm() {
	mux := flare.NewMux()
	mux.Post("/photos", func(w *flare.ResponseWriter, r *flare.Request) error {
		form, err := r.Multipart()
		if err != nil {
			return err
		}
		return w.Text(201, fmt.Sprint(form.Value["title"], form.File["photo"][0].Size))
	})
	base, stop := serve(mux)
	defer stop()

	form := new(flare.ClientForm)
	form.Add("title", "Engine")
	form.AddFile("photo", "engine.jpg", bytes.NewReader(make([]byte, 2000)))
	client := &flare.Client{BaseURL: base}
	defer client.CloseIdleConnections()
	resp, err := client.Post(context.Background(), "/photos", form)
	if err != nil {
		log.Fatal(err)
	}
	text, _ := resp.Text()
	fmt.Println(resp.StatusCode, text)
	// Output: 201 [Engine] 2000
}

// A single-page app: its files, and its page for every route that it has.
func ExampleFiles() {
	pages := fstest.MapFS{ // an embed.FS, or &flare.Files{Dir: "dist"}
		"index.html":      {Data: []byte("<p>the app</p>")},
		"app-3fa94c1b.js": {Data: []byte("let app")},
	}
	mux := flare.NewMux()
	mux.Mount("/", &flare.Files{FS: pages, Fallback: "index.html"})
	base, stop := serve(mux)
	defer stop()

	client := &flare.Client{BaseURL: base}
	defer client.CloseIdleConnections()
	for _, path := range []string{"/", "/app-3fa94c1b.js", "/books/7", "/..%2fsecret"} {
		resp, err := client.Get(context.Background(), path)
		if err != nil {
			log.Fatal(err)
		}
		text, _ := resp.Text()
		fmt.Printf("%d %q %s\n", resp.StatusCode, resp.Header.Get("Cache-Control"), strings.TrimSpace(text))
	}
	// Output:
	// 200 "no-cache" <p>the app</p>
	// 200 "public, max-age=31536000, immutable" let app
	// 200 "no-cache" <p>the app</p>
	// 404 "" Not Found
}

// WebSockets that stay on the loop: one that waits costs neither a goroutine
// nor a buffer.
func ExampleWebSocketHandler() {
	closed := make(chan flare.CloseCode)
	base, stop := serve(&flare.WebSocketHandler{
		OnOpen: func(ws *flare.WebSocket, r *flare.Request) error {
			return ws.WriteText(context.Background(), "welcome to "+r.Path())
		},
		OnMessage: func(ws *flare.WebSocket, kind flare.MessageKind, p []byte) error {
			return ws.Write(context.Background(), kind, bytes.ToUpper(p))
		},
		OnClose: func(_ *flare.WebSocket, code flare.CloseCode, reason string) {
			fmt.Println("closed:", code, reason)
			closed <- code
		},
	})
	defer stop()

	ctx := context.Background()
	ws, _, err := flare.DialWebSocket(ctx, strings.Replace(base, "http", "ws", 1)+"/lobby", nil)
	if err != nil {
		log.Fatal(err)
	}
	ws.WriteText(ctx, "anybody here?")
	for range 2 {
		_, p, err := ws.Read(ctx)
		fmt.Printf("%s %v\n", p, err)
	}
	go ws.Close(flare.CloseNormal, "good night")
	<-closed
	// Output:
	// welcome to /lobby <nil>
	// ANYBODY HERE? <nil>
	// closed: 1000 good night
}

// Content codings: what both sides can, there and back, with a bound on what a
// small body may grow to.
func ExampleNewDecoder() {
	coding := flare.NegotiateEncoding([]string{"br, gzip;q=0.8, *;q=0.1"}, "gzip", "deflate")
	fmt.Println(coding)

	var packed bytes.Buffer
	enc, err := flare.NewEncoder(&packed, coding, -1)
	if err != nil {
		log.Fatal(err)
	}
	io.WriteString(enc, strings.Repeat("again and ", 1000))
	enc.Close()
	fmt.Println(packed.Len() < 200)

	for _, limits := range []flare.DecodeLimits{{}, {MaxBytes: 100}} {
		body, err := flare.NewDecoder(bytes.NewReader(packed.Bytes()), coding, limits)
		if err != nil {
			log.Fatal(err)
		}
		text, err := io.ReadAll(body)
		fmt.Println(len(text), errors.Is(err, flare.ErrTooLarge))
	}
	// Output:
	// gzip
	// true
	// 10000 false
	// 100 true
}

// UDP that blocks, and what it says of datagrams that do not fit.
func ExampleListenUDP() {
	server, err := flare.ListenUDP(netip.MustParseAddrPort("127.0.0.1:0"), nil)
	if err != nil {
		log.Fatal(err)
	}
	defer server.Close()
	client, err := flare.DialUDP(server.LocalAddr(), nil)
	if err != nil {
		log.Fatal(err)
	}
	defer client.Close()

	client.Write([]byte("ping"))
	buf := make([]byte, 3)
	n, from, err := server.ReadFrom(buf)
	fmt.Printf("%s %v\n", buf[:n], err)
	server.WriteTo([]byte("ok"), from)
	n, err = client.Read(buf)
	fmt.Printf("%s %v\n", buf[:n], err)

	_, err = client.Write(make([]byte, flare.DatagramBytesMax+1))
	fmt.Println(err)
	// Output:
	// pin flare: datagram truncated
	// ok <nil>
	// flare: datagram too large
}

// TLS: the other side is verified, for the name that was dialled, and says who
// it is.
func ExampleDialTLS() {
	server := httptest.NewTLSServer(nil)
	defer server.Close()
	server.Config.ErrorLog = log.New(io.Discard, "", 0)
	addr := server.Listener.Addr().String()

	_, err := flare.DialTLS(context.Background(), addr, nil)
	fmt.Println(errors.Is(err, flare.ErrCertificateUntrusted))

	trusted := x509.NewCertPool()
	trusted.AddCert(server.Certificate())
	conn, err := flare.DialTLS(context.Background(), addr, &tls.Config{RootCAs: trusted})
	if err != nil {
		log.Fatal(err)
	}
	defer conn.Close()
	state := conn.ConnectionState()
	fmt.Println(tls.VersionName(state.Version), state.PeerCertificates[0].Subject)
	// Output:
	// true
	// TLS 1.3 O=Acme Co
}

// Cookies: set by a handler, kept by a Jar, and kept for the next run.
func ExampleJar() {
	mux := flare.NewMux()
	mux.Get("/login", func(w *flare.ResponseWriter, r *flare.Request) error {
		w.SetCookie(&flare.Cookie{Name: "id", Value: "42", Path: "/", HttpOnly: true, SameSite: http.SameSiteLaxMode})
		return w.Text(200, "welcome")
	})
	mux.Get("/", func(w *flare.ResponseWriter, r *flare.Request) error {
		id, ok := r.Cookie("id")
		return w.JSON(200, map[string]any{"id": id, "known": ok})
	})
	base, stop := serve(mux)
	defer stop()

	jar := new(flare.Jar)
	for _, path := range []string{"/", "/login", "/"} {
		client := &flare.Client{BaseURL: base, Jar: jar}
		resp, err := client.Get(context.Background(), path)
		if err != nil {
			log.Fatal(err)
		}
		text, err := resp.Text()
		if err != nil {
			log.Fatal(err)
		}
		fmt.Println(path, strings.TrimSpace(text))
		client.CloseIdleConnections()

		saved, err := json.Marshal(jar)
		if err != nil {
			log.Fatal(err)
		}
		jar = new(flare.Jar)
		if err := json.Unmarshal(saved, jar); err != nil {
			log.Fatal(err)
		}
	}
	fmt.Println(jar.Len())
	// Output:
	// / {"id":"","known":false}
	// /login welcome
	// / {"id":"42","known":true}
	// 1
}

// serve serves h on a port of its own until stop is called.
func serve(h flare.Handler) (base string, stop func()) {
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		log.Fatal(err)
	}
	s := &flare.Server{Handler: h}
	served := make(chan error)
	go func() { served <- s.Serve(ln) }()
	return "http://" + ln.Addr().String(), func() {
		s.Close()
		if err := <-served; !errors.Is(err, flare.ErrServerClosed) {
			log.Fatal(err)
		}
	}
}
