package flare

import (
	"math"
	"sync"
	"sync/atomic"
	"time"
)

// This file is layer 3 (engine): worksets, their pools, and what they count.

const (
	runnerReadBytes = 64 << 10 // one receive of the runner
	ownerReadBytes  = 4 << 10  // one receive of an owner: there may be thousands
	outKeptBytes    = 64 << 10 // output capacity that a workset keeps between turns
)

// worksets are those that no goroutine has. Each loop has its own: a workset
// keeps timers, and those of a bubble of testing/synctest are of no use outside
// it, nor the other way round.
type worksets struct{ runners, owners sync.Pool }

// looseWorksets are of goroutines that serve no loop.
var looseWorksets worksets

// runner returns a workset for a goroutine that runs a loop.
func (all *worksets) runner() *workset {
	g, _ := all.runners.Get().(*workset)
	if g == nil {
		g = &workset{in: make([]byte, runnerReadBytes), out: make([]byte, 0, 16<<10), home: &all.runners}
	}
	return g
}

// owner returns a workset for an owner.
func (all *worksets) owner() *workset {
	g, _ := all.owners.Get().(*workset)
	if g == nil {
		g = &workset{in: make([]byte, ownerReadBytes), out: make([]byte, 0, 1<<10), home: &all.owners}
	}
	return g
}

// release gives the workset back; its goroutine is done with it.
func (g *workset) release() {
	g.loop, g.strand, g.timed = nil, nil, 0
	g.setRoute(nil)
	g.out = g.out[:0] // what a broken connection did not take is not for the next one
	if raceEnabled {
		return
	}
	if cap(g.out) > outKeptBytes {
		g.out = make([]byte, 0, 1<<10)
	}
	g.home.Put(g)
}

// forget takes away what the handler before has left of its waits and deadlines.
func (g *workset) forget() {
	g.reading = pace{}
	g.writing.reset()
	g.held = 0
	g.readBy.reset()
	g.writeBy.reset()
}

// batchTaken is when the loop took the batch in which this turn is; to an owner, when it
// last looked. It is asked once for each request, of which others may wait for the answer.
func (g *workset) batchTaken() time.Duration {
	if g.loop != nil {
		return g.taken // and not the loop's, which may have been stolen
	}
	return g.clock.now
}

// setRoute says what runs next, for a thief. It is stored only when it
// changes, since the store is an expensive one.
func (g *workset) setRoute(rt *route) {
	if g.route.Load() != rt {
		g.route.Store(rt)
	}
}

// What is counted. A workset counts in plain words and publishes once a batch.
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

// publish adds what the workset has counted to the sums of a loop, or of a server.
func (g *workset) publish(to *loopCounts) {
	for i := range g.counts {
		if n := g.counts[i]; n != 0 {
			to.sums[i].Add(n)
			g.counts[i] = 0
		}
	}
}

// A workset is what one goroutine needs to drive connections: the read buffer,
// the output of a turn and the guard around it. It belongs to that goroutine;
// when the baton is passed or stolen the workset stays with the goroutine that
// was in the middle of a turn, and the new runner brings its own.
type workset struct {
	// The turn's guard. mu is for a handler that reads and writes from two
	// goroutines, both of which may have to wait: it orders their detach.
	mu    sync.Mutex
	loop  *Loop  // nil: this goroutine does not hold, or no longer holds, the baton
	epoch uint64 // the odd value published for this turn
	route routePointer

	strand *strand // whose turn it is
	in     []byte  // one receive
	out    []byte  // answers of this turn, sent in one write
	pushed *buffer // input that the protocol received itself and gives back

	clock  clock
	counts counts
	kept   any // what the role above keeps here for reuse; the engine never looks

	// The running handler's.
	reading pace // how its waits go
	writing roomPace
	held    int // bytes of the response's own memory, which waits with it for room
	readBy  deadline
	writeBy deadline
	timers  [2]*time.Timer // of waits to read and to write, kept for the next
	roomMu  sync.Mutex     // held in a wait for room: another goroutine may want to write too

	// breaking has the directions in which waits are to fail, for goroutines that
	// the handler has left behind. Any goroutine.
	breaking atomic.Uint32

	home  *sync.Pool    // where it goes when its goroutine is done with it
	taken time.Duration // Loop.taken, as its runner's
	timed int           // turns left in which inline calls are timed
}

// The bits of workset.breaking.
const (
	breakReads uint32 = 1 << iota
	breakWrites
)

// broken reports whether the goroutine that is about to wait is to fail instead.
func (g *workset) broken(direction uint32) bool { return g.breaking.Load()&direction != 0 }

// A deadline is a moment on the clock's scale, 0 for none. Any goroutine may
// set one while the handler runs.
type deadline struct{ atomic.Int64 }

func (d *deadline) set(t time.Duration) { d.Store(int64(t)) }

func (d *deadline) at() time.Duration { return time.Duration(d.Load()) }
func (d *deadline) passed() bool      { return d.at() != 0 && time.Since(origin) >= d.at() }

// lifted is the deadline of who wants neither a deadline nor the server's limits
// of time and rate.
const lifted = time.Duration(math.MaxInt64)

// handlerDeadline is a deadline that a handler sets: the zero time lifts all.
func handlerDeadline(t time.Time) time.Duration {
	if t.IsZero() {
		return lifted
	}
	return sinceOrigin(t)
}

// reset takes it away. Most often there is none, and looking is cheaper.
func (d *deadline) reset() {
	if d.Load() != 0 {
		d.Store(0)
	}
}
