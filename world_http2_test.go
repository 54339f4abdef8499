package flare

import (
	"encoding/binary"
	"fmt"
	"net"
	"net/http"
	"slices"
	"strings"
	"time"
)

// This file has the clients of HTTP/2 in the simulated world. Each has several
// streams, with requests and handlers of world_http_test.go, and makes a move when
// it likes: a head, a piece of a body, a window that opens or shuts, a reset. Some
// break a rule; what the server says to that is in worldFaults.

const (
	streamsPerPeer = 8
	whimsMax       = 12 // moves of a client that nothing asks for
	paddingMax     = 256
)

// A worldStream is a request of a client of HTTP/2.
type worldStream struct {
	q      *worldRequest // nil: one that is malformed
	a      *http2Answer  // nil: not begun
	rest   string        // of the body, not said yet
	open   bool          // its end has not been said
	chat   *peer         // of the WebSocket that it has become
	faulty http2Code     // what its client has broken a rule of it with
	judged bool
}

// Streams are the talk of such a client.
type streams struct {
	p     *peer
	h2    *http2Peer // which knows what a server may say
	list  []*worldStream
	whims int
	low   int64 // windows of less than that are opened
	step  int   // by at most so much
	fault *worldFault
	half  bool // as of peer, behind all requests: nobody opens windows then
}

// A worldFault breaks a rule, and ends the connection with that code.
type worldFault struct {
	name   string
	code   http2Code
	octets func(fresh uint32) []byte
}

var worldFaults = []worldFault{
	{"DATA on no stream", codeProtocol, func(uint32) []byte { return http2Frame(frameData, 0, 0, "x") }},
	{"DATA on a stream that was not begun", codeProtocol, func(fresh uint32) []byte { return http2Frame(frameData, 0, fresh, "x") }},
	{"HEADERS on an even stream", codeProtocol, func(fresh uint32) []byte { return http2Frame(frameHeaders, 0, fresh+1, "") }},
	{"a CONTINUATION of nothing", codeProtocol, func(fresh uint32) []byte { return http2Frame(frameContinuation, 0, fresh, "") }},
	{"a block that does not decode", codeCompression, func(fresh uint32) []byte {
		return http2Frame(frameHeaders, flagEndHeaders, fresh, "\x80")
	}},
	{"a frame within a block", codeProtocol, func(fresh uint32) []byte {
		return append(http2Frame(frameHeaders, 0, fresh, "\x82"), http2Frame(framePing, 0, 0, "12345678")...)
	}},
	{"SETTINGS of five octets", codeFrameSize, func(uint32) []byte { return http2Frame(frameSettings, 0, 0, "12345") }},
	{"a window beyond all", codeFlowControl, func(uint32) []byte {
		b := appendWindowUpdate(nil, 0, streamMax)
		return appendWindowUpdate(b, 0, streamMax)
	}},
	{"a window opened by nothing", codeProtocol, func(uint32) []byte { return appendWindowUpdate(nil, 0, 0) }},
	{"a frame beyond the size", codeFrameSize, func(fresh uint32) []byte {
		return http2Frame(frameHeaders, 0, fresh, strings.Repeat("x", frameSizeDefault+1))
	}},
	{"too many frames", codeEnhanceYourCalm, func(fresh uint32) []byte {
		return slices.Repeat(http2Frame(framePriority, 0, fresh, "12345"), 10*http2BudgetMax)
	}},
}

// A streamsConn takes what an http2Peer writes.
type streamsConn struct {
	net.Conn
	p *peer
}

func (c streamsConn) Write(b []byte) (int, error) { c.p.say(b); return len(b), nil }
func (c streamsConn) SetDeadline(time.Time) error { return nil }
func (c streamsConn) Close() error                { return nil }

// newStreams has p speak HTTP/2.
func (w *world) newStreams(p *peer) {
	t := &streams{p: p, h2: quietHTTP2Peer(w.t, streamsConn{p: p})}
	p.talk, t.h2.manual = t, true
	if t.step = []int{40, 3_000, 100_000}[w.rand.IntN(3)]; p.slow {
		t.step = 3_000 // or it is too slow
	}
	t.low = int64(1 + w.rand.IntN(t.step))
	t.half, p.half = p.half, false
	n := 1 + w.rand.IntN(streamsPerPeer)
	if p.slow { // the world has only so many steps
		n = min(n, 2)
	}
	for range n {
		st := &worldStream{q: w.newRequest(w.streamKinds)}
		if p.slow && w.one(2) { // so that others wait for their turn
			st.q.kind, st.q.body = "drip", ""
		}
		st.q.p, st.rest = p, st.q.body
		t.list = append(t.list, st)
	}
	p.say([]byte(http2Preface))
	t.settings()
}

// settings changes what the server may send.
func (t *streams) settings() {
	w := t.p.w
	window := []uint32{0, 1, 100, windowDefault, 1 << 20}[w.rand.IntN(5)]
	t.h2.settings(
		http2Setting{settingWindow, window},
		http2Setting{settingTableSize, []uint32{0, 100, tableBytesDefault}[w.rand.IntN(3)]},
		http2Setting{settingFrameSizeMax, frameSizeDefault + uint32(w.rand.IntN(2))*3_000})
}

// last is the last stream that the server will answer.
func (t *streams) last() uint32 {
	if n := len(t.h2.goAway); n > 0 {
		return t.h2.goAway[n-1].last
	}
	return streamMax
}

// settled is whether st says no more than its rest.
func (st *worldStream) settled() bool {
	return !st.a.tunnel || st.a.ended || st.chat != nil && st.chat.farewell
}

// live is whether something more may come of st.
func (t *streams) live(st *worldStream) bool {
	return st.a != nil && !st.a.reset && !st.a.dropped && st.a.id <= t.last()
}

// moves are those that the client can make, and has to, sooner or later.
func (t *streams) moves() (moves []func()) {
	p := t.p
	if t.fault != nil || p.s.inEnd || len(p.unsent) > 4*roomMax {
		return nil
	}
	if t.h2.room < t.low {
		moves = append(moves, func() { t.credit(0, t.h2.room) })
	}
	begun, said := 0, true
	for _, st := range t.list {
		switch {
		case st.a == nil && len(t.h2.goAway) == 0:
			if said = false; begun < int(min(t.h2.theirs.streamsMax, streamsPerPeer)) {
				moves = append(moves, func() { t.begin(st) })
			}
			return moves
		case !t.live(st):
			continue
		}
		if !st.a.ended || st.open {
			begun++
		}
		if !st.a.ended && st.a.room < t.low && (st.chat == nil || !st.chat.deaf) {
			moves = append(moves, func() { t.credit(st.a.id, st.a.room) })
		}
		said = said && !st.open
		if st.open && (st.rest == "" && st.settled() || st.rest != "" && min(st.a.window, t.h2.window) > 0) {
			moves = append(moves, func() { t.send(st) })
		}
	}
	if t.half && said && !p.half {
		moves = append(moves, func() { p.half, p.excused = true, true })
	}
	return moves
}

func (t *streams) ready() bool { return len(t.moves()) > 0 }

// speak makes a move.
func (t *streams) speak() {
	w := t.p.w
	if t.whims < whimsMax && !w.calm && !w.ending && w.one(8) {
		t.whims++
		t.whim()
		return
	}
	moves := t.moves()
	moves[w.rand.IntN(len(moves))]()
}

// begin sends the head of a request.
func (t *streams) begin(st *worldStream) {
	w, method, path := t.p.w, "GET", "/malformed"
	var more []string
	switch q := st.q; {
	case q == nil:
		more = []string{"connection: close"}
	case q.handler().fields != "":
		method, more = "CONNECT", []string{":protocol: websocket", "sec-websocket-version: 13"}
		path = fmt.Sprintf("/%s/%d", q.kind, q.id)
	case q.body != "":
		method = "POST"
		if q.sized {
			more = []string{fmt.Sprintf("content-length: %d", len(q.body))}
		}
		fallthrough
	default:
		path = fmt.Sprintf("/%s/%d", q.kind, q.id)
	}
	st.open = method != "GET"
	id := t.h2.open(!st.open, requestLines(method, path, more...)...)
	st.a = t.h2.streams[id]
	w.tell("client %d begins stream %d for %s", t.p.number, id, path)
}

// send sends a piece of a body.
func (t *streams) send(st *worldStream) {
	w := t.p.w
	room := int(max(0, min(st.a.window, t.h2.window, frameSizeDefault)))
	n := min(len(st.rest), 1+w.rand.IntN(1<<w.rand.IntN(15)), room)
	pad := w.rand.IntN(1+min(room-n, paddingMax)) * w.rand.IntN(2)
	st.open = n < len(st.rest) || !st.settled() || n > 0 && w.one(4)
	trailer := !st.open && !st.a.tunnel && w.one(4)
	t.h2.send(padded(appendData(nil, st.a.id, []byte(st.rest[:n]), !st.open && !trailer), pad))
	st.a.window -= int64(n + pad)
	t.h2.window -= int64(n + pad)
	st.rest = st.rest[n:]
	w.tell("client %d sends %d octets of stream %d, and %d of padding", t.p.number, n, st.a.id, pad)
	if trailer {
		st.q.trailer = fmt.Sprint("behind ", st.q.id)
		b, at := beginHeaders(nil)
		b = append(b, t.h2.encode("check: "+st.q.trailer)...)
		t.h2.send(endHeaders(b, at, st.a.id, true, frameSizeDefault))
	}
}

// padded is a frame of DATA with so many octets for its padding.
func padded(frame []byte, octets int) []byte {
	if octets > 0 {
		frame[4] |= flagPadded
		frame = append(slices.Insert(frame, http2HeadBytes, byte(octets-1)), make([]byte, octets-1)...)
		binary.BigEndian.PutUint16(frame[1:], uint16(len(frame)-http2HeadBytes))
	}
	return frame
}

// credit opens a window that has room.
func (t *streams) credit(id uint32, room int64) {
	n := uint32(t.low - room + int64(t.p.w.rand.IntN(t.step)))
	t.p.w.tell("client %d opens the window of stream %d by %d", t.p.number, id, n)
	t.h2.credit(id, n)
}

// whim is a move that nothing asks for.
func (t *streams) whim() {
	w, begun := t.p.w, slices.DeleteFunc(slices.Clone(t.list), func(st *worldStream) bool { return !t.live(st) })
	var st *worldStream
	if len(begun) > 0 {
		st = begun[w.rand.IntN(len(begun))]
	}
	switch at := w.rand.IntN(16); {
	case at == 0:
		t.fault = &worldFaults[w.rand.IntN(len(worldFaults))]
		w.tell("client %d sends %s", t.p.number, t.fault.name)
		t.h2.send(t.fault.octets(t.h2.fresh))
	case at == 1:
		w.tell("client %d goes away", t.p.number)
		t.h2.send(appendGoAway(nil, 0, codeNone))
		t.list = slices.DeleteFunc(t.list, func(st *worldStream) bool { return st.a == nil })
	case at == 2:
		t.list = append(t.list, &worldStream{faulty: codeProtocol})
	case at < 6:
		w.tell("client %d changes its settings", t.p.number)
		t.settings()
	case at < 8:
		t.h2.pings++
		t.h2.send(appendHTTP2Ping(nil, pingPayload(t.h2.pings), false))
	case st == nil:
	case at < 11:
		w.tell("client %d resets stream %d", t.p.number, st.a.id)
		t.h2.reset(st.a.id, codeCancel)
	case at < 12:
		w.tell("client %d opens the window of stream %d by nothing", t.p.number, st.a.id)
		st.faulty = codeProtocol
		t.h2.send(appendWindowUpdate(nil, st.a.id, 0))
	case at < 13 && st.open && st.q != nil && st.q.sized && int64(len(st.rest)+1) <= min(st.a.window, t.h2.window, frameSizeDefault):
		w.tell("client %d sends too much on stream %d", t.p.number, st.a.id)
		st.faulty, st.rest = codeProtocol, st.rest+"x"
	default:
		priority := fmt.Sprintf("u=%d", w.rand.IntN(8))
		t.h2.send(http2Frame(framePriorityUpdate, 0, 0, string(binary.BigEndian.AppendUint32(nil, st.a.id))+priority))
	}
}

// hear takes frames.
func (t *streams) hear(p *peer) {
	for len(p.got) >= http2HeadBytes {
		h := parseHTTP2Head((*[http2HeadBytes]byte)(p.got))
		if err := h.check(t.h2.ours.frameSizeMax, t.h2.blockOf); err != nil {
			p.w.fail("%v: client %d hears %+v: %v", p.s, p.number, h, err)
		}
		n := http2HeadBytes + int(h.length)
		if len(p.got) < n {
			return
		}
		payload := p.got[http2HeadBytes:n]
		p.got = p.got[n:]
		if err := t.h2.frame(h, payload); err != nil {
			p.w.fail("%v: client %d hears %+v: %v", p.s, p.number, h, err)
		}
		switch {
		case h.kind == frameSettings && !h.ack():
			t.h2.send(appendSettingsAck(nil))
		case h.kind == framePing && !h.ack():
			t.h2.send(appendHTTP2Ping(nil, [pingBytes]byte(payload), true))
		case h.kind == frameGoAway:
			t.goneAway()
		}
		for _, st := range t.list {
			if t.carry(st); st.a != nil && st.a.done() && !st.judged {
				st.judged = true
				t.judge(st)
			}
		}
	}
}

// carry hands what has come on a WebSocket to its talk, and has the stream say what that
// says.
func (t *streams) carry(st *worldStream) {
	p := t.p
	if st.a == nil || !st.a.tunnel || st.a.status != http.StatusOK {
		return
	}
	if st.chat == nil {
		st.chat = &peer{w: p.w, s: p.s, number: p.number, slow: p.slow}
		st.q.p = st.chat
		p.w.newMessages(st.chat, st.q)
	}
	c := st.chat
	if c.next = p.next; !c.deaf {
		c.got, st.a.body = append(c.got, st.a.body...), nil
		c.talk.hear(c)
	}
	st.rest, c.unsent = st.rest+string(c.unsent), nil
}

// owes reports whether the server owes st what ends it.
func (t *streams) owes(st *worldStream) bool {
	c := st.chat
	return t.live(st) && !st.a.ended && (c == nil || !c.farewell && !c.deaf && !c.talk.loose(c))
}

// goneAway looks at a GOAWAY.
func (t *streams) goneAway() {
	away := t.h2.goAway[len(t.h2.goAway)-1]
	if away.code != codeNone && !t.p.w.excused && (t.fault == nil || t.fault.code != away.code) {
		t.p.w.fail("%v: client %d hears GOAWAY with %v", t.p.s, t.p.number, away.code)
	}
}

// judge looks at what a request has been answered with.
func (t *streams) judge(st *worldStream) {
	w, p, a, q := t.p.w, t.p, st.a, st.q
	switch {
	case a.code == codeRefusedStream && !a.ended && (q == nil || !q.served) && (w.ending || len(t.list) > w.srv.HTTP2.MaxConcurrentStreams):
	case q == nil && !(a.reset && a.code == codeProtocol):
		w.fail("%v: a malformed request is answered: %v", p.s, a)
	case q == nil:
	case a.ended && st.chat == nil:
		if q.judge(p, a.status, string(a.body)); q.handler().trails && a.status == http.StatusOK && a.trailer.Get("check") != q.trailer {
			w.fail("%v: request %d (%s) has a trailer of %q: %v", p.s, q.id, q.kind, q.trailer, a)
		}
	case st.chat != nil && (st.chat.farewell || st.chat.deaf || st.chat.talk.loose(st.chat)):
	case a.code == st.faulty && st.faulty != codeNone:
	case a.dropped || q.spoilt || q.handler().cuts || w.excused || p.excused || p.s.lost:
	default:
		w.fail("%v: request %d (%s): %v", p.s, q.id, q.kind, a)
	}
}

// owed is the first stream that has no end.
func (t *streams) owed() string {
	if t.fault != nil {
		if n := len(t.h2.goAway); n > 0 && t.h2.goAway[n-1].code == t.fault.code && (t.p.s.outEnd || t.p.closed) {
			return ""
		}
		return "the end for " + t.fault.name
	}
	free := int64(t.h2.theirs.streamsMax)
	for i, st := range t.list {
		if st.chat != nil && t.live(st) && !st.a.ended {
			free-- // for as long as it likes
		}
		if st.a == nil && len(t.h2.goAway) == 0 && free > 0 || t.owes(st) && (st.chat == nil || st.chat.talk.owed() != "") {
			return fmt.Sprintf("the end of request %d (%+v)", i, st.q)
		}
	}
	return ""
}

func (t *streams) open(p *peer) bool {
	return t.fault == nil && (len(p.got) > 0 || slices.ContainsFunc(t.list, func(st *worldStream) bool {
		return t.owes(st) && (len(t.h2.goAway) > 0 || st.a.status != 0) && (st.chat == nil || st.chat.talk.open(st.chat))
	}))
}

func (t *streams) loose(p *peer) bool { return p.w.ending && t.fault != nil }

// http2Server readies s for clients of HTTP/2.
func (w *world) http2Server(s *Server) {
	s.Protocols = new(http.Protocols)
	s.Protocols.SetHTTP1(true)
	s.Protocols.SetHTTP2(true)
	s.Protocols.SetUnencryptedHTTP2(true)
	s.HTTP2 = &http.HTTP2Config{
		MaxConcurrentStreams:      []int{2, 100}[w.rand.IntN(2)],
		MaxReceiveBufferPerStream: []int{300, 2_000, 200_000}[w.rand.IntN(3)],
	}
}
