//go:build linux

package main

import (
	"bytes"
	"context"
	"errors"
	"net/http"
	"net/http/httptest"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// A short run, of the program itself, so that what else this process does is not counted.
func TestSoak(t *testing.T) {
	program := filepath.Join(t.TempDir(), "bench")
	if out, err := exec.Command("go", "build", "-o", program, ".").CombinedOutput(); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	ctx, cancel := context.WithTimeout(t.Context(), 4*time.Minute)
	defer cancel()
	out, err := exec.CommandContext(ctx, program, "-soak", "20s").CombinedOutput()
	t.Logf("%s", out)
	if err != nil {
		t.Fatal(err)
	}
	if n := bytes.Count(out, []byte("kept")); n != 7 {
		t.Errorf("%d gates were kept, there are 7", n)
	}
}

// Each kind of request notices a server that answers something else, and one that leaves a
// connection in the middle is no wrong answer, but for what restarts excuse.
func TestSoakNoticesLies(t *testing.T) {
	t.Parallel()
	lies := map[string]http.HandlerFunc{
		"a letter": func(w http.ResponseWriter, r *http.Request) { w.Write([]byte("x")) },
		"nothing":  func(http.ResponseWriter, *http.Request) {},
		"a 503":    func(w http.ResponseWriter, r *http.Request) { w.WriteHeader(503) },
	}
	for name, lie := range lies {
		srv := httptest.NewServer(lie)
		defer srv.Close()
		s := &soak{plain: strings.TrimPrefix(srv.URL, "http://"), counts: map[string]*soakCount{}}
		a := s.newActor(1)
		a.renew()
		defer a.leave()
		noticed := make(map[string]bool)
		for range 300 {
			ask := anyAsk(a.rand)
			var wrong wrongAnswer
			if errors.As(a.ask(t.Context(), a.std, "http", ask), &wrong) {
				path, _, _ := strings.Cut(ask.path, "?")
				noticed[ask.method+" "+path] = true
			}
		}
		// Of HEAD only a status or a length can be wrong, and of 404 and 500 the status.
		for _, want := range []string{"GET /bytes", "POST /upload", "POST /echo", "GET /sleep", "GET /file", "GET /nothing/here", "GET /panic", "GET /plaintext"} {
			if !noticed[want] {
				t.Errorf("%s: %s was taken for the answer", want, name)
			}
		}
	}
	for name, play := range map[string]func(*soakActor, context.Context) error{
		"WebSockets": (*soakActor).webSockets, "gorilla's": (*soakActor).gorillaSockets, "events": (*soakActor).events,
	} {
		srv := httptest.NewServer(lies["a letter"])
		defer srv.Close()
		s := &soak{plain: strings.TrimPrefix(srv.URL, "http://"), counts: map[string]*soakCount{}}
		s.tls = s.plain
		a := s.newActor(1)
		a.renew()
		defer a.leave()
		found := false
		for range 20 {
			var wrong wrongAnswer
			found = found || errors.As(play(a, t.Context()), &wrong)
		}
		if !found {
			t.Errorf("%s: a letter was taken for the answer", name)
		}
	}
}

func TestSoakCounts(t *testing.T) {
	t.Parallel()
	s := &soak{counts: map[string]*soakCount{}}
	cut := errors.New("connection reset")
	s.count("k", 1, nil, false)
	s.count("k", 1, cut, true)
	s.count("k", 1, cut, false)
	s.count("k", 1, errors.Join(cut, wrongf("the answer")), true)
	if c := s.counts["k"]; *c != (soakCount{done: 1, cut: 1, wrong: 2, requests: 4}) || len(s.told) != 2 {
		t.Errorf("%+v, told %q", c, s.told)
	}
}

func TestSoakGates(t *testing.T) {
	t.Parallel()
	const mib = 1 << 20
	start := soakFigures{Descriptors: 10, Goroutines: 5}
	for _, row := range []struct {
		name       string
		end        soakFigures
		warm, most int64
		missed     int
	}{
		{"all at the bound", soakFigures{64 * mib, 26, 5}, 32 * mib, 64 * mib, 0},
		{"a small process", soakFigures{40 * mib, 10, 5}, 10 * mib, 42 * mib, 0},
		{"memory under the load", soakFigures{10 * mib, 10, 5}, 10 * mib, 43 * mib, 1},
		{"memory at the end", soakFigures{65 * mib, 10, 5}, 32 * mib, 32 * mib, 1},
		{"a descriptor", soakFigures{32 * mib, 27, 5}, 32 * mib, 32 * mib, 1},
		{"a goroutine", soakFigures{32 * mib, 10, 6}, 32 * mib, 32 * mib, 1},
	} {
		var out bytes.Buffer
		if missed := printGates(&out, processGates("server", start, row.end, row.warm, row.most)); missed != row.missed {
			t.Errorf("%s: %d gates missed, want %d\n%s", row.name, missed, row.missed, &out)
		}
	}
}
