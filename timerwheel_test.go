package flare

import (
	"math"
	"math/rand/v2"
	"slices"
	"strconv"
	"testing"
	"time"
	"unsafe"
)

const ms = time.Millisecond

// fired advances w to now and returns the values of what is due.
func fired(w *TimerWheel, now time.Duration) (values []any) {
	w.Advance(now)
	for t := w.Next(); t != nil; t = w.Next() {
		values = append(values, t.Value)
	}
	return values
}

func wantFired(t *testing.T, w *TimerWheel, now time.Duration, want ...any) {
	t.Helper()
	if got := fired(w, now); !slices.Equal(got, want) {
		t.Fatalf("at %v: fired %v, want %v", now, got, want)
	}
}

func TestTimerWheelFiresOnTheFirstTickNotBeforeTheDeadline(t *testing.T) {
	const start = 3 * ms
	for _, tt := range []struct{ at, due time.Duration }{
		{start - 1, start},
		{start, start},
		{start + 1, start + 5*ms},
		{start + 5*ms - 1, start + 5*ms},
		{start + 5*ms, start + 5*ms},
		{start + 5*ms + 1, start + 10*ms},
		{start + 63*5*ms, start + 63*5*ms},
		{start + 64*5*ms, start + 64*5*ms},
		{start + 65*5*ms, start + 65*5*ms},
		{start + 4096*5*ms, start + 4096*5*ms},
		{start + 100*24*time.Hour, start + 100*24*time.Hour},
	} {
		w := NewTimerWheel(5*ms, start)
		timer := &WheelTimer{Value: 1}
		w.Arm(timer, tt.at)
		if tt.due > start {
			wantFired(t, w, tt.due-1)
			if !timer.Armed() || w.Len() != 1 {
				t.Fatalf("deadline %v: not armed before it is due", tt.at)
			}
		}
		wantFired(t, w, tt.due, 1)
		if timer.Armed() || w.Len() != 0 {
			t.Fatalf("deadline %v: still armed after it fired", tt.at)
		}
		wantFired(t, w, tt.due+time.Hour)
	}
}

func TestTimerWheelOrder(t *testing.T) {
	w := NewTimerWheel(ms, 0)
	var timers [6]WheelTimer
	for i, at := range []time.Duration{5000, 70, 5000, 3, 70, 5000} {
		timers[i].Value = i
		w.Arm(&timers[i], at*ms)
	}
	w.Advance(4999 * ms)
	late := WheelTimer{Value: "late"} // on level 0 directly; the others came down to it
	w.Arm(&late, 5000*ms)
	wantFired(t, w, 6000*ms, 3, 1, 4, 0, 2, 5, "late")
}

func TestTimerWheelCancel(t *testing.T) {
	w := NewTimerWheel(ms, 0)
	var a, b, c WheelTimer
	a.Value, b.Value, c.Value = "a", "b", "c"
	if w.Cancel(&a) {
		t.Error("Cancel of a timer never armed: true")
	}
	w.Arm(&a, 10*ms)
	w.Arm(&b, 10*ms)
	w.Arm(&c, 10*ms)
	if !w.Cancel(&b) || w.Cancel(&b) {
		t.Error("Cancel: want true, then false")
	}
	w.Advance(10 * ms)
	if !w.Cancel(&a) { // found due, not handed out
		t.Error("Cancel of a due timer: false")
	}
	wantFired(t, w, 10*ms, "c")
	if w.Cancel(&c) {
		t.Error("Cancel of a timer handed out: true")
	}
	if _, ok := w.Deadline(); ok || w.Len() != 0 {
		t.Errorf("Deadline ok %v, Len %d on an empty wheel", ok, w.Len())
	}
}

func TestTimerWheelArmMovesAnArmedTimer(t *testing.T) {
	w := NewTimerWheel(ms, 0)
	var a WheelTimer
	w.Arm(&a, 10*ms)
	w.Arm(&a, 500*ms)
	wantFired(t, w, 499*ms)
	w.Arm(&a, 510*ms)
	w.Advance(510 * ms)
	w.Arm(&a, 600*ms) // due already, and moved away again
	if w.Next() != nil || w.Len() != 1 {
		t.Fatal("a moved timer was handed out")
	}
	wantFired(t, w, 600*ms, nil)
}

// A callback that arms its own timer for a time that has passed must not keep
// the loop around Next going for ever.
func TestTimerWheelCallbackArmsAndCancels(t *testing.T) {
	w := NewTimerWheel(ms, 0)
	var again, victim, other WheelTimer
	again.Value, victim.Value, other.Value = "again", "victim", "other"
	w.Arm(&again, ms)
	w.Arm(&victim, ms)
	w.Arm(&other, ms)
	var got []any
	w.Advance(ms)
	for timer := w.Next(); timer != nil; timer = w.Next() {
		got = append(got, timer.Value)
		if timer == &again {
			w.Arm(&again, 0)
			w.Cancel(&victim)
		}
	}
	if !slices.Equal(got, []any{"again", "other"}) {
		t.Fatalf("fired %v", got)
	}
	if at, ok := w.Deadline(); !ok || at > ms {
		t.Fatalf("Deadline %v %v, want at most 1ms", at, ok)
	}
	wantFired(t, w, ms, "again") // the same now again
}

func TestTimerWheelTimeNeverGoesBack(t *testing.T) {
	w := NewTimerWheel(ms, 100*ms)
	var a, b WheelTimer
	a.Value, b.Value = "a", "b"
	w.Advance(200 * ms)
	w.Advance(50 * ms)
	w.Arm(&a, 201*ms)
	w.Arm(&b, 150*ms)
	wantFired(t, w, 0, "b")
	wantFired(t, w, 200*ms)
	wantFired(t, w, 201*ms, "a")
}

// Nothing may walk tick by tick: these jumps would never end.
func TestTimerWheelFarDeadlinesAndHugeJumps(t *testing.T) {
	for _, start := range []time.Duration{math.MinInt64, -1, 0, 1, 12345 * time.Hour} {
		for _, tick := range []time.Duration{1, 3, ms, 7 * ms, time.Hour, math.MaxInt64} {
			w := NewTimerWheel(tick, start)
			if w.timeOf(0) != start {
				t.Fatalf("start %v, tick %v: tick 0 is at %v", start, tick, w.timeOf(0))
			}
			var far, never WheelTimer
			last := w.timeOf(w.lastTick(math.MaxInt64)) // the last tick there is
			w.Arm(&far, last)
			w.Arm(&never, math.MaxInt64)
			if at, ok := w.Deadline(); !ok || at > last {
				t.Fatalf("start %v, tick %v: Deadline %v %v, timer at %v", start, tick, at, ok, last)
			}
			if last > start {
				w.Advance(last - 1)
				if w.Next() != nil {
					t.Fatalf("start %v, tick %v: fired early", start, tick)
				}
			}
			w.Advance(math.MaxInt64)
			if w.Next() != &far {
				t.Fatalf("start %v, tick %v: not fired at the end of time", start, tick)
			}
			// Rounded up, its tick may be past the end; it is found only if it is not.
			if next := w.Next(); (next == &never) != (last == math.MaxInt64) {
				t.Fatalf("start %v, tick %v: a timer at the end of time: %v", start, tick, next)
			}
			if at, ok := w.Deadline(); ok && at != math.MaxInt64 {
				t.Fatalf("start %v, tick %v: a timer past the end of time has Deadline %v", start, tick, at)
			}
		}
	}
}

// A wheel that is advanced only when it asks to be serves a timer after a
// bounded number of wake-ups, the last of them on time.
func TestTimerWheelDeadlineLeadsToTheTimer(t *testing.T) {
	for _, at := range []time.Duration{1, 63, 64, 65, 4095, 4096, 4097, 75_000, 1 << 40, math.MaxInt64} {
		w := NewTimerWheel(1, 0)
		w.Advance(37)
		var timer WheelTimer
		w.Arm(&timer, at)
		wakes := 0
		for w.Next() == nil {
			next, ok := w.Deadline()
			if wakes++; !ok || next > max(at, 37) || wakes > wheelLevels {
				t.Fatalf("timer at %d: wake-up %d at %d %v", at, wakes, next, ok)
			}
			w.Advance(next)
		}
	}
}

// A million live timers over two hours, cancelled and moved at random,
// advanced tick by tick: each fires once, and on its tick.
func TestTimerWheelMillionTimers(t *testing.T) {
	n := 1_000_000
	if testing.Short() {
		n = 50_000
	}
	const tick = 100 * ms
	rng := rand.New(rand.NewPCG(3, 4))
	random := func() time.Duration { return time.Duration(rng.Int64N(int64(2 * time.Hour))) }
	w := NewTimerWheel(tick, 0)
	timers := make([]WheelTimer, n)
	deadlines := make([]time.Duration, n) // -1: must not fire
	for i := range timers {
		timers[i].Value = &deadlines[i]
		deadlines[i] = random()
		w.Arm(&timers[i], deadlines[i])
	}
	if w.Len() != n {
		t.Fatalf("Len %d", w.Len())
	}
	live := n
	for i := range timers {
		switch rng.IntN(4) {
		case 0:
			w.Cancel(&timers[i])
			deadlines[i] = -1
			live--
		case 1:
			deadlines[i] = random()
			w.Arm(&timers[i], deadlines[i])
		}
	}
	for now := time.Duration(0); now <= 2*time.Hour; now += tick {
		w.Advance(now)
		for timer := w.Next(); timer != nil; timer = w.Next() {
			at := timer.Value.(*time.Duration)
			if *at < 0 || now < *at || now-*at >= tick {
				t.Fatalf("deadline %v fired at %v", *at, now)
			}
			*at = -1
			live--
		}
		if w.Len() != live {
			t.Fatalf("at %v: Len %d, want %d", now, w.Len(), live)
		}
	}
	if live != 0 {
		t.Fatalf("%d timers never fired", live)
	}
}

func TestTimerWheelSizes(t *testing.T) {
	if size := unsafe.Sizeof(WheelTimer{}); size > 56 {
		t.Errorf("WheelTimer has %d bytes", size)
	}
	if size := unsafe.Sizeof(TimerWheel{}); size > 8<<10 {
		t.Errorf("TimerWheel has %d bytes", size)
	}
}

func TestTimerWheelAllocatesNothing(t *testing.T) {
	w := NewTimerWheel(ms, 0)
	timers := make([]WheelTimer, 100)
	now := time.Duration(0)
	if n := testing.AllocsPerRun(100, func() {
		for i := range timers {
			w.Arm(&timers[i], now+time.Duration(i*i)*ms)
		}
		for i := range timers {
			if i%3 == 0 {
				w.Cancel(&timers[i])
			}
		}
		now += 100 * ms
		w.Deadline()
		w.Advance(now)
		for w.Next() != nil {
		}
	}); n != 0 {
		t.Errorf("%v allocations", n)
	}
}

func TestNewTimerWheelPanicsWithoutTick(t *testing.T) {
	for _, tick := range []time.Duration{0, -1} {
		func() {
			defer func() {
				if recover() == nil {
					t.Errorf("tick %d: no panic", tick)
				}
			}()
			NewTimerWheel(tick, 0)
		}()
	}
}

func liveWheel(n int) (*TimerWheel, []WheelTimer) {
	rng := rand.New(rand.NewPCG(5, 6))
	w := NewTimerWheel(5*ms, 0)
	timers := make([]WheelTimer, n)
	for i := range timers {
		w.Arm(&timers[i], time.Duration(rng.Int64N(int64(75*time.Second))))
	}
	return w, timers
}

// One connection's timer, armed and cancelled among so many others.
func BenchmarkTimerWheelArmCancel(b *testing.B) {
	for _, n := range []int{1, 1000, 1_000_000} {
		b.Run("live="+strconv.Itoa(n), func(b *testing.B) {
			w, _ := liveWheel(n)
			var timer WheelTimer
			at := time.Duration(0)
			b.ReportAllocs()
			for b.Loop() {
				at = (at + 7919*time.Microsecond) % (75 * time.Second)
				w.Arm(&timer, at)
				w.Cancel(&timer)
			}
		})
	}
}

// All timers in turn are moved: with many of them this measures the memory.
func BenchmarkTimerWheelMove(b *testing.B) {
	for _, n := range []int{1, 1000, 1_000_000} {
		b.Run("live="+strconv.Itoa(n), func(b *testing.B) {
			w, timers := liveWheel(n)
			at, i := time.Duration(0), 0
			b.ReportAllocs()
			for b.Loop() {
				at = (at + 7919*time.Microsecond) % (75 * time.Second)
				w.Arm(&timers[i], at)
				if i++; i == n {
					i = 0
				}
			}
		})
	}
}

// A timer's whole life: armed, come down the levels, handed out. So many are
// live, each armed again for a random time when it fires.
func BenchmarkTimerWheelFire(b *testing.B) {
	for _, n := range []int{1, 1000, 1_000_000} {
		b.Run("live="+strconv.Itoa(n), func(b *testing.B) {
			w, _ := liveWheel(n)
			rng := rand.New(rand.NewPCG(7, 8))
			var now time.Duration
			b.ReportAllocs()
			for b.Loop() {
				t := w.Next()
				for t == nil {
					now, _ = w.Deadline()
					w.Advance(now)
					t = w.Next()
				}
				w.Arm(t, now+time.Duration(rng.Int64N(int64(75*time.Second))))
			}
		})
	}
}
