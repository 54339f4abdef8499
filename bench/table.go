//go:build linux

package main

// This file turns samples into rows and rows into text. It measures nothing.

import (
	"fmt"
	"io"
	"math"
	"slices"
	"strings"
)

// A row is one target under one workload: medians over the rounds.
type row struct {
	Workload string   `json:"workload"`
	Target   string   `json:"target"`
	Median   sample   `json:"median"`
	Samples  []sample `json:"samples"`
	// Ratios of the median CPU time per request to that of another target.
	Ratios map[string]float64 `json:"cpu_ratio_to,omitempty"`
}

// ratioTo are the targets everything is compared to.
var ratioTo = []string{nameFloor, nameNginx, nameFast, nameNetHTTP, nameFloorWS, nameGWS}

// medianSample takes the median of each figure apart; Max is the largest, since a median of maxima
// would hide what it is there to show.
func medianSample(samples []sample) sample {
	pick := func(f func(*sample) float64) float64 {
		values := make([]float64, len(samples))
		for i := range samples {
			values[i] = f(&samples[i])
		}
		return median(values)
	}
	var m sample
	for _, f := range []func(*sample) *float64{
		func(s *sample) *float64 { return &s.PerSecond },
		func(s *sample) *float64 { return &s.CPU },
		func(s *sample) *float64 { return &s.User },
		func(s *sample) *float64 { return &s.Ticks },
		func(s *sample) *float64 { return &s.Voluntary },
		func(s *sample) *float64 { return &s.Involuntary },
		func(s *sample) *float64 { return &s.P50 },
		func(s *sample) *float64 { return &s.P90 },
		func(s *sample) *float64 { return &s.P99 },
		func(s *sample) *float64 { return &s.P999 },
		func(s *sample) *float64 { return &s.MixP50 },
		func(s *sample) *float64 { return &s.MixP99 },
		func(s *sample) *float64 { return &s.LateP99 },
		func(s *sample) *float64 { return &s.Generator },
		func(s *sample) *float64 { return &s.Foreign },
	} {
		*f(&m) = pick(func(s *sample) float64 { return *f(s) })
	}
	// User and system of the table add up to its CPU.
	m.System = m.CPU - m.User
	for _, s := range samples {
		m.Max = max(m.Max, s.Max)
		m.DisturbMax = max(m.DisturbMax, s.DisturbMax)
		m.Overloaded = m.Overloaded || s.Overloaded
		m.AnswerBytes = s.AnswerBytes
	}
	return m
}

// addRatios fills Ratios within each workload.
func addRatios(rows []*row) {
	for _, r := range rows {
		r.Ratios = make(map[string]float64)
		for _, base := range rows {
			if base.Workload == r.Workload && base.Median.CPU > 0 {
				r.Ratios[base.Target] = r.Median.CPU / base.Median.CPU
			}
		}
	}
}

// printTable prints the rows of one workload.
func printTable(out io.Writer, w *workload, rows []*row) {
	fmt.Fprintf(out, "\n%s: %s\n", w.name, w.about)
	head := []string{"", "req/s", "p50 µs", "p90", "p99", "p99.9", "max", "cpu µs", "user", "system", "switches/s", "invol/s"}
	bases := basesOf(rows)
	for _, base := range bases {
		head = append(head, "× "+base)
	}
	mixed := false
	for _, r := range rows {
		mixed = mixed || r.Median.MixP50 > 0
	}
	if mixed {
		head = append(head, "slow p50", "slow p99")
	}
	if w.paced {
		head = append(head, "late p99")
	}
	table := [][]string{append(head, "gen %")}
	for _, r := range rows {
		m := r.Median
		cells := []string{r.Target, count(m.PerSecond), latency(m.P50), latency(m.P90), latency(m.P99), latency(m.P999), latency(m.Max),
			micros(m.CPU), micros(m.User), micros(m.System), count(m.Voluntary), count(m.Involuntary)}
		for _, base := range bases {
			cells = append(cells, ratio(r.Ratios[base]))
		}
		if mixed {
			cells = append(cells, latency(m.MixP50), latency(m.MixP99))
		}
		if w.paced {
			cells = append(cells, latency(m.LateP99))
		}
		cells = append(cells, fmt.Sprintf("%.0f", m.Generator*100))
		if m.Overloaded {
			cells = append(cells, " fell behind")
		}
		table = append(table, cells)
	}
	writeAligned(out, table)
}

// basesOf keeps those of ratioTo that have a row.
func basesOf(rows []*row) []string {
	return slices.DeleteFunc(slices.Clone(ratioTo), func(base string) bool {
		return !slices.ContainsFunc(rows, func(r *row) bool { return r.Target == base })
	})
}

func count(v float64) string { return fmt.Sprintf("%.0f", v) }

// micros keeps three digits where a request costs under a microsecond.
func micros(v float64) string {
	if v < 1 {
		return fmt.Sprintf("%.3f", v)
	}
	return fmt.Sprintf("%.2f", v)
}

func latency(v float64) string {
	if v == 0 {
		return "–"
	}
	return fmt.Sprintf("%.0f", v)
}

func ratio(v float64) string {
	if v == 0 || math.IsNaN(v) {
		return "–"
	}
	return fmt.Sprintf("%.2f", v)
}

// writeAligned sets the first column left, the others right. Width is counted in runes.
func writeAligned(out io.Writer, table [][]string) {
	var width []int
	for _, cells := range table {
		for i, c := range cells {
			if i == len(width) {
				width = append(width, 0)
			}
			width[i] = max(width[i], len([]rune(c)))
		}
	}
	for _, cells := range table {
		var line strings.Builder
		for i, c := range cells {
			pad := strings.Repeat(" ", width[i]-len([]rune(c)))
			if i == 0 {
				line.WriteString(c + pad)
			} else {
				line.WriteString("  " + pad + c)
			}
		}
		fmt.Fprintln(out, strings.TrimRight(line.String(), " "))
	}
}
