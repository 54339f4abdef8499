//go:build linux

package main

// This file has the gates of -soak: what target and clients are made of before the load, under it
// and when it is over, and what of that is too much.

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"os"
	"runtime"
	"runtime/pprof"
	"strings"
	"time"
)

const (
	soakRSSRatio    = 2        // times the most of the first while,
	soakRSSMore     = 32 << 20 // or that many bytes above it, whichever is more
	soakDescriptors = 16       // above the start

	// The first while, in which memory settles, is a fifth of the run and at most a minute.
	soakWarmShare = 5
	soakWarmMax   = time.Minute

	soakLook   = 200 * time.Millisecond
	soakTell   = time.Minute
	soakSettle = 90 * time.Second // until idle connections are gone, and what served them
)

// soakFigures are what a process is made of.
type soakFigures struct {
	RSS         int64
	Descriptors int
	Goroutines  int `json:"goroutines"`
}

// A soakRest is both of the processes at rest.
type soakRest struct{ server, clients soakFigures }

// A soakWatch is the most memory that each process had.
type soakWatch struct {
	warm, most [2]int64 // server, clients
}

func processFigures(pid int) (f soakFigures, err error) {
	rss, err := residentBytes(pid)
	if err != nil {
		return f, err
	}
	list, err := os.ReadDir(fmt.Sprintf("/proc/%d/fd", pid))
	f.RSS, f.Descriptors = rss, len(list)
	if pid == os.Getpid() {
		f.Descriptors-- // the folder's own
	}
	return f, err
}

func (s *soak) figures() (r soakRest, err error) {
	text, err := s.ask("GET", "/figures")
	if err != nil {
		return r, err
	}
	if r.server, err = processFigures(s.server.cmd.Process.Pid); err != nil {
		return r, err
	}
	if err := json.Unmarshal([]byte(text), &r.server); err != nil {
		return r, err
	}
	if r.clients, err = processFigures(os.Getpid()); err != nil {
		return r, err
	}
	r.clients.Goroutines = runtime.NumGoroutine()
	return r, nil
}

// atRest returns the figures of before the load. Each listener has answered before.
func (s *soak) atRest(ctx context.Context) (soakRest, error) {
	for _, addr := range []string{s.plain, s.tls} {
		c, err := net.Dial("tcp", addr)
		if err != nil {
			return soakRest{}, err
		}
		c.Close()
	}
	return s.settle(ctx, func(r soakRest, last soakRest) bool {
		return r.server.Descriptors == last.server.Descriptors && r.server.Goroutines == last.server.Goroutines &&
			r.clients.Descriptors == last.clients.Descriptors && r.clients.Goroutines == last.clients.Goroutines
	})
}

// settle looks until the figures are as they should be, or for as long as that may take.
func (s *soak) settle(ctx context.Context, enough func(now, last soakRest) bool) (now soakRest, err error) {
	var last soakRest
	for until := time.Now().Add(soakSettle); ; last = now {
		if now, err = s.figures(); err != nil || enough(now, last) || time.Now().After(until) {
			return now, err
		}
		select {
		case <-ctx.Done():
			return now, ctx.Err()
		case <-time.After(soakLook):
		}
	}
}

// watch looks at the memory until ctx ends, and says each minute how far it is.
func (s *soak) watch(ctx context.Context, w *soakWatch, began time.Time, d time.Duration, log io.Writer) {
	warm := began.Add(min(d/soakWarmShare, soakWarmMax))
	tell := began.Add(soakTell)
	for {
		select {
		case <-ctx.Done():
			return
		case <-time.After(soakLook):
		}
		for i, pid := range []int{s.server.cmd.Process.Pid, os.Getpid()} {
			rss, err := residentBytes(pid)
			if err != nil {
				s.count("watch", 0, err, false)
				return
			}
			if time.Now().Before(warm) {
				w.warm[i] = max(w.warm[i], rss)
			}
			w.most[i] = max(w.most[i], rss)
		}
		if time.Now().After(tell) {
			tell = tell.Add(soakTell)
			s.mu.Lock()
			acts, wrong := 0, 0
			for _, c := range s.counts {
				acts, wrong = acts+c.done+c.cut+c.wrong, wrong+c.wrong
			}
			s.mu.Unlock()
			fmt.Fprintf(log, "%4.0f s: %d acts, %d wrong, server %s at most, clients %s\n",
				time.Since(began).Seconds(), acts, wrong, mebibytes(w.most[0]), mebibytes(w.most[1]))
		}
	}
}

func mebibytes(n int64) string { return fmt.Sprintf("%.1f MiB", float64(n)/(1<<20)) }

// A gate is one figure that was held to a bound.
type gate struct {
	name, before, bound, figure string
	kept                        bool
	more                        string // what helps to find the cause
}

// judge waits until everything is at rest again, and holds the figures to the gates.
func (s *soak) judge(ctx context.Context, start soakRest, w *soakWatch) ([]gate, error) {
	back := func(now soakFigures, before soakFigures) bool {
		return now.Descriptors <= before.Descriptors+soakDescriptors && now.Goroutines <= before.Goroutines
	}
	end, err := s.settle(ctx, func(now, _ soakRest) bool {
		return back(now.server, start.server) && back(now.clients, start.clients)
	})
	if err != nil {
		return nil, err
	}
	list := append(processGates("server", start.server, end.server, w.warm[0], w.most[0]),
		processGates("clients", start.clients, end.clients, w.warm[1], w.most[1])...)
	for i := range list {
		switch {
		case list[i].kept:
		case list[i].name == "server: goroutines":
			list[i].more, _ = s.ask("GET", "/goroutines")
		case list[i].name == "clients: goroutines":
			var text strings.Builder
			pprof.Lookup("goroutine").WriteTo(&text, 1)
			list[i].more = text.String()
		}
	}
	wrong := 0
	for _, c := range s.counts {
		wrong += c.wrong
	}
	return append(list, gate{"wrong answers", "", "0", fmt.Sprint(wrong), wrong == 0, ""}), nil
}

func processGates(name string, start, end soakFigures, warm, most int64) []gate {
	bound := max(soakRSSRatio*warm, warm+soakRSSMore)
	return []gate{
		{name: name + ": RSS at most", before: mebibytes(warm), bound: mebibytes(bound),
			figure: mebibytes(most) + ", " + mebibytes(end.RSS) + " at the end", kept: most <= bound && end.RSS <= bound},
		{name: name + ": descriptors", before: fmt.Sprint(start.Descriptors), bound: fmt.Sprint(start.Descriptors + soakDescriptors),
			figure: fmt.Sprint(end.Descriptors), kept: end.Descriptors <= start.Descriptors+soakDescriptors},
		{name: name + ": goroutines", before: fmt.Sprint(start.Goroutines), bound: fmt.Sprint(start.Goroutines),
			figure: fmt.Sprint(end.Goroutines), kept: end.Goroutines <= start.Goroutines},
	}
}

// printGates returns how many were missed.
func printGates(out io.Writer, gates []gate) (missed int) {
	table := [][]string{{"gate", "before", "bound", "figure", ""}}
	for _, g := range gates {
		verdict := "kept"
		if !g.kept {
			verdict = "MISSED"
			missed++
		}
		table = append(table, []string{g.name, g.before, g.bound, g.figure, verdict})
	}
	fmt.Fprintln(out)
	writeAligned(out, table)
	for _, g := range gates {
		if g.more != "" {
			fmt.Fprintf(out, "\n%s:\n%s\n", g.name, g.more)
		}
	}
	return missed
}
