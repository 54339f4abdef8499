package flare

import (
	"context"
	"errors"
	"io"
)

// This file is layer 4 (roles): reading a WebSocket in the blocking style. The
// messageReader keeps what has arrived, so that a read which is given up loses
// nothing and the next one goes on.

var (
	errReadOnLoop  = errors.New("flare: a WebSocket of a WebSocketHandler is read by its OnMessage")
	errStreamStale = errors.New("flare: another message has been asked for since")
)

// Read returns the next message, whole, in a slice of the caller's own. It
// answers pings, and the peer's close frame, which it returns as a *CloseError;
// a peer that breaks a rule is ErrMalformed, or ErrTooLarge. When ctx ends Read returns
// its error, and may be called again. Of several goroutines one reads at a
// time. It is for WebSockets of AcceptWebSocket and DialWebSocket.
func (ws *WebSocket) Read(ctx context.Context) (MessageKind, []byte, error) {
	b, err := ws.startMessage(ctx)
	if err != nil {
		return 0, nil, err
	}
	defer b.stopReading()
	for {
		if err := b.nextMessage(ctx); err != nil {
			return 0, nil, err
		}
		b.lastMessage = b.heard
		b.partial = append(b.partial, b.reader.data...)
		if b.reader.last { // not so when the message began for a Reader that was given up
			p := b.partial
			b.partial = nil
			b.countInput()
			return b.reader.kind, p, nil
		}
	}
}

// Reader returns the next message as a stream. It ends with io.EOF at the end
// of the message, and with the next call of Read or Reader, which skip the rest.
// ctx bounds the waits of its reads too. A compressed message is inflated once
// all of it has arrived; otherwise a message need not fit into memory.
func (ws *WebSocket) Reader(ctx context.Context) (MessageKind, io.Reader, error) {
	b, err := ws.startMessage(ctx)
	if err != nil {
		return 0, nil, err
	}
	defer b.stopReading()
	b.reader.pieces = true
	if err := b.nextMessage(ctx); err != nil {
		b.reader.pieces = false // Read may be next
		return 0, nil, err
	}
	b.lastMessage = b.heard // as long as the message may be, it has begun
	piece := b.reader.data
	if len(b.partial) > 0 { // of a Read that was given up after all
		piece, b.partial = append(b.partial, piece...), nil
	}
	b.stream = &messageStream{b: b, ctx: ctx, piece: piece, last: b.reader.last}
	return b.reader.kind, b.stream, nil
}

// blocking returns the WebSocket as one that its user reads, nil for others.
func (ws *WebSocket) blocking() *blockingSocket {
	if b, ok := ws.run.(*blockingSocket); ok && ws.handler == nil {
		return b
	}
	return nil
}

// startMessage makes the caller the one that reads, behind the last message.
func (ws *WebSocket) startMessage(ctx context.Context) (*blockingSocket, error) {
	b := ws.blocking()
	if b == nil {
		return nil, errReadOnLoop
	}
	if err := b.startReading(ctx); err != nil {
		return nil, err
	}
	if err := b.abandonStream(ctx); err != nil {
		b.stopReading()
		return nil, err
	}
	return b, nil
}

// startReading makes the caller the one that reads, until stopReading.
func (b *blockingSocket) startReading(ctx context.Context) error {
	select {
	case b.reading <- struct{}{}:
		return nil
	default:
	}
	defer b.home.resumed()
	select {
	case b.reading <- struct{}{}:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

func (b *blockingSocket) stopReading() { <-b.reading }

// abandonStream skips the rest of a message that Reader was asked for. Whoever
// still has its stream gets no more of it, also when ctx ends before the rest
// has come: what it would read has made room for what came.
func (b *blockingSocket) abandonStream(ctx context.Context) error {
	s := b.stream
	if s != nil && s.err == nil {
		s.err = errStreamStale
	}
	for s != nil && !s.last {
		if err := b.nextMessage(ctx); err != nil {
			return err
		}
		s.last = b.reader.last
	}
	b.stream, b.reader.pieces = nil, false
	return nil
}

// A messageStream is what Reader returns.
type messageStream struct {
	b     *blockingSocket
	ctx   context.Context
	piece []byte
	last  bool
	err   error
}

// Read reads from the message.
func (s *messageStream) Read(p []byte) (int, error) {
	b := s.b
	if err := b.startReading(s.ctx); err != nil {
		return 0, err
	}
	defer b.stopReading()
	for len(s.piece) == 0 {
		switch {
		case s.err != nil:
			return 0, s.err
		case s.last:
			return 0, io.EOF
		case len(p) == 0:
			return 0, nil
		}
		if err := b.nextMessage(s.ctx); err != nil {
			return 0, err
		}
		s.piece, s.last = b.reader.data, b.reader.last
	}
	if s.err != nil {
		return 0, s.err
	}
	n := copy(p, s.piece)
	s.piece = s.piece[n:]
	return n, nil
}
