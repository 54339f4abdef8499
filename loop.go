package flare

import (
	"runtime"
	"sync"
	"sync/atomic"
	"time"
)

// This file is layer 3 (engine): what a loop consists of, and who owns which part
// of it. loop_turn.go has the loop at work, loop_conns.go its connections,
// loop_post.go what others hand to it, and loop_run.go a loop in its user's hands.

const (
	loopEvents  = 512         // readiness taken from the poller at once
	clockEvents = 16          // events between looks at the clock, which costs as much as parsing
	lentRecheck = time.Second // how often an expired timer of a lent connection looks again
)

// A Loop drives connections, timers and posted functions from one goroutine at
// a time. A Server has loops of its own; NewLoop makes one for other protocols.
// Its methods may be called from any goroutine.
type Loop struct {
	// Any goroutine.
	stage       atomic.Uint32 // of a loop from NewLoop; loop_run.go
	state       atomic.Uint64 // odd: a turn is running; baton.go
	lent        atomic.Int32  // connections that are not the runner's
	asleep      atomic.Bool   // the runner blocks, or is about to, in the poller
	has         atomic.Bool   // something was posted
	dated       atomic.Bool   // somebody wants to know when each batch was taken
	steals      atomic.Uint64
	passes      atomic.Uint64
	counts      loopCounts
	worksets    worksets
	gauges      [connStates]atomic.Int32 // connections by state, as last shown
	noListeners atomic.Bool              // it has no listeners any more, and gets none
	failed      atomic.Bool              // its poller did: it takes nothing any more

	stealMu sync.Mutex // held by a thief between its swap and the lending

	// postMu.
	postMu    sync.Mutex
	posted    *strand // last first, linked through nextPosted
	postedFns []postedFunc
	last      bool // functions of users are refused
	dead      bool // nobody will take what is posted

	// workMu, which is held for moments.
	workMu sync.Mutex
	handed handedList // for workers
	spare  bool       // a worker is about to look there

	// The monitor's.
	seen uint64

	// The runner's.
	poller     Poller
	parker     *parker     // for waiting with one processor; nil: block
	managed    bool        // the poller repeats itself; fixed; loop_level.go
	offloads   bool        // all calls run on workers; fixed
	unwatched  bool        // the monitor does not look; fixed
	env        environment // of a simulated world; nil: the system; fixed
	events     []Event
	next       int // cursor into events
	count      int
	handled    int           // events, or rounds without, since the clock was read
	taken      time.Duration // when this batch was, to a batch or two unless dated
	conns      []*Conn       // by descriptor
	plain      []*Conn       // those of the plain driver, by ^fd
	plainFree  []int         // numbers that none of them has any more
	open       int           // connections in conns
	ready      strandList
	turning    strandList // ready ones of this round
	tasks      strandList // of streams whose turn is behind the connections'
	flushing   []*Conn    // of many streams, with something to send at the end of the round
	flushed    []*Conn    // those of the round before: memory to reuse
	lingering  strandList // those of connections with input to discard
	inbox      *strand    // posted ones not yet applied
	inboxFns   []postedFunc
	inboxNext  int   // cursor into inboxFns
	closing    []int // descriptors to close after the batch
	wheel      *TimerWheel
	cur        *strand  // whose turn it is
	workset    *workset // of the runner
	listeners  []*loopListener
	unlistened bool     // there will be no listeners any more
	watches    []*watch // other descriptors; loop_watch.go
	due        []*watch // that have more to do; in the next round
	noting     []*watch // those of this round
	accepting  bool     // a listener has more
	quit       bool
	draining   bool          // idle connections are being closed
	leaving    bool          // because the server ends
	leftAt     time.Duration // since when
	drainNext  int           // cursor, a number as for connAt
	failure    error         // why the loop ended; readable once ended is closed
	ended      chan struct{} // closed when the loop is dead
}

// newLoop returns a loop over poller, which it owns from here on.
func newLoop(poller Poller) *Loop {
	l := &Loop{
		poller: poller,
		events: make([]Event, loopEvents),
		wheel:  NewTimerWheel(tick, time.Since(origin)),
		ended:  make(chan struct{}),
	}
	if p, ok := poller.(interface{ EdgeTriggered() bool }); poller != nil {
		l.managed = !ok || !p.EdgeTriggered()
	}
	if p, ok := poller.(interface{ descriptor() int }); ok && runtime.GOMAXPROCS(0) == 1 {
		if fd := p.descriptor(); fd >= 0 {
			l.parker, _ = newParker(fd, l.anything) // without one the loop blocks
		}
	}
	return l
}

// closePoller ends what newLoop began.
func (l *Loop) closePoller() {
	l.poller.Close()
	if l.parker != nil {
		l.parker.close()
	}
}

// inline reports whether a call of the route may run on the loop.
func (l *Loop) inline(rt *route) bool { return !l.offloads && rt.onLoop() }

// connAt returns the connection with that descriptor, nil for none.
func (l *Loop) connAt(fd int) *Conn {
	if uint(fd) < uint(len(l.conns)) {
		return l.conns[fd]
	}
	if uint(^fd) < uint(len(l.plain)) {
		return l.plain[^fd]
	}
	return nil
}
