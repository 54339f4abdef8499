package flare

import (
	"net/netip"
	"syscall"
	"time"
)

// This file is layer 3 (engine): how a loop accepts connections, and when it
// does not. It knows listening descriptors; whose connections they become is
// for the adopt function of the listener to say.

const (
	acceptsPerTurn = 64                    // connections accepted before others get their turn
	acceptsAtEnd   = 4096                  // the longest queue that Linux keeps by default
	unsentBytesMax = 256 << 10             // of an accepted connection; or who does not read has megabytes of the kernel's memory
	acceptRetry    = 50 * time.Millisecond // after the process ran out of descriptors, or the server was full
)

// A loopListener is a listening descriptor that a loop accepts from.
type loopListener struct {
	fd     int
	paused bool // out of descriptors, or told to wait
	more   bool // there may be more to accept, in the next round
	tcp    bool
	retry  WheelTimer
	adopt  func(fd int, peer netip.AddrPort)
	full   func() bool // asked before each connection is accepted
}

// listen starts accepting from ln.
func (l *Loop) listen(ln *loopListener) error {
	if err := l.poller.Add(ln.fd, Readable); err != nil {
		return err
	}
	if ln.tcp {
		setUnsentMax(ln.fd, unsentBytesMax)
	}
	l.listeners = append(l.listeners, ln)
	return nil
}

// unlisten stops accepting from all listeners and closes them. Connections that
// the kernel has accepted already are taken, since closing would reset them.
func (l *Loop) unlisten() {
	for _, ln := range l.listeners {
		if !l.quit {
			l.acceptFrom(ln, acceptsAtEnd)
		}
		l.wheel.Cancel(&ln.retry)
		l.poller.Remove(ln.fd)
		l.closing = append(l.closing, ln.fd)
	}
	l.listeners = nil
}

// unlistenOne is unlisten for one of several.
func (l *Loop) unlistenOne(ln *loopListener) {
	for i := range l.listeners {
		if l.listeners[i] == ln {
			others := append(append([]*loopListener(nil), l.listeners[:i]...), l.listeners[i+1:]...)
			l.listeners = l.listeners[i : i+1]
			l.unlisten()
			l.listeners = others
			return
		}
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
		fd, peer, errno := acceptConn(ln.fd)
		switch {
		case errno == 0:
			if ln.tcp {
				setNoDelay(fd) // an answer leaves in one write; nothing is gained by waiting
			}
			ln.adopt(fd, peer)
		case errno == syscall.EAGAIN:
			return
		case isFDExhausted(errno):
			l.retryAccept(ln, acceptRetry)
			return
		}
	}
	ln.more = true
	l.accepting = true
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
	if l.managed {
		l.poller.Modify(ln.fd, 0)
	}
	ln.retry.Value = ln
	l.wheel.Arm(&ln.retry, l.frame.clock.now+after)
}
