package flare

import (
	"context"
	"crypto/tls"
	"net"
	"net/netip"
	"os"
	"time"
)

// This file is layer 4 (roles): the seam between what an exchange means and how a
// version of HTTP carries it. Handlers, requests, responses and bodies stand above
// it and know no version; http1_stream.go is HTTP/1.1's side of it, and
// nethttp_to_stream.go that of requests which net/http's server has received.

// A stream is what one exchange came by. Heads and bodies cross it as values: how
// they are framed, what else is said of the connection, and when that ends is the
// version's. Its methods are for whoever is inside the exchange's lease, and for
// the owner of its strand while nobody can be. Those that wait call detach first,
// and are ended by breakOff.
//
// Reading and writing are apart: one goroutine may be in readBody while another
// is in a method that sends, and either direction can be ended alone.
type stream interface {
	session() session

	// version returns the name and the numbers of the version of HTTP.
	version() (name string, major, minor int)

	// context returns the context of the handler, which ends when the peer has left,
	// and endContext ends it. left reports whether it has ended because of the peer.
	context() context.Context
	// value is what that context has under key, whether it was made yet or not.
	endContext()
	left() bool
	value(key any) any

	// readBody reads the request's body, and waits only when nothing of it is there.
	// At its end it returns io.EOF, with the last octets or behind them; then
	// readTrailer adds the fields that came behind it to h.
	readBody(p []byte) (int, error)
	readTrailer(h *headerFields)

	// arrived returns how many octets of the body are left to read, if all of
	// them can be without waiting and their number is known, else -1.
	arrived() int

	// readsOn says that the handler goes on reading once its response has begun.
	// It may be called while another goroutine reads.
	readsOn()

	// sendHead begins the response.
	sendHead(h outgoingHead) error

	// sendInterim sends an interim response at once (RFC 9110 §15.2). A 100 is the
	// one that the client waits for.
	sendInterim(status int, fields *headerFields) error

	// sendBody sends octets of the body, if need be later together with others.
	// sendFile does the same with n octets of file from start on, as far as it goes,
	// and does not move it. Without a way inside the kernel the rest fails with
	// errors.ErrUnsupported.
	sendBody(p []byte) error
	sendFile(file *os.File, start, n int64) (sent int64, err error)

	// sendEnd ends the response, with the last octets of its body and the fields
	// behind them; both may be nil. hasTrailer reports whether there can be fields
	// behind a body whose length was not said before.
	sendEnd(p []byte, trailer *headerFields) error
	hasTrailer() bool

	// flush sends what sendHead and sendBody have kept.
	flush() error

	// cutOff ends the response where it stands, so that the peer can tell that it
	// is not whole; endReset: nothing that was kept has to be sent before. The
	// peer's part of the exchange goes on.
	cutOff(how ending)

	// broken is why nothing can be sent any more, nil while that is possible.
	broken() error

	// setReadDeadline and setWriteDeadline bound all waits in a direction, those
	// that go on included. Any goroutine may call them while the handler runs.
	setReadDeadline(t time.Time) error
	setWriteDeadline(t time.Time) error

	// breakOff makes what waits in the given directions fail, and what would, until
	// mend; see exchange.breakOff.
	breakOff(directions uint32)
	mend(directions uint32)

	// takeOver hands out the connection, with what the peer has sent and nobody
	// has read, and marks the response as hijacked. takeable reports whether there
	// is a connection that is this exchange's alone.
	takeOver() (conn net.Conn, unread []byte, err error)
	takeable() bool

	// ownConn is the connection on a loop that can go on with another protocol, nil
	// without one. sendSwitch says so in the response, as a WebSocket's handshake
	// has it; fields are what the handler has set.
	ownConn() *Conn
	sendSwitch(hs *handshake, fields *headerFields)

	// tunnel answers a WebSocket's handshake, with fields that the handler has set,
	// and returns what the exchange goes on as beyond its handler's end, where that
	// is not a connection of its own; else errors.ErrUnsupported. It marks the
	// response as hijacked.
	tunnel(hs *handshake, fields *headerFields) (net.Conn, error)
}

// A session is what streams come by: a connection of one, or of many. Any
// goroutine may call its methods while one of its exchanges is open.
type session interface {
	peerAddr() netip.AddrPort       // the zero value on a Unix socket; it may change
	localAddr() netip.AddrPort      // the zero value if it is not known
	tlsState() *tls.ConnectionState // nil without TLS
	proxyHeader() *ProxyHeader      // nil without one
}

// An outgoingHead is the head of a final response.
type outgoingHead struct {
	fields *headerFields // the handler's; those that frame the message are only Content-Length
	own    ownFields
	status int
	length int64 // to be said as Content-Length; -1: nothing beside fields
	open   bool  // a body follows whose length nobody has said
	last   bool  // the handler, or a refusal, wants no other exchange behind it
}

// ownFields is what the handler has set of the fields that are the version's if
// nobody sets them.
type ownFields struct{ date, close, keepAlive bool }

// A switchedProtocol takes over from HTTP on the same connection. It has to
// tell the server when it is closed.
type switchedProtocol interface {
	Protocol
	// switched is called before the first Data, with what the handler returned,
	// and gives the predictor's record for Data.
	switched(c *Conn, err error) *route

	exiter
}
