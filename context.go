package flare

import (
	"context"
	"slices"
)

// This file is layer 4 (roles): a request's context, as its handler sees it.
// conn_context.go has what ends it.

func (r *serverRequest) Context() context.Context {
	if r.ctx == nil {
		r.ctx = r.x.stream.context()
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

func (r *serverRequest) SetContext(ctx context.Context) {
	r.ctx, r.valued = ctx, nil
}
