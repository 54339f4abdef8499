package flare

import (
	"crypto/tls"
	"errors"
	"net"
	"net/netip"
	"os"
	"syscall"
	"time"
)

// This file is layer 3 (engine): what moves a connection's octets. A descriptor
// is one transport; conn_tls.go has TLS over one, conn_plain.go a net.Conn of
// anybody's. Conn and its outbox know no more of them than this interface.

// errWouldBlock is what a transport answers when there is nothing to take, or
// no room to give: the next edge says when to come again.
var errWouldBlock error = syscall.EAGAIN

// A transport is a connection's way in and out. The connection's owner calls
// its methods, and whoever holds the lock of an outbox those that send, where
// anyoneSends allows it. None of them waits for the peer, but for takeOver.
type transport interface {
	// recv takes what has arrived. 0 without an error is the end of the stream.
	recv(p []byte) (int, error)

	// discard takes what nobody wants of what has arrived, as recv does otherwise.
	// It may be the last that is asked for input. room is there to be overwritten.
	discard(room []byte) (int, error)

	// drained reports, after a recv that was short, that nothing is left of
	// what came, so that more of it is an edge of its own.
	drained() bool

	// partial is input that has come and cannot be handed on before there is
	// more of it: an incomplete record.
	partial() partialRecord

	// looked says that a turn has called recv, and counted that a wait has, in
	// vain or for n bytes. counted returns how many bytes came since either was
	// called last, for the rate that is asked of the peer.
	looked(blocked bool, now time.Duration)
	counted(n int) int

	// send takes the front of a and b, in that order.
	send(a, b []byte) (int, error)

	// sendFile is send from a file at *offset, which it moves. Without a way
	// inside the kernel it is errors.ErrUnsupported.
	sendFile(file *os.File, offset *int64, n int) (int, error)

	// anyoneSends reports whether other goroutines than the owner may send.
	anyoneSends() bool

	// flush goes on with what has been taken and not passed on. holds reports
	// whether there is some.
	flush() error
	holds() bool

	// promised is how many bytes of those that are to be sent next cannot be
	// taken back, since others depend on them already.
	promised() int

	// unacked is how many bytes that were sent the peer has not taken, as far
	// as can be seen; unwritten how many of them would be lost by an end now.
	unacked() int
	unwritten() int

	// boundUnsent has a socket take no more than most bytes beyond what is under
	// way to the peer, or than an earlier call has allowed if that was more.
	boundUnsent(most int32)

	// handshake goes on with what comes before the protocol, in stateHandshake.
	// handshaking reports, to anyone, that it has not ended.
	handshake(g *workset) verdict
	handshaking() bool

	tlsState() *tls.ConnectionState // nil without TLS
	localAddr() netip.AddrPort

	// shutdownWrite tells the peer, behind all that was sent, that nothing
	// more comes. halfCloses reports whether that can be said.
	shutdownWrite()
	halfCloses() bool

	// cut ends both directions, so that whoever owns the connection finds out.
	// Anyone may call it while the connection is open.
	cut()

	// end is the last call. Nothing is sent after it.
	end(reset bool)

	// takeOver hands out a net.Conn in the connection's place, once its loop has
	// let go of it, and what was received and not taken by recv.
	// canTakeOver reports whether there is such a thing.
	takeOver() (conn net.Conn, unread []byte, err error)
	canTakeOver() bool
}

// afterFront returns what is left of a and b when send has taken n bytes.
func afterFront(a, b []byte, n int) (restA, restB []byte) {
	if n <= len(a) {
		return a[n:], b
	}
	return nil, b[n-len(a):]
}

// An fdConn is a Conn as the transport that its descriptor is.
type fdConn Conn

func (c *fdConn) recv(p []byte) (int, error) {
	n, errno := recvConn(c.fd, p)
	return n, errorOf(errno)
}

func (c *fdConn) discard(room []byte) (int, error) {
	n, errno := discardConn(c.fd, discardBytes, room)
	return n, errorOf(errno)
}

func (c *fdConn) send(a, b []byte) (n int, err error) {
	var errno syscall.Errno
	switch {
	case len(b) == 0:
		n, errno = sendConn(c.fd, a)
	case len(a) == 0:
		n, errno = sendConn(c.fd, b)
	default:
		n, errno = sendvConn(c.fd, a, b)
	}
	return n, errorOf(errno)
}

func (c *fdConn) boundUnsent(most int32) {
	if c.unsentMax.Load() < most && c.peer.IsValid() {
		c.unsentMax.Store(most)
		setUnsentMax(c.fd, int(most))
	}
}

// errorOf is errno as an error: nil for 0, errWouldBlock for EAGAIN.
func errorOf(errno syscall.Errno) error {
	switch errno {
	case 0:
		return nil
	case syscall.EAGAIN:
		return errWouldBlock
	}
	return errno
}

func (c *fdConn) sendFile(file *os.File, offset *int64, n int) (sent int, err error) {
	raw, err := file.SyscallConn()
	if err != nil {
		return 0, err
	}
	controlErr := raw.Control(func(fd uintptr) {
		errno := syscall.EINTR
		for errno == syscall.EINTR {
			sent, errno = sendFile(c.fd, int(fd), offset, n)
		}
		err = errorOfSendFile(errno)
	})
	if controlErr != nil {
		return sent, controlErr
	}
	return sent, err
}

// errorOfSendFile is errorOf for an errno of sendFile: errors.ErrUnsupported if it
// says that the kernel does not send such a file, or none at all, and nothing of
// the connection. Some file systems and /proc have no pages to send, and a sandbox
// may not know the call.
func errorOfSendFile(errno syscall.Errno) error {
	switch errno {
	case syscall.EINVAL, syscall.ENOSYS, syscall.EOPNOTSUPP, syscall.EOVERFLOW, syscall.EPERM:
		return errors.ErrUnsupported
	}
	if errno == syscall.ENOTSUP { // EOPNOTSUPP on Linux
		return errors.ErrUnsupported
	}
	return errorOf(errno)
}

func (c *fdConn) drained() bool                  { return true }
func (c *fdConn) partial() partialRecord         { return partialRecord{} }
func (c *fdConn) looked(bool, time.Duration)     {}
func (c *fdConn) counted(n int) int              { return n }
func (c *fdConn) anyoneSends() bool              { return true }
func (c *fdConn) flush() error                   { return nil }
func (c *fdConn) holds() bool                    { return false }
func (c *fdConn) promised() int                  { return 0 }
func (c *fdConn) unacked() int                   { return unackedConn(c.fd) }
func (c *fdConn) unwritten() int                 { return 0 }
func (c *fdConn) handshake(*workset) verdict     { return verdictMore }
func (c *fdConn) handshaking() bool              { return false }
func (c *fdConn) tlsState() *tls.ConnectionState { return nil }
func (c *fdConn) shutdownWrite()                 { shutdownWrite(c.fd) }
func (c *fdConn) halfCloses() bool               { return true }
func (c *fdConn) cut()                           { shutdownBoth(c.fd) }
func (c *fdConn) end(bool)                       {}
func (c *fdConn) canTakeOver() bool              { return true }

func (c *fdConn) localAddr() netip.AddrPort {
	addr, _ := localAddrPort(c.fd)
	return addr
}

func (c *fdConn) takeOver() (net.Conn, []byte, error) {
	nc, err := fileConn(c.fd)
	closeFD(c.fd)
	return nc, nil, err
}

// memoryBase is what a transport without a peer to wait for has beside recv
// and send.
type memoryBase struct{}

func (memoryBase) discard([]byte) (int, error)                 { return 0, errWouldBlock }
func (memoryBase) drained() bool                               { return false }
func (memoryBase) partial() partialRecord                      { return partialRecord{} }
func (memoryBase) looked(bool, time.Duration)                  {}
func (memoryBase) counted(n int) int                           { return n }
func (memoryBase) anyoneSends() bool                           { return false }
func (memoryBase) flush() error                                { return nil }
func (memoryBase) holds() bool                                 { return false }
func (memoryBase) promised() int                               { return 0 }
func (memoryBase) unacked() int                                { return 0 }
func (memoryBase) boundUnsent(int32)                           {}
func (memoryBase) unwritten() int                              { return 0 }
func (memoryBase) handshake(*workset) verdict                  { return verdictMore }
func (memoryBase) handshaking() bool                           { return false }
func (memoryBase) tlsState() *tls.ConnectionState              { return nil }
func (memoryBase) localAddr() netip.AddrPort                   { return netip.AddrPort{} }
func (memoryBase) shutdownWrite()                              {}
func (memoryBase) halfCloses() bool                            { return true }
func (memoryBase) cut()                                        {}
func (memoryBase) end(bool)                                    {}
func (memoryBase) canTakeOver() bool                           { return false }
func (memoryBase) takeOver() (net.Conn, []byte, error)         { return nil, nil, errors.ErrUnsupported }
func (memoryBase) sendFile(*os.File, *int64, int) (int, error) { return 0, errors.ErrUnsupported }

// onSocket calls fn with the descriptor of the TCP socket that nc is or speaks TLS
// over, if it is one and may be used beside nc.
func onSocket(nc net.Conn, fn func(fd int)) {
	if over, ok := nc.(*tls.Conn); ok {
		nc = over.NetConn()
	}
	switch under := nc.(type) {
	case *tlsTransport:
		nc = under.nc
	case *plainTLS:
		nc = under.Conn
	}
	tcp, ok := nc.(*net.TCPConn)
	if !ok || !socketCalls {
		return
	}
	if raw, err := tcp.SyscallConn(); err == nil {
		raw.Control(func(fd uintptr) { fn(int(fd)) })
	}
}

// A partialRecord is the record that is not complete yet; the zero value is none.
// Nothing of it can be read, but it is what its peer has as long for as for the
// head of a request, and its bytes are progress.
type partialRecord struct {
	began time.Duration
	grew  time.Duration // when last
	size  int           // bytes
}

// now follows the record, of which size bytes have come by now.
func (r *partialRecord) now(size int, now time.Duration) {
	switch {
	case size == 0:
		*r = partialRecord{}
	case r.began == 0:
		*r = partialRecord{now, now, size}
	case r.size != size:
		r.grew, r.size = now, size
	}
}

// netAddr is addr as package net has it.
func netAddr(addr netip.AddrPort) net.Addr {
	if !addr.IsValid() {
		return &net.UnixAddr{Net: "unix"}
	}
	return net.TCPAddrFromAddrPort(addr)
}
