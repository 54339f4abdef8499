package flare

import (
	"errors"
	"net"
	"sync/atomic"
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
	plain  bool        // guarded by Server.mu: a goroutine accepts from it
	paused atomic.Bool // that goroutine waits for room
}

// backlogTime is how long a listener of the plain driver is still asked for
// connections that wait there, once the server ends.
const backlogTime = tick

// end ends accepting. Connections that the kernel has accepted already are
// taken: a loop has a descriptor of its own to take them from. Server.mu is held.
func (ln *servedListener) end() {
	d, ok := ln.Listener.(interface{ SetDeadline(time.Time) error })
	if !ln.plain || !ok || d.SetDeadline(time.Now().Add(backlogTime)) != nil {
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
	ln.plain = true
	s.acceptors.Add(1)
	s.mu.Unlock()
	defer s.acceptors.Add(-1)
	for left := acceptsAtEnd; left > 0; {
		if !s.awaitRoom(ln) {
			return ErrServerClosed
		}
		if s.ending() { // what waits still gets its place
			left--
			s.mu.Lock()
			ln.end()
			s.mu.Unlock()
		}
		conn, err := ln.Accept()
		if err == nil {
			if !s.awaitRoom(ln) { // it may have filled up meanwhile
				conn.Close()
				return ErrServerClosed
			}
			s.servePlain(conn, settings)
			continue
		}
		if s.ending() {
			return ErrServerClosed
		}
		// As in net/http: what passes is that the process has no descriptors.
		if t, ok := err.(interface{ Temporary() bool }); !ok || !t.Temporary() {
			return err
		}
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

// servePlain makes conn, which is the server's from here on, a connection of
// the plain driver. settings is nil without TLS.
func (s *Server) servePlain(conn net.Conn, settings *tlsSettings) {
	c := s.admit(-1, addrPortOfNet(conn.RemoteAddr()))
	if c == nil {
		go conn.Close() // it may wait
		return
	}
	c.onPlain(conn, settings)
	c.loop.adopt(c)
}
