package flare

import (
	"fmt"
	"io"
	"runtime"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"
)

// This file has what a peer of HTTP/2 does to exhaust a server: floods, by
// name. Each is held to the same: the connection ends with the code that its
// rule names, the server keeps next to no memory for it, no more handlers run
// than streams may be open, and a client beside it is answered rightly all the
// while. Peers that wait instead are in http2_slow_test.go.

// A victim is the server that is attacked, and who sees how it fares.
type victim struct {
	*http2Target
	running atomic.Int32 // handlers of /wait
	most    atomic.Int32 // of them at a time
	calls   atomic.Int32 // in all
}

// newVictim starts a server; set may change it.
func newVictim(t testing.TB, set func(*Server)) *victim {
	v := new(victim)
	s := &Server{Loops: 1, Handler: routes{
		"/good": textHandler("fine"),
		"/wait": HandlerFunc(func(w *ResponseWriter, r *Request) error {
			v.calls.Add(1)
			n := v.running.Add(1)
			defer v.running.Add(-1)
			for most := v.most.Load(); n > most && !v.most.CompareAndSwap(most, n); most = v.most.Load() {
			}
			<-r.Context().Done()
			return nil
		}),
		"/sum": HandlerFunc(func(w *ResponseWriter, r *Request) error {
			n, err := io.Copy(io.Discard, r.Body())
			if err != nil {
				return err
			}
			return w.Text(200, fmt.Sprint(n))
		}),
		"/endless": HandlerFunc(func(w *ResponseWriter, r *Request) error {
			for p := make([]byte, 16<<10); ; {
				if _, err := w.Write(p); err != nil {
					return err
				}
			}
		}),
	}}
	if set != nil {
		set(s)
	}
	v.http2Target = startHTTP2(t, s)
	return v
}

// beside runs a client that asks for one thing after the other until stop is
// called, which fails the test unless there was an answer after the call too.
func (v *victim) beside(t testing.TB) (stop func()) {
	var answers atomic.Int64
	var asking sync.WaitGroup
	over := make(chan struct{})
	p := v.dial(t)
	asking.Go(func() {
		for {
			select {
			case <-over:
				return
			default:
			}
			p.nc.SetDeadline(time.Now().Add(patience))
			p.get("/good").want(t, 200, "fine")
			p.post("/sum", "hello").want(t, 200, "5")
			p.streams = make(map[uint32]*http2Answer)
			answers.Add(1)
		}
	})
	return func() {
		t.Helper()
		n := answers.Load()
		eventually(t, "another answer", func() bool { return answers.Load() > n+1 })
		close(over)
		asking.Wait()
	}
}

// heapInUse is what is reachable.
func heapInUse() int64 {
	runtime.GC()
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	return int64(m.HeapAlloc)
}

// A flood sends the same again and again.
type flood struct {
	name  string
	with  []http2Setting
	begin func(p *http2Peer) // before it
	each  func(p *http2Peer, i int) []byte
	times int
	codes []http2Code // that may end the connection; empty: it goes on
}

// http2Calm is how the server ends a flood that is within the rules.
var http2Calm = []http2Code{codeEnhanceYourCalm}

// openWait opens a stream whose handler waits.
func openWait(p *http2Peer) { p.open(false, requestLines("POST", "/wait")...) }

// openReset opens a stream whose handler waits, and has the server reset it.
func openReset(p *http2Peer) {
	openWait(p)
	p.send(appendWindowUpdate(nil, 1, 0))
	p.answer(1).wantReset(p.t, codeProtocol)
}

// waitHead returns the HEADERS of a stream whose handler waits.
func waitHead(p *http2Peer, end bool) (b []byte, stream uint32) {
	return p.head(end, requestLines("POST", "/wait")...)
}

// http2Floods have the names by which they are known.
var http2Floods = []flood{
	{name: "rapid reset (CVE-2023-44487)", times: 20_000, codes: http2Calm, each: func(p *http2Peer, i int) []byte {
		b, stream := waitHead(p, true)
		return appendRSTStream(b, stream, codeCancel)
	}},
	{name: "rapid reset of quick answers", times: 20_000, codes: http2Calm, each: func(p *http2Peer, i int) []byte {
		b, stream := p.head(true, requestLines("GET", "/good")...)
		return appendRSTStream(b, stream, codeCancel)
	}},
	{name: "rapid reset of bodies", times: 20_000, codes: http2Calm, each: func(p *http2Peer, i int) []byte {
		b, stream := p.head(false, requestLines("POST", "/sum", "content-length: 5")...)
		b = appendData(b, stream, []byte("hel"), false)
		return appendRSTStream(b, stream, codeCancel)
	}},
	{name: "MadeYouReset (CVE-2025-8671) by a window increment of 0", times: 20_000, codes: http2Calm, each: func(p *http2Peer, i int) []byte {
		b, stream := waitHead(p, false)
		return appendWindowUpdate(b, stream, 0)
	}},
	{name: "MadeYouReset by a window beyond 2^31-1", times: 20_000, codes: http2Calm, each: func(p *http2Peer, i int) []byte {
		b, stream := waitHead(p, false)
		return appendWindowUpdate(b, stream, streamMax)
	}},
	{name: "MadeYouReset by PRIORITY of a wrong length", times: 20_000, codes: []http2Code{codeEnhanceYourCalm, codeFrameSize}, each: func(p *http2Peer, i int) []byte {
		b, stream := waitHead(p, false)
		return append(b, http2Frame(framePriority, 0, stream, "abcd")...)
	}},
	{name: "MadeYouReset by a stream that depends on itself", times: 20_000, codes: http2Calm, each: func(p *http2Peer, i int) []byte {
		b, stream := waitHead(p, false)
		return append(b, http2Frame(framePriority, 0, stream, string([]byte{0, 0, byte(stream >> 8), byte(stream), 1}))...)
	}},
	{name: "MadeYouReset by trailers with a pseudo-field", times: 20_000, codes: http2Calm, each: func(p *http2Peer, i int) []byte {
		b, stream := waitHead(p, false)
		return append(b, http2Frame(frameHeaders, flagEndStream|flagEndHeaders, stream, string(rawBlock(":path: /")))...)
	}},
	{name: "MadeYouReset by more than Content-Length", times: 20_000, codes: http2Calm, each: func(p *http2Peer, i int) []byte {
		b, stream := p.head(false, requestLines("POST", "/wait", "content-length: 1")...)
		return appendData(b, stream, []byte("xy"), false)
	}},
	{name: "requests that are malformed", times: 20_000, codes: http2Calm, each: func(p *http2Peer, i int) []byte {
		b, _ := p.head(true, ":method: GET")
		return b
	}},
	{name: "HEADERS of nothing (CVE-2019-9518)", times: 20_000, codes: http2Calm, each: func(p *http2Peer, i int) []byte {
		_, stream := p.head(true)
		return http2Frame(frameHeaders, flagEndHeaders, stream, "")
	}},
	{name: "streams beyond MAX_CONCURRENT_STREAMS", times: 20_000, codes: http2Calm, each: func(p *http2Peer, i int) []byte {
		b, _ := waitHead(p, true)
		return b
	}},
	{name: "CONTINUATION flood (CVE-2024-27316)", times: 20_000, codes: http2Calm, begin: func(p *http2Peer) {
		b, stream := p.head(true, requestLines("GET", "/good")...)
		b[4] &^= flagEndHeaders
		p.send(b)
		p.blockOf = 0
		p.streams[stream].dropped = true
	}, each: func(p *http2Peer, i int) []byte {
		return http2Frame(frameContinuation, 0, p.fresh-2, string(rawBlock("x: "+strings.Repeat("a", 100))))
	}},
	{name: "CONTINUATION of nothing (CVE-2019-9518)", times: 20_000, codes: http2Calm, begin: func(p *http2Peer) {
		b, _ := p.head(true, requestLines("GET", "/good")...)
		b[4] &^= flagEndHeaders
		p.send(b)
	}, each: func(p *http2Peer, i int) []byte { return http2Frame(frameContinuation, 0, p.fresh-2, "") }},
	{name: "PING flood (CVE-2019-9512)", times: 50_000, codes: http2Calm, each: func(p *http2Peer, i int) []byte {
		p.pings++
		return appendHTTP2Ping(nil, pingPayload(p.pings), false)
	}},
	{name: "SETTINGS flood (CVE-2019-9515)", times: 50_000, codes: http2Calm, each: func(p *http2Peer, i int) []byte {
		p.pending = append(p.pending, nil)
		return appendSettings(nil)
	}},
	{name: "SETTINGS full of changes", times: 100, codes: nil, each: func(p *http2Peer, i int) []byte {
		settings := make([]http2Setting, 2000)
		for i := range settings {
			settings[i] = http2Setting{settingWindow, uint32(i)}
		}
		p.pending = append(p.pending, settings)
		return appendSettings(nil, settings...)
	}},
	{name: "answers to SETTINGS that were not sent", times: 50_000, codes: []http2Code{codeEnhanceYourCalm, codeProtocol}, each: func(p *http2Peer, i int) []byte {
		return appendSettingsAck(nil)
	}},
	{name: "DATA of nothing (CVE-2019-9518)", times: 50_000, codes: http2Calm, begin: openWait, each: func(p *http2Peer, i int) []byte {
		return appendData(nil, 1, nil, false)
	}},
	{name: "PRIORITY flood (CVE-2019-9513)", times: 50_000, codes: http2Calm, begin: openWait, each: func(p *http2Peer, i int) []byte {
		return http2Frame(framePriority, 0, uint32(2*(i%1000)+1), "\x00\x00\x00\x02\x10")
	}},
	{name: "PRIORITY_UPDATE flood", times: 50_000, codes: http2Calm, begin: openWait, each: func(p *http2Peer, i int) []byte {
		return http2Frame(framePriorityUpdate, 0, 0, fmt.Sprintf("\x00\x00%c%cu=%d", i>>7&0x7f, 2*i&0x7f|1, i%8))
	}},
	{name: "RST_STREAM flood", times: 50_000, codes: []http2Code{codeEnhanceYourCalm, codeStreamClosed, codeProtocol}, begin: openWait, each: func(p *http2Peer, i int) []byte {
		return appendRSTStream(nil, 1, codeCancel)
	}},
	{name: "WINDOW_UPDATE flood (CVE-2019-9511)", times: 50_000, codes: http2Calm, begin: openWait, each: func(p *http2Peer, i int) []byte {
		return appendWindowUpdate(nil, 0, 1)
	}},
	{name: "WINDOW_UPDATE flood of a stream", times: 50_000, codes: http2Calm, begin: openWait, each: func(p *http2Peer, i int) []byte {
		return appendWindowUpdate(nil, 1, 1)
	}},
	{name: "unknown frames", times: 50_000, codes: http2Calm, each: func(p *http2Peer, i int) []byte {
		return http2Frame(http2FrameType(0x20+i%0x80), 0xff, 0, "x")
	}},
	{name: "frames of closed streams", times: 50_000, codes: []http2Code{codeEnhanceYourCalm, codeStreamClosed}, begin: func(p *http2Peer) {
		p.get("/good").want(p.t, 200, "fine")
	}, each: func(p *http2Peer, i int) []byte { return appendData(nil, 1, []byte("x"), false) }},
	{name: "DATA of a stream that we have reset", times: 50_000, codes: []http2Code{codeEnhanceYourCalm, codeStreamClosed}, begin: openReset, each: func(p *http2Peer, i int) []byte {
		return appendData(nil, 1, make([]byte, 100), false)
	}},
	{name: "DATA of nothing of a stream that we have reset", times: 50_000, codes: http2Calm, begin: openReset, each: func(p *http2Peer, i int) []byte {
		return appendData(nil, 1, nil, false)
	}},
	{name: "trailers of a stream that we have reset", times: 20_000, codes: http2Calm, begin: openReset, each: func(p *http2Peer, i int) []byte {
		return http2Frame(frameHeaders, flagEndStream|flagEndHeaders, 1, string(rawBlock("x: y")))
	}},
	{name: "table size churn", times: 5_000, codes: nil, each: func(p *http2Peer, i int) []byte {
		// Both updates that a block may begin with, and a field that fills the table
		// anew; the stream is malformed or not, the octets have to be decoded.
		block := []byte{0x20}
		block = appendHPACKInteger(block, 0x20, 0x1f, 4096)
		block = append(block, rawBlock(requestLines("GET", "/good")...)...)
		for j := range 8 {
			block = appendHPACKInteger(append(block, 0x40), 0, 0x7f, 5)
			block = append(block, fmt.Sprintf("x%04d", j)...)
			block = appendHPACKInteger(block, 0, 0x7f, 100)
			block = append(block, strings.Repeat("a", 100)...)
		}
		b, stream := p.head(true)
		p.enc.reset()
		_ = b
		return http2Frame(frameHeaders, flagEndHeaders|flagEndStream, stream, string(block))
	}},
	{name: "references to a large entry (HPACK bomb)", times: 400, codes: nil, each: func(p *http2Peer, i int) []byte {
		// 14 KB that say 39 MB. The table is emptied first, for this side has none of it.
		block := appendHPACKInteger([]byte{0x20}, 0x20, 0x1f, 4096)
		block = append(block, rawBlock(requestLines("GET", "/good")...)...)
		block = appendHPACKInteger(append(block, "\x40\x04bomb"...), 0, 0x7f, 3900)
		block = append(block, strings.Repeat("x", 3900)...)
		block = append(block, strings.Repeat("\xbe", 10_000)...)
		_, stream := p.head(true)
		p.enc.reset()
		return http2Frame(frameHeaders, flagEndHeaders|flagEndStream, stream, string(block))
	}},
}

// attack runs one flood on a server of its own.
func (f *flood) attack(t *testing.T) {
	v := newVictim(t, nil)
	stop := v.beside(t)
	before := heapInUse()
	began := time.Now()
	p := v.dial(t, f.with...)
	p.readUntil("SETTINGS", func() bool { return p.greeted && len(p.pending) == 0 })
	p.manual = true
	if f.begin != nil {
		f.begin(p)
	}
	var b []byte
	ended := false
	for i := 0; i < f.times && !ended; i++ {
		b = append(b, f.each(p, i)...)
		if len(b) >= 32<<10 || i == f.times-1 {
			ended = p.write(b) != nil
			b = b[:0]
			if len(f.codes) == 0 { // it reads, and answers are counted
				p.drain(t)
			}
		}
	}
	// What the peer itself has of its streams is not the server's.
	sent := len(p.streams)
	p.block, b = nil, nil
	grown := heapInUse() - before - int64(sent)*int64(256)
	if len(f.codes) > 0 {
		p.toEnd()
		took := time.Since(began)
		n := len(p.goAway)
		if n == 0 || !slices.Contains(f.codes, p.goAway[n-1].code) {
			t.Errorf("ended by GOAWAY %v, %v; want %v", p.goAway, p.over, f.codes)
		}
		if took > patience/2 {
			t.Errorf("ended after %v", took)
		}
		// The budget: 200 at once, 20 a second, and what the slots let run.
		if most := int32(200 + 128 + 128 + 20*(int(took.Seconds())+1)); v.calls.Load() > most {
			t.Errorf("%d calls of a handler, at most %d should have been", v.calls.Load(), most)
		}
	} else {
		p.manual = false
		p.nc.SetDeadline(time.Now().Add(patience))
		p.sync()
		p.get("/good").want(t, 200, "fine")
	}
	if v.most.Load() > 128 {
		t.Errorf("%d handlers of one connection at a time", v.most.Load())
	}
	if grown > 4<<20 {
		t.Errorf("%d octets more are in use", grown)
	}
	stop()
	if len(f.codes) > 0 {
		eventually(t, "the end of all handlers", func() bool { return v.running.Load() == 0 })
	}
}

// drain reads what has come.
func (p *http2Peer) drain(t testing.TB) {
	p.pings++
	n := p.pings
	p.write(appendHTTP2Ping(nil, pingPayload(n), false))
	p.readUntil("the answer to a PING", func() bool { return p.ponged >= n })
	for id, a := range p.streams {
		if a.done() {
			delete(p.streams, id)
		}
	}
}

func TestHTTP2Floods(t *testing.T) {
	for i := range http2Floods {
		t.Run(http2Floods[i].name, http2Floods[i].attack)
	}
}
