//go:build linux

package main

// This file has the workloads about TLS: tls is what a request costs on connections that are kept,
// handshakes what a new connection costs, and idle-tls what one that waits does. The load comes
// from wrk, since encrypting for a server in Go would keep the generator busier than the server;
// what is compared is the server's CPU time, as everywhere.

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"encoding/pem"
	"fmt"
	"io"
	"math/big"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"time"
)

const (
	tlsRequestRatioMax   = 0.75 // of net/http's CPU time a request
	tlsHandshakeRatioMin = 1    // of net/http's handshakes a second of CPU
	tlsIdleRatioMax      = 0.6  // of net/http's bytes for an idle connection
)

// A tlsPair is a certificate and its key in files.
type tlsPair struct{ cert, key string }

// nginx is what its configuration has behind an address.
func (p *tlsPair) nginx() string {
	return fmt.Sprintf("ssl; ssl_certificate %s; ssl_certificate_key %s; ssl_protocols TLSv1.3", p.cert, p.key)
}

// makeTLSPair writes a certificate for 127.0.0.1 with a P-256 key, the kind that most sites have.
func makeTLSPair(dir string) (*tlsPair, error) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return nil, err
	}
	template := &x509.Certificate{
		SerialNumber: big.NewInt(1), NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(24 * time.Hour),
		IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)}, KeyUsage: x509.KeyUsageDigitalSignature,
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, &key.PublicKey, key)
	if err != nil {
		return nil, err
	}
	secret, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		return nil, err
	}
	p := &tlsPair{filepath.Join(dir, "tls-cert.pem"), filepath.Join(dir, "tls-key.pem")}
	err = os.WriteFile(p.cert, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der}), 0o600)
	if err == nil {
		err = os.WriteFile(p.key, pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: secret}), 0o600)
	}
	return p, err
}

// tlsTargets keeps those that take -cert and -key.
func tlsTargets(targets []*target) []*target {
	return slices.DeleteFunc(slices.Clone(targets), func(t *target) bool { return t.name != nameFlare && t.name != nameNetHTTP })
}

// A wrkReport is what wrk says of a run.
type wrkReport struct {
	requests uint64
	seconds  float64
}

var (
	wrkTotal = regexp.MustCompile(`(?m)^  (\d+) requests in ([\d.]+)(us|ms|s|m),`)
	wrkFault = regexp.MustCompile(`(?m)^  (Socket errors: .*|Non-2xx .*)$`)
	wrkUnits = map[string]float64{"us": 1e-6, "ms": 1e-3, "s": 1, "m": 60}
)

func parseWrk(text string) (r wrkReport, err error) {
	m := wrkTotal.FindStringSubmatch(text)
	if m == nil {
		return r, fmt.Errorf("wrk says %q", lastLines(text, 3))
	}
	if r.requests, err = strconv.ParseUint(m[1], 10, 64); err != nil {
		return r, err
	}
	r.seconds, err = strconv.ParseFloat(m[2], 64)
	r.seconds *= wrkUnits[m[3]]
	return r, err
}

// wrk runs wrk for about that long. Whole seconds are all it knows.
func (b *bencher) wrk(ctx context.Context, path, addr string, seconds float64, conns int, args ...string) (wrkReport, error) {
	ctx, cancel := context.WithTimeout(ctx, time.Duration(seconds*float64(time.Second))+loadSlack)
	defer cancel()
	whole := max(1, int(seconds+0.5))
	argv := append([]string{path, "-t1", "-c", strconv.Itoa(conns), "-d", strconv.Itoa(whole) + "s"}, args...)
	p, err := b.fleet.start("wrk", append(argv, "https://"+addr+"/plaintext"), nil, b.options.genCores)
	if err != nil {
		return wrkReport{}, err
	}
	if err := p.wait(ctx); err != nil {
		return wrkReport{}, err
	}
	if fault := wrkFault.FindString(p.stdout.String()); fault != "" {
		return wrkReport{}, fmt.Errorf("wrk:%s", fault)
	}
	return parseWrk(p.stdout.String())
}

// A tlsSample is one window of one target.
type tlsSample struct {
	cpuEach   float64 // µs of the server's CPU time
	perSecond float64
}

// measureTLS is one window against a fresh process.
func (b *bencher) measureTLS(ctx context.Context, t *target, wrk string, pair *tlsPair, args ...string) (s tlsSample, err error) {
	p, addr, err := b.serve(ctx, t, "-cert", pair.cert, "-key", pair.key)
	if err != nil {
		return s, err
	}
	defer p.stop()
	if _, err := b.wrk(ctx, wrk, addr, b.options.warmup, b.options.conns, args...); err != nil {
		return s, err
	}
	before := processCPU(p.cmd.Process.Pid)
	r, err := b.wrk(ctx, wrk, addr, b.options.seconds, b.options.conns, args...)
	if err != nil {
		return s, err
	}
	used := processCPU(p.cmd.Process.Pid) - before
	if r.requests == 0 || used <= 0 {
		return s, fmt.Errorf("%d requests in %v of CPU time", r.requests, used)
	}
	return tlsSample{float64(used.Nanoseconds()) / 1e3 / float64(r.requests), float64(r.requests) / r.seconds}, nil
}

// runTLSLoad is a workload that wrk makes: rounds of each target in turn.
func (b *bencher) runTLSLoad(ctx context.Context, name, about string, targets []*target, out, log io.Writer, judge func(r *boundRow, flare, nethttp float64), args ...string) ([]*boundRow, error) {
	wrk, err := exec.LookPath("wrk")
	if err != nil {
		fmt.Fprintf(log, "%s: skipped, no wrk (apt-get install wrk)\n", name)
		return nil, nil
	}
	pair, err := makeTLSPair(b.dir)
	if err != nil {
		return nil, err
	}
	targets = tlsTargets(targets)
	samples := make(map[*target][]tlsSample)
	for round := range b.options.rounds {
		for j := range targets {
			t := targets[(round+j)%len(targets)]
			s, err := b.measureTLS(ctx, t, wrk, pair, args...)
			if err != nil {
				return nil, fmt.Errorf("%s: %w", t.name, err)
			}
			samples[t] = append(samples[t], s)
		}
		fmt.Fprintf(log, "%s: round %d of %d\n", name, round+1, b.options.rounds)
	}
	fmt.Fprintf(out, "\n%s: %s, %d connections\n", name, about, b.options.conns)
	var rows []*boundRow
	each := make(map[string]float64)
	for _, t := range targets {
		var cpu, rate []float64
		for _, s := range samples[t] {
			cpu, rate = append(cpu, s.cpuEach), append(rate, s.perSecond)
		}
		each[t.name] = median(cpu)
		rows = append(rows, &boundRow{Workload: name, Target: t.name, Figures: map[string]float64{
			"cpu_us_each": median(cpu), "per_cpu_second": 1e6 / median(cpu), "per_second": median(rate),
		}})
	}
	table := [][]string{{"", "cpu µs each", "a CPU second", "a second", ""}}
	for _, r := range rows {
		verdict := ""
		if r.Target == nameFlare && each[nameNetHTTP] > 0 {
			judge(r, each[nameFlare], each[nameNetHTTP])
			verdict = r.verdict()
		}
		f := r.Figures
		table = append(table, []string{r.Target, fmt.Sprintf("%.2f", f["cpu_us_each"]), count(f["per_cpu_second"]), count(f["per_second"]), verdict})
	}
	writeAligned(out, table)
	return rows, nil
}

func (b *bencher) runTLS(ctx context.Context, targets []*target, out, log io.Writer) ([]*boundRow, error) {
	return b.runTLSLoad(ctx, "tls", "requests on kept connections with TLS 1.3", targets, out, log, func(r *boundRow, flare, nethttp float64) {
		if ratio := flare / nethttp; ratio > tlsRequestRatioMax {
			r.miss("%.2f of net/http's CPU time a request, at most %.2f", ratio, tlsRequestRatioMax)
		}
	})
}

func (b *bencher) runHandshakes(ctx context.Context, targets []*target, out, log io.Writer) ([]*boundRow, error) {
	return b.runTLSLoad(ctx, "handshakes", "a connection with a full TLS 1.3 handshake for each request", targets, out, log, func(r *boundRow, flare, nethttp float64) {
		if ratio := nethttp / flare; ratio < tlsHandshakeRatioMin {
			r.miss("%.2f of net/http's handshakes a second of CPU time, at least %.2f", ratio, float64(tlsHandshakeRatioMin))
		}
	}, "-H", "Connection: close")
}

// runTLSIdle compares what an idle connection takes of memory.
func (b *bencher) runTLSIdle(ctx context.Context, targets []*target, out, log io.Writer) ([]*boundRow, error) {
	pair, err := makeTLSPair(b.dir)
	if err != nil {
		return nil, err
	}
	targets = tlsTargets(targets)
	samples := make(map[*target][]float64)
	for round := range b.options.rounds {
		for j := range targets {
			t := targets[(round+j)%len(targets)]
			each, err := b.measureTLSIdle(ctx, t, pair)
			if err != nil {
				return nil, fmt.Errorf("%s: %w", t.name, err)
			}
			samples[t] = append(samples[t], each)
		}
		fmt.Fprintf(log, "idle-tls: round %d of %d\n", round+1, b.options.rounds)
	}
	fmt.Fprintf(out, "\nidle-tls: %d connections with TLS 1.3 after one request each\n", b.options.idleConns)
	table := [][]string{{"", "bytes each", ""}}
	var rows []*boundRow
	each := make(map[string]float64)
	for _, t := range targets {
		each[t.name] = median(samples[t])
		rows = append(rows, &boundRow{Workload: "idle-tls", Target: t.name, Figures: map[string]float64{"rss_bytes_each": each[t.name]}})
	}
	for _, r := range rows {
		verdict := ""
		if r.Target == nameFlare && each[nameNetHTTP] > 0 {
			if ratio := each[nameFlare] / each[nameNetHTTP]; ratio > tlsIdleRatioMax {
				r.miss("%.2f of net/http's bytes for an idle connection, at most %.2f", ratio, tlsIdleRatioMax)
			}
			verdict = r.verdict()
		}
		table = append(table, []string{r.Target, count(r.Figures["rss_bytes_each"]), verdict})
	}
	writeAligned(out, table)
	return rows, nil
}

// measureTLSIdle is one round of one target.
func (b *bencher) measureTLSIdle(ctx context.Context, t *target, pair *tlsPair) (bytesEach float64, err error) {
	p, addr, err := b.serve(ctx, t, "-cert", pair.cert, "-key", pair.key)
	if err != nil {
		return 0, err
	}
	defer p.stop()
	pid := p.cmd.Process.Pid
	empty, err := settledBytes(ctx, pid)
	if err != nil {
		return 0, err
	}
	list := make(idleConnections, b.options.idleConns)
	defer list.close()
	deadline := time.Now().Add(4 * idlePatience)
	err = each(len(list), func(i int) error {
		d := net.Dialer{Deadline: deadline, KeepAlive: -1}
		nc, err := d.Dial("tcp", addr)
		if err != nil {
			return err
		}
		list[i] = tls.Client(nc, &tls.Config{InsecureSkipVerify: true, MinVersion: tls.VersionTLS13}) // a certificate of our own
		list[i].SetDeadline(deadline)
		return askOn(list[i])
	})
	if err != nil {
		return 0, err
	}
	full, err := settledBytes(ctx, pid)
	if err != nil {
		return 0, err
	}
	if err := list.stillOpen(); err != nil {
		return 0, fmt.Errorf("an idle connection was lost: %w", err)
	}
	return float64(full-empty) / float64(len(list)), nil
}
