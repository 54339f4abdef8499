//go:build linux

package main

// This file is the workload slow: clients that send or read next to nothing, beside a load. They
// may cost the others neither throughput nor latency, and have to be gone within the times that the
// server was given.

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"sync"
	"syscall"
	"time"
	"unsafe"
)

const (
	slowClients  = 500
	slowLimit    = 6 * time.Second // of the server's timeouts
	slowBeat     = time.Second     // of a byte
	slowWarmup   = 0.3             // s of load before the window
	slowWindow   = 1.5             // s; it has to end before the first of the clients is ended
	slowRatioMin = 0.95            // of the requests a second without them
	slowP99Max   = 1.5             // times the p99 without them

	// slowRateGrace is how long a body may be under the least rate, silent ones too.
	slowRateGrace = 5 * time.Second
	slowSlack     = time.Second
	slowPatience  = slowLimit + slowRateGrace + 5*time.Second
)

// slowServerFlags are the limits that end the clients.
var slowServerFlags = []string{"-head-timeout", slowLimit.String(), "-body-timeout", slowLimit.String(), "-write-timeout", slowLimit.String()}

// A slowKind is a way to be slow.
type slowKind struct {
	name     string
	request  string
	trickles bool          // a byte a second, else silence
	reads    bool          // it is the answer that is not taken
	within   time.Duration // from the connection to its end, without slack
}

// A third each is slow with the head, the body and the answer; half of them trickle. A body under
// 64 KiB is awaited by the loop, a longer one by a handler.
var slowKinds = []slowKind{
	{"head, silent", "GET /plaintext HTTP/1.1\r\nHost: h\r\nX-Slow: ", false, false, slowLimit},
	{"short body, silent", "POST /upload HTTP/1.1\r\nHost: h\r\nContent-Length: 10000\r\n\r\n", false, false, slowRateGrace},
	{"reading nothing", "GET /bytes?n=67108864 HTTP/1.1\r\nHost: h\r\n\r\n", false, true, slowLimit},
	{"head, trickling", "GET /plaintext HTTP/1.1\r\nHost: h\r\nX-Slow: ", true, false, slowLimit},
	{"short body, trickling", "POST /upload HTTP/1.1\r\nHost: h\r\nContent-Length: 10000\r\n\r\n", true, false, slowRateGrace},
	{"reading a byte a second", "GET /bytes?n=67108864 HTTP/1.1\r\nHost: h\r\n\r\n", true, true, slowLimit},
	{"head, silent", "G", false, false, slowLimit},
	{"long body, silent", "POST /upload HTTP/1.1\r\nHost: h\r\nContent-Length: 1000000\r\n\r\n", false, false, slowRateGrace},
	{"reading nothing", "GET /bytes?n=67108864 HTTP/1.1\r\nHost: h\r\n\r\n", false, true, slowLimit},
	{"head, trickling", "G", true, false, slowLimit},
	{"chunked body, trickling", "POST /upload HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked\r\n\r\nffff\r\n", true, false, slowRateGrace},
	{"reading a byte a second", "GET /bytes?n=67108864 HTTP/1.1\r\nHost: h\r\n\r\n", true, true, slowLimit},
}

// A slowEnd is how a client ended.
type slowEnd struct {
	kind   *slowKind
	after  time.Duration
	status int // of the answer, 0: none
	err    error
}

// tcpClosed is TCP_CLOSE of the kernel's states (include/net/tcp_states.h).
const tcpClosed = 7

// tcpState is the kernel's state of a connection: it tells of a reset without a read.
func tcpState(fd uintptr) (state byte) {
	size := uint32(1) // tcpi_state comes first
	syscall.RawSyscall6(syscall.SYS_GETSOCKOPT, fd, syscall.IPPROTO_TCP, syscall.TCP_INFO,
		uintptr(unsafe.Pointer(&state)), uintptr(unsafe.Pointer(&size)), 0)
	return state
}

// run is slow until the server ends it.
func (k *slowKind) run(c *net.TCPConn) (end slowEnd) {
	began := time.Now()
	end.kind = k
	defer func() {
		end.after = time.Since(began)
		c.Close()
	}()
	c.SetDeadline(began.Add(slowPatience))
	if _, err := io.WriteString(c, k.request); err != nil {
		end.err = err
		return end
	}
	if k.reads {
		end.err = k.awaitReset(c, began.Add(slowPatience))
		return end
	}
	stop := make(chan struct{})
	var beats sync.WaitGroup
	if k.trickles {
		beats.Go(func() {
			beat := time.NewTicker(slowBeat)
			defer beat.Stop()
			for {
				select {
				case <-stop:
					return
				case <-beat.C:
					if _, err := c.Write([]byte("x")); err != nil {
						return
					}
				}
			}
		})
	}
	resp, err := http.ReadResponse(bufio.NewReaderSize(c, 1<<10), nil)
	if err == nil {
		end.status = resp.StatusCode
	}
	end.err = err
	close(stop)
	beats.Wait()
	return end
}

// awaitReset takes next to nothing of what arrives, until the connection has been reset. It sleeps
// in between: whoever looks all the time takes the generator's core away.
func (k *slowKind) awaitReset(c *net.TCPConn, until time.Time) error {
	raw, err := c.SyscallConn()
	if err != nil {
		return err
	}
	beat := until
	if k.trickles {
		beat = time.Now().Add(slowBeat)
	}
	for {
		c.SetReadDeadline(beat)
		err := raw.Read(func(fd uintptr) bool { return tcpState(fd) == tcpClosed })
		switch {
		case err == nil:
			return nil
		case !errors.Is(err, os.ErrDeadlineExceeded):
			return err
		case time.Now().After(until):
			return errors.New("still open")
		}
		raw.Control(func(fd uintptr) { syscall.Read(int(fd), make([]byte, 1)) })
		beat = beat.Add(slowBeat)
	}
}

// slowWindowBytes is the receive buffer of a slow client. With the usual ones the 500 would begin by
// taking a gigabyte between them, and that would be the disturbance that is measured.
const slowWindowBytes = 4 << 10

func smallWindow(_, _ string, raw syscall.RawConn) error {
	var failed error
	err := raw.Control(func(fd uintptr) {
		failed = syscall.SetsockoptInt(int(fd), syscall.SOL_SOCKET, syscall.SO_RCVBUF, slowWindowBytes)
	})
	return errors.Join(err, failed)
}

// startSlow connects n clients and lets them be slow; the ends come through the channel, which is
// closed after the last.
func startSlow(addr string, n int) (<-chan slowEnd, error) {
	conns := make([]*net.TCPConn, n)
	err := each(n, func(i int) error {
		d := net.Dialer{Timeout: askTimeout, Control: smallWindow}
		c, err := d.Dial("tcp", addr)
		if err != nil {
			return err
		}
		conns[i] = c.(*net.TCPConn)
		return nil
	})
	if err != nil {
		for _, c := range conns {
			if c != nil {
				c.Close()
			}
		}
		return nil, err
	}
	ends := make(chan slowEnd, n)
	var all sync.WaitGroup
	for i, c := range conns {
		all.Go(func() { ends <- slowKinds[i%len(slowKinds)].run(c) })
	}
	go func() {
		all.Wait()
		close(ends)
	}()
	return ends, nil
}

// judge says what is wrong with an end, "" if nothing.
func (e *slowEnd) judge() string {
	least, most := e.kind.within-slowSlack, e.kind.within+slowSlack
	switch {
	case e.err != nil:
		return fmt.Sprintf("%s: %v after %.0f s", e.kind.name, e.err, e.after.Seconds())
	case e.kind.reads && e.status != 0:
		return fmt.Sprintf("%s: answered %d", e.kind.name, e.status)
	case !e.kind.reads && e.status != 408:
		return fmt.Sprintf("%s: answered %d, 408 is due", e.kind.name, e.status)
	case e.after < least || e.after > most:
		return fmt.Sprintf("%s: ended outside of %.0f to %.0f s", e.kind.name, least.Seconds(), most.Seconds())
	}
	return ""
}

// openConnections asks the server how many connections it has, the one that asks included.
func openConnections(addr string) (int, error) {
	answers, err := ask(addr, "/stats", 1)
	if err != nil {
		return 0, err
	}
	var stats struct{ Connections struct{ Open int } }
	err = json.Unmarshal([]byte(answers[0].body), &stats)
	return stats.Connections.Open, err
}

// A slowSample is a pair of windows, without the slow clients and with them.
type slowSample struct {
	without, with sample
	last          time.Duration            // when the last client was gone
	latest        map[string]time.Duration // the same by kind
	wrong         map[string]int
}

func (b *bencher) slowLoad(ctx context.Context, addr string, pid int) (sample, error) {
	r, err := b.generator.run(ctx, addr, pid, slowWarmup, slowWindow, "--connections", fmt.Sprint(b.options.conns))
	if err != nil {
		return sample{}, err
	}
	if n := r.errorCount(); n > 0 || r.Answered == 0 {
		return sample{}, fmt.Errorf("%d errors, the first: %s", n, r.FirstError)
	}
	return makeSample(r), nil
}

const (
	quietLook  = 100 * time.Millisecond
	quietShare = 0.05            // of a core
	quietMost  = 3 * time.Second // then the window has to begin
)

// quietCPU returns when the process has little to do: clients that do not read are sent first
// what the kernel keeps for them, and that is work like any other.
func quietCPU(pid int) {
	last := processCPU(pid)
	for began := time.Now(); time.Since(began) < quietMost; {
		time.Sleep(quietLook)
		now := processCPU(pid)
		if float64(now-last) < quietShare*float64(quietLook) {
			return
		}
		last = now
	}
}

// measureSlow is one pair, both of fresh processes.
func (b *bencher) measureSlow(ctx context.Context, t *target) (s slowSample, err error) {
	p, addr, err := b.serve(ctx, t, slowServerFlags...)
	if err != nil {
		return s, err
	}
	s.without, err = b.slowLoad(ctx, addr, p.cmd.Process.Pid)
	p.stop()
	if err != nil {
		return s, err
	}
	if p, addr, err = b.serve(ctx, t, slowServerFlags...); err != nil {
		return s, err
	}
	defer p.stop()
	ends, err := startSlow(addr, slowClients)
	if err != nil {
		return s, err
	}
	quietCPU(p.cmd.Process.Pid)
	s.with, err = b.slowLoad(ctx, addr, p.cmd.Process.Pid)
	s.wrong, s.latest = make(map[string]int), make(map[string]time.Duration)
	for end := range ends {
		s.last = max(s.last, end.after)
		s.latest[end.kind.name] = max(s.latest[end.kind.name], end.after.Round(10*time.Millisecond))
		if text := end.judge(); text != "" {
			s.wrong[text]++
		}
	}
	if err != nil {
		return s, err
	}
	for began := time.Now(); ; time.Sleep(10 * time.Millisecond) {
		n, err := openConnections(addr)
		if err != nil || n <= 1 {
			return s, err
		}
		if time.Since(began) > slowPatience {
			s.wrong[fmt.Sprintf("the server still has %d connections", n-1)]++
			return s, nil
		}
	}
}

func (b *bencher) runSlow(ctx context.Context, targets []*target, out, log io.Writer) ([]*boundRow, error) {
	var rows []*boundRow
	table := [][]string{{"", "req/s without", "with", "ratio", "cpu µs without", "with", "p99 µs without", "with", "ratio", "last gone s", ""}}
	for _, t := range flareOnly(targets) {
		var samples []slowSample
		for round := range b.options.rounds {
			s, err := b.measureSlow(ctx, t)
			if err != nil {
				return nil, err
			}
			samples = append(samples, s)
			fmt.Fprintf(log, "slow: round %d of %d, ends at %.1f s at the latest: %v\n", round+1, b.options.rounds, s.last.Seconds(), s.latest)
		}
		r := slowRow(t.name, samples)
		f := r.Figures
		table = append(table, []string{t.name, count(f["per_second_without"]), count(f["per_second_with"]), ratio(f["per_second_ratio"]),
			micros(f["cpu_us_without"]), micros(f["cpu_us_with"]), latency(f["p99_us_without"]), latency(f["p99_us_with"]), ratio(f["p99_ratio"]), fmt.Sprintf("%.2f", f["last_gone_seconds"]), r.verdict()})
		rows = append(rows, r)
	}
	fmt.Fprintf(out, "\nslow: %d slow clients beside %d busy ones; head, body and answer a third each, half of them a byte a second; timeouts of %s\n",
		slowClients, b.options.conns, slowLimit)
	writeAligned(out, table)
	return rows, nil
}

// slowRow takes medians over the pairs, of the ratios too, and the last of all ends.
func slowRow(name string, samples []slowSample) *boundRow {
	pick := func(f func(*slowSample) float64) float64 {
		var values []float64
		for i := range samples {
			values = append(values, f(&samples[i]))
		}
		return median(values)
	}
	r := &boundRow{Workload: "slow", Target: name, Figures: map[string]float64{
		"per_second_without": pick(func(s *slowSample) float64 { return s.without.PerSecond }),
		"per_second_with":    pick(func(s *slowSample) float64 { return s.with.PerSecond }),
		"per_second_ratio":   pick(func(s *slowSample) float64 { return s.with.PerSecond / s.without.PerSecond }),
		"cpu_us_without":     pick(func(s *slowSample) float64 { return s.without.CPU }),
		"cpu_us_with":        pick(func(s *slowSample) float64 { return s.with.CPU }),
		"p99_us_without":     pick(func(s *slowSample) float64 { return s.without.P99 }),
		"p99_us_with":        pick(func(s *slowSample) float64 { return s.with.P99 }),
		"p99_ratio":          pick(func(s *slowSample) float64 { return s.with.P99 / s.without.P99 }),
	}}
	for _, s := range samples {
		r.Figures["last_gone_seconds"] = max(r.Figures["last_gone_seconds"], s.last.Seconds())
		for text, n := range s.wrong {
			r.miss("%d times: %s", n, text)
		}
	}
	if ratio := r.Figures["per_second_ratio"]; ratio < slowRatioMin {
		r.miss("%.3f of the requests a second without slow clients, at least %.2f", ratio, slowRatioMin)
	}
	if ratio := r.Figures["p99_ratio"]; ratio > slowP99Max {
		r.miss("%.2f times the p99 without slow clients, at most %.1f", ratio, slowP99Max)
	}
	return r
}
