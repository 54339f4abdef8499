//go:build darwin || (linux && !(amd64 || arm64)) || (linux && purego)

package flare

import (
	"net/netip"
	"syscall"
)

// This file is layer 2 (system): a batch of datagrams with a system call for
// each of them, where datagram_linux.go is not built: on Darwin, on processors
// with other numbers of system calls, and for tests (purego).

type datagramCalls struct {
	to [batchDatagrams]syscall.Sockaddr // nil: not one of the socket's family
}

func (b *datagramBatch) init() {}

// receive takes the datagrams that wait, up to the batch's number. Less than
// that were all there were. EAGAIN: none waits.
func (b *datagramBatch) receive(fd int) (n int, errno syscall.Errno) {
	for n < batchDatagrams {
		bytes, _, flags, from, err := syscall.Recvmsg(fd, b.room(n), nil, 0)
		if err == syscall.EINTR {
			continue
		}
		if err != nil {
			if n > 0 {
				break // the next call finds its error again
			}
			return 0, errnoOf(err)
		}
		b.received[n] = datagramIn{bytes, addrPortOf(from), flags&syscall.MSG_TRUNC != 0}
		n++
	}
	return n, 0
}

// address sets where the i-th answer goes.
func (b *datagramBatch) address(i int, to netip.AddrPort) { b.to[i], _ = datagramSockaddr(to, b.ip6) }

// send sends the first answer that is not sent.
func (b *datagramBatch) send(fd int) (n int, errno syscall.Errno) {
	to := b.to[b.sent]
	if to == nil {
		return 0, syscall.EINVAL
	}
	if err := syscall.Sendto(fd, b.answer(b.sent), 0, to); err != nil {
		return 0, errnoOf(err)
	}
	return 1, 0
}
