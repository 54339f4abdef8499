package flare

import (
	"sync"
	"time"
)

// This file is layer 4 (roles): requests and responses as reused objects, of
// which a workset keeps one. lease.go says how users reach them, exchange_stream.go
// what they stand on, exchange_run.go how a handler is called with one.

// An exchange is a request and its response, from the first byte of its head
// to the last byte of its body.
type exchange struct {
	lease   *lease // of the users of this request; nil: none yet
	stream  stream // what it came by; kept for reuse
	strand  *strand
	srv     *Server
	r       serverRequest
	w       serverResponse
	handler Handler
	route   *route // nil: not routed yet

	began   time.Duration // when the first octet had come; 0: nobody has looked yet
	due     time.Duration // when the loop came to know that the handler can be called; 0: not known
	refusal error         // of a request that no handler sees, while Server.Refusals is asked
	refused bool          // no handler sees it
	whole   bool          // its head was understood to its end
	told    bool          // AccessHook has been told
	spared  bool          // the handler was, by middleware: the call says nothing of how long it takes
}

// An exchangeCache is what a workset keeps for HTTP.
type exchangeCache struct {
	spare   *exchange // ready for reuse, or nil
	streams any       // what a version of many streams keeps beside; nil: nothing
	leases  leases
	pattern []byte // of a route, while it is counted
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

// newExchange returns an exchange for the workset's connection. Its stream is nil,
// or one that was kept.
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
	x.init()
	return x
}

// init readies x, new, for its first request.
func (x *exchange) init() {
	x.r.x, x.r.body.x, x.w.x, x.w.r = x, x, x, &x.r
	x.w.header.accepted = &x.w.accepted
	x.r.reset()
	x.w.reset()
}

// workset is that of the goroutine on which x has its turn.
func (x *exchange) workset() *workset { return x.strand.workset }

// reset forgets the request, and reports whether x can have another.
func (x *exchange) reset() bool {
	if l := x.lease; l != nil {
		if l.state.Load()&leaseEnded == 0 {
			l.state.Or(leaseEnded)
			return false // a turn was left by a panic: who is inside is not known, and nothing is reused
		}
		l.x, x.lease = nil, nil
	}
	if raceEnabled {
		return false // never reused, so that a use after the end is always found
	}
	x.r.reset()
	x.w.reset()
	x.handler, x.route = nil, nil
	x.began, x.due, x.refusal = 0, 0, nil
	x.refused, x.whole, x.told, x.spared = false, false, false, false
	return true
}

// release gives x to whoever needs one next, once it and its stream were reset. g
// is the workset of the connection's owner, nil outside a turn.
func (x *exchange) release(g *workset) {
	if g != nil {
		if cache := g.exchanges(); cache.spare == nil {
			cache.spare = x
			return
		}
	}
	exchangePool.Put(x)
}
