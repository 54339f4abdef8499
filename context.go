package flare

import "context"

// This file is layer 4 (roles): a request's context, as its handler sees it.
// conn_context.go has what ends it.

// Context returns a context that ends when the client closes or resets the
// connection, when the server closes, and when the handler returns. While a
// handler runs on the loop itself, the end of the connection is seen at the
// latest when the handler waits.
func (r *Request) Context() context.Context {
	r.check()
	if r.ctx == nil {
		r.ctx = r.c.context()
	}
	return r.ctx
}

// SetContext replaces the context that Context returns. A middleware derives
// ctx from r.Context().
func (r *Request) SetContext(ctx context.Context) {
	r.check()
	r.ctx = ctx
}
