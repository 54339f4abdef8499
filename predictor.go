package flare

import (
	"sync"
	"sync/atomic"
	"time"
)

// This file is layer 3 (engine): the predictor. For each route it decides
// whether the next call runs on the loop or on a worker goroutine. Guessing
// "worker" wrongly costs a goroutine, guessing "inline" wrongly costs every
// connection of the loop up to two ticks, so a route has to prove itself:
// it starts on a worker and comes inline after a run of short calls; a call
// that waits or runs long sends it back, to prove itself twice as long.

const (
	shortCall     = 100 * time.Microsecond // a call that may run on the loop
	longCall      = 500 * time.Microsecond // a timed inline call that may not
	longTurn      = time.Millisecond       // a batch that takes so long, and usualTurn for each connection
	usualTurn     = 20 * time.Microsecond  // in it, turns on timing of inline calls
	timedTurns    = 16                     // for so many batches
	needFirst     = 32                     // short calls in a row before the first promotion
	needMax       = 1 << 20                // and at most
	routesLearned = 1024                   // routes of a handler that is no Router; the rest share one
)

// A pin is the choice of Inline or Offload for a route.
type pin uint8

const (
	pinNone pin = iota
	pinInline
	pinOffload
)

// A route is the predictor's record of one route. All fields are atomic: calls
// of one route end on any number of goroutines.
type route struct {
	inline atomic.Bool
	run    atomic.Uint32 // short calls in a row
	need   atomic.Uint32 // short calls in a row that promote
	pin    pin           // fixed before the first call
}

type routePointer struct{ atomic.Pointer[route] }

// newRoute returns the record of a route that has proven nothing yet.
func newRoute() *route {
	rt := new(route)
	rt.need.Store(needFirst)
	return rt
}

// onLoop reports whether the next call may run on the loop.
func (rt *route) onLoop() bool {
	switch rt.pin {
	case pinInline:
		return true
	case pinOffload:
		return false
	}
	return rt.inline.Load()
}

// record notes how long a call on a worker took and reports whether it
// promoted the route.
func (rt *route) record(took time.Duration) (promoted bool) {
	if took >= shortCall {
		rt.run.Store(0)
		return false
	}
	if rt.inline.Load() || rt.run.Add(1) < rt.need.Load() {
		return false
	}
	rt.run.Store(0)
	return rt.pin == pinNone && !rt.inline.Swap(true)
}

// demote sends the route to workers; the next promotion takes twice as long.
func (rt *route) demote() {
	rt.run.Store(0)
	if !rt.inline.Swap(false) {
		return
	}
	demotions.Add(1)
	if need := rt.need.Load(); need < needMax {
		rt.need.CompareAndSwap(need, 2*need)
	}
}

// demotions counts over the whole process: routes belong to handlers, which
// servers may share.
var demotions atomic.Uint64

// A routeRecords finds the record of a route by name, for handlers that are
// no Mux. Reading takes no lock.
type routeRecords struct {
	mu    sync.Mutex // held to add
	known atomic.Pointer[map[string]*route]
	rest  route // of all names after routesLearned
}

// find returns the record for key, pinned to p when it is new. key may alias a
// request's bytes.
func (t *routeRecords) find(key string, p pin) *route {
	if known := t.known.Load(); known != nil {
		if rt := (*known)[key]; rt != nil {
			return rt
		}
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	old := t.known.Load()
	if old != nil {
		if rt := (*old)[key]; rt != nil {
			return rt
		}
		if len(*old) >= routesLearned {
			// Names come from the network: they must not fill the memory.
			t.rest.need.CompareAndSwap(0, needFirst)
			return &t.rest
		}
	}
	grown := make(map[string]*route)
	if old != nil {
		for k, v := range *old {
			grown[k] = v
		}
	}
	rt := newRoute()
	rt.pin = p
	grown[string(append([]byte(nil), key...))] = rt
	t.known.Store(&grown)
	return rt
}
