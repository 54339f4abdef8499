package main

import (
	"sync"
	"time"

	"flare"
)

// This file is what is stored: strings by key, and when they are to be
// forgotten. It knows no protocol.

const (
	expiryTick = 10 * time.Millisecond // how late memory may be given back; what is read is exact
	entryBytes = 128                   // of memory, beside key and value
)

// A store is shared by all connections. Callbacks of a loop may run beside each
// other when one takes long, so it has a lock; a turn takes it once.
type store struct {
	mu       sync.Mutex
	entries  map[string]*entry
	bytes    int64 // in keys and values
	bytesMax int64

	loop    *flare.Loop
	wheel   *flare.TimerWheel
	origin  time.Time
	now     time.Duration // since origin, when the turn began
	ticking bool          // the loop has a timer for the wheel
}

// An entry is one value.
type entry struct {
	key   string
	value []byte
	ttl   *ttl // nil: for ever
}

// A ttl is when an entry is to be forgotten.
type ttl struct {
	at    time.Duration // since the store's origin
	timer flare.WheelTimer
}

func newStore(loop *flare.Loop, bytesMax int64) *store {
	return &store{
		entries: make(map[string]*entry), bytesMax: bytesMax,
		loop: loop, origin: time.Now(), wheel: flare.NewTimerWheel(expiryTick, 0),
	}
}

// lock begins a turn: what follows until unlock happens at one moment.
func (st *store) lock() {
	st.mu.Lock()
	if st.wheel.Len() > 0 { // or nothing asks for the time
		st.now = time.Since(st.origin)
	}
}

func (st *store) unlock() { st.mu.Unlock() }

// get returns the entry of key, nil if there is none.
func (st *store) get(key []byte) *entry {
	e := st.entries[string(key)]
	if e != nil && e.ttl != nil && e.ttl.at <= st.now {
		st.remove(e)
		return nil
	}
	return e
}

// set stores a copy of value, and reports false if there is no room for it. The
// entry's time to live ends.
func (st *store) set(key, value []byte) bool {
	e := st.get(key)
	grows := int64(len(value))
	if e == nil {
		grows += int64(len(key)) + entryBytes
	} else {
		grows -= int64(len(e.value))
	}
	if grows > 0 && st.bytes+grows > st.bytesMax {
		return false
	}
	st.bytes += grows
	if e == nil {
		e = &entry{key: string(key)}
		st.entries[e.key] = e
	} else {
		st.persist(e)
	}
	if cap(e.value) > 2*len(value)+entryBytes {
		e.value = nil // or a small value keeps a large one's memory
	}
	e.value = append(e.value[:0], value...)
	return true
}

// remove forgets e.
func (st *store) remove(e *entry) {
	st.persist(e)
	delete(st.entries, e.key)
	st.bytes -= int64(len(e.key)+len(e.value)) + entryBytes
}

// clear forgets everything.
func (st *store) clear() {
	for _, e := range st.entries {
		st.persist(e)
	}
	st.entries = make(map[string]*entry)
	st.bytes = 0
}

// persist lets e live for ever, and reports false if it did so before.
func (st *store) persist(e *entry) bool {
	if e.ttl == nil {
		return false
	}
	st.wheel.Cancel(&e.ttl.timer)
	e.ttl = nil
	return true
}

// expire has e forgotten in d, which is positive.
func (st *store) expire(e *entry, d time.Duration) {
	if st.wheel.Len() == 0 {
		st.now = time.Since(st.origin)
		st.wheel.Advance(st.now)
	}
	if e.ttl == nil {
		e.ttl = new(ttl)
	}
	e.ttl.at = st.now + d
	e.ttl.timer.Value = e
	st.wheel.Arm(&e.ttl.timer, e.ttl.at)
	if !st.ticking {
		st.ticking = true
		st.loop.After(expiryTick, st.tick)
	}
}

// left returns how long e has to live.
func (st *store) left(e *entry) time.Duration { return e.ttl.at - st.now }

// tick forgets what is due, for as long as there is something that will be.
func (st *store) tick() {
	st.lock()
	defer st.unlock()
	st.wheel.Advance(st.now)
	for t := st.wheel.Next(); t != nil; t = st.wheel.Next() {
		st.remove(t.Value.(*entry))
	}
	at, ok := st.wheel.Deadline()
	if st.ticking = ok; ok {
		st.loop.After(max(at-st.now, expiryTick), st.tick)
	}
}
