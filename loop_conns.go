package flare

// This file is layer 3 (engine): the connections of a loop: how they come and go,
// their timers, and the descriptors, which are closed behind the batch.

// show brings the loop's gauges up to date with the state of c. The owner of c
// calls it.
func (c *Conn) show(s connState) {
	if c.shown != s {
		c.loop.gauges[c.shown].Add(-1)
		c.loop.gauges[s].Add(1)
		c.shown = s
	}
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
		if c.own.Load()&ownLent == 0 && c.many {
			if c.state != stateDrain {
				c.proto.(multiplexer).drain(c, l.leaving)
			}
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
