package flare

import (
	"encoding/binary"
	"math/bits"
	"unsafe"
)

// This file is layer 0 (base): WebSocket masking (RFC 6455 §5.3), the XOR of a
// payload with a repeated four-byte key. It knows bytes and a key; it knows no
// frame, no connection and no source of keys. The frame reader and writer call
// it, and users who speak the protocol on their own.
//
// The work is done by maskRun: mask_amd64.s with SSE2, AVX2 or AVX-512, as size
// and CPU say; elsewhere mask_generic.go in Go, with mask_arm64.s and NEON for
// what is long. The build tag purego leaves Go alone.
//
// All of them handle an end that is no whole word in the same way. The last
// word is one that ends where the payload ends, and so overlaps the word before
// it. XOR twice would undo itself, so the last word is read before anything is
// written and written after everything else: what overlaps is written twice,
// with the same bytes. That saves the loop over odd bytes and its branches,
// which no CPU predicts for payloads of mixed lengths.

// MaskBytes masks or unmasks p in place (the two are the same). pos is the
// number of payload bytes that came before p; it returns pos + len(p). So a
// payload may be masked in pieces:
//
//	pos := 0
//	for _, piece := range pieces {
//		pos = flare.MaskBytes(piece, key, pos)
//	}
//
// It allocates nothing and may be called from anywhere.
func MaskBytes(p []byte, key [4]byte, pos int) int {
	// As rotateMask does it; with a call of that the compiler would not inline MaskBytes.
	maskRun(unsafe.SliceData(p), len(p), bits.RotateLeft32(binary.LittleEndian.Uint32(key[:]), -8*pos))
	return pos + len(p)
}

// rotateMask returns the key for bytes that follow n bytes. Keys are words
// whose lowest byte belongs to the first payload byte. A rotation counts mod
// 32, and with it n mod 4.
func rotateMask(key uint32, n int) uint32 { return bits.RotateLeft32(key, -8*n) }

// maskWord XORs p with key, whose lowest byte belongs to p[0].
func maskWord(p []byte, key uint32) { maskRun(unsafe.SliceData(p), len(p), key) }
