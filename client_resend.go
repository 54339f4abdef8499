package flare

import (
	"context"
	"errors"
	"math/rand/v2"
	"time"
)

// This file is layer 4 (roles): a request that the server says it has not looked
// at is sent again, whatever its method (RFC 9113 §8.7). client_roundtrip.go calls
// it; HTTP/1.1 has nothing like it.

const (
	// A server that refuses once has been asked too much at a time, or is about to
	// go: the first attempt follows at once, later ones after a time that doubles.
	resendDelayFirst = 5 * time.Millisecond
	resendDelayMax   = time.Second
)

// A resend is the state of a call that is sent again and again.
type resend struct {
	route *clientRoute
	begun time.Time // zero: not yet
	delay time.Duration
}

// isHTTP1Required says whether the server wants the request over HTTP/1.1 (RFC 9113
// §7).
func isHTTP1Required(err error) bool {
	var reset *http2Reset
	return errors.As(err, &reset) && reset.code == codeHTTP11Required && !reset.away
}

// wait lets some time pass before the next attempt. It returns err once the answer
// has been waited for as long as it may be, the context's if that ends.
func (r *resend) wait(ctx context.Context, x *clientCall, err error, limit time.Duration) error {
	if isHTTP1Required(err) {
		if r.route.http1 {
			return err
		}
		r.route.http1 = true
		return nil
	}
	now := time.Now()
	if r.begun.IsZero() {
		r.begun, r.delay = now, resendDelayFirst
		return nil
	}
	delay := r.delay/2 + rand.N(r.delay/2+1)
	if by := limitFrom(r.begun, limit, x.by); !by.IsZero() && now.Add(delay).After(by) {
		return err
	}
	r.delay = min(2*r.delay, resendDelayMax)
	timer := time.NewTimer(delay)
	defer timer.Stop()
	select {
	case <-timer.C:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}
