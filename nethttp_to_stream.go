package flare

import (
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
	"os"
	"strconv"
	"syscall"
	"time"
)

// This file is layer 5 (surface): a request of net/http's server as the stream of
// an exchange: its body, and the response by an http.ResponseWriter.

func (k *httpCarrier) session() session { return (*httpSession)(k.r) }

// An httpSession is an http.Request as the session that it came by.
type httpSession http.Request

func (s *httpSession) peerAddr() netip.AddrPort {
	peer, err := netip.ParseAddrPort(s.RemoteAddr)
	if err != nil {
		return netip.AddrPort{}
	}
	return netip.AddrPortFrom(peer.Addr().Unmap(), peer.Port())
}

func (s *httpSession) localAddr() netip.AddrPort      { return netip.AddrPort{} } // the context has it
func (s *httpSession) tlsState() *tls.ConnectionState { return s.TLS }
func (s *httpSession) proxyHeader() *ProxyHeader      { return nil }

func (k *httpCarrier) version() (name string, major, minor int) {
	return k.r.Proto, k.r.ProtoMajor, k.r.ProtoMinor
}

func (k *httpCarrier) context() context.Context {
	if k.ctx == nil {
		k.ctx, k.done = context.WithCancelCause(k.r.Context())
	}
	return k.ctx
}

func (k *httpCarrier) endContext() {
	if k.done != nil {
		k.done(errRequestDone)
	}
}

func (k *httpCarrier) value(key any) any { return k.r.Context().Value(key) }

func (k *httpCarrier) left() bool { return k.r.Context().Err() == context.Canceled }

func (k *httpCarrier) readBody(p []byte) (int, error) {
	if k.hijacked.Load() {
		return 0, errHijacked
	}
	g := k.strand.workset
	k.reading.arm()
	n, err := k.r.Body.Read(p)
	k.rest(&k.reading)
	var tooLarge *http.MaxBytesError
	switch {
	case err == nil, err == http.ErrBodyReadAfterClose:
	case err == io.EOF:
		k.reading.disarm() // from here on net/http reads, to see whether the client is still there
	case g.broken(breakReads) && errors.Is(err, os.ErrDeadlineExceeded):
		err = errBodyDone
	case errors.Is(err, os.ErrDeadlineExceeded):
		g.counts[countTimeoutBody]++
		err = &StatusError{Code: http.StatusRequestTimeout, Err: ErrTimeout}
	case errors.Is(err, io.ErrUnexpectedEOF):
		err = errBodyCut()
	case errors.As(err, &tooLarge):
		err = &StatusError{Code: http.StatusRequestEntityTooLarge, Err: ErrTooLarge}
	default:
		err = &StatusError{Code: http.StatusBadRequest, Err: err} // the client's doing, whatever the other server calls it
	}
	return n, err
}

func (k *httpCarrier) readTrailer(h *headerFields) {
	for _, name := range sortedNames(nil, k.r.Trailer) {
		for _, value := range k.r.Trailer[name] {
			if allowedInTrailer(name) {
				h.Add(name, value)
			}
		}
	}
}

func (k *httpCarrier) arrived() int { return -1 }

// readsOn has nothing to do: EnableFullDuplex was called for each request.
func (k *httpCarrier) readsOn() {}

// sendHead sets the fields of h beside those that whoever called flare has set.
func (k *httpCarrier) sendHead(h outgoingHead) error {
	if k.hijacked.Load() {
		return errHijacked
	}
	fields := k.w.Header()
	values := k.setFields(fields, h.fields, 1)
	if h.length >= 0 {
		values[0] = strconv.FormatInt(h.length, 10)
		fields["Content-Length"] = values[:1:1]
	}
	if (h.last || k.x.r.body.failed.Load()) && k.r.ProtoMajor == 1 {
		fields["Connection"] = []string{"close"}
		k.closes = true
	}
	if _, ok := fields["Content-Type"]; !ok {
		fields["Content-Type"] = nil // or net/http would guess one from the content
	}
	k.w.WriteHeader(h.status)
	return nil
}

// setFields gives fields the values of h, in place of others of their names. It
// returns room for so many more values.
func (k *httpCarrier) setFields(fields http.Header, h *headerFields, more int) (room []string) {
	room = make([]string, len(h.list)+more) // in one piece
	for i, f := range h.list {
		key := textproto.CanonicalMIMEHeaderKey(f.name)
		if k.r.ProtoMajor > 1 && (key == "Upgrade" || key == "Keep-Alive" || key == "Proxy-Connection") {
			continue // RFC 9113 §8.2.2; Connection is net/http's to translate
		}
		if h.index(f.name) != i {
			fields[key] = append(fields[key], f.value)
			continue
		}
		room[0] = f.value
		fields[key], room = room[:1:1], room[1:]
	}
	return room
}

// sendInterim leaves an HTTP/1.0 client alone (RFC 9110 §15.2).
func (k *httpCarrier) sendInterim(status int, h *headerFields) error {
	switch {
	case k.hijacked.Load():
		return errHijacked
	case k.x.r.head.minor == 0:
		return nil
	}
	k.writing.arm()
	defer k.rest(&k.writing)
	fields := k.w.Header()
	kept := maps.Clone(fields)
	clear(fields)
	k.setFields(fields, h, 0)
	k.w.WriteHeader(status)
	clear(fields)
	maps.Copy(fields, kept)
	return nil
}

// sendBody keeps little pieces, since each that is passed on costs deadlines.
func (k *httpCarrier) sendBody(p []byte) error {
	g := k.strand.workset
	if len(g.out)+len(p) > streamBytes {
		return k.send(p)
	}
	g.out = append(g.out, p...)
	return nil
}

// send passes on what was kept, and p.
func (k *httpCarrier) send(p []byte) (err error) {
	g := k.strand.workset
	out := g.out
	g.out = g.out[:0]
	if err := k.broken(); err != nil || len(out)+len(p) == 0 {
		return err
	}
	k.writing.arm()
	defer k.rest(&k.writing)
	for _, b := range [...][]byte{out, p} {
		if len(b) > 0 && err == nil {
			var n int
			n, err = k.w.Write(b)
			g.counts[countBytesOut] += uint64(n)
		}
	}
	if err != nil {
		k.err = writeError(err)
	}
	return k.err
}

// writeError is flare's error for one of an http.ResponseWriter.
func writeError(err error) error {
	var errno syscall.Errno
	switch {
	case errors.Is(err, os.ErrDeadlineExceeded):
		return ErrTimeout
	case errors.As(err, &errno) && errno != 0 && !wouldBlock(errno):
		return errno
	}
	return syscall.EPIPE // net/http says no more than that the client is gone
}

func (k *httpCarrier) sendFile(*os.File, int64, int64) (int64, error) {
	return 0, errors.ErrUnsupported
}

func (k *httpCarrier) sendEnd(p []byte, trailer *headerFields) error {
	if trailer != nil {
		fields := k.w.Header()
		for name, value := range trailer.All() {
			fields.Add(http.TrailerPrefix+textproto.CanonicalMIMEHeaderKey(name), value)
		}
	}
	return k.sendBody(p)
}

func (k *httpCarrier) hasTrailer() bool { return k.x.r.head.minor > 0 }

// flush does nothing where the http.ResponseWriter cannot: what was written
// leaves in the end.
func (k *httpCarrier) flush() error {
	if err := k.send(nil); err != nil {
		return err
	}
	k.writing.arm()
	defer k.rest(&k.writing)
	if err := k.rc.Flush(); err != nil && !errors.Is(err, errors.ErrUnsupported) {
		return err
	}
	return nil
}

func (k *httpCarrier) cutOff(how ending) { k.ending = max(k.ending, how) }

func (k *httpCarrier) broken() error {
	if k.err == nil && k.ending >= endReset {
		return ErrClosed
	}
	return k.err
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

func (k *httpCarrier) setReadDeadline(t time.Time) error  { return k.reading.setUser(t) }
func (k *httpCarrier) setWriteDeadline(t time.Time) error { return k.writing.setUser(t) }

// rest is for after each arm. It ends what a call was bounded by where that would
// end a stream on which nobody waits, too.
func (k *httpCarrier) rest(d *carrierDeadline) {
	d.leave()
	if k.r.ProtoMajor > 1 {
		d.disarm()
	}
}

func (k *httpCarrier) takeable() bool {
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

// takeOver takes the connection from the other server. flare's counts it from
// here on.
func (k *httpCarrier) takeOver() (net.Conn, []byte, error) {
	conn, rw, err := k.rc.Hijack()
	if err != nil {
		return nil, nil, err
	}
	k.hijacked.Store(true)
	k.x.w.hijacked = true
	s := k.x.srv
	s.conns.Add(1)
	if peer := k.session().peerAddr(); s.counts(peer) {
		s.perIP.add(peer.Addr(), math.MaxInt)
	}
	rest, err := rw.Reader.Peek(rw.Reader.Buffered())
	return conn, append([]byte(nil), rest...), err
}

// ownConn: a protocol of flare's needs a loop.
func (k *httpCarrier) ownConn() *Conn { return nil }

func (k *httpCarrier) sendSwitch(*handshake, *headerFields) {}

func (k *httpCarrier) tunnel(*handshake, *headerFields) (net.Conn, error) {
	return nil, errors.ErrUnsupported
}
