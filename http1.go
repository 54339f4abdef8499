package flare

import (
	"math"
	"net/http"
)

// This file is layer 4 (roles): HTTP/1.1 as a Protocol: one method for each
// state of a connection, and the driver that calls them. A state's method
// returns the next state; returning its own means to wait. It knows requests
// and handlers, and nothing of sockets or of who calls it.
//
// The turn of a request: idle → head → body → handler → idle.

// awaitBodyMax is the longest body that is awaited before its handler runs.
const awaitBodyMax = 64 << 10

// drainBytesMax is how much of a body that its handler left unread is
// discarded to keep the connection.
const drainBytesMax = 256 << 10

// An httpConn is the HTTP side of a connection. It belongs to the connection's
// owner.
type httpConn struct {
	srv      *Server
	x        *exchange   // the request in progress, on an http1Stream; nil while idle
	requests int32       // begun on this connection; no more than there is room for
	ages     shortMoment // when the connection is to end by its age
}

// Data answers one request at most.
func (h *httpConn) Data(c *Conn, in []byte, eof bool) (int, error) {
	used := 0
	for {
		next := c.state
		switch c.state {
		case stateIdle:
			next = h.idle(c, in)
		case stateHead:
			next = h.head(c, in)
		case stateBody:
			next = h.body(c, in)
		case stateHandler:
			next, used = h.handle(c, in)
		case stateDrain:
			next, used = h.drain(c, in)
		}
		if next == c.state {
			break
		}
		c.setState(next)
		if next == stateIdle || next == stateDrain || next == stateSwitched {
			break // what comes next is behind what was used, or was pushed back
		}
	}
	return used, nil
}

// Drained has nothing to do: handlers wait for room by themselves.
func (h *httpConn) Drained(*Conn) {}

// Closed gives back what a request in progress holds.
func (h *httpConn) Closed(c *Conn, err error) {
	h.release(nil)
	h.srv.connEnded(c, http.StateClosed)
}

// idle waits for the first byte of a request.
func (h *httpConn) idle(c *Conn, in []byte) connState {
	if len(in) == 0 {
		if c.eof {
			c.end(endFlushed, nil)
		}
		return stateIdle
	}
	if h.requests == 0 && h.srv.opensHTTP2(c, in) {
		return stateIdle
	}
	h.begin(c)
	h.srv.notifyState(c, http.StateActive)
	return stateHead
}

// begin readies an exchange for the request whose first octet has come.
func (h *httpConn) begin(c *Conn) {
	x := c.workset.newExchange()
	s, _ := x.stream.(*http1Stream)
	if s == nil {
		s = &http1Stream{x: x}
		x.stream = s
	}
	if s.c != c {
		s.c, s.h = c, h
		x.srv, x.strand = h.srv, &c.strand
	}
	x.began = c.workset.clock.now
	if h.requests == 0 {
		h.ages = momentOf(ageEnd(x.began, h.srv.MaxConnAge))
	}
	h.x = x
}

// stream returns that of the request in progress.
func (h *httpConn) stream() *http1Stream { return h.x.stream.(*http1Stream) }

// release ends the exchange, if there is one. g is the workset of the connection's
// owner, nil outside a turn.
func (h *httpConn) release(g *workset) {
	x := h.x
	if x == nil {
		return
	}
	s := h.stream()
	h.x = nil
	s.free()
	if x.reset() {
		s.reset()
		x.release(g)
	}
}

// head waits for the end of a head.
func (h *httpConn) head(c *Conn, in []byte) connState {
	x := h.x
	n, err := x.r.head.parse(in, &h.srv.lim.head)
	if err != nil {
		return h.refuse(c, in, err)
	}
	if n == 0 {
		if c.eof {
			c.end(endFlushed, nil) // half a request is no request
		}
		return stateHead
	}
	h.stream().headLen, c.moved, x.whole = n, 0, true
	if h.requests < math.MaxInt32 {
		h.requests++
	}
	c.workset.counts[countRequests]++
	if !h.srv.http2.http1 { // nor HTTP/2 here, or its connection would have been begun
		return h.refuse(c, in, &StatusError{Code: http.StatusHTTPVersionNotSupported, Message: "HTTP/1.1 is not served here", Err: errNotOffered})
	}
	if err := h.srv.refusesBody(&x.r.head); err != nil {
		return h.refuse(c, in, err)
	}
	return stateBody
}

// body waits for a short body, so that its handler need not.
func (h *httpConn) body(c *Conn, in []byte) connState {
	head := &h.x.r.head
	if head.contentLength <= 0 || head.contentLength > awaitBodyMax || head.expectContinue {
		return stateHandler
	}
	if missing := h.stream().headLen + int(head.contentLength) - len(in); missing > 0 {
		if c.eof {
			c.end(endFlushed, nil)
		}
		if c.moved == 0 {
			c.began = c.workset.clock.now
		}
		if got := len(in); got > c.moved {
			c.moved, c.since = got, c.workset.clock.now // progress
		}
		return stateBody
	}
	return stateHandler
}

// handle runs the handler and sends its answer. It reports how much of in the
// request was.
func (h *httpConn) handle(c *Conn, in []byte) (next connState, used int) {
	x, s, g := h.x, h.stream(), c.workset
	r := &x.r
	r.begin(in[:s.headLen])
	if x.route == nil {
		x.due = g.batchTaken()
		x.handler, x.route = h.srv.routeOf(r)
	}
	g.setRoute(x.route)
	if g.loop != nil && !g.loop.inline(x.route) {
		c.want = wantWork
		return stateHandler, 0
	}
	s.beginBody(in[s.headLen:])
	g.forget()
	if len(g.out) > 0 && (!s.ended && s.arrived() < 0 || g.loop == nil && !x.route.onLoop()) && c.sendWait(nil) != nil {
		c.end(endFlushed, nil) // earlier answers do not wait for a call that may
		return stateHandler, 0
	}
	err := x.run(g)
	c.called(g)
	if x.w.hijacked {
		h.hijackEnded(x, err)
		return c.state, 0
	}
	if x.w.switched != nil {
		used = s.headLen // such a request has no body
		return h.switchTo(c, x, err), used
	}
	x.w.finish(err)
	c.called(g)
	s.endContext()
	used = len(in) - s.handBack()
	return h.answered(c, s), used
}

// answered is the end of a request whose answer is complete: what is left of its
// body is discarded first, or the connection ends.
func (h *httpConn) answered(c *Conn, s *http1Stream) connState {
	g := c.workset
	if !s.ended && c.ending == endNot {
		if s.remaining > drainBytesMax || s.expect {
			c.end(endFlushed, nil)
			return stateHandler
		}
		c.began, c.moved = g.clock.now, 0
		return stateDrain
	}
	h.release(g)
	if c.ending != endNot {
		return stateHandler
	}
	h.srv.notifyState(c, http.StateIdle)
	return stateIdle
}

// hijackEnded is the end of a handler that took the connection over.
func (h *httpConn) hijackEnded(x *exchange, err error) {
	if err != nil {
		h.srv.logHandlerError(&x.r, err)
	}
	h.stream().endContext()
	x.ended(err)
	x.lease.x, h.x = nil, nil // not reused: it is no exchange of a loop's any more
}

// switchTo is the end of a handler that has answered 101: what follows the
// request is the other protocol's.
func (h *httpConn) switchTo(c *Conn, x *exchange, err error) connState {
	if err != nil {
		h.srv.logHandlerError(&x.r, err)
	}
	p := x.w.switched
	h.stream().endContext()
	x.ended(err)
	h.release(c.workset)
	c.route = p.switched(c, err)
	c.Switch(p)
	return stateSwitched
}

// drain discards the rest of a body that its handler did not read, and reports
// how much of in that was.
func (h *httpConn) drain(c *Conn, in []byte) (next connState, used int) {
	used, err := h.stream().skip(in)
	c.moved += used
	c.since = c.workset.clock.now // progress
	if err != nil || c.moved > drainBytesMax || c.eof && !h.stream().ended {
		c.end(endFlushed, nil)
		return stateDrain, used
	}
	if !h.stream().ended {
		return stateDrain, used
	}
	h.release(c.workset)
	h.srv.notifyState(c, http.StateIdle)
	return stateIdle, used
}

// exited ends the connection for code of the user that called runtime.Goexit: a
// handler, or what is asked and told around it. Earlier answers of the turn are
// sent; the request gets none.
func (h *httpConn) exited(c *Conn) verdict {
	x, begun := h.x, false
	if x != nil {
		x.close()
		x.endedAway(errHandlerExited)
		if c.ending == endHandedOver {
			h.hijackEnded(x, nil)
			return verdictGone
		}
		if p := x.w.switched; p != nil {
			h.switchTo(c, x, nil)
			return p.exited(c)
		}
		begun = x.w.begun // a part of a response must not look whole
		x.w.drop()
		h.stream().endContext()
	}
	c.sendWait(nil)
	c.workset.clock.read() // it may all have taken long
	c.end(endFlushed, nil)
	if begun {
		c.end(endReset, nil)
	}
	return c.closeGracefully(c.workset) // an orderly end: a reset would destroy the earlier answers
}

// refuse answers what no handler gets to see, and ends the connection.
func (h *httpConn) refuse(c *Conn, in []byte, err error) connState {
	if h.stream().headLen == 0 { // else head has counted it
		c.workset.counts[countRequests]++
	}
	if n := h.stream().headLen; n > 0 {
		in = in[:n]
	}
	c.workset.forget()
	h.x.refuse(c.workset, in, err)
	h.stream().endContext()
	c.end(endFlushed, nil)
	return c.state
}

// expire answers a request that takes too long to arrive.
func (h *httpConn) expire(c *Conn) {
	if h.x != nil && c.unread != nil {
		h.refuse(c, c.unread.b, &StatusError{Code: 408, Err: ErrTimeout})
	}
}

// last reports whether the request in progress is its connection's last.
func (h *httpConn) last() bool {
	return h.srv.draining.Load() || h.srv.lim.requests >= 0 && int(h.requests) >= h.srv.lim.requests ||
		h.ages != 0 && h.ages.reached(h.stream().c.workset.clock.now)
}
