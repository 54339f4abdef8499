package flare

import (
	"net/http"
	"strconv"
	"sync/atomic"
	"time"
)

// This file is layer 5 (surface): middleware that bounds what one route may be asked
// for: how long bodies are, and how many of its requests run at once. Their refusals
// are errors, which middleware further out sees. middleware_rate.go bounds requests
// in time, middleware_timeout.go the time that one takes.

// MaxBody is a middleware that bounds the request's body to n bytes: beyond them
// reading fails with a *StatusError of 413; where the request says beforehand that it
// has more, so does the first read, and the body is not asked for. Of several around
// each other the innermost counts, within Server.MaxBodyBytes. Negative is no limit.
func MaxBody(n int64) Middleware {
	return func(h Handler) Handler {
		return gatedHandler{h, func(w *ResponseWriter, r *Request) (bool, error) {
			x := r.lease.enter()
			if x == nil {
				return false, errRequestDone
			}
			defer r.lease.exit()
			x.r.body.bound(n)
			return true, nil
		}}
	}
}

const (
	limiterMax          = 100
	limiterQueueTimeout = time.Second
)

// A Limiter bounds how many requests are in its handlers at once: Wrap is the
// middleware, and all that one Limiter wraps count together. Requests beyond Max wait
// in the order in which they came, at most MaxQueue of them and each for QueueTimeout
// at most; others are refused with 503 and Retry-After. So are, with MaxLag, requests
// that could be handled, but that nobody came to for so long: there the processor is
// what is short. In each field 0 is the default and a negative value no limit; a
// negative MaxQueue is no queue. It must not be changed once it is in use.
//
// Around a whole server it is the outermost middleware of the Mux, or around
// Server.Handler. Max is for handlers that wait, and MaxLag for those that compute.
type Limiter struct {
	Max          int           // requests in the handlers; default 100
	MaxQueue     int           // requests that wait; default Max
	QueueTimeout time.Duration // of each; default 1 s
	MaxLag       time.Duration // from the loop's look at a whole batch of requests to each of them; default no limit

	slots   atomic.Pointer[chan struct{}]
	waiting atomic.Int64
}

// Wrap is the middleware.
func (l *Limiter) Wrap(h Handler) Handler {
	if l.max() < 0 {
		if l.MaxLag <= 0 {
			return h
		}
		return &limitedHandler{h, l, nil}
	}
	slots := make(chan struct{}, l.max())
	if !l.slots.CompareAndSwap(nil, &slots) {
		slots = *l.slots.Load()
	}
	return &limitedHandler{h, l, slots}
}

func (l *Limiter) max() int { return limitOr(l.Max, limiterMax) }

// queue is how many may wait.
func (l *Limiter) queue() int64 {
	if l.MaxQueue == 0 {
		return int64(l.max())
	}
	return int64(max(l.MaxQueue, 0))
}

type limitedHandler struct {
	Handler
	limiter *Limiter
	slots   chan struct{} // one in it for each request in the handlers; nil: no limit
}

func (h *limitedHandler) pinned() pin { return pinOf(h.Handler) }

func (h *limitedHandler) Serve(w *ResponseWriter, r *Request) error {
	if most := h.limiter.MaxLag; most > 0 && r.lag() > most {
		return h.refuse(w, r)
	}
	if h.slots == nil {
		return h.Handler.Serve(w, r)
	}
	select {
	case h.slots <- struct{}{}:
	default:
		if err := h.wait(w, r); err != nil {
			return err
		}
	}
	defer func() { <-h.slots }()
	return h.Handler.Serve(w, r)
}

// wait takes a slot when one is free. On a loop the others of the loop go on.
func (h *limitedHandler) wait(w *ResponseWriter, r *Request) error {
	l := h.limiter
	limit := limitOr(l.QueueTimeout, limiterQueueTimeout)
	if l.waiting.Add(1) > l.queue() {
		l.waiting.Add(-1)
		return h.refuse(w, r)
	}
	defer l.waiting.Add(-1)
	ctx := r.Context()
	if err := r.detach(); err != nil {
		return err
	}
	var late <-chan time.Time
	if limit > 0 {
		timer := time.NewTimer(limit)
		defer timer.Stop()
		late = timer.C
	}
	select {
	case h.slots <- struct{}{}:
		return nil
	case <-late:
		return h.refuse(w, r)
	case <-ctx.Done():
		return ctx.Err()
	}
}

func (h *limitedHandler) refuse(w *ResponseWriter, r *Request) error {
	r.spareHandler()
	retry := max(time.Second, limitOr(h.limiter.QueueTimeout, limiterQueueTimeout))
	w.Header().Set("Retry-After", strconv.Itoa(int((retry+time.Second-1)/time.Second)))
	return &StatusError{Code: http.StatusServiceUnavailable}
}

// lag is how long the processor has let the request wait since the loop came to know that
// its handler can be called.
func (r *Request) lag() time.Duration {
	x := r.lease.enter()
	if x == nil {
		return 0
	}
	defer r.lease.exit()
	l := x.strand.loop()
	if l == nil || x.due == 0 {
		return 0 // another server's request
	}
	if !l.dated.Load() {
		l.dated.Store(true)
		return 0 // when this batch was taken is not known to the millisecond
	}
	return time.Since(origin) - x.due
}

// detach takes the request off its loop, for middleware that is about to wait.
func (r *Request) detach() error {
	x := r.lease.enterBody()
	if x == nil {
		return errRequestDone
	}
	defer r.lease.exit()
	x.workset().detach()
	return nil
}
