package flare

import (
	"syscall"
	"testing"
)

// What only the kqueue poller has to answer for. The behaviour that it shares
// with the other is in poller_test.go.

func TestKqueueReadiness(t *testing.T) {
	const read, write = syscall.EVFILT_READ, syscall.EVFILT_WRITE
	for _, tt := range []struct {
		name   string
		want   Interest
		ended  Interest // before
		filter int16
		flags  uint16
		fflags uint32
		ready  Interest
		after  Interest // ended, after
	}{
		{"data", Readable, 0, read, 0, 0, Readable, 0},
		{"data, unasked", Writable, 0, read, 0, 0, 0, 0},
		{"room", Writable, 0, write, 0, 0, Writable, 0},
		{"room, unasked", Readable, 0, write, 0, 0, 0, 0},
		{"end", Readable, 0, read, syscall.EV_EOF, 0, Readable | Hangup, Readable},
		{"end, unasked", Writable, 0, read, syscall.EV_EOF, 0, Hangup, Readable},
		{"end, paused", 0, 0, read, syscall.EV_EOF, 0, Hangup, Readable},
		{"our end", Readable | Writable, 0, write, syscall.EV_EOF, 0, Writable, Writable},
		{"our end, then the peer's", Readable, Writable, read, syscall.EV_EOF, 0,
			Readable | Hangup | Failed, Readable | Writable},
		{"the peer's end, then ours", Writable, Readable, write, syscall.EV_EOF, 0,
			Writable | Hangup | Failed, Readable | Writable},
		{"error, reading", Readable, 0, read, syscall.EV_EOF, uint32(syscall.ECONNRESET),
			Readable | Hangup | Failed, Readable},
		{"error, writing", 0, 0, write, syscall.EV_EOF, uint32(syscall.ECONNREFUSED),
			Hangup | Failed, Writable},
		{"data after the end", Readable, Readable, read, syscall.EV_EOF, 0, Readable | Hangup, Readable},
	} {
		f := pollerFD{added: true, want: tt.want, ended: tt.ended}
		ev := syscall.Kevent_t{Filter: tt.filter, Flags: tt.flags, Fflags: tt.fflags}
		if ready := readiness(&f, &ev); ready != tt.ready || f.ended != tt.after {
			t.Errorf("%s: %v, ended %v; want %v, %v", tt.name, ready, f.ended, tt.ready, tt.after)
		}
	}
}

// A filter that the poller did not add, as a kernel that lags behind Remove
// would have it.
func TestKqueueStranger(t *testing.T) {
	p, err := NewPoller()
	mustTest(t, err)
	defer p.Close()
	a, b := socketpairTest(t)
	sendTest(t, b, "x")
	_, err = syscall.Kevent(p.(*systemPoller).fd, []syscall.Kevent_t{{
		Ident: uint64(a), Filter: syscall.EVFILT_READ, Flags: syscall.EV_ADD | syscall.EV_CLEAR,
	}}, nil, nil)
	mustTest(t, err)
	expectTest(t, p, a, 0)
}
