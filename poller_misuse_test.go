//go:build linux || darwin

package flare

import (
	"errors"
	"syscall"
	"testing"
)

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
		n, err := p.Wait(one[:], patience)
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
		recvTest(t, one[0].FD, 1)
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
		var pe *pollerError
		if !errors.Is(tt.err, tt.want) || !errors.As(tt.err, &pe) || pe.op != tt.op || pe.fd != tt.fd {
			t.Errorf("%s: %v (%+v), want %v", tt.name, tt.err, pe, tt.want)
		}
	}
	if n, err := p.Wait(nil, 0); n != 0 || !errors.Is(err, syscall.EINVAL) {
		t.Errorf("no room for events: %d, %v; want EINVAL", n, err)
	}
	sendTest(t, b, "x") // and nothing of this did any harm
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
		"flare: poller add 7: flare: file descriptor added twice": &pollerError{"add", 7, ErrPollerAdded},
		"flare: poller wait: flare: poller: flare: closed":        &pollerError{"wait", -1, ErrPollerClosed},
	} {
		if err.Error() != want {
			t.Errorf("%q, want %q", err, want)
		}
	}
}
