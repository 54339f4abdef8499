package flare

import (
	"context"
	"crypto/tls"
	"net"
	"time"
)

// This file is layer 4 (roles): the connection below a client's WebSocket:
// dialled, through a proxy's tunnel if need be, and encrypted. It is a plain
// net.Conn, or TLS over one, whose deadlines work while another goroutine
// reads. websocket_client.go calls it.

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
