package main

// This file describes the machine and says whether it is quiet enough to measure on.

import (
	"bufio"
	"context"
	"fmt"
	"os"
	"os/exec"
	"runtime"
	"strconv"
	"strings"
	"time"
)

// machine is what a reader of the results needs to know about where they come from.
type machine struct {
	CPU      string `json:"cpu"`
	Cores    int    `json:"cores"`
	MemoryMB int    `json:"memory_mb"`
	Kernel   string `json:"kernel"`
	Arch     string `json:"arch"`
	Virtual  bool   `json:"virtual"`
	Go       string `json:"go"`
	CC       string `json:"cc"`
}

func describeMachine() machine {
	m := machine{Cores: runtime.NumCPU(), Arch: runtime.GOARCH, Go: runtime.Version()}
	cpuinfo, _ := os.ReadFile("/proc/cpuinfo")
	for line := range strings.Lines(string(cpuinfo)) {
		name, value, _ := strings.Cut(line, ":")
		switch strings.TrimSpace(name) {
		case "model name":
			m.CPU = strings.TrimSpace(value)
		case "flags":
			m.Virtual = strings.Contains(value, " hypervisor")
		}
	}
	meminfo, _ := os.ReadFile("/proc/meminfo")
	if fields := strings.Fields(string(meminfo)); len(fields) > 1 {
		kb, _ := strconv.Atoi(fields[1])
		m.MemoryMB = kb / 1024
	}
	release, _ := os.ReadFile("/proc/sys/kernel/osrelease")
	m.Kernel = strings.TrimSpace(string(release))
	m.CC = firstLine("cc", "--version")
	return m
}

func firstLine(argv ...string) string {
	out, err := exec.Command(argv[0], argv[1:]...).CombinedOutput()
	if err != nil {
		return ""
	}
	line, _, _ := strings.Cut(string(out), "\n")
	return line
}

// coreTimes are a core's counters since boot, in units of 10 ms (USER_HZ).
type coreTimes struct {
	busy, idle, steal uint64
}

func (a coreTimes) sub(b coreTimes) coreTimes {
	return coreTimes{a.busy - b.busy, a.idle - b.idle, a.steal - b.steal}
}

// busyShare is the part of the time in which the core was not idle; stolen time is not idle.
func (a coreTimes) busyShare() float64 {
	if total := a.busy + a.idle + a.steal; total > 0 {
		return float64(a.busy+a.steal) / float64(total)
	}
	return 0
}

const userHz = 100

// readCores reads /proc/stat: cpuN user nice system idle iowait irq softirq steal guest guest_nice
// (proc(5); guest time is in user already).
func readCores() (map[int]coreTimes, error) {
	f, err := os.Open("/proc/stat")
	if err != nil {
		return nil, err
	}
	defer f.Close()
	cores := make(map[int]coreTimes)
	for s := bufio.NewScanner(f); s.Scan(); {
		fields := strings.Fields(s.Text())
		if len(fields) < 9 || !strings.HasPrefix(fields[0], "cpu") {
			continue
		}
		core, err := strconv.Atoi(fields[0][len("cpu"):])
		if err != nil {
			continue // the sum over all
		}
		var n [9]uint64
		for i := 1; i < 9; i++ {
			n[i], _ = strconv.ParseUint(fields[i], 10, 64)
		}
		cores[core] = coreTimes{busy: n[1] + n[2] + n[3] + n[6] + n[7], idle: n[4] + n[5], steal: n[8]}
	}
	return cores, nil
}

const (
	busyWarn   = 0.05 // of a core, over a second, before anything is started
	busyRefuse = 0.25
)

// checkQuiet watches the cores for a second. It returns a warning, or an error when the machine is
// so busy that figures would be about the others on it.
func checkQuiet(ctx context.Context, cores []int) (warning string, err error) {
	before, err := readCores()
	if err != nil {
		return "", err
	}
	select {
	case <-ctx.Done():
		return "", ctx.Err()
	case <-time.After(time.Second):
	}
	after, err := readCores()
	if err != nil {
		return "", err
	}
	worst, core := 0.0, 0
	for _, c := range cores {
		if share := after[c].sub(before[c]).busyShare(); share > worst {
			worst, core = share, c
		}
	}
	if worst > busyRefuse {
		return "", fmt.Errorf("core %d is %.0f %% busy with other work: figures would be noise (-force measures all the same)", core, worst*100)
	}
	if worst > busyWarn {
		warning = fmt.Sprintf("core %d was %.0f %% busy with other work before the run", core, worst*100)
	}
	return warning, nil
}
