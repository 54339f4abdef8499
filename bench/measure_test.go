//go:build linux

package main

import (
	"bytes"
	"context"
	"math"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"
)

// patience bounds every wait of a test.
const patience = 30 * time.Second

// eventually fails the test unless cond comes true in time.
func eventually(t *testing.T, what string, cond func() bool) {
	t.Helper()
	for deadline := time.Now().Add(patience); !cond(); time.Sleep(time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatalf("%s: not in %v", what, patience)
		}
	}
}

func TestMakeSample(t *testing.T) {
	r := &loadReport{WindowNS: 2e9, Answered: 1000, CPUNS: 8e6, TickUserNS: 4e6, TickAllNS: 16e6, TickNS: 4e6,
		Voluntary: 20, Involuntary: 4, GeneratorCPUNS: 1e9,
		Classes: []loadClass{{Name: "main", AnswerBytes: 99, Latency: *histogramOf(t, 1000, 2000, 3000)}}}
	s := makeSample(r)
	if s.PerSecond != 500 || s.CPU != 8 || s.User != 2 || s.System != 6 || s.Ticks != 4 || s.Voluntary != 10 ||
		s.Involuntary != 2 || s.Generator != 0.5 || s.Max != 3 || s.AnswerBytes != 99 || math.Abs(s.P50-2) > 0.04 {
		t.Errorf("%+v", s)
	}
	// 4 ticks, a quarter of them user: the deviation of the share is sqrt(0.25*0.75/4).
	if want := 8 * math.Sqrt(0.25*0.75/4); math.Abs(s.userError()-want) > 1e-9 {
		t.Errorf("userError %v, want %v", s.userError(), want)
	}
}

func TestCheckFloorCounts(t *testing.T) {
	for _, c := range []struct {
		name, line  string
		sent, depth int
		ok          bool
	}{
		{"one of each", `{"requests":100,"recv_data":100,"recv_again":0,"send":100}`, 100, 1, true},
		{"two arrived together", `{"requests":100,"recv_data":99,"send":99}`, 100, 1, true},
		{"a recv to be told EAGAIN", `{"requests":100,"recv_data":100,"recv_again":100,"send":100}`, 100, 1, false},
		{"two sends", `{"requests":100,"recv_data":100,"send":200}`, 100, 1, false},
		{"requests it never saw", `{"requests":99,"recv_data":99,"send":99}`, 100, 1, false},
		{"a batch, one of each", `{"requests":1600,"recv_data":100,"send":100}`, 1600, 16, true},
		{"a batch, one send a request", `{"requests":1600,"recv_data":100,"send":1600}`, 1600, 16, false},
		{"silence", ``, 100, 1, false},
	} {
		f := checkFloorCounts(c.line+"\n", &loadReport{SentTotal: uint64(c.sent)}, &workload{depth: c.depth})
		if (f == nil) != c.ok {
			t.Errorf("%s: %v", c.name, f)
		}
	}
}

func TestCheckFloorUser(t *testing.T) {
	for _, c := range []struct {
		name    string
		samples []sample
		ok      bool
	}{
		{"cheap", []sample{{CPU: 5, User: 0.2, Ticks: 2000}}, true},
		{"dear", []sample{{CPU: 5, User: 0.5, Ticks: 2000}}, false},
		{"dear in one round of many", []sample{{CPU: 5, User: 0.2, Ticks: 2000}, {CPU: 5, User: 0.5, Ticks: 100}}, true},
		{"within the sampling error", []sample{{CPU: 5, User: 0.33, Ticks: 200}}, true},
		{"the same with more ticks", []sample{{CPU: 5, User: 0.36, Ticks: 20000}}, false},
		{"unread", []sample{{}}, false},
	} {
		if note, fault := checkFloorUser(c.samples); (fault == "") != c.ok {
			t.Errorf("%s: %q, %q", c.name, note, fault)
		}
	}
}

func TestForeignShare(t *testing.T) {
	before := map[int]coreTimes{0: {busy: 100, idle: 50}, 1: {}}
	after := map[int]coreTimes{0: {busy: 180, idle: 60, steal: 10}, 1: {busy: 1000}}
	// A second in which core 0 was busy for 0.9 s, stolen time included, 0.6 s of it ours.
	if got := foreignShare(before, after, []int{0}, 0.6); math.Abs(got-0.3) > 1e-9 {
		t.Errorf("got %v", got)
	}
	if got := foreignShare(before, after, []int{0}, 0.95); got != 0 {
		t.Errorf("less than nothing: %v", got)
	}
}

func TestTable(t *testing.T) {
	rows := []*row{
		{Workload: "w", Target: "floor", Median: medianSample([]sample{{CPU: 4, User: 1, Max: 10}, {CPU: 6, User: 3, Max: 70}, {CPU: 5, User: 2, Max: 20}})},
		{Workload: "w", Target: "x", Median: medianSample([]sample{{CPU: 10, User: 0.5, PerSecond: 1000}})},
		{Workload: "other", Target: "nginx", Median: sample{CPU: 1}},
	}
	if m := rows[0].Median; m.CPU != 5 || m.User != 2 || m.System != 3 || m.Max != 70 {
		t.Errorf("median %+v", m)
	}
	addRatios(rows)
	if r := rows[1].Ratios; len(r) != 2 || r["floor"] != 2 || r["x"] != 1 {
		t.Errorf("ratios %v", r)
	}
	var out bytes.Buffer
	printTable(&out, &workload{name: "w", about: "a test"}, rows[:2])
	lines := strings.Split(strings.TrimSpace(out.String()), "\n")
	if len(lines) != 4 || !strings.HasPrefix(lines[2], "floor") || !strings.Contains(lines[1], "× floor") || strings.Contains(lines[1], "nginx") {
		t.Errorf("table:\n%s", out.String())
	}
	if len([]rune(lines[1])) != len([]rune(lines[2])) || len([]rune(lines[2])) != len([]rune(lines[3])) {
		t.Errorf("columns do not line up:\n%s", out.String())
	}
}

func TestComparison(t *testing.T) {
	var a, b []sample
	for i := range 10 {
		drift := float64(i%3 + 1)
		a = append(a, sample{CPU: 1.1 * drift, PerSecond: 90 / drift, P50: 1, P99: 2})
		b = append(b, sample{CPU: drift, PerSecond: 100 / drift, P50: 1, P99: 2})
	}
	c := makeComparison(&workload{name: "w"}, "a", "b", a, b)
	if math.Abs(c.CPU.Estimate-1.1) > 1e-9 || c.CPU.High-c.CPU.Low > 1e-9 || math.Abs(c.PerSecond.Estimate-0.9) > 1e-9 {
		t.Errorf("%+v", c)
	}
	var out bytes.Buffer
	c.print(&out)
	if s := out.String(); strings.Count(s, "different") != 2 || strings.Count(s, "no difference shown") != 2 || strings.Contains(s, "too few") {
		t.Error(s)
	}
}

func TestCommandTarget(t *testing.T) {
	program := func(name string) (string, error) {
		if name != "flare" {
			return "", errAbsent("no such program")
		}
		return "/tmp/built/flare", nil
	}
	for _, c := range []struct {
		text string
		want string // words joined by |; "" for refused
	}{
		{"a=/bin/server -addr {addr}", "/bin/server|-addr|127.0.0.1:99"},
		{"a=/bin/server  --port={port} 'two words' ''", "/bin/server|--port=99|two words|"},
		{"a={flare} -addr {addr} -loops 2", "/tmp/built/flare|-addr|127.0.0.1:99|-loops|2"},
		{"a=GOGC=50 {flare} -addr {addr}", "env|GOGC=50|/tmp/built/flare|-addr|127.0.0.1:99"},
		{"a={nobody} -addr {addr}", ""},
		{"a=/bin/server", ""},
		{"a=/bin/server 'open {addr}", ""},
		{"=/bin/server {addr}", ""},
		{"/bin/server {addr}", ""},
	} {
		target, err := commandTarget(c.text, program)
		if (err == nil) != (c.want != "") {
			t.Errorf("%q: %v", c.text, err)
		}
		if err != nil {
			continue
		}
		argv, err := target.command(start{addr: "127.0.0.1:99"})
		if got := strings.Join(argv, "|"); err != nil || got != c.want || target.name != "a" {
			t.Errorf("%q: %s is %q, %v", c.text, target.name, got, err)
		}
	}
}

func TestMakeWorkloads(t *testing.T) {
	o, err := parseOptions([]string{"-rate", "2000,20000", "-workloads", "throughput,paced"})
	if err != nil {
		t.Fatal(err)
	}
	list, err := makeWorkloads(splitList(o.workloads), o)
	if err != nil || len(list) != 3 || list[0].name != "throughput" || list[1].name != "paced@2000" || list[2].name != "paced@20000" {
		t.Errorf("%v, %v", list, err)
	}
	if _, err := makeWorkloads([]string{"nonsense"}, o); err == nil {
		t.Error("an unknown workload was taken")
	}
}

func TestParseOptions(t *testing.T) {
	o, err := parseOptions([]string{"-quick", "-seconds", "2"})
	if err != nil || o.rounds != 3 || o.seconds != 2 || o.warmup != 0.3 {
		t.Errorf("%+v, %v", o, err)
	}
	for _, args := range []string{"-rounds 0", "-seconds 0", "-seconds 601", "-conns 0", "-depth 129", "-cores x", "-cores=", "-procs 0", "-arrivals odd", "-rate x"} {
		if _, err := parseOptions(strings.Fields(args)); err == nil {
			t.Errorf("%s was taken", args)
		}
	}
}

// A stopped process is gone with what it started, also when none of them heeds SIGTERM, and a child knows its cores from its first
// instruction.
func TestProcesses(t *testing.T) {
	var f fleet
	own, err := affinity(0)
	if err != nil {
		t.Fatal(err)
	}
	deaf := filepath.Join(t.TempDir(), "deaf")
	p, err := f.start("sh", []string{"sh", "-c", "trap '' TERM; : > " + deaf + "; sleep 60 & sleep 60"}, nil, []int{0})
	if err != nil {
		t.Fatal(err)
	}
	eventually(t, "the shell to be at work", func() bool {
		_, err := os.Stat(deaf)
		return err == nil
	})
	if now, err := affinity(0); err != nil || now != own {
		t.Errorf("the harness's own cores went from %v to %v, %v", own, now, err)
	}
	began := time.Now()
	f.stopAll()
	if d := time.Since(began); d < stopTimeout/2 || d > 10*stopTimeout {
		t.Errorf("stopping took %s", d)
	}
	// Its orphans are dead at once, and gone when init has seen to them.
	eventually(t, "the end of its group", func() bool { return syscall.Kill(-p.cmd.Process.Pid, 0) == syscall.ESRCH })
	if len(f.running) != 0 {
		t.Error("the fleet still counts it")
	}

	p, err = f.start("grep", []string{"grep", "Cpus_allowed_list", "/proc/self/status"}, nil, []int{0})
	if err != nil {
		t.Fatal(err)
	}
	if err := p.wait(context.Background()); err != nil || strings.Fields(p.stdout.String())[1] != "0" {
		t.Errorf("pinned to core 0: %q, %v", p.stdout.String(), err)
	}
	if _, err := f.start("nothing", []string{"/does/not/exist"}, nil, nil); err == nil {
		t.Error("a program that is not there was started")
	}
	p, err = f.start("false", []string{"false"}, nil, nil)
	if err != nil {
		t.Fatal(err)
	}
	if err := p.waitReady(context.Background(), "127.0.0.1:1"); err == nil {
		t.Error("a process that ended was ready")
	}
}

func TestProcessCPU(t *testing.T) {
	before := processCPU(os.Getpid())
	for began := time.Now(); processCPU(os.Getpid()) == before; {
		if time.Since(began) > patience {
			t.Fatal("spinning costs nothing")
		}
	}
	if d := processCPU(os.Getpid()) - before; d > patience {
		t.Errorf("a moment of spinning cost %s", d)
	}
}

func TestReadCores(t *testing.T) {
	cores, err := readCores()
	if err != nil || len(cores) == 0 || cores[0].busy+cores[0].idle == 0 {
		t.Errorf("%v, %v", cores, err)
	}
}
