package flare

import (
	"errors"
	"io"
	"net/http"
)

// This file is layer 4 (roles): the body of a request as a stream of HTTP/2 has
// it: octets that have arrived wait in a queue, and the windows open as the
// handler reads them.

// beginBody readies the body. The turn begins.
func (s *http2Stream) beginBody() {
	if s.bare {
		s.x.r.body.begin(false)
		return
	}
	s.mu.Lock()
	waits := !s.ended && s.in.len() == 0 // who sends at once does not wait
	s.mu.Unlock()
	head := &s.x.r.head
	there := head.hasBody()
	s.x.r.body.begin(there)
	s.expect.Store(there && head.expectContinue && waits)
}

// readBody takes what has arrived.
func (s *http2Stream) readBody(p []byte) (int, error) {
	g := s.workset
	for {
		n, err, wish := s.takeBody(p)
		if wish {
			s.wish()
		}
		if n > 0 || err != nil {
			g.reading.moved += int64(n)
			return n, err
		}
		if g.broken(breakReads) {
			return 0, errBodyDone
		}
		if s.expect.Swap(false) {
			if err := s.sendContinue(); err != nil {
				return 0, err
			}
		}
		g.detach()
		if err := s.awaitBody(g); err != nil {
			return 0, err
		}
	}
}

// awaitBody waits for more of the body.
func (s *http2Stream) awaitBody(g *workset) error {
	limits := s.conn.limits
	limit, rate := limits.body, limits.bodyRate
	if s.began.Load() && s.x.r.head.contentLength < 0 {
		limit, rate = 0, 0 // the peer is alive while it answers PINGs, and sends when it has something
	}
	err := g.reading.await(&s.strand, ownRead, limit, rate, g.readBy.at())
	for err == ErrTimeout && !g.readBy.passed() && s.isExcused(0, limit) {
		g.reading = pace{}
		err = g.reading.await(&s.strand, ownRead, limit, rate, g.readBy.at())
	}
	switch {
	case err == nil:
		return nil
	case errors.Is(err, ErrTimeout):
		g.counts[countTimeoutBody]++
		return &StatusError{Code: http.StatusRequestTimeout, Err: err}
	}
	return err
}

// takeBody takes octets from the queue. wish: the windows should be given them
// back.
func (s *http2Stream) takeBody(p []byte) (n int, err error, wish bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.takeQueued(p)
}

// takeQueued is takeBody with s.mu held.
func (s *http2Stream) takeQueued(p []byte) (n int, err error, wish bool) {
	n = copy(p, s.in.waiting())
	s.in.free(n)
	s.in.count(s.conn.limits.buffered)
	s.consumed += int64(n)
	switch {
	case s.in.len() > 0:
	case s.odd().inErr != nil && n == 0:
		return 0, s.rare.inErr, false
	case s.ended && s.odd().inErr == nil:
		return n, io.EOF, s.consumed >= int64(s.h.wishAt.Load())
	}
	wish = s.consumed >= int64(s.h.wishAt.Load())
	return n, nil, wish
}

func (s *http2Stream) readTrailer(h *headerFields) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if trailer := s.odd().trailer; trailer != nil {
		h.list = append(h.list, trailer.list...)
	}
}

func (s *http2Stream) arrived() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.ended && s.odd().inErr == nil {
		return s.in.len()
	}
	return -1
}

// readsOn has nothing to do: a response ends nothing of the request before its own
// end.
func (s *http2Stream) readsOn() {}

// sendContinue asks for the body (RFC 9110 §10.1.1), unless the final answer has
// begun.
func (s *http2Stream) sendContinue() error {
	s.mu.Lock()
	late := s.final
	if !late {
		s.addHead(http2Outgoing{fields: &noFields, status: http.StatusContinue, length: -1, dated: true})
	}
	s.mu.Unlock()
	if late {
		return nil
	}
	return s.push()
}
