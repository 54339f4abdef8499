package flare

import "context"

// This file is layer 4 (roles): a WebSocket of a WebSocketHandler that is run by
// the goroutine which another server has given the request: there is no loop for
// it to live on. To its user it is as one on a loop, below it is one that a
// goroutine reads.

// runCarried answers the handshake of r, and returns when the WebSocket has ended.
func (a *websocketTakeover) runCarried(r *Request) error {
	b, err := a.runBlocking()
	if err != nil {
		return err
	}
	panicked := guard(func() { b.converse(r) }, func() {
		b.goexit()
		b.shakeHands()
		b.onClose()
	})
	if panicked != nil { // of the other server's net.Conn: what the user's functions do is dealt with
		b.log(panicked)
		b.finish(panicked, false)
	}
	b.onClose()
	return nil
}

// converse calls OnOpen and OnMessage until the WebSocket ends. It is the one that
// reads, all the time.
func (b *blockingSocket) converse(r *Request) {
	b.reading <- struct{}{}
	defer b.stopReading()
	if err := b.call(func() error { return b.openCarried(r) }); err != nil {
		b.closeFor(err)
	}
	for {
		if err := b.nextMessage(context.Background()); err != nil {
			return
		}
		b.onMessage()
	}
}

// openCarried calls OnOpen with a request that ends with it, as on a loop; those
// around who wait for Serve have r.
func (b *blockingSocket) openCarried(r *Request) error {
	x := r.lease.enter()
	if x == nil {
		return errRequestDone
	}
	defer r.lease.exit()
	one := newLeases(1)
	l := one.next(x, x.srv)
	defer x.end(l)
	return b.onOpen(&l.r)
}
