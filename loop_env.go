package flare

import (
	"net/netip"
	"sync"
	"syscall"
)

// This file is layer 3 (engine): what a loop stands on beside its poller and
// its connections' transports: goroutines, mutexes that are held in waits, and
// descriptors. The engine starts its goroutines with spawn, or has task's function
// called by what starts them, and calls resumed where one goes on that has waited,
// so that a simulated world can decide which goroutine runs next. Otherwise these are the plain thing, and none of
// them lies on the way of a request that does not wait.

// An environment is a simulated world around loops. Any goroutine may call its
// methods.
type environment interface {
	task(fn func()) func() // what a goroutine of its own is to call in place of fn
	resumed()              // the calling goroutine has waited, and is about to go on
	lock(mu *sync.Mutex)   // of one that its holder keeps while it waits

	acceptFD(fd int) (conn int, peer netip.AddrPort, errno syscall.Errno)
	acceptQueue(fd int) int
	resetFD(fd int) // its end is to be a reset
	closeFD(fd int)
}

// spawn calls fn on a goroutine of its own. l may be nil, here and below: what has
// been received by another server, or dialled, is on no loop.
func (l *Loop) spawn(fn func()) { go l.task(fn)() }

// task is fn for those who call it on a goroutine of their own: a timer, the end of
// a context.
func (l *Loop) task(fn func()) func() {
	if l != nil && l.env != nil {
		return l.env.task(fn)
	}
	return fn
}

// resumed is for after each wait for another goroutine, or for time. No mutex is
// held that others lock with Lock.
func (l *Loop) resumed() {
	if l != nil && l.env != nil {
		l.env.resumed()
	}
}

// lock locks a mutex whose holder may be waiting for a peer.
func (l *Loop) lock(mu *sync.Mutex) {
	if l != nil && l.env != nil {
		l.env.lock(mu)
		return
	}
	mu.Lock()
}

func (l *Loop) acceptFD(fd int) (conn int, peer netip.AddrPort, errno syscall.Errno) {
	if l.env != nil {
		return l.env.acceptFD(fd)
	}
	return acceptConn(fd)
}

func (l *Loop) acceptQueue(fd int) int {
	if l.env != nil {
		return l.env.acceptQueue(fd)
	}
	return acceptQueue(fd)
}

func (l *Loop) resetFD(fd int) {
	if l.env != nil {
		l.env.resetFD(fd)
		return
	}
	setResetOnClose(fd)
}

func (l *Loop) closeFD(fd int) {
	if l.env != nil {
		l.env.closeFD(fd)
		return
	}
	closeFD(fd)
}
