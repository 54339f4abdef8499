package flare

import (
	"context"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"net/http"
	"runtime"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"
)

// This file has the hazards of many streams on one connection, each by the name of
// what could go wrong.

// startHTTP2Server starts s, which takes HTTP/2 without TLS too.
func startHTTP2Server(t testing.TB, s *Server) (addr string) {
	if s.Protocols == nil {
		s.Protocols = new(http.Protocols)
		s.Protocols.SetHTTP1(true)
		s.Protocols.SetUnencryptedHTTP2(true)
	}
	if s.Logger == nil {
		s.Logger = quietLogger()
	}
	return startServer(t, s)
}

// overBoth runs a test without TLS and with it.
func overBoth(t *testing.T, make func() *Server, test func(t *testing.T, s *Server, dial func(settings ...http2Setting) *http2Peer)) {
	t.Run("cleartext", func(t *testing.T) {
		s := make()
		addr := startHTTP2Server(t, s)
		test(t, s, func(settings ...http2Setting) *http2Peer { return dialHTTP2(t, addr, settings...) })
	})
	t.Run("TLS", func(t *testing.T) {
		s := make()
		s.Logger = quietLogger()
		addr := startTLSServer(t, s)
		test(t, s, func(settings ...http2Setting) *http2Peer { return dialHTTP2TLS(t, addr, settings...) })
	})
}

// One of a hundred streams of a round sleeps on the loop itself: the others do not
// wait for it.
func TestHTTP2SleeperDelaysNobody(t *testing.T) {
	t.Parallel()
	leave := make(chan struct{})
	overBoth(t, func() *Server {
		return &Server{Loops: 1, Handler: Inline(HandlerFunc(func(w *ResponseWriter, r *Request) error {
			if r.Path() == "/sleep" {
				<-leave
			}
			return w.Text(200, r.Path())
		}))}
	}, func(t *testing.T, s *Server, dial func(...http2Setting) *http2Peer) {
		p := dial()
		p.get("/").want(t, 200, "/")
		var b []byte
		var streams []uint32
		for i := range 100 {
			path := fmt.Sprint("/", i)
			if i == 37 {
				path = "/sleep"
			}
			head, id := p.head(true, requestLines("GET", path)...)
			b = append(b, head...)
			streams = append(streams, id)
		}
		p.send(b)
		for i, id := range streams {
			if i != 37 {
				p.answer(id).want(t, 200, fmt.Sprint("/", i))
			}
		}
		if p.streams[streams[37]].done() {
			t.Error("the sleeper has answered")
		}
		leave <- struct{}{}
		p.answer(streams[37]).want(t, 200, "/sleep")
	})
}

// A monitor that finds the loop reading frames at two ticks has nothing to steal.
func TestHTTP2ParseIsNotStolen(t *testing.T) {
	s := &Server{Loops: 1, Handler: Inline(HandlerFunc(func(w *ResponseWriter, r *Request) error { return w.Text(200, "x") }))}
	p := dialHTTP2(t, startHTTP2Server(t, s))
	p.get("/")
	l := s.loops[0]
	looked := make(chan bool)
	replaced := make(chan bool)
	l.call(func() {
		for fd := -len(l.plain); fd < len(l.conns); fd++ {
			if c := l.connAt(fd); c != nil {
				c.proto = &slowMultiplexer{multiplexer: c.proto.(multiplexer), looked: looked}
			}
		}
		close(replaced)
	})
	<-replaced
	before := s.Stats().Handlers
	p.start("/")
	<-looked
	after := s.Stats().Handlers
	if after.Steals != before.Steals || after.Passes != before.Passes {
		t.Errorf("%d steals and %d passes", after.Steals-before.Steals, after.Passes-before.Passes)
	}
}

type slowMultiplexer struct {
	multiplexer
	looked chan bool
}

func (m *slowMultiplexer) Data(c *Conn, in []byte, eof bool) (int, error) {
	if len(in) > 0 && m.looked != nil {
		time.Sleep(20 * time.Millisecond) // what is tried: a thread that has lost its processor
		close(m.looked)
		m.looked = nil
	}
	return m.multiplexer.Data(c, in, eof)
}

// Heads are encoded in one order whoever writes them: sixteen workers and handlers
// that are stolen while they commit, and clients that reset what they have asked
// for. The decoder of the test is in lockstep.
func TestHTTP2EncoderOrder(t *testing.T) {
	t.Parallel()
	overBoth(t, func() *Server {
		var n atomic.Uint64
		return &Server{Loops: 1, Handler: Offload(HandlerFunc(func(w *ResponseWriter, r *Request) error {
			k := n.Add(1)
			w.Header().Set("X-Number", r.Path())
			w.Header().Set("X-Repeats", fmt.Sprint(k%7))
			w.OnCommit(func(status int, h *Header, next io.WriteCloser) io.WriteCloser {
				if k%3 == 0 {
					time.Sleep(time.Duration(k%5) * time.Millisecond) // spreads the commits
				}
				return next
			})
			if k%4 == 0 {
				io.WriteString(w, "a")
				w.Flush()
				w.Header().Set("X-Number", "too late")
				io.WriteString(w, "b")
				return nil
			}
			return w.Text(200, "ab")
		}))}
	}, func(t *testing.T, s *Server, dial func(...http2Setting) *http2Peer) {
		p := dial()
		random := rand.New(rand.NewPCG(1, 2))
		for range 60 {
			var streams []uint32
			for i := range 16 {
				streams = append(streams, p.start(fmt.Sprint("/", i)))
			}
			for i, id := range streams {
				if random.IntN(8) == 0 {
					p.reset(id, codeCancel)
					continue
				}
				a := p.answer(id)
				a.want(t, 200, "ab")
				if got := a.fields.Get("x-number"); got != fmt.Sprint("/", i) {
					t.Fatalf("%v: X-Number %q", a, got)
				}
			}
			p.sync()
		}
	})
}

// A handler on the loop is taken away from it in the middle of its commit.
func TestHTTP2StealInCommit(t *testing.T) {
	t.Parallel()
	s := &Server{Loops: 1, Handler: Inline(HandlerFunc(func(w *ResponseWriter, r *Request) error {
		w.OnCommit(func(status int, h *Header, next io.WriteCloser) io.WriteCloser {
			if r.Path() == "/slow" {
				time.Sleep(5 * tick) // a handler that the monitor sees twice
			}
			h.Set("X-Path", r.Path())
			return next
		})
		return w.Text(200, r.Path())
	}))}
	p := dialHTTP2(t, startHTTP2Server(t, s))
	for range 10 {
		var streams []uint32
		for _, path := range []string{"/1", "/slow", "/2", "/slow", "/3"} {
			streams = append(streams, p.start(path))
		}
		for i, path := range []string{"/1", "/slow", "/2", "/slow", "/3"} {
			a := p.answer(streams[i])
			a.want(t, 200, path)
			if got := a.fields.Get("x-path"); got != path {
				t.Fatalf("X-Path %q of %s", got, path)
			}
		}
	}
	if n := s.Stats().Handlers.Steals; n == 0 {
		t.Error("nothing was stolen")
	}
}

// Handlers that read and write at once, each its own octets.
func TestHTTP2DuplexEcho(t *testing.T) {
	t.Parallel()
	overBoth(t, func() *Server {
		return &Server{Loops: 2, MaxBodyBytes: -1, Handler: HandlerFunc(func(w *ResponseWriter, r *Request) error {
			w.Flush()
			_, err := io.Copy(struct{ io.Writer }{w}, r.Body())
			return err
		})}
	}, func(t *testing.T, s *Server, dial func(...http2Setting) *http2Peer) {
		p := dial()
		const streams, pieces = 8, 40
		var ids []uint32
		for range streams {
			ids = append(ids, p.open(false, requestLines("POST", "/")...))
		}
		want := make(map[uint32]string)
		for i := range pieces {
			for _, id := range ids {
				piece := strings.Repeat(string(rune('a'+id%26)), 100+i*37)
				want[id] += piece
				p.data(id, []byte(piece), i == pieces-1)
			}
		}
		for _, id := range ids {
			p.answer(id).want(t, 200, want[id])
		}
	})
}

// Many uploads at once are right to the octet, with a client that opens the windows
// of the answers by an octet now and then.
func TestHTTP2UploadsAtOnce(t *testing.T) {
	t.Parallel()
	size := int64(4 << 20)
	if raceEnabled {
		size = 1 << 20
	}
	s := &Server{Loops: 2, MaxBodyBytes: -1, Handler: HandlerFunc(func(w *ResponseWriter, r *Request) error {
		var sum, n int64
		p := make([]byte, 4096)
		for {
			k, err := r.Body().Read(p)
			for _, c := range p[:k] {
				sum += int64(c)
			}
			if n += int64(k); err == io.EOF {
				return w.Text(200, fmt.Sprint(n, " ", sum))
			} else if err != nil {
				return err
			}
		}
	})}
	addr := startHTTP2Server(t, s)
	tr := &http.Transport{Protocols: new(http.Protocols)}
	tr.Protocols.SetUnencryptedHTTP2(true)
	defer tr.CloseIdleConnections()
	var all sync.WaitGroup
	for i := range 16 {
		all.Go(func() {
			body := io.LimitReader(repeating(byte(i+1)), size)
			resp, err := (&http.Client{Transport: tr}).Post("http://"+addr+"/", "text/plain", body)
			if err != nil {
				t.Error(err)
				return
			}
			defer resp.Body.Close()
			got, _ := io.ReadAll(resp.Body)
			if want := fmt.Sprint(size, " ", size*int64(i+1)); string(got) != want {
				t.Errorf("got %s, want %s", got, want)
			}
		})
	}
	all.Wait()
}

// repeating is a reader of one octet, again and again.
type repeating byte

func (r repeating) Read(p []byte) (int, error) {
	for i := range p {
		p[i] = byte(r)
	}
	return len(p), nil
}

// Window updates of one octet get a response through, if slowly.
func TestHTTP2OctetByOctet(t *testing.T) {
	t.Parallel()
	s := &Server{Loops: 1, MinWriteRate: -1, Handler: HandlerFunc(func(w *ResponseWriter, r *Request) error {
		return w.Text(200, strings.Repeat("o", 300))
	})}
	p := dialHTTP2(t, startHTTP2Server(t, s), http2Setting{settingWindow, 0})
	p.manual = true
	p.readUntil("SETTINGS", func() bool { return p.greeted && len(p.pending) == 0 })
	id := p.start("/")
	for p.streams[id].size < 300 {
		p.credit(id, 1)
		size := p.streams[id].size
		p.readUntil("an octet", func() bool { return p.streams[id].size > size })
	}
	p.answer(id).want(t, 200, strings.Repeat("o", 300))
}

// A client that goes away leaves nothing behind: not its handlers, not its place.
func TestHTTP2ClientGone(t *testing.T) {
	t.Parallel()
	var running atomic.Int32
	overBoth(t, func() *Server {
		return &Server{Loops: 1, MaxConns: 1, Handler: HandlerFunc(func(w *ResponseWriter, r *Request) error {
			running.Add(1)
			defer running.Add(-1)
			switch r.Path() {
			case "/read":
				_, err := r.Bytes()
				return err
			case "/write":
				for {
					if _, err := w.Write(make([]byte, 8<<10)); err != nil {
						return err
					}
				}
			case "/wait":
				<-r.Context().Done()
				if err := context.Cause(r.Context()); !errors.Is(err, ErrClosed) {
					t.Errorf("ended by %v", err)
				}
				return r.Context().Err()
			}
			return w.Text(200, "ok")
		})}
	}, func(t *testing.T, s *Server, dial func(...http2Setting) *http2Peer) {
		for range 3 {
			p := dial()
			for range 10 {
				p.open(false, requestLines("POST", "/read")...)
				p.start("/write")
				p.start("/wait")
			}
			p.sync()
			p.nc.Close()
			gone(t, s)
			if n := running.Load(); n != 0 {
				t.Errorf("the connection is gone, and %d handlers run", n)
			}
		}
		dial().get("/").want(t, 200, "ok")
	})
}

// Close ends the contexts of handlers and waits for none of them; they come back to
// a loop that is dead.
func TestHTTP2CloseWithSleepers(t *testing.T) {
	t.Parallel()
	var asleep, ended sync.WaitGroup
	leave := make(chan struct{})
	s := &Server{Loops: 1, Handler: HandlerFunc(func(w *ResponseWriter, r *Request) error {
		defer ended.Done()
		asleep.Done()
		<-r.Context().Done()
		if cause := context.Cause(r.Context()); cause != ErrServerClosed {
			t.Errorf("ended by %v", cause)
		}
		<-leave
		return w.Text(200, "late")
	})}
	p := dialHTTP2(t, startHTTP2Server(t, s))
	asleep.Add(100)
	ended.Add(100)
	for range 100 {
		p.start("/")
	}
	asleep.Wait()
	if err := s.Close(); err != nil {
		t.Error(err)
	}
	if n := s.Stats().Connections.Open; n != 1 {
		t.Errorf("%d connections while handlers have one", n)
	}
	close(leave)
	ended.Wait()
	gone(t, s)
}

// Requests that race Shutdown are answered, or the client learns that nobody has
// looked at them.
func TestHTTP2ShutdownRace(t *testing.T) {
	t.Parallel()
	overBoth(t, func() *Server {
		return &Server{Loops: 1, Handler: HandlerFunc(func(w *ResponseWriter, r *Request) error { return w.Text(200, "ok") })}
	}, func(t *testing.T, s *Server, dial func(...http2Setting) *http2Peer) {
		p := dial()
		p.get("/").want(t, 200, "ok")
		ended := make(chan error, 1)
		var streams []uint32
		for i := range 200 {
			if i == 20 {
				go func() { ended <- s.Shutdown(context.Background()) }()
			}
			b, id := p.head(true, requestLines("GET", "/")...)
			if p.write(b) != nil {
				break
			}
			streams = append(streams, id)
			time.Sleep(50 * time.Microsecond) // spreads the requests
		}
		p.toEnd()
		if len(p.goAway) < 2 || p.goAway[0].last != streamMax || p.goAway[0].code != codeNone {
			t.Fatalf("GOAWAY %v", p.goAway)
		}
		last := p.goAway[len(p.goAway)-1].last
		for _, id := range streams {
			if a := p.streams[id]; id <= last {
				a.want(t, 200, "ok")
			} else if a.status != 0 {
				t.Errorf("%v is behind the last one, %d", a, last)
			}
		}
		if err := <-ended; err != nil {
			t.Error(err)
		}
	})
}

// A handler that panics, ends its goroutine, or says less than it has declared ends
// its own stream.
func TestHTTP2FailuresStayApart(t *testing.T) {
	t.Parallel()
	overBoth(t, func() *Server {
		return &Server{Loops: 1, Handler: HandlerFunc(func(w *ResponseWriter, r *Request) error {
			switch r.Path() {
			case "/panic":
				panic("on purpose")
			case "/abort":
				panic(http.ErrAbortHandler)
			case "/goexit":
				runtime.Goexit()
			case "/late-panic":
				w.Write([]byte("part"))
				w.Flush()
				panic("on purpose")
			case "/late-goexit":
				w.Write([]byte("part"))
				w.Flush()
				runtime.Goexit()
			case "/short":
				w.Header().Set("Content-Length", "10")
				w.Write([]byte("part"))
				return nil
			}
			return w.Text(200, "ok")
		})}
	}, func(t *testing.T, s *Server, dial func(...http2Setting) *http2Peer) {
		p := dial()
		for range 10 {
			neighbour := p.open(false, requestLines("POST", "/neighbour")...)
			p.get("/panic").want(t, 500, "Internal Server Error\n")
			p.get("/abort").wantReset(t, codeInternal)
			p.get("/goexit").wantReset(t, codeInternal)
			for _, path := range []string{"/late-panic", "/short"} {
				if a := p.get(path); a.status != 200 || string(a.body) != "part" || !a.reset || a.code != codeInternal {
					t.Errorf("%s: %v", path, a)
				}
			}
			if a := p.get("/late-goexit"); a.status != 200 || !a.reset || a.code != codeInternal {
				t.Errorf("/late-goexit: %v", a)
			}
			p.data(neighbour, []byte("x"), true)
			p.answer(neighbour).want(t, 200, "ok")
		}
	})
}

// A hundred uploads that trickle are ended by one timer.
func TestHTTP2TricklingUploads(t *testing.T) {
	t.Parallel()
	s := &Server{Loops: 1, BodyTimeout: 300 * time.Millisecond, Handler: HandlerFunc(func(w *ResponseWriter, r *Request) error {
		if _, err := r.Bytes(); err != nil {
			return err
		}
		return w.Text(200, "ok")
	})}
	p := dialHTTP2(t, startHTTP2Server(t, s))
	var streams []uint32
	for i := range 100 {
		length := "10"
		if i%2 == 0 {
			length = "100000" // such a body is not awaited before its handler runs
		}
		id := p.open(false, requestLines("POST", "/", "content-length: "+length)...)
		p.data(id, []byte("x"), false)
		streams = append(streams, id)
	}
	for _, id := range streams {
		if a := p.answer(id); a.status != 408 {
			t.Fatalf("%v", a)
		}
	}
	p.get("/").want(t, 200, "ok")
	if n := s.Stats().Timeouts.Body; n != 100 {
		t.Errorf("%d timeouts of bodies", n)
	}
}

// A client that takes nothing of one response loses that one.
func TestHTTP2ZeroWindowOfOne(t *testing.T) {
	t.Parallel()
	s := &Server{Loops: 1, WriteTimeout: 300 * time.Millisecond, Handler: HandlerFunc(func(w *ResponseWriter, r *Request) error {
		return w.Text(200, strings.Repeat("x", 30<<10))
	})}
	p := dialHTTP2(t, startHTTP2Server(t, s), http2Setting{settingWindow, 0})
	p.manual = true
	p.readUntil("SETTINGS", func() bool { return p.greeted && len(p.pending) == 0 })
	var streams []uint32
	for range 20 {
		streams = append(streams, p.start("/"))
	}
	p.credit(0, 1<<20)
	for _, id := range streams[1:] {
		p.credit(id, 30<<10)
	}
	for _, id := range streams[1:] {
		p.answer(id).want(t, 200, strings.Repeat("x", 30<<10))
	}
	if a := p.answer(streams[0]); a.status != 200 || !a.reset || a.code != codeCancel || a.size != 0 {
		t.Errorf("%v", a)
	}
	if n := s.Stats().Timeouts.Write; n != 1 {
		t.Errorf("%d timeouts of writes", n)
	}
}

// A response that waits for its turn behind another has its time when that comes:
// its peer takes all that the connection's window lets through, at a steady pace.
func TestHTTP2WaitsForItsTurn(t *testing.T) {
	t.Parallel()
	if raceEnabled {
		t.Skip("the race detector stops the client for longer than a response may wait")
	}
	const size = 300 << 10
	body := strings.Repeat("x", size)
	s := &Server{Loops: 1, WriteTimeout: 2 * time.Second, MinWriteRate: -1, Handler: HandlerFunc(func(w *ResponseWriter, r *Request) error {
		if r.Path() == "/streamed" {
			_, err := io.WriteString(w, body) // the handler waits for room
			return err
		}
		return w.Text(200, body) // it has returned long before
	})}
	p := dialHTTP2(t, startHTTP2Server(t, s), http2Setting{settingWindow, 1 << 20})
	p.manual = true
	p.readUntil("SETTINGS", func() bool { return p.greeted && len(p.pending) == 0 })
	streams := []uint32{p.start("/"), p.start("/"), p.start("/streamed")}
	const piece = 8 << 10
	got := func() (n int64) {
		for _, id := range streams {
			n += p.streams[id].size
		}
		return n
	}
	done := func() bool {
		for _, id := range streams {
			if !p.streams[id].ended && !p.streams[id].reset {
				return false
			}
		}
		return true
	}
	p.readUntil("the first window", func() bool { return got() >= windowDefault })
	began, paused := time.Now(), false
	for want := got() + piece; !done(); want += piece {
		time.Sleep(20 * time.Millisecond) // the pace
		if !paused && time.Since(began) > s.WriteTimeout/2 {
			paused = true
			time.Sleep(s.WriteTimeout * 5 / 8) // less than the limit, over the moment when the others have waited for it
		}
		p.credit(0, piece)
		p.readUntil("a piece", func() bool { return got() >= want || done() })
	}
	for _, id := range streams {
		p.answer(id).want(t, 200, body)
	}
}

// Resets without end of a route that sleeps leave the windows as they were, and end
// the connection only of a client that answers nothing for them.
func TestHTTP2ResetsThenUpload(t *testing.T) {
	t.Parallel()
	leave := make(chan struct{})
	s := &Server{Loops: 1, HTTP2: &http.HTTP2Config{MaxConcurrentStreams: 4000}, Handler: HandlerFunc(func(w *ResponseWriter, r *Request) error {
		if r.Path() == "/sleep" {
			<-r.Context().Done()
			return nil
		}
		n, err := io.Copy(io.Discard, r.Body())
		if err != nil {
			return err
		}
		return w.Text(200, fmt.Sprint(n))
	})}
	defer close(leave)
	p := dialHTTP2(t, startHTTP2Server(t, s))
	p.get("/")
	for range 30 {
		for range 20 {
			id := p.open(false, requestLines("POST", "/sleep")...)
			p.data(id, make([]byte, 10_000), false)
			p.reset(id, codeCancel)
		}
		for range 21 { // each answer allows a reset
			p.get("/").want(t, 200, "0")
		}
	}
	if p.window < defaultHTTP2ConnWindow/2 {
		t.Errorf("the window is %d", p.window)
	}
	p.post("/", strings.Repeat("u", 3*defaultHTTP2ConnWindow)).want(t, 200, fmt.Sprint(3*defaultHTTP2ConnWindow))
}

// A flood of quick requests inline does not look like a slow loop.
func TestHTTP2FloodIsNoLag(t *testing.T) {
	s := &Server{Loops: 1, Handler: Inline(HandlerFunc(func(w *ResponseWriter, r *Request) error { return w.Text(200, "x") }))}
	addr := startHTTP2Server(t, s)
	p := dialHTTP2(t, addr)
	for range 50 {
		var b []byte
		var last uint32
		for range 100 {
			var head []byte
			head, last = p.head(true, requestLines("GET", "/")...)
			b = append(b, head...)
		}
		p.send(b)
		p.answer(last).want(t, 200, "x")
	}
	eventually(t, "the count of the last round", func() bool { return s.Stats().Requests == 5000 })
	st := s.Stats()
	if st.Handlers.Inline != 5000 || st.Responses.Class2xx != 5000 || st.Connections.Open != 1 {
		t.Errorf("%+v", st)
	}
}

// A connection that ends while a handler has not read its body, and one more that
// half-closes: what was asked completely is answered.
func TestHTTP2HalfClose(t *testing.T) {
	t.Parallel()
	s := &Server{Loops: 1, Handler: HandlerFunc(func(w *ResponseWriter, r *Request) error {
		if r.Path() == "/slow" {
			<-r.Context().Done() // the end of the input is seen
		}
		return w.Text(200, r.Path())
	})}
	p := dialHTTP2(t, startHTTP2Server(t, s))
	p.reset(p.start("/slow"), codeCancel)
	p.sync()
	quick, slow := p.start("/quick"), p.start("/slow")
	p.nc.(*net.TCPConn).CloseWrite()
	p.answer(quick).want(t, 200, "/quick")
	p.answer(slow).want(t, 200, "/slow")
	p.toEnd()
	gone(t, s)
	if st := s.Stats().HTTP2; st.ResetByPeer != 1 || st.ResetByServer != 0 || len(st.GoAways) != 0 {
		t.Errorf("%+v", st)
	}
}
