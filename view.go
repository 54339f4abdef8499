package flare

import "unsafe"

// This file is layer 0 (base): the one place where bytes are looked at as a
// string without a copy.

// viewString returns p as a string that is valid while p is unchanged. It is
// for comparisons and look-ups, never handed out.
func viewString(p []byte) string { return unsafe.String(unsafe.SliceData(p), len(p)) }
