package flare

import (
	"errors"
	"io"
	"net"
	"os"
	"syscall"
	"time"
)

// This file is layer 4 (roles): the bottom of a client's connection: a net.Conn
// whose descriptor is used directly where there is one. It knows bytes and
// deadlines, not messages. client_conn.go and crypto/tls call it.
//
// A request and its answer are one stay in the runtime's poller: look whether
// the idle connection is still silent, send, wait, receive. The look costs
// nothing, since a read that finds nothing is what arms the poller in any case,
// and the calls are raw, since none of them waits.

// errStale means that nothing was sent.
var errStale = errors.New("flare: the idle connection had ended")

// writePieceBytes is how much is written under one write deadline: progress is
// that much.
const writePieceBytes = 64 << 10

// glance is how long a connection without a descriptor is looked at where
// nothing is to be waited for: a net.Conn whose deadline has passed does not
// look at all.
const glance = 100 * time.Microsecond

// A clientSocket belongs to one goroutine for reading and one for writing.
// Close is for any.
type clientSocket struct {
	net.Conn
	raw    syscall.RawConn       // nil: no descriptor to be seen
	direct bool                  // messages go by the descriptor
	ready  func(fd uintptr) bool // onReady, made once

	// For the reading goroutine.
	readBy time.Time // when a Read fails with ErrTimeout; zero: never
	armed  time.Time // what the net.Conn was told; never late, may be early
	in     []byte    // room to receive into
	out    []byte    // to be sent before
	n      int       // received
	sent   int
	errno  syscall.Errno
	step   socketStep
	await  bool // exchange is to wait for the answer
	noWait bool // Read fails with ErrTimeout where it would wait, without a descriptor longer than a glance
	ended  bool // Read has come to the end

	// For the writing goroutine.
	writeTimeout time.Duration // without progress; 0 or less: none
	writeBy      time.Time     // when all of it must have been sent; zero: never
	writeArmed   time.Time
	spills       bool   // Write does not wait: what finds no room goes to spill
	spill        []byte // to be sent before anything else
	sendNow      func(fd uintptr)
	toSend       []byte // for sendNow
	sentNow      int    // by it
	sendErrno    syscall.Errno
}

// socketStep is what onReady does next.
type socketStep uint8

const (
	stepProbe   socketStep = iota // nothing may be there to receive
	stepSend                      // the request, and then wait
	stepReceive                   // the answer
)

// newClientSocket takes over c. Under the race detector messages go through the
// net.Conn: raw calls would not tell it that what a server did before its
// answer happened before what the client's caller does with it.
func newClientSocket(c net.Conn) *clientSocket {
	s := &clientSocket{Conn: c}
	if !socketCalls {
		return s
	}
	switch c := c.(type) {
	case *net.TCPConn:
		if raw, err := c.SyscallConn(); err == nil {
			s.raw, s.ready, s.direct = raw, s.onReady, !raceEnabled
		}
	case *net.UnixConn:
		if raw, err := c.SyscallConn(); err == nil {
			s.raw = raw
		}
	}
	return s
}

// exchange sends out and receives the front of what comes back into in. With
// probe it first looks whether anything was there already; then nothing is
// sent, and the error is errStale. sent may be less than out with n 0: the rest
// is for Write. Without await nothing is received.
func (s *clientSocket) exchange(out, in []byte, probe, await bool) (sent, n int, err error) {
	s.out, s.in, s.sent, s.step, s.await = out, in, 0, stepSend, await
	if probe {
		s.step = stepProbe
	}
	n, err = s.wait()
	sent = s.sent
	s.out, s.in = nil, nil
	return sent, n, err
}

// Read receives what has arrived, and waits for it until readBy. It does not
// tell why the connection was closed if Close was called meanwhile.
func (s *clientSocket) Read(p []byte) (int, error) {
	n, err := s.read(p)
	s.ended = s.ended || err == io.EOF
	return n, err
}

func (s *clientSocket) read(p []byte) (int, error) {
	if !s.direct && (s.raw == nil || !s.noWait) {
		return s.readConn(p)
	}
	s.in, s.step = p, stepReceive
	n, err := s.wait()
	s.in = nil
	return n, err
}

// wait runs onReady until it has a result.
func (s *clientSocket) wait() (int, error) {
	for {
		if err := s.armRead(); err != nil {
			return 0, err
		}
		s.n, s.errno = 0, syscall.EAGAIN
		var err error
		if s.noWait {
			err = s.raw.Control(func(fd uintptr) { s.onReady(fd) })
		} else {
			err = s.raw.Read(s.ready)
		}
		switch {
		case isDeadline(err):
			if err := s.rearmRead(); err != nil {
				return 0, err
			}
			continue // it was an older deadline
		case err != nil:
			return 0, err
		case s.errno == errnoStale:
			return 0, errStale
		case s.errno == syscall.EAGAIN && s.noWait:
			return 0, ErrTimeout
		case s.errno == syscall.EAGAIN: // sent, perhaps in part
			return 0, nil
		case s.errno != 0:
			return 0, os.NewSyscallError("socket", s.errno)
		case s.n == 0 && s.step == stepReceive && len(s.in) > 0:
			return 0, io.EOF
		}
		return s.n, nil
	}
}

// errnoStale stands for errStale in errno; no call returns it.
const errnoStale = syscall.Errno(1 << 15)

// onReady is called by the poller with the descriptor, at first and whenever
// it may be readable, until it returns true. The poller forgot before the first
// call what it had seen, so that an answer to what is sent here wakes it.
func (s *clientSocket) onReady(fd uintptr) bool {
	if s.step == stepProbe {
		if _, errno := recvConn(int(fd), s.in); errno != syscall.EAGAIN {
			s.errno = errnoStale // octets nobody asked for, or the end
			return true
		}
		s.step = stepSend
	}
	if s.step == stepSend {
		s.step = stepReceive
		s.sent, s.errno = sendConn(int(fd), s.out)
		if s.errno == 0 && (s.sent < len(s.out) || !s.await) {
			s.errno = syscall.EAGAIN
		}
		return s.errno != 0
	}
	for {
		if s.n, s.errno = recvConn(int(fd), s.in); s.errno != syscall.EINTR {
			return s.errno != syscall.EAGAIN
		}
	}
}

// readConn is Read without a descriptor.
func (s *clientSocket) readConn(p []byte) (int, error) {
	for {
		if s.noWait {
			s.armed = time.Now().Add(glance)
			s.Conn.SetReadDeadline(s.armed)
		} else if err := s.armRead(); err != nil {
			return 0, err
		}
		n, err := s.Conn.Read(p)
		if n == 0 && isDeadline(err) {
			if s.noWait {
				return 0, ErrTimeout
			}
			if err := s.rearmRead(); err != nil {
				return 0, err
			}
			continue
		}
		return n, err
	}
}

// armRead sees to it that the net.Conn wakes at readBy at the latest. A
// deadline that moves into the future, request by request, is left where it
// was, and moved once it passes: no timer is touched for each request.
func (s *clientSocket) armRead() error {
	if s.noWait || s.readBy.IsZero() || !s.armed.IsZero() && !s.armed.After(s.readBy) {
		return nil
	}
	s.armed = s.readBy
	return s.Conn.SetReadDeadline(s.readBy)
}

// rearmRead is for when the net.Conn has woken.
func (s *clientSocket) rearmRead() error {
	if !s.readBy.IsZero() && time.Until(s.readBy) <= 0 {
		s.armed = longAgo // it fails until it is told another time
		return ErrTimeout
	}
	s.armed = s.readBy
	return s.Conn.SetReadDeadline(s.readBy)
}

// SetReadDeadline is for crypto/tls, and for a connection over this one.
func (s *clientSocket) SetReadDeadline(t time.Time) error {
	s.readBy = t
	return nil
}

// SetWriteDeadline is for crypto/tls, and for a connection over this one.
func (s *clientSocket) SetWriteDeadline(t time.Time) error {
	s.writeBy = t
	return nil
}

// SetDeadline is both.
func (s *clientSocket) SetDeadline(t time.Time) error {
	s.readBy, s.writeBy = t, t
	return nil
}

func isDeadline(err error) bool {
	if err == nil {
		return false
	}
	t, ok := err.(net.Error)
	return ok && t.Timeout()
}

// Write sends all of p. Each piece has writeTimeout to leave.
func (s *clientSocket) Write(p []byte) (int, error) {
	if s.spills {
		return s.writeOrSpill(p)
	}
	return s.writeAll(p)
}

// writeOrSpill sends the front of p without waiting, and keeps the rest.
func (s *clientSocket) writeOrSpill(p []byte) (int, error) {
	if len(s.spill) > 0 {
		s.spill = append(s.spill, p...)
		return len(p), nil
	}
	if s.sendNow == nil {
		s.sendNow = s.onSend
	}
	s.toSend = p
	err := s.raw.Control(s.sendNow)
	s.toSend = nil
	if err != nil {
		return 0, err
	}
	if s.sendErrno != 0 && s.sendErrno != syscall.EAGAIN && s.sendErrno != syscall.EINTR {
		return 0, os.NewSyscallError("socket", s.sendErrno)
	}
	s.spill = append(s.spill, p[s.sentNow:]...)
	return len(p), nil
}

// onSend is called with the descriptor, by writeOrSpill.
func (s *clientSocket) onSend(fd uintptr) { s.sentNow, s.sendErrno = sendConn(int(fd), s.toSend) }

// untaken returns how many octets the socket holds that the peer has yet to take; 0 if
// that is not known.
func (s *clientSocket) untaken() (n int) {
	if s.raw != nil {
		s.raw.Control(func(fd uintptr) { n = unackedConn(int(fd)) })
	}
	return n
}

// flushSpill sends what was kept, and waits for that.
func (s *clientSocket) flushSpill() error {
	_, err := s.writeAll(s.spill)
	s.spill = s.spill[:0]
	if cap(s.spill) > writePieceBytes {
		s.spill = nil
	}
	return err
}

func (s *clientSocket) writeAll(p []byte) (int, error) {
	n := 0
	for n < len(p) {
		by, err := s.armWrite()
		if err != nil {
			return n, err
		}
		piece := p[n:min(len(p), n+writePieceBytes)]
		m, err := s.Conn.Write(piece)
		if m == 0 && isDeadline(err) && time.Now().Before(by) { // it was that of an earlier piece
			s.writeArmed = by
			if err = s.Conn.SetWriteDeadline(by); err == nil {
				m, err = s.Conn.Write(piece)
			}
		}
		n += m
		if err != nil {
			if isDeadline(err) {
				if m > 0 {
					s.writeArmed = time.Time{}
					continue // progress; a new deadline
				}
				err = ErrTimeout
			}
			return n, err
		}
	}
	return n, nil
}

// armWrite moves the write deadline when less than half of it is left. by is
// when the next piece has to have left, zero for never. A deadline that comes
// too early would be the end of a TLS connection below, so that one's is moved
// each time.
func (s *clientSocket) armWrite() (by time.Time, err error) {
	if s.writeTimeout <= 0 && s.writeBy.IsZero() {
		if s.writeArmed.IsZero() {
			return by, nil
		}
		s.writeArmed = by
		return by, s.Conn.SetWriteDeadline(by)
	}
	now := time.Now()
	if !s.writeBy.IsZero() && !now.Before(s.writeBy) {
		return by, ErrTimeout
	}
	by = limitFrom(now, s.writeTimeout, s.writeBy)
	if s.raw != nil && s.writeTimeout > 0 && !s.writeArmed.IsZero() && !s.writeArmed.After(by) && s.writeArmed.Sub(now) > s.writeTimeout/2 {
		return by, nil
	}
	s.writeArmed = by
	return by, s.Conn.SetWriteDeadline(by)
}
