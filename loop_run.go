package flare

import (
	"context"
	"errors"
	"log/slog"
	"math"
	"sync/atomic"
	"time"
)

// This file is layer 3 (engine): a loop in its user's hands. It knows how a
// loop begins and ends and how functions and timers come to it; loop.go does
// the work, loop_post.go brings what is posted, loop_listen.go and loop_dial.go
// the connections.

var (
	errLoopRun   = errors.New("flare: the loop runs already")
	errLoopOwned = errors.New("flare: the loop is a server's")
)

// NewLoop returns a loop over p, which is the loop's from here on: nobody else
// may use or close it. nil is a poller of this system (NewPoller), whose errors
// are the only ones. A loop that is never run has to be closed.
func NewLoop(p Poller) (*Loop, error) {
	if p == nil {
		var err error
		if p, err = defaultPoller(); err != nil {
			return nil, err
		}
	}
	return newLoop(p), nil
}

// Run runs the loop, on goroutines of its own, until the loop ends: it returns
// nil after Close, the cause of ctx (context.Cause) when that ended first, and the
// poller's error if it failed. By then the connections of the loop are cut, its
// listeners closed and all that was posted has been called. Callbacks that still
// block go on.
//
// A loop runs once. A second call of Run is an error, one after Close is
// ErrClosed.
func (l *Loop) Run(ctx context.Context) error {
	if !l.stage.CompareAndSwap(loopNew, loopRunning) {
		switch l.stage.Load() {
		case loopRunning:
			return errLoopRun
		case loopOwned:
			return errLoopOwned
		}
		return ErrClosed
	}
	stop := context.AfterFunc(ctx, func() { l.stop(context.Cause(ctx)) })
	defer stop()
	monitor.watch(l)
	l.spawn(func() { l.run(l.worksets.runner()) }) // a callback may end its goroutine, which must not be the caller's
	<-l.ended
	l.stage.Store(loopClosed)
	return l.failure
}

// Close ends the loop. It does not wait: Run returns when the loop has ended,
// and until then Post may still take functions. A loop that was never run has
// ended when Close returns. Any goroutine may call it, also from the loop's own
// callbacks. A second Close, and one after the end, is ErrClosed.
func (l *Loop) Close() error {
	switch {
	case l.stage.CompareAndSwap(loopNew, loopClosed):
		l.quit = true // nobody has run it: it is this goroutine's
		monitor.watch(l)
		l.run(l.worksets.runner())
		<-l.ended
		return nil
	case l.stage.CompareAndSwap(loopRunning, loopClosed):
		l.stop(nil)
		return nil
	case l.stage.Load() == loopOwned:
		return errLoopOwned
	}
	return ErrClosed
}

// stop has the runner end the loop, for a cause that Run returns.
func (l *Loop) stop(cause error) { l.call(func() { l.fail(cause) }) }

// fail ends the loop, for a cause that Run returns unless there is one already.
// The runner calls it.
func (l *Loop) fail(cause error) {
	if !l.quit {
		l.quit, l.failure = true, cause
	}
}

// The stages of a loop's life, as its user sees it.
const (
	loopNew uint32 = iota
	loopRunning
	loopOwned // by a server, which runs and ends it
	loopClosed
)

// Post has the loop call fn, once, after what was posted before. Any goroutine
// may call it, also before Run and from callbacks. ErrClosed means that the
// loop has ended and fn will not be called; what was taken is called in any
// case, at the latest when the loop ends.
//
// fn may block, like every callback of a loop: the connections' protocols, the
// functions of timers. Once it has taken some ten milliseconds the loop goes on
// without it, and other callbacks run beside it. So callbacks of one loop come
// one after the other only as long as they are quick, and what they share needs
// a lock. A panic in fn is logged to slog.Default, and runtime.Goexit ends its
// goroutine; neither ends the loop.
func (l *Loop) Post(fn func()) error {
	if !l.enqueue(postedFunc{fn, true}, true) {
		return ErrClosed
	}
	return nil
}

// A Timer is one call of a function at a later time; see Loop.After.
type Timer struct {
	loop  *Loop
	fn    func()
	stage atomic.Uint32
	wheel WheelTimer // the runner's
}

const (
	timerWaits uint32 = iota
	timerCalled
	timerStopped
)

// After has the loop call fn when d has passed: never early, and late by at
// most the loop's tick of 5 ms and what the loop has to do just then. Any
// goroutine may call it, also before Run. fn may block as in Post. A loop that
// ends drops its timers, and one that has ended takes none: their functions are
// not called.
func (l *Loop) After(d time.Duration, fn func()) *Timer {
	t := &Timer{loop: l, fn: fn}
	now := time.Since(origin)
	at := now + min(max(d, 0), math.MaxInt64-now)
	l.call(func() {
		if t.stage.Load() == timerWaits {
			t.wheel.Value = t
			l.wheel.Arm(&t.wheel, at)
		}
	})
	return t
}

// Stop keeps the function from being called. It reports false when the function
// has been called, or is about to be, or Stop came before. Any goroutine may
// call it. It does not wait for a function that runs.
func (t *Timer) Stop() bool {
	if !t.stage.CompareAndSwap(timerWaits, timerStopped) {
		return false
	}
	// The loop need not wake up for this: it does when the timer is due.
	t.loop.enqueue(postedFunc{func() { t.loop.wheel.Cancel(&t.wheel) }, false}, false)
	return true
}

// callback calls a user's function on the loop the way a turn of a connection is
// taken: when it takes long the monitor gives the loop to another goroutine.
// False: that has happened, and the caller has nothing left to do. after, which
// may be nil, is called if fn has ended the goroutine, when the loop goes on
// elsewhere.
func (l *Loop) callback(g *workset, fn, after func()) bool {
	epoch := l.state.Load() + 1
	l.cur = nil
	g.setRoute(nil)
	g.loop, g.epoch = l, epoch
	l.state.Store(epoch)
	if !monitor.active.Load() && !l.unwatched { // after the store: see monitorState.kick
		monitor.kick()
	}
	p := guard(fn, func() {
		g.detach()
		g.publish(&l.counts)
		g.release()
		if after != nil {
			after()
		}
	})
	if p != nil {
		logPanic(slog.Default(), "flare: a callback of a loop panicked", p)
	}
	g.loop = nil
	if l.state.CompareAndSwap(epoch, epoch+1) {
		return true
	}
	l.stealMu.Lock() // the thief has read the workset once it is free
	l.stealMu.Unlock()
	g.publish(&l.counts)
	g.release()
	return false
}
