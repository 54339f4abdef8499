package flare

import (
	"bufio"
	"context"
	"crypto/tls"
	"errors"
	"io"
	"math"
	"net"
	"net/http"
	"net/netip"
	"os"
	"time"
)

// This file is layer 4 (roles): requests that another server has received and
// that a Handler of flare's answers. The request's head arrives as octets and
// goes through the same parser as any other, the response leaves as values,
// since versions of HTTP differ in how they look. nethttp_to.go has net/http's
// side of it.

// A carrier is one exchange of another server. As the connection's transport
// it takes the response's body.
type carrier interface {
	transport

	// The request's.
	version() (name string, major int)
	tls() *tls.ConnectionState
	readBody(p []byte) (int, error)
	readTrailer(h *Header) // once readBody has returned io.EOF

	// The response's. length is that of the body, -1 when it is not known yet
	// or among the fields already. closes: the connection ends with it.
	sendHead(status int, h *Header, length int64, closes bool) error
	sendInterim(status int, h *Header) error
	sendTrailer(h *Header)
	flush() error
	left() bool // the client has gone

	// leaveBody ends a request's body that was not read to its end, behind the
	// response. find: its end is worth looking for.
	leaveBody(find bool)

	// breakOff makes calls fail that wait, or are going to, in the directions of
	// workset.breaking.
	breakOff(directions uint32)

	// mend ends that.
	mend(directions uint32)

	// The connection's. They fail with errors.ErrUnsupported where there is no
	// such thing.
	setReadDeadline(t time.Time) error
	setWriteDeadline(t time.Time) error
	hijackable() bool
	hijack() (net.Conn, *bufio.ReadWriter, error)
}

// A carried request is what the other server knows of it beside the carrier.
type carried struct {
	head   []byte // in the form of HTTP/1.1, complete
	length int64  // of the body, -1: not known
	match  routing
	peer   netip.AddrPort
	ctx    context.Context
}

// serveCarried answers a request that came by k with s's handler. It reports
// whether the response has to be cut off, because it failed after it had begun
// or was not to be sent at all. s.carries has been called.
func (s *Server) serveCarried(k carrier, in carried) (cut bool) {
	c := s.newHTTPConn(s.carried, -1, in.peer)
	h := c.proto.(*httpConn)
	c.tr = k
	c.own.Store(ownLent) // for good: no loop knows of it
	c.waits = new(ownerWaits)
	g := newOwnerWorkset()
	g.clock.read()
	c.workset, g.strand = g, &c.strand
	x := g.newExchange()
	h.x, h.requests = x, 1
	r := &x.r
	r.via = k
	ctx, done := context.WithCancelCause(in.ctx)
	defer done(errRequestDone)

	g.counts[countRequests]++
	n, err := r.head.parse(in.head, &s.lim.head)
	switch {
	case err == nil && n != len(in.head):
		err = &StatusError{Code: http.StatusBadRequest, Err: ErrMalformed}
	case err == nil && s.lim.bodyBytes >= 0 && in.length > s.lim.bodyBytes:
		err = &StatusError{Code: http.StatusRequestEntityTooLarge, Err: ErrTooLarge}
	}
	p := guard(func() { cut = s.answerCarried(g, x, k, in, ctx, err) }, func() { // the other server ends the connection
		x.close()
		r.end()
		g.publish(c.loop)
	})
	if p != nil {
		x.close()
		g.counts[countPanics]++
		logPanic(s.logger(), "flare: a request's turn panicked", p)
		cut = true
	}
	g.publish(c.loop)
	g.release()
	return cut
}

// answerCarried has the request answered: by its handler, or as the refusal err.
// It reports whether the response has to be cut off.
func (s *Server) answerCarried(g *workset, x *exchange, k carrier, in carried, ctx context.Context, err error) (cut bool) {
	c, r, w := g.strand.conn, &x.r, &x.w
	h := c.proto.(*httpConn)
	if err != nil {
		r.begin(c, h, in.head[:r.head.method.end])
		r.refuse()
		r.ctx = ctx
		w.begin(c, h, r)
		w.close = true
		s.refused(c, r, in.head, err)
		err = refusalOf(err)
	} else {
		// What the other server says, which may come from frames instead of fields.
		r.head.contentLength, r.head.chunked = in.length, in.length < 0
		r.begin(c, h, in.head)
		r.match, r.ctx = in.match, ctx
		x.handler, x.route = s.routeOf(r)
		r.body.beginCarried(c, h, k, in.length)
		w.begin(c, h, r)
		x.open(g, 0)
		err = h.run(g, x)
		x.close()
	}
	if w.hijacked {
		h.hijackEnded(x, err)
		return false
	}
	w.finish(err)
	c.sendWait(nil)
	if cut = c.ending != endNot; cut && w.begun && !c.broken() {
		k.flush() // what there is of it, so that the client sees that it is short
	}
	if b := &r.body; !cut && !b.done {
		asks := r.head.expectContinue && b.total == 0 // the body may not come at all
		k.leaveBody(!b.failed() && !asks && in.length-b.total <= drainBytesMax)
	}
	r.end()
	r.match, r.via, w.via = nil, nil, nil
	x.release(g)
	return cut
}

// carries readies s for requests that another server has received, once.
func (s *Server) carries() {
	s.carriedOnce.Do(func() {
		s.mu.Lock()
		defer s.mu.Unlock()
		if !s.started { // else that is done, and loops read what it has settled
			s.prepare()
		}
		s.carried = newLoop(nil)
	})
}

// beginCarried is begin for a body that the carrier has.
func (b *requestBody) beginCarried(c *Conn, h *httpConn, k carrier, length int64) {
	b.c, b.h = c, h
	if length == 0 {
		b.done = true
		return
	}
	b.kind, b.via = bodyCarried, k
}

// readCarried reads a body that the carrier has.
func (b *requestBody) readCarried(p []byte) (int, error) {
	n, err := b.via.readBody(p)
	var tooLarge *http.MaxBytesError
	switch {
	case err == io.EOF:
		b.done = true
		b.via.readTrailer(&b.chunks.trailer)
		return n, nil
	case b.c.workset.broken(breakReads) && errors.Is(err, os.ErrDeadlineExceeded):
		err = errBodyDone
	case errors.Is(err, os.ErrDeadlineExceeded):
		b.c.workset.counts[countTimeoutBody]++
		err = &StatusError{Code: http.StatusRequestTimeout, Err: ErrTimeout}
	case errors.Is(err, io.ErrUnexpectedEOF):
		err = errBodyCut()
	case errors.As(err, &tooLarge):
		err = &StatusError{Code: http.StatusRequestEntityTooLarge, Err: ErrTooLarge}
	case err != nil && err != errHijacked && err != http.ErrBodyReadAfterClose:
		err = &StatusError{Code: http.StatusBadRequest, Err: err} // the client's doing, whatever the other server calls it
	}
	return n, err
}

// commitCarried hands the head to the carrier. length is as for commit.
func (w *serverResponse) commitCarried(status int, length int64, isHead bool) error {
	if !bodyAllowed(status) || w.declared >= 0 || isHead && length == 0 {
		length = -1
	}
	if status < 600 {
		w.c.workset.counts[countClass1+status/100-1]++
	}
	return w.via.sendHead(status, &w.header, length, w.close || w.r.body.failed())
}

// takeOverCarried is takeOver of the other server's connection, which s counts
// from here on.
func (w *serverResponse) takeOverCarried() (net.Conn, []byte, error) {
	conn, rw, err := w.via.hijack()
	if err != nil {
		return nil, nil, err
	}
	w.hijacked = true
	w.c.end(endHandedOver, nil)
	s := w.h.srv
	s.conns.Add(1)
	if peer := w.c.RemoteAddr(); s.counts(peer) {
		s.perIP.add(peer.Addr(), math.MaxInt)
	}
	rest, err := rw.Reader.Peek(rw.Reader.Buffered())
	return conn, append([]byte(nil), rest...), err
}

// version returns the name and major version of HTTP that r came by.
func (r *serverRequest) version() (name string, major int) {
	switch {
	case r.origin != nil:
		return r.origin.proto, r.origin.major
	case r.via != nil:
		return r.via.version()
	case r.head.minor == 0:
		return "HTTP/1.0", 1
	}
	return "HTTP/1.1", 1
}
