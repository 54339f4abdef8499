package flare

import (
	"cmp"
	"context"
	"crypto/tls"
	"errors"
	"net"
	"net/http"
	"net/netip"
	"sync"
	"sync/atomic"
	"time"
)

// This file is layer 4 (roles): an exchange on a connection of HTTP/1.1, as the
// stream that requests and responses stand on. http1_response.go has the way out,
// http1_body.go the way in; http1.go drives the connection.

// An http1Stream belongs as its exchange does, and is reused with it.
type http1Stream struct {
	x *exchange // fixed

	// Of one exchange.
	c       *Conn
	h       *httpConn
	headLen int // octets of the request's head

	// The response's.
	chunked    bool // its body leaves in chunks
	untilClose bool // the end of the connection is the end of its body

	// The request's body. Those inside take turns by requestBody.mu.
	in        []byte         // input not used yet: the turn's, or buf's
	buf       *buffer        // input received after the turn's was used up; chunked only
	data      []byte         // of a chunk, decoded and not handed out; part of in's memory
	remaining int64          // of a body with a length
	chunks    chunkedDecoder // of bodyChunked
	kind      bodyKind
	expect    bool // the client waits for a 100 (Continue)
	ended     bool // the end of the body has been found

	// lingers: the rest of the body would have to be waited for, so that an answer
	// which is committed now has to be the connection's last. duplex: the handler
	// has said that it will read on. Both are for a handler that reads and writes
	// from two goroutines.
	lingers atomic.Bool
	duplex  atomic.Bool

	// interim is held while an interim response is sent, and to begin the final
	// one, behind which no 100 may come (RFC 9110 §15.2): a 100 is for whoever
	// reads to send. Only requests with an expectation use it.
	interim  sync.Mutex
	answered bool // guarded by interim: no 100 is to come: the handler has sent one, or the final head
}

// reset forgets the exchange.
func (s *http1Stream) reset() {
	s.headLen, s.chunked, s.untilClose = 0, false, false
	s.resetBody()
}

func (s *http1Stream) session() session { return (*connSession)(s.c) }

// A connSession is a connection of one exchange after the other, as their session.
type connSession Conn

func (c *connSession) peerAddr() netip.AddrPort       { return (*Conn)(c).RemoteAddr() }
func (c *connSession) tlsState() *tls.ConnectionState { return c.tr.tlsState() }
func (c *connSession) proxyHeader() *ProxyHeader      { return c.limits.proxied }

func (c *connSession) localAddr() netip.AddrPort {
	if c.fd < 0 {
		return netip.AddrPort{}
	}
	return (*Conn)(c).LocalAddr()
}

func (s *http1Stream) version() (name string, major, minor int) {
	if s.x.r.head.minor == 0 {
		return "HTTP/1.0", 1, 0
	}
	return "HTTP/1.1", 1, 1
}

func (s *http1Stream) context() context.Context { return s.c.context() }
func (s *http1Stream) left() bool               { return s.c.left() }

func (s *http1Stream) value(key any) any {
	if base := s.c.limits.base; base != nil {
		return base.Value(key)
	}
	return nil
}

func (s *http1Stream) endContext() {
	if s.c.ctx.Load() != nil {
		s.c.endContext()
	}
}

func (s *http1Stream) setReadDeadline(t time.Time) error {
	s.c.workset.readBy.set(handlerDeadline(t))
	s.c.wakeOwner(ownRead)
	return nil
}

func (s *http1Stream) setWriteDeadline(t time.Time) error {
	s.c.workset.writeBy.set(handlerDeadline(t))
	s.c.wakeOwner(ownWrite)
	return nil
}

func (s *http1Stream) breakOff(directions uint32) {
	if directions&breakReads != 0 {
		s.c.wakeOwner(ownRead)
	}
	if directions&breakWrites != 0 {
		s.c.wakeOwner(ownWrite)
	}
}

func (s *http1Stream) mend(uint32) {}

func (s *http1Stream) broken() error {
	if s.c.broken() {
		return cmp.Or(s.c.cause, ErrClosed)
	}
	return nil
}

func (s *http1Stream) cutOff(how ending) {
	if s.untilClose {
		how = endReset // the end of the connection would look like the end of the body
	}
	s.c.end(how, nil)
}

func (s *http1Stream) ownConn() *Conn { return s.c }

func (s *http1Stream) tunnel(*handshake, *headerFields) (net.Conn, error) {
	return nil, errors.ErrUnsupported
}

// takeable: what is in a test's memory cannot be.
func (s *http1Stream) takeable() bool { return s.c.tr.canTakeOver() }

// takeOver takes the connection from its loop, behind the answers to earlier
// requests.
func (s *http1Stream) takeOver() (conn net.Conn, rest []byte, err error) {
	c, b := s.c, &s.x.r.body
	if err := c.sendWait(nil); err != nil {
		return nil, nil, err
	}
	c.workset.detach()
	for c.tr.unwritten() > 0 {
		if err := c.roomWait(); err != nil {
			return nil, nil, err
		}
	}
	s.x.lockBroken(&b.mu, breakReads) // a reader must not find another's descriptor
	defer b.mu.Unlock()
	conn, unread, err := c.takeOff()
	s.x.w.hijacked = true
	if err != nil {
		s.x.srv.connEnded(c, http.StateHijacked)
	}
	rest = append(append([]byte(nil), s.data...), s.in...) // in is right behind what is left of a chunk
	rest = append(rest, unread...)
	c.end(endHandedOver, errHijacked) // the descriptor's number may be another connection's by now
	b.end(errHijacked)
	s.in, s.data = nil, nil
	s.free()
	return conn, rest, err
}
