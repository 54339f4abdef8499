package flare

import (
	"crypto/tls"
	"errors"
	"net"
	"net/netip"
	"sync"
	"sync/atomic"
	"syscall"
	"time"
)

// This file is layer 4 (roles): what the plain driver (conn_plain.go) needs of
// a server: whoever accepts its connections, and loops on systems without a
// poller.

// loopPoller makes the poller of a loop when the server has no NewPoller. A
// system without one has loops for the plain driver alone. It is a variable so
// that the tests can run all of a server that way on any system.
var loopPoller = func() (Poller, error) {
	p, err := defaultPoller()
	if errors.Is(err, errors.ErrUnsupported) {
		return newWakePoller(), nil
	}
	return p, err
}

// A servedListener is a listener that Serve was called with.
type servedListener struct {
	net.Listener
	addr   net.Addr        // fixed
	limits *connLimits     // of its connections, with their base context; fixed
	plain  atomic.Bool     // a goroutine accepts from it; set under Server.mu
	paused atomic.Bool     // that goroutine waits for room
	raw    syscall.RawConn // for loops; set before they accept
}

// backlogTime is how long a listener of the plain driver is still asked for
// connections that wait there, once the server ends.
const backlogTime = tick

// end ends accepting. Connections that the kernel has accepted already are
// taken: a loop has a descriptor of its own to take them from.
func (ln *servedListener) end() {
	d, ok := ln.Listener.(interface{ SetDeadline(time.Time) error })
	if !ln.plain.Load() || !ok || d.SetDeadline(time.Now().Add(backlogTime)) != nil {
		ln.Listener.Close()
	}
}

// ending reports whether Shutdown or Close was called.
func (s *Server) ending() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.closed
}

// servePlainListener accepts connections for the plain driver.
func (s *Server) servePlainListener(ln *servedListener, settings *tlsSettings) error {
	s.mu.Lock()
	if s.closed {
		s.mu.Unlock()
		return ErrServerClosed
	}
	ln.plain.Store(true)
	s.acceptors.Add(1)
	s.mu.Unlock()
	defer s.acceptors.Add(-1)
	for left := acceptsAtEnd; left > 0; {
		if !s.awaitRoom(ln) {
			return ErrServerClosed
		}
		if s.ending() { // what waits still gets its place
			left--
			ln.end()
		}
		conn, err := ln.Accept()
		if err == nil {
			if !s.awaitRoom(ln) { // it may have filled up meanwhile
				(&greeting{conn: conn}).cut()
				return ErrServerClosed
			}
			s.servePlain(ln, conn, settings)
			continue
		}
		if s.ending() {
			return ErrServerClosed
		}
		// As in net/http: what passes is that the process has no descriptors.
		if t, ok := err.(interface{ Temporary() bool }); !ok || !t.Temporary() {
			return err
		}
		s.acceptShort(err)
		time.Sleep(acceptRetry)
	}
	return ErrServerClosed
}

// awaitRoom waits until the server takes another connection. False: it has
// ended.
func (s *Server) awaitRoom(ln *servedListener) bool {
	defer ln.paused.Store(false)
	for s.full() {
		ln.paused.Store(true)
		pause := acceptRetry
		if s.ending() {
			pause = acceptRetryAtEnd
		}
		select {
		case <-s.done:
			return false
		case <-time.After(pause):
		}
	}
	return true
}

// servePlain makes conn, accepted from ln, which is the server's from here on, a connection of
// the plain driver. settings is nil without TLS. Nothing of conn is called from
// the goroutine that accepts: it is the user's, and with a PROXY protocol even the
// peer's address is something that a client may be slow to send.
func (s *Server) servePlain(ln *servedListener, conn net.Conn, settings *tlsSettings) {
	s.conns.Add(1)
	if _, ok := conn.(*tls.Conn); ok && settings == nil {
		settings = s.foreignTLS()
	}
	g := &greeting{conn: conn, began: time.Now()}
	if limit := s.lim.conn.handshake; limit > 0 {
		g.timer = time.AfterFunc(limit, func() {
			g.late.Store(true)
			g.cut()
		})
	}
	if !s.greetings.add(g) {
		g.cut()
	}
	go s.beginPlain(ln, g, settings)
}

// beginPlain is servePlain once nobody has to wait for it.
func (s *Server) beginPlain(ln *servedListener, g *greeting, settings *tlsSettings) {
	var peer netip.AddrPort
	var header *ProxyHeader
	var err error
	ended := func() {
		s.greetings.remove(g)
		g.cut()
		s.conns.Add(-1)
	}
	p := guard(func() {
		if peer = addrPortOfNet(g.conn.RemoteAddr()); s.proxied(peer) {
			header, err = s.readGreeting(g)
		}
	}, ended)
	if p != nil || err != nil {
		if ended(); p != nil {
			logPanic(s.logger(), "flare: RemoteAddr panicked", p)
		}
		return
	}
	s.greetings.remove(g)
	c := s.admit(-1, header.clientOf(peer))
	if s.conns.Add(-1); c == nil {
		g.cut()
		return
	}
	c.onPlain(g.conn, settings)
	s.connBegins(ln, c, g.conn, header)
}

// readGreeting reads the header in front of g's connection, and waits for it.
func (s *Server) readGreeting(g *greeting) (*ProxyHeader, error) {
	under := g.conn
	if over, ok := under.(*tls.Conn); ok { // the header is in front of what it speaks
		under = over.NetConn()
	}
	g.silent.Store(true)
	h, err := readProxyHeader(under, func() { g.silent.Store(false) })
	if g.late.Load() {
		err = ErrTimeout
	}
	s.greetingFailed(err)
	return h, err
}

// A greeting is a connection that was accepted and is asked for its peer.
type greeting struct {
	// Fixed.
	conn  net.Conn
	began time.Time
	timer *time.Timer // nil: it may take as long as it likes

	silent atomic.Bool // a header is awaited, and nothing of it has come
	late   atomic.Bool // the timer has cut it
}

// cut closes the connection, which ends the wait for its peer's address. It does
// not wait.
func (g *greeting) cut() { go guard(func() { g.conn.Close() }, nil) }

// greetings are those of a server.
type greetings struct {
	mu    sync.Mutex
	set   map[*greeting]struct{} // guarded by mu
	ended bool                   // guarded by mu
}

// add reports false when the server has ended.
func (s *greetings) add(g *greeting) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.set == nil {
		s.set = make(map[*greeting]struct{})
	}
	s.set[g] = struct{}{}
	return !s.ended
}

func (s *greetings) remove(g *greeting) {
	if g.timer != nil {
		g.timer.Stop()
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	delete(s.set, g)
}

// endSilent cuts those that have had time to say something and have not: the server
// ends.
func (s *greetings) endSilent() {
	s.mu.Lock()
	defer s.mu.Unlock()
	for g := range s.set {
		if g.silent.Load() && time.Since(g.began) >= plainSettle {
			g.cut()
		}
	}
}

// end cuts all of them, and those that come later.
func (s *greetings) end() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.ended = true
	for g := range s.set {
		g.cut()
	}
}
