package flare

import (
	"cmp"
	"encoding/binary"
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

// wheelModel is the oracle: a list of timers in the order they were armed, and
// the definition of when each is due.
type wheelModel struct {
	tick, start, now time.Duration
	seq              int
	live             []*modelTimer
}

type modelTimer struct {
	WheelTimer
	at  time.Duration // its deadline
	due time.Duration // the tick that it fires on
	seq int
}

func (m *wheelModel) tickTime(now time.Duration) time.Duration {
	return m.start + (max(now, m.start)-m.start)/m.tick*m.tick
}

func (m *wheelModel) arm(t *modelTimer, at time.Duration) {
	m.cancel(t)
	m.seq++
	t.at, t.seq = at, m.seq
	t.due = max(m.tickTime(at+m.tick-1), m.tickTime(m.now))
	m.live = append(m.live, t)
}

func (m *wheelModel) cancel(t *modelTimer) bool {
	i := slices.Index(m.live, t)
	if i >= 0 {
		m.live = slices.Delete(m.live, i, i+1)
	}
	return i >= 0
}

// advance returns what is due at now, in order.
func (m *wheelModel) advance(now time.Duration) (due []*modelTimer) {
	m.now = max(m.now, now)
	m.live = slices.DeleteFunc(m.live, func(t *modelTimer) bool {
		if t.due > m.now {
			return false
		}
		due = append(due, t)
		return true
	})
	slices.SortFunc(due, func(a, b *modelTimer) int {
		return cmp.Or(cmp.Compare(a.due, b.due), cmp.Compare(a.seq, b.seq))
	})
	return due
}

// runWheelProgram reads data as a list of calls, five bytes each, makes them
// on a wheel and on the oracle and compares.
func runWheelProgram(t *testing.T, data []byte) {
	if len(data) < 2 {
		return
	}
	tick := []time.Duration{1, 7, ms, 5 * ms}[data[0]%4]
	m := &wheelModel{tick: tick, start: time.Duration(int8(data[1])) * tick / 3}
	m.now = m.start
	w := NewTimerWheel(tick, m.start)
	timers := make([]modelTimer, 24)
	for i := range timers {
		timers[i].Value = &timers[i]
	}
	for data = data[2:]; len(data) >= 5; data = data[5:] {
		timer := &timers[data[1]%24]
		// Thirds of ticks, near and far, but 400 of them stay within int64.
		thirds := time.Duration(binary.LittleEndian.Uint16(data[3:])) << (data[2] % 32)
		length := min(thirds, 1<<53/tick) * tick / 3
		switch data[0] % 8 {
		case 0, 1, 2:
			w.Arm(&timer.WheelTimer, m.now+length)
			m.arm(timer, m.now+length)
		case 3:
			w.Arm(&timer.WheelTimer, m.now-length)
			m.arm(timer, m.now-length)
		case 4:
			if got, want := w.Cancel(&timer.WheelTimer), m.cancel(timer); got != want {
				t.Fatalf("Cancel %v, want %v", got, want)
			}
		case 5:
			advanceBoth(t, w, m, m.now-length, timer)
		case 6:
			advanceBoth(t, w, m, m.now+length, timer)
		case 7: // one tick at a time
			for range length % 100 {
				advanceBoth(t, w, m, m.now+tick, timer)
			}
		}
		checkWheel(t, w, m)
	}
}

// advanceBoth advances wheel and oracle and compares what is due. Before the
// second timer is handed out victim is cancelled, and after it armed again for
// a time that has passed.
func advanceBoth(t *testing.T, w *TimerWheel, m *wheelModel, now time.Duration, victim *modelTimer) {
	w.Advance(now)
	want := m.advance(now)
	cancelled := false
	for i := 0; i < len(want); i++ {
		got := w.Next()
		if got == nil || got.Value != want[i] {
			t.Fatalf("timer %d of %d due at %v: got %v, want seq %d", i, len(want), m.now, got, want[i].seq)
		}
		if late := m.now - max(want[i].at, m.start); late < 0 {
			t.Fatalf("fired %v early", -late)
		}
		if j := slices.Index(want[i+1:], victim); i == 0 && j >= 0 {
			cancelled = true
			if !w.Cancel(&victim.WheelTimer) {
				t.Fatal("Cancel of a due timer: false")
			}
			want = slices.Delete(want, i+1+j, i+2+j)
		}
	}
	if cancelled {
		w.Arm(&victim.WheelTimer, m.start)
		m.arm(victim, m.start)
	}
	if got := w.Next(); got != nil {
		t.Fatalf("at %v: one timer too many: %v", m.now, got.Value.(*modelTimer).at)
	}
	for _, timer := range m.live {
		if timer != victim && timer.at+m.tick <= m.now {
			t.Fatalf("a timer for %v has not fired at %v: more than a tick late", timer.at, m.now)
		}
	}
}

func checkWheel(t *testing.T, w *TimerWheel, m *wheelModel) {
	if w.Len() != len(m.live) {
		t.Fatalf("Len %d, want %d", w.Len(), len(m.live))
	}
	at, ok := w.Deadline()
	if ok != (len(m.live) > 0) {
		t.Fatalf("Deadline ok %v with %d timers", ok, len(m.live))
	}
	for _, timer := range m.live {
		if !timer.Armed() {
			t.Fatal("a live timer is not armed")
		}
		if at > timer.due {
			t.Fatalf("Deadline %v is after a timer's %v", at, timer.due)
		}
	}
}

func TestTimerWheelAgainstOracle(t *testing.T) {
	rounds := 2000
	if testing.Short() {
		rounds = 200
	}
	rng := rand.New(rand.NewPCG(1, 2))
	for range rounds {
		data := make([]byte, 2+5*rng.IntN(200))
		for i := range data {
			data[i] = byte(rng.Uint32())
		}
		for i := 4; i < len(data); i += 5 { // a mix of near and far
			data[i] %= byte(1 + rng.IntN(32))
		}
		runWheelProgram(t, data)
	}
}

func FuzzTimerWheel(f *testing.F) {
	f.Add([]byte{3, 0, 0, 1, 0, 9, 0, 0, 2, 12, 1, 1, 6, 1, 20, 1, 1, 7, 1, 0, 90, 0})
	f.Add([]byte{0, 200, 0, 0, 0, 3, 0, 0, 1, 0, 3, 0, 6, 1, 0, 4, 0, 5, 1, 0, 9, 0, 6, 1, 0, 1, 0})
	f.Add([]byte{1, 9, 3, 0, 0, 3, 0, 4, 0, 0, 0, 0, 0, 2, 31, 255, 255, 6, 1, 31, 255, 255})
	f.Fuzz(func(t *testing.T, data []byte) {
		runWheelProgram(t, data[:min(len(data), 2000)])
	})
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
