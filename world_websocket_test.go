package flare

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"
)

// This file has the WebSockets of the simulated world, on loops and read by
// goroutines. Each message is sent back; news go to all of them, by Broadcast.

const (
	chatWriteTimeout = 8 * time.Second
	chatCloseTimeout = 4 * time.Second
	chatCloseSlack   = 2 * time.Second // tasks stand at the gate while time passes
	chatFields       = "Upgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n"
)

func chatMessage(id, number int) string {
	return strings.Repeat(fmt.Sprintf("message %d of %d. ", number, id), 1+60*((id+number)%3))
}

func newsMessage(number int) string {
	return strings.Repeat(fmt.Sprintf("news %d. ", number), 1+200*(number%2))
}

func switches(*worldRequest) (int, string) { return 101, "" }

// A chat is a WebSocket as the server's user has it.
type chat struct {
	w       *world
	q       *worldRequest
	ws      *WebSocket
	heard   int
	inside  bool // a function of the user's runs
	ended   bool
	asked   time.Time // when it was first to be closed from the server's side
	closing time.Time // since when it is
	slept   time.Time // until when its function did something else
}

func (w *world) newChat(q *worldRequest, ws *WebSocket) *chat {
	c := &chat{w: w, q: q, ws: ws}
	q.chat, ws.Data = c, c
	w.chats = append(w.chats, c)
	return c
}

func (w *world) newChatHandler() *WebSocketHandler {
	return &WebSocketHandler{
		WebSocketOptions: WebSocketOptions{
			QueuePolicy:   QueuePolicy(w.rand.IntN(3)),
			MaxQueueBytes: 4000,
			WriteTimeout:  []time.Duration{chatWriteTimeout, -1}[w.rand.IntN(2)],
			CloseTimeout:  chatCloseTimeout,
		},
		OnOpen: func(ws *WebSocket, r *Request) error {
			c := w.newChat(w.requestOf(r), ws)
			return c.call(func() error {
				w.whim("OnOpen", func() { c.q.spoilt = true })
				return nil
			})
		},
		OnMessage: func(ws *WebSocket, _ MessageKind, p []byte) error { return ws.Data.(*chat).message(p) },
		OnClose: func(ws *WebSocket, _ CloseCode, _ string) {
			c := ws.Data.(*chat)
			defer c.end()
			c.call(func() error { w.whim("OnClose", func() {}); return nil })
		},
	}
}

func chatOnLoop(w *world, rw *ResponseWriter, r *Request, _ *worldRequest) error {
	return w.chatting.Serve(rw, r)
}

func chatAccepted(w *world, rw *ResponseWriter, r *Request, q *worldRequest) error {
	ws, err := AcceptWebSocket(rw, r, &w.chatting.WebSocketOptions)
	if err != nil {
		return err
	}
	c := w.newChat(q, ws)
	if w.one(2) {
		w.spawn(c.converse)
	} else {
		c.converse()
	}
	return nil
}

// converse is what reads a WebSocket that was accepted.
func (c *chat) converse() {
	for err := error(nil); err == nil; {
		ctx, cancel := c.w.someTime()
		_, p, readErr := c.ws.Read(ctx)
		cancel()
		switch {
		case readErr == nil:
			err = c.message(p)
		case !errors.Is(readErr, context.DeadlineExceeded):
			err = readErr
		}
	}
	c.close()
	c.end()
}

// someTime returns a context that may end soon.
func (w *world) someTime() (context.Context, context.CancelFunc) {
	if w.one(8) {
		return context.WithTimeout(context.Background(), time.Duration(1+w.rand.IntN(30))*time.Millisecond)
	}
	return context.WithCancel(context.Background())
}

// call calls fn as a function of the user's, of which one runs at a time.
func (c *chat) call(fn func() error) error {
	if c.inside || c.ended {
		c.w.fail("request %d: a function of its WebSocket is called beside another, or behind the end", c.q.id)
	}
	c.inside = true
	defer func() { c.inside = false }()
	return fn()
}

func (c *chat) message(p []byte) error {
	return c.call(func() error {
		w, want := c.w, chatMessage(c.q.id, c.heard)
		if string(p) != want {
			w.fail("request %d: message %d is %q", c.q.id, c.heard, tail(p))
		}
		if c.heard++; c.heard == 1 && c.q.p.deaf {
			c.disturb()
		}
		switch w.rand.IntN(10) {
		case 0:
			w.sleep(20 * time.Millisecond)
		case 1:
			w.broadcast()
		case 2:
			if c.q.kind == "loop" {
				w.whim("OnMessage", func() { c.q.spoilt = true })
			}
		}
		ctx, cancel := w.someTime()
		defer cancel()
		err := c.write(ctx, p)
		if err != nil && ctx.Err() != nil {
			c.q.spoilt = true
		}
		if string(p) != want {
			w.fail("request %d: message %d has become %q", c.q.id, c.heard-1, tail(p))
		}
		return err
	})
}

// write has to end when the WebSocket is closed: soon, or in CloseTimeout where it may
// be half of a frame that waits.
func (c *chat) write(ctx context.Context, p []byte) error {
	began, most := time.Now(), chatCloseSlack
	if !c.onLoop() {
		most += chatCloseTimeout
	}
	err := c.ws.Write(ctx, TextMessage, p)
	if late := time.Since(c.asked); began.Before(c.asked) && late > most && !c.w.excused {
		c.w.fail("request %d: a write has waited for %v since the close", c.q.id, late)
	}
	return err
}

// onLoop reports whether a loop runs c, which no stream of HTTP/2 has.
func (c *chat) onLoop() bool {
	_, ok := c.ws.run.(*loopSocket)
	return ok
}

// disturb is for a WebSocket whose client does not read. It is closed while its
// function writes, and maybe others do, or while that does something else for longer
// than CloseTimeout.
func (c *chat) disturb() {
	w := c.w
	w.spawn(func() {
		w.sleep(time.Second)
		c.close()
	})
	switch {
	case w.chatting.QueuePolicy == QueueBlock && w.one(2):
		w.spawn(func() {
			for c.write(context.Background(), []byte(newsMessage(1))) == nil {
				w.park("writes to who does not read")
			}
		})
	case c.onLoop() && w.one(2):
		w.sleep(4 * chatCloseTimeout)
		c.slept = time.Now()
		s := w.sockets[c.q.p.s.number]
		if late := time.Since(c.closing) - chatCloseTimeout; !c.closing.IsZero() && late > chatCloseSlack && !(s.dead || s.reset || s.closed || w.excused) {
			w.fail("request %d: its connection is not cut %v behind CloseTimeout", c.q.id, late)
		}
	}
}

// close closes from the server's side. Behind the peer's own close frame that is
// refused, on a loop, and says nothing of how long the end may take.
func (c *chat) close() {
	now := time.Now()
	if c.w.tell("request %d: its WebSocket is closed", c.q.id); c.asked.IsZero() {
		c.asked = now
	}
	if err := c.ws.Close(CloseNormal, ""); (err == nil || err == ErrTimeout) && c.closing.IsZero() {
		c.closing = now
	}
}

func (c *chat) end() {
	if took := min(time.Since(c.closing), time.Since(c.slept)); !c.closing.IsZero() && took > chatCloseTimeout+chatCloseSlack && !c.w.excused {
		c.w.fail("request %d: the end of its WebSocket took %v", c.q.id, took)
	}
	if c.ended {
		c.w.fail("request %d: its WebSocket ends twice", c.q.id)
	}
	c.ended = true
}

// openChats returns those that have not ended.
func (w *world) openChats() []*chat {
	return slices.DeleteFunc(slices.Clone(w.chats), func(c *chat) bool { return c.ended })
}

func (w *world) broadcast() {
	w.news++
	m, _ := NewPreparedMessage(TextMessage, []byte(newsMessage(w.news)))
	sent := Broadcast(func(yield func(*WebSocket) bool) {
		for _, c := range w.openChats() {
			if !yield(c.ws) {
				return
			}
		}
	}, m)
	w.tell("news %d go to %d WebSockets", w.news, sent)
}

// Messages are the talk of a client of a WebSocket, behind the handshake.
type messages struct {
	quiet
	w      *world
	q      *worldRequest
	reader messageReader
	sent   int
	echoed int
	news   int
	ending bool // it has sent its close frame
}

// newMessages has p send some.
func (w *world) newMessages(p *peer, q *worldRequest) {
	t := &messages{w: w, q: q, sent: 1 + w.rand.IntN(8)}
	t.reader.bytesMax = -1
	p.talk = t
	if w.one(4) {
		w.tell("client %d stops to read, and has much to say", p.number)
		p.deaf, p.excused = true, true
		t.sent += 40
	}
	for i := range t.sent {
		text, first := chatMessage(q.id, i), byte(TextMessage)
		if w.one(3) {
			at := w.rand.IntN(len(text))
			p.say(wsFrame(first, text[:at], true))
			p.say(wsFrame(frameFin|byte(opPing), "ping", true))
			text, first = text[at:], byte(opContinuation)
		}
		p.say(wsFrame(frameFin|first, text, true))
	}
	if w.one(3) {
		t.close(p)
	}
	t.hear(p)
}

func (t *messages) close(p *peer) {
	if !t.ending {
		t.ending = true
		p.say(wsFrame(frameFin|byte(opClose), string(closeFrameBody(CloseNormal, "")), true))
	}
}

func (t *messages) hear(p *peer) {
	for ev := eventPong; ev != eventNone && !p.farewell; {
		n, next, err := t.reader.next(p.got)
		if p.got, ev = p.got[n:], next; err != nil {
			t.w.fail("%v: %v", p.s, err)
			return
		}
		switch ev {
		case eventPing:
			p.say(wsFrame(frameFin|byte(opPong), string(t.reader.data), true))
		case eventMessage:
			t.message(p, string(t.reader.data))
		case eventClose:
			p.farewell = true
			t.close(p)
		}
	}
}

// drops reports whether the queues may drop messages.
func (t *messages) drops() bool { return t.w.chatting.QueuePolicy == QueueDropOldest }

// message takes an echo, or news.
func (t *messages) message(p *peer, text string) {
	n := 0
	if _, err := fmt.Sscanf(text, "news %d.", &n); err == nil && n > t.news && text == newsMessage(n) {
		t.news = n
		return
	}
	_, err := fmt.Sscanf(text, "message %d of", &n)
	if err != nil || n < t.echoed || n > t.echoed && !t.drops() || n >= t.sent || text != chatMessage(t.q.id, n) {
		t.w.fail("%v: behind message %d and news %d client %d receives %q", p.s, t.echoed, t.news, p.number, tail([]byte(text)))
	}
	t.echoed = n + 1
}

func (t *messages) owed() string {
	if t.echoed == t.sent || t.drops() {
		return ""
	}
	return fmt.Sprintf("message %d", t.echoed)
}

func (t *messages) open(p *peer) bool { return t.quiet.open(p) || t.reader.begun() }

func (t *messages) loose(p *peer) bool {
	return t.q.spoilt || t.w.chatting.QueuePolicy == QueueDropConnection || p.hurried(t.q.chat) ||
		t.ending && p.slow // CloseTimeout is too short for what it has to read
}

// hurried reports whether p is slow, and has little time for what it has to read
// since the server closes its WebSocket.
func (p *peer) hurried(c *chat) bool {
	return c != nil && (p.w.ending || !c.closing.IsZero() || c.q.spoilt) && !p.next.IsZero()
}
