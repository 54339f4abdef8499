package flare

import (
	"context"
	"crypto/tls"
	"net"
	"net/http"
	"time"
)

// This file is layer 4 (roles): the connection below a client's WebSocket:
// dialled, through a proxy's tunnel if need be, and encrypted. It is a plain
// net.Conn, or TLS over one, whose deadlines work while another goroutine
// reads. Or it is a stream of HTTP/2 (RFC 8441 §5), on a connection that the Client
// has already. websocket_client.go calls it.

// connect connects, within ctx.
func (d *webSocketDial) connect(ctx context.Context) (net.Conn, error) {
	nc, err := d.connectPlain(ctx)
	if err != nil || !d.target.https {
		return nc, err
	}
	config := d.opts.TLSConfig
	if c := d.opts.Client; c != nil && config == nil {
		config = c.cfg.tls
	}
	return websocketTLS(ctx, nc, config, d.target.host)
}

// connectPlain connects to the server, or to what leads there.
func (d *webSocketDial) connectPlain(ctx context.Context) (net.Conn, error) {
	o, c := d.opts, d.opts.Client
	if o.NetDial != nil {
		return o.NetDial(ctx, "tcp", d.target.hostPort())
	}
	if c == nil {
		return new(net.Dialer).DialContext(ctx, "tcp", d.target.hostPort())
	}
	proxy, err := c.proxyFor(&d.target)
	if err != nil {
		return nil, err
	}
	if proxy == nil {
		return c.dialOrigin(ctx, d.target.origin(), time.Time{})
	}
	first := proxy.target.origin()
	nc, err := c.dialOrigin(ctx, first, time.Time{})
	if err == nil && first.https {
		nc, err = websocketTLS(ctx, nc, c.proxyTLS(), first.host)
	}
	if err != nil {
		return nil, err
	}
	// RFC 6455 §4.1: through CONNECT, without TLS too.
	tunnel := newClientConn(nc, clientRoute{origin: d.target.origin(), proxy: proxy}, d.target.hostPort())
	stop := context.AfterFunc(ctx, tunnel.close)
	err = c.tunnel(tunnel, time.Time{})
	if !stop() && err == nil {
		err = ctx.Err()
	}
	if err != nil {
		nc.Close()
		if ctx.Err() != nil {
			err = ctx.Err()
		}
		return nil, err
	}
	return nc, nc.SetDeadline(time.Time{})
}

// websocketTLS encrypts nc, which it closes on an error.
func websocketTLS(ctx context.Context, nc net.Conn, config *tls.Config, host string) (net.Conn, error) {
	config = dialTLSConfig(config)
	setServerName(config, host)
	config.NextProtos = []string{"http/1.1"}
	tc := tls.Client(nc, config)
	if err := tc.HandshakeContext(ctx); err != nil {
		nc.Close()
		return nil, err
	}
	return tc, nil
}

// stream returns a stream for the handshake, nil where it goes over HTTP/1.1.
func (d *webSocketDial) stream() *clientStream {
	c := d.opts.Client
	if c == nil || d.opts.NetDial != nil || d.opts.TLSConfig != nil {
		return nil // the connection would be another one
	}
	proxy, err := c.proxyFor(&d.target)
	if err != nil {
		return nil
	}
	return c.http2.live(clientRoute{origin: d.target.origin(), proxy: proxy})
}

// attemptStream shakes hands on a stream. With errStale or errUnprocessed the server
// has not looked at the request.
func (d *webSocketDial) attemptStream(ctx context.Context, st *clientStream, fields *headerFields) (*WebSocket, *ClientResponse, error) {
	stop := context.AfterFunc(ctx, st.close)
	ws, resp, err := d.shakeStream(ctx, st, fields)
	if !stop() && err == nil {
		err = ctx.Err()
	}
	if resp != nil && d.jar != nil {
		d.jar.SetFromHeader(d.target.url(), &resp.Header)
	}
	if err != nil {
		st.close()
		if ctx.Err() != nil && resp == nil {
			err = ctx.Err()
		}
		return nil, resp, err
	}
	return ws, resp, nil
}

// shakeStream sends the request and judges the answer.
func (d *webSocketDial) shakeStream(ctx context.Context, st *clientStream, fields *headerFields) (*WebSocket, *ClientResponse, error) {
	h := fields.clone()
	h.Del(fieldWSKey) // RFC 8441 §5: there is nothing to prove
	by, _ := ctx.Deadline()
	line := requestLine{http.MethodConnect, d.target.scheme(), d.target.authority, d.target.path, "websocket"}
	if err := st.connect(line, h, by); err != nil {
		return nil, nil, err
	}
	n, err := readFinalHead(st, new(int), &handshakeLimits, nil)
	if err != nil {
		return nil, nil, err
	}
	head := st.answer()
	resp := d.response(st.c.state, head, st.headText(n))
	resp.major = 2
	if head.status < 200 || head.status >= 300 {
		refusalBody(ctx, st, resp)
		return nil, resp, &handshakeError{head.status, "not 2xx (RFC 8441 §4)"}
	}
	hs, err := verifyTerms(head.status, resp.Header.snapshot(), d.opts)
	if err != nil {
		return nil, resp, err
	}
	nc := &streamConn{st}
	b := newBlockingSocket(nc, newWebSocketProfile(&hs, &d.opts.WebSocketOptions, true), nil, nil)
	return &b.ws, resp, nil
}
