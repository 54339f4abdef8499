package flare

import (
	"net/netip"
	"syscall"
)

// This file is layer 2 (system): datagrams in batches, the part that is the same
// on every system. It knows buffers and addresses; datagram_linux.go and
// datagram_other.go move a batch in and out. udp_loop.go calls it.

const (
	batchDatagrams = 32       // received or sent with one system call
	batchOutBytes  = 64 << 10 // answers gathered before they are sent; the longest datagram fits
)

// A datagramBatch has room for what is received at once and for the answers to
// it. It belongs to one goroutine at a time.
type datagramBatch struct {
	datagramCalls // the system's own

	in       []byte // room for each datagram, stride bytes apart
	stride   int
	bytesMax int
	received [batchDatagrams]datagramIn
	out      []byte // answers
	queued   int
	sent     int // of those queued
	ends     [batchDatagrams]int
	ip6      bool // of the socket
}

// A datagramIn says of a received datagram how long it is and who has sent it.
type datagramIn struct {
	bytes     int
	from      netip.AddrPort
	truncated bool
}

// newDatagramBatch returns a batch for datagrams of at most bytesMax bytes.
func newDatagramBatch(bytesMax int, ip6 bool) *datagramBatch {
	// One cache line more, or all datagrams begin in the same set of the cache.
	stride := (bytesMax+63)&^63 + 64
	b := &datagramBatch{
		in: make([]byte, stride*batchDatagrams), stride: stride, bytesMax: bytesMax,
		out: make([]byte, 0, batchOutBytes), ip6: ip6,
	}
	b.init()
	return b
}

// room is where the i-th datagram is received.
func (b *datagramBatch) room(i int) []byte { return b.in[i*b.stride:][:b.bytesMax:b.bytesMax] }

// datagram returns what was received as the i-th.
func (b *datagramBatch) datagram(i int) []byte {
	n := b.received[i].bytes
	return b.room(i)[:n:n]
}

// fits says whether another answer of n bytes can be queued.
func (b *datagramBatch) fits(n int) bool {
	return b.queued < batchDatagrams && len(b.out)+n <= cap(b.out)
}

// queue takes an answer that fits.
func (b *datagramBatch) queue(p []byte, to netip.AddrPort) {
	b.out = append(b.out, p...)
	b.ends[b.queued] = len(b.out)
	b.address(b.queued, to)
	b.queued++
}

// answer returns what was queued as the i-th.
func (b *datagramBatch) answer(i int) []byte {
	start := 0
	if i > 0 {
		start = b.ends[i-1]
	}
	return b.out[start:b.ends[i]]
}

// flush sends what is queued. It reports how many datagrams the system would
// not take, and false when there is no room for the rest at the moment.
func (b *datagramBatch) flush(fd int) (failed int, done bool) {
	for b.sent < b.queued {
		n, errno := b.send(fd)
		b.sent += n
		switch {
		case errno == 0, errno == syscall.EINTR:
		case errno == syscall.EAGAIN:
			return failed, false
		default: // of the first one that is not sent
			b.sent++
			failed++
		}
	}
	b.out, b.queued, b.sent = b.out[:0], 0, 0
	return failed, true
}
