package flare

import (
	"context"
	"net/http"
	"time"
)

// This file is layer 5 (surface): the middleware that bounds how long a handler may
// take. The handler has a lease of its own, which ends with its time: see lease.go.

// Timeout is a middleware that bounds the time of a handler: after d the request is
// answered with 504, its context has ended with ErrTimeout as the cause, and for the
// handler, which goes on if it does not look at the context, the request has ended:
// its reads and writes fail, whatever it waits for in them is broken off, and fields
// that it has set are not sent. If a part of the response has been sent by then, the
// connection is cut. The handler runs on a goroutine of its own. It is not for handlers
// that take the connection over, and waits for the end of those of FromHTTP: give such
// one an http.TimeoutHandler.
func Timeout(d time.Duration) Middleware {
	return func(h Handler) Handler { return &timedHandler{h, d} }
}

type timedHandler struct {
	Handler
	limit time.Duration
}

// pinned: two goroutines are no work for a loop.
func (h *timedHandler) pinned() pin { return pinOffload }

func (h *timedHandler) Serve(w *ResponseWriter, r *Request) error {
	x := r.lease.enterBody()
	if x == nil {
		return errRequestDone
	}
	outer, header := x.r.Context(), x.w.header.clone()
	ctx, stop := context.WithTimeoutCause(outer, h.limit, ErrTimeout)
	defer stop()
	x.r.SetContext(ctx)
	inner := x.sublease()
	x.workset().detach()
	r.lease.exit()

	err, late := h.await(ctx, inner)
	if x = r.lease.enterBody(); x == nil {
		return errRequestDone
	}
	x.end(inner)
	if late && !x.w.begun {
		x.w.header = *header
	}
	x.r.SetContext(outer)
	r.lease.exit()
	return err
}

// await calls the handler on a goroutine of its own, and returns what it returns, or
// that its time is over, which is late.
func (h *timedHandler) await(ctx context.Context, inner *lease) (err error, late bool) {
	done := make(chan error, 1)
	go func() {
		var err error
		p := guard(func() { err = h.Handler.Serve(&inner.w, &inner.r) }, func() { done <- errHandlerExited })
		if p != nil {
			err = p
			if p.value == http.ErrAbortHandler {
				err = http.ErrAbortHandler
			}
		}
		done <- err
	}()
	select {
	case err := <-done:
		return err, false
	case <-ctx.Done():
	}
	if context.Cause(ctx) == ErrTimeout {
		return &StatusError{Code: http.StatusGatewayTimeout, Err: ErrTimeout}, true
	}
	return <-done, false // the client has left, which its writes tell it too
}
