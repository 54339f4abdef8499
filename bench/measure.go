//go:build linux

package main

// This file measures one window: a fresh process of one target under one workload. It makes the
// sample that tables and comparisons are made of, and says what is wrong with it.

import (
	"context"
	"encoding/json"
	"fmt"
	"math"
	"os"
	"path/filepath"
	"strings"
)

// A sample is one window's figures. Times of CPU are µs of the server process per request,
// latencies µs.
type sample struct {
	PerSecond   float64 `json:"per_second"`
	CPU         float64 `json:"cpu_us"`
	User        float64 `json:"user_us"`
	System      float64 `json:"system_us"`
	Ticks       float64 `json:"ticks"` // on which the user/system split rests
	Voluntary   float64 `json:"voluntary_per_second"`
	Involuntary float64 `json:"involuntary_per_second"`
	P50         float64 `json:"p50_us"`
	P90         float64 `json:"p90_us"`
	P99         float64 `json:"p99_us"`
	P999        float64 `json:"p999_us"`
	Max         float64 `json:"max_us"`
	MixP50      float64 `json:"mix_p50_us,omitempty"`
	MixP99      float64 `json:"mix_p99_us,omitempty"`
	DisturbMax  float64 `json:"disturb_max_us,omitempty"`
	LateP99     float64 `json:"late_p99_us,omitempty"` // the generator's own lateness
	Generator   float64 `json:"generator_share"`       // of its core
	Foreign     float64 `json:"foreign_share"`         // of the server's cores, by other processes
	Overloaded  bool    `json:"overloaded,omitempty"`  // paced: requests were left over
	AnswerBytes int     `json:"answer_bytes"`
}

func makeSample(r *loadReport) sample {
	n, seconds := float64(r.Answered), float64(r.WindowNS)/1e9
	s := sample{
		PerSecond:   n / seconds,
		CPU:         float64(r.CPUNS) / 1e3 / n,
		Ticks:       float64(r.TickAllNS) / float64(r.TickNS),
		Voluntary:   float64(r.Voluntary) / seconds,
		Involuntary: float64(r.Involuntary) / seconds,
		Generator:   float64(r.GeneratorCPUNS) / float64(r.WindowNS),
		Overloaded:  r.Unsent > 0 || r.Unanswered > 0,
	}
	if r.TickAllNS > 0 {
		s.User = s.CPU * float64(r.TickUserNS) / float64(r.TickAllNS)
	}
	s.System = s.CPU - s.User
	if c := r.class("main"); c != nil && c.Latency.Count > 0 {
		h := &c.Latency
		s.P50, s.P90, s.P99, s.P999 = us(h, 0.5), us(h, 0.9), us(h, 0.99), us(h, 0.999)
		s.Max, s.AnswerBytes = float64(h.MaxNS)/1e3, c.AnswerBytes
	}
	if c := r.class("mix"); c != nil && c.Latency.Count > 0 {
		s.MixP50, s.MixP99 = us(&c.Latency, 0.5), us(&c.Latency, 0.99)
	}
	if c := r.class("disturb"); c != nil {
		s.DisturbMax = float64(c.Latency.MaxNS) / 1e3
	}
	if r.Lateness.Count > 0 {
		s.LateP99 = us(&r.Lateness, 0.99)
	}
	return s
}

func us(h *histogram, q float64) float64 { return h.quantile(q) / 1e3 }

// userError is the standard error of User: ticks that fall in user mode are a binomial sample.
func (s sample) userError() float64 {
	if s.CPU == 0 || s.Ticks == 0 {
		return math.Inf(1)
	}
	p := s.User / s.CPU
	return s.CPU * math.Sqrt(p*(1-p)/s.Ticks)
}

// faults says what makes the window worthless.
func faults(r *loadReport, w *workload) []string {
	var f []string
	if n := r.errorCount(); n > 0 {
		f = append(f, fmt.Sprintf("%d errors, the first: %s", n, r.FirstError))
	}
	if r.Unanswered > 0 && !w.paced {
		f = append(f, fmt.Sprintf("%d requests were never answered", r.Unanswered))
	}
	if r.Answered == 0 {
		f = append(f, "no request was answered")
	}
	if r.CPUNS == 0 {
		f = append(f, "the server's CPU clock could not be read")
	}
	return f
}

// A bencher has what it takes to measure.
type bencher struct {
	options   *options
	fleet     fleet
	generator generator
	dir       string // temporary, removed at the end
	programs  map[*target]string
	starts    int
}

// serve starts a fresh process of t, with more arguments if any, and waits until it accepts connections.
func (b *bencher) serve(ctx context.Context, t *target, extra ...string) (*process, string, error) {
	addr, err := freeAddr()
	if err != nil {
		return nil, "", err
	}
	b.starts++
	dir := filepath.Join(b.dir, fmt.Sprint("start", b.starts))
	if err := os.Mkdir(dir, 0o755); err != nil {
		return nil, "", err
	}
	argv, err := t.command(start{program: b.programs[t], addr: addr, contentType: b.options.contentType, procs: b.options.procs, dir: dir})
	if err != nil {
		return nil, "", err
	}
	p, err := b.fleet.start(t.name, append(argv, extra...), []string{fmt.Sprint("GOMAXPROCS=", b.options.procs)}, b.options.cores)
	if err != nil {
		return nil, "", err
	}
	if err := p.waitReady(ctx, addr); err != nil {
		p.stop()
		return nil, "", err
	}
	return p, addr, nil
}

// measure runs one window of w against t and stops the server again. The schedule of a paced window
// is the round's: the same for all targets, another one next round. The faults are those of this
// window; an error ends the run.
func (b *bencher) measure(ctx context.Context, t *target, w *workload, round int) (s sample, wrong []string, err error) {
	p, addr, err := b.serve(ctx, t)
	if err != nil {
		return sample{}, nil, err
	}
	defer p.stop()
	pid := p.cmd.Process.Pid
	cores, err := readCores()
	if err != nil {
		return sample{}, nil, err
	}
	cpu := processCPU(pid)
	r, err := b.generator.run(ctx, addr, pid, b.options.warmup, b.options.seconds,
		append([]string{"--seed", fmt.Sprint(round)}, w.args...)...)
	if err != nil {
		return sample{}, nil, fmt.Errorf("%s, %s: %w", t.name, w.name, err)
	}
	cpu = processCPU(pid) - cpu
	after, err := readCores()
	if err != nil {
		return sample{}, nil, err
	}
	wrong = faults(r, w)
	if r.Answered > 0 && r.WindowNS > 0 {
		s = makeSample(r)
		s.Foreign = foreignShare(cores, after, b.options.cores, cpu.Seconds())
	}
	if t.name == nameFloor && r.errorCount() == 0 {
		p.stop()
		wrong = append(wrong, checkFloorCounts(p.stdout.String(), r, w)...)
	}
	return s, wrong, nil
}

// foreignShare is how much of the cores' time went to others than the process that used cpuSeconds.
// It rests on ticks of 10 ms: a few per cent are nothing.
func foreignShare(before, after map[int]coreTimes, cores []int, cpuSeconds float64) float64 {
	var busy, total float64
	for _, c := range cores {
		d := after[c].sub(before[c])
		busy += float64(d.busy+d.steal) / userHz
		total += float64(d.busy+d.steal+d.idle) / userHz
	}
	if total == 0 {
		return 0
	}
	return max(0, (busy-cpuSeconds)/total)
}

// ---- the floor's claims ----

// floorUserMax is the user time, in µs per request, over which the C server is no floor: it does a
// memmem and three calls, so more means that the machine was not ours or the build not optimised.
const floorUserMax = 0.3

type floorCounts struct {
	Requests  uint64 `json:"requests"`
	RecvData  uint64 `json:"recv_data"`
	RecvAgain uint64 `json:"recv_again"`
	Send      uint64 `json:"send"`
}

// checkFloorCounts holds what the floor counted to what the generator sent: one recv and one send
// for each request, or for each batch of pipelined ones.
func checkFloorCounts(line string, r *loadReport, w *workload) []string {
	var c floorCounts
	if err := json.Unmarshal([]byte(strings.TrimSpace(line)), &c); err != nil {
		return []string{fmt.Sprintf("the floor's counts %q: %v", line, err)}
	}
	var f []string
	if c.Requests != r.SentTotal {
		f = append(f, fmt.Sprintf("the floor saw %d requests, the generator sent %d", c.Requests, r.SentTotal))
	}
	// A batch may arrive in two pieces now and then, and two batches never in one: the generator
	// waits for all answers before it sends again. So recvs and sends are at least requests/depth.
	most := r.SentTotal
	if w.depth > 1 {
		most = r.SentTotal/uint64(w.depth) + r.SentTotal/uint64(w.depth)/100
	}
	if c.RecvData > most || c.Send > most || c.RecvAgain > 0 {
		f = append(f, fmt.Sprintf("the floor made %d recvs, %d empty ones and %d sends for %d requests %d deep: not one of each",
			c.RecvData, c.RecvAgain, c.Send, r.SentTotal, w.depth))
	}
	return f
}

// checkFloorUser holds the user time over all throughput windows together to floorUserMax. Twice
// its sampling error is granted: a short run cannot tell 0.28 from 0.32.
func checkFloorUser(samples []sample) (note string, fault string) {
	var ticks, user, cpu float64
	for _, s := range samples {
		ticks += s.Ticks
		user += s.User * s.Ticks
		cpu += s.CPU * s.Ticks
	}
	if ticks == 0 {
		return "", "the floor's user time could not be read"
	}
	all := sample{CPU: cpu / ticks, User: user / ticks, Ticks: ticks}
	note = fmt.Sprintf("floor: one recv and one send per request; user time %.2f ± %.2f µs per request (at most %.2f)",
		all.User, all.userError(), floorUserMax)
	if all.User-2*all.userError() > floorUserMax {
		return note, fmt.Sprintf("the floor spends %.2f ± %.2f µs of user time per request, over %.2f: it is no floor here",
			all.User, all.userError(), floorUserMax)
	}
	return note, ""
}
