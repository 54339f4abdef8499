package flare

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"runtime"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"
)

// This file has what a server does with requests that it does not refuse,
// through real sockets: order, framing, ends and failures.

// routes is the smallest Router: handlers by path.
type routes map[string]Handler

func (rt routes) Route(r *Request) (Handler, string) {
	if h := rt[r.Path()]; h != nil {
		return h, r.Path()
	}
	return notFound, ""
}

func (rt routes) Serve(w *ResponseWriter, r *Request) error {
	h, _ := rt.Route(r)
	return h.Serve(w, r)
}

func textHandler(s string) HandlerFunc {
	return func(w *ResponseWriter, r *Request) error { return w.Text(200, s) }
}

// request is a GET request for path with the given fields besides Host.
func request(path string, fields ...string) string { return head("GET "+path+" HTTP/1.1", fields...) }

func TestPipelinedBurst(t *testing.T) {
	numbered := HandlerFunc(func(w *ResponseWriter, r *Request) error { return w.Text(200, r.Path()) })
	for _, row := range []struct {
		name string
		h    Handler
	}{{"learned", numbered}, {"inline", Inline(numbered)}, {"on workers", Offload(numbered)}} {
		t.Run(row.name, func(t *testing.T) {
			addr := startServer(t, &Server{Handler: row.h})
			for _, n := range []int{2, 3, 4, 1000} {
				for _, half := range []bool{false, true} {
					var burst strings.Builder
					for i := range n {
						burst.WriteString(request(fmt.Sprintf("/%d", i)))
					}
					c := dialRaw(t, addr)
					c.send(burst.String())
					if half {
						c.CloseWrite()
					}
					for i := range n {
						c.answer("GET").want(t, 200, fmt.Sprintf("/%d", i))
					}
					if !half {
						c.get("/last").want(t, 200, "/last")
						c.CloseWrite()
					}
					c.ended()
				}
			}
		})
	}
}

// fill sends requests, one piece at a time, to a server that answers each with
// much, and reads nothing, until the connection waits for its peer. It returns
// how many pieces it sent.
func (c *rawClient) fill(s *Server, piece string) (n int) {
	c.t.Helper()
	full := func() bool { return gauge(s, stateFlush) > 0 }
	each := strings.Count(piece, "HTTP/1.")
	before := counted(s, countRequests)
	for !full() {
		if n++; n > 10_000 {
			c.t.Fatal("the sockets hold everything")
		}
		c.send(piece)
		eventually(c.t, "an answer, or a full socket", func() bool {
			return full() || counted(s, countRequests) >= before+uint64(n*each) && gauge(s, stateIdle) > 0
		})
	}
	return n
}

// gauge returns how many connections are shown in state.
func gauge(s *Server, state connState) (n int32) {
	for _, l := range s.loops {
		n += l.gauges[state].Load()
	}
	return n
}

func counted(s *Server, kind int) (n uint64) {
	for _, l := range s.loops {
		n += l.counts.sums[kind].Load()
	}
	return n
}

// TestPipelineOverFullSocket has answers that the client does not take while
// more requests wait behind them, on the loop and on workers in turn.
func TestPipelineOverFullSocket(t *testing.T) {
	big := strings.Repeat("0123456789abcdef", 3<<10) // 48 KiB: leaves with the turn, and does not stream
	s := &Server{Handler: routes{
		"/big":    Inline(textHandler(big)),
		"/worker": Offload(textHandler("worker")),
		"/loop":   Inline(textHandler("loop")),
		"/stream": Offload(HandlerFunc(func(w *ResponseWriter, r *Request) error {
			for range 8 {
				w.WriteString(big)
			}
			return nil
		})),
	}}
	addr := startServer(t, s)
	bodies := map[string]string{"/big": big, "/worker": "worker", "/loop": "loop", "/stream": strings.Repeat(big, 8)}
	for _, paths := range [][]string{{"/big"}, {"/big", "/loop"}, {"/big", "/worker"}, {"/big", "/worker", "/loop"}, {"/big", "/stream", "/worker"}} {
		t.Run(strings.Join(paths, ""), func(t *testing.T) {
			c := dialRaw(t, addr)
			var piece strings.Builder
			for _, path := range paths {
				piece.WriteString(request(path))
			}
			for range c.fill(s, piece.String()) {
				for _, path := range paths {
					c.answer("GET").want(t, 200, bodies[path])
				}
			}
			c.get("/worker").want(t, 200, "worker")
			c.Close()
			gone(t, s)
		})
	}
}

func TestHalfCloseIsAnswered(t *testing.T) {
	ended := make(chan error, 1)
	s := &Server{Handler: routes{
		"/": textHandler("fine"),
		"/wait": HandlerFunc(func(w *ResponseWriter, r *Request) error {
			select {
			case <-r.Context().Done():
				ended <- r.Context().Err()
			case <-time.After(patience):
				ended <- errors.New("the context did not end")
			}
			return w.Text(200, "waited")
		}),
		"/body": HandlerFunc(func(w *ResponseWriter, r *Request) error {
			p, err := r.Bytes()
			if err != nil {
				ended <- err
				return err
			}
			return w.Text(200, string(p))
		}),
	}}
	addr := startServer(t, s)
	t.Run("a request", func(t *testing.T) {
		for range 50 { // from the worker's first calls to those on the loop
			c := dialRaw(t, addr)
			c.send(request("/"))
			c.CloseWrite()
			c.answer("GET").want(t, 200, "fine")
			c.ended()
		}
	})
	t.Run("its context ends", func(t *testing.T) {
		c := dialRaw(t, addr)
		c.send(request("/wait"))
		c.CloseWrite()
		c.answer("GET").want(t, 200, "waited")
		c.ended()
		if err := <-ended; !errors.Is(err, context.Canceled) {
			t.Error(err)
		}
	})
	t.Run("its context ends on a reset", func(t *testing.T) {
		c := dialRaw(t, addr)
		c.send(request("/wait"))
		c.SetLinger(0)
		c.Close()
		if err := <-ended; !errors.Is(err, context.Canceled) {
			t.Error(err)
		}
	})
	t.Run("a body that ends early", func(t *testing.T) {
		c := dialRaw(t, addr)
		c.send(head("POST /body HTTP/1.1", "Transfer-Encoding: chunked"), "5\r\nhel")
		c.CloseWrite()
		c.answer("POST")
		c.ended()
		if err := <-ended; !errors.Is(err, io.ErrUnexpectedEOF) {
			t.Error(err)
		}
	})
	t.Run("a short body that ends early", func(t *testing.T) {
		c := dialRaw(t, addr)
		c.send(head("POST /body HTTP/1.1", "Content-Length: 5"), "hel")
		c.CloseWrite()
		c.ended()
	})
	gone(t, s)
}

// TestContextAfterReturn has a context that outlives its handler.
func TestContextAfterReturn(t *testing.T) {
	contexts := make(chan context.Context, 1)
	addr := startServer(t, &Server{Handler: HandlerFunc(func(w *ResponseWriter, r *Request) error {
		if err := r.Context().Err(); err != nil {
			t.Error(err)
		}
		contexts <- r.Context()
		return nil
	})})
	c := dialRaw(t, addr)
	for range 3 {
		c.get("/")
		select {
		case <-(<-contexts).Done():
		case <-time.After(patience):
			t.Fatal("the context goes on after its handler")
		}
	}
}

func TestHandlerFraming(t *testing.T) {
	long := strings.Repeat("x", responseBufferMax+1)
	overrun := make(chan error, 16)
	s := &Server{Logger: quietLogger(), Handler: routes{
		"/text":  textHandler("hello"),
		"/empty": HandlerFunc(func(w *ResponseWriter, r *Request) error { return nil }),
		"/204": HandlerFunc(func(w *ResponseWriter, r *Request) error {
			w.WriteHeader(204)
			w.Header().Set("Content-Length", "5")
			if _, err := w.WriteString("hello"); !errors.Is(err, http.ErrBodyNotAllowed) {
				overrun <- fmt.Errorf("a body with 204: %v", err)
			}
			return nil
		}),
		"/304": HandlerFunc(func(w *ResponseWriter, r *Request) error {
			w.Header().Set("Content-Length", "5")
			w.Header().Set("ETag", `"x"`)
			w.WriteHeader(304)
			return nil
		}),
		"/flush": HandlerFunc(func(w *ResponseWriter, r *Request) error {
			w.WriteString("hel")
			if err := w.Flush(); err != nil {
				return err
			}
			w.WriteString("lo")
			return nil
		}),
		"/flushfirst": HandlerFunc(func(w *ResponseWriter, r *Request) error {
			if err := w.Flush(); err != nil {
				return err
			}
			w.WriteString("hello")
			return w.Flush()
		}),
		"/long": HandlerFunc(func(w *ResponseWriter, r *Request) error {
			for p := long; p != ""; p = p[min(len(p), 1000):] {
				w.WriteString(p[:min(len(p), 1000)])
			}
			return nil
		}),
		"/blob": HandlerFunc(func(w *ResponseWriter, r *Request) error { return w.Blob(200, "x/y", []byte(long)) }),
		"/declared": HandlerFunc(func(w *ResponseWriter, r *Request) error {
			w.Header().Set("Content-Length", "5")
			w.WriteString("he")
			w.Flush()
			w.WriteString("llo")
			return nil
		}),
		"/fewer": HandlerFunc(func(w *ResponseWriter, r *Request) error {
			w.Header().Set("Content-Length", "9")
			w.WriteString("hello")
			return nil
		}),
		"/fewerflushed": HandlerFunc(func(w *ResponseWriter, r *Request) error {
			w.Header().Set("Content-Length", "9")
			w.WriteString("hello")
			return w.Flush()
		}),
		"/more": HandlerFunc(func(w *ResponseWriter, r *Request) error {
			w.Header().Set("Content-Length", "5")
			w.WriteString("hello")
			_, err := w.WriteString("more")
			overrun <- err
			return nil
		}),
		"/latelength": HandlerFunc(func(w *ResponseWriter, r *Request) error {
			w.WriteString("hello and more")
			w.Header().Set("Content-Length", "5")
			return nil
		}),
		"/moreflushed": HandlerFunc(func(w *ResponseWriter, r *Request) error {
			w.Header().Set("Content-Length", "5")
			w.WriteString("hello")
			w.Flush()
			_, err := w.WriteString("more")
			overrun <- err
			return nil
		}),
		"/badlength": HandlerFunc(func(w *ResponseWriter, r *Request) error {
			w.Header().Set("Content-Length", "5, 5")
			return w.Text(200, "hello")
		}),
		"/ownframing": HandlerFunc(func(w *ResponseWriter, r *Request) error {
			w.Header().Set("Transfer-Encoding", "gzip")
			return w.Text(200, "hello")
		}),
		"/close": HandlerFunc(func(w *ResponseWriter, r *Request) error {
			w.Header().Set("Connection", "close")
			return w.Text(200, "hello")
		}),
		"/date": HandlerFunc(func(w *ResponseWriter, r *Request) error {
			w.Header().Set("date", "mine")
			return w.Text(200, "hello")
		}),
		"/599": HandlerFunc(func(w *ResponseWriter, r *Request) error { return w.Text(599, "hello") }),
		"/readfrom": HandlerFunc(func(w *ResponseWriter, r *Request) error {
			_, err := w.ReadFrom(strings.NewReader(long))
			return err
		}),
	}}
	addr := startServer(t, s)
	const unknown = -1 // chunked, or until the end of the connection
	for _, row := range []struct {
		method, path string
		code         int
		length       int64 // unknown, or of the field; -2: no field, no chunks
		body         string
		ends         bool // HTTP/1.1: the connection ends behind it
	}{
		{"GET", "/text", 200, 5, "hello", false},
		{"HEAD", "/text", 200, 5, "", false},
		{"GET", "/empty", 200, 0, "", false},
		{"POST", "/empty", 200, 0, "", false},
		{"GET", "/204", 204, -2, "", false},
		{"HEAD", "/204", 204, -2, "", false},
		{"GET", "/304", 304, 5, "", false},
		{"HEAD", "/304", 304, 5, "", false},
		{"GET", "/flush", 200, unknown, "hello", false},
		{"HEAD", "/flush", 200, -2, "", false},
		{"GET", "/flushfirst", 200, unknown, "hello", false},
		{"GET", "/long", 200, unknown, long, false},
		{"HEAD", "/long", 200, -2, "", false},
		{"GET", "/blob", 200, int64(len(long)), long, false},
		{"HEAD", "/blob", 200, int64(len(long)), "", false},
		{"GET", "/declared", 200, 5, "hello", false},
		{"HEAD", "/declared", 200, 5, "", false},
		{"GET", "/more", 200, 5, "hello", false},
		{"GET", "/latelength", 200, 5, "hello", true},
		{"GET", "/moreflushed", 200, 5, "hello", false},
		{"GET", "/badlength", 500, 22, "Internal Server Error\n", false},
		{"GET", "/ownframing", 200, 5, "hello", false},
		{"GET", "/close", 200, 5, "hello", true},
		{"GET", "/date", 200, 5, "hello", false},
		{"GET", "/599", 599, 5, "hello", false},
		{"GET", "/readfrom", 200, unknown, long, false},
		{"GET", "/none", 404, 10, "Not Found\n", false},
	} {
		for _, version := range []string{"1.1", "1.0"} {
			t.Run(row.method+row.path+" "+version, func(t *testing.T) {
				c := dialRaw(t, addr)
				keep := "Connection: keep-alive"
				c.send(head(row.method+" "+row.path+" HTTP/"+version, keep))
				a := c.answer(row.method)
				a.want(t, row.code, row.body)
				fields := c.got.String()
				fields = fields[:strings.Index(fields, "\r\n\r\n")+2]
				chunked := strings.Contains(fields, "\r\nTransfer-Encoding: chunked\r\n")
				hasLength := strings.Contains(fields, "\r\nContent-Length: ")
				switch {
				case row.length >= 0:
					if !strings.Contains(fields, fmt.Sprintf("\r\nContent-Length: %d\r\n", row.length)) || chunked {
						t.Errorf("want Content-Length %d in %q", row.length, fields)
					}
				case row.length == unknown && (hasLength || chunked != (version == "1.1")),
					row.length == -2 && (hasLength || chunked):
					t.Errorf("framing: %q", fields)
				}
				if dates := a.Header.Values("Date"); len(dates) != 1 {
					t.Errorf("Date %q", dates)
				}
				if strings.Contains(fields, "Server:") {
					t.Errorf("Server in %q", fields)
				}
				ends := row.ends || row.length == unknown && version == "1.0"
				keeps := strings.Contains(fields, "\r\nConnection: keep-alive\r\n")
				if version == "1.0" && row.path != "/latelength" && keeps == ends {
					t.Errorf("keep-alive %v, the connection ends: %v", keeps, ends)
				}
				if !ends {
					c.get("/text").want(t, 200, "hello")
					c.CloseWrite()
				}
				c.ended()
			})
		}
	}
	for _, path := range []string{"/fewer", "/fewerflushed"} {
		t.Run("GET"+path, func(t *testing.T) {
			c := dialRaw(t, addr)
			c.send(request(path), request("/text"))
			if a, err := readAnswer(c.br, "GET"); err != io.ErrUnexpectedEOF || a.body != "hello" {
				t.Errorf("%q, %v", a.body, err)
			}
			if bytes.Count(c.got.Bytes(), []byte("HTTP/1.1")) != 1 {
				t.Errorf("more was sent behind a body that is short: %q", c.got.Bytes())
			}
		})
	}
	for range 4 {
		if err := <-overrun; !errors.Is(err, http.ErrContentLength) {
			t.Errorf("writing more than was declared: %v", err)
		}
	}
	select {
	case err := <-overrun:
		t.Error(err)
	default:
	}
}

func TestUnreadBody(t *testing.T) {
	s := &Server{Handler: routes{
		"/ignore": textHandler("ignored"),
		"/close": HandlerFunc(func(w *ResponseWriter, r *Request) error {
			r.Body().Close()
			if _, err := r.Body().Read(make([]byte, 1)); err != http.ErrBodyReadAfterClose {
				t.Errorf("read after close: %v", err)
			}
			return w.Text(200, "closed")
		}),
		"/part": HandlerFunc(func(w *ResponseWriter, r *Request) error {
			p := make([]byte, 3)
			_, err := io.ReadFull(r.Body(), p)
			w.Text(200, string(p))
			return err
		}),
	}}
	addr := startServer(t, s)
	const n = 100_000 // streams, and is discarded
	smuggled := request("/smuggled")
	body := strings.Repeat("x", n-len(smuggled)) + smuggled
	chunks := "5;a=b\r\nxxxxx\r\n" + fmt.Sprintf("%x\r\n%s\r\n0\r\nX: y\r\n\r\n", n, body)
	for path, want := range map[string]string{"/ignore": "ignored", "/close": "closed", "/part": "xxx"} {
		for name, input := range map[string]string{
			"length": head("POST "+path+" HTTP/1.1", fmt.Sprintf("Content-Length: %d", n)) + body,
			"chunks": head("POST "+path+" HTTP/1.1", "Transfer-Encoding: chunked") + chunks,
		} {
			t.Run(name+path, func(t *testing.T) {
				c := dialRaw(t, addr)
				c.send(input, request("/ignore"))
				c.answer("POST").want(t, 200, want)
				c.answer("GET").want(t, 200, "ignored")
				// And when the body comes after the answer to its head.
				at := strings.Index(input, "\r\n\r\n") + len("\r\n\r\n")
				if path == "/part" {
					at += 20 // what the handler wants
				}
				c.send(input[:at])
				c.answer("POST").want(t, 200, want)
				for _, piece := range octets(input[at:], 30_000) {
					c.send(piece)
				}
				c.get("/ignore").want(t, 200, "ignored")
			})
		}
	}
	t.Run("above the bound", func(t *testing.T) {
		c := dialRaw(t, addr)
		c.send(head("POST /ignore HTTP/1.1", fmt.Sprintf("Content-Length: %d", drainBytesMax+1)), strings.Repeat("x", 200_000))
		if a := c.answer("POST"); a.body != "ignored" || !a.Close {
			t.Errorf("%q close %v", a.body, a.Close)
		}
		c.ended()
	})
	t.Run("chunks above the bound", func(t *testing.T) {
		c := dialRaw(t, addr)
		c.send(head("POST /ignore HTTP/1.1", "Transfer-Encoding: chunked"))
		c.answer("POST").want(t, 200, "ignored")
		for range drainBytesMax>>12 + 1 {
			c.send("1000\r\n", strings.Repeat("x", 4<<10), "\r\n")
		}
		c.ended()
	})
	t.Run("bad chunk", func(t *testing.T) {
		c := dialRaw(t, addr)
		c.send(head("POST /ignore HTTP/1.1", "Transfer-Encoding: chunked"), "nonsense\r\n", smuggled)
		c.answer("POST").want(t, 200, "ignored")
		started := time.Now()
		c.ended()
		if took := time.Since(started); took > lingerSilent/2 {
			t.Errorf("the end came after %v", took)
		}
	})
	gone(t, s)
}

func TestExpectContinue(t *testing.T) {
	s := &Server{MaxBodyBytes: 1000, Logger: quietLogger(), Handler: routes{
		"/read": HandlerFunc(func(w *ResponseWriter, r *Request) error {
			p, err := r.Bytes()
			if err != nil {
				return err
			}
			return w.Text(200, string(p))
		}),
		"/ignore": textHandler("ignored"),
		"/fail":   HandlerFunc(func(w *ResponseWriter, r *Request) error { return &StatusError{Code: 403, Message: "no"} }),
	}}
	addr := startServer(t, s)
	const expect = "Expect: 100-continue"
	interim := func(t *testing.T, c *rawClient) {
		t.Helper()
		const want = "HTTP/1.1 100 Continue\r\n\r\n"
		got := make([]byte, len(want))
		if _, err := io.ReadFull(c.br, got); err != nil || string(got) != want {
			t.Fatalf("%q, %v", got, err)
		}
	}
	for name, frame := range map[string][2]string{
		"length": {"Content-Length: 5", "hello"},
		"chunks": {"Transfer-Encoding: chunked", "5\r\nhello\r\n0\r\n\r\n"},
	} {
		t.Run("read "+name, func(t *testing.T) {
			c := dialRaw(t, addr)
			for range 2 {
				c.send(head("POST /read HTTP/1.1", frame[0], expect))
				interim(t, c)
				c.send(frame[1])
				c.answer("POST").want(t, 200, "hello")
			}
			c.send(head("POST /read HTTP/1.1", frame[0], expect), frame[1])
			c.answer("POST").want(t, 200, "hello") // it has come: nobody waits
			if n := strings.Count(c.got.String(), "100 Continue"); n != 2 {
				t.Errorf("%d times 100", n)
			}
		})
		for path, want := range map[string]string{"/ignore": "ignored", "/fail": "no\n"} {
			t.Run("not read "+name+path, func(t *testing.T) {
				c := dialRaw(t, addr)
				c.send(head("POST "+path+" HTTP/1.1", frame[0], expect))
				a := c.answer("POST")
				if a.StatusCode == 100 || a.body != want || !a.Close {
					t.Errorf("%d %q close %v", a.StatusCode, a.body, a.Close)
				}
				c.ended()
			})
		}
	}
	for name, input := range map[string]string{
		"too large":           head("POST /read HTTP/1.1", "Content-Length: 1001", expect),
		"unknown expectation": head("POST /read HTTP/1.1", "Content-Length: 5", "Expect: 200-ok"),
	} {
		t.Run(name, func(t *testing.T) {
			c := dialRaw(t, addr)
			c.send(input)
			if a := c.answer("POST"); a.StatusCode/100 != 4 || !a.Close {
				t.Errorf("%d close %v", a.StatusCode, a.Close)
			}
			c.ended()
		})
	}
	t.Run("pipelined behind another", func(t *testing.T) {
		c := dialRaw(t, addr)
		c.send(request("/ignore"), head("POST /read HTTP/1.1", "Content-Length: 5", expect))
		c.answer("GET").want(t, 200, "ignored")
		interim(t, c)
		c.send("hello")
		c.answer("POST").want(t, 200, "hello")
	})
	t.Run("HTTP/1.0", func(t *testing.T) {
		c := dialRaw(t, addr)
		c.send(head("POST /read HTTP/1.0", "Content-Length: 5", expect), "hello")
		c.answer("POST").want(t, 200, "hello")
		c.ended()
	})
	gone(t, s)
}

// TestNothingIsInjected gives every setter what would split a response.
func TestNothingIsInjected(t *testing.T) {
	evils := []string{"a\r\nX-Evil: 1", "a\nX-Evil: 1", "a\rX-Evil: 1", "a\x00X-Evil: 1", "a\r\n\r\nX-Evil"}
	var log lockedBuffer
	s := &Server{Logger: slog.New(slog.NewTextHandler(&log, nil)), Handler: HandlerFunc(func(w *ResponseWriter, r *Request) error {
		var n int
		fmt.Sscanf(r.URL().RawQuery, "%d", &n)
		switch evil := evils[n]; r.Path() {
		case "/value":
			w.Header().Set("X", evil)
		case "/name":
			w.Header().Set(evil, "x")
		case "/add":
			w.Header().Add("X", evil)
		case "/type":
			return w.Blob(200, evil, []byte("x"))
		case "/redirect":
			return w.Redirect(302, "/"+evil)
		case "/flush":
			w.Header().Set("X", evil)
			w.WriteString("x")
			w.Flush()
		case "/long":
			w.Header().Set("X", evil)
			w.Write(make([]byte, 2*responseBufferMax))
		case "/hook":
			w.OnCommit(func(_ int, h *Header, next io.WriteCloser) io.WriteCloser {
				h.Set("X", evil)
				return next
			})
		}
		return w.Text(200, "x")
	})}
	addr := startServer(t, s)
	for _, path := range []string{"/value", "/name", "/add", "/type", "/redirect", "/flush", "/long", "/hook"} {
		for n := range evils {
			c := dialRaw(t, addr)
			a := c.get(fmt.Sprintf("%s?%d", path, n))
			if a.StatusCode != 500 || strings.Contains(c.got.String(), "X-Evil") {
				t.Errorf("%s %q: %q", path, evils[n], c.got.String())
			}
			c.Close()
		}
	}
	if !strings.Contains(log.String(), "control character") {
		t.Error("the log does not say why")
	}
	if strings.Contains(log.String(), "X-Evil: 1") && !strings.Contains(log.String(), `\\r\\n`) {
		t.Error("the log repeats a value")
	}
}

type lockedBuffer struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (l *lockedBuffer) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.Write(p)
}

func (l *lockedBuffer) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.String()
}

func TestHandlerFails(t *testing.T) {
	const secret = "s3cr3t"
	var log lockedBuffer
	fails := routes{
		"/status":     HandlerFunc(func(w *ResponseWriter, r *Request) error { return &StatusError{Code: 418, Message: "short"} }),
		"/statusbare": HandlerFunc(func(w *ResponseWriter, r *Request) error { return &StatusError{Code: 409, Err: errors.New(secret)} }),
		"/wrapped": HandlerFunc(func(w *ResponseWriter, r *Request) error {
			return fmt.Errorf("%s: %w", secret, &StatusError{Code: 422})
		}),
		"/odd":   HandlerFunc(func(w *ResponseWriter, r *Request) error { return &StatusError{Code: 200, Message: secret} }),
		"/plain": HandlerFunc(func(w *ResponseWriter, r *Request) error { return errors.New(secret) }),
		"/dropped": HandlerFunc(func(w *ResponseWriter, r *Request) error {
			w.Header().Set("X-Secret", secret)
			w.WriteHeader(202)
			w.WriteString(secret)
			return errors.New("failed")
		}),
		"/panic": HandlerFunc(func(w *ResponseWriter, r *Request) error {
			w.WriteString(secret)
			panic(secret)
		}),
		"/panicnil": HandlerFunc(func(w *ResponseWriter, r *Request) error { panic(nil) }),
		"/fine":     textHandler("fine"),
		"/goexit":   HandlerFunc(func(w *ResponseWriter, r *Request) error { runtime.Goexit(); return nil }),
	}
	begin := func(w *ResponseWriter) {
		w.WriteString("begun")
		w.Flush()
	}
	fails["/lateerror"] = HandlerFunc(func(w *ResponseWriter, r *Request) error { begin(w); return errors.New(secret) })
	fails["/latestatus"] = HandlerFunc(func(w *ResponseWriter, r *Request) error { begin(w); return &StatusError{Code: 404} })
	fails["/latepanic"] = HandlerFunc(func(w *ResponseWriter, r *Request) error { begin(w); panic(secret) })
	fails["/lategoexit"] = HandlerFunc(func(w *ResponseWriter, r *Request) error { begin(w); runtime.Goexit(); return nil })
	s := &Server{Logger: slog.New(slog.NewTextHandler(&log, nil))}
	for _, row := range []struct {
		name string
		mw   Middleware
	}{{"on a worker", Offload}, {"on the loop", Inline}} {
		t.Run(row.name, func(t *testing.T) {
			pinned := routes{}
			for path, h := range fails {
				pinned[path] = row.mw(h)
			}
			s := &Server{Logger: s.Logger, Handler: pinned}
			addr := startServer(t, s)
			for path, want := range map[string]string{
				"/status": "418 short\n", "/statusbare": "409 Conflict\n", "/wrapped": "422 Unprocessable Entity\n",
				"/odd": "500 Internal Server Error\n", "/plain": "500 Internal Server Error\n", "/dropped": "500 Internal Server Error\n",
				"/panic": "500 Internal Server Error\n", "/panicnil": "500 Internal Server Error\n",
			} {
				t.Run(path[1:], func(t *testing.T) {
					c := dialRaw(t, addr)
					c.send(request("/fine"), request(path), request("/fine"))
					c.answer("GET").want(t, 200, "fine")
					a := c.answer("GET")
					if got := fmt.Sprintf("%d %s", a.StatusCode, a.body); got != want {
						t.Errorf("%q, want %q", got, want)
					}
					c.answer("GET").want(t, 200, "fine") // the failure was the request's
					if strings.Contains(c.got.String(), secret) {
						t.Errorf("leaked: %q", c.got.String())
					}
				})
			}
			for _, path := range []string{"/lateerror", "/latestatus", "/latepanic", "/goexit", "/lategoexit"} {
				t.Run(path[1:], func(t *testing.T) {
					c := dialRaw(t, addr)
					c.send(request("/fine"))
					c.answer("GET").want(t, 200, "fine")
					c.send(request("/fine"), request(path), request("/fine"))
					c.answer("GET").want(t, 200, "fine") // earlier answers are not lost
					a, err := readAnswer(c.br, "GET")
					c.cut(err)
					if strings.Contains(c.got.String(), secret) || path == "/goexit" && a.Response != nil {
						t.Errorf("received %q", c.got.String())
					}
					other := dialRaw(t, addr) // the loop goes on
					other.get("/fine").want(t, 200, "fine")
				})
			}
		})
	}
	if !strings.Contains(log.String(), secret) || !strings.Contains(log.String(), "panicked") || !strings.Contains(log.String(), "stack=") {
		t.Error("the log lacks the reasons")
	}
}

// upper is a hook's writer: it changes what passes, and has a last word.
type upper struct {
	next   io.WriteCloser
	h      *Header
	closed *atomic.Int32
}

func (u upper) Write(p []byte) (int, error) { return u.next.Write(bytes.ToUpper(p)) }

func (u upper) Close() error {
	u.closed.Add(1)
	u.h.Set("X-End", "1") // has an effect only while nothing was sent
	u.next.Write([]byte("."))
	return u.next.Close()
}

func TestOnCommit(t *testing.T) {
	var closed atomic.Int32
	long := strings.Repeat("x", responseBufferMax)
	hooked := func(h HandlerFunc) Handler {
		return HandlerFunc(func(w *ResponseWriter, r *Request) error {
			w.OnCommit(func(status int, h *Header, next io.WriteCloser) io.WriteCloser {
				h.Set("X-Status", fmt.Sprint(status))
				return upper{next, h, &closed}
			})
			return h(w, r)
		})
	}
	s := &Server{Logger: quietLogger(), Handler: routes{
		"/short": hooked(textHandler("short")),
		"/empty": hooked(func(w *ResponseWriter, r *Request) error { w.WriteHeader(202); return nil }),
		"/flush": hooked(func(w *ResponseWriter, r *Request) error {
			w.WriteString("a")
			w.Flush()
			w.WriteString("b")
			return nil
		}),
		"/long":   hooked(textHandler(long + "x")),
		"/pieces": hooked(func(w *ResponseWriter, r *Request) error { w.WriteString(long); w.WriteString("x"); return nil }),
		"/error":  hooked(func(w *ResponseWriter, r *Request) error { w.WriteString("dropped"); return errors.New("failed") }),
		"/order": HandlerFunc(func(w *ResponseWriter, r *Request) error {
			for _, name := range []string{"1", "2"} {
				w.OnCommit(func(_ int, h *Header, next io.WriteCloser) io.WriteCloser {
					h.Add("X-Order", name)
					return tagged{next, name}
				})
			}
			return w.Text(200, "x")
		}),
	}}
	addr := startServer(t, s)
	c := dialRaw(t, addr)
	for _, row := range []struct {
		path, status, end, body string
		code                    int
		chunked                 bool
	}{
		{"/short", "200", "1", "SHORT.", 200, false},
		{"/empty", "202", "1", ".", 202, false},
		{"/flush", "200", "", "AB.", 200, true},
		{"/long", "200", "", strings.ToUpper(long) + "X.", 200, true},
		{"/pieces", "200", "", strings.ToUpper(long) + "X.", 200, true},
		{"/error", "", "", "Internal Server Error\n", 500, false},
	} {
		before := closed.Load()
		a := c.get(row.path)
		a.want(t, row.code, row.body)
		if a.Header.Get("X-Status") != row.status || a.Header.Get("X-End") != row.end || (a.ContentLength < 0) != row.chunked {
			t.Errorf("%s: %v, length %d", row.path, a.Header, a.ContentLength)
		}
		if n := closed.Load() - before; n > 1 || n == 0 && row.code < 400 {
			t.Errorf("%s: closed %d times", row.path, n)
		}
	}
	a := c.get("/order")
	a.want(t, 200, "x21") // the last registered is nearest to the handler
	if got := a.Header.Values("X-Order"); strings.Join(got, "") != "12" {
		t.Errorf("called in the order %q", got)
	}
}

type tagged struct {
	io.WriteCloser
	name string
}

func (w tagged) Write(p []byte) (int, error) {
	if _, err := w.WriteCloser.Write(append(bytes.Clone(p), w.name...)); err != nil {
		return 0, err
	}
	return len(p), nil
}

// TestIdleTimeoutIsSilent has connections that are idle from the start, and
// after an answer.
func TestIdleTimeoutIsSilent(t *testing.T) {
	const limit = 60 * time.Millisecond
	s := &Server{IdleTimeout: limit, Handler: textHandler("fine")}
	addr := startServer(t, s)
	for _, requests := range []int{0, 1, 40} {
		t.Run(fmt.Sprint(requests), func(t *testing.T) {
			c := dialRaw(t, addr)
			for range requests {
				c.get("/").want(t, 200, "fine")
			}
			before := c.got.Len()
			idle := time.Now()
			c.ended()
			if took := time.Since(idle); took < limit-2*tick || took > patience/2 {
				t.Errorf("closed after %v, the limit is %v", took, limit)
			}
			if c.got.Len() != before {
				t.Errorf("said %q", c.got.Bytes()[before:])
			}
		})
	}
	gone(t, s)
}

// TestTrickleDoesNotRearm has a client that sends an octet again and again,
// each well within every limit.
func TestTrickleDoesNotRearm(t *testing.T) {
	const limit = 100 * time.Millisecond
	s := &Server{HeadTimeout: limit, IdleTimeout: limit, Handler: textHandler("fine")}
	addr := startServer(t, s)
	for name, before := range map[string]int{"first": 0, "after an answer": 1, "after many": 40} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			c := dialRaw(t, addr)
			for range before {
				c.get("/").want(t, 200, "fine")
			}
			stop := make(chan struct{})
			stopped := make(chan struct{})
			started := time.Now()
			go func() {
				defer close(stopped)
				every := time.NewTicker(limit / 10)
				defer every.Stop()
				io.WriteString(c.TCPConn, "GET / HTTP/1.1\r\nHost: h\r\nX: ")
				for {
					select {
					case <-stop:
						return
					case <-every.C:
						if _, err := c.TCPConn.Write([]byte("a")); err != nil {
							return
						}
					}
				}
			}()
			a := c.answer("GET")
			took := time.Since(started)
			close(stop)
			<-stopped
			if a.StatusCode != 408 || !a.Close {
				t.Errorf("%d close %v", a.StatusCode, a.Close)
			}
			if took < limit-2*tick || took > patience/2 {
				t.Errorf("refused after %v, the limit is %v", took, limit)
			}
			c.ended()
		})
	}
}

// TestStaleTimer has connections whose numbers are given out again while timers
// of the ones before could still be armed.
func TestStaleTimer(t *testing.T) {
	const limit = 80 * time.Millisecond
	s := &Server{Loops: 1, HeadTimeout: limit, IdleTimeout: 3 * limit, Handler: textHandler("fine")}
	addr := startServer(t, s)
	started := time.Now()
	for round := 0; time.Since(started) < 4*limit; round++ {
		// This one arms HeadTimeout, and goes.
		first := dialRaw(t, addr)
		first.send("GET / HTT")
		eventually(t, "half a head", func() bool { return s.loops[0].gauges[stateHead].Load() == 1 })
		first.Close()
		gone(t, s)
		// The next gets its number, and must live past the other's deadline.
		second := dialRaw(t, addr)
		second.get("/").want(t, 200, "fine")
		alive := time.Now()
		if round%2 == 0 {
			second.SetReadDeadline(alive.Add(limit + limit/2))
			if n, err := second.br.Read(make([]byte, 1)); n > 0 || !isTimeout(err) {
				t.Fatalf("round %d: after %v: %d, %v", round, time.Since(alive), n, err)
			}
			second.SetDeadline(time.Now().Add(patience))
			second.get("/").want(t, 200, "fine")
		}
		second.Close()
		gone(t, s)
	}
}

func isTimeout(err error) bool {
	var ne net.Error
	return errors.As(err, &ne) && ne.Timeout()
}

// TestLingerEnds has clients that do not close after they were refused.
func TestLingerEnds(t *testing.T) {
	t.Parallel()
	s := refusingServer()
	addr := startServer(t, s)
	t.Run("too much", func(t *testing.T) {
		c := dialRaw(t, addr)
		c.send("bad\r\n")
		c.answer("GET")
		c.ended()
		var err error
		for range 1000 {
			if _, err = c.Write(make([]byte, 64<<10)); err != nil {
				break
			}
		}
		if err == nil || isTimeout(err) {
			t.Errorf("after 64 MiB: %v", err)
		}
		gone(t, s)
	})
	t.Run("silence", func(t *testing.T) {
		c := dialRaw(t, addr)
		c.send("bad\r\n")
		c.answer("GET")
		c.ended()
		ended := time.Now()
		gone(t, s)
		if took := time.Since(ended); took < lingerSilent/2 {
			t.Errorf("closed after %v", took)
		}
	})
}

// TestResetInEachState has clients that reset wherever the connection is. None
// may leave a goroutine or a descriptor behind.
func TestResetInEachState(t *testing.T) {
	big := make([]byte, 16<<20)
	running := make(chan struct{}, 1)
	s := &Server{Loops: 2, Logger: quietLogger(), Handler: routes{
		"/": textHandler("fine"),
		"/wait": HandlerFunc(func(w *ResponseWriter, r *Request) error {
			running <- struct{}{}
			<-r.Context().Done()
			return r.Context().Err()
		}),
		"/read": HandlerFunc(func(w *ResponseWriter, r *Request) error {
			running <- struct{}{}
			_, err := io.Copy(io.Discard, r.Body())
			return err
		}),
		"/big": HandlerFunc(func(w *ResponseWriter, r *Request) error {
			running <- struct{}{}
			return w.Blob(200, "x/y", big)
		}),
		"/answered": Inline(textHandler(string(big[:48<<10]))),
	}}
	addr := startServer(t, s)
	settled := func() (goroutines, fds int) { return runtime.NumGoroutine(), openFDs(t) }
	c := dialRaw(t, addr)
	c.get("/").want(t, 200, "fine")
	c.Close()
	gone(t, s)
	goroutines, fds := settled()
	shown := func(state connState) func() bool { return func() bool { return gauge(s, state) > 0 } }
	run := func() bool { <-running; return true }
	states := []struct {
		name  string
		input string
		there func() bool
	}{
		{"idle, new", "", shown(stateIdle)},
		{"head", "GET / HT", shown(stateHead)},
		{"body", head("POST / HTTP/1.1", "Content-Length: 5") + "he", shown(stateBody)},
		{"handler", request("/wait"), run},
		{"handler with input behind it", request("/wait") + request("/") + "GET /", run},
		{"reading a body", head("POST /read HTTP/1.1", "Transfer-Encoding: chunked") + "5\r\nhe", run},
		{"writing a response", request("/big"), run},
		{"flush", request("/answered"), nil},
		{"drain of a body", head("POST / HTTP/1.1", "Content-Length: 65537") + "he", shown(stateDrain)},
		{"drain at the end", "bad\r\n", shown(stateDrain)},
	}
	for _, row := range states {
		for _, reset := range []bool{true, false} {
			t.Run(fmt.Sprintf("%s, reset %v", row.name, reset), func(t *testing.T) {
				c := dialRaw(t, addr)
				if row.there == nil {
					c.fill(s, row.input)
				} else {
					c.send(row.input)
					eventually(t, "the state", row.there)
				}
				if reset {
					c.SetLinger(0)
				}
				c.Close()
				gone(t, s)
			})
		}
	}
	eventually(t, "every goroutine and descriptor back", func() bool {
		g, f := settled()
		return g <= goroutines && f <= fds
	})
	for i := range s.loops {
		if lent := s.loops[i].lent.Load(); lent != 0 {
			t.Errorf("loop %d: %d connections lent", i, lent)
		}
		for state := range s.loops[i].gauges {
			if n := s.loops[i].gauges[state].Load(); n != 0 {
				t.Errorf("loop %d: %d connections in state %v", i, n, connState(state))
			}
		}
	}
}

// TestNoSubstringFraming pins that a field frames a message by its whole name.
func TestNoSubstringFraming(t *testing.T) {
	addr := startServer(t, describingServer())
	for _, field := range []string{
		"X-Content-Length: 5", "Content-Length-X: 5", "X: Content-Length: 5", "X: a, Content-Length: 5",
		"X-Transfer-Encoding: chunked", "X: Transfer-Encoding: chunked", "TE: chunked", "Content-Type: Content-Length: 5",
		"X-Connection: close", "X: Connection: close", "X-Expect: 100-continue", "Y: \"Content-Length: 5\"",
	} {
		c := dialRaw(t, addr)
		c.send(request("/1", field), request("/2"))
		for i, want := range []string{"GET /1 ", "GET /2 "} {
			if a := c.answer("GET"); !strings.HasPrefix(a.body, want) || a.Close {
				t.Errorf("%s: answer %d is %q, close %v", field, i, a.body, a.Close)
			}
		}
		c.Close()
	}
}

// TestAbsoluteForm pins the absolute form and what a handler sees as host.
func TestAbsoluteForm(t *testing.T) {
	addr := startServer(t, &Server{Handler: HandlerFunc(func(w *ResponseWriter, r *Request) error {
		return w.Text(200, r.Host()+" "+r.Path()+" "+r.URL().String())
	})})
	c := dialRaw(t, addr)
	for target, want := range map[string]string{
		"/p?q":                 "h /p /p?q",
		"http://other/p?q":     "other /p http://other/p?q",
		"HTTP://other:8080":    "other:8080 / http://other:8080/",
		"https://[::1]:8/%41b": "[::1]:8 /Ab https://[::1]:8/%41b",
		"http://other?q":       "other / http://other/?q",
	} {
		c.send(head("GET " + target + " HTTP/1.1"))
		if a := c.answer("GET"); !strings.EqualFold(a.body, want) {
			t.Errorf("%s: %q, want %q", target, a.body, want)
		}
	}
}

// TestSlowReader has a response that is far larger than what sockets hold, for
// a client that reads late and in small pieces.
func TestSlowReader(t *testing.T) {
	big := bytes.Repeat([]byte("0123456789abcdef"), 1<<20) // 16 MiB
	s := &Server{Handler: routes{
		"/": textHandler("fine"),
		"/blob": HandlerFunc(func(w *ResponseWriter, r *Request) error {
			return w.Blob(200, "x/y", big)
		}),
		"/chunks": HandlerFunc(func(w *ResponseWriter, r *Request) error {
			_, err := w.ReadFrom(bytes.NewReader(big))
			return err
		}),
	}}
	addr := startServer(t, s)
	for _, path := range []string{"/blob", "/chunks"} {
		c := dialRaw(t, addr)
		c.br = bufio.NewReaderSize(c.TCPConn, 700)
		c.send(request("/"), request(path), request("/"))
		c.answer("GET").want(t, 200, "fine")
		other := dialRaw(t, addr)
		other.get("/").want(t, 200, "fine") // others are served meanwhile
		if a := c.answer("GET"); a.body != string(big) {
			t.Errorf("%s: %d octets", path, len(a.body))
		}
		c.answer("GET").want(t, 200, "fine")
	}
}

// TestWriteTimeout has a client that never reads. It is reset, wherever its
// answer waits.
func TestWriteTimeout(t *testing.T) {
	const limit = 100 * time.Millisecond
	failed := make(chan error, 2)
	s := &Server{WriteTimeout: limit, Logger: quietLogger(), Handler: routes{
		"/streams": HandlerFunc(func(w *ResponseWriter, r *Request) error {
			_, err := w.Write(make([]byte, 32<<20))
			failed <- err
			return err
		}),
		"/queued": Inline(textHandler(strings.Repeat("x", 48<<10))),
	}}
	addr := startServer(t, s)
	for _, path := range []string{"/streams", "/queued"} {
		t.Run(path[1:], func(t *testing.T) {
			c := dialRaw(t, addr)
			if path == "/queued" {
				c.fill(s, request(path))
			} else {
				c.send(request(path))
				eventually(t, "the connection", func() bool { return s.conns.Load() > 0 })
			}
			gone(t, s)
			_, err := io.Copy(io.Discard, c.br)
			c.cut(err)
		})
	}
	if err := <-failed; !errors.Is(err, ErrTimeout) {
		t.Errorf("the handler's Write: %v", err)
	}
}

// TestMaxRequestsPerConn pins that the last answer says so, and that requests
// behind it are not read.
func TestMaxRequestsPerConn(t *testing.T) {
	addr := startServer(t, &Server{MaxRequestsPerConn: 3, Handler: textHandler("fine")})
	c := dialRaw(t, addr)
	c.send(strings.Repeat(request("/"), 5))
	for i := range 3 {
		a := c.answer("GET")
		a.want(t, 200, "fine")
		if a.Close != (i == 2) {
			t.Errorf("answer %d: close %v", i, a.Close)
		}
	}
	c.ended()
}

// TestIdleTimeoutAlone has a connection that is in a state without a limit when
// its timer fires, and idle after it.
func TestIdleTimeoutAlone(t *testing.T) {
	const limit = 60 * time.Millisecond
	for name, mw := range map[string]Middleware{"on a worker": Offload, "on the loop": Inline} {
		t.Run(name, func(t *testing.T) {
			s := &Server{IdleTimeout: limit, HeadTimeout: -1, Handler: mw(textHandler("fine"))}
			c := dialRaw(t, startServer(t, s))
			c.send("GET / HTTP/1.1\r\n")
			c.SetReadDeadline(time.Now().Add(3 * limit))
			if n, err := c.br.Read(make([]byte, 1)); n > 0 || !isTimeout(err) {
				t.Fatalf("without HeadTimeout: %d, %v", n, err)
			}
			c.SetDeadline(time.Now().Add(patience))
			c.send("Host: h\r\n\r\n")
			c.answer("GET").want(t, 200, "fine")
			c.ended()
		})
	}
}

// TestRefusalsAreCountedOnce holds Stats to one request for each that was sent.
func TestRefusalsAreCountedOnce(t *testing.T) {
	const limit = 50 * time.Millisecond
	for name, input := range map[string]string{
		"bad head":       "bad\r\n",
		"declared body":  head("POST / HTTP/1.1", fmt.Sprintf("Content-Length: %d", refusingBodyMax+1)),
		"chunk size":     chunkedWith("x\r\n"),
		"slow head":      "GET /",
		"slow body":      head("POST / HTTP/1.1", "Content-Length: 5") + "he",
		"nothing amiss":  request("/", "Connection: close"),
		"handler's fail": head("POST / HTTP/1.1", "Content-Length: 0", "Connection: close"),
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := refusingServer()
			s.HeadTimeout, s.BodyTimeout = limit, limit
			c := dialRaw(t, startServer(t, s))
			c.send(input)
			c.answer("POST")
			c.ended()
			c.Close()
			gone(t, s)
			eventually(t, "the count", func() bool { return counted(s, countRequests) > 0 })
			if n := counted(s, countRequests); n != 1 {
				t.Errorf("%d requests", n)
			}
		})
	}
}

// TestRefusedHead pins that what is known to be a HEAD request gets no content,
// refused or not (RFC 9110 §9.3.2).
func TestRefusedHead(t *testing.T) {
	s := refusingServer()
	s.HeadTimeout, s.BodyTimeout = 50*time.Millisecond, 50*time.Millisecond
	addr := startServer(t, s)
	for name, row := range map[string]struct {
		code  int
		input string
	}{
		"no Host":       {400, "HEAD / HTTP/1.1\r\n\r\n"},
		"expectation":   {417, head("HEAD / HTTP/1.1", "Expect: x")},
		"declared body": {413, head("HEAD / HTTP/1.1", fmt.Sprintf("Content-Length: %d", refusingBodyMax+1))},
		"chunk size":    {400, head("HEAD / HTTP/1.1", "Transfer-Encoding: chunked") + "x\r\n"},
		"slow head":     {408, "HEAD / HTTP/1.1\r\n"},
		"slow body":     {408, head("HEAD / HTTP/1.1", "Content-Length: 5")},
	} {
		t.Run(name, func(t *testing.T) {
			c := dialRaw(t, addr)
			c.send(row.input)
			a := c.answer("HEAD")
			if a.StatusCode != row.code || !a.Close || a.ContentLength <= 0 {
				t.Errorf("%d, close %v, length %d", a.StatusCode, a.Close, a.ContentLength)
			}
			c.ended()
		})
	}
}
