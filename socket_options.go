//go:build linux || darwin

package flare

import (
	"net/netip"
	"os"
	"syscall"
	"time"
)

// This file is layer 2 (system): options of stream sockets, and connections
// that are made without waiting. It knows file descriptors and addresses; who
// polls them is for the engine, which calls it.

// SocketOptions are options of a stream socket. The zero value is what flare
// does by itself.
type SocketOptions struct {
	// Delay lets the kernel gather small writes (Nagle's algorithm). A Conn
	// gathers its own, so they are sent at once otherwise. TCP only.
	Delay bool

	// KeepAlive is after how much silence the kernel probes the peer, in whole
	// seconds, rounded up; 0 and less: never. TCP only.
	KeepAlive time.Duration

	// ReceiveBuffer and SendBuffer are bytes that the kernel keeps for the
	// connection in either direction; 0: what the system thinks right.
	ReceiveBuffer, SendBuffer int

	// ReusePort lets several listeners have one address, one for each loop or
	// process: on Linux the kernel spreads connections over them. Listeners
	// only; that an address can be used again at once is always set.
	ReusePort bool
}

// setSocketOptions applies o to fd. A listening socket hands the sizes of
// buffers down to its connections, which have to have them before they begin.
func setSocketOptions(fd int, o *SocketOptions, tcp bool) error {
	if o.ReceiveBuffer > 0 {
		if err := setInt(fd, syscall.SOL_SOCKET, syscall.SO_RCVBUF, o.ReceiveBuffer); err != nil {
			return err
		}
	}
	if o.SendBuffer > 0 {
		if err := setInt(fd, syscall.SOL_SOCKET, syscall.SO_SNDBUF, o.SendBuffer); err != nil {
			return err
		}
	}
	if !tcp {
		return nil
	}
	if !o.Delay {
		if err := setNoDelay(fd); err != nil {
			return err
		}
	}
	if o.KeepAlive > 0 {
		return setKeepAlive(fd, o.KeepAlive)
	}
	return nil
}

// connectTCP opens a socket and begins to connect it; connectResult says how
// that went once fd is writable.
func connectTCP(addr netip.AddrPort, o *SocketOptions) (fd int, err error) {
	family, sa, err := sockaddrOf(netip.AddrPortFrom(addr.Addr().Unmap(), addr.Port()))
	if err != nil {
		return -1, err
	}
	return connectTo(family, sa, o)
}

// connectUnix is connectTCP for a socket in the file system. On Linux a path
// that starts with "@" is abstract.
func connectUnix(path string, o *SocketOptions) (fd int, err error) {
	return connectTo(syscall.AF_UNIX, &syscall.SockaddrUnix{Name: path}, o)
}

func connectTo(family int, sa syscall.Sockaddr, o *SocketOptions) (int, error) {
	fd, err := openSocket(family)
	if err != nil {
		return -1, os.NewSyscallError("socket", err)
	}
	if err := setSocketOptions(fd, o, family != syscall.AF_UNIX); err != nil {
		syscall.Close(fd)
		return -1, err
	}
	// EINTR: it goes on without us (connect(2)).
	if err := syscall.Connect(fd, sa); err != nil && err != syscall.EINPROGRESS && err != syscall.EINTR {
		syscall.Close(fd)
		return -1, os.NewSyscallError("connect", err)
	}
	return fd, nil
}

// connectResult says how a connect went: 0, EINPROGRESS while it goes on, or
// why it failed.
func connectResult(fd int) syscall.Errno {
	if errno := socketErr(fd); errno != 0 {
		return errno
	}
	// No error is also what a socket says that is not connected yet.
	if _, err := syscall.Getpeername(fd); errnoOf(err) == syscall.ENOTCONN {
		return syscall.EINPROGRESS
	}
	return 0
}
