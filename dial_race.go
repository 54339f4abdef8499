package flare

import (
	"context"
	"net"
	"net/netip"
	"slices"
	"time"
)

// This file is layer 4 (roles): which address of a host is connected: RFC 8305.
// It knows a Resolver and a way to connect to one address; dial.go calls it.

const (
	// dialStagger is how long an attempt has the field to itself (RFC 8305 §5).
	dialStagger = 250 * time.Millisecond

	// resolutionDelay is how long the addresses of the other family wait for
	// those of the preferred one (RFC 8305 §3).
	resolutionDelay = 50 * time.Millisecond
)

// A dialRace finds out which address of a host answers first.
type dialRace struct {
	dial    func(ctx context.Context, network, addr string) (net.Conn, error)
	port    uint16
	waiting [2][]netip.Addr // by family, not tried yet
	turn    int             // the family that is next
	running int             // attempts
	looking int             // look-ups that are not back
	first   int             // the family that is preferred
	held    bool            // the other one waits for it to be looked up
	err     error           // the first attempt's, or a look-up's
	tried   bool            // err is an attempt's
	results chan dialResult
}

type dialResult struct {
	conn net.Conn
	err  error
}

// run dials host until one address is connected, all have failed, or ctx ends.
func (d *dialRace) run(ctx context.Context, resolver *Resolver, host string) (net.Conn, error) {
	if addr, ok := literalAddr(host); ok && slices.Contains(resolver.Order.families(), familyOf(addr)) {
		d.tried = true
		return d.attempt(ctx, addr) // nothing to look up, nobody to race with
	}
	outer := ctx
	ctx, cancel := context.WithCancel(ctx) // ends the losers
	defer cancel()
	d.results = make(chan dialResult)
	answers := resolver.look(ctx, host)
	d.looking = len(resolver.Order.families())
	d.first = resolver.Order.first()
	d.turn = d.first
	return d.await(outer, ctx, answers)
}

// await starts attempts as addresses and time allow, until one is connected, all
// have failed, or outer ends. Attempts have ctx, which outer's end ends too.
func (d *dialRace) await(outer, ctx context.Context, answers <-chan lookupResult) (net.Conn, error) {
	next := time.NewTimer(0)
	next.Stop()
	defer next.Stop()
	staggered := true // the next attempt may start
	for {
		if d.ready() && (staggered || d.running == 0) {
			d.start(ctx)
			staggered = false
			next.Reset(dialStagger)
		}
		if d.running == 0 && d.looking == 0 && !d.more() {
			return nil, d.err
		}
		select {
		case a := <-answers:
			if d.looked(a) {
				next.Reset(resolutionDelay)
			}
		case r := <-d.results:
			if r.err == nil {
				return r.conn, nil
			}
			d.running--
			d.failed(r.err, true)
			staggered = true // RFC 8305 §5: no reason to wait any more
		case <-next.C:
			staggered, d.held = true, false
		case <-outer.Done():
			return nil, outer.Err()
		}
	}
}

// dialled says whether the race has got beyond looking the host up.
func (d *dialRace) dialled() bool { return d.tried || d.running > 0 }

// looked takes the answer of a look-up, and says whether its addresses are to
// wait a little.
func (d *dialRace) looked(a lookupResult) bool {
	d.looking--
	d.waiting[a.family] = a.addrs
	if a.err != nil {
		d.failed(a.err, false)
	}
	if a.family == d.first {
		d.held = false
		return false
	}
	d.held = d.looking > 0 && d.running == 0
	return d.held
}

func (d *dialRace) failed(err error, attempt bool) {
	if d.err == nil || attempt && !d.tried {
		d.err, d.tried = err, attempt
	}
}

func (d *dialRace) more() bool {
	return len(d.waiting[familyIPv6])+len(d.waiting[familyIPv4]) > 0
}

func (d *dialRace) ready() bool { return d.more() && !d.held }

// start tries the next address; families take turns (RFC 8305 §4).
func (d *dialRace) start(ctx context.Context) {
	family := d.turn
	if len(d.waiting[family]) == 0 {
		family = 1 - family
	}
	addr := d.waiting[family][0]
	d.waiting[family] = d.waiting[family][1:]
	d.turn = 1 - family
	d.running++
	go func() {
		conn, err := d.attempt(ctx, addr)
		select {
		case d.results <- dialResult{conn, err}:
		case <-ctx.Done():
			if conn != nil {
				conn.Close()
			}
		}
	}()
}

func (d *dialRace) attempt(ctx context.Context, addr netip.Addr) (net.Conn, error) {
	return d.dial(ctx, "tcp", netip.AddrPortFrom(addr.Unmap(), d.port).String())
}
