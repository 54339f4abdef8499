package flare

import (
	"errors"
	"os"
	"syscall"
	"time"
)

// This file is layer 2 (system): a goroutine that waits for a poller's own
// descriptor in the runtime's network poller, instead of blocking a thread in
// the system call. It knows that an epoll instance is itself readable while it
// has events; loop.go says when that is the better way to wait.

// A parker belongs to the goroutine that owns the poller.
type parker struct {
	file  *os.File // a duplicate of the poller's descriptor
	conn  syscall.RawConn
	look  func(uintptr) bool
	until time.Time // the deadline that is set
}

// newParker returns a parker for the poller with that descriptor. ready looks
// whether there is something to do, and is called by wait.
func newParker(fd int, ready func() bool) (*parker, error) {
	dup, err := dupCloexec(fd)
	if err != nil {
		return nil, err
	}
	if err := syscall.SetNonblock(dup, true); err != nil { // what makes os.NewFile use the runtime's poller
		closeFD(dup)
		return nil, err
	}
	file := os.NewFile(uintptr(dup), "poller")
	conn, err := file.SyscallConn()
	if err == nil {
		err = file.SetReadDeadline(time.Time{}) // fails for what cannot be waited for
	}
	if err != nil {
		file.Close()
		return nil, err
	}
	return &parker{file: file, conn: conn, look: func(uintptr) bool { return ready() }}, nil
}

// wait calls ready, and again each time the poller has become readable, until
// it returns true or the deadline has passed; the zero time is none.
func (p *parker) wait(deadline time.Time) error {
	if !deadline.Equal(p.until) { // an idle server's is the same for a long time
		if err := p.file.SetReadDeadline(deadline); err != nil {
			return err
		}
		p.until = deadline
	}
	err := p.conn.Read(p.look)
	if errors.Is(err, os.ErrDeadlineExceeded) {
		return nil
	}
	return err
}

// close gives the duplicate back.
func (p *parker) close() { p.file.Close() }
