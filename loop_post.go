package flare

// This file is layer 3 (engine): how other goroutines reach a loop: connections
// that owners give back, functions to be called by the runner, and the lists of
// strands that wait for their turn, or for a worker.

// post hands a strand that was lent back to the loop, with s.verdict. The caller
// must not touch s afterwards.
func (l *Loop) post(s *strand) {
	l.postMu.Lock()
	if l.dead {
		l.postMu.Unlock()
		s.abandon()
		return
	}
	l.link(s)
}

// link puts s among what is posted, and lets go of postMu.
func (l *Loop) link(s *strand) {
	s.nextPosted = l.posted
	l.posted = s
	l.has.Store(true)
	l.postMu.Unlock()
	l.wakeUp()
}

// A postedFunc is a function that the runner is to call.
type postedFunc struct {
	fn      func()
	guarded bool // a user's: it may block, and must not touch the loop
}

// call has the runner call fn, which may use the loop's fields and must not
// block. False: the loop has ended, fn will not run.
func (l *Loop) call(fn func()) bool { return l.enqueue(postedFunc{fn, false}, true) }

// enqueue is call for both kinds of function. Without wake a loop that sleeps
// goes on sleeping.
func (l *Loop) enqueue(p postedFunc, wake bool) bool {
	l.postMu.Lock()
	if l.dead || p.guarded && l.last {
		l.postMu.Unlock()
		return false
	}
	l.postedFns = append(l.postedFns, p)
	l.has.Store(true)
	l.postMu.Unlock()
	if wake {
		l.wakeUp()
	}
	return true
}

// refuse takes no more functions of users. It reports whether the loop has to
// look once more for what was posted before.
func (l *Loop) refuse() bool {
	l.postMu.Lock()
	defer l.postMu.Unlock()
	first := !l.last
	l.last = true
	return first
}

func (l *Loop) wakeUp() {
	if l.asleep.CompareAndSwap(true, false) {
		l.poller.Wake()
	}
}

// takePosted applies what was posted. False: the baton was taken meanwhile; the
// new runner goes on with what is left in the inboxes.
func (l *Loop) takePosted(g *workset) bool {
	l.collectPosted()
	for l.inbox != nil {
		s := l.inbox
		l.inbox, s.nextPosted = s.nextPosted, nil
		l.takeBack(s)
	}
	for l.inboxNext < len(l.inboxFns) {
		p := l.inboxFns[l.inboxNext]
		l.inboxFns[l.inboxNext] = postedFunc{}
		l.inboxNext++
		if !p.guarded {
			p.fn()
		} else if !l.callback(g, p.fn, nil) {
			return false
		}
	}
	l.inboxFns, l.inboxNext = l.inboxFns[:0], 0
	if cap(l.inboxFns) > inboxKept {
		l.inboxFns = nil
	}
	return true
}

// collectPosted moves what was posted to the inboxes.
func (l *Loop) collectPosted() {
	l.postMu.Lock()
	defer l.postMu.Unlock()
	l.has.Store(false)
	for s := l.posted; s != nil; { // turn the order round: first posted, first served
		next := s.nextPosted
		s.nextPosted = l.inbox
		l.inbox = s
		s = next
	}
	l.posted = nil
	l.inboxFns = append(l.inboxFns, l.postedFns...)
	clear(l.postedFns)
	l.postedFns = l.postedFns[:0]
	if cap(l.postedFns) > inboxKept {
		l.postedFns = nil
	}
}

// takeBack makes the loop the owner of a strand that was posted.
func (l *Loop) takeBack(s *strand) {
	switch {
	case s.verdict == verdictAdopt:
		s.verdict = verdictIdle
		l.add(s.conn)
		return
	case s.wishes():
		l.takeWishes(s.conn)
		return
	}
	own := s.own.Swap(0)
	l.lent.Add(-1)
	s.edges |= own & ownEdges
	v := s.verdict
	if !s.isConns() {
		s.settle(v)
		return
	}
	if own&ownStop != 0 && v != verdictRemove {
		v = verdictClose
	}
	// What came while it was lent is not announced again. Before what v asks for: who
	// lingers would only discard, and what is left of a close_notify would wait.
	if v != verdictClose && v != verdictRemove && v != verdictWork && own&ownEdges != 0 {
		l.ready.push(s)
	}
	l.apply(s, v)
}

// inboxKept is for how many posted functions a loop keeps room.
const inboxKept = 1024

// A strandList is a list of strands through nextReady; one is in at most one.
type strandList struct{ first, last *strand }

func (q *strandList) empty() bool { return q.first == nil }

func (q *strandList) push(s *strand) {
	if s.listed {
		return
	}
	s.listed = true
	if q.last == nil {
		q.first = s
	} else {
		q.last.nextReady = s
	}
	q.last = s
}

func (q *strandList) pop() *strand {
	s := q.first
	if s == nil {
		return nil
	}
	q.first, s.nextReady = s.nextReady, nil
	if q.first == nil {
		q.last = nil
	}
	s.listed = false
	return s
}

// A handedList is a list of strands that are lent, and that no goroutine has yet, through
// nextPosted: one that is lent may still be in a strandList.
type handedList struct{ first, last *strand }

func (q *handedList) push(s *strand) {
	if q.last == nil {
		q.first = s
	} else {
		q.last.nextPosted = s
	}
	q.last = s
}

func (q *handedList) pop() *strand {
	s := q.first
	if s == nil {
		return nil
	}
	if q.first, s.nextPosted = s.nextPosted, nil; q.first == nil {
		q.last = nil
	}
	return s
}
