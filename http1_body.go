package flare

import (
	"errors"
	"io"
	"net/http"
)

// This file is layer 4 (roles): the body of a request as HTTP/1.1 has it. What has
// arrived with the head is taken from the turn's input; the rest is received by
// the handler's own goroutine, so the kernel's buffer is the bound on what a
// client can send ahead.

const bodyReadBytes = 8 << 10 // received at once behind a chunked body's framing

// beginBody readies the body. in is the turn's input behind the head.
func (s *http1Stream) beginBody(in []byte) {
	head := &s.x.r.head
	s.in = in
	switch {
	case head.chunked:
		s.kind = bodyChunked
		s.chunks.reset(&s.x.srv.lim.head)
	case head.contentLength > 0:
		s.kind, s.remaining = bodyLength, head.contentLength
	default:
		s.ended = true
		s.x.r.body.begin(false)
		return
	}
	s.x.r.body.begin(true)
	s.expect = head.expectContinue && len(in) == 0 // one that sends at once does not wait
	s.judge()
}

// judge brings lingers up to date.
func (s *http1Stream) judge() {
	lingers := !s.ended && (s.expect || s.remaining > drainBytesMax && !s.duplex.Load())
	if s.lingers.Load() != lingers {
		s.lingers.Store(lingers)
	}
}

func (s *http1Stream) resetBody() {
	s.in, s.ended = nil, false
	if s.kind == bodyNone { // beginBody has set nothing else
		return
	}
	s.free()
	s.chunks.trailer.reset()
	s.data, s.remaining = nil, 0
	s.kind, s.expect, s.answered = bodyNone, false, false
	s.lingers.Store(false)
	s.duplex.Store(false)
}

// free gives the buffer back.
func (s *http1Stream) free() {
	if s.buf != nil {
		s.c.putBuffer(s.buf)
		s.buf = nil
	}
}

func (s *http1Stream) readBody(p []byte) (n int, err error) {
	if s.kind == bodyLength {
		n, err = s.readLength(p)
	} else {
		n, err = s.readChunked(p)
	}
	s.judge()
	if s.ended && err == nil {
		err = io.EOF
	}
	return n, err
}

// readLength reads a body with Content-Length, straight into p.
func (s *http1Stream) readLength(p []byte) (n int, err error) {
	p = p[:min(int64(len(p)), s.remaining)]
	if len(s.in) > 0 {
		n = copy(p, s.in)
		s.in = s.in[n:]
	} else if n, err = s.receive(p); err != nil {
		return 0, err
	}
	s.remaining -= int64(n)
	s.ended = s.remaining == 0
	return n, nil
}

// readChunked reads a body in chunks (RFC 9112 §7.1).
func (s *http1Stream) readChunked(p []byte) (int, error) {
	for len(s.data) == 0 {
		if len(s.in) == 0 {
			if err := s.refill(); err != nil {
				return 0, err
			}
		}
		data, n, done, err := s.chunks.decode(s.in)
		s.in = s.in[n:]
		if err != nil {
			return 0, refusalOf(err)
		}
		s.data = data
		if done {
			s.ended = true
			return 0, nil
		}
	}
	n := copy(p, s.data)
	s.data = s.data[n:]
	return n, nil
}

// refill receives more of a chunked body into a buffer of its own.
func (s *http1Stream) refill() error {
	if s.buf == nil {
		s.buf = s.c.getBuffer(bodyReadBytes)
	}
	buf := s.buf.b[:cap(s.buf.b)]
	n, err := s.receive(buf)
	s.in = buf[:n]
	return err
}

// receive waits for bytes of the client.
func (s *http1Stream) receive(p []byte) (int, error) {
	if s.expect {
		s.expect = false
		if err := s.sendContinue(); err != nil {
			return 0, err
		}
	}
	n, err := s.c.recvWait(p)
	switch {
	case err == errRequestDone:
		return 0, errBodyDone // nothing was received, so that what is left of the body can be discarded
	case errors.Is(err, ErrTimeout):
		s.c.workset.counts[countTimeoutBody]++
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
func (s *http1Stream) sendContinue() error {
	g := s.c.workset
	s.lockInterim(g)
	defer s.interim.Unlock()
	if s.answered {
		return nil
	}
	g.out = append(g.out, "HTTP/1.1 100 Continue\r\n\r\n"...)
	return s.c.sendWait(nil)
}

// lockInterim locks interim, which its holder may have while it waits for the
// client.
func (s *http1Stream) lockInterim(g *workset) {
	if !s.interim.TryLock() {
		g.detach()
		s.c.loop.lock(&s.interim)
	}
}

// setAnswered keeps the body, if there is one, from asking for itself with a 100
// from here on.
func (s *http1Stream) setAnswered(g *workset) {
	if s.kind == bodyNone { // resetBody relies on it
		return
	}
	s.lockInterim(g)
	s.answered = true
	s.interim.Unlock()
}

func (s *http1Stream) readTrailer(h *headerFields) {
	if s.kind == bodyChunked {
		h.list = append(h.list, s.chunks.trailer.list...)
	}
}

func (s *http1Stream) arrived() int {
	if s.kind == bodyLength && int64(len(s.in)) >= s.remaining {
		return int(s.remaining)
	}
	return -1
}

// readsOn keeps a body that is long and mostly unread from ending the connection.
func (s *http1Stream) readsOn() {
	s.duplex.Store(true)
	if b := &s.x.r.body; b.mu.TryLock() { // else a read goes on, which ends with the same
		s.judge()
		b.mu.Unlock()
	}
}

// handBack ends the handler's part: it reports how much of the turn's input is
// left, and gives back what was received beyond the body.
func (s *http1Stream) handBack() (unused int) {
	s.data = nil
	if s.x.r.body.failed.Load() {
		s.c.end(endFlushed, nil)
	}
	if s.buf == nil {
		return len(s.in)
	}
	if len(s.in) > 0 {
		s.buf.b = s.buf.b[:copy(s.buf.b[:cap(s.buf.b)], s.in)]
		s.c.workset.pushed, s.buf = s.buf, nil
	}
	s.in = nil
	return 0
}

// skip discards body bytes at the front of in and reports how many.
func (s *http1Stream) skip(in []byte) (n int, err error) {
	if s.kind == bodyLength {
		n = int(min(int64(len(in)), s.remaining))
		s.remaining -= int64(n)
		s.ended = s.remaining == 0
		return n, nil
	}
	for !s.ended {
		data, used, done, err := s.chunks.decode(in[n:])
		n += used
		s.ended = done
		if err != nil {
			return n, err
		}
		if used == 0 && len(data) == 0 && !done {
			break
		}
	}
	return n, nil
}
