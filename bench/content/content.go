// Package content has bytes that a server and its client both know beforehand: those of a seed,
// each determined by its place, so that whoever receives them in any pieces can tell a wrong one.
// They are letters, half of whose bits say nothing: compression is worth its while.
package content

import (
	"fmt"
	"io"
)

// word is the eight bytes from 8*i on.
func word(seed, i uint64) uint64 {
	// SplitMix64's finalizer (Steele, Lea and Flood, "Fast splittable pseudorandom number
	// generators", 2014).
	z := seed + (i+1)*0x9e3779b97f4a7c15
	z = (z ^ z>>30) * 0xbf58476d1ce4e5b9
	z = (z ^ z>>27) * 0x94d049bb133111eb
	z ^= z >> 31
	return z&0x0f0f0f0f0f0f0f0f + 0x6161616161616161
}

// Fill fills p with the content of seed from byte off on.
func Fill(p []byte, seed uint64, off int64) {
	for len(p) > 0 {
		w := word(seed, uint64(off)/8) >> (8 * (off % 8))
		for n := 8 - off%8; n > 0 && len(p) > 0; n-- {
			p[0], p, w, off = byte(w), p[1:], w>>8, off+1
		}
	}
}

// A Reader gives n bytes of a seed. It is no io.Seeker.
type Reader struct {
	seed   uint64
	off, n int64
}

// NewReader returns a Reader of the first n bytes.
func NewReader(seed uint64, n int64) *Reader { return &Reader{seed: seed, n: n} }

func (r *Reader) Read(p []byte) (int, error) {
	if r.off == r.n {
		return 0, io.EOF
	}
	p = p[:min(int64(len(p)), r.n-r.off)]
	Fill(p, r.seed, r.off)
	r.off += int64(len(p))
	return len(p), nil
}

// A Checker is written what has to be the content of a seed, from byte Off on.
type Checker struct {
	Seed uint64
	Off  int64
	buf  []byte
}

func (c *Checker) Write(p []byte) (int, error) {
	if len(c.buf) < len(p) {
		c.buf = make([]byte, len(p))
	}
	Fill(c.buf[:len(p)], c.Seed, c.Off)
	for i := range p {
		if p[i] != c.buf[i] {
			return i, &Wrong{c.Off + int64(i), p[i], c.buf[i]}
		}
	}
	c.Off += int64(len(p))
	return len(p), nil
}

// Wrong is the error of a Checker.
type Wrong struct {
	Off       int64
	Got, Want byte
}

func (w *Wrong) Error() string {
	return fmt.Sprintf("byte %d is %q, %q is due", w.Off, w.Got, w.Want)
}

// The file that a server sends.
const (
	FileSeed  = 1
	FileBytes = 300_000
)
