//go:build linux || darwin

package flare

import (
	"net/netip"
	"os"
	"syscall"
	"time"
)

// This file is layer 2 (system): connections that are made without waiting, and
// the options of sockets that no net.Dialer makes. It knows file descriptors and
// addresses; who polls them is for the engine, which calls it.

// setSocketOptions applies o to fd, which is about to be connected, or listens.
// What a listening socket has goes to its connections, which cannot have larger
// buffers once they have begun.
func setSocketOptions(fd int, o *SocketOptions, tcp bool) error {
	for _, v := range o.values() {
		if v.value > 0 {
			if err := setInt(fd, syscall.SOL_SOCKET, v.option.number(), v.value); err != nil {
				return err
			}
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
	idle := o.KeepAlive
	if idle == 0 {
		idle = defaultKeepAlive
	}
	return setKeepAlive(fd, idle)
}

// defaultKeepAlive is package net's.
const defaultKeepAlive = 15 * time.Second

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
