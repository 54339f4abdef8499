package flare

// This file is layer 3 (engine): how a connection ends. A close with input
// unread would make the kernel send a reset, which destroys answers that the
// peer has not read yet (RFC 9112 §9.6), so the write side is shut first and
// what still arrives is discarded, for a bounded time and size.

// wind ends a connection whose output has been sent.
func (c *Conn) wind(f *frame) verdict {
	if c.abort {
		return verdictClose
	}
	if !c.delivered(f) {
		return c.undelivered()
	}
	if c.eof { // at the end of the stream no input is left unread
		return verdictClose
	}
	if !c.shut { // a protocol may be in stateDrain already, discarding on its own account
		if c.tr == nil {
			shutdownWrite(c.fd)
		} else if !c.tr.shutdownWrite() {
			return verdictClose // the peer is not to wait for an end that does not come
		}
		c.shut = true
		if c.state != stateDrain {
			c.setState(stateDrain)
		}
		c.since, c.began, c.moved = f.clock.now, f.clock.now, 0
	}
	if c.unread != nil {
		c.moved += len(c.unread.b)
		c.putBuffer(c.unread)
		c.unread, c.held = nil, false
	}
	for c.edges&ownRead != 0 {
		n, errno := c.recv(f.in)
		if errno != 0 {
			c.edges &^= ownRead
			if !wouldBlock(errno) {
				return verdictClose
			}
			break
		}
		c.since = f.clock.now
		c.moved += n
		if n == 0 || c.moved > c.limits.lingerBytes {
			return verdictClose
		}
	}
	return verdictLinger
}

// ended lets go of everything that c holds, and tells its protocol. The
// descriptor is not c's any more.
func (c *Conn) ended() {
	for _, b := range []**buffer{&c.unread, &c.pushed, &c.out} {
		if *b != nil {
			c.putBuffer(*b)
			*b = nil
		}
	}
	if c.route == nil {
		c.proto.Closed(c, c.err)
		return
	}
	go c.proto.Closed(c, c.err) // a user's: it may block, and no turn guards this place
}

// abandon ends c for an owner whose loop is dead.
func (c *Conn) abandon() {
	if c.verdict == verdictRemove {
		close(c.removed) // its owner waits for it
		return
	}
	c.setState(stateClosed)
	if ob := c.outbox.Load(); ob != nil {
		ob.kill(ErrClosed)
	}
	c.disconnect()
	if c.fd >= 0 {
		closeFD(c.fd)
	}
	c.ended()
}

// undelivered is the verdict of a connection that ends once its transport has
// sent everything.
func (c *Conn) undelivered() verdict {
	if c.shared {
		c.outbox.Load().undelivered()
	}
	return c.blocked()
}

// disconnect is what comes before c's descriptor, if it has one, is closed.
func (c *Conn) disconnect() {
	if c.tr != nil {
		c.tr.close(c.abort)
	}
	if c.abort && c.fd >= 0 {
		setResetOnClose(c.fd)
	}
}

// cut ends both directions of a connection that is lent, or may be: its owner
// finds out and comes to end it. The caller knows it to be open.
func (c *Conn) cut() {
	if c.fd >= 0 {
		shutdownBoth(c.fd)
	} else {
		c.tr.close(false)
	}
}
