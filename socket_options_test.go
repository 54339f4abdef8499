//go:build linux || darwin

package flare

import (
	"syscall"
	"testing"
	"time"
)

// optionOf reads an option of a socket that package net made.
func optionOf(t *testing.T, c syscall.Conn, level, option int) (n int) {
	t.Helper()
	raw, err := c.SyscallConn()
	if err == nil {
		if failed := raw.Control(func(fd uintptr) { n, err = syscall.GetsockoptInt(int(fd), level, option) }); failed != nil {
			err = failed
		}
	}
	if err != nil {
		t.Fatal(err)
	}
	return n
}

func TestDialSocketOptions(t *testing.T) {
	addr := dialEcho(t, dialListen(t, "tcp4", "127.0.0.1:0"))
	dialled := func(o SocketOptions) syscall.Conn {
		t.Helper()
		c, err := (&Dialer{Socket: o}).Dial(clientContext(t), "tcp", addr)
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { c.Close() })
		return c.(syscall.Conn)
	}
	plain := dialled(SocketOptions{})
	asked := dialled(SocketOptions{Delay: true, KeepAlive: -1, ReadBuffer: 32 << 10, WriteBuffer: 16 << 10, ReuseAddr: true, ReusePort: true})
	for _, tt := range []struct {
		name          string
		level, option int
		plain, asked  bool
	}{
		{"no delay", syscall.IPPROTO_TCP, syscall.TCP_NODELAY, true, false},
		{"keep-alive", syscall.SOL_SOCKET, syscall.SO_KEEPALIVE, true, false},
		{"reuse of the address", syscall.SOL_SOCKET, syscall.SO_REUSEADDR, false, true},
		{"reuse of the port", syscall.SOL_SOCKET, soReusePort(), false, true},
	} {
		if p, a := optionOf(t, plain, tt.level, tt.option) != 0, optionOf(t, asked, tt.level, tt.option) != 0; p != tt.plain || a != tt.asked {
			t.Errorf("%s: %v by default, %v when asked", tt.name, p, a)
		}
	}
	// Linux doubles what it is asked for.
	for name, sizes := range map[string][2]int{"read": {syscall.SO_RCVBUF, 32 << 10}, "write": {syscall.SO_SNDBUF, 16 << 10}} {
		if n := optionOf(t, asked, syscall.SOL_SOCKET, sizes[0]); n != sizes[1] && n != 2*sizes[1] {
			t.Errorf("%s buffer of %d bytes, asked for %d", name, n, sizes[1])
		}
	}
	idle := dialled(SocketOptions{KeepAlive: 75 * time.Second})
	if n := optionOf(t, idle, syscall.IPPROTO_TCP, tcpKeepIdle); n != 75 {
		t.Errorf("keep-alive after %d s, asked for 75", n)
	}
}
