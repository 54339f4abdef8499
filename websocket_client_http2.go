package flare

import (
	"context"
	"net/http"
)

// This file is layer 4 (roles): the client's side of the opening handshake over
// HTTP/2 (RFC 8441 §5), on a connection that its Client has already.

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
