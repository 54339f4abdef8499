//go:build !linux && !darwin

package flare

import (
	"errors"
	"net"
	"net/netip"
	"syscall"
	"time"
)

// This file is layer 2 (system): sockets on systems without a poller here. None
// of their descriptors reaches a loop or is used by a client: the net.Conn over
// it is. So each of these calls refuses, with an error that answers errors.Is
// for errors.ErrUnsupported.

// socketCalls says whether a descriptor may be used beside its net.Conn.
const socketCalls = false

func acceptConn(lfd int) (fd int, peer netip.AddrPort, errno syscall.Errno) {
	return -1, netip.AddrPort{}, syscall.ENOSYS
}

func recvConn(fd int, p []byte) (n int, errno syscall.Errno) { return 0, syscall.ENOSYS }

func peekConn(fd int, p []byte) (n int, errno syscall.Errno) { return 0, syscall.ENOSYS }

func discardConn(fd, most int, room []byte) (n int, errno syscall.Errno) { return 0, syscall.ENOSYS }

func sendConn(fd int, p []byte) (n int, errno syscall.Errno) { return 0, syscall.ENOSYS }

func sendvConn(fd int, a, b []byte) (n int, errno syscall.Errno) { return 0, syscall.ENOSYS }

func sendFile(out, in int, off *int64, n int) (int, syscall.Errno) { return 0, syscall.ENOSYS }

func shutdownWrite(fd int) error { return errors.ErrUnsupported }

func shutdownBoth(fd int) error { return errors.ErrUnsupported }

func closeFD(fd int) error { return errors.ErrUnsupported }

func setResetOnClose(fd int) error { return errors.ErrUnsupported }

func setNoDelay(fd int) error { return errors.ErrUnsupported }

func fileConn(fd int) (net.Conn, error) { return nil, errors.ErrUnsupported }

func unackedConn(fd int) int { return 0 }

func acceptQueue(fd int) int { return 0 }

func setUnsentMax(fd, n int) error { return errors.ErrUnsupported }

func localAddrPort(fd int) (netip.AddrPort, error) { return netip.AddrPort{}, errors.ErrUnsupported }

func listenTCP(addr netip.AddrPort, backlog int, reusePort bool) (int, error) {
	return -1, errors.ErrUnsupported
}

func listenUnix(path string) (int, error) { return -1, errors.ErrUnsupported }

func connectTCP(addr netip.AddrPort, o *SocketOptions) (fd int, err error) {
	return -1, errors.ErrUnsupported
}

func connectUnix(path string, o *SocketOptions) (fd int, err error) {
	return -1, errors.ErrUnsupported
}

func connectResult(fd int) syscall.Errno { return syscall.ENOSYS }

func setSocketOptions(fd int, o *SocketOptions, tcp bool) error { return errors.ErrUnsupported }

func setKeepAlive(fd int, idle time.Duration) error { return errors.ErrUnsupported }

func dupCloexec(fd int) (int, error) { return -1, errors.ErrUnsupported }

func acceptOutcomeOf(errno syscall.Errno) acceptOutcome { return acceptNever }

// wouldBlock reports whether errno means to come again later.
func wouldBlock(errno syscall.Errno) bool {
	return errno == syscall.EAGAIN || errno == syscall.EINTR
}
