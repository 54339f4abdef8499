package flare

import (
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"runtime"
	"strings"
	"testing"
	"time"
)

// told collects what AccessHook is told.
type told chan string

func (c told) hook(e AccessEntry) {
	kind := ""
	if e.Refused {
		kind = " refused"
	}
	if e.Err != nil {
		kind += " error"
	}
	if e.Duration < 0 || e.Duration > patience || time.Since(e.Start) > patience {
		kind += fmt.Sprintf(" began %v, took %v", e.Start, e.Duration)
	}
	if _, err := e.Request.Bytes(); !errors.Is(err, http.ErrBodyReadAfterClose) && !strings.Contains(kind, "error") {
		kind += " body"
	}
	c <- fmt.Sprintf("%s %s [%s] %d in %d out %d%s", e.Request.Method(), e.Request.Target(), e.Request.Pattern(), e.Status, e.BytesIn, e.BytesOut, kind)
}

// endings are handlers and how their requests end.
func endings() *Mux {
	mux := NewMux()
	mux.Get("/text/{name}", func(w *ResponseWriter, r *Request) error { return w.Text(200, "hello") })
	mux.Get("/none", func(w *ResponseWriter, r *Request) error { w.WriteHeader(204); return nil })
	mux.Get("/length", func(w *ResponseWriter, r *Request) error {
		w.Header().Set("Content-Length", "5")
		return w.Text(200, "hello")
	})
	mux.Get("/long", func(w *ResponseWriter, r *Request) error {
		_, err := w.Write(make([]byte, 100_000))
		return err
	})
	mux.Get("/status", func(w *ResponseWriter, r *Request) error { return &StatusError{Code: 418} })
	mux.Get("/failed", func(w *ResponseWriter, r *Request) error { return errors.New("secret") })
	mux.Get("/panic", func(w *ResponseWriter, r *Request) error { panic("secret") })
	mux.Get("/abort", func(w *ResponseWriter, r *Request) error { return http.ErrAbortHandler })
	mux.Get("/goexit", func(w *ResponseWriter, r *Request) error { runtime.Goexit(); return nil })
	mux.Get("/cut", func(w *ResponseWriter, r *Request) error {
		w.Write([]byte("part"))
		w.Flush()
		return errors.New("secret")
	})
	mux.Get("/field", func(w *ResponseWriter, r *Request) error {
		w.Header().Set("X", "a\nb")
		return w.Text(200, "hello")
	})
	mux.Post("/echo", func(w *ResponseWriter, r *Request) error {
		_, err := io.Copy(w, r.Body())
		return err
	})
	mux.Get("/compressed", func(w *ResponseWriter, r *Request) error { return w.Text(200, strings.Repeat("a", 4000)) }, Compress)
	mux.Get("/hijack", func(w *ResponseWriter, r *Request) error {
		conn, _, err := w.Hijack()
		if err == nil {
			conn.Close()
		}
		return err
	})
	mux.Handle("/socket", &WebSocketHandler{})
	mux.Get("/accept", func(w *ResponseWriter, r *Request) error {
		ws, err := AcceptWebSocket(w, r, nil)
		if err == nil {
			ws.Close(CloseNormal, "")
		}
		return err
	})
	return mux
}

const asksForSocket = "Connection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n"

// The hook is told of every request, once, and what became of it.
func TestAccessHook(t *testing.T) {
	t.Parallel()
	get := func(path string) string { return "GET " + path + " HTTP/1.1\r\nHost: h\r\n\r\n" }
	for _, row := range []struct{ name, request, want string }{
		{"text", get("/text/you?x=1"), "GET /text/you?x=1 [GET /text/{name}] 200 in 0 out 5"},
		{"HEAD", "HEAD /text/you HTTP/1.1\r\nHost: h\r\n\r\n", "HEAD /text/you [GET /text/{name}] 200 in 0 out 0"},
		{"no content", get("/none"), "GET /none [GET /none] 204 in 0 out 0"},
		{"length", get("/length"), "GET /length [GET /length] 200 in 0 out 5"},
		{"long", get("/long"), "GET /long [GET /long] 200 in 0 out 100000"},
		{"body", "POST /echo HTTP/1.1\r\nHost: h\r\nContent-Length: 3\r\n\r\nabc", "POST /echo [POST /echo] 200 in 3 out 3"},
		{"chunks", "POST /echo HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\n\r\n", "POST /echo [POST /echo] 200 in 3 out 3"},
		{"status", get("/status"), "GET /status [GET /status] 418 in 0 out 13 error"},
		{"failed", get("/failed"), "GET /failed [GET /failed] 500 in 0 out 22 error"},
		{"panic", get("/panic"), "GET /panic [GET /panic] 500 in 0 out 22 error"},
		{"abort", get("/abort"), "GET /abort [GET /abort] 0 in 0 out 0 error"},
		{"goexit", get("/goexit"), "GET /goexit [GET /goexit] 0 in 0 out 0 error"},
		{"cut", get("/cut"), "GET /cut [GET /cut] 200 in 0 out 4 error"},
		{"a field that cannot be", get("/field"), "GET /field [GET /field] 500 in 0 out 22 error"},
		{"not found", get("/nowhere"), "GET /nowhere [] 404 in 0 out 10 error"},
		{"method", "PUT /none HTTP/1.1\r\nHost: h\r\nContent-Length: 0\r\n\r\n", "PUT /none [] 405 in 0 out 19 error"},
		{"redirect", get("/text//you"), "GET /text//you [GET /text/{name}] 307 in 0 out 19"},

		{"no host", "GET /x HTTP/1.1\r\n\r\n", "GET /x [] 400 in 0 out 12 refused error"},
		{"no method", "\x01\r\n\r\n", "  [] 400 in 0 out 12 refused error"},
		{"target", "GET /" + strings.Repeat("x", 9000) + " HTTP/1.1\r\nHost: h\r\n\r\n", "GET  [] 414 in 0 out 21 refused error"},
		{"header", "GET /x HTTP/1.1\r\nHost: h\r\nX: " + strings.Repeat("x", 17000) + "\r\n\r\n", "GET /x [] 431 in 0 out 32 refused error"},
		{"large", "POST /echo HTTP/1.1\r\nHost: h\r\nContent-Length: 99999999\r\n\r\n", "POST /echo [] 413 in 0 out 25 refused error"},
	} {
		t.Run(row.name, func(t *testing.T) {
			t.Parallel()
			calls := make(told, 9)
			s := &Server{Handler: endings(), Logger: quietLogger(), AccessHook: calls.hook}
			c := dialRaw(t, startServer(t, s))
			c.send(row.request)
			if got := <-calls; got != row.want {
				t.Errorf("got %s, want %s", got, row.want)
			}
			c.toEndOrAnswer()
			s.Close()
			if len(calls) > 0 {
				t.Errorf("told again: %s", <-calls)
			}
		})
	}
}

// toEndOrAnswer reads what there is, which may be an answer, part of one, or none.
func (c *rawClient) toEndOrAnswer() {
	c.CloseWrite()
	readAnswer(c.br, "GET")
}

// Connections that leave HTTP, on a loop or not, end their request.
func TestAccessHookSwitched(t *testing.T) {
	for _, row := range []struct{ name, request, want string }{
		{"hijack", "GET /hijack HTTP/1.1\r\nHost: h\r\n\r\n", "GET /hijack [GET /hijack] 0 in 0 out 0"},
		{"socket", "GET /socket HTTP/1.1\r\nHost: h\r\n" + asksForSocket + "\r\n", "GET /socket [/socket] 101 in 0 out 0"},
		{"accept", "GET /accept HTTP/1.1\r\nHost: h\r\n" + asksForSocket + "\r\n", "GET /accept [GET /accept] 101 in 0 out 0"},
	} {
		for _, carried := range []bool{false, true} {
			calls := make(told, 9)
			s := &Server{Handler: endings(), Logger: quietLogger(), AccessHook: calls.hook}
			var addr string
			if carried {
				host := httptest.NewServer(s)
				defer host.Close()
				addr = host.Listener.Addr().String()
			} else {
				addr = startServer(t, s)
			}
			c := dialRaw(t, addr)
			c.send(row.request)
			var got string
			if row.name == "socket" && carried { // there the handler lives as long as its WebSocket
				c.answer("GET")
				c.Close()
			}
			if got = <-calls; got != row.want {
				t.Errorf("%s, carried %v: got %s, want %s", row.name, carried, got, row.want)
			}
			c.Close()
			if len(calls) > 0 {
				t.Errorf("%s: told again: %s", row.name, <-calls)
			}
		}
	}
}

// Requests that net/http's server has received are told of in the same way.
func TestAccessHookCarried(t *testing.T) {
	calls := make(told, 9)
	carried := httptest.NewServer(&Server{Handler: endings(), Logger: quietLogger(), AccessHook: calls.hook})
	defer carried.Close()
	client := &http.Client{Transport: &http.Transport{DisableKeepAlives: true}} // else it repeats what was cut
	for path, want := range map[string]string{
		"/text/you":                     "GET /text/you [GET /text/{name}] 200 in 0 out 5",
		"/status":                       "GET /status [GET /status] 418 in 0 out 13 error",
		"/panic":                        "GET /panic [GET /panic] 500 in 0 out 22 error",
		"/abort":                        "GET /abort [GET /abort] 0 in 0 out 0 error",
		"/goexit":                       "GET /goexit [GET /goexit] 0 in 0 out 0 error",
		"/nowhere":                      "GET /nowhere [] 404 in 0 out 10 error",
		"/" + strings.Repeat("x", 9000): "GET  [] 414 in 0 out 21 refused error",
	} {
		resp, err := client.Get(carried.URL + path)
		if err == nil {
			io.Copy(io.Discard, resp.Body)
			resp.Body.Close()
		}
		if got := <-calls; got != want {
			t.Errorf("got %s, want %s", got, want)
		}
	}
	if len(calls) > 0 {
		t.Errorf("told again: %s", <-calls)
	}
}

// A hook that panics costs nothing but itself.
func TestAccessHookPanics(t *testing.T) {
	var log logBook
	s := &Server{Handler: endings(), Logger: log.logger(), AccessHook: func(AccessEntry) { panic("hook") }}
	c := dialRaw(t, startServer(t, s))
	for range 3 {
		c.get("/text/you").want(t, 200, "hello")
	}
	eventually(t, "a line in the log", func() bool { return strings.Contains(log.String(), "AccessHook panicked") })
}

// Middleware that asked to sees what is refused before any handler, with all its
// fields where the head was understood.
func TestRefusalsMiddleware(t *testing.T) {
	t.Parallel()
	for _, row := range []struct{ name, request, want string }{
		{"large", "POST /x HTTP/1.1\r\nHost: h\r\nX-Sent: 1\r\nContent-Length: 99999999\r\n\r\n", "413 POST /x 1"},
		{"malformed", "GET /x HTTP/1.1\r\nHost: h\r\nX-Sent: 1\r\nbad line\r\n\r\n", "400 GET"},
	} {
		s := &Server{Logger: quietLogger(), Handler: HandlerFunc(func(*ResponseWriter, *Request) error { return nil }),
			Refusals: func(h Handler) Handler {
				return HandlerFunc(func(w *ResponseWriter, r *Request) error {
					err := h.Serve(w, r)
					w.Header().Set("X-Seen", fmt.Sprint(ErrorStatus(err), " ", r.Method(), " ", r.Target(), " ", r.Header().Get("X-Sent")))
					return err
				})
			}}
		c := dialRaw(t, startServer(t, s))
		c.send(row.request)
		a := c.answer("POST")
		if got := a.Header.Get("X-Seen"); got != row.want || fmt.Sprint(a.StatusCode) != row.want[:3] {
			t.Errorf("%s: status %d, seen %q, want %q", row.name, a.StatusCode, got, row.want)
		}
		c.ended()
	}
	// One that swallows the refusal, and one that panics, make no success of it.
	for want, mw := range map[int]Middleware{
		413: func(h Handler) Handler { return HandlerFunc(func(*ResponseWriter, *Request) error { return nil }) },
		500: func(h Handler) Handler { return HandlerFunc(func(*ResponseWriter, *Request) error { panic("x") }) },
	} {
		c := dialRaw(t, startServer(t, &Server{Logger: quietLogger(), Refusals: mw}))
		c.send("POST /x HTTP/1.1\r\nHost: h\r\nContent-Length: 99999999\r\n\r\n")
		if got := c.answer("POST").StatusCode; got != want {
			t.Errorf("status %d, want %d", got, want)
		}
		c.ended()
	}
}

// What a middleware learns by ErrorStatus is what is sent.
func TestErrorStatus(t *testing.T) {
	for name, row := range map[string]struct {
		err  error
		sent int
	}{
		"status":      {&StatusError{Code: 404}, 404},
		"wrapped":     {fmt.Errorf("x: %w", &StatusError{Code: 503}), 503},
		"beyond":      {&StatusError{Code: 1000}, 500},
		"no failure":  {&StatusError{Code: 200}, 500},
		"other":       {errors.New("x"), 500},
		"client left": {ErrClosed, 499},
	} {
		seen := make(chan int, 1)
		s := &Server{Logger: quietLogger(), Handler: HandlerFunc(func(*ResponseWriter, *Request) error { return row.err }),
			AccessHook: func(e AccessEntry) { seen <- e.Status }}
		resp, err := TestClient(t, s).Get("http://h/")
		if err != nil {
			t.Fatal(err)
		}
		resp.Body.Close()
		if sent := <-seen; resp.StatusCode != row.sent || sent != row.sent || ErrorStatus(row.err) != row.sent {
			t.Errorf("%s: sent %d, told %d, ErrorStatus %d, want %d", name, resp.StatusCode, sent, ErrorStatus(row.err), row.sent)
		}
	}
	if ErrorStatus(nil) != 0 || ErrorStatus(http.ErrAbortHandler) != 0 {
		t.Error("a status where none is sent")
	}
}
