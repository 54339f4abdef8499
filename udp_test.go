//go:build linux || darwin

package flare

import (
	"bytes"
	"encoding/binary"
	"errors"
	"net"
	"net/netip"
	"os"
	"syscall"
	"testing"
	"time"
)

var udpFamilies = []struct{ name, addr string }{{"IPv4", "127.0.0.1:0"}, {"IPv6", "[::1]:0"}}

// udpSocket listens at addr until the test ends.
func udpSocket(t *testing.T, addr string, opts *UDPOptions) *UDPConn {
	t.Helper()
	s, err := ListenUDP(netip.MustParseAddrPort(addr), opts)
	udpListened(t, addr, err)
	return udpClosed(t, s)
}

// udpListened ends the test if there was an error of listening at addr. Only of
// IPv6 may it be that a machine has none.
func udpListened(t *testing.T, addr string, err error) {
	t.Helper()
	if addr[0] == '[' && (errors.Is(err, syscall.EADDRNOTAVAIL) || errors.Is(err, syscall.EAFNOSUPPORT)) {
		t.Skip("no IPv6 here: ", err)
	}
	if err != nil {
		t.Fatal(err)
	}
}

// udpTo is a socket for one peer, until the test ends.
func udpTo(t *testing.T, peer netip.AddrPort, opts *UDPOptions) *UDPConn {
	t.Helper()
	s, err := DialUDP(peer, opts)
	if err != nil {
		t.Fatal(err)
	}
	return udpClosed(t, s)
}

func udpClosed(t *testing.T, s *UDPConn) *UDPConn {
	t.Cleanup(func() { s.Close() })
	if err := s.SetDeadline(time.Now().Add(patience)); err != nil {
		t.Fatal(err)
	}
	return s
}

func TestUDPEcho(t *testing.T) {
	for _, family := range udpFamilies {
		t.Run(family.name, func(t *testing.T) {
			server := udpSocket(t, family.addr, nil)
			client := udpTo(t, server.LocalAddr(), nil)
			if client.RemoteAddr() != server.LocalAddr() || server.RemoteAddr().IsValid() {
				t.Errorf("peers %v and %v", client.RemoteAddr(), server.RemoteAddr())
			}
			buf := make([]byte, datagramRoom)
			for _, size := range []int{0, 1, 1472, DatagramBytesMax} {
				p := bytes.Repeat([]byte{'x'}, size)
				if n, err := client.Write(p); err != nil || n != size {
					t.Fatalf("%d bytes: wrote %d, %v", size, n, err)
				}
				n, from, err := server.ReadFrom(buf)
				if err != nil || !bytes.Equal(buf[:n], p) || from != client.LocalAddr() {
					t.Fatalf("%d bytes: got %d from %v, %v", size, n, from, err)
				}
				if err := server.WriteTo(buf[:n], from); err != nil {
					t.Fatal(err)
				}
				if n, err := client.Read(buf); err != nil || !bytes.Equal(buf[:n], p) {
					t.Fatalf("%d bytes: %d came back, %v", size, n, err)
				}
			}
		})
	}
}

// An unspecified IPv6 address takes both families, and shows IPv4 peers as such.
func TestUDPDualStack(t *testing.T) {
	for _, addr := range []netip.AddrPort{netip.MustParseAddrPort("[::]:0"), {}} {
		server, err := ListenUDP(addr, nil)
		if err != nil {
			t.Fatal(err)
		}
		udpClosed(t, server)
		for _, to := range dnsAddrs("127.0.0.1", "::1") {
			if to.Is6() && server.LocalAddr().Addr().Is4() {
				continue // a machine without IPv6
			}
			client := udpTo(t, netip.AddrPortFrom(to, server.LocalAddr().Port()), nil)
			if _, err := client.Write([]byte("x")); err != nil {
				t.Fatal(err)
			}
			_, from, err := server.ReadFrom(make([]byte, 1))
			if err != nil || from != client.LocalAddr() {
				t.Errorf("from %v, %v, want %v", from, err, client.LocalAddr())
			}
			if err := server.WriteTo([]byte("y"), from); err != nil {
				t.Error(err)
			}
			if _, err := client.Read(make([]byte, 1)); err != nil {
				t.Error(err)
			}
		}
	}
}

func TestUDPTruncation(t *testing.T) {
	for _, family := range udpFamilies {
		server := udpSocket(t, family.addr, nil)
		client := udpTo(t, server.LocalAddr(), nil)
		for _, p := range []string{"12345678", "1234567", "abc"} {
			if _, err := client.Write([]byte(p)); err != nil {
				t.Fatal(err)
			}
			buf := make([]byte, 7)
			n, from, err := server.ReadFrom(buf)
			if want := p[:min(len(p), 7)]; string(buf[:n]) != want || from != client.LocalAddr() || errors.Is(err, ErrTruncated) != (len(p) > 7) || err != nil && len(p) <= 7 {
				t.Errorf("%s: %q of %q from %v: %v", family.name, buf[:n], p, from, err)
			}
		}
	}
}

func TestUDPTooLarge(t *testing.T) {
	for _, family := range udpFamilies {
		server := udpSocket(t, family.addr, nil)
		client := udpTo(t, server.LocalAddr(), nil)
		large := make([]byte, DatagramBytesMax+1)
		if n, err := client.Write(large); n != 0 || err != ErrDatagramTooLarge {
			t.Errorf("%s: Write: %d, %v", family.name, n, err)
		}
		// Not even the socket's end is looked at before.
		server.Close()
		if err := server.WriteTo(large, client.LocalAddr()); err != ErrDatagramTooLarge {
			t.Errorf("%s: WriteTo: %v", family.name, err)
		}
	}
}

// That nobody has the port is an error of the call after.
func TestUDPPortUnreachable(t *testing.T) {
	for _, family := range udpFamilies {
		t.Run(family.name, func(t *testing.T) {
			gone := udpSocket(t, family.addr, nil)
			client := udpTo(t, gone.LocalAddr(), nil)
			gone.Close()
			if _, err := client.Write([]byte("x")); err != nil {
				t.Fatal(err)
			}
			_, err := client.Read(make([]byte, 1))
			if !errors.Is(err, ErrRefused) || !errors.Is(err, syscall.ECONNREFUSED) {
				t.Errorf("%v", err)
			}
		})
	}
}

func TestUDPBroadcast(t *testing.T) {
	to := netip.MustParseAddrPort("255.255.255.255:9")
	if err := udpSocket(t, "0.0.0.0:0", nil).WriteTo([]byte("x"), to); !errors.Is(err, syscall.EACCES) {
		t.Errorf("without permission: %v", err)
	}
	// Where a broadcast goes is not for a test to say; that it is not refused is.
	if err := udpSocket(t, "0.0.0.0:0", &UDPOptions{Broadcast: true}).WriteTo([]byte("x"), to); errors.Is(err, syscall.EACCES) {
		t.Errorf("with permission: %v", err)
	}
	// The loopback network's own broadcast address stays on the machine.
	server := udpSocket(t, "0.0.0.0:0", nil)
	sender := udpSocket(t, "127.0.0.1:0", &UDPOptions{Broadcast: true})
	if err := sender.WriteTo([]byte("all"), netip.AddrPortFrom(netip.MustParseAddr("127.255.255.255"), server.LocalAddr().Port())); err != nil {
		t.Skip("no broadcast on the loopback network: ", err)
	}
	buf := make([]byte, 8)
	if n, _, err := server.ReadFrom(buf); err != nil || string(buf[:n]) != "all" {
		t.Errorf("%q, %v", buf[:n], err)
	}
}

func TestUDPEnds(t *testing.T) {
	s := udpSocket(t, "127.0.0.1:0", nil)
	if err := s.SetReadDeadline(time.Now().Add(-time.Second)); err != nil {
		t.Fatal(err)
	}
	var timeout net.Error
	if _, _, err := s.ReadFrom(make([]byte, 1)); !errors.Is(err, ErrTimeout) || !errors.Is(err, os.ErrDeadlineExceeded) || !errors.As(err, &timeout) || !timeout.Timeout() {
		t.Errorf("after the deadline: %v", err)
	}
	if err := s.SetWriteDeadline(time.Time{}); err != nil {
		t.Fatal(err)
	}
	if err := s.SetReadDeadline(time.Time{}); err != nil {
		t.Fatal(err)
	}
	// Close ends a call that waits, or comes after it: both ways it is this error.
	ended := make(chan error)
	go func() {
		_, _, err := s.ReadFrom(make([]byte, 1))
		ended <- err
	}()
	if err := s.Close(); err != nil {
		t.Error(err)
	}
	if err := <-ended; err != ErrClosed {
		t.Errorf("a read across Close: %v", err)
	}
	if err := s.Close(); err != ErrClosed {
		t.Errorf("the second Close: %v", err)
	}
	if err := s.WriteTo(nil, netip.MustParseAddrPort("127.0.0.1:9")); err != ErrClosed {
		t.Errorf("a write after Close: %v", err)
	}
	if _, err := DialUDP(netip.AddrPort{}, nil); !errors.Is(err, ErrInvalidAddr) {
		t.Errorf("no address: %v", err)
	}
	taken := udpSocket(t, "127.0.0.1:0", nil)
	if _, err := ListenUDP(taken.LocalAddr(), nil); !errors.Is(err, syscall.EADDRINUSE) {
		t.Errorf("an address that is taken: %v", err)
	}
	shared := udpSocket(t, "127.0.0.1:0", &UDPOptions{ReusePort: true})
	second, err := ListenUDP(shared.LocalAddr(), &UDPOptions{ReusePort: true})
	if err != nil {
		t.Fatalf("a port that is shared: %v", err)
	}
	second.Close()
}

// udpRoom gives a socket a receive buffer for n small datagrams, and returns
// for how many it has room.
func udpRoom(t *testing.T, s *UDPConn, n int) (room int) {
	t.Helper()
	raw, err := s.SyscallConn()
	if err == nil {
		err = raw.Control(func(fd uintptr) { room = udpRoomOf(int(fd), n) })
	}
	if err != nil {
		t.Fatal(err)
	}
	return room
}

// udpRoomOf goes past the system's bound where the test may.
func udpRoomOf(fd, n int) int {
	const each = 1280        // of kernel memory, for a small datagram
	const soRcvbufForce = 33 // Linux; elsewhere it fails
	if syscall.SetsockoptInt(fd, syscall.SOL_SOCKET, soRcvbufForce, n*each) != nil {
		syscall.SetsockoptInt(fd, syscall.SOL_SOCKET, syscall.SO_RCVBUF, n*each)
	}
	size, err := syscall.GetsockoptInt(fd, syscall.SOL_SOCKET, syscall.SO_RCVBUF)
	if err != nil {
		return 0
	}
	return min(n, size/each)
}

// udpBurst sends n numbered datagrams in one go, calls sent, and counts what
// comes back.
func udpBurst(t *testing.T, client *UDPConn, n int, sent func()) {
	t.Helper()
	var p [100]byte
	for i := range n {
		binary.BigEndian.PutUint32(p[:], uint32(i))
		if _, err := client.Write(p[:]); err != nil {
			t.Fatal(err)
		}
	}
	sent()
	seen := make([]bool, n)
	for count := 0; count < n; count++ {
		m, err := client.Read(p[:])
		i := int(binary.BigEndian.Uint32(p[:]))
		if err != nil || m != len(p) || i >= n || seen[i] {
			t.Fatalf("after %d of %d: %d bytes, %v", count, n, m, err)
		}
		seen[i] = true
	}
}

func TestUDPBurst(t *testing.T) {
	for _, family := range udpFamilies {
		t.Run(family.name, func(t *testing.T) {
			server := udpSocket(t, family.addr, nil)
			client := udpTo(t, server.LocalAddr(), nil)
			n := min(udpRoom(t, server, 1000), udpRoom(t, client, 1000))
			if n < 1000 {
				t.Logf("the system's receive buffers have room for %d datagrams", n)
			}
			done := make(chan struct{})
			go func() {
				defer close(done)
				buf := make([]byte, 128)
				for range n {
					k, from, err := server.ReadFrom(buf)
					if err == nil {
						err = server.WriteTo(buf[:k], from)
					}
					if err != nil {
						t.Error(err)
						return
					}
				}
			}()
			udpBurst(t, client, n, func() {})
			<-done
		})
	}
}
