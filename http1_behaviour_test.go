package flare

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"strings"
	"testing"
	"time"
)

// This file has what a server does with requests that it does not refuse,
// through real sockets: order, ends, and what a field means.

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
	// An answer may be queued for a moment though its socket takes it. One that
	// stays may run into WriteTimeout before that is seen.
	const looks = 30
	seen, timeouts := 0, s.Stats().Timeouts.Write
	full := func() bool {
		if seen++; gauge(s, stateFlush) == 0 {
			seen = 0
		}
		return seen >= looks || s.Stats().Timeouts.Write > timeouts
	}
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

// loopsOf returns the server's loops, which Serve makes on its own goroutine.
func loopsOf(s *Server) []*Loop {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.loops
}

// gauge returns how many connections are shown in state.
func gauge(s *Server, state connState) (n int32) {
	for _, l := range loopsOf(s) {
		n += l.gauges[state].Load()
	}
	return n
}

func counted(s *Server, kind int) (n uint64) {
	for _, l := range loopsOf(s) {
		n += l.counts.sums[kind].Load()
	}
	return n
}

// TestPipelineThroughSteals has bursts in which calls on the loop block, so that
// the loop is taken away in the middle of each, and others pass it on.
func TestPipelineThroughSteals(t *testing.T) {
	s := &Server{Loops: 1, Handler: routes{
		"/quick": Inline(textHandler("quick")),
		"/block": Inline(HandlerFunc(func(w *ResponseWriter, r *Request) error {
			time.Sleep(4 * tick) // what it tests: a handler that blocks
			return w.Text(200, "block")
		})),
		"/body": Inline(HandlerFunc(func(w *ResponseWriter, r *Request) error {
			p, err := r.Bytes()
			w.Text(200, string(p))
			return err
		})),
	}}
	addr := startServer(t, s)
	t.Run("a wait", func(t *testing.T) {
		c := dialRaw(t, addr)
		c.send(head("POST /body HTTP/1.1", "Transfer-Encoding: chunked"))
		eventually(t, "a pass", func() bool { return len(loopsOf(s)) > 0 && loopsOf(s)[0].passes.Load() > 0 })
		c.send("5\r\nhello\r\n0\r\n\r\n", request("/quick"))
		c.answer("POST").want(t, 200, "hello")
		c.answer("GET").want(t, 200, "quick")
		c.Close()
	})
	t.Run("bursts", func(t *testing.T) {
		for range 8 {
			t.Run("client", func(t *testing.T) {
				t.Parallel()
				c := dialRaw(t, addr)
				burst := request("/quick") + request("/block") + request("/quick") + request("/block") + request("/quick")
				c.send(burst, head("POST /body HTTP/1.1", "Transfer-Encoding: chunked"))
				for _, want := range []string{"quick", "block", "quick", "block", "quick"} {
					c.answer("GET").want(t, 200, want)
				}
				c.send("5\r\nhello\r\n0\r\n\r\n", burst)
				c.CloseWrite()
				c.answer("POST").want(t, 200, "hello")
				for _, want := range []string{"quick", "block", "quick", "block", "quick"} {
					c.answer("GET").want(t, 200, want)
				}
				c.ended()
			})
		}
	})
	gone(t, s)
	if loopsOf(s)[0].steals.Load() == 0 {
		t.Error("nothing was stolen")
	}
}

// TestEarlierAnswersDoNotWait has a pipelined request that waits for something
// its client does only once it has the answer before.
func TestEarlierAnswersDoNotWait(t *testing.T) {
	for name, mw := range map[string]Middleware{"on a worker": Offload, "on the loop": Inline} {
		t.Run(name, func(t *testing.T) {
			release := make(chan struct{})
			s := &Server{Handler: routes{
				"/quick": mw(textHandler("quick")),
				"/body": mw(HandlerFunc(func(w *ResponseWriter, r *Request) error {
					p, err := r.Bytes()
					w.Text(200, string(p))
					return err
				})),
				"/wait": Offload(HandlerFunc(func(w *ResponseWriter, r *Request) error {
					select {
					case <-release:
					case <-time.After(patience):
					}
					return w.Text(200, "waited")
				})),
			}}
			addr := startServer(t, s)
			for body, input := range map[string]string{
				"5\r\nhello\r\n0\r\n\r\n":   head("POST /body HTTP/1.1", "Transfer-Encoding: chunked"),
				"hello":                     head("POST /body HTTP/1.1", "Content-Length: 5"),
				strings.Repeat("x", 70_000): head("POST /body HTTP/1.1", "Content-Length: 70000"),
			} {
				c := dialRaw(t, addr)
				c.send(request("/quick"), request("/quick"), input)
				c.answer("GET").want(t, 200, "quick")
				c.answer("GET").want(t, 200, "quick")
				c.send(body)
				if a := c.answer("POST"); a.StatusCode != 200 {
					t.Errorf("%d", a.StatusCode)
				}
			}
			c := dialRaw(t, addr)
			c.send(request("/quick"), request("/quick"), request("/wait"), request("/quick"))
			c.answer("GET").want(t, 200, "quick")
			c.answer("GET").want(t, 200, "quick")
			close(release)
			c.answer("GET").want(t, 200, "waited")
			c.answer("GET").want(t, 200, "quick")
		})
	}
}

// TestPipelineOverFullSocket has answers that the client does not take while
// more requests wait behind them, on the loop and on workers in turn.
func TestPipelineOverFullSocket(t *testing.T) {
	t.Parallel()
	big := strings.Repeat("0123456789abcdef", 3<<10) // 48 KiB: leaves with the turn, and does not stream
	s := &Server{Handler: routes{
		"/big":    Inline(textHandler(big)),
		"/worker": Offload(textHandler("worker")),
		"/loop":   Inline(textHandler("loop")),
	}}
	addr := startServer(t, s)
	bodies := map[string]string{"/big": big, "/worker": "worker", "/loop": "loop"}
	for _, paths := range [][]string{{"/big"}, {"/big", "/loop"}, {"/big", "/worker"}, {"/big", "/worker", "/loop"}} {
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
		eventually(t, "the handler", func() bool { return gauge(s, stateHandler) == 1 })
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
		c.answer("POST").want(t, 400, "Bad Request\n")
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
