//go:build linux

package main

import (
	"syscall"
	"time"
	"unsafe"

	"flare"
)

// An exclusivePoller is what a loop needs of epoll, with EPOLLEXCLUSIVE for listeners: of the loops
// that wait for a connection the kernel wakes one, or a few, and not all.
type exclusivePoller struct {
	epfd, wakefd int
	events       [512]syscall.EpollEvent
}

const (
	epollExclusive = 1 << 28
	epollET        = 1 << 31
	efdNonblock    = syscall.O_NONBLOCK
)

func newExclusivePoller() (flare.Poller, error) {
	epfd, err := syscall.EpollCreate1(syscall.EPOLL_CLOEXEC)
	if err != nil {
		return nil, err
	}
	wakefd, _, errno := syscall.RawSyscall(syscall.SYS_EVENTFD2, 0, efdNonblock, 0)
	if errno != 0 {
		return nil, errno
	}
	p := &exclusivePoller{epfd: epfd, wakefd: int(wakefd)}
	return p, p.control(syscall.EPOLL_CTL_ADD, p.wakefd, syscall.EPOLLIN|epollET)
}

func (p *exclusivePoller) control(op, fd int, events uint32) error {
	return syscall.EpollCtl(p.epfd, op, fd, &syscall.EpollEvent{Events: events, Fd: int32(fd)})
}

func (p *exclusivePoller) Add(fd int, want flare.Interest) error {
	events := uint32(syscall.EPOLLIN | epollET)
	const acceptConn = 0x1e // SO_ACCEPTCONN, but on MIPS
	if on, err := syscall.GetsockoptInt(fd, syscall.SOL_SOCKET, acceptConn); err == nil && on == 1 {
		events |= epollExclusive
	} else {
		events |= syscall.EPOLLOUT | syscall.EPOLLRDHUP
	}
	return p.control(syscall.EPOLL_CTL_ADD, fd, events)
}

func (p *exclusivePoller) Modify(fd int, want flare.Interest) error { return nil }

func (p *exclusivePoller) Remove(fd int) error { return p.control(syscall.EPOLL_CTL_DEL, fd, 0) }

func (p *exclusivePoller) Wait(events []flare.Event, timeout time.Duration) (int, error) {
	ms := -1
	if timeout >= 0 {
		ms = int((timeout + time.Millisecond - 1) / time.Millisecond)
	}
	var r uintptr
	var errno syscall.Errno
	at, most := uintptr(unsafe.Pointer(&p.events)), uintptr(min(len(p.events), len(events)))
	if ms == 0 { // never waits, so the runtime need not know
		r, _, errno = syscall.RawSyscall6(syscall.SYS_EPOLL_PWAIT, uintptr(p.epfd), at, most, 0, 0, 0)
	} else {
		r, _, errno = syscall.Syscall6(syscall.SYS_EPOLL_PWAIT, uintptr(p.epfd), at, most, uintptr(ms), 0, 0)
	}
	if errno == syscall.EINTR {
		return 0, nil
	}
	if errno != 0 {
		return 0, errno
	}
	n := 0
	for _, ev := range p.events[:r] {
		if int(ev.Fd) == p.wakefd {
			var b [8]byte
			syscall.Read(p.wakefd, b[:])
			continue
		}
		var ready flare.Interest
		if ev.Events&syscall.EPOLLIN != 0 {
			ready |= flare.Readable
		}
		if ev.Events&syscall.EPOLLOUT != 0 {
			ready |= flare.Writable
		}
		if ev.Events&(syscall.EPOLLRDHUP|syscall.EPOLLHUP) != 0 {
			ready |= flare.Hangup
		}
		if ev.Events&(syscall.EPOLLERR|syscall.EPOLLHUP) != 0 {
			ready |= flare.Failed
		}
		events[n] = flare.Event{FD: int(ev.Fd), Ready: ready}
		n++
	}
	return n, nil
}

func (p *exclusivePoller) Wake() error {
	_, err := syscall.Write(p.wakefd, []byte{1, 0, 0, 0, 0, 0, 0, 0})
	return err
}

func (p *exclusivePoller) Close() error {
	syscall.Close(p.wakefd)
	return syscall.Close(p.epfd)
}
