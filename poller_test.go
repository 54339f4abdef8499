//go:build linux || darwin

package flare

import (
	"errors"
	"reflect"
	"testing"
	"time"
)

// pollerMakers are the pollers that have to behave alike: every one runs the
// whole of pollerBehaviours.
var pollerMakers = []pollerMaker{
	{"system", NewPoller},
	{"poll", NewPollPoller},
}

// pollerRepeats reports whether p is level triggered.
func pollerRepeats(p Poller) bool {
	e, ok := p.(interface{ EdgeTriggered() bool })
	return !ok || !e.EdgeTriggered()
}

type pollerMaker struct {
	name string
	make func() (Poller, error)
}

// newLikeTest returns another poller of p's kind.
func newLikeTest(t *testing.T, p Poller) Poller {
	t.Helper()
	for _, maker := range pollerMakers {
		q, err := maker.make()
		if errors.Is(err, errors.ErrUnsupported) {
			continue
		}
		mustTest(t, err)
		if reflect.TypeOf(q) == reflect.TypeOf(p) {
			return q
		}
		mustTest(t, q.Close())
	}
	t.Fatal("a poller of no maker")
	return nil
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
	{"tells of a pipe that nobody reads", testPollerBrokenPipe},
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
					if errors.Is(err, errors.ErrUnsupported) {
						t.Skip("this system has no such poller")
					}
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
// for one that was not asked for, and a poller may repeat what it has told, so a
// few in a row with nothing new are the end.
func drainTest(t *testing.T, p Poller) map[int]Interest {
	t.Helper()
	var events [64]Event
	got := map[int]Interest{}
	repeats := pollerRepeats(p)
	for empty := 0; empty < 3; {
		n, err := p.Wait(events[:], 0)
		if err != nil {
			t.Fatal(err)
		}
		fresh := false
		for _, ev := range events[:n] {
			if ev.Ready == 0 {
				t.Errorf("an event with nothing ready: %+v", ev)
			}
			if got[ev.FD]|ev.Ready != got[ev.FD] {
				fresh = true
			}
			got[ev.FD] |= ev.Ready
		}
		empty++
		if fresh || n > 0 && !repeats {
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

// expectAgain fails unless p is quiet about what it has told, if it is edge
// triggered, and repeats that fd is ready otherwise.
func expectAgain(t *testing.T, p Poller, fd int, ready Interest) {
	t.Helper()
	if !pollerRepeats(p) {
		ready = 0
	}
	expectTest(t, p, fd, ready)
}

// awaitTest waits until all of ready was reported for fd and returns what was:
// for events that come about in another context, such as TCP's.
func awaitTest(t *testing.T, p Poller, fd int, ready Interest) Interest {
	t.Helper()
	var events [16]Event
	var got Interest
	for deadline := time.Now().Add(patience); got&ready != ready; {
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
