package flare

import (
	"context"
	"io"
	"log/slog"
	"net/http"
	"strings"
	"sync"
	"sync/atomic"
	"time"
)

// This file is layer 5 (surface): flare's handlers on net/http's server, for
// HTTP/2 and for programs that have such a server already. It takes an
// http.Request to its end as an exchange. nethttp_to_head.go has the request's
// head, nethttp_to_stream.go what else there is of net/http's below the exchange.

// ToHTTP returns h as an http.Handler, for net/http's server and whatever else
// calls one. Bodies are streamed both ways, as h reads and writes them; OnCommit,
// errors, panics and trailers are what they are in flare's own server, and so
// are the limits of a default one: MaxURIBytes, MaxHeaderBytes, MaxHeaders,
// MaxBodyBytes, and BodyTimeout and WriteTimeout where the http.Server has no
// ReadTimeout and WriteTimeout. For others, or with an ErrorHandler, use a
// Server as the http.Handler. Names of fields are sent in net/http's spelling.
//
// Hijack and WebSockets work over HTTP/1.1. Over HTTP/2 Hijack fails with
// errors.ErrUnsupported, and a request for a WebSocket is answered 501.
func ToHTTP(h Handler) http.Handler { return &Server{Handler: h} }

// ServeHTTP answers a request that net/http's server has received, with s's
// Handler, ErrorHandler, Logger and limits; see ToHTTP. s need not be serving;
// its Shutdown and Close do not know of such requests.
func (s *Server) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	s.carries()
	k := newHTTPCarrier(s, w, r)
	if k.serve() {
		panic(http.ErrAbortHandler)
	}
}

// carries readies s for requests that another server has received, once.
func (s *Server) carries() {
	s.carriedOnce.Do(func() {
		s.mu.Lock()
		defer s.mu.Unlock()
		if !s.started { // else that is done, and loops read what it has settled
			s.prepare()
		}
		if s.proxiesBad != nil { // there is no Serve to return it
			logTo(s.logger(), slog.LevelError, "flare: no proxy is trusted", slog.Any("error", s.proxiesBad))
		}
	})
}

// An httpCarrier is an exchange of net/http's, and the stream that it stands on.
// Its strand has no connection and no loop: the goroutine is net/http's, and
// flare's to keep for as long as the handler likes.
type httpCarrier struct {
	x      exchange
	strand strand
	octets []byte   // of the request's head
	names  []string // of fields, to be sorted

	w        http.ResponseWriter
	r        *http.Request
	rc       http.ResponseController
	length   int64 // of the request's body, -1: not known
	ctx      context.Context
	done     context.CancelCauseFunc // of ctx; both nil until a handler asks
	reading  carrierDeadline
	writing  carrierDeadline
	hijacked atomic.Bool
	duplex   bool   // net/http leaves the body alone
	closes   bool   // the response says that the connection ends
	ending   ending // of the response, before its time
	err      error  // of sending, the first
}

// httpCarriers has those that wait for another request.
var httpCarriers sync.Pool

func newHTTPCarrier(s *Server, w http.ResponseWriter, r *http.Request) *httpCarrier {
	k, _ := httpCarriers.Get().(*httpCarrier)
	if k == nil {
		k = new(httpCarrier)
		k.x.init()
		k.x.stream = k
	}
	k.x.srv, k.x.strand = s, &k.strand
	k.w, k.r, k.rc = w, r, *http.NewResponseController(w)
	k.reading = carrierDeadline{k: k}
	k.writing = carrierDeadline{k: k, write: true}
	host, _ := r.Context().Value(http.ServerContextKey).(*http.Server)
	if host == nil || host.ReadTimeout <= 0 {
		k.reading.limit = s.lim.conn.body
	}
	if host == nil || host.WriteTimeout <= 0 {
		k.writing.limit = s.lim.conn.write
	}
	if k.length = r.ContentLength; r.Body == nil || r.Body == http.NoBody {
		k.length = 0
	}
	if k.length != 0 && r.ProtoMajor == 1 {
		k.duplex = k.rc.EnableFullDuplex() == nil // flare's handlers read and write as they like
	}
	return k
}

// release keeps k for another request, if nobody can have a part of it.
func (k *httpCarrier) release() {
	if k.x.w.hijacked || !k.x.reset() {
		return
	}
	k.x.srv = nil
	if _, ok := k.x.r.match.(*httpRouting); ok {
		k.x.r.match = nil
	}
	if cap(k.octets) > headKeptBytes {
		k.octets = nil
	}
	clear(k.names)
	k.w, k.r, k.rc, k.ctx, k.done, k.err = nil, nil, http.ResponseController{}, nil, nil, nil
	k.duplex, k.closes, k.ending = false, false, endNot
	httpCarriers.Put(k)
}

// headKeptBytes is what may stay in memory of a head until the next request.
const headKeptBytes = 16 << 10

// serve answers the request. It reports whether the response has to be cut off,
// because it failed after it had begun or was not to be sent at all.
func (k *httpCarrier) serve() (cut bool) {
	x, s := &k.x, k.x.srv
	g := looseWorksets.owner()
	g.clock.read()
	x.began = g.clock.now
	k.strand.workset, g.strand = g, &k.strand
	g.counts[countRequests]++
	p := guard(func() { cut = k.answer(g) }, func() { // the other server ends the connection
		x.close()
		x.endedAway(errHandlerExited)
		k.endContext()
		g.publish(&s.carried)
	})
	if p != nil {
		x.close()
		x.endedAway(p)
		g.counts[countPanics]++
		logPanic(s.logger(), "flare: a request's turn panicked", p)
		cut = true
	}
	k.endContext()
	if !x.w.hijacked && !cut {
		k.writing.arm() // for what net/http still has to send
		k.writing.leave()
	}
	g.publish(&s.carried)
	k.strand.workset = nil
	g.release()
	if p == nil {
		k.release()
	}
	return cut
}

// answer has the request answered, by its handler or as a refusal.
func (k *httpCarrier) answer(g *workset) (cut bool) {
	x, s := &k.x, k.x.srv
	r, w := &x.r, &x.w
	err := k.fillHead(&s.lim.head)
	x.whole = err == nil
	if err == nil && s.lim.bodyBytes >= 0 && k.length > s.lim.bodyBytes {
		err = &StatusError{Code: http.StatusRequestEntityTooLarge, Err: ErrTooLarge}
	}
	if err != nil {
		x.refuse(g, k.octets, err)
	} else {
		r.begin(k.octets)
		if k.r.Pattern != "" {
			r.match = &httpRouting{k.r}
		}
		x.handler, x.route = s.routeOf(r)
		r.body.begin(k.length != 0)
		err = x.run(g)
		if w.hijacked {
			if err != nil {
				s.logHandlerError(r, err)
			}
			x.ended(err)
			return false
		}
		w.finish(err)
	}
	k.send(nil)
	if k.ending != endNot || k.err != nil {
		if w.begun && k.broken() == nil {
			k.flush() // what there is of it, so that the client sees that it is short
		}
		return true
	}
	if b := &r.body; !b.done {
		asks := r.head.expectContinue && b.total == 0 // the body may not come at all
		k.leaveBody(!b.failed.Load() && !asks && k.length-b.total <= drainBytesMax)
	}
	return false
}

// leaveBody discards the rest of a body, if its end is worth looking for, or has
// the connection end with the response. With EnableFullDuplex net/http goes on
// with a connection on which it could not find the end of a body, and takes what
// it has not read of it for the next request.
func (k *httpCarrier) leaveBody(find bool) {
	if !k.duplex {
		return
	}
	k.reading.setUser(time.Now().Add(lingerAll)) // the handler's, if any, was for its own reads
	if find && !k.closes && !k.r.Close {
		k.flush() // the client may wait for it before it goes on
		if n, err := io.CopyN(io.Discard, k.r.Body, drainBytesMax+1); err == io.EOF && n <= drainBytesMax {
			k.reading.setUser(time.Time{})
			return
		}
	}
	w := k.w
	for outer, ok := w.(interface{ Unwrap() http.ResponseWriter }); ok; outer, ok = w.(interface{ Unwrap() http.ResponseWriter }) {
		w = outer.Unwrap()
	}
	// The one way to have net/http close a connection behind a response that has
	// begun: a reader that passes its limit asks for it.
	http.MaxBytesReader(w, io.NopCloser(strings.NewReader("x")), 0).Read(make([]byte, 1))
}

// httpRouting is what an http.ServeMux in front has found. A Mux that routes
// the request takes its place.
type httpRouting struct{ r *http.Request }

func (m *httpRouting) reset()          {}
func (m *httpRouting) clone() routing  { return m }
func (m *httpRouting) matched() bool   { return true }
func (m *httpRouting) pattern() string { return m.r.Pattern }

func (m *httpRouting) appendPattern(b []byte) []byte { return append(b, m.r.Pattern...) }

func (m *httpRouting) value(_, name string) (string, bool) {
	v := m.r.PathValue(name)
	return v, v != ""
}
