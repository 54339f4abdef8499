//go:build linux

// Command bench measures flare beside its peers and beside the cheapest server this machine
// allows, in CPU time per request. README.md explains the method.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"math/rand/v2"
	"os"
	"os/signal"
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
	idleConns          int
	rates              []int
	arrivals           string
	spinPaced          float64
	spinClosed         float64
	procs              int
	cores, genCores    []int
	contentType        string
	soak               time.Duration
	soakSeed           uint64
	root, out          string
	force              bool
}

func parseOptions(args []string) (*options, error) {
	o := &options{}
	f := flag.NewFlagSet("bench", flag.ContinueOnError)
	quick := f.Bool("quick", false, "3 rounds of 1 s after 0.3 s (-compare: 10 pairs): a look, not a result")
	f.StringVar(&o.targets, "targets", "", "targets, separated by commas (default: all that the workloads are for)")
	f.StringVar(&o.workloads, "workloads", "throughput,pipelined,paced", workloadNames+"; or arena, or some of its profiles: mix, limited, json, json-gzip, json-tls, upload, download, browser, many")
	f.Func("cmd", "one more target, `name=command`: 'old=/tmp/old -addr {addr}', 'two=GOGC=50 {flare} -addr {addr} -loops 2'", func(s string) error {
		o.commands = append(o.commands, s)
		return nil
	})
	f.StringVar(&o.compare, "compare", "", "compare two targets, `a,b`, pair by pair")
	f.IntVar(&o.rounds, "rounds", 7, "rounds, or pairs with -compare (there 20 by default)")
	f.Float64Var(&o.seconds, "seconds", 3, "measured window")
	f.Float64Var(&o.warmup, "warmup", 1, "seconds of load before each window")
	f.IntVar(&o.conns, "conns", 64, "connections")
	f.IntVar(&o.idleConns, "idle-conns", 10000, "idle connections, for idle")
	f.IntVar(&o.depth, "depth", 16, "requests in one write, for pipelined")
	rates := f.String("rate", "20000", "requests a second for paced; several separated by commas")
	f.StringVar(&o.arrivals, "arrivals", "poisson", "paced requests fall due at poisson or even intervals")
	f.Float64Var(&o.spinPaced, "spin", 20, "µs the generator polls before a paced request is due, instead of sleeping")
	f.Float64Var(&o.spinClosed, "spin-closed", 0, "µs the generator polls before it sleeps in a closed loop")
	f.IntVar(&o.procs, "procs", 1, "GOMAXPROCS and event loops of the servers")
	cores := f.String("cores", "0", "cores of the server, also with -procs 2")
	genCores := f.String("gencores", "1", "cores of the generator and of this program")
	f.StringVar(&o.contentType, "type", "text/plain", "Content-Type that every target has to send")
	f.DurationVar(&o.soak, "soak", 0, "in place of workloads: clients of every kind at random for so long, and what is left of it in the server")
	f.Uint64Var(&o.soakSeed, "soak.seed", 0, "what -soak does follows from this number (default: another one each time)")
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
	if !given["soak.seed"] {
		o.soakSeed = rand.Uint64()
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
	case o.idleConns < 1 || o.idleConns > 20000:
		return errors.New("-idle-conns is 1 to 20000, below the ports that one client address has")
	case o.procs < 1 || len(o.cores) == 0 || len(o.genCores) == 0:
		return errors.New("-procs, -cores and -gencores are at least one")
	case o.soak != 0 && (o.soak < soakMin || o.soak > soakMax):
		return fmt.Errorf("-soak is %s to %s", soakMin, soakMax)
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
