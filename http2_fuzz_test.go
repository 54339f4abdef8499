package flare

import (
	"fmt"
	"strconv"
	"strings"
	"testing"
	"time"
)

// This file feeds connections of HTTP/2 without a socket, a loop or time.

// http2FuzzServer describes requests. A body that has not ended is not waited for: no
// other goroutine would bring it.
func http2FuzzServer() *Server {
	return &Server{
		MaxURIBytes: 256, MaxHeaderBytes: 512, MaxHeaders: 8, MaxBodyBytes: 1 << 10,
		Handler: Inline(HandlerFunc(func(w *ResponseWriter, r *Request) error {
			if behindRequest(r).x.stream.arrived() < 0 {
				return w.Text(200, http2Unread)
			}
			return describe(w, r)
		})),
	}
}

const http2Unread = "the body has not ended"

// An http2Feed says how an input arrives, and who answers.
type http2Feed struct {
	pieces  []string
	behind  bool // handlers are called when all has come, and else when a piece has
	offLoop bool // as on a worker, and else as by the runner
}

// runHTTP2 drives a new connection until it has nothing left to do, and returns what
// was sent.
func (f *feeder) runHTTP2(in http2Feed) string {
	f.t.Helper()
	c := f.newConn()
	tr := &scriptedTransport{c: c, eof: true, shutAt: -1}
	size := 0
	for _, p := range in.pieces {
		tr.pieces = append(tr.pieces, []byte(p))
		size += len(p)
	}
	c.tr = tr
	f.beginHTTP2(c)
	l := f.loop
	v := verdictMore
	for rounds := 0; v != verdictClose && v != verdictLinger; rounds++ {
		v = f.turnHTTP2(c, turnDrive)
		fed := len(tr.pieces) == 0 && c.eof && v != verdictMore
		if fed || !in.behind {
			f.runStreams(c, in.offLoop)
		}
		for (fed || !in.behind) && len(l.flushing) > 0 && v != verdictClose && v != verdictLinger {
			l.flushing, c.due = l.flushing[:0], false
			v = f.turnHTTP2(c, turnFlush)
			rounds++
		}
		if held, most := f.srv.buffered.Load(), int64(1<<20+4*size); held > most || len(tr.sent) > 64<<10+100*size {
			f.t.Fatalf("%d octets are held and %d were sent for %d", held, len(tr.sent), size)
		}
		if rounds > 100_000 {
			f.t.Fatalf("still busy in state %v with verdict %d", c.state, v)
		}
		if fed && l.tasks.empty() && len(l.flushing) == 0 {
			break
		}
	}
	l.flushing, c.due = l.flushing[:0], false
	c.setState(stateClosed)
	c.ended()
	f.runStreams(c, in.offLoop)
	l.flushing = l.flushing[:0]
	if held := f.srv.buffered.Load(); held != 0 {
		f.t.Fatalf("%d octets are held by nobody", held)
	}
	return string(tr.sent)
}

// turnHTTP2 is a turn of a connection, at the same time as all others.
func (f *feeder) turnHTTP2(c *Conn, kind turnKind) verdict {
	g := f.workset
	c.edges |= ownRead | ownWrite
	g.clock.now = time.Second
	g.loop = f.loop
	v := c.takeTurn(g, kind)
	g.loop = nil
	return v
}

// runStreams has the streams whose turn it is answer.
func (f *feeder) runStreams(c *Conn, offLoop bool) {
	l, g := f.loop, f.workset
	for s := l.tasks.pop(); s != nil; s = l.tasks.pop() {
		if !offLoop {
			l.state.Add(1)
			g.loop, g.epoch = l, l.state.Load()
		}
		v := s.takeTurn(g, turnDrive)
		if !offLoop {
			if g.loop == nil {
				f.t.Fatal("the baton was passed")
			}
			g.loop = nil
			l.state.Add(1)
		}
		g.clock.now = time.Second
		if v != verdictClose {
			f.t.Fatalf("verdict %d of a stream", v)
		}
		s.settle(v)
	}
	c.proto.(*http2Conn).wished(c)
	l.posted, c.nextPosted = nil, nil
}

// http2Answers takes apart what a server has sent, and fails the test unless it is
// what one may send. Windows are not looked at.
func http2Answers(t testing.TB, out string) map[uint32]*http2Answer {
	t.Helper()
	answers := make(map[uint32]*http2Answer)
	var dec hpackDecoder
	dec.reset()
	var block []byte
	var blockHead http2Head
	over := false
	for in := []byte(out); len(in) > 0; {
		if len(in) < http2HeadBytes {
			t.Fatalf("half a frame: %q", in)
		}
		h := parseHTTP2Head((*[http2HeadBytes]byte)(in))
		in = in[http2HeadBytes:]
		if err := h.check(frameSizeLimit, blockHead.stream); err != nil || int(h.length) > len(in) || over {
			t.Fatalf("frame %+v, of which %d octets are there; behind the last: %t; %v", h, len(in), over, err)
		}
		p := in[:h.length]
		in = in[h.length:]
		a := answers[h.stream]
		if a == nil && h.stream != 0 {
			a = &http2Answer{id: h.stream, length: -1}
			answers[h.stream] = a
		}
		switch h.kind {
		case frameHeaders:
			blockHead, block = h, append(block[:0], p...)
		case frameContinuation:
			block = append(block, p...)
			blockHead.flags |= h.flags & flagEndHeaders
		case frameData:
			if a.status == 0 || a.done() {
				t.Fatalf("DATA out of place: %v", a)
			}
			a.body = append(a.body, p...)
			a.ended = h.endStream()
		case frameRSTStream:
			a.reset, a.code = true, parseRSTStream(p)
		case frameGoAway:
			_, code, _ := parseGoAway(p)
			over = code != codeNone
		}
		if blockHead.stream != 0 && blockHead.endHeaders() {
			a.section(t, &dec, block, blockHead.endStream())
			blockHead = http2Head{}
		}
		if a != nil && a.ended && a.length >= 0 && a.length != int64(len(a.body)) && !a.noBody {
			t.Fatalf("Content-Length %d, %d octets: %v", a.length, len(a.body), a)
		}
	}
	if blockHead.stream != 0 {
		t.Fatal("half a field block")
	}
	return answers
}

// section takes a field section of an answer.
func (a *http2Answer) section(t testing.TB, dec *hpackDecoder, block []byte, end bool) {
	t.Helper()
	var s fieldSection
	s.reset(&peerLimits)
	if err := dec.decode(&s, block, true); err != nil {
		t.Fatal(err)
	}
	if a.done() || a.status != 0 && !end {
		t.Fatalf("HEADERS out of place: %v", a)
	}
	a.ended = end
	if a.status != 0 {
		if err := s.fillTrailer(&a.trailer, &peerLimits); err != nil {
			t.Fatal(err)
		}
		return
	}
	var head responseHead
	head.reset()
	if err := head.fillHTTP2(&s, &peerLimits, end); err != nil {
		t.Fatal(err)
	}
	if head.status < 200 {
		return
	}
	a.status = head.status
	a.fields.fill(string(s.octets), head.fields)
	a.noBody = a.fields.Get("x-head") != "" || end // of HEAD
	if text := a.fields.Get("content-length"); text != "" {
		a.length, _ = strconv.ParseInt(text, 10, 64)
	}
}

// compareHTTP2 fails the test unless answers that are whole in both are the same, but
// for a handler that has not seen the end of the body.
func compareHTTP2(t testing.TB, one, other map[uint32]*http2Answer) {
	t.Helper()
	for id, a := range one {
		b := other[id]
		if b == nil || !a.ended || !b.ended || strings.HasPrefix(string(a.body), http2Unread) || strings.HasPrefix(string(b.body), http2Unread) {
			continue
		}
		unread := fmt.Sprint(len(http2Unread))
		if a.noBody && (a.fields.Get("content-length") == unread || b.fields.Get("content-length") == unread) {
			continue
		}
		if a.status != b.status || string(a.body) != string(b.body) || fmt.Sprint(a.fields.list) != fmt.Sprint(b.fields.list) {
			t.Errorf("%v\nand %v", a, b)
		}
	}
}

// http2Conversations are frames of clients, each behind a preface and SETTINGS.
func http2Conversations() (all [][]byte) {
	var enc hpackEncoder
	enc.reset()
	head := func(b []byte, stream uint32, end bool, frameMax uint32, lines ...string) []byte {
		b, at := beginHeaders(b)
		b = enc.begin(b)
		for _, line := range lines {
			name, value, _ := strings.Cut(line[1:], ": ")
			b = enc.appendField(b, line[:1]+name, value)
		}
		return endHeaders(b, at, stream, end, frameMax)
	}
	get := requestLines("GET", "/a?b", "x: y")
	post := requestLines("POST", "/", "content-length: 5", "trailer: x-end")
	add := func(b []byte) { all, enc = append(all, b), hpackEncoder{}; enc.reset() }

	add(head(head(nil, 1, true, 100, get...), 3, true, 5, requestLines("HEAD", "/", "cookie: a=b", "cookie: c=d")...))
	b := appendData(head(nil, 1, false, 100, post...), 1, []byte("hel"), false)
	b = appendData(appendHTTP2Ping(b, [8]byte{1}, false), 1, []byte("lo"), true)
	add(head(b, 3, true, 100, get...))
	b = head(nil, 1, false, 100, requestLines("PUT", "/x")...)
	b = append(b, http2Frame(frameData, flagPadded, 1, "\x03abc\x00\x00\x00")...)
	add(head(b, 1, true, 100, "x-end: 1"))
	b = appendSettings(nil, http2Setting{settingWindow, 3}, http2Setting{settingTableSize, 0}, http2Setting{settingFrameSizeMax, 1 << 15})
	b = head(b, 1, true, 100, get...)
	b = appendWindowUpdate(appendWindowUpdate(b, 1, 50), 0, 70)
	add(appendSettings(appendWindowUpdate(b, 1, 1<<20), http2Setting{settingWindow, 0}))
	b = appendData(head(nil, 1, false, 100, post...), 1, []byte("h"), false)
	b = appendRSTStream(b, 1, codeCancel)
	b = appendData(b, 1, []byte("late"), true)
	add(appendGoAway(head(b, 3, true, 100, get...), 0, codeNone))
	b = http2Frame(framePriorityUpdate, 0, 0, "\x00\x00\x00\x03u=2, i")
	b = append(b, http2Frame(framePriority, 0, 5, "\x00\x00\x00\x01\x10")...)
	b = append(b, http2Frame(0x42, 0xff, 9, "unknown")...)
	add(head(head(b, 1, true, 100, requestLines("GET", "/ignore", "priority: u=5")...), 3, true, 100, get...))
	add(head(nil, 1, true, 100, requestLines("GET", "/"+strings.Repeat("x", 300))...))
	add(head(head(nil, 1, true, 100, requestLines("GET", "/", "x: "+strings.Repeat("x", 600))...), 3, true, 100, get...))
	add(head(head(nil, 1, false, 100, requestLines("POST", "/", "expect: 100-continue")...), 3, false, 100, requestLines("POST", "/ignore", "content-length: 2000")...))
	add(head(nil, 1, true, 100, ":method: CONNECT", ":authority: a:1"))
	add(head(head(nil, 1, true, 100, requestLines("GET", "/", "connection: x")...), 1, true, 100, get...))
	add(head(nil, 2, true, 100, get...))
	return all
}

// FuzzHTTP2Conn feeds a connection arbitrary frames, whole and cut at arbitrary places.
// The answers have to be the same, and have to be answers; nothing is held at the end.
func FuzzHTTP2Conn(f *testing.F) {
	for i, b := range http2Conversations() {
		f.Add(b, []byte{1, 2, 3}, i%2 == 0)
		f.Add(b, []byte{8}, i%2 == 1)
	}
	feeder := newFeeder(f, http2FuzzServer())
	first := string(appendSettings([]byte(http2Preface)))
	f.Fuzz(func(t *testing.T, input, cuts []byte, offLoop bool) {
		feeder.t = t
		all := first + string(input)
		whole := feeder.runHTTP2(http2Feed{pieces: []string{all}, behind: true, offLoop: offLoop})
		cut := cutAt(all, cuts)
		if got := feeder.runHTTP2(http2Feed{pieces: cut, behind: true, offLoop: offLoop}); got != whole {
			t.Errorf("%s", difference(outcome{out: got}, outcome{out: whole}))
		}
		answers := http2Answers(t, whole)
		for _, off := range []bool{offLoop, !offLoop} {
			compareHTTP2(t, answers, http2Answers(t, feeder.runHTTP2(http2Feed{pieces: cut, offLoop: off})))
		}
	})
}

// Conversations are answered the same octet by octet, and by whoever answers; what
// they come to is known.
func TestHTTP2Conversations(t *testing.T) {
	feeder := newFeeder(t, http2FuzzServer())
	first := string(appendSettings([]byte(http2Preface)))
	for i, want := range []string{
		"1: 200, 3: 200", "1: 200, 3: 200", "1: 200", "1: 200", "3: 200", "1: 200, 3: 200", "1: 414", "1: 431, 3: 200", "1: 200, 3: 413", "1: 200", "", "",
	} {
		all := first + string(http2Conversations()[i])
		whole := feeder.runHTTP2(http2Feed{pieces: []string{all}, behind: true})
		if got := feeder.runHTTP2(http2Feed{pieces: octets(all, 1), behind: true}); got != whole {
			t.Errorf("%d: %s", i, difference(outcome{out: got}, outcome{out: whole}))
		}
		answers := http2Answers(t, whole)
		var got []string
		for id := uint32(1); id < 9; id++ {
			if a := answers[id]; a != nil && a.status != 0 {
				got = append(got, fmt.Sprintf("%d: %d", id, a.status))
			}
		}
		if text := strings.Join(got, ", "); text != want {
			t.Errorf("%d: answers %s, want %s\n%v", i, text, want, answers)
		}
		for _, off := range []bool{false, true} {
			compareHTTP2(t, answers, http2Answers(t, feeder.runHTTP2(http2Feed{pieces: octets(all, 1), offLoop: off})))
		}
	}
}
