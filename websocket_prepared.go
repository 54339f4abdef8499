package flare

import (
	"context"
	"iter"
	"sync"
)

// This file is layer 4 (roles): a message for many WebSockets at once.

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
			return ws.run.put(frameHeadBytes{}, small, putMessage)
		}
	}
	return ws.run.put(frameHeadBytes{}, m.frame, putMessage)
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
		if ok {
			sent++
			ws.run.flushSoon()
		}
	}
	return sent
}
