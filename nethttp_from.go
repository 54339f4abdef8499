package flare

import (
	"context"
	"net"
	"net/http"
	"net/url"
	"sync"
)

// This file is layer 5 (surface): net/http's handlers on flare's server: the
// http.Request that they are given, and its context. nethttp_response.go has
// the http.ResponseWriter, nethttp_body.go the body.

// FromHTTP returns h as a Handler: a router, a file server, a proxy, anything
// made for net/http, with all that its ResponseWriter can do there: Flusher,
// Hijacker (where there is a connection to take), io.ReaderFrom,
// http.ResponseController, trailers, 1xx. Where h
// runs is learned as for any handler, and it may block.
//
// It behaves as on net/http's server, and differs where flare is stricter or
// has a bound: flare's parser refuses more; a body over MaxBodyBytes ends with
// an *http.MaxBytesError; a panic is answered with 500 as long as nothing was
// sent (http.ErrAbortHandler ends the connection as there); a field with a
// line break in its value makes the response a 500 instead of being mended; and
// reading the body stays possible once the response has begun, as with
// EnableFullDuplex.
//
// The request's Pattern and path values are those of a Mux that h is mounted
// in; its URL is whole, so use http.StripPrefix where h wants the rest. Values
// of Request.SetValue are those of its context. The *http.Request may be kept
// after h has returned; its body and the ResponseWriter then fail.
func FromHTTP(h http.Handler) Handler {
	return &httpAdapter{handler: h, server: &http.Server{Handler: h}}
}

// An httpAdapter is what FromHTTP returns.
type httpAdapter struct {
	handler http.Handler
	server  *http.Server // for those who look under http.ServerContextKey
}

// Serve calls the handler. Panics go on to where those of all handlers are
// dealt with.
func (a *httpAdapter) Serve(w *ResponseWriter, r *Request) error {
	// The handler's goroutine is inside while the handler runs: what it is given
	// works with w and r themselves, and lets go of them before.
	wx := w.lease.enterBody()
	if wx == nil {
		return errWriterDone
	}
	defer w.lease.exit()
	rx := r.lease.enter()
	if rx == nil {
		return errRequestDone
	}
	defer r.lease.exit()
	if rx.r.head.form == asteriskForm {
		return nil // about the server, no resource (RFC 9110 §9.3.7): 200 and empty, as there
	}
	x := newHTTPExchange(a, &wx.w, rx)
	defer x.end()
	a.handler.ServeHTTP(x.response.writer(), x.req)
	return x.response.finish()
}

// An httpExchange is what a handler of net/http's is given. It is made for each
// request and never reused, so that it may be kept; what it shows of flare's,
// which is reused, is let go of in end.
type httpExchange struct {
	adapter  *httpAdapter
	req      *http.Request
	response httpWriter
	body     httpBody
	ctx      httpContext

	// mu guards what other goroutines than the handler's may do while it waits.
	mu     sync.Mutex
	inside *exchange // nil: the handler has returned
}

func newHTTPExchange(a *httpAdapter, w *serverResponse, in *exchange) *httpExchange {
	r := &in.r
	x := &httpExchange{adapter: a, inside: in}
	x.ctx = httpContext{Context: r.Context(), x: x, srv: w.x.srv}
	x.req = newHTTPRequest(r, &x.ctx)
	x.body = httpBody{x: x, b: &r.body}
	if r.ContentLength() == 0 {
		x.req.Body = http.NoBody
	} else {
		x.req.Body = &x.body
	}
	x.response.begin(x, w)
	return x
}

// end lets go of flare's objects. Whoever uses them in another goroutine is
// waited for, and a read of the body is broken off.
func (x *httpExchange) end() {
	x.response.end()
	x.body.Close()
	x.mu.Lock()
	x.inside = nil
	x.mu.Unlock()
	if form := x.req.MultipartForm; form != nil {
		form.RemoveAll() // as net/http's server does
	}
}

// newHTTPRequest returns r as net/http has it, all but the body.
func newHTTPRequest(r *serverRequest, ctx context.Context) *http.Request {
	proto, major, minor := r.version()
	req := http.Request{
		Method: r.Method(), Proto: proto, ProtoMajor: major, ProtoMinor: minor,
		Host: r.Host(), RequestURI: r.Target(), RemoteAddr: "@", TLS: r.TLS(),
		ContentLength: r.ContentLength(), Close: !r.head.keepAlive(),
		Pattern: r.Pattern(),
	}
	if addr := r.RemoteAddr(); addr.IsValid() {
		req.RemoteAddr = addr.String()
	}
	if r.head.chunked && major == 1 {
		req.TransferEncoding = []string{"chunked"}
	}
	req.URL = httpURL(r)
	setHTTPHeader(&req, r.Header())
	setPathValues(&req, r)
	return req.WithContext(ctx) // a copy; req itself stays on the stack
}

// httpURL parses the target as net/http's server does.
func httpURL(r *serverRequest) *url.URL {
	target := r.Target()
	if r.head.form == authorityForm {
		return &url.URL{Host: target}
	}
	u, err := url.ParseRequestURI(target)
	if err != nil {
		return r.URL() // flare's parser has found nothing wrong with it
	}
	return u
}

// setHTTPHeader sets the fields of req, without those that are fields of
// http.Request.
func setHTTPHeader(req *http.Request, h *headerFields) {
	fields := make(http.Header, h.Len())
	values := make([]string, h.Len()) // of all fields, in one piece
	for name, value := range h.All() {
		switch name = http.CanonicalHeaderKey(name); name {
		case "Host", "Transfer-Encoding":
			continue
		case "Trailer":
			announceHTTPTrailer(req, value)
			continue
		}
		if vv := fields[name]; vv != nil {
			fields[name] = append(vv, value)
			continue
		}
		values[0] = value
		fields[name], values = values[:1:1], values[1:]
	}
	if pragma := fields["Pragma"]; len(pragma) > 0 && pragma[0] == "no-cache" && fields["Cache-Control"] == nil {
		fields["Cache-Control"] = []string{"no-cache"} // RFC 9111 §5.4
	}
	req.Header = fields
}

// announceHTTPTrailer makes the keys of req.Trailer.
func announceHTTPTrailer(req *http.Request, value string) {
	if req.TransferEncoding == nil && req.ProtoMajor == 1 {
		return
	}
	for more := true; more; {
		var name string
		name, value, more = nextListMember(value)
		if !isToken(name) || !allowedInTrailer(name) {
			continue
		}
		if req.Trailer == nil {
			req.Trailer = make(http.Header)
		}
		req.Trailer[http.CanonicalHeaderKey(name)] = nil
	}
}

// setPathValues gives req the values of the wildcards that a Mux has matched.
func setPathValues(req *http.Request, r *serverRequest) {
	m, ok := r.match.(*routeMatch)
	if !ok || !m.matched() {
		return
	}
	set := func(names []string) {
		for _, name := range names {
			req.SetPathValue(name, r.PathValue(name))
		}
	}
	for _, e := range m.mounts[:m.depth] {
		set(e.pattern.names)
	}
	set(m.entry.pattern.names)
}

// An httpContext is a request's context, with what net/http's has in it.
type httpContext struct {
	context.Context
	x     *httpExchange
	srv   *Server
	local net.Addr // once asked for; guarded by x.mu
}

// Value finds what the request's context has, then what net/http promises.
func (c *httpContext) Value(key any) any {
	if v := c.Context.Value(key); v != nil {
		return v
	}
	switch key {
	case http.ServerContextKey:
		return c.x.adapter.server
	case http.LocalAddrContextKey:
		if addr := c.localAddr(); addr != nil {
			return addr
		}
	}
	return nil
}

// localAddr returns the address that the client has connected to.
func (c *httpContext) localAddr() net.Addr {
	x := c.x
	x.mu.Lock()
	defer x.mu.Unlock()
	if c.local == nil && x.inside != nil {
		if at := x.inside.stream.session().localAddr(); at.IsValid() {
			c.local = net.TCPAddrFromAddrPort(at)
		}
	}
	if c.local == nil { // a Unix socket, or too late: one of those that the server listens on
		if addrs := c.srv.Addrs(); len(addrs) > 0 {
			c.local = addrs[0]
		}
	}
	return c.local
}
