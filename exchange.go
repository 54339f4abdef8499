package flare

import "sync"

// This file is layer 4 (roles): requests and responses as reused objects, of
// which a workset keeps one. lease.go says how users reach them.

// An exchange is a request and its response, from the first byte of its head
// to the last byte of its body.
type exchange struct {
	lease   *lease // of the users of this request; nil: none yet
	r       serverRequest
	w       serverResponse
	handler Handler
	route   *route
	headLen int // bytes of the head
	routed  bool
}

// An exchangeCache is what a workset keeps for HTTP.
type exchangeCache struct {
	spare  *exchange // ready for reuse, or nil
	leases leases
}

// exchanges returns f's cache.
func (g *workset) exchanges() *exchangeCache {
	cache, ok := g.kept.(*exchangeCache)
	if !ok {
		cache = new(exchangeCache)
		g.kept = cache
	}
	return cache
}

// exchangePool has those that no workset keeps.
var exchangePool sync.Pool

// newExchange returns an exchange for the workset's connection.
func (g *workset) newExchange() *exchange {
	if cache := g.exchanges(); cache.spare != nil {
		x := cache.spare
		cache.spare = nil
		return x
	}
	if x, _ := exchangePool.Get().(*exchange); x != nil {
		return x
	}
	x := new(exchange)
	x.r.reset()
	x.w.header.accepted = &x.w.accepted
	return x
}

// release readies x for another request. g is the workset of the connection's
// owner, nil outside a turn.
func (x *exchange) release(g *workset) {
	if l := x.lease; l != nil {
		if l.state.Load()&leaseEnded == 0 {
			l.state.Or(leaseEnded)
			return // a turn was left by a panic: who is inside is not known, and nothing is reused
		}
		l.x, x.lease = nil, nil
	}
	x.r.body.free()
	if raceEnabled {
		return // never reused, so that a use after the end is always found
	}
	x.r.reset()
	x.w.reset()
	x.handler, x.route, x.headLen, x.routed = nil, nil, 0, false
	if g != nil {
		if cache := g.exchanges(); cache.spare == nil {
			cache.spare = x
			return
		}
	}
	exchangePool.Put(x)
}
