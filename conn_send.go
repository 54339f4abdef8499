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

// An unsent is output that the peer did not take, while there is some.
type unsent struct {
	*buffer
	sent int // bytes of it that have gone since
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
		queued += len(c.out.b) - c.out.sent
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
	if c.shared {
		return c.flushOutbox(c.outbox.Load(), g)
	}
	if len(g.out) == 0 {
		return c.out == nil && c.written(g)
	}
	if c.out != nil { // order: what is queued goes first
		if c.out.sent > len(c.out.b)/2 { // or a queue that is never empty grows for ever
			c.out.b = c.out.b[:copy(c.out.b, c.out.b[c.out.sent:])]
			c.out.sent = 0
		}
		c.out.buffer = c.growBuffer(c.out.buffer, len(g.out))
		c.out.b = append(c.out.b, g.out...)
		g.out = g.out[:0]
		if u := c.user(); u != nil && len(c.out.b)-c.out.sent > c.lowMark() {
			u.drainedCalled = false
		}
		return false
	}
	sent := 0
	for sent < len(g.out) {
		n, err := c.tr.send(g.out[sent:], nil)
		switch err {
		case nil:
			sent += n
			g.counts[countBytesOut] += uint64(n)
			continue
		case errWouldBlock:
			c.edges &^= ownWrite
			c.out = &unsent{buffer: c.getBuffer(len(g.out) - sent)}
			c.out.b = append(c.out.b, g.out[sent:]...)
			c.beginRoom(&c.out.pace, g.clock.now)
		default:
			c.end(endReset, err)
		}
		g.out = g.out[:0]
		return false
	}
	g.out = g.out[:0]
	return c.written(g)
}

// written reports whether everything that was sent has left. What the plain
// driver still has to write is waited for as what a socket does not take is.
func (c *Conn) written(g *workset) bool {
	if c.tr.unwritten() == 0 {
		return true
	}
	c.out = &unsent{buffer: c.getBuffer(0)}
	c.beginRoom(&c.out.pace, g.clock.now)
	return false
}

// sendQueued goes on with output that had to wait. False as in flush.
func (c *Conn) sendQueued(g *workset) bool {
	for c.out.sent < len(c.out.b) {
		n, err := c.tr.send(c.out.b[c.out.sent:], nil)
		switch err {
		case nil:
			c.out.sent += n
			c.out.pace.moved += int64(n)
			g.counts[countBytesOut] += uint64(n)
			continue
		case errWouldBlock:
			c.edges &^= ownWrite
			c.lookRoom(&c.out.pace, g.clock.now)
			if u := c.user(); u != nil && !u.drainedCalled && c.ending == endNot && len(c.out.b)-c.out.sent <= c.lowMark() {
				u.drainedCalled = true
				c.callDrained(g)
				c.flush(g)
			}
		default:
			c.end(endReset, err)
		}
		return false
	}
	if c.tr.unwritten() > 0 {
		c.lookRoom(&c.out.pace, g.clock.now)
		return false
	}
	c.putBuffer(c.out.buffer)
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
	g.roomMu.Lock()
	defer g.roomMu.Unlock()
	if g.broken(breakWrites) {
		return c.breakOff()
	}
	err := g.writing.awaitRoom(c, g.writeBy.at())
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
		c.boundUnsent()
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
			if n <= len(out) {
				out = out[n:]
			} else {
				out, p = nil, p[n-len(out):]
			}
			continue
		case errWouldBlock:
		case syscall.ETIMEDOUT: // the kernel has given up, or another server's deadline has passed
			c.end(endReset, ErrTimeout)
			return ErrTimeout
		default:
			c.end(endReset, err)
			return c.cause
		}
		g.detach()
		if err := c.roomWait(); err != nil {
			return err
		}
	}
	return nil
}
