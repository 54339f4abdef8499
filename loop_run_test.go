package flare

import (
	"context"
	"errors"
	"math"
	"net"
	"net/netip"
	"sync"
	"sync/atomic"
	"testing"
	"time"
)

// newRunningLoop returns a loop that runs until the test ends.
func newRunningLoop(t testing.TB) *Loop {
	t.Helper()
	l := userLoop(t)
	runLoop(t, l)
	return l
}

// runLoop runs l until the test ends, which fails if it does not end in order.
func runLoop(t testing.TB, l *Loop) {
	t.Helper()
	ended, runs := make(chan error, 1), make(chan bool)
	if err := l.Post(func() { close(runs) }); err != nil {
		t.Fatal(err)
	}
	go func() { ended <- l.Run(context.Background()) }()
	<-runs // after a Close that comes first there is nothing to run
	t.Cleanup(func() {
		if err := l.Close(); err != nil && !errors.Is(err, ErrClosed) {
			t.Errorf("Close: %v", err)
		}
		if err := loopEnd(t, ended); err != nil {
			t.Errorf("Run: %v", err)
		}
	})
}

// loopEnd is what Run returned.
func loopEnd(t testing.TB, ended <-chan error) error {
	t.Helper()
	select {
	case err := <-ended:
		return err
	case <-time.After(patience):
		t.Fatal("Run does not return")
		return nil
	}
}

// loopSignal waits for c.
func loopSignal(t testing.TB, what string, c <-chan struct{}) {
	t.Helper()
	select {
	case <-c:
	case <-time.After(patience):
		t.Fatalf("%s: not in %v", what, patience)
	}
}

func TestLoopPost(t *testing.T) {
	l := newRunningLoop(t)
	const each, posters = 500, 8
	var mu sync.Mutex
	next := make([]int, posters)
	var all sync.WaitGroup
	for p := range posters {
		all.Add(each)
		go func() {
			for i := range each {
				if err := l.Post(func() {
					mu.Lock()
					defer mu.Unlock()
					if next[p] != i {
						t.Errorf("poster %d: function %d is called, want %d", p, i, next[p])
					}
					next[p]++
					all.Done()
				}); err != nil {
					t.Error(err)
				}
			}
		}()
	}
	done := make(chan struct{})
	go func() { all.Wait(); close(done) }()
	loopSignal(t, "all functions", done)
}

// What was taken before the end is called, whatever the loop was doing.
func TestLoopPostLosesNothing(t *testing.T) {
	for range 20 {
		l := userLoop(t)
		var taken, called atomic.Int32
		stop := make(chan struct{})
		var posters sync.WaitGroup
		for range 4 {
			posters.Go(func() {
				for range 5000 { // not for ever: they may be quicker than the loop
					if err := l.Post(func() { called.Add(1) }); err != nil {
						if !errors.Is(err, ErrClosed) {
							t.Errorf("Post: %v", err)
						}
						return
					}
					if taken.Add(1) == 1000 {
						close(stop)
					}
				}
			})
		}
		ended := make(chan error, 1)
		go func() { ended <- l.Run(t.Context()) }()
		loopSignal(t, "posting", stop)
		if err := l.Close(); err != nil {
			t.Errorf("Close: %v", err)
		}
		if err := loopEnd(t, ended); err != nil && !errors.Is(err, ErrClosed) { // Close may be the first to come
			t.Errorf("Run: %v", err)
		}
		posters.Wait()
		// One that the loop was taken from may be on its way yet.
		eventually(t, "the call of what was taken", func() bool { return taken.Load() == called.Load() })
	}
}

// userLoop returns a loop as a user makes one.
func userLoop(t testing.TB) *Loop {
	t.Helper()
	l, err := NewLoop(nil)
	if errors.Is(err, errors.ErrUnsupported) {
		t.Skip("this system has no poller")
	}
	if err != nil {
		t.Fatal(err)
	}
	return l
}

func TestLoopLife(t *testing.T) {
	t.Run("a context ends it", func(t *testing.T) {
		l := userLoop(t)
		cause := errors.New("enough")
		ctx, cancel := context.WithCancelCause(t.Context())
		if err := l.Post(func() { cancel(cause) }); err != nil {
			t.Fatal(err)
		}
		if err := l.Run(ctx); err != cause {
			t.Errorf("Run: %v, want the context's cause", err)
		}
		if err := l.Close(); !errors.Is(err, ErrClosed) {
			t.Errorf("Close after the end: %v", err)
		}
		if err := l.Run(t.Context()); !errors.Is(err, ErrClosed) {
			t.Errorf("Run after the end: %v", err)
		}
	})
	t.Run("a callback closes it", func(t *testing.T) {
		l := userLoop(t)
		l.After(0, func() {
			if err := l.Run(t.Context()); err == nil || errors.Is(err, ErrClosed) {
				t.Errorf("Run while it runs: %v", err)
			}
			l.Close()
			if err := l.Close(); !errors.Is(err, ErrClosed) {
				t.Errorf("Close twice: %v", err)
			}
		})
		if err := l.Run(t.Context()); err != nil {
			t.Errorf("Run: %v", err)
		}
	})
	t.Run("closed without a run", func(t *testing.T) {
		l := userLoop(t)
		called := false
		l.Post(func() { called = true })
		timer := l.After(0, func() { t.Error("a timer of a loop that never ran") })
		if err := l.Close(); err != nil || !called {
			t.Errorf("Close: %v; the posted function was called: %v", err, called)
		}
		if err := l.Post(func() {}); !errors.Is(err, ErrClosed) {
			t.Errorf("Post after the end: %v", err)
		}
		if err := l.Run(t.Context()); !errors.Is(err, ErrClosed) {
			t.Errorf("Run after Close: %v", err)
		}
		timer.Stop()
	})
	t.Run("its poller fails", func(t *testing.T) {
		p, err := NewPoller()
		if errors.Is(err, errors.ErrUnsupported) {
			t.Skip("this system has no poller")
		}
		l, _ := NewLoop(p)
		p.Close()
		if err := l.Run(t.Context()); !errors.Is(err, ErrPollerClosed) {
			t.Errorf("Run: %v", err)
		}
	})
	t.Run("a server's", func(t *testing.T) {
		s := &Server{Loops: 1}
		if err := s.start(); err != nil {
			t.Fatal(err)
		}
		defer s.Close()
		if err := s.loops[0].Run(t.Context()); err != errLoopOwned {
			t.Errorf("Run: %v", err)
		}
		if err := s.loops[0].Close(); err != errLoopOwned {
			t.Errorf("Close: %v", err)
		}
	})
}

func TestLoopTimers(t *testing.T) {
	t.Parallel()
	l := newRunningLoop(t)
	t.Run("never early", func(t *testing.T) {
		for _, d := range []time.Duration{-time.Second, 0, time.Millisecond, 12 * time.Millisecond, 40 * time.Millisecond} {
			start, fired := time.Now(), make(chan struct{})
			l.After(d, func() {
				if took := time.Since(start); took < d {
					t.Errorf("a timer of %v came after %v", d, took)
				}
				close(fired)
			})
			loopSignal(t, "the timer", fired)
		}
		never := l.After(math.MaxInt64, func() { t.Error("the longest timer is over") })
		passed := make(chan struct{})
		l.After(tick, func() { close(passed) })
		if loopSignal(t, "a timer of a tick", passed); !never.Stop() {
			t.Error("the longest timer has ended")
		}
	})
	t.Run("stopped", func(t *testing.T) {
		timer := l.After(200*time.Millisecond, func() { t.Error("a stopped timer was called") })
		if !timer.Stop() {
			t.Error("Stop of a waiting timer reports false")
		}
		if timer.Stop() {
			t.Error("the second Stop reports true")
		}
		later := make(chan struct{})
		after := l.After(240*time.Millisecond, func() { close(later) })
		loopSignal(t, "a later timer", later)
		if after.Stop() {
			t.Error("Stop after the call reports true")
		}
	})
	t.Run("stopped or called, never both", func(t *testing.T) {
		for range 200 {
			var called atomic.Bool
			done := make(chan struct{})
			timer := l.After(0, func() { called.Store(true); close(done) })
			stopped := timer.Stop()
			if !stopped {
				loopSignal(t, "the timer", done)
			}
			if stopped && called.Load() {
				t.Fatal("stopped and called")
			}
		}
	})
	t.Run("in order", func(t *testing.T) {
		var mu sync.Mutex
		var order []int
		done := make(chan struct{})
		for _, i := range []int{3, 1, 2} {
			l.After(time.Duration(i)*150*time.Millisecond, func() {
				mu.Lock()
				defer mu.Unlock()
				if order = append(order, i); len(order) == 3 {
					close(done)
				}
			})
		}
		loopSignal(t, "three timers", done)
		mu.Lock()
		defer mu.Unlock()
		if order[0] != 1 || order[1] != 2 || order[2] != 3 {
			t.Errorf("order %v", order)
		}
	})
}

// A loop that always has something posted to it still looks at the clock.
func TestLoopTimersBesidePosts(t *testing.T) {
	l := newRunningLoop(t)
	const enough = 1_000_000 // a round takes about a microsecond
	fired := make(chan struct{})
	l.After(20*time.Millisecond, func() { close(fired) })
	rounds := 0
	var again func()
	again = func() {
		select {
		case <-fired:
			return
		default:
		}
		if rounds++; rounds == enough {
			t.Error("no timer is called")
			return
		}
		l.Post(again)
	}
	l.Post(again)
	loopSignal(t, "a timer", fired)
}

// A callback that blocks loses the loop and goes on; what comes after it is
// called meanwhile. The one that blocks may even wait for its own loop.
func TestLoopBlockedCallback(t *testing.T) {
	l := newRunningLoop(t)
	for name, begin := range map[string]func(func()){
		"posted": func(fn func()) { l.Post(fn) },
		"timer":  func(fn func()) { l.After(0, fn) },
	} {
		t.Run(name, func(t *testing.T) {
			before := l.steals.Load()
			var done sync.WaitGroup
			done.Add(3)
			release := make(chan struct{})
			begin(func() {
				defer done.Done()
				l.Post(func() { defer done.Done(); close(release) })
				l.After(0, done.Done)
				<-release
			})
			ended := make(chan struct{})
			go func() { done.Wait(); close(ended) }()
			loopSignal(t, "callbacks that wait for each other", ended)
			if l.steals.Load() == before {
				t.Error("nothing was taken away")
			}
		})
	}
}

// The end of a loop does not wait for a callback that blocks.
func TestLoopEndBesideBlockedCallback(t *testing.T) {
	l := userLoop(t)
	release, ended := make(chan struct{}), make(chan error, 1)
	blocked, out := make(chan struct{}), make(chan struct{})
	l.Post(func() { close(blocked); <-release; close(out) })
	go func() { ended <- l.Run(t.Context()) }()
	loopSignal(t, "the callback", blocked)
	l.Close()
	select {
	case <-l.ended:
	case <-time.After(patience):
		t.Fatal("the loop does not end")
	}
	close(release)
	loopSignal(t, "the end of the callback", out)
	if err := loopEnd(t, ended); err != nil {
		t.Errorf("Run: %v", err)
	}
}

func BenchmarkLoopPost(b *testing.B) {
	l := newRunningLoop(b)
	var done sync.WaitGroup
	fn := done.Done
	b.ReportAllocs()
	for b.Loop() {
		done.Add(1)
		l.Post(fn)
	}
	done.Wait()
}

// What is begun while a loop ends, when it has closed all that it had, ends
// with it: nothing is left open, who dials is told, and Run returns nil.
func TestLoopBegunAtItsEnd(t *testing.T) {
	peer, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer peer.Close()
	open := openFDs(t)
	l := userLoop(t)
	fd, err := listenTCP(netip.MustParseAddrPort("127.0.0.1:0"), 0, false)
	if err != nil {
		t.Fatal(err)
	}
	var u *LoopUDPConn
	told := make(chan error, 1)
	late := &watch{fd: fd, ended: func() { // the last of the loop's own
		if _, err := l.ListenTCP(netip.MustParseAddrPort("127.0.0.1:0"), nil, nil); err != nil {
			t.Error(err)
		}
		if u, err = l.ListenUDP(netip.MustParseAddrPort("127.0.0.1:0"), nil, nil); err != nil {
			t.Error(err)
		}
		if err := l.DialTCP(netip.MustParseAddrPort(peer.Addr().String()), nil, func(c *Conn, err error) Protocol {
			if c != nil {
				t.Error("a connection on a loop that has ended")
			}
			told <- err
			return nil
		}); err != nil {
			t.Error(err)
		}
	}}
	l.call(func() {
		if err := l.watch(late, Readable); err != nil {
			t.Error(err)
		}
	})
	ended := make(chan error, 1)
	go func() { ended <- l.Run(context.Background()) }()
	if err := l.Post(func() { l.Close() }); err != nil {
		t.Fatal(err)
	}
	if err := loopEnd(t, ended); err != nil {
		t.Errorf("Run: %v", err)
	}
	select {
	case err := <-told:
		if !errors.Is(err, ErrClosed) {
			t.Errorf("who dials is told %v", err)
		}
	case <-time.After(patience):
		t.Error("who dials is not told")
	}
	if err := u.Close(); !errors.Is(err, ErrClosed) {
		t.Errorf("Close of the UDP socket: %v", err)
	}
	if now := openFDs(t); now != open {
		t.Errorf("%d descriptors are open, %d were", now, open)
	}
}
