package flare

import (
	"context"
	"errors"
	"io"
	"net"
	"os"
	"time"
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

// nextMessage returns the next message, or piece of one. The caller is the one that
// reads.
func (b *blockingSocket) nextMessage(ctx context.Context) error {
	if b.readErr != nil {
		return b.readErr
	}
	if err := ctx.Err(); err != nil {
		return err
	}
	if ctx.Done() != nil {
		set := make(chan struct{})
		stop := context.AfterFunc(ctx, func() {
			b.nc.SetReadDeadline(longAgo)
			close(set)
		})
		defer func() {
			if !stop() {
				<-set
			}
			b.readBefore = 0
		}()
		b.readBefore = 0
	}
	for {
		n, ev, err := b.next(b.in)
		b.in = b.in[n:]
		switch {
		case err != nil:
			return b.part(err)
		case ev == eventMessage || ev == eventPiece:
			return nil
		case ev == eventPing:
			err = b.flushReading(ctx)
		case ev == eventNone:
			err = b.fill(ctx)
		}
		if err != nil {
			return err
		}
	}
}

// flushReading is flush in a read: a peer that does not read is not read from.
// The end of ctx ends the wait and, unlike that of a write, nothing else.
func (b *blockingSocket) flushReading(ctx context.Context) error {
	if ctx.Done() == nil {
		b.flush(ctx)
		return nil
	}
	sent := make(chan struct{})
	go func() {
		defer close(sent)
		b.flush(context.Background())
	}()
	select {
	case <-sent:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

// part ends the connection behind the close frame that is queued. The peer has
// CloseTimeout to take all that it waits behind. err is the result of reading.
func (b *blockingSocket) part(err error) error {
	ctx, cancel := b.closeTime()
	defer cancel()
	b.flush(ctx)
	return b.readEnded(err, b.awaitSent(ctx)) // another goroutine may be the sender
}

// readEnded makes err the result of this and every later read.
func (b *blockingSocket) readEnded(err error, linger bool) error {
	b.readErr = err
	b.reader.release()
	b.finish(ErrClosed, linger)
	return err
}

// fill receives more, and keeps watch over the silence meanwhile.
func (b *blockingSocket) fill(ctx context.Context) error {
	kept := copy(b.buf, b.in)
	b.in = b.buf[:kept]
	b.countInput()
	looked := false
	for {
		b.setReadDeadline()
		if looked {
			b.readBefore = time.Since(origin) + tick
			b.nc.SetReadDeadline(origin.Add(b.readBefore))
		}
		if ctx.Err() != nil {
			return ctx.Err() // the deadline that ended with it may just have been overwritten
		}
		n, err := b.nc.Read(b.buf[kept:])
		if n > 0 {
			b.in = b.buf[:kept+n]
			b.heardAt(time.Since(origin))
			return nil
		}
		switch {
		case errors.Is(err, os.ErrDeadlineExceeded):
			if ctx.Err() != nil {
				return ctx.Err()
			}
			b.readBefore = 0
			if looked = !looked; looked {
				continue // the time may have passed while nobody read: what has come since counts
			}
			if err := b.silent(); err != nil {
				return err
			}
		case errors.Is(err, net.ErrClosed):
			b.mu.Lock()
			if err = b.err; err == nil {
				err = ErrClosed
			}
			b.mu.Unlock()
			return b.readEnded(err, false)
		case err == io.EOF:
			return b.readEnded(io.ErrUnexpectedEOF, false) // no close frame (RFC 6455 §7.1.5)
		case err != nil:
			return b.readEnded(err, false)
		}
	}
}

// setReadDeadline has the read return in time for silent. A deadline that comes
// early is left alone and looked at when it comes.
func (b *blockingSocket) setReadDeadline() {
	switch at := b.silenceEnds(); {
	case at == 0 && b.readBefore == 0:
		b.nc.SetReadDeadline(time.Time{})
	case at != 0 && (b.readBefore == 0 || at < b.readBefore):
		b.readBefore = at
		b.nc.SetReadDeadline(origin.Add(at))
	}
}

// silent deals with a silence that is over.
func (b *blockingSocket) silent() error {
	switch err := b.silenceOver(time.Since(origin)); err {
	case nil:
		b.flush(context.Background())
		return nil
	case errWebSocketIdle:
		return b.part(ErrTimeout)
	default:
		return b.readEnded(err, false)
	}
}
