package flare

import (
	"context"
	"errors"
	"io"
	"sync"
	"sync/atomic"
	"time"
)

// This file is layer 4 (roles): the body of a response as a reader, and what
// becomes of the connection at its end. It is made by client_roundtrip.go and
// read by users, or by what removes the content coding in between.

var errBodyClosed = errors.New("flare: body read after it was closed")

// A clientBody reads one response's body. A body that had arrived whole with
// its head lies in mem, and its connection went back to the pool before the
// user saw the response. Close may be called while another goroutine reads.
type clientBody struct {
	resp   *ClientResponse
	client *Client

	awake atomic.Pointer[clientConn] // conn until the end; who swaps it out decides about it

	mu        sync.Mutex  // a Read, or the end
	conn      *clientConn // nil: nothing more to come from it
	upload    *clientUpload
	mem       []byte // received, not read
	remaining int64  // of bodyLength
	length    int64  // declared, -1 unknown
	read      int64
	max       int64   // limit of read; negative: none
	err       error   // what further Reads return; io.EOF after the end
	trailer   *Header // nil: not asked for, and none came
	kind      bodyKind
	inMemory  bool // mem is all that is left
	tunnel    bool // what comes is not HTTP's: it is behind a 101
	reusable  bool // the connection may carry another request after the end

	bufferedMax int64           // what Bytes may collect; negative: no limit
	ctx         context.Context // ends the connection
	stop        func() bool     // lets go of ctx; nil: nothing to let go
	by          time.Time       // total limit; zero: none
}

// Read returns octets of the body. It fails with ErrUnexpectedEOF where the
// connection ends before the body does, with ErrMalformed for bad framing, with
// ErrTooLarge over the limit, and with ErrTimeout.
func (b *clientBody) Read(p []byte) (int, error) {
	n, read, err := b.readLocked(p)
	if n > 0 && b.resp.Progress != nil {
		b.resp.Progress(read, b.length) // it may close the body
	}
	return n, err
}

// readLocked is Read without Progress; read is how much was read in all.
func (b *clientBody) readLocked(p []byte) (n int, read int64, err error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.err != nil {
		return 0, b.read, b.err
	}
	if len(p) == 0 {
		return 0, b.read, nil
	}
	n, err = b.next(p)
	b.read += int64(n)
	if b.max >= 0 && b.read > b.max {
		n, err = 0, &ClientError{Phase: PhaseBody, Host: b.resp.origin.hostPort(), Kind: ErrTooLarge}
	}
	if err != nil {
		b.end(err)
		if n > 0 && err != io.EOF {
			err = nil // next time
		}
	}
	return n, b.read, err
}

// next reads without regard to limits. It returns io.EOF with the last octets
// where it knows them to be the last.
func (b *clientBody) next(p []byte) (int, error) {
	if b.inMemory {
		n := copy(p, b.mem)
		if b.mem = b.mem[n:]; len(b.mem) == 0 {
			return n, io.EOF
		}
		return n, nil
	}
	if b.kind == bodyChunked {
		return b.nextChunked(p)
	}
	if b.kind == bodyLength && int64(len(p)) > b.remaining {
		p = p[:b.remaining]
	}
	n, err := b.receive(p)
	if err == io.EOF && b.kind == bodyUntilClose && b.conn.cutOff() {
		err = ErrUnexpectedEOF // RFC 9112 §9.8
	}
	if b.kind == bodyLength {
		if b.remaining -= int64(n); b.remaining == 0 {
			return n, io.EOF
		}
		if err == io.EOF {
			err = ErrUnexpectedEOF // RFC 9112 §8
		}
	}
	return n, b.fault(err)
}

// receive takes what is in the connection's buffer, or reads past it.
func (b *clientBody) receive(p []byte) (int, error) {
	if in := b.conn.unread(); len(in) > 0 {
		n := copy(p, in)
		b.conn.consume(n)
		return n, nil
	}
	b.conn.releaseInput()
	b.arm()
	return b.conn.Read(p)
}

// nextChunked decodes what is there until some of it is data.
func (b *clientBody) nextChunked(p []byte) (int, error) {
	for {
		if in := b.conn.unread(); len(in) > 0 {
			// No more than p takes: the decoder hands out each octet once.
			data, n, done, err := b.conn.chunks.decode(in[:min(len(in), len(p))])
			if err != nil {
				return 0, b.fault(err)
			}
			b.conn.consume(n)
			copied := copy(p, data)
			if done {
				b.keepTrailer(&b.conn.chunks.trailer)
				return copied, io.EOF
			}
			if copied > 0 {
				return copied, nil
			}
			continue
		}
		b.arm()
		if err := b.conn.fill(); err != nil {
			if err == io.EOF {
				err = ErrUnexpectedEOF // RFC 9112 §8
			}
			return 0, b.fault(err)
		}
	}
}

// keepTrailer copies the trailer section, to where Trailer may have been told
// to look for it already.
func (b *clientBody) keepTrailer(h *headerFields) {
	if h.Len() == 0 {
		return
	}
	if b.trailer == nil {
		b.trailer = new(Header)
	}
	b.trailer.in = h.clone()
}

// arm gives the next octets their time.
func (b *clientBody) arm() {
	limit := b.client.cfg.bodyTimeout
	if b.tunnel {
		limit = 0 // the other protocol has its own
	}
	b.conn.readBy(earlier(b.by, limit))
}

// fault dresses an error of the connection.
func (b *clientBody) fault(err error) error {
	if err == nil || err == io.EOF {
		return err
	}
	if ctxErr := b.ctx.Err(); ctxErr != nil {
		err = ctxErr
	}
	phase := PhaseBody
	if b.upload.timedOut() {
		phase, err = PhaseWrite, ErrTimeout
	}
	return clientError(phase, b.resp.origin.hostPort(), err)
}

// end is where the body ends, for whatever reason. b.mu is held.
func (b *clientBody) end(err error) {
	b.err = err
	b.mem = nil
	b.settle(err == io.EOF)
}

// settle lets go of the connection; whole says that nothing of the body is left
// on it. b.mu is held.
func (b *clientBody) settle(whole bool) {
	conn := b.conn
	if b.conn = nil; conn == nil {
		return
	}
	alive := b.awake.Swap(nil) != nil
	if b.stop != nil && !b.stop() {
		alive = false
	}
	if whole && alive && b.reusable && len(conn.unread()) == 0 && b.upload.soon() {
		b.client.rest(conn, b.ctx)
		return
	}
	conn.close()
	conn.releaseInput()
	b.upload.stop()
}

// Close lets go of the connection. What had arrived of the body already is
// skipped; with more to come the connection ends.
func (b *clientBody) Close() error {
	if !b.mu.TryLock() {
		b.interrupt()
		b.mu.Lock()
	}
	defer b.mu.Unlock()
	if b.err == nil {
		b.end(b.skip())
		b.err = errBodyClosed
	} else if b.err == io.EOF {
		b.err = errBodyClosed
	}
	return nil
}

// interrupt wakes a Read that waits.
func (b *clientBody) interrupt() {
	if conn := b.awake.Swap(nil); conn != nil {
		conn.close()
	}
}

// skip returns io.EOF if all of the body was there.
func (b *clientBody) skip() error {
	switch {
	case b.conn == nil:
		return io.EOF
	case b.kind == bodyLength && int64(len(b.conn.unread())) >= b.remaining:
		b.conn.consume(int(b.remaining))
		return io.EOF
	case b.kind == bodyChunked:
		for len(b.conn.unread()) > 0 {
			_, n, done, err := b.conn.chunks.decode(b.conn.unread())
			if err != nil {
				return err
			}
			b.conn.consume(n)
			if done {
				return io.EOF
			}
		}
	}
	return errBodyClosed
}

// takeMemory hands the body over if it lies in memory whole.
func (b *clientBody) takeMemory() ([]byte, bool) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if !b.inMemory || b.err != nil || b.bufferedMax >= 0 && int64(len(b.mem)) > b.bufferedMax {
		return nil, false
	}
	p := b.mem
	b.end(io.EOF)
	return p, true
}

// A tunnelBody is the Body of a 101: what the peer sends, and a way to it.
type tunnelBody struct {
	*clientBody
	conn *clientConn
}

// Write sends p to the peer.
func (t tunnelBody) Write(p []byte) (int, error) { return t.conn.Write(p) }
