package flare

import (
	"context"
	"crypto/tls"
	"strings"
	"time"
)

// This file is layer 4 (roles): TLS of whoever dials: for which name, and from
// which version on. Dialer.DialTLS and the client's handshakes use it.

// defaultHandshakeTimeout is what handshakes of whoever dials get.
const defaultHandshakeTimeout = 10 * time.Second

// DialTLS connects with a Dialer's defaults; see Dialer.DialTLS.
func DialTLS(ctx context.Context, addr string, config *tls.Config) (*tls.Conn, error) {
	return new(Dialer).DialTLS(ctx, addr, config)
}

// DialTLS connects to "host:port" as Dial does and makes the handshake. The
// config is not changed; nil is crypto/tls's defaults. Without a ServerName the
// host dialled is verified, and a MinVersion below TLS 1.2 is raised to it. ctx
// bounds the dial and the handshake and not what follows.
func (d *Dialer) DialTLS(ctx context.Context, addr string, config *tls.Config) (*tls.Conn, error) {
	raw, err := d.Dial(ctx, "tcp", addr)
	if err != nil {
		return nil, err
	}
	host, _, _ := splitHostPort(addr) // Dial has seen it to be one
	ctx, cancel := withLimit(ctx, time.Time{}, limitOr(d.HandshakeTimeout, defaultHandshakeTimeout))
	defer cancel()
	config = dialTLSConfig(config)
	setServerName(config, host)
	conn := tls.Client(raw, config)
	if err := conn.HandshakeContext(ctx); err != nil {
		raw.Close()
		return nil, clientError(PhaseTLS, addr, err)
	}
	return conn, nil
}

// dialTLSConfig returns a copy of config, which may be nil, that is the caller's
// to change.
func dialTLSConfig(config *tls.Config) *tls.Config {
	config = config.Clone()
	if config == nil {
		config = new(tls.Config)
	}
	config.MinVersion = max(config.MinVersion, tls.VersionTLS12)
	return config
}

// setServerName has the host verified that was dialled, if config names no other.
// The zone of a literal means nothing to the peer (RFC 6874 §4) and is in no
// certificate.
func setServerName(config *tls.Config, host string) {
	if config.ServerName == "" {
		config.ServerName, _, _ = strings.Cut(host, "%")
	}
}
