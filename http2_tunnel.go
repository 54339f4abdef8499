package flare

import (
	"net"
	"net/http"
	"os"
	"sync"
	"time"
)

// This file is layer 4 (roles): a stream of HTTP/2 that has become a tunnel, by
// extended CONNECT (RFC 8441), as a net.Conn. Its octets are DATA frames both ways.
// It outlives the handler that has made it: the stream counts as running until the
// tunnel is closed.

// An http2Tunnel is such a stream. Any goroutine may call its methods.
type http2Tunnel struct {
	s           *http2Stream // whose mu guards the rest; another request's once the tunnel is closed
	local, peer net.Addr     // fixed

	changed sync.Cond // on s.mu: octets or room have come, a deadline has passed, or the end
	read    http2TunnelDeadline
	write   http2TunnelDeadline
	half    bool // the write side is closed
	closed  bool
}

type http2TunnelDeadline struct {
	at    time.Time
	timer *time.Timer
}

// tunnel answers an extended CONNECT, and returns what the stream has become.
func (s *http2Stream) tunnel(hs *handshake, fields *headerFields) (net.Conn, error) {
	s.workset.detach()
	session := s.session()
	t := &http2Tunnel{s: s, local: netAddr(session.localAddr()), peer: netAddr(session.peerAddr())}
	t.changed.L = &s.mu
	head := http2Outgoing{fields: hs.answerFields(fields), status: http.StatusOK, length: -1}
	s.mu.Lock()
	s.addHead(head)
	s.final, s.rare.through = true, t
	s.mu.Unlock()
	s.x.w.hijacked = true
	s.wish()
	return t, nil
}

// wake has whoever waits look again.
func (t *http2Tunnel) wake() {
	t.s.mu.Lock()
	t.changed.Broadcast()
	t.s.mu.Unlock()
}

// await waits until something has changed. t.s.mu is held before and after.
func (t *http2Tunnel) await() {
	l := t.s.conn.loop
	t.changed.Wait()
	if l.env != nil {
		t.s.mu.Unlock()
		l.resumed()
		t.s.mu.Lock()
	}
}

func (t *http2Tunnel) Read(p []byte) (int, error) {
	s := t.s
	s.mu.Lock()
	defer s.mu.Unlock()
	for {
		if t.closed {
			return 0, net.ErrClosed
		}
		n, err, wish := s.takeQueued(p)
		if wish {
			s.wish()
		}
		switch {
		case n > 0 || len(p) == 0:
			return n, nil
		case err != nil:
			return 0, err
		case t.read.passed():
			return 0, os.ErrDeadlineExceeded
		}
		t.await()
	}
}

func (t *http2Tunnel) Write(p []byte) (n int, err error) {
	s := t.s
	s.mu.Lock()
	defer s.mu.Unlock()
	for n < len(p) {
		switch {
		case t.closed || t.half:
			return n, net.ErrClosed
		case s.odd().gone != nil:
			return n, s.rare.gone
		case t.write.passed():
			return n, os.ErrDeadlineExceeded
		}
		k := min(len(p)-n, http2QueueBytes-s.out.len())
		if k == 0 {
			s.wantsRoom = true
			t.await()
			continue
		}
		s.out.append(p[n:n+k], nil)
		s.out.count(s.conn.limits.buffered)
		n += k
		s.wish()
	}
	return n, nil
}

// CloseWrite ends what is sent.
func (t *http2Tunnel) CloseWrite() error {
	s := t.s
	s.mu.Lock()
	defer s.mu.Unlock()
	if t.closed || t.half {
		return net.ErrClosed
	}
	t.half, s.outEnded = true, true
	s.wish()
	return nil
}

// Close ends the tunnel, behind what was written. What the peer still sends is not
// wanted.
func (t *http2Tunnel) Close() error {
	s := t.s
	s.mu.Lock()
	if t.closed {
		s.mu.Unlock()
		return net.ErrClosed
	}
	t.closed, s.outEnded = true, true
	t.read.stop()
	t.write.stop()
	t.changed.Broadcast()
	l := s.conn.loop
	s.mu.Unlock()
	if !l.call(func() { s.settle(verdictClose) }) {
		s.abandon()
	}
	return nil
}

// excused reports whether a wait of that limit, for octets or for room, was not the
// peer's doing.
func (t *http2Tunnel) excused(limit time.Duration) bool {
	s := t.s
	s.mu.Lock()
	defer s.mu.Unlock()
	return !t.closed && (s.excusedIn(0, limit) || s.out.len() > 0 && s.excusedIn(1, limit))
}

// isTunnel reports whether s has become one.
func (s *http2Stream) isTunnel() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.odd().through != nil
}

// holds reports whether one of the two that have the stream of a tunnel, its
// handler and whoever has the tunnel, is not done with it when the other is.
func (s *http2Stream) holds() bool { return s.odd().through != nil && s.doneWith.Add(1) < 2 }

func (t *http2Tunnel) LocalAddr() net.Addr  { return t.local }
func (t *http2Tunnel) RemoteAddr() net.Addr { return t.peer }

func (t *http2Tunnel) SetDeadline(at time.Time) error {
	t.SetReadDeadline(at)
	return t.SetWriteDeadline(at)
}

func (t *http2Tunnel) SetReadDeadline(at time.Time) error  { return t.setDeadline(&t.read, at) }
func (t *http2Tunnel) SetWriteDeadline(at time.Time) error { return t.setDeadline(&t.write, at) }

func (t *http2Tunnel) setDeadline(d *http2TunnelDeadline, at time.Time) error {
	t.s.mu.Lock()
	defer t.s.mu.Unlock()
	if t.closed {
		return net.ErrClosed
	}
	d.stop()
	if d.at = at; !at.IsZero() {
		if wait := time.Until(at); wait > 0 {
			d.timer = time.AfterFunc(wait, t.wake)
		}
	}
	t.changed.Broadcast()
	return nil
}

func (d *http2TunnelDeadline) passed() bool { return !d.at.IsZero() && !time.Now().Before(d.at) }

func (d *http2TunnelDeadline) stop() {
	if d.timer != nil {
		d.timer.Stop()
		d.timer = nil
	}
}

// wakeThrough has whoever waits in the tunnel look again, if s is one. s.mu is
// held.
func (s *http2Stream) wakeThrough() {
	if t := s.odd().through; t != nil {
		t.changed.Broadcast()
	}
}
