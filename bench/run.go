//go:build linux

package main

// This file is a run from the first compiler call to the last line: build, look whether the machine
// is quiet, check the answers, measure round by round, print. It knows every other file.

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"
)

// run does everything; whatever it started is ended when it returns.
func run(ctx context.Context, o *options, out, log io.Writer) (err error) {
	dir, err := os.MkdirTemp("", "bench")
	if err != nil {
		return err
	}
	b := &bencher{options: o, dir: dir, programs: make(map[*target]string)}
	defer func() {
		b.fleet.stopAll()
		os.RemoveAll(dir)
	}()
	if o.soak > 0 {
		return b.runSoak(ctx, out, log)
	}
	res := newResults(o)

	fmt.Fprintln(log, "building")
	if others, profiles := splitProfiles(splitList(o.workloads), o.conns); len(profiles) > 0 {
		if len(others) > 0 || o.compare != "" {
			return errors.New("the arena's profiles have a run of their own: no other workloads, no -compare")
		}
		return b.runArena(ctx, profiles, res, out, log)
	}
	targets, err := b.prepare(ctx, res, log)
	if err != nil {
		return err
	}
	names, bounds := splitBounds(splitList(o.workloads))
	workloads, err := makeWorkloads(names, o)
	if err != nil {
		return err
	}
	if err := b.quiet(ctx, res, log); err != nil {
		return err
	}
	able, err := b.checkTargets(ctx, targets, workloads, res, log)
	if err != nil {
		return err
	}
	if o.compare != "" {
		err = b.runCompare(ctx, targets, workloads, able, res, out, log)
	} else if len(workloads) > 0 {
		err = b.runRounds(ctx, targets, workloads, able, res, out, log)
	}
	if err == nil {
		err = b.runBounds(ctx, bounds, targets, res, out, log)
	}
	if err != nil {
		return err
	}
	return res.finish(o, out)
}

func (b *bencher) quiet(ctx context.Context, res *results, log io.Writer) error {
	if err := pinSelf(b.options.genCores); err != nil {
		return err
	}
	warning, err := checkQuiet(ctx, append(append([]int(nil), b.options.cores...), b.options.genCores...))
	if err != nil && b.options.force && ctx.Err() == nil {
		warning, err = err.Error(), nil
	}
	if warning != "" {
		res.note(log, warning)
	}
	return err
}

// prepare builds the generator and the targets asked for.
func (b *bencher) prepare(ctx context.Context, res *results, log io.Writer) ([]*target, error) {
	root, err := filepath.Abs(b.options.root)
	if err != nil {
		return nil, err
	}
	maker := &builder{root: root, dir: b.dir}
	program, _, err := maker.buildC("load", loadSource)
	if err != nil {
		return nil, fmt.Errorf("the load generator: %w", err)
	}
	b.generator = generator{program: program, cores: b.options.genCores, fleet: &b.fleet}

	all := allTargets()
	built := func(name string) (string, error) {
		for _, t := range all {
			if sameName(t.name, name) {
				return b.build(maker, t, res)
			}
		}
		return "", fmt.Errorf("no program {%s}", name)
	}
	for _, text := range b.options.commands {
		t, err := commandTarget(text, built)
		if err != nil {
			return nil, err
		}
		all = append(all, t)
	}
	wanted, err := b.wanted(all)
	if err != nil {
		return nil, err
	}
	var targets []*target
	for _, t := range wanted {
		if ctx.Err() != nil {
			return nil, ctx.Err()
		}
		_, err := b.build(maker, t, res)
		var absent errAbsent
		if errors.As(err, &absent) && b.options.compare == "" {
			res.skip(log, t.name, string(absent))
			continue
		}
		if err != nil {
			return nil, fmt.Errorf("%s: %w", t.name, err)
		}
		targets = append(targets, t)
	}
	if len(targets) == 0 {
		return nil, errors.New("no target left to measure")
	}
	return targets, nil
}

func (b *bencher) build(maker *builder, t *target, res *results) (string, error) {
	if program := b.programs[t]; program != "" {
		return program, nil
	}
	program, version, err := t.build(maker)
	if err == nil {
		b.programs[t] = program
		res.Versions[t.name] = version
	}
	return program, err
}

// sameName lets net/http be written nethttp.
func sameName(a, b string) bool {
	return strings.ReplaceAll(a, "/", "") == strings.ReplaceAll(b, "/", "")
}

// wanted picks what -targets or -compare name, or everything.
func (b *bencher) wanted(all []*target) ([]*target, error) {
	names := splitList(b.options.targets)
	if b.options.compare != "" {
		if names = splitList(b.options.compare); len(names) != 2 {
			return nil, errors.New("-compare wants two targets, a,b")
		}
	}
	if len(names) == 0 {
		return b.byWorkloads(all), nil
	}
	var list []*target
	for _, name := range names {
		var found *target
		for _, t := range all {
			if sameName(t.name, name) {
				found = t // the last: -cmd may replace a target
			}
		}
		if found == nil {
			return nil, fmt.Errorf("no target %q", name)
		}
		list = append(list, found)
	}
	return list, nil
}

// byWorkloads picks all that the workloads are for. flare-waits is for those about waiting, when they
// are asked for, and for those of HTTP/2.
func (b *bencher) byWorkloads(all []*target) []*target {
	ws, http1, http2 := false, false, false
	for _, name := range splitList(b.options.workloads) {
		switch {
		case strings.HasPrefix(name, "ws-"):
			ws = true
		case slices.Contains(http2Workloads, name):
			http2 = true
		default:
			http1 = true
		}
	}
	return slices.DeleteFunc(all, func(t *target) bool {
		switch {
		case http2 && http2Commands[t.name] != nil:
			return false
		case t.name == nameWaits || t.command == nil:
			return true
		}
		return t.ws == wsOnly && !ws || t.ws == wsNot && !http1
	})
}

// ability says which target can answer which workload.
type ability map[*target]map[*workload]bool

// checkTargets holds each target's answer to the demanded one and asks for the paths that the
// workloads need.
func (b *bencher) checkTargets(ctx context.Context, targets []*target, workloads []*workload, res *results, log io.Writer) (ability, error) {
	able := make(ability)
	for _, t := range targets {
		if t.command == nil {
			continue // see checkHTTP2
		}
		p, addr, err := b.serve(ctx, t)
		if err != nil {
			return nil, err
		}
		if err := t.check(addr, b.options.contentType); err != nil {
			p.stop()
			return nil, fmt.Errorf("%s: %w", t.name, err)
		}
		able[t] = make(map[*workload]bool)
		for _, w := range workloads {
			if !t.isFor(w) {
				continue
			}
			able[t][w] = w.needs == "" || servesPaths(t) && answersOK(addr, w.needs)
			if !able[t][w] {
				res.skip(log, t.name+", "+w.name, "does not serve "+w.needs)
			}
		}
		p.stop()
	}
	return able, nil
}

// check holds the target at addr to what its kind has to answer.
func (t *target) check(addr, contentType string) error {
	if t.ws != wsOnly {
		if err := checkAnswers(addr, contentType); err != nil {
			return err
		}
	}
	if t.ws != wsNot {
		return checkEcho(addr)
	}
	return nil
}

// isFor says whether w is a kind of load that the target is there for.
func (t *target) isFor(w *workload) bool {
	if w.ws {
		return t.ws != wsNot
	}
	return t.ws != wsOnly && t.command != nil
}

// servesPaths: the floor and gnet's toy answer every path alike and at once, which is no answer to
// /slow.
func servesPaths(t *target) bool {
	return t.name != nameFloor && t.name != nameGnet
}

// runRounds measures every target under every workload once a round, and starts each round with
// another target, so that neither a slow minute nor a place in the order belongs to one of them.
func (b *bencher) runRounds(ctx context.Context, targets []*target, workloads []*workload, able ability, res *results, out, log io.Writer) error {
	samples := make(map[*workload]map[*target][]sample)
	began := time.Now()
	for i := range b.options.rounds {
		for _, w := range workloads {
			if samples[w] == nil {
				samples[w] = make(map[*target][]sample)
			}
			for j := range targets {
				t := targets[(i+j)%len(targets)]
				if !able[t][w] {
					continue
				}
				s, wrong, err := b.measure(ctx, t, w, i)
				if err != nil {
					return err
				}
				for _, text := range wrong {
					res.fault(fmt.Sprintf("%s, %s, round %d: %s", t.name, w.name, i+1, text))
				}
				samples[w][t] = append(samples[w][t], s)
			}
		}
		fmt.Fprintf(log, "round %d of %d, %.0f s\n", i+1, b.options.rounds, time.Since(began).Seconds())
	}
	for _, w := range workloads {
		var rows []*row
		for _, t := range targets {
			if list := samples[w][t]; len(list) > 0 {
				rows = append(rows, &row{Workload: w.name, Target: t.name, Median: medianSample(list), Samples: list})
			}
		}
		addRatios(rows)
		printTable(out, w, rows)
		res.Rows = append(res.Rows, rows...)
		if w.name == "throughput" {
			b.judgeFloor(samples[w], res, out)
		}
	}
	return nil
}

func (b *bencher) judgeFloor(samples map[*target][]sample, res *results, out io.Writer) {
	for t, list := range samples {
		if t.name == nameFloor {
			note, fault := checkFloorUser(list)
			if note != "" {
				res.note(out, note)
			}
			if fault != "" {
				res.fault(fault)
			}
		}
	}
}

func (b *bencher) runCompare(ctx context.Context, targets []*target, workloads []*workload, able ability, res *results, out, log io.Writer) error {
	for _, w := range workloads {
		if !able[targets[0]][w] || !able[targets[1]][w] {
			continue
		}
		c, wrong, err := b.compare(ctx, targets[0], targets[1], w, b.options.rounds, log)
		if err != nil {
			return err
		}
		for _, text := range wrong {
			res.fault(text)
		}
		if c != nil {
			c.print(out)
			res.Comparisons = append(res.Comparisons, c)
		}
	}
	return nil
}
