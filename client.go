package flare

import (
	"context"
	"crypto/tls"
	"net"
	"net/http"
	"net/url"
	"sync"
	"time"
)

// This file is layer 4 (roles): the client: its configuration and what users
// call first. client_redirect.go has a request's way over several hops,
// client_roundtrip.go each hop.

// A Client sends requests over HTTP/2 where a server behind TLS agrees, else over
// HTTP/1.1 with plain blocking I/O in the caller's goroutine, and keeps
// connections for the next ones. The zero value is ready.
// Any number of goroutines may use it; its fields must not be changed after
// the first request. In every limit and timeout 0 means the default and a
// negative value no limit. All errors are *ClientError.
type Client struct {
	// BaseURL is what relative URLs are appended to. With a BaseURL, Auth and
	// the credentials and the Host in Header are for its origin alone.
	BaseURL string

	// Header has fields of every request; the request's own replace them.
	Header Header

	// Auth authorizes requests; nil: none. It does not follow a redirect to
	// another origin.
	Auth Credentials

	// Jar keeps cookies; nil: none are kept.
	Jar *Jar

	// Wrap has functions that wrap Do, the first of them outermost. Redirects
	// happen inside.
	Wrap []func(Doer) Doer

	// Proxy returns the proxy for a URL, nil for none. A nil Proxy is what
	// HTTP_PROXY, HTTPS_PROXY and NO_PROXY say at the first request.
	Proxy func(*url.URL) (*url.URL, error)

	// Protocols says which versions are spoken: HTTP1, HTTP2 (over TLS, where the
	// server agrees) and UnencryptedHTTP2, which is spoken to http URLs if HTTP1 is
	// not, by prior knowledge. nil is HTTP1 and HTTP2.
	Protocols *http.Protocols

	// HTTP2 sets HTTP/2 up; nil and zero fields are the defaults: windows of 256 KiB
	// a stream that grow to 16 MiB, or not beyond MaxReceiveBufferPerStream; a PING
	// after 15 s of silence with requests under way (SendPingTimeout; negative:
	// none), and 15 s for its answer (PingTimeout). One connection is made for a
	// server; requests beyond the streams that it takes wait, whatever
	// StrictMaxConcurrentRequests says. WriteTimeout holds in place of
	// WriteByteTimeout; CountError is not called.
	HTTP2 *http.HTTP2Config

	// Dial connects in place of TCP by RFC 8305 to what Resolver finds.
	Dial func(ctx context.Context, network, addr string) (net.Conn, error)

	// Resolver looks names up; nil is a *Resolver, which also says which
	// addresses of a host come first.
	Resolver HostResolver

	// TLSConfig is for https, and for proxies behind it: RootCAs are the
	// authorities to trust in place of the system's, Certificates the client's
	// own, ServerName is the name to verify in place of the URL's host. It is
	// cloned, and a MinVersion below TLS 1.2 raised to it; nil is crypto/tls's
	// defaults.
	TLSConfig *tls.Config

	Timeout          time.Duration // dialling to the end of the body, redirects included; default none
	DialTimeout      time.Duration // name and connection; default 10 s
	HandshakeTimeout time.Duration // TLS; default 10 s
	WriteTimeout     time.Duration // without progress of a request; default 30 s
	ResponseTimeout  time.Duration // end of the request to the end of the response's head; default 30 s
	ContinueTimeout  time.Duration // for a 100 Continue, before the body is sent in any case; default 1 s
	BodyTimeout      time.Duration // without progress of a body, but behind a 101; default 30 s
	IdleTimeout      time.Duration // of resting connections; default 60 s

	MaxIdleConns        int   // resting, in all; default 256; negative: none rest
	MaxIdleConnsPerHost int   // default 64; negative: none rest
	MaxRedirects        int   // default 10; negative: 3xx are answers like others
	MaxHeaderBytes      int   // of a response; default 64 KiB
	MaxHeaders          int   // fields of a response; default 256
	MaxBodyBytes        int64 // of a response's body as it comes; default no limit
	MaxBufferedBytes    int64 // what Bytes, Text and JSON collect; default 64 MiB
	MaxDecodedBytes     int64 // of a body that came compressed; default 64 MiB
	MaxDecodeRatio      int64 // decoded to received, beyond 1 MiB decoded; default 200

	// AllowInsecureRedirect follows redirects from https to http.
	AllowInsecureRedirect bool

	once    sync.Once
	cfg     clientConfig
	pool    clientPool
	http2   http2ClientPool
	initErr error
}

// clientConfig is the configuration with defaults filled in.
type clientConfig struct {
	do                             Doer
	tls                            *tls.Config
	dialer                         net.Dialer
	env                            proxyEnvironment
	proxies                        clientProxies
	http2                          http2ClientConfig
	base                           string
	baseOrigin                     clientOrigin
	head                           headLimits
	decode                         DecodeLimits
	bodyBytesMax                   int64 // negative: no limit
	bufferedBytesMax               int64
	redirectsMax                   int
	timeout, dialTimeout           time.Duration // 0 or less: none, as in all that follow
	handshakeTimeout, writeTimeout time.Duration
	responseTimeout, bodyTimeout   time.Duration
	continueTimeout                time.Duration
}
