package flare

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"math"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"
)

// This file has what the tables of the bridge cannot compare: what only one of
// the two servers has.

// What a Mux has found, and what middleware of flare's has set, is in the
// http.Request and in its response.
func TestFromHTTPInMux(t *testing.T) {
	type key struct{}
	mux := NewMux()
	mux.Use(func(h Handler) Handler {
		return HandlerFunc(func(w *ResponseWriter, r *Request) error {
			w.Header().Set("X-Outer", "kept")
			w.Header().Set("X-Gone", "1")
			r.SetValue(key{}, "value")
			return h.Serve(w, r)
		})
	}, Compress)
	inner := FromHTTP(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		w.Header().Del("X-Gone")
		fmt.Fprintf(w, "<html>%s|%s|%s|%s|%v", r.Pattern, r.PathValue("user"), r.PathValue("rest"), r.URL.Path, r.Context().Value(key{}))
		io.WriteString(w, strings.Repeat(" ", 5000))
	}))
	mux.Mount("/users/{user}", inner)
	mux.Handle("/large", FromHTTP(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		io.WriteString(w, "<html>"+strings.Repeat(" ", 200_000))
	})))
	files := http.NewServeMux()
	files.HandleFunc("GET /x/{id}", func(w http.ResponseWriter, r *http.Request) {
		fmt.Fprintf(w, "%s|%s|%s", r.Pattern, r.PathValue("id"), r.URL.Path)
	})
	mux.Mount("/api", FromHTTP(http.StripPrefix("/api", files)))
	mux.Handle("GET /one/{a}/{b...}", FromHTTP(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		fmt.Fprintf(w, "%s|%s|%s", r.Pattern, r.PathValue("a"), r.PathValue("b"))
	})))
	client := TestClient(t, &Server{Handler: mux})
	for path, want := range map[string]string{
		"/users/ada%2F/x": "<html>/users/{user}/|ada/||/users/ada//x|value" + strings.Repeat(" ", 5000),
		"/large":          "<html>" + strings.Repeat(" ", 200_000),
		"/api/x/7":        "GET /x/{id}|7|/x/7",
		"/one/1/2/3":      "GET /one/{a}/{b...}|1|2/3",
	} {
		req, _ := http.NewRequest("GET", "http://h"+path, nil)
		req.Header.Set("Accept-Encoding", "gzip")
		resp, err := client.Do(req)
		if err != nil {
			t.Fatal(err)
		}
		body, err := NewDecoder(resp.Body, resp.Header.Get("Content-Encoding"), DecodeLimits{})
		if err != nil {
			t.Fatal(err)
		}
		text, err := io.ReadAll(body)
		resp.Body.Close()
		if err != nil || string(text) != want {
			t.Errorf("%s: %q, %v; want %q", path, tail(text), err, want)
		}
		if resp.Header.Get("X-Outer") != "kept" || strings.HasPrefix(path, "/users") != (resp.Header.Get("X-Gone") == "") {
			t.Errorf("%s: fields %v", path, resp.Header)
		}
		if coded := resp.Header.Get("Content-Encoding") == "gzip"; coded != (len(want) > 5000) || coded && resp.Header.Get("Content-Type") != "text/html; charset=utf-8" {
			t.Errorf("%s: fields %v", path, resp.Header)
		}
	}
}

// Goroutines that a handler has left behind get errors, while the same objects
// of flare's serve other requests.
func TestFromHTTPUseAfterReturn(t *testing.T) {
	const requests = 300
	var late sync.WaitGroup
	h := FromHTTP(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		late.Add(1)
		returned := r.Context().Done()
		go func() {
			defer late.Done()
			rc := http.NewResponseController(w)
			for over := false; ; {
				_, writeErr := w.Write([]byte("x"))
				_, readErr := r.Body.Read(make([]byte, 1))
				flushErr := rc.Flush()
				deadlineErr := rc.SetReadDeadline(time.Time{})
				_ = fmt.Sprint(r.Method, r.URL, r.Header, r.Context().Value(http.LocalAddrContextKey), r.PathValue("x"))
				if over {
					if writeErr == nil || flushErr == nil || deadlineErr == nil || readErr != http.ErrBodyReadAfterClose {
						t.Errorf("after the handler's return: %v, %v, %v, %v", writeErr, readErr, flushErr, deadlineErr)
					}
					if _, _, err := rc.Hijack(); err == nil {
						t.Error("after the handler's return: hijacked")
					}
					return
				}
				select {
				case <-returned:
					// The context ends a moment after the rest does.
					over = true
				default:
				}
			}
		}()
	}))
	addr := bridgeFlare(t, h)
	c := dialRaw(t, addr)
	for range requests {
		c.send("POST / HTTP/1.1\r\nHost: h\r\nContent-Length: 3\r\n\r\nabc")
		if a := c.answer("POST"); a.StatusCode != 200 || strings.Trim(a.body, "x") != "" {
			t.Fatalf("answer %d %q", a.StatusCode, a.body)
		}
	}
	late.Wait()
}

// A handler that returns, or closes the body, while another goroutine waits in
// its Read does not wait for the client: the read is broken off.
func TestFromHTTPCloseBreaksRead(t *testing.T) {
	for _, how := range []string{"close", "return"} {
		t.Run(how, func(t *testing.T) {
			failed := make(chan error, 1)
			h := FromHTTP(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
				if r.Method == "GET" {
					return
				}
				reading := make(chan struct{})
				go func() {
					r.Body.Read(make([]byte, 3))
					close(reading)
					_, err := r.Body.Read(make([]byte, 3))
					failed <- err
				}()
				<-reading
				io.WriteString(w, "enough")
				if how == "close" {
					r.Body.Close()
				}
			}))
			c := dialRaw(t, bridgeFlare(t, h))
			c.send("POST / HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n")
			c.answer("POST").want(t, 200, "enough")
			if err := <-failed; err != http.ErrBodyReadAfterClose {
				t.Errorf("the read failed with %v", err)
			}
			// What comes of the body after all is skipped, and the connection goes on.
			c.send("3\r\ndef\r\n0\r\n\r\n")
			c.get("/").want(t, 200, "")
		})
	}
}

// A body that turns out to be malformed while it is being closed ends the
// connection: nobody can know where the next request begins.
func TestFromHTTPMalformedWhileClosed(t *testing.T) {
	reading := make(chan bool)
	c := dialRaw(t, bridgeFlare(t, FromHTTP(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.Method == "GET" {
			return
		}
		r.Body.Read(make([]byte, 3))
		close(reading)
		if _, err := r.Body.Read(make([]byte, 3)); !errors.Is(err, ErrMalformed) {
			t.Errorf("the read failed with %v", err)
		}
	}))))
	c.send("POST / HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n")
	<-reading
	c.send("1x\r\n0\r\n\r\nGET / HTTP/1.1\r\nHost: h\r\n\r\n")
	if a := c.answer("POST"); !a.Close {
		t.Errorf("answer %d, and the connection goes on", a.StatusCode)
	}
	c.ended()
}

// A handler that is quick comes to the loop, as any other.
func TestFromHTTPIsLearned(t *testing.T) {
	s := &Server{Handler: FromHTTP(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { io.WriteString(w, "quick") }))}
	c := dialRaw(t, strings.TrimPrefix(TestServer(t, s), "http://"))
	s.routes.find("GET/", pinNone).need.Store(1) // how many it takes hangs on the machine
	eventually(t, "a call on the loop", func() bool {
		c.get("/").want(t, 200, "quick")
		return s.Stats().Handlers.Inline > 0
	})
}

// ToHTTP of FromHTTP of a handler is that handler, by HTTP/2 as well.
func TestFromHTTPThroughToHTTP(t *testing.T) {
	s := httptest.NewUnstartedServer(ToHTTP(FromHTTP(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		srv, _ := r.Context().Value(http.ServerContextKey).(*http.Server)
		w.Header().Set("Trailer", "X-Sum")
		fmt.Fprintf(w, "%s %d %v %v ", r.Proto, r.ProtoMajor, r.TLS != nil, srv != nil && srv.TLSConfig != nil)
		http.NewResponseController(w).Flush()
		n, err := io.Copy(w, r.Body)
		w.Header().Set("X-Sum", fmt.Sprint(n, err))
	}))))
	s.EnableHTTP2 = true
	s.StartTLS()
	defer s.Close()
	resp, err := s.Client().Post(s.URL, "text/plain", strings.NewReader("hello"))
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	text, err := io.ReadAll(resp.Body)
	if string(text) != "HTTP/2.0 2 true true hello" || err != nil || resp.Trailer.Get("X-Sum") != "5 <nil>" {
		t.Errorf("%q, %v, trailer %v", text, err, resp.Trailer)
	}
}

// Bodies and responses that make no progress end by the Server's limits when
// net/http's server has none, and a stream on which the handler neither reads
// nor writes does not.
func TestToHTTPTimeouts(t *testing.T) {
	t.Parallel()
	const limit = 400 * time.Millisecond // more than a short request takes on a loaded machine
	next, wrote := make(bridgeGate), make(chan error, 1)
	mux := NewMux()
	mux.Post("/read", func(w *ResponseWriter, r *Request) error {
		_, err := r.Bytes()
		return err
	})
	mux.Get("/write", func(w *ResponseWriter, r *Request) error {
		w.Header().Set("Content-Type", "x/y")
		for {
			if _, err := w.Write(make([]byte, 64<<10)); err != nil {
				wrote <- err
				return err
			}
		}
	})
	mux.Post("/quiet", func(w *ResponseWriter, r *Request) error {
		if _, err := io.ReadFull(r.Body(), make([]byte, 3)); err != nil {
			return err
		}
		w.WriteString("one;")
		if err := w.Flush(); err != nil {
			return err
		}
		<-next
		if err := r.Context().Err(); err != nil {
			return err
		}
		rest, err := r.Bytes()
		if err != nil {
			return err
		}
		_, err = w.Write(append(rest, ';'))
		return err
	})
	s := &Server{Handler: mux, Logger: quietLogger(), BodyTimeout: limit, WriteTimeout: limit}
	h1 := bridgeNetHTTP(t, s)
	h2 := httptest.NewUnstartedServer(s)
	h2.EnableHTTP2 = true
	h2.StartTLS()
	defer h2.Close()

	c := dialRaw(t, h1)
	c.send("POST /read HTTP/1.1\r\nHost: h\r\nContent-Length: 10\r\n\r\nabc")
	if a := c.answer("POST"); a.StatusCode != 408 {
		t.Errorf("a body that stalls: %d", a.StatusCode)
	}
	c = dialRaw(t, h1)
	c.send("GET /write HTTP/1.1\r\nHost: h\r\n\r\n")
	if err := <-wrote; !errors.Is(err, ErrTimeout) {
		t.Errorf("a client that does not read: %v", err)
	}
	pr, pw := io.Pipe()
	go pw.Write([]byte("abc"))
	resp, err := h2.Client().Post(h2.URL+"/read", "text/plain", pr)
	if err != nil {
		t.Fatal(err)
	}
	if resp.Body.Close(); resp.StatusCode != 408 {
		t.Errorf("a body that stalls, over HTTP/2: %d", resp.StatusCode)
	}
	pw.Close()
	resp, err = h2.Client().Get(h2.URL + "/write")
	if err != nil {
		t.Fatal(err)
	}
	<-wrote // the client's window is full
	resp.Body.Close()

	time.AfterFunc(4*limit, func() { close(next) }) // silent for longer than anybody may stall
	var quiet sync.WaitGroup
	for base, client := range map[string]*http.Client{"http://" + h1: http.DefaultClient, h2.URL: h2.Client()} {
		quiet.Go(func() {
			body, more := io.Pipe()
			go func() {
				io.WriteString(more, "abc")
				<-next
				io.WriteString(more, "two")
				more.Close()
			}()
			resp, err := client.Post(base+"/quiet", "text/plain", body)
			if err != nil {
				t.Error(err)
				return
			}
			defer resp.Body.Close()
			if text, err := io.ReadAll(resp.Body); string(text) != "one;two;" || err != nil {
				t.Errorf("%s: a quiet stream: %q, %v", resp.Proto, text, err)
			}
		})
	}
	quiet.Wait()
}

// A request that a test has made, with a body and no field that says so.
func TestToHTTPRecorder(t *testing.T) {
	rec := httptest.NewRecorder()
	ToHTTP(HandlerFunc(func(w *ResponseWriter, r *Request) error {
		clone := r.Clone()
		n := r.ContentLength()
		p, err := r.Bytes()
		if err != nil {
			return err
		}
		rest, err := io.ReadAll(clone.Body())
		return errors.Join(err, w.Text(200, fmt.Sprintf("%d %q %q %s", n, p, rest, clone.Proto())))
	})).ServeHTTP(rec, httptest.NewRequest("POST", "/", strings.NewReader("hello")))
	if got, want := rec.Body.String(), `5 "hello" "" HTTP/1.1`; got != want {
		t.Errorf("%s, want %s", got, want)
	}
}

// A trailer that may be sent is, and whatever would change the framing is not.
func TestResponseTrailer(t *testing.T) {
	h := HandlerFunc(func(w *ResponseWriter, r *Request) error {
		switch r.Path() {
		case "/length":
			w.Header().Set("Content-Length", "5")
		case "/204":
			w.WriteHeader(204)
			w.Trailer().Set("X-Sum", "5")
			return nil
		case "/split":
			w.Trailer().Set("X-Sum", "5\r\nX-Evil: 1")
			return nil
		case "/failed":
			w.Trailer().Set("X-Sum", "5")
			return &StatusError{Code: 400}
		}
		w.WriteString("hello")
		w.Trailer().Add("X-Sum", "5")
		w.Trailer().Add("X-Sum", "6")
		w.Trailer().Set("Content-Length", "7")
		return nil
	})
	addr := strings.TrimPrefix(TestServer(t, &Server{Handler: h, Logger: quietLogger()}), "http://")
	for request, want := range map[string]string{
		"GET / HTTP/1.1":       "Trailer: X-Sum\r\nTransfer-Encoding: chunked\r\nConnection: close\r\n\r\n5\r\nhello\r\n0\r\nX-Sum: 5\r\nX-Sum: 6\r\n\r\n",
		"HEAD / HTTP/1.1":      "Connection: close\r\n\r\n",
		"GET / HTTP/1.0":       "Content-Length: 5\r\nConnection: close\r\n\r\nhello",
		"GET /length HTTP/1.1": "Content-Length: 5\r\nConnection: close\r\n\r\nhello",
		"GET /204 HTTP/1.1":    "Connection: close\r\n\r\n",
		"GET /split HTTP/1.1":  "Content-Type: text/plain; charset=utf-8\r\nContent-Length: 22\r\nConnection: close\r\n\r\nInternal Server Error\n",
		"GET /failed HTTP/1.1": "Content-Type: text/plain; charset=utf-8\r\nContent-Length: 12\r\nConnection: close\r\n\r\nBad Request\n",
	} {
		c := dialRaw(t, addr)
		c.send(request, "\r\nHost: h\r\nConnection: close\r\n\r\n")
		all, err := io.ReadAll(c.br)
		if err != nil {
			t.Fatal(err)
		}
		_, got, _ := strings.Cut(string(all), "GMT\r\n") // behind the status line and Date
		if got != want {
			t.Errorf("%s:\n%q, want\n%q", request, got, want)
		}
	}
}

// Aborting is silent: earlier answers of the pipeline arrive, the aborted
// request has none.
func TestAbortHandler(t *testing.T) {
	h := HandlerFunc(func(w *ResponseWriter, r *Request) error {
		switch r.Path() {
		case "/panic":
			panic(http.ErrAbortHandler)
		case "/return":
			w.WriteString("not sent")
			return fmt.Errorf("wrapped: %w", http.ErrAbortHandler)
		}
		return w.Text(200, "fine")
	})
	for _, path := range []string{"/panic", "/return"} {
		var log lockedBuffer
		addr := strings.TrimPrefix(TestServer(t, &Server{Handler: h, Logger: slog.New(slog.NewTextHandler(&log, nil))}), "http://")
		c := dialRaw(t, addr)
		c.send("GET / HTTP/1.1\r\nHost: h\r\n\r\nGET ", path, " HTTP/1.1\r\nHost: h\r\n\r\n")
		c.answer("GET").want(t, 200, "fine")
		c.ended()
		if log.String() != "" {
			t.Errorf("%s was logged: %s", path, log.String())
		}
	}
}

// BenchmarkFromHTTP is what net/http's types cost over flare's own.
func BenchmarkFromHTTP(b *testing.B) {
	for name, h := range map[string]Handler{
		"flare": HandlerFunc(func(w *ResponseWriter, r *Request) error { return w.Text(200, "Hello, World!") }),
		"nethttp": FromHTTP(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			w.Header().Set("Content-Type", "text/plain; charset=utf-8")
			io.WriteString(w, "Hello, World!")
		})),
	} {
		b.Run(name, func(b *testing.B) {
			s := &Server{Handler: Inline(h)}
			ln, err := net.Listen("tcp", "127.0.0.1:0")
			if err != nil {
				b.Fatal(err)
			}
			go s.Serve(ln)
			defer s.Close()
			conn, err := net.Dial("tcp", ln.Addr().String())
			if err != nil {
				b.Fatal(err)
			}
			defer conn.Close()
			br := bufio.NewReader(conn)
			b.ReportAllocs()
			for b.Loop() {
				io.WriteString(conn, "GET /plaintext HTTP/1.1\r\nHost: h\r\n\r\n")
				for {
					line, err := br.ReadSlice('\n')
					if err != nil {
						b.Fatal(err)
					}
					if len(line) == 2 {
						break
					}
				}
				br.Discard(len("Hello, World!"))
			}
		})
	}
}

// A bridgeDeaf is the response to a client that is gone.
type bridgeDeaf struct{ *httptest.ResponseRecorder }

func (bridgeDeaf) Write([]byte) (int, error) { return 0, syscall.EPIPE }

// A handler that goes on writing after a write has failed leaves nothing for
// the next request.
func TestToHTTPWritesAfterFailure(t *testing.T) {
	s := &Server{Logger: quietLogger(), Handler: HandlerFunc(func(w *ResponseWriter, r *Request) error {
		if r.Path() == "/gone" {
			for range 8 {
				w.WriteString(strings.Repeat("stray", streamBytes/10))
				w.Flush()
			}
			w.WriteString("stray")
			return nil
		}
		return w.Text(200, "clean")
	})}
	func() {
		defer func() {
			if p := recover(); p != http.ErrAbortHandler {
				t.Errorf("panic %v", p)
			}
		}()
		s.ServeHTTP(bridgeDeaf{httptest.NewRecorder()}, httptest.NewRequest("GET", "/gone", nil))
	}()
	for range 8 {
		rec := httptest.NewRecorder()
		s.ServeHTTP(rec, httptest.NewRequest("GET", "/", nil))
		if text := rec.Body.String(); text != "clean" {
			t.Fatalf("the next request was answered with %d bytes that end with %q", len(text), tail([]byte(text)))
		}
	}
}

// What follows a body whose end cannot be found is no request, and what follows
// one whose end can be found is.
func TestToHTTPBodyLeft(t *testing.T) {
	t.Parallel()
	asked := make(chan string, 8)
	addr := bridgeNetHTTP(t, &Server{Logger: quietLogger(), Handler: HandlerFunc(func(w *ResponseWriter, r *Request) error {
		asked <- r.Path()
		if r.Path() == "/late" { // the body's fault comes when the response has begun
			w.Flush()
			io.Copy(io.Discard, r.Body())
		}
		return w.Text(200, "ok")
	})})
	const next = "GET /next HTTP/1.1\r\nHost: h\r\nConnection: close\r\n\r\n"
	for _, test := range []struct {
		name, path, fields, body string
		goesOn                   bool
	}{
		{"a malformed chunk", "/", "Transfer-Encoding: chunked", "ZZ\r\n", false},
		{"a malformed chunk that was read", "/late", "Transfer-Encoding: chunked", "ZZ\r\n", false},
		{"more than is discarded", "/", "Content-Length: 300000", "", false},
		{"one that waits for a 100", "/", "Content-Length: 3\r\nExpect: 100-continue", "", false},
		{"one that was not read", "/", "Content-Length: 3", "abc", true},
		{"chunks that were not read", "/", "Transfer-Encoding: chunked", "3\r\nabc\r\n0\r\n\r\n", true},
	} {
		c := dialRaw(t, addr)
		c.send("POST " + test.path + " HTTP/1.1\r\nHost: h\r\n" + test.fields + "\r\n\r\n" + test.body + next)
		c.answer("POST").want(t, 200, "ok")
		if test.goesOn {
			c.answer("GET").want(t, 200, "ok")
		}
		c.CloseWrite()
		if rest := c.toEnd(); len(rest) > 0 {
			t.Errorf("%s: behind the answers came %q", test.name, rest)
		}
		<-asked
		select {
		case path := <-asked:
			if !test.goesOn {
				t.Errorf("%s: %s was asked for", test.name, path)
			}
		default:
			if test.goesOn {
				t.Errorf("%s: what followed was not asked for", test.name)
			}
		}
	}
}

// The longest limits are none.
func TestToHTTPLongestLimits(t *testing.T) {
	s := &Server{BodyTimeout: math.MaxInt64, WriteTimeout: math.MaxInt64, Handler: HandlerFunc(func(w *ResponseWriter, r *Request) error {
		p, err := r.Bytes()
		if err != nil {
			return err
		}
		return w.Text(200, string(p))
	})}
	c := dialRaw(t, bridgeNetHTTP(t, s))
	for range 2 {
		c.send("POST / HTTP/1.1\r\nHost: h\r\nContent-Length: 3\r\n\r\nabc")
		c.answer("POST").want(t, 200, "abc")
	}
}

// WriteTimeout bounds interim responses that their client does not read.
func TestToHTTPInterimUnread(t *testing.T) {
	done := make(chan bool)
	s := &Server{WriteTimeout: 100 * time.Millisecond, Logger: quietLogger(), Handler: HandlerFunc(func(w *ResponseWriter, r *Request) error {
		defer close(done)
		var h Header
		h.Set("X-Much", strings.Repeat("x", 64<<10))
		for range 512 {
			w.Informational(103, &h)
		}
		return nil
	})}
	c := dialRaw(t, bridgeNetHTTP(t, s))
	c.send("GET / HTTP/1.1\r\nHost: h\r\n\r\n")
	select {
	case <-done:
	case <-time.After(patience / 2):
		t.Error("the handler waits for its client for ever")
		c.Close()
		<-done
	}
}

// A writer that fails as one without room does has failed.
type bridgeFullWriter struct{ http.ResponseWriter }

func (bridgeFullWriter) Write([]byte) (int, error) { return 0, syscall.EAGAIN }

func TestToHTTPWriterWithoutRoom(t *testing.T) {
	s := &Server{Logger: quietLogger(), WriteTimeout: -1, MinWriteRate: -1, Handler: HandlerFunc(func(w *ResponseWriter, r *Request) error {
		return w.Text(200, "ok")
	})}
	cut := make(chan any)
	go func() {
		defer func() { cut <- recover() }()
		s.ServeHTTP(bridgeFullWriter{httptest.NewRecorder()}, httptest.NewRequest("GET", "/", nil))
	}()
	select {
	case v := <-cut:
		if v != http.ErrAbortHandler {
			t.Errorf("ended with %v", v)
		}
	case <-time.After(patience):
		t.Fatal("it waits for room of which nobody tells")
	}
}

// A client that ends its request in the middle of the body is not the handler's
// fault, over HTTP/2 either.
func TestBodyReset(t *testing.T) {
	for _, way := range []string{"flare", "ToHTTP"} {
		t.Run(way, func(t *testing.T) { testBodyReset(t, way == "ToHTTP") })
	}
}

func testBodyReset(t *testing.T, carried bool) {
	var log lockedBuffer
	reading, failed := make(chan bool), make(chan error, 1)
	s := &Server{Logger: slog.New(slog.NewTextHandler(&log, nil)), Handler: HandlerFunc(func(w *ResponseWriter, r *Request) error {
		close(reading)
		_, err := r.Bytes()
		failed <- err
		return err
	})}
	url, client := "", tlsHTTPClient(t, true)
	if carried {
		ts := httptest.NewUnstartedServer(s)
		ts.EnableHTTP2 = true
		ts.StartTLS()
		defer ts.Close()
		url, client = ts.URL, ts.Client()
	} else {
		url = "https://" + startTLSServer(t, s)
	}
	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()
	body, more := io.Pipe()
	defer more.Close()
	req, err := http.NewRequestWithContext(ctx, "POST", url+"/", body)
	if err != nil {
		t.Fatal(err)
	}
	go func() {
		<-reading
		cancel()
	}()
	if resp, err := client.Do(req); err == nil {
		resp.Body.Close()
		t.Errorf("the answer is %d", resp.StatusCode)
	}
	var status *StatusError
	if err := <-failed; !errors.As(err, &status) || status.Code != 400 {
		t.Errorf("the body failed with %v", err)
	}
	eventually(t, "the answer", func() bool { return s.Stats().Responses.Class4xx == 1 })
	if text := log.String(); text != "" {
		t.Errorf("the log has %s", text)
	}
}

// After Hijack neither the body nor the response reaches the connection.
func TestToHTTPHijackEndsBodyAndResponse(t *testing.T) {
	done := make(chan bool)
	s := &Server{Logger: quietLogger(), Handler: HandlerFunc(func(w *ResponseWriter, r *Request) error {
		defer close(done)
		conn, rw, err := w.Hijack()
		if err != nil {
			return err
		}
		defer conn.Close()
		if n, err := r.Body().Read(make([]byte, 2)); n != 0 || err != errHijacked {
			t.Errorf("the body: %d, %v", n, err)
		}
		if w.WriteString("stray"); w.Flush() != errHijacked {
			t.Error("the response goes on")
		}
		p := make([]byte, 3)
		if _, err := io.ReadFull(rw, p); string(p) != "abc" || err != nil {
			t.Errorf("the connection has %q, %v", p, err)
		}
		_, err = io.WriteString(conn, "mine")
		return err
	})}
	c := dialRaw(t, bridgeNetHTTP(t, s))
	c.send("POST / HTTP/1.1\r\nHost: h\r\nContent-Length: 3\r\n\r\nabc")
	if got := c.toEnd(); string(got) != "mine" {
		t.Errorf("the client got %q", got)
	}
	<-done
}

// What is around a WebSocketHandler has the request when it returns, on either
// server.
func TestToHTTPWebSocketMiddleware(t *testing.T) {
	after, inside := make(chan string, 1), make(chan string, 1)
	var kept *Request
	h := &WebSocketHandler{
		OnOpen: func(ws *WebSocket, r *Request) error {
			kept = r
			return nil
		},
		OnMessage: func(ws *WebSocket, kind MessageKind, p []byte) error {
			path := ""
			defer func() {
				if recover() != nil && !raceEnabled {
					path = "a panic"
				}
				inside <- path
			}()
			path = kept.Path()
			return nil
		},
	}
	s := &Server{Logger: quietLogger(), Handler: HandlerFunc(func(w *ResponseWriter, r *Request) error {
		err := h.Serve(w, r)
		after <- r.Path()
		return err
	})}
	for name, addr := range map[string]string{"flare": startServer(t, s), "net/http": bridgeNetHTTP(t, s)} {
		ctx := wsPatience(t)
		ws, _, err := DialWebSocket(ctx, "ws://"+addr+"/path", nil)
		if err != nil {
			t.Fatal(err)
		}
		if err := ws.Write(ctx, TextMessage, []byte("x")); err != nil {
			t.Fatal(err)
		}
		if path := <-inside; path != "" {
			t.Errorf("%s: OnMessage has OnOpen's request: %s", name, path)
		}
		ws.Close(CloseNormal, "")
		select {
		case path := <-after:
			if path != "/path" {
				t.Errorf("%s: %s", name, path)
			}
		case <-ctx.Done():
			t.Errorf("%s: the request ended before the handler", name)
		}
	}
}
