package flare

import "sync/atomic"

// This file is layer 0 (base): the count of bytes in the buffers of all of a
// server's connections. It knows a bound and whom to tell; the server says what
// is done then.

// A bufferCount may be used from any goroutine.
type bufferCount struct {
	n    atomic.Int64
	max  int64  // 0: none; fixed before the first Add, and so is over
	over func() // called by each Add of more beyond max; must not wait
}

// Add counts n bytes more, or less.
func (b *bufferCount) Add(n int64) {
	if sum := b.n.Add(n); n > 0 && b.max > 0 && sum > b.max {
		b.over()
	}
}

// Load returns the bytes counted.
func (b *bufferCount) Load() int64 { return b.n.Load() }

// isOver reports whether there are more bytes than there may be.
func (b *bufferCount) isOver() bool { return b.max > 0 && b.n.Load() > b.max }
