package flare

// This file is layer 3 (engine): how a connection ends. A close with input
// unread would make the kernel send a reset, which destroys answers that the
// peer has not read yet (RFC 9112 §9.6), so the write side is shut first and
// what still arrives is discarded, for a bounded time. The bound is not one of
// size: many a client reads the answer only when it has sent all of its request.
// Discarding is work for the peer that is being refused, so it comes last: in
// each round of a loop a few of the connections that linger get to do it.

const (
	// discardBytes is what is discarded in one turn.
	discardBytes = 1 << 20

	// discardTurns is how many connections discard input in one round of a loop.
	discardTurns = 16
)

// closeGracefully ends a connection whose output has been sent.
func (c *Conn) closeGracefully(g *workset) verdict {
	if c.broken() {
		return verdictClose
	}
	if !c.shut && c.tr.unwritten() > 0 {
		if c.shared {
			c.outbox.Load().awaitWritten()
		} else if c.out == nil {
			c.written(g)
		}
		return c.blocked()
	}
	if c.eof || !c.tr.halfCloses() {
		// No input is left unread, or nobody is to wait for an end of the write
		// side that cannot come.
		return verdictClose
	}
	if !c.shut { // a protocol may be in stateDrain already, discarding on its own account
		c.shut = true
		if c.state != stateDrain {
			c.setState(stateDrain)
		}
		c.since, c.began = g.clock.now, g.clock.now
		c.tr.shutdownWrite()
	}
	c.dropUnread()
	c.held = false
	return verdictLinger
}

// discardInput is a turn of a connection that lingers and has input.
func (c *Conn) discardInput(g *workset) verdict {
	n, err := c.tr.discard(g.in)
	switch {
	case err == errWouldBlock:
		c.edges &^= ownRead
	case err != nil || n == 0: // the peer has closed
		return verdictClose
	default:
		c.since = g.clock.now
	}
	return verdictLinger
}

// discardSome gives connections that linger their turn. False: as of turn.
func (l *Loop) discardSome(g *workset) bool {
	for range discardTurns {
		s := l.lingering.pop()
		if s == nil {
			break
		}
		if s.take(0) && s.conn.state != stateClosed && !l.turn(s, g, turnDiscard) {
			return false
		}
	}
	return true
}

// ended lets go of everything that c holds, and tells its protocol. The
// descriptor is not c's any more.
func (c *Conn) ended() {
	c.dropUnread()
	if c.out != nil {
		c.out.drop()
		c.out.count(c.limits.buffered)
		c.out = nil
	}
	if c.limits.ended != nil {
		c.limits.ended(c)
	}
	if c.route == nil {
		c.proto.Closed(c, c.cause)
		return
	}
	c.loop.spawn(c.callClosed) // a user's: it may block, and no turn guards this place
}

// abandon ends c for an owner whose loop is dead.
func (c *Conn) abandon() {
	if c.verdict != verdictAdopt { // else the loop has never had it
		c.loop.lent.Add(-1)
		c.loop.gauges[c.shown].Add(-1)
	}
	if c.verdict == verdictRemove {
		c.waits.removed() // its owner waits for it
		return
	}
	if c.verdict == verdictAdopt || c.own.Load()&ownStop != 0 {
		c.end(endFlushed, ErrClosed) // it was cut, and not by its peer
	}
	c.setState(stateClosed)
	if ob := c.outbox.Load(); ob != nil {
		ob.kill(ErrClosed)
	}
	c.tr.end(c.broken())
	if c.broken() && c.fd >= 0 {
		c.loop.resetFD(c.fd)
	}
	if c.fd >= 0 {
		c.loop.closeFD(c.fd)
	}
	c.ended()
}
