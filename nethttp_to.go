package flare

import (
	"bufio"
	"context"
	"crypto/tls"
	"errors"
	"io"
	"maps"
	"math"
	"net"
	"net/http"
	"net/netip"
	"net/textproto"
	"net/url"
	"os"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"time"
)

// This file is layer 5 (surface): flare's handlers on net/http's server, for
// HTTP/2 and for programs that have such a server already. It knows http.Request
// and http.ResponseWriter and makes a carrier of them; handler_carrier.go has
// what becomes of a request that came by one.

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
	k := newHTTPCarrier(w, r, &s.lim.conn)
	in := carried{head: appendHTTPHead(nil, r), length: r.ContentLength, ctx: r.Context()}
	if r.Body == nil || r.Body == http.NoBody {
		in.length = 0
	}
	if r.Pattern != "" {
		in.match = &httpRouting{r}
	}
	if peer, err := netip.ParseAddrPort(r.RemoteAddr); err == nil {
		in.peer = netip.AddrPortFrom(peer.Addr().Unmap(), peer.Port())
	}
	if in.length != 0 && r.ProtoMajor == 1 {
		k.duplex = k.rc.EnableFullDuplex() == nil // flare's handlers read and write as they like
	}
	if s.serveCarried(k, in) {
		panic(http.ErrAbortHandler)
	}
	if !k.hijacked.Load() {
		k.writing.arm() // for what net/http still has to send
	}
}

// appendHTTPHead appends the head of r as HTTP/1.1 has it. Whether that is
// well-formed is the parser's to say.
func appendHTTPHead(b []byte, r *http.Request) []byte {
	method := r.Method
	if method == "" {
		method = http.MethodGet
	}
	b = append(appendHTTPText(b, method), ' ')
	b = appendHTTPText(b, httpTarget(r))
	if r.ProtoMajor == 1 && r.ProtoMinor == 0 {
		b = append(b, " HTTP/1.0\r\n"...)
	} else {
		b = append(b, " HTTP/1.1\r\n"...)
	}
	b = appendHTTPField(b, "Host", r.Host)
	for _, name := range sortedNames(nil, r.Header) {
		for _, value := range r.Header[name] {
			b = appendHTTPField(b, name, value)
		}
	}
	for _, coding := range r.TransferEncoding {
		b = appendHTTPField(b, "Transfer-Encoding", coding)
	}
	if len(r.Trailer) > 0 {
		b = appendHTTPField(b, "Trailer", strings.Join(sortedNames(nil, r.Trailer), ", "))
	}
	return append(b, '\r', '\n')
}

func appendHTTPField(b []byte, name, value string) []byte {
	b = append(appendHTTPText(b, name), ": "...)
	return append(appendHTTPText(b, value), '\r', '\n')
}

// appendHTTPText appends s. A line break, which only a request that never was
// on a wire can have, must not make two lines of it: NUL is refused everywhere.
func appendHTTPText(b []byte, s string) []byte {
	from := len(b)
	b = append(b, s...)
	for i, c := range b[from:] {
		if c == '\r' || c == '\n' {
			b[from+i] = 0
		}
	}
	return b
}

// httpTarget returns the request target. It is made of r.URL, which is what
// http.StripPrefix and the like change.
func httpTarget(r *http.Request) string {
	switch {
	case r.Method == http.MethodConnect && r.URL.Path == "":
		return r.Host
	case r.URL.Host != "" && r.URL.Scheme != "": // absolute form (RFC 9112 §3.2.2)
		u := url.URL{Scheme: r.URL.Scheme, Host: r.URL.Host}
		return u.String() + r.URL.RequestURI()
	}
	return r.URL.RequestURI()
}

// An httpCarrier is an exchange of net/http's.
type httpCarrier struct {
	memoryBase
	w        http.ResponseWriter
	r        *http.Request
	rc       *http.ResponseController
	reading  carrierDeadline
	writing  carrierDeadline
	hijacked atomic.Bool
	duplex   bool // net/http leaves the body alone
	closes   bool // the response says that the connection ends
}

func newHTTPCarrier(w http.ResponseWriter, r *http.Request, limits *connLimits) *httpCarrier {
	k := &httpCarrier{w: w, r: r, rc: http.NewResponseController(w)}
	k.reading.set, k.writing.set = k.rc.SetReadDeadline, k.rc.SetWriteDeadline
	host, _ := r.Context().Value(http.ServerContextKey).(*http.Server)
	if host == nil || host.ReadTimeout <= 0 {
		k.reading.limit = limits.body
	}
	if host == nil || host.WriteTimeout <= 0 {
		k.writing.limit = limits.write
	}
	return k
}

func (k *httpCarrier) version() (name string, major int) { return k.r.Proto, k.r.ProtoMajor }

func (k *httpCarrier) tls() *tls.ConnectionState { return k.r.TLS }

func (k *httpCarrier) readBody(p []byte) (int, error) {
	if k.hijacked.Load() {
		return 0, errHijacked
	}
	k.reading.arm()
	n, err := k.r.Body.Read(p)
	if k.rest(&k.reading); err == io.EOF {
		k.reading.disarm() // from here on net/http reads, to see whether the client is still there
	}
	return n, err
}

// leaveBody discards the rest of a body, or has the connection end with the
// response. With EnableFullDuplex net/http goes on with a connection on which it
// could not find the end of a body, and takes what it has not read of it for the
// next request.
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

func (k *httpCarrier) readTrailer(h *Header) {
	for _, name := range sortedNames(nil, k.r.Trailer) {
		for _, value := range k.r.Trailer[name] {
			if allowedInTrailer(name) {
				h.Add(name, value)
			}
		}
	}
}

// sendHead sets the fields of h beside those that whoever called flare has set.
func (k *httpCarrier) sendHead(status int, h *Header, length int64, closes bool) error {
	if k.hijacked.Load() {
		return errHijacked
	}
	fields := k.w.Header()
	k.setFields(fields, h)
	if length >= 0 {
		fields["Content-Length"] = []string{strconv.FormatInt(length, 10)}
	}
	if closes && k.r.ProtoMajor == 1 {
		fields["Connection"] = []string{"close"}
		k.closes = true
	}
	if _, ok := fields["Content-Type"]; !ok {
		fields["Content-Type"] = nil // or net/http would guess one from the content
	}
	k.w.WriteHeader(status)
	return nil
}

// setFields gives fields the values of h, in place of others of their names.
func (k *httpCarrier) setFields(fields http.Header, h *Header) {
	i := 0
	for name, value := range h.All() {
		first := h.index(name) == i
		i++
		key := textproto.CanonicalMIMEHeaderKey(name)
		if k.r.ProtoMajor > 1 && (key == "Upgrade" || key == "Keep-Alive" || key == "Proxy-Connection") {
			continue // RFC 9113 §8.2.2; Connection is net/http's to translate
		}
		if first {
			fields[key] = []string{value}
		} else {
			fields[key] = append(fields[key], value)
		}
	}
}

func (k *httpCarrier) sendInterim(status int, h *Header) error {
	if k.hijacked.Load() {
		return errHijacked
	}
	k.writing.arm()
	defer k.rest(&k.writing)
	fields := k.w.Header()
	kept := maps.Clone(fields)
	clear(fields)
	k.setFields(fields, h)
	k.w.WriteHeader(status)
	clear(fields)
	maps.Copy(fields, kept)
	return nil
}

func (k *httpCarrier) sendTrailer(h *Header) {
	fields := k.w.Header()
	for name, value := range h.All() {
		fields.Add(http.TrailerPrefix+textproto.CanonicalMIMEHeaderKey(name), value)
	}
}

// flush does nothing where the http.ResponseWriter cannot: what was written
// leaves in the end.
func (k *httpCarrier) flush() error {
	k.writing.arm()
	defer k.rest(&k.writing)
	if err := k.rc.Flush(); err != nil && !errors.Is(err, errors.ErrUnsupported) {
		return err
	}
	return nil
}

func (k *httpCarrier) breakOff(directions uint32) {
	if directions&breakReads != 0 {
		k.reading.breakOff()
	}
	if directions&breakWrites != 0 {
		k.writing.breakOff()
	}
}

func (k *httpCarrier) mend(directions uint32) {
	if directions&breakReads != 0 {
		k.reading.mend()
	}
	if directions&breakWrites != 0 {
		k.writing.mend()
	}
}

func (k *httpCarrier) setReadDeadline(t time.Time) error { return k.reading.setUser(t) }
func (k *httpCarrier) left() bool                        { return k.r.Context().Err() == context.Canceled }

func (k *httpCarrier) setWriteDeadline(t time.Time) error { return k.writing.setUser(t) }

// rest ends what a call was bounded by where that would end a stream on which
// nobody waits, too.
func (k *httpCarrier) rest(d *carrierDeadline) {
	if k.r.ProtoMajor > 1 {
		d.disarm()
	}
}

func (k *httpCarrier) hijackable() bool {
	for w := k.w; ; {
		if _, ok := w.(http.Hijacker); ok {
			return true
		}
		outer, ok := w.(interface{ Unwrap() http.ResponseWriter })
		if !ok {
			return false
		}
		w = outer.Unwrap()
	}
}

func (k *httpCarrier) hijack() (net.Conn, *bufio.ReadWriter, error) {
	conn, rw, err := k.rc.Hijack()
	k.hijacked.Store(err == nil)
	return conn, rw, err
}

// recv has nothing: bodies come by readBody.
func (k *httpCarrier) recv([]byte) (int, error) { return 0, nil }

func (k *httpCarrier) send(a, b []byte) (n int, err error) {
	k.writing.arm()
	defer k.rest(&k.writing)
	for _, p := range [...][]byte{a, b} {
		var wrote int
		if len(p) > 0 && err == nil {
			wrote, err = k.w.Write(p)
			n += wrote
		}
	}
	var errno syscall.Errno
	switch {
	case err == nil:
		return n, nil
	case errors.Is(err, os.ErrDeadlineExceeded):
		return n, syscall.ETIMEDOUT
	case errors.As(err, &errno) && errno != 0 && !wouldBlock(errno): // nobody would wake who waits for room
		return n, errno
	}
	return n, syscall.EPIPE // net/http says no more than that the client is gone
}

// A carrierDeadline bounds the waits in one direction by a limit without
// progress, and by a deadline of the handler's.
type carrierDeadline struct {
	set   func(time.Time) error
	limit time.Duration // 0: none

	mu    sync.Mutex
	user  time.Time // guarded by mu; zero: none
	free  bool      // guarded by mu: the handler has lifted the limit
	armed time.Time // guarded by mu: what was set; zero: no more than user
	ended bool      // guarded by mu: no wait is to go on
}

// breakOff ends what waits, and what would.
func (d *carrierDeadline) breakOff() {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.ended = true
	d.set(longAgo)
}

// mend gives further calls their time again.
func (d *carrierDeadline) mend() {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.ended {
		d.ended, d.armed = false, time.Time{}
		d.set(d.user)
	}
}

// arm begins a wait. A deadline that is a little later than asked for saves
// setting it each time.
func (d *carrierDeadline) arm() {
	if d.limit <= 0 {
		return
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.free || d.ended {
		return
	}
	now := time.Now()
	by := d.armed
	if by.Sub(now) < d.limit {
		by = now.Add(d.limit + min(d.limit/4, math.MaxInt64-d.limit))
	}
	if !d.user.IsZero() && d.user.Before(by) {
		by = d.user
	}
	if !by.Equal(d.armed) {
		d.armed = by
		d.set(by) // without deadlines there is no server to be kept waiting
	}
}

// disarm takes the limit away and leaves the handler's deadline.
func (d *carrierDeadline) disarm() {
	d.mu.Lock()
	defer d.mu.Unlock()
	if !d.armed.IsZero() && !d.ended {
		d.armed = time.Time{}
		d.set(d.user)
	}
}

func (d *carrierDeadline) setUser(t time.Time) error {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.user, d.free = t, t.IsZero(); d.ended {
		return nil
	}
	d.armed = time.Time{}
	return d.set(t)
}

// httpRouting is what an http.ServeMux in front has found. A Mux that routes
// the request takes its place.
type httpRouting struct{ r *http.Request }

func (m *httpRouting) reset()          {}
func (m *httpRouting) clone() routing  { return m }
func (m *httpRouting) matched() bool   { return true }
func (m *httpRouting) pattern() string { return m.r.Pattern }

func (m *httpRouting) value(_, name string) (string, bool) {
	v := m.r.PathValue(name)
	return v, v != ""
}
