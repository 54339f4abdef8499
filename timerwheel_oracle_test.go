package flare

import (
	"cmp"
	"encoding/binary"
	"math/rand/v2"
	"slices"
	"testing"
	"time"
)

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
