//go:build !linux && !darwin

package flare

import (
	"net/netip"
	"syscall"
)

// This file is layer 2 (system): datagrams in batches for systems without a
// poller of their own here, which have no loop that could call it.

type datagramCalls struct{}

func (b *datagramBatch) init()                                    {}
func (b *datagramBatch) receive(int) (n int, errno syscall.Errno) { return 0, syscall.ENOSYS }
func (b *datagramBatch) address(int, netip.AddrPort)              {}
func (b *datagramBatch) send(int) (n int, errno syscall.Errno)    { return 0, syscall.ENOSYS }

func sendDatagram(int, []byte, netip.AddrPort, bool) syscall.Errno { return syscall.ENOSYS }
