//go:build purego || !(amd64 || arm64)

package flare

// This file is layer 0 (base): masking where there is no assembly for it.

// maskWord XORs p with key, whose lowest byte belongs to p[0].
func maskWord(p []byte, key uint32) { maskGeneric(p, key) }
