//go:build linux

package main

import (
	"strings"
	"testing"
)

const h2loadText = `starting benchmark...
Application protocol: h2c
finished in 30.77ms, 649920.38 req/s, 26.06MB/s
requests: 20000 total, 20000 started, 20000 done, 20000 succeeded, 0 failed, 0 errored, 0 timeout
status codes: 20000 2xx, 0 3xx, 0 4xx, 0 5xx
traffic: 821.07KB (840776) total, 215.37KB (220536) headers (space savings 92.93%), 253.91KB (260000) data
`

func TestParseH2load(t *testing.T) {
	t.Parallel()
	r, err := parseH2load(h2loadText)
	if err != nil || r != (h2loadReport{"h2c", 20000, 260000, 30.77e-3}) {
		t.Errorf("%+v, %v", r, err)
	}
	for _, change := range [][2]string{
		{"20000 succeeded, 0 failed", "19999 succeeded, 1 failed"},
		{"20000 2xx, 0 3xx", "19999 2xx, 1 3xx"},
		{"finished", "ended"},
		{"Application", "Some"},
	} {
		text := strings.Replace(h2loadText, change[0], change[1], 1)
		if r, err := parseH2load(text); text == h2loadText || err == nil {
			t.Errorf("%q: %+v", change, r)
		}
	}
}

// Each bound is missed by one row, and kept by the rest.
func TestJudgeHTTP2(t *testing.T) {
	t.Parallel()
	targets := map[string]*target{}
	for _, t := range allTargets() {
		targets[t.name] = t
	}
	many, one := http2Cell{8, 100}, http2Cell{64, 1}
	for _, c := range []struct {
		flare, h2o, own float64
		cell            http2Cell
		path            string
		missed          string
	}{
		{0.6, 1, 0.5, many, "/plaintext", ""},
		{0.61, 1, 0.5, many, "/plaintext", "h2o's"},
		{0.6, 1, 0.4, many, "/plaintext", "in flight"},
		{5, 1, 5, one, "/plaintext", ""},
		{5.1, 9, 5, one, "/plaintext", "HTTP/1.1's"},
	} {
		var runs []*h2loadRun
		var rows []*boundRow
		add := func(name string, http1 bool, each float64) {
			r := &h2loadRun{target: targets[name], cell: c.cell, path: c.path, http1: http1}
			runs, rows = append(runs, r), append(rows, r.row([]tlsSample{{each, 1}}))
		}
		add(nameFlare, false, c.flare)
		add(nameH2O, false, c.h2o)
		add(nameFlare, true, c.own)
		judgeHTTP2(runs, rows)
		missed := strings.Join(append(append(rows[0].Missed, rows[1].Missed...), rows[2].Missed...), "; ")
		if (missed == "") != (c.missed == "") || !strings.Contains(missed, c.missed) {
			t.Errorf("%+v: %q", c, missed)
		}
	}
}
