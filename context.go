package flare

import (
	"context"
	"errors"
)

// This file is layer 4 (roles): a request's context. It is made when a handler
// first asks for it, and needs no goroutine: the loop cancels it when it sees
// the client go.

// errRequestDone is the cause of a context whose handler has returned.
var errRequestDone = errors.New("flare: the handler has returned")

// A requestContext is what Conn.ctx points to while a handler has a context.
type requestContext struct {
	context.Context
	end context.CancelCauseFunc
}

// Context returns a context that ends when the client closes or resets the
// connection, when the server closes, and when the handler returns. While a
// handler runs on the loop itself, the end of the connection is seen at the
// latest when the handler waits.
func (r *Request) Context() context.Context {
	r.check()
	if r.ctx != nil {
		return r.ctx
	}
	c := r.c
	if c.ctx.Load() == nil {
		rc := new(requestContext)
		rc.Context, rc.end = context.WithCancelCause(context.Background())
		c.ctx.Store(rc)
		// First the bit, then the look at what came before it: whoever comes
		// later sees the bit.
		own := c.own.Or(ownCancel)
		if (own|c.edges)&(ownHup|ownRDHup) != 0 || own&ownStop != 0 || c.eof {
			rc.end(context.Canceled)
		}
	}
	r.ctx = c.ctx.Load()
	return r.ctx
}

// SetContext replaces the context that Context returns. A middleware derives
// ctx from r.Context().
func (r *Request) SetContext(ctx context.Context) {
	r.check()
	r.ctx = ctx
}

// cancel ends the context of the running handler, from any goroutine.
func (c *Conn) cancel() {
	if rc := c.ctx.Load(); rc != nil {
		rc.end(context.Canceled)
	}
}

// endContext ends the context of a handler that has returned.
func (c *Conn) endContext() {
	rc := c.ctx.Swap(nil)
	c.own.And(^ownCancel)
	rc.end(errRequestDone)
}
