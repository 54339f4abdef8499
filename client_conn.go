package flare

import (
	"errors"
	"io"
	"net"
	"time"
)

// This file is layer 4 (roles): one connection of a client: octets out, heads
// of responses in. It knows where one message ends and the next begins; it does
// not know redirects, pools or retries. client_roundtrip.go drives it, and
// client_body.go reads bodies from it.

// responseBufferBytes is room for the usual head and a small body.
const responseBufferBytes = 4 << 10

// A clientConn belongs to the goroutine whose request it carries, and to the
// pool while it rests. Only close is for any goroutine.
type clientConn struct {
	clientLink

	in     *buffer // received and not consumed: in.b[inRead:]; nil while there is nothing
	inRead int
	head   responseHead
	limits *headLimits // of head
	chunks chunkedDecoder

	used      bool // it has carried a request
	answered  bool // something of the answer to the present one has come
	idleSince time.Time
}

var (
	errSwitch  = errors.New("switch to another protocol that the request did not ask for")
	errInterim = errors.New("more than 16 interim responses")
)

func newClientConn(raw net.Conn, route clientRoute, host string) *clientConn {
	return &clientConn{clientLink: clientLink{raw: raw, sock: newClientSocket(raw), route: route, host: host}}
}

// close ends the connection at once; whoever reads or writes fails. A TLS
// connection ends without an alert: nothing may wait here.
func (c *clientConn) close() { c.raw.Close() }

func (c *clientConn) readBy(t time.Time) { c.sock.readBy = t }

func (c *clientConn) setWriteLimit(timeout time.Duration, by time.Time) {
	c.sock.writeTimeout, c.sock.writeBy = timeout, by
}

// cutOff says whether a connection in TLS has ended without the peer saying so:
// anybody on the way can do that.
func (c *clientConn) cutOff() bool { return c.tls != nil && c.sock.ended }

// silent says whether an idle connection still is one: nothing has arrived on
// it, not even its end. It waits for a glance at most. TLS may have records of
// its own there.
func (c *clientConn) silent() bool {
	c.sock.noWait = true
	var p [1]byte
	n, err := c.Read(p[:])
	c.sock.noWait = false
	return n == 0 && errors.Is(err, ErrTimeout)
}

// probesItself says whether send looks for stale connections on its own.
func (c *clientConn) probesItself() bool { return c.tls == nil && c.sock.direct }

// send sends the front of a request, and where that is cheap receives the front
// of the answer with it. It returns how much it has sent. On a connection that
// rested the error may be errStale: nothing was sent then. Without await more of
// the request follows, and nothing is received.
func (c *clientConn) send(out []byte, await bool) (int, error) {
	if !c.probesItself() {
		if c.used && !c.silent() {
			return 0, errStale
		}
		c.answered = false
		return c.Write(out)
	}
	if c.in == nil {
		c.in = getBuffer(responseBufferBytes)
		c.inRead = 0
	}
	b := c.in.b[:cap(c.in.b)]
	sent, n, err := c.sock.exchange(out, b[len(c.in.b):], c.used, await)
	c.in.b = b[:len(c.in.b)+n]
	c.answered = n > 0
	return sent, err
}

// unread returns what was received and is not consumed yet.
func (c *clientConn) unread() []byte {
	if c.in == nil {
		return nil
	}
	return c.in.b[c.inRead:]
}

func (c *clientConn) consume(n int) { c.inRead += n }

// fill receives more into the input buffer.
func (c *clientConn) fill() error {
	if c.in == nil {
		c.in = getBuffer(responseBufferBytes)
		c.inRead = 0
	}
	if c.inRead == len(c.in.b) {
		c.in.b, c.inRead = c.in.b[:0], 0
	}
	if len(c.in.b) == cap(c.in.b) {
		if c.inRead > 0 {
			n := copy(c.in.b, c.in.b[c.inRead:])
			c.in.b, c.inRead = c.in.b[:n], 0
		} else {
			c.in = c.in.grown(1)
		}
	}
	b := c.in.b[:cap(c.in.b)]
	n, err := c.Read(b[len(c.in.b):])
	c.in.b = b[:len(c.in.b)+n]
	if n > 0 {
		c.answered = true
		return nil
	}
	if err == nil {
		err = io.ErrNoProgress
	}
	return err
}

// releaseInput gives the input buffer back; a resting connection has none.
func (c *clientConn) releaseInput() {
	if c.in != nil {
		c.in.release()
		c.in, c.inRead = nil, 0
	}
}

// readHead reads one head.
func (c *clientConn) readHead(lim *headLimits) (int, error) {
	c.limits = lim
	c.head.reset()
	for {
		if n, err := c.head.parse(c.unread(), lim); n > 0 || err != nil {
			return n, err
		}
		if err := c.fill(); err != nil {
			return 0, err
		}
	}
}
