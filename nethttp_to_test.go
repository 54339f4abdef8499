package flare

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"net/url"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"testing"
	"time"
)

// This file runs handlers of flare's by flare's own server, and by net/http's
// through ToHTTP: over HTTP/1.1 octet by octet, over HTTP/2 as a client sees
// it.

// bridgeNative returns the handlers that the tests of ToHTTP ask, by path. next
// is awaited by those that wait for their client.
func bridgeNative(t *testing.T, next bridgeGate) *Server {
	file := filepath.Join(t.TempDir(), "a.txt")
	if err := os.WriteFile(file, []byte("0123456789"), 0o600); err != nil {
		t.Fatal(err)
	}
	os.Chtimes(file, bridgeModified, bridgeModified)
	mux := NewMux()
	mux.Get("/ping", func(w *ResponseWriter, r *Request) error { return w.Text(200, "pong") })
	mux.Get("/text/{name}", func(w *ResponseWriter, r *Request) error {
		w.SetCookie(&Cookie{Name: "a", Value: "b"})
		w.Header().Add("X-Two", "1")
		w.Header().Add("X-Two", "2")
		return w.Text(200, fmt.Sprintf("%s %s %s %s %q %q", r.Method(), r.Path(), r.Pattern(), r.PathValue("name"), r.Query(), r.Header().Get("X-Name")))
	})
	mux.Get("/json", func(w *ResponseWriter, r *Request) error { return w.JSON(200, map[string]int{"a": 1}) })
	mux.Get("/nothing", func(w *ResponseWriter, r *Request) error { return nil })
	mux.Get("/no-type", func(w *ResponseWriter, r *Request) error {
		_, err := w.WriteString("<html>is not guessed")
		return err
	})
	mux.Get("/204", func(w *ResponseWriter, r *Request) error {
		w.WriteHeader(204)
		return nil
	})
	mux.Get("/long", func(w *ResponseWriter, r *Request) error {
		for range 100 {
			if _, err := w.WriteString(strings.Repeat("0123456789", 500)); err != nil {
				return err
			}
		}
		return nil
	})
	mux.Get("/blob", func(w *ResponseWriter, r *Request) error {
		return w.Blob(200, "x/y", []byte(strings.Repeat("0123456789", 20_000)))
	})
	mux.Get("/redirect", func(w *ResponseWriter, r *Request) error { return w.Redirect(302, "/text/there") })
	mux.Get("/file", func(w *ResponseWriter, r *Request) error { return w.SendFile(file) })
	mux.Get("/compressed", func(w *ResponseWriter, r *Request) error {
		return w.Text(200, strings.Repeat("compress me ", 200))
	}, Compress)
	mux.Get("/hooked", func(w *ResponseWriter, r *Request) error {
		w.OnCommit(func(status int, h *Header, next io.WriteCloser) io.WriteCloser {
			h.Set("X-Status", fmt.Sprint(status))
			return bridgeUpper{next}
		})
		w.WriteString("hello")
		if err := w.Flush(); err != nil {
			return err
		}
		_, err := w.WriteString(", world")
		return err
	})
	mux.Get("/steps", func(w *ResponseWriter, r *Request) error {
		w.WriteString("one;")
		if err := w.Flush(); err != nil {
			return err
		}
		select {
		case <-next:
		case <-time.After(patience):
			t.Error("the gate stays closed")
		}
		_, err := w.WriteString("two;")
		return err
	})
	mux.Get("/events", func(w *ResponseWriter, r *Request) error {
		events, err := w.EventStream()
		if err != nil {
			return err
		}
		return events.Send(ServerSentEvent{ID: "1", Data: "now"})
	})
	mux.Get("/hint", func(w *ResponseWriter, r *Request) error {
		w.Header().Set("X-Final", "1")
		var h Header
		h.Add("Link", "</a.css>")
		h.Add("Link", "</b.css>")
		if err := w.Informational(103, &h); err != nil {
			return err
		}
		return w.Text(200, "hinted")
	})
	mux.Get("/trailer", func(w *ResponseWriter, r *Request) error {
		w.Trailer().Set("X-Sum", "6")
		w.Trailer().Set("Content-Length", "0")
		return w.Text(200, "summed")
	})
	mux.Get("/trailer-late", func(w *ResponseWriter, r *Request) error {
		w.Header().Set("Trailer", "X-Sum")
		w.WriteString("summed")
		if err := w.Flush(); err != nil {
			return err
		}
		w.Trailer().Set("X-Sum", "6")
		w.Trailer().Set("X-Tail", "7")
		return nil
	})
	mux.Get("/status", func(w *ResponseWriter, r *Request) error {
		w.WriteString("dropped")
		return &StatusError{Code: 418, Message: "short and stout"}
	})
	mux.Get("/error", func(w *ResponseWriter, r *Request) error { return errors.New("not for the client") })
	mux.Get("/panic", func(w *ResponseWriter, r *Request) error { panic("on purpose") })
	mux.Get("/panic-late", func(w *ResponseWriter, r *Request) error {
		w.WriteString("half")
		w.Flush()
		panic("on purpose")
	})
	mux.Get("/error-late", func(w *ResponseWriter, r *Request) error {
		w.Header().Set("Content-Length", "8")
		w.WriteString("half")
		w.Flush()
		return errors.New("on purpose")
	})
	mux.Get("/abort", func(w *ResponseWriter, r *Request) error {
		w.WriteString("never seen")
		return http.ErrAbortHandler
	})
	mux.Get("/goexit", func(w *ResponseWriter, r *Request) error {
		w.WriteString("never seen")
		runtime.Goexit()
		return nil
	})
	mux.Get("/short", func(w *ResponseWriter, r *Request) error {
		w.Header().Set("Content-Length", "10")
		_, err := w.WriteString("hello")
		return err
	})
	mux.Get("/split", func(w *ResponseWriter, r *Request) error {
		w.Header().Set("X-Evil", "a\r\nb: c")
		return nil
	})
	mux.Post("/echo", func(w *ResponseWriter, r *Request) error {
		p, err := r.Bytes()
		if err != nil {
			return err
		}
		return w.Text(200, fmt.Sprintf("%d %q %v %q", r.ContentLength(), p, r.Trailer().Get("X-Sum"), r.Header().Get("Trailer")))
	})
	mux.Post("/copy", func(w *ResponseWriter, r *Request) error {
		w.Header().Set("Content-Type", "x/y")
		_, err := io.Copy(w, r.Body())
		return err
	})
	mux.Post("/late", func(w *ResponseWriter, r *Request) error {
		w.SetReadDeadline(time.Now().Add(20 * time.Millisecond))
		_, err := r.Bytes()
		return err
	})
	mux.Get("/about", func(w *ResponseWriter, r *Request) error {
		return w.Text(200, fmt.Sprintf("%-5v %s %v", r.TLS() != nil, r.RemoteAddr().Addr(), r.Context().Err()))
	})
	return &Server{
		Handler: mux, Logger: quietLogger(), MaxBodyBytes: 1 << 20, MaxURIBytes: 1000, MaxHeaders: 50,
		ErrorHandler: func(w *ResponseWriter, r *Request, err error) {
			code := 500
			var status *StatusError
			if errors.As(err, &status) {
				code = status.Code
			}
			w.Text(code, fmt.Sprintf("error %d, as its handler has it\n", code))
		},
	}
}

// A bridgeUpper is a writer of OnCommit that shouts.
type bridgeUpper struct{ io.WriteCloser }

func (u bridgeUpper) Write(p []byte) (int, error) {
	if _, err := u.WriteCloser.Write([]byte(strings.ToUpper(string(p)))); err != nil {
		return 0, err
	}
	return len(p), nil
}

func (u bridgeUpper) Flush() error { return u.WriteCloser.(interface{ Flush() error }).Flush() }

// bridgePaths are those of bridgeNative that a GET without a body is enough for.
var bridgePaths = []string{
	"/text/ada?q=1&q=2", "/text/a%2Fb%20c", "/json", "/nothing", "/no-type", "/204", "/long", "/blob", "/redirect", "/file", "/compressed",
	"/hooked", "/events", "/hint", "/trailer", "/trailer-late", "/status", "/error", "/panic", "/split", "/about", "/none", "/echo",
	"/text//x", "/" + strings.Repeat("long", 300),
}

// TestToHTTP talks HTTP/1.1 to a flare handler on flare's own server and on
// net/http's, which have to send the same.
func TestToHTTP(t *testing.T) {
	t.Parallel()
	talk := func(t *testing.T, name string, serve func(*testing.T, *Server) string) string {
		next := make(bridgeGate)
		b := &bridgeTalk{t: t, name: name, addr: serve(t, bridgeNative(t, next))}
		b.dial()
		defer func() { b.conn.Close() }()
		for _, path := range bridgePaths {
			for _, method := range []string{"GET", "HEAD"} {
				b.took("> %s %.40s", method, path)
				b.request(method, path, "", "X-Name: ada", "Accept-Encoding: gzip")
				if len(path) > 1000 {
					b.over() // after a refusal
				}
				b.dial()
			}
		}
		b.get("/file", "Range: bytes=2-4")
		b.get("/file", "If-Modified-Since: Mon, 06 May 2024 07:08:09 GMT")
		b.alive()

		b.send("GET /steps HTTP/1.1\r\nHost: h\r\n\r\n")
		b.head("GET")
		b.some(len("one;"))
		next.open()
		b.rest()
		b.alive()

		b.request("POST", "/echo", "hello", "Content-Length: 5")
		b.request("POST", "/echo", "5\r\nhello\r\n0\r\nX-Sum: 5\r\n\r\n", "Transfer-Encoding: chunked", "Trailer: X-Sum")
		b.send("POST /echo HTTP/1.1\r\nHost: h\r\nExpect: 100-continue\r\nContent-Length: 5\r\n\r\n")
		b.head("")
		b.send("hello")
		b.answer("POST")
		b.request("POST", "/copy", strings.Repeat("0123456789", 20_000), "Content-Length: 200000")
		b.alive()

		for _, path := range []string{"/panic-late", "/error-late", "/abort", "/short", "/goexit"} {
			b.took("> %s", path)
			b.get(path)
			b.over()
			b.dial()
		}
		b.request("POST", "/echo", "", "Content-Length: 9999999")
		b.dial()
		b.send("POST /late HTTP/1.1\r\nHost: h\r\nContent-Length: 100000\r\n\r\nabc")
		b.answer("POST")
		b.over()
		return b.transcript()
	}
	var want, got string
	if !t.Run("talks", func(t *testing.T) {
		t.Run("flare", func(t *testing.T) {
			t.Parallel()
			want = talk(t, "flare", func(t *testing.T, s *Server) string {
				return strings.TrimPrefix(TestServer(t, s), "http://")
			})
		})
		t.Run("net/http", func(t *testing.T) {
			t.Parallel()
			got = talk(t, "net/http", func(t *testing.T, s *Server) string { return bridgeNetHTTP(t, s) })
		})
	}) {
		return
	}
	// net/http's server leaves this out, whoever sets it.
	const modified, typed = "< 304 Not Modified\n<   Accept-Ranges: bytes\n", "<   Content-Type: text/plain; charset=utf-8\n"
	want = strings.Replace(want, modified+typed, modified, 1)
	sameLines(t, got, want)
	if testing.Verbose() {
		t.Log(got)
	}
}

// bridgeSeen is a response as a client sees it, whatever the version.
func bridgeSeen(resp *http.Response, err error) string {
	if err != nil {
		return "failed"
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body)
	var lines []string
	for name, values := range resp.Header {
		switch name {
		case "Date":
			values = nil
		case "Connection", "Trailer": // the former is about one connection of HTTP/1.1, the latter the transport's to take out
			continue
		}
		lines = append(lines, fmt.Sprintf("%s: %q", name, values))
	}
	slices.Sort(lines)
	return fmt.Sprintf("%s\n%s\nlength %d\n%.200q of %d, cut %v\ntrailer %v", resp.Status, strings.Join(lines, "\n"), resp.ContentLength, body, len(body), err != nil, resp.Trailer)
}

// TestToHTTP2 asks the same handlers over HTTP/2.
func TestToHTTP2(t *testing.T) {
	next := make(bridgeGate)
	close(next)
	direct := TestServer(t, bridgeNative(t, next))
	h2 := httptest.NewUnstartedServer(bridgeNative(t, next))
	h2.EnableHTTP2 = true
	h2.StartTLS()
	defer h2.Close()
	plain := &http.Client{Transport: &http.Transport{DisableKeepAlives: true, DisableCompression: true}}
	multiplexed := h2.Client()
	for _, client := range []*http.Client{plain, multiplexed} {
		client.Timeout = patience
		client.CheckRedirect = func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }
	}
	multiplexed.Transport.(*http.Transport).DisableCompression = true
	ask := func(client *http.Client, base, method, path, body string, length int64) string {
		u, err := url.Parse(base + path)
		if err != nil {
			t.Fatal(err)
		}
		req := &http.Request{Method: method, URL: u, Host: "example.com", Header: http.Header{"X-Name": {"ada"}, "Accept-Encoding": {"gzip"}}, ContentLength: length}
		if body != "" {
			req.Body = io.NopCloser(strings.NewReader(body))
		}
		if length < 0 && len(body) < 100 { // or net/http's server may see it too late
			req.Trailer = http.Header{"X-Sum": {"5"}}
		}
		return bridgeSeen(client.Do(req))
	}
	same := func(method, path, body string, length int64) {
		t.Helper()
		want := ask(plain, direct, method, path, body, length)
		got := ask(multiplexed, h2.URL, method, path, body, length)
		switch path {
		case "/about":
			want = strings.Replace(want, "false 127", "true  127", 1)
		case "/trailer", "/trailer-late": // a frame of its own, which needs no chunks before it, nor a body
			got = strings.Replace(strings.Replace(got, "Content-Length: [\"6\"]\n", "", 1), "length 6", "length -1", 1)
			if method == "HEAD" {
				got, want = strings.Replace(got, "X-Sum:[]", "", 1), strings.Replace(want, "X-Sum:[]", "", 1)
			}
		}
		if got != want {
			t.Errorf("%s %.40s over HTTP/2:\n%s\n--- flare's own server:\n%s", method, path, got, want)
		}
	}
	for _, path := range append(bridgePaths, "/steps", "/panic-late", "/error-late", "/abort") {
		same("GET", path, "", 0)
		same("HEAD", path, "", 0)
	}
	same("POST", "/echo", "hello", 5)
	same("POST", "/echo", "hello", -1)
	same("POST", "/copy", strings.Repeat("0123456789", 50_000), 500_000)
	same("BREW", "/json", "", 0)
	for _, length := range []int64{2_000_000, -1} {
		got := ask(multiplexed, h2.URL, "POST", "/echo", strings.Repeat("0123456789", 200_000), length)
		if !strings.HasPrefix(got, "413 ") {
			t.Errorf("a body of 2 MB, length %d, over HTTP/2: %s", length, got)
		}
	}

	resp, err := multiplexed.Get(h2.URL + "/json")
	if err != nil || resp.ProtoMajor != 2 {
		t.Fatalf("%v, %v: not HTTP/2", resp, err)
	}
	resp.Body.Close()
}

// Over HTTP/2 there is no connection to take: Hijack says so, and a WebSocket is
// answered 501. Both work over HTTP/1.1.
func TestToHTTPWebSocket(t *testing.T) {
	opened := make(chan string, 1)
	closed := make(chan string, 1)
	mux := NewMux()
	mux.Handle("/handler", &WebSocketHandler{
		OnOpen: func(ws *WebSocket, r *Request) error {
			opened <- r.Path()
			return nil
		},
		OnMessage: func(ws *WebSocket, kind MessageKind, p []byte) error {
			switch string(p) {
			case "panic":
				panic("on purpose")
			case "goexit":
				runtime.Goexit()
			case "refuse":
				return &CloseError{Code: 4001, Reason: "refused"}
			}
			return ws.Write(context.Background(), kind, p)
		},
		OnClose: func(ws *WebSocket, code CloseCode, reason string) { closed <- fmt.Sprint(code, reason) },
	})
	mux.Get("/accept", func(w *ResponseWriter, r *Request) error {
		ws, err := AcceptWebSocket(w, r, nil)
		if err != nil {
			return err
		}
		defer ws.Close(CloseNormal, "")
		kind, p, err := ws.Read(context.Background())
		if err != nil {
			return err
		}
		return ws.Write(context.Background(), kind, p)
	})
	mux.Get("/hijack", func(w *ResponseWriter, r *Request) error {
		conn, _, err := w.Hijack()
		if err != nil {
			return w.Text(200, fmt.Sprint(errors.Is(err, errors.ErrUnsupported)))
		}
		defer conn.Close()
		_, err = io.WriteString(conn, "HTTP/1.1 200 OK\r\nContent-Length: 8\r\n\r\nhijacked")
		return err
	})
	s := &Server{Handler: mux, Logger: quietLogger()}
	h1 := httptest.NewServer(s)
	defer h1.Close()
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	dial := func(path string) *WebSocket {
		t.Helper()
		ws, _, err := DialWebSocket(ctx, strings.Replace(h1.URL, "http", "ws", 1)+path, nil)
		if err != nil {
			t.Fatal(err)
		}
		return ws
	}
	echo := func(ws *WebSocket, text string) {
		t.Helper()
		if err := ws.WriteText(ctx, text); err != nil {
			t.Fatal(err)
		}
		if _, p, err := ws.Read(ctx); err != nil || string(p) != text {
			t.Fatalf("%q came back as %q, %v", text, p, err)
		}
	}
	ws := dial("/accept")
	echo(ws, "hello")
	ws.Close(CloseNormal, "")

	for _, last := range []struct{ send, reported string }{
		{"", fmt.Sprint(CloseCode(4000), "bye")}, {"refuse", fmt.Sprint(CloseCode(4001), "")}, {"panic", fmt.Sprint(CloseInternalError, "")},
		{"goexit", fmt.Sprint(CloseInternalError, "")},
	} {
		ws := dial("/handler")
		if path := <-opened; path != "/handler" {
			t.Errorf("opened for %q", path)
		}
		echo(ws, "one")
		echo(ws, strings.Repeat("two ", 10_000))
		if last.send == "" {
			ws.Close(4000, "bye")
		} else {
			ws.WriteText(ctx, last.send)
			ws.Read(ctx)
		}
		select {
		case got := <-closed:
			if got != last.reported {
				t.Errorf("after %q: closed with %q, want %q", last.send, got, last.reported)
			}
		case <-ctx.Done():
			t.Fatal("OnClose was not called")
		}
		ws.Close(CloseNormal, "")
	}
	resp, err := http.Get(h1.URL + "/hijack")
	if err != nil {
		t.Fatal(err)
	}
	text, _ := io.ReadAll(resp.Body)
	resp.Body.Close()
	if string(text) != "hijacked" {
		t.Errorf("hijacked over HTTP/1.1: %q", text)
	}
	eventually(t, "the end of all WebSockets", func() bool { return s.conns.Load() == 0 })

	h2 := httptest.NewUnstartedServer(s)
	h2.EnableHTTP2 = true
	h2.StartTLS()
	defer h2.Close()
	for path, want := range map[string]string{
		"/hijack": "200 OK true", "/handler": "501 Not Implemented WebSockets are spoken over HTTP/1.1 here\n", "/accept": "501 Not Implemented WebSockets are spoken over HTTP/1.1 here\n",
	} {
		resp, err := h2.Client().Get(h2.URL + path)
		if err != nil {
			t.Fatal(err)
		}
		text, _ := io.ReadAll(resp.Body)
		resp.Body.Close()
		if got := resp.Status + " " + string(text); got != want || resp.ProtoMajor != 2 {
			t.Errorf("%s over %s: %q, want %q", path, resp.Proto, got, want)
		}
	}
}

// What stands in front, net/http's own, is seen behind: fields that middleware
// has set, the pattern and path values of an http.ServeMux, a prefix that was
// cut off, values of the context.
func TestToHTTPBehindNetHTTP(t *testing.T) {
	type key struct{}
	h := ToHTTP(HandlerFunc(func(w *ResponseWriter, r *Request) error {
		w.Header().Set("X-Replaced", "inner")
		return w.Text(200, fmt.Sprintf("%s|%s|%s|%s|%v|%v", r.Path(), r.Target(), r.Pattern(), r.PathValue("id"), r.Value(key{}), r.RemoteAddr()))
	}))
	mux := http.NewServeMux()
	mux.Handle("GET /api/{id}/", http.StripPrefix("/api", http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("X-Outer", "1")
		w.Header().Set("X-Replaced", "outer")
		h.ServeHTTP(w, r.WithContext(context.WithValue(r.Context(), key{}, "value")))
	})))
	req := httptest.NewRequest("GET", "/api/7/x?a=b", nil)
	rec := httptest.NewRecorder()
	mux.ServeHTTP(rec, req)
	want := "/7/x|/7/x?a=b|GET /api/{id}/|7|value|192.0.2.1:1234"
	if got := rec.Body.String(); got != want {
		t.Errorf("got %q, want %q", got, want)
	}
	if got := rec.Header(); got.Get("X-Outer") != "1" || got.Get("X-Replaced") != "inner" {
		t.Errorf("fields %v", got)
	}
}

// A request that was never on a wire cannot bring fields of its own in the
// value of another, and one without an end in its body cannot be longer than
// is allowed.
func TestToHTTPHostile(t *testing.T) {
	h := &Server{MaxBodyBytes: 100, Logger: quietLogger(), Handler: HandlerFunc(func(w *ResponseWriter, r *Request) error {
		if r.Header().Get("X-Evil") != "" {
			t.Error("a field came in by another's value")
		}
		_, err := r.Bytes()
		return err
	})}
	for name, test := range map[string]struct {
		change func(*http.Request)
		code   int
	}{
		"value":  {func(r *http.Request) { r.Header.Set("X-A", "a\r\nX-Evil: 1") }, 400},
		"name":   {func(r *http.Request) { r.Header["X-A: 1\r\nX-Evil"] = []string{"1"} }, 400},
		"host":   {func(r *http.Request) { r.Host = "h\r\nX-Evil: 1" }, 400},
		"method": {func(r *http.Request) { r.Method = "GET / HTTP/1.1\r\nX-Evil: 1\r\n\r\nGET" }, 400},
		"query":  {func(r *http.Request) { r.URL.RawQuery = "a HTTP/1.1\r\nX-Evil: 1" }, 400},
		"end":    {func(r *http.Request) { r.Header.Set("X-A", "a\r\n\r\nGET /") }, 400},
		"user":   {func(r *http.Request) { r.Host = "a@b" }, 400},
		"long body": {func(r *http.Request) {
			r.Body, r.ContentLength = io.NopCloser(strings.NewReader(strings.Repeat("x", 101))), -1
		}, 413},
		"announced": {func(r *http.Request) { r.Body, r.ContentLength = io.NopCloser(strings.NewReader("x")), 101 }, 413},
		"fine":      {func(*http.Request) {}, 200},
	} {
		req := httptest.NewRequest("GET", "/", nil)
		test.change(req)
		rec := httptest.NewRecorder()
		h.ServeHTTP(rec, req)
		if rec.Code != test.code {
			t.Errorf("%s: status %d, want %d", name, rec.Code, test.code)
		}
	}
}

// A client that leaves ends the handler's context, and the counts of requests
// that came this way are in Stats.
func TestToHTTPClientGone(t *testing.T) {
	began, ended := make(chan struct{}), make(chan error, 1)
	s := &Server{Logger: quietLogger(), Handler: HandlerFunc(func(w *ResponseWriter, r *Request) error {
		close(began)
		select {
		case <-r.Context().Done():
		case <-time.After(patience):
		}
		ended <- r.Context().Err()
		return nil
	})}
	addr := bridgeNetHTTP(t, s)
	conn, err := net.Dial("tcp", addr)
	if err != nil {
		t.Fatal(err)
	}
	io.WriteString(conn, "GET / HTTP/1.1\r\nHost: h\r\n\r\n")
	<-began
	conn.Close()
	if err := <-ended; err != context.Canceled {
		t.Errorf("context: %v", err)
	}
	eventually(t, "the request in Stats", func() bool { return s.Stats().Requests == 1 })
}
