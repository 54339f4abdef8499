//go:build linux || darwin

package flare

import (
	"errors"
	"net"
	"net/netip"
	"os"
	"strconv"
	"syscall"
	"time"
)

// This file is layer 2 (system): stream sockets, the part that is the same on
// every system. It knows file descriptors, addresses and errnos, and nothing of
// polling or of what the bytes mean. The engine calls it. What is called once a
// request lives in socket_linux.go and socket_darwin.go and returns a plain
// syscall.Errno, 0 for success, since an error value would be made for each
// EAGAIN.

// socketCalls says whether a descriptor may be used beside its net.Conn.
const socketCalls = true

// listenBacklogDefault is how many connections may wait to be accepted if the
// caller does not say: what Linux allows by default since 5.4. Systems with a
// lower bound clip it.
const listenBacklogDefault = 4096

// Keep-alive probes after the idle time: what net.KeepAliveConfig defaults to,
// so a dead peer is found in two minutes and a quarter.
const (
	keepAliveInterval = 15 * time.Second
	keepAliveCount    = 9
)

// listenTCP opens a listening socket, non-blocking and not inherited. An
// unspecified IPv6 address listens on IPv4 too (dual stack); on a machine
// without IPv6 it listens on IPv4 alone. backlog 0 or less: the default.
// reusePort lets several sockets share the address; the kernel spreads
// connections over them (Linux) or gives them to the latest (Darwin).
func listenTCP(addr netip.AddrPort, backlog int, reusePort bool) (int, error) {
	if ip := addr.Addr(); ip.Is4In6() {
		addr = netip.AddrPortFrom(ip.Unmap(), addr.Port())
	}
	dual := addr.Addr().Is6() && addr.Addr().IsUnspecified()
	fd, err := listenAt(addr, dual, backlog, reusePort)
	if dual && (errors.Is(err, syscall.EAFNOSUPPORT) || errors.Is(err, syscall.EADDRNOTAVAIL)) {
		return listenAt(netip.AddrPortFrom(netip.IPv4Unspecified(), addr.Port()), false, backlog, reusePort)
	}
	return fd, err
}

func listenAt(addr netip.AddrPort, dual bool, backlog int, reusePort bool) (int, error) {
	family, sa, err := sockaddrOf(addr)
	if err != nil {
		return -1, err
	}
	fd, err := openSocket(family)
	if err != nil {
		return -1, os.NewSyscallError("socket", err)
	}
	// An address whose old connections linger in TIME-WAIT can be bound again.
	if err := setInt(fd, syscall.SOL_SOCKET, syscall.SO_REUSEADDR, 1); err != nil {
		syscall.Close(fd)
		return -1, err
	}
	if reusePort {
		if err := setInt(fd, syscall.SOL_SOCKET, soReusePort(), 1); err != nil {
			syscall.Close(fd)
			return -1, err
		}
	}
	if family == syscall.AF_INET6 {
		// Set either way: the default is the administrator's (net.ipv6.bindv6only).
		only := 1
		if dual {
			only = 0
		}
		if err := setInt(fd, syscall.IPPROTO_IPV6, syscall.IPV6_V6ONLY, only); err != nil {
			syscall.Close(fd)
			return -1, err
		}
	}
	return bindAndListen(fd, sa, backlog)
}

// listenUnix opens a listening socket in the file system, non-blocking and not
// inherited. A file that is there already is EADDRINUSE; removing it, before or
// after, is for the caller. On Linux a path that starts with "@" is abstract.
func listenUnix(path string) (int, error) {
	fd, err := openSocket(syscall.AF_UNIX)
	if err != nil {
		return -1, os.NewSyscallError("socket", err)
	}
	return bindAndListen(fd, &syscall.SockaddrUnix{Name: path}, 0)
}

// bindAndListen finishes a listening socket; it closes fd if it cannot.
func bindAndListen(fd int, sa syscall.Sockaddr, backlog int) (int, error) {
	if backlog <= 0 {
		backlog = listenBacklogDefault
	}
	if err := syscall.Bind(fd, sa); err != nil {
		syscall.Close(fd)
		return -1, os.NewSyscallError("bind", err)
	}
	if err := syscall.Listen(fd, backlog); err != nil {
		syscall.Close(fd)
		return -1, os.NewSyscallError("listen", err)
	}
	return fd, nil
}

// shutdownWrite sends the end of the stream after what was sent before; reading
// goes on.
func shutdownWrite(fd int) error {
	return os.NewSyscallError("shutdown", syscall.Shutdown(fd, syscall.SHUT_WR))
}

// shutdownBoth ends both directions. It wakes whoever waits for fd, so it may be
// called from any goroutine that knows fd to be open.
func shutdownBoth(fd int) error {
	return os.NewSyscallError("shutdown", syscall.Shutdown(fd, syscall.SHUT_RDWR))
}

// closeFD closes fd. It is not tried again after EINTR: the number is free by
// then (close(2)) and may be another's.
func closeFD(fd int) error {
	if err := syscall.Close(fd); err != nil && err != syscall.EINTR {
		return os.NewSyscallError("close", err)
	}
	return nil
}

// setResetOnClose makes the coming close of fd a reset (RFC 9293 §3.10.5,
// ABORT): the peer's reads fail, and what was not sent yet is dropped.
func setResetOnClose(fd int) error {
	err := syscall.SetsockoptLinger(fd, syscall.SOL_SOCKET, syscall.SO_LINGER, &syscall.Linger{Onoff: 1})
	return os.NewSyscallError("setsockopt", err)
}

// setNoDelay sends small segments at once (no Nagle, RFC 9293 §3.7.4): flare
// gathers its own writes. Not for Unix sockets.
func setNoDelay(fd int) error {
	return setInt(fd, syscall.IPPROTO_TCP, syscall.TCP_NODELAY, 1)
}

// setKeepAlive has the kernel probe a silent peer after idle, rounded up to
// seconds (RFC 9293 §3.8.4). 0 or less turns probing off.
func setKeepAlive(fd int, idle time.Duration) error {
	if idle <= 0 {
		return setInt(fd, syscall.SOL_SOCKET, syscall.SO_KEEPALIVE, 0)
	}
	if err := setInt(fd, syscall.SOL_SOCKET, syscall.SO_KEEPALIVE, 1); err != nil {
		return err
	}
	// 32,767 s is the most that Linux takes.
	idle = min(idle, 32767*time.Second)
	seconds := int((idle + time.Second - 1) / time.Second)
	if err := setInt(fd, syscall.IPPROTO_TCP, tcpKeepIdle, seconds); err != nil {
		return err
	}
	if err := setInt(fd, syscall.IPPROTO_TCP, tcpKeepInterval, int(keepAliveInterval/time.Second)); err != nil {
		return err
	}
	return setInt(fd, syscall.IPPROTO_TCP, tcpKeepCount, keepAliveCount)
}

func setInt(fd, level, option, value int) error {
	return os.NewSyscallError("setsockopt", syscall.SetsockoptInt(fd, level, option, value))
}

// socketErr takes the error that waits on fd, 0 if there is none. The kernel
// forgets it with that.
func socketErr(fd int) syscall.Errno {
	n, err := syscall.GetsockoptInt(fd, syscall.SOL_SOCKET, syscall.SO_ERROR)
	if err != nil {
		return errnoOf(err)
	}
	return syscall.Errno(n)
}

// localAddrPort returns fd's own address, unmapped; the zero AddrPort for a Unix
// socket.
func localAddrPort(fd int) (netip.AddrPort, error) {
	sa, err := syscall.Getsockname(fd)
	if err != nil {
		return netip.AddrPort{}, os.NewSyscallError("getsockname", err)
	}
	return addrPortOf(sa), nil
}

// peerAddrPort returns the peer's address, as localAddrPort does.
func peerAddrPort(fd int) (netip.AddrPort, error) {
	sa, err := syscall.Getpeername(fd)
	if err != nil {
		return netip.AddrPort{}, os.NewSyscallError("getpeername", err)
	}
	return addrPortOf(sa), nil
}

// fileConn returns a net.Conn on a duplicate of fd. fd stays open, non-blocking
// and the caller's; both share the socket, so remove fd from its poller before
// reading from either.
func fileConn(fd int) (net.Conn, error) {
	dup, err := dupCloexec(fd)
	if err != nil {
		return nil, err
	}
	f := os.NewFile(uintptr(dup), "socket")
	defer f.Close() // FileConn makes a duplicate of its own
	return net.FileConn(f)
}

// acceptOutcomeOf says what an accept that failed means for the next one.
// accept(2) has the pending network errors of the connection reported there.
func acceptOutcomeOf(errno syscall.Errno) acceptOutcome {
	switch errno {
	case syscall.EAGAIN:
		return acceptLater
	case syscall.ECONNABORTED, syscall.ECONNRESET, syscall.EINTR, syscall.EPROTO,
		syscall.ENETDOWN, syscall.ENETUNREACH, syscall.EHOSTDOWN, syscall.EHOSTUNREACH,
		syscall.ENOPROTOOPT, syscall.EOPNOTSUPP, syscall.ETIMEDOUT, errnoNoNetwork:
		return acceptNext
	case syscall.EMFILE, syscall.ENFILE, syscall.ENOBUFS, syscall.ENOMEM, syscall.EPERM: // a firewall, a sandbox
		return acceptPause
	}
	return acceptNever
}

// errnoOf returns the errno that package syscall wrapped in err, 0 for nil.
func errnoOf(err error) syscall.Errno {
	if err == nil {
		return 0
	}
	if errno, ok := err.(syscall.Errno); ok {
		return errno
	}
	return syscall.EINVAL // package syscall's own refusals, such as a path too long
}

// addrPortOf translates an address; one that is not IP is the zero AddrPort.
func addrPortOf(sa syscall.Sockaddr) netip.AddrPort {
	switch sa := sa.(type) {
	case *syscall.SockaddrInet4:
		return netip.AddrPortFrom(netip.AddrFrom4(sa.Addr), uint16(sa.Port))
	case *syscall.SockaddrInet6:
		return addrPort16(sa.Addr, uint16(sa.Port), sa.ZoneId)
	}
	return netip.AddrPort{}
}

// addrPort16 makes an address of IPv6 parts, IPv4-mapped ones unmapped. Only a
// zone (link-local addresses) costs an allocation; it is kept as a number.
func addrPort16(ip [16]byte, port uint16, zone uint32) netip.AddrPort {
	addr := netip.AddrFrom16(ip).Unmap()
	if zone != 0 && addr.Is6() {
		addr = addr.WithZone(strconv.FormatUint(uint64(zone), 10))
	}
	return netip.AddrPortFrom(addr, port)
}

// sockaddrOf translates the other way. The zero Addr is the unspecified IPv6
// address.
func sockaddrOf(addr netip.AddrPort) (family int, sa syscall.Sockaddr, err error) {
	ip := addr.Addr()
	switch {
	case ip.Is4():
		return syscall.AF_INET, &syscall.SockaddrInet4{Port: int(addr.Port()), Addr: ip.As4()}, nil
	case !ip.IsValid():
		ip = netip.IPv6Unspecified()
	}
	sa6 := &syscall.SockaddrInet6{Port: int(addr.Port()), Addr: ip.As16()}
	if zone := ip.Zone(); zone != "" {
		// A zone is a number or the name of an interface (RFC 4007 §11.2).
		if n, err := strconv.ParseUint(zone, 10, 32); err == nil {
			sa6.ZoneId = uint32(n)
		} else if ifi, err := net.InterfaceByName(zone); err == nil {
			sa6.ZoneId = uint32(ifi.Index)
		} else {
			return 0, nil, err
		}
	}
	return syscall.AF_INET6, sa6, nil
}

// wouldBlock reports whether errno means to come again later.
func wouldBlock(errno syscall.Errno) bool {
	return errno == syscall.EAGAIN || errno == syscall.EINTR
}
