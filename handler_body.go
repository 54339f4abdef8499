package flare

import (
	"io"
	"net/http"
	"sync"
	"sync/atomic"
)

// This file is layer 4 (roles): the body of a request as its handler reads it:
// what bounds it, what ends it, who may read. Its octets come from the stream.

// bodyCopyBytes is how much of a body io.Copy moves at once. By 8 KiB, as io.Discard
// asks for it, receiving costs twice as much, and what a client on the same machine
// has written is read late; of 64 KiB all is in a core's cache still when it is used.
const bodyCopyBytes = 64 << 10

// errBodyCut is for the end of a client in the middle of its body.
func errBodyCut() error {
	return &StatusError{Code: http.StatusBadRequest, Err: ErrUnexpectedEOF} // RFC 9112 §8
}

// errBodyTooLarge is for a body beyond its limit.
func errBodyTooLarge() error {
	return &StatusError{Code: http.StatusRequestEntityTooLarge, Err: ErrTooLarge}
}

// errMemoryShort refuses bodies while there is too much in buffers.
var errMemoryShort error = &StatusError{Code: http.StatusServiceUnavailable, Err: ErrTooLarge}

// refusesBody returns why a request with that head is refused for its body, or nil. What
// has none is answered as ever.
func (s *Server) refusesBody(head *requestHead) error {
	switch {
	case !head.hasBody():
	case s.lim.bodyBytes >= 0 && head.contentLength > s.lim.bodyBytes:
		return errBodyTooLarge()
	case s.buffered.isOver():
		return errMemoryShort
	}
	return nil
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

// WriteTo is what io.Copy calls: it reads as much at once as a loop's turn does,
// whatever the writer would have asked for.
func (v *bodyReader) WriteTo(w io.Writer) (int64, error) {
	return copyThroughMemory(w, v, bodyCopyBytes)
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

	x       *exchange    // fixed
	trailer headerFields // complete once done
	total   int64        // octets read, for the limit
	bounded bool         // middleware has set max
	max     int64        // of total, beside the server's; negative: none
	there   bool         // the request has a body
	done    bool         // its end has been read
	err     error

	// failed: the end of the body cannot be found any more, and so not what follows
	// it either. Closing the body early leaves its framing intact. It is for a
	// handler that reads and writes from two goroutines.
	failed atomic.Bool
}

// begin readies b for a body, if there is one.
func (b *requestBody) begin(there bool) { b.there, b.done = there, !there }

func (b *requestBody) reset() {
	b.err, b.bounded = nil, false
	if !b.there {
		b.done = false
		return
	}
	b.trailer.reset()
	b.total, b.there, b.done = 0, false, false
	b.failed.Store(false)
}

// bound sets how long the body may be, within the server's limit. Negative is no
// bound but that.
func (b *requestBody) bound(max int64) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.bounded, b.max = true, max
}

// limit returns how long the body may be, negative for any length. mu is held.
func (b *requestBody) limit() int64 {
	limit := b.x.srv.lim.bodyBytes
	if b.bounded && b.max >= 0 && (limit < 0 || b.max < limit) {
		return b.max
	}
	return limit
}

// fail sets err, which may be nil.
func (b *requestBody) fail(err error) {
	b.err = err
	failed := err != nil && !b.done && err != http.ErrBodyReadAfterClose && err != errBodyDone
	if b.failed.Load() != failed {
		b.failed.Store(failed)
	}
}

// end makes every later read fail, unless the body had ended.
func (b *requestBody) end(err error) {
	if !b.done {
		b.err = err
	}
}

// close ends reading. What is left of the body is discarded after the handler.
func (b *requestBody) close() error {
	if b.err == nil || b.err == errBodyDone {
		b.fail(http.ErrBodyReadAfterClose)
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
	max := b.limit()
	if b.total == 0 && max >= 0 && b.x.r.ContentLength() > max {
		b.fail(errBodyTooLarge())
		return 0, b.err
	}
	n, err := b.x.stream.readBody(p)
	if err == io.EOF {
		b.done, err = true, nil
		b.x.stream.readTrailer(&b.trailer)
	}
	b.total += int64(n)
	if err == nil && max >= 0 && b.total > max {
		n, err = 0, errBodyTooLarge()
	}
	if err != nil {
		b.fail(err)
	}
	switch {
	case n > 0:
		return n, nil // an error is there to be found by the next call
	case err != nil:
		return 0, err
	case b.done:
		return 0, io.EOF
	}
	return 0, nil
}

// whole reads the rest of a body of which all has arrived.
func (b *requestBody) whole() (p []byte, ok bool) {
	b.mu.Lock()
	defer b.mu.Unlock()
	n := -1
	if b.there && b.err == nil {
		n = b.x.stream.arrived()
	}
	if n < 0 {
		return nil, false
	}
	p = make([]byte, max(n, 1)) // a read of nothing finds no end
	got, _ := b.read(p)
	return p[:got], got == n
}
