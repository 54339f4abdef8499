//go:build linux

package main

// This file has connections of HTTP/2 on which many ask at once: the frames that come are given to
// whoever has asked, and requests can fall due at a fixed mean rate, whatever the server does.

import (
	"fmt"
	"math"
	"math/rand/v2"
	"runtime"
	"slices"
	"sync"
	"syscall"
	"time"

	"golang.org/x/net/http2"
)

// An h2asked is a stream that has not ended. end is called by the goroutine that reads.
type h2asked struct {
	body []byte // the first of it
	end  func(body []byte, reset bool)
}

const (
	h2askedKept = 64    // bytes of a body
	http2Window = 65535 // of a stream, as long as nobody says otherwise
)

// An h2mux is such a connection.
type h2mux struct {
	*h2conn
	asking sync.Mutex
	open   map[uint32]*h2asked
	over   chan struct{} // closed when nothing more comes
	err    error         // why, then
}

// dialMux begins a connection whose streams may be sent http2Window at first, and no more.
func dialMux(addr string, deadline time.Time) (*h2mux, error) {
	c, err := dialHTTP2(addr, deadline, http2Window)
	if err != nil {
		return nil, err
	}
	m := &h2mux{h2conn: c, open: make(map[uint32]*h2asked), over: make(chan struct{})}
	go func() {
		defer close(m.over)
		for m.err == nil {
			m.err = m.next()
		}
	}()
	return m, nil
}

// next reads a frame.
func (m *h2mux) next() error {
	f, err := m.read()
	if err != nil {
		return err
	}
	m.asking.Lock()
	a, ended, reset := m.open[f.Header().StreamID], false, false
	switch f := f.(type) {
	case *http2.HeadersFrame:
		ended = f.StreamEnded()
	case *http2.DataFrame:
		if ended = f.StreamEnded(); a != nil {
			a.body = append(a.body, f.Data()[:min(len(f.Data()), h2askedKept-len(a.body))]...)
		}
	case *http2.RSTStreamFrame:
		reset = true
	}
	if ended || reset {
		delete(m.open, f.Header().StreamID)
	}
	m.asking.Unlock()
	if a != nil && (ended || reset) {
		a.end(a.body, reset)
	}
	return nil
}

// start asks, and has end called with the first of the body.
func (m *h2mux) start(last bool, method, path string, end func(body []byte, reset bool)) (uint32, error) {
	m.asking.Lock()
	defer m.asking.Unlock()
	id, err := m.ask(last, [][2]string{{":method", method}, {":scheme", "http"}, {":path", path}, {":authority", "h"}}...)
	if err == nil {
		m.open[id] = &h2asked{end: end}
	}
	return id, err
}

// ---- at a rate ----

// A h2pace is a load in an open loop: a request takes its time from when it was due.
type h2pace struct {
	path    string
	rate    float64 // requests a second
	streams int     // at once; what is due beyond that waits
	seed    uint64
	window  time.Duration
}

// h2latencies are µs, ascending. late is how long after they were due the generator has sent
// requests for which there was room.
type h2latencies struct {
	times, late []float64
	wrong       int
}

func (l *h2latencies) quantile(q float64) float64 { return sortedQuantile(l.times, q) }

// sortedQuantile of ascending values; NaN for none.
func sortedQuantile(values []float64, q float64) float64 {
	if len(values) == 0 {
		return math.NaN()
	}
	return values[max(0, min(len(values)-1, int(math.Ceil(q*float64(len(values))))-1))]
}

const h2spin = 20 * time.Microsecond

// waitUntil sleeps in the kernel and polls at the end: a timer of Go's is later.
func waitUntil(t time.Time) {
	if d := time.Until(t) - h2spin; d > 0 {
		ts := syscall.NsecToTimespec(int64(d))
		syscall.Nanosleep(&ts, nil)
	}
	for time.Now().Before(t) {
	}
}

// prSetTimerSlack is PR_SET_TIMERSLACK (prctl(2)): of the thread's sleeps, in ns, 0: as usual.
const prSetTimerSlack = 29

// run makes the load, on a thread that it has for itself, and waits for the last answer.
func (p *h2pace) run(m *h2mux) (*h2latencies, error) {
	runtime.LockOSThread()
	defer runtime.UnlockOSThread() // its end would be that of the processes it has started (Pdeathsig)
	syscall.RawSyscall(syscall.SYS_PRCTL, prSetTimerSlack, 1, 0)
	defer syscall.RawSyscall(syscall.SYS_PRCTL, prSetTimerSlack, 0, 0)
	random := rand.New(rand.NewPCG(p.seed, 0))
	l, room := new(h2latencies), make(chan struct{}, p.streams)
	var mu sync.Mutex
	next, caught := time.Now(), time.Time{}
	for end := next.Add(p.window); next.Before(end); next = next.Add(time.Duration(random.ExpFloat64() / p.rate * 1e9)) {
		due := next
		waitUntil(due)
		waited := len(room) == cap(room)
		select {
		case room <- struct{}{}:
		case <-m.over:
			return nil, fmt.Errorf("the connection has ended: %w", m.err)
		}
		if waited {
			caught = time.Now() // what was due before that is late by no fault of the generator's
		} else if due.After(caught) {
			l.late = append(l.late, float64(time.Since(due))/1e3)
		}
		_, err := m.start(true, "GET", p.path, func(body []byte, reset bool) {
			took := float64(time.Since(due)) / 1e3
			mu.Lock()
			defer mu.Unlock()
			if l.times = append(l.times, took); reset || string(body) != wantBody {
				l.wrong++
			}
			<-room
		})
		if err != nil {
			return nil, err
		}
	}
	for range cap(room) {
		select {
		case room <- struct{}{}:
		case <-m.over:
			return nil, fmt.Errorf("the connection has ended: %w", m.err)
		}
	}
	slices.Sort(l.times)
	slices.Sort(l.late)
	return l, nil
}

// paced runs the load on a goroutine of its own.
func (p *h2pace) paced(m *h2mux) (l *h2latencies, err error) {
	done := make(chan struct{})
	go func() {
		defer close(done)
		l, err = p.run(m)
	}()
	<-done
	return l, err
}
