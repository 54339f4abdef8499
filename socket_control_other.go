//go:build !linux && !darwin

package flare

import (
	"errors"
	"syscall"
)

// This file is layer 2 (system): socket_control.go for the other systems, where
// sockets stay as package net makes them.

const msgTruncated = 0x10 // of the BSDs; Windows has an error for it

func controlSocket(_ syscall.RawConn, option socketOption, value int) error {
	if option == optionBroadcast && value == 1 {
		return nil // package net sets it
	}
	return errors.ErrUnsupported
}

func dupSocket(syscall.Conn) (fd int, err error) { return -1, errors.ErrUnsupported }
