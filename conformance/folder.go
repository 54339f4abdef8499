package main

// This file has the suites that lie in a folder: there is no place that this program could fetch them
// from. Each is given the address of a server, and what it says is counted.

import (
	"encoding/json"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"flare"
)

// autobahn runs the fuzzing client of Autobahn|Testsuite, which is in a virtual environment of Python:
// virtualenv -p python2 FOLDER && FOLDER/bin/pip install autobahntestsuite.
func (r *runner) autobahn() ([]row, error) {
	s, err := serve(echoSockets(flare.CompressionTakeover), false, false, false)
	if err != nil {
		return nil, err
	}
	defer s.stop()
	spec, err := json.Marshal(map[string]any{
		"outdir": "reports", "cases": []string{"*"}, "exclude-cases": []string{}, "exclude-agent-cases": map[string]any{},
		"servers": []map[string]any{{"agent": "flare", "url": "ws://" + s.host + ":" + s.port}},
	})
	if err != nil {
		return nil, err
	}
	file := filepath.Join(r.dir, "autobahn.json")
	if err := os.WriteFile(file, spec, 0o644); err != nil {
		return nil, err
	}
	_, failed := r.command(r.dir, filepath.Join(r.folder, "bin", "wstest"), "-m", "fuzzingclient", "-s", file)
	text, err := os.ReadFile(filepath.Join(r.dir, "reports", "index.json"))
	if err != nil {
		return nil, fmt.Errorf("no report: %w, %v", err, failed)
	}
	w, err := parseAutobahn(text)
	return []row{w}, err
}

// parseAutobahn reads reports/index.json. NON-STRICT and INFORMATIONAL are no failures by its own
// documentation, and are told.
func parseAutobahn(text []byte) (w row, err error) {
	var report map[string]map[string]struct{ Behavior, BehaviorClose string }
	if err := json.Unmarshal(text, &report); err != nil {
		return w, err
	}
	cases := report["flare"]
	if len(cases) == 0 {
		return w, fmt.Errorf("there are no cases in the report")
	}
	for _, id := range slices.Sorted(maps.Keys(cases)) {
		c := cases[id]
		worst := "OK"
		for _, behavior := range []string{c.Behavior, c.BehaviorClose} {
			if behavior != "OK" && (worst == "OK" || behavior != "INFORMATIONAL" && behavior != "NON-STRICT") {
				worst = behavior
			}
		}
		switch worst {
		case "OK":
			w.passed++
			continue
		case "INFORMATIONAL", "NON-STRICT":
			w.passed++
		case "UNIMPLEMENTED":
			w.skipped++
		default:
			w.failed++
		}
		w.why = append(w.why, "case "+id+": "+worst)
	}
	return w, nil
}

// h1spec runs github.com/uNetworking/h1spec: a clone, and deno.
func (r *runner) h1spec() ([]row, error) {
	s, err := serve(echo, false, false, false)
	if err != nil {
		return nil, err
	}
	defer s.stop()
	out, failed := r.command(r.folder, "deno", "run", "--allow-net", "http_test.ts", s.host, s.port)
	w := parseH1Spec(out)
	if w.passed+w.failed == 0 {
		return nil, fmt.Errorf("no case: %w", failed)
	}
	return []row{w}, nil
}

func parseH1Spec(out string) (w row) {
	for line := range strings.Lines(out) {
		switch line = strings.TrimSpace(line); {
		case strings.HasPrefix(line, "✅"):
			w.passed++
		case strings.HasPrefix(line, "❌"), strings.HasPrefix(line, "Error in test"):
			w.failed++
			w.why = append(w.why, line)
		}
	}
	return w
}

// probe runs github.com/MDA2AV/Http11Probe: a clone, and dotnet.
func (r *runner) probe() ([]row, error) {
	s, err := serve(echo, false, false, false)
	if err != nil {
		return nil, err
	}
	defer s.stop()
	file := filepath.Join(r.dir, "probe.json")
	_, failed := r.command(r.folder, "dotnet", "run", "--project", "src/Http11Probe.Cli", "--", "--host", s.host, "--port", s.port, "--output", file)
	text, err := os.ReadFile(file)
	if err != nil {
		return nil, fmt.Errorf("no report: %w, %v", err, failed)
	}
	w, err := parseProbe(text)
	return []row{w}, err
}

// parseProbe reads the report. What is not scored, or a warning, is no failure by its own rules, and is
// told.
func parseProbe(text []byte) (w row, err error) {
	var report struct {
		Results []struct {
			ID, Verdict, Expected string
			Scored                bool
			StatusCode            int
		}
	}
	if err := json.Unmarshal(text, &report); err != nil {
		return w, err
	}
	if len(report.Results) == 0 {
		return w, fmt.Errorf("there are no cases in the report")
	}
	for _, c := range report.Results {
		switch {
		case c.Verdict == "Pass":
			w.passed++
			continue
		case c.Verdict == "Skip":
			w.skipped++
		case c.Verdict == "Warn", !c.Scored && c.Verdict == "Fail":
			w.passed++
		default:
			w.failed++
		}
		w.why = append(w.why, fmt.Sprintf("%s %s: status %d, expected %s", c.Verdict, c.ID, c.StatusCode, c.Expected))
	}
	return w, nil
}
