package flare

import (
	"bytes"
	"flag"
	"fmt"
	"hash/crc32"
	"io"
	"math/rand/v2"
	"runtime/metrics"
	"strings"
	"sync/atomic"
	"testing"
	"time"
)

// This file has flow control and scheduling as a peer of HTTP/2 sees them.

// http2Full makes transfers as large as they have to be to believe a bound on
// memory for ever: 64 MiB on 16 streams, and 1 GiB on one.
var http2Full = flag.Bool("http2.full", false, "transfer 64 MiB on 16 streams of HTTP/2, and 1 GiB on one, where a few MiB do else")

// liveHeap is what was reachable when the collector last looked.
func liveHeap() int64 {
	sample := []metrics.Sample{{Name: "/gc/heap/live:bytes"}}
	metrics.Read(sample)
	return int64(sample[0].Value.Uint64())
}

// patternBytes are octets that repeat at no multiple of a frame's size.
var patternBytes = func() []byte {
	b := make([]byte, 1<<16+1)
	rand.NewChaCha8([32]byte{}).Read(b)
	return b
}()

// A patternReader reads n octets of the pattern.
type patternReader struct{ at, n int }

func (r *patternReader) Read(p []byte) (int, error) {
	if r.at == r.n {
		return 0, io.EOF
	}
	from := r.at % len(patternBytes)
	n := copy(p, patternBytes[from:min(len(patternBytes), from+r.n-r.at)])
	r.at += n
	return n, nil
}

// patternSum is the sum of n octets of the pattern.
func patternSum(n int) uint32 {
	sum := crc32.NewIEEE()
	io.Copy(sum, &patternReader{n: n})
	return sum.Sum32()
}

func transferHandler() Handler {
	return routes{
		"/down": HandlerFunc(func(w *ResponseWriter, r *Request) error {
			var n int
			fmt.Sscan(r.Query().Get("n"), &n)
			_, err := io.Copy(w, &patternReader{n: n})
			return err
		}),
		"/up": HandlerFunc(func(w *ResponseWriter, r *Request) error {
			sum := crc32.NewIEEE()
			n, err := io.Copy(sum, r.Body())
			if err != nil {
				return err
			}
			return w.Text(200, fmt.Sprintf("%d %08x", n, sum.Sum32()))
		}),
		"/echo": HandlerFunc(func(w *ResponseWriter, r *Request) error {
			_, err := io.Copy(w, r.Body())
			return err
		}),
		"/unread": HandlerFunc(func(w *ResponseWriter, r *Request) error {
			<-r.Context().Done()
			return nil
		}),
		"/ignored": textHandler("ignored"),
		"/good":    textHandler("fine"),
	}
}

// Sixteen streams at once, whose windows are opened first by an octet and then
// by the rest of what came: all is right, and memory does not grow with it.
func TestHTTP2ManyDownloads(t *testing.T) {
	size := 1 << 20
	if *http2Full {
		size = 64 << 20
	}
	s := startHTTP2(t, &Server{Handler: transferHandler()})
	p := s.dial(t)
	p.readUntil("SETTINGS", func() bool { return p.greeted })
	p.manual, p.keep = true, false
	sums := make(map[uint32]uint32)
	before, most := liveHeap(), int64(0)
	p.onData = func(a *http2Answer, data []byte) {
		sums[a.id] = crc32.Update(sums[a.id], crc32.IEEETable, data)
		p.nc.SetDeadline(time.Now().Add(patience))
		var b []byte
		give := func(stream, n uint32) {
			if n > 0 {
				b = appendWindowUpdate(b, stream, n)
			}
		}
		n := uint32(len(data))
		for _, stream := range []uint32{a.id, 0} {
			give(stream, min(n, 1))
			give(stream, n-min(n, 1))
		}
		a.room += int64(n)
		p.room += int64(n)
		p.send(b)
		most = max(most, liveHeap()-before)
	}
	var streams []uint32
	for range 16 {
		streams = append(streams, p.start(fmt.Sprint("/down?n=", size)))
	}
	want := patternSum(size)
	for _, stream := range streams {
		if a := p.answer(stream); a.size != int64(size) || sums[stream] != want || !a.ended {
			t.Errorf("%v: %d octets, sum %08x, want %08x", a, a.size, sums[stream], want)
		}
	}
	if most > 8<<20 {
		t.Errorf("%d octets more were in use", most)
	}
}

// One body of any length, each way, needs the memory of a few windows.
func TestHTTP2LongBody(t *testing.T) {
	size := 16 << 20
	if *http2Full {
		size = 1 << 30
	}
	s := startHTTP2(t, &Server{Handler: transferHandler(), MaxBodyBytes: -1})
	p := s.dial(t, http2Setting{settingWindow, 1 << 20})
	p.keep = false
	want := patternSum(size)
	before, most := liveHeap(), int64(0)
	look := func() {
		p.nc.SetDeadline(time.Now().Add(patience))
		most = max(most, liveHeap()-before)
	}
	sum := uint32(0)
	p.onData = func(a *http2Answer, data []byte) {
		sum = crc32.Update(sum, crc32.IEEETable, data)
		look()
	}
	if a := p.answer(p.start(fmt.Sprint("/down?n=", size))); a.size != int64(size) || sum != want {
		t.Errorf("%v: %d octets, sum %08x, want %08x", a, a.size, sum, want)
	}
	p.keep = true
	stream := p.open(false, requestLines("POST", "/up")...)
	buf, body := make([]byte, 1<<16), &patternReader{n: size}
	for n, err := body.Read(buf); err == nil; n, err = body.Read(buf) {
		p.data(stream, buf[:n], false)
		look()
	}
	p.data(stream, nil, true)
	p.answer(stream).want(t, 200, fmt.Sprintf("%d %08x", size, want))
	if most > 8<<20 {
		t.Errorf("%d octets more were in use", most)
	}
}

// What breaks flow control, and what becomes of it (RFC 9113 §6.9).
func TestHTTP2FlowControlBroken(t *testing.T) {
	t.Parallel()
	s := startHTTP2(t, &Server{Handler: transferHandler()})
	frames := func(stream uint32, n int) (b []byte) {
		for ; n > 0; n -= frameSizeDefault {
			b = appendData(b, stream, make([]byte, min(n, frameSizeDefault)), false)
		}
		return b
	}
	for _, row := range []struct {
		name string
		do   func(p *http2Peer, stream uint32)
		away http2Code // or:
		code http2Code // of the stream
	}{
		{"the connection's window beyond 2^31-1", func(p *http2Peer, stream uint32) {
			p.send(appendWindowUpdate(nil, 0, streamMax))
		}, codeFlowControl, 0},
		{"a stream's window beyond 2^31-1", func(p *http2Peer, stream uint32) {
			p.send(appendWindowUpdate(nil, stream, streamMax))
		}, 0, codeFlowControl},
		{"a stream's window beyond 2^31-1 by SETTINGS", func(p *http2Peer, stream uint32) {
			p.send(appendWindowUpdate(nil, stream, streamMax-windowDefault))
			p.send(appendSettings(nil, http2Setting{settingWindow, windowDefault + 1}))
		}, codeFlowControl, 0},
		{"an initial window beyond 2^31-1", func(p *http2Peer, stream uint32) {
			p.send(appendSettings(nil, http2Setting{settingWindow, streamMax + 1}))
		}, codeFlowControl, 0},
		{"an increment of 0", func(p *http2Peer, stream uint32) { p.send(appendWindowUpdate(nil, stream, 0)) }, 0, codeProtocol},
		{"an increment of 0 of the connection", func(p *http2Peer, stream uint32) { p.send(appendWindowUpdate(nil, 0, 0)) }, codeProtocol, 0},
		{"DATA beyond the stream's window", func(p *http2Peer, stream uint32) {
			p.send(frames(stream, int(p.streams[stream].window)+1))
		}, 0, codeFlowControl},
		{"DATA beyond the connection's window", func(p *http2Peer, stream uint32) {
			for p.window >= 0 {
				more := p.open(false, requestLines("POST", "/unread")...)
				n := min(p.streams[more].window, p.window+1)
				p.window -= n
				p.send(frames(more, int(n)))
			}
		}, codeFlowControl, 0},
		{"padding beyond the stream's window", func(p *http2Peer, stream uint32) {
			n := p.streams[stream].window
			p.send(frames(stream, int(n)-10))
			p.send(http2Frame(frameData, flagPadded, stream, "\x0a"+strings.Repeat("\x00", 10)))
		}, 0, codeFlowControl},
		{"a window of a stream that is idle", func(p *http2Peer, stream uint32) { p.send(appendWindowUpdate(nil, stream+2, 1)) }, codeProtocol, 0},
	} {
		t.Run(row.name, func(t *testing.T) {
			p := s.dial(t)
			p.readUntil("SETTINGS", func() bool { return p.greeted && len(p.pending) == 0 })
			p.get("/good") // and the first WINDOW_UPDATE of the server
			stream := p.open(false, requestLines("POST", "/unread")...)
			row.do(p, stream)
			if row.away != 0 {
				p.failed(row.away)
				return
			}
			p.answer(stream).wantReset(t, row.code)
			p.get("/good").want(t, 200, "fine")
		})
	}
}

// SETTINGS that make windows negative stop DATA until they are above zero again
// (RFC 9113 §6.9.2).
func TestHTTP2WindowsBelowZero(t *testing.T) {
	t.Parallel()
	s := startHTTP2(t, &Server{Handler: transferHandler()})
	p := s.dial(t)
	p.readUntil("SETTINGS", func() bool { return p.greeted && len(p.pending) == 0 })
	p.manual = true
	p.credit(0, 1<<20)
	stream := p.start("/down?n=200000")
	a := p.streams[stream]
	p.readUntil("a full window", func() bool { return a.room == 0 })
	p.settings(http2Setting{settingWindow, 1000})
	p.readUntil("the acknowledgement", func() bool { return len(p.pending) == 0 })
	if a.room != 1000-windowDefault {
		t.Errorf("the window is %d", a.room)
	}
	p.credit(stream, windowDefault-1000) // up to 0
	p.sync()
	if a.size != windowDefault {
		t.Errorf("%d octets through a window of %d", a.size, windowDefault)
	}
	p.credit(stream, 1)
	p.readUntil("one octet", func() bool { return a.size == windowDefault+1 })
	p.settings(http2Setting{settingWindow, 300_000})
	if p.answer(stream); a.size != 200_000 || !bytes.Equal(a.body[:1<<16], patternBytes[:1<<16]) {
		t.Errorf("%v of %d octets", a, a.size)
	}
}

// Padding takes of the windows as data does, and comes back.
func TestHTTP2PaddedUpload(t *testing.T) {
	t.Parallel()
	s := startHTTP2(t, &Server{Handler: transferHandler()})
	p := s.dial(t)
	stream := p.open(false, requestLines("POST", "/up")...)
	a := p.streams[stream]
	n := 0
	for total := 0; total < 3<<20; total += 257 {
		p.readUntil("room in the windows", func() bool { return a.window >= 257 && p.window >= 257 })
		p.send(http2Frame(frameData, flagPadded, stream, "\xff"+string(patternBytes[n%1000:n%1000+1])+strings.Repeat("\x00", 255)))
		a.window, p.window = a.window-257, p.window-257
		n++
	}
	p.data(stream, nil, true)
	if p.answer(stream); a.status != 200 || !strings.HasPrefix(string(a.body), fmt.Sprint(n, " ")) {
		t.Errorf("%v, sent %d", a, n)
	}
}

// A body that nobody reads takes no more than a window; when its stream has
// ended, by whomever, the connection's window is whole again.
func TestHTTP2UnreadBodies(t *testing.T) {
	t.Parallel()
	s := startHTTP2(t, &Server{Handler: transferHandler()})
	p := s.dial(t)
	p.get("/good").want(t, 200, "fine")
	full := p.window
	const late = 1000 // octets that a stream may yet send when the server has reset it
	fill := func(path string, but int64) uint32 {
		stream := p.open(false, requestLines("POST", path)...)
		a := p.streams[stream]
		for i := 0; a.window > but && p.window > 0 && !a.done() && i < 100; i++ {
			p.data(stream, make([]byte, min(a.window-but, p.window, frameSizeDefault)), false)
		}
		p.sync()
		return stream
	}
	for _, path := range []string{"/unread", "/ignored"} {
		for range 10 {
			but := map[string]int64{"/ignored": late}[path]
			stream := fill(path, but)
			if path == "/unread" {
				if a := p.streams[stream]; a.window > 0 {
					t.Errorf("%d octets of the window were given back for a body that is not read", a.window)
				}
				p.reset(stream, codeCancel)
			} else {
				p.answer(stream).want(t, 200, "ignored")
				p.readUntil("the reset", func() bool { return p.streams[stream].reset })
			}
			// Late DATA of a stream that has ended counts all the same.
			late := min(p.window, late)
			p.window -= late
			p.send(appendData(nil, stream, make([]byte, late), false))
			p.sync()
			p.get("/good").want(t, 200, "fine")
		}
		eventuallyRead(p, "the whole window", func() bool { return p.window >= full/2 })
	}
	a := p.post("/up", strings.Repeat("x", 2<<20))
	if !strings.HasPrefix(string(a.body), fmt.Sprint(2<<20, " ")) {
		t.Errorf("%v", a)
	}
}

// eventuallyRead fails the test unless cond comes true while PINGs are
// answered, of which there are no more than a server has to take.
func eventuallyRead(p *http2Peer, what string, cond func() bool) {
	p.t.Helper()
	for deadline := time.Now().Add(patience); !cond(); time.Sleep(50 * time.Millisecond) {
		if time.Now().After(deadline) {
			p.t.Fatalf("%s: not in %v", what, patience)
		}
		p.sync()
	}
}

// A hundred bodies that are awaited before their handlers start all arrive, on
// one connection whose window is smaller than their sum.
func TestHTTP2ManyShortBodies(t *testing.T) {
	t.Parallel()
	for _, bound := range []int64{0, 1 << 20} {
		t.Run(fmt.Sprint(bound), func(t *testing.T) {
			s := startHTTP2(t, &Server{Handler: transferHandler(), MaxBufferedBytes: bound})
			p := s.dial(t)
			const n, size = 100, 64 << 10
			var streams []uint32
			for range n {
				streams = append(streams, p.open(false, requestLines("POST", "/up", fmt.Sprint("content-length: ", size))...))
			}
			body := make([]byte, size)
			io.ReadFull(&patternReader{n: size}, body)
			for at := 0; at < size; at += 8 << 10 { // none is whole before the others are nearly so
				for _, stream := range streams {
					p.data(stream, body[at:at+8<<10], at+8<<10 == size)
				}
			}
			want := fmt.Sprintf("%d %08x", size, crc32.ChecksumIEEE(body))
			for _, stream := range streams {
				p.answer(stream).want(t, 200, want)
			}
		})
	}
}

// DATA leaves by RFC 9218: the more urgent first, then in order, incremental
// ones in turns; a PRIORITY_UPDATE counts from then on.
func TestHTTP2Priorities(t *testing.T) {
	t.Parallel()
	var queued atomic.Int32 // answers that wait for the window, or have left
	s := startHTTP2(t, &Server{Handler: HandlerFunc(func(w *ResponseWriter, r *Request) error {
		var n int
		fmt.Sscan(r.Query().Get("n"), &n)
		w.Flush()
		_, err := io.Copy(w, &patternReader{n: n})
		queued.Add(1)
		return err
	})})
	const size = 60_000 // less than the server queues for a stream
	for _, row := range []struct {
		name     string
		priority []string // of each stream, in their order
		update   map[int]string
		want     func(order []int) string // "" or what is wrong
	}{
		{"urgency", []string{"u=7", "u=3", "u=0"}, nil, inOrder(2, 1, 0)},
		{"in order", []string{"u=2", "u=2", "u=2"}, nil, inOrder(0, 1, 2)},
		{"the default is 3", []string{"u=4", "", "u=2"}, nil, inOrder(2, 1, 0)},
		{"an update", []string{"u=1", "u=2", "u=3"}, map[int]string{2: "u=0"}, inOrder(2, 0, 1)},
		{"incremental", []string{"u=3, i", "u=3, i", "u=3, i"}, nil, inTurns(3)},
		{"incremental behind the urgent", []string{"u=3, i", "u=3, i", "u=1"}, nil, func(order []int) string {
			at := 0
			for at < len(order) && order[at] == 2 {
				at++
			}
			if s := inTurns(2)(order[at:]); s != "" || at == 0 {
				return "the urgent one is not first, or " + s
			}
			return ""
		}},
	} {
		t.Run(row.name, func(t *testing.T) {
			p := s.dial(t, http2Setting{settingWindow, 2 * size})
			p.readUntil("SETTINGS", func() bool { return p.greeted && len(p.pending) == 0 })
			p.manual = true
			// The connection's window is used up, so that all of them wait for it.
			queued.Store(0)
			first := p.start(fmt.Sprint("/down?n=", windowDefault))
			p.answer(first)
			index := make(map[uint32]int)
			var streams []uint32
			for i, priority := range row.priority {
				var lines []string
				if priority != "" {
					lines = append(lines, "priority: "+priority)
				}
				stream := p.open(true, requestLines("GET", fmt.Sprint("/down?n=", size), lines...)...)
				streams, index[stream] = append(streams, stream), i
			}
			for i, priority := range row.update {
				p.send(http2Frame(framePriorityUpdate, 0, 0, string([]byte{0, 0, 0, byte(streams[i])})+priority))
			}
			eventuallyRead(p, "answers that wait", func() bool { return int(queued.Load()) == 1+len(streams) })
			p.sync() // the loop has taken what was posted before
			var order []int
			p.onData = func(a *http2Answer, data []byte) {
				if i := index[a.id]; len(data) > 0 {
					order = append(order, i)
				}
			}
			p.credit(0, uint32(len(streams)*size))
			for _, stream := range streams {
				p.answer(stream)
			}
			if fault := row.want(order); fault != "" {
				t.Errorf("%s: frames came of streams %v", fault, order)
			}
		})
	}
}

// inOrder wants streams whole, in that order.
func inOrder(want ...int) func([]int) string {
	return func(order []int) string {
		at := 0
		for _, i := range order {
			for at < len(want) && want[at] != i {
				at++
			}
			if at == len(want) {
				return fmt.Sprintf("not in the order %v", want)
			}
		}
		return ""
	}
}

// inTurns wants each of n streams at least once in every 2n frames, as long as
// none has ended.
func inTurns(n int) func([]int) string {
	return func(order []int) string {
		last := make([]int, n)
		for at, i := range order[:len(order)/2] {
			if i >= n {
				return "one came late"
			}
			last[i] = at
			for j := range last {
				if at-last[j] > 2*n {
					return "not in turns"
				}
			}
		}
		return ""
	}
}

// A reset in the round in which a head was encoded leaves behind it.
func TestHTTP2ResetBehindItsHead(t *testing.T) {
	t.Parallel()
	s := &Server{Loops: 1, Handler: textHandler("a body for which there is no window")}
	p := dialHTTP2(t, startHTTP2Server(t, s), http2Setting{settingWindow, 0})
	p.readUntil("SETTINGS", func() bool { return p.greeted && len(p.pending) == 0 })
	for range 3 { // the first may be called by a goroutine
		b, stream := p.head(true, requestLines("GET", "/")...)
		p.send(appendWindowUpdate(b, stream, 0)) // RFC 9113 §6.9: a fault of the stream
		p.answer(stream).wantReset(t, codeProtocol)
	}
}
