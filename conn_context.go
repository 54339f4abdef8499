package flare

import (
	"context"
	"errors"
	"fmt"
)

// This file is layer 3 (engine): the context of the handler that runs on a
// connection. It knows when the peer goes and nothing of requests; it needs no
// goroutine, since the loop cancels it. context.go makes it on first use.

// errPeerLeft is the cause of a context whose client has closed or reset the
// connection.
var errPeerLeft = fmt.Errorf("flare: the client has left: %w", ErrClosed)

// errRequestDone is the cause of a context whose handler has returned.
var errRequestDone = errors.New("flare: the handler has returned")

// A requestContext is what strand.ctx points to while a handler has a context.
type requestContext struct {
	context.Context
	end context.CancelCauseFunc
}

// baseContext is the parent of handlers' contexts.
func (lim *connLimits) baseContext() context.Context {
	if lim.base == nil {
		return context.Background()
	}
	return lim.base
}

// context returns the context of the handler that runs. Only the owner calls it.
func (s *strand) context() *requestContext {
	if rc := s.ctx.Load(); rc != nil {
		return rc
	}
	rc := new(requestContext)
	rc.Context, rc.end = context.WithCancelCause(s.conn.limits.baseContext())
	s.ctx.Store(rc)
	// First the bit, then the look at what came before it: whoever comes
	// later sees the bit.
	own := s.own.Or(ownCancel)
	switch {
	case own&ownStop != 0:
		rc.end(ErrServerClosed)
	case (own|s.edges)&(ownHup|ownRDHup) != 0 || s.isConns() && s.conn.eof:
		rc.end(errPeerLeft)
	}
	return rc
}

// cancel ends the context of the running handler, from any goroutine.
func (s *strand) cancel(cause error) {
	if rc := s.ctx.Load(); rc != nil {
		rc.end(cause)
	}
}

// left reports whether the context of the handler that runs has ended because
// the client has left.
func (s *strand) left() bool {
	rc := s.ctx.Load()
	return rc != nil && context.Cause(rc) == errPeerLeft
}

// endContext ends the context of a handler that has returned.
func (s *strand) endContext() {
	rc := s.ctx.Swap(nil)
	s.own.And(^ownCancel)
	rc.end(errRequestDone)
}

// endWith has the context of the handler that runs, if it has one here, end with ctx.
func (s *strand) endWith(ctx context.Context, cause error) {
	rc := s.ctx.Load()
	if rc == nil {
		return // a request that another server has received
	}
	stop := context.AfterFunc(ctx, func() { rc.end(cause) })
	context.AfterFunc(rc, func() { stop() })
}
