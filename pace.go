package flare

import "time"

// This file is layer 3 (engine): limits of time and rate on a peer. A rate is
// asked for only over time in which flare has waited for the peer, and only
// after a grace: a pause is not yet an attack, a trickle is.

// rateGrace is how long a peer may be as slow as it likes.
const rateGrace = 5 * time.Second

// A pace follows the waits of one handler in one direction.
type pace struct {
	waited time.Duration
	moved  int64 // bytes
}

// rateLimit is how long moved bytes may take at rate bytes a second; 0 for no
// limit.
func rateLimit(rate, moved int64) time.Duration {
	if rate <= 0 {
		return 0
	}
	return rateGrace + rateTime(rate, moved)
}

// rateTime is how long moved bytes take at rate bytes a second; 0 without one.
func rateTime(rate, moved int64) time.Duration {
	if rate <= 0 {
		return 0
	}
	return time.Duration(float64(moved) / float64(rate) * float64(time.Second))
}

// after returns when limit has passed since from; 0, for never, without one.
func after(from, limit time.Duration) time.Duration {
	if limit <= 0 {
		return 0
	}
	return from + limit
}

// soonest returns the earlier of two moments of which 0 is never.
func soonest(a, b time.Duration) time.Duration {
	if a == 0 || b != 0 && b < a {
		return b
	}
	return a
}

// await is Conn.await within limit without progress, rate bytes a second, and
// a deadline; each of them may be 0 for none.
func (p *pace) await(c *Conn, bit uint32, limit time.Duration, rate int64, deadline time.Duration) error {
	now := time.Since(origin)
	until := soonest(after(now, limit), deadline)
	if rate > 0 {
		until = soonest(until, now+rateLimit(rate, p.moved)-p.waited)
	}
	wait := time.Duration(0)
	if until != 0 {
		if wait = until - now; wait <= 0 {
			return ErrTimeout
		}
	}
	err := c.await(bit, wait)
	p.waited += time.Since(origin) - now
	return err
}
