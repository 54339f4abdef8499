package flare

import (
	"errors"
	"time"
)

// This file is layer 4 (roles): time on a connection of the client's HTTP/2: who
// has waited too long, whether the server is still there, and when a connection
// without streams has rested long enough. One timer does all of it, and a deadline
// that moves into the future with each call does not touch it.

func (h *http2ClientHealth) init(c *http2ClientConn) {
	h.budget.left = http2BudgetMax
	h.timer = time.AfterFunc(time.Hour, c.tick)
	h.timer.Stop()
	c.mu.Lock()
	h.armNext(c, time.Now())
	c.mu.Unlock()
}

var errHTTP2Silent = errors.New("flare: no answer to a PING (RFC 9113 §6.7)")

// tick does what is due.
func (c *http2ClientConn) tick() {
	now := time.Now()
	c.mu.Lock()
	if c.err != nil {
		c.mu.Unlock()
		return
	}
	h, cfg := &c.health, c.cfg
	h.at = time.Time{}
	for _, st := range c.streams {
		st.expire(now)
	}
	h.see(c, now)
	switch {
	case c.active == 0 && cfg.idleTimeout > 0 && now.Sub(c.idle) >= cfg.idleTimeout:
		c.mu.Unlock()
		c.retire()
		return
	case !h.pinged.IsZero() && cfg.pingTimeout > 0 && now.Sub(h.signAt) >= cfg.pingTimeout:
		c.mu.Unlock()
		c.die(&ClientError{Phase: PhaseHead, Host: c.host, Kind: ErrTimeout, Err: errHTTP2Silent})
		return
	case c.active > 0 && h.pinged.IsZero() && cfg.pingAfter > 0 && now.Sub(h.heardAt) >= cfg.pingAfter:
		h.pinged, h.signAt, h.taken = now, now, c.taken()
		c.output.queue = appendHTTP2Ping(c.output.queue, clientPing, false)
	}
	h.armNext(c, now)
	c.flush()
}

// see looks for signs of life while a PING is under way: it stands behind what the
// server has yet to take, and its answer behind what the server sends, so that either
// is one. c.mu is held.
func (h *http2ClientHealth) see(c *http2ClientConn, now time.Time) {
	if h.pinged.IsZero() {
		return
	}
	if taken := c.taken(); taken != h.taken || h.heardAt.After(h.signAt) {
		h.signAt, h.taken = now, taken
	}
}

// taken returns how many octets the server has taken, as far as one can see. c.mu is
// held.
func (c *http2ClientConn) taken() int64 { return c.output.written - int64(c.sock.untaken()) }

// clientPing is what the client's PINGs hold; it has one under way at a time.
var clientPing = [pingBytes]byte{'f', 'l', 'a', 'r', 'e'}

// armNext sets the timer to the next time at which something may be due.
func (h *http2ClientHealth) armNext(c *http2ClientConn, now time.Time) {
	cfg := c.cfg
	for _, st := range c.streams {
		if st.waiting {
			h.arm(st.by)
		}
		h.arm(st.roomBy)
	}
	switch {
	case !h.pinged.IsZero() && cfg.pingTimeout > 0:
		h.arm(h.signAt.Add(cfg.pingTimeout))
	case c.active > 0 && cfg.pingAfter > 0:
		h.arm(h.heardAt.Add(cfg.pingAfter))
	}
	if c.active == 0 && cfg.idleTimeout > 0 {
		h.arm(c.idle.Add(cfg.idleTimeout))
	}
}

// armCalls is for when a stream begins: from the first of them on the server must
// not be silent. c.mu is held.
func (c *http2ClientConn) armCalls(now time.Time) {
	h := &c.health
	if after := c.cfg.pingAfter; after > 0 {
		if c.active == 1 && now.After(h.heardAt) {
			h.heardAt = now // silence without calls does not count
		}
		h.arm(h.heardAt.Add(after))
	}
}

// ponged takes the answer to a PING.
func (c *http2ClientConn) ponged(payload []byte, now time.Time) {
	h := &c.health
	if !h.pinged.IsZero() && string(payload) == string(clientPing[:]) {
		c.flow.measured(h.pinged, now)
		h.pinged = time.Time{}
	}
}
