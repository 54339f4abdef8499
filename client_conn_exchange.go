package flare

import (
	"context"
	"io"
	"net/http/httptrace"
	"strconv"
	"time"
)

// This file is layer 4 (roles): how an exchange of the client is carried by
// HTTP/1.1: what of clientCarrier is more than octets. client_conn.go has those;
// client_roundtrip.go, client_send.go and client_body.go call it.

func (c *clientConn) reused() (since time.Time, yes bool) { return c.idleSince, c.used }
func (c *clientConn) major() uint8                        { return 1 }
func (c *clientConn) heard() bool                         { return c.answered }
func (c *clientConn) answer() *responseHead               { return &c.head }
func (c *clientConn) headText(n int) []byte               { return c.unread()[:n] }
func (c *clientConn) dropHead(n int)                      { c.consume(n) }
func (c *clientConn) persists(method string) bool         { return c.head.persists(method) }
func (c *clientConn) release()                            { c.releaseInput() }

func (c *clientConn) framing(method string) (kind bodyKind, length int64) {
	return c.head.framing(method)
}

// begin sends the head, and a short body with it.
func (c *clientConn) begin(client *Client, x *clientCall, m clientMessage) (all bool, err error) {
	proxied := c.route.proxy != nil && !c.route.origin.https
	proxyAuth := ""
	if proxied {
		proxyAuth = c.route.proxy.authorization
	}
	out := getBuffer(responseBufferBytes)
	defer func() { out.release() }()
	out.b = client.appendHead(out.b, x, proxied, proxyAuth, m.length)
	out.b = append(out.b, m.payload...)
	cfg := &client.cfg
	c.setWriteLimit(cfg.writeTimeout, x.by)
	c.readBy(limitFrom(m.begun, cfg.responseTimeout, x.by))
	sent, err := c.send(out.b, m.whole)
	all = m.whole && sent == len(out.b)
	if err == nil && sent < len(out.b) {
		_, err = c.Write(out.b[sent:])
		c.readBy(earlier(x.by, cfg.responseTimeout))
	}
	return all, err
}

// writePiece sends p[at:at+n] as a chunk (RFC 9112 §7.1).
func (c *clientConn) writePiece(p []byte, at, n int) error {
	var size [16]byte
	line := append(strconv.AppendInt(size[:0], int64(n), 16), '\r', '\n')
	copy(p[at-len(line):], line)
	copy(p[at+n:], "\r\n")
	_, err := c.Write(p[at-len(line) : at+n+2])
	return err
}

// endBody ends a chunked body, with its trailer section (RFC 9112 §7.1.2).
func (c *clientConn) endBody(known bool, trailer *headerFields) error {
	if known {
		return nil
	}
	b := []byte(lastChunk)
	if trailer != nil {
		b = trailer.appendTo(b)
	}
	_, err := c.Write(append(b, "\r\n"...))
	return err
}

// take returns the text of the head, and the usual body, which is there already.
func (c *clientConn) take(n int, kind bodyKind, length int64) (memory []byte, whole bool) {
	if kind == bodyLength && length <= int64(len(c.unread())-n) {
		n, whole = n+int(length), true
	}
	if kind == bodyChunked {
		c.chunks.reset(c.limits)
		c.chunks.fields.response = true
	}
	memory = append([]byte(nil), c.unread()[:n]...)
	c.consume(n)
	c.used = true
	return memory, whole
}

// readBody reads octets of the body.
func (c *clientConn) readBody(b *clientBody, p []byte) (int, error) {
	if b.kind == bodyChunked {
		return c.readChunked(b, p)
	}
	if b.kind == bodyLength && int64(len(p)) > b.remaining {
		p = p[:b.remaining]
	}
	n, err := c.receive(b, p)
	if err == io.EOF && b.kind == bodyUntilClose && c.cutOff() {
		err = ErrUnexpectedEOF // RFC 9112 §9.8
	}
	if b.kind == bodyLength {
		if b.remaining -= int64(n); b.remaining == 0 {
			return n, io.EOF
		}
		if err == io.EOF {
			err = ErrUnexpectedEOF // RFC 9112 §8
		}
	}
	return n, err
}

// receive takes what is in the buffer, or reads past it.
func (c *clientConn) receive(b *clientBody, p []byte) (int, error) {
	if in := c.unread(); len(in) > 0 {
		n := copy(p, in)
		c.consume(n)
		return n, nil
	}
	c.releaseInput()
	b.arm()
	return c.Read(p)
}

// readChunked decodes what is there until some of it is data.
func (c *clientConn) readChunked(b *clientBody, p []byte) (int, error) {
	for {
		if in := c.unread(); len(in) > 0 {
			// No more than p takes: the decoder hands out each octet once.
			data, n, done, err := c.chunks.decode(in[:min(len(in), len(p))])
			if err != nil {
				return 0, err
			}
			c.consume(n)
			copied := copy(p, data)
			if done {
				b.keepTrailer(&c.chunks.trailer)
				return copied, io.EOF
			}
			if copied > 0 {
				return copied, nil
			}
			continue
		}
		b.arm()
		if err := c.fill(); err != nil {
			if err == io.EOF {
				err = ErrUnexpectedEOF // RFC 9112 §8
			}
			return 0, err
		}
	}
}

// skipBody returns io.EOF if all of the body was there.
func (c *clientConn) skipBody(b *clientBody) error {
	switch b.kind {
	case bodyLength:
		if int64(len(c.unread())) >= b.remaining {
			c.consume(int(b.remaining))
			return io.EOF
		}
	case bodyChunked:
		for len(c.unread()) > 0 {
			_, n, done, err := c.chunks.decode(c.unread())
			if err != nil {
				return err
			}
			c.consume(n)
			if done {
				return io.EOF
			}
		}
	}
	return errBodyClosed
}

// rest puts the connection back, unless there is something on it that nobody has
// asked for.
func (c *clientConn) rest(client *Client, ctx context.Context) bool {
	if len(c.unread()) > 0 {
		return false
	}
	c.releaseInput()
	client.pool.put(c, time.Now())
	if trace := httptrace.ContextClientTrace(ctx); trace != nil && trace.PutIdleConn != nil {
		trace.PutIdleConn(nil)
	}
	return true
}
