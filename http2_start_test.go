package flare

import "testing"

// This file starts servers that speak HTTP/2, for tests.

// An http2Target is a server that speaks HTTP/2, over TLS or without.
type http2Target struct {
	*Server
	addr string
	tls  bool
}

// startHTTP2 serves s over HTTP/2 without TLS, and over HTTP/1.1, until the test
// ends.
func startHTTP2(t testing.TB, s *Server) *http2Target {
	t.Helper()
	return &http2Target{Server: s, addr: startHTTP2Server(t, s)}
}

// startHTTP2TLS does as much over TLS.
func startHTTP2TLS(t testing.TB, s *Server) *http2Target {
	t.Helper()
	return &http2Target{Server: s, addr: startTLSServer(t, s), tls: true}
}

// dial opens a connection to it.
func (to *http2Target) dial(t testing.TB, settings ...http2Setting) *http2Peer {
	t.Helper()
	return newHTTP2Peer(t, dialFor(t, to.addr, to.tls), settings...)
}

// quiet opens a connection on which nothing is sent.
func (to *http2Target) quiet(t testing.TB) *http2Peer {
	t.Helper()
	return quietHTTP2Peer(t, dialFor(t, to.addr, to.tls))
}
