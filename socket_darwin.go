package flare

import (
	"math"
	"net/netip"
	"os"
	"syscall"
)

// This file is layer 2 (system): what a loop calls for each connection and each
// request, on Darwin. It knows non-blocking descriptors, and nothing of polling.
// The engine calls it. socket_linux.go is its mirror.
//
// The calls are ordinary ones: Darwin's system calls go through libSystem, and
// package syscall offers no raw form that does. They have no MSG_NOSIGNAL
// either, so acceptConn and openSocket set SO_NOSIGPIPE. recvConn, sendConn and
// sendvConn never return EINTR.

// callBytesMax is the most that one call moves: from 2 GiB on Darwin's read and
// write refuse (EINVAL) in place of moving less. Package os has the same bound.
const callBytesMax = 1 << 30

const (
	// Darwin's TCP_KEEPALIVE is the idle time. syscall lacks the other two on
	// amd64; netinet/tcp.h has them.
	tcpKeepIdle     = syscall.TCP_KEEPALIVE
	tcpKeepInterval = 0x101 // TCP_KEEPINTVL
	tcpKeepCount    = 0x102 // TCP_KEEPCNT

	// errnoNoNetwork: Darwin has no ENONET. No call fails with this number.
	errnoNoNetwork = syscall.Errno(1 << 16)
)

// soReusePort is SO_REUSEPORT; a function, as on Linux, where it depends on the
// architecture.
func soReusePort() int { return syscall.SO_REUSEPORT }

// openSocket opens a stream socket, non-blocking and not inherited. Darwin takes
// no flags with socket(2), so a fork in between is held off.
func openSocket(family int) (int, error) {
	syscall.ForkLock.RLock()
	fd, err := syscall.Socket(family, syscall.SOCK_STREAM, 0)
	if err == nil {
		syscall.CloseOnExec(fd)
	}
	syscall.ForkLock.RUnlock()
	if err != nil {
		return -1, err
	}
	err = syscall.SetNonblock(fd, true)
	if err == nil {
		err = syscall.SetsockoptInt(fd, syscall.SOL_SOCKET, syscall.SO_NOSIGPIPE, 1)
	}
	if err != nil {
		syscall.Close(fd)
		return -1, err
	}
	return fd, nil
}

// acceptConn takes a connection from lfd, non-blocking and not inherited, and
// its peer's address: unmapped, zero for a Unix socket. EAGAIN: none waits.
func acceptConn(lfd int) (fd int, peer netip.AddrPort, errno syscall.Errno) {
	syscall.ForkLock.RLock()
	fd, sa, err := syscall.Accept(lfd)
	if err == nil {
		syscall.CloseOnExec(fd)
	}
	syscall.ForkLock.RUnlock()
	if err != nil {
		return -1, netip.AddrPort{}, errnoOf(err)
	}
	err = syscall.SetNonblock(fd, true)
	if err == nil {
		err = syscall.SetsockoptInt(fd, syscall.SOL_SOCKET, syscall.SO_NOSIGPIPE, 1)
	}
	if err != nil {
		// The peer is gone already (EINVAL for a socket that is shut down).
		syscall.Close(fd)
		return -1, netip.AddrPort{}, syscall.ECONNABORTED
	}
	return fd, addrPortOf(sa), 0
}

// recvConn receives into p. n is 0 with errno 0 at the end of the stream, or
// for an empty p.
func recvConn(fd int, p []byte) (n int, errno syscall.Errno) {
	for {
		n, err := syscall.Read(fd, p[:min(len(p), callBytesMax)])
		if err == nil {
			return n, 0
		}
		if err != syscall.EINTR {
			return 0, errnoOf(err)
		}
	}
}

// peekConn is recvConn for what stays there to be received. It is called once or twice
// in the life of a connection, and is an ordinary call.
func peekConn(fd int, p []byte) (n int, errno syscall.Errno) {
	for {
		n, _, err := syscall.Recvfrom(fd, p, syscall.MSG_PEEK|syscall.MSG_DONTWAIT)
		if err != syscall.EINTR {
			return max(n, 0), errnoOf(err)
		}
	}
}

// discardConn takes bytes from fd that nobody wants, as recvConn takes those that
// somebody does. Darwin has no way to do so without a copy: it is one into room,
// of however many fit.
func discardConn(fd, most int, room []byte) (n int, errno syscall.Errno) {
	return recvConn(fd, room)
}

// sendConn sends the front of p, as much as there is room for. A closed peer is
// EPIPE, never a signal.
func sendConn(fd int, p []byte) (n int, errno syscall.Errno) {
	for {
		n, err := syscall.Write(fd, p[:min(len(p), callBytesMax)])
		if err == nil {
			return n, 0
		}
		if err != syscall.EINTR {
			return 0, errnoOf(err)
		}
	}
}

// sendvConn sends the front of a followed by b, as sendConn does, without
// copying them together. Package syscall has no writev that goes through
// libSystem, so it is two calls.
func sendvConn(fd int, a, b []byte) (n int, errno syscall.Errno) {
	if len(a) > 0 {
		n, errno = sendConn(fd, a)
		if errno != 0 || n < len(a) {
			return n, errno
		}
	}
	m, errno := sendConn(fd, b)
	if n > 0 {
		errno = 0 // what was sent counts; the next call meets the error again
	}
	return n + m, errno
}

// sendFile sends n bytes of the file in, from *off on, to the socket out, and
// moves *off past what was sent. n is 0 with errno 0 at the end of the file.
// ENOTSUP and EINVAL: in is not a file that can be sent so; copy it.
func sendFile(out, in int, off *int64, n int) (int, syscall.Errno) {
	if n == 0 {
		return 0, 0 // sendfile(2) of Darwin takes 0 for all of the file
	}
	sent, err := syscall.Sendfile(out, in, off, n)
	switch {
	case err == nil, sent > 0 && (err == syscall.EAGAIN || err == syscall.EINTR):
		// What went out before the interruption is counted, as on Linux; *off is
		// left for the caller to move. With any other error sent means nothing.
		*off += int64(sent)
		return sent, 0
	}
	return 0, errnoOf(err)
}

// unackedConn is how many bytes that fd was given its peer has not acknowledged;
// 0 if that is not known.
func unackedConn(fd int) int {
	n, err := syscall.GetsockoptInt(fd, syscall.SOL_SOCKET, syscall.SO_NWRITE)
	if err != nil {
		return 0
	}
	return n
}

// setUnsentMax bounds what fd takes beyond what may be under way to the peer.
// Darwin's option of that name says only when room is announced.
func setUnsentMax(fd, n int) error { return nil }

// acceptQueue is how many connections wait to be accepted from lfd, a very large
// number if that is not known; Darwin does not say.
func acceptQueue(lfd int) int { return math.MaxInt }

// dupCloexec duplicates fd, not inherited. The two share one file description:
// its flags, its socket.
func dupCloexec(fd int) (int, error) {
	syscall.ForkLock.RLock()
	defer syscall.ForkLock.RUnlock()
	dup, err := syscall.Dup(fd)
	if err != nil {
		return -1, os.NewSyscallError("dup", err)
	}
	syscall.CloseOnExec(dup)
	return dup, nil
}
