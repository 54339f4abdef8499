package flare

import (
	"errors"
	"fmt"
	"strconv"
	"sync"
	"sync/atomic"
	"time"
)

// This file is layer 2 (system): the contract between an event loop and the
// kernel's readiness queue. It knows what a Poller promises and how it fails;
// it makes no system call. poller_linux.go (epoll) and poller_darwin.go
// (kqueue) keep the promise: two mirrors, the same functions in the same order.
// poller_poll.go is the portable one.
// Loops call it; so may anyone who builds a loop of his own.

// A Poller tells which of many file descriptors are ready.
//
// The pollers that NewPoller returns are edge triggered: a condition is reported
// when it comes about and not again while it lasts. So callers read until EAGAIN
// and write until EAGAIN. An implementation may be level triggered, and repeat
// Readable and Writable while they last and are asked for; callers that read and
// write to EAGAIN, and ask for Writable only while they need it, cannot tell.
// Hangup it reports once, and again after Modify; so it does with Failed while
// paused. Loops change what they ask for all the time, unless the Poller says
// that it is edge triggered.
//
// All methods but Wake are for the goroutine that owns the poller. Remove a
// descriptor before closing it, and close it only after the events of the last
// Wait are dealt with: then no event meets a descriptor that reuses the number.
//
// Errors name the call and the descriptor, and answer errors.Is for
// ErrPollerAdded, ErrPollerUnknown, ErrPollerInterest, ErrPollerClosed and the
// system's errno (syscall.EBADF for a descriptor that is not open).
//
// A Poller may have more methods, which loops ask for:
//
//	EdgeTriggered() bool // it reports a condition only when it comes about
type Poller interface {
	// Add begins to report on fd, first of all what is ready already. want
	// must not be empty. Adding a descriptor twice is ErrPollerAdded.
	Add(fd int, want Interest) error

	// Modify replaces what is asked for and reports anew what is ready now,
	// also if it was reported before. An empty want pauses: Readable and
	// Writable are not reported until the next Modify.
	Modify(fd int, want Interest) error

	// Remove ends reporting on fd and drops what was not yet returned by Wait.
	Remove(fd int) error

	// Wait fills events from its front and returns how many, at most one for
	// each descriptor. A timeout of 0 looks and never blocks, a negative one
	// waits for ever; a positive one is rounded up to what the system counts
	// in, milliseconds or finer. With no event it returns 0 and nil: not before
	// the timeout, unless it was woken, a signal interrupted it, what happened
	// was not asked for, or the timeout is longer than eleven days. events must
	// not be empty.
	Wait(events []Event, timeout time.Duration) (int, error)

	// Wake makes Wait return early: the one in progress, or else the next one.
	// There is no event for it. Any goroutine may call it, also while another
	// calls Close. Wakes that come before Wait returned for the first of them
	// count as one; what was done before Wake is visible after that return.
	Wake() error

	// Close releases the poller and forgets its descriptors, but does not close
	// them. It must not run beside Wait. A second Close, and any other call
	// after the first, is ErrPollerClosed.
	Close() error
}

// NewPoller returns the poller of this system: epoll on Linux, kqueue on Darwin,
// errors.ErrUnsupported elsewhere. The caller owns it and closes it.
func NewPoller() (Poller, error) { return newSystemPoller() }

// NewPollPoller returns a poller on poll(2), which is level triggered. It is for
// Linux; elsewhere the error is errors.ErrUnsupported. The caller owns it and
// closes it.
func NewPollPoller() (Poller, error) { return newPollPoller() }

// defaultPoller makes the pollers of loops whose owner does not say otherwise.
// Tests put others in its place.
var defaultPoller = NewPoller

// Interest is a set of conditions of a file descriptor.
type Interest uint8

const (
	// Readable: a read will not block. There is data, a connection to accept,
	// the end of the stream, or an error to collect.
	Readable Interest = 1 << iota

	// Writable: a write will not block. There is room, or an error to collect.
	Writable

	// Hangup: the peer sends no more. Data that it sent before may still be
	// there to be read. It is reported whether asked for or not, also while
	// paused.
	Hangup

	// Failed: the connection is dead, in both directions, or has an error to
	// collect. Reads and writes do not block: they return what is left, then
	// the error or the end. It is reported whether asked for or not, also while
	// paused.
	Failed

	interestAll = Readable | Writable | Hangup | Failed
)

// String names the conditions, such as "Readable|Hangup"; "0" if there are none.
func (i Interest) String() string {
	s := ""
	for bit, name := range [...]string{"Readable", "Writable", "Hangup", "Failed"} {
		if i&(1<<bit) != 0 {
			s += "|" + name
		}
	}
	if i&^interestAll != 0 {
		s += "|0x" + strconv.FormatUint(uint64(i&^interestAll), 16)
	}
	if s == "" {
		return "0"
	}
	return s[1:]
}

// An Event says that a file descriptor is ready, and for what.
type Event struct {
	FD    int
	Ready Interest // never empty
}

var (
	// ErrPollerAdded means that the descriptor is with this poller already.
	ErrPollerAdded = errors.New("flare: file descriptor added twice")

	// ErrPollerUnknown means that the descriptor is not with this poller: never
	// added, removed, or closed in between.
	ErrPollerUnknown = errors.New("flare: file descriptor not added")

	// ErrPollerInterest means that Add was given an empty set of conditions, or
	// Add or Modify one with unknown bits.
	ErrPollerInterest = errors.New("flare: bad interest")

	// ErrPollerClosed means that the poller is closed already. It is an
	// ErrClosed too.
	ErrPollerClosed = fmt.Errorf("flare: poller: %w", ErrClosed)
)

// A pollerError says which call of a Poller failed, for which descriptor and
// why. It unwraps to one of the ErrPoller errors or to a syscall.Errno.
type pollerError struct {
	op  string // "new", "add", "modify", "remove", "wait", "wake" or "close"
	fd  int    // file descriptor; -1 where there is none
	err error
}

func (e *pollerError) Error() string {
	s := "flare: poller " + e.op
	if e.fd >= 0 {
		s += " " + strconv.Itoa(e.fd)
	}
	return s + ": " + e.err.Error()
}

// Unwrap returns the cause.
func (e *pollerError) Unwrap() error { return e.err }

// pollerTimeoutMax bounds one wait. Darwin refuses waits of some years with
// EINVAL, and epoll counts milliseconds in an int32, 24 days; 1e6 seconds, 11
// days, are safe with both and as good as for ever.
const pollerTimeoutMax = 1e6 * time.Second

// checkInterest refuses what no poller can watch for. Only Modify may be given
// an empty set.
func checkInterest(op string, fd int, want Interest) error {
	if want&^interestAll != 0 || want == 0 && op == "add" {
		return &pollerError{op, fd, ErrPollerInterest}
	}
	return nil
}

// A pollerBell is what Wake and Close of a poller share: it coalesces rings and
// keeps a late ring from a file descriptor number that is no longer the
// poller's. Any goroutine may use it.
type pollerBell struct {
	rung   atomic.Bool // a ring is under way and Wait has not seen it
	closed atomic.Bool // set under mu; read without it, since it is set once

	mu sync.Mutex // held while ringing and while closing, both brief
}

// ring calls strike, unless an earlier ring is still to be seen.
func (b *pollerBell) ring(strike func() error) error {
	if b.closed.Load() {
		return &pollerError{"wake", -1, ErrPollerClosed}
	}
	if b.rung.Swap(true) {
		return nil
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.closed.Load() {
		return &pollerError{"wake", -1, ErrPollerClosed}
	}
	if err := strike(); err != nil {
		b.rung.Store(false)
		return &pollerError{"wake", -1, err}
	}
	return nil
}

// seen lets the next ring strike again. The swap also reads what each ring
// before it wrote, so what was done before those rings is visible.
func (b *pollerBell) seen() { b.rung.Swap(false) }

// close calls release, once, with no ring under way.
func (b *pollerBell) close(release func() error) error {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.closed.Swap(true) {
		return &pollerError{"close", -1, ErrPollerClosed}
	}
	if err := release(); err != nil {
		return &pollerError{"close", -1, err}
	}
	return nil
}
