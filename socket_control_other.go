//go:build !linux && !darwin

package flare

import (
	"errors"
	"syscall"
)

// This file is layer 2 (system): socket_control.go for the other systems, where
// sockets stay as package net makes them.

const msgTruncated = 0x10 // of the BSDs; Windows has an error for it

func controlSocket(_ syscall.RawConn, option socketOption, _ int) error {
	if option == optionBroadcast {
		return nil // package net allows it, and that stays so
	}
	return errors.ErrUnsupported
}

func dupSocket(syscall.Conn) (fd int, err error) { return -1, errors.ErrUnsupported }
