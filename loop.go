package flare

import (
	"runtime"
	"sync"
	"sync/atomic"
	"time"
)

// This file is layer 3 (engine): the loop. It polls, hands connections their
// turn, keeps the timers and closes descriptors. Whoever holds the baton
// (baton.go) runs it; all cursors live in the struct, never in a local across
// a turn, because the baton can be taken in the middle of a batch.

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
	handled    int     // events, or rounds without, since the clock was read
	conns      []*Conn // by descriptor
	plain      []*Conn // those of the plain driver, by ^fd
	plainFree  []int   // numbers that none of them has any more
	open       int     // connections in conns
	ready      strandList
	turning    strandList // ready ones of this round
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

// start runs the loop on a goroutine of its own until quit.
func (l *Loop) start() {
	l.stage.Store(loopOwned)
	if !l.unwatched {
		monitor.watch(l)
	}
	l.spawn(func() { l.run(l.worksets.runner()) })
}

// run is the runner: it returns when the loop has ended, or when the baton was
// taken from it in the middle of a turn.
func (l *Loop) run(g *workset) {
	l.workset = g
	g.clock.read()
	for {
		for l.next < l.count {
			ev := &l.events[l.next]
			l.next++
			if c := l.connAt(ev.FD); c == nil {
				if !l.otherReady(ev, g) {
					return
				}
			} else if !c.take(uint32(ev.Ready)) {
				if l.managed {
					l.mute(c, ev.Ready)
				}
			} else if !l.turn(&c.strand, g, turnDrive) {
				return
			}
		}
		for s := l.turning.pop(); s != nil; s = l.turning.pop() {
			if s.take(0) && s.conn.state != stateClosed && !l.turn(s, g, turnDrive) {
				return
			}
		}
		if !l.lingering.empty() && !l.discardSome(g) {
			return
		}
		if l.accepting {
			l.acceptMore()
		}
		if len(l.noting) > 0 && !l.notifyDue(g) {
			return
		}
		if (l.has.Load() || l.inboxNext < len(l.inboxFns)) && !l.takePosted(g) {
			return
		}
		if !l.expire(g) || l.draining && !l.drain(g) {
			return
		}
		l.closeAll()
		if l.quit {
			if l.refuse() {
				continue
			}
			l.end(g)
			return
		}
		l.wait(g)
	}
}

// turn lets s have its turn and applies what it leaves to be done. False: the
// baton was taken meanwhile, and the caller has nothing left to do.
func (l *Loop) turn(s *strand, g *workset, kind turnKind) bool {
	epoch := l.state.Load() + 1
	l.cur = s
	g.loop, g.epoch = l, epoch
	l.state.Store(epoch)
	if !monitor.active.Load() && !l.unwatched { // after the store: see monitorState.kick
		monitor.kick()
	}
	v := s.conn.takeTurn(g, kind)
	if g.loop == nil { // passed
		s.finish(g, v)
		return false
	}
	g.loop = nil
	if !l.state.CompareAndSwap(epoch, epoch+1) { // stolen
		l.stealMu.Lock()
		l.stealMu.Unlock()
		s.finish(g, v)
		return false
	}
	l.apply(s, v)
	return true
}

// apply does what a turn left to be done.
func (l *Loop) apply(s *strand, v verdict) {
	c := s.conn
	switch v {
	case verdictIdle, verdictPaused:
		if c.armed == 0 || c.rearm {
			c.rearm = false
			l.arm(c)
		}
	case verdictPartial, verdictFlush:
		l.arm(c)
	case verdictLinger:
		l.arm(c)
		if c.edges&ownRead != 0 {
			l.lingering.push(s)
		}
	case verdictMore:
		l.ready.push(s)
	case verdictWork:
		s.lend()
		l.spawn(s.work)
		return
	case verdictRemove:
		l.remove(c)
		close(s.waits.removed) // c is its owner's alone from here on
		return
	case verdictClose:
		l.close(c)
		return
	}
	c.show(c.state)
	if l.managed {
		l.ask(c, v)
	}
}

// show brings the loop's gauges up to date with the state of c. The owner of c
// calls it.
func (c *Conn) show(s connState) {
	if c.shown != s {
		c.loop.gauges[c.shown].Add(-1)
		c.loop.gauges[s].Add(1)
		c.shown = s
	}
}

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

// adopt makes c one of the loop's connections. Any goroutine may call it.
func (l *Loop) adopt(c *Conn) {
	c.verdict = verdictAdopt
	l.post(&c.strand)
}

// startDrain has idle connections closed, and the owners of outboxes told when
// that is because the server ends. The runner calls it.
func (l *Loop) startDrain(leaving bool) {
	l.draining, l.drainNext = true, -len(l.plain)
	if leaving && !l.leaving {
		l.leaving, l.leftAt = true, l.workset.clock.now
	}
}

// drain closes the connections that are idle, after a last look for a request
// that has arrived meanwhile.
func (l *Loop) drain(g *workset) bool {
	for l.drainNext < len(l.conns) {
		c := l.connAt(l.drainNext)
		l.drainNext++
		if c == nil || c.fd < 0 && !l.drainPlain(c, g) {
			continue
		}
		if c.tr.handshaking() {
			// One that has begun is lent and has its time, HandshakeTimeout; a peer
			// that has sent nothing yet has none, once that has been looked for.
			if l.leaving && c.own.Load()&ownLent == 0 && g.clock.now >= c.since+plainSettle {
				l.close(c)
			}
			continue
		}
		if ob := c.outbox.Load(); ob != nil {
			if l.leaving {
				ob.owner.goingAway()
			}
			continue
		}
		if !c.take(ownRead) || c.state != stateIdle || l.greets(c, g.clock.now) {
			continue
		}
		if !l.turn(&c.strand, g, turnDrive) {
			return false
		}
		if c.own.Load()&ownLent == 0 && c.state == stateIdle {
			l.close(c)
		}
	}
	l.draining = false
	return true
}

// add makes c one of the loop's connections.
func (l *Loop) add(c *Conn) {
	if l.dead { // it came when the rest was closed already
		c.end(endFlushed, ErrClosed)
		l.close(c)
		return
	}
	if c.fd < 0 {
		l.addPlain(c)
	} else if err := l.addFD(c); err != nil {
		c.end(endFlushed, err)
		l.close(c)
		return
	}
	l.open++
	c.shown = c.state
	l.gauges[c.shown].Add(1)
	c.since = l.workset.clock.now
	l.arm(c)
}

// addFD has the poller watch c.
func (l *Loop) addFD(c *Conn) error {
	if err := l.poller.Add(c.fd, Readable|Writable); err != nil {
		return err
	}
	if c.fd >= len(l.conns) {
		grown := make([]*Conn, max(64, 2*c.fd)) // what is not used yet is not in memory either
		copy(grown, l.conns)
		l.conns = grown
	}
	l.conns[c.fd] = c
	c.asked = Readable | Writable
	return nil
}

// remove takes c off the loop without closing its descriptor.
func (l *Loop) remove(c *Conn) {
	l.wheel.Cancel(&c.timer) // a timer never outlives its connection
	c.armed = 0
	if l.connAt(c.fd) == c {
		if c.fd < 0 {
			l.removePlain(c)
		} else {
			l.conns[c.fd] = nil
			l.poller.Remove(c.fd)
		}
		l.open--
		l.gauges[c.shown].Add(-1)
	}
}

// close ends c. Its descriptor is closed after the batch, so that an event of
// this batch never meets a connection that got the same number.
func (l *Loop) close(c *Conn) {
	if c.state == stateClosed {
		return
	}
	c.setState(stateClosed)
	l.remove(c)
	if ob := c.outbox.Load(); ob != nil {
		ob.kill(ErrClosed)
	}
	c.tr.end(c.broken())
	if c.fd >= 0 {
		if c.broken() {
			l.resetFD(c.fd)
		}
		l.closing = append(l.closing, c.fd)
	}
	c.ended()
}

func (l *Loop) closeAll() {
	for _, fd := range l.closing {
		l.closeFD(fd)
	}
	l.closing = l.closing[:0]
}

// arm sets c's timer to its deadline. A timer that would come early is left
// alone and looks again when it fires: a busy connection does not touch the
// wheel.
func (l *Loop) arm(c *Conn) {
	at := c.deadline()
	if at == 0 || c.armed != 0 && c.armed <= at {
		return
	}
	c.armed = at
	c.timer.Value = c
	l.wheel.Arm(&c.timer, at)
	if idle := c.limits.idle; idle > 0 && at > after(l.workset.clock.now, idle) {
		c.rearm = true // too late for the next idle deadline
	}
}

// expire gives each connection whose time is over its turn.
func (l *Loop) expire(g *workset) bool {
	l.wheel.Advance(g.clock.now)
	for t := l.wheel.Next(); t != nil; t = l.wheel.Next() {
		switch v := t.Value.(type) {
		case *Timer:
			if !l.quit && v.stage.CompareAndSwap(timerWaits, timerCalled) && !l.callback(g, v.fn, nil) {
				return false
			}
		case *loopListener:
			v.paused = false
			if l.managed {
				l.poller.Modify(v.fd, Readable)
			}
			l.acceptFrom(v, acceptsPerTurn)
		case *Conn:
			v.armed = 0
			if !v.take(0) {
				// Its fields are the owner's, and so are the owner's waits.
				v.armed = g.clock.now + lentRecheck
				if ob := v.outbox.Load(); ob != nil {
					v.armed = ob.lentUntil(g.clock.now, v.armed)
				}
				l.wheel.Arm(t, v.armed)
			} else if at := v.deadline(); at > g.clock.now {
				l.arm(v)
			} else if at == 0 && v.limits.idle > 0 {
				// An owner may make it idle without a word: look again then.
				v.armed = after(g.clock.now, v.limits.idle)
				l.wheel.Arm(t, v.armed)
			} else if at != 0 {
				// A last look may find something and lend the connection, and an
				// owner gives it back without a word: the timer has to stay.
				v.armed = g.clock.now + lentRecheck
				l.wheel.Arm(t, v.armed)
				if !l.turn(&v.strand, g, turnExpire) {
					return false
				}
				if l.connAt(v.fd) == v && v.own.Load()&ownLent == 0 {
					l.arm(v)
				}
			}
		}
	}
	return true
}

// wait takes the next batch. It looks without blocking, lets other goroutines
// run, looks again, and only then blocks; see block.
func (l *Loop) wait(g *workset) {
	// A round without events takes time too: of what was posted, of turns that go on.
	if l.handled += max(l.count, 1); l.handled >= clockEvents || g.timed > 0 {
		l.readClock(g)
	}
	g.publish(&l.counts)
	if l.lent.Load() > 0 {
		// Owners are waiting for this processor: without this they get it only
		// when the loop is out of work.
		runtime.Gosched()
	}
	l.turning, l.ready = l.ready, strandList{}
	l.noting, l.due = l.due, l.noting[:0]
	if l.poll(0) > 0 || l.quit || !l.turning.empty() || !l.lingering.empty() || len(l.noting) > 0 || l.accepting || l.has.Load() {
		return
	}
	runtime.Gosched()
	if l.poll(0) == 0 && !l.quit { // a poller that has failed is not asked again
		l.asleep.Store(true)
		if !l.has.Load() { // post stores has before it looks at asleep
			l.block(g)
		}
		l.asleep.Store(false)
	}
	g.clock.read()
	l.handled = 0
}

// block waits for events or a wake-up, in an ordinary system call: a raw one
// would hold up the runtime, and a goroutine parked in the runtime's poller does
// not wake the runtime's supervisor, without which a call that spins keeps the
// processor for as long as it likes.
//
// With one processor, though, an ordinary call costs more than the rest of a
// request when requests are few: the supervisor takes the processor away and it
// has to be won back, and goroutines whose sleep is over wait for that too.
// There the loop parks, and the monitor's timer stays pending while a connection
// is lent: with one pending the supervisor does not sleep for longer.
func (l *Loop) block(g *workset) {
	if l.parker == nil {
		l.poll(l.timeout(g))
		return
	}
	var until time.Time
	if at, ok := l.wheel.Deadline(); ok {
		until = origin.Add(max(at, g.clock.now+tick))
	}
	if err := l.parker.wait(until); err != nil {
		l.parker.close()
		l.parker = nil
	}
}

// anything looks whether there is something to do.
func (l *Loop) anything() bool { return l.poll(0) > 0 || l.has.Load() || l.quit }

// readClock takes the time, and learns from it how long the turns since the
// last look took.
func (l *Loop) readClock(g *workset) {
	before, expected := g.clock.now, longTurn+time.Duration(l.handled)*usualTurn
	g.clock.read()
	l.handled = 0
	if took := g.clock.now - before; took > expected {
		g.timed = timedTurns
		l.counts.lag(took)
	} else if g.timed > 0 {
		g.timed--
	}
}

// timeout is how long the loop may block.
func (l *Loop) timeout(g *workset) time.Duration {
	at, ok := l.wheel.Deadline()
	if !ok {
		return -1
	}
	return max(at-g.clock.now, tick)
}

func (l *Loop) poll(timeout time.Duration) int {
	n, err := l.poller.Wait(l.events, timeout)
	if err != nil {
		// A poller that fails is closed or a fault of the program: there is
		// nothing to drive any more.
		l.fail(err)
		l.failed.Store(true)
		n = 0
	}
	l.next, l.count = 0, n
	return n
}

// end closes everything that is the loop's and makes it dead. Connections that
// are lent are told to stop; their owners close them.
func (l *Loop) end(g *workset) {
	reason := ErrClosed
	if l.stage.Load() == loopOwned {
		reason = ErrServerClosed
	}
	l.unlisten()
	l.unwatchAll()
	for fd := -len(l.plain); fd < len(l.conns); fd++ {
		c := l.connAt(fd)
		if c == nil {
			continue
		}
		if c.take(ownStop) {
			c.end(endFlushed, reason)
			l.close(c)
		} else {
			if ob := c.outbox.Load(); ob != nil {
				ob.kill(reason)
			}
			c.tr.cut()
		}
	}
	l.postMu.Lock()
	l.dead = true
	posted, fns := l.posted, l.postedFns
	l.posted, l.postedFns = nil, nil
	l.postMu.Unlock()
	for posted != nil {
		s := posted
		posted = s.nextPosted
		s.conn.abandon()
	}
	for _, p := range fns {
		p.fn() // the loop's own: users' have been called
	}
	l.closeAll()
	if !l.unwatched {
		monitor.unwatch(l)
	}
	l.closePoller()
	g.publish(&l.counts)
	g.release()
	close(l.ended)
}
