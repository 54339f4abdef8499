package flare

import (
	"syscall"
	"testing"
)

// A write to a peer that is gone is EPIPE and no signal, whichever way the socket
// was made.
func TestSocketsWithoutSignal(t *testing.T) {
	dialled, err := openSocket(syscall.AF_INET)
	mustTest(t, err)
	ownTest(t, dialled)
	_, accepted := tcpPairTest(t)
	for name, fd := range map[string]int{"dialled": dialled, "accepted": accepted} {
		if on, err := syscall.GetsockoptInt(fd, syscall.SOL_SOCKET, syscall.SO_NOSIGPIPE); on == 0 || err != nil {
			t.Errorf("%s: SO_NOSIGPIPE is %d, %v", name, on, err)
		}
	}
}

// 3 GiB are sent as far as there is room, as anything is.
func TestSendMoreThanDarwinTakes(t *testing.T) {
	p, err := syscall.Mmap(-1, 0, 3<<30, syscall.PROT_READ, syscall.MAP_ANON|syscall.MAP_PRIVATE)
	if err != nil {
		t.Skip("no room for 3 GiB of addresses:", err)
	}
	defer syscall.Munmap(p)
	a, _ := tcpPairTest(t)
	if n, errno := sendConn(a, p); n <= 0 || errno != 0 {
		t.Errorf("%d, %v; want what there is room for", n, errno)
	}
}
