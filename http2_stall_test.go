package flare

import (
	"fmt"
	"io"
	"strings"
	"sync/atomic"
	"testing"
	"time"
)

// This file has one connection of a hundred streams of which five take their time,
// each in a way of its own. How late the others are answered is measured by
// bench/h2stalls.go; here they are answered at all.

// A stalledServer has handlers that go on until they are told to leave.
type stalledServer struct {
	begun atomic.Int32 // of /sleep, /block and /spin
	leave atomic.Bool
	until time.Time // or so long
}

func (s *stalledServer) goesOn() bool { return !s.leave.Load() && time.Now().Before(s.until) }

// handler is called on the loop, which has to be taken from it.
func (s *stalledServer) handler() Handler {
	waits := func(wait func()) Handler {
		return HandlerFunc(func(w *ResponseWriter, r *Request) error {
			for s.begun.Add(1); s.goesOn(); wait() {
			}
			return w.Text(200, "left")
		})
	}
	rows := routes{
		"/sleep": waits(func() { time.Sleep(2 * tick) }), // what is tried: a handler that sleeps
		"/block": waits(func() { blockThread(2 * tick) }),
		"/spin":  waits(func() {}),
		"/quick": textHandler("quick"),
		"/large": HandlerFunc(func(w *ResponseWriter, r *Request) error {
			return w.Text(200, strings.Repeat("x", stalledLarge))
		}),
		"/count": HandlerFunc(func(w *ResponseWriter, r *Request) error {
			n, err := io.Copy(io.Discard, r.Body())
			if err != nil {
				return err
			}
			return w.Text(200, fmt.Sprint(n))
		}),
	}
	return Inline(rows)
}

const (
	stalledLarge  = 1 << 20
	stalledRounds = 10
	stalledOthers = 95
)

// A handler that sleeps, one that blocks its thread in a system call, one that keeps
// a processor, a response that is not read and a body that comes octet by octet: the
// other streams of the connection are answered while they last, and they go on well.
func TestHTTP2NeverStalls(t *testing.T) {
	t.Parallel()
	var stalled *stalledServer
	overBoth(t, func() *Server {
		stalled = &stalledServer{until: time.Now().Add(4 * patience)}
		return &Server{
			Loops: 1, MinBodyRate: -1, MinWriteRate: -1, BodyTimeout: -1, WriteTimeout: -1,
			Handler: stalled.handler(),
		}
	}, func(t *testing.T, s *Server, dial func(...http2Setting) *http2Peer) {
		defer stalled.leave.Store(true)
		p := dial()
		p.readUntil("SETTINGS", func() bool { return p.greeted && len(p.pending) == 0 })
		p.manual = true
		p.credit(0, 1<<30)
		waiting := []uint32{p.start("/sleep"), p.start("/block"), p.start("/spin")}
		unread, trickled := p.start("/large"), p.open(false, requestLines("POST", "/count")...)
		p.readUntil("a full window", func() bool { return p.streams[unread].room == 0 })
		eventually(t, "the handlers that wait", func() bool { return stalled.begun.Load() == 3 })
		for range stalledRounds {
			p.data(trickled, []byte("x"), false)
			p.quickOnes(stalledOthers)
		}
		for _, id := range append(waiting, unread, trickled) {
			if a := p.streams[id]; a.done() {
				t.Errorf("%v has ended before the others", a)
			}
		}
		stalled.leave.Store(true)
		for _, id := range waiting {
			p.answer(id).want(t, 200, "left")
		}
		p.credit(unread, stalledLarge)
		p.answer(unread).want(t, 200, strings.Repeat("x", stalledLarge))
		p.data(trickled, nil, true)
		p.answer(trickled).want(t, 200, fmt.Sprint(stalledRounds))
	})
}

// quickOnes asks n times at once, and reads all answers.
func (p *http2Peer) quickOnes(n int) {
	p.t.Helper()
	var b []byte
	var streams []uint32
	for range n {
		head, id := p.head(true, requestLines("GET", "/quick")...)
		b, streams = append(b, head...), append(streams, id)
	}
	p.send(b)
	for _, id := range streams {
		p.answer(id).want(p.t, 200, "quick")
		delete(p.streams, id)
	}
}
