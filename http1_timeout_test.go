package flare

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"net"
	"net/netip"
	"runtime"
	"slices"
	"strings"
	"testing"
	"time"
)

// This file has clients that are slow, silent or gone.

// TestIdleTimeoutIsSilent has connections that are idle from the start, and
// after an answer.
func TestIdleTimeoutIsSilent(t *testing.T) {
	const limit = 300 * time.Millisecond // between two requests, a loaded machine needs some of it
	s := &Server{IdleTimeout: limit, Handler: textHandler("fine")}
	addr := startServer(t, s)
	for _, requests := range []int{0, 1, 40} {
		t.Run(fmt.Sprint(requests), func(t *testing.T) {
			t.Parallel()
			idle := time.Now() // or later, but not for the server
			c := dialRaw(t, addr)
			for range requests {
				idle = time.Now()
				c.get("/").want(t, 200, "fine")
			}
			before := c.got.Len()
			c.ended()
			if took := time.Since(idle); took < limit-2*tick || took > patience/2 {
				t.Errorf("closed after %v, the limit is %v", took, limit)
			}
			if c.got.Len() != before {
				t.Errorf("said %q", c.got.Bytes()[before:])
			}
		})
	}
}

// TestTrickleDoesNotRearm has a client that sends an octet again and again,
// each well within every limit.
func TestTrickleDoesNotRearm(t *testing.T) {
	const limit = 400 * time.Millisecond
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
	t.Parallel()
	const limit = 300 * time.Millisecond
	s := &Server{Loops: 1, HeadTimeout: limit, IdleTimeout: patience, Handler: textHandler("fine")}
	addr := startServer(t, s)
	started := time.Now()
	for round := 0; time.Since(started) < 4*limit; round++ {
		// This one arms HeadTimeout, and goes.
		first := dialRaw(t, addr)
		first.send("GET / HTT")
		eventually(t, "half a head", func() bool { return gauge(s, stateHead) == 1 })
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
	for i, l := range loopsOf(s) {
		if lent := l.lent.Load(); lent != 0 {
			t.Errorf("loop %d: %d connections lent", i, lent)
		}
		for state := range l.gauges {
			if n := l.gauges[state].Load(); n != 0 {
				t.Errorf("loop %d: %d connections in state %v", i, n, connState(state))
			}
		}
	}
}

// TestWriteTimeout has a client that never reads. It is reset, wherever its
// answer waits.
func TestWriteTimeout(t *testing.T) {
	t.Parallel()
	const limit = 300 * time.Millisecond
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

// TestIdleTimeoutAlone has a connection that is in a state without a limit when
// its timer fires, and idle after it.
func TestIdleTimeoutAlone(t *testing.T) {
	const limit = 300 * time.Millisecond
	for name, mw := range map[string]Middleware{"on a worker": Offload, "on the loop": Inline} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := &Server{IdleTimeout: limit, HeadTimeout: -1, Handler: mw(textHandler("fine"))}
			c := dialRaw(t, startServer(t, s))
			c.send("GET / HTTP/1.1\r\n")
			c.SetReadDeadline(time.Now().Add(2 * limit))
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

// A request that comes just when the connection's time is over is answered by a
// worker, who gives the connection back without a word: it has a timer all the
// same.
func TestIdleTimerAfterALastLook(t *testing.T) {
	s := &Server{Handler: Offload(HandlerFunc(func(w *ResponseWriter, r *Request) error { return w.Text(200, "x") }))}
	f := newFeeder(t, s)
	l := f.loop
	l.workset, l.conns = f.workset, make([]*Conn, 1)
	c := s.newConn(l, 0, netip.AddrPort{})
	tr := &scriptedTransport{c: c, pieces: [][]byte{[]byte("GET / HTTP/1.1\r\nHost: h\r\n\r\n"), {}}, shutAt: -1}
	c.tr, l.conns[0] = tr, c
	l.arm(c)
	l.workset.clock.now = c.armed + 2*tick
	if !l.expire(f.workset) {
		t.Fatal("the baton was taken")
	}
	eventually(t, "the end of the worker", func() bool { return c.own.Load()&ownLent == 0 })
	if !strings.HasSuffix(string(tr.sent), "x") || c.state != stateIdle {
		t.Fatalf("%v, sent %q", c.state, tr.sent)
	}
	if c.armed == 0 || !c.timer.Armed() {
		t.Error("nobody looks at the connection any more")
	}
}

// IdleTimeout holds behind a limit that is longer and was waited for before.
func TestIdleTimeoutBehindALongerOne(t *testing.T) {
	t.Parallel()
	notPlain(t, "its loops list their connections elsewhere")
	for name, h := range map[string]Handler{"inline": Inline(textHandler("x")), "worker": Offload(textHandler("x"))} {
		t.Run(name, func(t *testing.T) {
			s := &Server{Loops: 1, Handler: h, HeadTimeout: time.Hour, IdleTimeout: 300 * time.Millisecond}
			c := dialRaw(t, startServer(t, s))
			c.send("GET / HT")
			l := loopsOf(s)[0]
			eventually(t, "the timer of a head", func() bool {
				late := make(chan bool, 1)
				l.call(func() {
					late <- slices.ContainsFunc(l.conns, func(c *Conn) bool { return c != nil && c.armed > time.Hour/2 })
				})
				return <-late
			})
			c.send("TP/1.1\r\nHost: h\r\n\r\n")
			c.answer("GET")
			if rest, err := io.ReadAll(c.br); len(rest) > 0 || err != nil {
				t.Errorf("read %q, %v", rest, err)
			}
		})
	}
}

// The time that a handler took is none in which its client took nothing: what is
// left to send when it returns has all of WriteTimeout, on the loop as well.
func TestWriteTimeoutBehindALongCall(t *testing.T) {
	const timeout = 2 * time.Second
	for name, pinned := range map[string]Middleware{"inline": Inline, "offload": Offload} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			returned := make(chan struct{})
			s := &Server{Logger: quietLogger(), WriteTimeout: timeout, Handler: pinned(HandlerFunc(func(w *ResponseWriter, r *Request) error {
				defer close(returned)
				if err := w.Flush(); err != nil {
					return err
				}
				time.Sleep(timeout + timeout/4) // a slow handler
				// Fill the socket, also where another goroutine writes to it.
				piece := make([]byte, 64<<10)
				for full := 0; full < 100; full++ {
					if _, err := behindResponse(w).x.stream.ownConn().tr.send(piece, nil); err == nil {
						full = 0
					} else {
						time.Sleep(tick)
					}
				}
				_, err := w.WriteString("the end")
				return err
			}))}
			addr := startServer(t, s)
			c := dialRaw(t, addr)
			c.send("GET / HTTP/1.0\r\n\r\n")
			<-returned
			eventually(t, "output that waits", func() bool { return gauge(s, stateFlush) == 1 || counted(s, countTimeoutWrite) == 1 })
			time.Sleep(10 * tick) // a deadline that has passed is seen by then
			got, err := io.ReadAll(c.br)
			if err != nil || !bytes.HasSuffix(got, []byte("the end")) {
				t.Errorf("received %d bytes, %v", len(got), err)
			}
		})
	}
}

// Nor has a client been silent while the handler ran: what its body lacks is
// waited for from the answer on.
func TestDrainBehindALongCall(t *testing.T) {
	t.Parallel()
	const length = awaitBodyMax + 1
	s := &Server{Logger: quietLogger(), Handler: Inline(HandlerFunc(func(w *ResponseWriter, r *Request) error {
		if r.Method() == "POST" {
			w.Flush()
			time.Sleep(lingerSilent + lingerSilent/4)
		}
		return w.Text(200, "fine")
	}))}
	c := dialRaw(t, startServer(t, s))
	c.send(head("POST / HTTP/1.1", fmt.Sprint("Content-Length: ", length)))
	c.answer("POST").want(t, 200, "fine")
	time.Sleep(10 * tick) // a deadline that has passed is seen by then
	c.send(strings.Repeat("x", length), request("/"))
	c.answer("GET").want(t, 200, "fine")
}
