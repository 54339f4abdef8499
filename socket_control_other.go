//go:build !linux && !darwin

package flare

import (
	"errors"
	"syscall"
)

// This file is layer 2 (system): the options of socket_control.go on the other
// systems, where none of them can be set.

func controlSocket(_ syscall.RawConn, do func(set func(option socketOption, value int) error) error) error {
	return do(func(option socketOption, value int) error {
		if option == optionBroadcast && value == 1 {
			return nil // what package net does by itself
		}
		return errors.ErrUnsupported
	})
}
