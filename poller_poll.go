//go:build linux

package flare

import (
	"syscall"
	"time"
	"unsafe"
)

// This file is layer 2 (system): a Poller on poll(2), which every Unix has. It
// knows its system call and what that lacks beside epoll, and nothing of what
// the descriptors are for. It is level triggered, and slow where descriptors
// are many: the kernel walks through all of them each time. It is here to show
// that pollers plug in, and for where neither epoll nor kqueue may be used.
// poller_poll_other.go says where it is not.

// The conditions of poll(2), which package syscall does not have.
const (
	pollIn    = 0x1
	pollOut   = 0x4
	pollErr   = 0x8
	pollHup   = 0x10
	pollNval  = 0x20
	pollRdHup = 0x2000
)

// A pollEntry is struct pollfd. A negative fd is not looked at.
type pollEntry struct {
	fd      int32
	events  int16
	revents int16
}

// pollState is what the poller remembers beside an entry.
type pollState struct {
	want     Interest
	reported Interest // of Hangup and Failed, since the last Modify
	dev      uint64   // which file the number stood for: poll(2) knows numbers only
	ino      uint64
}

// A pollPoller is a Poller on poll(2).
type pollPoller struct {
	// The owner's.
	entries []pollEntry // the first is the bell's
	states  []pollState // beside entries
	places  []int32     // by descriptor, index into entries; 0: not there
	next    int         // entry at which delivering goes on: a small batch must not starve the rest
	stat    syscall.Stat_t

	// Any goroutine's.
	bell   pollerBell
	wakeFD int // an eventfd
}

// newPollPoller is NewPollPoller where there is one.
func newPollPoller() (Poller, error) {
	r, _, errno := syscall.RawSyscall(syscall.SYS_EVENTFD2, 0, syscall.O_CLOEXEC|syscall.O_NONBLOCK, 0)
	if errno != 0 {
		return nil, &pollerError{"new", -1, errno}
	}
	p := &pollPoller{wakeFD: int(r)}
	p.entries = append(p.entries, pollEntry{fd: int32(r), events: pollIn})
	p.states = append(p.states, pollState{})
	return p, nil
}

// Add implements Poller.
func (p *pollPoller) Add(fd int, want Interest) error {
	if err := checkInterest("add", fd, want); err != nil {
		return err
	}
	at, err := p.find("add", fd)
	if err != nil {
		return err
	}
	if at != 0 {
		return &pollerError{"add", fd, ErrPollerAdded}
	}
	for fd >= len(p.places) {
		p.places = append(p.places, make([]int32, max(64, len(p.places)))...)
	}
	p.places[fd] = int32(len(p.entries))
	p.entries = append(p.entries, pollEntry{})
	p.states = append(p.states, pollState{dev: uint64(p.stat.Dev), ino: p.stat.Ino})
	p.ask(len(p.entries)-1, fd, want)
	return nil
}

// Modify implements Poller.
func (p *pollPoller) Modify(fd int, want Interest) error {
	if err := checkInterest("modify", fd, want); err != nil {
		return err
	}
	at, err := p.find("modify", fd)
	if err != nil {
		return err
	}
	if at == 0 {
		return &pollerError{"modify", fd, ErrPollerUnknown}
	}
	p.ask(at, fd, want)
	return nil
}

// Remove implements Poller.
func (p *pollPoller) Remove(fd int) error {
	at, err := p.find("remove", fd)
	if err != nil {
		return err
	}
	if at == 0 {
		return &pollerError{"remove", fd, ErrPollerUnknown}
	}
	p.drop(at, fd)
	return nil
}

// Wait implements Poller.
func (p *pollPoller) Wait(events []Event, timeout time.Duration) (int, error) {
	if p.bell.closed.Load() {
		return 0, &pollerError{"wait", -1, ErrPollerClosed}
	}
	if len(events) == 0 {
		return 0, &pollerError{"wait", -1, syscall.EINVAL}
	}
	left, errno := p.collect(timeout)
	if errno != 0 {
		if errno == syscall.EINTR {
			return 0, nil
		}
		return 0, &pollerError{"wait", -1, errno}
	}
	if left > 0 && p.entries[0].revents != 0 {
		left--
		p.hear()
	}
	n := 0
	for unseen := len(p.entries) - 1; unseen > 0 && left > 0 && n < len(events); unseen-- {
		if p.next == 0 || p.next >= len(p.entries) {
			p.next = 1 // the bell is no candidate
		}
		at := p.next
		p.next++
		if p.entries[at].revents == 0 {
			continue
		}
		left--
		fd := int(p.entries[at].fd)
		if ready := p.deliver(at, fd); ready != 0 {
			events[n] = Event{fd, ready}
			n++
		}
	}
	return n, nil
}

// Wake implements Poller.
func (p *pollPoller) Wake() error { return p.bell.ring(p.strike) }

// Close implements Poller.
func (p *pollPoller) Close() error { return p.bell.close(p.release) }

// find returns the place of fd among the entries, 0 if it is not there. One
// that was closed, and whose number is another file's by now, is not.
func (p *pollPoller) find(op string, fd int) (int, error) {
	if p.bell.closed.Load() {
		return 0, &pollerError{op, fd, ErrPollerClosed}
	}
	at := 0
	if uint(fd) < uint(len(p.places)) {
		at = int(p.places[fd])
	}
	if err := syscall.Fstat(fd, &p.stat); err != nil {
		if at != 0 {
			p.drop(at, fd)
		}
		return 0, &pollerError{op, fd, errnoOf(err)}
	}
	if at != 0 && !p.same(at) {
		p.drop(at, fd)
		at = 0
	}
	return at, nil
}

// same reports whether the file that was looked at last is that of an entry.
func (p *pollPoller) same(at int) bool {
	return uint64(p.stat.Dev) == p.states[at].dev && p.stat.Ino == p.states[at].ino
}

// ask sets what an entry is looked at for.
func (p *pollPoller) ask(at, fd int, want Interest) {
	p.states[at].want, p.states[at].reported = want, 0
	e := pollEntry{fd: int32(fd), events: pollRdHup}
	if want&Readable != 0 {
		e.events |= pollIn
	}
	if want&Writable != 0 {
		e.events |= pollOut
	}
	p.entries[at] = e
}

// drop takes an entry out; the last one takes its place.
func (p *pollPoller) drop(at, fd int) {
	last := len(p.entries) - 1
	p.entries[at], p.states[at] = p.entries[last], p.states[last]
	if at != last {
		moved := int(p.entries[at].fd)
		if moved < 0 {
			moved = ^moved
		}
		p.places[moved] = int32(at)
	}
	p.entries, p.states = p.entries[:last], p.states[:last]
	p.places[fd] = 0
}

// deliver returns what has to be reported of a descriptor that is ready, 0 for
// nothing.
func (p *pollPoller) deliver(at, fd int) Interest {
	e, s := &p.entries[at], &p.states[at]
	revents := e.revents
	e.revents = 0
	if revents&pollNval != 0 || syscall.Fstat(fd, &p.stat) != nil || !p.same(at) {
		p.drop(at, fd) // closed and not removed
		p.next--       // another has its place
		return 0
	}
	var ready Interest
	if revents&pollIn != 0 {
		ready |= Readable
	}
	if revents&pollOut != 0 {
		ready |= Writable
	}
	if revents&(pollRdHup|pollHup) != 0 {
		ready |= Hangup
	}
	if revents&(pollErr|pollHup) != 0 {
		ready |= Failed
	}
	once := Hangup
	if s.want&(Readable|Writable) == 0 {
		once |= Failed
	}
	if ready&^s.reported&Failed == 0 { // or it is all told with the failure
		ready &^= s.reported & once
	}
	s.reported |= ready & (Hangup | Failed)
	if s.reported&Hangup != 0 {
		e.events &^= pollRdHup
	}
	if ready == 0 {
		e.fd = ^e.fd // POLLHUP and POLLERR cannot be unasked: look away until Modify
	}
	return ready
}

// collect has the kernel look at all entries, and returns how many are ready.
// It is a raw call where it cannot block, and an ordinary one where it can, as
// in poller_linux.go.
func (p *pollPoller) collect(timeout time.Duration) (int, syscall.Errno) {
	list, n := uintptr(unsafe.Pointer(unsafe.SliceData(p.entries))), uintptr(len(p.entries))
	if timeout == 0 {
		var now syscall.Timespec
		r, _, errno := syscall.RawSyscall6(syscall.SYS_PPOLL, list, n, uintptr(unsafe.Pointer(&now)), 0, 0, 0)
		return int(r), errno
	}
	if timeout < 0 {
		r, _, errno := syscall.Syscall6(syscall.SYS_PPOLL, list, n, 0, 0, 0, 0)
		return int(r), errno
	}
	wait := syscall.NsecToTimespec(int64(min(timeout, pollerTimeoutMax)))
	r, _, errno := syscall.Syscall6(syscall.SYS_PPOLL, list, n, uintptr(unsafe.Pointer(&wait)), 0, 0, 0)
	return int(r), errno
}

// hear takes the ring that has come, so that the next one is noticed.
func (p *pollPoller) hear() {
	var count uint64
	syscall.RawSyscall(syscall.SYS_READ, uintptr(p.wakeFD), uintptr(unsafe.Pointer(&count)), unsafe.Sizeof(count))
	p.bell.seen()
}

// strike makes the kernel report the bell.
func (p *pollPoller) strike() error {
	one := uint64(1)
	_, _, errno := syscall.RawSyscall(syscall.SYS_WRITE,
		uintptr(p.wakeFD), uintptr(unsafe.Pointer(&one)), unsafe.Sizeof(one))
	if errno != 0 {
		return errno
	}
	return nil
}

// release gives the kernel's object back.
func (p *pollPoller) release() error { return syscall.Close(p.wakeFD) }
