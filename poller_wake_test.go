//go:build linux || darwin

package flare

import (
	"errors"
	"runtime"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"
)

func testPollerTimeout(t *testing.T, p Poller) {
	a, _ := socketpairTest(t)
	mustTest(t, p.Add(a, Readable))
	var events [4]Event
	for _, d := range []time.Duration{0, 1, time.Microsecond, time.Millisecond, 1500 * time.Microsecond, 20 * time.Millisecond} {
		// A signal of the runtime may end a wait early, but not each time.
		for attempt := 1; ; attempt++ {
			start := time.Now()
			n, err := p.Wait(events[:], d)
			took := time.Since(start)
			if n != 0 || err != nil {
				t.Fatalf("%v: %v, %v", d, events[:n], err)
			}
			if took > d+patience/2 {
				t.Errorf("%v: returned after %v", d, took)
			}
			if took >= d {
				break
			}
			if attempt == 5 {
				t.Errorf("%v: returned after %v, five times", d, took)
				break
			}
		}
	}
	for _, d := range []time.Duration{-1, -1 << 63, 1<<63 - 1, pollerTimeoutMax + 1, 1 << 32 * time.Millisecond} {
		var woken atomic.Bool
		done := make(chan error)
		go func() {
			woken.Store(true)
			done <- p.Wake()
		}()
		for early := 0; !woken.Load(); early++ {
			if n, err := p.Wait(events[:], d); n != 0 || err != nil {
				t.Fatalf("%v: %v, %v", d, events[:n], err)
			}
			if early == 5 {
				t.Fatalf("%v: returns before it was woken", d)
			}
		}
		mustTest(t, <-done)
		drainTest(t, p)
	}
}

func testPollerWakeCoalesces(t *testing.T, p Poller) {
	for range 100 {
		mustTest(t, p.Wake())
	}
	var events [4]Event
	start := time.Now()
	if n, err := p.Wait(events[:], patience); n != 0 || err != nil {
		t.Fatal(events[:n], err)
	}
	if took := time.Since(start); took >= patience {
		t.Errorf("the wake did not end the wait: %v", took)
	}
	// No other of the hundred is left.
	const quiet = 30 * time.Millisecond
	for attempt := 1; ; attempt++ {
		start = time.Now()
		if n, err := p.Wait(events[:], quiet); n != 0 || err != nil {
			t.Fatal(events[:n], err)
		}
		if time.Since(start) >= quiet {
			break
		}
		if attempt == 5 {
			t.Fatal("a hundred wakes ended more than one wait")
		}
	}
}

// Each waker counts and wakes; the owner waits for ever. A wake that is lost, or
// whose count is not seen, hangs the test.
func testPollerWakeMany(t *testing.T, p Poller) {
	const wakers, rounds = 16, 500
	var counted atomic.Int64
	var wg sync.WaitGroup
	for range wakers {
		wg.Go(func() {
			for range rounds {
				counted.Add(1)
				if err := p.Wake(); err != nil {
					t.Error(err)
				}
			}
		})
	}
	var events [4]Event
	for counted.Load() < wakers*rounds {
		if n, err := p.Wait(events[:], -1); n != 0 || err != nil {
			t.Fatal(events[:n], err)
		}
	}
	wg.Wait()

	// One wake for one wait, in turn: what was written before is read after.
	drainTest(t, p)
	turn := 0 // not atomic: Wake and Wait order it
	back := make(chan struct{})
	go func() {
		for range rounds {
			turn++
			if err := p.Wake(); err != nil {
				t.Error(err)
			}
			<-back
		}
	}()
	for want := 1; want <= rounds; want++ {
		for deadline := time.Now().Add(patience); ; {
			n, err := p.Wait(events[:], time.Until(deadline))
			if n != 0 || err != nil {
				t.Fatal(events[:n], err)
			}
			if !wakePending(p) {
				break
			}
			if time.Now().After(deadline) {
				t.Fatalf("wake %d was lost", want)
			}
		}
		if turn != want {
			t.Fatalf("turn %d, want %d", turn, want)
		}
		back <- struct{}{}
	}
}

// wakePending says whether a wake is under way that Wait has not returned for.
func wakePending(p Poller) bool {
	b := pollBellTest(p)
	if sp, ok := p.(*systemPoller); ok {
		b = &sp.bell
	}
	return b != nil && b.rung.Load()
}

func testPollerWakeAndEvents(t *testing.T, p Poller) {
	a, b := socketpairTest(t)
	mustTest(t, p.Add(a, Readable))
	mustTest(t, p.Wake())
	sendTest(t, b, "x")
	expectTest(t, p, a, Readable)
}

// Wake races Close. The numbers that Close frees become sockets at once; a late
// ring would be bytes in one of them.
func testPollerWakeClose(t *testing.T, p Poller) {
	for range 100 {
		q := newLikeTest(t, p)
		var wg sync.WaitGroup
		for range 4 {
			wg.Go(func() {
				for {
					if err := q.Wake(); err != nil {
						if !errors.Is(err, ErrPollerClosed) {
							t.Error(err)
						}
						return
					}
					runtime.Gosched()
				}
			})
		}
		var events [4]Event
		if _, err := q.Wait(events[:], -1); err != nil {
			t.Fatal(err)
		}
		mustTest(t, q.Close())
		var fds []int
		for range 2 {
			a, b := socketpairTest(t)
			fds = append(fds, a, b)
		}
		wg.Wait()
		for _, fd := range fds {
			if n, errno := recvConn(fd, make([]byte, 16)); errno != syscall.EAGAIN {
				t.Errorf("a late wake wrote to a reused descriptor: %d, %v", n, errno)
			}
		}
		for _, fd := range fds {
			closeTest(t, fd)
		}
	}
}

// Rings count as one until the bell was seen, and none strikes after, or while,
// the bell is closed.
func TestPollerBell(t *testing.T) {
	var b pollerBell
	var strikes, releases int
	strike := func() error { strikes++; return nil }
	release := func() error { releases++; return nil }
	for range 3 {
		mustTest(t, b.ring(strike))
	}
	if strikes != 1 {
		t.Errorf("three rings struck %d times", strikes)
	}
	b.seen()
	mustTest(t, b.ring(strike))
	if strikes != 2 {
		t.Errorf("the ring after that did not strike: %d", strikes)
	}
	b.seen()
	if err := b.ring(func() error { return syscall.EIO }); !errors.Is(err, syscall.EIO) {
		t.Errorf("a strike that fails: %v", err)
	}
	mustTest(t, b.ring(strike))
	if strikes != 3 {
		t.Errorf("the ring after one that failed did not strike: %d", strikes)
	}

	// A ring that a close overtakes, between its two looks at closed.
	b.seen()
	b.mu.Lock()
	late := make(chan error)
	go func() { late <- b.ring(func() error { t.Error("struck when closed"); return nil }) }()
	for !b.rung.Load() {
		runtime.Gosched()
	}
	b.closed.Store(true)
	b.mu.Unlock()
	if err := <-late; !errors.Is(err, ErrPollerClosed) {
		t.Errorf("a ring that a close overtook: %v", err)
	}

	// A close while a ring strikes, and one while another close releases.
	b = pollerBell{}
	mustTest(t, b.ring(func() error {
		if b.mu.TryLock() {
			t.Error("a close could release while a ring strikes")
			b.mu.Unlock()
		}
		return nil
	}))
	mustTest(t, b.close(func() error {
		if b.mu.TryLock() {
			t.Error("a ring could strike while a close releases")
			b.mu.Unlock()
		}
		return release()
	}))
	for name, err := range map[string]error{"ring": b.ring(strike), "close": b.close(release)} {
		if !errors.Is(err, ErrPollerClosed) {
			t.Errorf("%s when closed: %v", name, err)
		}
	}
	if releases != 1 || strikes != 3 {
		t.Errorf("%d releases and %d strikes, want 1 and 3", releases, strikes)
	}
}
