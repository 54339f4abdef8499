package flare

import (
	"sync"
	"sync/atomic"
	"time"
)

// This file is layer 3 (engine): the backstop behind the predictor. One
// goroutine for all loops of the process looks at each loop's state at a
// coarse tick; where it sees the same odd number twice, a call on the loop has
// taken at least a tick, and the monitor takes the baton away from it. While
// nothing runs inline it is parked on a channel and costs nothing.

const (
	// tick is the resolution of everything on a loop that has to do with time.
	// Shorter pending timers make each park of the process several
	// microseconds dearer on virtual machines.
	tick = 5 * time.Millisecond

	// monitorIdleTicks is how many ticks without a turn park the monitor.
	monitorIdleTicks = 8
)

type monitorState struct {
	active atomic.Bool   // ticking; a runner that finds it false kicks
	wake   chan struct{} // capacity 1

	mu    sync.Mutex
	loops []*Loop // guarded by mu
	alive bool    // guarded by mu: the goroutine exists
}

var monitor = monitorState{wake: make(chan struct{}, 1)}

// watch adds a loop; the goroutine starts with the first one.
func (m *monitorState) watch(l *Loop) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.loops = append(m.loops, l)
	if !m.alive {
		m.alive = true
		go m.run()
	}
}

// unwatch removes a loop; the goroutine ends with the last one.
func (m *monitorState) unwatch(l *Loop) {
	m.mu.Lock()
	defer m.mu.Unlock()
	for i := range m.loops {
		if m.loops[i] == l {
			m.loops = append(m.loops[:i], m.loops[i+1:]...)
			break
		}
	}
	if len(m.loops) == 0 {
		m.signal()
	}
}

// kick starts the ticking. A runner calls it after it has published its epoch,
// the monitor looks at all epochs after it has said that it is not active: one
// of the two sees the other.
func (m *monitorState) kick() {
	if m.active.CompareAndSwap(false, true) {
		m.signal()
	}
}

func (m *monitorState) signal() {
	select {
	case m.wake <- struct{}{}:
	default:
	}
}

// run is the monitor's goroutine.
func (m *monitorState) run() {
	idle := 0
	for {
		if !m.active.Load() {
			<-m.wake
		} else {
			time.Sleep(tick)
		}
		m.mu.Lock()
		if len(m.loops) == 0 {
			m.alive = false
			m.active.Store(false)
			m.mu.Unlock()
			return
		}
		moved := m.look(true)
		if moved {
			idle = 0
		} else if idle++; idle >= monitorIdleTicks && m.active.Load() {
			m.active.Store(false)
			if m.look(false) {
				m.active.Store(true)
			}
			idle = 0
		}
		m.mu.Unlock()
	}
}

// look compares each loop's state with what it was at the last look, and
// reports whether any loop has had a turn since or is in one. m.mu is held.
func (m *monitorState) look(steal bool) (moved bool) {
	for _, l := range m.loops {
		state := l.state.Load()
		if state&1 != 0 || l.parker != nil && l.lent.Load() > 0 {
			moved = true // a parked loop and a handler elsewhere: see Loop.block
		}
		if state != l.seen {
			moved = true
			if steal {
				l.seen = state
			}
			continue
		}
		if steal && state&1 != 0 {
			l.steal(state)
		}
	}
	return moved
}
