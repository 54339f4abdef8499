package flare

import (
	"bufio"
	"crypto/sha256"
	"encoding/json"
	"flag"
	"fmt"
	"io"
	"math"
	"net"
	"os"
	"os/exec"
	"regexp"
	"runtime"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"time"
)

// This file has servers under ten times the load that they can carry.

var overloadTime = flag.Duration("overload.time", 0, "how long a phase of TestOverload takes; its figures are then printed and held to bounds, for which the machine has to be idle")

const (
	overloadRequests = 50 // answered in a phase without such a time

	// overloadTail is how long one client goes on behind a phase, and recoveryMax
	// how long it may notice that there was an overload.
	overloadTail = 2 * time.Second
	overloadRow  = 10
	recoveryMax  = time.Second

	// overloadMemory is what an overload may take beyond the same server's full use:
	// its connections, and what the runtime keeps at hand.
	overloadMemory = 24 << 20
)

// An overloadPhase is a load, and what became of it.
type overloadPhase struct {
	Name    string
	Addr    string
	Clients int
	Pause   time.Duration // of a client that was refused
	Least   int           // refusals, before it is over
	Time    time.Duration // that it takes; 0: until there are answers enough
	Tail    time.Duration // for which one client goes on

	mu      sync.Mutex
	Took    []time.Duration // of those that were answered
	Refused int
	Wrong   []string // other answers
	Lasted  time.Duration
	After   []overloadAnswer // those to the one that goes on
}

// An overloadAnswer is one with the time at which it came, since the load has ended.
type overloadAnswer struct {
	At, Took time.Duration
	Refused  bool
}

// run has each client ask again and again, until the phase is over and it has its
// answer.
func (p *overloadPhase) run() {
	var all sync.WaitGroup
	began := time.Now()
	for range p.Clients {
		all.Go(func() {
			p.ask(began.Add(p.Time+p.Tail+patience), func() bool { return p.over(began) }, p.note)
		})
	}
	if p.Tail > 0 {
		ended := began.Add(p.Time)
		all.Go(func() {
			time.Sleep(time.Until(ended))
			p.ask(ended.Add(p.Tail+patience), func() bool { return time.Since(ended) >= p.Tail }, func(a answer, err error, took time.Duration) {
				p.mu.Lock()
				defer p.mu.Unlock()
				if p.judge(a, err) {
					p.After = append(p.After, overloadAnswer{time.Since(ended), took, a.StatusCode != 200})
				}
			})
		})
	}
	all.Wait()
	p.Lasted = time.Since(began) - p.Tail
	slices.Sort(p.Took)
}

// ask is one client, on one connection.
func (p *overloadPhase) ask(deadline time.Time, over func() bool, note func(a answer, err error, took time.Duration)) {
	conn, err := net.Dial("tcp", p.Addr)
	if err != nil {
		note(answer{}, err, 0)
		return
	}
	defer conn.Close()
	conn.SetDeadline(deadline)
	for br := bufio.NewReader(conn); !over(); {
		asked := time.Now()
		io.WriteString(conn, request("/"))
		a, err := readAnswer(br, "GET")
		if note(a, err, time.Since(asked)); err != nil {
			return
		}
		if a.StatusCode != 200 {
			time.Sleep(p.Pause)
		}
	}
}

func (p *overloadPhase) over(began time.Time) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.Time > 0 {
		return time.Since(began) >= p.Time
	}
	return len(p.Took) >= overloadRequests && p.Refused >= p.Least || len(p.Wrong) > 0
}

func (p *overloadPhase) note(a answer, err error, took time.Duration) {
	p.mu.Lock()
	defer p.mu.Unlock()
	switch {
	case !p.judge(a, err):
	case a.StatusCode == 200:
		p.Took = append(p.Took, took)
	default:
		p.Refused++
	}
}

// judge reports whether an answer is one or a refusal, and notes one that is neither.
// p.mu is held.
func (p *overloadPhase) judge(a answer, err error) bool {
	switch {
	case err != nil:
		p.Wrong = append(p.Wrong, err.Error())
	case a.StatusCode == 200, a.StatusCode == 503 && a.Header.Get("Retry-After") == "1" && !a.Close:
		return true
	default:
		p.Wrong = append(p.Wrong, fmt.Sprint(a.Status, a.Header))
	}
	return false
}

func (p *overloadPhase) rate(n int) float64 { return float64(n) / p.Lasted.Seconds() }

func (p *overloadPhase) quantile(q float64) time.Duration {
	return p.Took[int(q*float64(len(p.Took)-1))].Round(10 * time.Microsecond)
}

// recovered is from when on the client that goes on had overloadRow answers in a row
// that took no longer than usual. False: that has not come.
func (p *overloadPhase) recovered(usual time.Duration) (at time.Duration, ok bool) {
	row := 0
	for _, a := range p.After {
		if a.Refused || a.Took > usual {
			at, row = a.At, 0
		} else if row++; row == overloadRow {
			return at.Round(time.Millisecond), true
		}
	}
	return at.Round(time.Millisecond), false
}

// overloadVariable has a phase for the program.
const overloadVariable = "FLARE_TEST_OVERLOAD"

func init() { testPrograms["overload"] = overloadProgram }

// overloadProgram is the clients in a process of their own: in the server's they would
// wait for the same scheduler as what computes there, and be late to see their answers.
func overloadProgram() int {
	p := new(overloadPhase)
	if err := json.Unmarshal([]byte(os.Getenv(overloadVariable)), p); err != nil {
		fmt.Println(err)
		return 1
	}
	p.run()
	json.NewEncoder(os.Stdout).Encode(p)
	return 0
}

// meet runs the phase against the server at addr: in another process if figures are
// wanted.
func (p *overloadPhase) meet(t *testing.T, addr string) {
	t.Helper()
	p.Addr, p.Time = addr, *overloadTime
	if p.Time == 0 {
		p.Tail = 0
		p.run()
	} else {
		config, _ := json.Marshal(p)
		cmd := exec.Command(os.Args[0])
		cmd.Env = append(os.Environ(), testProgram+"=overload", overloadVariable+"="+string(config))
		cmd.Stderr = os.Stderr
		out, err := cmd.Output()
		if err == nil {
			err = json.Unmarshal(out, p)
		}
		if err != nil {
			t.Fatalf("the clients: %v, %.200q", err, out)
		}
	}
	p.report(t)
}

func (p *overloadPhase) report(t *testing.T) {
	t.Helper()
	for _, wrong := range p.Wrong {
		t.Errorf("%s: %s", p.Name, wrong)
	}
	if len(p.Took) == 0 {
		t.Fatalf("%s: nothing was answered", p.Name)
	}
	if *overloadTime > 0 {
		t.Logf("%-10s %4d clients: %6.0f answered/s, %7.0f refused/s, p50 %v, p99 %v", p.Name, p.Clients,
			p.rate(len(p.Took)), p.rate(p.Refused), p.quantile(0.5), p.quantile(0.99))
	}
}

// An overloadServer has one handler behind a Limiter.
type overloadServer struct {
	name     string
	limiter  *Limiter
	capacity int // clients that it serves without a pause
	serve    func()

	inside, most atomic.Int64 // in the handler
}

// start serves until the test ends.
func (s *overloadServer) start(t *testing.T, hook func(AccessEntry)) (addr string) {
	mux := NewMux()
	mux.Use(s.limiter.Wrap)
	mux.Get("/{$}", func(w *ResponseWriter, r *Request) error {
		for n, m := s.inside.Add(1), s.most.Load(); n > m && !s.most.CompareAndSwap(m, n); m = s.most.Load() {
		}
		defer s.inside.Add(-1)
		s.serve()
		return w.Text(200, "done")
	})
	return startServer(t, &Server{Handler: mux, AccessHook: hook})
}

// Under ten times its load a server with a Limiter answers as many requests as without,
// and as quickly; the others are told to come again; and when it is over nobody is
// refused any more.
func TestOverload(t *testing.T) {
	service, work, processors := 20*time.Millisecond, 20*time.Millisecond, runtime.GOMAXPROCS(0)
	if *overloadTime == 0 {
		t.Parallel()
		service, work = service/4, work/20
	}
	computes := overloadWork(work)
	for _, s := range []*overloadServer{
		{name: "waits", limiter: &Limiter{Max: 8}, capacity: 8, serve: func() { time.Sleep(service) }},
		{name: "computes", limiter: &Limiter{Max: processors, MaxQueue: -1, MaxLag: service}, capacity: processors, serve: computes},
		{name: "computes, by lag", limiter: &Limiter{Max: -1, MaxLag: service / 2}, capacity: processors, serve: computes},
	} {
		t.Run(s.name, func(t *testing.T) {
			addr := s.start(t, nil)
			calm := &overloadPhase{Name: "calm", Clients: max(s.capacity/4, 1)}
			full := &overloadPhase{Name: "full", Clients: s.capacity}
			over := &overloadPhase{Name: "overload", Clients: 12 * s.capacity, Pause: service, Tail: overloadTail}
			if s.limiter.Max > 0 {
				over.Least = overloadRequests
			}
			after := &overloadPhase{Name: "after", Clients: calm.Clients}
			calm.meet(t, addr)
			full.meet(t, addr)
			before := overloadSys()
			over.meet(t, addr)
			grown := overloadSys() - before
			after.meet(t, addr)
			if n := s.limiter.Max; n > 0 && s.most.Load() > int64(n) {
				t.Errorf("%d were in the handler at once", s.most.Load())
			}
			if calm.Refused+after.Refused > 0 && s.limiter.MaxLag <= 0 {
				t.Errorf("%d refused before, %d after", calm.Refused, after.Refused)
			}
			if *overloadTime > 0 {
				unloaded := calm
				if s.limiter.Max < 0 {
					// Lag is noticed once there are more in the handler than processors,
					// and those share them for as long as they compute.
					unloaded = full
				}
				overloadFigures(t, unloaded, full, over, grown)
				if got, most := after.quantile(0.99), 2*calm.quantile(0.99); got > most {
					t.Errorf("afterwards p99 is %v, want %v at most", got, most)
				}
			}
		})
	}
}

// overloadWork returns a function that computes for d, alone on a processor.
func overloadWork(d time.Duration) func() {
	piece := make([]byte, 64<<10)
	least := time.Hour
	for range 20 {
		began := time.Now()
		sha256.Sum256(piece)
		least = min(least, time.Since(began))
	}
	return func() {
		for range d / least {
			sha256.Sum256(piece)
		}
	}
}

// overloadSys is the most memory that the process has had from the system.
func overloadSys() int64 {
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	return int64(m.Sys)
}

// overloadFigures holds the phases to what a limit is for.
func overloadFigures(t *testing.T, unloaded, full, over *overloadPhase, grown int64) {
	t.Helper()
	if got, least := over.rate(len(over.Took)), 0.9*full.rate(len(full.Took)); got < least {
		t.Errorf("%.0f answered a second under overload, want %.0f", got, least)
	}
	if got, most := over.quantile(0.99), 3*unloaded.quantile(0.99); got > most {
		t.Errorf("p99 is %v under overload, want %v at most", got, most)
	}
	usual := 2 * unloaded.quantile(0.99)
	at, ok := over.recovered(usual)
	if !ok || at > recoveryMax {
		t.Errorf("a refusal, or an answer that took more than %v, still %v after the overload, of %d answers: want %v at most", usual, at, len(over.After), recoveryMax)
	}
	if grown > overloadMemory {
		t.Errorf("memory has grown by %d bytes under overload, want %d at most", grown, overloadMemory)
	}
	t.Logf("recovered after %v, by %d answers; memory grew by %d KiB", at, len(over.After), grown>>10)
}

var wrkFault = regexp.MustCompile(`(?m)^  Socket errors: .*$`)

// wrk runs wrk as the phase's clients, which never pause. The server's hook notes what
// becomes of their requests in the phase at hand, which is now.
func (p *overloadPhase) wrk(t *testing.T, wrk, addr string, d time.Duration, now *atomic.Pointer[overloadPhase]) {
	t.Helper()
	began := time.Now()
	now.Store(p)
	out, err := exec.Command(wrk, "-t1", "-c", fmt.Sprint(p.Clients), "-d", fmt.Sprintf("%.0fs", math.Ceil(d.Seconds())), "--timeout", "30s", "http://"+addr+"/").CombinedOutput()
	if fault := wrkFault.Find(out); err != nil || fault != nil {
		t.Fatalf("wrk: %v, %.1000q", err, out)
	}
	now.Store(new(overloadPhase)) // for those whose answers wrk does not wait for
	p.mu.Lock()
	defer p.mu.Unlock()
	p.Lasted = time.Since(began)
	slices.Sort(p.Took)
	p.report(t)
}

// wrk, whose clients never pause, is kept from a handler that waits: what gets through
// is as much as without, and as quick.
func TestOverloadWrk(t *testing.T) {
	wrk, err := exec.LookPath("wrk")
	if err != nil {
		t.Skip("no wrk on this machine")
	}
	took := *overloadTime
	if took == 0 {
		t.Parallel()
	}
	s := &overloadServer{limiter: &Limiter{Max: 8}, serve: func() { time.Sleep(20 * time.Millisecond) }}
	var now atomic.Pointer[overloadPhase] // the phase at hand
	addr := s.start(t, func(e AccessEntry) {
		p := now.Load()
		p.mu.Lock()
		defer p.mu.Unlock()
		switch {
		case now.Load() != p, e.Status == statusClientLeft: // wrk's time is over
		case e.Status == 200:
			p.Took = append(p.Took, e.Duration)
		case e.Status == 503:
			p.Refused++
		default:
			p.Wrong = append(p.Wrong, fmt.Sprint(e.Status, e.Err))
		}
	})
	calm, full, over := &overloadPhase{Name: "calm", Clients: 2}, &overloadPhase{Name: "full", Clients: 8}, &overloadPhase{Name: "overload", Clients: 96}
	if took > 0 {
		for _, p := range []*overloadPhase{calm, full} {
			p.wrk(t, wrk, addr, took, &now)
		}
	}
	before := overloadSys()
	over.wrk(t, wrk, addr, max(took, time.Second), &now) // the least that wrk knows
	if over.Refused == 0 || s.most.Load() > 8 {
		t.Errorf("%d refused, %d in the handler at once", over.Refused, s.most.Load())
	}
	if took > 0 {
		tail := &overloadPhase{Addr: addr, Tail: overloadTail}
		tail.run()
		over.After = tail.After
		overloadFigures(t, calm, full, over, overloadSys()-before)
	}
	c := dialRaw(t, addr)
	eventually(t, "an answer afterwards", func() bool { return c.get("/").StatusCode == 200 })
}
