package flare

import (
	"syscall"
	"time"
)

// This file is layer 2 (system): the Poller of Darwin, kqueue(2), edge triggered.
// It knows kqueue and nothing of what the descriptors are for. Loops call it
// through the Poller interface. poller_linux.go is its mirror: the same
// functions in the same order, and each difference is explained there or here.
//
// Three things are not as with epoll. A descriptor has two filters, READ and
// WRITE, which report apart: both are registered as long as the descriptor is
// added, whatever is asked for, since the end of either direction must be
// reported; Wait leaves out what was not asked for and merges the two. Adding a
// filter twice is no error, so the poller keeps a table of its own. And the
// kernel forgets a descriptor when that descriptor is closed, duplicates or not.
//
// Of kqueue only Kqueue, Kevent and Kevent_t with their constants are used, so that the
// file can be run against a model of them on another system (testdata/kqueue).

// wakeIdent names the EVFILT_USER event of the bell. Idents of different
// filters do not meet, so any number does.
const wakeIdent = 0

// systemPoller is the poller of this system.
type systemPoller struct {
	// The owner's.
	fd      int                 // the kqueue
	raw     []syscall.Kevent_t  // what the kernel fills; as long as the longest events yet
	fds     pollerTable         // what was added; epoll keeps it in the kernel
	changes [2]syscall.Kevent_t // for change: READ and WRITE
	results [2]syscall.Kevent_t // what became of them
	patient syscall.Timespec    // the timeout, here so that it need not be allocated
	stat    syscall.Stat_t      // for change, likewise

	// Any goroutine's.
	bell    pollerBell
	trigger [1]syscall.Kevent_t // written once, in hang
}

// newSystemPoller is NewPoller of this system.
func newSystemPoller() (Poller, error) {
	syscall.ForkLock.RLock() // kqueue(2) has no close-on-exec flag
	fd, err := syscall.Kqueue()
	if err == nil {
		syscall.CloseOnExec(fd)
	}
	syscall.ForkLock.RUnlock()
	if err != nil {
		return nil, &pollerError{"new", -1, err}
	}
	p := &systemPoller{fd: fd}
	if err := p.hang(); err != nil {
		syscall.Close(fd)
		return nil, &pollerError{"new", -1, err}
	}
	return p, nil
}

// Add implements Poller.
func (p *systemPoller) Add(fd int, want Interest) error {
	if err := checkInterest("add", fd, want); err != nil {
		return err
	}
	// The table may be behind: the kernel forgets a descriptor by itself when it
	// is closed. EV_ENABLE changes nothing and fails if the kernel has no such
	// filter.
	if p.fds.known(fd) {
		if p.change("add", syscall.EV_ENABLE, fd, 0) == nil {
			return &pollerError{"add", fd, ErrPollerAdded}
		}
	}
	return p.change("add", syscall.EV_ADD|syscall.EV_CLEAR, fd, want)
}

// Modify implements Poller.
func (p *systemPoller) Modify(fd int, want Interest) error {
	if err := checkInterest("modify", fd, want); err != nil {
		return err
	}
	// The kernel looks at a new filter at once (kqueue(2): "upon the initial
	// registration"), so the filters are made anew and what is ready now is
	// reported again.
	if err := p.change("modify", syscall.EV_DELETE, fd, 0); err != nil {
		return err
	}
	return p.change("modify", syscall.EV_ADD|syscall.EV_CLEAR, fd, want)
}

// Remove implements Poller.
func (p *systemPoller) Remove(fd int) error {
	return p.change("remove", syscall.EV_DELETE, fd, 0)
}

// Wait implements Poller.
func (p *systemPoller) Wait(events []Event, timeout time.Duration) (int, error) {
	if p.bell.closed.Load() {
		return 0, &pollerError{"wait", -1, ErrPollerClosed}
	}
	if len(p.raw) < len(events) {
		p.raw = make([]syscall.Kevent_t, len(events))
	}
	got, errno := p.collect(len(events), timeout)
	if errno != 0 {
		// Darwin ends a wait with ETIMEDOUT too, about when the machine wakes from
		// sleep (go.dev/issue/59679): nothing has happened, as with a signal.
		if errno == syscall.EINTR || errno == syscall.ETIMEDOUT {
			return 0, nil
		}
		return 0, &pollerError{"wait", -1, errno}
	}
	n := 0
	for i := range p.raw[:got] {
		if p.raw[i].Filter == syscall.EVFILT_USER {
			p.bell.seen()
			continue
		}
		fd := int(p.raw[i].Ident)
		if !p.fds.known(fd) {
			continue // the table is what Remove promises; the kernel should agree
		}
		f := &p.fds[fd]
		ready := readiness(f, &p.raw[i])
		switch slot := int(f.slot); {
		case ready == 0:
		case slot < n && events[slot].FD == fd: // the other filter came before
			events[slot].Ready |= ready
		default:
			f.slot = int32(n)
			events[n] = Event{fd, ready}
			n++
		}
	}
	return n, nil
}

// Wake implements Poller.
func (p *systemPoller) Wake() error { return p.bell.ring(p.strike) }

// Close implements Poller.
func (p *systemPoller) Close() error { return p.bell.close(p.release) }

// EdgeTriggered says that conditions are reported once.
func (p *systemPoller) EdgeTriggered() bool { return true }

// descriptor returns -1: waiting for a kqueue in the runtime's poller, which is
// a kqueue too, was not measured.
func (p *systemPoller) descriptor() int { return -1 }

// change makes one change to both filters of fd and keeps the table in step.
//
// EV_RECEIPT has the kernel answer each of the two and keep its events for Wait.
// The filter that was not asked for may be one that fd does not have: READ's
// answer counts, and WRITE's if it was asked for. WRITE of a pipe that nobody
// reads is an end to report and no misuse: Darwin takes it, and what FreeBSD
// answers (EPIPE) comes to the same.
func (p *systemPoller) change(op string, flags uint16, fd int, want Interest) error {
	if p.bell.closed.Load() {
		return &pollerError{op, fd, ErrPollerClosed}
	}
	for i, filter := range [2]int16{syscall.EVFILT_READ, syscall.EVFILT_WRITE} {
		p.changes[i] = syscall.Kevent_t{Ident: uint64(fd), Filter: filter, Flags: flags | syscall.EV_RECEIPT}
	}
	n, err := syscall.Kevent(p.fd, p.changes[:], p.results[:], nil)
	read, write := errnoOf(err), errnoOf(err)
	for i := range p.results[:max(n, 0)] {
		if p.results[i].Filter == syscall.EVFILT_READ {
			read = syscall.Errno(p.results[i].Data)
		} else {
			write = syscall.Errno(p.results[i].Data)
		}
	}
	piped := flags&syscall.EV_ADD != 0 && write == syscall.EPIPE
	if flags&syscall.EV_ADD != 0 && read == 0 && write != 0 && want&Writable != 0 && !piped {
		p.change(op, syscall.EV_DELETE, fd, 0) // all or nothing
		read = write
	}
	switch {
	case read == 0 && flags&syscall.EV_ADD != 0:
		p.fds.remember(fd, want)
		if piped {
			p.fds[fd].ended = Writable
		}
		return nil
	case read == 0 && flags&syscall.EV_DELETE == 0:
		return nil
	}
	p.fds.forget(fd)
	switch read {
	case 0:
		return nil
	case syscall.ENOENT:
		// Darwin looks for the filter before it looks at the descriptor.
		if err := syscall.Fstat(fd, &p.stat); err != nil {
			return &pollerError{op, fd, errnoOf(err)}
		}
		return &pollerError{op, fd, ErrPollerUnknown}
	}
	return &pollerError{op, fd, read}
}

// collect takes up to n events from the kernel into raw.
//
// All of its calls are ordinary ones, a look with timeout 0 as well: package
// syscall has no raw form of kevent.
func (p *systemPoller) collect(n int, timeout time.Duration) (int, syscall.Errno) {
	if n == 0 {
		return 0, syscall.EINVAL // kevent(2) would return at once
	}
	var patient *syscall.Timespec // nil: for ever
	if timeout >= 0 {
		p.patient = syscall.NsecToTimespec(int64(min(timeout, pollerTimeoutMax)))
		patient = &p.patient
	}
	got, err := syscall.Kevent(p.fd, nil, p.raw[:n], patient)
	return max(got, 0), errnoOf(err)
}

// readiness translates what the kernel reports.
//
// EV_EOF on READ is the peer's end of stream. EV_EOF on WRITE is the end of our
// own direction, which our shutdown brings about as well; so it is Failed only
// if the other direction ended too, as EPOLLHUP is. An error that waits comes
// with either, in Fflags. The ends of directions are remembered, since the two
// filters may report in different batches; nothing reopens a direction.
func readiness(f *pollerFD, ev *syscall.Kevent_t) Interest {
	direction := Readable
	if ev.Filter == syscall.EVFILT_WRITE {
		direction = Writable
	}
	ready := direction & f.want
	if ev.Flags&syscall.EV_EOF != 0 {
		f.ended |= direction
		if direction == Readable {
			ready |= Hangup
		}
		if ev.Fflags != 0 || f.ended == Readable|Writable {
			ready |= Hangup | Failed
		}
	}
	return ready
}

// hang puts up the bell: a user event, edge triggered.
func (p *systemPoller) hang() error {
	bell := [1]syscall.Kevent_t{{
		Ident: wakeIdent, Filter: syscall.EVFILT_USER, Flags: syscall.EV_ADD | syscall.EV_CLEAR,
	}}
	p.trigger[0] = syscall.Kevent_t{
		Ident: wakeIdent, Filter: syscall.EVFILT_USER, Fflags: syscall.NOTE_TRIGGER,
	}
	_, err := syscall.Kevent(p.fd, bell[:], nil, nil)
	return err
}

// strike makes the kernel report the bell.
func (p *systemPoller) strike() error {
	for {
		// No room for events: the call returns at once (kqueue(2)).
		_, err := syscall.Kevent(p.fd, p.trigger[:], nil, nil)
		if err != syscall.EINTR {
			return err
		}
	}
}

// release gives the kernel's objects back. The user event goes with the kqueue.
func (p *systemPoller) release() error {
	return syscall.Close(p.fd)
}
