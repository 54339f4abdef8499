package flare

import (
	"context"
	"crypto/tls"
	"encoding/json"
	"io"
	"net/http"
	"net/netip"
	"net/url"
	"strings"
)

// This file is layer 4 (roles): the request as a handler sees it. Strings are
// made on first use, at most one allocation for a whole head, and stay valid
// for ever; the Request itself ends with its handler.

// A Request is one request while its handler runs. It must not be used after
// the handler has returned: that panics until the object is handed out again.
// Clone makes one that may be kept. Its methods are for the handler's
// goroutine, save Context's result, which any goroutine may use.
type Request struct {
	c       *Conn
	h       *httpConn
	live    bool
	refused bool // before any handler: nothing but the method is there
	filled  bool // header has the fields
	raw     []byte
	text    string // raw as a string, once something of it was asked for
	head    requestHead
	match   routing // nil until a Mux has routed it
	via     carrier // of a request that another server has received
	body    requestBody
	kept    []byte // the body, once Bytes has read it; nil before that
	header  Header
	ctx     context.Context // without values; nil until asked for or set
	valued  context.Context // ctx with values; nil until asked for
	values  []requestValue
}

// A routing is what a Mux has found for a request. It stays with the Request
// for reuse and ends with it.
type routing interface {
	reset()
	clone() routing
	matched() bool   // there is a pattern that takes the request
	pattern() string // "" without one
	value(path, name string) (v string, ok bool)
}

type requestValue struct{ key, value any }

// begin readies r for its handler. raw has the bytes of the head.
func (r *Request) begin(c *Conn, h *httpConn, raw []byte) {
	r.c, r.h, r.raw, r.live = c, h, raw, true
}

// refuse readies r, begun, for an ErrorHandler in place of its handler: there is
// nothing to read from a request whose head was not understood.
func (r *Request) refuse() { r.refused, r.body.done = true, true }

// end makes every later use of r a panic.
func (r *Request) end() {
	if r.c.ctx.Load() != nil {
		r.c.endContext()
	}
	r.live = false
}

// reset forgets the request.
func (r *Request) reset() {
	r.head.reset()
	if r.match != nil {
		r.match.reset()
	}
	r.body.reset()
	r.refused, r.raw, r.text = false, nil, ""
	if r.filled {
		r.filled = false
		r.header.reset()
	}
	r.kept, r.ctx, r.valued = nil, nil, nil
	if r.values != nil {
		clear(r.values)
		r.values = r.values[:0]
	}
}

func (r *Request) check() {
	if !r.live {
		panic("flare: Request used after its handler returned; use Clone to keep one")
	}
}

// string returns part of the head as a string that stays valid.
func (r *Request) string(s span) string {
	r.check()
	if int(s.end) > len(r.raw) || s.start == s.end {
		return ""
	}
	if r.text == "" {
		r.text = string(r.raw)
	}
	return r.text[s.start:s.end]
}

// view returns part of the head without an allocation, valid until the handler
// returns.
func (r *Request) view(s span) string {
	if int(s.end) > len(r.raw) {
		return ""
	}
	return viewString(s.of(r.raw))
}

// fieldViews appends the values of a field, which are valid as view says.
func (r *Request) fieldViews(name string, values []string) []string {
	if r.filled { // what a handler has changed counts
		for _, f := range r.Header().list {
			if equalFoldASCII(f.name, name) {
				values = append(values, f.value)
			}
		}
		return values
	}
	for _, f := range r.head.fields {
		if equalFoldASCII(r.view(span{f.name, f.nameEnd}), name) {
			values = append(values, r.view(span{f.value, f.valueEnd}))
		}
	}
	return values
}

func (r *Request) methodView() string { return r.view(r.head.method) }
func (r *Request) hostView() string   { return r.view(r.head.host) }
func (r *Request) pathView() string   { return r.view(r.head.path) }

func (r *Request) queryView() (query string, has bool) {
	return r.view(r.head.query), r.head.hasQuery
}

// Method returns the method as sent. Methods are case-sensitive (RFC 9110 §9.1).
func (r *Request) Method() string {
	r.check()
	switch m := r.methodView(); m {
	case http.MethodGet:
		return http.MethodGet
	case http.MethodPost:
		return http.MethodPost
	case http.MethodHead:
		return http.MethodHead
	case http.MethodPut:
		return http.MethodPut
	case http.MethodDelete:
		return http.MethodDelete
	case http.MethodPatch:
		return http.MethodPatch
	case http.MethodOptions:
		return http.MethodOptions
	}
	return r.string(r.head.method)
}

// Target returns the request target as sent (RFC 9112 §3.2).
func (r *Request) Target() string { return r.string(r.head.target) }

// Path returns the target's path, percent-decoded: "/" when it has none, "*"
// for OPTIONS *.
func (r *Request) Path() string {
	path := r.string(r.head.path)
	if path == "" {
		return "/"
	}
	if r.head.pathEscaped {
		path, _ = url.PathUnescape(path) // the parser has checked the escapes
	}
	return path
}

// Pattern returns the pattern of the Mux that the request matched, or "".
func (r *Request) Pattern() string {
	r.check()
	if r.match == nil {
		return ""
	}
	return r.match.pattern()
}

// Host returns the host that the request is for, with its port if one was
// sent: the target's in absolute form, else the Host field (RFC 9112 §3.2.2).
func (r *Request) Host() string { return r.string(r.head.host) }

// Proto returns "HTTP/1.1" or "HTTP/1.0", and "HTTP/2.0" for a request that
// net/http's server has received by that.
func (r *Request) Proto() string {
	r.check()
	name, _ := r.version()
	return name
}

// Header returns the request's fields, in the order in which they were sent.
func (r *Request) Header() *Header {
	r.check()
	if !r.filled {
		r.filled = true
		if len(r.head.fields) > 0 && !r.refused {
			r.string(span{0, 1}) // makes the text
			r.header.fill(r.text, r.head.fields)
		}
	}
	return &r.header
}

// ContentLength returns the length of the body in bytes, -1 when it is not
// known before the end.
func (r *Request) ContentLength() int64 {
	r.check()
	if r.head.chunked {
		return -1
	}
	return max(r.head.contentLength, 0)
}

// RemoteAddr returns the client's address; the zero value on a Unix socket.
func (r *Request) RemoteAddr() netip.AddrPort {
	r.check()
	return r.c.RemoteAddr()
}

// TLS returns the state of the TLS connection, nil without TLS.
func (r *Request) TLS() *tls.ConnectionState {
	r.check()
	if r.via != nil {
		return r.via.tls()
	}
	return r.c.tr.tlsState()
}

// URL returns the target parsed, in a new value.
func (r *Request) URL() *url.URL {
	path := r.string(r.head.path)
	u := &url.URL{Path: r.Path()}
	if r.head.pathEscaped {
		u.RawPath = escapeNonASCII(path) // url.URL takes no hint that is not ASCII
	}
	u.RawQuery = r.string(r.head.query)
	u.ForceQuery = r.head.hasQuery && u.RawQuery == ""
	if a := r.string(r.head.authority); a != "" {
		u.Host = a
		if r.head.form == absoluteForm {
			u.Scheme, _, _ = strings.Cut(r.Target(), ":")
		}
	}
	return u
}

// Query returns the parsed query. Parts that do not parse are left out.
func (r *Request) Query() url.Values {
	q, _ := url.ParseQuery(r.string(r.head.query))
	return q
}

// PathValue returns what the pattern's wildcard of that name matched,
// percent-decoded, or "".
func (r *Request) PathValue(name string) string {
	r.check()
	if r.match == nil || !r.match.matched() {
		return ""
	}
	v, _ := r.match.value(r.string(r.head.path), name)
	return v
}

// Body returns the body. Read waits for the client where it has to. It is
// never nil, and closing it is not needed. A body over the limit, too slow
// or cut short is a *StatusError that a handler may just return.
func (r *Request) Body() io.ReadCloser {
	r.check()
	return &r.body
}

// Bytes reads the rest of the body into a slice of its own, bounded by the
// server's MaxBodyBytes. What it has read it returns again when it is called
// again, in the same slice; JSON and Form read by it, too.
func (r *Request) Bytes() (p []byte, err error) {
	r.check()
	if r.kept != nil {
		return r.kept, nil
	}
	if p, err = r.readAll(); err == nil {
		r.kept = p
	}
	return p, err
}

// readAll returns the rest of the body, never nil but for an error.
func (r *Request) readAll() ([]byte, error) {
	if b := &r.body; b.kind == bodyLength && int64(len(b.in)) >= b.remaining {
		p := make([]byte, b.remaining) // all of it has arrived
		_, err := io.ReadFull(b, p)
		return p, err
	}
	return io.ReadAll(&r.body)
}

// JSON decodes the body, which must be one JSON value, into v, whatever its type
// is said to be. A body that is not is a *StatusError with status 400.
func (r *Request) JSON(v any) error {
	p, err := r.Bytes()
	if err != nil {
		return err
	}
	if err := json.Unmarshal(p, v); err != nil {
		return &StatusError{Code: http.StatusBadRequest, Message: "the body is not the JSON that was expected", Err: err}
	}
	return nil
}

// Form returns the query's values and, behind them, those of a body of type
// application/x-www-form-urlencoded, in a new map. A body of another type, such
// as multipart/form-data, is a *StatusError with status 415, and one that does
// not parse is one with 400.
func (r *Request) Form() (url.Values, error) {
	values := r.Query()
	if r.body.kind == bodyNone {
		return values, nil
	}
	kind, _, _ := strings.Cut(r.Header().Get("Content-Type"), ";")
	if !equalFoldASCII(trimBlank(kind), "application/x-www-form-urlencoded") {
		return nil, &StatusError{Code: http.StatusUnsupportedMediaType}
	}
	p, err := r.Bytes()
	if err != nil {
		return nil, err
	}
	body, err := url.ParseQuery(string(p))
	if err != nil {
		return nil, &StatusError{Code: http.StatusBadRequest, Message: "the body is not a form", Err: err}
	}
	for k, v := range body {
		values[k] = append(values[k], v...)
	}
	return values, nil
}

// Trailer returns the fields that came behind a chunked body, once Body has
// been read to its end. Fields that frame, route or authenticate are dropped
// (RFC 9110 §6.5.1).
func (r *Request) Trailer() *Header {
	r.check()
	return &r.body.chunks.trailer
}

// SetValue keeps a value with the request, for handlers further in: Value finds
// it, and Value of every context that Context returns from then on. Keys are
// compared with ==; use a type of your own.
func (r *Request) SetValue(key, value any) {
	r.check()
	r.valued = nil // whoever has it goes on with what it had
	for i := range r.values {
		if r.values[i].key == key {
			r.values[i].value = value
			return
		}
	}
	r.values = append(r.values, requestValue{key, value})
}

// Value returns what SetValue kept under key, or what the context has.
func (r *Request) Value(key any) any {
	r.check()
	for i := range r.values {
		if r.values[i].key == key {
			return r.values[i].value
		}
	}
	if r.ctx != nil {
		return r.ctx.Value(key)
	}
	return nil
}

// Clone returns a copy of the request that stays valid after the handler has
// returned. Its body is empty and its context is not cancelled with the
// original's.
func (r *Request) Clone() *Request {
	r.check()
	r.string(span{0, 1})
	k := &Request{c: r.c, h: r.h, via: r.via, live: true, refused: r.refused, text: r.text, raw: []byte(r.text)}
	k.body.done = true
	k.head = r.head
	k.head.fields = append([]field(nil), r.head.fields...)
	if r.match != nil {
		k.match = r.match.clone()
	}
	k.header = r.Header().Clone()
	k.filled = true
	k.ctx = context.WithoutCancel(r.Context())
	k.values = append(k.values, r.values...)
	return k
}
