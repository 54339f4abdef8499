//go:build linux

package main

// This file runs the arena: it builds its servers, holds each one's answers to those demanded, and
// measures every profile round by round. arena_profiles.go says what is asked, arena_table.go prints.

import (
	"bufio"
	"bytes"
	"compress/gzip"
	"context"
	"crypto/tls"
	_ "embed"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"flare/bench/arena"
)

//go:embed arena.c
var arenaSource []byte

// An arenaRun has what the profiles of a run need.
type arenaRun struct {
	*bencher
	profiles []*profile
	targets  []*target
	files    string // directory of what is sent from files
	pair     *tlsPair
	scripts  map[*profile]string
	noTLS    string // why the generator speaks no TLS
}

// arenaTargets are the servers of the arena. What depends on the profile is added by serveProfile.
func arenaTargets() []*target {
	return []*target{
		{nameFlare, goTarget("arenaflare"), func(s start) ([]string, error) {
			return []string{s.program, "-addr", s.addr, "-loops", fmt.Sprint(s.procs)}, nil
		}, wsNot},
		{nameNetHTTP, goTarget("arenanethttp"), addrCommand, wsNot},
		{nameFast, goTarget("arenafasthttp"), addrCommand, wsNot},
		{nameNginx, (*builder).findNginx, nil, wsNot},
	}
}

func addrCommand(s start) ([]string, error) { return []string{s.program, "-addr", s.addr}, nil }

// What nginx is told for the profiles that need no program of its own.
const (
	arenaNginx = `sendfile on;
	tcp_nopush on;
	open_file_cache max=100;`
	arenaNginxServer = `types { }
		location /page/ { default_type text/plain; return 200 "Hello, World!"; }
		location /file/ { default_type application/octet-stream; alias %s/; }`
)

func (a *arenaRun) nginxCommand(p *profile) func(start) ([]string, error) {
	return func(s start) ([]string, error) {
		listen := ""
		if p.tls {
			listen = a.pair.nginx()
		}
		return s.nginx(arenaNginx, listen, fmt.Sprintf(arenaNginxServer, a.files))
	}
}

// serveProfile starts a fresh process of t for p.
func (a *arenaRun) serveProfile(ctx context.Context, t *target, p *profile) (*process, string, error) {
	if t.name == nameNginx {
		configured := &target{name: t.name, command: a.nginxCommand(p)}
		a.programs[configured] = a.programs[t]
		defer delete(a.programs, configured)
		return a.serve(ctx, configured)
	}
	extra := []string{"-files", a.files}
	if p.tls {
		extra = append(extra, "-cert", a.pair.cert, "-key", a.pair.key)
	}
	return a.serve(ctx, t, extra...)
}

// runArena is a run of profiles, in place of run's workloads.
func (b *bencher) runArena(ctx context.Context, profiles []*profile, res *results, out, log io.Writer) error {
	a := &arenaRun{bencher: b, profiles: profiles, scripts: make(map[*profile]string)}
	if err := a.prepare(ctx, res, log); err != nil {
		return err
	}
	if err := b.quiet(ctx, res, log); err != nil {
		return err
	}
	if err := a.check(ctx, res); err != nil {
		return err
	}
	if err := a.rounds(ctx, res, out, log); err != nil {
		return err
	}
	if err := writeArena(res, profiles, b.options.out, out); err != nil {
		return err
	}
	return res.finish(b.options, out)
}

func (a *arenaRun) prepare(ctx context.Context, res *results, log io.Writer) error {
	root, err := filepath.Abs(a.options.root)
	if err != nil {
		return err
	}
	maker := &builder{root: root, dir: a.dir}
	program, _, err := maker.buildC("arena", arenaSource, "-DWITH_TLS", "-lssl", "-lcrypto")
	if err != nil && slices.ContainsFunc(a.profiles, func(p *profile) bool { return p.tls }) {
		a.noTLS = "the generator cannot be built with OpenSSL (apt-get install libssl-dev)"
	}
	if err != nil {
		program, _, err = maker.buildC("arena", arenaSource)
	}
	if err != nil {
		return fmt.Errorf("the load generator: %w", err)
	}
	a.generator = generator{program: program, cores: a.options.genCores, fleet: &a.fleet}
	if a.profiles = slices.DeleteFunc(a.profiles, func(p *profile) bool { return p.tls && a.noTLS != "" }); a.noTLS != "" {
		res.skip(log, "profiles with TLS", a.noTLS)
	}
	if a.pair, err = makeTLSPair(a.dir); err != nil {
		return err
	}
	if err := a.writeFiles(); err != nil {
		return err
	}
	return a.buildTargets(ctx, maker, res, log)
}

// writeFiles makes what is sent, and the scripts of what is asked.
func (a *arenaRun) writeFiles() error {
	a.files = filepath.Join(a.dir, "files")
	if err := os.Mkdir(a.files, 0o755); err != nil {
		return err
	}
	for name, p := range arena.Downloads() {
		if err := os.WriteFile(filepath.Join(a.files, name), p, 0o644); err != nil {
			return err
		}
	}
	for _, p := range a.profiles {
		a.scripts[p] = filepath.Join(a.dir, p.name+".script")
		if err := os.WriteFile(a.scripts[p], p.script(), 0o644); err != nil {
			return err
		}
	}
	return nil
}

// script is the profile in arena.c's form.
func (p *profile) script() []byte {
	var b bytes.Buffer
	for _, ask := range p.asks {
		size := len(ask.body)
		if ask.coding != "" {
			size = -1
		}
		fmt.Fprintf(&b, "%d %d\n", len(ask.raw), size)
		b.Write(ask.raw)
	}
	return b.Bytes()
}

func (a *arenaRun) buildTargets(ctx context.Context, maker *builder, res *results, log io.Writer) error {
	all := arenaTargets()
	for _, text := range a.options.commands {
		t, err := commandTarget(text, func(name string) (string, error) { return "", fmt.Errorf("no program {%s}", name) })
		if err != nil {
			return err
		}
		all = append(all, t)
	}
	wanted, err := a.wantedOf(all)
	if err != nil {
		return err
	}
	for _, t := range wanted {
		_, err := a.build(maker, t, res)
		var absent errAbsent
		if errors.As(err, &absent) {
			res.skip(log, t.name, string(absent))
			continue
		}
		if err = errors.Join(err, ctx.Err()); err != nil {
			return fmt.Errorf("%s: %w", t.name, err)
		}
		a.targets = append(a.targets, t)
	}
	return nil
}

// wantedOf picks what -targets names, or everything.
func (a *arenaRun) wantedOf(all []*target) (list []*target, err error) {
	names := splitList(a.options.targets)
	if len(names) == 0 {
		return all, nil
	}
	for _, name := range names {
		i := slices.IndexFunc(all, func(t *target) bool { return sameName(t.name, name) })
		if i < 0 {
			return nil, fmt.Errorf("no target %q in the arena", name)
		}
		list = append(list, all[i])
	}
	return list, nil
}

// applies says whether t can answer p.
func (t *target) applies(p *profile) bool { return t.name != nameNginx || p.nginx }

// ---- checking ----

// arenaChecksMost is how many requests of a profile are checked: all of one but of browser.
const arenaChecksMost = 64

// check holds every target to the answers of every profile, before anything is measured.
func (a *arenaRun) check(ctx context.Context, res *results) error {
	for _, p := range a.profiles {
		sizes := make(map[string]int)
		for _, t := range a.targets {
			if !t.applies(p) {
				continue
			}
			server, addr, err := a.serveProfile(ctx, t, p)
			if err != nil {
				return err
			}
			sizes[t.name], err = p.check(addr)
			server.stop()
			if err != nil {
				return fmt.Errorf("%s, %s: %w", t.name, p.name, err)
			}
		}
		flare, standard := float64(sizes[nameFlare]), float64(sizes[nameNetHTTP])
		if flare > gzipSizeMost*standard && standard > 0 {
			res.fault(fmt.Sprintf("%s: flare's answers have %.2f of the size of net/http's, at most %.2f", p.name, flare/standard, gzipSizeMost))
		}
	}
	return nil
}

// check asks for what p asks, one connection for all of it, and returns how long the bodies were as
// they were sent.
func (p *profile) check(addr string) (size int, err error) {
	var c net.Conn
	d := net.Dialer{Timeout: askTimeout}
	if c, err = d.Dial("tcp", addr); err != nil {
		return 0, err
	}
	defer c.Close()
	c.SetDeadline(time.Now().Add(4 * askTimeout))
	if p.tls {
		c = tls.Client(c, &tls.Config{InsecureSkipVerify: true, MinVersion: tls.VersionTLS13}) // a certificate of our own
	}
	r := bufio.NewReader(c)
	for i := range min(len(p.asks), arenaChecksMost) {
		n, err := p.asks[i].check(c, r)
		if err != nil {
			line, _, _ := strings.Cut(string(p.asks[i].raw[:min(100, len(p.asks[i].raw))]), "\r\n")
			return 0, fmt.Errorf("%s: %w", line, err)
		}
		size += n
	}
	return size, nil
}

func (a *arenaAsk) check(c net.Conn, r *bufio.Reader) (size int, err error) {
	if _, err := c.Write(a.raw); err != nil {
		return 0, err
	}
	resp, err := http.ReadResponse(r, nil)
	if err != nil {
		return 0, err
	}
	body, err := io.ReadAll(resp.Body)
	if err != nil {
		return 0, err
	}
	size = len(body)
	if a.coding != "" && resp.Header.Get("Content-Encoding") == a.coding {
		z, err := gzip.NewReader(bytes.NewReader(body))
		if err != nil {
			return 0, err
		}
		if body, err = io.ReadAll(z); err != nil {
			return 0, err
		}
	}
	if d := a.difference(resp, body); d != "" {
		return 0, errors.New("another answer than demanded: " + d)
	}
	return size, nil
}

// ---- measuring ----

func (a *arenaRun) rounds(ctx context.Context, res *results, out, log io.Writer) error {
	samples := make(map[*profile]map[*target][]sample)
	began := time.Now()
	for i := range a.options.rounds {
		for _, p := range a.profiles {
			if samples[p] == nil {
				samples[p] = make(map[*target][]sample)
			}
			for j := range a.targets {
				t := a.targets[(i+j)%len(a.targets)]
				if !t.applies(p) {
					continue
				}
				s, wrong, err := a.measureProfile(ctx, t, p)
				if err != nil {
					return err
				}
				for _, text := range wrong {
					res.fault(fmt.Sprintf("%s, %s, round %d: %s", t.name, p.name, i+1, text))
				}
				samples[p][t] = append(samples[p][t], s)
			}
		}
		fmt.Fprintf(log, "round %d of %d, %.0f s\n", i+1, a.options.rounds, time.Since(began).Seconds())
	}
	for _, p := range a.profiles {
		var rows []*row
		for _, t := range a.targets {
			if list := samples[p][t]; len(list) > 0 {
				rows = append(rows, &row{Workload: p.name, Target: t.name, Median: medianSample(list), Samples: list})
			}
		}
		addRatios(rows)
		printTable(out, &workload{name: p.name, about: p.about}, rows)
		res.Rows = append(res.Rows, rows...)
	}
	return nil
}

// measureProfile is one window.
func (a *arenaRun) measureProfile(ctx context.Context, t *target, p *profile) (s sample, wrong []string, err error) {
	server, addr, err := a.serveProfile(ctx, t, p)
	if err != nil {
		return s, nil, err
	}
	defer server.stop()
	pid := server.cmd.Process.Pid
	cores, err := readCores()
	if err != nil {
		return s, nil, err
	}
	cpu := processCPU(pid)
	args := []string{"--script", a.scripts[p], "--connections", fmt.Sprint(p.conns), "--close-after", fmt.Sprint(p.closeAfter)}
	if p.tls {
		args = append(args, "--tls")
	}
	r, err := a.generator.run(ctx, addr, pid, a.options.warmup, a.options.seconds, args...)
	if err != nil {
		return s, nil, fmt.Errorf("%s, %s: %w", t.name, p.name, err)
	}
	cpu = processCPU(pid) - cpu
	after, err := readCores()
	if err != nil {
		return s, nil, err
	}
	if r.Answered > 0 && r.WindowNS > 0 {
		s = makeSample(r)
		s.Foreign = foreignShare(cores, after, a.options.cores, cpu.Seconds())
	}
	return s, faults(r, &workload{}), nil
}
