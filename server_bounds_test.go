package flare

import (
	"context"
	"errors"
	"io"
	"log/slog"
	"math"
	"net"
	"net/http"
	"net/netip"
	"runtime"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"
)

// This file holds a server to the bounds that its fields promise, each under
// its own name, and to what it tells its operator about them.

// boundsStates is a ConnState hook that keeps what it was told.
type boundsStates struct {
	mu   sync.Mutex
	told map[netip.AddrPort][]http.ConnState
	open int
	most int // connections open at the same time
}

func (b *boundsStates) hook(c net.Conn, state http.ConnState) {
	peer := addrPortOfNet(c.RemoteAddr())
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.told == nil {
		b.told = make(map[netip.AddrPort][]http.ConnState)
	}
	b.told[peer] = append(b.told[peer], state)
	switch state {
	case http.StateNew:
		b.open++
		b.most = max(b.most, b.open)
	case http.StateHijacked, http.StateClosed:
		b.open--
	}
}

func (b *boundsStates) of(peer netip.AddrPort) []http.ConnState {
	b.mu.Lock()
	defer b.mu.Unlock()
	return slices.Clone(b.told[peer])
}

// boundsPaused reports whether the server's loop that accepts has paused.
func boundsPaused(s *Server) bool {
	s.mu.Lock()
	plain := len(s.listeners) > 0 && s.listeners[0].paused.Load()
	s.mu.Unlock()
	if plain {
		return true
	}
	paused := make(chan bool, 1)
	l := loopsOf(s)[0]
	if !l.call(func() { paused <- len(l.listeners) > 0 && l.listeners[0].paused }) {
		return false
	}
	return <-paused
}

// TestMaxConnsWaits has more clients than the server takes: they wait, and all
// of them are served in the end.
func TestMaxConnsWaits(t *testing.T) {
	t.Parallel()
	var states boundsStates
	s := &Server{Loops: 2, MaxConns: 2, ConnState: states.hook, Handler: textHandler("fine")}
	addr := startServer(t, s)
	first, second := dialRaw(t, addr), dialRaw(t, addr)
	first.get("/").want(t, 200, "fine")
	second.get("/").want(t, 200, "fine")

	third := dialRaw(t, addr)
	third.send(request("/"))
	eventually(t, "the pause", func() bool { return boundsPaused(s) })
	if st := s.Stats(); st.Accepted != 2 || st.Connections.Open != 2 {
		t.Errorf("%d accepted, %d open; the bound is 2", st.Accepted, st.Connections.Open)
	}
	second.get("/").want(t, 200, "fine") // those inside notice nothing
	first.Close()
	third.answer("GET").want(t, 200, "fine")
	third.Close()
	second.Close()

	const clients = 12
	var all sync.WaitGroup
	for range clients {
		c := dialRaw(t, addr)
		all.Go(func() {
			io.WriteString(c, request("/", "Connection: close"))
			if a, err := readAnswer(c.br, "GET"); err != nil || a.body != "fine" {
				t.Errorf("a client that had to wait: %v", err)
			}
			c.Close()
		})
	}
	all.Wait()
	gone(t, s)
	if states.most != 2 || s.accepted.Load() != 3+clients {
		t.Errorf("%d connections at the same time, %d in all; want 2 and %d", states.most, s.accepted.Load(), 3+clients)
	}
}

// TestMaxConnsPerIPCloses has one address open too many connections, and
// another beside it.
func TestMaxConnsPerIPCloses(t *testing.T) {
	s := &Server{MaxConnsPerIP: 2, Handler: routes{
		"/": textHandler("fine"),
		"/hijack": HandlerFunc(func(w *ResponseWriter, r *Request) error {
			conn, _, err := w.Hijack()
			if err == nil {
				t.Cleanup(func() { conn.Close() })
				_, err = io.WriteString(conn, "HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n")
			}
			return err
		}),
	}}
	addr := startServer(t, s)
	first, second := dialRaw(t, addr), dialRaw(t, addr)
	first.get("/").want(t, 200, "fine")
	second.get("/").want(t, 200, "fine")

	for range 5 {
		dialRaw(t, addr).ended() // closed at once, with nothing said
	}
	if n := s.conns.Load(); n != 2 {
		t.Errorf("%d connections, want 2", n)
	}
	t.Run("another address", func(t *testing.T) {
		if runtime.GOOS != "linux" {
			t.Skip("only Linux has all of 127.0.0.0/8 without setting it up")
		}
		d := net.Dialer{LocalAddr: &net.TCPAddr{IP: net.IPv4(127, 0, 0, 2)}}
		conn, err := d.Dial("tcp", addr)
		if err != nil {
			t.Fatal(err)
		}
		defer conn.Close()
		other := dialRaw(t, addr)
		other.ended()
		conn.SetDeadline(time.Now().Add(patience))
		io.WriteString(conn, request("/"))
		if n, err := io.ReadAtLeast(conn, make([]byte, 1<<10), len("HTTP/1.1 200")); err != nil {
			t.Errorf("%d, %v", n, err)
		}
	})
	eventually(t, "the other address's end", func() bool { return s.conns.Load() == 2 })

	// A place is given back by the end of a connection, and by a hijack.
	first.Close()
	eventually(t, "the end of one", func() bool { return s.conns.Load() == 1 })
	third := dialRaw(t, addr)
	third.get("/hijack").want(t, 200, "")
	eventually(t, "the hijack", func() bool { return s.conns.Load() == 1 })
	fourth := dialRaw(t, addr)
	fourth.get("/").want(t, 200, "fine")
	dialRaw(t, addr).ended()
	fourth.Close()
	second.Close()
	gone(t, s)
	s.perIP.mu.Lock()
	defer s.perIP.mu.Unlock()
	if len(s.perIP.n) > 0 {
		t.Errorf("still counted: %v", s.perIP.n)
	}
}

// boundsIdle returns connections that are idle after an answer.
func boundsIdle(t *testing.T, addr string) []*rawClient {
	t.Helper()
	idle := make([]*rawClient, 4)
	for i := range idle {
		idle[i] = dialRaw(t, addr)
		idle[i].get("/").want(t, 200, "fine")
	}
	return idle
}

// TestMaxBufferedBytesShedsIdle has half a request fill the buffers: idle
// connections are closed for it, new ones wait, and the request itself goes on.
func TestMaxBufferedBytesShedsIdle(t *testing.T) {
	notPlain(t, "each answer is in a buffer until it is written")
	s := &Server{Loops: 2, MaxBufferedBytes: 100, Handler: Inline(textHandler("fine"))}
	addr := startServer(t, s)
	idle := boundsIdle(t, addr)
	half := dialRaw(t, addr)
	half.send("GET / HTTP/1.1\r\n")
	eventually(t, "half a head", func() bool { return gauge(s, stateHead) == 1 })
	eventually(t, "what it holds to be counted", func() bool { return s.buffered.Load() >= 100 })
	late := dialRaw(t, addr)
	late.send(request("/"))
	for _, c := range idle {
		c.ended()
	}
	eventually(t, "the pause", func() bool { return boundsPaused(s) })
	eventually(t, "the end of all but the one that has buffers", func() bool { return s.conns.Load() == 1 })
	half.send("Host: h\r\n\r\n")
	half.answer("GET").want(t, 200, "fine")
	late.answer("GET").want(t, 200, "fine")
	half.Close()
	late.Close()
	gone(t, s)
	if n := s.buffered.Load(); n != 0 {
		t.Errorf("%d bytes of buffers are still counted", n)
	}
}

// TestMaxBufferedBytesShedsAtGrowth has buffers grow on connections that are
// there already, in each way that they can: nobody has to connect for idle
// connections to be closed.
func TestMaxBufferedBytesShedsAtGrowth(t *testing.T) {
	notPlain(t, "each answer is in a buffer until it is written")
	const bound = 1 // no call on the loop needs a buffer
	for name, grow := range map[string]func(s *Server, c *rawClient){
		"half a head": func(s *Server, c *rawClient) {
			c.send("GET / HTTP/1.1\r\nX: ")
			for range 20 { // the buffer grows with each
				c.send(strings.Repeat("x", 10<<10))
			}
		},
		"half a body": func(s *Server, c *rawClient) {
			c.send(head("POST / HTTP/1.1", "Content-Length: 60000"), strings.Repeat("x", 50_000))
		},
		"an answer that is not read": func(s *Server, c *rawClient) { c.fill(s, request("/queued")) },
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := &Server{Loops: 2, MaxBufferedBytes: bound, MaxHeaderBytes: 1 << 20, Handler: routes{
				"/":       Inline(textHandler("fine")),
				"/queued": Inline(textHandler(strings.Repeat("x", 48<<10))),
			}}
			addr := startServer(t, s)
			idle := boundsIdle(t, addr)
			c := dialRaw(t, addr)
			c.get("/").want(t, 200, "fine")
			if n := s.conns.Load(); n != 5 {
				t.Fatalf("%d connections", n)
			}
			grow(s, c)
			for _, c := range idle {
				c.ended()
			}
			if n := s.buffered.Load(); n <= bound {
				t.Errorf("%d bytes are buffered, not more than may be", n)
			}
		})
	}
}

// TestShedSparesTheLoops has buffers stay too large: connections are not walked
// over for each byte more.
func TestShedSparesTheLoops(t *testing.T) {
	shed := 0
	count := bufferCount{max: 10, over: func() { shed++ }}
	count.Add(10)
	count.Add(-5)
	if count.isOver() || shed != 0 {
		t.Errorf("over the bound at %d of 10", count.Load())
	}
	for range 3 {
		count.Add(6)
	}
	count.Add(-1)
	if !count.isOver() || shed != 3 {
		t.Errorf("told %d times", shed)
	}
	s := &Server{}
	s.shed()
	if s.shedNext.Load() == 0 {
		t.Error("nothing was shed")
	}
	const later = math.MaxInt64
	s.shedNext.Store(later)
	if s.shed(); s.shedNext.Load() != later {
		t.Error("shed before it is time")
	}
	if free := (bufferCount{}); free.isOver() {
		t.Error("over no bound")
	}
}

// A silentProtocol takes everything and says nothing.
type silentProtocol struct{}

func (silentProtocol) Data(c *Conn, in []byte, eof bool) (int, error) { return len(in), nil }
func (silentProtocol) Drained(*Conn)                                  {}
func (silentProtocol) Closed(*Conn, error)                            {}

// TestConnStateOrder pins the order in which the hook hears of a connection's
// life.
func TestConnStateOrder(t *testing.T) {
	const n, a, i, h, c = http.StateNew, http.StateActive, http.StateIdle, http.StateHijacked, http.StateClosed
	var states boundsStates
	s := &Server{ConnState: states.hook, Logger: quietLogger(), Handler: routes{
		"/":      textHandler("fine"),
		"/loop":  Inline(textHandler("fine")),
		"/panic": HandlerFunc(func(*ResponseWriter, *Request) error { panic("asked for") }),
		"/hijack": HandlerFunc(func(w *ResponseWriter, r *Request) error {
			conn, _, err := w.Hijack()
			if err == nil {
				err = conn.Close()
			}
			return err
		}),
	}}
	other := &Server{ConnState: states.hook, NewProtocol: func(*Conn) Protocol { return silentProtocol{} }}
	addr, otherAddr := startServer(t, s), startServer(t, other)
	for _, row := range []struct {
		name    string
		input   string
		answers int
		addr    string
		want    []http.ConnState
	}{
		{"nothing sent", "", 0, addr, []http.ConnState{n, c}},
		{"half a head", "GET / HT", 0, addr, []http.ConnState{n, a, c}},
		{"half a body", head("POST / HTTP/1.1", "Content-Length: 5") + "he", 0, addr, []http.ConnState{n, a, c}},
		{"a request", request("/"), 1, addr, []http.ConnState{n, a, i, c}},
		{"two on the loop", request("/loop") + request("/loop"), 2, addr, []http.ConnState{n, a, i, a, i, c}},
		{"one and a half", request("/") + "GET /", 1, addr, []http.ConnState{n, a, i, a, c}},
		{"the last", request("/", "Connection: close"), 1, addr, []http.ConnState{n, a, c}},
		{"an unread body", head("POST / HTTP/1.1", "Content-Length: 5") + "hello", 1, addr, []http.ConnState{n, a, i, c}},
		{"refused", "bad\r\n", 1, addr, []http.ConnState{n, a, c}},
		{"a panic", request("/panic"), 1, addr, []http.ConnState{n, a, i, c}},
		{"hijacked", request("/hijack"), 0, addr, []http.ConnState{n, a, h}},
		{"another protocol", "hello", 0, otherAddr, []http.ConnState{n, c}},
	} {
		t.Run(row.name, func(t *testing.T) {
			client := dialRaw(t, row.addr)
			peer := client.LocalAddr().(*net.TCPAddr).AddrPort()
			client.send(row.input)
			for range row.answers {
				client.answer("GET")
			}
			client.CloseWrite()
			client.toEnd()
			last := row.want[len(row.want)-1]
			eventually(t, last.String(), func() bool {
				told := states.of(peer)
				return len(told) > 0 && told[len(told)-1] == last
			})
			if told := states.of(peer); !slices.Equal(told, row.want) {
				t.Errorf("told %v, want %v", told, row.want)
			}
		})
	}
}

// boundsLog is a logger's handler that keeps its records.
type boundsLog struct {
	slog.Handler
	mu      sync.Mutex
	records []slog.Record
}

func (l *boundsLog) Handle(_ context.Context, r slog.Record) error {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.records = append(l.records, r)
	return nil
}

func (l *boundsLog) Enabled(context.Context, slog.Level) bool { return true }

// skipped returns the attribute "skipped" of each refusal in the log.
func (l *boundsLog) skipped() (n []int64) {
	l.mu.Lock()
	defer l.mu.Unlock()
	for _, r := range l.records {
		if r.Message == "flare: request refused" {
			r.Attrs(func(a slog.Attr) bool {
				if a.Key == "skipped" {
					n = append(n, a.Value.Int64())
				}
				return true
			})
		}
	}
	return n
}

// TestRefusalLogIsRateLimited has refusals in a moment, and over several
// seconds of a clock that the test holds.
func TestRefusalLogIsRateLimited(t *testing.T) {
	t.Run("by the clock", func(t *testing.T) {
		var refusals refusalLog
		var log boundsLog
		to := slog.New(&log)
		for at := time.Duration(0); at < 4*time.Second; at += 100 * time.Millisecond {
			refusals.log(to, "flare: request refused", at, ErrMalformed)
		}
		if got, want := log.skipped(), []int64{0, 9, 9, 9}; !slices.Equal(got, want) {
			t.Errorf("lines with %v skipped, want %v", got, want)
		}
	})
	t.Run("by a flood", func(t *testing.T) {
		var log boundsLog
		s := refusingServer()
		s.Logger = slog.New(&log)
		addr := startServer(t, s)
		const refused = 100
		began := time.Now()
		for range refused {
			c := dialRaw(t, addr)
			c.send("bad secret\r\n")
			c.answer("GET")
			c.Close()
		}
		gone(t, s)
		most := 2 + int(time.Since(began)/logEvery)
		if lines := len(log.skipped()); lines < 1 || lines > most {
			t.Errorf("%d lines for %d refusals, want 1 to %d", lines, refused, most)
		}
		for _, r := range log.records {
			r.Attrs(func(a slog.Attr) bool {
				if strings.Contains(a.Value.String(), "secret") {
					t.Errorf("the log repeats what was sent: %v", a)
				}
				return true
			})
		}
	})
}

// TestStatsCountTimeouts runs into each limit of time, wherever it can be met,
// and finds it counted once and under its own name.
func TestStatsCountTimeouts(t *testing.T) {
	const limit = 300 * time.Millisecond
	long := patience
	big := strings.Repeat("x", 48<<10)
	handlers := routes{
		"/":       textHandler("fine"),
		"/queued": Inline(textHandler(big)),
		"/read": HandlerFunc(func(w *ResponseWriter, r *Request) error {
			_, err := io.Copy(io.Discard, r.Body())
			return err
		}),
		"/write": HandlerFunc(func(w *ResponseWriter, r *Request) error {
			_, err := w.Write(make([]byte, 32<<20))
			return err
		}),
	}
	for _, row := range []struct {
		name   string
		server *Server
		input  string
		fill   bool
		status int // of the answer, 0: none
		want   func(*Stats) *uint64
	}{
		{"idle, new", &Server{IdleTimeout: limit}, "", false, 0, timeoutsIdle},
		{"idle", &Server{IdleTimeout: limit}, request("/"), false, 200, timeoutsIdle},
		{"head", &Server{HeadTimeout: limit}, "GET / HT", false, 408, timeoutsHead},
		{"body awaited", &Server{BodyTimeout: limit}, head("POST / HTTP/1.1", "Content-Length: 5") + "he", false, 408, timeoutsBody},
		{"body read", &Server{BodyTimeout: limit}, head("POST /read HTTP/1.1", "Transfer-Encoding: chunked") + "5\r\nhe", false, 408, timeoutsBody},
		{"body expected", &Server{BodyTimeout: limit}, head("POST /read HTTP/1.1", "Content-Length: 5", "Expect: 100-continue"), false, 408, timeoutsBody},
		{"queued answer", &Server{WriteTimeout: limit}, request("/queued"), true, 0, timeoutsWrite},
		{"writing handler", &Server{WriteTimeout: limit}, request("/write"), false, 0, timeoutsWrite},
		{"linger", &Server{}, "bad\r\n", false, 400, timeoutsLinger},
	} {
		t.Run(row.name, func(t *testing.T) {
			t.Parallel()
			s := row.server
			for _, d := range []*time.Duration{&s.IdleTimeout, &s.HeadTimeout, &s.BodyTimeout, &s.WriteTimeout} {
				if *d == 0 {
					*d = long
				}
			}
			s.Logger, s.Handler = quietLogger(), handlers
			c := dialRaw(t, startServer(t, s))
			if row.fill {
				c.fill(s, row.input)
			} else {
				c.send(row.input)
			}
			if row.status != 0 {
				br := c.br
				a, err := readAnswer(br, "GET")
				for err == nil && a.StatusCode == 100 {
					a, err = readAnswer(br, "GET")
				}
				if err != nil || a.StatusCode != row.status {
					t.Fatalf("answer %v, %v; want %d", a.Response, err, row.status)
				}
			}
			if row.input != "bad\r\n" && row.status == 408 {
				c.Close() // before the lingering is over
			}
			none := new(Stats).Timeouts
			eventually(t, "the count", func() bool { return s.Stats().Timeouts != none })
			gone(t, s)
			var want Stats
			*row.want(&want) = 1
			if got := s.Stats().Timeouts; got != want.Timeouts {
				t.Errorf("%+v, want %+v", got, want.Timeouts)
			}
		})
	}
}

// TestDrainDelay has idle connections that send one more request while the
// server is about to end, and others that do not.
func TestDrainDelay(t *testing.T) {
	t.Run("one request each", func(t *testing.T) {
		s := &Server{Loops: 2, DrainDelay: patience, Handler: textHandler("fine")}
		addr := startServer(t, s)
		var clients []*rawClient
		for i := range 5 {
			c := dialRaw(t, addr)
			if i > 0 { // the first has not sent anything yet
				c.get("/").want(t, 200, "fine")
			}
			clients = append(clients, c)
		}
		eventually(t, "all connections", func() bool { return s.conns.Load() == int64(len(clients)) })
		ended := make(chan error, 1)
		go func() { ended <- s.Shutdown(context.Background()) }()
		eventually(t, "the beginning of the end", func() bool {
			c, err := net.Dial("tcp", addr)
			if err == nil {
				c.Close()
			}
			return errors.Is(err, syscall.ECONNREFUSED)
		})
		for _, c := range clients {
			a := c.get("/")
			a.want(t, 200, "fine")
			if !a.Close {
				t.Error("the last answer does not say so")
			}
			c.ended()
			c.Close()
		}
		if err := <-ended; err != nil {
			t.Errorf("Shutdown: %v", err)
		}
	})
	t.Run("silence", func(t *testing.T) {
		const delay = 100 * time.Millisecond
		s := &Server{Loops: 2, DrainDelay: delay, Handler: textHandler("fine")}
		addr := startServer(t, s)
		c := dialRaw(t, addr)
		c.get("/").want(t, 200, "fine")
		began := time.Now()
		if err := s.Shutdown(context.Background()); err != nil {
			t.Errorf("Shutdown: %v", err)
		}
		if took := time.Since(began); took < delay || took > patience/2 {
			t.Errorf("ended after %v, DrainDelay is %v", took, delay)
		}
		c.ended()
	})
	t.Run("none", func(t *testing.T) {
		s := &Server{Loops: 2, Handler: textHandler("fine")}
		addr := startServer(t, s)
		c := dialRaw(t, addr)
		c.get("/").want(t, 200, "fine")
		if err := s.Shutdown(context.Background()); err != nil {
			t.Errorf("Shutdown: %v", err)
		}
		c.ended()
	})
}
