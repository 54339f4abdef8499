//go:build linux || darwin

package flare

import (
	"io"
	"math"
	"net"
	"net/netip"
	"runtime"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"
	"time"
)

// This file has peers that are slow to read, by a clock that the test holds and
// over sockets: who takes little but enough is waited for, who takes too little
// is not.

// TestPaceLead pins what being quick is worth.
func TestPaceLead(t *testing.T) {
	const rate, second = 100, time.Second
	for _, row := range []struct {
		name   string
		waited time.Duration
		moved  int64
		limit  time.Duration
		want   time.Duration
	}{
		{"at first", 0, 0, 30 * second, rateGrace},
		{"waited", 4 * second, 0, 30 * second, second},
		{"too slow", 10 * second, 300, 30 * second, -2 * second},
		{"just right", 10 * second, 600, 30 * second, second},
		{"quick", 0, 1 << 30, 30 * second, 30 * second},
		{"quick, and little silence allowed", 0, 1 << 30, second, rateGrace},
		{"quick, and any silence allowed", 0, 1000, 0, rateGrace + 10*second},
	} {
		t.Run(row.name, func(t *testing.T) {
			p := pace{waited: row.waited, moved: row.moved}
			if got := p.lead(p.moved, row.limit, rate); got != row.want {
				t.Errorf("%v, want %v", got, row.want)
			}
		})
	}
	t.Run("a lead is used up", func(t *testing.T) {
		p := pace{moved: 1 << 30}
		p.lead(p.moved, 30*second, rate)
		p.waited += 29 * second
		p.moved++ // a trickle
		if got := p.lead(p.moved, 30*second, rate); got < second || got > second+second/rate {
			t.Errorf("%v are left", got)
		}
	})
}

// The longest limits that a user can ask for are as good as none.
func TestLimitsWithoutAnEnd(t *testing.T) {
	const now, ever = time.Hour, time.Duration(math.MaxInt64)
	idle := &Conn{since: now}
	idle.init(nil, &connLimits{idle: ever}, -1, netip.AddrPort{})
	for name, at := range map[string]time.Duration{
		"after":        after(now, ever),
		"a slow rate":  now + rateLimit(1, math.MaxInt64),
		"an idle peer": idle.deadline(),
		"an outbox":    (&roomPace{taken: 1 << 40, since: now, progress: now}).due(roomLimit{ever, 1}),
	} {
		if at < 20*365*24*time.Hour {
			t.Errorf("%s: over at %v", name, at)
		}
	}
}

// TestRoomPace lets a wait for room go on for a while. Without a socket nothing
// is held back, so what was moved was taken.
func TestRoomPace(t *testing.T) {
	const second = time.Second
	limit := roomLimit{16 * second, 100}
	for _, row := range []struct {
		name  string
		each  int64 // bytes a second
		until time.Duration
	}{
		{"nothing", 0, rateGrace},
		{"a trickle", 1, rateGrace},
		{"half the rate", 50, 10 * second},
		{"nearly the rate", 95, 100 * second},
		{"the rate", 100, 0},
	} {
		t.Run(row.name, func(t *testing.T) {
			var p roomPace
			now := time.Hour
			p.begin(0, now, limit)
			for {
				at := p.alarm(limit)
				if at <= now && p.due(limit) > now {
					t.Fatalf("at %v it is to be looked at %v", now, at)
				}
				if p.due(limit) <= now || now > time.Hour+200*second {
					break
				}
				now += second
				p.moved += row.each
				p.look(0, now, limit)
			}
			took := now - time.Hour
			if row.until == 0 {
				if took < 200*second {
					t.Errorf("ended after %v", took)
				}
			} else if took < row.until || took > row.until+row.until/10+second {
				t.Errorf("ended after %v, want %v", took, row.until)
			}
		})
	}
	t.Run("silence", func(t *testing.T) {
		var p roomPace
		p.moved = 1 << 20
		p.begin(0, second, limit)
		p.moved++
		p.look(0, 3*second, limit)
		p.look(0, 5*second, limit)
		if got := p.due(limit); got != 3*second+limit.silence {
			t.Errorf("due at %v", got)
		}
	})
	t.Run("a look that sees less than the one before", func(t *testing.T) {
		var p roomPace
		p.moved = 100_000
		p.begin(0, second, limit)
		p.due(limit)                 // the lead of 1000 s is cut to 16
		p.begin(4096, second, limit) // 41 s at the rate
		if got := p.due(limit); got != second+limit.silence {
			t.Errorf("due at %v, want %v", got, second+limit.silence)
		}
	})
	t.Run("no limits", func(t *testing.T) {
		var free roomLimit
		var p roomPace
		p.begin(0, second, free)
		if p.due(free) != 0 || p.alarm(free) != 0 {
			t.Errorf("due at %v, looked at %v", p.due(free), p.alarm(free))
		}
	})
}

// paceDial is dialRaw with a small window, so that it is the reading that
// makes room.
func paceDial(t *testing.T, addr string) *rawClient {
	t.Helper()
	d := net.Dialer{Control: func(_, _ string, raw syscall.RawConn) error {
		return raw.Control(func(fd uintptr) {
			syscall.SetsockoptInt(int(fd), syscall.SOL_SOCKET, syscall.SO_RCVBUF, 4<<10)
		})
	}}
	conn, err := d.Dial("tcp", addr)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { conn.Close() })
	c := &rawClient{TCPConn: conn.(*net.TCPConn), t: t}
	c.SetDeadline(time.Now().Add(2 * patience))
	return c
}

func paceServer(limit time.Duration, rate int64) *Server {
	return &Server{WriteTimeout: limit, MinWriteRate: rate, Logger: quietLogger(), Handler: routes{
		"/streams": HandlerFunc(func(w *ResponseWriter, r *Request) error {
			_, err := w.Write(make([]byte, 64<<20))
			return err
		}),
		"/queued": Inline(textHandler(strings.Repeat("x", 48<<10))),
	}}
}

// paceFill brings a connection to where the server waits for it to read.
func paceFill(t *testing.T, s *Server, c *rawClient, path string) {
	t.Helper()
	if path == "/queued" {
		c.fill(s, request(path))
		return
	}
	c.send(request(path))
	eventually(t, "the handler", func() bool { return gauge(s, stateHandler) == 1 })
}

// TestSteadyReaderIsWaitedFor has clients that read much less than makes room
// within WriteTimeout, all the time, and then nothing any more.
func TestSteadyReaderIsWaitedFor(t *testing.T) {
	notPlain(t, "what its peer has taken of a socket is not known")
	t.Parallel()
	const limit = 800 * time.Millisecond
	for _, path := range []string{"/streams", "/queued"} {
		t.Run(path[1:], func(t *testing.T) {
			t.Parallel()
			s := paceServer(limit, -1)
			c := paceDial(t, startServer(t, s))
			paceFill(t, s, c, path)
			every := time.NewTicker(limit / 20) // it is the pace that is tested
			defer every.Stop()
			p := make([]byte, 768) // 46 KiB in all: no room comes of it
			var last time.Time     // or later, but not for the server
			for began := time.Now(); time.Since(began) < 3*limit; <-every.C {
				last = time.Now()
				if _, err := c.Read(p); err != nil {
					t.Fatalf("after %v: %v", time.Since(began), err)
				}
			}
			if s.conns.Load() != 1 {
				t.Fatal("the connection is gone")
			}
			gone(t, s)
			if took := time.Since(last); took < limit/2 || took > patience/2 {
				t.Errorf("ended %v after the last read, WriteTimeout is %v", took, limit)
			}
			eventually(t, "the count", func() bool { return s.Stats().Timeouts.Write == 1 })
		})
	}
}

// TestMinWriteRate has clients that read all the time: one too little, which is
// ended after the grace, and one enough.
func TestMinWriteRate(t *testing.T) {
	notPlain(t, "what its peer has taken of a socket is not known")
	t.Parallel()
	const rate = 8 << 10 // so little that what is queued lasts
	for _, path := range []string{"/streams", "/queued"} {
		for _, row := range []struct {
			name  string
			share float64 // of the rate
		}{{"too slow", 0.25}, {"in time", 2}} {
			t.Run(path[1:]+", "+row.name, func(t *testing.T) {
				t.Parallel()
				s := paceServer(2*patience, rate)
				c := paceDial(t, startServer(t, s))
				paceFill(t, s, c, path)
				const beat = 50 * time.Millisecond
				every := time.NewTicker(beat)
				defer every.Stop()
				p := make([]byte, int(rate*row.share*beat.Seconds()))
				began := time.Now()
				// Read at a quarter of the rate, the grace and a third of it are
				// what there is, and what the client's window took.
				most := 2*rateGrace - rateGrace/4
				if row.share < 1 {
					most *= 2 // for a loaded machine
				}
				c.SetReadDeadline(began.Add(most))
				for s.conns.Load() == 1 && time.Since(began) < most {
					if _, err := io.ReadFull(c, p); err != nil {
						break
					}
					<-every.C
				}
				took := time.Since(began)
				if row.share > 1 {
					if s.conns.Load() == 0 {
						t.Errorf("ended after %v", took)
					}
				} else if took < rateGrace || took > most {
					t.Errorf("ended after %v", took)
				}
			})
		}
	}
}

// TestUnsentIsBounded has a client that reads nothing: what it was not sent
// stays with the server, and is not put into the socket by the megabyte.
func TestUnsentIsBounded(t *testing.T) {
	notPlain(t, "what its socket holds is the system's choice")
	if runtime.GOOS != "linux" {
		t.Skip("other systems have no such bound")
	}
	var written atomic.Int64
	s := &Server{Loops: 1, Logger: quietLogger(), Handler: HandlerFunc(func(w *ResponseWriter, r *Request) error {
		for p := make([]byte, 16<<10); written.Load() < 64<<20; written.Add(int64(len(p))) {
			if _, err := w.Write(p); err != nil {
				return err
			}
		}
		return nil
	})}
	c := paceDial(t, startServer(t, s))
	c.send(request("/"))
	eventually(t, "the connection", func() bool { return s.conns.Load() == 1 })
	l := loopsOf(s)[0]
	eventually(t, "the wait for room, and its bound", func() bool {
		bound := make(chan int, 1)
		l.call(func() {
			n := 0
			for _, c := range l.conns {
				if c != nil && c.own.Load()&ownWaitWrite != 0 {
					n, _ = syscall.GetsockoptInt(c.fd, syscall.IPPROTO_TCP, 25) // TCP_NOTSENT_LOWAT
				}
			}
			bound <- n
		})
		return <-bound == unsentBytesMax
	})
	if n := written.Load(); n > 4*unsentBytesMax {
		t.Errorf("%d bytes of the answer are in the socket", n)
	}
	c.Close()
	gone(t, s)
}

// A short moment is reached when its time is, also where its milliseconds begin anew.
func TestShortMoment(t *testing.T) {
	const anew = (1 << 32) * time.Millisecond
	for _, now := range []time.Duration{time.Millisecond, time.Hour, anew - time.Hour, anew - time.Millisecond, anew} {
		for _, ahead := range []time.Duration{time.Second, 48 * time.Hour, shortMomentMax} {
			m := momentOf(now + ahead)
			if m == 0 || m.reached(now) || m.reached(now+ahead-2*time.Millisecond) || !m.reached(now+ahead+2*time.Millisecond) {
				t.Errorf("at %v, %v ahead: %d", now, ahead, m)
			}
		}
	}
	if momentOf(0) != 0 {
		t.Error("never is some time")
	}
}
