package flare

import (
	"encoding/binary"
	"math/bits"
)

// This file is layer 0 (base): masking in Go, eight bytes at a time. It is the
// only one on CPUs without assembly of their own and under purego, and serves
// short payloads everywhere, where it is faster than a call of assembly.

// maskGeneric XORs p with key, whose lowest byte belongs to p[0].
func maskGeneric(p []byte, key uint32) {
	n := len(p)
	first := uint64(key)<<32 | uint64(key)
	last := bits.RotateLeft64(first, -8*(n&3)) // of words that end where p does
	switch {
	case n > 32:
		maskBlocks(p, first, last)
	case n > 16:
		a, b := (*[16]byte)(p), (*[16]byte)(p[n-16:])
		a0, a1 := binary.LittleEndian.Uint64(a[0:]), binary.LittleEndian.Uint64(a[8:])
		b0, b1 := binary.LittleEndian.Uint64(b[0:]), binary.LittleEndian.Uint64(b[8:])
		binary.LittleEndian.PutUint64(a[0:], a0^first)
		binary.LittleEndian.PutUint64(a[8:], a1^first)
		binary.LittleEndian.PutUint64(b[0:], b0^last)
		binary.LittleEndian.PutUint64(b[8:], b1^last)
	case n >= 8:
		a, b := (*[8]byte)(p), (*[8]byte)(p[n-8:])
		a0, b0 := binary.LittleEndian.Uint64(a[:]), binary.LittleEndian.Uint64(b[:])
		binary.LittleEndian.PutUint64(a[:], a0^first)
		binary.LittleEndian.PutUint64(b[:], b0^last)
	case n >= 4:
		a, b := (*[4]byte)(p), (*[4]byte)(p[n-4:])
		a0, b0 := binary.LittleEndian.Uint32(a[:]), binary.LittleEndian.Uint32(b[:])
		binary.LittleEndian.PutUint32(a[:], a0^key)
		binary.LittleEndian.PutUint32(b[:], b0^uint32(last))
	case n > 0:
		// The middle byte is the first or the last one, unless there are three.
		a, b, c := p[0], p[n>>1], p[n-1]
		p[0] = a ^ byte(key)
		p[n>>1] = b ^ byte(key>>(n>>1*8))
		p[n-1] = c ^ byte(key>>(n*8-8))
	}
}

// maskBlocks masks more than 32 bytes: blocks of 64, one of 32, and the last
// 32 bytes, which may overlap what is before them.
func maskBlocks(p []byte, first, last uint64) {
	tail := (*[32]byte)(p[len(p)-32:])
	t0, t1 := binary.LittleEndian.Uint64(tail[0:]), binary.LittleEndian.Uint64(tail[8:])
	t2, t3 := binary.LittleEndian.Uint64(tail[16:]), binary.LittleEndian.Uint64(tail[24:])
	for len(p) > 64 {
		b := (*[64]byte)(p)
		binary.LittleEndian.PutUint64(b[0:], binary.LittleEndian.Uint64(b[0:])^first)
		binary.LittleEndian.PutUint64(b[8:], binary.LittleEndian.Uint64(b[8:])^first)
		binary.LittleEndian.PutUint64(b[16:], binary.LittleEndian.Uint64(b[16:])^first)
		binary.LittleEndian.PutUint64(b[24:], binary.LittleEndian.Uint64(b[24:])^first)
		binary.LittleEndian.PutUint64(b[32:], binary.LittleEndian.Uint64(b[32:])^first)
		binary.LittleEndian.PutUint64(b[40:], binary.LittleEndian.Uint64(b[40:])^first)
		binary.LittleEndian.PutUint64(b[48:], binary.LittleEndian.Uint64(b[48:])^first)
		binary.LittleEndian.PutUint64(b[56:], binary.LittleEndian.Uint64(b[56:])^first)
		p = p[64:]
	}
	if len(p) > 32 {
		b := (*[32]byte)(p)
		binary.LittleEndian.PutUint64(b[0:], binary.LittleEndian.Uint64(b[0:])^first)
		binary.LittleEndian.PutUint64(b[8:], binary.LittleEndian.Uint64(b[8:])^first)
		binary.LittleEndian.PutUint64(b[16:], binary.LittleEndian.Uint64(b[16:])^first)
		binary.LittleEndian.PutUint64(b[24:], binary.LittleEndian.Uint64(b[24:])^first)
	}
	binary.LittleEndian.PutUint64(tail[0:], t0^last)
	binary.LittleEndian.PutUint64(tail[8:], t1^last)
	binary.LittleEndian.PutUint64(tail[16:], t2^last)
	binary.LittleEndian.PutUint64(tail[24:], t3^last)
}
