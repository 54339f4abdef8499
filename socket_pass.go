//go:build linux || darwin

package flare

import (
	"net"
	"os"
	"syscall"
)

// This file is layer 2 (system): descriptors that one process hands to another, over a
// pair of Unix sockets of which a program that is started inherits one end; and the
// files of Unix sockets.

// passedMax is how many descriptors Linux takes in one message (SCM_MAX_FD).
const passedMax = 253

// socketPair returns two ends of a connection between processes: one for this process,
// and one for another to inherit.
func socketPair() (mine *net.UnixConn, theirs *os.File, err error) {
	syscall.ForkLock.RLock() // nobody is started between socketpair and its flags
	fds, err := syscall.Socketpair(syscall.AF_UNIX, syscall.SOCK_STREAM, 0)
	if err == nil {
		syscall.CloseOnExec(fds[0])
		syscall.CloseOnExec(fds[1])
	}
	syscall.ForkLock.RUnlock()
	if err != nil {
		return nil, nil, os.NewSyscallError("socketpair", err)
	}
	theirs = os.NewFile(uintptr(fds[1]), "upgrade")
	if mine, err = pairEnd(fds[0]); err != nil {
		theirs.Close()
		return nil, nil, err
	}
	return mine, theirs, nil
}

// pairEnd returns the end of a pair whose descriptor is fd, which becomes its own.
func pairEnd(fd int) (*net.UnixConn, error) {
	syscall.CloseOnExec(fd)
	f := os.NewFile(uintptr(fd), "upgrade")
	defer f.Close() // FileConn makes a duplicate of its own
	c, err := net.FileConn(f)
	if err != nil {
		return nil, err
	}
	if end, ok := c.(*net.UnixConn); ok {
		return end, nil
	}
	c.Close()
	return nil, syscall.ENOTSOCK
}

// sendDescriptors sends text and duplicates of fds.
func sendDescriptors(to *net.UnixConn, text []byte, fds []int) error {
	n, _, err := to.WriteMsgUnix(text, syscall.UnixRights(fds...), nil)
	if err == nil && n < len(text) {
		_, err = to.Write(text[n:])
	}
	return err
}

// recvDescriptors receives the front of a text and the descriptors that came with it,
// which are not inherited.
func recvDescriptors(from *net.UnixConn, text []byte) (n int, fds []int, err error) {
	oob := make([]byte, syscall.CmsgSpace(4*passedMax))
	n, oobn, _, _, err := from.ReadMsgUnix(text, oob)
	if err != nil {
		return n, nil, err
	}
	messages, err := syscall.ParseSocketControlMessage(oob[:oobn])
	for _, m := range messages {
		if got, err := syscall.ParseUnixRights(&m); err == nil {
			fds = append(fds, got...)
		}
	}
	return n, fds, err
}

// descriptorListener returns the listener whose descriptor is fd, which is its own
// from here on.
func descriptorListener(fd int) (net.Listener, error) {
	syscall.CloseOnExec(fd)
	f := os.NewFile(uintptr(fd), "listener")
	defer f.Close() // FileListener makes a duplicate of its own
	return net.FileListener(f)
}

// modeOfSocket sets the permissions that the file of a Unix socket will have when it is
// bound, less those of the umask. Linux alone has it so.
func modeOfSocket(c syscall.RawConn, mode uint32) error {
	return c.Control(func(fd uintptr) { syscall.Fchmod(int(fd), mode) })
}

// lockFolder waits until no other program has locked the folder, and locks it. Where
// that cannot be it does without.
func lockFolder(name string) (unlock func()) {
	f, err := os.Open(name)
	if err != nil {
		return func() {}
	}
	for syscall.Flock(int(f.Fd()), syscall.LOCK_EX) == syscall.EINTR {
	}
	return func() { f.Close() }
}
