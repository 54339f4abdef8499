package flare

import (
	"context"
	"crypto/tls"
	"encoding/json"
	"errors"
	"io"
	"mime/multipart"
	"net/http"
	"net/netip"
	"net/url"
	"strings"
)

// This file is layer 4 (roles): what there is behind a Request: the parsed head,
// the body, what a Mux has found. It is reused, so that users reach it only
// through their lease (lease.go), by the methods of the same names in
// lease_request.go. Strings are made on first use, at most one allocation for a
// whole head, and stay valid for ever.

// A serverRequest is the first half of an exchange. It belongs to whoever is inside the
// exchange's lease, and to the connection's owner while nobody can be.
type serverRequest struct {
	x       *exchange // fixed
	refused bool      // its head was not understood: nothing but the method is there
	filled  bool      // header has the fields
	raw     []byte
	text    string // raw as a string, once something of it was asked for
	head    requestHead
	match   routing        // nil until a Mux has routed it
	origin  *requestOrigin // of a clone: what the connection said of itself
	body    requestBody
	kept    []byte       // the body, once Bytes has read it; nil before that
	form    *requestForm // what Multipart has made of it; nil before that
	header  headerFields
	ctx     context.Context // without values; nil until asked for or set
	valued  context.Context // ctx with values; nil until asked for
	values  []requestValue
	id      string // what logs call the request, "" for none
}

// A routing is what a Mux has found for a request. It stays with the Request
// for reuse and ends with it.
type routing interface {
	reset()
	clone() routing
	matched() bool   // there is a pattern that takes the request
	pattern() string // "" without one
	appendPattern(b []byte) []byte
	value(path, name string) (v string, ok bool)
}

type requestValue struct{ key, value any }

// A requestForm is a multipart form that was read, or what came of that.
type requestForm struct {
	form *multipart.Form
	err  error
}

// remove removes the temporary files.
func (f *requestForm) remove() {
	if f.form != nil {
		f.form.RemoveAll()
	}
}

// A requestOrigin is what a clone knows of the session that its request came by,
// which others may have by then.
type requestOrigin struct {
	peer, local  netip.AddrPort
	proxies      *proxyTrust
	tls          *tls.ConnectionState
	proxied      *ProxyHeader
	proto        string
	major, minor int
}

func (o *requestOrigin) peerAddr() netip.AddrPort       { return o.peer }
func (o *requestOrigin) localAddr() netip.AddrPort      { return o.local }
func (o *requestOrigin) tlsState() *tls.ConnectionState { return o.tls }
func (o *requestOrigin) proxyHeader() *ProxyHeader      { return o.proxied }

// session returns what r came by.
func (r *serverRequest) session() session {
	if r.origin != nil {
		return r.origin
	}
	return r.x.stream.session()
}

// trust returns whose word counts for r.
func (r *serverRequest) trust() *proxyTrust {
	switch {
	case r.origin != nil:
		return r.origin.proxies
	case r.x.srv != nil:
		return r.x.srv.proxies
	}
	return nil
}

// version returns the name and the numbers of the version of HTTP that r came by.
func (r *serverRequest) version() (name string, major, minor int) {
	if r.origin != nil {
		return r.origin.proto, r.origin.major, r.origin.minor
	}
	return r.x.stream.version()
}

// begin readies r for its handler. raw has the bytes of the head.
func (r *serverRequest) begin(raw []byte) { r.raw = raw }

// refuse readies r, begun, for an ErrorHandler in place of its handler: its body is
// not for reading, and blind, of a head that was not understood, neither are fields.
func (r *serverRequest) refuse(blind bool) { r.refused, r.body.done = blind, true }

// reset forgets the request.
func (r *serverRequest) reset() {
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
	r.kept, r.ctx, r.valued, r.id = nil, nil, nil, ""
	if r.values != nil {
		clear(r.values)
		r.values = r.values[:0]
	}
}

// string returns part of the head as a string that stays valid.
func (r *serverRequest) string(s span) string {
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
func (r *serverRequest) view(s span) string {
	if int(s.end) > len(r.raw) {
		return ""
	}
	return viewString(s.of(r.raw))
}

// fieldViews appends the values of a field, which are valid as view says.
func (r *serverRequest) fieldViews(name string, values []string) []string {
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

func (r *serverRequest) methodView() string { return r.view(r.head.method) }
func (r *serverRequest) hostView() string   { return r.view(r.head.host) }
func (r *serverRequest) pathView() string   { return r.view(r.head.path) }

func (r *serverRequest) queryView() (query string, has bool) {
	return r.view(r.head.query), r.head.hasQuery
}

func (r *serverRequest) Method() string {
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

func (r *serverRequest) Target() string { return r.string(r.head.target) }

func (r *serverRequest) Path() string {
	path := r.string(r.head.path)
	if path == "" {
		return "/"
	}
	if r.head.pathEscaped {
		path, _ = url.PathUnescape(path) // the parser has checked the escapes
	}
	return path
}

func (r *serverRequest) Pattern() string {
	if r.match == nil {
		return ""
	}
	return r.match.pattern()
}

func (r *serverRequest) Host() string { return r.string(r.head.host) }

func (r *serverRequest) Proto() string {
	name, _, _ := r.version()
	return name
}

func (r *serverRequest) Header() *headerFields {
	if !r.filled {
		r.filled = true
		if len(r.head.fields) > 0 && !r.refused {
			r.string(span{0, 1}) // makes the text
			r.header.fill(r.text, r.head.fields)
		}
	}
	return &r.header
}

func (r *serverRequest) ContentLength() int64 {
	if r.head.chunked {
		return -1
	}
	return max(r.head.contentLength, 0)
}

func (r *serverRequest) RemoteAddr() netip.AddrPort {
	return r.session().peerAddr()
}

func (r *serverRequest) TLS() *tls.ConnectionState {
	return r.session().tlsState()
}

func (r *serverRequest) URL() *url.URL {
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

func (r *serverRequest) Query() url.Values {
	q, _ := url.ParseQuery(r.string(r.head.query))
	return q
}

func (r *serverRequest) PathValue(name string) string {
	if r.match == nil || !r.match.matched() {
		return ""
	}
	v, _ := r.match.value(r.string(r.head.path), name)
	return v
}

// Body returns the body. Read waits for the client where it has to. It is
// never nil, and closing it is not needed. A body over the limit, too slow
// or cut short is a *StatusError that a handler may just return.

func (r *serverRequest) Bytes() (p []byte, err error) {
	if r.kept != nil {
		return r.kept, nil
	}
	if p, err = r.readAll(); err == nil {
		r.kept = p
	}
	return p, err
}

// readAll returns the rest of the body, never nil but for an error.
func (r *serverRequest) readAll() ([]byte, error) {
	if p, ok := r.body.whole(); ok {
		return p, nil
	}
	return io.ReadAll(&r.body)
}

func (r *serverRequest) JSON(v any) error {
	p, err := r.Bytes()
	if err != nil {
		return err
	}
	if err := json.Unmarshal(p, v); err != nil {
		return jsonError(err)
	}
	return nil
}

var errTrailingJSON = errors.New("flare: more than one JSON value")

// jsonError is the answer to a body that is not the JSON that was expected. It names
// a field of the handler's, and nothing that only the client has.
func jsonError(err error) error {
	message := "the body is not the JSON that was expected"
	var kind *json.UnmarshalTypeError
	if errors.As(err, &kind) && kind.Field != "" {
		message += ": " + kind.Field + " is a " + kind.Type.Kind().String()
	}
	return &StatusError{Code: http.StatusBadRequest, Message: message, Err: err}
}

func (r *serverRequest) Trailer() *headerFields {
	return &r.body.trailer
}

func (r *serverRequest) SetValue(key, value any) {
	r.valued = nil // whoever has it goes on with what it had
	for i := range r.values {
		if r.values[i].key == key {
			r.values[i].value = value
			return
		}
	}
	r.values = append(r.values, requestValue{key, value})
}

func (r *serverRequest) Value(key any) any {
	for i := range r.values {
		if r.values[i].key == key {
			return r.values[i].value
		}
	}
	if r.ctx != nil {
		return r.ctx.Value(key)
	}
	return r.x.stream.value(key) // without making a context
}

func (r *serverRequest) Clone() *Request {
	r.string(span{0, 1})
	x := new(exchange)
	x.init()
	kept := newLeases(1)
	x.lease = kept.next(x, nil)
	k := &x.r
	k.refused, k.text, k.raw = r.refused, r.text, []byte(r.text)
	from := r.session()
	k.origin = &requestOrigin{peer: from.peerAddr(), local: from.localAddr(), tls: from.tlsState(), proxies: r.trust(), proxied: from.proxyHeader()}
	k.origin.proto, k.origin.major, k.origin.minor = r.version()
	k.body.done = true
	k.head = r.head
	k.head.fields = append([]field(nil), r.head.fields...)
	if r.match != nil {
		k.match = r.match.clone()
	}
	k.header = *r.Header().clone()
	k.filled = true
	k.ctx = context.WithoutCancel(r.Context())
	k.values, k.id = append(k.values, r.values...), r.id
	return &x.lease.r
}
