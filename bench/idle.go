//go:build linux

package main

// This file is the workload idle: what a keep-alive connection that waits costs. Each connection
// sends one request and then nothing; what the process grew by, divided by their number, is the
// figure. Then the throughput load runs beside them, and against a fresh process without them.

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"slices"
	"sync"
	"time"
)

const (
	idleBytesMax   = 512  // of RSS for each connection, over the empty server
	idleRatioMin   = 0.95 // of the requests a second without them
	idleDialers    = 32
	idlePatience   = 30 * time.Second // for all connections together
	idleReadBuffer = 512
)

// idleConnections are open connections that have had an answer each.
type idleConnections []net.Conn

func (list idleConnections) close() {
	for _, c := range list {
		if c != nil {
			c.Close()
		}
	}
}

// each calls f for the numbers below n, several at a time, until one fails.
func each(n int, f func(i int) error) error {
	var (
		group  sync.WaitGroup
		failed = make([]error, idleDialers)
	)
	for d := range idleDialers {
		group.Go(func() {
			for i := d; i < n && failed[d] == nil; i += idleDialers {
				failed[d] = f(i)
			}
		})
	}
	group.Wait()
	return errors.Join(failed...)
}

// askOn sends one request on an open connection and reads its answer.
func askOn(c net.Conn) error {
	if _, err := io.WriteString(c, "GET /plaintext HTTP/1.1\r\nHost: "+c.RemoteAddr().String()+"\r\n\r\n"); err != nil {
		return err
	}
	a, err := readAnswer(bufio.NewReaderSize(c, idleReadBuffer))
	if err == nil && (a.status != 200 || a.body != wantBody) {
		err = fmt.Errorf("answer %d %q", a.status, a.body)
	}
	return err
}

// openIdle opens n connections and has one request answered on each.
func openIdle(addr string, n int) (idleConnections, error) {
	list := make(idleConnections, n)
	deadline := time.Now().Add(idlePatience)
	err := each(n, func(i int) (err error) {
		d := net.Dialer{Deadline: deadline, KeepAlive: -1}
		if list[i], err = d.Dial("tcp", addr); err != nil {
			return err
		}
		list[i].SetDeadline(deadline)
		return askOn(list[i])
	})
	if err != nil {
		list.close()
		return nil, err
	}
	return list, nil
}

// stillOpen has one more request answered on each.
func (list idleConnections) stillOpen() error {
	deadline := time.Now().Add(idlePatience)
	return each(len(list), func(i int) error {
		list[i].SetDeadline(deadline)
		return askOn(list[i])
	})
}

// An idleSample is one round of one target.
type idleSample struct {
	bytesEach      float64
	empty          float64 // bytes
	without, with  float64 // requests a second
	p99            float64 // µs, without
	p99With        float64
	openingSeconds float64
}

func (b *bencher) idleLoad(ctx context.Context, addr string, pid int) (sample, error) {
	r, err := b.generator.run(ctx, addr, pid, b.options.warmup, b.options.seconds, "--connections", fmt.Sprint(b.options.conns))
	if err != nil {
		return sample{}, err
	}
	if n := r.errorCount(); n > 0 || r.Answered == 0 {
		return sample{}, fmt.Errorf("%d errors, the first: %s", n, r.FirstError)
	}
	return makeSample(r), nil
}

// measureIdle is one round: a process with idle connections, and once they are
// closed. Two processes of one program differ by several percent here, by where
// their memory lies: more than idle connections cost.
func (b *bencher) measureIdle(ctx context.Context, t *target) (s idleSample, err error) {
	p, addr, err := b.serve(ctx, t)
	if err != nil {
		return s, err
	}
	defer p.stop()
	pid := p.cmd.Process.Pid
	empty, err := settledBytes(ctx, pid)
	if err != nil {
		return s, err
	}
	began := time.Now()
	list, err := openIdle(addr, b.options.idleConns)
	if err != nil {
		return s, err
	}
	defer list.close()
	s.openingSeconds = time.Since(began).Seconds()
	full, err := settledBytes(ctx, pid)
	if err != nil {
		return s, err
	}
	s.empty, s.bytesEach = float64(empty), float64(full-empty)/float64(len(list))
	beside, err := b.idleLoad(ctx, addr, pid)
	if err != nil {
		return s, err
	}
	s.with, s.p99With = beside.PerSecond, beside.P99
	if err := list.stillOpen(); err != nil {
		return s, fmt.Errorf("an idle connection was lost: %w", err)
	}
	list.close()
	if _, err := settledBytes(ctx, pid); err != nil {
		return s, err
	}
	alone, err := b.idleLoad(ctx, addr, pid)
	if err != nil {
		return s, err
	}
	s.without, s.p99 = alone.PerSecond, alone.P99
	return s, nil
}

func (b *bencher) runIdle(ctx context.Context, targets []*target, out, log io.Writer) ([]*boundRow, error) {
	targets = slices.DeleteFunc(slices.Clone(targets), func(t *target) bool { return t.command == nil })
	samples := make(map[*target][]idleSample)
	for round := range b.options.rounds {
		for j := range targets {
			t := targets[(round+j)%len(targets)]
			s, err := b.measureIdle(ctx, t)
			if err != nil {
				return nil, fmt.Errorf("%s: %w", t.name, err)
			}
			samples[t] = append(samples[t], s)
		}
		fmt.Fprintf(log, "idle: round %d of %d\n", round+1, b.options.rounds)
	}
	fmt.Fprintf(out, "\nidle: %d keep-alive connections after one request each; requests a second with %d busy ones beside them\n",
		b.options.idleConns, b.options.conns)
	table := [][]string{{"", "bytes each", "empty KiB", "req/s without", "with", "ratio", "p99 µs without", "with", "opened in s", ""}}
	var rows []*boundRow
	for _, t := range targets {
		r := idleRow(t.name, samples[t])
		f := r.Figures
		verdict := ""
		if t.name == nameFlare {
			verdict = r.verdict()
		}
		table = append(table, []string{t.name, count(f["rss_bytes_each"]), kib(f["rss_empty_bytes"]), count(f["per_second_without"]), count(f["per_second_with"]),
			ratio(f["per_second_ratio"]), latency(f["p99_us_without"]), latency(f["p99_us_with"]), fmt.Sprintf("%.2f", f["opening_seconds"]), verdict})
		rows = append(rows, r)
	}
	writeAligned(out, table)
	return rows, nil
}

// idleRow takes medians, of the ratio too: its halves were measured next to each other.
func idleRow(name string, samples []idleSample) *boundRow {
	pick := func(f func(idleSample) float64) float64 {
		var values []float64
		for _, s := range samples {
			values = append(values, f(s))
		}
		return median(values)
	}
	r := &boundRow{Workload: "idle", Target: name, Figures: map[string]float64{
		"rss_bytes_each":     pick(func(s idleSample) float64 { return s.bytesEach }),
		"rss_empty_bytes":    pick(func(s idleSample) float64 { return s.empty }),
		"per_second_without": pick(func(s idleSample) float64 { return s.without }),
		"per_second_with":    pick(func(s idleSample) float64 { return s.with }),
		"per_second_ratio":   pick(func(s idleSample) float64 { return s.with / s.without }),
		"p99_us_without":     pick(func(s idleSample) float64 { return s.p99 }),
		"p99_us_with":        pick(func(s idleSample) float64 { return s.p99With }),
		"opening_seconds":    pick(func(s idleSample) float64 { return s.openingSeconds }),
	}}
	if name != nameFlare {
		return r
	}
	if each := r.Figures["rss_bytes_each"]; each > idleBytesMax {
		r.miss("%.0f bytes for each idle connection, at most %d", each, idleBytesMax)
	}
	if ratio := r.Figures["per_second_ratio"]; ratio < idleRatioMin {
		r.miss("%.3f of the requests a second without idle connections, at least %.2f", ratio, idleRatioMin)
	}
	return r
}
