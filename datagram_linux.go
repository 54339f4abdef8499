//go:build linux && (amd64 || arm64) && !purego

package flare

import (
	"net/netip"
	"syscall"
	"unsafe"
)

// This file is layer 2 (system): a batch of datagrams with one system call each
// way, on Linux. The calls are raw like those of socket_linux.go: none waits.
// datagram_other.go makes a call for each datagram instead.

// mmsghdr is struct mmsghdr of recvmmsg(2).
type mmsghdr struct {
	msg   syscall.Msghdr
	bytes uint32
	_     uint32
}

// datagramCalls is what the kernel reads and writes. Its pointers are into the
// batch, which is on the heap and stays where it is.
type datagramCalls struct {
	in, out     [batchDatagrams]mmsghdr
	inAt, outAt [batchDatagrams]syscall.Iovec
	from, to    [batchDatagrams]syscall.RawSockaddrInet6 // hold IPv4 addresses too
}

func (b *datagramBatch) init() {
	for i := range batchDatagrams {
		b.inAt[i].Base = unsafe.SliceData(b.room(i))
		b.inAt[i].SetLen(b.bytesMax)
		in, out := &b.datagramCalls.in[i].msg, &b.datagramCalls.out[i].msg
		in.Iov, in.Iovlen = &b.inAt[i], 1
		in.Name = (*byte)(unsafe.Pointer(&b.from[i]))
		out.Iov, out.Iovlen = &b.outAt[i], 1
		out.Name = (*byte)(unsafe.Pointer(&b.to[i]))
	}
}

// receive takes the datagrams that wait, up to the batch's number. Less than
// that were all there were. EAGAIN: none waits.
func (b *datagramBatch) receive(fd int) (n int, errno syscall.Errno) {
	hdrs := &b.datagramCalls.in
	for i := range hdrs {
		hdrs[i].msg.Namelen = syscall.SizeofSockaddrInet6 // the kernel has changed it
	}
	r, _, errno := syscall.RawSyscall6(sysRecvmmsg, uintptr(fd),
		uintptr(unsafe.Pointer(hdrs)), batchDatagrams, syscall.MSG_DONTWAIT, 0, 0)
	if errno != 0 {
		return 0, errno
	}
	for i := range int(r) {
		b.received[i] = datagramIn{int(hdrs[i].bytes), decodePeer(&b.from[i]), hdrs[i].msg.Flags&syscall.MSG_TRUNC != 0}
	}
	return int(r), 0
}

// address sets where the i-th answer goes. An IPv4 address is mapped for a
// socket of IPv6 (RFC 4291 §2.5.5.2).
func (b *datagramBatch) address(i int, to netip.AddrPort) {
	rsa, msg := &b.to[i], &b.datagramCalls.out[i].msg
	port := (*[2]byte)(unsafe.Pointer(&rsa.Port)) // in network order
	port[0], port[1] = byte(to.Port()>>8), byte(to.Port())
	if !b.ip6 {
		rsa4 := (*syscall.RawSockaddrInet4)(unsafe.Pointer(rsa)) // port at the same place
		rsa4.Family, rsa4.Addr = syscall.AF_INET, to.Addr().Unmap().As4()
		msg.Namelen = syscall.SizeofSockaddrInet4
		return
	}
	rsa.Family, rsa.Flowinfo, rsa.Addr, rsa.Scope_id = syscall.AF_INET6, 0, to.Addr().As16(), 0
	if to.Addr().Zone() != "" {
		if _, sa, err := sockaddrOf(to); err == nil {
			rsa.Scope_id = sa.(*syscall.SockaddrInet6).ZoneId
		}
	}
	msg.Namelen = syscall.SizeofSockaddrInet6
}

// send sends answers from the first that is not sent on, as many as there is
// room for. An error is that of the first.
func (b *datagramBatch) send(fd int) (n int, errno syscall.Errno) {
	for i := b.sent; i < b.queued; i++ {
		p := b.answer(i)
		b.outAt[i].Base = unsafe.SliceData(p)
		b.outAt[i].SetLen(len(p))
	}
	r, _, errno := syscall.RawSyscall6(sysSendmmsg, uintptr(fd),
		uintptr(unsafe.Pointer(&b.datagramCalls.out[b.sent])), uintptr(b.queued-b.sent),
		syscall.MSG_DONTWAIT|syscall.MSG_NOSIGNAL, 0, 0)
	if errno != 0 {
		return 0, errno
	}
	return int(r), 0
}
