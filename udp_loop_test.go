//go:build linux || darwin

package flare

import (
	"bytes"
	"errors"
	"net"
	"net/netip"
	"sync"
	"sync/atomic"
	"testing"
	"time"
)

func udpListen(t *testing.T, l *Loop, addr string, opts *UDPOptions, handler func(*Datagram)) *LoopUDPConn {
	t.Helper()
	u, err := l.ListenUDP(netip.MustParseAddrPort(addr), opts, handler)
	udpListened(t, addr, err)
	return u
}

func udpEcho(d *Datagram) { d.Reply(d.Data) }

func TestLoopUDPEcho(t *testing.T) {
	for _, family := range append(udpFamilies, struct{ name, addr string }{"both", "[::]:0"}) {
		t.Run(family.name, func(t *testing.T) {
			u := udpListen(t, newRunningLoop(t), family.addr, nil, udpEcho)
			addr := u.LocalAddr()
			peers := []netip.Addr{addr.Addr()}
			if addr.Addr().IsUnspecified() {
				peers = dnsAddrs("127.0.0.1", "::1")
			}
			for _, peer := range peers {
				client := udpTo(t, netip.AddrPortFrom(peer, addr.Port()), nil)
				buf := make([]byte, datagramRoom)
				for _, size := range []int{0, 1, 1472, DatagramBytesMax} {
					p := bytes.Repeat([]byte{'x'}, size)
					if _, err := client.Write(p); err != nil {
						t.Fatal(err)
					}
					if n, err := client.Read(buf); err != nil || !bytes.Equal(buf[:n], p) {
						t.Fatalf("%d bytes: %d came back, %v", size, n, err)
					}
				}
			}
			if u.Failed() != 0 || u.Truncated() != 0 {
				t.Errorf("%d failed, %d truncated", u.Failed(), u.Truncated())
			}
		})
	}
}

func TestLoopUDPBurst(t *testing.T) {
	for _, family := range udpFamilies {
		t.Run(family.name, func(t *testing.T) {
			l := newRunningLoop(t)
			release := make(chan struct{})
			var batches atomic.Int32
			u := udpListen(t, l, family.addr, nil, func(d *Datagram) {
				<-release // the whole burst waits in the kernel, and comes in full batches
				batches.Add(1)
				udpEcho(d)
			})
			client := udpTo(t, u.LocalAddr(), nil)
			n := udpRoom(t, client, 1000)
			if n = min(n, udpRoomOf(u.w.fd, 1000)); n < 1000 {
				t.Logf("the system's receive buffers have room for %d datagrams", n)
			}
			udpBurst(t, client, n, func() { close(release) })
			if int(batches.Load()) != n {
				t.Errorf("%d calls for %d datagrams", batches.Load(), n)
			}
		})
	}
}

func TestLoopUDPTruncation(t *testing.T) {
	type got struct {
		data      string
		truncated bool
	}
	came := make(chan got, 3)
	u := udpListen(t, newRunningLoop(t), "127.0.0.1:0", &UDPOptions{MaxDatagramBytes: 7}, func(d *Datagram) {
		came <- got{string(d.Data), d.Truncated}
	})
	client := udpTo(t, u.LocalAddr(), nil)
	for _, p := range []string{"12345678", "1234567", "abc"} {
		if _, err := client.Write([]byte(p)); err != nil {
			t.Fatal(err)
		}
		if g := <-came; g.data != p[:min(len(p), 7)] || g.truncated != (len(p) > 7) {
			t.Errorf("%q: %q, truncated: %v", p, g.data, g.truncated)
		}
	}
	if u.Truncated() != 1 {
		t.Errorf("%d truncated", u.Truncated())
	}
}

// What cannot be sent is an error before the system call, or counted.
func TestLoopUDPSend(t *testing.T) {
	errs := make(chan error, 8)
	u := udpListen(t, newRunningLoop(t), "127.0.0.1:0", nil, func(d *Datagram) {
		errs <- d.Reply(make([]byte, DatagramBytesMax+1))
		errs <- d.Send([]byte("x"), netip.MustParseAddrPort("[::1]:9"))
		errs <- d.Send([]byte("x"), netip.AddrPort{})
		errs <- d.Send([]byte("x"), netip.MustParseAddrPort("255.255.255.255:9")) // EACCES
		errs <- d.Reply([]byte("first"))
		errs <- d.Conn().WriteTo([]byte("at once"), d.From)
		for range 5 { // more than is gathered
			if err := d.Reply(make([]byte, 60000)); err != nil {
				errs <- err
			}
		}
	})
	client := udpTo(t, u.LocalAddr(), nil)
	udpRoom(t, client, 1000)
	if _, err := client.Write([]byte("go")); err != nil {
		t.Fatal(err)
	}
	for i, want := range []error{ErrDatagramTooLarge, ErrInvalidAddr, ErrInvalidAddr, nil, nil, nil} {
		if err := <-errs; err != want {
			t.Errorf("call %d: %v", i, err)
		}
	}
	buf := make([]byte, datagramRoom)
	for _, want := range []int{len("at once"), len("first"), 60000, 60000, 60000, 60000, 60000} {
		if n, err := client.Read(buf); err != nil || n != want {
			t.Fatalf("%d bytes, %v, want %d", n, err, want)
		}
	}
	if u.Failed() != 1 {
		t.Errorf("%d failed", u.Failed())
	}
	if err := u.WriteTo(make([]byte, DatagramBytesMax+1), client.LocalAddr()); err != ErrDatagramTooLarge {
		t.Error(err)
	}
}

// A handler that waits holds up its own socket and nothing else, and misses
// nothing of what comes meanwhile.
func TestLoopUDPHandlerWaits(t *testing.T) {
	l := newRunningLoop(t)
	release := make(chan struct{})
	var waited sync.Once
	slow := udpListen(t, l, "127.0.0.1:0", nil, func(d *Datagram) {
		waited.Do(func() { <-release })
		udpEcho(d)
	})
	quick := udpListen(t, l, "127.0.0.1:0", nil, udpEcho)
	toSlow, toQuick := udpTo(t, slow.LocalAddr(), nil), udpTo(t, quick.LocalAddr(), nil)
	buf := make([]byte, 8)
	for i := range 5 { // the first is in the handler, the others come meanwhile
		if _, err := toSlow.Write([]byte{byte(i)}); err != nil {
			t.Fatal(err)
		}
		if _, err := toQuick.Write([]byte("quick")); err != nil {
			t.Fatal(err)
		}
		if n, err := toQuick.Read(buf); err != nil || string(buf[:n]) != "quick" {
			t.Fatalf("%q, %v", buf[:n], err)
		}
	}
	close(release)
	for i := range 5 {
		if n, err := toSlow.Read(buf); err != nil || n != 1 || buf[0] != byte(i) {
			t.Fatalf("datagram %d: %q, %v", i, buf[:n], err)
		}
	}
}

func TestLoopUDPEnds(t *testing.T) {
	l := newRunningLoop(t)
	u := udpListen(t, l, "127.0.0.1:0", nil, udpEcho)
	client := udpTo(t, u.LocalAddr(), nil)
	if _, err := client.Write([]byte("x")); err != nil {
		t.Fatal(err)
	}
	if _, err := client.Read(make([]byte, 1)); err != nil {
		t.Fatal(err)
	}
	if err := u.Close(); err != nil {
		t.Fatal(err)
	}
	eventually(t, "the end of the socket", func() bool { return u.WriteTo([]byte("x"), client.LocalAddr()) != nil })
	if err := u.WriteTo([]byte("x"), client.LocalAddr()); err != ErrClosed {
		t.Errorf("a write after the end: %v", err)
	}
	if err := u.Close(); err != ErrClosed {
		t.Errorf("the second Close: %v", err)
	}
	open := udpListen(t, l, "127.0.0.1:0", nil, udpEcho) // ends with the loop
	l.Close()
	<-l.ended
	if err := open.WriteTo([]byte("x"), client.LocalAddr()); err != ErrClosed {
		t.Errorf("a write after the loop's end: %v", err)
	}
	if _, err := l.ListenUDP(netip.MustParseAddrPort("127.0.0.1:0"), nil, udpEcho); !errors.Is(err, ErrClosed) {
		t.Errorf("a loop that has ended: %v", err)
	}
	never, err := NewLoop(nil)
	if err != nil {
		t.Fatal(err)
	}
	udpListen(t, never, "127.0.0.1:0", nil, udpEcho)
	if err := never.Close(); err != nil { // TestMain looks for what is left open
		t.Error(err)
	}
}

// A watch is asked for what it wants, also when that changes in a call, and
// called again for what it says it has not used up.
func TestLoopWatch(t *testing.T) {
	l := newRunningLoop(t)
	a, err := net.ListenUDP("udp4", &net.UDPAddr{IP: net.IPv4(127, 0, 0, 1)})
	if err != nil {
		t.Fatal(err)
	}
	defer a.Close()
	fd, err := dupSocket(a)
	if err != nil {
		t.Fatal(err)
	}
	calls := make(chan Interest, 8)
	var w watch
	steps := []struct{ want, more Interest }{{Writable, 0}, {Readable, Readable}, {Readable, 0}}
	w = watch{fd: fd, ended: func() {}, ready: func(noted Interest) Interest {
		calls <- noted
		if len(steps) == 0 {
			return 0
		}
		step := steps[0]
		steps = steps[1:]
		w.want = step.want
		if step.more == 0 && step.want == Readable {
			a.SetReadDeadline(time.Now().Add(patience))
			a.Read(make([]byte, 8)) // used up, for pollers that repeat themselves
		}
		return step.more
	}}
	if !l.call(func() {
		if err := l.watch(&w, Readable); err != nil {
			t.Error(err)
		}
	}) {
		t.Fatal("the loop has ended")
	}
	if _, err := a.WriteToUDPAddrPort([]byte("x"), localUDPAddr(a)); err != nil {
		t.Fatal(err)
	}
	for i, want := range []Interest{Readable, Writable, Readable} {
		select {
		case got := <-calls:
			if got&want == 0 {
				t.Errorf("call %d for %v, want %v", i, got, want)
			}
		case <-time.After(patience):
			t.Fatalf("call %d for %v did not come", i, want)
		}
	}
}

// No datagram is longer than the longest: a larger number asks for no memory.
func TestLoopUDPMaxDatagramBytes(t *testing.T) {
	u := udpListen(t, newRunningLoop(t), "127.0.0.1:0", &UDPOptions{MaxDatagramBytes: int(^uint(0) >> 1)}, udpEcho)
	if got := len(u.batch.room(0)); got != datagramRoom {
		t.Errorf("room for %d bytes", got)
	}
}
