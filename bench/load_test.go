//go:build linux

package main

import (
	"bufio"
	"bytes"
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"
)

var testDir string

func TestMain(m *testing.M) {
	dir, err := os.MkdirTemp("", "bench-test")
	if err != nil {
		panic(err)
	}
	testDir = dir
	code := m.Run()
	os.RemoveAll(dir)
	os.Exit(code)
}

var buildLoad = sync.OnceValues(func() (string, error) {
	program, _, err := (&builder{dir: testDir}).buildC("load", loadSource)
	return program, err
})

func testGenerator(t *testing.T) (*generator, *fleet) {
	t.Helper()
	if _, err := exec.LookPath("cc"); err != nil {
		t.Skip("no C compiler")
	}
	program, err := buildLoad()
	if err != nil {
		t.Fatal(err)
	}
	f := new(fleet)
	t.Cleanup(f.stopAll)
	return &generator{program: program, fleet: f}, f
}

// run puts load on addr and checks what has to hold of every report.
func runLoad(t *testing.T, addr string, seconds float64, args ...string) *loadReport {
	t.Helper()
	g, _ := testGenerator(t)
	r, err := g.run(context.Background(), addr, os.Getpid(), 0.1, seconds, args...)
	if err != nil {
		t.Fatal(err)
	}
	if r.SentTotal != r.AnsweredTotal+r.Unanswered {
		t.Errorf("sent %d, answered %d, unanswered %d", r.SentTotal, r.AnsweredTotal, r.Unanswered)
	}
	for _, c := range r.Classes {
		if n := len(c.Latency.Buckets); n > 0 {
			low, high := bucketBounds(c.Latency.Buckets[n-1].index)
			if c.Latency.MaxNS < low || c.Latency.MaxNS >= high {
				t.Errorf("%s: the maximum %d is not in the last bucket [%d, %d)", c.Name, c.Latency.MaxNS, low, high)
			}
		}
	}
	return r
}

func demandClean(t *testing.T, r *loadReport) {
	t.Helper()
	if n := r.errorCount(); n > 0 || r.Unanswered > 0 || r.Unsent > 0 || r.Answered == 0 || r.CPUNS == 0 {
		t.Errorf("errors %v (%s), unanswered %d, unsent %d, answered %d, cpu %d", r.Errors, r.FirstError, r.Unanswered, r.Unsent, r.Answered, r.CPUNS)
	}
}

func serveHTTP(t *testing.T, h http.HandlerFunc) string {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	s := &http.Server{Handler: h}
	go s.Serve(l)
	t.Cleanup(func() { s.Close() })
	return l.Addr().String()
}

// serveRaw calls handle for each connection; it is told how many whole request heads have arrived
// together each time it calls next, 0 at the end.
func serveRaw(t *testing.T, handle func(c net.Conn, next func() int)) string {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { l.Close() })
	go func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			go func() {
				defer c.Close()
				var kept []byte
				in := make([]byte, 64<<10)
				handle(c, func() int {
					for {
						n, err := c.Read(in)
						if err != nil {
							return 0
						}
						kept = append(kept, in[:n]...)
						if heads := bytes.Count(kept, []byte("\r\n\r\n")); heads > 0 {
							kept = kept[bytes.LastIndex(kept, []byte("\r\n\r\n"))+4:]
							return heads
						}
					}
				})
			}()
		}
	}()
	return l.Addr().String()
}

const rawAnswer = "HTTP/1.1 200 OK\r\ncontent-length: 13\r\n\r\nHello, World!"

func answerAll(c net.Conn, next func() int) {
	for n := next(); n > 0; n = next() {
		io.WriteString(c, strings.Repeat(rawAnswer, n))
	}
}

func TestClosedLoop(t *testing.T) {
	r := runLoad(t, serveRaw(t, answerAll), 0.3, "--connections", "8")
	demandClean(t, r)
	main := r.class("main")
	if r.Mode != "closed" || main == nil || main.AnswerBytes != len(rawAnswer) {
		t.Fatalf("mode %q, classes of %d", r.Mode, len(r.Classes))
	}
	// The last turn of the loop may run a little over the window: one answer a connection.
	if n := main.Latency.Count; n > r.Answered || r.Answered-n > 8 {
		t.Errorf("%d latencies for %d answers", n, r.Answered)
	}
	if r.WindowNS < 300e6 || r.WindowNS > 3e9 {
		t.Errorf("the window was %d ns", r.WindowNS)
	}
}

func TestClosedLoopSeesPieces(t *testing.T) {
	addr := serveRaw(t, func(c net.Conn, next func() int) {
		for n := next(); n > 0; n = next() {
			for _, b := range []byte(strings.Repeat(rawAnswer, n)) {
				c.Write([]byte{b})
			}
		}
	})
	demandClean(t, runLoad(t, addr, 0.3, "--connections", "2", "--depth", "3"))
}

// The generator sends depth requests in one write, and the next only after all their answers.
func TestPipelined(t *testing.T) {
	var wrong atomic.Int64
	addr := serveRaw(t, func(c net.Conn, next func() int) {
		const depth = 16
		for {
			for have := 0; have < depth; {
				n := next()
				if n == 0 {
					return
				}
				if have += n; have > depth {
					wrong.Add(1)
				}
			}
			io.WriteString(c, strings.Repeat(rawAnswer, depth))
		}
	})
	r := runLoad(t, addr, 0.3, "--connections", "4", "--depth", "16")
	demandClean(t, r)
	if r.SentTotal%16 != 0 || wrong.Load() > 0 {
		t.Errorf("sent %d, %d times more than 16 at once", r.SentTotal, wrong.Load())
	}
}

func TestErrorsAreReported(t *testing.T) {
	answer := func(first, later string) func(net.Conn, func() int) {
		return func(c net.Conn, next func() int) {
			for i := 0; next() > 0; i++ {
				text := later
				if i == 0 {
					text = first
				}
				if text == "" {
					return
				}
				io.WriteString(c, text)
			}
		}
	}
	for _, c := range []struct {
		name, first, later, kind, text string
	}{
		{"wrong status", "HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\n\r\n", "", "status", "404 Not Found"},
		{"wrong status later", rawAnswer, "HTTP/1.1 503 Busy\r\nContent-Length: 0\r\n\r\n", "status", "503"},
		{"redirect", "HTTP/1.1 302 Found\r\nContent-Length: 0\r\n\r\n", "", "status", "302"},
		{"not HTTP", "SSH-2.0-OpenSSH_9.2\r\n", "", "framing", "SSH"},
		{"no length", "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n", "", "framing", "Content-Length"},
		{"closes", rawAnswer, "", "closed", "by the server"},
		{"longer head later", rawAnswer, strings.Replace(rawAnswer, "content", "x: y\r\ncontent", 1), "framing", "length"},
		{"one answer too many", rawAnswer + rawAnswer, "", "framing", "nobody asked"},
	} {
		t.Run(c.name, func(t *testing.T) {
			r := runLoad(t, serveRaw(t, answer(c.first, c.later)), 0.2, "--connections", "2")
			if r.Errors[c.kind] != 2 || r.errorCount() != 2 || !strings.Contains(r.FirstError, c.text) {
				t.Errorf("errors %v, the first %q: want 2 of %s with %q", r.Errors, r.FirstError, c.kind, c.text)
			}
			if faults(r, &workload{}) == nil {
				t.Error("no fault")
			}
		})
	}
}

func TestNobodyListens(t *testing.T) {
	addr, err := freeAddr()
	if err != nil {
		t.Fatal(err)
	}
	r := runLoad(t, addr, 0.2, "--connections", "3")
	if r.Errors["connect"] != 3 || r.Answered != 0 {
		t.Errorf("errors %v, answered %d", r.Errors, r.Answered)
	}
}

func TestSilentServerIsUnanswered(t *testing.T) {
	addr := serveRaw(t, func(c net.Conn, next func() int) {
		for next() > 0 {
		}
	})
	r := runLoad(t, addr, 0.2, "--connections", "2")
	if r.Unanswered != 2 || r.Answered != 0 || faults(r, &workload{}) == nil {
		t.Errorf("unanswered %d, answered %d", r.Unanswered, r.Answered)
	}
}

func TestPacedKeepsItsRate(t *testing.T) {
	for _, arrivals := range []string{"even", "poisson"} {
		r := runLoad(t, serveRaw(t, answerAll), 1, "--connections", "16", "--rate", "1000", "--arrivals", arrivals)
		demandClean(t, r)
		// Poisson: the deviation of 1,000 is 32.
		if n := r.class("main").Latency.Count; r.Mode != "paced" || n < 850 || n > 1150 {
			t.Errorf("%s: %d requests in a second at 1,000 a second", arrivals, n)
		}
		if r.Lateness.Count == 0 {
			t.Errorf("%s: the generator did not watch its own lateness", arrivals)
		}
	}
}

// A seed is a schedule: the same for the same, another for another.
func TestSeed(t *testing.T) {
	addr := serveRaw(t, answerAll)
	sent := func(seed string) uint64 {
		r := runLoad(t, addr, 0.4, "--connections", "4", "--rate", "2000", "--seed", seed)
		demandClean(t, r)
		return r.class("main").Latency.Count
	}
	counts := map[uint64]bool{}
	for _, seed := range []string{"1", "2", "3", "4"} {
		counts[sent(seed)] = true
	}
	if len(counts) < 2 {
		t.Errorf("four seeds, one count of requests: %v", counts)
	}
}

// A server that stalls for 300 ms is charged with every request that fell due meanwhile, not only
// with the few that were under way.
func TestPacedChargesAStallToAllDuringIt(t *testing.T) {
	const stall = 300 * time.Millisecond
	var mu sync.Mutex
	var served int
	addr := serveRaw(t, func(c net.Conn, next func() int) {
		for next() > 0 {
			mu.Lock()
			if served++; served == 500 {
				time.Sleep(stall) // what the generator has to tell
			}
			mu.Unlock()
			io.WriteString(c, rawAnswer)
		}
	})
	r := runLoad(t, addr, 1, "--connections", "4", "--rate", "1000", "--arrivals", "even")
	demandClean(t, r)
	var slow uint64
	h := r.class("main").Latency
	for _, b := range h.Buckets {
		if low, _ := bucketBounds(b.index); low >= uint64(stall/3) {
			slow += b.count
		}
	}
	// 1,000 a second, 200 ms of the stall left when the last of these falls due.
	if slow < 150 || h.MaxNS < uint64(stall)*9/10 {
		t.Errorf("%d requests waited over %s, the longest %d ns", slow, stall/3, h.MaxNS)
	}
	if r.QueuedForConnection == 0 {
		t.Error("no request queued, with 4 connections stalled")
	}
}

func TestPacedReportsWhatIsLeftOver(t *testing.T) {
	addr := serveRaw(t, func(c net.Conn, next func() int) {
		for next() > 0 {
			time.Sleep(50 * time.Millisecond) // a slow server
			io.WriteString(c, rawAnswer)
		}
	})
	r := runLoad(t, addr, 1, "--connections", "1", "--rate", "2000")
	if r.Unsent == 0 || !makeSample(r).Overloaded || r.errorCount() > 0 {
		t.Errorf("20 answers a second at 2,000 a second: unsent %d, errors %v", r.Unsent, r.Errors)
	}
}

// slowServer sleeps in /slow?ms=N as the targets do.
func slowServer(t *testing.T) string {
	return serveHTTP(t, func(w http.ResponseWriter, r *http.Request) {
		var ms int
		fmt.Sscan(r.URL.Query().Get("ms"), &ms)
		time.Sleep(time.Duration(ms) * time.Millisecond)
		w.Write([]byte(wantBody))
	})
}

func TestMixIsReportedApart(t *testing.T) {
	for _, mode := range [][]string{{"--connections", "16"}, {"--connections", "64", "--rate", "1000"}} {
		r := runLoad(t, slowServer(t), 0.5, append(mode, "--mix-percent", "20", "--mix-path", "/slow?ms=50")...)
		demandClean(t, r)
		fast, slow := r.class("main"), r.class("mix")
		share := float64(slow.Latency.Count) / float64(slow.Latency.Count+fast.Latency.Count)
		if share < 0.1 || share > 0.3 {
			t.Errorf("%v: %.0f %% of the requests were slow ones, want 20", mode, share*100)
		}
		if low, _ := bucketBounds(slow.Latency.Buckets[0].index); low < 49e6 || fast.Latency.quantile(0.5) >= 50e6 {
			t.Errorf("%v: fast p50 %v ns, fastest slow one %d ns", mode, fast.Latency.quantile(0.5), low)
		}
	}
}

func TestDisturbance(t *testing.T) {
	r := runLoad(t, slowServer(t), 1, "--connections", "8", "--rate", "500", "--disturb-path", "/slow?ms=100", "--disturb-every", "0.25")
	demandClean(t, r)
	d := r.class("disturb")
	if d.Latency.Count < 3 || d.Latency.Count > 5 || d.Latency.MaxNS < 100e6 {
		t.Errorf("%d disturbances, the longest %d ns", d.Latency.Count, d.Latency.MaxNS)
	}
}

func TestGeneratorRefusesOptions(t *testing.T) {
	g, f := testGenerator(t)
	for _, args := range []string{"", "--port 0", "--port 1 --depth 0", "--port 1 --depth 129", "--port 1 --rate 0",
		"--port 1 --rate 5 --depth 2", "--port 1 --seconds 601", "--port 1 --mix-percent 3", "--port 1 --nonsense", "--port 1 --connections 0"} {
		p, err := f.start("load", append([]string{g.program}, strings.Fields(args)...), nil, nil)
		if err != nil {
			t.Fatal(err)
		}
		if p.wait(context.Background()) == nil || !strings.Contains(p.stderr.String(), "usage:") {
			t.Errorf("load %s: %s", args, p.stderr.String())
		}
	}
}

// The floor answers every target's way, in pieces and in batches, and counts what it did.
func TestFloor(t *testing.T) {
	g, f := testGenerator(t)
	program, _, err := (&builder{dir: t.TempDir()}).buildFloor()
	if err != nil {
		t.Fatal(err)
	}
	serve := func() (*process, string) {
		addr, err := freeAddr()
		if err != nil {
			t.Fatal(err)
		}
		p, err := f.start("floor", []string{program, start{addr: addr}.port(), testType}, nil, nil)
		if err != nil {
			t.Fatal(err)
		}
		if err := p.waitReady(context.Background(), addr); err != nil {
			t.Fatal(err)
		}
		return p, addr
	}

	p, addr := serve()
	if err := checkAnswers(addr, testType); err != nil {
		t.Error(err)
	}
	c, err := net.Dial("tcp", addr)
	if err != nil {
		t.Fatal(err)
	}
	for _, b := range []byte("GET / HTTP/1.1\r\nHost: a\r\n\r\n") {
		c.Write([]byte{b})
	}
	if a, err := readAnswer(bufio.NewReader(c)); err != nil || a.body != wantBody {
		t.Errorf("a request in pieces: %+v, %v", a, err)
	}
	c.Close()
	p.stop()

	for _, w := range []*workload{{args: []string{"--connections", "4"}, depth: 1}, {args: []string{"--connections", "4", "--depth", "16"}, depth: 16}} {
		p, addr := serve()
		r, err := g.run(context.Background(), addr, p.cmd.Process.Pid, 0.1, 0.3, w.args...)
		if err != nil {
			t.Fatal(err)
		}
		p.stop()
		demandClean(t, r)
		if f := checkFloorCounts(p.stdout.String(), r, w); f != nil {
			t.Errorf("%d deep: %v", w.depth, f)
		}
	}
}
