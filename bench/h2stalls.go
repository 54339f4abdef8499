//go:build linux

package main

// This file is the workload h2-stalls: one connection of HTTP/2 with a hundred streams, of which one's
// handler sleeps, one's blocks its thread, one's response is not read and one's body comes at a byte
// a second. How late the others are answered is compared with the same load without the four; a handler
// that keeps a processor for a while is held to bounds of its own. With one processor and with two.

import (
	"context"
	"fmt"
	"io"
	"sync"
	"sync/atomic"
	"time"
)

const (
	h2StallRate     = 5000 // requests a second of the others
	h2StallStreams  = 96   // of the others at once
	h2StallWarmup   = 500 * time.Millisecond
	h2StallWindow   = 3 * time.Second
	h2StallRatioMax = 1.5 // of the p99 without the four
	h2StallPatience = time.Minute

	h2SpinWindow   = 12 * time.Second
	h2SpinEvery    = 6 * time.Second // ten a minute
	h2SpinFirst    = 2 * time.Second
	h2SpinP99Max   = 20_000 // µs
	h2SpinWorstMax = 58_000

	h2TrickleBeat = time.Second
)

// A h2stall is what goes on beside the load.
type h2stall struct {
	kind string
	path string // of the handlers that take their time; the others ask for /work
	spin bool   // one spins now and then, and else there are the four
}

var h2stallKinds = []h2stall{
	{kind: "nothing"},
	{kind: "the four, on routes of their own", path: "/slow"},
	{kind: "the four, on the others' route", path: "/work"},
	{kind: "300 ms of spinning, a route of its own", path: "/slow", spin: true},
	{kind: "300 ms of spinning, the others' route", path: "/work", spin: true},
}

func (k *h2stall) window() time.Duration {
	if k.spin {
		return h2SpinWindow
	}
	return h2StallWindow
}

// A h2staller keeps streams busy on a connection until it is told to stop.
type h2staller struct {
	*h2mux
	stop  chan struct{}
	begun atomic.Int64 // streams
	all   sync.WaitGroup
}

// again asks, waits for the end, and asks again. during is called with the stream as long as it is open.
func (s *h2staller) again(pause time.Duration, last bool, method, path string, during func(id uint32)) {
	s.all.Go(func() {
		for {
			end := make(chan struct{})
			id, err := s.start(last, method, path, func([]byte, bool) { close(end) })
			if err != nil {
				return // whoever measures finds it too
			}
			s.begun.Add(1)
			beat := time.NewTicker(h2TrickleBeat)
			for open := true; open; {
				select {
				case <-beat.C:
					during(id)
				case <-end:
					open = false
				case <-s.stop:
					beat.Stop()
					return
				}
			}
			beat.Stop()
			select {
			case <-time.After(pause):
			case <-s.stop:
				return
			}
		}
	})
}

func (s *h2staller) begin(k *h2stall) {
	nothing := func(uint32) {}
	switch {
	case k.path == "":
	case k.spin:
		s.all.Go(func() {
			select {
			case <-time.After(h2StallWarmup + h2SpinFirst):
			case <-s.stop:
				return
			}
			s.again(h2SpinEvery-300*time.Millisecond, true, "GET", k.path+"?ms=300&how=spin", nothing)
		})
	default:
		s.again(0, true, "GET", k.path+"?ms=1000&how=sleep", nothing)
		s.again(0, true, "GET", k.path+"?ms=1000&how=block", nothing)
		s.again(0, true, "GET", "/fill", nothing) // its window is never opened
		s.again(0, false, "POST", "/upload", func(id uint32) { s.data(id, []byte("x")) })
	}
}

// measureHTTP2Stall is one window against a fresh process.
func (b *bencher) measureHTTP2Stall(ctx context.Context, t *target, k *h2stall, seed uint64) (map[string]float64, error) {
	p, addr, err := b.serveHTTP2(ctx, t, nil)
	if err != nil {
		return nil, err
	}
	defer p.stop()
	m, err := dialMux(addr, time.Now().Add(h2StallPatience))
	if err != nil {
		return nil, err
	}
	defer m.Close()
	load := &h2pace{path: "/work", rate: h2StallRate, streams: h2StallStreams, seed: seed, window: h2StallWarmup}
	if _, err := load.paced(m); err != nil { // the route proves to be quick
		return nil, err
	}
	s := &h2staller{h2mux: m, stop: make(chan struct{})}
	defer s.all.Wait()
	defer close(s.stop)
	s.begin(k)
	if !k.spin {
		time.Sleep(h2StallWarmup)
	}
	load.window = k.window()
	l, err := load.paced(m)
	if err != nil {
		return nil, err
	}
	if k.path != "" && s.begun.Load() == 0 {
		return nil, fmt.Errorf("nothing went on beside the load")
	}
	return map[string]float64{
		"answers": float64(len(l.times)), "wrong": float64(l.wrong), "stalls": float64(s.begun.Load()),
		"p50_us": l.quantile(0.5), "p99_us": l.quantile(0.99), "max_us": l.quantile(1), "late_p99_us": sortedQuantile(l.late, 0.99),
	}, nil
}

// h2stallRow takes medians over the rounds, and the largest of the maxima.
func h2stallRow(t *target, k *h2stall, procs int, samples, without []map[string]float64) *boundRow {
	r := &boundRow{Workload: "h2-stalls", Target: t.name, Kind: fmt.Sprintf("%d P, %s", procs, k.kind), Figures: make(map[string]float64)}
	for name := range samples[0] {
		var values []float64
		for _, s := range samples {
			values = append(values, s[name])
		}
		r.Figures[name] = median(values)
	}
	var ratios []float64
	for i, s := range samples {
		r.Figures["max_us"] = max(r.Figures["max_us"], s["max_us"])
		r.Figures["wrong"] = max(r.Figures["wrong"], s["wrong"])
		ratios = append(ratios, s["p99_us"]/without[i]["p99_us"])
	}
	r.Figures["p99_ratio"] = median(ratios)
	r.judgeStall(k)
	return r
}

func (r *boundRow) judgeStall(k *h2stall) {
	f := r.Figures
	if f["wrong"] > 0 {
		r.miss("%.0f answers were not right", f["wrong"])
	}
	switch {
	case k.path == "":
	case k.spin:
		if f["p99_us"] > h2SpinP99Max || f["max_us"] > h2SpinWorstMax {
			r.miss("p99 %.0f µs and the worst %.0f, at most %d and %d", f["p99_us"], f["max_us"], h2SpinP99Max, h2SpinWorstMax)
		}
	case f["p99_ratio"] > h2StallRatioMax:
		r.miss("p99 is %.2f times that without, at most %.1f", f["p99_ratio"], h2StallRatioMax)
	}
}

func (b *bencher) runHTTP2Stalls(ctx context.Context, targets []*target, out, log io.Writer) ([]*boundRow, error) {
	own := b.options.procs
	defer func() { b.options.procs = own }()
	var rows []*boundRow
	for _, t := range http2Targets(targets, nameWaits) {
		for _, procs := range []int{1, 2} {
			b.options.procs = procs
			samples := make([][]map[string]float64, len(h2stallKinds))
			for round := range b.options.rounds {
				for i := range h2stallKinds {
					s, err := b.measureHTTP2Stall(ctx, t, &h2stallKinds[i], uint64(round))
					if err != nil {
						return nil, fmt.Errorf("%s: %w", h2stallKinds[i].kind, err)
					}
					samples[i] = append(samples[i], s)
				}
				fmt.Fprintf(log, "h2-stalls: %d P, round %d of %d\n", procs, round+1, b.options.rounds)
			}
			for i := range h2stallKinds {
				rows = append(rows, h2stallRow(t, &h2stallKinds[i], procs, samples[i], samples[0]))
			}
		}
	}
	fmt.Fprintf(out, "\nh2-stalls: one connection, %d requests a second on up to %d streams, and what goes on beside them\n", h2StallRate, h2StallStreams)
	table := [][]string{{"", "stalls", "p50 µs", "p99", "ratio", "max", "late p99", ""}}
	for _, r := range rows {
		f := r.Figures
		table = append(table, []string{r.Kind, count(f["stalls"]), latency(f["p50_us"]), latency(f["p99_us"]), ratio(f["p99_ratio"]),
			latency(f["max_us"]), latency(f["late_p99_us"]), r.verdict()})
	}
	writeAligned(out, table)
	return rows, nil
}
