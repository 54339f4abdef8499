//go:build linux || darwin

package flare

import (
	"bytes"
	"errors"
	"io"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"syscall"
	"testing"
	"time"
)

func TestListenTCP(t *testing.T) {
	for _, tt := range []struct {
		listen, dial, peer string
	}{
		{"127.0.0.1:0", "127.0.0.1", "127.0.0.1"},
		{"[::ffff:127.0.0.1]:0", "127.0.0.1", "127.0.0.1"},
		{"[::1]:0", "::1", "::1"},
		{"[::]:0", "127.0.0.1", "127.0.0.1"},
		{"[::]:0", "::1", "::1"},
		{"0.0.0.0:0", "127.0.0.1", "127.0.0.1"},
		{"[::1%1]:0", "::1", "::1"},
	} {
		t.Run(tt.listen+" from "+tt.dial, func(t *testing.T) {
			if strings.Contains(tt.dial, ":") && !hasIPv6() {
				t.Skip("no IPv6 on this machine")
			}
			lfd, err := listenTCP(netip.MustParseAddrPort(tt.listen), 16, false)
			if err != nil {
				t.Fatal(err)
			}
			ownTest(t, lfd)
			checkFlags(t, lfd)
			if _, _, errno := acceptConn(lfd); errno != syscall.EAGAIN {
				t.Errorf("accept with nobody there: %v, want EAGAIN", errno)
			}
			local, err := localAddrPort(lfd)
			if err != nil || local.Port() == 0 {
				t.Fatalf("local address %v, %v", local, err)
			}
			c := dialTest(t, netip.AddrPortFrom(netip.MustParseAddr(tt.dial), local.Port()))
			fd, peer := acceptTest(t, lfd)
			checkFlags(t, fd)
			if peer.Addr() != netip.MustParseAddr(tt.peer) {
				t.Errorf("peer is %v, want %s", peer, tt.peer)
			}
			if dialled, _ := localAddrPort(c); dialled != peer {
				t.Errorf("peer is %v, but its own address is %v", peer, dialled)
			}
			if again, err := peerAddrPort(fd); err != nil || again != peer {
				t.Errorf("peerAddrPort says %v, %v; accept said %v", again, err, peer)
			}
		})
	}
}

func TestListenTCPRefused(t *testing.T) {
	lfd, err := listenTCP(netip.MustParseAddrPort("127.0.0.1:0"), 0, false)
	if err != nil {
		t.Fatal(err)
	}
	ownTest(t, lfd)
	addr, _ := localAddrPort(lfd)
	if _, err := listenTCP(addr, 0, false); !errors.Is(err, syscall.EADDRINUSE) {
		t.Errorf("an address in use: %v, want EADDRINUSE", err)
	}
	if _, err := listenTCP(netip.MustParseAddrPort("192.0.2.1:0"), 0, false); !errors.Is(err, syscall.EADDRNOTAVAIL) {
		t.Errorf("an address of another machine: %v, want EADDRNOTAVAIL", err)
	}
	if _, err := listenTCP(netip.MustParseAddrPort("[fe80::1%nosuchinterface]:0"), 0, false); err == nil {
		t.Error("a zone that is no interface was taken")
	}
}

func TestListenTCPReusePort(t *testing.T) {
	first, err := listenTCP(netip.MustParseAddrPort("127.0.0.1:0"), 0, true)
	if err != nil {
		t.Fatal(err)
	}
	ownTest(t, first)
	addr, _ := localAddrPort(first)
	second, err := listenTCP(addr, 0, true)
	if err != nil {
		t.Fatalf("a second socket on %v: %v", addr, err)
	}
	ownTest(t, second)
	if again, _ := localAddrPort(second); again != addr {
		t.Errorf("the second listens on %v, want %v", again, addr)
	}
}

func TestListenUnix(t *testing.T) {
	path := filepath.Join(t.TempDir(), "s")
	lfd, err := listenUnix(path)
	if err != nil {
		t.Fatal(err)
	}
	ownTest(t, lfd)
	checkFlags(t, lfd)
	if _, err := listenUnix(path); !errors.Is(err, syscall.EADDRINUSE) {
		t.Errorf("a path in use: %v, want EADDRINUSE", err)
	}
	if _, err := listenUnix(strings.Repeat("x", 4096)); err == nil {
		t.Error("a path of 4096 bytes was taken")
	}
	c, err := net.Dial("unix", path)
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	fd, peer := acceptTest(t, lfd)
	checkFlags(t, fd)
	if peer.IsValid() {
		t.Errorf("the peer of a Unix socket is %v", peer)
	}
	if local, err := localAddrPort(fd); err != nil || local.IsValid() {
		t.Errorf("the address of a Unix socket is %v, %v", local, err)
	}
}

func TestSendRecv(t *testing.T) {
	for _, pair := range []struct {
		name string
		make func(testing.TB) (int, int)
	}{{"tcp", tcpPairTest}, {"unix", socketpairTest}} {
		t.Run(pair.name, func(t *testing.T) {
			a, b := pair.make(t)
			buf := make([]byte, 16)
			if n, errno := recvConn(b, buf); n != 0 || errno != syscall.EAGAIN {
				t.Errorf("nothing sent yet: %d, %v; want EAGAIN", n, errno)
			}
			if n, errno := sendConn(a, []byte("hello")); n != 5 || errno != 0 {
				t.Fatalf("send: %d, %v", n, errno)
			}
			if got := recvTest(t, b, 5); string(got) != "hello" {
				t.Errorf("received %q", got)
			}
			for _, parts := range [][2]string{{"head", "body"}, {"", "body"}, {"head", ""}, {"", ""}} {
				whole := parts[0] + parts[1]
				if n, errno := sendvConn(a, []byte(parts[0]), []byte(parts[1])); n != len(whole) || errno != 0 {
					t.Fatalf("sendv %q: %d, %v", parts, n, errno)
				}
				if got := recvTest(t, b, len(whole)); string(got) != whole {
					t.Errorf("sendv %q: received %q", parts, got)
				}
			}
			if n, errno := sendConn(a, nil); n != 0 || errno != 0 {
				t.Errorf("sending nothing: %d, %v", n, errno)
			}
			if n, errno := recvConn(b, nil); n != 0 || (errno != 0 && errno != syscall.EAGAIN) {
				t.Errorf("receiving into nothing: %d, %v", n, errno)
			}
		})
	}
}

// A full socket takes a part, then answers EAGAIN; what it took arrives in order.
func TestSendFull(t *testing.T) {
	a, b := tcpPairTest(t)
	head, body := bytes.Repeat([]byte("h"), 1000), bytes.Repeat([]byte("b"), 1<<20)
	var sent, got []byte
	for {
		n, errno := sendvConn(a, head, body)
		if errno == syscall.EAGAIN {
			break
		}
		if errno != 0 {
			t.Fatal(errno)
		}
		sent = append(sent, append(head[:len(head):len(head)], body...)[:n]...)
		if len(sent) > 64<<20 {
			t.Fatal("the socket never fills")
		}
	}
	if n, errno := sendConn(a, body); n != 0 || errno != syscall.EAGAIN {
		t.Errorf("send to a full socket: %d, %v; want EAGAIN", n, errno)
	}
	if got = recvTest(t, b, len(sent)); !bytes.Equal(got, sent) {
		t.Errorf("%d bytes sent, %d received, or not the same", len(sent), len(got))
	}
}

func TestShutdown(t *testing.T) {
	a, b := tcpPairTest(t)
	if err := shutdownWrite(a); err != nil {
		t.Fatal(err)
	}
	if got := recvTest(t, b, 1); len(got) != 0 {
		t.Errorf("received %q from a stream that ended", got)
	}
	if _, errno := sendConn(a, []byte("x")); errno != syscall.EPIPE {
		t.Errorf("send after shutdownWrite: %v, want EPIPE", errno)
	}
	if _, errno := sendConn(b, []byte("back")); errno != 0 {
		t.Fatalf("the other direction: %v", errno)
	}
	if got := recvTest(t, a, 4); string(got) != "back" {
		t.Errorf("received %q after shutdownWrite", got)
	}
	if err := shutdownBoth(b); err != nil {
		t.Fatal(err)
	}
	if _, errno := sendConn(b, []byte("x")); errno != syscall.EPIPE {
		t.Errorf("send after shutdownBoth: %v, want EPIPE", errno)
	}
	if got := recvTest(t, a, 1); len(got) != 0 {
		t.Errorf("received %q after the peer's shutdownBoth", got)
	}
}

func TestReset(t *testing.T) {
	a, b := tcpPairTest(t)
	disownTest(a)
	if err := resetFD(a); err != nil {
		t.Fatal(err)
	}
	for deadline := time.Now().Add(patience); ; runtime.Gosched() {
		_, errno := recvConn(b, make([]byte, 1))
		if errno == syscall.ECONNRESET {
			break
		}
		if errno != syscall.EAGAIN || time.Now().After(deadline) {
			t.Fatalf("receive after the peer's reset: %v, want ECONNRESET", errno)
		}
	}
}

func TestSocketErr(t *testing.T) {
	// A port that nobody listens on any more.
	lfd, err := listenTCP(netip.MustParseAddrPort("127.0.0.1:0"), 0, false)
	if err != nil {
		t.Fatal(err)
	}
	addr, _ := localAddrPort(lfd)
	closeFD(lfd)
	fd, err := openSocket(syscall.AF_INET)
	if err != nil {
		t.Fatal(err)
	}
	ownTest(t, fd)
	if errno := socketErr(fd); errno != 0 {
		t.Errorf("a new socket: %v", errno)
	}
	_, sa, _ := sockaddrOf(addr)
	switch err := syscall.Connect(fd, sa); err {
	case syscall.EINPROGRESS:
	case syscall.ECONNREFUSED:
		return // told at once: nothing is left to collect
	default:
		t.Fatal(err)
	}
	for deadline := time.Now().Add(patience); ; runtime.Gosched() {
		errno := socketErr(fd)
		if errno == syscall.ECONNREFUSED {
			break
		}
		if errno != 0 || time.Now().After(deadline) {
			t.Fatalf("a refused connection: %v, want ECONNREFUSED", errno)
		}
	}
	if errno := socketErr(fd); errno != 0 {
		t.Errorf("a second look: %v, want none", errno)
	}
	if errno := socketErr(-1); errno != syscall.EBADF {
		t.Errorf("no descriptor: %v, want EBADF", errno)
	}
}

func TestSocketOptions(t *testing.T) {
	_, b := tcpPairTest(t)
	get := func(level, option int) int {
		t.Helper()
		n, err := syscall.GetsockoptInt(b, level, option)
		if err != nil {
			t.Fatal(err)
		}
		return n
	}
	if err := setNoDelay(b); err != nil || get(syscall.IPPROTO_TCP, syscall.TCP_NODELAY) == 0 {
		t.Errorf("setNoDelay: %v", err)
	}
	for _, tt := range []struct {
		idle    time.Duration
		seconds int
	}{{time.Nanosecond, 1}, {1500 * time.Millisecond, 2}, {75 * time.Second, 75}, {1 << 62, 32767}} {
		if err := setKeepAlive(b, tt.idle); err != nil {
			t.Fatal(err)
		}
		if get(syscall.SOL_SOCKET, syscall.SO_KEEPALIVE) == 0 {
			t.Errorf("%v: keep-alive is off", tt.idle)
		}
		if n := get(syscall.IPPROTO_TCP, tcpKeepIdle); n != tt.seconds {
			t.Errorf("%v: idle %d s, want %d", tt.idle, n, tt.seconds)
		}
	}
	if n := get(syscall.IPPROTO_TCP, tcpKeepInterval); n != 15 {
		t.Errorf("interval %d s, want 15", n)
	}
	if n := get(syscall.IPPROTO_TCP, tcpKeepCount); n != 9 {
		t.Errorf("%d probes, want 9", n)
	}
	if err := setKeepAlive(b, 0); err != nil || get(syscall.SOL_SOCKET, syscall.SO_KEEPALIVE) != 0 {
		t.Errorf("off: %v", err)
	}
}

func TestDupCloexec(t *testing.T) {
	a, b := socketpairTest(t)
	dup, err := dupCloexec(a)
	if err != nil {
		t.Fatal(err)
	}
	ownTest(t, dup)
	checkFlags(t, dup)
	closeTest(t, a)
	if _, errno := sendConn(dup, []byte("x")); errno != 0 {
		t.Fatal(errno)
	}
	if got := recvTest(t, b, 1); string(got) != "x" {
		t.Errorf("received %q", got)
	}
	if _, err := dupCloexec(-1); !errors.Is(err, syscall.EBADF) {
		t.Errorf("no descriptor: %v, want EBADF", err)
	}
}

func TestFileConn(t *testing.T) {
	a, b := tcpPairTest(t)
	c, err := fileConn(b)
	if err != nil {
		t.Fatal(err)
	}
	checkFlags(t, b) // what is shared must stay as it was
	peer, _ := peerAddrPort(b)
	if tc, ok := c.(*net.TCPConn); !ok || tc.RemoteAddr().String() != peer.String() {
		t.Errorf("a %T from %v, want a TCP connection from %v", c, c.RemoteAddr(), peer)
	}
	if _, errno := sendConn(a, []byte("ping")); errno != 0 {
		t.Fatal(errno)
	}
	buf := make([]byte, 4)
	if _, err := io.ReadFull(c, buf); err != nil || string(buf) != "ping" {
		t.Errorf("read %q, %v", buf, err)
	}
	if err := c.Close(); err != nil {
		t.Error(err)
	}
	if _, errno := sendConn(b, []byte("pong")); errno != 0 {
		t.Errorf("the descriptor did not outlive the net.Conn: %v", errno)
	}
	if got := recvTest(t, a, 4); string(got) != "pong" {
		t.Errorf("received %q", got)
	}
	if _, err := fileConn(-1); !errors.Is(err, syscall.EBADF) {
		t.Errorf("no descriptor: %v, want EBADF", err)
	}
}

func TestSendFile(t *testing.T) {
	content := bytes.Repeat([]byte("0123456789"), 1000)
	f, err := os.Create(filepath.Join(t.TempDir(), "f"))
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	if _, err := f.Write(content); err != nil {
		t.Fatal(err)
	}
	a, b := tcpPairTest(t)
	off := int64(10)
	n, errno := sendFile(a, int(f.Fd()), &off, 100)
	if n != 100 || errno != 0 || off != 110 {
		t.Fatalf("a part: %d, %v, offset %d", n, errno, off)
	}
	if got := recvTest(t, b, 100); !bytes.Equal(got, content[10:110]) {
		t.Errorf("received %q", got)
	}
	off = int64(len(content)) - 5
	if n, errno := sendFile(a, int(f.Fd()), &off, 100); n != 5 || errno != 0 || off != int64(len(content)) {
		t.Errorf("the end: %d, %v, offset %d", n, errno, off)
	}
	if n, errno := sendFile(a, int(f.Fd()), &off, 100); n != 0 || errno != 0 {
		t.Errorf("past the end: %d, %v", n, errno)
	}
	if n, errno := sendFile(a, -1, &off, 100); n != 0 || errno != syscall.EBADF {
		t.Errorf("no file: %d, %v; want EBADF", n, errno)
	}
}

func TestAcceptErrors(t *testing.T) {
	for _, tt := range []struct {
		errno syscall.Errno
		want  acceptOutcome
	}{
		{syscall.ECONNABORTED, acceptNext},
		{syscall.EINTR, acceptNext},
		{syscall.EPROTO, acceptNext},
		{errnoNoNetwork, acceptNext},
		{syscall.EMFILE, acceptPause},
		{syscall.ENFILE, acceptPause},
		{syscall.ENOBUFS, acceptPause},
		{syscall.ENOMEM, acceptPause},
		{syscall.EPERM, acceptPause},
		{syscall.EAGAIN, acceptLater},
		{syscall.EBADF, acceptNever},
		{syscall.EINVAL, acceptNever},
		{syscall.ENOTSOCK, acceptNever},
	} {
		if got := acceptOutcomeOf(tt.errno); got != tt.want {
			t.Errorf("acceptOutcomeOf(%v) = %d, want %d", tt.errno, got, tt.want)
		}
	}
}

func TestClosedDescriptor(t *testing.T) {
	for name, call := range map[string]func() error{
		"shutdownWrite":   func() error { return shutdownWrite(-1) },
		"shutdownBoth":    func() error { return shutdownBoth(-1) },
		"closeFD":         func() error { return closeFD(-1) },
		"setResetOnClose": func() error { return setResetOnClose(-1) },
		"setNoDelay":      func() error { return setNoDelay(-1) },
		"setKeepAlive":    func() error { return setKeepAlive(-1, time.Second) },
		"localAddrPort":   func() error { _, err := localAddrPort(-1); return err },
		"peerAddrPort":    func() error { _, err := peerAddrPort(-1); return err },
		"acceptConn":      func() error { _, _, errno := acceptConn(-1); return errno },
		"recvConn":        func() error { _, errno := recvConn(-1, make([]byte, 1)); return errno },
		"sendConn":        func() error { _, errno := sendConn(-1, make([]byte, 1)); return errno },
		"sendvConn":       func() error { _, errno := sendvConn(-1, make([]byte, 1), nil); return errno },
	} {
		if err := call(); !errors.Is(err, syscall.EBADF) {
			t.Errorf("%s: %v, want EBADF", name, err)
		}
	}
}

func TestAddrPort16(t *testing.T) {
	for _, tt := range []struct {
		ip   string
		zone uint32
		want string
	}{
		{"::1", 0, "[::1]:80"},
		{"::ffff:192.0.2.1", 0, "192.0.2.1:80"},
		{"::ffff:192.0.2.1", 3, "192.0.2.1:80"},
		{"fe80::1", 3, "[fe80::1%3]:80"},
	} {
		got := addrPort16(netip.MustParseAddr(tt.ip).As16(), 80, tt.zone)
		if got.String() != tt.want {
			t.Errorf("%s, zone %d: %v, want %s", tt.ip, tt.zone, got, tt.want)
		}
		_, sa, err := sockaddrOf(got)
		if err != nil || addrPortOf(sa) != got {
			t.Errorf("%v there and back is %v, %v", got, addrPortOf(sa), err)
		}
	}
}

func TestSocketAllocs(t *testing.T) {
	if runtime.GOOS != "linux" {
		t.Skip("package syscall of this system allocates: only the Linux calls are made by hand")
	}
	a, b := tcpPairTest(t)
	buf, head, body := make([]byte, 64), []byte("head"), []byte("body")
	if n := testing.AllocsPerRun(200, func() {
		recvConn(b, buf) // EAGAIN, mostly
		sendConn(a, head)
		sendvConn(a, head, body)
		for n := 0; n < 12; {
			m, _ := recvConn(b, buf)
			n += m
		}
	}); n != 0 {
		t.Errorf("send and receive: %v allocations", n)
	}

	lfd, err := listenTCP(netip.MustParseAddrPort("[::]:0"), 64, false)
	if err != nil {
		t.Fatal(err)
	}
	ownTest(t, lfd)
	addr, _ := localAddrPort(lfd)
	const runs = 50
	for range runs + 2 { // before, as dialling allocates
		dialTest(t, netip.AddrPortFrom(netip.MustParseAddr("127.0.0.1"), addr.Port()))
	}
	if n := testing.AllocsPerRun(runs, func() {
		fd, peer, errno := acceptConn(lfd)
		if errno != 0 || !peer.Addr().Is4() {
			t.Fatal(peer, errno)
		}
		closeFD(fd)
	}); n != 0 {
		t.Errorf("accept: %v allocations", n)
	}
}
