package flare

// This file is layer 3 (engine): how other goroutines reach a loop: connections
// that owners give back, functions to be called by the runner, and the lists
// of connections that wait for their turn.

// post hands a connection that was lent back to the loop, with c.verdict. The
// caller must not touch c afterwards.
func (l *Loop) post(c *Conn) {
	l.postMu.Lock()
	if l.dead {
		l.postMu.Unlock()
		c.abandon()
		return
	}
	c.nextPosted = l.posted
	l.posted = c
	l.has.Store(true)
	l.postMu.Unlock()
	l.wakeUp()
}

// call has the runner call fn. False: the loop has ended, fn will not run.
func (l *Loop) call(fn func()) bool {
	l.postMu.Lock()
	if l.dead {
		l.postMu.Unlock()
		return false
	}
	l.postedFns = append(l.postedFns, fn)
	l.has.Store(true)
	l.postMu.Unlock()
	l.wakeUp()
	return true
}

func (l *Loop) wakeUp() {
	if l.asleep.CompareAndSwap(true, false) {
		l.poller.Wake()
	}
}

// takePosted applies what was posted.
func (l *Loop) takePosted(f *frame) bool {
	l.postMu.Lock()
	l.has.Store(false)
	for c := l.posted; c != nil; { // turn the order round: first posted, first served
		next := c.nextPosted
		c.nextPosted = l.inbox
		l.inbox = c
		c = next
	}
	l.posted = nil
	l.inboxFns = append(l.inboxFns, l.postedFns...)
	clear(l.postedFns)
	l.postedFns = l.postedFns[:0]
	l.postMu.Unlock()

	for l.inbox != nil {
		c := l.inbox
		l.inbox, c.nextPosted = c.nextPosted, nil
		if c.verdict == verdictAdopt {
			l.add(c)
			continue
		}
		own := c.own.Swap(0)
		l.lent.Add(-1)
		c.edges |= own & ownEdges
		v := c.verdict
		if own&ownStop != 0 && v != verdictRemove {
			v = verdictClose
		}
		l.apply(c, v)
		// What came while it was lent is not announced again.
		if v != verdictClose && v != verdictRemove && v != verdictWork && own&ownEdges != 0 {
			l.ready.push(c)
		}
	}
	for len(l.inboxFns) > 0 {
		fn := l.inboxFns[0]
		l.inboxFns = l.inboxFns[1:]
		fn()
	}
	l.inboxFns = nil
	return true
}

// A connList is a list of connections through nextReady; a connection is in at
// most one.
type connList struct{ first, last *Conn }

func (q *connList) empty() bool { return q.first == nil }

func (q *connList) push(c *Conn) {
	if c.listed {
		return
	}
	c.listed = true
	if q.last == nil {
		q.first = c
	} else {
		q.last.nextReady = c
	}
	q.last = c
}

func (q *connList) pop() *Conn {
	c := q.first
	if c == nil {
		return nil
	}
	q.first, c.nextReady = c.nextReady, nil
	if q.first == nil {
		q.last = nil
	}
	c.listed = false
	return c
}
