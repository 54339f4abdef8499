//go:build linux

package main

// This file compares two targets by pairs of neighbouring windows, for differences too small for
// the medians of a table.

import (
	"context"
	"fmt"
	"io"
)

// pairsMin is where the bootstrap of a median starts to be believable.
const pairsMin = 6

// A comparison is the ratio of a's figures to b's under one workload.
type comparison struct {
	Workload  string   `json:"workload"`
	A         string   `json:"a"`
	B         string   `json:"b"`
	Pairs     int      `json:"pairs"`
	CPU       interval `json:"cpu_ratio"`
	PerSecond interval `json:"per_second_ratio"`
	P50       interval `json:"p50_ratio"`
	P99       interval `json:"p99_ratio"`
	MedianA   sample   `json:"median_a"`
	MedianB   sample   `json:"median_b"`
	SamplesA  []sample `json:"samples_a"`
	SamplesB  []sample `json:"samples_b"`
}

func makeComparison(w *workload, a, b string, as, bs []sample) *comparison {
	figure := func(f func(sample) float64) interval {
		x, y := make([]float64, len(as)), make([]float64, len(bs))
		for i := range as {
			x[i], y[i] = f(as[i]), f(bs[i])
		}
		return pairedRatio(x, y)
	}
	return &comparison{Workload: w.name, A: a, B: b, Pairs: len(as),
		CPU:       figure(func(s sample) float64 { return s.CPU }),
		PerSecond: figure(func(s sample) float64 { return s.PerSecond }),
		P50:       figure(func(s sample) float64 { return s.P50 }),
		P99:       figure(func(s sample) float64 { return s.P99 }),
		MedianA:   medianSample(as), MedianB: medianSample(bs), SamplesA: as, SamplesB: bs}
}

// compare measures pairs of windows, first a then b, the next pair the other way round, so that
// neither always follows the other.
func (b *bencher) compare(ctx context.Context, x, y *target, w *workload, pairs int, log io.Writer) (*comparison, []string, error) {
	samples := map[*target][]sample{}
	var wrong []string
	for i := range pairs {
		order := []*target{x, y}
		if i%2 == 1 {
			order = []*target{y, x}
		}
		for _, t := range order {
			s, f, err := b.measure(ctx, t, w, i)
			if err != nil {
				return nil, nil, err
			}
			for _, text := range f {
				wrong = append(wrong, fmt.Sprintf("%s, %s, pair %d: %s", t.name, w.name, i+1, text))
			}
			samples[t] = append(samples[t], s)
		}
		fmt.Fprintf(log, "%s: pair %d of %d: cpu %.3f / %.3f µs\n", w.name, i+1, pairs, samples[x][i].CPU, samples[y][i].CPU)
	}
	if wrong != nil {
		return nil, wrong, nil
	}
	return makeComparison(w, x.name, y.name, samples[x], samples[y]), nil, nil
}

func (c *comparison) print(out io.Writer) {
	fmt.Fprintf(out, "\n%s: %s / %s, %d pairs, median ratio and its 95 %% confidence interval\n", c.Workload, c.A, c.B, c.Pairs)
	table := [][]string{{"", c.A, c.B, "ratio", "from", "to", ""}}
	for _, line := range []struct {
		name   string
		a, b   string
		ratios interval
	}{
		{"cpu µs/request", micros(c.MedianA.CPU), micros(c.MedianB.CPU), c.CPU},
		{"requests/s", count(c.MedianA.PerSecond), count(c.MedianB.PerSecond), c.PerSecond},
		{"p50 µs", latency(c.MedianA.P50), latency(c.MedianB.P50), c.P50},
		{"p99 µs", latency(c.MedianA.P99), latency(c.MedianB.P99), c.P99},
	} {
		r := line.ratios
		verdict := "no difference shown"
		if r.Low > 1 || r.High < 1 {
			verdict = "different"
		}
		table = append(table, []string{line.name, line.a, line.b,
			fmt.Sprintf("%.3f", r.Estimate), fmt.Sprintf("%.3f", r.Low), fmt.Sprintf("%.3f", r.High), verdict})
	}
	writeAligned(out, table)
	if c.Pairs < pairsMin {
		fmt.Fprintf(out, "%d pairs are too few for the interval to be believed: at least %d\n", c.Pairs, pairsMin)
	}
}
