package main

// This file has the suites that are tests of the go command: it runs them and counts.

import (
	"bufio"
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
)

// goTests is a suite of flare's own tests, of those that talk to programs of others.
func goTests(dir, pattern string) func(*runner) ([]row, error) {
	return func(r *runner) ([]row, error) {
		w, err := r.goTest("", filepath.Join(r.root, dir), "-run", pattern, ".")
		return []row{w}, err
	}
}

// goTest runs go test and counts.
func (r *runner) goTest(name, dir string, args ...string) (row, error) {
	cmd := exec.CommandContext(r.ctx, "go", append([]string{"test", "-json", "-count=1"}, args...)...)
	cmd.Dir = dir
	out, err := cmd.Output()
	w, counted := countTests(bytes.NewReader(out))
	w.name = name
	if counted != nil || w.passed+w.failed+w.skipped == 0 {
		var exit *exec.ExitError
		text := ""
		if errors.As(err, &exit) {
			text = string(exit.Stderr)
		}
		return w, fmt.Errorf("go test: %v, %v\n%s%s", err, counted, text, out)
	}
	return w, nil
}

// A testEvent is a line of go test -json.
type testEvent struct {
	Action, Test, Output string
}

// countTests counts the tests that have no others within.
func countTests(in io.Reader) (w row, err error) {
	ended, said := make(map[string]string), make(map[string]string)
	lines := bufio.NewScanner(in)
	lines.Buffer(nil, 16<<20)
	for lines.Scan() {
		var e testEvent
		if err := json.Unmarshal(lines.Bytes(), &e); err != nil {
			return w, fmt.Errorf("%w: %.200q", err, lines.Bytes())
		}
		switch e.Action {
		case "pass", "fail", "skip":
			if e.Test != "" {
				ended[e.Test] = e.Action
			}
		case "output":
			if text := strings.TrimSpace(e.Output); !strings.HasPrefix(text, "=== ") && !strings.HasPrefix(text, "--- ") {
				said[e.Test] += text + " "
			}
		}
	}
	var names []string
	parents, failed := make(map[string]bool), make(map[string]bool) // because of one within
	for name, what := range ended {
		names = append(names, name)
		for at := strings.LastIndexByte(name, '/'); at > 0; at = strings.LastIndexByte(name[:at], '/') {
			parents[name[:at]] = true
			failed[name[:at]] = failed[name[:at]] || what == "fail"
		}
	}
	slices.Sort(names)
	for _, name := range names {
		what := ended[name]
		if parents[name] && (what != "fail" || failed[name]) {
			continue
		}
		switch what {
		case "pass":
			w.passed++
			continue
		case "fail":
			w.failed++
		case "skip":
			w.skipped++
		}
		w.why = append(w.why, fmt.Sprintf("%s %s: %.300s", what, name, strings.TrimSpace(said[name])))
	}
	return w, lines.Err()
}

// excuse takes cases that are known to fail, and why, from those that failed.
func (w *row) excuse(prefix, reason string) {
	n := len(w.why)
	w.why = slices.DeleteFunc(w.why, func(text string) bool { return strings.HasPrefix(text, "fail "+prefix) })
	if n -= len(w.why); n > 0 {
		w.failed, w.skipped = w.failed-n, w.skipped+n
		w.why = append(w.why, fmt.Sprintf("skipped: %d of %s: %s", n, prefix, reason))
	}
}
