package flare

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"runtime"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"
)

// This file ends servers: with a connection in each of its states, with
// connections that nobody has accepted yet, and under load.

// shutdownServer has a handler for each state that a connection can be in, and
// a channel that says when one runs.
func shutdownServer() (s *Server, running chan bool, leave chan bool) {
	running, leave = make(chan bool, 1), make(chan bool)
	s = &Server{Loops: 2, Logger: quietLogger(), Handler: routes{
		"/": textHandler("fine"),
		"/wait": HandlerFunc(func(w *ResponseWriter, r *Request) error {
			running <- true
			select {
			case <-leave:
			case <-r.Context().Done():
				return r.Context().Err()
			}
			return w.Text(200, "waited")
		}),
		"/read": HandlerFunc(func(w *ResponseWriter, r *Request) error {
			running <- true
			p, err := r.Bytes()
			if err != nil {
				return err
			}
			return w.Text(200, string(p))
		}),
		"/queued": Inline(textHandler(strings.Repeat("x", 48<<10))),
	}}
	return s, running, leave
}

// A shutdownState brings a connection into a state and, once the server is
// about to end, on to its own end.
type shutdownState struct {
	name  string
	input string
	state connState // as the gauges show it
	runs  bool      // a handler says when it runs
	fill  bool
	// finish plays the client's part while the server shuts down.
	finish func(t *testing.T, c *rawClient, leave chan bool)
}

// shutdownAnswer reads the last answer, which has to say so, and the end.
func shutdownAnswer(t *testing.T, c *rawClient, body string) {
	t.Helper()
	a := c.answer("GET")
	a.want(t, 200, body)
	if !a.Close {
		t.Error("the last answer does not say so")
	}
	c.ended()
	c.Close()
}

var shutdownStates = []shutdownState{
	{name: "idle, new", state: stateIdle, finish: func(t *testing.T, c *rawClient, _ chan bool) { c.ended() }},
	{name: "head", input: "GET / HT", state: stateHead, finish: func(t *testing.T, c *rawClient, _ chan bool) {
		c.send("TP/1.1\r\nHost: h\r\n\r\n")
		shutdownAnswer(t, c, "fine")
	}},
	{name: "body", input: head("POST /read HTTP/1.1", "Content-Length: 5") + "he", state: stateBody, finish: func(t *testing.T, c *rawClient, _ chan bool) {
		c.send("llo")
		shutdownAnswer(t, c, "hello")
	}},
	{name: "handler", input: request("/wait"), state: stateHandler, runs: true, finish: func(t *testing.T, c *rawClient, leave chan bool) {
		leave <- true
		shutdownAnswer(t, c, "waited")
	}},
	{name: "handler that reads", input: head("POST /read HTTP/1.1", "Transfer-Encoding: chunked") + "5\r\nhe", state: stateHandler, runs: true, finish: func(t *testing.T, c *rawClient, _ chan bool) {
		c.send("llo\r\n0\r\n\r\n")
		shutdownAnswer(t, c, "hello")
	}},
	{name: "flush", input: request("/queued"), state: stateFlush, fill: true, finish: func(t *testing.T, c *rawClient, _ chan bool) {
		for {
			a, err := readAnswer(c.br, "GET")
			if err == io.ErrUnexpectedEOF && a.Response == nil {
				break // the end came instead of another answer
			}
			if err != nil {
				t.Fatal(err)
			}
			a.want(t, 200, strings.Repeat("x", 48<<10))
		}
		c.Close()
	}},
	{name: "drain of a body", input: head("POST / HTTP/1.1", "Content-Length: 65537") + "he", state: stateDrain, finish: func(t *testing.T, c *rawClient, _ chan bool) {
		c.answer("POST").want(t, 200, "fine")
		c.send(strings.Repeat("x", 65535))
		c.ended()
		c.Close()
	}},
	{name: "drain at the end", input: "bad\r\n", state: stateDrain, finish: func(t *testing.T, c *rawClient, _ chan bool) {
		if a := c.answer("GET"); a.StatusCode != 400 {
			t.Errorf("answer %d", a.StatusCode)
		}
		c.ended()
		c.Close()
	}},
}

// reach connects a client and brings it into the state.
func (st *shutdownState) reach(t *testing.T, s *Server, running chan bool) *rawClient {
	t.Helper()
	c := dialRaw(t, startServer(t, s))
	if st.fill {
		c.fill(s, st.input)
	} else {
		c.send(st.input)
	}
	if st.runs {
		<-running
	}
	eventually(t, "the state", func() bool { return gauge(s, st.state) == 1 })
	return c
}

// TestShutdownInEachState lets the client go on: everything begun is finished,
// the last answer says so, and Shutdown waits for it.
func TestShutdownInEachState(t *testing.T) {
	t.Parallel()
	for _, st := range shutdownStates {
		t.Run(st.name, func(t *testing.T) {
			s, running, leave := shutdownServer()
			c := st.reach(t, s, running)
			ended := make(chan error, 1)
			go func() { ended <- s.Shutdown(context.Background()) }()
			eventually(t, "the beginning of the end", s.draining.Load)
			if st.state != stateIdle {
				select {
				case err := <-ended:
					t.Fatalf("Shutdown did not wait: %v", err)
				default:
				}
			}
			st.finish(t, c, leave)
			if err := <-ended; err != nil {
				t.Errorf("Shutdown: %v", err)
			}
			if n := s.conns.Load(); n != 0 {
				t.Errorf("%d connections left", n)
			}
		})
	}
}

// TestShutdownCutsEachState has a client that does nothing, and a deadline.
func TestShutdownCutsEachState(t *testing.T) {
	t.Parallel()
	for _, st := range shutdownStates {
		for _, atOnce := range []bool{false, true} {
			t.Run(fmt.Sprintf("%s, at once %v", st.name, atOnce), func(t *testing.T) {
				s, running, _ := shutdownServer()
				c := st.reach(t, s, running)
				if atOnce {
					if err := s.Close(); err != nil {
						t.Errorf("Close: %v", err)
					}
				} else if st.state != stateIdle {
					ctx, cancel := context.WithTimeout(context.Background(), 4*tick)
					defer cancel()
					if err := s.Shutdown(ctx); !errors.Is(err, context.DeadlineExceeded) || !strings.Contains(err.Error(), " cut 1 ") {
						t.Errorf("Shutdown: %v, want one connection cut", err)
					}
				} else if err := s.Shutdown(context.Background()); err != nil {
					t.Errorf("Shutdown: %v", err)
				}
				if _, err := io.Copy(io.Discard, c.br); isTimeout(err) {
					t.Error("the connection is still open")
				}
				gone(t, s) // handlers are not waited for by Close
			})
		}
	}
}

// TestShutdownTakesTheBacklog has clients that were connected by the kernel,
// and have sent, before Shutdown began, and that the loop had not accepted yet.
func TestShutdownTakesTheBacklog(t *testing.T) {
	s := &Server{Loops: 1, Handler: textHandler("fine")}
	addr := startServer(t, s)
	c := dialRaw(t, addr)
	c.get("/").want(t, 200, "fine")
	c.Close()
	gone(t, s)

	busy, release := make(chan bool), make(chan bool)
	loopsOf(s)[0].call(func() { // the runner has its hands full
		close(busy)
		<-release
	})
	<-busy
	var waiting []*rawClient
	for range 10 {
		c := dialRaw(t, addr)
		c.send(request("/"))
		waiting = append(waiting, c)
	}
	ended := make(chan error, 1)
	go func() { ended <- s.Shutdown(context.Background()) }()
	eventually(t, "the beginning of the end", s.draining.Load)
	close(release)
	for _, c := range waiting {
		shutdownAnswer(t, c, "fine")
	}
	if err := <-ended; err != nil {
		t.Errorf("Shutdown: %v", err)
	}
}

// TestShutdownOfAFullServer has clients that wait for a place, and have sent,
// when Shutdown begins: they get their place one after the other, the bound
// holds, and nobody is reset.
func TestShutdownOfAFullServer(t *testing.T) {
	var states boundsStates
	s, running, leave := shutdownServer()
	s.Loops, s.MaxConns, s.ConnState = 2, 2, states.hook
	addr := startServer(t, s)
	var inside, waiting []*rawClient
	for range s.MaxConns {
		c := dialRaw(t, addr)
		c.send(request("/wait"))
		<-running
		inside = append(inside, c)
	}
	for range 20 {
		c := dialRaw(t, addr)
		c.send(request("/"))
		waiting = append(waiting, c)
	}
	eventually(t, "the pause", func() bool { return boundsPaused(s) })
	ended := make(chan error, 1)
	go func() { ended <- s.Shutdown(context.Background()) }()
	eventually(t, "the beginning of the end", s.draining.Load)
	for _, c := range inside {
		leave <- true
		shutdownAnswer(t, c, "waited")
	}
	for _, c := range waiting {
		shutdownAnswer(t, c, "fine")
	}
	if err := <-ended; err != nil {
		t.Errorf("Shutdown: %v", err)
	}
	if states.most != s.MaxConns {
		t.Errorf("%d connections at the same time, the bound is %d", states.most, s.MaxConns)
	}
	if conn, err := net.Dial("tcp", addr); err == nil {
		conn.Close()
		t.Error("still listens")
	}
}

// TestShutdownOfAFullServerHasADeadline has one that keeps its place: those who
// wait are cut with it.
func TestShutdownOfAFullServerHasADeadline(t *testing.T) {
	s, running, _ := shutdownServer()
	s.MaxConns = 1
	addr := startServer(t, s)
	c := dialRaw(t, addr)
	c.send(request("/wait"))
	<-running
	late := dialRaw(t, addr)
	late.send(request("/"))
	eventually(t, "the pause", func() bool { return boundsPaused(s) })
	ctx, cancel := context.WithTimeout(context.Background(), 20*tick)
	defer cancel()
	if err := s.Shutdown(ctx); !errors.Is(err, context.DeadlineExceeded) || !strings.Contains(err.Error(), " cut 1 ") {
		t.Errorf("Shutdown: %v, want one connection cut", err)
	}
	for _, c := range []*rawClient{c, late} {
		if _, err := io.Copy(io.Discard, c.br); isTimeout(err) {
			t.Error("a connection is still open")
		}
	}
	gone(t, s)
}

// A shutdownClient asks on one connection until it is told that an answer is
// the last. It tries nothing twice.
type shutdownClient struct {
	conn    *rawClient
	pause   time.Duration // between requests
	answers atomic.Int64
}

func (c *shutdownClient) run(request, body string) error {
	for {
		if _, err := io.WriteString(c.conn, request); err != nil {
			return err
		}
		a, err := readAnswer(c.conn.br, "GET")
		if err != nil {
			return err
		}
		if a.StatusCode != 200 || a.body != body {
			return fmt.Errorf("answer %d %q", a.StatusCode, a.body)
		}
		c.answers.Add(1)
		if a.Close {
			return c.conn.Close()
		}
		if c.pause > 0 {
			time.Sleep(c.pause) // what it is: a client that thinks
		}
	}
}

// TestShutdownUnderLoad ends a server in the middle of everything. No request
// that was sent fails: each connection has an answer that says it is the last.
func TestShutdownUnderLoad(t *testing.T) {
	t.Parallel()
	s := &Server{Loops: 2, DrainDelay: 2 * time.Second, Logger: quietLogger(), Handler: routes{
		"/":       textHandler("fine"),
		"/worker": Offload(textHandler("worker")),
		"/slow": HandlerFunc(func(w *ResponseWriter, r *Request) error {
			time.Sleep(20 * time.Millisecond) // what it is: a handler that waits
			return w.Text(200, "slow")
		}),
		"/read": HandlerFunc(func(w *ResponseWriter, r *Request) error {
			p, err := r.Bytes()
			if err != nil {
				return err
			}
			return w.Text(200, string(p))
		}),
	}}
	addr := startServer(t, s)
	kinds := []struct {
		request, body string
		pause         time.Duration
	}{
		{request("/"), "fine", 0},
		{request("/"), "fine", 300 * time.Millisecond},
		{request("/worker"), "worker", 0},
		{request("/slow"), "slow", 0},
		{head("POST /read HTTP/1.1", "Content-Length: 5") + "hello", "hello", 0},
		{head("POST /read HTTP/1.1", "Transfer-Encoding: chunked") + "5\r\nhello\r\n0\r\n\r\n", "hello", 0},
	}
	var all sync.WaitGroup
	var clients []*shutdownClient
	for range 8 {
		for _, kind := range kinds {
			c := &shutdownClient{conn: dialRaw(t, addr), pause: kind.pause}
			clients = append(clients, c)
			all.Go(func() {
				if err := c.run(kind.request, kind.body); err != nil {
					t.Errorf("%q after %d answers: %v", kind.request, c.answers.Load(), err)
				}
			})
		}
	}
	eventually(t, "load", func() bool {
		for _, c := range clients {
			if c.answers.Load() < 3 {
				return false
			}
		}
		return true
	})
	// And clients that are new: connected, and nothing said yet.
	draining := make(chan bool)
	for range 10 {
		c := &shutdownClient{conn: dialRaw(t, addr)}
		clients = append(clients, c)
		all.Go(func() {
			<-draining
			if err := c.run(request("/"), "fine"); err != nil {
				t.Errorf("a new connection: %v", err)
			}
		})
	}
	began, ended := time.Now(), make(chan error, 1)
	go func() { ended <- s.Shutdown(context.Background()) }()
	eventually(t, "the beginning of the end", s.draining.Load)
	close(draining)
	if err := <-ended; err != nil {
		t.Errorf("Shutdown: %v", err)
	}
	took := time.Since(began)
	all.Wait()
	var answers int64
	for _, c := range clients {
		answers += c.answers.Load()
	}
	if took > patience/2 {
		t.Errorf("Shutdown took %v", took)
	}
	if conn, err := net.Dial("tcp", addr); err == nil {
		conn.Close()
		t.Error("still accepts")
	}
	t.Logf("%d answers, Shutdown took %v", answers, took)
}

// TestAcceptQueue has clients connect to a socket that nobody accepts from, also
// to one as package net opens it.
func TestAcceptQueue(t *testing.T) {
	if runtime.GOOS != "linux" {
		t.Skip("other systems do not say")
	}
	for _, mptcp := range []bool{false, true} {
		var lc net.ListenConfig
		lc.SetMultipathTCP(mptcp)
		ln, err := lc.Listen(context.Background(), "tcp", "127.0.0.1:0")
		if err != nil {
			t.Fatal(err)
		}
		defer ln.Close()
		fd, err := (&servedListener{Listener: ln}).dup()
		if err != nil {
			t.Fatal(err)
		}
		defer closeFD(fd)
		for n := range 4 {
			if got := acceptQueue(fd); got != n {
				t.Errorf("multipath %v: %d wait, want %d", mptcp, got, n)
			}
			dialRaw(t, ln.Addr().String())
			eventually(t, "the connection", func() bool { return acceptQueue(fd) != n })
		}
	}
}

// A connection that a handler has while its loop ends is not counted for ever.
func TestCloseBesideHandlerIsCounted(t *testing.T) {
	called, release := make(chan struct{}), make(chan struct{})
	s := &Server{Handler: Offload(HandlerFunc(func(w *ResponseWriter, r *Request) error {
		close(called)
		<-release
		return nil
	}))}
	c := dialRaw(t, strings.TrimPrefix(TestServer(t, s), "http://"))
	c.send("GET / HTTP/1.1\r\nHost: h\r\n\r\n")
	<-called
	s.Close()
	if n := s.Stats().Connections.Handler; n != 1 {
		t.Errorf("%d connections have a handler while one runs", n)
	}
	close(release)
	gone(t, s)
	st := s.Stats().Connections
	if st.Handler != 0 || st.Idle != 0 || st.Flush != 0 || st.Drain != 0 {
		t.Errorf("behind the end of all connections there are %+v", st)
	}
}
