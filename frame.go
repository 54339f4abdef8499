package flare

import (
	"sync"
	"sync/atomic"
	"time"
)

// This file is layer 3 (engine): frames, their pools, and what they count.

const (
	runnerReadBytes = 64 << 10 // one receive of the runner
	ownerReadBytes  = 4 << 10  // one receive of an owner: there may be thousands
	outKeptBytes    = 64 << 10 // output capacity that a frame keeps between turns
)

var runnerFrames, ownerFrames sync.Pool

// newRunnerFrame returns a frame for a goroutine that runs a loop.
func newRunnerFrame() *frame {
	f, _ := runnerFrames.Get().(*frame)
	if f == nil {
		f = &frame{in: make([]byte, runnerReadBytes), out: make([]byte, 0, 16<<10), runner: true}
	}
	return f
}

// newFrame returns a frame for an owner.
func newFrame() *frame {
	f, _ := ownerFrames.Get().(*frame)
	if f == nil {
		f = &frame{in: make([]byte, ownerReadBytes), out: make([]byte, 0, 1<<10)}
	}
	return f
}

// release gives the frame back; its goroutine is done with it.
func (f *frame) release() {
	f.loop, f.conn, f.timed = nil, nil, 0
	f.setRoute(nil)
	f.out = f.out[:0] // what a broken connection did not take is not for the next one
	if raceEnabled {
		return
	}
	if cap(f.out) > outKeptBytes {
		f.out = make([]byte, 0, 1<<10)
	}
	if f.runner {
		runnerFrames.Put(f)
	} else {
		ownerFrames.Put(f)
	}
}

// forget takes away what the handler before has left of its waits and deadlines.
func (f *frame) forget() {
	f.reading = pace{}
	f.writing.reset()
	f.readBy.reset()
	f.writeBy.reset()
}

// setRoute says what runs next, for a thief. It is stored only when it
// changes, since the store is an expensive one.
func (f *frame) setRoute(rt *route) {
	if f.route.Load() != rt {
		f.route.Store(rt)
	}
}

// What is counted. A frame counts in plain words and publishes once a batch.
const (
	countRequests = iota
	countInline
	countWorker
	countPromotions
	countPanics
	countBytesIn
	countBytesOut
	countClass1 // responses by class: 1xx to 5xx
	countClass2
	countClass3
	countClass4
	countClass5
	countTimeoutHandshake
	countTimeoutIdle
	countTimeoutHead
	countTimeoutBody
	countTimeoutWrite
	countTimeoutLinger
	countKinds
)

type counts [countKinds]uint64

// loopCounts are a loop's sums, read by Stats from any goroutine.
type loopCounts struct {
	sums   [countKinds]atomic.Uint64
	lagMax atomic.Int64 // longest batch, ns
}

// lag notes how long a batch took. Only the runner calls it.
func (lc *loopCounts) lag(took time.Duration) {
	if int64(took) > lc.lagMax.Load() {
		lc.lagMax.Store(int64(took))
	}
}

// publish adds what the frame has counted to the loop's sums.
func (f *frame) publish(l *Loop) {
	for i := range f.counts {
		if n := f.counts[i]; n != 0 {
			l.counts.sums[i].Add(n)
			f.counts[i] = 0
		}
	}
}
