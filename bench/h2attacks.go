//go:build linux

package main

// This file is the workload h2-attacks: what each attack of h2attack.go costs the server in CPU time
// and memory, how the connection ends, and how a client beside it is answered. The same generator
// sends good requests in the same way, and the attacks may cost no more than those.

import (
	"bufio"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net"
	"runtime"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"golang.org/x/net/http2"
)

const (
	h2AttackConns   = 4 // at a time
	h2AttackWarmup  = 300 * time.Millisecond
	h2AttackWindow  = 1500 * time.Millisecond
	h2AttackBatch   = 16 << 10 // octets in one write
	h2AttackRate    = 500      // requests a second of the client beside
	h2AttackThreads = 8        // of the generator: the client beside waits for none of the others
	h2AttackLinger  = 30 * time.Second

	h2AttackCPUMax    = 1.05     // of the good requests' share of the core
	h2AttackEndMax    = 1000     // ms from the first octet to the end of the connection
	h2AttackMemoryMax = 16 << 20 // octets of VmHWM for all connections, beyond that of good requests

	// h2AttackHeldMax is for each response that waits: 64 KiB of it, and a goroutine. The collector
	// lets twice as much stand.
	h2AttackHeldMax = 2 * (64 + 32) << 10
)

// A h2tally is what came of an attack, over all connections.
type h2tally struct {
	octets, units, answers, conns atomic.Int64

	mu    sync.Mutex
	codes map[http2.ErrCode]int
	ends  []float64 // ms until the connection was ended
}

// An h2attacker is one connection.
type h2attacker struct {
	*h2attack
	h2sender
	c      net.Conn
	tally  *h2tally
	began  time.Time
	ended  atomic.Int64  // streams
	told   atomic.Bool   // by GOAWAY
	came   chan struct{} // a stream has ended
	closed chan struct{} // nothing more comes
}

// listen counts what ends streams, and notes GOAWAY.
func (a *h2attacker) listen() {
	defer close(a.closed)
	r := bufio.NewReaderSize(a.c, 64<<10)
	var head [9]byte
	for {
		if _, err := io.ReadFull(r, head[:]); err != nil {
			return
		}
		n := int(head[0])<<16 | int(head[1])<<8 | int(head[2])
		kind, flags := http2.FrameType(head[3]), http2.Flags(head[4])
		if kind == http2.FrameGoAway {
			a.goAway(r, n)
		} else if _, err := r.Discard(n); err != nil {
			return
		}
		if (kind == http2.FrameData || kind == http2.FrameHeaders) && flags.Has(http2.FlagDataEndStream) {
			a.ended.Add(1)
			select {
			case a.came <- struct{}{}:
			default:
			}
		}
	}
}

func (a *h2attacker) goAway(r io.Reader, n int) {
	payload := make([]byte, n)
	if _, err := io.ReadFull(r, payload); err != nil || n < 8 {
		return
	}
	a.tally.mu.Lock()
	defer a.tally.mu.Unlock()
	a.told.Store(true)
	a.tally.codes[http2.ErrCode(binary.BigEndian.Uint32(payload[4:]))]++
	a.tally.ends = append(a.tally.ends, float64(time.Since(a.began))/1e6)
}

// run attacks on one connection until the time is over, or the server has cut it.
func (a *h2attacker) run(until time.Time) (cut bool, err error) {
	a.c.SetDeadline(until.Add(h2AttackLinger))
	a.b = append(a.b, http2.ClientPreface...)
	var settings []byte
	for _, s := range a.with {
		settings = binary.BigEndian.AppendUint16(settings, uint16(s.ID))
		settings = binary.BigEndian.AppendUint32(settings, s.Val)
	}
	a.frame(http2.FrameSettings, 0, 0, string(settings))
	a.frame(http2.FrameSettings, http2.FlagSettingsAck, 0, "") // of those that are under way
	a.grow(0, 1<<30)
	a.began = time.Now()
	if !a.mute {
		go a.listen()
	}
	if a.begin != nil {
		a.begin(&a.h2sender)
	}
	if a.each == nil {
		a.c.Write(a.b)
		time.Sleep(time.Until(until))
		return false, nil
	}
	for asked := int64(0); time.Now().Before(until) && (a.deaf || !a.told.Load()); {
		a.fill()
		if _, err := a.c.Write(a.b); err != nil {
			return true, nil
		}
		a.tally.octets.Add(int64(len(a.b)))
		a.b = a.b[:0]
		for asked += int64(a.asks); a.asks > 0 && a.ended.Load() < asked-int64(a.ahead); {
			select {
			case <-a.came:
			case <-a.closed:
				return true, errors.New("a connection was ended that waits for its answers")
			}
		}
		a.tally.answers.Add(int64(a.asks))
	}
	return false, nil
}

// fill makes a batch; of requests that are waited for, those of one.
func (a *h2attacker) fill() {
	for {
		a.each(&a.h2sender)
		a.n++
		a.tally.units.Add(1)
		if a.asks > 0 || len(a.b) >= h2AttackBatch {
			return
		}
	}
}

// attack goes on until then, on several connections, and on new ones when they have ended.
func (k *h2attack) attack(addr string, until time.Time, tally *h2tally) error {
	return each(h2AttackConns, func(int) error {
		for time.Now().Before(until) {
			c, err := net.DialTimeout("tcp", addr, askTimeout)
			if err != nil {
				return err
			}
			tally.conns.Add(1)
			a := &h2attacker{h2attack: k, h2sender: h2sender{next: 1}, c: c, tally: tally,
				came: make(chan struct{}, 1), closed: make(chan struct{})}
			cut, err := a.run(until)
			if cut && !k.mute {
				<-a.closed // what the server had to say of it
			}
			if c.Close(); err != nil {
				return err
			}
		}
		return nil
	})
}

// measureHTTP2Attack is one window against a fresh process.
func (b *bencher) measureHTTP2Attack(ctx context.Context, t *target, k *h2attack, seed uint64) (map[string]float64, string, error) {
	p, addr, err := b.serveHTTP2(ctx, t, nil)
	if err != nil {
		return nil, "", err
	}
	defer p.stop()
	pid := p.cmd.Process.Pid
	m, err := dialMux(addr, time.Now().Add(time.Minute))
	if err != nil {
		return nil, "", err
	}
	defer m.Close()
	load := &h2pace{path: "/plaintext", rate: h2AttackRate, streams: h2StallStreams, seed: seed, window: h2AttackWarmup}
	if _, err := load.paced(m); err != nil {
		return nil, "", err
	}
	before, err := statusBytes(pid, "VmHWM")
	if err != nil {
		return nil, "", err
	}
	tally := &h2tally{codes: make(map[http2.ErrCode]int)}
	ended := make(chan error, 1)
	began, cpu := time.Now(), processCPU(pid)
	go func() { ended <- k.attack(addr, began.Add(h2AttackWindow), tally) }()
	load.window = h2AttackWindow
	l, err := load.paced(m)
	used, took := processCPU(pid)-cpu, time.Since(began)
	if err := errors.Join(err, <-ended); err != nil {
		return nil, "", err
	}
	after, err := statusBytes(pid, "VmHWM")
	f := map[string]float64{
		"cpu_share": used.Seconds() / took.Seconds(), "peak_bytes_growth": float64(after - before),
		"units": float64(tally.units.Load()), "octets": float64(tally.octets.Load()), "connections": float64(tally.conns.Load()),
		"answers": float64(tally.answers.Load()), "beside": float64(len(l.times)), "beside_wrong": float64(l.wrong),
		"beside_p99_us": l.quantile(0.99), "beside_max_us": l.quantile(1), "foreign_codes": float64(tally.foreign(k)),
	}
	slices.Sort(tally.ends)
	if f["ends"] = float64(len(tally.ends)); len(tally.ends) > 0 {
		f["end_ms"] = sortedQuantile(tally.ends, 0.5)
	}
	return f, tally.text(), err
}

// foreign counts the connections that ended with a code they should not have.
func (t *h2tally) foreign(k *h2attack) (n int) {
	for code, times := range t.codes {
		if !slices.Contains(k.codes, code) {
			n += times
		}
	}
	return n
}

// text is the codes, by name.
func (t *h2tally) text() string {
	var names []string
	for code := range t.codes {
		names = append(names, code.String())
	}
	slices.SortFunc(names, strings.Compare)
	return strings.Join(names, ", ")
}

// judgeAttack holds a row to its bounds; good is that of good requests.
func (r *boundRow) judgeAttack(k *h2attack, good map[string]float64) {
	f := r.Figures
	if f["beside_wrong"] > 0 || f["beside"] == 0 {
		r.miss("%.0f answers beside, %.0f of them not right", f["beside"], f["beside_wrong"])
	}
	if ratio := f["cpu_share"] / good["cpu_share"]; ratio > h2AttackCPUMax {
		r.miss("%.2f times the CPU time of good requests, at most %.2f", ratio, h2AttackCPUMax)
	}
	most := float64(h2AttackMemoryMax + k.held*h2AttackConns*h2AttackHeldMax)
	if growth := f["peak_bytes_growth"] - good["peak_bytes_growth"]; growth > most {
		r.miss("%.0f KiB more memory than good requests, at most %.0f", growth/1024, most/1024)
	}
	if f["foreign_codes"] > 0 {
		r.miss("%.0f connections ended with another code than %v", f["foreign_codes"], k.codes)
	}
	if !k.stays && !k.mute && (f["ends"] == 0 || f["end_ms"] > h2AttackEndMax) {
		r.miss("%.0f connections were ended, after %.0f ms, at most %d", f["ends"], f["end_ms"], h2AttackEndMax)
	}
}

func (b *bencher) runHTTP2Attacks(ctx context.Context, targets []*target, out, log io.Writer) ([]*boundRow, error) {
	defer runtime.GOMAXPROCS(runtime.GOMAXPROCS(h2AttackThreads))
	kinds := append([]h2attack{h2good}, h2attacks...)
	codes := make([]string, len(kinds))
	var rows []*boundRow
	for _, t := range http2Targets(targets, nameFlare) {
		samples := make([]map[string][]float64, len(kinds))
		for round := range b.options.rounds {
			for i := range kinds {
				f, text, err := b.measureHTTP2Attack(ctx, t, &kinds[i], uint64(round))
				if err != nil {
					return nil, fmt.Errorf("%s: %w", kinds[i].name, err)
				}
				if codes[i] = text; samples[i] == nil {
					samples[i] = make(map[string][]float64)
				}
				for name, v := range f {
					samples[i][name] = append(samples[i][name], v)
				}
			}
			fmt.Fprintf(log, "h2-attacks: round %d of %d\n", round+1, b.options.rounds)
		}
		for i := range kinds {
			rows = append(rows, h2attackRow(t, &kinds[i], samples[i]))
			rows[i].judgeAttack(&kinds[i], rows[0].Figures)
		}
	}
	printHTTP2Attacks(out, rows, codes)
	return rows, nil
}

// h2attackRow takes medians, and of what must not be the largest.
func h2attackRow(t *target, k *h2attack, samples map[string][]float64) *boundRow {
	r := &boundRow{Workload: "h2-attacks", Target: t.name, Kind: k.name, Figures: make(map[string]float64)}
	for name, values := range samples {
		r.Figures[name] = median(values)
	}
	for _, name := range []string{"beside_wrong", "foreign_codes", "beside_max_us", "peak_bytes_growth"} {
		r.Figures[name] = slices.Max(samples[name])
	}
	return r
}

func printHTTP2Attacks(out io.Writer, rows []*boundRow, codes []string) {
	fmt.Fprintf(out, "\nh2-attacks: flare, %d connections without a pause for %.1f s each, beside a client with %d requests a second\n",
		h2AttackConns, h2AttackWindow.Seconds(), h2AttackRate)
	table := [][]string{{"", "cpu %", "of good", "ns/octet", "KiB more", "MB sent", "conns", "ended ms", "code", "beside p99 µs", "max", "wrong", ""}}
	for i, r := range rows {
		f := r.Figures
		each := "–"
		if f["octets"] > 0 {
			each = fmt.Sprintf("%.1f", f["cpu_share"]*h2AttackWindow.Seconds()*1e9/f["octets"])
		}
		table = append(table, []string{r.Kind, fmt.Sprintf("%.0f", 100*f["cpu_share"]), ratio(f["cpu_share"] / rows[0].Figures["cpu_share"]), each,
			kib(f["peak_bytes_growth"]), fmt.Sprintf("%.1f", f["octets"]/1e6), count(f["connections"]), fmt.Sprintf("%.1f", f["end_ms"]), codes[i],
			latency(f["beside_p99_us"]), latency(f["beside_max_us"]), count(f["beside_wrong"]), r.verdict()})
	}
	writeAligned(out, table)
}
