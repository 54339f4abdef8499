package flare

import "syscall"

// This file is layer 2 (system): the numbers of the system calls that
// datagram_linux.go makes by hand. Package syscall was frozen before Linux 3.0
// had sendmmsg (arch/x86/entry/syscalls/syscall_64.tbl).
const (
	sysRecvmmsg = syscall.SYS_RECVMMSG
	sysSendmmsg = 307
)
