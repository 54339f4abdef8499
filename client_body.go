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

	carrier clientCarrier // never changed; owned by who has taken awake, or conn
	awake   atomic.Bool   // until the end; who swaps it out decides about carrier

	mu        sync.Mutex    // a Read, or the end
	conn      clientCarrier // carrier; nil: nothing more to come from it
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
	n, err := b.conn.readBody(b, p)
	return n, b.fault(err)
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
	alive := b.awake.Swap(false)
	if b.stop != nil && !b.stop() {
		alive = false
	}
	if whole && alive && b.reusable && b.upload.soon() && conn.rest(b.client, b.ctx) {
		return
	}
	conn.close()
	conn.release()
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
	if b.awake.Swap(false) {
		b.carrier.close()
	}
}

// skip returns io.EOF if all of the body was there.
func (b *clientBody) skip() error {
	if b.conn == nil {
		return io.EOF
	}
	return b.conn.skipBody(b)
}

// takeMemory hands the body over if it lies in memory whole.
func (b *clientBody) takeMemory() ([]byte, bool) {
	b.mu.Lock()
	defer b.mu.Unlock()
	n := int64(len(b.mem))
	if !b.inMemory || b.err != nil || b.bufferedMax >= 0 && n > b.bufferedMax || b.max >= 0 && b.read+n > b.max {
		return nil, false
	}
	p := b.mem
	b.end(io.EOF)
	return p, true
}

// A tunnelBody is the Body of a 101: what the peer sends, and a way to it.
type tunnelBody struct {
	*clientBody
	conn clientCarrier
}

// Write sends p to the peer.
func (t tunnelBody) Write(p []byte) (int, error) { return t.conn.Write(p) }
