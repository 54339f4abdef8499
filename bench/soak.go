//go:build linux

package main

// This file is -soak: clients of every kind do at random what clients do, for as long as asked, and
// the server is restarted now and then under them. What each of them does follows from -soak.seed
// and its number, so that a run can be had again, but for who is quicker. soak_acts.go says what
// they do, soak_gates.go what server and clients may be made of before and after.

import (
	"context"
	"errors"
	"fmt"
	"io"
	"maps"
	"math/rand/v2"
	"net/http"
	"net/url"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"
)

const (
	soakActors     = 24
	soakSlowActors = 8 // they wait for seconds; the others would have no time

	soakMin = 5 * time.Second
	soakMax = 24 * time.Hour

	// Between two restarts; in a short run at most a quarter of it.
	soakRestartMin = 3 * time.Second
	soakRestartMax = 20 * time.Second

	// soakActMax is far more than anything takes that the clients do.
	soakActMax = 60 * time.Second

	soakToldMax = 20 // wrong answers told in full
)

// A soak is one run. Its fields up to the counts are set before the clients begin.
type soak struct {
	seed       uint64
	plain, tls string // where the target listens, host:port
	admin      string
	server     *process

	// epoch is odd while the target restarts. Whatever an act overlaps with that may be cut, but
	// what it has been told until then has to be right.
	epoch    atomic.Int64
	restarts map[string]int // by the conductor, until it has ended

	mu     sync.Mutex
	counts map[string]*soakCount
	told   []string
}

// A soakCount is how often acts of a kind ended how.
type soakCount struct {
	done, cut, wrong int
	requests         int64
}

// runSoak is the whole of it. A gate that was missed is an error.
func (b *bencher) runSoak(ctx context.Context, out, log io.Writer) error {
	s := &soak{seed: b.options.soakSeed, counts: make(map[string]*soakCount), restarts: make(map[string]int)}
	if err := b.startSoak(ctx, s); err != nil {
		return err
	}
	fmt.Fprintf(out, "soak: %s, seed %d, %d clients, %d of them slow\n", b.options.soak, s.seed, soakActors+soakSlowActors, soakSlowActors)
	start, err := s.atRest(ctx)
	if err != nil {
		return err
	}
	watched := s.load(ctx, b.options.soak, log)
	if err := ctx.Err(); err != nil {
		return err
	}
	gates, err := s.judge(ctx, start, watched)
	if err != nil {
		return err
	}
	s.print(out)
	missed := printGates(out, gates)
	b.fleet.stopAll()
	if missed > 0 || len(s.told) > 0 {
		return fmt.Errorf("soak: %d gates were missed; again with -soak.seed %d", missed, s.seed)
	}
	return nil
}

// startSoak builds the target and starts it.
func (b *bencher) startSoak(ctx context.Context, s *soak) error {
	root, err := filepath.Abs(b.options.root)
	if err != nil {
		return err
	}
	program, _, err := (&builder{root: root, dir: b.dir}).buildGo(filepath.Join(root, "bench"), "./targets/soak", "soak")
	if err != nil {
		return err
	}
	pair, err := makeTLSPair(b.dir)
	if err != nil {
		return err
	}
	for _, addr := range []*string{&s.plain, &s.tls, &s.admin} {
		if *addr, err = freeAddr(); err != nil {
			return err
		}
	}
	argv := []string{program, "-addr", s.plain, "-tls", s.tls, "-admin", s.admin, "-cert", pair.cert, "-key", pair.key}
	if s.server, err = b.fleet.start("soak", argv, nil, nil); err != nil {
		return err
	}
	return s.server.waitReady(ctx, s.admin)
}

// load has everybody at work for that long, and returns what was seen of the target meanwhile.
func (s *soak) load(ctx context.Context, d time.Duration, log io.Writer) *soakWatch {
	began := time.Now()
	at, cancel := context.WithDeadline(ctx, began.Add(d))
	defer cancel()
	var actors, others sync.WaitGroup
	for i := range soakActors + soakSlowActors {
		actors.Go(func() { s.newActor(i).run(at) })
	}
	w := &soakWatch{}
	others.Go(func() { s.restart(at, min(soakRestartMax, max(d/4, soakRestartMin+time.Second))) })
	others.Go(func() { s.watch(at, w, began, d, log) })
	others.Wait()
	actors.Wait()
	return w
}

// restart has the target end its server and start another one, at random moments.
func (s *soak) restart(ctx context.Context, pauseMax time.Duration) {
	random := rand.New(rand.NewPCG(s.seed, ^uint64(0)))
	for {
		pause := soakRestartMin + time.Duration(random.Int64N(int64(pauseMax-soakRestartMin)))
		select {
		case <-ctx.Done():
			return
		case <-time.After(pause):
		}
		how := []string{"shutdown", "shutdown", "close"}[random.IntN(3)]
		s.restarts[how]++
		s.epoch.Add(1)
		_, err := s.ask(http.MethodPost, "/restart?how="+how)
		s.epoch.Add(1)
		if err != nil {
			s.count("restart", 0, err, false)
		}
	}
}

// ask asks the target's own server, on a connection of its own, so that no rest of that is counted.
func (s *soak) ask(method, path string) (string, error) {
	ctx, cancel := context.WithTimeout(context.Background(), soakActMax)
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, method, "http://"+s.admin+path, nil)
	if err != nil {
		return "", err
	}
	t := &http.Transport{DisableKeepAlives: true}
	resp, err := t.RoundTrip(req)
	if err != nil {
		return "", err
	}
	defer resp.Body.Close()
	text, err := io.ReadAll(resp.Body)
	if err == nil && resp.StatusCode != 200 {
		err = errors.New(strings.TrimSpace(string(text)))
	}
	return string(text), err
}

// count notes how an act has ended: excused is one that the target's restart may have cut.
func (s *soak) count(kind string, requests int64, err error, excused bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	c := s.counts[kind]
	if c == nil {
		c = &soakCount{}
		s.counts[kind] = c
	}
	c.requests += requests
	var wrong wrongAnswer
	switch {
	case err == nil:
		c.done++
	case excused && !errors.As(err, &wrong):
		c.cut++
	default:
		c.wrong++
		if len(s.told) < soakToldMax {
			s.told = append(s.told, fmt.Sprintf("%s: %v", kind, err))
		}
	}
}

func (s *soak) print(out io.Writer) {
	table := [][]string{{"kind", "done", "cut by a restart", "wrong", "requests or messages"}}
	for _, kind := range slices.Sorted(maps.Keys(s.counts)) {
		c := s.counts[kind]
		table = append(table, []string{kind, fmt.Sprint(c.done), fmt.Sprint(c.cut), fmt.Sprint(c.wrong), fmt.Sprint(c.requests)})
	}
	fmt.Fprintln(out)
	writeAligned(out, table)
	fmt.Fprintf(out, "restarts: %d by Shutdown, %d by Close\n", s.restarts["shutdown"], s.restarts["close"])
	for _, text := range s.told {
		fmt.Fprintln(out, "wrong:", text)
	}
}

// A wrongAnswer is one that no restart excuses.
type wrongAnswer string

func (w wrongAnswer) Error() string { return string(w) }

func wrongf(format string, args ...any) error { return wrongAnswer(fmt.Sprintf(format, args...)) }

// base is the target's URL, with that scheme.
func (s *soak) base(scheme string) *url.URL {
	if scheme == "https" || scheme == "wss" {
		return &url.URL{Scheme: scheme, Host: s.tls}
	}
	return &url.URL{Scheme: scheme, Host: s.plain}
}
