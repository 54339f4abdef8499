package flare

import "syscall"

// This file is layer 2 (system): the numbers of the system calls that
// datagram_linux.go makes by hand.
const (
	sysRecvmmsg = syscall.SYS_RECVMMSG
	sysSendmmsg = syscall.SYS_SENDMMSG
)
