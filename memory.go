package flare

import (
	"bytes"
	"os"
	"runtime/debug"
	"strconv"
)

// This file is layer 2 (system): how much memory there is.

const (
	memoryUnknown = 1 << 30         // assumed where the system does not say
	meminfoPath   = "/proc/meminfo" // Linux
	cgroupPath    = "/sys/fs/cgroup/memory.max"
)

// systemMemory returns the bytes of memory that the process may use: of the machine, its
// control group and GOMEMLIMIT the least.
func systemMemory() uint64 {
	total := uint64(memoryUnknown)
	if info, err := os.ReadFile(meminfoPath); err == nil {
		if rest, ok := bytes.CutPrefix(info, []byte("MemTotal:")); ok {
			if fields := bytes.Fields(rest[:min(len(rest), 64)]); len(fields) > 0 {
				if kib, err := strconv.ParseUint(string(fields[0]), 10, 54); err == nil {
					total = kib << 10
				}
			}
		}
	}
	if limit, err := os.ReadFile(cgroupPath); err == nil {
		if n, err := strconv.ParseUint(string(bytes.TrimSpace(limit)), 10, 64); err == nil {
			total = min(total, n)
		}
	}
	if limit := debug.SetMemoryLimit(-1); limit > 0 { // which changes nothing
		total = min(total, uint64(limit))
	}
	return total
}
