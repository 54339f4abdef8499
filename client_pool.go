package flare

import (
	"sync"
	"time"
)

// This file is layer 4 (roles): connections of a client that rest between two
// requests. It knows how long each has rested; whether it still works is found
// out by who takes it. client_roundtrip.go calls it, from any goroutine.

// A clientPool hands out the connection that was put back last: the others get
// to grow old and go. The zero value with limits set is ready.
type clientPool struct {
	perRouteMax int           // 0 or less: none is kept
	totalMax    int           // 0 or less: none is kept
	idleTimeout time.Duration // 0 or less: for ever

	mu     sync.Mutex
	idle   map[clientRoute][]*clientConn  // each oldest first; guarded by mu
	total  int                            // in idle; guarded by mu
	shared map[*http2ClientConn]time.Time // of HTTP/2, without streams, since when; guarded by mu
	sweep  *time.Timer                    // runs while connections rest; guarded by mu
	closed bool                           // guarded by mu: nothing is kept any more
}

// get takes a connection, nil if none rests.
func (p *clientPool) get(route clientRoute, now time.Time) *clientConn {
	p.mu.Lock()
	list := p.idle[route]
	if len(list) == 0 {
		p.mu.Unlock()
		return nil
	}
	last := len(list) - 1
	c := list[last]
	if p.idleTimeout > 0 && now.Sub(c.idleSince) >= p.idleTimeout {
		p.mu.Unlock() // all the others are older; the sweep has them
		return nil
	}
	list[last] = nil
	p.total--
	if p.idle[route] = list[:last]; last == 0 && p.idleTimeout <= 0 {
		delete(p.idle, route) // no sweep comes for it
	}
	p.mu.Unlock()
	return c
}

// put lets a connection rest; what there is no room for is closed.
func (p *clientPool) put(c *clientConn, now time.Time) {
	c.idleSince = now
	var surplus func()
	p.mu.Lock()
	list := p.idle[c.route]
	switch {
	case p.closed || p.perRouteMax <= 0 || p.totalMax <= 0:
		p.mu.Unlock()
		c.close()
		return
	case len(list) >= p.perRouteMax:
		surplus = list[0].close
		copy(list, list[1:])
		list[len(list)-1] = c
	default:
		if p.full() {
			surplus = p.evict()
			list = p.idle[c.route]
		}
		if p.idle == nil {
			p.idle = make(map[clientRoute][]*clientConn)
		}
		p.idle[c.route] = append(list, c)
		p.total++
	}
	if p.sweep == nil && p.idleTimeout > 0 {
		p.sweep = time.AfterFunc(p.idleTimeout, p.sweepOld)
	}
	p.mu.Unlock()
	if surplus != nil {
		surplus()
	}
}

// full says whether for one more that rests one has to go. p.mu is held.
func (p *clientPool) full() bool { return p.total+len(p.shared) >= p.totalMax }

// rest notes that a connection of HTTP/2 has no streams, which may make one of all
// that rest end. The connection's mutex is held.
func (p *clientPool) rest(c *http2ClientConn, now time.Time) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.full() {
		go p.evict()() // not here: it may need the mutex of another connection
	}
	if p.shared == nil {
		p.shared = make(map[*http2ClientConn]time.Time)
	}
	p.shared[c] = now
}

// wake notes that a connection of HTTP/2 has streams again, or takes none any more.
// The connection's mutex is held.
func (p *clientPool) wake(c *http2ClientConn) {
	p.mu.Lock()
	delete(p.shared, c)
	p.mu.Unlock()
}

// evict takes out the connection that has rested longest, of which there is one, and
// returns what ends it. p.mu is held.
func (p *clientPool) evict() (end func()) {
	var oldest *clientConn
	for _, list := range p.idle {
		if len(list) > 0 && (oldest == nil || list[0].idleSince.Before(oldest.idleSince)) {
			oldest = list[0]
		}
	}
	var longest *http2ClientConn
	for c, since := range p.shared {
		if since.Before(p.shared[longest]) || longest == nil {
			longest = c
		}
	}
	if longest != nil && (oldest == nil || p.shared[longest].Before(oldest.idleSince)) {
		delete(p.shared, longest)
		return longest.retire
	}
	p.remove(oldest.route, 1)
	return oldest.close
}

// remove takes out the n oldest of a route. p.mu is held.
func (p *clientPool) remove(route clientRoute, n int) {
	list := p.idle[route]
	kept := copy(list, list[n:])
	clear(list[kept:])
	p.total -= n
	if kept == 0 {
		delete(p.idle, route)
		return
	}
	p.idle[route] = list[:kept]
}

// sweepOld closes what has rested too long, and comes again when the next one
// will have.
func (p *clientPool) sweepOld() {
	var old []*clientConn
	now := time.Now()
	next := time.Duration(-1)
	p.mu.Lock()
	for route, list := range p.idle {
		n := 0
		for n < len(list) && now.Sub(list[n].idleSince) >= p.idleTimeout {
			n++
		}
		if n < len(list) {
			if left := p.idleTimeout - now.Sub(list[n].idleSince); next < 0 || left < next {
				next = left
			}
		}
		old = append(old, list[:n]...)
		p.remove(route, n)
	}
	if next >= 0 {
		p.sweep.Reset(max(next, time.Millisecond))
	} else {
		p.sweep = nil
	}
	p.mu.Unlock()
	for _, c := range old {
		c.close()
	}
}

// closeIdle closes all that rest. With forGood none will rest any more.
func (p *clientPool) closeIdle(forGood bool) {
	p.mu.Lock()
	idle := p.idle
	p.idle, p.total = nil, 0
	p.closed = p.closed || forGood
	if p.sweep != nil {
		p.sweep.Stop()
		p.sweep = nil
	}
	p.mu.Unlock()
	for _, list := range idle {
		for _, c := range list {
			c.close()
		}
	}
}
