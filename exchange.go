package flare

import "sync"

// This file is layer 4 (roles): requests and responses as reused objects. A
// frame keeps a few and hands out the one that has rested longest, so that a
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

var exchanges sync.Pool

// newExchange returns an exchange for the frame's connection.
func (f *frame) newExchange() *exchange {
	if f.spares > 0 {
		x := f.spare[0]
		f.spares--
		copy(f.spare[:], f.spare[1:f.spares+1])
		return x
	}
	if x, _ := exchanges.Get().(*exchange); x != nil {
		return x
	}
	x := new(exchange)
	x.r.reset()
	return x
}

// release readies x for another request. f is the frame of the connection's
// owner, nil outside a turn.
func (x *exchange) release(f *frame) {
	x.r.body.free()
	if raceEnabled {
		return // never reused, so that a use after the end is always found
	}
	x.r.reset()
	x.w.reset()
	x.handler, x.route, x.headLen, x.routed = nil, nil, 0, false
	switch {
	case f == nil:
		exchanges.Put(x)
	case f.spares < spareExchanges:
		f.spare[f.spares] = x
		f.spares++
	default:
		exchanges.Put(f.spare[0])
		copy(f.spare[:], f.spare[1:])
		f.spare[spareExchanges-1] = x
	}
}
