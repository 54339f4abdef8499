package flare

import (
	"math"
	"sync"
	"time"
)

// This file is layer 5 (surface): limits of time on requests that net/http's
// server has received: what flare bounds, and its handlers, by the deadlines that
// there are.

// A carrierDeadline bounds the waits in one direction by a limit without
// progress, and by a deadline of the handler's.
type carrierDeadline struct {
	k     *httpCarrier
	write bool          // the direction
	limit time.Duration // 0: none

	mu    sync.Mutex
	user  time.Time // guarded by mu; zero: none
	free  bool      // guarded by mu: the handler has lifted the limit
	armed time.Time // guarded by mu: what was set; zero: no more than user
	waits int       // guarded by mu: calls between arm and leave
	ended bool      // guarded by mu: no wait is to go on
	cut   bool      // guarded by mu: the other server was told so
}

// set sets the other server's deadline.
func (d *carrierDeadline) set(t time.Time) error {
	if d.write {
		return d.k.rc.SetWriteDeadline(t)
	}
	return d.k.rc.SetReadDeadline(t)
}

// breakOff ends what waits, and what would. With nobody there the other server is
// not told: over HTTP/2 a deadline for writing that has passed ends the stream.
func (d *carrierDeadline) breakOff() {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.ended = true; d.waits > 0 {
		d.cutOff()
	}
}

// cutOff is called with mu held.
func (d *carrierDeadline) cutOff() {
	d.cut = true
	d.set(longAgo)
}

// mend gives further calls their time again.
func (d *carrierDeadline) mend() {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.ended = false; d.cut {
		d.cut, d.armed = false, time.Time{}
		d.set(d.user)
	}
}

// arm begins a wait. A deadline that is a little later than asked for saves
// setting it each time.
func (d *carrierDeadline) arm() {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.waits++; d.ended {
		d.cutOff()
		return
	}
	if d.limit <= 0 || d.free {
		return
	}
	now := time.Now()
	by := d.armed
	if by.Sub(now) < d.limit {
		by = now.Add(d.limit + min(d.limit/4, math.MaxInt64-d.limit))
	}
	if !d.user.IsZero() && d.user.Before(by) {
		by = d.user
	}
	if !by.Equal(d.armed) {
		d.armed = by
		d.set(by) // without deadlines there is no server to be kept waiting
	}
}

// leave ends a wait.
func (d *carrierDeadline) leave() {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.waits--
}

// disarm takes the limit away and leaves the handler's deadline.
func (d *carrierDeadline) disarm() {
	d.mu.Lock()
	defer d.mu.Unlock()
	if !d.armed.IsZero() && !d.ended {
		d.armed = time.Time{}
		d.set(d.user)
	}
}

func (d *carrierDeadline) setUser(t time.Time) error {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.user, d.free = t, t.IsZero(); d.ended {
		return nil
	}
	d.armed = time.Time{}
	return d.set(t)
}
