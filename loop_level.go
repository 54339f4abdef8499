package flare

// This file is layer 3 (engine): loops over pollers that repeat a condition
// while it lasts. It knows what a connection waits for between two turns, and
// asks the poller for that and nothing else; without it such a loop would never
// sleep, since nearly every socket has room to write nearly always. It is as
// right, and slower, over a poller that reports each condition once.

// ask has the poller report what c waits for after a turn that left v.
func (l *Loop) ask(c *Conn, v verdict) {
	var want Interest
	switch v {
	case verdictFlush:
		want = Writable
	case verdictIdle, verdictPartial, verdictLinger:
		if u := c.user(); u != nil && u.opening && c.state != stateHandshake {
			want = Writable // it is being dialled
			break
		}
		if !c.eof && c.edges&ownRead == 0 { // the end of a stream is there to be read for ever
			want = Readable
		}
		if ob := c.outbox.Load(); c.tr.holds() || ob != nil && ob.waits() {
			want |= Writable
		}
	case verdictMore:
		return // its next turn comes without an event
	}
	if c.many && v != verdictLinger {
		want = c.sessionInterest()
	}
	l.askFor(c, want)
}

// askFor has the poller report want for c from here on.
func (l *Loop) askFor(c *Conn, want Interest) {
	if c.asked != want && c.fd >= 0 && l.connAt(c.fd) == c {
		c.asked = want
		l.poller.Modify(c.fd, want)
	}
}

// mute has the poller not repeat what was noted for the owner of c.
func (l *Loop) mute(c *Conn, ready Interest) {
	if ready&Failed != 0 {
		ready = interestAll
	}
	l.askFor(c, c.asked&^ready)
}

// askMore has want reported beside what is. Any goroutine may call it: the
// owner of c, or who writes to its outbox.
func (c *Conn) askMore(want Interest) {
	l := c.loop
	l.call(func() { l.askFor(c, c.asked|want) })
}
