//go:build !purego

package flare

// This file is layer 0 (base): the choice between the ways to mask on arm64,
// by size. NEON is part of every arm64 CPU that Go runs on.

// maskVectorMin is the shortest payload that the assembly takes; below it
// maskGeneric needs fewer instructions.
const maskVectorMin = 33

// maskWord XORs p with key, whose lowest byte belongs to p[0].
func maskWord(p []byte, key uint32) {
	if len(p) < maskVectorMin {
		maskGeneric(p, key)
		return
	}
	maskNEON(&p[0], len(p), key)
}

// maskNEON masks n bytes, at least 32.
//
//go:noescape
func maskNEON(p *byte, n int, key uint32)
