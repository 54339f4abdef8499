//go:build linux

package main

// This file holds what a run found, prints its closing lines and writes it as JSON.

import (
	"encoding/json"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"time"
)

// results is the JSON file. Its figures are those of sample.
type results struct {
	Time        time.Time         `json:"time"`
	Machine     machine           `json:"machine"`
	Versions    map[string]string `json:"versions"`
	Settings    map[string]any    `json:"settings"`
	Skipped     []string          `json:"skipped,omitempty"`
	Notes       []string          `json:"notes,omitempty"`
	Faults      []string          `json:"faults,omitempty"` // any makes the run void
	Rows        []*row            `json:"rows,omitempty"`
	Comparisons []*comparison     `json:"comparisons,omitempty"`
	Bounds      []*boundRow       `json:"bounds,omitempty"`
}

func newResults(o *options) *results {
	return &results{
		Time:     time.Now().UTC().Truncate(time.Second),
		Machine:  describeMachine(),
		Versions: make(map[string]string),
		Settings: map[string]any{
			"rounds": o.rounds, "seconds": o.seconds, "warmup": o.warmup, "connections": o.conns,
			"depth": o.depth, "rates": o.rates, "arrivals": o.arrivals, "procs": o.procs,
			"cores": o.cores, "generator_cores": o.genCores, "spin_us": o.spinPaced, "spin_closed_us": o.spinClosed,
		},
	}
}

func (r *results) skip(log io.Writer, what, why string) {
	r.Skipped = append(r.Skipped, what+": "+why)
	fmt.Fprintf(log, "skipped %s: %s\n", what, why)
}

func (r *results) note(out io.Writer, text string) {
	r.Notes = append(r.Notes, text)
	fmt.Fprintln(out, text)
}

func (r *results) fault(text string) { r.Faults = append(r.Faults, text) }

// foreignNoted is the share of the server's core, taken by others, from which a window is called
// disturbed; below it the 10 ms ticks it rests on say nothing.
const foreignNoted = 0.05

func (r *results) disturbed() (disturbed, all int) {
	count := func(list []sample) {
		for _, s := range list {
			all++
			if s.Foreign > foreignNoted {
				disturbed++
			}
		}
	}
	for _, row := range r.Rows {
		count(row.Samples)
	}
	for _, c := range r.Comparisons {
		count(c.SamplesA)
		count(c.SamplesB)
	}
	return disturbed, all
}

// finish prints where the figures come from, writes the file and judges the run.
func (r *results) finish(o *options, out io.Writer) error {
	m := r.Machine
	fmt.Fprintf(out, "\n%s, %d cores, Linux %s %s, %s; server on cores %v with GOMAXPROCS %d, generator on %v\n",
		m.CPU, m.Cores, m.Kernel, m.Arch, m.Go, o.cores, o.procs, o.genCores)
	if disturbed, all := r.disturbed(); disturbed > 0 {
		r.note(out, fmt.Sprintf("%d of %d windows were disturbed: others took over %.0f %% of the server's core", disturbed, all, foreignNoted*100))
	}
	if err := r.write(o.out, out); err != nil {
		return err
	}
	if r.Faults != nil {
		return fmt.Errorf("the run is void:\n  %s", strings.Join(r.Faults, "\n  "))
	}
	if missed := r.missed(); missed != nil {
		return fmt.Errorf("bounds were missed:\n  %s", strings.Join(missed, "\n  "))
	}
	return nil
}

// fileName gives "auto" its name.
func (r *results) fileName(file string) string {
	if file == "auto" {
		return filepath.Join("results", r.Time.Format("2006-01-02T150405Z")+".json")
	}
	return file
}

func (r *results) write(file string, out io.Writer) error {
	if file == "" {
		return nil
	}
	file = r.fileName(file)
	data, err := json.MarshalIndent(r, "", "\t")
	if err != nil {
		return err
	}
	if err := os.MkdirAll(filepath.Dir(file), 0o755); err != nil {
		return err
	}
	if err := os.WriteFile(file, append(data, '\n'), 0o644); err != nil {
		return err
	}
	fmt.Fprintln(out, "written to", file)
	return nil
}
