package flare

import (
	"context"
	"errors"
	"net"
	"runtime"
	"strings"
)

// This file is layer 4 (roles): how a Server begins to serve: its loops, its
// listeners, and what becomes of an accepted connection. server_shutdown.go has
// the end.

// ListenAndServe serves HTTP/1.1 on a TCP address until it fails.
func ListenAndServe(addr string, h Handler) error {
	s := &Server{Addr: addr, Handler: h}
	return s.ListenAndServe()
}

// ListenAndServe listens on s.Addr and serves. It returns ErrServerClosed after
// Shutdown or Close, and any other error at once.
func (s *Server) ListenAndServe() error {
	ln, err := s.listenAll(":80")
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
	if all, ok := ln.(*listeners); ok {
		return s.serveAll(all, settings)
	}
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
	case s.proxiesBad != nil:
		return s.proxiesBad
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
	if s.Refusals != nil {
		s.refuser = s.Refusals(HandlerFunc(refuse))
	}
	s.proxies, s.proxiesBad = parseTrust(s.TrustedProxies)
	if s.ProxyProtocol && s.proxies == nil && s.proxiesBad == nil {
		s.proxiesBad = errProxyNobody
	}
	s.http2 = s.http2Config()
	s.buffered.max, s.buffered.over = max(s.lim.buffered, 0), s.shed
	s.pin = pinOf(s.Handler)
	s.router, _ = s.Handler.(predictedRouter)
	if s.NewProtocol != nil {
		s.data = newRoute()
	}
}

// serveAll is serve for all of the listeners. One that fails ends the others, or
// nobody would notice.
func (s *Server) serveAll(all *listeners, settings *tlsSettings) error {
	ended := make(chan error, len(all.all))
	for _, ln := range all.all {
		go func() { ended <- s.serve(ln, settings) }()
	}
	first := <-ended
	all.Close()
	for range all.all[1:] {
		<-ended
	}
	return first
}

// listenAll listens on Addr, or at the port.
func (s *Server) listenAll(port string) (net.Listener, error) {
	addr := s.Addr
	if addr == "" {
		addr = port
	}
	return new(ListenConfig).Listen(context.Background(), strings.Fields(addr)...)
}
