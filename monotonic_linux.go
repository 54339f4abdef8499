package flare

import (
	"syscall"
	"time"
	"unsafe"
)

// This file is layer 2 (system): the clock by which others on the machine reckon.

// monotonic returns the time of CLOCK_MONOTONIC.
func monotonic() time.Duration {
	const clockMonotonic = 1
	var at syscall.Timespec
	syscall.Syscall(syscall.SYS_CLOCK_GETTIME, clockMonotonic, uintptr(unsafe.Pointer(&at)), 0)
	return time.Duration(at.Nano())
}
