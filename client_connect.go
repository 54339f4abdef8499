package flare

import (
	"context"
	"crypto/tls"
	"errors"
	"net"
	"net/http"
	"net/http/httptrace"
	"time"
)

// This file is layer 4 (roles): a new connection of a client, ready to carry
// requests: dialled, through a proxy's tunnel if need be, and encrypted. It
// keeps nothing; client_roundtrip.go calls it.

// connect makes a connection for a route, within the client's limits for each
// phase and ctx.
func (c *Client) connect(ctx context.Context, route clientRoute, by time.Time) (*clientConn, error) {
	host := joinHostPort(route.origin.host, route.origin.port)
	trace := httptrace.ContextClientTrace(ctx)
	first := route.origin
	if route.proxy != nil {
		first = route.proxy.target.origin()
	}
	raw, err := c.dialOrigin(ctx, first, by)
	if err != nil {
		return nil, err
	}
	conn := newClientConn(raw, route, host)
	done := context.AfterFunc(ctx, conn.close)
	err = c.secure(ctx, conn, first, by, trace)
	if !done() && err == nil {
		err = clientError(PhaseTLS, host, ctx.Err())
	}
	if err != nil {
		conn.close()
		return nil, causeOf(ctx, err)
	}
	return conn, nil
}

// causeOf makes an error of a connection that ctx has closed ctx's own.
func causeOf(ctx context.Context, err error) error {
	var e *ClientError
	if ctx.Err() == nil || !errors.As(err, &e) || errors.Is(err, ctx.Err()) {
		return err
	}
	return clientError(e.Phase, e.Host, ctx.Err())
}

// dialOrigin connects to the origin, or to the proxy, that comes first.
func (c *Client) dialOrigin(ctx context.Context, o clientOrigin, by time.Time) (net.Conn, error) {
	ctx, cancel := withLimit(ctx, by, c.cfg.dialTimeout)
	defer cancel()
	if c.Dial != nil {
		host := joinHostPort(o.host, o.port)
		conn, err := c.Dial(ctx, "tcp", host)
		if conn == nil && err == nil {
			err = errDialNothing
		}
		return conn, dialError(host, err)
	}
	return dialHost(ctx, &c.cfg.dialer, resolverOf(c.Resolver), o.host, o.port)
}

var errDialNothing = errors.New("Client.Dial returned neither a connection nor an error")

// secure brings a fresh connection to where it can carry requests.
func (c *Client) secure(ctx context.Context, conn *clientConn, first clientOrigin, by time.Time, trace *httptrace.ClientTrace) error {
	route := conn.route
	if route.proxy != nil && first.https {
		config := c.proxyTLS()
		if err := c.handshake(ctx, conn, config, first.host, by, nil); err != nil {
			return err
		}
	}
	if !route.origin.https && !route.tunnels(c) {
		return nil
	}
	if route.proxy != nil {
		if err := c.tunnel(conn, by); err != nil {
			return err
		}
		if conn.tls != nil { // the next TLS goes through the proxy's
			conn.sock, conn.tls = newClientSocket(conn.tls), nil
		}
	}
	if !route.origin.https {
		return nil
	}
	config := c.cfg.tls.Clone()
	if route.http1 {
		config.NextProtos = []string{protoHTTP1}
	}
	return c.handshake(ctx, conn, config, route.origin.host, by, trace)
}

// tunnels says whether a proxy is asked for a way through: what is in TLS does not
// show it anything, and HTTP/2 is not spoken to it.
func (r *clientRoute) tunnels(c *Client) bool {
	return r.proxy != nil && (r.origin.https || c.cfg.http2.speaks(r))
}

// handshake encrypts the connection to a host. config is its own.
func (c *Client) handshake(ctx context.Context, conn *clientConn, config *tls.Config, host string, by time.Time, trace *httptrace.ClientTrace) error {
	ctx, cancel := withLimit(ctx, by, c.cfg.handshakeTimeout)
	defer cancel()
	deadline, _ := ctx.Deadline()
	conn.readBy(deadline)
	conn.setWriteLimit(c.cfg.writeTimeout, deadline)
	setServerName(config, host)
	if trace != nil && trace.TLSHandshakeStart != nil {
		trace.TLSHandshakeStart()
	}
	t := tls.Client(conn.sock, config)
	err := t.HandshakeContext(ctx)
	state := t.ConnectionState()
	if trace != nil && trace.TLSHandshakeDone != nil {
		trace.TLSHandshakeDone(state, err)
	}
	if err != nil {
		return clientError(PhaseTLS, conn.host, err)
	}
	conn.tls, conn.state = t, &state
	return nil
}

// tunnel asks the proxy for a way through to the origin (RFC 9110 §9.3.6).
func (c *Client) tunnel(conn *clientConn, by time.Time) error {
	to := conn.host
	b := append([]byte("CONNECT "+to+" HTTP/1.1\r\nHost: "+to+"\r\n"), conn.route.proxy.authorization...)
	b = append(b, "\r\n"...)
	conn.setWriteLimit(c.cfg.writeTimeout, by)
	if _, err := conn.Write(b); err != nil {
		return clientError(PhaseProxy, to, err)
	}
	conn.readBy(earlier(by, c.cfg.responseTimeout))
	n, err := readFinalHead(conn, new(int), &c.cfg.head, nil)
	if err != nil {
		return clientError(PhaseProxy, to, err)
	}
	switch status := conn.head.status; {
	case status < 200 || status >= 300:
		return &ClientError{Phase: PhaseProxy, Host: to, Err: &ResponseError{StatusCode: status, Method: http.MethodConnect, Host: to}}
	case len(conn.unread()) > n: // before the origin was asked anything
		return &ClientError{Phase: PhaseProxy, Host: to, Kind: ErrMalformed, Err: errEarlyBytes}
	}
	conn.releaseInput()
	return nil
}

var errEarlyBytes = errors.New("octets behind the answer to CONNECT")

// tlsConfig builds what all handshakes of the client share.
func (c *Client) tlsConfig() *tls.Config {
	config := dialTLSConfig(c.TLSConfig)
	config.NextProtos = nil
	if c.cfg.http2.tls {
		config.NextProtos = append(config.NextProtos, protoHTTP2)
	}
	if c.cfg.http2.http1 {
		config.NextProtos = append(config.NextProtos, protoHTTP1)
	}
	if config.ClientSessionCache == nil {
		config.ClientSessionCache = tls.NewLRUClientSessionCache(0)
	}
	return config
}

// proxyTLS returns the configuration for a proxy, which is verified by its own
// name: a ServerName is the origin's.
func (c *Client) proxyTLS() *tls.Config {
	config := c.cfg.tls.Clone()
	config.ServerName = ""
	config.NextProtos = []string{protoHTTP1}
	return config
}
