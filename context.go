package flare

import (
	"context"
	"slices"
)

// This file is layer 4 (roles): a request's context, as its handler sees it.
// conn_context.go has what ends it.

// Context returns a context that ends when the client closes or resets the
// connection, when the server closes, and when the handler returns. While a
// handler runs on the loop itself, the end of the connection is seen at the
// latest when the handler waits. Its values are those of SetValue, and behind
// them those of a context that was set.
// context.Cause says why it has ended: it is ErrServerClosed when the server
// closes, and an error that is ErrClosed when the client has left.
func (r *Request) Context() context.Context {
	r.check()
	if r.ctx == nil {
		r.ctx = r.c.context()
	}
	if len(r.values) == 0 {
		return r.ctx
	}
	if r.valued == nil {
		r.valued = &valueContext{r.ctx, slices.Clone(r.values)}
	}
	return r.valued
}

// A valueContext is a request's context with what SetValue kept until then. It
// never changes, so that any goroutine may use it.
type valueContext struct {
	context.Context
	values []requestValue
}

// Value finds what Request.Value does.
func (c *valueContext) Value(key any) any {
	for i := range c.values {
		if c.values[i].key == key {
			return c.values[i].value
		}
	}
	return c.Context.Value(key)
}

// SetContext replaces the context that Context returns, the values of SetValue
// apart. A middleware derives ctx from r.Context().
func (r *Request) SetContext(ctx context.Context) {
	r.check()
	r.ctx, r.valued = ctx, nil
}
