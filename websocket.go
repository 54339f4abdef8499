package flare

import (
	"context"
	"crypto/rand"
	"encoding/binary"
	"errors"
	"iter"
	"net/netip"
	"strconv"
	"sync"
	"time"
	"unicode/utf8"
)

// This file is layer 4 (roles): what all WebSockets have in common: options,
// errors, and the way out: messages, pings, the close frame, broadcasts. It
// knows frames and an output that takes bytes; websocket_server.go has those
// that live on a loop, websocket_blocking.go those that are read by a goroutine
// of their own, websocket_client.go how a client gets one.

// WebSocketOptions configure a WebSocket. The zero value is ready for use. In
// every limit and time 0 means the default and a negative value none.
type WebSocketOptions struct {
	// Subprotocols are what the server speaks, best first, or what the client
	// offers.
	Subprotocols []string

	// OriginPatterns says from which pages a browser may connect, besides those
	// of the server's own host. A pattern is a host with its port, or with a
	// scheme in front: "*.example.com", "https://app.example.com:8443", in the
	// syntax of path.Match; "*" allows every page. A scheme's default port may be
	// written or left out. Servers only.
	OriginPatterns []string

	// Compression is permessage-deflate; off by default.
	Compression Compression

	MaxMessageBytes int64         // of one message, inflated; default 1 MiB, on breach 1009
	MaxQueueBytes   int           // written and not taken by the peer; default 1 MiB
	QueuePolicy     QueuePolicy   // what becomes of a message that the queue has no room for
	WriteTimeout    time.Duration // without progress of a peer that has to read; default 30 s, on breach a reset
	Heartbeat       time.Duration // of silence until a ping, and then until the end; default 30 s
	IdleTimeout     time.Duration // without a message from the peer; default none, on breach 1001
	CloseTimeout    time.Duration // for the closing handshake; default 5 s
}

const (
	defaultMessageBytes = 1 << 20
	defaultHeartbeat    = 30 * time.Second // below the idle time of usual proxies
	defaultCloseTimeout = 5 * time.Second
)

// A CloseError is the end of a WebSocket by a close frame of the peer. As the
// result of OnMessage or OnOpen it says how to close.
type CloseError struct {
	Code   CloseCode
	Reason string // at most 123 bytes of UTF-8
}

func (e *CloseError) Error() string {
	s := "flare: WebSocket closed with " + strconv.Itoa(int(e.Code))
	if e.Reason != "" {
		s += ": " + strconv.Quote(e.Reason)
	}
	return s
}

// Is makes errors.Is(err, ErrClosed) answer.
func (e *CloseError) Is(target error) bool { return target == ErrClosed }

var (
	errMessageKind = errors.New("flare: a WebSocket message is text or binary")
	errMessageText = errors.New("flare: a text message must be UTF-8")
	errCloseCode   = errors.New("flare: a close code that must not be sent")
	errCloseReason = errors.New("flare: a close reason is at most 123 bytes of UTF-8")
	errPingLong    = errors.New("flare: a ping has at most 125 bytes")
)

// A WebSocket is one connection, of a server or of a client. Write, Writer,
// WritePrepared, Ping and Close may be called from any goroutine; messages of
// one goroutine arrive in the order of its calls.
type WebSocket struct {
	// Data is the user's; flare never looks at it.
	Data any

	// Fixed.
	*websocketProfile
	codecs   *websocketCodecs // nil: messages are not compressed
	blocking *blockingSocket  // nil: on a loop
	loopOut  *outbox          // nil: blocking

	// The order of messages.
	mu        sync.Mutex
	streaming chan struct{} // closed when the Writer that has begun a message is; nil: none
}

// The way out is that of a loop or a blocking one. These are branches and not
// an interface, so that a frame's head can stay on the stack.

func (ws *WebSocket) put(head, p []byte, kind putKind) error {
	if ws.blocking != nil {
		return ws.blocking.put(head, p, kind)
	}
	return ws.loopOut.put(head, p, kind)
}

func (ws *WebSocket) reserve(n int, policy QueuePolicy) error {
	if ws.blocking != nil {
		return ws.blocking.reserve(n, policy)
	}
	return ws.loopOut.reserve(n, policy)
}

func (ws *WebSocket) awaitRoom(ctx context.Context, n int) error {
	if ws.blocking != nil {
		return ws.blocking.awaitRoom(ctx, n)
	}
	return ws.loopOut.awaitRoom(ctx, n)
}

// flush sends what put has taken; a loop's outbox has done so already.
func (ws *WebSocket) flush(ctx context.Context) error {
	if ws.blocking != nil {
		return ws.blocking.flush(ctx)
	}
	return nil
}

// Subprotocol returns what was agreed on, "" for none.
func (ws *WebSocket) Subprotocol() string { return ws.subprotocol }

// RemoteAddr returns the peer's address; the zero value for a Unix socket.
func (ws *WebSocket) RemoteAddr() netip.AddrPort {
	if ws.blocking != nil {
		return ws.blocking.peer
	}
	return ws.loopOut.c.RemoteAddr()
}

// Write sends p as one message. It copies what it keeps. With QueueBlock it
// waits while the peer does not read, until ctx ends or WriteTimeout passes;
// otherwise it does not wait. After the end of the connection it fails with an
// error that is ErrClosed where nothing else went wrong.
//
// A WebSocket of AcceptWebSocket or DialWebSocket has no loop: whoever writes
// sends, and waits for the peer whatever the policy is. When ctx ends meanwhile
// the connection ends with it, for every user of it, since a part of the
// message may have left. Writer, WritePrepared and Ping do the same.
func (ws *WebSocket) Write(ctx context.Context, kind MessageKind, p []byte) error {
	if err := checkMessage(kind, p); err != nil {
		return err
	}
	return ws.send(ctx, len(p), func() error { return ws.putMessage(kind, p) })
}

// WriteText is Write of a text message.
func (ws *WebSocket) WriteText(ctx context.Context, s string) error {
	return ws.Write(ctx, TextMessage, []byte(s))
}

func checkMessage(kind MessageKind, p []byte) error {
	switch {
	case kind != TextMessage && kind != BinaryMessage:
		return errMessageKind
	case kind == TextMessage && !utf8.Valid(p):
		return errMessageText
	}
	return nil
}

// send calls put, in the order of messages, until the queue has room.
func (ws *WebSocket) send(ctx context.Context, n int, put func() error) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	for {
		ws.mu.Lock()
		if other := ws.streaming; other != nil {
			ws.mu.Unlock()
			select {
			case <-other:
				continue
			case <-ctx.Done():
				return ctx.Err()
			}
		}
		err := put()
		ws.mu.Unlock()
		if err != ErrBackpressure || ws.policy != QueueBlock {
			if err != nil {
				return err
			}
			return ws.flush(ctx)
		}
		if err := ws.awaitRoom(ctx, n+frameHeadBytesMax); err != nil {
			return err
		}
	}
}

const (
	// Messages below these sizes are left alone: what DEFLATE saves there is
	// less than it costs, but for what earlier messages have in common.
	deflateBytesMin         = 512
	deflateBytesMinTakeover = 64
)

// putMessage puts one message as one frame. ws.mu is held.
func (ws *WebSocket) putMessage(kind MessageKind, p []byte) error {
	if ws.codecs == nil {
		return ws.putFrame(frameFin|byte(kind), p, putMessage)
	}
	z, least := ws.codecs.deflater, deflateBytesMin
	if z.takeover {
		least = deflateBytesMinTakeover
	}
	if len(p) < least {
		return ws.putFrame(frameFin|byte(kind), p, putMessage)
	}
	// Room first: what the deflater has seen has to be sent.
	if err := ws.reserve(len(p)+frameHeadBytesMax, ws.policy); err != nil {
		return err
	}
	small := getBuffer(frameHeadBytesMax + len(p)/4)
	small, smaller := z.deflate(small, p)
	defer func() { small.release() }()
	if smaller || z.takeover {
		return ws.putFrame(frameFin|frameRSV1|byte(kind), small.b, putAdmitted)
	}
	return ws.putFrame(frameFin|byte(kind), p, putAdmitted)
}

// putFrame puts one frame. A client's is masked in a copy (RFC 6455 §5.3).
func (ws *WebSocket) putFrame(first byte, p []byte, kind putKind) error {
	var head [frameHeadBytesMax]byte
	if !ws.client {
		return ws.put(appendFrameHead(head[:0], first, len(p), false, 0), p, kind)
	}
	var random [4]byte
	rand.Read(random[:]) // RFC 6455 §10.3: not to be guessed
	key := binary.LittleEndian.Uint32(random[:])
	masked := getBuffer(len(p))
	defer masked.release()
	masked.b = append(masked.b, p...)
	maskWord(masked.b, key)
	return ws.put(appendFrameHead(head[:0], first, len(p), true, key), masked.b, kind)
}

// Ping sends a ping with up to 125 bytes. It does not wait for the answer; the
// Heartbeat option pings by itself.
func (ws *WebSocket) Ping(ctx context.Context, p []byte) error {
	if len(p) > controlPayloadMax {
		return errPingLong
	}
	if err := ctx.Err(); err != nil {
		return err
	}
	if err := ws.putFrame(frameFin|byte(opPing), p, putMessage); err != nil {
		return err
	}
	return ws.flush(ctx)
}

// pong answers a ping. While the peer does not read, the newest answer takes
// the place of earlier ones (RFC 6455 §5.5.3).
func (ws *WebSocket) pong(p []byte) { ws.putFrame(frameFin|byte(opPong), p, putLatest) }

// closeFrameBody returns the body of a close frame; CloseNoStatus has none.
func closeFrameBody(code CloseCode, reason string) []byte {
	if code == CloseNoStatus {
		return nil
	}
	return append(binary.BigEndian.AppendUint16(nil, uint16(code)), reason...)
}

// sendClose sends the close frame, once; nothing is sent behind it.
func (ws *WebSocket) sendClose(code CloseCode, reason string) error {
	return ws.putFrame(frameFin|byte(opClose), closeFrameBody(code, reason), putLast)
}

// Close starts the closing handshake: what was written before is still sent,
// what is written after fails. It is called from any goroutine, any number of
// times; the first call decides. A WebSocket of a WebSocketHandler returns at
// once, and OnClose follows; one that is read with Read waits for the peer's
// answer, for CloseTimeout at most.
func (ws *WebSocket) Close(code CloseCode, reason string) error {
	switch {
	case code != CloseNoStatus && !code.sendable():
		return errCloseCode
	case len(reason) > closeReasonMax || !utf8.ValidString(reason) || code == CloseNoStatus && reason != "":
		return errCloseReason
	}
	if ws.blocking != nil {
		return ws.blocking.close(code, reason)
	}
	if err := ws.sendClose(code, reason); err != nil {
		return err
	}
	if ws.lim.close > 0 {
		ws.loopOut.endBy(after(time.Since(origin), ws.lim.close))
	}
	return nil
}

// closeSoon is Close that does not wait.
func (ws *WebSocket) closeSoon(code CloseCode) {
	if ws.blocking == nil {
		ws.Close(code, "")
	} else if ws.sendClose(code, "") == nil {
		go ws.blocking.shakeHands()
	}
}

// goingAway closes because the server does.
func (ws *WebSocket) goingAway() { ws.Close(CloseGoingAway, "") }

// closeOf is how a WebSocket is closed after an error of the user's code or of
// the peer.
func closeOf(err error) (CloseCode, string) {
	var broken *webSocketError
	var closed *CloseError
	switch {
	case errors.As(err, &broken):
		return broken.code, ""
	case errors.As(err, &closed) && closed.Code.sendable() && len(closed.Reason) <= closeReasonMax && utf8.ValidString(closed.Reason):
		return closed.Code, closed.Reason
	}
	return CloseInternalError, ""
}

// A PreparedMessage is a message that is put into frames, and compressed, once
// for any number of connections. It may be used by any goroutine.
type PreparedMessage struct {
	kind    MessageKind
	frame   []byte // uncompressed, of a server
	payload []byte // part of frame
	once    sync.Once
	small   []byte // compressed frame, nil if it would not be smaller
}

// NewPreparedMessage returns a message with a copy of p.
func NewPreparedMessage(kind MessageKind, p []byte) (*PreparedMessage, error) {
	if err := checkMessage(kind, p); err != nil {
		return nil, err
	}
	m := &PreparedMessage{kind: kind}
	m.frame = appendFrameHead(make([]byte, 0, frameHeadBytesMax+len(p)), frameFin|byte(kind), len(p), false, 0)
	head := len(m.frame)
	m.frame = append(m.frame, p...)
	m.payload = m.frame[head:]
	return m, nil
}

// compressed returns the compressed frame, nil for none.
func (m *PreparedMessage) compressed() []byte {
	m.once.Do(func() {
		if len(m.payload) < deflateBytesMin {
			return
		}
		out, smaller := new(deflater).deflate(getBuffer(len(m.payload)/4), m.payload)
		if smaller {
			m.small = appendFrameHead(nil, frameFin|frameRSV1|byte(m.kind), len(out.b), false, 0)
			m.small = append(m.small, out.b...)
		}
		out.release()
	})
	return m.small
}

// putPrepared puts m. ws.mu is held.
func (ws *WebSocket) putPrepared(m *PreparedMessage) error {
	z := ws.codecs
	switch {
	case ws.client || z != nil && (z.deflater.takeover || z.deflater.windowBytes != 0):
		return ws.putMessage(m.kind, m.payload) // nothing of it is the same for others
	case z != nil:
		if small := m.compressed(); small != nil {
			return ws.put(nil, small, putMessage)
		}
	}
	return ws.put(nil, m.frame, putMessage)
}

// WritePrepared is Write of a prepared message.
func (ws *WebSocket) WritePrepared(ctx context.Context, m *PreparedMessage) error {
	return ws.send(ctx, len(m.frame), func() error { return ws.putPrepared(m) })
}

// Broadcast writes m to each of the connections and returns how many took it.
// It never waits: one with QueueBlock whose queue is full, one in the middle of
// a Writer's message, and one that has ended do not get it.
func Broadcast(to iter.Seq[*WebSocket], m *PreparedMessage) (sent int) {
	for ws := range to {
		ws.mu.Lock()
		ok := ws.streaming == nil && ws.putPrepared(m) == nil
		ws.mu.Unlock()
		if !ok {
			continue
		}
		sent++
		if ws.blocking != nil {
			ws.blocking.flushSoon()
		}
	}
	return sent
}
