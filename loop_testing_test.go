//go:build linux || darwin

package flare

import (
	"errors"
	"io"
	"net"
	"net/netip"
	"testing"
	"time"
)

// This file has what tests of loops and their connections share.

// eachLoop runs a test on a running loop over each poller.
func eachLoop(t *testing.T, test func(t *testing.T, l *Loop)) {
	for _, maker := range pollerMakers {
		t.Run(maker.name, func(t *testing.T) {
			p, err := maker.make()
			if errors.Is(err, errors.ErrUnsupported) {
				t.Skip("this system has no such poller")
			}
			if err != nil {
				t.Fatal(err)
			}
			l, err := NewLoop(p)
			if err != nil {
				t.Fatal(err)
			}
			runLoop(t, l)
			test(t, l)
		})
	}
}

var loopbackAny = netip.MustParseAddrPort("127.0.0.1:0")

// A testProtocol is a Protocol of functions; those that are nil do nothing, and
// Data then takes everything.
type testProtocol struct {
	data    func(c *Conn, in []byte, eof bool) (int, error)
	drained func(c *Conn)
	expired func(c *Conn)
	closed  chan error // capacity 1
}

func (p *testProtocol) Data(c *Conn, in []byte, eof bool) (int, error) {
	if p.data == nil {
		return len(in), nil
	}
	return p.data(c, in, eof)
}

func (p *testProtocol) Drained(c *Conn) {
	if p.drained != nil {
		p.drained(c)
	}
}

func (p *testProtocol) Closed(c *Conn, err error) {
	if p.closed != nil {
		p.closed <- err // a second time it would block, and be found as a goroutine that is left
	}
}

// An expiringProtocol has an Expired method too.
type expiringProtocol struct{ testProtocol }

func (p *expiringProtocol) Expired(c *Conn) { p.expired(c) }

// loopServe listens on l and returns the address.
func loopServe(t *testing.T, l *Loop, opts *ConnOptions, newProtocol func(*Conn) Protocol) string {
	t.Helper()
	ln, err := l.ListenTCP(loopbackAny, opts, newProtocol)
	if err != nil {
		t.Fatal(err)
	}
	return ln.Addr().String()
}

// toldClosed returns what Closed was told.
func toldClosed(t *testing.T, closed <-chan error) error {
	t.Helper()
	select {
	case err := <-closed:
		return err
	case <-time.After(patience):
		t.Fatal("Closed is not called")
		return nil
	}
}

func echoData(c *Conn, in []byte, _ bool) (int, error) { return len(in), c.Write(in) }

// loopRead fails unless want comes next.
func loopRead(t *testing.T, c *rawClient, want string) {
	t.Helper()
	got := make([]byte, len(want))
	if _, err := io.ReadFull(c.br, got); err != nil || string(got) != want {
		t.Fatalf("read %q, %v; want %q", got, err, want)
	}
}

// loopEnds sends an octet to addr and fails the test unless the connection ends.
func loopEnds(t *testing.T, addr string) {
	t.Helper()
	conn, err := net.Dial("tcp", addr)
	if err != nil {
		return // it was reset while it began
	}
	defer conn.Close()
	conn.SetDeadline(time.Now().Add(patience))
	io.WriteString(conn, "x")
	if _, err := conn.Read(make([]byte, 1)); err == nil || isTimeout(err) {
		t.Fatalf("the connection lives on: %v", err)
	}
}
