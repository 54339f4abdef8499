//go:build linux

package main

// This file is the workload h2: what a request over HTTP/2 costs the server, by connections and
// streams, over TLS and without, with flare's own HTTP/1.1 beside, one request at a time and as
// many in flight as there are streams; then routes that are offloaded, and downloads. The load is
// nghttp2's h2load.

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os/exec"
	"regexp"
	"strconv"
	"time"
)

// http2Workloads are those of HTTP/2, with targets of their own.
var http2Workloads = []string{"h2", "idle-h2", "h2-stalls", "h2-attacks", "h2-transfer"}

const (
	http2H2ORatioMax       = 0.6 // of h2o's CPU time a request, where streams are many
	http2OwnRatioMax       = 1.0 // of flare's own over HTTP/1.1, with one stream a connection
	http2PipelinedRatioMax = 1.3 // of flare's own over HTTP/1.1 with as many in flight
	http2OffloadedMax      = 1.5 // µs a request on a route that is offloaded
	http2DownloadRatioMax  = 1.1 // of HTTP/1.1's CPU time a download, over TLS

	http2DownloadBytes = 1 << 20
	http2LoadMin       = 4000 // requests of the load that finds out how many make a window
)

// A http2Cell is a number of connections and of streams on each.
type http2Cell struct{ conns, streams int }

func (c http2Cell) String() string { return fmt.Sprintf("%dx%d", c.conns, c.streams) }

var http2Cells = []http2Cell{{1, 100}, {8, 100}, {64, 10}, {64, 1}}

// A h2loadRun is one load: what it asks for, of whom and how.
type h2loadRun struct {
	target *target
	pair   *tlsPair // nil: without TLS
	http1  bool
	cell   http2Cell
	path   string
	bytes  int // of the body, plaintext's if 0
}

func (r *h2loadRun) String() string {
	name := r.target.name
	if r.http1 {
		name += ", HTTP/1.1"
	}
	if r.pair == nil {
		return fmt.Sprintf("%s, cleartext %s", name, r.cell)
	}
	return fmt.Sprintf("%s, TLS %s", name, r.cell)
}

// An h2loadReport is what h2load says of a run.
type h2loadReport struct {
	protocol string
	done     uint64 // with status 2xx
	bytes    uint64 // of bodies
	seconds  float64
}

var (
	h2loadProtocol = regexp.MustCompile(`(?m)^Application protocol: (\S+)$`)
	h2loadFinished = regexp.MustCompile(`(?m)^finished in ([\d.]+)(us|ms|s|m|h),`)
	h2loadRequests = regexp.MustCompile(`(?m)^requests: (\d+) total, \d+ started, \d+ done, (\d+) succeeded, (\d+) failed, (\d+) errored, (\d+) timeout$`)
	h2loadStatus   = regexp.MustCompile(`(?m)^status codes: (\d+) 2xx,`)
	h2loadTraffic  = regexp.MustCompile(`(?m)^traffic: .* \((\d+)\) data$`)
	h2loadUnits    = map[string]float64{"us": 1e-6, "ms": 1e-3, "s": 1, "m": 60, "h": 3600}
)

// parseH2load is an error for a run in which anything failed.
func parseH2load(text string) (r h2loadReport, err error) {
	protocol, finished := h2loadProtocol.FindStringSubmatch(text), h2loadFinished.FindStringSubmatch(text)
	requests, status := h2loadRequests.FindStringSubmatch(text), h2loadStatus.FindStringSubmatch(text)
	traffic := h2loadTraffic.FindStringSubmatch(text)
	if protocol == nil || finished == nil || requests == nil || status == nil || traffic == nil {
		return r, fmt.Errorf("h2load says %q", lastLines(text, 3))
	}
	if requests[1] != requests[2] || requests[1] != status[1] {
		return r, fmt.Errorf("h2load: %s; %s", requests[0], status[0])
	}
	r.protocol = protocol[1]
	r.done, err = strconv.ParseUint(status[1], 10, 64)
	if err == nil {
		r.bytes, err = strconv.ParseUint(traffic[1], 10, 64)
	}
	if err == nil {
		r.seconds, err = strconv.ParseFloat(finished[1], 64)
		r.seconds *= h2loadUnits[finished[2]]
	}
	if err == nil && (r.done == 0 || r.seconds <= 0) {
		err = fmt.Errorf("h2load says %q", lastLines(text, 3))
	}
	return r, err
}

// load asks for r n times.
func (b *bencher) h2load(ctx context.Context, program, addr string, r *h2loadRun, n int) (h2loadReport, error) {
	ctx, cancel := context.WithTimeout(ctx, 10*time.Duration((b.options.seconds+b.options.warmup)*float64(time.Second))+loadSlack)
	defer cancel()
	argv := []string{program, "-t1", "-c", strconv.Itoa(r.cell.conns), "-m", strconv.Itoa(r.cell.streams), "-n", strconv.Itoa(n)}
	want := map[bool]string{true: "h2c", false: "h2"}[r.pair == nil]
	if r.http1 {
		argv, want = append(argv, "--h1"), "http/1.1"
	}
	p, err := b.fleet.start("h2load", append(argv, urlOf(addr, r.path, r.pair)), nil, b.options.genCores)
	if err != nil {
		return h2loadReport{}, err
	}
	if err := p.wait(ctx); err != nil {
		return h2loadReport{}, err
	}
	report, err := parseH2load(p.stdout.String())
	bytes := uint64(n) * uint64(max(r.bytes, len(wantBody)))
	switch {
	case err != nil:
		return report, err
	case report.protocol != want:
		return report, fmt.Errorf("%s in place of %s", report.protocol, want)
	case report.done != uint64(n) || report.bytes != bytes:
		return report, fmt.Errorf("%d answers of %d bytes to %d requests", report.done, report.bytes, n)
	}
	return report, nil
}

// measureH2load is one window against a fresh process. How many requests make a window is found out
// by two loads before it, the second of which warms up.
func (b *bencher) measureH2load(ctx context.Context, program string, r *h2loadRun) (s tlsSample, err error) {
	p, addr, err := b.serveHTTP2(ctx, r.target, r.pair)
	if err != nil {
		return s, err
	}
	defer p.stop()
	if r.bytes == 0 {
		if err := r.target.checkHTTP2(addr, r.path, b.options.contentType, r.pair, r.http1); err != nil {
			return s, err
		}
	}
	n := max(2*r.cell.conns*r.cell.streams, http2LoadMin*len(wantBody)/max(r.bytes, len(wantBody)))
	for _, seconds := range []float64{b.options.warmup, b.options.seconds} {
		report, err := b.h2load(ctx, program, addr, r, n)
		if err != nil {
			return s, err
		}
		n = max(n, int(float64(n)/report.seconds*seconds))
	}
	before := processCPU(p.cmd.Process.Pid)
	report, err := b.h2load(ctx, program, addr, r, n)
	if err != nil {
		return s, err
	}
	used := processCPU(p.cmd.Process.Pid) - before
	if used <= 0 {
		return s, errors.New("the server's CPU clock could not be read")
	}
	return tlsSample{float64(used.Nanoseconds()) / 1e3 / float64(n), float64(n) / report.seconds}, nil
}

// http2Runs are all loads, in the order of the tables.
func http2Runs(targets []*target, pair *tlsPair) (runs []*h2loadRun) {
	for _, pair := range []*tlsPair{nil, pair} {
		for _, cell := range http2Cells {
			for _, t := range http2Targets(targets) {
				runs = append(runs, &h2loadRun{target: t, pair: pair, cell: cell, path: "/plaintext"})
				if t.name == nameFlare {
					runs = append(runs, &h2loadRun{target: t, pair: pair, cell: cell, path: "/plaintext", http1: true})
				}
			}
		}
		for _, t := range http2Targets(targets, nameWaits) {
			runs = append(runs, &h2loadRun{target: t, pair: pair, cell: http2Cell{8, 100}, path: "/offloaded"})
		}
	}
	for _, t := range http2Targets(targets, nameFlare) {
		for _, http1 := range []bool{false, true} {
			runs = append(runs, &h2loadRun{target: t, pair: pair, cell: http2Cell{8, 1}, http1: http1,
				path: fmt.Sprint("/bytes?n=", http2DownloadBytes), bytes: http2DownloadBytes})
		}
	}
	return runs
}

func (b *bencher) runHTTP2(ctx context.Context, targets []*target, out, log io.Writer) ([]*boundRow, error) {
	program, err := exec.LookPath("h2load")
	if err != nil {
		fmt.Fprintln(log, "h2: skipped, no h2load (apt-get install nghttp2-client)")
		return nil, nil
	}
	pair, err := makeTLSPair(b.dir)
	if err != nil {
		return nil, err
	}
	runs := http2Runs(targets, pair)
	samples := make(map[*h2loadRun][]tlsSample)
	for round := range b.options.rounds {
		for i := range runs {
			r := runs[(round+i)%len(runs)]
			s, err := b.measureH2load(ctx, program, r)
			if err != nil {
				return nil, fmt.Errorf("%s: %w", r, err)
			}
			samples[r] = append(samples[r], s)
		}
		fmt.Fprintf(log, "h2: round %d of %d\n", round+1, b.options.rounds)
	}
	rows := make([]*boundRow, len(runs))
	for i, r := range runs {
		rows[i] = r.row(samples[r])
	}
	judgeHTTP2(runs, rows)
	printHTTP2(out, runs, rows)
	return rows, nil
}

func (r *h2loadRun) row(samples []tlsSample) *boundRow {
	var cpu, rate []float64
	for _, s := range samples {
		cpu, rate = append(cpu, s.cpuEach), append(rate, s.perSecond)
	}
	return &boundRow{Workload: "h2", Target: r.target.name, Kind: r.kind(),
		Figures: map[string]float64{"cpu_us_each": median(cpu), "per_second": median(rate)}}
}

func (r *h2loadRun) kind() string {
	kind := r.cell.String() + " cleartext"
	if r.pair != nil {
		kind = r.cell.String() + " TLS"
	}
	if r.http1 {
		kind += " HTTP/1.1"
	}
	return kind + " " + r.path
}

// beside finds the row of the same load of another target, or over the other version; 0 without one.
func (r *h2loadRun) beside(runs []*h2loadRun, rows []*boundRow, name string, http1 bool) float64 {
	for i, o := range runs {
		if o.target.name == name && o.http1 == http1 && o.pair == r.pair && o.cell == r.cell && o.path == r.path {
			return rows[i].Figures["cpu_us_each"]
		}
	}
	return 0
}

// judgeHTTP2 holds flare to its bounds.
func judgeHTTP2(runs []*h2loadRun, rows []*boundRow) {
	for i, r := range runs {
		own, h2o := r.beside(runs, rows, nameFlare, true), r.beside(runs, rows, nameH2O, false)
		each := rows[i].Figures["cpu_us_each"]
		hold := func(base float64, name string, most float64) {
			if base > 0 && each > most*base {
				rows[i].miss("%.2f µs are %.2f of %s, at most %.1f", each, each/base, name, most)
			}
		}
		switch {
		case r.http1:
		case r.target.name == nameWaits:
			hold(http2OffloadedMax, "the bound in µs", 1)
		case r.target.name != nameFlare:
		case r.bytes > 0:
			hold(own, "HTTP/1.1's", http2DownloadRatioMax)
		case r.cell.streams == 1:
			hold(own, "HTTP/1.1's", http2OwnRatioMax)
		default:
			hold(h2o, "h2o's", http2H2ORatioMax)
			hold(own, "HTTP/1.1's with as many in flight", http2PipelinedRatioMax)
		}
	}
}

// printHTTP2 prints a table for each path with and without TLS.
func printHTTP2(out io.Writer, runs []*h2loadRun, rows []*boundRow) {
	var table [][]string
	for i, r := range runs {
		if i == 0 || r.path != runs[i-1].path || r.pair != runs[i-1].pair || r.cell != runs[i-1].cell {
			writeAligned(out, table)
			over := map[bool]string{true: "cleartext", false: "TLS"}[r.pair == nil]
			fmt.Fprintf(out, "\nh2: %s, %s, connections x streams %s\n", r.path, over, r.cell)
			table = [][]string{{"", "cpu µs each", "a second", "flare's share", ""}}
		}
		name, verdict, share := r.target.name, "", ""
		if r.http1 {
			name += " HTTP/1.1"
		} else if name == nameFlare || name == nameWaits {
			verdict = rows[i].verdict()
		}
		f := rows[i].Figures
		if flare := r.beside(runs, rows, nameFlare, false); flare > 0 {
			share = ratio(flare / f["cpu_us_each"])
		}
		table = append(table, []string{name, fmt.Sprintf("%.3f", f["cpu_us_each"]), count(f["per_second"]), share, verdict})
	}
	writeAligned(out, table)
}
