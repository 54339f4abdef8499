package flare

import (
	"context"
	"crypto/rand"
	"encoding/binary"
	"errors"
	"net/netip"
	"sync"
	"time"
	"unicode/utf8"
)

// This file is layer 4 (roles): WebSocket, its options, and the way out: messages
// and pings become frames, in the order of messages. websocket_writer.go has
// messages that are written in pieces, websocket_prepared.go one for many, and
// websocket_close.go the last frame. The way in is websocket_core.go.

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

var (
	errMessageKind = errors.New("flare: a WebSocket message is text or binary")
	errMessageText = errors.New("flare: a text message must be UTF-8")
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
	codecs *websocketCodecs // nil: messages are not compressed
	run    websocketRun

	// The order of messages.
	mu        sync.Mutex
	streaming chan struct{} // closed when the Writer that has begun a message is; nil: none
}

// Subprotocol returns what was agreed on, "" for none.
func (ws *WebSocket) Subprotocol() string { return ws.subprotocol }

// RemoteAddr returns the peer's address; the zero value for a Unix socket.
func (ws *WebSocket) RemoteAddr() netip.AddrPort { return ws.run.remoteAddr() }

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
			if err := ws.awaitWriter(ctx, other); err != nil {
				return err
			}
			continue
		}
		err := put()
		ws.mu.Unlock()
		if err != ErrBackpressure || ws.policy != QueueBlock {
			if err != nil {
				return err
			}
			return ws.run.flush(ctx)
		}
		if err := ws.run.awaitRoom(ctx, n+frameHeadBytesMax); err != nil {
			return err
		}
	}
}

// awaitWriter waits for the end of a Writer's message, or of ctx.
func (ws *WebSocket) awaitWriter(ctx context.Context, closed <-chan struct{}) error {
	defer ws.run.loop().resumed()
	select {
	case <-closed:
		return nil
	case <-ctx.Done():
		return ctx.Err()
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
	if err := ws.run.reserve(len(p)+frameHeadBytesMax, ws.policy); err != nil {
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
	if !ws.client {
		return ws.run.put(newFrameHead(first, len(p), false, 0), p, kind)
	}
	var random [4]byte
	rand.Read(random[:]) // RFC 6455 §10.3: not to be guessed
	key := binary.LittleEndian.Uint32(random[:])
	masked := getBuffer(len(p))
	defer masked.release()
	masked.b = append(masked.b, p...)
	maskWord(masked.b, key)
	return ws.run.put(newFrameHead(first, len(p), true, key), masked.b, kind)
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
	return ws.run.flush(ctx)
}

// pong answers a ping. While the peer does not read, the newest answer takes
// the place of earlier ones (RFC 6455 §5.5.3).
func (ws *WebSocket) pong(p []byte) { ws.putFrame(frameFin|byte(opPong), p, putLatest) }
