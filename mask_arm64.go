//go:build !purego

package flare

// This file is layer 0 (base): the choice between the ways to mask on arm64,
// by size. NEON is part of every arm64 CPU that Go runs on.

// maskVectors masks p, of more than maskShortMax bytes, and reports that it has.
func maskVectors(p []byte, key uint32) bool {
	maskNEON(&p[0], len(p), key)
	return true
}

// maskNEON masks n bytes, at least 64.
//
//go:noescape
func maskNEON(p *byte, n int, key uint32)
