package flare

import (
	"bytes"
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"log/slog"
	"os"
	"slices"
	"strings"
	"time"
)

// This file is layer 4 (roles): TLS of whoever dials: what is verified, and
// with which certificates. It knows files and crypto/tls; Dialer.DialTLS and
// the client's handshakes use it.

// TLSOptions say how the other side of a connection is verified. The zero value
// verifies it by the system's authorities, for the name that was dialled, and
// speaks TLS 1.2 or above.
type TLSOptions struct {
	// Config has what the other fields do not say; it is cloned, and a version
	// below TLS 1.2 is raised. nil is crypto/tls's defaults.
	Config *tls.Config

	ServerName string // name to send (SNI) and to verify in place of the host dialled
	CAFile     string // PEM file of the authorities to trust, in place of the system's
	CertFile   string // PEM files of the own certificate and key
	KeyFile    string
	Insecure   bool          // verify nothing; logged as a warning
	Logger     *slog.Logger  // nil is slog.Default()
	Timeout    time.Duration // of the handshake; 0 is 10 s, negative none
}

// A TLSConn is an encrypted connection.
type TLSConn struct{ *tls.Conn }

// Version names the protocol version, such as "TLS 1.3".
func (c *TLSConn) Version() string { return tls.VersionName(c.ConnectionState().Version) }

// CipherSuite names the cipher suite, such as "TLS_AES_128_GCM_SHA256".
func (c *TLSConn) CipherSuite() string { return tls.CipherSuiteName(c.ConnectionState().CipherSuite) }

// PeerSubject is whom the peer's certificate names, in the form of RFC 2253,
// such as "CN=example.com"; "" if it has none.
func (c *TLSConn) PeerSubject() string {
	if certs := c.ConnectionState().PeerCertificates; len(certs) > 0 {
		return certs[0].Subject.String()
	}
	return ""
}

// DialTLS connects with a Dialer's defaults; see Dialer.DialTLS.
func DialTLS(ctx context.Context, addr string, opts *TLSOptions) (*TLSConn, error) {
	return new(Dialer).DialTLS(ctx, addr, opts)
}

// DialTLS connects to "host:port" as Dial does and makes the handshake. opts
// may be nil. ctx bounds both and not what follows.
func (d *Dialer) DialTLS(ctx context.Context, addr string, opts *TLSOptions) (*TLSConn, error) {
	if opts == nil {
		opts = new(TLSOptions)
	}
	config, err := opts.config()
	if err != nil {
		return nil, clientError(PhaseTLS, "", err)
	}
	raw, err := d.Dial(ctx, "tcp", addr)
	if err != nil {
		return nil, err
	}
	if config.ServerName == "" {
		host, _, _ := splitHostPort(addr) // Dial has seen it to be one
		config.ServerName = withoutZone(host)
	}
	ctx, cancel := withLimit(ctx, time.Time{}, limitOr(opts.Timeout, defaultHandshakeTimeout))
	defer cancel()
	conn := tls.Client(raw, config)
	if err := conn.HandshakeContext(ctx); err != nil {
		raw.Close()
		return nil, clientError(PhaseTLS, addr, err)
	}
	return &TLSConn{conn}, nil
}

// withoutZone drops the zone of a literal, which means nothing to the peer (RFC
// 6874 §4) and is in no certificate.
func withoutZone(host string) string {
	host, _, _ = strings.Cut(host, "%")
	return host
}

// config makes a configuration of the options, the caller's to change.
func (o *TLSOptions) config() (*tls.Config, error) {
	config := o.Config.Clone()
	if config == nil {
		config = new(tls.Config)
	}
	config.MinVersion = max(config.MinVersion, tls.VersionTLS12)
	if o.ServerName != "" {
		config.ServerName = o.ServerName
	}
	if o.CAFile != "" {
		pem, err := os.ReadFile(o.CAFile)
		if err != nil {
			return nil, err
		}
		config.RootCAs = x509.NewCertPool()
		if !config.RootCAs.AppendCertsFromPEM(bytes.TrimSpace(pem)) {
			return nil, errNoCertificate
		}
	}
	if o.CertFile != "" || o.KeyFile != "" {
		pair, err := tls.LoadX509KeyPair(o.CertFile, o.KeyFile)
		if err != nil {
			return nil, err
		}
		config.Certificates = append(slices.Clip(config.Certificates), pair)
	}
	if o.Insecure {
		config.InsecureSkipVerify = true
		logger := o.Logger
		if logger == nil {
			logger = slog.Default()
		}
		logger.Warn("flare: certificates are not verified")
	}
	return config, nil
}

var errNoCertificate = errors.New("flare: no certificate in CAFile")
