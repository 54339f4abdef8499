package flare

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"net/netip"
	"runtime"
	"slices"
	"sync"
	"sync/atomic"
	"syscall"
	"time"
)

// This file is layer 4 (roles): the server: its configuration, its listeners
// and loops, and its end. server_limits.go has the bounds, server_route.go how
// a request finds its handler and what becomes of errors.

// A Server serves HTTP/1.1, or another Protocol, from event loops. The zero
// value with a Handler serves. Fields must not be changed once it serves. In
// every limit and timeout 0 means the default and a negative value no limit.
type Server struct {
	// Addr is the TCP address for ListenAndServe, "host:port"; "" is ":80".
	Addr string

	// Handler answers the requests. nil answers 404.
	Handler Handler

	// TLSConfig is for ServeTLS and ListenAndServeTLS, which take a copy.
	TLSConfig *tls.Config

	// DisableHTTP2 makes HTTP/1.1 the only protocol over TLS. Otherwise clients
	// that offer HTTP/2 get it, from net/http's own server: on goroutines, and
	// without MinBodyRate, MinWriteRate, MaxRequestsPerConn and MaxBufferedBytes.
	DisableHTTP2 bool

	// NewProtocol makes the Protocol of a new connection, in the connection's
	// first turn, so that it may write and block; for nil the connection is
	// closed. IdleTimeout and MaxOutputBytes hold for it, limits on requests do
	// not. A NewProtocol that is nil is HTTP/1.1.
	NewProtocol func(*Conn) Protocol

	// Loops is the number of event loops. 0 is GOMAXPROCS.
	Loops int

	// NewPoller makes the poller of a loop. nil is the system's own.
	NewPoller func() (Poller, error)

	// ErrorHandler answers for handlers that failed, for routes that do not
	// exist and for requests that were refused. w is empty but for the fields
	// that stay (StatusError says which), and has the error's status unless
	// another is set; if nothing is written, the answer is that of a nil
	// ErrorHandler. nil answers with the status and the message of a *StatusError, and with
	// a bare 500 otherwise.
	ErrorHandler func(w *ResponseWriter, r *Request, err error)

	// Logger gets what handlers return or panic with. nil is slog.Default().
	Logger *slog.Logger

	MaxURIBytes    int   // request target; default 8 KiB, on breach 414
	MaxHeaderBytes int   // header fields; default 16 KiB, on breach 431
	MaxHeaders     int   // number of header fields; default 100, on breach 431
	MaxBodyBytes   int64 // request body; default 10 MiB, on breach 413
	MaxOutputBytes int   // queued for a connection by Conn.Write; default 1 MiB

	HandshakeTimeout time.Duration // of TLS; default 10 s, on breach a close

	HeadTimeout  time.Duration // first byte to end of head; default 10 s, on breach 408
	BodyTimeout  time.Duration // without progress of a body; default 30 s, on breach 408
	IdleTimeout  time.Duration // between requests; default 75 s, on breach a silent close
	WriteTimeout time.Duration // while the client takes nothing of a response; default 30 s, on breach a reset

	MinBodyRate  int64 // bytes a second of a body while flare waits for it, after 5 s; default 240, on breach 408
	MinWriteRate int64 // bytes a second of a response while flare waits for room, after 5 s; default 240, on breach a reset

	MaxRequestsPerConn int   // default unlimited; the last answer says close
	MaxConns           int   // default unlimited; beyond it connections wait to be accepted
	MaxConnsPerIP      int   // default unlimited; beyond it a new connection is closed
	MaxBufferedBytes   int64 // unread input and unsent output of all connections; default a quarter of memory, on breach idle connections are closed and accepting pauses

	// DrainDelay is how long after Shutdown begins connections that are idle
	// may still send one request each, which is answered with "Connection:
	// close". Default 0.
	DrainDelay time.Duration

	// ConnState, when set, is told of each change in a connection's life, in
	// order. http.StateNew, StateHijacked and StateClosed are told on a goroutine
	// of their own, and Shutdown waits for them; the others by the goroutine that
	// has the connection then, which waits for it.
	//
	// The net.Conn stands for the connection: it is the same in each call, differs
	// from that of any other connection, and may be a map's key for as long as it is
	// kept. It has the addresses; all else is the server's and fails with
	// errors.ErrUnsupported. Only of a request that came by another server (see
	// ToHTTP), and was hijacked, it is the connection itself. Any goroutine may use it.
	ConnState func(net.Conn, http.ConnState)

	// BaseContext, when set, is called by Serve and returns the context that those
	// of requests from that listener derive from; nil, or a panic, is an error of
	// Serve. Its end ends theirs, and cuts no connection. Requests that came by
	// another server (see ToHTTP) have contexts of that one's.
	BaseContext func(net.Listener) context.Context

	// ConnContext, when set, returns the context that those of a connection's
	// requests derive from, made of that of BaseContext. c is as ConnState has it.
	// It is called once, before a TLS handshake and before StateNew is told, on a
	// goroutine of its own for which the connection waits. A connection for which it
	// returns nil, or panics, is cut.
	ConnContext func(ctx context.Context, c net.Conn) context.Context

	lim    serverLimits
	router predictedRouter // Handler as one, or nil
	routes routeRecords
	pin    pin
	data   *route // of Data, for other protocols than HTTP

	blocking  websocketSet // WebSockets that handlers read themselves
	greetings greetings    // connections of a listener of the user's, until their peer is known

	handshakes handshakeCounts
	http2      http2Server

	carriedOnce sync.Once
	carried     loopCounts // of requests that another server received

	draining     atomic.Bool
	acceptors    atomic.Int32 // goroutines that accept for the plain driver
	conns        atomic.Int64
	accepted     atomic.Uint64
	buffered     bufferCount  // bytes in buffers of connections
	shedNext     atomic.Int64 // idle connections are not shed again before
	refusals     refusalLog
	shortages    shortageLog
	short        atomic.Uint64 // accepts that failed for want of something
	misuseLogged logGap        // of what handlers have left behind
	perIP        addrCounts

	starting sync.Mutex // held while loops are made; before mu

	mu        sync.Mutex
	slots     cryptoSlots       // guarded by mu; nil before the first listener with TLS
	loops     []*Loop           // guarded by mu until started, then fixed
	listeners []*servedListener // guarded by mu
	addrs     []net.Addr        // guarded by mu
	started   bool              // guarded by mu
	prepared  bool              // guarded by mu
	inMemory  bool              // guarded by mu: a TestClient's
	closed    bool              // guarded by mu: Shutdown or Close was called
	done      chan struct{}     // closed when all loops have ended
}

// ListenAndServe serves HTTP/1.1 on a TCP address until it fails.
func ListenAndServe(addr string, h Handler) error {
	s := &Server{Addr: addr, Handler: h}
	return s.ListenAndServe()
}

// ListenAndServe listens on s.Addr and serves. It returns ErrServerClosed after
// Shutdown or Close, and any other error at once.
func (s *Server) ListenAndServe() error {
	addr := s.Addr
	if addr == "" {
		addr = ":80"
	}
	ln, err := net.Listen("tcp", addr)
	if err != nil {
		return err
	}
	return s.Serve(ln)
}

// Serve accepts connections from ln until Shutdown or Close, and returns
// ErrServerClosed, or until accepting fails for good or ln is closed by somebody
// else, and returns why; connections live on then. A server whose poller failed
// goes on with its other loops, and with none left Serve returns why. It closes
// ln. It may be called several times, for several listeners. A *net.TCPListener or *net.UnixListener is served by the loops
// alone; any other net.Listener by the plain driver, which costs each connection
// a goroutine and 4 KiB, and so is every listener on a system for which there
// is no Poller. RemoteAddr is the zero value for what has no IP address, and
// MaxConnsPerIP does not count it.
func (s *Server) Serve(ln net.Listener) error { return s.serve(ln, nil) }

// serve is Serve, with TLS unless settings is nil.
func (s *Server) serve(ln net.Listener, settings *tlsSettings) error {
	if err := s.start(); err != nil {
		ln.Close()
		return err
	}
	addr := ln.Addr()
	limits, err := s.listenerLimits(ln)
	if err != nil {
		ln.Close()
		return err
	}
	s.mu.Lock()
	if s.closed {
		s.mu.Unlock()
		ln.Close()
		return ErrServerClosed
	}
	served := &servedListener{Listener: ln, addr: addr, limits: limits}
	s.listeners = append(s.listeners, served)
	s.addrs = append(s.addrs, addr)
	s.mu.Unlock()

	err = errors.ErrUnsupported
	switch ln.(type) { // what embeds one of these has an Accept of its own
	case *net.TCPListener, *net.UnixListener:
		err = s.serveLoop(served, settings)
	}
	if errors.Is(err, errors.ErrUnsupported) {
		err = s.servePlainListener(served, settings)
	}
	ln.Close()
	if s.livingLoop().failed.Load() {
		<-s.done // none is left
	}
	select {
	case <-s.done:
		return s.endReason()
	default:
		return err
	}
}

// start starts the loops, once.
func (s *Server) start() error {
	s.starting.Lock()
	defer s.starting.Unlock()
	s.mu.Lock()
	started, closed := s.started, s.closed
	if !started && !closed {
		s.prepare()
	}
	s.mu.Unlock()
	switch {
	case closed:
		return ErrServerClosed
	case started:
		return nil
	}
	loops, err := s.newLoops()
	if err != nil {
		return err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closed { // by NewPoller, or meanwhile
		for _, l := range loops {
			l.closePoller()
		}
		return ErrServerClosed
	}
	s.loops, s.started = loops, true
	s.done = make(chan struct{})
	for _, l := range loops {
		l.start()
	}
	go s.awaitLoops(loops)
	return nil
}

// served returns the listeners. They are the user's, so that nothing is called
// of them with s.mu held.
func (s *Server) served() []*servedListener {
	s.mu.Lock()
	defer s.mu.Unlock()
	return slices.Clone(s.listeners)
}

// newLoops makes the loops, over pollers that may be the user's.
func (s *Server) newLoops() ([]*Loop, error) {
	newPoller := s.NewPoller
	if newPoller == nil {
		newPoller = loopPoller
	}
	n := s.Loops
	if n <= 0 {
		n = runtime.GOMAXPROCS(0)
	}
	if s.inMemory {
		newPoller, n = func() (Poller, error) { return newWakePoller(), nil }, 1
	}
	var loops []*Loop
	for range n {
		p, err := newPoller()
		if err != nil {
			for _, l := range loops {
				l.closePoller()
			}
			return nil, err
		}
		l := newLoop(p)
		l.offloads, l.unwatched = s.inMemory, s.inMemory
		loops = append(loops, l)
	}
	return loops, nil
}

// prepare settles what follows from the configuration, once. s.mu is held, or
// nobody else has s yet.
func (s *Server) prepare() {
	if s.prepared {
		return
	}
	s.prepared = true
	s.lim = s.limits()
	s.buffered.max, s.buffered.over = max(s.lim.buffered, 0), s.shed
	s.pin = pinOf(s.Handler)
	s.router, _ = s.Handler.(predictedRouter)
	if s.NewProtocol != nil {
		s.data = newRoute()
	}
}

// Addrs returns the addresses that the server listens on.
func (s *Server) Addrs() []net.Addr {
	s.mu.Lock()
	defer s.mu.Unlock()
	return append([]net.Addr(nil), s.addrs...)
}

// admit counts an accepted descriptor in, negative for none. It returns nil, and
// closes the descriptor, if its address has too many.
func (s *Server) admit(fd int, peer netip.AddrPort) *Conn {
	if s.counts(peer) && !s.perIP.add(peer.Addr(), s.MaxConnsPerIP) {
		if fd >= 0 {
			s.loops[0].closeFD(fd)
		}
		return nil
	}
	s.conns.Add(1)
	return s.newConn(s.nextLoop(), fd, peer)
}

// counts reports whether peer is one of those that MaxConnsPerIP is about: one
// that has an address.
func (s *Server) counts(peer netip.AddrPort) bool { return s.MaxConnsPerIP > 0 && peer.IsValid() }

// newConn returns a connection that speaks s's protocol.
func (s *Server) newConn(l *Loop, fd int, peer netip.AddrPort) *Conn {
	if s.NewProtocol == nil {
		return s.newHTTPConn(l, fd, peer)
	}
	return newOpening(l, &s.lim.conn, s.data, &openingProtocol{accepted: s.NewProtocol}, fd, peer)
}

func (s *Server) newHTTPConn(l *Loop, fd int, peer netip.AddrPort) *Conn {
	hc := &struct {
		Conn
		httpConn
	}{}
	hc.httpConn.srv = s
	hc.proto = &hc.httpConn
	hc.Conn.init(l, &s.lim.conn, fd, peer)
	return &hc.Conn
}

// connEnded counts a connection out.
func (s *Server) connEnded(c *Conn, state http.ConnState) {
	s.connClosed(c.limits.known, c.RemoteAddr(), state)
}

// connClosed counts a connection out that hooks know as known.
func (s *Server) connClosed(known net.Conn, peer netip.AddrPort, state http.ConnState) {
	if s.counts(peer) {
		s.perIP.remove(peer.Addr())
	}
	if s.ConnState == nil {
		s.conns.Add(-1)
		return
	}
	go func() { // nothing of the user's is called by who closes connections
		defer s.conns.Add(-1)
		s.callConnState(known, state)
	}()
}

// shutdownPoll is how often Shutdown looks whether connections have ended.
const shutdownPoll = 2 * tick

// Shutdown stops listening, accepts what has been waiting for that, as MaxConns
// allows, closes idle connections after DrainDelay, lets requests in progress be
// answered with "Connection: close" and handshakes of TLS end, with a request
// that follows at once, and returns nil when all connections have
// ended. When ctx ends first it cuts the rest and returns an error that wraps
// ctx's and says how many it cut. It may be called from any goroutine, any
// number of times.
func (s *Server) Shutdown(ctx context.Context) error {
	if !s.stopAccepting() {
		return nil
	}
	s.draining.Store(true)
	began := time.Now()
	ticker := time.NewTicker(shutdownPoll)
	defer ticker.Stop()
	ending, ended := context.WithCancel(ctx)
	defer ended()
	http2 := sync.OnceFunc(func() { s.loops[0].spawn(func() { s.http2.shutdown(ending) }) })
	for {
		if time.Since(began) >= s.DrainDelay {
			http2()
			s.drain(true)
			s.blocking.each(func(b *blockingSocket) { b.ws.goingAway() })
		}
		if s.noListeners() && s.acceptors.Load() == 0 && s.conns.Load() == 0 { // before, there may be some to accept yet
			return s.Close()
		}
		select {
		case <-ctx.Done():
			cut := int(s.conns.Load())
			s.Close()
			return fmt.Errorf("flare: shutdown cut %d connections: %w", cut, ctx.Err())
		case <-ticker.C:
		case <-s.done:
			return nil
		}
		s.loops[0].resumed()
	}
}

// drain has all loops close their idle connections. leaving: for good, and
// WebSockets are told.
func (s *Server) drain(leaving bool) {
	for _, l := range s.loops {
		l.call(func() { l.startDrain(leaving) })
	}
}

// stopAccepting closes the listeners. It reports whether there is anything to
// wait for.
func (s *Server) stopAccepting() bool {
	s.mu.Lock()
	s.closed = true
	started := s.started
	s.mu.Unlock()
	if !started {
		return false
	}
	for _, ln := range s.served() {
		ln.end()
	}
	for _, l := range s.loops {
		l.call(l.unlisten)
	}
	return true
}

// Close ends the server at once: connections are cut, contexts of running
// handlers end, handlers that run are not waited for. It returns when the
// loops have ended.
func (s *Server) Close() error {
	if !s.stopAccepting() {
		return nil
	}
	for _, l := range s.loops {
		l.call(func() { l.quit = true })
	}
	s.blocking.end()
	s.greetings.end()
	s.http2.close()
	<-s.done
	s.loops[0].resumed()
	return nil
}

// logger returns where the server logs to.
func (s *Server) logger() *slog.Logger {
	if s.Logger != nil {
		return s.Logger
	}
	return slog.Default()
}

// isGone reports whether err only says that the client has left.
func isGone(err error) bool {
	return errors.Is(err, syscall.ECONNRESET) || errors.Is(err, syscall.EPIPE) || errors.Is(err, ErrClosed)
}
