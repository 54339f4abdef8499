//go:build linux || darwin

package flare

import (
	"os"
	"syscall"
)

// This file is layer 2 (system): options of a socket that package net has made
// and not yet bound or connected. socket_options.go calls it.

// controlSocket calls do with a function that sets one option of c.
func controlSocket(c syscall.RawConn, do func(set func(option socketOption, value int) error) error) error {
	var err error
	if failed := c.Control(func(fd uintptr) {
		err = do(func(option socketOption, value int) error {
			n := [...]int{
				optionReadBuffer:  syscall.SO_RCVBUF,
				optionWriteBuffer: syscall.SO_SNDBUF,
				optionReuseAddr:   syscall.SO_REUSEADDR,
				optionReusePort:   soReusePort(),
				optionBroadcast:   syscall.SO_BROADCAST,
			}[option]
			return os.NewSyscallError("setsockopt", syscall.SetsockoptInt(int(fd), syscall.SOL_SOCKET, n, value))
		})
	}); failed != nil {
		return failed
	}
	return err
}
