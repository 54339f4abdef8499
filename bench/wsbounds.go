//go:build linux

package main

// This file is the workloads ws-idle, what a WebSocket that waits costs in memory, and ws-broadcast,
// what it costs to send one message to all.

import (
	"context"
	"fmt"
	"io"
)

const (
	wsIdleBytesMax = 640 // of RSS for each connection, over the empty server
	wsBroadcasts   = 20  // messages to all: all of them fit into the receive buffers
)

// wsSpeakers keeps the targets that serve WebSockets, and of flare's the one named.
func wsSpeakers(targets []*target, flare string) (list []*target) {
	for _, t := range targets {
		switch {
		case t.ws == wsNot, t.name == nameFloorWS:
		case t.name == nameFlare || t.name == nameFlareWS:
			if t.name == flare {
				list = append(list, t)
			}
		default:
			list = append(list, t)
		}
	}
	return list
}

// wsRounds has measure called for each target once a round, each round starting with another one,
// and returns the medians of its figures.
func (b *bencher) wsRounds(name string, targets []*target, log io.Writer, measure func(*target) (map[string]float64, error)) ([]*boundRow, error) {
	samples := make(map[*target]map[string][]float64)
	for round := range b.options.rounds {
		for j := range targets {
			t := targets[(round+j)%len(targets)]
			figures, err := measure(t)
			if err != nil {
				return nil, fmt.Errorf("%s: %w", t.name, err)
			}
			if samples[t] == nil {
				samples[t] = make(map[string][]float64)
			}
			for figure, v := range figures {
				samples[t][figure] = append(samples[t][figure], v)
			}
		}
		fmt.Fprintf(log, "%s: round %d of %d\n", name, round+1, b.options.rounds)
	}
	var rows []*boundRow
	for _, t := range targets {
		r := &boundRow{Workload: name, Target: t.name, Figures: make(map[string]float64)}
		for figure, values := range samples[t] {
			r.Figures[figure] = median(values)
		}
		rows = append(rows, r)
	}
	return rows, nil
}

// ---- ws-idle ----

func (b *bencher) runWSIdle(ctx context.Context, targets []*target, out, log io.Writer) ([]*boundRow, error) {
	rows, err := b.wsRounds("ws-idle", wsSpeakers(targets, nameFlare), log, func(t *target) (map[string]float64, error) { return b.measureWSIdle(ctx, t) })
	if err != nil {
		return nil, err
	}
	fmt.Fprintf(out, "\nws-idle: %d WebSockets after one message each\n", b.options.idleConns)
	table := [][]string{{"", "bytes each", "empty KiB", ""}}
	for _, r := range rows {
		verdict := ""
		if r.Target == nameFlare {
			if each := r.Figures["rss_bytes_each"]; each > wsIdleBytesMax {
				r.miss("%.0f bytes for each idle WebSocket, at most %d", each, wsIdleBytesMax)
			}
			verdict = r.verdict()
		}
		table = append(table, []string{r.Target, count(r.Figures["rss_bytes_each"]), kib(r.Figures["rss_empty_bytes"]), verdict})
	}
	writeAligned(out, table)
	return rows, nil
}

func (b *bencher) measureWSIdle(ctx context.Context, t *target) (map[string]float64, error) {
	p, addr, err := b.serve(ctx, t)
	if err != nil {
		return nil, err
	}
	defer p.stop()
	pid := p.cmd.Process.Pid
	empty, err := settledBytes(ctx, pid)
	if err != nil {
		return nil, err
	}
	list, err := openWS(addr, "/ws", b.options.idleConns)
	if err != nil {
		return nil, err
	}
	defer closeWS(list)
	for range 2 { // the second time shows that none was lost
		for _, c := range list {
			if err := c.echoes(); err != nil {
				return nil, err
			}
		}
	}
	full, err := settledBytes(ctx, pid)
	if err != nil {
		return nil, err
	}
	return map[string]float64{"rss_empty_bytes": float64(empty), "rss_bytes_each": float64(full-empty) / float64(len(list))}, nil
}

// ---- ws-broadcast ----

func (b *bencher) runWSBroadcast(ctx context.Context, targets []*target, out, log io.Writer) ([]*boundRow, error) {
	rows, err := b.wsRounds("ws-broadcast", wsSpeakers(targets, nameFlareWS), log, func(t *target) (map[string]float64, error) { return b.measureWSBroadcast(ctx, t) })
	if err != nil {
		return nil, err
	}
	fmt.Fprintf(out, "\nws-broadcast: messages of %d bytes, each to %d WebSockets that read later\n", wsMessageBytes, b.options.idleConns)
	gws := 0.0
	for _, r := range rows {
		if r.Target == nameGWS {
			gws = r.Figures["cpu_us_per_delivery"]
		}
	}
	table := [][]string{{"", "cpu µs per delivery", ""}}
	for _, r := range rows {
		verdict := ""
		if r.Target == nameFlareWS && gws > 0 {
			if cpu := r.Figures["cpu_us_per_delivery"]; cpu >= gws {
				r.miss("%.2f µs per delivery, gws has %.2f", cpu, gws)
			}
			verdict = r.verdict()
		}
		table = append(table, []string{r.Target, micros(r.Figures["cpu_us_per_delivery"]), verdict})
	}
	writeAligned(out, table)
	return rows, nil
}

// measureWSBroadcast has one connection send messages that go to all. Nobody reads until the server
// is done: whoever waits for a message has to be woken by its sender.
func (b *bencher) measureWSBroadcast(ctx context.Context, t *target) (map[string]float64, error) {
	p, addr, err := b.serve(ctx, t)
	if err != nil {
		return nil, err
	}
	defer p.stop()
	pid := p.cmd.Process.Pid
	list, err := openWS(addr, "/all", b.options.idleConns)
	if err != nil {
		return nil, err
	}
	defer closeWS(list)
	masked, echo := wsMessage()
	send := func(n int) error {
		for range n {
			if err := list[0].write(masked); err != nil {
				return err
			}
		}
		quietCPU(pid)
		for i, c := range list {
			if err := c.expect(echo, n); err != nil {
				return fmt.Errorf("connection %d: %w", i+1, err)
			}
		}
		return nil
	}
	if err := send(2); err != nil { // what is made at first use is made
		return nil, err
	}
	before := processCPU(pid)
	if err := send(wsBroadcasts); err != nil {
		return nil, err
	}
	used := processCPU(pid) - before
	return map[string]float64{"cpu_us_per_delivery": float64(used.Nanoseconds()) / 1e3 / float64(wsBroadcasts*len(list))}, nil
}
