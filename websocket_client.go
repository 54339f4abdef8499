package flare

import (
	"context"
	"crypto/tls"
	"errors"
	"io"
	"net"
	"net/http"
	"net/url"
	"time"
)

// This file is layer 4 (roles): the client's side of the opening handshake
// (RFC 6455 §4.1), over a blocking net.Conn.

// DialOptions configure DialWebSocket.
type DialOptions struct {
	WebSocketOptions

	// Header has fields to send with the handshake, such as Authorization,
	// Cookie or Origin.
	Header Header

	// TLSConfig is for wss. nil is the default; ServerName is filled in.
	TLSConfig *tls.Config

	// NetDial connects; nil is a net.Dialer's DialContext.
	NetDial func(ctx context.Context, network, addr string) (net.Conn, error)

	// HandshakeTimeout bounds the dial, TLS and the handshake together;
	// default 10 s, negative none.
	HandshakeTimeout time.Duration
}

// A WebSocketResponse is the server's answer to a handshake.
type WebSocketResponse struct {
	StatusCode int
	Header     Header
	Body       []byte // of a refusal, its first 4 KiB at most
}

const (
	defaultHandshakeTimeout = 10 * time.Second
	refusalBytesMax         = 4 << 10
)

var handshakeLimits = headLimits{headerBytes: 16 << 10, headers: 100}

var (
	errWebSocketURL    = errors.New("flare: a WebSocket URL is ws:// or wss://, with a host, without a fragment or user")
	errHandshakeHeader = errors.New("flare: a field of the handshake is not the caller's to set")
)

// DialWebSocket connects to a ws:// or wss:// URL. The response is not nil when
// the server has answered, also with an error. opts may be nil. ctx bounds the
// dial and the handshake, not what follows.
func DialWebSocket(ctx context.Context, rawURL string, opts *DialOptions) (*WebSocket, *WebSocketResponse, error) {
	if opts == nil {
		opts = new(DialOptions)
	}
	u, addr, err := websocketURL(rawURL)
	if err != nil {
		return nil, nil, err
	}
	key := newWebSocketKey()
	request, err := appendHandshake(nil, u, key, opts)
	if err != nil {
		return nil, nil, err
	}
	if limit := limitOr(opts.HandshakeTimeout, defaultHandshakeTimeout); limit > 0 {
		var cancel context.CancelFunc
		ctx, cancel = context.WithTimeout(ctx, limit)
		defer cancel()
	}
	nc, err := dialWebSocketConn(ctx, u, addr, opts)
	if err != nil {
		return nil, nil, err
	}
	stop := context.AfterFunc(ctx, func() { nc.SetDeadline(time.Unix(1, 0)) })
	ws, resp, err := shakeHands(nc, request, key, opts)
	if !stop() && err == nil {
		err = ctx.Err()
	}
	if err != nil {
		nc.Close()
		if ctx.Err() != nil {
			err = ctx.Err()
		}
		return nil, resp, err
	}
	return ws, resp, nil
}

// websocketURL checks a URL (RFC 6455 §3) and returns the address to dial.
func websocketURL(raw string) (u *url.URL, addr string, err error) {
	u, err = url.Parse(raw)
	if err != nil {
		return nil, "", errWebSocketURL // the parser's repeats the URL, which may hold secrets
	}
	port := u.Port()
	switch {
	case u.Hostname() == "" || u.User != nil || u.Fragment != "" || !isFieldValue(u.Host):
		return nil, "", errWebSocketURL
	case u.Scheme == "ws" && port == "":
		port = "80"
	case u.Scheme == "wss" && port == "":
		port = "443"
	case u.Scheme != "ws" && u.Scheme != "wss":
		return nil, "", errWebSocketURL
	}
	return u, net.JoinHostPort(u.Hostname(), port), nil
}

// appendHandshake appends the request.
func appendHandshake(b []byte, u *url.URL, key string, o *DialOptions) ([]byte, error) {
	for _, name := range append([]string{"Host", fieldWSKey}, ownHandshakeFields...) {
		if o.Header.index(name) >= 0 {
			return nil, errHandshakeHeader
		}
	}
	if err := o.Header.fault(); err != nil {
		return nil, err
	}
	var h Header
	h.Set("Host", u.Host)
	h.Set("Upgrade", "websocket")
	h.Set("Connection", "Upgrade")
	h.Set(fieldWSKey, key)
	h.Set(fieldWSVersion, websocketVersion)
	for _, s := range o.Subprotocols {
		if !isToken(s) {
			return nil, errHandshakeHeader
		}
		h.Add(fieldWSProtocol, s)
	}
	if o.Compression != CompressionOff {
		h.Set(fieldWSExtensions, string(offerDeflate(o.Compression).append(nil)))
	}
	if err := h.fault(); err != nil {
		return nil, err
	}
	target := u.RequestURI() // escaped: no blank, no control character
	b = append(b, "GET "+target+" HTTP/1.1\r\n"...)
	b = h.appendTo(b)
	b = o.Header.appendTo(b)
	return append(b, '\r', '\n'), nil
}

// dialWebSocketConn connects, with TLS for wss.
func dialWebSocketConn(ctx context.Context, u *url.URL, addr string, o *DialOptions) (net.Conn, error) {
	dial := o.NetDial
	if dial == nil {
		dial = new(net.Dialer).DialContext
	}
	nc, err := dial(ctx, "tcp", addr)
	if err != nil || u.Scheme == "ws" {
		return nc, err
	}
	config := o.TLSConfig.Clone()
	if config == nil {
		config = new(tls.Config)
	}
	if config.ServerName == "" {
		config.ServerName = u.Hostname()
	}
	config.NextProtos = []string{"http/1.1"}
	tc := tls.Client(nc, config)
	if err := tc.HandshakeContext(ctx); err != nil {
		nc.Close()
		return nil, err
	}
	return tc, nil
}

// shakeHands sends the request and judges the answer. Bytes behind the answer
// are frames.
func shakeHands(nc net.Conn, request []byte, key string, o *DialOptions) (*WebSocket, *WebSocketResponse, error) {
	if _, err := nc.Write(request); err != nil {
		return nil, nil, err
	}
	var head responseHead
	head.reset()
	buf, n := make([]byte, 0, 4<<10), 0
	for n == 0 {
		if len(buf) == cap(buf) {
			buf = append(buf, 0)[:len(buf)]
		}
		m, err := nc.Read(buf[len(buf):cap(buf)])
		buf = buf[:len(buf)+m]
		if m == 0 && err != nil {
			if err == io.EOF {
				err = io.ErrUnexpectedEOF
			}
			return nil, nil, err
		}
		if n, err = head.parse(buf, &handshakeLimits); err != nil {
			return nil, nil, err
		}
		if n != 0 && head.status < 200 && head.status != http.StatusSwitchingProtocols {
			buf = append(buf[:0], buf[n:]...) // RFC 9110 §15.2: others may come first
			head.reset()
			n, err = head.parse(buf, &handshakeLimits)
			if err != nil {
				return nil, nil, err
			}
		}
	}
	resp := &WebSocketResponse{StatusCode: head.status}
	resp.Header.fill(string(buf[:n]), head.fields)
	hs, err := verifyHandshake(head.status, head.websocket && head.connUpgrade, &resp.Header, key, o)
	if err != nil {
		if head.status != http.StatusSwitchingProtocols {
			resp.Body = refusalBody(nc, &head, buf[n:])
		}
		return nil, resp, err
	}
	ws := &WebSocket{client: true}
	newBlockingSocket(ws, nc, &hs, &o.WebSocketOptions, buf[n:], nil)
	return ws, resp, nil
}

// refusalBody reads what a server says about its refusal, where its length is
// known.
func refusalBody(nc net.Conn, head *responseHead, in []byte) []byte {
	kind, length := head.framing(http.MethodGet)
	if kind != bodyLength {
		return in[:0:0]
	}
	body := make([]byte, min(length, refusalBytesMax))
	n := copy(body, in)
	m, _ := io.ReadFull(nc, body[n:])
	return body[:n+m]
}
