package flare

import (
	"syscall"
	"time"
	"unsafe"
)

// This file is layer 2 (system): the Poller of Linux, epoll(7), edge triggered.
// It knows epoll and eventfd and nothing of what the descriptors are for. Loops
// call it through the Poller interface. poller_darwin.go is its mirror: the same
// functions in the same order, and each difference is explained there or here.

// What the frozen syscall package lacks or gives in a form of no use.
const (
	// syscall.EPOLLET is negative, which does not fit the uint32 of
	// EpollEvent.Events.
	epollET = 1 << 31

	// eventfd2(2) takes the flags of open(2); syscall has no names for them.
	eventfdCloexec  = syscall.O_CLOEXEC
	eventfdNonblock = syscall.O_NONBLOCK
)

// pollerAlways is reported whether asked for or not: edges, not levels, and the
// peer's end of stream. EPOLLERR and EPOLLHUP need not be asked for (epoll_ctl(2)).
const pollerAlways = epollET | syscall.EPOLLRDHUP

// systemPoller is the poller of this system.
type systemPoller struct {
	// The owner's.
	fd  int                  // the epoll instance
	raw []syscall.EpollEvent // what the kernel fills; as long as the longest events yet

	// Any goroutine's.
	bell   pollerBell
	wakeFD int // an eventfd: each write to it is an edge, so nobody ever reads it
}

// newSystemPoller is NewPoller of this system.
func newSystemPoller() (Poller, error) {
	fd, err := syscall.EpollCreate1(syscall.EPOLL_CLOEXEC)
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
	// The kernel keeps the table of what was added, and forgets a descriptor by
	// itself when its last duplicate is closed.
	return p.change("add", syscall.EPOLL_CTL_ADD, fd, want)
}

// Modify implements Poller.
func (p *systemPoller) Modify(fd int, want Interest) error {
	if err := checkInterest("modify", fd, want); err != nil {
		return err
	}
	// The kernel looks anew at each EPOLL_CTL_MOD, so what is ready now is
	// reported again.
	return p.change("modify", syscall.EPOLL_CTL_MOD, fd, want)
}

// Remove implements Poller.
func (p *systemPoller) Remove(fd int) error {
	return p.change("remove", syscall.EPOLL_CTL_DEL, fd, 0)
}

// Wait implements Poller.
func (p *systemPoller) Wait(events []Event, timeout time.Duration) (int, error) {
	if p.bell.closed.Load() {
		return 0, &pollerError{"wait", -1, ErrPollerClosed}
	}
	if len(p.raw) < len(events) {
		p.raw = make([]syscall.EpollEvent, len(events))
	}
	got, errno := p.collect(len(events), timeout)
	if errno != 0 {
		if errno == syscall.EINTR {
			return 0, nil
		}
		return 0, &pollerError{"wait", -1, errno}
	}
	n := 0
	for i := range p.raw[:got] {
		fd := int(p.raw[i].Fd)
		if fd == p.wakeFD {
			p.bell.seen()
			continue
		}
		events[n] = Event{fd, readiness(&p.raw[i])}
		n++
	}
	return n, nil
}

// Wake implements Poller.
func (p *systemPoller) Wake() error { return p.bell.ring(p.strike) }

// Close implements Poller.
func (p *systemPoller) Close() error { return p.bell.close(p.release) }

// EdgeTriggered says that conditions are reported once.
func (p *systemPoller) EdgeTriggered() bool { return true }

// descriptor returns the epoll instance, for a parker.
func (p *systemPoller) descriptor() int { return p.fd }

// change makes one change to what the kernel watches.
func (p *systemPoller) change(op string, ctl, fd int, want Interest) error {
	if p.bell.closed.Load() {
		return &pollerError{op, fd, ErrPollerClosed}
	}
	ev := syscall.EpollEvent{Events: pollerAlways, Fd: int32(fd)}
	if want&Readable != 0 {
		ev.Events |= syscall.EPOLLIN
	}
	if want&Writable != 0 {
		ev.Events |= syscall.EPOLLOUT
	}
	// Raw: epoll_ctl does not wait for anything that lasts.
	_, _, errno := syscall.RawSyscall6(syscall.SYS_EPOLL_CTL,
		uintptr(p.fd), uintptr(ctl), uintptr(fd), uintptr(unsafe.Pointer(&ev)), 0, 0)
	switch errno {
	case 0:
		return nil
	case syscall.EEXIST:
		return &pollerError{op, fd, ErrPollerAdded}
	case syscall.ENOENT:
		return &pollerError{op, fd, ErrPollerUnknown}
	}
	return &pollerError{op, fd, errno}
}

// collect takes up to n events from the kernel into raw.
//
// A look with timeout 0 cannot block, so it is a raw call: the runtime does not
// retake the P for it. A wait must be an ordinary call, or it would hold up
// every stop-the-world for as long as it lasts. The race detector does not see
// what the kernel writes to raw; only the owner ever touches it.
func (p *systemPoller) collect(n int, timeout time.Duration) (int, syscall.Errno) {
	if n == 0 {
		return 0, syscall.EINVAL
	}
	buf := unsafe.Pointer(unsafe.SliceData(p.raw))
	if timeout == 0 {
		r, _, errno := syscall.RawSyscall6(syscall.SYS_EPOLL_PWAIT,
			uintptr(p.fd), uintptr(buf), uintptr(n), 0, 0, 0)
		return int(r), errno
	}
	ms := -1
	if timeout > 0 {
		// Rounded up: to wait too short is to spin on the deadline.
		timeout = min(timeout, pollerTimeoutMax)
		ms = int((timeout + time.Millisecond - 1) / time.Millisecond)
	}
	r, _, errno := syscall.Syscall6(syscall.SYS_EPOLL_PWAIT,
		uintptr(p.fd), uintptr(buf), uintptr(n), uintptr(ms), 0, 0)
	return int(r), errno
}

// readiness translates what the kernel reports.
func readiness(ev *syscall.EpollEvent) Interest {
	var ready Interest
	if ev.Events&syscall.EPOLLIN != 0 {
		ready |= Readable
	}
	if ev.Events&syscall.EPOLLOUT != 0 {
		ready |= Writable
	}
	// EPOLLHUP is both directions shut down. A pipe has no EPOLLRDHUP beside it.
	if ev.Events&(syscall.EPOLLRDHUP|syscall.EPOLLHUP) != 0 {
		ready |= Hangup
	}
	// EPOLLERR is an error that waits, or a pipe that nobody reads.
	if ev.Events&(syscall.EPOLLERR|syscall.EPOLLHUP) != 0 {
		ready |= Failed
	}
	return ready
}

// hang puts up the bell: an eventfd among the watched, edge triggered, so that
// each write to it ends one wait and it need not be read.
func (p *systemPoller) hang() error {
	r, _, errno := syscall.RawSyscall(syscall.SYS_EVENTFD2, 0, eventfdCloexec|eventfdNonblock, 0)
	if errno != 0 {
		return errno
	}
	p.wakeFD = int(r)
	if err := p.change("new", syscall.EPOLL_CTL_ADD, p.wakeFD, Readable); err != nil {
		syscall.Close(p.wakeFD)
		return err.(*pollerError).err
	}
	return nil
}

// strike makes the kernel report the bell.
func (p *systemPoller) strike() error {
	one := uint64(1)
	_, _, errno := syscall.RawSyscall(syscall.SYS_WRITE,
		uintptr(p.wakeFD), uintptr(unsafe.Pointer(&one)), unsafe.Sizeof(one))
	if errno != 0 {
		return errno
	}
	return nil
}

// release gives the kernel's objects back.
func (p *systemPoller) release() error {
	errWake := syscall.Close(p.wakeFD)
	if err := syscall.Close(p.fd); err != nil {
		return err
	}
	return errWake
}
