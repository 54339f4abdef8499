package flare

import (
	"context"
	"sync"
	"time"
)

// This file is layer 3 (engine): output that any goroutine may write. A
// connection belongs to one goroutine, but a broadcast comes from others, so
// the way out of a connection with an outbox has a lock of its own: held around
// append and send, never while waiting. It knows bytes and bounds, and nothing
// of what they mean. HTTP has none of this; a protocol that wants it calls
// setOutbox while it has its turn.
//
// A write is sent at once by whoever makes it. Only while the connection has a
// turn on the loop itself the outbox is corked: what is written then leaves in
// one system call when the turn ends, or when the baton is taken from it. What
// the peer does not take waits in the queue; the readiness that announces room
// has it sent by the turn it starts, or, while the connection is lent, by the
// runner under the lock.

// An outboxOwner is told when the server ends.
type outboxOwner interface{ goingAway() }

// outboxRules are the bounds of an outbox, shared by all that have the same.
type outboxRules struct {
	bound  int // bytes that may wait
	policy QueuePolicy
	limit  roomLimit
}

// An outbox is the queue of a connection and the lock around its way out.
type outbox struct {
	// Fixed.
	c     *Conn
	owner outboxOwner
	rules *outboxRules

	mu         sync.Mutex
	*outStored        // guarded by mu; nil while the connection only waits
	epoch      uint64 // of the turn that has corked
	corked     bool   // a turn on the loop collects output
}

// queueFirst queues the output of the protocol before. Nobody else has ob yet.
func (ob *outbox) queueFirst(g *workset) {
	ob.lock()
	defer ob.unlock()
	ob.enqueue(g.out, nil, putControl)
	g.out = g.out[:0]
}

// setOutbox gives c an outbox. From here on any goroutine may write.
func (c *Conn) setOutbox(ob *outbox) {
	c.shared = true
	c.outbox.Store(ob)
}

// put writes head, of at most 32 bytes, and then p, both copied where they have
// to wait. It never waits itself: a message that QueueBlock has no room for is
// ErrBackpressure, and nothing of it was taken.
func (ob *outbox) put(head, p []byte, kind putKind) error {
	ob.lock()
	defer ob.unlock()
	if err := ob.refused(); err != nil {
		return err
	}
	switch {
	case kind == putLatest && ob.stuck:
		ob.latest = append(append(ob.latest[:0], head...), p...)
		return nil
	case kind == putMessage:
		if err := ob.admit(len(head)+len(p), ob.policy); err != nil {
			return err
		}
	}
	if kind == putLast {
		ob.seal()
	}
	rest := append(ob.head[:0], head...)
	if !ob.corked && !ob.stuck && ob.out.len() == 0 && ob.c.tr.anyoneSends() {
		all := len(rest) + len(p)
		rest, p = ob.sendDirect(rest, p)
		if ob.err != nil {
			return ob.err
		}
		if len(rest)+len(p) < all {
			kind = putControl // part of it is out: the rest must not be dropped
		}
	}
	ob.enqueue(rest, p, kind)
	ob.pushOut()
	return ob.err
}

// reserve finds room for a message of n bytes that is written as putAdmitted
// next. Its errors are those of put.
func (ob *outbox) reserve(n int, policy QueuePolicy) error {
	ob.lock()
	defer ob.unlock()
	if err := ob.refused(); err != nil {
		return err
	}
	return ob.admit(n, policy)
}

// admit finds room for a message of n bytes. ob.mu is held.
func (ob *outbox) admit(n int, policy QueuePolicy) error {
	if ob.fits(n) {
		return nil
	}
	if !ob.stuck {
		ob.sendWaiting(ob.c.tr.anyoneSends())
		if ob.err != nil || ob.fits(n) {
			return ob.err
		}
	}
	switch policy {
	case QueueDropConnection:
		ob.fail(ErrBackpressure)
		return ob.err
	case QueueDropOldest:
		ob.dropOldest(n, ob.c.tr.promised())
		return nil
	}
	return ErrBackpressure
}

// pushOut sends what waits, or sees to it that somebody does. ob.mu is held.
func (ob *outbox) pushOut() {
	switch {
	case ob.out.len() == 0 || ob.stuck:
	case ob.corked:
		if ob.out.len() >= flushBytes {
			ob.sendWaiting(ob.c.tr.anyoneSends())
		}
	case !ob.c.tr.anyoneSends():
		ob.nudge()
	default:
		ob.sendWaiting(true)
	}
}

// sendDirect offers head and p to the socket, and returns what it did not take.
// ob.mu is held, the queue is empty.
func (ob *outbox) sendDirect(head, p []byte) (restHead, rest []byte) {
	for len(head)+len(p) > 0 {
		n, err := ob.c.tr.send(head, p)
		if !ob.noteSend(n, err) {
			break
		}
		head, p = afterFront(head, p, n)
	}
	return head, p
}

// sendWaiting sends what waits, and then the latest. may says that this goroutine
// may use the connection's transport. ob.mu is held.
func (ob *outbox) sendWaiting(may bool) {
	if !may {
		return
	}
	for ob.out.len() > 0 && ob.err == nil {
		n, err := ob.c.tr.send(ob.out.waiting(), nil)
		if !ob.noteSend(n, err) {
			return
		}
		ob.out.free(n)
		ob.wake()
		if ob.out.len() > 0 {
			continue
		}
		ob.pace.reset()
		ob.takeLatest()
	}
}

// noteSend takes the result of a send; false: nothing more can be sent. ob.mu is
// held.
func (ob *outbox) noteSend(n int, err error) bool {
	switch err {
	case nil:
		ob.pace.moved += int64(n)
		ob.c.loop.counts.sums[countBytesOut].Add(uint64(n))
		return true
	case errWouldBlock:
		if !ob.stuck {
			ob.stuck = true
			ob.c.tr.boundUnsent(unsentBytesMax)
			ob.pace.begin(ob.c.tr.unacked(), time.Since(origin), ob.rules.limit)
			if at := ob.pace.alarm(ob.rules.limit); at != 0 {
				ob.alarm(at)
			}
			if ob.c.loop.managed {
				ob.c.askMore(Writable)
			}
		}
	default:
		ob.fail(err)
	}
	return false
}

// alarm has the loop look at the connection at the given time, if it would not
// do so earlier. ob.mu is held.
func (ob *outbox) alarm(at time.Duration) {
	c := ob.c
	c.loop.call(func() {
		if c.loop.connAt(c.fd) == c && (c.armed == 0 || c.armed > at) {
			c.armed = at
			c.timer.Value = c
			c.loop.wheel.Arm(&c.timer, at)
		}
	})
}

// nudge asks the loop for a turn in which the queue is sent. ob.mu is held.
func (ob *outbox) nudge() {
	if ob.nudged {
		return
	}
	ob.nudged = true
	c := ob.c
	c.loop.call(func() {
		if c.loop.connAt(c.fd) == c && c.take(ownWrite) {
			c.loop.ready.push(&c.strand)
		}
	})
}

// awaitWritten has the peer take what the transport has not written yet, in the
// time that it has for what a socket does not take.
func (ob *outbox) awaitWritten() {
	ob.lock()
	defer ob.unlock()
	ob.noteSend(0, errWouldBlock)
}

// fail makes every later write fail with err and cuts the connection, so that
// its owner comes to end it. ob.mu is held.
func (ob *outbox) fail(err error) {
	if ob.err != nil {
		return
	}
	ob.end(err)
	if ob.c.tr.anyoneSends() {
		ob.c.tr.cut()
	} else {
		ob.nudge()
	}
}

// kill ends the outbox before the descriptor goes: nobody sends after it.
func (ob *outbox) kill(err error) {
	ob.lock()
	defer ob.unlock()
	if ob.err == nil {
		ob.end(err)
	}
}

// cork collects what is written from here on, for a turn on the loop. It has no
// effect when the baton has been taken from that turn already; when it is taken
// later, the thief uncorks.
func (ob *outbox) cork(l *Loop, epoch uint64) {
	ob.mu.Lock()
	defer ob.mu.Unlock()
	if l.state.Load() == epoch {
		ob.corked, ob.epoch = true, epoch
	}
}

// uncork sends what was collected. mine says that the caller owns the
// connection.
func (ob *outbox) uncork(mine bool) {
	ob.mu.Lock()
	defer ob.unlock()
	ob.corked = false
	if ob.outStored != nil && !ob.stuck {
		ob.sendWaiting(mine || ob.c.tr.anyoneSends())
		if ob.out.len() > 0 && !ob.stuck && ob.err == nil {
			ob.nudge()
		}
	}
}

// writable has the queue sent after readiness has announced room. mine as in
// uncork.
func (ob *outbox) writable(mine bool) {
	ob.mu.Lock()
	defer ob.unlock()
	if ob.outStored == nil || !mine && !ob.c.tr.anyoneSends() {
		return
	}
	if ob.stuck {
		ob.pace.settle(time.Since(origin), ob.rules.limit)
	}
	ob.stuck, ob.nudged = false, false
	if ob.out.len() == 0 && ob.err == nil {
		ob.takeLatest()
	}
	ob.sendWaiting(true)
}

// awaitRoom waits until there may be room for n bytes, ctx ends, or the peer
// has taken nothing for the time it has.
func (ob *outbox) awaitRoom(ctx context.Context, n int) error {
	ob.lock()
	enough := ob.roomFor(n)
	if ob.corked { // nothing is collected while a writer waits
		ob.corked = false
		if !ob.stuck {
			ob.sendWaiting(ob.c.tr.anyoneSends())
		}
		// The writer may be the handler that holds the loop up. Whether it is
		// cannot be told; taking the loop away from one that is not does no
		// harm.
		epoch := ob.epoch
		ob.unlock()
		ob.c.loop.steal(epoch)
		ob.lock()
	}
	if err := ob.refused(); err != nil || ob.out.len() <= enough {
		ob.unlock()
		return err
	}
	room := ob.awaited(enough)
	for {
		at := time.Duration(0)
		if ob.stuck {
			at = ob.pace.alarm(ob.rules.limit)
		} else {
			at = after(time.Since(origin), ob.rules.limit.silence/roomLooks)
		}
		ob.unlock()
		there, err := awaitUntil(ctx, room, at)
		ob.c.loop.resumed()
		if there || err != nil {
			return err
		}
		ob.lock()
		if ob.overdue(time.Since(origin)) {
			ob.fail(ErrTimeout)
		}
		if err := ob.refused(); err != nil {
			ob.unlock()
			return err
		}
	}
}

// awaitUntil waits for room to be closed, which it reports, for the end of ctx,
// or for a moment, 0 for never.
func awaitUntil(ctx context.Context, room <-chan struct{}, at time.Duration) (there bool, err error) {
	var late <-chan time.Time
	if at != 0 {
		timer := time.NewTimer(max(at-time.Since(origin), tick))
		defer timer.Stop()
		late = timer.C
	}
	select {
	case <-room:
		return true, nil
	case <-ctx.Done():
		return false, ctx.Err()
	case <-late:
		return false, nil
	}
}

// overdue looks at what the peer has taken, and reports whether it was too little
// for too long. ob.mu is held.
func (ob *outbox) overdue(now time.Duration) bool {
	if ob.outStored == nil || !ob.stuck {
		return false
	}
	ob.pace.look(ob.c.tr.unacked(), now, ob.rules.limit)
	at := ob.pace.due(ob.rules.limit)
	return at != 0 && now >= at
}

// deadline is when the connection has to be looked at, 0 for never.
func (ob *outbox) deadline() (at time.Duration) {
	ob.mu.Lock()
	defer ob.mu.Unlock()
	if ob.outStored == nil {
		return 0
	}
	if ob.stuck {
		at = ob.pace.alarm(ob.rules.limit)
	}
	if ob.closeBy != 0 && (at == 0 || ob.closeBy < at) {
		at = ob.closeBy
	}
	return at
}

// lentUntil cuts a connection whose time is over while it is lent, so that its
// owner finds that out: the owner may be busy for long, and need not write. It
// returns when to look again, at the given time at the latest.
func (ob *outbox) lentUntil(now, latest time.Duration) time.Duration {
	if at := ob.deadline(); at == 0 || at > now {
		return soonest(at, latest)
	}
	ob.lock()
	defer ob.unlock()
	if ob.overdue(now) || ob.closeBy != 0 && now >= ob.closeBy {
		ob.fail(ErrTimeout)
	}
	return latest
}

// endBy forces the end of the connection at the given time.
func (ob *outbox) endBy(at time.Duration) {
	ob.lock()
	defer ob.unlock()
	if ob.closeBy == 0 && ob.err == nil {
		ob.closeBy = at
		ob.alarm(at)
	}
}

// ended reports whether nothing more can be written.
func (ob *outbox) ended() bool {
	ob.mu.Lock()
	defer ob.mu.Unlock()
	return ob.outStored != nil && (ob.sealed || ob.err != nil)
}

// waits reports whether the peer takes no more.
func (ob *outbox) waits() bool {
	ob.mu.Lock()
	defer ob.mu.Unlock()
	return ob.outStored != nil && ob.stuck
}

// over reports whether so much waits that nothing more should be read.
func (ob *outbox) over() bool {
	ob.mu.Lock()
	defer ob.mu.Unlock()
	return ob.outStored != nil && ob.stuck && ob.out.len() > ob.bound/2
}

// flushOutbox sends the turn's output. False as in flush: the connection waits
// for its peer, or is broken.
func (c *Conn) flushOutbox(ob *outbox, g *workset) bool {
	ob.mu.Lock()
	if ob.outStored == nil && len(g.out) == 0 {
		ob.corked = false
		ob.mu.Unlock()
		return true
	}
	ob.store()
	defer ob.unlock()
	if len(g.out) > 0 { // of the protocol before
		if ob.err == nil {
			ob.enqueue(g.out, nil, putControl)
		}
		g.out = g.out[:0]
	}
	ob.corked, ob.nudged = false, false
	if !ob.stuck {
		ob.sendWaiting(true)
	}
	switch {
	case ob.err != nil:
		c.end(endReset, ob.err)
		return false
	case c.ending != endNot:
		return ob.out.len() == 0
	case c.state == stateFlush:
		return ob.out.len() <= ob.bound/4
	}
	return !ob.stuck || ob.out.len() <= ob.bound/2
}

// stepOutbox begins a turn of a connection with an outbox; false: it waits for
// its peer.
func (c *Conn) stepOutbox(ob *outbox, g *workset) bool {
	if c.edges&ownWrite != 0 {
		c.edges &^= ownWrite
		ob.writable(true)
	}
	if !c.flushOutbox(ob, g) {
		return false
	}
	if c.state == stateFlush {
		c.setState(c.resume)
	}
	return true
}

// An alarmer is a Protocol that wants to be called at a certain time, through
// expire.
type alarmer interface {
	alarm(c *Conn) time.Duration // 0: never
}

// alarmDeadline is when a connection that has switched protocols wants to be
// looked at, 0 for never.
func (c *Conn) alarmDeadline() (at time.Duration) {
	if a, ok := c.proto.(alarmer); ok && c.state == stateSwitched {
		at = a.alarm(c)
	}
	if ob := c.outbox.Load(); ob != nil {
		if end := ob.deadline(); end != 0 && (at == 0 || end < at) {
			at = end
		}
	}
	return at
}

// protocolDue reports whether what has come to its time is the protocol's matter.
func (c *Conn) protocolDue(now time.Duration) bool {
	a, ok := c.proto.(alarmer)
	if !ok {
		return true
	}
	at := a.alarm(c)
	return at != 0 && at <= now
}

// alarmed is the turn of such a connection whose time has come. What is overdue
// ends it at once: its peer does not listen.
func (c *Conn) alarmed(g *workset) verdict {
	ob := c.outbox.Load()
	ob.mu.Lock()
	late := ob.overdue(g.clock.now)
	over := ob.outStored != nil && ob.closeBy != 0 && g.clock.now >= ob.closeBy
	ob.mu.Unlock()
	switch {
	case late:
		g.counts[countTimeoutWrite]++
		c.end(endReset, ErrTimeout)
		return verdictClose
	case over:
		c.end(endFlushed, ErrTimeout)
		return verdictClose
	}
	if e, ok := c.proto.(expirer); ok && c.state == stateSwitched && c.protocolDue(g.clock.now) {
		c.edges |= ownRead // a last look: something may have come that no turn has seen yet
		v := c.step(g)
		if at := c.alarmDeadline(); v != verdictIdle && v != verdictPartial || at == 0 || at > g.clock.now {
			return v
		}
		e.expire(c)
	}
	if !c.stepOutbox(ob, g) {
		return c.blocked()
	}
	if c.ending != endNot {
		return c.closeGracefully(g)
	}
	return c.resting()
}
