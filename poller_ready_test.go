//go:build linux || darwin

package flare

import (
	"net/netip"
	"syscall"
	"testing"
)

func testPollerReadable(t *testing.T, p Poller) {
	a, b := socketpairTest(t)
	mustTest(t, p.Add(a, Readable))
	expectTest(t, p, a, 0)
	sendTest(t, b, "one")
	expectTest(t, p, a, Readable)
	expectAgain(t, p, a, Readable)
	sendTest(t, b, "two")
	expectTest(t, p, a, Readable) // each arrival is one, read or not
	recvTest(t, a, 6)
	expectTest(t, p, a, 0)
}

func testPollerWritable(t *testing.T, p Poller) {
	a, b := socketpairTest(t)
	mustTest(t, p.Add(a, Writable))
	expectTest(t, p, a, Writable)
	expectAgain(t, p, a, Writable)
	sent := 0
	for chunk := make([]byte, 4096); ; {
		n, errno := sendConn(a, chunk)
		if errno == syscall.EAGAIN {
			break
		}
		if errno != 0 {
			t.Fatal(errno)
		}
		sent += n
	}
	drainTest(t, p)
	expectTest(t, p, a, 0)
	recvTest(t, b, sent)
	expectTest(t, p, a, Writable)
}

func testPollerInterest(t *testing.T, p Poller) {
	for _, want := range []Interest{Readable, Writable, Readable | Writable, Hangup, Failed, interestAll} {
		a, b := socketpairTest(t)
		sendTest(t, b, "x")
		mustTest(t, p.Add(a, want))
		expectTest(t, p, a, want&(Readable|Writable))
		mustTest(t, p.Remove(a))
	}
}

func testPollerModify(t *testing.T, p Poller) {
	a, b := socketpairTest(t)
	sendTest(t, b, "x")
	mustTest(t, p.Add(a, Readable))
	expectTest(t, p, a, Readable)
	mustTest(t, p.Modify(a, Readable))
	expectTest(t, p, a, Readable)
	mustTest(t, p.Modify(a, Writable))
	expectTest(t, p, a, Writable)
	mustTest(t, p.Modify(a, Readable|Writable))
	expectTest(t, p, a, Readable|Writable)
	recvTest(t, a, 1)
	mustTest(t, p.Modify(a, Readable|Writable))
	expectTest(t, p, a, Writable)
	mustTest(t, p.Modify(a, Readable))
	expectTest(t, p, a, 0)
}

func testPollerPause(t *testing.T, p Poller) {
	a, b := socketpairTest(t)
	mustTest(t, p.Add(a, Readable|Writable))
	expectTest(t, p, a, Writable)
	mustTest(t, p.Modify(a, 0))
	sendTest(t, b, "x")
	expectTest(t, p, a, 0)
	mustTest(t, p.Modify(a, Readable))
	expectTest(t, p, a, Readable)
	mustTest(t, p.Modify(a, 0))
	mustTest(t, shutdownWrite(b))
	expectTest(t, p, a, Hangup)
	mustTest(t, p.Modify(a, Readable))
	expectTest(t, p, a, Readable|Hangup)
}

func testPollerMerge(t *testing.T, p Poller) {
	a, b := socketpairTest(t)
	sendTest(t, b, "x")
	mustTest(t, p.Add(a, Readable|Writable))
	var events [8]Event
	n, err := p.Wait(events[:], patience)
	if want := (Event{a, Readable | Writable}); err != nil || n != 1 || events[0] != want {
		t.Errorf("%v, %v; want one event %v", events[:n], err, want)
	}
}

func testPollerHalfClose(t *testing.T, p Poller) {
	for _, pair := range []func(testing.TB) (int, int){tcpPairTest, socketpairTest} {
		a, b := pair(t)
		mustTest(t, p.Add(a, Readable))
		sendTest(t, b, "last")
		mustTest(t, shutdownWrite(b))
		if got := awaitTest(t, p, a, Readable|Hangup); got&Failed != 0 {
			t.Errorf("a half-closed peer is %v", got)
		}
		if got := recvTest(t, a, 5); string(got) != "last" {
			t.Errorf("received %q before the end", got)
		}
		sendTest(t, a, "still heard")
		if got := recvTest(t, b, 11); string(got) != "still heard" {
			t.Errorf("received %q", got)
		}
		mustTest(t, p.Remove(a))
	}
}

func testPollerOwnHalfClose(t *testing.T, p Poller) {
	a, b := tcpPairTest(t)
	mustTest(t, p.Add(a, Readable|Writable))
	awaitTest(t, p, a, Writable)
	mustTest(t, shutdownWrite(a))
	if got := drainTest(t, p)[a]; got&(Hangup|Failed) != 0 {
		t.Errorf("our own half-close is %v", got)
	}
	recvTest(t, b, 1) // the end has arrived
	sendTest(t, b, "answer")
	if got := awaitTest(t, p, a, Readable); got&(Hangup|Failed) != 0 {
		t.Errorf("an answer to our half-close is %v", got)
	}
	recvTest(t, a, 6)
	closeTest(t, b)
	awaitTest(t, p, a, Readable|Hangup|Failed) // both directions
}

func testPollerPeerClosed(t *testing.T, p Poller) {
	a, b := socketpairTest(t)
	mustTest(t, p.Add(a, Readable))
	closeTest(t, b)
	expectTest(t, p, a, Readable|Hangup|Failed) // a Unix socket ends both ways
	mustTest(t, p.Remove(a))

	a, b = tcpPairTest(t)
	mustTest(t, p.Add(a, Readable))
	closeTest(t, b)
	if got := awaitTest(t, p, a, Readable|Hangup); got&Failed != 0 {
		t.Errorf("a peer's end of stream is %v", got) // TCP cannot tell it from a half-close
	}
}

func testPollerHangupUnasked(t *testing.T, p Poller) {
	a, b := tcpPairTest(t)
	mustTest(t, p.Add(a, Writable))
	awaitTest(t, p, a, Writable)
	sendTest(t, b, "unasked")
	mustTest(t, shutdownWrite(b))
	if got := awaitTest(t, p, a, Hangup); got&Readable != 0 {
		t.Errorf("only Writable was asked for: %v", got)
	}
}

func testPollerReset(t *testing.T, p Poller) {
	for _, want := range []Interest{Readable, Writable, Readable | Writable} {
		a, b := tcpPairTest(t)
		mustTest(t, p.Add(a, want))
		disownTest(b)
		mustTest(t, resetFD(b))
		awaitTest(t, p, a, Hangup|Failed)
		if n, errno := recvConn(a, make([]byte, 1)); n != 0 || errno == syscall.EAGAIN {
			t.Errorf("a receive after Failed: %d, %v", n, errno)
		}
		mustTest(t, p.Remove(a))
	}
	a, b := tcpPairTest(t) // paused
	mustTest(t, p.Add(a, Readable))
	mustTest(t, p.Modify(a, 0))
	disownTest(b)
	mustTest(t, resetFD(b))
	if got := awaitTest(t, p, a, Failed); got&(Readable|Writable) != 0 {
		t.Errorf("paused: %v", got)
	}
}

func testPollerConnect(t *testing.T, p Poller) {
	lfd, err := listenTCP(netip.MustParseAddrPort("127.0.0.1:0"), 0, false)
	mustTest(t, err)
	addr, _ := localAddrPort(lfd)
	_, sa, _ := sockaddrOf(addr)
	connect := func() (int, error) {
		fd, err := openSocket(syscall.AF_INET)
		mustTest(t, err)
		ownTest(t, fd)
		err = syscall.Connect(fd, sa)
		if err == syscall.EINPROGRESS {
			err = nil
		}
		return fd, err
	}
	fd, err := connect()
	mustTest(t, err)
	mustTest(t, p.Add(fd, Writable))
	if got := awaitTest(t, p, fd, Writable); got&Failed != 0 || socketErr(fd) != 0 {
		t.Errorf("a connection that was made is %v", got)
	}
	mustTest(t, p.Remove(fd))
	mustTest(t, closeFD(lfd))

	fd, err = connect()
	if err == syscall.ECONNREFUSED {
		return // told at once: nothing to poll for
	}
	mustTest(t, err)
	mustTest(t, p.Add(fd, Writable))
	awaitTest(t, p, fd, Failed)
}

func testPollerAccept(t *testing.T, p Poller) {
	lfd, err := listenTCP(netip.MustParseAddrPort("127.0.0.1:0"), 0, false)
	mustTest(t, err)
	ownTest(t, lfd)
	addr, _ := localAddrPort(lfd)
	mustTest(t, p.Add(lfd, Readable))
	expectTest(t, p, lfd, 0)
	for range 2 {
		dialTest(t, addr)
		dialTest(t, addr)
		awaitTest(t, p, lfd, Readable)
		acceptTest(t, lfd)
		acceptTest(t, lfd)
	}
	dialTest(t, addr)
	awaitTest(t, p, lfd, Readable)
}

func testPollerPipe(t *testing.T, p Poller) {
	var fds [2]int
	mustTest(t, syscall.Pipe(fds[:]))
	for _, fd := range fds {
		ownTest(t, fd)
		mustTest(t, syscall.SetNonblock(fd, true))
	}
	mustTest(t, p.Add(fds[0], Readable))
	if _, err := syscall.Write(fds[1], []byte("x")); err != nil {
		t.Fatal(err)
	}
	expectTest(t, p, fds[0], Readable)
	closeTest(t, fds[1])
	awaitTest(t, p, fds[0], Hangup)
}

// A pipe that nobody reads is added as anything else, and its event says that it
// has failed; so is one whose reader leaves later.
func testPollerBrokenPipe(t *testing.T, p Poller) {
	for _, want := range []Interest{Writable, Readable, Readable | Writable} {
		var fds [2]int
		mustTest(t, syscall.Pipe(fds[:]))
		ownTest(t, fds[1])
		mustTest(t, closeFD(fds[0]))
		mustTest(t, p.Add(fds[1], want))
		awaitTest(t, p, fds[1], Failed)
		mustTest(t, p.Modify(fds[1], want))
		awaitTest(t, p, fds[1], Failed)
		mustTest(t, p.Remove(fds[1]))
	}
	var fds [2]int
	mustTest(t, syscall.Pipe(fds[:]))
	ownTest(t, fds[1])
	mustTest(t, p.Add(fds[1], Writable))
	awaitTest(t, p, fds[1], Writable)
	mustTest(t, closeFD(fds[0]))
	awaitTest(t, p, fds[1], Failed)
}
