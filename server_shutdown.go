package flare

import (
	"context"
	"fmt"
	"time"
)

// This file is layer 4 (roles): how a Server ends, at once or when what is under
// way is done.

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
	for _, f := range s.onEnd.begin() {
		s.callOnShutdown(f)
	}
	began := time.Now()
	ticker := time.NewTicker(shutdownPoll)
	defer ticker.Stop()
	for {
		if time.Since(began) >= s.DrainDelay {
			s.drain(true)
			s.greetings.endSilent()
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

// RegisterOnShutdown has f called, on a goroutine of its own, when Shutdown begins,
// which does not wait for it; at once if it has begun. It is for what ends connections
// that were hijacked, for example. Any goroutine may call it.
func (s *Server) RegisterOnShutdown(f func()) {
	if late := s.onEnd.register(f); late {
		s.callOnShutdown(f)
	}
}

func (s *Server) callOnShutdown(f func()) {
	go func() {
		if p := guard(f, nil); p != nil {
			logPanic(s.logger(), "flare: RegisterOnShutdown's function panicked", p)
		}
	}()
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
// loops have ended. Stats still counts a connection as open for as long as a
// handler, a hook or a handshake of its goes on.
func (s *Server) Close() error {
	if !s.stopAccepting() {
		return nil
	}
	s.onEnd.tell()
	for _, l := range s.loops {
		l.call(func() { l.quit = true })
	}
	s.blocking.end()
	s.greetings.end()
	<-s.done
	s.loops[0].resumed()
	return nil
}
