//go:build purego || !amd64

package flare

import (
	"encoding/binary"
	"math/bits"
	"unsafe"
)

// This file is layer 0 (base): masking in Go, eight bytes at a time, on all but
// amd64. Short payloads are always masked here, longer ones on CPUs without
// assembly of their own and under purego.

// maskShortMax is the longest payload that is short: up to here words are no
// slower than vectors with their call, measured.
const maskShortMax = 64

// maskRun masks n bytes at start.
func maskRun(start *byte, n int, key uint32) {
	p := unsafe.Slice(start, n)
	if n < 8 {
		maskFew(p, key)
		return
	}
	if n > maskShortMax {
		if !maskVectors(p, key) {
			maskBlocks(p, key)
		}
		return
	}
	first := uint64(key)<<32 | uint64(key)
	last := bits.RotateLeft64(first, -8*n) // of words that end where p does
	switch {
	case n > 32:
		a, b := (*[32]byte)(p), (*[32]byte)(p[n-32:])
		b0, b1 := binary.LittleEndian.Uint64(b[0:]), binary.LittleEndian.Uint64(b[8:])
		b2, b3 := binary.LittleEndian.Uint64(b[16:]), binary.LittleEndian.Uint64(b[24:])
		maskQuad(a, first)
		binary.LittleEndian.PutUint64(b[0:], b0^last)
		binary.LittleEndian.PutUint64(b[8:], b1^last)
		binary.LittleEndian.PutUint64(b[16:], b2^last)
		binary.LittleEndian.PutUint64(b[24:], b3^last)
	case n > 16:
		a, b := (*[16]byte)(p), (*[16]byte)(p[n-16:])
		b0, b1 := binary.LittleEndian.Uint64(b[0:]), binary.LittleEndian.Uint64(b[8:])
		binary.LittleEndian.PutUint64(a[0:], binary.LittleEndian.Uint64(a[0:])^first)
		binary.LittleEndian.PutUint64(a[8:], binary.LittleEndian.Uint64(a[8:])^first)
		binary.LittleEndian.PutUint64(b[0:], b0^last)
		binary.LittleEndian.PutUint64(b[8:], b1^last)
	default:
		a, b := (*[8]byte)(p), (*[8]byte)(p[n-8:])
		b0 := binary.LittleEndian.Uint64(b[:])
		binary.LittleEndian.PutUint64(a[:], binary.LittleEndian.Uint64(a[:])^first)
		binary.LittleEndian.PutUint64(b[:], b0^last)
	}
}

// maskQuad masks four words.
func maskQuad(b *[32]byte, key uint64) {
	binary.LittleEndian.PutUint64(b[0:], binary.LittleEndian.Uint64(b[0:])^key)
	binary.LittleEndian.PutUint64(b[8:], binary.LittleEndian.Uint64(b[8:])^key)
	binary.LittleEndian.PutUint64(b[16:], binary.LittleEndian.Uint64(b[16:])^key)
	binary.LittleEndian.PutUint64(b[24:], binary.LittleEndian.Uint64(b[24:])^key)
}

// maskFew masks fewer than 8 bytes.
func maskFew(p []byte, key uint32) {
	if len(p) >= 4 {
		binary.LittleEndian.PutUint32(p, binary.LittleEndian.Uint32(p)^key)
		p = p[4:]
	}
	if len(p) >= 2 {
		binary.LittleEndian.PutUint16(p, binary.LittleEndian.Uint16(p)^uint16(key))
		p, key = p[2:], key>>16
	}
	if len(p) >= 1 {
		p[0] ^= byte(key)
	}
}

// maskBlocks masks more than 32 bytes: blocks of 64, one of 32, and the last
// 32 bytes, which may overlap what is before them.
func maskBlocks(p []byte, key uint32) {
	first := uint64(key)<<32 | uint64(key)
	last := bits.RotateLeft64(first, -8*len(p))
	b := (*[32]byte)(p[len(p)-32:])
	b0, b1 := binary.LittleEndian.Uint64(b[0:]), binary.LittleEndian.Uint64(b[8:])
	b2, b3 := binary.LittleEndian.Uint64(b[16:]), binary.LittleEndian.Uint64(b[24:])
	for len(p) > 64 {
		block := (*[64]byte)(p)
		maskQuad((*[32]byte)(block[:32]), first)
		maskQuad((*[32]byte)(block[32:]), first)
		p = p[64:]
	}
	if len(p) > 32 {
		maskQuad((*[32]byte)(p), first)
	}
	binary.LittleEndian.PutUint64(b[0:], b0^last)
	binary.LittleEndian.PutUint64(b[8:], b1^last)
	binary.LittleEndian.PutUint64(b[16:], b2^last)
	binary.LittleEndian.PutUint64(b[24:], b3^last)
}
