package flare

import (
	"crypto/tls"
	"net"
)

// This file is layer 4 (roles): a connection of the client as octets, and what it
// must have in common with a request. What they mean is for the carriers.

// A clientRoute is what a connection must have in common with a request to
// carry it.
type clientRoute struct {
	origin clientOrigin
	proxy  *clientProxy // nil: none; proxies are made once for each URL
	http1  bool         // it has to speak HTTP/1.1, whatever the server would
}

// A clientLink is what exchanges go over: a connection to a server, as deep as
// TLS. It does not change once it is made.
type clientLink struct {
	raw   net.Conn             // below all
	sock  *clientSocket        // over raw, or over the TLS to a proxy
	tls   *tls.Conn            // nil: plain
	state *tls.ConnectionState // of tls
	route clientRoute
	host  string // host and port of the origin, for errors
}

// Write sends all of p.
func (l *clientLink) Write(p []byte) (int, error) {
	if l.tls != nil {
		return l.tls.Write(p)
	}
	return l.sock.Write(p)
}

// Read receives what comes.
func (l *clientLink) Read(p []byte) (int, error) {
	if l.tls != nil {
		return l.tls.Read(p)
	}
	return l.sock.Read(p)
}

// conn is the connection as its user sees it.
func (l *clientLink) conn() net.Conn {
	if l.tls != nil {
		return l.tls
	}
	return l.sock
}

func (l *clientLink) lead() *clientLink { return l }
