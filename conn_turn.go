package flare

import "time"

// This file is layer 3 (engine): a connection's turn: it sends what is queued,
// receives, and feeds its Protocol; or its time is over. conn_send.go has the way
// out, conn_close.go the end, baton.go who may do any of it.

// takeTurn is one turn of the connection on workset g. It touches only the
// connection and the workset, so the runner and an owner run the same code.
//
// Code of the user that panics where nobody nearer has dealt with it ends the
// connection, and so does runtime.Goexit, which ends the goroutine as well.
func (c *Conn) takeTurn(g *workset, kind turnKind) (v verdict) {
	c.workset, g.strand = g, &c.strand
	p := guard(func() {
		switch kind {
		case turnDrive:
			v = c.step(g)
		case turnFlush:
			v = c.flushSession(g)
		case turnExpire:
			v = c.expiredAny(g)
		case turnDiscard:
			v = c.discardInput(g)
		}
	}, c.exited)
	if p != nil {
		v = c.panicked(g, p)
	}
	c.workset, g.strand = nil, nil
	return v
}

func (c *Conn) drive(g *workset) verdict { return c.takeTurn(g, turnDrive) }

// step sends what is queued, receives, and feeds the protocol. On a loop it
// receives once, so that others get their turn.
func (c *Conn) step(g *workset) verdict {
	if c.many {
		return c.stepSession(g)
	}
	if c.state == stateHandshake {
		if v := c.tr.handshake(g); v != verdictMore || c.many {
			return v
		}
	} else if err := c.tr.flush(); err != nil && err != errWouldBlock {
		c.end(endReset, err)
		return verdictClose
	}
	if c.shared {
		if !c.stepOutbox(c.outbox.Load(), g) {
			return c.blocked()
		}
	} else {
		waits := c.out != nil && !c.sendQueued(g)
		if c.user() != nil {
			if v, ok := c.stepUser(g); !ok {
				return v
			}
		} else if waits {
			return c.blocked()
		}
	}
	if c.ending != endNot {
		return c.closeGracefully(g)
	}
	for {
		in, v := c.receive(g)
		if v != verdictMore {
			return v
		}
		if v = c.feed(g, in); v != verdictMore || g.loop != nil || c.many {
			return v // what has many streams is never driven by an owner
		}
	}
}

// receive returns input for the protocol, with verdictMore, or the verdict
// that stands when there is none.
func (c *Conn) receive(g *workset) ([]byte, verdict) {
	if c.held {
		c.held = false
		return c.unread.b, verdictMore
	}
	if c.edges&ownRead == 0 {
		return nil, c.resting()
	}
	buf := g.in
	if c.unread != nil {
		c.unread = c.growBuffer(c.unread, 1)
		buf = c.unread.b[len(c.unread.b):cap(c.unread.b)]
	}
	n, err := c.tr.recv(buf)
	c.tr.looked(err == errWouldBlock, g.clock.now)
	switch {
	case err == errWouldBlock:
		c.edges &^= ownRead
		return nil, c.resting()
	case err != nil:
		c.end(endFlushed, err)
		return nil, verdictClose
	}
	c.received(g, n, len(buf))
	if c.unread != nil {
		c.unread.b = c.unread.b[:len(c.unread.b)+n]
		return c.unread.b, verdictMore
	}
	return buf[:n], verdictMore
}

// received notes that n octets came where there was room for more.
func (c *Conn) received(g *workset, n, room int) {
	switch {
	case n == 0:
		c.eof = true
		c.edges &^= ownRead
	case n < room && c.tr.drained() && c.edges&(ownRDHup|ownHup) == 0:
		// A short read has emptied the socket, and what comes later is an edge
		// of its own. The end of the stream is only seen by reading it.
		c.edges &^= ownRead
	}
	g.counts[countBytesIn] += uint64(n)
}

// feed hands in to the protocol until it makes no more progress, sends what it
// wrote and keeps what it left.
func (c *Conn) feed(g *workset, in []byte) verdict {
	c.want = wantNothing
	for more := true; more; {
		in, more = c.feedOnce(g, in)
	}
	if c.ending == endHandedOver {
		c.dropUnread()
		return verdictGone
	}
	if err := c.keep(in); err != nil {
		c.end(endReset, err)
	}
	if c.want == wantWork || c.want == wantTurn && len(in) > 0 {
		c.held = true // also when answers of before have to wait first
	}
	if !c.flush(g) {
		return c.blocked()
	}
	switch {
	case c.ending != endNot:
		return c.closeGracefully(g)
	case c.want == wantWork:
		return verdictWork
	case c.want == wantTurn:
		return verdictMore
	case c.pausing():
		return verdictPaused
	case c.edges&ownRead != 0:
		return verdictMore
	}
	return c.resting()
}

// feedOnce is one call of the protocol. It returns what is left of in, and
// whether the protocol is to be called again with it.
func (c *Conn) feedOnce(g *workset, in []byte) (rest []byte, more bool) {
	if c.route != nil && g.loop != nil && !g.loop.inline(c.route) {
		c.want = wantWork
		return in, false
	}
	n, err := c.data(g, in)
	c.called(g)
	if uint(n) > uint(len(in)) {
		n, err = 0, errDataCount
		c.end(endReset, err)
	}
	in = in[n:]
	if g.pushed != nil { // everything of in was used, and then some
		if c.unread != nil {
			c.putBuffer(c.unread)
		}
		c.unread, g.pushed = g.pushed, nil
		in = c.unread.b
	}
	if err != nil && c.ending != endHandedOver {
		c.end(endFlushed, err)
	}
	switch {
	case c.ending != endNot || c.want != wantNothing:
		return in, false
	case c.pausing(), (c.out != nil || c.overfull(g)) && !c.flush(g):
		c.held = len(in) > 0 || c.eof
		return in, false
	case n == 0 && c.eof:
		c.end(endFlushed, nil) // the peer sends no more, and nothing is left to do
		return in, false
	}
	return in, n > 0 && (len(in) > 0 || c.eof)
}

// data calls the protocol, timed where the predictor asks for it.
func (c *Conn) data(g *workset, in []byte) (n int, err error) {
	if c.route == nil {
		return c.proto.Data(c, in, c.eof)
	}
	c.since = g.clock.now
	g.setRoute(c.route)
	if g.loop != nil {
		g.counts[countInline]++
		return c.proto.Data(c, in, c.eof)
	}
	g.counts[countWorker]++
	before := time.Now()
	n, err = c.proto.Data(c, in, c.eof)
	if c.route.record(time.Since(before)) {
		g.counts[countPromotions]++
	}
	return n, err
}

// keep saves in, the unread rest of a turn's input, in the one place where it
// lives between turns.
func (c *Conn) keep(in []byte) error {
	switch {
	case len(in) == 0:
		c.dropUnread()
		if c.held || c.want == wantWork {
			c.unread = c.getBuffer(0) // the end of the stream is still to be fed
		}
	case c.unread != nil:
		if len(in) < len(c.unread.b) {
			c.unread.b = c.unread.b[:copy(c.unread.b, in)]
		}
	default:
		c.unread = c.getBuffer(len(in))
		c.unread.b = append(c.unread.b, in...)
	}
	if len(in) > c.limits.inputBytes {
		return ErrTooLarge
	}
	return nil
}

// dropUnread lets go of input that nobody will use.
func (c *Conn) dropUnread() {
	if c.unread != nil {
		c.putBuffer(c.unread)
		c.unread = nil
	}
}

// resting is the verdict of a connection with nothing left to do in a turn.
func (c *Conn) resting() verdict {
	if c.unread != nil || c.state == stateHead || c.state == stateBody || c.state == stateDrain {
		return verdictPartial
	}
	if c.tr.partial().began != 0 {
		return verdictPartial
	}
	return verdictIdle
}

// deadline is when the connection's state ends by itself, 0 for never.
func (c *Conn) deadline() time.Duration {
	var limit time.Duration
	if c.many && c.state != stateDrain {
		return c.proto.(multiplexer).deadline(c)
	}
	switch c.state {
	case stateHandshake:
		limit = c.limits.handshake
	case stateIdle:
		limit = c.limits.idle
		if part := c.tr.partial(); part.began != 0 {
			return soonest(after(c.since, limit), after(part.began, c.limits.head))
		}
	case stateHead:
		limit = c.limits.head
	case stateBody:
		part := c.tr.partial() // is progress too
		since, moved := max(c.since, part.grew), int64(c.moved+part.size)
		return soonest(after(since, c.limits.body), after(c.began, rateLimit(c.limits.bodyRate, moved)))
	case stateFlush:
		if c.shared {
			return c.alarmDeadline()
		}
		return soonest(c.out.pace.alarm(c.roomLimit()), c.wakeAt())
	case stateSwitched:
		if c.user() != nil {
			return c.userDeadline()
		}
		return c.alarmDeadline()
	case stateDrain:
		return min(c.since+c.limits.lingerSilent, c.began+c.limits.lingerAll)
	}
	return after(c.since, limit)
}

// expired is the turn of a connection whose deadline has passed.
func (c *Conn) expired(g *workset) verdict {
	if at := c.wakeAt(); c.state == stateSwitched && c.user() != nil || at != 0 && at <= g.clock.now {
		return c.userExpired(g)
	}
	if (c.state == stateSwitched || c.state == stateFlush) && c.shared {
		return c.alarmed(g)
	}
	switch c.state {
	case stateIdle:
		return c.expiredIdle(g)
	case stateHandshake:
		g.counts[countTimeoutHandshake]++
		c.end(endFlushed, ErrTimeout)
		return verdictClose
	case stateFlush:
		if c.lookRoom(&c.out.pace, g.clock.now); c.out.pace.due(c.roomLimit()) > g.clock.now {
			return verdictFlush // the peer takes it, only not enough to make room
		}
		g.counts[countTimeoutWrite]++
		c.end(endReset, ErrTimeout)
		return verdictClose
	case stateDrain:
		g.counts[countTimeoutLinger]++
		return verdictClose
	case stateHead:
		g.counts[countTimeoutHead]++
	case stateBody:
		g.counts[countTimeoutBody]++
	}
	c.end(endFlushed, ErrTimeout)
	if e, ok := c.proto.(expirer); ok {
		e.expire(c)
		c.called(g)
	}
	if !c.flush(g) {
		return c.blocked()
	}
	return c.closeGracefully(g)
}

// expiredIdle is expired between requests, after a last look: one may have come
// that no turn has seen yet.
func (c *Conn) expiredIdle(g *workset) verdict {
	c.edges |= ownRead
	v := c.step(g)
	if v == verdictPartial && c.state == stateIdle && c.deadline() <= g.clock.now {
		g.counts[countTimeoutHead]++ // in the middle of a record
		c.end(endFlushed, ErrTimeout)
		return verdictClose
	}
	if v != verdictIdle || c.since == g.clock.now {
		return v
	}
	g.counts[countTimeoutIdle]++
	return verdictClose
}

// recvWait receives at least a byte, waiting for the peer within the limits of
// time and rate. Only code that runs inside a handler calls it.
func (c *Conn) recvWait(p []byte) (int, error) {
	g := c.workset
	for {
		if g.broken(breakReads) {
			return 0, errRequestDone
		}
		n, err := c.tr.recv(p)
		g.reading.moved += int64(c.tr.counted(n))
		switch err {
		case nil:
			g.counts[countBytesIn] += uint64(n)
			if n == 0 {
				c.eof = true
			}
			return n, nil
		case errWouldBlock:
		default:
			return 0, err
		}
		g.detach()
		if err := g.reading.await(&c.strand, ownRead, c.limits.body, c.limits.bodyRate, g.readBy.at()); err != nil {
			return 0, err
		}
		c.edges |= ownRead // whether there is more than the next call takes is not known
	}
}
