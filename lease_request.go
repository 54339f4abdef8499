package flare

import (
	"context"
	"crypto/tls"
	"io"
	"iter"
	"net/netip"
	"net/url"
)

// This file is layer 4 (roles): the request as users hold it. Each method enters
// the lease and asks the request behind it, of handler_request.go, by the method
// of the same name.

// A Request is one request while its handler runs. Its methods are for the
// handler's goroutine, save those of Body's and Context's results, which any
// goroutine may use.
//
// It ends with its handler. Whoever still holds it, or anything that it has
// returned that is no plain value, in whatever goroutine, then gets errors where
// there are any, and zero values elsewhere; that is a mistake, which is logged
// with its stack, and a panic under the race detector. Nothing reaches another
// request. Clone makes one that may be kept.
type Request struct{ lease *lease }

// endedContext is that of a request whose handler has returned.
var endedContext = func() context.Context {
	ctx, end := context.WithCancelCause(context.Background())
	end(errRequestDone)
	return ctx
}()

// Method returns the method as sent. Methods are case-sensitive (RFC 9110 §9.1).
func (r *Request) Method() string {
	x := r.lease.use()
	if x == nil {
		return ""
	}
	defer r.lease.exit()
	return x.r.Method()
}

// Target returns the request target as sent (RFC 9112 §3.2).
func (r *Request) Target() string {
	x := r.lease.use()
	if x == nil {
		return ""
	}
	defer r.lease.exit()
	return x.r.Target()
}

// Path returns the target's path, percent-decoded: "/" when it has none, "*"
// for OPTIONS *.
func (r *Request) Path() string {
	x := r.lease.use()
	if x == nil {
		return ""
	}
	defer r.lease.exit()
	return x.r.Path()
}

// Pattern returns the pattern of the Mux that the request matched, or "".
func (r *Request) Pattern() string {
	x := r.lease.use()
	if x == nil {
		return ""
	}
	defer r.lease.exit()
	return x.r.Pattern()
}

// Host returns the host that the request is for, with its port if one was
// sent: the target's in absolute form, else the Host field (RFC 9112 §3.2.2).
func (r *Request) Host() string {
	x := r.lease.use()
	if x == nil {
		return ""
	}
	defer r.lease.exit()
	return x.r.Host()
}

// Proto returns "HTTP/1.1" or "HTTP/1.0", and "HTTP/2.0" for a request that
// net/http's server has received by that.
func (r *Request) Proto() string {
	x := r.lease.use()
	if x == nil {
		return ""
	}
	defer r.lease.exit()
	return x.r.Proto()
}

// Header returns the request's fields, in the order in which they were sent.
func (r *Request) Header() *Header {
	if r.lease == nil {
		return new(Header)
	}
	return &r.lease.requestHeader
}

// ContentLength returns the length of the body in bytes, -1 when it is not
// known before the end.
func (r *Request) ContentLength() int64 {
	x := r.lease.use()
	if x == nil {
		return 0
	}
	defer r.lease.exit()
	return x.r.ContentLength()
}

// RemoteAddr returns the peer's address, which is the client's or that of a proxy in
// front of the server; see ClientAddr. Where the proxy has said whose connection it
// is (Server.ProxyProtocol) that is the peer. It is the zero value on a Unix socket.
func (r *Request) RemoteAddr() netip.AddrPort {
	x := r.lease.use()
	if x == nil {
		return netip.AddrPort{}
	}
	defer r.lease.exit()
	return x.r.RemoteAddr()
}

// ProxyHeader returns what a trusted proxy has said in front of the connection
// (Server.ProxyProtocol), nil if there was nothing. It may be kept, and must not be
// changed.
func (r *Request) ProxyHeader() *ProxyHeader {
	x := r.lease.use()
	if x == nil {
		return nil
	}
	defer r.lease.exit()
	return x.r.session().proxyHeader()
}

// ClientAddr returns the address of the client: RemoteAddr, unless that is one of
// Server.TrustedProxies. Then Forwarded (RFC 7239) and X-Forwarded-For are walked
// from the right, from proxy to proxy, up to the first address that is not trusted
// too. The port is 0 if none was told. It is the zero value, which no prefix
// contains, where a trusted proxy names no address ("unknown", "_hidden", what is
// malformed), where both kinds of fields are there and name different clients, and
// beyond 64 trusted proxies.
func (r *Request) ClientAddr() netip.AddrPort {
	x := r.lease.use()
	if x == nil {
		return netip.AddrPort{}
	}
	defer r.lease.exit()
	return x.r.ClientAddr()
}

// Scheme returns "https" or "http", whichever the client has used: as the outermost
// trusted proxy says in Forwarded or X-Forwarded-Proto, or in front of the connection
// (Server.ProxyProtocol), or as the connection is.
func (r *Request) Scheme() string {
	x := r.lease.use()
	if x == nil {
		return ""
	}
	defer r.lease.exit()
	return x.r.Scheme()
}

// ClientHost returns the host that the client has asked for, with its port if it
// has named one: as the outermost trusted proxy says in Forwarded or
// X-Forwarded-Host, or as Host. A Mux routes by Host.
func (r *Request) ClientHost() string {
	x := r.lease.use()
	if x == nil {
		return ""
	}
	defer r.lease.exit()
	return x.r.ClientHost()
}

// RequestID returns what middleware has named the request, "" without one.
func (r *Request) RequestID() string {
	x := r.lease.use()
	if x == nil {
		return ""
	}
	defer r.lease.exit()
	return x.r.id
}

// spareHandler notes that middleware answers r, so that the predictor does not take
// the handler for a quick one, which it would call on the loop as soon as one comes
// through: whoever is refused again and again could have slow handlers hold loops up.
func (r *Request) spareHandler() {
	if x := r.lease.enter(); x != nil {
		x.spared = true
		r.lease.exit()
	}
}

// TLS returns the state of the TLS connection, nil without TLS.
func (r *Request) TLS() *tls.ConnectionState {
	x := r.lease.use()
	if x == nil {
		return nil
	}
	defer r.lease.exit()
	return x.r.TLS()
}

// URL returns the target parsed, in a new value.
func (r *Request) URL() *url.URL {
	x := r.lease.use()
	if x == nil {
		return new(url.URL)
	}
	defer r.lease.exit()
	return x.r.URL()
}

// Query returns the parsed query. Parts that do not parse are left out.
func (r *Request) Query() url.Values {
	x := r.lease.use()
	if x == nil {
		return nil
	}
	defer r.lease.exit()
	return x.r.Query()
}

// PathValue returns what the pattern's wildcard of that name matched,
// percent-decoded, or "".
func (r *Request) PathValue(name string) string {
	x := r.lease.use()
	if x == nil {
		return ""
	}
	defer r.lease.exit()
	return x.r.PathValue(name)
}

// Body returns the body. Read waits for the client where it has to. It is never
// nil, and closing it is not needed. A body over the limit, too slow or cut short
// is a *StatusError that a handler may just return. Any goroutine may read and
// close it; a read fails, and one that waits is broken off, when the body is closed
// and when the handler returns. That error is http.ErrBodyReadAfterClose.
func (r *Request) Body() io.ReadCloser {
	return (*bodyReader)(r)
}

// Bytes reads the rest of the body into a slice of its own, bounded by the
// server's MaxBodyBytes. What it has read it returns again when it is called
// again, in the same slice; JSON, Form and Multipart read by it, too.
func (r *Request) Bytes() ([]byte, error) {
	x := r.lease.enterBody()
	if x == nil {
		return nil, errBodyDone
	}
	defer r.lease.exit()
	return x.r.Bytes()
}

// JSON decodes the body, which must be one JSON value, into v, whatever its type
// is said to be. A body that is not is a *StatusError with status 400.
func (r *Request) JSON(v any) error {
	x := r.lease.enterBody()
	if x == nil {
		return errBodyDone
	}
	defer r.lease.exit()
	return x.r.JSON(v)
}

// Trailer returns the fields that came behind a chunked body, once Body has
// been read to its end. Fields that frame, route or authenticate are dropped
// (RFC 9110 §6.5.1).
func (r *Request) Trailer() *Header {
	return &Header{in: (*requestTrailer)(r.lease)}
}

// SetValue keeps a value with the request, for handlers further in: Value finds
// it, and Value of every context that Context returns from then on. Keys are
// compared with ==; use a type of your own.
func (r *Request) SetValue(key, value any) {
	x := r.lease.use()
	if x == nil {
		return
	}
	defer r.lease.exit()
	x.r.SetValue(key, value)
}

// Value returns what SetValue kept under key, or what the context has.
func (r *Request) Value(key any) any {
	x := r.lease.use()
	if x == nil {
		return nil
	}
	defer r.lease.exit()
	return x.r.Value(key)
}

// Clone returns a copy of the request that stays valid after the handler has
// returned. Its body is empty and its context is not cancelled with the
// original's.
func (r *Request) Clone() *Request {
	x := r.lease.use()
	if x == nil {
		return new(Request)
	}
	defer r.lease.exit()
	return x.r.Clone()
}

// Context returns a context that ends when the client closes or resets the
// connection, when the server closes, and when the handler returns. While a
// handler runs on the loop itself, the end of the connection is seen at the
// latest when the handler waits. Its values are those of SetValue, and behind
// them those of a context that was set, or of Server.ConnContext and BaseContext,
// with whose context it ends too.
// context.Cause says why it has ended: it is ErrServerClosed when the server
// closes, and an error that is ErrClosed when the client has left.
func (r *Request) Context() context.Context {
	x := r.lease.use()
	if x == nil {
		return endedContext
	}
	defer r.lease.exit()
	return x.r.Context()
}

// Draining returns a channel that is closed when the server's Shutdown begins, or
// Close. Shutdown waits for handlers, and Context does not end for it but for an event
// stream: a handler that only waits for news, as a long poll does, answers then that
// there are none.
func (r *Request) Draining() <-chan struct{} {
	x := r.lease.use()
	if x == nil {
		return endedContext.Done()
	}
	defer r.lease.exit()
	return x.srv.onEnd.context().Done()
}

// SetContext replaces the context that Context returns, the values of SetValue
// apart. A middleware derives ctx from r.Context().
func (r *Request) SetContext(ctx context.Context) {
	x := r.lease.use()
	if x == nil {
		return
	}
	defer r.lease.exit()
	x.r.SetContext(ctx)
}

// Cookie returns the value of the first cookie of that name (names are
// case-sensitive), as it was sent, and whether there was one. It allocates
// nothing but the text of the head, once for a request that asks for any of
// it.
func (r *Request) Cookie(name string) (value string, ok bool) {
	x := r.lease.use()
	if x == nil {
		return "", false
	}
	defer r.lease.exit()
	return x.r.Cookie(name)
}

// Cookies yields name and value of all cookies, in the order in which they
// were sent: those with the longer path first, if the client keeps to RFC
// 6265bis.
func (r *Request) Cookies() iter.Seq2[string, string] {
	return func(yield func(name, value string) bool) { eachCookie(r.Header(), yield) }
}

func eachCookie(h *Header, yield func(name, value string) bool) {
	for name, field := range h.All() {
		if !equalFoldASCII(name, "Cookie") {
			continue
		}
		for name, value := range ParseCookies(field) {
			if !yield(name, value) {
				return
			}
		}
	}
}
