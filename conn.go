package flare

import (
	"log/slog"
	"net/netip"
	"sync/atomic"
	"time"
)

// This file is layer 3 (engine): a connection and the one seam above it. It
// moves bytes between a socket and a Protocol; it knows nothing of HTTP.
// conn_send.go has the way out, conn_close.go the end, baton.go who may do
// any of it.

// A Protocol is what a connection speaks. Its methods are called for one
// connection by one goroutine at a time, which may block in them.
//
// A Protocol may have more methods, which connections ask for:
//
//	Expired(c *Conn) // the time of Conn.SetTimeout has passed; without it the connection ends with ErrTimeout
type Protocol interface {
	// Data uses the front of in and reports how much. It is called again while
	// it makes progress; 0 asks for more. in is valid only during the call.
	// eof: the peer sends no more. An error ends the connection after what was
	// written has been sent.
	Data(c *Conn, in []byte, eof bool) (n int, err error)

	// Drained is called when output that had to wait for the peer has fallen to
	// the low mark, a quarter of what may wait: it is time to write again. While
	// output waits Data is not called.
	Drained(c *Conn)

	// Closed is called once, last, on a goroutine of its own. err is nil when
	// the connection ended in order. The connection can only be asked for its
	// addresses and its loop.
	Closed(c *Conn, err error)
}

// An expirer is a Protocol with something to say when a deadline passes.
type expirer interface {
	expire(c *Conn)
}

// connLimits are the bounds of a connection, shared by all of a server's.
type connLimits struct {
	idle, head, body, write time.Duration // 0: none
	handshake               time.Duration // 0: none
	bodyRate, writeRate     int64         // bytes a second, 0: none
	lingerSilent, lingerAll time.Duration
	outputBytes             int                 // queued by Write
	inputBytes              int                 // kept for a protocol that asks for more
	buffered                *bufferCount        // bytes in buffers of all connections
	ended                   func(*Conn)         // told of each that has ended, by whoever had it; may be nil
	logger                  func() *slog.Logger // nil: slog.Default; asked from any goroutine
}

// What a protocol asks of the turn it is in.
type connWant uint8

const (
	wantNothing connWant = iota
	wantWork             // the next call belongs on a worker
	wantTurn             // there is more to do, but others' turn first
)

// A Conn is a connection on a loop. Its methods may be called from the
// methods of its Protocol and from functions that were posted to it, and from
// nowhere else, unless they say otherwise.
type Conn struct {
	strand // whoever owns it owns the connection

	// Fixed when the connection is made.
	loop   *Loop
	limits *connLimits
	tr     transport
	peer   netip.Addr
	fd     int // negative: of the plain driver, see conn_plain.go

	// Any goroutine.
	outbox atomic.Pointer[outbox] // nil: only the owner writes; the owner itself looks at shared

	// The owner's: the runner, or the goroutine it is lent to.
	proto  Protocol
	unread *buffer       // input that the protocol has not used
	out    *unsent       // output that the peer did not take
	since  time.Duration // what the state's deadline counts from
	began  time.Duration // when the body or the lingering began
	moved  int           // bytes of a body received, or discarded, since began
	state  connState
	shown  connState // state as in the loop's gauges
	resume connState // state after flush
	want   connWant
	held   bool   // unread can be used without more input
	eof    bool   // the peer sends no more, and it has been read
	ending ending // how it ends; end sets it, and why
	shut   bool   // the write side has been shut; input is discarded
	shared bool   // there is an outbox; setOutbox
	rearm  bool   // the deadline may be earlier than the timer

	// The holder's.
	asked    Interest // what the poller was asked for, on a managed loop
	peerPort uint16   // fixed; here, and apart from peer, to fill a gap
	timer    WheelTimer
	armed    time.Duration // what timer is set to, 0: not
}

// init readies a connection that no loop knows yet.
func (c *Conn) init(l *Loop, limits *connLimits, fd int, peer netip.AddrPort) {
	c.conn = c
	c.loop, c.limits, c.fd, c.tr = l, limits, fd, (*fdConn)(c)
	c.peer, c.peerPort = peer.Addr(), peer.Port()
}

// verdictAdopt marks a posted connection that its loop has not seen before.
const verdictAdopt = verdictGone + 1

type turnKind uint8

const (
	turnDrive   turnKind = iota // readiness, or bytes that were held
	turnExpire                  // the state's deadline has passed
	turnDiscard                 // the connection lingers and has input
)

// takeTurn is one turn of the connection on workset g. It touches only the
// connection and the workset, so the runner and an owner run the same code.
//
// Code of the user that panics where nobody nearer has dealt with it ends the
// connection, and so does runtime.Goexit, which ends the goroutine as well.
func (c *Conn) takeTurn(g *workset, kind turnKind) (v verdict) {
	c.workset, g.strand = g, &c.strand
	p := guard(func() {
		switch kind {
		case turnDrive:
			v = c.step(g)
		case turnExpire:
			v = c.expired(g)
		case turnDiscard:
			v = c.discardInput(g)
		}
	}, c.exited)
	if p != nil {
		v = c.panicked(g, p)
	}
	c.workset, g.strand = nil, nil
	return v
}

func (c *Conn) drive(g *workset) verdict { return c.takeTurn(g, turnDrive) }

// step sends what is queued, receives, and feeds the protocol. On a loop it
// receives once, so that others get their turn.
func (c *Conn) step(g *workset) verdict {
	if c.state == stateHandshake {
		if v := c.tr.handshake(g); v != verdictMore {
			return v
		}
	} else if err := c.tr.flush(); err != nil && err != errWouldBlock {
		c.end(endReset, err)
		return verdictClose
	}
	if c.shared {
		if !c.stepOutbox(c.outbox.Load(), g) {
			return c.blocked()
		}
	} else {
		waits := c.out != nil && !c.sendQueued(g)
		if c.user() != nil {
			if v, ok := c.stepUser(g); !ok {
				return v
			}
		} else if waits {
			return c.blocked()
		}
	}
	if c.ending != endNot {
		return c.closeGracefully(g)
	}
	for {
		in, v := c.receive(g)
		if v != verdictMore {
			return v
		}
		if v = c.feed(g, in); v != verdictMore || g.loop != nil {
			return v
		}
	}
}

// receive returns input for the protocol, with verdictMore, or the verdict
// that stands when there is none.
func (c *Conn) receive(g *workset) ([]byte, verdict) {
	if c.held {
		c.held = false
		return c.unread.b, verdictMore
	}
	if c.edges&ownRead == 0 {
		return nil, c.resting()
	}
	buf := g.in
	if c.unread != nil {
		c.unread = c.growBuffer(c.unread, 1)
		buf = c.unread.b[len(c.unread.b):cap(c.unread.b)]
	}
	n, err := c.tr.recv(buf)
	c.tr.looked(err == errWouldBlock, g.clock.now)
	switch {
	case err == errWouldBlock:
		c.edges &^= ownRead
		return nil, c.resting()
	case err != nil:
		c.end(endFlushed, err)
		return nil, verdictClose
	case n == 0:
		c.eof = true
		c.edges &^= ownRead
	case n < len(buf) && c.tr.drained() && c.edges&(ownRDHup|ownHup) == 0:
		// A short read has emptied the socket, and what comes later is an edge
		// of its own. The end of the stream is only seen by reading it.
		c.edges &^= ownRead
	}
	g.counts[countBytesIn] += uint64(n)
	if c.unread != nil {
		c.unread.b = c.unread.b[:len(c.unread.b)+n]
		return c.unread.b, verdictMore
	}
	return buf[:n], verdictMore
}

// feed hands in to the protocol until it makes no more progress, sends what it
// wrote and keeps what it left.
func (c *Conn) feed(g *workset, in []byte) verdict {
	c.want = wantNothing
	for {
		if c.route != nil && g.loop != nil && !g.loop.inline(c.route) {
			c.want = wantWork
			break
		}
		n, err := c.data(g, in)
		c.called(g)
		if uint(n) > uint(len(in)) {
			n, err = 0, errDataCount
			c.end(endReset, err)
		}
		in = in[n:]
		if g.pushed != nil { // everything of in was used, and then some
			if c.unread != nil {
				c.putBuffer(c.unread)
			}
			c.unread, g.pushed = g.pushed, nil
			in = c.unread.b
		}
		if c.ending == endHandedOver {
			if c.unread != nil {
				c.putBuffer(c.unread)
				c.unread = nil
			}
			return verdictGone
		}
		if err != nil {
			c.end(endFlushed, err)
		}
		if c.ending != endNot || c.want != wantNothing {
			break
		}
		if c.pausing() {
			c.held = len(in) > 0 || c.eof
			break
		}
		if (c.out != nil || c.overfull(g)) && !c.flush(g) {
			c.held = len(in) > 0 || c.eof
			break
		}
		if n == 0 && c.eof {
			c.end(endFlushed, nil) // the peer sends no more, and nothing is left to do
			break
		}
		if n == 0 || len(in) == 0 && !c.eof {
			break
		}
	}
	if err := c.keep(in); err != nil {
		c.end(endReset, err)
	}
	if c.want == wantWork || c.want == wantTurn && len(in) > 0 {
		c.held = true // also when answers of before have to wait first
	}
	if !c.flush(g) {
		return c.blocked()
	}
	switch {
	case c.ending != endNot:
		return c.closeGracefully(g)
	case c.want == wantWork:
		return verdictWork
	case c.want == wantTurn:
		return verdictMore
	case c.pausing():
		return verdictPaused
	case c.edges&ownRead != 0:
		return verdictMore
	}
	return c.resting()
}

// called is for after each call of what may have waited: the limits of what
// comes next count from then.
func (c *Conn) called(g *workset) {
	if c.own.Load()&ownLent != 0 {
		g.clock.read()
	}
}

// data calls the protocol, timed where the predictor asks for it.
func (c *Conn) data(g *workset, in []byte) (n int, err error) {
	if c.route == nil {
		return c.proto.Data(c, in, c.eof)
	}
	c.since = g.clock.now
	g.setRoute(c.route)
	if g.loop != nil {
		g.counts[countInline]++
		return c.proto.Data(c, in, c.eof)
	}
	g.counts[countWorker]++
	before := time.Now()
	n, err = c.proto.Data(c, in, c.eof)
	if c.route.record(time.Since(before)) {
		g.counts[countPromotions]++
	}
	return n, err
}

// keep saves in, the unread rest of a turn's input, in the one place where it
// lives between turns.
func (c *Conn) keep(in []byte) error {
	switch {
	case len(in) == 0:
		if c.unread != nil {
			c.putBuffer(c.unread)
			c.unread = nil
		}
		if c.held || c.want == wantWork {
			c.unread = c.getBuffer(0) // the end of the stream is still to be fed
		}
	case c.unread != nil:
		if len(in) < len(c.unread.b) {
			c.unread.b = c.unread.b[:copy(c.unread.b, in)]
		}
	default:
		c.unread = c.getBuffer(len(in))
		c.unread.b = append(c.unread.b, in...)
	}
	if len(in) > c.limits.inputBytes {
		return ErrTooLarge
	}
	return nil
}

// getBuffer, growBuffer and putBuffer are those of buffer.go, counted for the
// server's bound.
func (c *Conn) getBuffer(n int) *buffer {
	b := getBuffer(n)
	c.limits.buffered.Add(int64(cap(b.b)))
	return b
}

func (c *Conn) growBuffer(b *buffer, n int) *buffer {
	before := cap(b.b)
	b = b.grown(n)
	c.limits.buffered.Add(int64(cap(b.b) - before))
	return b
}

func (c *Conn) putBuffer(b *buffer) {
	c.limits.buffered.Add(-int64(cap(b.b)))
	b.release()
}

// resting is the verdict of a connection with nothing left to do in a turn.
func (c *Conn) resting() verdict {
	if c.unread != nil || c.state == stateHead || c.state == stateBody || c.state == stateDrain {
		return verdictPartial
	}
	if c.tr.partial().began != 0 {
		return verdictPartial
	}
	return verdictIdle
}

// deadline is when the connection's state ends by itself, 0 for never.
func (c *Conn) deadline() time.Duration {
	var limit time.Duration
	switch c.state {
	case stateHandshake:
		limit = c.limits.handshake
	case stateIdle:
		limit = c.limits.idle
		if part := c.tr.partial(); part.began != 0 {
			return soonest(after(c.since, limit), after(part.began, c.limits.head))
		}
	case stateHead:
		limit = c.limits.head
	case stateBody:
		part := c.tr.partial() // is progress too
		since, moved := max(c.since, part.grew), int64(c.moved+part.size)
		return soonest(after(since, c.limits.body), after(c.began, rateLimit(c.limits.bodyRate, moved)))
	case stateFlush:
		if c.shared {
			return c.alarmDeadline()
		}
		return soonest(c.out.pace.alarm(c.roomLimit()), c.wakeAt())
	case stateSwitched:
		if c.user() != nil {
			return c.userDeadline()
		}
		return c.alarmDeadline()
	case stateDrain:
		return min(c.since+c.limits.lingerSilent, c.began+c.limits.lingerAll)
	}
	return after(c.since, limit)
}

// expired is the turn of a connection whose deadline has passed.
func (c *Conn) expired(g *workset) verdict {
	if at := c.wakeAt(); c.state == stateSwitched && c.user() != nil || at != 0 && at <= g.clock.now {
		return c.userExpired(g)
	}
	if (c.state == stateSwitched || c.state == stateFlush) && c.shared {
		return c.alarmed(g)
	}
	switch c.state {
	case stateIdle:
		// A last look: a request may have come that no turn has seen yet.
		c.edges |= ownRead
		v := c.step(g)
		if v == verdictPartial && c.state == stateIdle && c.deadline() <= g.clock.now {
			g.counts[countTimeoutHead]++ // in the middle of a record
			c.end(endFlushed, ErrTimeout)
			return verdictClose
		}
		if v != verdictIdle || c.since == g.clock.now {
			return v
		}
		g.counts[countTimeoutIdle]++
		return verdictClose
	case stateHandshake:
		g.counts[countTimeoutHandshake]++
		c.end(endFlushed, ErrTimeout)
		return verdictClose
	case stateFlush:
		if c.lookRoom(&c.out.pace, g.clock.now); c.out.pace.due(c.roomLimit()) > g.clock.now {
			return verdictFlush // the peer takes it, only not enough to make room
		}
		g.counts[countTimeoutWrite]++
		c.end(endReset, ErrTimeout)
		return verdictClose
	case stateDrain:
		g.counts[countTimeoutLinger]++
		return verdictClose
	case stateHead:
		g.counts[countTimeoutHead]++
	case stateBody:
		g.counts[countTimeoutBody]++
	}
	c.end(endFlushed, ErrTimeout)
	if e, ok := c.proto.(expirer); ok {
		e.expire(c)
		c.called(g)
	}
	if !c.flush(g) {
		return c.blocked()
	}
	return c.closeGracefully(g)
}

// recvWait receives at least a byte, waiting for the peer within the limits of
// time and rate. Only code that runs inside a handler calls it.
func (c *Conn) recvWait(p []byte) (int, error) {
	g := c.workset
	for {
		if g.broken(breakReads) {
			return 0, errRequestDone
		}
		n, err := c.tr.recv(p)
		g.reading.moved += int64(c.tr.counted(n))
		switch err {
		case nil:
			g.counts[countBytesIn] += uint64(n)
			if n == 0 {
				c.eof = true
			}
			return n, nil
		case errWouldBlock:
		default:
			return 0, err
		}
		g.detach()
		if err := g.reading.await(c, ownRead, c.limits.body, c.limits.bodyRate, g.readBy.at()); err != nil {
			return 0, err
		}
		c.edges |= ownRead // whether there is more than the next call takes is not known
	}
}

// Switch hands the connection to another protocol: the bytes after those that
// the running Data uses go to p.
func (c *Conn) Switch(p Protocol) {
	if u := c.user(); u != nil {
		u.Protocol = p
	} else {
		c.proto = p
	}
	if c.state != stateSwitched {
		c.setState(stateSwitched)
	}
}

// Close ends the connection once everything written has been sent. It does not
// wait. ErrClosed means that the connection was ending already, which goes on as
// it was begun.
func (c *Conn) Close() error {
	if c.ending != endNot {
		return ErrClosed
	}
	c.end(endFlushed, nil)
	return nil
}

// Abort ends the connection at once, with a reset.
func (c *Conn) Abort() { c.end(endReset, nil) }
