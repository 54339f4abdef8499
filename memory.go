package flare

import (
	"bytes"
	"math"
	"os"
	"path"
	"runtime/debug"
	"slices"
	"strconv"
	"strings"
)

// This file is layer 2 (system): how much memory there is.

const (
	memoryUnknown = 1 << 30         // assumed where the system does not say
	meminfoPath   = "/proc/meminfo" // Linux
	groupsPath    = "/proc/self/cgroup"
	groupsRoot    = "/sys/fs/cgroup"
)

// systemMemory returns the bytes of memory that the process may use: of the machine, its
// control groups and GOMEMLIMIT the least.
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
	total = min(total, groupMemory(""))
	if limit := debug.SetMemoryLimit(-1); limit > 0 { // which changes nothing
		total = min(total, uint64(limit))
	}
	return total
}

// groupMemory returns what the process's control groups leave it: the least of its own,
// which may be a service's, and of all around it. In a container the innermost that is
// seen is the root of the tree. root is in front of all paths.
func groupMemory(root string) uint64 {
	limit := uint64(math.MaxUint64)
	groups, _ := os.ReadFile(root + groupsPath)
	for line := range strings.Lines("0::/\n" + string(groups)) {
		fields := strings.SplitN(strings.TrimSpace(line), ":", 3) // cgroups(7): hierarchy, controllers, path
		if len(fields) < 3 {
			continue
		}
		tree, file := groupsRoot, "memory.max"
		if slices.Contains(strings.Split(fields[1], ","), "memory") {
			tree, file = groupsRoot+"/memory", "memory.limit_in_bytes" // version 1
		} else if fields[1] != "" {
			continue
		}
		for group := path.Clean("/" + fields[2]); ; group = path.Dir(group) {
			if text, err := os.ReadFile(path.Join(root, tree, group, file)); err == nil {
				if n, err := strconv.ParseUint(string(bytes.TrimSpace(text)), 10, 64); err == nil { // or "max"
					limit = min(limit, n)
				}
			}
			if group == "/" {
				break
			}
		}
	}
	return limit
}
