package flare

import (
	"runtime"
	"time"
)

// This file is layer 3 (engine): the loop at work: it takes a batch, hands
// connections their turn, and waits for the next. Whoever holds the baton
// (baton.go) runs it; all cursors live in the Loop, never in a local across a
// turn, because the baton can be taken in the middle of a batch.

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
	g.taken = l.taken
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
		for s := l.tasks.pop(); s != nil; s = l.tasks.pop() {
			l.handled++
			if !l.turn(s, g, turnDrive) {
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
		if len(l.flushing) > 0 {
			l.flushSessions(g)
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
	if s.conn.many && s.isConns() {
		l.turnSession(s.conn, g, kind)
		return true
	}
	epoch := l.state.Load() + 1
	l.cur = s
	g.loop, g.epoch = l, epoch
	l.state.Store(epoch)
	if !monitor.active.Load() && !l.unwatched { // after the store: see monitorState.kick
		monitor.kick()
	}
	v := s.takeTurn(g, kind)
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
	if !s.isConns() {
		s.settle(v)
		return
	}
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
		l.hand(s)
		return
	case verdictRemove:
		l.remove(c)
		s.waits.removed() // whose c is from here on
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
	if l.poll(0) > 0 || l.quit || l.pending() {
		if l.dated.Load() {
			g.clock.read()
		}
		l.took(g)
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
	l.took(g)
	l.handled = 0
}

// took notes when a batch was taken.
func (l *Loop) took(g *workset) {
	l.taken = g.clock.now
	g.taken = l.taken
}

// pending reports whether there is something to do without an event.
func (l *Loop) pending() bool {
	return !l.turning.empty() || !l.tasks.empty() || len(l.flushing) > 0 || !l.lingering.empty() || len(l.noting) > 0 ||
		l.accepting || l.has.Load()
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
	l.endConns(reason)
	l.postMu.Lock()
	l.dead = true
	posted, fns := l.posted, l.postedFns
	l.posted, l.postedFns = nil, nil
	l.postMu.Unlock()
	for posted != nil {
		s := posted
		posted = s.nextPosted
		if !s.wishes() {
			s.abandon()
		}
	}
	for s := l.tasks.pop(); s != nil; s = l.tasks.pop() {
		s.waits.task.abandon() // they were not lent
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

// endConns closes the connections that are the loop's, and cuts those that are
// lent.
func (l *Loop) endConns(reason error) {
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
}
