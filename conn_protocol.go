package flare

import (
	"errors"
	"log/slog"
	"net/netip"
	"sync/atomic"
	"time"
)

// This file is layer 3 (engine): what a Conn does for a Protocol of a user
// beside reading and writing: pausing, functions from other goroutines,
// timeouts, and the end of one whose code panics. conn.go has the turns in
// which all of it happens, conn_netconn.go the blocking view.

// A Protocol with an Expired method is asked what to do when the time of
// Conn.SetTimeout has passed; without one the connection ends with ErrTimeout.
type expiredProtocol interface {
	Expired(c *Conn)
}

// A PanicError says that a Protocol's method panicked. Its connection ends with
// it.
type PanicError struct {
	Value any    // of the panic
	Stack []byte // where it was
}

// Error does not repeat the value, which may be of the peer's making.
func (e *PanicError) Error() string { return "flare: a protocol panicked" }

// Unwrap returns the value if it is an error.
func (e *PanicError) Unwrap() error {
	err, _ := e.Value.(error)
	return err
}

// errDataCount is the end of a connection whose Data reports more than it was
// given.
var errDataCount = errors.New("flare: Data used more than it was given")

// errGoexit is the end of a connection whose Protocol ended the goroutine.
var errGoexit = errors.New("flare: a protocol called runtime.Goexit")

// panicked ends a turn in which code of the user panicked.
func (c *Conn) panicked(g *workset, p *panicError) verdict {
	g.counts[countPanics]++
	c.dropTurn(g)
	if c.user() == nil {
		c.end(endReset, p)
		logPanic(c.limits.log(), "flare: a connection's turn panicked", p)
	} else {
		c.end(endReset, &PanicError{Value: p.value, Stack: p.stack})
	}
	if c.ending == endHandedOver {
		return verdictGone
	}
	return verdictClose
}

// An exiter is a Protocol of flare's own with something to do when code that it
// has called ended the goroutine. The connection is lent to that goroutine, which
// is about to give it back with the verdict.
type exiter interface {
	exited(c *Conn) verdict
}

// exited ends the connection of a turn whose goroutine is ended by
// runtime.Goexit: the connection ends with it, the loop and all others do not.
func (c *Conn) exited() {
	g, v := c.workset, verdictClose
	g.detach()
	switch e, ok := c.proto.(exiter); {
	case c.state == stateHandshake:
		v = c.exitedHandshake(g)
	case ok:
		v = e.exited(c)
	case c.ending == endHandedOver:
		v = verdictGone
	default:
		c.end(endReset, errGoexit)
	}
	c.dropTurn(g)
	c.workset, g.strand = nil, nil
	c.finish(g, v)
}

// dropTurn forgets what a turn that did not come to its end has left behind.
func (c *Conn) dropTurn(g *workset) {
	g.out = g.out[:0]
	if g.pushed != nil {
		c.putBuffer(g.pushed)
		g.pushed = nil
	}
	if c.ending == endHandedOver { // or the end of the connection lets go of it
		c.dropUnread()
	}
}

// callClosed tells c's protocol that c has ended. It is the only one to have c.
func (c *Conn) callClosed() {
	if p := guard(func() { c.proto.Closed(c, c.cause) }, nil); p != nil {
		logPanic(c.limits.log(), "flare: Closed panicked", p)
	}
}

// log returns where a connection's faults are told that have nobody else to be
// told.
func (lim *connLimits) log() *slog.Logger {
	if lim.logger == nil {
		return slog.Default()
	}
	return lim.logger()
}

// A userConn is what a connection with a user's protocol has beside a Conn.
type userConn struct {
	Protocol // the user's

	paused atomic.Bool // any goroutine's

	fns []func() // guarded by the loop's postMu: what others want called

	// The owner's.
	wakeAt        time.Duration // when SetTimeout's time is over, 0: never
	opening       bool          // the first turn is to come; loop_dial.go
	drainedCalled bool          // Drained was called for what waits
}

// user returns what c has for a user's protocol; nil for HTTP, and for what it
// switches to.
func (c *Conn) user() *userConn {
	u, _ := c.proto.(*userConn)
	return u
}

// Loop returns the loop that the connection is on. Any goroutine may call it.
func (c *Conn) Loop() *Loop { return c.loop }

// ProxyHeader returns what a trusted proxy has said in front of the connection
// (Server.ProxyProtocol), nil if there was nothing. It must not be changed. Any
// goroutine may call it.
func (c *Conn) ProxyHeader() *ProxyHeader { return c.limits.proxied }

// RemoteAddr returns the peer's address, or what a trusted proxy has said that it is
// (Server.ProxyProtocol); the zero value for a Unix socket. Any goroutine may call it.
func (c *Conn) RemoteAddr() netip.AddrPort { return netip.AddrPortFrom(c.peer, c.peerPort) }

// LocalAddr returns the connection's own address; the zero value for a Unix
// socket and for one that is broken.
func (c *Conn) LocalAddr() netip.AddrPort {
	return c.tr.localAddr()
}

// Post has fn called as the methods of the connection's Protocol are: when none
// of them runs, and with the right to use the connection. It is how others
// write to it. Any goroutine may call it; from a method of the Protocol fn runs
// after that has returned. ErrClosed means that the loop has ended; a connection
// that ends, or has ended, does so without calling what is still posted.
func (c *Conn) Post(fn func()) error {
	l := c.loop
	u := c.user()
	l.postMu.Lock()
	if l.dead {
		l.postMu.Unlock()
		return ErrClosed
	}
	u.fns = append(u.fns, fn)
	first := len(u.fns) == 1
	l.postMu.Unlock()
	if first {
		c.nudge()
	}
	return nil
}

// nudge asks the loop for a turn. Any goroutine may call it.
func (c *Conn) nudge() {
	l := c.loop
	l.call(func() {
		if l.connAt(c.fd) != c { // it has ended
			l.postMu.Lock()
			c.user().fns = nil
			l.postMu.Unlock()
		} else if c.take(ownNudge) {
			l.ready.push(&c.strand)
		}
	})
}

// callPosted calls what was posted to c.
func (c *Conn) callPosted(g *workset) {
	u := c.user()
	c.loop.postMu.Lock()
	fns := u.fns
	u.fns = nil
	c.loop.postMu.Unlock()
	g.setRoute(c.route)
	for _, fn := range fns {
		fn()
	}
}

// Pause stops reading: Data is not called, and the peer is held up once the
// kernel's buffers are full, until Resume. IdleTimeout goes on.
func (c *Conn) Pause() { c.user().paused.Store(true) }

// pausing reports whether a user's protocol has paused.
func (c *Conn) pausing() bool {
	u := c.user()
	return u != nil && u.paused.Load()
}

// Resume ends a Pause. Any goroutine may call it: whoever has room again.
func (c *Conn) Resume() {
	if c.user().paused.Swap(false) {
		c.nudge()
	}
}

// SetTimeout ends the connection with ErrTimeout when d has passed, unless
// SetTimeout is called again before; 0 and less take the limit away. A Protocol
// with a method Expired(*Conn) has that called instead, once. It is late by at
// most the loop's tick of 5 ms and what the loop has to do just then, and costs
// next to nothing, so it may be called for each message.
func (c *Conn) SetTimeout(d time.Duration) {
	u := c.user()
	if d <= 0 {
		u.wakeAt = 0
		return
	}
	at := after(time.Since(origin), d) // the loop's clock may be a round old
	if u.wakeAt == 0 || at < u.wakeAt {
		c.rearm = true
	}
	u.wakeAt = at
}

// stepUser begins a turn of a connection with a user's protocol, after what was
// queued has been offered to the peer. False: v stands.
func (c *Conn) stepUser(g *workset) (v verdict, ok bool) {
	u := c.user()
	if u.opening {
		if v, ok := c.open(g); !ok {
			return v, false
		}
	}
	if c.edges&ownNudge != 0 {
		c.edges &^= ownNudge
		c.callPosted(g)
	}
	c.called(g) // Drained, too
	switch {
	case !c.flush(g): // what Drained and posted functions wrote
		return c.blocked(), false
	case c.broken():
		return verdictClose, false
	case c.ending != endNot:
		return verdictMore, true
	case u.paused.Load():
		return verdictPaused, false
	}
	return verdictMore, true
}

// wakeAt is when the time of SetTimeout is over, also while output waits, 0 for
// never.
func (c *Conn) wakeAt() time.Duration {
	if u := c.user(); u != nil && c.ending == endNot {
		return u.wakeAt
	}
	return 0
}

// wakesBy reports whether the time of SetTimeout is over by then. The timer of a
// connection that is lent is put off by lentRecheck when it comes, which is too long.
func (c *Conn) wakesBy(at time.Duration) bool {
	u := c.user()
	return u != nil && u.wakeAt != 0 && u.wakeAt < at
}

// userDeadline is when a connection with a user's protocol wants to be looked
// at, 0 for never.
func (c *Conn) userDeadline() time.Duration {
	u := c.user()
	if u.opening {
		return u.wakeAt
	}
	return soonest(u.wakeAt, after(c.since, c.limits.idle))
}

// userExpired is the turn of such a connection whose time has come.
func (c *Conn) userExpired(g *workset) verdict {
	u, now := c.user(), g.clock.now
	switch {
	case u.opening:
		g.counts[countTimeoutHead]++
		c.end(endReset, ErrTimeout)
		return verdictClose
	case u.wakeAt != 0 && u.wakeAt <= now:
		u.wakeAt = 0
		if e, ok := u.Protocol.(expiredProtocol); ok {
			c.callExpired(g, e)
			c.called(g)
			return c.step(g)
		}
	default:
		c.edges |= ownRead // a last look: something may have come that no turn has seen yet
		if v := c.step(g); v != verdictIdle && v != verdictPartial && v != verdictPaused || c.since == now {
			return v
		}
		g.counts[countTimeoutIdle]++
		c.end(endFlushed, ErrTimeout)
		return verdictClose
	}
	g.counts[countTimeoutIdle]++
	c.end(endFlushed, ErrTimeout)
	if c.out != nil { // nor is what waits worth more time
		c.end(endReset, nil)
	}
	return c.closeGracefully(g)
}

func (c *Conn) callExpired(g *workset, e expiredProtocol) {
	g.setRoute(c.route)
	e.Expired(c)
}

// callDrained tells the protocol that there is room again.
func (c *Conn) callDrained(g *workset) {
	if c.user() == nil {
		c.proto.Drained(c)
		return
	}
	g.setRoute(c.route)
	c.proto.Drained(c)
}
