//go:build linux || darwin

package flare

import (
	"errors"
	"math/rand/v2"
	"net/netip"
	"runtime"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"
)

// pollerMakers are the pollers that have to behave alike: every one runs the
// whole of pollerBehaviours.
var pollerMakers = []struct {
	name string
	make func() (Poller, error)
}{
	{"system", NewPoller},
}

var pollerBehaviours = []struct {
	name string
	test func(t *testing.T, p Poller)
}{
	{"reports data once for each arrival", testPollerReadable},
	{"reports room at once and when it comes back", testPollerWritable},
	{"reports only what is asked for", testPollerInterest},
	{"reports anew after Modify", testPollerModify},
	{"pauses", testPollerPause},
	{"merges conditions into one event", testPollerMerge},
	{"tells a half-closed peer", testPollerHalfClose},
	{"does not call our own half-close a failure", testPollerOwnHalfClose},
	{"tells a closed peer", testPollerPeerClosed},
	{"tells a hangup that nobody asked for", testPollerHangupUnasked},
	{"tells a reset", testPollerReset},
	{"tells how a connect ended", testPollerConnect},
	{"tells a listener's connections", testPollerAccept},
	{"watches pipes", testPollerPipe},
	{"forgets what was removed", testPollerRemove},
	{"gives a reused number no stale event", testPollerReuse},
	{"forgets a descriptor that was closed", testPollerClosedDescriptor},
	{"refuses misuse", testPollerMisuse},
	{"waits as long as it should", testPollerTimeout},
	{"wakes once for many wakes", testPollerWakeCoalesces},
	{"loses no wake", testPollerWakeMany},
	{"wakes a wait beside events", testPollerWakeAndEvents},
	{"says that it is closed", testPollerClosed},
	{"keeps late wakes from other descriptors", testPollerWakeClose},
	{"does not starve in small batches", testPollerSmallBatch},
	{"holds 10,000 descriptors", testPollerMany},
	{"agrees with an oracle under churn", testPollerChurn},
	{"allocates nothing", testPollerAllocs},
}

func TestPoller(t *testing.T) {
	for _, maker := range pollerMakers {
		t.Run(maker.name, func(t *testing.T) {
			for _, b := range pollerBehaviours {
				t.Run(b.name, func(t *testing.T) {
					p, err := maker.make()
					if err != nil {
						t.Fatal(err)
					}
					t.Cleanup(func() {
						if err := p.Close(); err != nil && !errors.Is(err, ErrPollerClosed) {
							t.Error(err)
						}
					})
					b.test(t, p)
				})
			}
		})
	}
}

// drainTest collects what p reports now, by descriptor. Sockets of one machine
// report before the call that caused it returns. A wait without events may stand
// for one that was not asked for, so a few in a row are the end.
func drainTest(t *testing.T, p Poller) map[int]Interest {
	t.Helper()
	var events [64]Event
	got := map[int]Interest{}
	for empty := 0; empty < 3; {
		n, err := p.Wait(events[:], 0)
		if err != nil {
			t.Fatal(err)
		}
		for _, ev := range events[:n] {
			if ev.Ready == 0 {
				t.Errorf("an event with nothing ready: %+v", ev)
			}
			got[ev.FD] |= ev.Ready
		}
		empty++
		if n > 0 {
			empty = 0
		}
	}
	return got
}

// expectTest fails unless p reports exactly ready for fd now, and nothing else.
func expectTest(t *testing.T, p Poller, fd int, ready Interest) {
	t.Helper()
	got := drainTest(t, p)
	if got[fd] != ready {
		t.Errorf("descriptor %d is %v, want %v", fd, got[fd], ready)
	}
	delete(got, fd)
	if len(got) != 0 {
		t.Errorf("other descriptors reported: %v", got)
	}
}

// awaitTest waits until all of ready was reported for fd and returns what was:
// for events that come about in another context, such as TCP's.
func awaitTest(t *testing.T, p Poller, fd int, ready Interest) Interest {
	t.Helper()
	var events [16]Event
	var got Interest
	for deadline := time.Now().Add(10 * time.Second); got&ready != ready; {
		left := time.Until(deadline)
		if left <= 0 {
			t.Fatalf("descriptor %d is %v, want %v", fd, got, ready)
		}
		n, err := p.Wait(events[:], left)
		if err != nil {
			t.Fatal(err)
		}
		for _, ev := range events[:n] {
			if ev.FD != fd {
				t.Errorf("an event for another descriptor: %+v", ev)
				continue
			}
			got |= ev.Ready
		}
	}
	return got
}

func mustTest(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func sendTest(t *testing.T, fd int, s string) {
	t.Helper()
	if n, errno := sendConn(fd, []byte(s)); n != len(s) || errno != 0 {
		t.Fatalf("send: %d, %v", n, errno)
	}
}

func testPollerReadable(t *testing.T, p Poller) {
	a, b := socketpairTest(t)
	mustTest(t, p.Add(a, Readable))
	expectTest(t, p, a, 0)
	sendTest(t, b, "one")
	expectTest(t, p, a, Readable)
	expectTest(t, p, a, 0) // an edge, not a level
	sendTest(t, b, "two")
	expectTest(t, p, a, Readable) // each arrival is one, read or not
	recvTest(t, a, 6)
	expectTest(t, p, a, 0)
}

func testPollerWritable(t *testing.T, p Poller) {
	a, b := socketpairTest(t)
	mustTest(t, p.Add(a, Writable))
	expectTest(t, p, a, Writable)
	expectTest(t, p, a, 0)
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
	n, err := p.Wait(events[:], 10*time.Second)
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

func testPollerRemove(t *testing.T, p Poller) {
	a, b := socketpairTest(t)
	mustTest(t, p.Add(a, Readable|Writable))
	sendTest(t, b, "x")
	mustTest(t, p.Remove(a)) // with events that were not waited for
	expectTest(t, p, a, 0)
	sendTest(t, b, "y")
	closeTest(t, b)
	expectTest(t, p, a, 0)
	if err := p.Remove(a); !errors.Is(err, ErrPollerUnknown) {
		t.Errorf("Remove twice: %v", err)
	}
	mustTest(t, p.Add(a, Readable))
	expectTest(t, p, a, Readable|Hangup|Failed)
}

// Two descriptors are ready, the batch holds one. The other is removed and
// closed, and its number is a new connection's: no event is left for that.
func testPollerReuse(t *testing.T, p Poller) {
	for range 50 {
		a1, b1 := socketpairTest(t)
		a2, b2 := socketpairTest(t)
		mustTest(t, p.Add(a1, Readable))
		mustTest(t, p.Add(a2, Readable))
		sendTest(t, b1, "x")
		sendTest(t, b2, "x")
		var one [1]Event
		n, err := p.Wait(one[:], 10*time.Second)
		if n != 1 || err != nil {
			t.Fatal(n, err)
		}
		other := a1 + a2 - one[0].FD
		mustTest(t, p.Remove(other))
		closeTest(t, other)
		c, _ := socketpairTest(t) // takes the number: the lowest that is free
		if c != other {
			t.Fatalf("number %d was not reused, %d was", other, c)
		}
		mustTest(t, p.Add(c, Readable))
		expectTest(t, p, c, 0)
		mustTest(t, p.Remove(c))
		mustTest(t, p.Remove(one[0].FD))
	}
}

// A descriptor that was closed and not removed is unknown, under its number
// another can be added.
func testPollerClosedDescriptor(t *testing.T, p Poller) {
	for _, call := range []struct {
		name string
		do   func(fd int) error
	}{
		{"modify", func(fd int) error { return p.Modify(fd, Readable) }},
		{"remove", p.Remove},
		{"add", nil},
	} {
		a, b := socketpairTest(t)
		mustTest(t, p.Add(a, Readable))
		sendTest(t, b, "x")
		closeTest(t, a)
		if call.do != nil {
			if err := call.do(a); !errors.Is(err, syscall.EBADF) {
				t.Errorf("%s of a closed descriptor: %v, want EBADF", call.name, err)
			}
		}
		c, d := socketpairTest(t)
		if c != a {
			t.Fatalf("number %d was not reused, %d was", a, c)
		}
		if call.do != nil {
			if err := call.do(c); !errors.Is(err, ErrPollerUnknown) {
				t.Errorf("%s of a reused number: %v, want ErrPollerUnknown", call.name, err)
			}
		}
		mustTest(t, p.Add(c, Readable))
		expectTest(t, p, c, 0)
		sendTest(t, d, "y")
		expectTest(t, p, c, Readable)
		mustTest(t, p.Remove(c))
	}
}

func testPollerMisuse(t *testing.T, p Poller) {
	a, b := socketpairTest(t)
	gone, err := dupCloexec(a)
	mustTest(t, err)
	closeFD(gone)
	mustTest(t, p.Add(a, Readable))
	for _, tt := range []struct {
		name string
		err  error
		want error
		op   string
		fd   int
	}{
		{"added twice", p.Add(a, Readable), ErrPollerAdded, "add", a},
		{"added twice, otherwise", p.Add(a, Writable), ErrPollerAdded, "add", a},
		{"modified before added", p.Modify(b, Readable), ErrPollerUnknown, "modify", b},
		{"paused before added", p.Modify(b, 0), ErrPollerUnknown, "modify", b},
		{"removed before added", p.Remove(b), ErrPollerUnknown, "remove", b},
		{"added for nothing", p.Add(b, 0), ErrPollerInterest, "add", b},
		{"added for what is not known", p.Add(b, Readable|1<<7), ErrPollerInterest, "add", b},
		{"modified for what is not known", p.Modify(a, 1<<4), ErrPollerInterest, "modify", a},
		{"not open, added", p.Add(gone, Readable), syscall.EBADF, "add", gone},
		{"not open, modified", p.Modify(gone, Readable), syscall.EBADF, "modify", gone},
		{"not open, removed", p.Remove(gone), syscall.EBADF, "remove", gone},
		{"negative, added", p.Add(-1, Readable), syscall.EBADF, "add", -1},
		{"negative, modified", p.Modify(-1, Readable), syscall.EBADF, "modify", -1},
		{"negative, removed", p.Remove(-1), syscall.EBADF, "remove", -1},
	} {
		var pe *PollerError
		if !errors.Is(tt.err, tt.want) || !errors.As(tt.err, &pe) || pe.Op != tt.op || pe.FD != tt.fd {
			t.Errorf("%s: %v (%+v), want %v", tt.name, tt.err, pe, tt.want)
		}
	}
	if n, err := p.Wait(nil, 0); n != 0 || !errors.Is(err, syscall.EINVAL) {
		t.Errorf("no room for events: %d, %v; want EINVAL", n, err)
	}
	sendTest(t, b, "x") // and nothing of this did any harm
	expectTest(t, p, a, Readable)
}

func testPollerTimeout(t *testing.T, p Poller) {
	a, _ := socketpairTest(t)
	mustTest(t, p.Add(a, Readable))
	var events [4]Event
	for _, d := range []time.Duration{0, 1, time.Microsecond, time.Millisecond, 1500 * time.Microsecond, 20 * time.Millisecond} {
		// A signal of the runtime may end a wait early, but not each time.
		for attempt := 1; ; attempt++ {
			start := time.Now()
			n, err := p.Wait(events[:], d)
			took := time.Since(start)
			if n != 0 || err != nil {
				t.Fatalf("%v: %v, %v", d, events[:n], err)
			}
			if took > d+5*time.Second {
				t.Errorf("%v: returned after %v", d, took)
			}
			if took >= d {
				break
			}
			if attempt == 5 {
				t.Errorf("%v: returned after %v, five times", d, took)
				break
			}
		}
	}
	for _, d := range []time.Duration{-1, -1 << 63, 1<<63 - 1, pollerTimeoutMax + 1, 1 << 32 * time.Millisecond} {
		var woken atomic.Bool
		done := make(chan error)
		go func() {
			woken.Store(true)
			done <- p.Wake()
		}()
		for early := 0; !woken.Load(); early++ {
			if n, err := p.Wait(events[:], d); n != 0 || err != nil {
				t.Fatalf("%v: %v, %v", d, events[:n], err)
			}
			if early == 5 {
				t.Fatalf("%v: returns before it was woken", d)
			}
		}
		mustTest(t, <-done)
		drainTest(t, p)
	}
}

func testPollerWakeCoalesces(t *testing.T, p Poller) {
	for range 100 {
		mustTest(t, p.Wake())
	}
	var events [4]Event
	start := time.Now()
	if n, err := p.Wait(events[:], 10*time.Second); n != 0 || err != nil {
		t.Fatal(events[:n], err)
	}
	if took := time.Since(start); took > 9*time.Second {
		t.Errorf("the wake did not end the wait: %v", took)
	}
	// No other of the hundred is left.
	const quiet = 30 * time.Millisecond
	for attempt := 1; ; attempt++ {
		start = time.Now()
		if n, err := p.Wait(events[:], quiet); n != 0 || err != nil {
			t.Fatal(events[:n], err)
		}
		if time.Since(start) >= quiet {
			break
		}
		if attempt == 5 {
			t.Fatal("a hundred wakes ended more than one wait")
		}
	}
}

// Each waker counts and wakes; the owner waits for ever. A wake that is lost, or
// whose count is not seen, hangs the test.
func testPollerWakeMany(t *testing.T, p Poller) {
	const wakers, rounds = 16, 500
	var counted atomic.Int64
	var wg sync.WaitGroup
	for range wakers {
		wg.Go(func() {
			for range rounds {
				counted.Add(1)
				if err := p.Wake(); err != nil {
					t.Error(err)
				}
			}
		})
	}
	var events [4]Event
	for counted.Load() < wakers*rounds {
		if n, err := p.Wait(events[:], -1); n != 0 || err != nil {
			t.Fatal(events[:n], err)
		}
	}
	wg.Wait()

	// One wake for one wait, in turn: what was written before is read after.
	drainTest(t, p)
	turn := 0 // not atomic: Wake and Wait order it
	back := make(chan struct{})
	go func() {
		for range rounds {
			turn++
			if err := p.Wake(); err != nil {
				t.Error(err)
			}
			<-back
		}
	}()
	for want := 1; want <= rounds; want++ {
		for deadline := time.Now().Add(10 * time.Second); ; {
			n, err := p.Wait(events[:], time.Until(deadline))
			if n != 0 || err != nil {
				t.Fatal(events[:n], err)
			}
			if !wakePending(p) {
				break
			}
			if time.Now().After(deadline) {
				t.Fatalf("wake %d was lost", want)
			}
		}
		if turn != want {
			t.Fatalf("turn %d, want %d", turn, want)
		}
		back <- struct{}{}
	}
}

// wakePending says whether a wake is under way that Wait has not returned for.
func wakePending(p Poller) bool {
	sp, ok := p.(*systemPoller)
	return ok && sp.bell.rung.Load()
}

func testPollerWakeAndEvents(t *testing.T, p Poller) {
	a, b := socketpairTest(t)
	mustTest(t, p.Add(a, Readable))
	mustTest(t, p.Wake())
	sendTest(t, b, "x")
	expectTest(t, p, a, Readable)
}

func testPollerClosed(t *testing.T, p Poller) {
	a, _ := socketpairTest(t)
	mustTest(t, p.Add(a, Readable))
	mustTest(t, p.Close())
	var events [4]Event
	_, errWait := p.Wait(events[:], -1)
	_, errLook := p.Wait(events[:], 0)
	for name, err := range map[string]error{
		"Add": p.Add(a, Readable), "Modify": p.Modify(a, 0), "Remove": p.Remove(a),
		"Wait": errWait, "Wait(0)": errLook, "Wake": p.Wake(), "Close": p.Close(),
	} {
		if !errors.Is(err, ErrPollerClosed) || !errors.Is(err, ErrClosed) {
			t.Errorf("%s: %v, want ErrPollerClosed", name, err)
		}
	}
	if _, errno := recvConn(a, make([]byte, 1)); errno != syscall.EAGAIN {
		t.Errorf("the descriptor did not outlive its poller: %v", errno)
	}
}

// Wake races Close. The numbers that Close frees become sockets at once; a late
// ring would be bytes in one of them.
func testPollerWakeClose(t *testing.T, p Poller) {
	for range 100 {
		q, err := NewPoller()
		mustTest(t, err)
		var wg sync.WaitGroup
		for range 4 {
			wg.Go(func() {
				for {
					if err := q.Wake(); err != nil {
						if !errors.Is(err, ErrPollerClosed) {
							t.Error(err)
						}
						return
					}
					runtime.Gosched()
				}
			})
		}
		var events [4]Event
		if _, err := q.Wait(events[:], -1); err != nil {
			t.Fatal(err)
		}
		mustTest(t, q.Close())
		var fds []int
		for range 2 {
			a, b := socketpairTest(t)
			fds = append(fds, a, b)
		}
		wg.Wait()
		for _, fd := range fds {
			if n, errno := recvConn(fd, make([]byte, 16)); errno != syscall.EAGAIN {
				t.Errorf("a late wake wrote to a reused descriptor: %d, %v", n, errno)
			}
		}
		for _, fd := range fds {
			closeTest(t, fd)
		}
	}
}

// With less room than there are events, all come within a bounded number of
// waits.
func testPollerSmallBatch(t *testing.T, p Poller) {
	const pairs = 20
	want := map[int]bool{}
	for range pairs {
		a, b := socketpairTest(t)
		mustTest(t, p.Add(a, Readable))
		sendTest(t, b, "x")
		want[a] = true
	}
	mustTest(t, p.Wake())
	var events [3]Event
	for range 3 * pairs {
		n, err := p.Wait(events[:], 0)
		mustTest(t, err)
		for _, ev := range events[:n] {
			if !want[ev.FD] {
				t.Errorf("reported twice, or never added: %+v", ev)
			}
			delete(want, ev.FD)
		}
	}
	if len(want) != 0 {
		t.Errorf("%d of %d were not reported", len(want), pairs)
	}
}

func testPollerMany(t *testing.T, p Poller) {
	const descriptors = 10_000
	raiseLimitTest(t, descriptors+100)
	want := map[int]bool{}
	for range descriptors / 2 {
		a, b := socketpairTest(t)
		for _, fd := range [2]int{a, b} {
			mustTest(t, p.Add(fd, Readable))
			want[fd] = true
		}
		sendTest(t, a, "x")
		sendTest(t, b, "x")
	}
	events := make([]Event, 512)
	for deadline := time.Now().Add(10 * time.Second); len(want) > 0 && time.Now().Before(deadline); {
		n, err := p.Wait(events, 0)
		mustTest(t, err)
		for _, ev := range events[:n] {
			if !want[ev.FD] || ev.Ready != Readable {
				t.Fatalf("reported twice, or wrongly: %+v", ev)
			}
			delete(want, ev.FD)
		}
	}
	if len(want) != 0 {
		t.Errorf("%d of %d were not reported", len(want), descriptors)
	}
}

// raiseLimitTest makes room for n descriptors, or skips.
func raiseLimitTest(t *testing.T, n uint64) {
	t.Helper()
	var old syscall.Rlimit
	mustTest(t, syscall.Getrlimit(syscall.RLIMIT_NOFILE, &old))
	if old.Cur >= n {
		return
	}
	if err := syscall.Setrlimit(syscall.RLIMIT_NOFILE, &syscall.Rlimit{Cur: n, Max: max(n, old.Max)}); err != nil {
		t.Skipf("%d open files are allowed, %d are needed: %v", old.Cur, n, err)
	}
	t.Cleanup(func() { syscall.Setrlimit(syscall.RLIMIT_NOFILE, &old) })
}

// oracleFD is what the oracle knows of one descriptor.
type oracleFD struct {
	fd, peer int // peer is -1 when closed
	added    bool
	want     Interest
	unread   int
	ended    bool // the peer sends no more
}

// level is what is true of the descriptor, asked for or not.
func (o *oracleFD) level() Interest {
	is := Writable
	if o.unread > 0 || o.ended {
		is |= Readable
	}
	if o.ended {
		is |= Hangup
	}
	if o.peer < 0 {
		is |= Failed
	}
	return is
}

// report is the part of is that has to be reported, or may be.
func (o *oracleFD) report(is Interest) Interest {
	if !o.added {
		return 0
	}
	return is & (o.want | Hangup | Failed)
}

// Random calls, and after each one: everything that came about is reported, and
// nothing is that is not true, or not asked for, or of a descriptor that is not
// there any more.
func testPollerChurn(t *testing.T, p Poller) {
	seed := uint64(time.Now().UnixNano())
	t.Logf("seed %d", seed)
	rnd := rand.New(rand.NewPCG(seed, 0))
	fds := make([]*oracleFD, 24)
	fresh := func(i int) {
		a, b := socketpairTest(t)
		fds[i] = &oracleFD{fd: a, peer: b}
	}
	for i := range fds {
		fresh(i)
	}
	for step := range 4000 {
		i := rnd.IntN(len(fds))
		o := fds[i]
		name, due := churnTest(t, p, rnd, o)
		if name == "closed" || name == "closed unremoved" {
			if o.peer >= 0 {
				closeTest(t, o.peer)
			}
			fresh(i)
		}
		got := drainTest(t, p)
		for _, f := range fds {
			may, must := f.report(f.level()), Interest(0)
			if f == o {
				must = f.report(due)
			}
			if is := got[f.fd]; is&^may != 0 || is&must != must {
				t.Fatalf("step %d, %s of %d: %d is %v, must be %v, may be %v", step, name, o.fd, f.fd, is, must, may)
			}
			delete(got, f.fd)
		}
		if len(got) != 0 {
			t.Fatalf("step %d, %s of %d: reported although gone: %v", step, name, o.fd, got)
		}
	}
}

// churnTest makes one random call and returns which, and what came about with it.
func churnTest(t *testing.T, p Poller, rnd *rand.Rand, o *oracleFD) (name string, due Interest) {
	switch op := rnd.IntN(20); {
	case op < 4:
		want := Interest(rnd.IntN(int(interestAll))) + 1
		err := p.Add(o.fd, want)
		if o.added {
			if !errors.Is(err, ErrPollerAdded) {
				t.Fatalf("added twice: %v", err)
			}
			return "second add", 0
		}
		mustTest(t, err)
		o.added, o.want = true, want
		return "add", o.level()
	case op < 7:
		want := Interest(rnd.IntN(int(interestAll) + 1))
		err := p.Modify(o.fd, want)
		if !o.added {
			if !errors.Is(err, ErrPollerUnknown) {
				t.Fatalf("modified before added: %v", err)
			}
			return "early modify", 0
		}
		mustTest(t, err)
		o.want = want
		return "modify", o.level()
	case op < 8:
		err := p.Remove(o.fd)
		if !o.added {
			if !errors.Is(err, ErrPollerUnknown) {
				t.Fatalf("removed before added: %v", err)
			}
			return "early remove", 0
		}
		mustTest(t, err)
		o.added = false
		return "remove", 0
	case op < 13:
		if o.ended {
			return "nothing", 0
		}
		sendTest(t, o.peer, "x")
		o.unread++
		return "data", Readable
	case op < 15:
		recvTest(t, o.fd, o.unread)
		o.unread = 0
		return "read", 0
	case op < 16:
		if o.ended {
			return "nothing", 0
		}
		mustTest(t, shutdownWrite(o.peer))
		o.ended = true
		return "half-close", Readable | Hangup
	case op < 17:
		if o.peer < 0 {
			return "nothing", 0
		}
		closeTest(t, o.peer)
		o.peer, o.ended = -1, true
		return "close of the peer", Readable | Hangup | Failed
	case op < 18:
		mustTest(t, p.Wake())
		return "wake", 0
	case op < 19:
		if o.added {
			mustTest(t, p.Remove(o.fd))
		}
		closeTest(t, o.fd)
		return "closed", 0
	default:
		closeTest(t, o.fd)
		return "closed unremoved", 0
	}
}

func testPollerAllocs(t *testing.T, p Poller) {
	a, b := socketpairTest(t)
	var events [16]Event
	one := []byte("x")
	mustTest(t, p.Add(a, Readable))
	for name, call := range map[string]func() error{
		"a look": func() error { _, err := p.Wait(events[:], 0); return err },
		"a wake": func() error {
			if err := p.Wake(); err != nil {
				return err
			}
			_, err := p.Wait(events[:], -1)
			return err
		},
		"an event": func() error {
			if n, errno := sendConn(b, one); n != 1 {
				return errno
			}
			_, err := p.Wait(events[:], time.Second)
			recvConn(a, one)
			return err
		},
		"modify": func() error { return p.Modify(a, Readable|Writable) },
		"remove and add": func() error {
			if err := p.Remove(a); err != nil {
				return err
			}
			return p.Add(a, Readable)
		},
	} {
		if n := testing.AllocsPerRun(100, func() {
			if err := call(); err != nil {
				t.Fatal(err)
			}
		}); n != 0 {
			t.Errorf("%s: %v allocations", name, n)
		}
	}
}

// Rings count as one until the bell was seen, and none strikes after, or while,
// the bell is closed.
func TestPollerBell(t *testing.T) {
	var b pollerBell
	var strikes, releases int
	strike := func() error { strikes++; return nil }
	release := func() error { releases++; return nil }
	for range 3 {
		mustTest(t, b.ring(strike))
	}
	if strikes != 1 {
		t.Errorf("three rings struck %d times", strikes)
	}
	b.seen()
	mustTest(t, b.ring(strike))
	if strikes != 2 {
		t.Errorf("the ring after that did not strike: %d", strikes)
	}
	b.seen()
	if err := b.ring(func() error { return syscall.EIO }); !errors.Is(err, syscall.EIO) {
		t.Errorf("a strike that fails: %v", err)
	}
	mustTest(t, b.ring(strike))
	if strikes != 3 {
		t.Errorf("the ring after one that failed did not strike: %d", strikes)
	}

	// A ring that a close overtakes, between its two looks at closed.
	b.seen()
	b.mu.Lock()
	late := make(chan error)
	go func() { late <- b.ring(func() error { t.Error("struck when closed"); return nil }) }()
	for !b.rung.Load() {
		runtime.Gosched()
	}
	b.closed.Store(true)
	b.mu.Unlock()
	if err := <-late; !errors.Is(err, ErrPollerClosed) {
		t.Errorf("a ring that a close overtook: %v", err)
	}

	// A close while a ring strikes, and one while another close releases.
	b = pollerBell{}
	mustTest(t, b.ring(func() error {
		if b.mu.TryLock() {
			t.Error("a close could release while a ring strikes")
			b.mu.Unlock()
		}
		return nil
	}))
	mustTest(t, b.close(func() error {
		if b.mu.TryLock() {
			t.Error("a ring could strike while a close releases")
			b.mu.Unlock()
		}
		return release()
	}))
	for name, err := range map[string]error{"ring": b.ring(strike), "close": b.close(release)} {
		if !errors.Is(err, ErrPollerClosed) {
			t.Errorf("%s when closed: %v", name, err)
		}
	}
	if releases != 1 || strikes != 3 {
		t.Errorf("%d releases and %d strikes, want 1 and 3", releases, strikes)
	}
}

func TestInterestString(t *testing.T) {
	for i, want := range map[Interest]string{
		0:                 "0",
		Readable:          "Readable",
		Readable | Failed: "Readable|Failed",
		interestAll:       "Readable|Writable|Hangup|Failed",
		Hangup | 1<<6:     "Hangup|0x40",
	} {
		if got := i.String(); got != want {
			t.Errorf("%#x is %q, want %q", uint8(i), got, want)
		}
	}
}

func TestPollerErrorText(t *testing.T) {
	for want, err := range map[string]error{
		"flare: poller add 7: flare: file descriptor added twice": &PollerError{"add", 7, ErrPollerAdded},
		"flare: poller wait: flare: poller: flare: closed":        &PollerError{"wait", -1, ErrPollerClosed},
	} {
		if err.Error() != want {
			t.Errorf("%q, want %q", err, want)
		}
	}
}

func BenchmarkPollerLook(b *testing.B) {
	p, err := NewPoller()
	if err != nil {
		b.Fatal(err)
	}
	defer p.Close()
	var events [256]Event
	for b.Loop() {
		p.Wait(events[:], 0)
	}
}

// One byte there and seen: send, look, receive.
func BenchmarkPollerEvent(b *testing.B) {
	p, err := NewPoller()
	if err != nil {
		b.Fatal(err)
	}
	defer p.Close()
	from, to := socketpairTest(b)
	if err := p.Add(to, Readable|Writable); err != nil {
		b.Fatal(err)
	}
	var events [256]Event
	p.Wait(events[:], 0)
	buf := make([]byte, 1)
	for b.Loop() {
		sendConn(from, buf)
		if n, err := p.Wait(events[:], 0); n != 1 {
			b.Fatal(n, err)
		}
		recvConn(to, buf)
	}
}

func BenchmarkPollerWake(b *testing.B) {
	p, err := NewPoller()
	if err != nil {
		b.Fatal(err)
	}
	defer p.Close()
	var events [256]Event
	for b.Loop() {
		p.Wake()
		p.Wait(events[:], 0)
	}
}
