package flare

import (
	"bytes"
	"io"
	"syscall"
)

// This file is layer 3 (engine): a connection in front of which a proxy has yet to say
// for whom it is: nobody counts it for its client, or calls anything of the user's
// for it, before that is known. On a loop it is a connection of its own that reads
// the header and nothing behind it, and then gives its descriptor to the one that
// the client speaks to; it waits like any other, within HandshakeTimeout. Where a
// net.Conn is read by a goroutine, readProxyHeader is all of it.

// A greetingTransport is the transport of a connection that awaits a header of the
// PROXY protocol, and of nothing else: it never leaves stateHandshake.
type greetingTransport struct {
	*fdConn

	// Fixed. admit says whether the connection is welcome; any goroutine may call it.
	// begin makes another one of the descriptor, which no loop has then; the runner calls
	// it, and whoever has the connection when the loop is dead.
	admit func(h *ProxyHeader) bool
	begin func(l *Loop, fd int, h *ProxyHeader)

	// The owner's.
	got    []byte // the part of a header that was taken from the socket
	header *ProxyHeader
}

// greet readies a connection that no loop knows yet.
func (t *greetingTransport) greet(c *Conn) {
	t.fdConn = (*fdConn)(c)
	c.tr, c.state, c.proto = t, stateHandshake, greetingProtocol{}
	c.waits = &ownerWaits{removed: func() {
		c.end(endHandedOver, nil)
		c.setState(stateClosed)
		t.begin(c.loop, c.fd, t.header)
	}}
}

func (t *greetingTransport) handshaking() bool { return true }

func (t *greetingTransport) handshake(g *workset) verdict {
	c := (*Conn)(t.fdConn)
	for c.edges&ownRead != 0 {
		h, err := t.next(g.in)
		switch {
		case err == errWouldBlock:
			c.edges &^= ownRead
		case err != nil:
			c.end(endReset, err)
			return verdictClose
		case h != nil && !t.admit(h):
			c.end(endReset, nil)
			return verdictClose
		case h != nil:
			t.header = h
			return verdictRemove
		}
	}
	return verdictPartial
}

// next takes what has come of the header, and nothing behind it. It is nil as long
// as it is not whole.
func (t *greetingTransport) next(room []byte) (*ProxyHeader, error) {
	room = room[:proxyV2Max-len(t.got)]
	n, errno := peekConn(t.fd, room)
	switch {
	case errno != 0:
		return nil, errorOf(errno)
	case n == 0:
		return nil, io.EOF
	}
	b := room[:n]
	if len(t.got) > 0 {
		b = append(t.got, b...)
	}
	h, size, err := parseProxyHeader(b)
	switch {
	case err != nil:
		return nil, err
	case h == nil:
		size = len(b)
		b = bytes.Clone(b)
	}
	for taken := len(t.got); taken < size; taken += n {
		if n, errno = recvConn(t.fd, room[:size-taken]); errno != 0 || n == 0 {
			return nil, syscall.ECONNRESET // it was there
		}
	}
	t.got = b
	return h, nil
}

// A greetingProtocol is never called but at the end, of which the limits tell.
type greetingProtocol struct{}

func (greetingProtocol) Data(c *Conn, in []byte, eof bool) (int, error) { return 0, errProxyBegin }
func (greetingProtocol) Drained(c *Conn)                                {}
func (greetingProtocol) Closed(c *Conn, err error)                      {}

// readProxyHeader reads a header from a net.Conn, and nothing behind it. Whoever calls
// it bounds its time.
func readProxyHeader(r io.Reader, heard func()) (*ProxyHeader, error) {
	var b []byte
	for {
		h, n, err := parseProxyHeader(b)
		if err != nil || h != nil {
			return h, err
		}
		at := len(b)
		b = append(b, make([]byte, n-at)...)
		if n, err = io.ReadAtLeast(r, b[at:], 1); err != nil {
			return nil, err
		}
		heard()
		b = b[:at+n]
	}
}
