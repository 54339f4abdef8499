package flare

import (
	"cmp"
	"runtime"
	"syscall"
)

// This file is layer 3 (engine): the way out of a connection. Answers of one
// turn are collected in the workset and leave in one write; what the peer does
// not take is copied to the connection and waits for room.

// flushBytes of collected output are sent before the turn goes on.
const flushBytes = 64 << 10

// yieldBytes is how much an owner sends before others have their turn. A socket
// takes megabytes at once; hundreds of owners that each fill theirs would keep
// the loop waiting for seconds.
const yieldBytes = 64 << 10

// An unsent is output that the peer did not take, while there is some, or while
// the transport has some left to write.
type unsent struct {
	sendQueue
	pace roomPace
}

// Write queues a copy of p and never waits. All of it is taken, or none with
// ErrBackpressure when the connection's bound on queued output is reached;
// Drained says when to go on. What is larger than the bound is never taken.
// What is written in one turn leaves in one system call if it is short.
func (c *Conn) Write(p []byte) error {
	g := c.workset
	if g == nil {
		return ErrClosed // called from Closed
	}
	if c.out == nil && !c.shared && (len(g.out) >= flushBytes || len(g.out)+len(p) > c.limits.outputBytes) {
		c.flush(g) // what the peer takes at once does not count
	}
	if c.broken() {
		return cmp.Or(c.cause, ErrClosed)
	}
	queued := len(g.out)
	if c.out != nil {
		queued += c.out.len()
	}
	if queued+len(p) > c.limits.outputBytes {
		return ErrBackpressure
	}
	g.out = append(g.out, p...)
	return nil
}

// overfull reports whether output has to leave before the turn goes on.
func (c *Conn) overfull(g *workset) bool {
	if len(g.out) >= flushBytes {
		return true
	}
	return c.shared && c.outbox.Load().over()
}

// flush sends the turn's output. False: the peer does not take all of it; the
// rest is queued, or the connection is broken and has ended.
func (c *Conn) flush(g *workset) bool {
	if c.torn {
		g.out = g.out[:0]
		return false
	}
	if c.shared {
		return c.flushOutbox(c.outbox.Load(), g)
	}
	if c.out != nil {
		c.keepUnsent(g.out) // in order: what is queued goes first
		g.out = g.out[:0]
		return false
	}
	rest, err := c.sendSome(g, g.out)
	g.out = g.out[:0]
	switch err {
	case nil:
		return c.written(g)
	case errWouldBlock:
		c.beginUnsent(g)
		c.keepUnsent(rest)
	default:
		c.end(endReset, err)
	}
	return false
}

// sendSome sends p until the peer takes no more, and returns what is left.
func (c *Conn) sendSome(g *workset, p []byte) (rest []byte, err error) {
	for len(p) > 0 {
		n, err := c.tr.send(p, nil)
		if err == errWouldBlock {
			c.edges &^= ownWrite
		}
		if err != nil {
			return p, err
		}
		p = p[n:]
		g.counts[countBytesOut] += uint64(n)
	}
	return nil, nil
}

// beginUnsent begins to wait for the peer.
func (c *Conn) beginUnsent(g *workset) {
	c.out = new(unsent)
	c.beginRoom(&c.out.pace, g.clock.now)
}

// keepUnsent queues p, for which there was no room.
func (c *Conn) keepUnsent(p []byte) {
	c.out.append(p, nil)
	c.out.count(c.limits.buffered)
	if u := c.user(); u != nil && c.out.len() > c.lowMark() {
		u.drainedCalled = false
	}
}

// written reports whether everything that was sent has left. What the plain
// driver still has to write is waited for as what a socket does not take is.
func (c *Conn) written(g *workset) bool {
	if c.tr.unwritten() == 0 {
		return true
	}
	c.beginUnsent(g)
	return false
}

// sendQueued goes on with output that had to wait. False as in flush.
func (c *Conn) sendQueued(g *workset) bool {
	before := c.out.len()
	rest, err := c.sendSome(g, c.out.waiting())
	sent := before - len(rest)
	c.out.free(sent)
	c.out.count(c.limits.buffered)
	c.out.pace.moved += int64(sent)
	switch {
	case err == errWouldBlock:
		c.lookRoom(&c.out.pace, g.clock.now)
		if u := c.user(); u != nil && !u.drainedCalled && c.ending == endNot && c.out.len() <= c.lowMark() {
			u.drainedCalled = true
			c.callDrained(g)
			c.flush(g)
		}
		return false
	case err != nil:
		c.end(endReset, err)
		return false
	case c.tr.unwritten() > 0:
		c.lookRoom(&c.out.pace, g.clock.now)
		return false
	}
	c.out = nil
	if c.state == stateFlush {
		c.began += g.clock.now - c.since // nothing was read meanwhile
		c.setState(c.resume)
	}
	if u := c.user(); u != nil && u.drainedCalled {
		u.drainedCalled = false
	} else if c.ending == endNot {
		c.callDrained(g)
	}
	return true
}

// lowMark is how much output may still wait when Drained is called.
func (c *Conn) lowMark() int { return c.limits.outputBytes / 4 }

// blocked is the verdict after a flush that did not send everything.
func (c *Conn) blocked() verdict {
	if c.broken() {
		return verdictClose
	}
	if c.state != stateFlush {
		c.resume = c.state
		c.setState(stateFlush)
	}
	return verdictFlush
}

// roomWait waits for room to write, after detach, within the limits of time and
// rate. Failing, it breaks the connection: part of a message may have left.
func (c *Conn) roomWait() error {
	g := c.workset
	c.loop.lock(&g.roomMu)
	defer g.roomMu.Unlock()
	if g.broken(breakWrites) {
		return c.breakOff()
	}
	err := g.writing.awaitRoom(c, g.writeBy.at())
	if err == nil && g.writing.moved >= unsentTrustBytes {
		c.tr.boundUnsent(unsentTrustedBytes)
	}
	if err != nil {
		c.end(endReset, err)
		if err == ErrTimeout {
			g.counts[countTimeoutWrite]++
		}
	}
	return err
}

// breakOff is the end of a write that a goroutine has begun which the handler has
// left behind: part of a response may have left.
func (c *Conn) breakOff() error {
	c.end(endReset, errRequestDone)
	return errRequestDone
}

// sendWait sends the turn's output and then p, waiting for the peer where it
// has to. Only code that runs inside a handler calls it.
func (c *Conn) sendWait(p []byte) error {
	g := c.workset
	if c.broken() {
		return cmp.Or(c.cause, ErrClosed)
	}
	out := g.out
	g.out = g.out[:0]
	if before := g.writing.moved; before < yieldBytes && before+int64(len(out)+len(p)) >= yieldBytes {
		c.tr.boundUnsent(unsentBytesMax)
	}
	for len(out)+len(p) > 0 {
		n, err := c.tr.send(out, p)
		switch err {
		case nil:
			g.counts[countBytesOut] += uint64(n)
			if before := g.writing.moved; before/yieldBytes != (before+int64(n))/yieldBytes {
				runtime.Gosched()
			}
			g.writing.moved += int64(n)
			out, p = afterFront(out, p, n)
			continue
		case errWouldBlock:
		case syscall.ETIMEDOUT: // the kernel has given up, or another server's deadline has passed
			return c.tear(ErrTimeout)
		default:
			return c.tear(err)
		}
		g.detach()
		held := int64(cap(g.out) + g.held)
		c.limits.buffered.Add(held)
		err = c.roomWait()
		c.limits.buffered.Add(-held)
		if err != nil {
			return c.tear(err)
		}
	}
	return nil
}

// tear is the end behind output of which a part is missing: nothing may follow it.
func (c *Conn) tear(err error) error {
	c.torn = true
	c.end(endReset, err)
	return c.cause
}
