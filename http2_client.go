package flare

import (
	"cmp"
	"errors"
	"io"
	"time"
)

// This file is layer 4 (roles): how streams of the client's HTTP/2 end, and the
// connection below them (RFC 9113 §5.4, §6.8).

// goAwayTime is what the last octets get to leave.
const goAwayTime = time.Second

var errHTTP2Cancel = errors.New("flare: the stream was closed")

// leave is for when a stream that existed does not any more. c.mu is held.
func (c *http2ClientConn) leave() {
	c.active--
	c.admit()
	if c.active > 0 {
		return
	}
	c.idle = time.Now()
	if c.leaving || !c.cfg.keepsIdle || c.next > streamMax {
		c.shut(nil)
		return
	}
	c.resting.rest(c, c.idle)
}

// admit gives streams to those who wait. c.mu is held.
func (c *http2ClientConn) admit() {
	for len(c.waiting) > 0 && (c.gone() || c.active < c.streamsMax()) {
		w := c.waiting[0]
		c.waiting = c.waiting[1:]
		if w.granted = !c.gone(); w.granted {
			c.active++
		}
		close(w.ready)
	}
}

// retire lets no more streams begin: those that have begun go on. It is not to be
// called with c.mu held.
func (c *http2ClientConn) retire() {
	c.pool.forget(c)
	c.mu.Lock()
	c.leaving = true
	c.resting.wake(c)
	c.admit()
	if c.active == 0 {
		c.shut(nil)
	}
	c.flush()
}

// shut says GOAWAY, for the fault or without one, and ends the connection when
// that has left. c.mu is held; flush has to follow.
func (c *http2ClientConn) shut(fault *http2Error) {
	if c.err != nil || c.output.last {
		return
	}
	c.leaving = true
	code := codeNone
	if fault != nil {
		code = fault.code
	}
	c.output.queue = appendGoAway(c.output.queue, 0, code)
	c.output.last = true
	time.AfterFunc(goAwayTime, c.close)
}

// die ends the connection for a reason, which is every stream's that is open. It
// is not to be called with c.mu held.
func (c *http2ClientConn) die(reason error) {
	c.pool.forget(c)
	c.mu.Lock()
	if c.err != nil {
		c.mu.Unlock()
		return
	}
	var fault *http2Error
	if errors.As(reason, &fault) {
		c.shut(fault) // the server may learn why
	}
	c.err = reason
	c.leaving = true
	c.resting.wake(c)
	for _, st := range c.streams {
		st.fail(st.endOf(reason))
	}
	c.admit()
	c.health.timer.Stop()
	told := c.output.last
	c.flush()
	if !told {
		c.close()
	}
}

// endOf is what the end of the connection means to streams: a server that has said
// GOAWAY with a reason has given it.
func (c *http2ClientConn) endOf(err error) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.output.err != nil {
		return c.output.err
	}
	if c.reading.away != nil && (err == io.EOF || cmp.Or(errorKind(err), ErrReset) == ErrReset) {
		return c.reading.away
	}
	return err
}

// endOf is what the end of the connection means to the stream: what was never
// handed to the socket was not sent, and what the system has not taken whole was
// not sent to its end. c.mu is held.
func (st *clientStream) endOf(err error) error {
	o := &st.c.output
	switch {
	case st.headAt >= o.handed:
		return errStale
	case st.endSent && st.endAt > o.written:
		return clientError(PhaseWrite, st.c.host, err)
	}
	return err
}

// closed takes the stream off the wire, and gives its place to others. c.mu is held.
func (st *clientStream) closed() {
	if st.open {
		st.open = false
		delete(st.c.streams, st.id)
		st.c.flow.grown -= st.grown
		st.grown = 0
	}
	if !st.gone {
		st.gone = true
		st.c.leave()
	}
}

// fail ends the stream with an error, which whoever waits is told. c.mu is held.
func (st *clientStream) fail(err error) {
	if st.err == nil && !(st.ended && st.final) {
		st.err = err
	}
	st.closed()
	st.wakeReader()
	st.wakeWriter()
}

// reset is fail for a stream that the server does not know to be over.
func (st *clientStream) reset(code http2Code, err error) {
	if st.open {
		st.c.resets.add(st.id, st.flow.left)
		st.c.output.queue = appendRSTStream(st.c.output.queue, st.id, code)
	}
	st.fail(err)
}
