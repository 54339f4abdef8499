package flare

import "sync"

// This file is layer 4 (roles): requests and responses as reused objects. A
// workset keeps a few and hands out the one that has rested longest, so that a
// use after the handler's return is likely to meet an object that is not live,
// and panics, rather than another request.

const spareExchanges = 4

// An exchange is a request and its response, from the first byte of its head
// to the last byte of its body.
type exchange struct {
	r       Request
	w       ResponseWriter
	handler Handler
	route   *route
	headLen int // bytes of the head
	routed  bool
}

// An exchangeCache is what a workset keeps for HTTP: exchanges ready for reuse,
// as a ring.
type exchangeCache struct {
	spare  [spareExchanges]*exchange
	oldest uint
	n      uint
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
	if cache := g.exchanges(); cache.n > 0 {
		x := cache.spare[cache.oldest%spareExchanges]
		cache.oldest++
		cache.n--
		return x
	}
	if x, _ := exchangePool.Get().(*exchange); x != nil {
		return x
	}
	x := new(exchange)
	x.r.reset()
	return x
}

// release readies x for another request. g is the workset of the connection's
// owner, nil outside a turn.
func (x *exchange) release(g *workset) {
	x.r.body.free()
	if raceEnabled {
		return // never reused, so that a use after the end is always found
	}
	x.r.reset()
	x.w.reset()
	x.handler, x.route, x.headLen, x.routed = nil, nil, 0, false
	if g == nil {
		exchangePool.Put(x)
		return
	}
	cache := g.exchanges()
	next := &cache.spare[(cache.oldest+cache.n)%spareExchanges]
	if cache.n == spareExchanges {
		exchangePool.Put(*next)
		cache.oldest++
		cache.n--
	}
	*next = x
	cache.n++
}
