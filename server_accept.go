package flare

import (
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/netip"
	"sync"
	"syscall"
	"time"
)

// This file is layer 4 (roles): a server's listeners whose descriptors loops
// accept from: which loop does, and what ends that, be it Shutdown, the listener's
// owner, the system or a loop that has failed. server_plain.go has the other
// listeners, loop_accept.go accepts.

// listenerLook is how often a listener is asked whether its owner has closed it.
// Nothing tells: a loop has a descriptor of its own. A connection that comes
// meanwhile is not served.
const listenerLook = 250 * time.Millisecond

// serveLoop is serve for a listener with a descriptor. The error is
// errors.ErrUnsupported where loops cannot watch one.
func (s *Server) serveLoop(ln *servedListener, settings *tlsSettings) error {
	look := time.NewTicker(listenerLook)
	defer look.Stop()
	for {
		// One loop accepts and deals connections out in turn, so that all loops
		// have as many.
		l := s.livingLoop()
		listening, failed, err := s.listenOn(l, ln, settings)
		for err == nil {
			select {
			case err = <-failed:
			case <-look.C:
				if ln.gone(s) {
					l.call(func() { l.failListener(listening, net.ErrClosed) })
				}
			case <-l.ended:
				err = ErrServerClosed
			}
		}
		switch {
		case err != ErrServerClosed:
			return err
		case s.ending() || s.livingLoop() == l:
			<-s.done
			return ErrServerClosed
		}
		// The loop that accepted has failed, and others go on: one of them accepts.
	}
}

// listenOn has l accept from ln. failed gets the error that ends it, if one does.
func (s *Server) listenOn(l *Loop, ln *servedListener, settings *tlsSettings) (listening *loopListener, failed chan error, err error) {
	fd, err := ln.dup()
	if err != nil {
		return nil, nil, err
	}
	addr := ln.Addr()
	failed = make(chan error, 1)
	listening = &loopListener{
		fd:    fd,
		tcp:   addr.Network() == "tcp",
		adopt: s.adopter(ln, settings),
		full:  s.full,
		gone:  func() bool { return ln.gone(s) },
		short: s.acceptShort,
		failed: func(err error) { // as package net has it
			failed <- &net.OpError{Op: "accept", Net: addr.Network(), Addr: addr, Err: err}
		},
	}
	listens := make(chan error, 1)
	err = ErrServerClosed
	if l.call(func() { listens <- l.listen(listening) }) {
		err = <-listens
	}
	if err != nil {
		closeFD(fd)
	}
	return listening, failed, err
}

// acceptShort tells that accepting pauses for want of something.
func (s *Server) acceptShort(cause error) {
	s.short.Add(1)
	s.shortages.log(s.logger(), cause)
}

// dup returns a duplicate of ln's descriptor, and remembers how to ask for ln's
// end.
func (ln *servedListener) dup() (fd int, err error) {
	sc, ok := ln.Listener.(syscall.Conn)
	if !ok {
		return 0, fmt.Errorf("flare: %T has no file descriptor", ln.Listener)
	}
	if ln.raw, err = sc.SyscallConn(); err != nil {
		return 0, err
	}
	var dupErr error
	if err := ln.raw.Control(func(p uintptr) { fd, dupErr = dupCloexec(int(p)) }); err != nil {
		return 0, err
	}
	return fd, dupErr
}

// gone reports whether ln was closed, and not by s, which does so when it ends.
func (ln *servedListener) gone(s *Server) bool {
	return ln.raw.Control(func(uintptr) {}) != nil && !s.ending()
}

// livingLoop returns the first loop that has not failed, and the first one if all
// have.
func (s *Server) livingLoop() *Loop {
	for _, l := range s.loops {
		if !l.failed.Load() {
			return l
		}
	}
	return s.loops[0]
}

// noListeners reports whether no loop accepts any more, nor ever will.
func (s *Server) noListeners() bool {
	for _, l := range s.loops {
		if !l.noListeners.Load() {
			return false
		}
	}
	return true
}

// awaitLoops ends with the last of the loops, and the listeners with it.
func (s *Server) awaitLoops(loops []*Loop) {
	var all sync.WaitGroup
	for _, l := range loops {
		all.Go(func() {
			if <-l.ended; l.failure != nil {
				go logTo(s.logger(), slog.LevelError, "flare: a loop has failed, and its connections with it", slog.Any("error", l.failure))
			}
		})
	}
	all.Wait()
	loops[0].resumed()
	for _, ln := range s.served() {
		ln.Listener.Close()
	}
	close(s.done)
}

// endReason says why the server has ended, once it has: it was asked to, or its
// loops have failed.
func (s *Server) endReason() error {
	var failures []error
	for _, l := range s.loops {
		if l.failure != nil {
			failures = append(failures, l.failure)
		}
	}
	why := errors.Join(failures...)
	switch {
	case why == nil:
		return ErrServerClosed
	case s.ending():
		return fmt.Errorf("%w; before that a loop failed: %w", ErrServerClosed, why)
	}
	return fmt.Errorf("flare: all loops of the server have failed: %w", why)
}

// adopter returns what makes descriptors accepted from ln connections of the next
// loop in turn. settings is nil without TLS.
func (s *Server) adopter(ln *servedListener, settings *tlsSettings) func(fd int, peer netip.AddrPort) {
	if !s.ProxyProtocol {
		return func(fd int, peer netip.AddrPort) {
			if c := s.admit(fd, peer); c != nil {
				s.begins(ln, settings, c, nil)
			}
		}
	}
	limits := &connLimits{
		handshake: s.lim.conn.handshake,
		buffered:  s.lim.conn.buffered,
		logger:    s.logger,
		ended: func(c *Conn) {
			s.conns.Add(-1)
			s.greetingFailed(c.cause)
		},
	}
	return func(fd int, peer netip.AddrPort) {
		if !s.proxied(peer) {
			if c := s.admit(fd, peer); c != nil {
				s.begins(ln, settings, c, nil)
			}
			return
		}
		s.conns.Add(1)
		t := &greetingTransport{
			admit: func(h *ProxyHeader) bool {
				client := h.clientOf(peer)
				return !s.counts(client) || s.perIP.add(client.Addr(), s.MaxConnsPerIP)
			},
			begin: func(l *Loop, fd int, h *ProxyHeader) {
				s.begins(ln, settings, s.newConn(l, fd, h.clientOf(peer)), h)
			},
		}
		c := new(Conn)
		c.init(s.nextLoop(), limits, fd, peer)
		t.greet(c)
		c.loop.adopt(c)
	}
}

// begins gives c, which has been counted, to its loop.
func (s *Server) begins(ln *servedListener, settings *tlsSettings, c *Conn, h *ProxyHeader) {
	if settings != nil {
		c.secure(settings)
	}
	s.connBegins(ln, c, nil, h)
}
