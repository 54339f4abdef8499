package flare

import (
	"context"
	"io"
)

// This file is layer 4 (roles): which connection of the client's HTTP/2 a call
// goes over, and who makes it. A server gets one; while it is made, or while it is
// not known which version the server speaks, others wait for the outcome. Names
// are not put together on one connection, whatever its certificate says (RFC 9113
// §9.1.1 leaves that to the client).

// find returns a connection to a server that may speak HTTP/2, or a stream on one.
func (c *Client) find(ctx context.Context, route clientRoute, x *clientCall) (clientCarrier, error) {
	host := joinHostPort(route.origin.host, route.origin.port)
	for {
		conn, dial, mine := c.http2.look(route)
		switch {
		case conn != nil:
			st, err := conn.openStream(ctx, x.by)
			if err == nil {
				return st, nil
			}
			if err != errStale {
				return nil, clientError(x.phaseBefore(), host, err)
			}
			c.http2.forget(conn)
		case dial != nil && !mine:
			if err := dial.wait(ctx, x); err != nil {
				return nil, clientError(PhaseDial, host, err)
			}
		default:
			return c.connectAny(ctx, route, x, dial)
		}
	}
}

// http2RoutesMax is how many servers are remembered to speak HTTP/1.1.
const http2RoutesMax = 1 << 10

// look returns a connection of the route, or the dial that will bring one. It may
// be the caller's own to do. Neither: the server speaks HTTP/1.1, and nobody waits
// for others to connect.
func (p *http2ClientPool) look(route clientRoute) (conn *http2ClientConn, dial *http2ClientDial, mine bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	r := p.route(route)
	switch {
	case r.conn != nil:
		return r.conn, nil, false
	case r.dialing != nil && !r.http1:
		return nil, r.dialing, false
	case r.http1:
		return nil, nil, true
	}
	r.dialing = &http2ClientDial{done: make(chan struct{})}
	return nil, r.dialing, true
}

// route returns what is known of a route. p.mu is held.
func (p *http2ClientPool) route(route clientRoute) *http2ClientRoute {
	r := p.routes[route]
	if r == nil {
		if p.routes == nil {
			p.routes = make(map[clientRoute]*http2ClientRoute)
		}
		for old, r := range p.routes {
			if len(p.routes) >= http2RoutesMax && r.conn == nil && r.dialing == nil {
				delete(p.routes, old)
				break
			}
		}
		r = new(http2ClientRoute)
		p.routes[route] = r
	}
	return r
}

// wait waits for a connection that somebody else makes.
func (d *http2ClientDial) wait(ctx context.Context, x *clientCall) error {
	ctx, cancel := withLimit(ctx, x.by, 0)
	defer cancel()
	select {
	case <-d.done:
		return d.err
	case <-ctx.Done():
		return ctx.Err()
	}
}

// connectAny makes a connection of the version that the server speaks. d is what
// others wait for, nil for nothing.
func (c *Client) connectAny(ctx context.Context, route clientRoute, x *clientCall, d *http2ClientDial) (clientCarrier, error) {
	conn, err := c.connect(ctx, route, x.by)
	var made *http2ClientConn
	var st *clientStream
	if err == nil && c.cfg.http2.agreed(&conn.clientLink) {
		made = newHTTP2ClientConn(c, conn.clientLink)
		if st, err = made.openStream(ctx, x.by); err == errStale { // else it does not wait
			err = clientError(x.phaseBefore(), conn.host, made.endOf(io.EOF))
		}
	}
	if d != nil && err != nil && ctx.Err() == nil && (x.by.IsZero() || errorKind(err) != ErrTimeout) {
		d.err = err // else it is the caller's own
	}
	surplus := c.http2.connected(route, made, err, d)
	if surplus {
		made.retire()
	}
	switch {
	case err != nil:
		return nil, err
	case st != nil:
		return st, nil
	}
	return conn, nil
}

// connected notes what came of a dial, and lets those go on who waited for it. It
// returns true for a connection that is one too many.
func (p *http2ClientPool) connected(route clientRoute, made *http2ClientConn, err error, d *http2ClientDial) (surplus bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	r := p.route(route)
	switch {
	case made != nil && r.conn == nil:
		r.conn, r.http1 = made, false
	case made != nil:
		surplus = true
	case err == nil:
		r.http1 = true
	}
	if d != nil {
		r.dialing = nil
		close(d.done)
	}
	return surplus
}

// closeIdle ends the connections without streams.
func (p *http2ClientPool) closeIdle() {
	p.mu.Lock()
	var conns []*http2ClientConn
	for _, r := range p.routes {
		if r.conn != nil {
			conns = append(conns, r.conn)
		}
	}
	p.mu.Unlock()
	for _, c := range conns {
		c.mu.Lock()
		idle := c.active == 0
		c.mu.Unlock()
		if idle {
			c.retire()
		}
	}
}
