package flare

import (
	"context"
	"net/http"
	"net/netip"
	"time"
)

// This file is layer 4 (roles): a WebSocket run by an event loop: the Protocol
// that the connection of a WebSocketHandler switches to. A connection that waits
// has neither goroutine nor buffer; OnMessage runs where the predictor puts it,
// and may block. What goes out is the outbox's matter.

// A loopSocket is small, since it is all there is of a connection that waits: a
// reader comes with a message, and goes with its end. All but out and the core's
// ws belongs to the connection's owner.
type loopSocket struct {
	websocketCore
	out outbox
}

// runOnLoop answers the handshake of w's request, and leaves its connection to a
// loopSocket.
func (s *websocketProfile) runOnLoop(w *serverResponse, hs *handshake) *loopSocket {
	c, g, h := w.x.stream.ownConn(), w.x.workset(), s.handler
	h.once.Do(func() {
		h.route = newRoute()
		if rt := g.route.Load(); rt != nil {
			h.route.pin = rt.pin
		}
	})
	p := new(loopSocket)
	ob := &p.out
	p.begin(s)
	p.ws.run = p
	ob.c, ob.owner, ob.rules = c, &p.ws, &s.out
	w.upgrade(hs, p)

	// Everything so far leaves first. From here on anybody may write.
	ob.queueFirst(g)
	c.setOutbox(ob)
	if g.loop != nil {
		ob.cork(g.loop, g.epoch)
	}
	return p
}

// upgrade writes the 101 (Switching Protocols); what is written to w behind it
// goes nowhere.
func (w *serverResponse) upgrade(hs *handshake, p switchedProtocol) {
	w.x.stream.sendSwitch(hs, &w.header)
	w.x.workset().counts[countClass1]++
	w.begun, w.noBody, w.switched = true, true, p
}

func (p *loopSocket) switched(c *Conn, err error) *route {
	p.listen(c.workset.clock.now)
	c.rearm = true // for the heartbeat; a request has longer
	if err != nil {
		p.ws.Close(closeOf(err)) // it has been logged as a handler's
	}
	return p.ws.handler.route
}

// Data takes what has arrived: all of it, or up to where the peer has to read
// before more is answered.
func (p *loopSocket) Data(c *Conn, in []byte, eof bool) (int, error) {
	g := c.workset
	if len(in) > 0 {
		p.heardAt(g.clock.now)
	}
	if g.loop != nil {
		p.out.cork(g.loop, g.epoch)
	}
	if p.reader == nil {
		p.takeReader()
	}
	p.reader.inflated = 0
	n := 0
	for c.ending == endNot {
		used, ev, err := p.next(in[n:])
		n += used
		if err != nil {
			c.end(endFlushed, err)
			break
		}
		if ev == eventMessage {
			p.onMessage()
		}
		if ev == eventNone || p.out.over() {
			break
		}
		if p.reader.inflated >= inflateTurnBytes {
			c.want = wantTurn
			break
		}
	}
	p.settle(c, c.ending != endNot)
	p.out.uncork(true)
	if c.ending != endNot {
		n = len(in) // nobody wants what follows
	}
	return n, nil
}

// settle tells the server how much of a message waits for its rest, and gives
// the reader back when there is none, or ended.
func (p *loopSocket) settle(c *Conn, ended bool) {
	r := p.reader
	if r == nil {
		return
	}
	done := ended || !r.begun()
	held := 0
	if done {
		r.release()
	} else {
		held = r.size()
	}
	if held != r.counted {
		c.limits.buffered.Add(int64(held - r.counted))
		r.counted = held
	}
	if done {
		p.giveReader()
	}
}

// exited is the end of a turn whose goroutine the user's code has ended.
func (p *loopSocket) exited(c *Conn) verdict {
	p.goexit()
	c.end(endFlushed, nil)
	if !c.flush(c.workset) {
		return c.blocked()
	}
	return c.closeGracefully(c.workset)
}

// Drained has nothing to do: writers wait at the outbox.
func (p *loopSocket) Drained(*Conn) {}

// Closed tells the user. It has a goroutine of its own.
func (p *loopSocket) Closed(c *Conn, err error) {
	p.settle(c, true)
	defer p.ws.srv.connEnded(c, http.StateClosed) // after OnClose, so that Shutdown waits for it
	p.onClose()
}

func (p *loopSocket) put(head frameHeadBytes, b []byte, kind putKind) error {
	return p.out.put(head.bytes(), b, kind)
}

func (p *loopSocket) reserve(n int, policy QueuePolicy) error { return p.out.reserve(n, policy) }

func (p *loopSocket) awaitRoom(ctx context.Context, n int) error { return p.out.awaitRoom(ctx, n) }

// flush has nothing to do: the outbox has sent, or does so with the turn.
func (p *loopSocket) flush(context.Context) error { return nil }

func (p *loopSocket) flushSoon() {}

// awaitClose never waits, and OnClose follows.
func (p *loopSocket) awaitClose(bool) error {
	if limit := p.ws.lim.close; limit > 0 {
		p.out.endBy(after(time.Since(origin), limit))
	}
	return nil
}

// takes: what waits has WriteTimeout to go.
func (p *loopSocket) takes(time.Duration) bool { return p.ws.lim.write > 0 && p.out.waits() }

func (p *loopSocket) closing() bool { return p.out.ended() }

func (p *loopSocket) loop() *Loop { return p.out.c.loop }

func (p *loopSocket) remoteAddr() netip.AddrPort { return p.out.c.RemoteAddr() }

func (p *loopSocket) counts() *loopCounts { return &p.out.c.loop.counts }

// alarm is when the silence has to be broken, or has lasted too long.
func (p *loopSocket) alarm(*Conn) time.Duration { return p.silenceEnds() }

// expire is called when it has.
func (p *loopSocket) expire(c *Conn) {
	switch p.silenceOver(c.workset.clock.now) {
	case errWebSocketIdle:
		p.awaitClose(false)
	case ErrTimeout:
		c.workset.counts[countTimeoutIdle]++
		c.end(endReset, ErrTimeout)
	}
}
