package flare

import (
	"time"
)

// This file is layer 3 (engine): the baton. It knows who may touch a loop and
// a connection at any moment, and how that right moves; it knows nothing of
// HTTP. loop_turn.go and conn_turn.go call it, and every place of flare's own that has
// to wait calls detach first.
//
// A loop's fields belong to the goroutine that holds its baton, the runner. A
// connection belongs whole to one goroutine: the runner, or an owner to which
// it is lent. Loop.state is odd while the runner drives a connection; moving
// it from odd to the next even number is taking the baton, and exactly one of
// the runner (the turn is over), the runner again (it has to wait: a pass), the
// monitor (it has seen the same odd number twice: a steal) and a writer that has
// to wait, perhaps in that very turn (a steal too) does that.

// detach gives the baton away, if this turn still holds it, because the
// goroutine is about to wait: the connection is lent to it from here on and a
// fresh goroutine runs the loop. It comes before every wait of flare's own and
// may be called any number of times in a turn.
func (g *workset) detach() {
	g.mu.Lock()
	defer g.mu.Unlock()
	l := g.loop
	if l == nil {
		return
	}
	g.loop = nil
	// The state is odd, so the loop's fields are still this goroutine's to
	// read: nothing may be changed before the swap has won.
	s := g.strand
	if !l.state.CompareAndSwap(g.epoch, g.epoch+1) {
		l.stealMu.Lock() // the thief has lent the connection once it is free
		l.stealMu.Unlock()
		return
	}
	if s != nil {
		s.lend()
	}
	l.passes.Add(1)
	if rt := g.route.Load(); rt != nil {
		rt.demote()
	}
	l.spawn(func() { l.run(l.worksets.runner()) })
}

// lend marks the strand as owned by the calling or a coming goroutine. Only the
// holder of the baton calls it.
func (s *strand) lend() {
	c := s.conn
	c.loop.lent.Add(1)
	if !s.isConns() {
		s.own.Or(ownLent)
		return
	}
	// Not c.state, which is the owner's to read when the thief lends.
	c.show(stateHandler)
	if s.waits == nil {
		s.waits = new(ownerWaits)
	}
	s.own.Or(ownLent)
	if ob := c.outbox.Load(); ob != nil {
		ob.uncork(false) // the turn may take long from here on
	}
}

// steal takes the baton from a runner whose turn has published epoch and is
// still in it. The monitor calls it, and outbox.awaitRoom.
func (l *Loop) steal(epoch uint64) {
	l.stealMu.Lock()
	defer l.stealMu.Unlock()
	// Nothing of the loop is touched before this line.
	if !l.state.CompareAndSwap(epoch, epoch+1) {
		return
	}
	if l.cur != nil {
		l.cur.lend()
	}
	l.steals.Add(1)
	// The loser learns of it only when its handler returns, so the thief has
	// to demote the route, or each new call of it stalls the loop again.
	if rt := l.workset.route.Load(); rt != nil {
		rt.demote()
	}
	l.spawn(func() { l.run(l.worksets.runner()) })
}

// take notes edges for s and reports whether the runner may have it run. Only
// the holder calls it. While s is lent the edges go to its owner.
func (s *strand) take(edges uint32) bool {
	for {
		own := s.own.Load()
		if own&ownLent == 0 {
			s.edges |= edges
			return true
		}
		if !s.own.CompareAndSwap(own, (own|edges)&^ownWaits) {
			continue
		}
		if own&ownWaitRead != 0 {
			s.waits.read <- struct{}{} // capacity 1, and one signal a wait
		}
		if own&ownWaitWrite != 0 {
			s.waits.write <- struct{}{}
		}
		if own&ownCancel != 0 && edges&(ownHup|ownRDHup|ownStop) != 0 {
			cause := errPeerLeft
			if edges&ownStop != 0 {
				cause = ErrServerClosed
			}
			s.conn.loop.spawn(func() { s.cancel(cause) })
		}
		if ob := s.conn.outbox.Load(); ob != nil && s.isConns() && edges&(ownWrite|ownHup) != 0 {
			ob.writable(false) // its owner may be busy for long
		}
		return false
	}
}

// await blocks the owner, after detach, until bit was noted, and clears it, so
// that an edge that comes after the next system call is seen. It fails with
// ErrTimeout when limit passes (0: no limit), and ErrClosed when the server
// closes.
func (s *strand) await(bit uint32, limit time.Duration) error {
	note, wait := s.waits.note(bit)
	timer := &s.workset.timers[0]
	if bit == ownWrite {
		timer = &s.workset.timers[1]
	}
	set, late := false, false
	for {
		own := s.own.Load()
		switch {
		case own&ownStop != 0:
			return ErrClosed
		case own&(bit|ownHup) != 0: // a dead connection: the system call says how
			s.own.And(^bit)
			return nil
		case late:
			return ErrTimeout
		}
		if *note == nil {
			*note = make(chan struct{}, 1)
		}
		if !s.own.CompareAndSwap(own, own|wait) {
			continue
		}
		if s.conn.loop.managed && s.isConns() {
			s.conn.askMore(Interest(bit))
		}
		if limit <= 0 {
			<-*note
			s.conn.loop.resumed()
			continue
		}
		if !set {
			// Not below the loop's tick: a shorter timer makes every park of
			// the process dearer.
			d := max(limit, tick)
			if set = true; *timer == nil {
				*timer = time.NewTimer(d)
			} else {
				(*timer).Reset(d)
			}
			defer (*timer).Stop()
		}
		select {
		case <-*note:
		case <-(*timer).C:
			if s.own.And(^wait)&wait == 0 {
				<-*note // the signal was under way, perhaps of another edge
			}
			late = true
		}
		s.conn.loop.resumed()
	}
}

// wakeOwner makes an owner that waits for bit look again at what it waits for. Any
// goroutine may call it while the handler runs.
func (s *strand) wakeOwner(bit uint32) {
	for {
		own := s.own.Load()
		if own&ownLent == 0 {
			return // nobody waits, and who is about to will look
		}
		note, wait := s.waits.note(bit)
		if s.own.CompareAndSwap(own, (own|bit)&^wait) {
			if own&wait != 0 {
				*note <- struct{}{}
			}
			return
		}
	}
}

// finish ends an owner's time with s after a turn that left v: back to the loop
// without a word when there is nothing left to do, by post otherwise.
func (s *strand) finish(g *workset, v verdict) {
	c := s.conn
	l := c.loop
	g.loop = nil
	s.readClock(g) // the handler may have waited
	for s.isConns() && !c.many {
		switch v {
		case verdictWork, verdictMore:
			v = c.drive(g)
			continue
		case verdictIdle:
			g.publish(&l.counts)
			c.show(c.state)
			c.since = g.clock.now
			if c.rearm = c.rearm || c.wakesBy(g.clock.now+lentRecheck); c.rearm || l.managed {
				break // the holder has something to do
			}
			if s.own.CompareAndSwap(ownLent, 0) {
				// s is no longer this goroutine's.
				l.lent.Add(-1)
				g.release()
				return
			}
			old := s.own.And(^(ownEdges | ownCancel))
			s.edges |= old & ownEdges
			v = verdictClose
			if old&ownStop == 0 {
				v = c.drive(g)
			}
			continue
		}
		break
	}
	g.publish(&l.counts)
	g.release()
	if v != verdictGone {
		s.verdict = v
		l.post(s)
	}
}

// readClock is for the beginning and the end of an owner's time. A task's is read where
// its handler is timed.
func (s *strand) readClock(g *workset) {
	if s.isConns() {
		g.clock.read()
	}
}

// workerStint is for how long a worker goes on with what others wait for: not so long
// that the loop, where it shares a processor with the workers, notices.
const workerStint = shortCall

// hand lends s, whose next call is one for a worker. Only the runner calls it.
func (l *Loop) hand(s *strand) {
	s.lend()
	l.workMu.Lock()
	l.handed.push(s)
	first := !l.spare
	l.spare = true
	l.workMu.Unlock()
	if first {
		l.spawn(l.work)
	}
}

// work is a worker: it has calls made that are for one, one after the other, as long as
// they are short. Before each it sees to it that while more wait there is another worker,
// about to take the next: whatever a call does, it holds up none behind it.
func (l *Loop) work() {
	began := time.Since(origin)
	for spare := true; ; spare = false {
		l.workMu.Lock()
		if spare {
			l.spare = false
		}
		s := l.handed.pop()
		more := l.handed.first != nil && !l.spare
		l.spare = l.spare || more
		l.workMu.Unlock()
		if more {
			l.spawn(l.work)
		}
		if s == nil {
			return
		}
		if s.work(); time.Since(origin)-began >= workerStint {
			return
		}
	}
}

// work is the turn of a strand on a worker.
func (s *strand) work() {
	g := s.conn.loop.worksets.owner()
	s.readClock(g)
	s.finish(g, s.takeTurn(g, turnDrive))
}

// takeTurn is a turn of whatever s is for.
func (s *strand) takeTurn(g *workset, kind turnKind) verdict {
	if s.isConns() {
		return s.conn.takeTurn(g, kind)
	}
	return s.takeTask(g)
}

// takeTask is a turn of s's task. Code of the user that panics there has been
// dealt with; one that ends the goroutine ends the task.
func (s *strand) takeTask(g *workset) (v verdict) {
	t := s.waits.task
	s.workset, g.strand = g, s
	p := guard(func() { v = t.turn(g) }, func() {
		g.detach()
		v := t.exited(g)
		s.workset, g.strand = nil, nil
		s.finish(g, v)
	})
	if p != nil { // nobody nearer has dealt with it
		g.counts[countPanics]++
		logPanic(s.conn.limits.log(), "flare: a stream's turn panicked", p)
		v = t.exited(g)
	}
	s.workset, g.strand = nil, nil
	return v
}

// settle has the task do what a turn has left to be done. The runner calls it.
func (s *strand) settle(v verdict) {
	if v == verdictWork {
		s.conn.loop.hand(s)
		return
	}
	s.waits.task.settle(v)
}

// abandon ends s for an owner whose loop is dead.
func (s *strand) abandon() {
	if s.isConns() {
		s.conn.abandon()
		return
	}
	s.conn.loop.lent.Add(-1)
	s.waits.task.abandon()
}
