package flare

import (
	"errors"
	"sync/atomic"
	"time"
)

// This file is layer 2 (system): a Poller for loops that have no descriptors to
// watch, on any system. Wake is all that ends its Wait; it makes no system call.

// A wakePoller refuses every descriptor with errors.ErrUnsupported.
type wakePoller struct {
	bell   chan struct{} // capacity 1, so wakes coalesce
	timer  *time.Timer   // of Wait; nil until one had a timeout
	closed atomic.Bool
}

func newWakePoller() *wakePoller {
	return &wakePoller{bell: make(chan struct{}, 1)}
}

func (p *wakePoller) Add(fd int, want Interest) error { return p.refuse("add", fd) }

func (p *wakePoller) Modify(fd int, want Interest) error { return p.refuse("modify", fd) }

func (p *wakePoller) Remove(fd int) error { return p.refuse("remove", fd) }

func (p *wakePoller) refuse(op string, fd int) error {
	if p.closed.Load() {
		return &pollerError{op, fd, ErrPollerClosed}
	}
	return &pollerError{op, fd, errors.ErrUnsupported}
}

func (p *wakePoller) Wait(events []Event, timeout time.Duration) (int, error) {
	switch {
	case p.closed.Load():
		return 0, &pollerError{"wait", -1, ErrPollerClosed}
	case timeout == 0:
		select {
		case <-p.bell:
		default:
		}
	case timeout < 0:
		<-p.bell
	default:
		if p.timer == nil {
			p.timer = time.NewTimer(timeout)
		} else {
			p.timer.Reset(timeout)
		}
		select {
		case <-p.bell:
			p.timer.Stop()
		case <-p.timer.C:
		}
	}
	return 0, nil
}

func (p *wakePoller) Wake() error {
	if p.closed.Load() {
		return &pollerError{"wake", -1, ErrPollerClosed}
	}
	select {
	case p.bell <- struct{}{}:
	default:
	}
	return nil
}

func (p *wakePoller) Close() error {
	if p.closed.Swap(true) {
		return &pollerError{"close", -1, ErrPollerClosed}
	}
	return nil
}

// EdgeTriggered keeps a loop from asking for what no connection needs.
func (p *wakePoller) EdgeTriggered() bool { return true }
