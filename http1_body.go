package flare

import (
	"errors"
	"io"
	"net/http"
	"sync"
	"sync/atomic"
)

// This file is layer 4 (roles): the body of a request, read by its handler.
// What has arrived with the head is taken from the turn's input; the rest is
// received by the handler's own goroutine, so the kernel's buffer is the bound
// on what a client can send ahead.

const bodyReadBytes = 8 << 10 // received at once behind a chunked body's framing

// errBodyCut is for the end of a client in the middle of its body.
func errBodyCut() error {
	return &StatusError{Code: http.StatusBadRequest, Err: ErrUnexpectedEOF} // RFC 9112 §8
}

// A bodyReader is what Request.Body returns, for any goroutine.
type bodyReader Request

// Read reads the body, until the handler's end.
func (v *bodyReader) Read(p []byte) (int, error) {
	x := v.lease.enterBody()
	if x == nil {
		return 0, errBodyDone
	}
	defer v.lease.exit()
	return x.r.body.Read(p)
}

// Close ends reading. A read that waits in another goroutine is broken off.
func (v *bodyReader) Close() error {
	x := v.lease.enterBody()
	if x == nil {
		return nil
	}
	defer v.lease.exit()
	b := &x.r.body
	x.lockBroken(&b.mu, breakReads)
	defer b.mu.Unlock()
	return b.close()
}

// A requestBody is the body of a request in progress.
type requestBody struct {
	mu sync.Mutex // held while reading: reads of several goroutines come one after the other

	c         *Conn
	h         *httpConn
	in        []byte  // input not used yet: the turn's, or buf's
	buf       *buffer // input received after the turn's was used up; chunked only
	via       carrier // of bodyCarried
	data      []byte  // of a chunk, decoded and not handed out; part of in's memory
	remaining int64   // of a body with a length
	total     int64   // read, for the limit
	chunks    chunkedDecoder
	kind      bodyKind
	expect    bool // the client waits for a 100 (Continue)
	done      bool // the end has been seen
	err       error

	// closes: an answer that is committed now has to be the connection's last.
	// It is for a handler that reads and writes from two goroutines.
	closes atomic.Bool

	// duplex: the handler has said that it will read on.
	duplex atomic.Bool

	// interim is held while an interim response is sent, and to begin the final
	// one, behind which no 100 may come (RFC 9110 §15.2): a 100 is for whoever
	// reads to send. Only requests with an expectation use it.
	interim  sync.Mutex
	answered bool // guarded by interim: no 100 is to come: the handler has sent one, or the final head
}

// begin readies b. in is the turn's input behind the head.
func (b *requestBody) begin(c *Conn, h *httpConn, head *requestHead, in []byte) {
	b.c, b.h, b.in = c, h, in
	switch {
	case head.chunked:
		b.kind = bodyChunked
		b.chunks.reset(&h.srv.lim.head)
	case head.contentLength > 0:
		b.kind, b.remaining = bodyLength, head.contentLength
	default:
		b.done = true
		return
	}
	b.expect = head.expectContinue && len(in) == 0 // one that sends at once does not wait
	b.judge()
}

// judge brings closes up to date.
func (b *requestBody) judge() {
	closes := b.failed() || !b.done && (b.expect || b.remaining > drainBytesMax && !b.duplex.Load())
	if b.closes.Load() != closes {
		b.closes.Store(closes)
	}
}

func (b *requestBody) reset() {
	if b.kind == bodyNone { // begin has set nothing but this
		b.in, b.err, b.done = nil, nil, false
		return
	}
	b.free()
	b.chunks.trailer.reset()
	b.c, b.h, b.in, b.data, b.via, b.remaining, b.total = nil, nil, nil, nil, nil, 0, 0
	b.kind, b.expect, b.done, b.err = bodyNone, false, false, nil
	b.closes.Store(false)
	b.duplex.Store(false)
	b.answered = false
}

// end makes every later read fail, unless the body had ended, and lets go of
// what was received.
func (b *requestBody) end(err error) {
	if !b.done {
		b.err = err
	}
	b.in, b.data = nil, nil
	b.free()
}

// free gives the buffer back.
func (b *requestBody) free() {
	if b.buf != nil {
		b.c.putBuffer(b.buf)
		b.buf = nil
	}
}

// close ends reading. What is left of the body is discarded after the handler.
func (b *requestBody) close() error {
	if b.err == nil || b.err == errBodyDone {
		b.err = http.ErrBodyReadAfterClose
		b.judge()
	}
	return nil
}

// Read takes what has arrived, and waits for more only when there is nothing.
func (b *requestBody) Read(p []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.read(p)
}

// read is Read with mu held.
func (b *requestBody) read(p []byte) (int, error) {
	switch {
	case b.err != nil:
		return 0, b.err
	case b.done:
		return 0, io.EOF
	case len(p) == 0:
		return 0, nil
	}
	var n int
	switch b.kind {
	case bodyLength:
		n, b.err = b.readLength(p)
	case bodyCarried:
		n, b.err = b.readCarried(p)
	default:
		n, b.err = b.readChunked(p)
	}
	b.total += int64(n)
	defer b.judge()
	if max := b.h.srv.lim.bodyBytes; b.err == nil && max >= 0 && b.total > max {
		b.err = &StatusError{Code: http.StatusRequestEntityTooLarge, Err: ErrTooLarge}
		return 0, b.err
	}
	if n > 0 {
		return n, nil // an error is there to be found by the next call
	}
	if b.done && b.err == nil {
		return 0, io.EOF
	}
	return 0, b.err
}

// whole reads the rest of a body of which all has arrived.
func (b *requestBody) whole() (p []byte, ok bool) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.kind != bodyLength || b.err != nil || int64(len(b.in)) < b.remaining {
		return nil, false
	}
	p = make([]byte, b.remaining)
	n, _ := b.read(p)
	return p, n == len(p)
}

// readLength reads a body with Content-Length, straight into p.
func (b *requestBody) readLength(p []byte) (n int, err error) {
	p = p[:min(int64(len(p)), b.remaining)]
	if len(b.in) > 0 {
		n = copy(p, b.in)
		b.in = b.in[n:]
	} else if n, err = b.receive(p); err != nil {
		return 0, err
	}
	b.remaining -= int64(n)
	b.done = b.remaining == 0
	return n, nil
}

// readChunked reads a body in chunks (RFC 9112 §7.1).
func (b *requestBody) readChunked(p []byte) (int, error) {
	for len(b.data) == 0 {
		if len(b.in) == 0 {
			if err := b.refill(); err != nil {
				return 0, err
			}
		}
		data, n, done, err := b.chunks.decode(b.in)
		b.in = b.in[n:]
		if err != nil {
			return 0, refusalOf(err)
		}
		b.data = data
		if done {
			b.done = true
			return 0, nil
		}
	}
	n := copy(p, b.data)
	b.data = b.data[n:]
	return n, nil
}

// refill receives more of a chunked body into a buffer of its own.
func (b *requestBody) refill() error {
	if b.buf == nil {
		b.buf = b.c.getBuffer(bodyReadBytes)
	}
	buf := b.buf.b[:cap(b.buf.b)]
	n, err := b.receive(buf)
	b.in = buf[:n]
	return err
}

// receive waits for bytes of the client.
func (b *requestBody) receive(p []byte) (int, error) {
	if b.expect {
		b.expect = false
		if err := b.sendContinue(); err != nil {
			return 0, err
		}
	}
	n, err := b.c.recvWait(p)
	switch {
	case err == errRequestDone:
		return 0, errBodyDone // nothing was received, so that what is left of the body can be discarded
	case errors.Is(err, ErrTimeout):
		b.c.workset.counts[countTimeoutBody]++
		return 0, &StatusError{Code: http.StatusRequestTimeout, Err: err}
	case err != nil:
		return 0, err
	case n == 0:
		return 0, errBodyCut()
	}
	return n, nil
}

// sendContinue asks for the body (RFC 9110 §10.1.1), unless the final answer
// has begun.
func (b *requestBody) sendContinue() error {
	g := b.c.workset
	b.lockInterim(g)
	defer b.interim.Unlock()
	if b.answered {
		return nil
	}
	g.out = append(g.out, "HTTP/1.1 100 Continue\r\n\r\n"...)
	return b.c.sendWait(nil)
}

// lockInterim locks interim, which its holder may have while it waits for the
// client.
func (b *requestBody) lockInterim(g *workset) {
	if !b.interim.TryLock() {
		g.detach()
		b.interim.Lock()
	}
}

// setAnswered keeps the body, if there is one, from asking for itself with a 100
// from here on.
func (b *requestBody) setAnswered(g *workset) {
	if b.kind == bodyNone { // reset relies on it
		return
	}
	b.lockInterim(g)
	b.answered = true
	b.interim.Unlock()
}

// arrived reports whether a body that was begun can be read without waiting.
func (b *requestBody) arrived() bool {
	return b.done || b.kind == bodyLength && int64(len(b.in)) >= b.remaining
}

// failed reports whether the end of the body cannot be found any more, and so
// not what follows it either. Closing the body early leaves its framing intact.
func (b *requestBody) failed() bool {
	return b.err != nil && !b.done && b.err != http.ErrBodyReadAfterClose && b.err != errBodyDone
}

// handBack ends the handler's part: it reports how much of the turn's input is
// left, and gives back what was received beyond the body.
func (b *requestBody) handBack(c *Conn) (unused int) {
	b.data = nil
	if b.failed() {
		c.end(endFlushed, nil)
	}
	if b.buf == nil {
		return len(b.in)
	}
	if len(b.in) > 0 {
		b.buf.b = b.buf.b[:copy(b.buf.b[:cap(b.buf.b)], b.in)]
		c.workset.pushed, b.buf = b.buf, nil
	}
	b.in = nil
	return 0
}

// skip discards body bytes at the front of in and reports how many.
func (b *requestBody) skip(in []byte) (n int, err error) {
	if b.kind == bodyLength {
		n = int(min(int64(len(in)), b.remaining))
		b.remaining -= int64(n)
		b.done = b.remaining == 0
		return n, nil
	}
	for !b.done {
		data, used, done, err := b.chunks.decode(in[n:])
		n += used
		b.done = done
		if err != nil {
			return n, err
		}
		if used == 0 && len(data) == 0 && !done {
			break
		}
	}
	return n, nil
}
