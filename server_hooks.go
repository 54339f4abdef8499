package flare

import (
	"log/slog"
	"net/netip"
	"time"
)

// This file is layer 4 (roles): what a server tells its operator: changes in
// the life of connections, and requests that it refused.

// A ConnState is a moment in the life of a connection.
type ConnState uint8

const (
	StateNew      ConnState = iota // accepted
	StateActive                    // the first byte of a request has come
	StateIdle                      // a request has been answered
	StateHijacked                  // a handler took it over with Hijack; the server is done with it
	StateClosed
)

func (s ConnState) String() string {
	return [...]string{"new", "active", "idle", "hijacked", "closed"}[s]
}

// notifyState tells the ConnState hook, in a turn of the connection or on a
// goroutine for it.
func (s *Server) notifyState(peer netip.AddrPort, state ConnState) {
	if s.ConnState == nil {
		return
	}
	if p := guard(func() { s.ConnState(peer, state) }, nil); p != nil {
		logPanic(s.logger(), "flare: ConnState panicked", p)
	}
}

// connBegins gives c to its loop, once the ConnState hook has heard of it: not
// from the goroutine that accepts, which a hook must neither hold up nor end.
func (s *Server) connBegins(c *Conn) {
	if s.ConnState == nil {
		c.loop.adopt(c)
		return
	}
	go func() {
		defer c.loop.adopt(c)
		s.notifyState(c.RemoteAddr(), StateNew)
	}()
}

// A refusalLog logs what was refused, one line a second at most.
type refusalLog struct{ throttle logThrottle }

func (l *refusalLog) log(to *slog.Logger, message string, now time.Duration, err error, more ...slog.Attr) {
	if skipped, passes := l.throttle.pass(now); passes { // others need not wait for a slow logger
		logTo(to, slog.LevelInfo, message, append(more, slog.Any("error", err), slog.Int("skipped", skipped))...)
	}
}
