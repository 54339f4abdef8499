package flare

import (
	"fmt"
	"io"
	"net/http"
	"strings"
	"sync/atomic"
	"testing"
	"time"
)

// This file has peers of HTTP/2 that make a server wait: windows that stay
// shut, bodies that do not come, and connections on which nothing happens. Each
// stream has the limits of time that a connection of HTTP/1.1 has, and what
// shares the connection with one that runs into them is not disturbed.

// slowLimit is short, and long enough for the answers beside what is slow.
const slowLimit = 400 * time.Millisecond

// A slowServer says how its handlers end.
type slowServer struct {
	*http2Target
	ended chan error // of /endless and /read
}

func newSlowServer(t testing.TB, set func(*Server)) *slowServer {
	s := &slowServer{ended: make(chan error, 1000)}
	srv := &Server{
		Handler: routes{
			"/good": textHandler("fine"),
			"/bytes": HandlerFunc(func(w *ResponseWriter, r *Request) error {
				return w.Blob(200, "x/y", make([]byte, 100_000))
			}),
			"/endless": HandlerFunc(func(w *ResponseWriter, r *Request) error {
				for {
					if _, err := w.Write(make([]byte, 16<<10)); err != nil {
						s.ended <- err
						return err
					}
				}
			}),
			"/read": HandlerFunc(func(w *ResponseWriter, r *Request) error {
				_, err := io.Copy(io.Discard, r.Body())
				s.ended <- err
				if err != nil {
					return err
				}
				return w.Text(200, "read")
			}),
		},
	}
	set(srv)
	s.http2Target = startHTTP2(t, srv)
	return s
}

// endedIn fails the test unless n handlers have failed, none of them earlier
// than after least.
func (s *slowServer) endedIn(t testing.TB, n int, began time.Time, least time.Duration) {
	t.Helper()
	for range n {
		select {
		case err := <-s.ended:
			if took := time.Since(began); err == nil || took < least {
				t.Errorf("a handler ended after %v with %v", took, err)
			}
		case <-time.After(patience):
			t.Fatal("a handler still waits")
		}
	}
}

// A window that is opened octet by octet is a client that reads too slowly.
func TestHTTP2DataDribble(t *testing.T) {
	t.Parallel()
	s := newSlowServer(t, func(s *Server) { s.MinWriteRate = 1000 })
	p := s.dial(t, http2Setting{settingWindow, 1})
	p.readUntil("SETTINGS", func() bool { return p.greeted && len(p.pending) == 0 })
	p.manual = true
	began := time.Now()
	stream := p.start("/endless")
	a := p.streams[stream]
	for !a.done() {
		size := a.size
		p.readUntil("an octet", func() bool { return a.done() || a.size > size })
		if !a.done() {
			p.credit(stream, 1)
			time.Sleep(20 * time.Millisecond) // the client's pace
		}
	}
	if took := time.Since(began); took < rateGrace-tick || !a.reset {
		t.Errorf("after %v: %v", took, a)
	}
	s.endedIn(t, 1, began, rateGrace-tick)
	p.credit(0, 1000)
	stream = p.start("/good")
	p.credit(stream, 1000)
	p.answer(stream).want(t, 200, "fine")
}

// Without room in the connection's window nobody gets anything, and no handler
// waits for ever.
func TestHTTP2ZeroWindowOfAll(t *testing.T) {
	t.Parallel()
	s := newSlowServer(t, func(s *Server) { s.WriteTimeout = slowLimit })
	p := s.dial(t)
	p.manual = true
	began := time.Now()
	for range 100 {
		p.start("/endless")
	}
	s.endedIn(t, 100, began, slowLimit-tick)
}

// A client that does not read its socket is cut, with all of its streams.
func TestHTTP2SocketUnread(t *testing.T) {
	t.Parallel()
	s := newSlowServer(t, func(s *Server) { s.WriteTimeout = slowLimit })
	p := s.dial(t, http2Setting{settingWindow, streamMax})
	p.credit(0, 1<<30)
	began := time.Now()
	for range 20 {
		p.start("/endless")
	}
	s.endedIn(t, 20, began, slowLimit-tick)
	gone(t, s.Server)
}

// Bodies that do not come end in 408 each, and what is beside them is answered.
func TestHTTP2HalfOpenStreams(t *testing.T) {
	t.Parallel()
	s := newSlowServer(t, func(s *Server) { s.BodyTimeout = slowLimit })
	p := s.dial(t)
	began := time.Now()
	var open []uint32
	for i := range 100 {
		lines := []string{}
		if i%2 == 0 {
			lines = append(lines, "content-length: 100")
		}
		open = append(open, p.open(false, requestLines("POST", "/read", lines...)...))
		p.data(open[i], []byte("x")[:i%3/2], false)
	}
	for range 20 {
		p.get("/good").want(t, 200, "fine")
	}
	for _, stream := range open {
		if a := p.answer(stream); a.status != http.StatusRequestTimeout || !a.ended {
			t.Fatalf("%v", a)
		}
	}
	if took := time.Since(began); took < slowLimit-tick {
		t.Errorf("after %v", took)
	}
	// The slots are free again.
	for range 100 {
		open = append(open, p.open(false, requestLines("POST", "/read")...))
	}
	for _, stream := range open[100:] {
		p.data(stream, []byte("body"), true)
	}
	for _, stream := range open[100:] {
		p.answer(stream).want(t, 200, "read")
	}
}

// A body that trickles is refused for its rate.
func TestHTTP2TrickledBody(t *testing.T) {
	t.Parallel()
	s := newSlowServer(t, func(s *Server) { s.MinBodyRate = 1000 })
	p := s.dial(t)
	began := time.Now()
	streams := []uint32{
		p.open(false, requestLines("POST", "/read")...),
		p.open(false, requestLines("POST", "/read", "content-length: 50000")...),
	}
	every := time.NewTicker(20 * time.Millisecond)
	defer every.Stop()
	for _, stream := range streams {
		for a := p.streams[stream]; !a.done(); <-every.C {
			for _, stream := range streams {
				if !p.streams[stream].done() {
					p.data(stream, []byte("x"), false)
				}
			}
			p.get("/good").want(t, 200, "fine")
		}
		if a := p.streams[stream]; a.status != http.StatusRequestTimeout || time.Since(began) < rateGrace-tick {
			t.Errorf("after %v: %v", time.Since(began), a)
		}
	}
}

// A connection without streams ends in order when it has been idle for too
// long, and not before.
func TestHTTP2IdleTimeout(t *testing.T) {
	t.Parallel()
	const limit = 4 * slowLimit // not between two requests of a busy machine
	s := newSlowServer(t, func(s *Server) { s.IdleTimeout = limit })
	for _, requests := range []int{0, 1, 40} {
		t.Run(fmt.Sprint(requests), func(t *testing.T) {
			t.Parallel()
			idle := time.Now() // or later, but not for the server
			p := s.dial(t)
			for range requests {
				idle = time.Now()
				p.get("/good").want(t, 200, "fine")
			}
			p.failed(codeNone)
			if took := time.Since(idle); took < limit-2*tick || took > patience/2 {
				t.Errorf("closed after %v, the limit is %v", took, limit)
			}
			if last := p.goAway[len(p.goAway)-1].last; last != uint32(2*requests)-uint32(min(requests, 1)) {
				t.Errorf("GOAWAY after stream %d of %d", last, requests)
			}
		})
	}
}

// A connection with streams is not idle, however long nothing is said on it;
// but a client that does not answer a PING is gone.
func TestHTTP2PingsTheSilent(t *testing.T) {
	t.Parallel()
	var leave atomic.Int32
	s := newSlowServer(t, func(s *Server) {
		s.IdleTimeout = slowLimit
		s.HTTP2 = &http.HTTP2Config{SendPingTimeout: slowLimit, PingTimeout: slowLimit}
		s.Handler = HandlerFunc(func(w *ResponseWriter, r *Request) error {
			<-r.Context().Done()
			leave.Add(1)
			return nil
		})
	})
	p := s.dial(t)
	p.start("/")
	began := time.Now()
	pings := func() int { return p.frames[framePing] }
	p.readUntil("three PINGs", func() bool { return pings() == 3 })
	if took := time.Since(began); took < 3*slowLimit-3*tick {
		t.Errorf("three PINGs in %v", took)
	}
	if leave.Load() > 0 {
		t.Error("the handler of a living client was told to leave")
	}
	p.manual = true // from now on it is silent
	began = time.Now()
	p.toEnd()
	if took := time.Since(began); took < slowLimit-2*tick {
		t.Errorf("given up after %v", took)
	}
	eventually(t, "the end of the handler", func() bool { return leave.Load() == 1 })
	gone(t, s.Server)
}

// A takingTransport is one whose peer has octets to take.
type takingTransport struct {
	transport
	left int
}

func (t *takingTransport) unacked() int { return t.left }

// The PING stands behind what a slow client has yet to take: while that goes on it
// is alive.
func TestHTTP2PingBehindOctets(t *testing.T) {
	t.Parallel()
	const every, limit = time.Second, 5 * time.Second
	g, tr := new(workset), &takingTransport{left: 1000}
	c := &Conn{tr: tr, loop: new(Loop), limits: &connLimits{buffered: new(bufferCount)}}
	h := &http2Conn{c: c, srv: &Server{http2: http2Config{pingAfter: every, pingTimeout: limit}}, open: 1}
	h.taking.untaken = int64(tr.left)
	look := func(moved int64) {
		g.clock.now += every
		h.taking.sent += moved
		h.lookAlive(c, g, h.taking.look(h))
	}
	for range 20 { // it takes, and nothing comes behind
		tr.left -= 10
		look(0)
	}
	for range 20 { // or as much
		look(10)
	}
	if c.ending != endNot || h.control.len() == 0 {
		t.Fatalf("ending %v, %d octets of PINGs", c.ending, h.control.len())
	}
	for range limit/every - 1 {
		tr.left += 10 // it takes none of what comes
		look(10)
	}
	if c.ending != endNot {
		t.Fatal("given up early")
	}
	if look(0); c.ending == endNot {
		t.Fatal("who takes nothing and says nothing is not given up")
	}
}

// A response that has stood behind what the peer took of others, however long that
// was, is not late: neither when it is its turn, nor when its window shuts then.
func TestHTTP2LooksAtWhoIsToBlame(t *testing.T) {
	t.Parallel()
	g := new(workset)
	limits := &connLimits{buffered: new(bufferCount), write: 30 * time.Second, writeRate: 240}
	c := &Conn{limits: limits, loop: &Loop{workset: g}, out: new(unsent)}
	h := &http2Conn{c: c, srv: &Server{http2: http2Config{lookEvery: time.Second}}, sendWindow: windowDefault}
	look := func(seconds int) {
		for range seconds {
			g.clock.now += time.Second
			h.lookAll(g)
		}
	}
	head, body := h.newStream(1), h.newStream(3)
	for _, s := range []*http2Stream{head, body} {
		s.sendWindow, s.progress, s.since = windowDefault, time.Second, time.Second
		s.x = g.newHTTP2Exchange()
		s.x.tail = []byte("some more")
		h.add(s)
	}
	h.heads.push(head)
	body.headSent = true
	h.ready.insert(body)
	look(100)
	c.out = nil // the peer has taken it
	look(1)
	h.heads.remove(head)
	h.ready.remove(body)
	head.sendWindow, body.sendWindow = 0, 0
	look(3)
	if h.table.count != 2 {
		t.Fatalf("%d of 2 are left", h.table.count)
	}
	if look(60); h.table.count > 0 { // this it is to blame for
		t.Fatalf("%d are not reset", h.table.count)
	}
}

// A slowTransport is one whose peer has little room.
type slowTransport struct {
	takingTransport
	memoryBase
}

func (t *slowTransport) send(a, b []byte) (int, error) {
	n := min(len(a), 1000-t.left)
	if t.left += n; n == 0 {
		return 0, errWouldBlock
	}
	return n, nil
}
func (t *slowTransport) unacked() int { return t.left }

// What a client cannot know yet, since it is taking what was said before, it is not to
// blame for: that it may send the rest of a body, and that it is to open a window.
func TestHTTP2SilenceOfTheServer(t *testing.T) {
	t.Parallel()
	g, tr := new(workset), new(slowTransport)
	limits := &connLimits{buffered: new(bufferCount), body: 30 * time.Second, write: 30 * time.Second, writeRate: 240}
	c := &Conn{tr: tr, limits: limits, loop: &Loop{workset: g}}
	srv := &Server{http2: http2Config{lookEvery: time.Second, connWindow: 1 << 20, streamWindow: 1 << 20}}
	h := &http2Conn{c: c, srv: srv, sendWindow: streamMax, peer: defaultHTTP2Settings}
	c.proto = h
	h.enc.reset()
	look := func(seconds int) {
		for range seconds {
			g.clock.now += time.Second
			for tr.left = max(tr.left-300, 0); c.out != nil && tr.left < 1000; {
				c.sendQueued(g)
			}
			if c.out == nil {
				h.flush(c, g)
			}
			h.lookAll(g)
		}
	}
	add := func(id uint32, body int) *http2Stream {
		s := h.newStream(id)
		h.add(s)
		if s.awaits = body == 0; !s.awaits {
			s.headSent, s.complete, s.x = true, true, g.newHTTP2Exchange()
			s.x.tail = make([]byte, body)
			h.ready.insert(s)
		}
		return s
	}
	add(1, 10_000).sendWindow = 1 << 20
	shut, body, open := add(3, 200), add(5, 0), add(7, 0)
	shut.sendWindow = 100
	h.flush(c, g) // the socket is full
	body.hasData, body.owed, body.consumed = true, 1<<19, 1<<19
	h.recvWindow = 1
	h.collect(body) // the windows say that it may go on
	if look(31); open.awaits || !body.awaits {
		t.Fatalf("is waited for: a body whose window is open %v, one whose window is not %v", open.awaits, body.awaits)
	}
	if h.table.find(3) == nil {
		t.Fatal("a stream is reset whose client does not know yet that its window is shut")
	}
	if look(5); h.table.find(3) == nil || !body.awaits {
		t.Fatalf("a client is not waited for when it knows: to open a window %v, to send %v", h.table.find(3) != nil, body.awaits)
	}
	if look(1000); body.awaits || h.table.find(3) != nil {
		t.Fatal("a client is waited for that knows for long")
	}
}

// MaxRequestsPerConn ends a connection by GOAWAY: what was asked is answered,
// and the connection closes when that is done.
func TestHTTP2MaxRequestsPerConn(t *testing.T) {
	t.Parallel()
	s := newSlowServer(t, func(s *Server) { s.MaxRequestsPerConn = 3 })
	p := s.dial(t)
	slow := p.open(false, requestLines("POST", "/read")...)
	p.get("/good").want(t, 200, "fine")
	p.get("/good").want(t, 200, "fine")
	p.readUntil("GOAWAY", func() bool { return len(p.goAway) > 0 })
	p.data(slow, []byte(strings.Repeat("x", 300_000)), true)
	p.answer(slow).want(t, 200, "read")
	p.failed(codeNone)
	if last := p.goAway[len(p.goAway)-1].last; last != 5 {
		t.Errorf("GOAWAY after stream %d", last)
	}
}
