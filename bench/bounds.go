//go:build linux

package main

// This file is about the workloads that hold a target to bounds of memory and time rather than
// compare what requests cost: idle.go, slow.go, transfer.go and static.go have one each, wsbounds.go two. It knows their names,
// how their rows look, and how memory is read; it does not know what they do.

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"slices"
	"strconv"
	"time"
)

// A boundRow is one target, or one kind of traffic, under such a workload. A figure has its unit in
// its name.
type boundRow struct {
	Workload string             `json:"workload"`
	Target   string             `json:"target"`
	Kind     string             `json:"kind,omitempty"`
	Figures  map[string]float64 `json:"figures"`
	Missed   []string           `json:"missed,omitempty"` // bounds that the target has and did not keep
}

// miss notes a bound that was not kept.
func (r *boundRow) miss(format string, args ...any) {
	r.Missed = append(r.Missed, fmt.Sprintf(format, args...))
}

func (r *boundRow) verdict() string {
	if r.Missed != nil {
		return "MISSED"
	}
	return "kept"
}

// boundWorkloads are run one after another, each with all targets.
var boundWorkloads = map[string]func(*bencher, context.Context, []*target, io.Writer, io.Writer) ([]*boundRow, error){
	"idle":         (*bencher).runIdle,
	"slow":         (*bencher).runSlow,
	"transfer":     (*bencher).runTransfer,
	"static":       (*bencher).runStatic,
	"ws-idle":      (*bencher).runWSIdle,
	"ws-broadcast": (*bencher).runWSBroadcast,
	"tls":          (*bencher).runTLS,
	"handshakes":   (*bencher).runHandshakes,
	"idle-tls":     (*bencher).runTLSIdle,
	"h2":           (*bencher).runHTTP2,
	"idle-h2":      (*bencher).runHTTP2Idle,
	"h2-stalls":    (*bencher).runHTTP2Stalls,
	"h2-attacks":   (*bencher).runHTTP2Attacks,
	"h2-transfer":  (*bencher).runHTTP2Transfer,
}

// splitBounds takes the names of those workloads out of a list.
func splitBounds(names []string) (others, bounds []string) {
	for _, name := range names {
		if boundWorkloads[name] != nil {
			bounds = append(bounds, name)
		} else {
			others = append(others, name)
		}
	}
	return others, bounds
}

// runBounds runs the named workloads. A bound that flare does not keep is an error once everything
// has run and been written down.
func (b *bencher) runBounds(ctx context.Context, names []string, targets []*target, res *results, out, log io.Writer) error {
	if len(names) > 0 && b.options.compare != "" {
		return errors.New("-compare is not for workloads with bounds")
	}
	for _, name := range names {
		rows, err := boundWorkloads[name](b, ctx, targets, out, log)
		if err != nil {
			return fmt.Errorf("%s: %w", name, err)
		}
		res.Bounds = append(res.Bounds, rows...)
	}
	return nil
}

// missed are the bounds that flare has not kept.
func (r *results) missed() (list []string) {
	for _, row := range r.Bounds {
		for _, text := range row.Missed {
			list = append(list, fmt.Sprintf("%s, %s %s: %s", row.Workload, row.Target, row.Kind, text))
		}
	}
	return list
}

// flareOnly keeps the target that serves /upload, /bytes and /stats and has limits to be set.
func flareOnly(targets []*target) []*target {
	return slices.DeleteFunc(slices.Clone(targets), func(t *target) bool { return t.name != nameFlare })
}

// ---- memory ----

// statusBytes reads a figure of /proc/PID/status that is in kB there: VmHWM is the most that was
// ever resident.
func statusBytes(pid int, field string) (int64, error) {
	data, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", pid))
	if err != nil {
		return 0, err
	}
	for line := range bytes.Lines(data) {
		rest, ok := bytes.CutPrefix(line, []byte(field+":"))
		if !ok {
			continue
		}
		words := bytes.Fields(rest)
		if len(words) != 2 || string(words[1]) != "kB" {
			break
		}
		kb, err := strconv.ParseInt(string(words[0]), 10, 64)
		return kb << 10, err
	}
	return 0, fmt.Errorf("no %s of process %d", field, pid)
}

// residentBytes is what of the process is in memory now (/proc/PID/statm, exact, in pages).
func residentBytes(pid int) (int64, error) {
	data, err := os.ReadFile(fmt.Sprintf("/proc/%d/statm", pid))
	if err != nil {
		return 0, err
	}
	words := bytes.Fields(data)
	if len(words) < 2 {
		return 0, fmt.Errorf("/proc/%d/statm: %q", pid, data)
	}
	pages, err := strconv.ParseInt(string(words[1]), 10, 64)
	return pages * int64(os.Getpagesize()), err
}

const (
	settleLook  = 50 * time.Millisecond
	settleLooks = 6                // so many equal figures in a row are the figure
	settleMost  = 10 * time.Second // then the last one counts
)

// settledBytes is residentBytes once it has stopped to change.
func settledBytes(ctx context.Context, pid int) (int64, error) {
	last, same := int64(-1), 0
	for began := time.Now(); time.Since(began) < settleMost; {
		now, err := residentBytes(pid)
		if err != nil {
			return 0, err
		}
		if now != last {
			last, same = now, 0
		} else if same++; same == settleLooks {
			break
		}
		select {
		case <-ctx.Done():
			return 0, ctx.Err()
		case <-time.After(settleLook):
		}
	}
	return last, nil
}

func kib(bytes float64) string { return fmt.Sprintf("%.0f", bytes/1024) }
