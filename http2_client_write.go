package flare

import "runtime"

// This file is layer 4 (roles): how frames of the client leave. Whoever has one
// appends it to one queue, in the order in which all are sent; then one of those
// who have sends what all have queued meanwhile, in one call. Nobody waits for the
// server there: what its socket does not take at once a goroutine sends that is
// there as long as it has to be. So a call that ends early never waits for the
// sending of others.

// http2QueueMax is how much may be queued before bodies wait: what is queued by
// others (heads, and answers to the server's frames) is bounded elsewhere.
const http2QueueMax = 64 << 10

// flush sends what is queued, or leaves it to whoever is sending. c.mu is held, and
// released.
func (c *http2ClientConn) flush() {
	o := &c.output
	if o.sending || len(o.queue) == 0 {
		c.mu.Unlock()
		return
	}
	o.sending = true
	if !c.sock.spills {
		c.mu.Unlock()
		go c.send(true)
		return
	}
	yields := o.due > 0
	o.due = 0
	c.mu.Unlock()
	if yields {
		runtime.Gosched() // they are about to queue theirs
	}
	c.send(false)
}

// send sends until the queue is empty. It is called by whoever has set sending;
// waits says that it may wait for the server.
func (c *http2ClientConn) send(waits bool) {
	o := &c.output
	c.mu.Lock()
	for len(o.queue) > 0 {
		p := o.queue
		o.queue, o.spare = o.spare[:0], nil
		o.handed += int64(len(p))
		c.mu.Unlock()
		_, err := c.Write(p)
		if err == nil && len(c.sock.spill) > 0 {
			if !waits {
				go c.sendSpilt(p)
				return
			}
			err = c.sock.flushSpill()
		}
		if !c.sent(p, err) {
			return
		}
	}
	o.sending = false
	last := o.last
	c.mu.Unlock()
	if last {
		c.close()
	}
}

// sendSpilt goes on with what the socket did not take of p.
func (c *http2ClientConn) sendSpilt(p []byte) {
	if c.sent(p, c.sock.flushSpill()) {
		c.mu.Unlock()
		c.send(true)
	}
}

// sent accounts for p, which was handed to the socket, and takes c.mu. With an
// error the connection is at its end, c.mu is not held, and it returns false.
func (c *http2ClientConn) sent(p []byte, err error) bool {
	c.mu.Lock()
	o := &c.output
	if err != nil {
		o.queue, o.err = nil, err
		c.mu.Unlock() // sending stays: nobody sends any more
		c.close()     // the reading goroutine sees the end
		return false
	}
	o.written += int64(len(p))
	if cap(p) <= http2QueueMax {
		o.spare = p
	}
	if len(o.queue) < http2QueueMax {
		for _, st := range o.blocked {
			st.wakeWriter()
		}
		o.blocked = o.blocked[:0]
	}
	return true
}
