package flare

import "time"

// This file is layer 3 (engine): connections of many streams. Such a connection is
// never lent: its turns run no code of the user's and never wait, so that there
// is nothing to steal, and the loop's state stays even while they last. They read
// frames and end after a bounded amount of work. What handlers there are run in
// turns of their streams (see strandTask), behind those of the connections in the same
// round; what these have to say waits for the round's end, when each connection
// sends once.

// A multiplexer is a Protocol whose connections have many streams. The runner
// calls its methods, in turns of the connection but for drain and wishes.
type multiplexer interface {
	Protocol

	// flush sends what streams have, as far as the peer takes it now. Conn.sendAll
	// does the sending.
	flush(c *Conn, g *workset)

	// deadline is when the connection wants to be looked at, 0 for never, and
	// expired that turn.
	deadline(c *Conn) time.Duration
	expired(c *Conn, g *workset) verdict

	// drain has the connection end when it is idle; leaving: for good, because the
	// server ends.
	drain(c *Conn, leaving bool)

	// wished looks at streams that are lent and have asked for it with wish.
	wished(c *Conn)
}

// stepSession is step for a connection of many streams. It goes on reading while
// output waits for the peer.
func (c *Conn) stepSession(g *workset) verdict {
	if err := c.tr.flush(); err != nil && err != errWouldBlock {
		c.end(endReset, err)
		return verdictClose
	}
	if c.out != nil && !c.sendQueued(g) && c.broken() {
		return verdictClose
	}
	if c.ending != endNot {
		return c.endSession(g)
	}
	in, v := c.receiveSession(g)
	if v != verdictMore {
		return v
	}
	c.want = wantNothing
	n, err := c.proto.Data(c, in, c.eof)
	if err != nil {
		c.end(endFlushed, err)
	}
	if err := c.keep(in[n:]); err != nil {
		c.end(endReset, err)
	}
	switch {
	case c.ending != endNot:
		return c.endSession(g)
	case c.want == wantTurn:
		c.held = n < len(in)
		return verdictMore
	case c.edges&ownRead != 0:
		return verdictMore
	}
	return verdictPartial
}

// expiredAny is the turn of any connection whose deadline has passed.
func (c *Conn) expiredAny(g *workset) verdict {
	if c.many && c.state != stateDrain {
		return c.proto.(multiplexer).expired(c, g)
	}
	return c.expired(g)
}

// receiveSession is receive for a connection of many streams: what is unread, in
// front of what has come, so that a little of the former does not make the
// receives little.
func (c *Conn) receiveSession(g *workset) ([]byte, verdict) {
	kept := 0
	if c.unread != nil {
		kept = copy(g.in, c.unread.b)
	}
	switch {
	case c.held || kept == len(g.in):
		c.held = false
		c.dropUnread()
		return g.in[:kept], verdictMore
	case c.edges&ownRead == 0:
		return nil, verdictPartial
	}
	n, err := c.tr.recv(g.in[kept:])
	c.tr.looked(err == errWouldBlock, g.clock.now)
	switch {
	case err == errWouldBlock:
		c.edges &^= ownRead
		return nil, verdictPartial
	case err != nil:
		c.end(endFlushed, err)
		return nil, verdictClose
	}
	c.received(g, n, len(g.in)-kept)
	c.dropUnread()
	return g.in[:kept+n], verdictMore
}

// endSession ends a connection of many streams, once what waits is sent.
func (c *Conn) endSession(g *workset) verdict {
	switch {
	case c.broken():
		return verdictClose
	case c.out != nil:
		return verdictPartial
	}
	return c.closeGracefully(g)
}

// flushSession is the turn at the end of a round in which something is to be sent.
func (c *Conn) flushSession(g *workset) verdict {
	if c.out == nil && c.ending == endNot {
		c.proto.(multiplexer).flush(c, g)
	}
	if c.ending != endNot {
		return c.endSession(g)
	}
	return verdictPartial
}

// sendAll sends p, of a connection of many streams. What the peer does not take
// waits, and nothing is to be sent behind it before: the result is false.
func (c *Conn) sendAll(g *workset, p []byte) bool {
	rest, err := c.sendSome(g, p)
	switch {
	case err == errWouldBlock:
		c.beginUnsent(g)
		c.keepUnsent(rest)
		return false
	case err != nil:
		c.end(endReset, err)
		return false
	}
	return c.written(g)
}

// outDue is when output that waits for the peer will have waited for too long, 0
// for never; outExpired ends a connection for which that is so.
func (c *Conn) outDue() time.Duration {
	if c.out == nil {
		return 0
	}
	return c.out.pace.alarm(c.roomLimit())
}

func (c *Conn) outExpired(g *workset) bool {
	if c.out == nil {
		return false
	}
	if c.lookRoom(&c.out.pace, g.clock.now); c.out.pace.due(c.roomLimit()) > g.clock.now {
		return false
	}
	g.counts[countTimeoutWrite]++
	c.end(endReset, ErrTimeout)
	return true
}

// sessionInterest is what a connection of many streams waits for.
func (c *Conn) sessionInterest() (want Interest) {
	if !c.eof && c.edges&ownRead == 0 {
		want = Readable
	}
	if c.out != nil {
		want |= Writable
	}
	return want
}

// turnSession is turn for a connection of many streams, which is never taken from
// the runner.
func (l *Loop) turnSession(c *Conn, g *workset, kind turnKind) {
	g.loop = l
	v := c.takeTurn(g, kind)
	g.loop = nil
	l.apply(&c.strand, v)
}

// flushLater has c, of many streams, flushed at the end of the round. The runner
// calls it.
func (c *Conn) flushLater() {
	if !c.due {
		c.due = true
		c.loop.flushing = append(c.loop.flushing, c)
	}
}

// flushSessions has connections of many streams send what has come together.
func (l *Loop) flushSessions(g *workset) {
	l.flushing, l.flushed = l.flushed[:0], l.flushing
	for _, c := range l.flushed {
		if c.due = false; c.state != stateClosed {
			l.turnSession(c, g, turnFlush)
		}
	}
	clear(l.flushed)
}

// wish has the runner call wished for c. Any goroutine that has one of its tasks
// may call it; one call is enough until wished is called.
func (l *Loop) wish(c *Conn) {
	l.postMu.Lock()
	if l.dead {
		l.postMu.Unlock()
		return
	}
	l.link(&c.strand)
}

// wishes reports whether a strand that was posted is there because of wish.
func (s *strand) wishes() bool {
	return s.isConns() && s.verdict != verdictAdopt && s.own.Load()&ownLent == 0
}

// takeWishes is what becomes of a wish.
func (l *Loop) takeWishes(c *Conn) {
	if c.state != stateClosed {
		c.proto.(multiplexer).wished(c)
	}
}
