package flare

import (
	"context"
	"errors"
	"net/netip"
	"sync"
	"time"
)

// This file is layer 4 (roles): the core of a WebSocket, which is the same
// however it is run: what the peer's octets amount to, which silence it is
// allowed, and how either ends the connection (websocket_close.go). The core
// receives nothing, waits for nothing and sends nothing; it knows no socket.
//
// A way to run it is a websocketRun. It brings octets to next, messages to the
// user, moments to silenceOver, and sends what the core has queued. There are three:
//
//	websocket_run_loop.go      on an event loop, for a WebSocketHandler
//	websocket_run_blocking.go  by a goroutine of the user's, for Read
//	websocket_run_carried.go   by another server's goroutine, for a WebSocketHandler
//
// The last one is a blockingSocket too. A stream of HTTP/2 (RFC 8441) would be one
// more, with a file beside these; WebSocketHandler.Serve chooses.

// A websocketRun is the way in which a WebSocket is run, as others see it: what
// they may ask of it from any goroutine.
type websocketRun interface {
	// put queues one frame, or takes it to the peer, and never waits: a message that
	// QueueBlock has no room for is ErrBackpressure, and nothing of it was taken.
	// reserve finds room for a message that is put as putAdmitted next.
	put(head frameHeadBytes, p []byte, kind putKind) error
	reserve(n int, policy QueuePolicy) error

	// awaitRoom waits until there may be room for n bytes, or the end of ctx.
	awaitRoom(ctx context.Context, n int) error

	// flush sends what put has queued, if put leaves that to it; the end of ctx
	// may end the connection. flushSoon has it sent, and does not wait.
	flush(ctx context.Context) error
	flushSoon()

	// awaitClose sees to it that the connection ends when the peer does not answer
	// the close frame, which is queued, in CloseTimeout. Where the user reads, and
	// wait says so, it returns after that end.
	awaitClose(wait bool) error

	// takes reports whether the peer may not have come to what was said last, and is
	// not to blame for that: it is looked at how it takes what stands before.
	takes(limit time.Duration) bool

	closing() bool // nothing more is taken
	loop() *Loop   // that the connection is on, or was; nil: none
	remoteAddr() netip.AddrPort
	counts() *loopCounts // what counts for it, in a server
}

// A websocketCore is what every WebSocket has. All but ws belongs to one
// goroutine at a time: the connection's owner on a loop, else the one that reads.
type websocketCore struct {
	ws WebSocket // what the user has

	reader      *websocketReader // nil: between two messages, on a loop
	offset      int64            // bytes of input before what reader has read
	heard       time.Duration    // when something last came, or the ping into the silence since
	lastMessage time.Duration    // when the octets of the last message came
	ended       *CloseError      // how it ended, nil: not yet
	pinged      bool             // a ping was sent into the silence
}

// errWebSocketIdle is the end of a peer that has sent no message for IdleTimeout.
var errWebSocketIdle = errors.New("flare: no WebSocket message for too long")

// begin makes k one of the given profile.
func (k *websocketCore) begin(profile *websocketProfile) {
	k.ws.websocketProfile, k.ws.codecs = profile, profile.newCodecs()
}

// listen begins the silence.
func (k *websocketCore) listen(now time.Duration) { k.heard, k.lastMessage = now, now }

// A websocketReader reads the messages of a turn, or one that has begun.
type websocketReader struct {
	messageReader
	counted int // its size in the server's count
}

var websocketReaders sync.Pool // of *websocketReader

// takeReader gives k something to read with.
func (k *websocketCore) takeReader() *websocketReader {
	r, _ := websocketReaders.Get().(*websocketReader)
	if r == nil {
		r = new(websocketReader)
	}
	r.rules, r.bytesMax, r.offset = k.ws.rules, k.ws.lim.messageBytes, k.offset
	if z := k.ws.codecs; z != nil {
		r.inflater = z.inflater
	}
	k.reader = r
	return r
}

// giveReader gives it back.
func (k *websocketCore) giveReader() {
	r := k.reader
	k.reader, k.offset = nil, r.offset
	if !raceEnabled { // under the race detector nothing is reused
		*r = websocketReader{}
		websocketReaders.Put(r)
	}
}

// heardAt notes that octets of the peer have come.
func (k *websocketCore) heardAt(now time.Duration) { k.heard, k.pinged = now, false }

// next takes octets from the front of in as messageReader.next does, and answers
// what asks for an answer; what it has queued is the caller's to send. An error is
// the end: the peer's close frame, as a *CloseError, or a rule that it has broken.
// The close frame that belongs to it is queued then, and nothing may be read after.
func (k *websocketCore) next(in []byte) (n int, ev messageEvent, err error) {
	r := k.reader
	n, ev, err = r.next(in)
	switch {
	case err != nil: // RFC 6455 §7.1.7
		code, _ := closeOf(err)
		k.endWith(&CloseError{Code: code}, code)
	case ev == eventMessage:
		k.lastMessage = k.heard
	case ev == eventPing:
		k.ws.pong(r.data)
	case ev == eventClose: // RFC 6455 §5.5.1: answered with its code
		closed := &CloseError{Code: r.code, Reason: string(r.data)}
		k.endWith(closed, r.code)
		err = closed
	}
	return n, ev, err
}

// endWith notes how the connection ends, and queues the close frame with code; the
// first of either stands.
func (k *websocketCore) endWith(how *CloseError, code CloseCode) {
	if k.ended == nil {
		k.ended = how
	}
	k.ws.sendClose(code, "")
}

// silenceEnds is when silenceOver has something to do, 0 for never.
func (k *websocketCore) silenceEnds() time.Duration {
	lim := &k.ws.lim
	return soonest(after(k.heard, lim.heartbeat), after(k.lastMessage, lim.idle))
}

// silenceOver breaks the silence with a ping. A peer that has sent no message for
// IdleTimeout is errWebSocketIdle, with the close frame queued; one that has not
// answered the ping is ErrTimeout, unless it is still taking what stands before that.
func (k *websocketCore) silenceOver(now time.Duration) error {
	lim := &k.ws.lim
	if at := after(k.lastMessage, lim.idle); at != 0 && at <= now {
		k.lastMessage = now
		k.ws.sendClose(CloseGoingAway, "idle")
		return errWebSocketIdle
	}
	at := after(k.heard, lim.heartbeat)
	switch {
	case at == 0 || now < at:
		return nil
	case !k.pinged:
		k.ws.putFrame(frameFin|byte(opPing), nil, putControl)
	case !k.ws.run.takes(lim.heartbeat):
		return ErrTimeout
	}
	k.heard, k.pinged = now, true
	return nil
}
