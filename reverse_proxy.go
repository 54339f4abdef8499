package flare

import (
	"context"
	"crypto/rand"
	"errors"
	"io"
	"net/http"
	"net/http/httptrace"
	"net/textproto"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"time"
)

// This file is layer 5 (surface): ReverseProxy, which answers requests with what other
// servers make of them: its configuration, and a request's way there and back.
// reverse_proxy_fields.go has the fields, reverse_proxy_upstream.go chooses servers and
// knows how they are, reverse_proxy_tunnel.go is for what leaves HTTP.

// ReverseProxy is a Handler that passes requests on to other servers, and their answers
// back, as they come, both ways at once if need be:
//
//	mux.Mount("/api", &flare.ReverseProxy{Upstreams: []string{"http://10.0.0.7:8080", "http://10.0.0.8:8080"}})
//
// Path, query and Host stay as the client has sent them. Fields that are for one
// connection alone (RFC 9110 §7.6.1) are taken out of requests and answers.
// X-Forwarded-For, -Host, -Proto and Forwarded tell the server who has asked; what a
// client says there counts if it is one of Server.TrustedProxies, and goes no further
// otherwise. 1xx answers and trailers are passed on. An upgrade, such as a WebSocket's,
// makes the connection a tunnel, also for clients that ask by HTTP/2 (RFC 8441); the
// server is asked by HTTP/1.1. Tunnels and event streams end when Shutdown begins.
//
// A request is sent to another server, three at most, if nothing of it was sent, or if
// its method is idempotent, its body is none or was there already, and the connection
// ended without an answer. Else the answer is 502, for one that is late 504, and 503 if
// there is no server that is well. A path with segments of dots is answered with 400, and
// a request that has been here before with 508 (Via).
//
// The zero value serves nothing. Fields must not be changed once it is in use.
type ReverseProxy struct {
	// Upstreams are the servers: http and https URLs. The path of one stands before
	// that of a request.
	Upstreams []string

	// Client has the connections, with its timeouts, limits, TLS, versions of HTTP,
	// Proxy and Wrap, which is around each attempt. Its BaseURL, Header, Auth and Jar
	// are left out, and redirects are answers as others. nil is one that asks no proxy,
	// waits 5 minutes for more of a body, and keeps no connection beyond the Server's end.
	Client *Client

	// Rewrite, when set, changes a request that is about to be sent. out.URL is its
	// path and query, in front of which the server's URL is put. An error is answered as
	// a handler's.
	Rewrite func(in *Request, out *ClientRequest) error

	// ModifyResponse, when set, changes an answer, other than to an upgrade, before any
	// of it is passed on. Of an error it becomes a 502, a *StatusError apart.
	ModifyResponse func(*ClientResponse) error

	// LeastConns sends a request to the server that has the fewest of this
	// ReverseProxy's under way; else they take turns.
	LeastConns bool

	// FailTimeout is for how long a server is left out that could not be reached, or
	// has given no answer three times in a row, as long as there are others; default
	// 10 s, negative: never.
	FailTimeout time.Duration

	// HealthPath is asked of each server from the first request on until the Server's
	// end, every HealthInterval, which is 10 s by default. One that has not answered with
	// 2xx or 3xx twice in a row, within 5 s, is asked for nothing else until it does.
	HealthPath     string
	HealthInterval time.Duration

	// TunnelTimeout ends a tunnel through which nothing has come for so long; default 1
	// hour, negative: never.
	TunnelTimeout time.Duration

	once      sync.Once
	fault     error // of the configuration
	client    *Client
	do        Doer
	name      string // by which Via knows it
	upstreams proxyUpstreams
	resting   atomic.Bool // connections of its own Client are closed when a Server has ended
}

const (
	proxyBodyTimeout   = 5 * time.Minute // of its own Client
	proxyTunnelTimeout = time.Hour

	// proxyAttemptsMax bounds the servers that a request is sent to.
	proxyAttemptsMax = 3

	// proxyBodyKept is how much of a body that has come is held in memory, so that it
	// can be sent with its head, and again.
	proxyBodyKept = 64 << 10
)

// pinned keeps it off the loops: it waits for each answer.
func (p *ReverseProxy) pinned() pin { return pinOffload }

// prepare reads the configuration.
func (p *ReverseProxy) prepare() {
	p.name = "flare-" + rand.Text()[:8]
	if p.client = p.Client; p.client == nil {
		p.client = &Client{
			Proxy:       func(*url.URL) (*url.URL, error) { return nil, nil },
			BodyTimeout: proxyBodyTimeout,
		}
	}
	p.upstreams.leastConns, p.upstreams.failTimeout = p.LeastConns, limitOr(p.FailTimeout, proxyFailTimeout)
	p.do = p.send
	for _, wrap := range slices.Backward(p.client.Wrap) {
		p.do = wrap(p.do)
	}
	if len(p.Upstreams) == 0 {
		p.fault = errors.New("flare: ReverseProxy without Upstreams")
	}
	for _, base := range p.Upstreams {
		if _, err := parseTarget(base, PhaseRequest); err != nil || strings.ContainsAny(base, "?#") {
			p.fault = errors.New("flare: an entry of ReverseProxy.Upstreams is no http or https URL of a server")
		}
		p.upstreams.list = append(p.upstreams.list, &proxyUpstream{base: strings.TrimSuffix(base, "/")})
	}
}

// send is what Client.Wrap is around: one exchange.
func (p *ReverseProxy) send(ctx context.Context, r *ClientRequest) (*ClientResponse, error) {
	c := p.client
	if c.once.Do(c.prepare); c.initErr != nil {
		return nil, c.initErr
	}
	if err := r.check(); err != nil {
		return nil, err
	}
	target, err := parseTarget(r.URL, PhaseRequest)
	if err != nil {
		return nil, err
	}
	target.user = nil
	x := clientCalls.Get().(*clientCall)
	defer x.release()
	x.req, x.method, x.target = r, r.method(), target
	if c.cfg.timeout > 0 {
		x.by = time.Now().Add(c.cfg.timeout)
	}
	return c.roundTrip(ctx, x)
}

// Check is nil as long as some server is well. It is a check of HealthHandler.
func (p *ReverseProxy) Check(context.Context) error {
	if p.once.Do(p.prepare); p.fault != nil {
		return p.fault
	}
	return p.upstreams.check()
}

// A proxyExchange is a request on its way.
type proxyExchange struct {
	p      *ReverseProxy
	w      *ResponseWriter
	r      *Request
	x      *exchange // of both, which the handler's goroutine is inside of
	out    ClientRequest
	target string // path and query
	tunnel proxyUpgrade
}

// Serve passes the request on, and the answer back.
func (p *ReverseProxy) Serve(w *ResponseWriter, r *Request) error {
	if p.once.Do(p.prepare); p.fault != nil {
		return p.fault
	}
	x := w.lease.enterBody()
	if x == nil {
		return errWriterDone
	}
	defer w.lease.exit()
	if last, err := isForHere(&x.r); last || err != nil {
		return err // of none 200, and empty
	}
	p.endWith(x.srv)
	e := &proxyExchange{p: p, w: w, r: r, x: x}
	if err := e.prepare(); err != nil {
		return err
	}
	defer e.tunnel.end()
	up, resp, err := e.exchange()
	if err != nil {
		return proxyError(err)
	}
	defer up.active.Add(-1)
	defer resp.Body.Close()
	if e.tunnel.protocol != "" && (resp.StatusCode == http.StatusSwitchingProtocols || e.tunnel.stream && resp.OK()) {
		return e.tunnel.switchProtocols(x, resp, limitOr(p.TunnelTimeout, proxyTunnelTimeout))
	}
	return e.respond(resp)
}

// endWith begins what ends with the Server: probes, and connections that rest.
func (p *ReverseProxy) endWith(srv *Server) {
	if up := &p.upstreams; p.HealthPath != "" && !up.probing.Load() && up.probing.CompareAndSwap(false, true) {
		go up.probe(srv.onEnd.context(), p.do, p.HealthPath, limitOr(max(p.HealthInterval, 0), proxyHealthInterval))
	}
	if p.Client == nil && !p.resting.Load() && p.resting.CompareAndSwap(false, true) {
		context.AfterFunc(srv.onEnd.context(), func() {
			<-srv.done // until then connections come to rest
			p.resting.Store(false)
			p.client.CloseIdleConnections()
		})
	}
}

// prepare makes the request that is to be sent.
func (e *proxyExchange) prepare() error {
	r, out := &e.x.r, &e.out
	target, err := proxyTarget(r)
	if err != nil {
		return err
	}
	out.Method, out.URL, out.KeepEncoded = r.Method(), target, true
	if err := e.setFields(); err != nil {
		return err
	}
	if err := e.setBody(); err != nil {
		return err
	}
	if e.p.Rewrite != nil {
		if err := e.p.Rewrite(e.r, out); err != nil {
			return err
		}
	}
	if e.target = out.URL; !strings.HasPrefix(e.target, "/") {
		e.target = "/" + e.target
	}
	return nil
}

// proxyTarget returns path and query of a request as they were sent. A path that leads
// elsewhere than it seems to would get past the pattern that it was let through by.
func proxyTarget(r *serverRequest) (string, error) {
	target := r.Target()
	if r.methodView() == http.MethodConnect {
		return "", &StatusError{Code: http.StatusNotImplemented}
	}
	if r.head.form == absoluteForm {
		_, target, _ = strings.Cut(target, "://")
		if at := strings.IndexAny(target, "/?"); at < 0 {
			target = "/"
		} else if target = target[at:]; target[0] == '?' {
			target = "/" + target
		}
	}
	for segment := range strings.SplitSeq(r.Path(), "/") {
		if segment == "." || segment == ".." {
			return "", &StatusError{Code: http.StatusBadRequest, Message: "the path has segments of dots"}
		}
	}
	return target, nil
}

// setFields gives the request that is sent its fields.
func (e *proxyExchange) setFields() error {
	r := &e.x.r
	in := r.Header()
	dropped, trusted := isOwnField, r.trust().trusts(r.RemoteAddr().Addr())
	if !trusted {
		dropped = func(name string) bool { return isOwnField(name) || saysWhoAsks(name) }
	}
	h := endToEnd(in, dropped)
	e.tunnel.ask(e.x, in, h)
	for _, list := range in.Values("TE") {
		if listContains(list, "trailers") {
			h.Set("TE", "trailers")
		}
	}
	if host := r.Host(); host != "" {
		h.Set("Host", host)
	}
	if !h.has("User-Agent") {
		h.Set("User-Agent", "") // none
	}
	if left, _ := forwardsLeft(r); left > 0 && h.has("Max-Forwards") {
		h.Set("Max-Forwards", strconv.Itoa(left-1))
	}
	if id := r.id; id != "" {
		h.Set(requestIDField, id)
	}
	if err := passVia(e.p.name, r, h); err != nil {
		return err
	}
	setForwarded(r, in, h, trusted)
	e.out.Header.in = h
	return h.fault()
}

// setBody makes the request's body that of what is sent. One that has come whole, and is
// small, is read now.
func (e *proxyExchange) setBody() error {
	r, out := &e.x.r, &e.out
	length := r.ContentLength()
	if length == 0 {
		return nil
	}
	if n := e.x.stream.arrived(); n >= 0 && n <= proxyBodyKept && !out.Header.has("Expect") {
		body, err := io.ReadAll(&r.body)
		if err != nil {
			return err
		}
		if r.body.trailer.Len() > 0 {
			out.Trailer = e.setTrailer
		}
		return out.SetBody(body)
	}
	if out.Body, out.ContentLength = e.r.Body(), max(length, 0); length < 0 {
		out.Trailer = e.setTrailer
	}
	return nil
}

// setTrailer has the fields that came behind the request's body. It is called by whoever
// sends, who may be late.
func (e *proxyExchange) setTrailer(h *Header) {
	x := e.r.lease.enterBody()
	if x == nil {
		return
	}
	defer e.r.lease.exit()
	named := x.r.Header().Values("Connection")
	for name, value := range x.r.body.trailer.All() {
		if !isHopOf(named, name) {
			h.Add(name, value)
		}
	}
}

// exchange sends the request, to one server after the other if need be, and returns the
// answer of the one that has given it, which counts as busy.
func (e *proxyExchange) exchange() (*proxyUpstream, *ClientResponse, error) {
	ctx := e.r.Context()
	if e.tunnel.protocol != "" {
		ctx = e.tunnel.context(ctx)
	}
	ctx = httptrace.WithClientTrace(ctx, &httptrace.ClientTrace{Got1xxResponse: e.interim})
	var tried []*proxyUpstream
	var failed error
	for len(tried) < proxyAttemptsMax {
		up := e.p.upstreams.choose(tried)
		if up == nil {
			break
		}
		tried = append(tried, up)
		e.out.URL = up.base + e.target
		up.active.Add(1)
		resp, err := e.p.do(ctx, &e.out)
		if err == nil {
			up.failures.Store(0)
			return up, resp, nil
		}
		up.active.Add(-1)
		failed = err
		if ctx.Err() != nil || !isUpstreamFault(err) {
			break
		}
		if up.failed(err, e.p.upstreams.failTimeout); !e.mayRetry(err) {
			break
		}
	}
	if failed == nil {
		failed = errNoUpstream
	}
	return nil, nil, failed
}

// mayRetry reports whether a request that has failed may be sent to another server.
func (e *proxyExchange) mayRetry(err error) bool {
	if isUnsent(err) {
		return e.out.rewindable()
	}
	return isIdempotent(e.out.Method) && e.out.rewindable() && (errors.Is(err, ErrReset) || errors.Is(err, ErrUnexpectedEOF))
}

// proxyError is what is answered in place of what did not come. What the client itself
// has done wrong, or that it has left, stays that.
func proxyError(err error) error {
	var status *StatusError
	switch {
	case errors.As(err, &status):
		return status
	case errors.Is(err, context.Canceled):
		return err
	case errors.Is(err, ErrTimeout), errors.Is(err, context.DeadlineExceeded):
		return &StatusError{Code: http.StatusGatewayTimeout, Err: err}
	}
	return &StatusError{Code: http.StatusBadGateway, Err: err}
}

// interim passes a 1xx answer on. A 100 is for who reads the body.
func (e *proxyExchange) interim(code int, fields textproto.MIMEHeader) error {
	if code == http.StatusContinue {
		return nil
	}
	h := newHeaderFields()
	addHTTPFields(&Header{in: h}, http.Header(fields))
	return e.x.w.Informational(code, &Header{in: endToEnd(h, nil)})
}

// respond passes an answer on.
func (e *proxyExchange) respond(resp *ClientResponse) error {
	if modify := e.p.ModifyResponse; modify != nil {
		if err := modify(resp); err != nil {
			return proxyError(err)
		}
	}
	w := &e.x.w
	fields := resp.Header.snapshot()
	addAnswerFields(&w.header, fields)
	if n := resp.ContentLength; resp.StatusCode == http.StatusNotModified {
		if length := fields.Get("Content-Length"); length != "" {
			w.header.Set("Content-Length", length)
		}
	} else if n >= 0 {
		setContentLength(&w.header, n)
	}
	w.WriteHeader(resp.StatusCode)
	if u := resp.body.upload; u != nil && u.endedAt.Load() == 0 && resp.StatusCode < 400 {
		e.x.stream.readsOn()
	}
	events := hasPrefixFold(resp.Header.Get("Content-Type"), "text/event-stream")
	if events {
		e.x.stream.context()
		e.x.strand.endWith(e.x.srv.onEnd.context(), ErrServerClosed)
	}
	err := e.copyBody(resp)
	if err != nil && events && errors.Is(context.Cause(e.r.Context()), ErrServerClosed) {
		return nil
	}
	if err == nil {
		named := fields.Values("Connection")
		for name, value := range resp.Trailer().All() {
			if !isHopOf(named, name) {
				w.Trailer().Add(name, value)
			}
		}
	}
	return err
}

// copyBody passes a body on, what has come of it at once.
func (e *proxyExchange) copyBody(resp *ClientResponse) error {
	if resp.Body == io.ReadCloser(&resp.body) {
		if resp.body.kind == bodyNone {
			return nil
		}
		if p, ok := resp.body.takeMemory(); ok {
			_, err := e.w.Write(p)
			return err
		}
	}
	if err := e.w.Flush(); err != nil {
		return err
	}
	b := getBuffer(streamBytes)
	defer b.release()
	p := b.b[:cap(b.b)]
	for {
		n, err := resp.Body.Read(p)
		if n > 0 {
			if _, err := e.w.Write(p[:n]); err != nil {
				return err
			}
			if err == nil {
				err = e.w.Flush()
			}
		}
		if err == io.EOF {
			return nil
		}
		if err != nil {
			return err
		}
	}
}
