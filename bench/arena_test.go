//go:build linux

package main

import (
	"context"
	"encoding/xml"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
)

var buildArena = sync.OnceValues(func() (string, error) {
	program, _, err := (&builder{dir: testDir}).buildC("arena", arenaSource)
	return program, err
})

// runArenaLoad puts the requests of p on addr.
func runArenaLoad(t *testing.T, addr string, p *profile, args ...string) *loadReport {
	t.Helper()
	if _, err := exec.LookPath("cc"); err != nil {
		t.Skip("no C compiler")
	}
	program, err := buildArena()
	if err != nil {
		t.Fatal(err)
	}
	script := filepath.Join(t.TempDir(), "script")
	if err := os.WriteFile(script, p.script(), 0o600); err != nil {
		t.Fatal(err)
	}
	f := new(fleet)
	t.Cleanup(f.stopAll)
	g := &generator{program: program, fleet: f}
	r, err := g.run(context.Background(), addr, os.Getpid(), 0.1, 0.4, append([]string{"--script", script, "--connections", "4"}, args...)...)
	if err != nil {
		t.Fatal(err)
	}
	return r
}

// arenaPeer answers what the profiles ask, with the framing of the path where it has one.
func arenaPeer(w http.ResponseWriter, r *http.Request) {
	w.Header().Set("Content-Type", "text/plain")
	n, _ := io.Copy(io.Discard, r.Body)
	switch r.URL.Path {
	case "/chunks":
		for range 3 {
			io.WriteString(w, strings.Repeat("x", 700))
			w.(http.Flusher).Flush()
		}
	case "/large":
		w.Header().Set("Content-Length", "3000000")
		w.Write(make([]byte, 3_000_000))
	case "/upload":
		io.WriteString(w, strconv.FormatInt(n, 10))
	default:
		io.WriteString(w, wantBody)
	}
}

// The generator reads each framing to its end, and each connection sends the script in turn.
func TestArenaLoad(t *testing.T) {
	t.Parallel()
	p := &profile{asks: []arenaAsk{
		get("/plain", "", "text/plain", []byte(wantBody)),
		get("/chunks", "", "text/plain", make([]byte, 2100)),
		get("/large", "", "text/plain", make([]byte, 3_000_000)),
		post("/upload", "Content-Length: 700000\r\n", strings.Repeat("u", 700_000), "700000"),
	}}
	var asked [4]atomic.Uint64
	addr := serveHTTP(t, func(w http.ResponseWriter, r *http.Request) {
		for i, path := range []string{"/plain", "/chunks", "/large", "/upload"} {
			if r.URL.Path == path {
				asked[i].Add(1)
			}
		}
		arenaPeer(w, r)
	})
	r := runArenaLoad(t, addr, p)
	demandClean(t, r)
	for i := range asked {
		// Each of 4 connections begins at another request and stops anywhere.
		if n := asked[i].Load(); n+8 < r.SentTotal/4 || n > r.SentTotal/4+8 {
			t.Errorf("request %d was sent %d times of %d", i, n, r.SentTotal)
		}
	}
}

// A connection is closed after so many answers, and not before.
func TestArenaCloses(t *testing.T) {
	t.Parallel()
	const each = 5
	var conns, requests atomic.Uint64
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	s := &http.Server{Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		requests.Add(1)
		arenaPeer(w, r)
	}), ConnState: func(_ net.Conn, state http.ConnState) {
		if state == http.StateNew {
			conns.Add(1)
		}
	}}
	go s.Serve(l)
	t.Cleanup(func() { s.Close() })
	r := runArenaLoad(t, l.Addr().String(), &profile{asks: []arenaAsk{get("/plain", "", "text/plain", []byte(wantBody))}},
		"--close-after", strconv.Itoa(each))
	demandClean(t, r)
	if n, m := conns.Load(), requests.Load(); n < m/each || n > m/each+4 {
		t.Errorf("%d connections for %d requests, %d each", n, m, each)
	}
}

// What is wrong with an answer makes the window void.
func TestArenaLoadFaults(t *testing.T) {
	t.Parallel()
	for name, test := range map[string]struct {
		kind   string
		answer http.HandlerFunc
	}{
		"another length": {"framing", func(w http.ResponseWriter, r *http.Request) { io.WriteString(w, "Hello") }},
		"a status":       {"status", func(w http.ResponseWriter, r *http.Request) { w.WriteHeader(http.StatusTeapot) }},
		"a reset":        {"closed", func(w http.ResponseWriter, r *http.Request) { panic(http.ErrAbortHandler) }},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			r := runArenaLoad(t, serveHTTP(t, test.answer), &profile{asks: []arenaAsk{get("/", "", "text/plain", []byte(wantBody))}})
			if r.Errors[test.kind] == 0 || len(faults(r, &workload{})) == 0 {
				t.Errorf("errors %v, faults %v: want one of kind %s", r.Errors, faults(r, &workload{}), test.kind)
			}
		})
	}
}

// The check before a run takes the right answer and tells what is wrong with others.
func TestArenaCheck(t *testing.T) {
	t.Parallel()
	p := &profile{asks: []arenaAsk{
		get("/plain", "", "text/plain", []byte(wantBody)),
		post("/upload", "Content-Length: 3\r\n", "abc", "3"),
	}}
	if _, err := p.check(serveHTTP(t, arenaPeer)); err != nil {
		t.Error(err)
	}
	for _, test := range []struct {
		ask  arenaAsk
		want string
	}{
		{get("/plain", "", "text/html", []byte(wantBody)), "Content-Type"},
		{get("/plain", "", "text/plain", []byte("Hello, world!")), "a body of 13 bytes"},
		{arenaAsk{raw: get("/plain", "", "", nil).raw, kind: "text/plain", coding: "gzip"}, "Content-Encoding"},
	} {
		_, err := (&profile{asks: []arenaAsk{test.ask}}).check(serveHTTP(t, arenaPeer))
		if err == nil || !strings.Contains(err.Error(), test.want) {
			t.Errorf("check says %v, want %q", err, test.want)
		}
	}
}

// What the profiles ask is HTTP, and as many requests as their name says.
func TestArenaProfiles(t *testing.T) {
	t.Parallel()
	others, profiles := splitProfiles([]string{"throughput", "arena"}, 64)
	if len(others) != 1 || len(profiles) != 20 {
		t.Fatalf("%d others, %d profiles", len(others), len(profiles))
	}
	names := make(map[string]bool)
	for _, p := range profiles {
		if names[p.name] || p.name == "" || len(p.asks) == 0 || p.conns == 0 {
			t.Errorf("profile %q: %d requests, %d connections", p.name, len(p.asks), p.conns)
		}
		names[p.name] = true
		if p.name != "browser" {
			continue
		}
		different := make(map[string]bool)
		for _, ask := range p.asks {
			different[string(ask.raw)] = true
			if n := strings.Count(string(ask.raw), "\r\n") - 2; n != 12 || len(ask.raw) < 600 || len(ask.raw) > 800 {
				t.Fatalf("a head of %d fields and %d bytes", n, len(ask.raw))
			}
		}
		if len(different) != browserHeads {
			t.Errorf("%d heads that differ of %d", len(different), browserHeads)
		}
	}
}

func TestArenaTable(t *testing.T) {
	t.Parallel()
	profiles := []*profile{{name: "mix", about: "a & b"}, {name: "many"}}
	line := func(p, target string, cpu float64) *row {
		return &row{Workload: p, Target: target, Median: sample{CPU: cpu}}
	}
	rows := []*row{line("mix", nameFlare, 6), line("mix", nameNetHTTP, 12), line("mix", nameFast, 8), line("many", nameFlare, 7.5), line("many", nameNginx, 10), line("many", "old", 8)}
	lines, columns := arenaLines(rows, profiles)
	if got := strings.Join(columns, " "); got != "flare net/http fasthttp nginx old" {
		t.Errorf("columns %s", got)
	}
	table := arenaMarkdown(newResults(&options{}), lines, columns)
	for _, want := range []string{"| mix | 6.00 | 12.0 | 8.00 |  |  | 0.75 | |", "| many | 7.50 |  |  | 10.0 | 8.00 | | 0.75 |"} {
		if !strings.Contains(table, want) {
			t.Errorf("no line %q in\n%s", want, table)
		}
	}
	d := xml.NewDecoder(strings.NewReader(arenaSVG(lines, columns)))
	bars := 0
	for {
		token, err := d.Token()
		if err == io.EOF {
			break
		}
		if err != nil {
			t.Fatal(err)
		}
		if start, ok := token.(xml.StartElement); ok && start.Name.Local == "rect" {
			bars++
		}
	}
	if want := 1 + len(columns) + len(rows); bars != want {
		t.Errorf("%d rectangles, want %d", bars, want)
	}
	if got := fmt.Sprint(lines[0].against(nameNginx)); got != "0" {
		t.Errorf("beside a target that was not asked: %s", got)
	}
}
