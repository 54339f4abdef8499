package flare

import (
	"net/http"
	"runtime/debug"
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
	x        *exchange // the request in progress; nil while idle
	in       []byte    // what Data was given, during the call
	used     int
	requests int // begun on this connection
}

// Data answers one request at most.
func (h *httpConn) Data(c *Conn, in []byte, eof bool) (int, error) {
	h.in, h.used = in, 0
	for {
		next := c.state
		switch c.state {
		case stateIdle:
			next = h.idle(c)
		case stateHead:
			next = h.head(c)
		case stateBody:
			next = h.body(c)
		case stateHandler:
			next = h.handle(c)
		case stateDrain:
			next = h.drain(c)
		}
		if next == c.state {
			break
		}
		c.setState(next)
		if next == stateIdle || next == stateDrain || next == stateSwitched {
			break // what comes next is behind h.used, or was pushed back
		}
	}
	h.in = nil
	return h.used, nil
}

// Drained has nothing to do: handlers wait for room by themselves.
func (h *httpConn) Drained(*Conn) {}

// Closed gives back what a request in progress holds.
func (h *httpConn) Closed(c *Conn, err error) {
	if h.x != nil {
		h.x.release(nil)
		h.x = nil
	}
	h.srv.connClosed(c, StateClosed)
}

// idle waits for the first byte of a request.
func (h *httpConn) idle(c *Conn) connState {
	if len(h.in) == 0 {
		if c.eof {
			c.closing = true
		}
		return stateIdle
	}
	h.x = c.frame.newExchange()
	h.srv.told(c.peer, StateActive)
	return stateHead
}

// head waits for the end of a head.
func (h *httpConn) head(c *Conn) connState {
	x := h.x
	n, err := x.r.head.parse(h.in, &h.srv.lim.head)
	if err != nil {
		return h.refuse(c, err)
	}
	if n == 0 {
		if c.eof {
			c.closing = true // half a request is no request
		}
		return stateHead
	}
	x.headLen, c.moved = n, 0
	h.requests++
	c.frame.counts[countRequests]++
	if max := h.srv.lim.bodyBytes; max >= 0 && x.r.head.contentLength > max {
		return h.refuse(c, &StatusError{Code: 413, Err: ErrTooLarge})
	}
	return stateBody
}

// body waits for a short body, so that its handler need not.
func (h *httpConn) body(c *Conn) connState {
	head := &h.x.r.head
	if head.contentLength <= 0 || head.contentLength > awaitBodyMax || head.expectContinue {
		return stateHandler
	}
	if missing := h.x.headLen + int(head.contentLength) - len(h.in); missing > 0 {
		if c.eof {
			c.closing = true
		}
		if c.moved == 0 {
			c.began = c.frame.clock.now
		}
		if got := len(h.in); got > c.moved {
			c.moved, c.since = got, c.frame.clock.now // progress
		}
		return stateBody
	}
	return stateHandler
}

// handle runs the handler and sends its answer.
func (h *httpConn) handle(c *Conn) connState {
	x, f := h.x, c.frame
	r := &x.r
	r.begin(c, h, h.in[:x.headLen])
	if !x.routed {
		x.handler, x.route = h.srv.routeOf(r)
		x.routed = true
	}
	f.setRoute(x.route)
	if f.loop != nil && !x.route.onLoop() {
		c.want = wantWork
		return stateHandler
	}
	r.body.begin(c, h, &r.head, h.in[x.headLen:])
	f.reading, f.writing, f.readBy, f.writeBy = pace{}, pace{}, 0, 0
	if len(f.out) > 0 && (!r.body.arrived() || f.loop == nil && !x.route.onLoop()) && c.sendWait(nil) != nil {
		c.closing = true // earlier answers do not wait for a call that may
		return stateHandler
	}
	x.w.begin(c, h, r)
	err := h.run(f, x)
	if x.w.hijacked {
		h.hijackEnded(x, err)
		return c.state
	}
	if x.w.switched != nil {
		return h.switchTo(c, x, err)
	}
	x.w.finish(err)
	r.end()
	h.used = len(h.in) - r.body.leave(c)
	if !r.body.done && !c.closing {
		if r.body.left > drainBytesMax || r.body.expect {
			c.closing = true
			return stateHandler
		}
		c.began, c.moved = f.clock.now, 0
		return stateDrain
	}
	x.release(f)
	h.x = nil
	if c.closing {
		return stateHandler
	}
	h.srv.told(c.peer, StateIdle)
	return stateIdle
}

// hijackEnded is the end of a handler that took the connection over.
func (h *httpConn) hijackEnded(x *exchange, err error) {
	if err != nil {
		h.srv.logHandlerError(&x.r, err)
	}
	x.r.end()
	x.w.live = false
	h.x = nil // not reused: the user may hold what Hijack returned
}

// switchTo is the end of a handler that has answered 101: what follows the
// request is the other protocol's.
func (h *httpConn) switchTo(c *Conn, x *exchange, err error) connState {
	if err != nil {
		h.srv.logHandlerError(&x.r, err)
	}
	p := x.w.switched
	x.w.live = false
	h.used = x.headLen // such a request has no body
	x.r.end()
	x.release(c.frame)
	h.x = nil
	c.route = p.switched(c, err)
	c.Switch(p)
	return stateSwitched
}

// A switchedProtocol takes over from HTTP on the same connection. It has to
// tell the server when it is closed.
type switchedProtocol interface {
	Protocol
	// switched is called before the first Data, with what the handler returned,
	// and gives the predictor's record for Data.
	switched(c *Conn, err error) *route
}

// drain discards the rest of a body that its handler did not read.
func (h *httpConn) drain(c *Conn) connState {
	b := &h.x.r.body
	n, err := b.skip(h.in[h.used:])
	h.used += n
	c.moved += n
	c.since = c.frame.clock.now // progress
	if err != nil || c.moved > drainBytesMax || c.eof && !b.done {
		c.closing = true
		return stateDrain
	}
	if !b.done {
		return stateDrain
	}
	h.x.release(c.frame)
	h.x = nil
	h.srv.told(c.peer, StateIdle)
	return stateIdle
}

// run calls the handler and times it where the predictor asks for it.
func (h *httpConn) run(f *frame, x *exchange) error {
	rt := x.route
	if f.loop != nil {
		f.counts[countInline]++
		if f.timed == 0 {
			return h.call(f, x)
		}
		f.clock.read()
		before := f.clock.now
		err := h.call(f, x)
		f.clock.read()
		if f.clock.now-before > longCall && rt.pin == pinNone {
			rt.demote()
		}
		return err
	}
	f.counts[countWorker]++
	f.clock.read()
	before := f.clock.now
	err := h.call(f, x)
	f.clock.read()
	if rt.record(f.clock.now - before) {
		f.counts[countPromotions]++
	}
	return err
}

// call calls the handler. A panic becomes an error. runtime.Goexit ends the
// goroutine, but neither the loop nor the connection with it.
func (h *httpConn) call(f *frame, x *exchange) (err error) {
	returned := false
	defer func() {
		if returned {
			return
		}
		if p := recover(); p != nil {
			if p == http.ErrAbortHandler {
				err = http.ErrAbortHandler
				return
			}
			f.counts[countPanics]++
			err = &panicError{value: p, stack: debug.Stack()}
			return
		}
		h.goexit(f, x)
	}()
	err = x.handler.Serve(&x.w, &x.r)
	returned = true
	return err
}

// goexit ends the connection of a handler that called runtime.Goexit. Earlier
// answers of the turn are sent; the request gets none.
func (h *httpConn) goexit(f *frame, x *exchange) {
	c := f.conn
	if x.r.via != nil {
		x.w.live = false // the other server ends the connection
		x.r.end()
		return
	}
	f.detach()
	if c.gone {
		h.hijackEnded(x, nil)
		c.finish(f, verdictGone)
		return
	}
	begun := x.w.begun // a part of a response must not look whole
	x.w.drop()
	x.r.end()
	c.sendWait(nil)
	c.closing = true
	c.abort = c.abort || begun
	v := c.wind(f) // an orderly end: a reset would destroy the earlier answers
	c.frame, f.conn = nil, nil
	c.finish(f, v)
}

// refuse answers what no handler gets to see, and ends the connection.
func (h *httpConn) refuse(c *Conn, err error) connState {
	x := h.x
	if x.headLen == 0 { // else head has counted it
		c.frame.counts[countRequests]++
	}
	x.r.begin(c, h, h.in[:x.r.head.method.end]) // HEAD gets no content (RFC 9110 §9.3.2)
	x.r.refused = true
	x.w.begin(c, h, &x.r)
	x.w.close = true
	h.srv.refused(c, err)
	x.w.finish(refusalOf(err))
	x.r.end()
	c.closing = true
	return c.state
}

// refusalOf turns an error of the parser into what the client is told.
func refusalOf(err error) error {
	if e, ok := err.(*ParseError); ok {
		return &StatusError{Code: e.Status, Err: e}
	}
	return err
}

// expire answers a request that takes too long to arrive.
func (h *httpConn) expire(c *Conn) {
	if h.x != nil && c.unread != nil {
		h.in = c.unread.b
		h.refuse(c, &StatusError{Code: 408, Err: ErrTimeout})
		h.in = nil
	}
}
