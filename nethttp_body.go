package flare

import (
	"errors"
	"io"
	"net/http"
	"os"
	"sync"
	"sync/atomic"
	"time"
)

// This file is layer 5 (surface): the body of an http.Request on flare's
// server, and the deadlines, both of which other goroutines than the handler's
// may use, and use too late.

// An httpBody is an io.ReadCloser for any goroutine.
type httpBody struct {
	x     *httpExchange
	ended atomic.Bool // read to its end

	mu sync.Mutex   // held while reading
	b  *requestBody // nil: closed
}

// Read reads the body, until Close or the handler's end.
func (b *httpBody) Read(p []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.b == nil {
		return 0, http.ErrBodyReadAfterClose
	}
	n, err := b.b.Read(p)
	switch {
	case err == io.EOF:
		if !b.ended.Swap(true) {
			b.setTrailer()
		}
	case err == errBodyDone: // Close has broken the read off, and the body is intact
		return n, http.ErrBodyReadAfterClose
	case err != nil:
		err = httpErrorOf(err, b.x.ctx.srv)
	}
	return n, err
}

// setTrailer gives the request the fields that came behind the body. The map,
// if there is one, is that of copies of the request too.
func (b *httpBody) setTrailer() {
	for name, value := range b.b.trailer.All() {
		if b.x.req.Trailer == nil {
			b.x.req.Trailer = make(http.Header)
		}
		b.x.req.Trailer.Add(name, value)
	}
}

// Close ends reading, a read that waits included.
func (b *httpBody) Close() error {
	if !b.mu.TryLock() {
		b.x.withInside(func(in *exchange) {
			in.workset().detach()
			in.breakOff(breakReads)
		})
		b.mu.Lock()
		b.x.withInside(func(in *exchange) { in.mend(breakReads) })
	}
	defer b.mu.Unlock()
	if b.b != nil {
		b.b.close()
		b.b = nil
	}
	return nil
}

// withInside calls fn unless the handler has returned, which it reports.
func (x *httpExchange) withInside(fn func(in *exchange)) bool {
	x.mu.Lock()
	defer x.mu.Unlock()
	if x.inside == nil {
		return false
	}
	fn(x.inside)
	return true
}

// setReadDeadline bounds how long reads of the body wait, those that wait
// already included.
func (x *httpExchange) setReadDeadline(t time.Time) (err error) {
	if !x.withInside(func(in *exchange) { err = in.stream.setReadDeadline(t) }) {
		return errWriterDone
	}
	return err
}

// setWriteDeadline is setReadDeadline for writes of the response.
func (x *httpExchange) setWriteDeadline(t time.Time) (err error) {
	if !x.withInside(func(in *exchange) { err = in.stream.setWriteDeadline(t) }) {
		return errWriterDone
	}
	return err
}

// An httpError is an error of net/http's with flare's that caused it.
type httpError struct {
	error
	cause error
}

func (e *httpError) Unwrap() []error { return []error{e.error, e.cause} }

// Timeout makes a net.Error of it.
func (e *httpError) Timeout() bool { return e.error == os.ErrDeadlineExceeded }

// Temporary is what a net.Error has to have.
func (e *httpError) Temporary() bool { return e.Timeout() }

// httpErrorOf returns what a handler of net/http's expects for an error of
// flare's.
func httpErrorOf(err error, s *Server) error {
	switch {
	case errors.Is(err, ErrTooLarge) && s.lim.bodyBytes >= 0:
		return &httpError{&http.MaxBytesError{Limit: s.lim.bodyBytes}, err}
	case errors.Is(err, io.ErrUnexpectedEOF):
		return io.ErrUnexpectedEOF
	case errors.Is(err, ErrTimeout):
		return &httpError{os.ErrDeadlineExceeded, err}
	}
	return err
}
