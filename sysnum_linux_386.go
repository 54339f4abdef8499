package flare

// This file is layer 2 (system): the numbers of the socket calls that
// socket_linux.go makes by hand, for 386. Package syscall was frozen when they
// were all behind socketcall(2) there; Linux 4.3 gave them numbers of their own
// (arch/x86/entry/syscalls/syscall_32.tbl).
const (
	sysAccept4  = 364
	sysRecvfrom = 371
	sysSendto   = 369
	sysSendmsg  = 370
)
