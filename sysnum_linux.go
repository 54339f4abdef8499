//go:build linux && !386

package flare

import "syscall"

// This file is layer 2 (system): the numbers of the socket calls that
// socket_linux.go makes by hand. sysnum_linux_386.go has them for the one
// architecture where syscall has not.
const (
	sysAccept4  = syscall.SYS_ACCEPT4
	sysRecvfrom = syscall.SYS_RECVFROM
	sysSendto   = syscall.SYS_SENDTO
	sysSendmsg  = syscall.SYS_SENDMSG
)
