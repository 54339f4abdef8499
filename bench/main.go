//go:build linux

// Command bench measures flare beside its peers and beside the cheapest server this machine
// allows, in CPU time per request. README.md explains the method.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"os/signal"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"time"
)

type options struct {
	targets, workloads string
	commands           []string
	compare            string
	rounds             int
	seconds, warmup    float64
	conns, depth       int
	rates              []int
	arrivals           string
	spinPaced          float64
	spinClosed         float64
	procs              int
	cores, genCores    []int
	contentType        string
	root, out          string
	force              bool
}

func parseOptions(args []string) (*options, error) {
	o := &options{}
	f := flag.NewFlagSet("bench", flag.ContinueOnError)
	quick := f.Bool("quick", false, "3 rounds of 1 s after 0.3 s (-compare: 10 pairs): a look, not a result")
	f.StringVar(&o.targets, "targets", "", "targets, separated by commas (default all: floor,flare,gnet,nginx,fasthttp,net/http)")
	f.StringVar(&o.workloads, "workloads", "throughput,pipelined,paced", "throughput, pipelined, paced, mixed, disturbed")
	f.Func("cmd", "one more target, `name=command`: 'old=/tmp/old -addr {addr}', 'two=GOGC=50 {flare} -addr {addr} -loops 2'", func(s string) error {
		o.commands = append(o.commands, s)
		return nil
	})
	f.StringVar(&o.compare, "compare", "", "compare two targets, `a,b`, pair by pair")
	f.IntVar(&o.rounds, "rounds", 7, "rounds, or pairs with -compare (there 20 by default)")
	f.Float64Var(&o.seconds, "seconds", 3, "measured window")
	f.Float64Var(&o.warmup, "warmup", 1, "seconds of load before each window")
	f.IntVar(&o.conns, "conns", 64, "connections")
	f.IntVar(&o.depth, "depth", 16, "requests in one write, for pipelined")
	rates := f.String("rate", "20000", "requests a second for paced; several separated by commas")
	f.StringVar(&o.arrivals, "arrivals", "poisson", "paced requests fall due at poisson or even intervals")
	f.Float64Var(&o.spinPaced, "spin", 20, "µs the generator polls before a paced request is due, instead of sleeping")
	f.Float64Var(&o.spinClosed, "spin-closed", 0, "µs the generator polls before it sleeps in a closed loop")
	f.IntVar(&o.procs, "procs", 1, "GOMAXPROCS and event loops of the servers")
	cores := f.String("cores", "0", "cores of the server, also with -procs 2")
	genCores := f.String("gencores", "1", "cores of the generator and of this program")
	f.StringVar(&o.contentType, "type", "text/plain; charset=utf-8", "Content-Type that every target has to send")
	f.StringVar(&o.root, "root", "..", "flare's root directory")
	f.StringVar(&o.out, "out", "", "also write JSON to this file; auto: results/DATE.json")
	f.BoolVar(&o.force, "force", false, "measure on a busy machine")
	if err := f.Parse(args); err != nil {
		return nil, err
	}
	given := map[string]bool{}
	f.Visit(func(f *flag.Flag) { given[f.Name] = true })
	if o.compare != "" && !given["rounds"] {
		o.rounds = 20
	}
	if *quick {
		o.applyQuick(given)
	}
	var err error
	if o.rates, err = splitNumbers(*rates); err == nil {
		if o.cores, err = splitNumbers(*cores); err == nil {
			o.genCores, err = splitNumbers(*genCores)
		}
	}
	if err != nil {
		return nil, err
	}
	return o, o.check()
}

func (o *options) applyQuick(given map[string]bool) {
	if !given["rounds"] {
		o.rounds = 3
		if o.compare != "" {
			o.rounds = 10
		}
	}
	if !given["seconds"] {
		o.seconds = 1
	}
	if !given["warmup"] {
		o.warmup = 0.3
	}
}

// The bounds keep a slip of the keyboard from loading a machine for hours.
func (o *options) check() error {
	switch {
	case o.rounds < 1 || o.rounds > 1000:
		return errors.New("-rounds is 1 to 1000")
	case o.seconds <= 0 || o.seconds > 600 || o.warmup < 0 || o.warmup > 60:
		return errors.New("-seconds is over 0 and at most 600, -warmup at most 60")
	case o.conns < 1 || o.conns > 60000 || o.depth < 1 || o.depth > 128:
		return errors.New("-conns is 1 to 60000, -depth 1 to 128")
	case o.procs < 1 || len(o.cores) == 0 || len(o.genCores) == 0:
		return errors.New("-procs, -cores and -gencores are at least one")
	case o.arrivals != "poisson" && o.arrivals != "even":
		return errors.New("-arrivals is poisson or even")
	case strings.ContainsAny(o.contentType, "\"\r\n%"):
		return errors.New("-type has to be a plain media type")
	}
	for _, c := range o.cores {
		for _, g := range o.genCores {
			if c == g {
				fmt.Fprintf(os.Stderr, "bench: server and generator share core %d: they will disturb each other\n", c)
			}
		}
	}
	return nil
}

func splitNumbers(s string) ([]int, error) {
	var list []int
	for _, part := range splitList(s) {
		n, err := strconv.Atoi(part)
		if err != nil || n < 0 {
			return nil, fmt.Errorf("%q is not a number", part)
		}
		list = append(list, n)
	}
	return list, nil
}

func main() {
	o, err := parseOptions(os.Args[1:])
	if errors.Is(err, flag.ErrHelp) {
		return
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, "bench:", err)
		os.Exit(2)
	}
	ctx, cancel := signal.NotifyContext(context.Background(), syscall.SIGINT, syscall.SIGTERM, syscall.SIGHUP)
	err = run(ctx, o, os.Stdout, os.Stderr)
	cancel()
	if err != nil {
		fmt.Fprintln(os.Stderr, "bench:", err)
		os.Exit(1)
	}
}

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
	res := newResults(o)

	fmt.Fprintln(log, "building")
	targets, err := b.prepare(ctx, res, log)
	if err != nil {
		return err
	}
	workloads, err := makeWorkloads(splitList(o.workloads), o)
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
	} else {
		err = b.runRounds(ctx, targets, workloads, able, res, out, log)
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
	if names == nil || len(names) == 0 {
		return all, nil
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

// ability says which target can answer which workload.
type ability map[*target]map[*workload]bool

// checkTargets holds each target's answer to the demanded one and asks for the paths that the
// workloads need.
func (b *bencher) checkTargets(ctx context.Context, targets []*target, workloads []*workload, res *results, log io.Writer) (ability, error) {
	able := make(ability)
	for _, t := range targets {
		p, addr, err := b.serve(ctx, t)
		if err != nil {
			return nil, err
		}
		if err := checkAnswers(addr, b.options.contentType); err != nil {
			p.stop()
			return nil, fmt.Errorf("%s: %w", t.name, err)
		}
		able[t] = make(map[*workload]bool)
		for _, w := range workloads {
			able[t][w] = w.needs == "" || sameFloor(t, w) && answersOK(addr, w.needs)
			if !able[t][w] {
				res.skip(log, t.name+", "+w.name, "does not serve "+w.needs)
			}
		}
		p.stop()
	}
	return able, nil
}

// sameFloor: the floor and gnet's toy answer every path alike and at once, which is no answer to
// /slow.
func sameFloor(t *target, w *workload) bool {
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
