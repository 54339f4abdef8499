package flare

import (
	"context"
	"errors"
	"io"
	"sync"
)

// This file is layer 4 (roles): a message that is written in pieces. What fits
// the buffer leaves as one frame, and compressed; a longer message leaves in
// fragments as it is written (RFC 6455 §5.4).

// fragmentBytes is how much of a message is collected before it is sent.
const fragmentBytes = 32 << 10

var errWriterClosed = errors.New("flare: write to a closed message")

// A messageWriter is what Writer returns. Its buffer is another's once it is
// closed, so calls of several goroutines come one after the other.
type messageWriter struct {
	mu    sync.Mutex
	ws    *WebSocket
	ctx   context.Context
	kind  MessageKind
	buf   *buffer // nil: closed
	text  utf8Check
	begun chan struct{} // not nil: fragments are out
	err   error
}

// Writer returns a writer of one message. Close ends the message; until then
// other messages wait once it is longer than 32 KiB. ctx bounds the waits of
// all its calls.
func (ws *WebSocket) Writer(ctx context.Context, kind MessageKind) (io.WriteCloser, error) {
	if kind != TextMessage && kind != BinaryMessage {
		return nil, errMessageKind
	}
	return &messageWriter{ws: ws, ctx: ctx, kind: kind, buf: getBuffer(fragmentBytes)}, nil
}

// Write adds p to the message.
func (w *messageWriter) Write(p []byte) (int, error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	switch {
	case w.err != nil:
		return 0, w.err
	case w.buf == nil:
		return 0, errWriterClosed
	case w.kind == TextMessage && w.text.next(p) >= 0:
		return 0, w.fail(errMessageText)
	}
	for n := 0; n < len(p); {
		if len(w.buf.b) == fragmentBytes {
			if err := w.fragment(false); err != nil {
				return n, w.fail(err)
			}
		}
		m := min(fragmentBytes-len(w.buf.b), len(p)-n)
		w.buf.b = append(w.buf.b, p[n:n+m]...)
		n += m
	}
	return len(p), nil
}

// Close ends the message and sends what is left of it.
func (w *messageWriter) Close() error {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.buf == nil || w.err != nil {
		if w.err == nil {
			w.err = errWriterClosed
		}
		return w.err
	}
	var err error
	switch {
	case w.kind == TextMessage && !w.text.complete():
		err = errMessageText
	case w.begun == nil:
		err = w.ws.send(w.ctx, len(w.buf.b), func() error { return w.ws.putMessage(w.kind, w.buf.b) })
	default:
		err = w.fragment(true)
	}
	if err != nil {
		return w.fail(err)
	}
	w.done()
	return nil
}

// fragment sends what was collected. A part of a message is never dropped: it
// counts as control and waits for its room beforehand.
func (w *messageWriter) fragment(last bool) error {
	ws, n := w.ws, len(w.buf.b)+frameHeadBytesMax
	policy := ws.policy
	if policy == QueueDropOldest {
		policy = QueueBlock
	}
	var err error
	if w.begun == nil {
		err = ws.send(w.ctx, n, func() error {
			err := ws.run.reserve(n, policy)
			if err == nil {
				err = ws.putFrame(byte(w.kind), w.buf.b, putControl)
			}
			if err == nil { // ws.mu is held: from here on the message is this one
				w.begun = make(chan struct{})
				ws.streaming = w.begun
			}
			return err
		})
	} else {
		err = w.continuation(n, policy, last)
	}
	w.buf.b = w.buf.b[:0]
	return err
}

// continuation sends a fragment that is not the first.
func (w *messageWriter) continuation(n int, policy QueuePolicy, last bool) error {
	ws := w.ws
	for {
		err := ws.run.reserve(n, policy)
		if err == nil {
			break
		}
		if err != ErrBackpressure || policy != QueueBlock {
			return err
		}
		if err := ws.run.awaitRoom(w.ctx, n); err != nil {
			return err
		}
	}
	first := byte(opContinuation)
	if last {
		first |= frameFin
	}
	if err := ws.putFrame(first, w.buf.b, putControl); err != nil {
		return err
	}
	return ws.run.flush(w.ctx)
}

// fail ends the message with err. One that has begun cannot be taken back: the
// peer must not take a part for the whole.
func (w *messageWriter) fail(err error) error {
	w.err = err
	if w.begun != nil {
		w.ws.closeSoon(CloseInternalError)
	}
	w.done()
	return err
}

func (w *messageWriter) done() {
	if w.buf != nil {
		w.buf.release()
		w.buf = nil
	}
	if w.begun != nil {
		w.ws.mu.Lock()
		w.ws.streaming = nil
		w.ws.mu.Unlock()
		close(w.begun)
		w.begun = nil
	}
}
