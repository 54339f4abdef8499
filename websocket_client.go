package flare

import (
	"bytes"
	"context"
	"crypto/tls"
	"errors"
	"io"
	"net"
	"net/http"
	"net/url"
	"slices"
	"time"
)

// This file is layer 4 (roles): the client's side of the opening handshake
// (RFC 6455 §4.1), over a blocking net.Conn that websocket_dial.go makes.

// WebSocketDialOptions are what DialWebSocket can be told.
type WebSocketDialOptions struct {
	WebSocketOptions

	// Header has fields to send with the handshake, such as Authorization,
	// Cookie or Origin.
	Header Header

	// Client lends what it has for requests: how it connects (Proxy, through
	// CONNECT; Dial, Resolver, what it says about TLS), Auth, which answers a
	// 401, and Jar. Where it has a connection to the server that speaks HTTP/2 and
	// takes WebSockets (RFC 8441), that is shared. nil: a direct connection, without
	// any of it.
	Client *Client

	// TLSConfig is for wss, in place of the Client's. nil is the default;
	// ServerName is filled in.
	TLSConfig *tls.Config

	// NetDial connects, in place of the Client's ways; nil is a net.Dialer's
	// DialContext.
	NetDial func(ctx context.Context, network, addr string) (net.Conn, error)

	// HandshakeTimeout bounds the dial, TLS and the handshake together;
	// default 10 s, negative none.
	HandshakeTimeout time.Duration
}

const (
	refusalBytesMax = 4 << 10

	// refusalTime is what the body of a refusal gets to come: usually it is in
	// the packet of its head.
	refusalTime = time.Second
)

var handshakeLimits = headLimits{headerBytes: 16 << 10, headers: 100}

var (
	errWebSocketURL    = errors.New("flare: a WebSocket URL is ws:// or wss://, with a host, without a fragment or user")
	errHandshakeHeader = errors.New("flare: a field of the handshake is not the caller's to set")
)

// DialWebSocket connects to a ws:// or wss:// URL. The response is not nil when
// the server has answered, also with an error; of a refusal its Body has the
// first 4 KiB, what of them came in a second, and needs no Close. An answer that is no handshake is a
// ErrMalformed. opts may be nil. ctx bounds the dial and the handshake, not
// what follows.
func DialWebSocket(ctx context.Context, rawURL string, opts *WebSocketDialOptions) (*WebSocket, *ClientResponse, error) {
	if opts == nil {
		opts = new(WebSocketDialOptions)
	}
	d := webSocketDial{opts: opts}
	if err := d.prepare(rawURL); err != nil {
		return nil, nil, err
	}
	if limit := limitOr(opts.HandshakeTimeout, defaultHandshakeTimeout); limit > 0 {
		var cancel context.CancelFunc
		ctx, cancel = context.WithTimeout(ctx, limit)
		defer cancel()
	}
	for attempt := 0; ; attempt++ {
		ws, resp, err := d.attempt(ctx)
		if resp == nil || d.creds == nil {
			return ws, resp, err
		}
		x := clientCall{auth: d.auth, bodyDropped: true}
		again, credsErr := challenged(ctx, d.creds, resp, &x, attempt)
		if credsErr != nil && ws != nil { // the server has shown not to know the secret
			ws.blocking().finish(ErrClosed, false)
			ws = nil
		}
		if credsErr != nil {
			return nil, resp, credsErr
		}
		if ws != nil || !again {
			return ws, resp, err
		}
	}
}

// A webSocketDial is one call of DialWebSocket.
type webSocketDial struct {
	opts   *WebSocketDialOptions
	target clientTarget
	jar    *Jar        // nil: no cookies
	creds  Credentials // nil: none
	auth   string      // value of Authorization, "" for none
}

// prepare checks what the caller gave, before anything is sent.
func (d *webSocketDial) prepare(rawURL string) (err error) {
	o := d.opts
	if d.target, err = websocketTarget(rawURL); err != nil {
		return err
	}
	for _, name := range append([]string{"Host", fieldWSKey}, ownHandshakeFields...) {
		if o.Header.has(name) {
			return errHandshakeHeader
		}
	}
	for i, s := range o.Subprotocols {
		if !isToken(s) || slices.Contains(o.Subprotocols[:i], s) { // RFC 6455 §4.1
			return errHandshakeHeader
		}
	}
	if err := o.Header.fault(); err != nil {
		return err
	}
	if c := o.Client; c != nil {
		if c.once.Do(c.prepare); c.initErr != nil {
			return c.initErr
		}
		d.jar = c.Jar
		if !o.Header.has("Authorization") {
			d.creds = c.Auth
		}
	}
	return nil
}

// websocketTarget checks a URL (RFC 6455 §3) as the client checks others.
func websocketTarget(raw string) (clientTarget, error) {
	u, err := url.Parse(raw)
	if err != nil {
		return clientTarget{}, errWebSocketURL // the parser's repeats the URL, which may hold secrets
	}
	switch {
	case u.User != nil || u.Fragment != "" || u.Opaque != "":
		return clientTarget{}, errWebSocketURL
	case u.Scheme == "ws":
		u.Scheme = "http"
	case u.Scheme == "wss":
		u.Scheme = "https"
	default:
		return clientTarget{}, errWebSocketURL
	}
	return targetOf(u, PhaseRequest)
}

// attempt connects and shakes hands once.
func (d *webSocketDial) attempt(ctx context.Context) (*WebSocket, *ClientResponse, error) {
	key := newWebSocketKey()
	fields, err := d.handshake(ctx, key)
	if err != nil {
		return nil, nil, err
	}
	if st := d.stream(); st != nil {
		ws, resp, err := d.attemptStream(ctx, st, fields)
		if !errors.Is(err, errStale) && !errors.Is(err, errUnprocessed) {
			return ws, resp, err
		}
	}
	request := append([]byte("GET "+d.target.path+" HTTP/1.1\r\n"), fields.appendTo(nil)...)
	request = append(request, '\r', '\n')
	nc, err := d.connect(ctx)
	if err != nil {
		return nil, nil, err
	}
	stop := context.AfterFunc(ctx, func() { withoutAlert(nc).Close() })
	ws, resp, err := d.shakeHands(ctx, nc, request, key)
	if !stop() && err == nil {
		err = ctx.Err()
	}
	if resp != nil && d.jar != nil {
		d.jar.SetFromHeader(d.target.url(), &resp.Header)
	}
	if err != nil {
		nc.Close()
		if ctx.Err() != nil && resp == nil { // an answer that has come says more
			err = ctx.Err()
		}
		return nil, resp, err
	}
	return ws, resp, nil
}

// handshake returns the fields of the request.
func (d *webSocketDial) handshake(ctx context.Context, key string) (*headerFields, error) {
	o := d.opts
	h := newHeaderFields()
	h.Set("Host", d.target.authority)
	h.Set("Upgrade", "websocket")
	h.Set("Connection", "Upgrade")
	h.Set(fieldWSKey, key)
	h.Set(fieldWSVersion, websocketVersion)
	for _, s := range o.Subprotocols {
		h.Add(fieldWSProtocol, s)
	}
	if o.Compression != CompressionOff {
		h.Set(fieldWSExtensions, string(offerDeflate(o.Compression, o.mayTakeOver()).append(nil)))
	}
	if d.jar != nil && !o.Header.has("Cookie") {
		if cookies := d.jar.CookieHeader(d.target.url()); cookies != "" {
			h.Set("Cookie", cookies)
		}
	}
	if d.creds != nil {
		auth, err := d.creds.Authorization(ctx, &AuthRequest{Method: http.MethodGet, Target: d.target.path})
		if err != nil {
			return nil, err
		}
		if d.auth = auth; auth != "" {
			h.Set("Authorization", auth)
		}
	}
	if err := h.fault(); err != nil {
		return nil, err
	}
	h.list = append(h.list, o.Header.snapshot().list...)
	return h, nil
}

// shakeHands sends the request and judges the answer. Bytes behind the answer
// are frames.
func (d *webSocketDial) shakeHands(ctx context.Context, nc net.Conn, request []byte, key string) (*WebSocket, *ClientResponse, error) {
	if _, err := nc.Write(request); err != nil {
		return nil, nil, err
	}
	conn := newClientConn(nc, clientRoute{origin: d.target.origin()}, d.target.hostPort())
	defer conn.releaseInput()
	deadline, _ := ctx.Deadline()
	conn.readBy(deadline)
	n, err := readFinalHead(conn, new(int), &handshakeLimits, nil)
	if err == io.EOF {
		err = io.ErrUnexpectedEOF
	}
	if err != nil {
		return nil, nil, err
	}
	head := &conn.head
	resp := d.response(stateOf(nc), head, conn.unread()[:n])
	conn.consume(n)
	hs, err := verifyHandshake(head.status, head.websocket && head.connUpgrade, resp.Header.snapshot(), key, d.opts)
	if err != nil {
		if head.status != http.StatusSwitchingProtocols {
			conn.chunks.reset(&handshakeLimits)
			conn.chunks.fields.response = true
			refusalBody(ctx, conn, resp)
		}
		return nil, resp, err
	}
	if err := nc.SetDeadline(time.Time{}); err != nil {
		return nil, resp, err
	}
	b := newBlockingSocket(nc, newWebSocketProfile(&hs, &d.opts.WebSocketOptions, true), bytes.Clone(conn.unread()), nil)
	return &b.ws, resp, nil
}

// response makes what the caller sees of an answer with the given head.
func (d *webSocketDial) response(state *tls.ConnectionState, head *responseHead, text []byte) *ClientResponse {
	resp := &ClientResponse{StatusCode: head.status, Body: http.NoBody, method: http.MethodGet, major: 1, minor: head.minor, text: d.target.text, origin: d.target.origin(), tls: state}
	resp.Header.in = &resp.own
	resp.own.fill(string(text), head.fields)
	resp.reason = string(head.reason.of(text))
	resp.body.bufferedMax = refusalBytesMax
	return resp
}

// stateOf returns the state of a connection in TLS, nil without.
func stateOf(nc net.Conn) *tls.ConnectionState {
	tc, ok := nc.(*tls.Conn)
	if !ok {
		return nil
	}
	state := tc.ConnectionState()
	return &state
}

// refusalBody reads the front of what a server says about its refusal, however
// the end of that is found, as far as it comes in refusalTime, and makes it the
// response's. It is an extra: the refusal is one without it.
func refusalBody(ctx context.Context, conn clientCarrier, resp *ClientResponse) {
	var body []byte
	defer func() {
		resp.Body, resp.ContentLength = io.NopCloser(bytes.NewReader(body)), int64(len(body))
	}()
	kind, length := conn.framing(http.MethodGet)
	if kind == bodyNone {
		return
	}
	by := time.Now().Add(refusalTime)
	if deadline, ok := ctx.Deadline(); ok && deadline.Before(by) {
		by = deadline
	}
	b := &clientBody{resp: resp, client: new(Client), conn: conn, kind: kind, remaining: length, length: length, max: -1, ctx: ctx, by: by}
	body = make([]byte, refusalBytesMax)
	n, _ := io.ReadFull(b, body)
	body = body[:n]
}
