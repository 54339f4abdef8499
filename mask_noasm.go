//go:build purego || !(amd64 || arm64)

package flare

// This file is layer 0 (base): masking where there is no assembly for it.

// maskVectors masks nothing and says so.
func maskVectors([]byte, uint32) bool { return false }
