package flare

import (
	"errors"
	"io"
	"net"
	"os"
	"time"
)

// This file is layer 4 (roles): a stream of the client's HTTP/2 as a net.Conn, once
// the server has agreed to an extended CONNECT (RFC 8441). A WebSocket is on top.

// live returns a stream on a connection of the route that takes an extended
// CONNECT, nil if there is none to be had at once.
func (p *http2ClientPool) live(route clientRoute) *clientStream {
	p.mu.Lock()
	var c *http2ClientConn
	if r := p.routes[route]; r != nil {
		c = r.conn
	}
	p.mu.Unlock()
	if c == nil {
		return nil
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.gone() || !c.peer.connect || !c.claim() {
		return nil
	}
	return c.newStream()
}

// connect sends an extended CONNECT; its answer is read as any other. With errStale
// nothing was sent.
func (st *clientStream) connect(line requestLine, h *headerFields, by time.Time) error {
	c := st.c
	c.mu.Lock()
	if c.gone() {
		c.mu.Unlock()
		return errStale
	}
	st.enter("") // what follows an answer of 2xx is no body that CONNECT has not
	st.by = by
	b, at := beginHeaders(c.output.queue)
	c.output.queue = endHeaders(c.enc.appendRequest(b, line, h), at, st.id, false, c.peer.frameSizeMax)
	c.armCalls(time.Now())
	c.flush()
	return nil
}

// A streamConn is a stream behind an extended CONNECT. Its end is END_STREAM, both
// ways (RFC 8441 §5).
type streamConn struct{ st *clientStream }

func (s *streamConn) LocalAddr() net.Addr  { return s.st.c.conn().LocalAddr() }
func (s *streamConn) RemoteAddr() net.Addr { return s.st.c.conn().RemoteAddr() }

// Read returns what has come, whatever the deadline, and else waits until it.
func (s *streamConn) Read(p []byte) (int, error) {
	s.st.c.mu.Lock()
	n, ended, err := s.st.receive(p)
	if n == 0 && ended {
		return 0, io.EOF
	}
	return n, tunnelError(err)
}

// Write sends all of p.
func (s *streamConn) Write(p []byte) (int, error) {
	n, err := s.st.Write(p)
	return n, tunnelError(err)
}

// tunnelError makes an error what a net.Conn returns.
func tunnelError(err error) error {
	switch {
	case err == nil || err == io.EOF:
		return err
	case err == ErrTimeout:
		return os.ErrDeadlineExceeded
	case err == errHTTP2Cancel, errors.Is(err, errUploadStopped):
		return net.ErrClosed
	}
	return err
}

// Close ends the stream. What was written is sent all the same.
func (s *streamConn) Close() error {
	st, c := s.st, s.st.c
	c.mu.Lock()
	if st.open && !st.endSent && st.err == nil {
		c.output.queue = appendData(c.output.queue, st.id, nil, true)
		st.endSending()
	}
	c.mu.Unlock()
	st.close()
	return nil
}

// SetDeadline is both.
func (s *streamConn) SetDeadline(t time.Time) error {
	s.SetReadDeadline(t)
	return s.SetWriteDeadline(t)
}

// SetReadDeadline holds for a Read that waits, too.
func (s *streamConn) SetReadDeadline(t time.Time) error {
	st := s.st
	st.c.mu.Lock()
	defer st.c.mu.Unlock()
	st.by = t
	if st.waiting {
		st.c.health.arm(t)
	}
	return nil
}

// SetWriteDeadline holds for a Write that waits, too.
func (s *streamConn) SetWriteDeadline(t time.Time) error {
	st := s.st
	st.c.mu.Lock()
	defer st.c.mu.Unlock()
	st.writeBy = t
	st.wakeWriter()
	return nil
}
