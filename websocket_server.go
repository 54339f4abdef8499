package flare

import (
	"errors"
	"log/slog"
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

	once   sync.Once
	route  *route // of OnMessage
	shapes websocketShapes
}

// Serve answers the handshake.
func (h *WebSocketHandler) Serve(w *ResponseWriter, r *Request) error {
	ws, carried, err := h.upgrade(w, r)
	if err != nil {
		return err
	}
	if carried != nil {
		return h.serveCarried(w, r, carried)
	}
	if h.OnOpen != nil {
		return h.OnOpen(ws, r)
	}
	return nil
}

// upgrade answers the handshake and makes the WebSocket. It does nothing, and
// returns the server, where the request came by another one.
func (h *WebSocketHandler) upgrade(held *ResponseWriter, r *Request) (ws *WebSocket, carried *Server, err error) {
	wx := held.lease.enterBody()
	if wx == nil {
		return nil, nil, errWriterDone
	}
	defer held.lease.exit()
	rx := r.lease.enter()
	if rx == nil {
		return nil, nil, errRequestDone
	}
	defer r.lease.exit()
	w := &wx.w
	if w.via != nil {
		return nil, w.h.srv, nil
	}
	hs, err := checkHandshake(w, &rx.r, &h.WebSocketOptions)
	if err != nil {
		return nil, nil, err
	}
	c, g := w.c, w.c.workset
	h.once.Do(func() {
		h.route = newRoute()
		if rt := g.route.Load(); rt != nil {
			h.route.pin = rt.pin
		}
	})
	p := new(loopSocket)
	ws = &p.ws
	ob := &p.out
	shape := h.shapes.find(h, w.h.srv, &hs)
	ws.websocketProfile, ws.codecs, ws.loopOut = shape, shape.newCodecs(), ob
	ob.c, ob.owner, ob.rules = c, ws, &shape.out
	w.upgrade(&hs, p)

	// Everything so far leaves first. From here on anybody may write.
	ob.queueFirst(g)
	c.setOutbox(ob)
	if g.loop != nil {
		ob.cork(g.loop, g.epoch)
	}
	return ws, nil, nil
}

// upgrade writes the 101 (Switching Protocols); what is written to w behind it
// goes nowhere.
func (w *serverResponse) upgrade(hs *handshake, p switchedProtocol) {
	g := w.c.workset
	g.out = hs.appendAnswer(g.out, &w.header)
	g.counts[countClass1]++
	w.begun, w.noBody, w.switched = true, true, p
}

// A loopSocket is the Protocol of a WebSocket on a loop. All but ws and out
// belongs to the connection's owner. It is small, since it is all there is of a
// connection that waits: a reader comes with a message, and goes with its end.
type loopSocket struct {
	ws  WebSocket
	out outbox

	reader      *loopReader   // nil: no message has begun
	offset      int64         // bytes of input before what reader has read
	silent      time.Duration // since when nothing has come, or since the ping into that silence
	lastMessage time.Duration
	end         *CloseError // how it ended, nil: not yet
	pinged      bool        // a ping was sent into the silence
}

// A loopReader reads the messages of a turn, or one that has begun.
type loopReader struct {
	messageReader
	counted int // its size in the server's count
}

var loopReaders sync.Pool

// takeReader gives p something to read with.
func (p *loopSocket) takeReader() *loopReader {
	r, _ := loopReaders.Get().(*loopReader)
	if r == nil {
		r = new(loopReader)
	}
	r.rules, r.bytesMax, r.offset = p.ws.rules, p.ws.lim.messageBytes, p.offset
	if z := p.ws.codecs; z != nil {
		r.inflater = z.inflater
	}
	p.reader = r
	return r
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
		p.offset = r.offset
		r.release()
	} else {
		held = r.size()
	}
	if held != r.counted {
		c.limits.buffered.Add(int64(held - r.counted))
		r.counted = held
	}
	if done {
		p.reader = nil
		if !raceEnabled { // under the race detector nothing is reused
			r.messageReader = messageReader{}
			loopReaders.Put(r)
		}
	}
}

func (p *loopSocket) switched(c *Conn, err error) *route {
	p.silent, p.lastMessage = c.workset.clock.now, c.workset.clock.now
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
		p.silent, p.pinged = g.clock.now, false
	}
	if g.loop != nil {
		p.out.cork(g.loop, g.epoch)
	}
	n, r := 0, p.reader
	if r == nil {
		r = p.takeReader()
	}
	r.inflated = 0
	for c.ending == endNot {
		used, ev, err := r.next(in[n:])
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
		if r.inflated >= inflateTurnBytes {
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

// event deals with one event of the reader.
func (p *loopSocket) event(c *Conn, ev messageEvent) {
	switch ev {
	case eventMessage:
		p.lastMessage = c.workset.clock.now
		if p.ws.handler.OnMessage == nil || p.out.ended() {
			return // RFC 6455 §5.5.1: after a close frame of our own nobody waits for it
		}
		if err := p.call(c); err != nil {
			p.closeFor(err)
		}
	case eventPing:
		p.ws.pong(p.reader.data)
	case eventClose:
		p.end = &CloseError{Code: p.reader.code, Reason: string(p.reader.data)}
		p.ws.sendClose(p.end.Code, "") // RFC 6455 §5.5.1: answered with its code
		c.end(endFlushed, nil)
	}
}

// fail ends the connection of a peer that broke a rule (RFC 6455 §7.1.7).
func (p *loopSocket) fail(c *Conn, err error) {
	code, reason := closeOf(err)
	p.end = &CloseError{Code: code, Reason: reason}
	c.end(endFlushed, err)
	p.ws.sendClose(code, "")
	c.end(endFlushed, nil)
}

// closeFor starts the closing handshake after an error of the user's code.
func (p *loopSocket) closeFor(err error) {
	logWebSocketError(p.ws.srv.logger(), err)
	p.ws.Close(closeOf(err))
}

// logWebSocketError logs what a function of a WebSocketHandler returned or
// panicked with, unless it only says how to close.
func logWebSocketError(to *slog.Logger, err error) {
	var asked *CloseError
	if err == nil || errors.As(err, &asked) || isGone(err) {
		return
	}
	attrs := []slog.Attr{slog.Any("error", err)}
	var panicked *panicError
	if errors.As(err, &panicked) {
		attrs = append(attrs, slog.String("stack", string(panicked.stack)))
	}
	logTo(to, slog.LevelError, "flare: WebSocket handler failed", attrs...)
}

// call calls OnMessage. A panic becomes an error.
func (p *loopSocket) call(c *Conn) (err error) {
	panicked := guard(func() { err = p.ws.handler.OnMessage(&p.ws, p.reader.kind, p.reader.data) }, nil)
	if panicked != nil {
		c.workset.counts[countPanics]++
		return panicked
	}
	return err
}

// exited ends the connection of an OnOpen or OnMessage that called
// runtime.Goexit.
func (p *loopSocket) exited(c *Conn) verdict {
	p.end = &CloseError{Code: CloseInternalError}
	p.ws.sendClose(CloseInternalError, "")
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
	if p.end == nil {
		p.end = &CloseError{Code: CloseAbnormal}
	}
	h := p.ws.handler
	defer p.ws.srv.connClosed(c.RemoteAddr(), StateClosed) // after OnClose, so that Shutdown waits for it
	if h.OnClose != nil {
		if panicked := guard(func() { h.OnClose(&p.ws, p.end.Code, p.end.Reason) }, nil); panicked != nil {
			logWebSocketError(p.ws.srv.logger(), panicked)
		}
	}
}

// alarm is when the silence has to be broken, or has lasted too long.
func (p *loopSocket) alarm(c *Conn) (at time.Duration) {
	lim := &p.ws.lim
	return soonest(after(p.silent, lim.heartbeat), after(p.lastMessage, lim.idle))
}

// expire breaks the silence with a ping, and ends what stays silent.
func (p *loopSocket) expire(c *Conn) {
	now, lim := c.workset.clock.now, &p.ws.lim
	if at := after(p.lastMessage, lim.idle); at != 0 && at <= now {
		p.lastMessage = now
		p.ws.Close(CloseGoingAway, "idle")
	}
	if at := after(p.silent, lim.heartbeat); at == 0 || now < at {
		return
	}
	if p.pinged {
		c.workset.counts[countTimeoutIdle]++
		c.end(endReset, ErrTimeout)
		return
	}
	p.silent, p.pinged = now, true
	p.ws.putFrame(frameFin|byte(opPing), nil, putControl)
}
