package flare

import (
	"bufio"
	"crypto/sha256"
	"flag"
	"fmt"
	"io"
	"net"
	"runtime"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"time"
)

// This file has servers under ten times the load that they can carry.

var overloadTime = flag.Duration("overload.time", 0, "how long a phase of TestOverload takes; its figures are then printed and held to bounds, for which the machine has to be idle")

const overloadRequests = 50 // answered in a phase without such a time

// An overloadPhase is a load, and what became of it.
type overloadPhase struct {
	name    string
	clients int
	pause   time.Duration // of a client that was refused
	least   int           // refusals, before it is over

	mu      sync.Mutex
	took    []time.Duration // of those that were answered
	refused int
	wrong   []string // other answers
	lasted  time.Duration
}

// run has each client ask again and again, until the phase is over and it has its answer.
func (p *overloadPhase) run(t *testing.T, addr string) {
	t.Helper()
	var all sync.WaitGroup
	began := time.Now()
	for range p.clients {
		conn, err := net.Dial("tcp", addr)
		if err != nil {
			t.Fatal(err)
		}
		defer conn.Close()
		conn.SetDeadline(began.Add(*overloadTime + patience))
		all.Go(func() {
			for br := bufio.NewReader(conn); !p.over(began); {
				asked := time.Now()
				io.WriteString(conn, request("/"))
				a, err := readAnswer(br, "GET")
				if p.note(a, err, time.Since(asked)); err != nil {
					return
				}
				if a.StatusCode != 200 {
					time.Sleep(p.pause)
				}
			}
		})
	}
	all.Wait()
	p.lasted = time.Since(began)
	slices.Sort(p.took)
	if *overloadTime > 0 {
		t.Logf("%-10s %4d clients: %6.0f answered/s, %7.0f refused/s, p50 %v, p99 %v", p.name, p.clients,
			p.rate(len(p.took)), p.rate(p.refused), p.quantile(0.5), p.quantile(0.99))
	}
	for _, wrong := range p.wrong {
		t.Errorf("%s: %s", p.name, wrong)
	}
}

func (p *overloadPhase) over(began time.Time) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	if *overloadTime > 0 {
		return time.Since(began) >= *overloadTime
	}
	return len(p.took) >= overloadRequests && p.refused >= p.least || len(p.wrong) > 0
}

func (p *overloadPhase) note(a answer, err error, took time.Duration) {
	p.mu.Lock()
	defer p.mu.Unlock()
	switch {
	case err != nil:
		p.wrong = append(p.wrong, err.Error())
	case a.StatusCode == 200:
		p.took = append(p.took, took)
	case a.StatusCode == 503 && a.Header.Get("Retry-After") == "1" && !a.Close:
		p.refused++
	default:
		p.wrong = append(p.wrong, fmt.Sprint(a.Status, a.Header))
	}
}

func (p *overloadPhase) rate(n int) float64 { return float64(n) / p.lasted.Seconds() }

func (p *overloadPhase) quantile(q float64) time.Duration {
	return p.took[int(q*float64(len(p.took)-1))].Round(10 * time.Microsecond)
}

// Under ten times its load a server with a Limiter answers as many requests as without,
// and as quickly; the others are told to come again; and when it is over nobody is
// refused any more.
func TestOverload(t *testing.T) {
	service, work := 20*time.Millisecond, make([]byte, 8<<20)
	if *overloadTime == 0 {
		t.Parallel()
		service, work = service/4, work[:1<<20]
	}
	for _, row := range []struct {
		name     string
		limiter  *Limiter
		capacity int // clients that it serves without a pause
		serve    func()
	}{
		{"waits", &Limiter{Max: 8}, 8, func() { time.Sleep(service) }},
		{"computes", &Limiter{Max: runtime.GOMAXPROCS(0), MaxLag: service}, runtime.GOMAXPROCS(0), func() { sha256.Sum256(work) }},
		{"computes, by lag", &Limiter{Max: -1, MaxLag: 5 * time.Millisecond}, runtime.GOMAXPROCS(0), func() { sha256.Sum256(work) }},
	} {
		t.Run(row.name, func(t *testing.T) {
			var inside, most atomic.Int64
			mux := NewMux()
			mux.Use(row.limiter.Wrap)
			mux.Get("/{$}", func(w *ResponseWriter, r *Request) error {
				for n, m := inside.Add(1), most.Load(); n > m && !most.CompareAndSwap(m, n); m = most.Load() {
				}
				defer inside.Add(-1)
				row.serve()
				return w.Text(200, "done")
			})
			addr := startServer(t, &Server{Handler: mux})
			calm := &overloadPhase{name: "calm", clients: max(row.capacity/4, 1)}
			full := &overloadPhase{name: "full", clients: row.capacity}
			over := &overloadPhase{name: "overload", clients: 12 * row.capacity, pause: service}
			if row.limiter.Max > 0 {
				over.least = overloadRequests
			}
			after := &overloadPhase{name: "after", clients: calm.clients}
			for _, p := range []*overloadPhase{calm, full, over, after} {
				p.run(t, addr)
			}
			if n := row.limiter.Max; n > 0 && most.Load() > int64(n) {
				t.Errorf("%d were in the handler at once", most.Load())
			}
			if calm.refused+after.refused > 0 && row.limiter.MaxLag <= 0 {
				t.Errorf("%d refused before, %d after", calm.refused, after.refused)
			}
			if *overloadTime > 0 {
				overloadFigures(t, row.limiter.MaxLag > 0, calm, full, over, after)
			}
		})
	}
}

// overloadFigures holds the phases to what a limit is for. Handlers that compute take
// longer when all processors are in use, whatever the limit.
func overloadFigures(t *testing.T, computes bool, calm, full, over, after *overloadPhase) {
	t.Helper()
	if got, least := over.rate(len(over.took)), 0.9*full.rate(len(full.took)); got < least {
		t.Errorf("%.0f answered a second under overload, want %.0f", got, least)
	}
	unloaded := calm
	if computes {
		unloaded = full
	}
	if got, most := over.quantile(0.99), 3*unloaded.quantile(0.99); got > most {
		t.Errorf("p99 is %v under overload, want %v at most", got, most)
	}
	if got, most := after.quantile(0.99), 2*unloaded.quantile(0.99); got > most {
		t.Errorf("afterwards p99 is %v, want %v at most", got, most)
	}
}
