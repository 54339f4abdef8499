package flare

import (
	"errors"
	"log/slog"
	"runtime/debug"
	"sync"
	"time"
)

// This file is layer 4 (roles): WebSockets of a server that live on the loop:
// the handler that answers the handshake, and the Protocol that the connection
// switches to. A connection that waits has neither goroutine nor buffer;
// OnMessage runs where the predictor puts it, and may block.

// A WebSocketHandler is a Handler that makes WebSockets of its requests. Its
// functions are called for one connection by one goroutine at a time, which may
// block; OnMessage is called in the order in which messages arrive. Where it
// runs is learned from how long it takes, for all connections of the handler;
// Inline and Offload around the handler fix that too. It must not be changed
// once it serves.
type WebSocketHandler struct {
	WebSocketOptions

	// OnOpen is called once the handshake is done, before any message. r is
	// valid until it returns, ws for ever. An error closes the connection, with
	// the code of a *CloseError and with 1011 otherwise.
	OnOpen func(ws *WebSocket, r *Request) error

	// OnMessage is called with each message; p is valid until it returns, and
	// may be changed. An error closes the connection as with OnOpen.
	OnMessage func(ws *WebSocket, kind MessageKind, p []byte) error

	// OnClose is called once, last, for each connection that was opened: with
	// what the peer's close frame said, with the code that the connection was
	// failed with, or with CloseAbnormal when it just ended.
	OnClose func(ws *WebSocket, code CloseCode, reason string)

	once  sync.Once
	route *route // of OnMessage
}

// Serve answers the handshake.
func (h *WebSocketHandler) Serve(w *ResponseWriter, r *Request) error {
	if w.via != nil {
		return h.serveCarried(w, r)
	}
	hs, err := checkHandshake(w, r, &h.WebSocketOptions)
	if err != nil {
		return err
	}
	if err := w.header.fault(); err != nil {
		return err
	}
	c, f := w.c, w.c.frame
	h.once.Do(func() {
		h.route = newRoute()
		if rt := f.route.Load(); rt != nil {
			h.route.pin = rt.pin
		}
	})
	p := &loopSocket{handler: h, srv: w.h.srv}
	ws := &p.ws
	ws.peer = c.peer
	p.reader.inflater, p.reader.rules = ws.initOutput(&hs, &h.WebSocketOptions)
	p.reader.bytesMax = ws.lim.messageBytes
	ob := &p.out
	ob.c, ob.owner, ob.bound, ob.policy = c, ws, ws.lim.queueBytes, h.QueuePolicy
	ob.limit, ob.rate = ws.lim.write, c.limits.writeRate
	ws.loopOut = ob
	w.upgrade(&hs, p)

	// Everything so far leaves first. From here on anybody may write.
	ob.enqueue(f.out, nil, putControl)
	f.out = f.out[:0]
	c.setOutbox(ob)
	if f.loop != nil {
		ob.cork(f.loop, f.epoch)
	}
	if h.OnOpen != nil {
		return h.OnOpen(ws, r)
	}
	return nil
}

// upgrade writes the 101 (Switching Protocols); what is written to w behind it
// goes nowhere.
func (w *ResponseWriter) upgrade(hs *handshake, p switchedProtocol) {
	for _, name := range ownHandshakeFields {
		w.header.Del(name)
	}
	f := w.c.frame
	f.out = hs.appendAnswer(f.out, &w.header)
	f.counts[countClass1]++
	w.begun, w.noBody, w.switched = true, true, p
}

// A loopSocket is the Protocol of a WebSocket on a loop. All but ws and out
// belongs to the connection's owner.
type loopSocket struct {
	ws      WebSocket
	out     outbox
	handler *WebSocketHandler
	srv     *Server
	reader  messageReader
	counted int // size of reader in the server's count

	lastRead    time.Duration // when something came
	lastMessage time.Duration
	pinged      time.Duration // when a ping was sent into the silence, 0: none
	code        CloseCode     // how it ended, 0: not yet
	reason      string
}

func (p *loopSocket) switched(c *Conn, err error) *route {
	p.lastRead, p.lastMessage = c.frame.clock.now, c.frame.clock.now
	if at := p.alarm(c); at != 0 {
		p.out.wakeAt(at) // earlier than what a request was armed with
	}
	if err != nil {
		p.closeFor(err)
	}
	return p.handler.route
}

// Data takes what has arrived: all of it, or up to where the peer has to read
// before more is answered.
func (p *loopSocket) Data(c *Conn, in []byte, eof bool) (int, error) {
	f := c.frame
	if len(in) > 0 {
		p.lastRead, p.pinged = f.clock.now, 0
	}
	if f.loop != nil {
		p.out.cork(f.loop, f.epoch)
	}
	n := 0
	for !c.closing {
		used, ev, err := p.reader.next(in[n:])
		n += used
		if err != nil {
			p.fail(c, err)
			break
		}
		if ev == eventNone {
			break
		}
		p.event(c, ev)
		if p.out.over() {
			break
		}
	}
	p.count(c, p.reader.size())
	p.out.uncork(true)
	if c.closing {
		n = len(in) // nobody wants what follows
	}
	return n, nil
}

// count tells the server how much of a message waits for its rest.
func (p *loopSocket) count(c *Conn, held int) {
	if held != p.counted {
		c.limits.buffered.Add(int64(held - p.counted))
		p.counted = held
	}
}

// event deals with one event of the reader.
func (p *loopSocket) event(c *Conn, ev messageEvent) {
	switch ev {
	case eventMessage:
		p.lastMessage = c.frame.clock.now
		if p.handler.OnMessage == nil || p.out.ended() {
			return // RFC 6455 §5.5.1: after a close frame of our own nobody waits for it
		}
		if err := p.call(c); err != nil {
			p.closeFor(err)
		}
	case eventPing:
		p.ws.pong(p.reader.data)
	case eventClose:
		p.code, p.reason = p.reader.code, string(p.reader.data)
		p.ws.sendClose(p.code, "") // RFC 6455 §5.5.1: answered with its code
		c.closing = true
	}
}

// fail ends the connection of a peer that broke a rule (RFC 6455 §7.1.7).
func (p *loopSocket) fail(c *Conn, err error) {
	p.code, p.reason = closeOf(err)
	c.err = err
	p.ws.sendClose(p.code, "")
	c.closing = true
}

// closeFor starts the closing handshake after an error of the user's code.
func (p *loopSocket) closeFor(err error) {
	logWebSocketError(p.srv.logger(), err)
	p.ws.Close(closeOf(err))
}

// logWebSocketError logs what a function of a WebSocketHandler returned or
// panicked with, unless it only says how to close.
func logWebSocketError(to *slog.Logger, err error) {
	var asked *CloseError
	if err == nil || errors.As(err, &asked) || isGone(err) {
		return
	}
	attrs := []any{slog.Any("error", err)}
	var panicked *panicError
	if errors.As(err, &panicked) {
		attrs = append(attrs, slog.String("stack", string(panicked.stack)))
	}
	to.Error("flare: WebSocket handler failed", attrs...)
}

// call calls OnMessage. A panic becomes an error; runtime.Goexit ends the
// goroutine, but neither the loop nor the server with it.
func (p *loopSocket) call(c *Conn) (err error) {
	returned := false
	defer func() {
		if returned {
			return
		}
		if v := recover(); v != nil {
			c.frame.counts[countPanics]++
			err = &panicError{value: v, stack: debug.Stack()}
			return
		}
		p.goexit(c)
	}()
	err = p.handler.OnMessage(&p.ws, p.reader.kind, p.reader.data)
	returned = true
	return err
}

// goexit ends the connection of an OnMessage that called runtime.Goexit.
func (p *loopSocket) goexit(c *Conn) {
	f := c.frame
	f.detach()
	p.code = CloseInternalError
	p.ws.sendClose(p.code, "")
	c.closing = true
	var v verdict
	if c.flush(f) {
		v = c.wind(f)
	} else {
		v = c.blocked()
	}
	c.frame, f.conn = nil, nil
	c.finish(f, v)
}

// Drained has nothing to do: writers wait at the outbox.
func (p *loopSocket) Drained(*Conn) {}

// Closed tells the user. It has a goroutine of its own.
func (p *loopSocket) Closed(c *Conn, err error) {
	p.reader.release()
	p.count(c, 0)
	if p.code == 0 {
		p.code = CloseAbnormal
	}
	defer p.srv.connClosed(c, StateClosed) // after OnClose, so that Shutdown waits for it
	if p.handler.OnClose != nil {
		defer func() {
			if v := recover(); v != nil {
				p.closeFor(&panicError{value: v, stack: debug.Stack()})
			}
		}()
		p.handler.OnClose(&p.ws, p.code, p.reason)
	}
}

// alarm is when the silence has to be broken, or has lasted too long.
func (p *loopSocket) alarm(c *Conn) (at time.Duration) {
	lim := &p.ws.lim
	if lim.heartbeat > 0 {
		at = max(p.lastRead, p.pinged) + lim.heartbeat
	}
	if lim.idle > 0 && (at == 0 || p.lastMessage+lim.idle < at) {
		at = p.lastMessage + lim.idle
	}
	return at
}

// expire breaks the silence with a ping, and ends what stays silent.
func (p *loopSocket) expire(c *Conn) {
	now, lim := c.frame.clock.now, &p.ws.lim
	if lim.idle > 0 && now >= p.lastMessage+lim.idle {
		p.lastMessage = now
		p.ws.Close(CloseGoingAway, "idle")
	}
	if lim.heartbeat <= 0 || now < max(p.lastRead, p.pinged)+lim.heartbeat {
		return
	}
	if p.pinged != 0 {
		c.frame.counts[countTimeoutIdle]++
		c.err, c.closing, c.abort = ErrTimeout, true, true
		return
	}
	p.pinged = now
	p.ws.putFrame(frameFin|byte(opPing), nil, putControl)
}
