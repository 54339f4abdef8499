//go:build linux || darwin

package flare

import (
	"syscall"
	"testing"
	"time"
)

// With less room than there are events, all come within a bounded number of
// waits.
func testPollerSmallBatch(t *testing.T, p Poller) {
	const pairs = 20
	want := map[int]bool{}
	for range pairs {
		a, b := socketpairTest(t)
		mustTest(t, p.Add(a, Readable))
		sendTest(t, b, "x")
		want[a] = true
	}
	mustTest(t, p.Wake())
	var events [3]Event
	for range pairs / len(events) { // what a poller repeats must not hold the others up
		n, err := p.Wait(events[:], 0)
		mustTest(t, err)
		for _, ev := range events[:n] {
			if !want[ev.FD] {
				t.Errorf("reported twice before all were reported, or never added: %+v", ev)
			}
			delete(want, ev.FD)
		}
	}
	for fd := range want {
		mustTest(t, p.Modify(fd, Readable))
	}
	for range 3 * pairs {
		n, err := p.Wait(events[:], 0)
		mustTest(t, err)
		for _, ev := range events[:n] {
			delete(want, ev.FD)
			recvTest(t, ev.FD, 1)
		}
	}
	if len(want) != 0 {
		t.Errorf("%d of %d were not reported", len(want), pairs)
	}
}

func testPollerMany(t *testing.T, p Poller) {
	const descriptors = 10_000
	raiseLimitTest(t, descriptors+100)
	want := map[int]bool{}
	for range descriptors / 2 {
		a, b := socketpairTest(t)
		for _, fd := range [2]int{a, b} {
			mustTest(t, p.Add(fd, Readable))
			want[fd] = true
		}
		sendTest(t, a, "x")
		sendTest(t, b, "x")
	}
	events := make([]Event, 512)
	for deadline := time.Now().Add(patience); len(want) > 0 && time.Now().Before(deadline); {
		n, err := p.Wait(events, 0)
		mustTest(t, err)
		for _, ev := range events[:n] {
			if !want[ev.FD] || ev.Ready != Readable {
				t.Fatalf("reported twice, or wrongly: %+v", ev)
			}
			delete(want, ev.FD)
			recvTest(t, ev.FD, 1)
		}
	}
	if len(want) != 0 {
		t.Errorf("%d of %d were not reported", len(want), descriptors)
	}
}

// raiseLimitTest makes room for n descriptors, or skips.
func raiseLimitTest(t *testing.T, n uint64) {
	t.Helper()
	var old syscall.Rlimit
	mustTest(t, syscall.Getrlimit(syscall.RLIMIT_NOFILE, &old))
	if old.Cur >= n {
		return
	}
	if err := syscall.Setrlimit(syscall.RLIMIT_NOFILE, &syscall.Rlimit{Cur: n, Max: max(n, old.Max)}); err != nil {
		t.Skipf("%d open files are allowed, %d are needed: %v", old.Cur, n, err)
	}
	t.Cleanup(func() { syscall.Setrlimit(syscall.RLIMIT_NOFILE, &old) })
}

func testPollerAllocs(t *testing.T, p Poller) {
	a, b := socketpairTest(t)
	var events [16]Event
	one := []byte("x")
	mustTest(t, p.Add(a, Readable))
	for name, call := range map[string]func() error{
		"a look": func() error { _, err := p.Wait(events[:], 0); return err },
		"a wake": func() error {
			if err := p.Wake(); err != nil {
				return err
			}
			_, err := p.Wait(events[:], -1)
			return err
		},
		"an event": func() error {
			if n, errno := sendConn(b, one); n != 1 {
				return errno
			}
			_, err := p.Wait(events[:], time.Second)
			recvConn(a, one)
			return err
		},
		"modify": func() error { return p.Modify(a, Readable|Writable) },
		"remove and add": func() error {
			if err := p.Remove(a); err != nil {
				return err
			}
			return p.Add(a, Readable)
		},
	} {
		if n := testing.AllocsPerRun(100, func() {
			if err := call(); err != nil {
				t.Fatal(err)
			}
		}); n != 0 {
			t.Errorf("%s: %v allocations", name, n)
		}
	}
}

func BenchmarkPollerLook(b *testing.B) {
	p, err := NewPoller()
	if err != nil {
		b.Fatal(err)
	}
	defer p.Close()
	var events [256]Event
	for b.Loop() {
		p.Wait(events[:], 0)
	}
}

// One byte there and seen: send, look, receive.
func BenchmarkPollerEvent(b *testing.B) {
	p, err := NewPoller()
	if err != nil {
		b.Fatal(err)
	}
	defer p.Close()
	from, to := socketpairTest(b)
	if err := p.Add(to, Readable|Writable); err != nil {
		b.Fatal(err)
	}
	var events [256]Event
	p.Wait(events[:], 0)
	buf := make([]byte, 1)
	for b.Loop() {
		sendConn(from, buf)
		if n, err := p.Wait(events[:], 0); n != 1 {
			b.Fatal(n, err)
		}
		recvConn(to, buf)
	}
}

func BenchmarkPollerWake(b *testing.B) {
	p, err := NewPoller()
	if err != nil {
		b.Fatal(err)
	}
	defer p.Close()
	var events [256]Event
	for b.Loop() {
		p.Wake()
		p.Wait(events[:], 0)
	}
}
