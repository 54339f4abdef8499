//go:build linux || darwin

package flare

import (
	"errors"
	"math/rand/v2"
	"testing"
	"time"
)

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
