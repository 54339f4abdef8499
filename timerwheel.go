package flare

import (
	"math"
	"math/bits"
	"time"
)

// This file is layer 0 (base): a hierarchical timer wheel. It knows ticks and
// lists of timers; it knows no clock (now is passed in), no goroutine and no
// connection. The loop owns one, arms the timers that live inside its
// connections, and asks it how long the poll may wait.
//
// Time is cut into ticks, and a deadline is the number of its tick, rounded
// up. Read that number in base 64: a timer sits on the level of the highest
// digit in which its tick differs from the current one, in the slot that this
// digit names.
//
//	now     0 0 1 7
//	A       0 0 1 9    differs in the last digit:  level 0, slot 9
//	B       0 0 5 3    in the last but one:        level 1, slot 5
//	C       2 0 0 0                                level 3, slot 2
//
// Three things follow, and they are all the code relies on. Whatever sits on
// a lower level is due before whatever sits on a higher one; on a level, slots
// are due from low to high and none wraps round; so the next thing to do is
// the lowest bit of the lowest level that has one, however far it is. When
// time reaches a slot of level 0 its timers are due; when it reaches a slot of
// a higher level they are placed again, on lower levels (the cascade), at most
// once a level in a timer's life.

const (
	wheelDigitBits = 6                   // 64 slots a level: their occupancy is one word
	wheelSlots     = 1 << wheelDigitBits // slots of one level
	wheelLevels    = 11                  // 11 digits of 6 bits hold every uint64: nothing is too far
	wheelDueList   = wheelLevels * wheelSlots
)

// A WheelTimer is one timer of a [TimerWheel]. Its zero value is ready to be
// armed, and it is meant to be a field of what it times: arming one allocates
// nothing. It must not be copied or freed for other use while it is armed, and
// belongs to one wheel at a time.
type WheelTimer struct {
	// Value is the user's, usually a pointer to the owner. The wheel never
	// looks at it.
	Value any

	next, prev *WheelTimer // circular list of the slot; nil when not armed
	tick       uint64      // when it is due
	list       uint16      // index into TimerWheel.lists; meaningless when not armed
}

// Armed reports whether the timer is armed: not cancelled since, and not yet
// handed out by Next.
func (t *WheelTimer) Armed() bool { return t.next != nil }

// A TimerWheel holds any number of timers. Arm, Cancel, Next and Deadline take
// constant time whatever that number is, Advance takes time for what is due
// and never for the length of the jump, and none of them allocates.
//
// All times are durations since one fixed origin of the caller's choice, of a
// monotonic clock. A wheel's time never goes back: a now that is earlier than
// one seen before counts as that one.
//
// A TimerWheel is not safe for concurrent use. The owner may call any method
// between two calls of Next.
type TimerWheel struct {
	tick  uint64 // nanoseconds
	start uint64 // now when made, the origin of ticks; two's complement
	now   uint64 // ticks since start

	armed int // timers on all lists

	levels   uint16              // bit i: slots[i] is not 0
	occupied [wheelLevels]uint64 // bit s of word i: slot s of level i has timers

	// The first timer of each slot, level by level, then of those that are due
	// and wait for Next. The last timer is the first one's prev.
	lists [wheelDueList + 1]*WheelTimer
}

// NewTimerWheel returns an empty wheel that stands at now. A timer fires on
// the first whole tick, counted from now, that is not before its deadline. It
// panics if tick is not positive.
func NewTimerWheel(tick, now time.Duration) *TimerWheel {
	if tick <= 0 {
		panic("flare: a timer wheel's tick must be positive")
	}
	return &TimerWheel{tick: uint64(tick), start: uint64(now)}
}

// Arm makes t due at the given time: never before it, and at most one tick
// after it if Advance is called every tick. A time that has passed is due with
// the next Advance. Arming an armed timer moves it, one that is due and not
// yet handed out included.
func (w *TimerWheel) Arm(t *WheelTimer, at time.Duration) {
	if t.next != nil {
		w.unlink(t)
	} else {
		w.armed++
	}
	t.tick = max(w.tickNotBefore(at), w.now)
	w.place(t)
}

// Cancel disarms t and reports whether it was armed. A cancelled timer is not
// handed out, even if Advance has found it due already.
func (w *TimerWheel) Cancel(t *WheelTimer) bool {
	if t.next == nil {
		return false
	}
	w.unlink(t)
	t.next, t.prev = nil, nil
	w.armed--
	return true
}

// Advance moves the wheel to now and collects the timers that are due; Next
// hands them out. It may be called again before all of them were taken.
func (w *TimerWheel) Advance(now time.Duration) {
	target := max(w.lastTick(now), w.now)
	for w.levels != 0 {
		level, slot, tick := w.first()
		if tick > target {
			break
		}
		w.now = tick
		w.empty(level, slot)
	}
	w.now = target
}

// Next takes one due timer and hands it out, disarmed: it may be armed again
// at once. Timers come in the order of their ticks, those of one tick in the
// order in which they were armed. It returns nil when there is none.
func (w *TimerWheel) Next() *WheelTimer {
	t := w.lists[wheelDueList]
	if t != nil {
		w.Cancel(t)
	}
	return t
}

// Deadline returns the time at which Advance has something to do next, which
// is never after the next timer is due and may be some time before. A poll may
// wait until then. While timers wait for Next it is a time already reached. ok
// is false when no timer is armed.
func (w *TimerWheel) Deadline() (at time.Duration, ok bool) {
	if w.lists[wheelDueList] != nil {
		return w.timeOf(w.now), true
	}
	if w.levels == 0 {
		return 0, false
	}
	_, _, tick := w.first()
	return w.timeOf(tick), true
}

// Len returns the number of armed timers, including those that are due and
// were not yet handed out.
func (w *TimerWheel) Len() int { return w.armed }

// first returns the slot that is due first and the tick at which it is. The
// wheel must have an occupied slot.
func (w *TimerWheel) first() (level, slot int, tick uint64) {
	level = bits.TrailingZeros16(w.levels)
	slot = bits.TrailingZeros64(w.occupied[level])
	shift := wheelDigitBits * uint(level)
	// All of the level's timers agree with now in the digits above theirs. On
	// the top level the mask is 1<<66 - 1, which Go makes all ones.
	above := w.now &^ (1<<(shift+wheelDigitBits) - 1)
	return level, slot, above | uint64(slot)<<shift
}

// empty places the timers of a slot that time has reached: those of level 0
// are due, the others have a lower digit that differs.
func (w *TimerWheel) empty(level, slot int) {
	list := level<<wheelDigitBits | slot
	t := w.lists[list]
	last := t.prev
	w.clear(list)
	for {
		next := t.next
		if level == 0 {
			w.link(t, wheelDueList)
		} else {
			w.place(t)
		}
		if t == last {
			return
		}
		t = next
	}
}

// place links t where its tick belongs. A tick that is now's own goes to now's
// slot of level 0, which nothing else uses: the next Advance empties it.
func (w *TimerWheel) place(t *WheelTimer) {
	level := bits.Len64((t.tick^w.now)|(wheelSlots-1)) - 1
	level /= wheelDigitBits
	slot := t.tick >> (wheelDigitBits * uint(level)) & (wheelSlots - 1)
	w.occupied[level] |= 1 << slot
	w.levels |= 1 << level
	w.link(t, level<<wheelDigitBits|int(slot))
}

// link appends t to a list.
func (w *TimerWheel) link(t *WheelTimer, list int) {
	t.list = uint16(list)
	first := w.lists[list]
	if first == nil {
		t.next, t.prev = t, t
		w.lists[list] = t
		return
	}
	last := first.prev
	t.next, t.prev = first, last
	last.next, first.prev = t, t
}

// unlink takes t out of its list and leaves t's own links as they are.
func (w *TimerWheel) unlink(t *WheelTimer) {
	list := int(t.list)
	if t.next == t {
		w.clear(list)
		return
	}
	t.prev.next, t.next.prev = t.next, t.prev
	if w.lists[list] == t {
		w.lists[list] = t.next
	}
}

// clear makes a list empty, without looking at what was on it.
func (w *TimerWheel) clear(list int) {
	w.lists[list] = nil
	if list == wheelDueList {
		return
	}
	level := list >> wheelDigitBits
	w.occupied[level] &^= 1 << (list & (wheelSlots - 1))
	if w.occupied[level] == 0 {
		w.levels &^= 1 << level
	}
}

// tickNotBefore returns the first tick that is not before at.
func (w *TimerWheel) tickNotBefore(at time.Duration) uint64 {
	since := w.since(at)
	n := since / w.tick
	if n*w.tick != since {
		n++
	}
	return n
}

// lastTick returns the last tick that is not after now.
func (w *TimerWheel) lastTick(now time.Duration) uint64 { return w.since(now) / w.tick }

// since returns the nanoseconds from start to t, 0 if t is before. The
// difference of any two durations fits an unsigned word.
func (w *TimerWheel) since(t time.Duration) uint64 {
	if int64(t) <= int64(w.start) {
		return 0
	}
	return uint64(t) - w.start
}

// timeOf returns the time of a tick, or the last time there is if the tick is
// rounded up beyond it.
func (w *TimerWheel) timeOf(tick uint64) time.Duration {
	hi, since := bits.Mul64(tick, w.tick)
	if hi != 0 || since > math.MaxInt64-w.start {
		return math.MaxInt64
	}
	return time.Duration(w.start + since)
}
