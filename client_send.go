package flare

import (
	"bytes"
	"context"
	"errors"
	"io"
	"net/http"
	"net/http/httptrace"
	"slices"
	"strconv"
	"sync"
	"sync/atomic"
	"time"
)

// This file is layer 4 (roles): a request as bytes: its head, and its body
// while it streams. client_roundtrip.go calls it.

const (
	// bodyInlineBytes is how much body goes out in one write with its head.
	bodyInlineBytes = 16 << 10

	// bodyBlockingBytes is how much body is written before the answer is
	// looked for. More goes out in a goroutine beside: the server may answer
	// early and stop reading.
	bodyBlockingBytes = 64 << 10

	uploadBufferBytes = 32 << 10
)

var (
	errBodyShort = errors.New("flare: body ended before its ContentLength")
	errBodyLong  = errors.New("flare: body longer than its ContentLength")

	errUploadStopped = errors.New("flare: the request has ended before its body")
)

// appendHead appends the request's head. length is the body's, -1 for chunked.
func (c *Client) appendHead(b []byte, x *clientCall, proxied bool, proxyAuth string, length int64) []byte {
	b = x.appendLine(b, proxied)
	seen := headSeen{empty: length == 0}
	b = seen.appendFields(b, x)
	if proxied && !seen.proxyAuthorization {
		b = append(b, proxyAuth...)
	}
	if x.req.Close && !seen.closes {
		b = append(b, fieldClose...) // a line more of what is one list
	}
	if seen.te && !seen.connTE { // RFC 9112 §7.4
		b = append(b, "Connection: TE\r\n"...)
	}
	if seen.upgrade && !seen.connUpgrade { // RFC 9110 §7.8
		b = append(b, "Connection: Upgrade\r\n"...)
	}
	switch {
	case length < 0:
		b = append(b, fieldChunked...)
	case x.saysLength(length):
		b = appendContentLength(b, length)
	}
	return append(b, "\r\n"...)
}

// saysLength says whether a body of that length, which is known, is announced
// (RFC 9110 §8.6).
func (x *clientCall) saysLength(length int64) bool {
	return length > 0 || x.method == http.MethodPost || x.method == http.MethodPut || x.method == http.MethodPatch
}

// appendBlock appends the field block of the request for HTTP/2 (RFC 9113 §8.3.1).
// length is the body's, -1 for unknown.
func (c *Client) appendBlock(e *hpackEncoder, b []byte, x *clientCall, length int64) []byte {
	b = e.begin(b)
	b = e.appendField(b, ":method", x.method)
	b = e.appendField(b, ":scheme", x.target.scheme())
	b = e.appendField(b, ":authority", x.host())
	b = e.appendField(b, ":path", x.target.path)
	seen := headSeen{hpack: e, empty: length == 0}
	b = seen.appendFields(b, x)
	if length >= 0 && x.saysLength(length) {
		var digits [20]byte
		b = e.appendField(b, "content-length", viewString(strconv.AppendInt(digits[:0], length, 10)))
	}
	return b
}

// appendLine appends the request line and Host.
func (x *clientCall) appendLine(b []byte, proxied bool) []byte {
	b = append(append(b, x.method...), ' ')
	host := x.host()
	path := x.target.path
	if proxied && !x.target.absolute { // RFC 9112 §3.2.2; a proxy goes by this, not by Host
		b = append(append(append(b, x.target.scheme()...), "://"...), host...)
		if path == "*" {
			path = "" // RFC 9112 §3.2.4
		}
	}
	b = append(append(b, path...), " HTTP/1.1\r\nHost: "...)
	return append(append(b, host...), "\r\n"...)
}

// host returns the value of the Host field.
func (x *clientCall) host() string {
	if host := x.req.Header.Get("Host"); host != "" && !x.ownDropped {
		return host
	}
	if x.defaults != nil && !x.defaultsDropped {
		if host := x.defaults.Get("Host"); host != "" {
			return host
		}
	}
	return x.target.authority
}

// bodyFields describe a request's body (RFC 9110 §8, RFC 9530), or belong to
// its transfer: they leave with it when a redirect makes a GET of it (RFC 9110
// §15.4).
var bodyFields = []string{
	"Content-Digest", "Content-Disposition", "Content-Encoding", "Content-Language",
	"Content-Location", "Content-MD5", "Content-Range", "Content-Type", "Digest",
	"Expect", "Last-Modified", "Repr-Digest", "Trailer",
}

func isBodyField(name string) bool {
	return slices.ContainsFunc(bodyFields, func(field string) bool { return equalFoldASCII(name, field) })
}

// headSeen is what the user's fields have settled.
type headSeen struct {
	cookie, authorization, proxyAuthorization, userAgent, acceptEncoding, ranged bool

	closes, connTE, connUpgrade bool // Connection has the member
	te, upgrade                 bool // fields that Connection has to name

	empty bool          // no content follows
	typed bool          // its type was said
	hpack *hpackEncoder // of HTTP/2; nil: fields are lines
}

// put appends a field.
func (s *headSeen) put(b []byte, name, value string) []byte {
	if s.hpack != nil {
		if len(name) == len("te") && equalFoldASCII(name, "te") && !equalFoldASCII(value, "trailers") { // RFC 9113 §8.2.2
			return b
		}
		return s.hpack.appendMessageField(b, &headerField{name, value})
	}
	b = append(append(b, name...), ": "...)
	return append(append(b, value...), "\r\n"...)
}

// appendFields appends the user's fields and the client's own, but those that
// speak of the connection or the body.
func (s *headSeen) appendFields(b []byte, x *clientCall) []byte {
	b = s.appendGiven(b, x)
	if x.cookies != "" && !s.cookie {
		b = s.put(b, "Cookie", x.cookies)
	}
	if x.auth != "" && !s.authorization {
		b = s.put(b, "Authorization", x.auth)
	}
	if x.method == http.MethodOptions && !s.empty && !s.typed { // RFC 9110 §9.3.7
		b = s.put(b, "Content-Type", "application/octet-stream")
	}
	if !s.userAgent {
		b = s.put(b, "User-Agent", "flare")
	}
	// A range of compressed content is of no use.
	if x.decodes = x.decodes && !s.acceptEncoding && !s.ranged; x.decodes {
		b = s.put(b, "Accept-Encoding", "gzip, deflate")
	}
	x.closes = x.req.Close || s.closes
	return b
}

// appendGiven appends the user's fields: those of the client that the request
// does not have itself, then the request's.
func (s *headSeen) appendGiven(b []byte, x *clientCall) []byte {
	own := x.req.Header.snapshot()
	if x.defaults != nil {
		defaults := x.defaults.snapshot()
		for i := range defaults.list {
			f := &defaults.list[i]
			if own.index(f.name) < 0 && !(x.defaultsDropped && isCredentialField(f.name)) {
				b = s.appendField(b, x, f)
			}
		}
	}
	for i := range own.list {
		f := &own.list[i]
		if !(x.ownDropped && isCredentialField(f.name)) {
			b = s.appendField(b, x, f)
		}
	}
	return b
}

// isClientsField says whether a field is the client's own to write: it frames the
// message or was written with the request line.
func isClientsField(name string) bool {
	switch len(name) {
	case len("Host"):
		return equalFoldASCII(name, "Host")
	case len("Content-Length"):
		return equalFoldASCII(name, "Content-Length")
	case len("Transfer-Encoding"):
		return equalFoldASCII(name, "Transfer-Encoding")
	}
	return false
}

// appendField appends one of the user's fields and remembers what it settles.
func (s *headSeen) appendField(b []byte, x *clientCall, f *headerField) []byte {
	if isClientsField(f.name) || x.bodyDropped && isBodyField(f.name) {
		return b
	}
	value := f.value
	switch len(f.name) {
	case len("TE"):
		s.te = s.te || equalFoldASCII(f.name, "TE")
	case len("Upgrade"):
		s.upgrade = s.upgrade || equalFoldASCII(f.name, "Upgrade")
	case len("Range"):
		s.ranged = s.ranged || equalFoldASCII(f.name, "Range")
	case len("Cookie"):
		if s.empty && equalFoldASCII(f.name, "Expect") && equalFoldASCII(value, "100-continue") { // RFC 9110 §10.1.1
			return b
		}
		if equalFoldASCII(f.name, "Cookie") && !s.cookie && x.cookies != "" {
			s.cookie = true
			value += "; " + x.cookies // one line (RFC 6265 §5.4)
		}
	case len("User-Agent"):
		if equalFoldASCII(f.name, "User-Agent") {
			if s.userAgent = true; value == "" {
				return b // the way to send none
			}
		}
		if equalFoldASCII(f.name, "Connection") {
			s.takeOptions(value)
		}
	case len("Content-Type"):
		s.typed = s.typed || equalFoldASCII(f.name, "Content-Type")
	case len("Authorization"):
		s.authorization = s.authorization || equalFoldASCII(f.name, "Authorization")
	case len("Proxy-Authorization"):
		s.proxyAuthorization = s.proxyAuthorization || equalFoldASCII(f.name, "Proxy-Authorization")
	case len("Accept-Encoding"):
		s.acceptEncoding = s.acceptEncoding || equalFoldASCII(f.name, "Accept-Encoding")
	}
	return s.put(b, f.name, value)
}

// takeOptions remembers the members of a line of Connection.
func (s *headSeen) takeOptions(list string) {
	s.closes = s.closes || listContains(list, "close")
	s.connTE = s.connTE || listContains(list, "te")
	s.connUpgrade = s.connUpgrade || listContains(list, "upgrade")
}

// A clientUpload is a body on its way out, in a goroutine of its own. It ends with
// its request, at the latest: with the error that Do returns, with the end of the
// response's body, or with the context.
type clientUpload struct {
	conn     clientCarrier
	closer   io.Closer     // the body, if giving it up closes it; else nil
	req      ClientRequest // as it was: its owner may change it once the answer is there
	trace    *httptrace.ClientTrace
	length   int64 // -1: chunked
	progress int64
	ended    chan struct{}
	endedAt  atomic.Int64 // nanoseconds of the Unix epoch; 0: not yet
	err      error        // valid once endedAt is set
	userErr  bool         // err is the body's own, not the connection's

	stopped atomic.Bool // nothing more may be sent, nor anybody told of it
	closing sync.Once   // of closer
	letGo   func() bool // of the context; nil: nothing to let go
}

// uploadStopTime is what a body gets to end its Read once it was closed. One that
// ignores that is left to itself: its goroutine does no more than wait for it.
const uploadStopTime = time.Second

// start begins to send in a goroutine of its own, which the context's end stops.
func (u *clientUpload) start(ctx context.Context) {
	if ctx.Done() != nil {
		u.letGo = context.AfterFunc(ctx, u.stop)
	}
	go u.run()
}

// stop breaks off what is still being sent: the connection ends and the body is
// closed, if it may be. It returns when nobody reads the body any more, or when
// the body does not end its Read.
func (u *clientUpload) stop() {
	if u == nil || u.endedAt.Load() != 0 {
		return
	}
	u.stopped.Store(true)
	u.conn.close()
	limit := uploadGrace
	if u.req.inMem {
		limit = uploadStopTime
	} else if u.closer != nil {
		limit = uploadStopTime
		go u.closeBody() // which may wait for the Read
	}
	late := time.NewTimer(limit)
	defer late.Stop()
	select {
	case <-u.ended:
	case <-late.C:
	}
}

func (u *clientUpload) closeBody() { u.closing.Do(func() { u.closer.Close() }) }

// uploadGrace is what a server that has answered gets to take the rest of the
// body: usually it has, and only the goroutine that sent it does not know yet.
const uploadGrace = 50 * time.Millisecond

// soon says whether all of the body was sent, or will be in no time. No upload
// is one that was.
func (u *clientUpload) soon() bool {
	if u == nil {
		return true
	}
	if u.endedAt.Load() == 0 {
		late := time.NewTimer(uploadGrace)
		defer late.Stop()
		select {
		case <-u.ended:
		case <-late.C:
			return false
		}
	}
	return u.err == nil
}

// failure returns what the body, rather than the connection, did wrong.
func (u *clientUpload) failure() error {
	if u == nil || u.endedAt.Load() == 0 || !u.userErr {
		return nil
	}
	return u.err
}

// timedOut says whether the peer took too long to take the body.
func (u *clientUpload) timedOut() bool {
	return u != nil && u.endedAt.Load() != 0 && errors.Is(u.err, ErrTimeout)
}

// late says whether the body is, or was when time was up, still being sent.
func (u *clientUpload) late() bool {
	return u != nil && u.endedAt.Load() == 0 || u.timedOut()
}

// run sends the body. A body that fails ends the connection, so that the server
// does not take a part for the whole and the reader of the answer wakes.
func (u *clientUpload) run() {
	err := u.send()
	if u.letGo != nil && !u.letGo() && err == nil {
		err = errUploadStopped // stop is about to close the connection
	}
	if u.closer != nil && (err != nil || u.req.closes) {
		u.closeBody()
	}
	if u.trace != nil && u.trace.WroteRequest != nil {
		u.trace.WroteRequest(httptrace.WroteRequestInfo{Err: err})
	}
	u.err = err
	u.endedAt.Store(time.Now().UnixNano())
	if u.userErr || errors.Is(err, ErrTimeout) {
		u.conn.close()
	}
	close(u.ended)
}

func (u *clientUpload) send() error {
	body := u.req.Body
	if u.req.inMem {
		if u.length >= 0 {
			if err := u.write(u.req.payload); err != nil {
				return err
			}
			return u.writeEnd()
		}
		body = bytes.NewReader(u.req.payload)
	}
	buf := getBuffer(uploadBufferBytes)
	defer buf.release()
	p := buf.b[:cap(buf.b)]
	const frameBytes = 16 // of a chunk: its size line before, CRLF behind
	for sent := int64(0); ; {
		n, err := body.Read(p[frameBytes : len(p)-2])
		if u.stopped.Load() {
			return errUploadStopped
		}
		if sent += int64(n); u.length >= 0 && sent > u.length {
			return u.fail(errBodyLong)
		}
		if n > 0 {
			if writeErr := u.writePiece(p, frameBytes, n); writeErr != nil {
				return writeErr
			}
		}
		switch {
		case err == io.EOF && sent < u.length:
			return u.fail(errBodyShort)
		case err == io.EOF:
			return u.writeEnd()
		case err != nil:
			return u.fail(err)
		}
	}
}

func (u *clientUpload) fail(err error) error {
	u.userErr = true
	return err
}

// writePiece sends p[at:at+n] as a piece of unknown length or as it is.
func (u *clientUpload) writePiece(p []byte, at, n int) error {
	if u.length >= 0 {
		return u.write(p[at : at+n])
	}
	if err := u.conn.writePiece(p, at, n); err != nil {
		return err
	}
	u.report(n)
	return nil
}

func (u *clientUpload) write(p []byte) error {
	for len(p) > 0 {
		n, err := u.conn.Write(p[:min(len(p), writePieceBytes)])
		u.report(n)
		if err != nil {
			return err
		}
		p = p[n:]
	}
	return nil
}

func (u *clientUpload) report(n int) {
	u.progress += int64(n)
	if u.req.Progress != nil && !u.stopped.Load() {
		u.req.Progress(u.progress, u.length)
	}
}

// writeEnd ends the body, with its trailer section.
func (u *clientUpload) writeEnd() error {
	if u.length >= 0 || u.req.Trailer == nil {
		return u.conn.endBody(u.length >= 0, nil)
	}
	var trailer Header
	u.req.Trailer(&trailer)
	if err := checkTrailer(&trailer); err != nil {
		return u.fail(err)
	}
	return u.conn.endBody(false, trailer.snapshot())
}
