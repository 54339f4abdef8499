package flare

import (
	"context"
	"crypto/tls"
	"log"
	"log/slog"
	"net"
	"net/http"
	"sync"
)

// This file is layer 4 (roles): HTTP/2, which is net/http's own: a connection
// that has agreed on it leaves the loop after its handshake and is served by an
// http.Server with the same handler. Its limits are flare's as far as net/http
// has them; those of a body and a response are the carrier's (nethttp_to.go).

// An http2Server is a server's part that speaks HTTP/2. The zero value has not
// started.
type http2Server struct {
	srv     http.Server
	ln      *handoffListener // nil: not started; set under mu
	serving sync.WaitGroup
	handed  sync.Map // net.Conn to handedConn: connections that are served

	mu     sync.Mutex
	ending bool // guarded by mu: nothing is taken any more
}

// asHTTP returns s as what net/http's server calls. The method is the surface's,
// so it is looked up and not named.
func (s *Server) asHTTP() http.Handler {
	h, _ := any(s).(http.Handler)
	return h
}

// offersHTTP2 reports whether the server speaks HTTP/2.
func (s *Server) offersHTTP2() bool {
	return s.asHTTP() != nil && !s.DisableHTTP2 && s.NewProtocol == nil
}

// A handedConn is a connection that was handed over, as it was on its loop.
type handedConn struct {
	c       *Conn
	foreign bool // nothing of flare's below it sees the end: http.Server tells of it
}

// serveHTTP2 serves a connection whose handshake is done. It counts as one of
// the server's until it is closed.
func (s *Server) serveHTTP2(c *Conn, tc *tls.Conn) { s.http2.serve(s, tc, handedConn{c, false}) }

// serveForeignHTTP2 is serveHTTP2 for one that came as a *tls.Conn.
func (s *Server) serveForeignHTTP2(c *Conn, tc *tls.Conn) { s.http2.serve(s, tc, handedConn{c, true}) }

func (h *http2Server) serve(s *Server, tc *tls.Conn, handed handedConn) {
	h.handed.Store(net.Conn(tc), handed)
	if !h.take(s) || !h.ln.hand(tc) {
		tc.Close()
		h.ended(s, tc)
	}
}

// connOf returns what nc was on its loop, nil once it has ended.
func (h *http2Server) connOf(nc net.Conn) *Conn {
	handed, _ := h.handed.Load(nc)
	was, _ := handed.(handedConn)
	return was.c
}

// ended forgets a connection that was handed over.
func (h *http2Server) ended(s *Server, nc net.Conn) {
	if handed, ok := h.handed.LoadAndDelete(nc); ok && handed.(handedConn).foreign {
		s.connEnded(handed.(handedConn).c, http.StateClosed)
	}
}

// take starts the part if it has to. False: the server ends.
func (h *http2Server) take(s *Server) bool {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.ending {
		return false
	}
	if h.ln == nil {
		h.start(s)
	}
	return true
}

// start serves what is handed over.
func (h *http2Server) start(s *Server) {
	lim := &s.lim
	h.ln = &handoffListener{conns: make(chan net.Conn), closed: make(chan struct{})}
	h.srv = http.Server{
		Handler:           s.asHTTP(),
		TLSConfig:         &tls.Config{NextProtos: []string{protoHTTP2}},
		ReadHeaderTimeout: lim.conn.head,
		IdleTimeout:       lim.conn.idle,
		MaxHeaderBytes:    effectiveLimit(lim.head.headerBytes), // net/http adds to it, in 32 bits
		HTTP2:             &http.HTTP2Config{WriteByteTimeout: lim.conn.write},
		ErrorLog:          slogLogger(s.logger()),
		ConnState: func(nc net.Conn, state http.ConnState) {
			switch state {
			case http.StateActive, http.StateIdle:
				if c := h.connOf(nc); c != nil {
					s.notifyState(c, state)
				}
			case http.StateHijacked, http.StateClosed:
				h.ended(s, nc)
			}
		},
		ConnContext: func(ctx context.Context, nc net.Conn) context.Context {
			if c := h.connOf(nc); c != nil && c.limits.base != nil {
				return context.WithValue(c.limits.base, http.ServerContextKey, ctx.Value(http.ServerContextKey))
			}
			return ctx
		},
	}
	h.serving.Go(func() { h.srv.Serve(h.ln) })
}

// slogLogger is what net/http reports to.
func slogLogger(to *slog.Logger) *log.Logger { return slog.NewLogLogger(to.Handler(), slog.LevelInfo) }

// shutdown begins to end the connections: they are told, and answer what was
// asked before.
func (h *http2Server) shutdown(ctx context.Context) {
	if h.stop() {
		h.srv.Shutdown(ctx)
	}
}

// close cuts the connections.
func (h *http2Server) close() {
	if h.stop() {
		h.srv.Close()
		h.serving.Wait()
	}
}

// stop takes nothing any more. It reports whether there is anything to end.
func (h *http2Server) stop() bool {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.ending = true
	return h.ln != nil
}

// A handoffListener accepts connections that are handed to it.
type handoffListener struct {
	conns  chan net.Conn
	closed chan struct{}
	once   sync.Once
}

// hand waits until nc is accepted. False: the listener is closed.
func (l *handoffListener) hand(nc net.Conn) bool {
	select {
	case l.conns <- nc:
		return true
	case <-l.closed:
		return false
	}
}

func (l *handoffListener) Accept() (net.Conn, error) {
	select {
	case nc := <-l.conns:
		return nc, nil
	case <-l.closed:
		return nil, net.ErrClosed
	}
}

func (l *handoffListener) Close() error {
	l.once.Do(func() { close(l.closed) })
	return nil
}

// Addr is asked for messages alone.
func (l *handoffListener) Addr() net.Addr { return &net.TCPAddr{} }
