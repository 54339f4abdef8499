//go:build !linux && !darwin

package flare

import (
	"errors"
	"net"
	"os"
	"syscall"
)

// This file is layer 2 (system): the stub of handing descriptors to another process,
// for systems where nothing here does so.

const passedMax = 0

func socketPair() (mine *net.UnixConn, theirs *os.File, err error) {
	return nil, nil, errors.ErrUnsupported
}

func pairEnd(fd int) (*net.UnixConn, error) { return nil, errors.ErrUnsupported }

func sendDescriptors(to *net.UnixConn, text []byte, fds []int) error { return errors.ErrUnsupported }

func recvDescriptors(from *net.UnixConn, text []byte) (n int, fds []int, err error) {
	return 0, nil, errors.ErrUnsupported
}

func descriptorListener(fd int) (net.Listener, error) { return nil, errors.ErrUnsupported }

func modeOfSocket(syscall.RawConn, uint32) error { return nil }

func lockFolder(string) (unlock func()) { return func() {} }
