package flare

import (
	"math"
	"net/netip"
	"os"
	"runtime"
	"strings"
	"syscall"
	"unsafe"
)

// This file is layer 2 (system): what a loop calls for each connection and each
// request, on Linux. It knows system calls that cannot block, and nothing of
// polling. The engine calls it. socket_darwin.go is its mirror.
//
// The calls are raw: they do not tell the runtime, which would retake the P at
// a cost of 1.4 to 2 µs a request. That is right only because none of them
// waits: descriptors are non-blocking and MSG_DONTWAIT says so again.
// recvfrom and sendto are cheaper than read and write here, by about 1 µs.
// recvConn, sendConn and sendvConn never return EINTR.
//
// The race detector does not see what the kernel reads and writes in a raw
// call, nor that what comes out of a socket was put in before. Under it Read
// and Write of package syscall stand in, which tell it both: or a test that
// has client and handler in one process would be full of races that are none.

const (
	tcpKeepIdle     = syscall.TCP_KEEPIDLE
	tcpKeepInterval = syscall.TCP_KEEPINTVL
	tcpKeepCount    = syscall.TCP_KEEPCNT

	// syscall lacks TCP_NOTSENT_LOWAT; linux/tcp.h has it.
	tcpNotSentLowat = 25

	// errnoNoNetwork: accept(2) of Linux may return it; other systems lack it.
	errnoNoNetwork = syscall.ENONET
)

// soReusePort is SO_REUSEPORT, which syscall lacks on older ports such as
// amd64. MIPS numbers its socket options as IRIX did.
func soReusePort() int {
	if strings.HasPrefix(runtime.GOARCH, "mips") {
		return 0x200
	}
	return 0xf
}

// openSocket opens a stream socket, non-blocking and not inherited.
func openSocket(family int) (int, error) {
	return syscall.Socket(family, syscall.SOCK_STREAM|syscall.SOCK_NONBLOCK|syscall.SOCK_CLOEXEC, 0)
}

// acceptConn takes a connection from lfd, non-blocking and not inherited, and
// its peer's address: unmapped, zero for a Unix socket. EAGAIN: none waits.
func acceptConn(lfd int) (fd int, peer netip.AddrPort, errno syscall.Errno) {
	var rsa syscall.RawSockaddrInet6 // holds an IPv4 address too; a Unix path is cut
	size := uint32(unsafe.Sizeof(rsa))
	r, _, errno := syscall.RawSyscall6(sysAccept4, uintptr(lfd),
		uintptr(unsafe.Pointer(&rsa)), uintptr(unsafe.Pointer(&size)),
		syscall.SOCK_NONBLOCK|syscall.SOCK_CLOEXEC, 0, 0)
	if errno != 0 {
		return -1, netip.AddrPort{}, errno
	}
	return int(r), decodePeer(&rsa), 0
}

// decodePeer translates an address as the kernel wrote it.
func decodePeer(rsa *syscall.RawSockaddrInet6) netip.AddrPort {
	p := (*[2]byte)(unsafe.Pointer(&rsa.Port)) // in network order
	port := uint16(p[0])<<8 | uint16(p[1])
	switch rsa.Family {
	case syscall.AF_INET:
		rsa4 := (*syscall.RawSockaddrInet4)(unsafe.Pointer(rsa)) // port at the same place
		return netip.AddrPortFrom(netip.AddrFrom4(rsa4.Addr), port)
	case syscall.AF_INET6:
		return addrPort16(rsa.Addr, port, rsa.Scope_id)
	}
	return netip.AddrPort{}
}

// recvConn receives into p. n is 0 with errno 0 at the end of the stream, or
// for an empty p.
func recvConn(fd int, p []byte) (n int, errno syscall.Errno) {
	for raceEnabled {
		n, err := syscall.Read(fd, p)
		if err != syscall.EINTR {
			return max(n, 0), errnoOf(err)
		}
	}
	for {
		r, _, errno := syscall.RawSyscall6(sysRecvfrom, uintptr(fd),
			uintptr(unsafe.Pointer(unsafe.SliceData(p))), uintptr(len(p)), syscall.MSG_DONTWAIT, 0, 0)
		if errno == 0 {
			return int(r), 0
		}
		if errno != syscall.EINTR {
			return 0, errno
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

// discardConn takes up to most bytes from fd that nobody wants, as recvConn takes
// those that somebody does. TCP drops them where they are (MSG_TRUNC, tcp(7)).
// Other sockets would write to an address that nothing is at, and refuse: theirs
// are received into room, and discarded so.
func discardConn(fd, most int, room []byte) (n int, errno syscall.Errno) {
	for {
		r, _, errno := syscall.RawSyscall6(sysRecvfrom, uintptr(fd), 0, uintptr(most),
			syscall.MSG_DONTWAIT|syscall.MSG_TRUNC, 0, 0)
		switch errno {
		case 0:
			return int(r), 0
		case syscall.EINTR:
		case syscall.EFAULT:
			return recvConn(fd, room)
		default:
			return 0, errno
		}
	}
}

// sendConn sends the front of p, as much as there is room for. A closed peer is
// EPIPE, never a signal.
func sendConn(fd int, p []byte) (n int, errno syscall.Errno) {
	for raceEnabled {
		n, err := syscall.Write(fd, p)
		if err != syscall.EINTR {
			return max(n, 0), errnoOf(err)
		}
	}
	for {
		r, _, errno := syscall.RawSyscall6(sysSendto, uintptr(fd),
			uintptr(unsafe.Pointer(unsafe.SliceData(p))), uintptr(len(p)),
			syscall.MSG_DONTWAIT|syscall.MSG_NOSIGNAL, 0, 0)
		if errno == 0 {
			return int(r), 0
		}
		if errno != syscall.EINTR {
			return 0, errno
		}
	}
}

// sendvConn sends the front of a followed by b, as sendConn does, without
// copying them together: sendmsg, since writev takes no flags.
func sendvConn(fd int, a, b []byte) (n int, errno syscall.Errno) {
	if raceEnabled {
		if n, errno = sendConn(fd, a); n < len(a) || errno != 0 {
			return n, errno
		}
		more, _ := sendConn(fd, b) // the next call finds its error again
		return n + more, 0
	}
	iov := [2]syscall.Iovec{{Base: unsafe.SliceData(a)}, {Base: unsafe.SliceData(b)}}
	iov[0].SetLen(len(a))
	iov[1].SetLen(len(b))
	msg := syscall.Msghdr{Iov: &iov[0], Iovlen: 2}
	r, errno := uintptr(0), syscall.EINTR
	for errno == syscall.EINTR {
		r, _, errno = syscall.RawSyscall(sysSendmsg, uintptr(fd),
			uintptr(unsafe.Pointer(&msg)), syscall.MSG_DONTWAIT|syscall.MSG_NOSIGNAL)
	}
	runtime.KeepAlive(a) // msg holds them where the compiler need not look
	runtime.KeepAlive(b)
	if errno != 0 {
		return 0, errno
	}
	return int(r), 0
}

// sendFile sends n bytes of the file in, from *off on, to the socket out, and
// moves *off past what was sent. n is 0 with errno 0 at the end of the file. An
// ordinary call: the socket does not block but a disk can. ENOSYS and EINVAL: in
// is not a file that can be sent so; copy it.
func sendFile(out, in int, off *int64, n int) (int, syscall.Errno) {
	sent, err := syscall.Sendfile(out, in, off, n)
	if err != nil {
		return 0, errnoOf(err)
	}
	return sent, 0
}

// unackedConn is how many bytes that fd was given its peer has not acknowledged
// (SIOCOUTQ), of a Unix socket how many were not read; 0 if that is not known.
func unackedConn(fd int) int {
	var n int32
	_, _, errno := syscall.RawSyscall(syscall.SYS_IOCTL, uintptr(fd), syscall.TIOCOUTQ, uintptr(unsafe.Pointer(&n)))
	if errno != 0 {
		return 0
	}
	return int(n)
}

// setUnsentMax bounds what fd takes beyond what may be under way to the peer.
// It is not inherited from every listening socket (MPTCP, which package net
// opens, keeps it to itself).
func setUnsentMax(fd, n int) error {
	return setInt(fd, syscall.IPPROTO_TCP, tcpNotSentLowat, n)
}

// acceptQueue is how many connections wait to be accepted from lfd, a very large
// number if that is not known.
func acceptQueue(lfd int) int {
	// TCP_INFO begins with 8 octets and then words, of which a listening socket
	// has the length of its queue in the fifth (tcpi_unacked). Of the types that
	// syscall takes, this one has its size.
	info, err := syscall.GetsockoptICMPv6Filter(lfd, syscall.IPPROTO_TCP, syscall.TCP_INFO)
	if err != nil {
		return math.MaxInt
	}
	return int(info.Data[6])
}

// dupCloexec duplicates fd, not inherited. The two share one file description:
// its flags, its socket.
func dupCloexec(fd int) (int, error) {
	r, _, errno := syscall.RawSyscall(syscall.SYS_FCNTL, uintptr(fd), syscall.F_DUPFD_CLOEXEC, 0)
	if errno != 0 {
		return -1, os.NewSyscallError("fcntl", errno)
	}
	return int(r), nil
}
