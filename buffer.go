package flare

import (
	"math/bits"
	"sync"
)

// This file is layer 0 (base): byte buffers in size classes, pooled. A
// connection has one only while it waits with something: half a request, or
// output that the peer does not take. It knows nothing of who uses them.

const (
	bufferBytesMin = 512     // smallest class: half a request head
	bufferBytesMax = 1 << 20 // largest class that is pooled: MaxOutputBytes
	bufferClasses  = 12      // 512 B, 1 KiB, … 1 MiB
)

// A buffer is a byte slice that knows which pool it came from.
type buffer struct {
	b     []byte
	class int // index into bufferPools, -1: not pooled
}

var bufferPools [bufferClasses]sync.Pool

// bufferClass returns the smallest class of at least n bytes, -1 for none.
func bufferClass(n int) int {
	if n <= bufferBytesMin {
		return 0
	}
	if n > bufferBytesMax {
		return -1
	}
	return bits.Len(uint(n-1)) - bits.Len(bufferBytesMin-1)
}

// getBuffer returns an empty buffer with room for n bytes.
func getBuffer(n int) *buffer {
	class := bufferClass(n)
	if class < 0 {
		return &buffer{b: make([]byte, 0, n), class: -1}
	}
	if b, _ := bufferPools[class].Get().(*buffer); b != nil {
		return b
	}
	return &buffer{b: make([]byte, 0, bufferBytesMin<<class), class: class}
}

// release gives the buffer back. Nobody may hold a slice of it any more.
func (b *buffer) release() {
	if raceEnabled || b.class < 0 { // under the race detector nothing is reused
		return
	}
	b.b = b.b[:0]
	bufferPools[b.class].Put(b)
}

// grown returns a buffer with b's bytes and room for n more; b itself where
// that fits, else a larger one, and b is released.
func (b *buffer) grown(n int) *buffer {
	if cap(b.b)-len(b.b) >= n {
		return b
	}
	g := getBuffer(max(len(b.b)+n, 2*cap(b.b)))
	g.b = append(g.b, b.b...)
	b.release()
	return g
}
