package flare

import (
	"log/slog"
	"net"
	"net/netip"
	"os"
	"slices"
	"syscall"
	"time"
)

// This file is layer 3 (engine): how a loop accepts connections, and when it
// does not. It knows listening descriptors; whose connections they become is
// for the adopt function of the listener to say.

const (
	acceptsPerTurn   = 64                    // connections accepted before others get their turn
	acceptsAtEnd     = 4096                  // the longest queue that Linux keeps by default
	acceptRetry      = 50 * time.Millisecond // after the process ran out of descriptors, or the server was full
	acceptRetryAtEnd = 2 * tick              // the same while the server ends, and places are given up fast
)

// A shortageLog tells of pauses of accepting, a line a second at most. The line is
// written on a goroutine of its own: the logger may be the user's, and the caller
// is a loop, or whoever else accepts.
type shortageLog struct{ throttle logThrottle }

func (l *shortageLog) log(to *slog.Logger, cause error) {
	if skipped, passes := l.throttle.pass(time.Since(origin)); passes {
		go logTo(to, slog.LevelError, "flare: accepting connections pauses", slog.Any("error", cause), slog.Int("skipped", skipped))
	}
}

// A loopListener is a listening descriptor that a loop accepts from.
type loopListener struct {
	fd     int
	paused bool // out of descriptors, or told to wait
	more   bool // there may be more to accept, in the next round
	last   bool // it closes when all that wait have been accepted
	left   int  // or so many of them
	tcp    bool
	retry  WheelTimer
	adopt  func(fd int, peer netip.AddrPort)
	full   func() bool // asked before each connection is accepted

	// None of these may wait.
	gone   func() bool       // asked after each accept: its owner has closed it; nil: nobody can
	short  func(cause error) // told of each pause, unless it is full
	failed func(cause error) // told once, when accepting has failed for good and the listener is closed
}

// listen starts accepting from ln.
func (l *Loop) listen(ln *loopListener) error {
	if l.unlistened {
		return ErrServerClosed
	}
	if err := l.poller.Add(ln.fd, Readable); err != nil {
		return err
	}
	l.listeners = append(l.listeners, ln)
	return nil
}

// unlisten stops accepting from all listeners, for good; see unlistenOne.
func (l *Loop) unlisten() {
	l.unlistened = true
	for _, ln := range l.listeners {
		l.unlistenOne(ln)
	}
	l.stopListening()
}

// unlistenOne stops accepting from ln and closes it. Connections that the kernel
// has accepted already are taken first, since closing would reset them; while the
// server is full, or out of descriptors, the listener stays open for as many as
// wait now. Its queue cannot be shut: another server may have the same socket,
// and go on with it.
func (l *Loop) unlistenOne(ln *loopListener) {
	switch {
	case l.quit:
		l.closeListener(ln)
	case !ln.last:
		ln.last, ln.left = true, acceptsAtEnd
		if l.acceptFrom(ln, acceptsAtEnd); ln.paused {
			if ln.left = min(ln.left, l.acceptQueue(ln.fd)); ln.left == 0 {
				l.closeListener(ln)
			}
		}
	}
}

func (l *Loop) closeListener(ln *loopListener) {
	if !slices.Contains(l.listeners, ln) {
		return // closed before
	}
	l.wheel.Cancel(&ln.retry)
	l.poller.Remove(ln.fd)
	l.closing = append(l.closing, ln.fd)
	// Not in place: a caller may be walking over the list.
	l.listeners = slices.DeleteFunc(slices.Clone(l.listeners), func(other *loopListener) bool { return other == ln })
	l.stopListening()
}

// stopListening tells when the last of the listeners is gone.
func (l *Loop) stopListening() {
	if l.unlistened && len(l.listeners) == 0 {
		l.noListeners.Store(true)
	}
}

func (l *Loop) listenerReady(fd int) {
	for _, ln := range l.listeners {
		if ln.fd == fd && !ln.paused {
			l.acceptFrom(ln, acceptsPerTurn)
		}
	}
}

// acceptFrom takes what waits at a listener, up to a bound: then the listener
// has its next turn in the next round, since an edge is told only once.
func (l *Loop) acceptFrom(ln *loopListener, most int) {
	ln.more = false
	for range most {
		if ln.full() {
			l.retryAccept(ln, acceptRetry)
			return
		}
		fd, peer, errno := l.acceptFD(ln.fd)
		if errno != 0 {
			if outcome := acceptOutcomeOf(errno); outcome != acceptNext {
				l.acceptFailed(ln, outcome, errno)
				return
			}
			continue
		}
		if ln.gone != nil && !ln.last && ln.gone() {
			l.closeFD(fd)
			l.failListener(ln, net.ErrClosed)
			return
		}
		if ln.tcp {
			setNoDelay(fd) // an answer leaves in one write; nothing is gained by waiting
		}
		ln.adopt(fd, peer)
		if ln.left--; ln.last && ln.left <= 0 {
			l.closeListener(ln)
			return
		}
	}
	ln.more = true
	l.accepting = true
}

// acceptFailed deals with an accept that failed, and not because of the connection.
func (l *Loop) acceptFailed(ln *loopListener, outcome acceptOutcome, errno syscall.Errno) {
	switch {
	case outcome == acceptPause:
		ln.short(os.NewSyscallError("accept", errno))
		l.retryAccept(ln, acceptRetry)
	case ln.last:
		l.closeListener(ln)
	case outcome == acceptNever:
		l.failListener(ln, os.NewSyscallError("accept", errno))
	}
}

// failListener closes ln, from which nothing can be accepted any more.
func (l *Loop) failListener(ln *loopListener, cause error) {
	if slices.Contains(l.listeners, ln) {
		l.closeListener(ln)
		ln.failed(cause)
	}
}

// acceptMore gives the listeners that reached the bound their next turn.
func (l *Loop) acceptMore() {
	l.accepting = false
	for _, ln := range l.listeners {
		if ln.more && !ln.paused {
			l.acceptFrom(ln, acceptsPerTurn)
		}
	}
}

func (l *Loop) retryAccept(ln *loopListener, after time.Duration) {
	ln.paused = true
	if ln.last {
		after = acceptRetryAtEnd
	}
	if l.managed {
		l.poller.Modify(ln.fd, 0)
	}
	ln.retry.Value = ln
	l.wheel.Arm(&ln.retry, l.workset.clock.now+after)
}
