//go:build linux || darwin

package flare

import (
	"net/netip"
	"syscall"
)

// This file is layer 2 (system): sockets that package net has made: an option
// before it binds or connects them, a descriptor of one's own afterwards, and
// what one sends with that. The dialler and UDP call it.

// msgTruncated says of a received datagram that it did not fit.
const msgTruncated = syscall.MSG_TRUNC

// number is the option's for setsockopt(2).
func (o socketOption) number() int {
	return [socketOptions]int{
		optionReadBuffer:  syscall.SO_RCVBUF,
		optionWriteBuffer: syscall.SO_SNDBUF,
		optionReuseAddr:   syscall.SO_REUSEADDR,
		optionReusePort:   soReusePort(),
		optionBroadcast:   syscall.SO_BROADCAST,
	}[o]
}

// controlSocket sets an option.
func controlSocket(c syscall.RawConn, option socketOption, value int) error {
	var err error
	if failed := c.Control(func(fd uintptr) { err = setInt(int(fd), syscall.SOL_SOCKET, option.number(), value) }); failed != nil {
		return failed
	}
	return err
}

// dupSocket returns a descriptor of the same socket, non-blocking and not
// inherited: closing what package net has leaves it open.
func dupSocket(c syscall.Conn) (fd int, err error) {
	raw, err := c.SyscallConn()
	if err != nil {
		return -1, err
	}
	fd = -1
	if failed := raw.Control(func(of uintptr) { fd, err = dupCloexec(int(of)) }); failed != nil {
		return -1, failed
	}
	return fd, err
}

// sendDatagram sends one datagram without waiting. ip6 is the socket's family.
func sendDatagram(fd int, p []byte, to netip.AddrPort, ip6 bool) syscall.Errno {
	sa, err := datagramSockaddr(to, ip6)
	for err == nil || err == syscall.EINTR {
		if err = syscall.Sendto(fd, p, 0, sa); err == nil {
			return 0
		}
	}
	return errnoOf(err)
}

// datagramSockaddr translates an address for a socket of a family: IPv4
// addresses are mapped for IPv6 (RFC 4291 §2.5.5.2).
func datagramSockaddr(to netip.AddrPort, ip6 bool) (syscall.Sockaddr, error) {
	addr := to.Addr().Unmap()
	if ip6 && addr.Is4() {
		addr = netip.AddrFrom16(addr.As16())
	}
	_, sa, err := sockaddrOf(netip.AddrPortFrom(addr, to.Port()))
	return sa, err
}
