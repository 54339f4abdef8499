//go:build linux || darwin

package flare

import (
	"net"
	"net/netip"
	"runtime"
	"sync"
	"syscall"
	"testing"
	"time"
)

// This file has what tests of sockets and pollers share.

// socketpairTest returns two connected, non-blocking stream sockets (Unix),
// closed when the test ends unless the test closed them through closeTest.
func socketpairTest(tb testing.TB) (a, b int) {
	tb.Helper()
	fds, err := syscall.Socketpair(syscall.AF_UNIX, syscall.SOCK_STREAM, 0)
	if err != nil {
		tb.Fatal(err)
	}
	for _, fd := range fds {
		syscall.CloseOnExec(fd)
		if err := syscall.SetNonblock(fd, true); err != nil {
			tb.Fatal(err)
		}
		ownTest(tb, fd)
	}
	return fds[0], fds[1]
}

// openTest has what tests opened: fd (int) to the testing.TB that closes it.
var openTest sync.Map

// ownTest closes fd at the end of the test, unless closeTest did so before: a
// number that was reused must not be closed twice.
func ownTest(tb testing.TB, fd int) {
	openTest.Store(fd, tb)
	tb.Cleanup(func() {
		if openTest.CompareAndDelete(fd, tb) {
			if err := closeFD(fd); err != nil {
				tb.Error(err)
			}
		}
	})
}

// disownTest leaves closing fd to the test.
func disownTest(fd int) { openTest.Delete(fd) }

func closeTest(tb testing.TB, fd int) {
	tb.Helper()
	disownTest(fd) // before the number is free
	if err := closeFD(fd); err != nil {
		tb.Error(err)
	}
}

// tcpPairTest returns the two ends of a TCP connection over loopback, both
// non-blocking; b was accepted by acceptConn.
func tcpPairTest(tb testing.TB) (a, b int) {
	tb.Helper()
	lfd, err := listenTCP(netip.MustParseAddrPort("127.0.0.1:0"), 0, false)
	if err != nil {
		tb.Fatal(err)
	}
	defer closeFD(lfd)
	addr, err := localAddrPort(lfd)
	if err != nil {
		tb.Fatal(err)
	}
	a = dialTest(tb, addr)
	b, _ = acceptTest(tb, lfd)
	return a, b
}

// dialTest connects to addr and returns the descriptor, non-blocking.
func dialTest(tb testing.TB, addr netip.AddrPort) int {
	tb.Helper()
	family, sa, err := sockaddrOf(addr)
	if err != nil {
		tb.Fatal(err)
	}
	fd, err := syscall.Socket(family, syscall.SOCK_STREAM, 0)
	if err != nil {
		tb.Fatal(err)
	}
	ownTest(tb, fd)
	if err := syscall.Connect(fd, sa); err != nil {
		tb.Fatal(err)
	}
	if err := syscall.SetNonblock(fd, true); err != nil {
		tb.Fatal(err)
	}
	return fd
}

// acceptTest accepts the connection that was dialled before.
func acceptTest(tb testing.TB, lfd int) (int, netip.AddrPort) {
	tb.Helper()
	for deadline := time.Now().Add(patience); time.Now().Before(deadline); {
		fd, peer, errno := acceptConn(lfd)
		switch errno {
		case 0:
			ownTest(tb, fd)
			return fd, peer
		case syscall.EAGAIN:
			runtime.Gosched()
		default:
			tb.Fatal(errno)
		}
	}
	tb.Fatal("no connection to accept")
	return -1, netip.AddrPort{}
}

// recvTest receives until n bytes or the end of the stream came.
func recvTest(tb testing.TB, fd, n int) []byte {
	tb.Helper()
	got := make([]byte, 0, n)
	for deadline := time.Now().Add(patience); time.Now().Before(deadline); {
		m, errno := recvConn(fd, got[len(got):n])
		switch {
		case errno == syscall.EAGAIN:
			runtime.Gosched()
		case errno != 0:
			tb.Fatal(errno)
		case m == 0:
			return got
		}
		if got = got[:len(got)+m]; len(got) == n {
			return got
		}
	}
	tb.Fatalf("%d of %d bytes received", len(got), n)
	return nil
}

// hasIPv6 says whether the loopback has an IPv6 address.
func hasIPv6() bool {
	l, err := net.Listen("tcp6", "[::1]:0")
	if err == nil {
		l.Close()
	}
	return err == nil
}

// checkFlags fails unless fd is non-blocking and not inherited.
func checkFlags(t *testing.T, fd int) {
	t.Helper()
	for _, c := range []struct {
		name      string
		cmd, flag uintptr
	}{
		{"O_NONBLOCK", syscall.F_GETFL, syscall.O_NONBLOCK},
		{"FD_CLOEXEC", syscall.F_GETFD, syscall.FD_CLOEXEC},
	} {
		flags, _, errno := syscall.Syscall(syscall.SYS_FCNTL, uintptr(fd), c.cmd, 0)
		if errno != 0 || flags&c.flag == 0 {
			t.Errorf("fd %d: no %s (%#x, %v)", fd, c.name, flags, errno)
		}
	}
}

// resetFD closes fd with a reset.
func resetFD(fd int) error {
	if err := setResetOnClose(fd); err != nil {
		return err
	}
	return closeFD(fd)
}
