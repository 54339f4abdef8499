//go:build linux || darwin

package flare

import (
	"io"
	"log/slog"
	"net"
	"net/netip"
	"runtime"
	"testing"
	"time"
)

// Callbacks of a loop of one's own: it goes on, whatever they do.
func TestLoopCallbacksEverywhere(t *testing.T) {
	before := slog.Default() // which gets the panics
	slog.SetDefault(quietLogger())
	defer slog.SetDefault(before)
	eachLoop(t, func(t *testing.T, l *Loop) {
		addr := loopServe(t, l, nil, func(*Conn) Protocol { return &testProtocol{data: echoData} })
		for name, fault := range map[string]func(){
			"return": func() {}, "panic": func() { panic("on purpose") }, "Goexit": runtime.Goexit,
		} {
			for place, enter := range map[string]func(fn func()){
				"Post":  func(fn func()) { l.Post(fn) },
				"After": func(fn func()) { l.After(time.Millisecond, fn) },
				"connected": func(fn func()) {
					l.DialTCP(netip.MustParseAddrPort(addr), nil, func(*Conn, error) Protocol { fn(); return nil })
				},
				"not connected": func(fn func()) {
					l.DialTCP(netip.MustParseAddrPort("127.0.0.1:1"), nil, func(*Conn, error) Protocol { fn(); return nil })
				},
			} {
				t.Run(place+" "+name, func(t *testing.T) {
					called := make(chan struct{})
					enter(func() { close(called); fault() })
					<-called
					alive := make(chan struct{})
					l.Post(func() { close(alive) })
					select {
					case <-alive:
					case <-time.After(patience):
						t.Fatal("the loop is dead")
					}
					c := dialRaw(t, addr)
					c.send("x")
					loopRead(t, c, "x")
				})
			}
			t.Run("ListenUDP "+name, func(t *testing.T) { udpFault(t, l, fault) })
		}
	})
}

// udpFault sends datagrams of which some have the handler do fault: the others
// are answered.
func udpFault(t *testing.T, l *Loop, fault func()) {
	u, err := l.ListenUDP(loopbackAny, nil, func(d *Datagram) {
		if string(d.Data) == "fault" {
			fault()
		}
		d.Reply(d.Data)
	})
	if err != nil {
		t.Fatal(err)
	}
	defer u.Close()
	nc, err := net.Dial("udp", u.LocalAddr().String())
	if err != nil {
		t.Fatal(err)
	}
	defer nc.Close()
	nc.SetDeadline(time.Now().Add(patience))
	for _, text := range []string{"fault", "1", "fault", "fault", "2"} {
		if _, err := io.WriteString(nc, text); err != nil {
			t.Fatal(err)
		}
	}
	p := make([]byte, 16)
	for got := 0; got < 2; {
		n, err := nc.Read(p)
		if err != nil {
			t.Fatalf("answer %d: %v", got, err)
		}
		if string(p[:n]) != "fault" {
			got++
		}
	}
}
