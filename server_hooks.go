package flare

import (
	"errors"
	"log/slog"
	"net"
	"net/http"
	"time"
)

// This file is layer 4 (roles): the hooks of a server's connections, by which its
// operator hears of changes in their life and gives contexts to their requests,
// and the log of requests that it refused.

// A hookConn is a connection as a server's hooks see it: an identity with
// addresses. The connection itself is its loop's.
type hookConn struct{ remote, local net.Addr } // fixed once the hooks are called

func (h *hookConn) RemoteAddr() net.Addr             { return h.remote }
func (h *hookConn) LocalAddr() net.Addr              { return h.local }
func (h *hookConn) Read([]byte) (int, error)         { return 0, errors.ErrUnsupported }
func (h *hookConn) Write([]byte) (int, error)        { return 0, errors.ErrUnsupported }
func (h *hookConn) Close() error                     { return errors.ErrUnsupported }
func (h *hookConn) SetDeadline(time.Time) error      { return errors.ErrUnsupported }
func (h *hookConn) SetReadDeadline(time.Time) error  { return errors.ErrUnsupported }
func (h *hookConn) SetWriteDeadline(time.Time) error { return errors.ErrUnsupported }

// notifyState tells the ConnState hook, in a turn of the connection or on a
// goroutine for it.
func (s *Server) notifyState(c *Conn, state http.ConnState) {
	if s.ConnState != nil {
		s.callConnState(c.limits.known, state)
	}
}

func (s *Server) callConnState(known net.Conn, state http.ConnState) {
	if p := guard(func() { s.ConnState(known, state) }, nil); p != nil {
		logPanic(s.logger(), "flare: ConnState panicked", p)
	}
}

// listenerLimits returns the limits of connections from ln, which have the context
// that BaseContext gives. The goroutine is that of whoever has called Serve.
func (s *Server) listenerLimits(ln net.Listener) (*connLimits, error) {
	if s.BaseContext == nil {
		return &s.lim.conn, nil
	}
	limits := s.lim.conn
	p := guard(func() {
		if limits.base = s.BaseContext(ln); limits.base == nil {
			panic("BaseContext returned a nil context")
		}
	}, func() { go guard(func() { ln.Close() }, nil) })
	if p != nil {
		return nil, p
	}
	return &limits, nil
}

// connBegins gives c to its loop, once the hooks have heard of it: not from the
// goroutine that accepts, which a hook must neither hold up nor end. nc is what c
// stands on if it came from ln as a net.Conn. If what comes before the first
// request fails, the connection is cut: its handlers must not run without what
// ConnContext gives them.
//
// proxied is the header in front of c, nil without one.
func (s *Server) connBegins(ln *servedListener, c *Conn, nc net.Conn, proxied *ProxyHeader) {
	c.limits = ln.limits
	if proxied != nil {
		limits := *ln.limits
		limits.proxied, c.limits = proxied, &limits
	}
	if s.ConnState == nil && s.ConnContext == nil {
		c.loop.adopt(c)
		return
	}
	c.loop.spawn(func() {
		ready := false
		tell := func() {
			defer func() {
				if ready {
					c.loop.adopt(c)
				} else {
					c.end(endFlushed, errConnContext)
					c.abandon() // no loop has heard of it
				}
			}()
			s.notifyState(c, http.StateNew)
		}
		p := guard(func() { s.introduce(ln, c, nc) }, func() { c.loop.spawn(tell) })
		if ready = p == nil; !ready {
			logPanic(s.logger(), "flare: ConnContext panicked", p)
		}
		tell()
	})
}

// errConnContext is the end of a connection that was not given a context.
var errConnContext = errors.New("flare: ConnContext has failed")

// introduce gives c, which no loop has yet, what hooks know it by, and its context.
func (s *Server) introduce(ln *servedListener, c *Conn, nc net.Conn) {
	limits := *c.limits
	known := &hookConn{netAddr(c.RemoteAddr()), ln.addr}
	limits.known, c.limits = known, &limits
	if nc != nil {
		known.local = nc.LocalAddr()
		if h := limits.proxied; h == nil || !h.Source.IsValid() {
			known.remote = nc.RemoteAddr()
		}
	} else if at := c.LocalAddr(); at.IsValid() { // else on a Unix socket, or broken
		known.local = netAddr(at)
	}
	if s.ConnContext == nil {
		return
	}
	if limits.base = s.ConnContext(limits.baseContext(), known); limits.base == nil {
		panic("ConnContext returned a nil context")
	}
}

// A refusalLog logs what was refused, one line a second at most.
type refusalLog struct{ throttle logThrottle }

func (l *refusalLog) log(to *slog.Logger, message string, now time.Duration, err error, more ...slog.Attr) {
	if skipped, passes := l.throttle.pass(now); passes { // others need not wait for a slow logger
		logTo(to, slog.LevelInfo, message, append(more, slog.Any("error", err), slog.Int("skipped", skipped))...)
	}
}
