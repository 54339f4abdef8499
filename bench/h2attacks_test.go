//go:build linux

package main

import (
	"io"
	"math"
	"net"
	"net/http"
	"strings"
	"testing"
	"time"

	"golang.org/x/net/http2"

	"flare"
)

func TestSortedQuantile(t *testing.T) {
	t.Parallel()
	values := []float64{1, 2, 3, 4}
	for q, want := range map[float64]float64{0: 1, 0.25: 1, 0.5: 2, 0.75: 3, 0.76: 4, 1: 4} {
		if got := sortedQuantile(values, q); got != want {
			t.Errorf("%v of %v is %v, want %v", q, values, got, want)
		}
	}
	if got := sortedQuantile(nil, 0.5); !math.IsNaN(got) {
		t.Errorf("%v of nothing", got)
	}
}

// Each bound is missed by one row.
func TestJudgeStall(t *testing.T) {
	t.Parallel()
	beside, spin := &h2stall{path: "/slow"}, &h2stall{path: "/slow", spin: true}
	for _, test := range []struct {
		kind              *h2stall
		p99, without, max float64
		wrong             float64
		missed            string
	}{
		{beside, 150, 100, 1e6, 0, ""},
		{beside, 151, 100, 1e6, 0, "1.51 times"},
		{beside, 100, 100, 1, 1, "not right"},
		{spin, 20_000, 1, 58_000, 0, ""},
		{spin, 20_001, 1, 58_000, 0, "p99 20001"},
		{spin, 1, 1, 58_001, 0, "worst 58001"},
		{&h2stall{}, 100, 100, 1e6, 0, ""},
	} {
		sample := map[string]float64{"p99_us": test.p99, "max_us": test.max, "wrong": test.wrong}
		r := h2stallRow(&target{name: nameWaits}, test.kind, 1, []map[string]float64{sample}, []map[string]float64{{"p99_us": test.without}})
		if text := strings.Join(r.Missed, "; "); (text == "") != (test.missed == "") || !strings.Contains(text, test.missed) {
			t.Errorf("%+v: %q", test, text)
		}
	}
}

func TestJudgeAttack(t *testing.T) {
	t.Parallel()
	good := map[string]float64{"cpu_share": 0.8, "peak_bytes_growth": 1 << 20}
	ended := &h2attack{codes: h2calm}
	for _, test := range []struct {
		kind   *h2attack
		change map[string]float64
		missed string
	}{
		{ended, nil, ""},
		{ended, map[string]float64{"cpu_share": 0.85}, "1.06 times"},
		{ended, map[string]float64{"beside_wrong": 1}, "1 of them"},
		{ended, map[string]float64{"beside": 0}, "0 answers"},
		{ended, map[string]float64{"peak_bytes_growth": h2AttackMemoryMax + 2<<20}, "more memory"},
		{ended, map[string]float64{"foreign_codes": 1}, "another code"},
		{ended, map[string]float64{"ends": 0}, "0 connections were ended"},
		{ended, map[string]float64{"end_ms": 1001}, "after 1001 ms"},
		{&h2attack{stays: true}, map[string]float64{"ends": 0}, ""},
	} {
		r := &boundRow{Figures: map[string]float64{"cpu_share": 0.8, "beside": 10, "ends": 5, "end_ms": 1}}
		for name, v := range test.change {
			r.Figures[name] = v
		}
		r.judgeAttack(test.kind, good)
		if text := strings.Join(r.Missed, "; "); (text == "") != (test.missed == "") || !strings.Contains(text, test.missed) {
			t.Errorf("%v: %q", test.change, text)
		}
	}
}

// attacked is flare with the routes that attacks ask for.
func attacked(t *testing.T) (addr string) {
	mux := flare.NewMux()
	mux.Get("/plaintext", func(w *flare.ResponseWriter, r *flare.Request) error { return w.Text(200, wantBody) })
	mux.Handle("/upload", flare.HandlerFunc(func(w *flare.ResponseWriter, r *flare.Request) error {
		_, err := io.Copy(io.Discard, r.Body())
		return err
	}))
	s := &flare.Server{Handler: mux, Loops: 1, Protocols: new(http.Protocols)}
	s.Protocols.SetUnencryptedHTTP2(true)
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	go s.Serve(ln)
	t.Cleanup(func() { s.Close() })
	return ln.Addr().String()
}

// What is answered is answered, what is ended is ended with its code, and a client beside has what it
// asks for.
func TestAttacks(t *testing.T) {
	t.Parallel()
	addr := attacked(t)
	m, err := dialMux(addr, time.Now().Add(5*time.Minute))
	if err != nil {
		t.Fatal(err)
	}
	defer m.Close()
	for _, k := range append([]h2attack{h2good}, h2attacks...) {
		if k.each == nil || k.mute || k.stays && k.asks == 0 {
			continue
		}
		tally := &h2tally{codes: make(map[http2.ErrCode]int)}
		if err := k.attack(addr, time.Now().Add(100*time.Millisecond), tally); err != nil {
			t.Errorf("%s: %v", k.name, err)
		}
		if n := tally.foreign(&k); n > 0 {
			t.Errorf("%s: ended with %v", k.name, tally.codes)
		}
		if k.asks > 0 && tally.answers.Load() == 0 {
			t.Errorf("%s: no answer", k.name)
		}
		t.Logf("%s: %d connections, %d of each, %v", k.name, tally.conns.Load(), tally.units.Load(), tally.codes)
		load := &h2pace{path: "/plaintext", rate: 1000, streams: 10, window: 20 * time.Millisecond}
		if l, err := load.paced(m); err != nil || l.wrong > 0 {
			t.Fatalf("beside %s: %v, %+v", k.name, err, l)
		}
	}
}
