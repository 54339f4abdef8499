package flare

import (
	"bufio"
	"crypto/tls"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"
)

// This file has the client of HTTP/2 that tests talk to a server with: it sends
// what it is told to, frame by frame, and believes nothing of what it reads. A
// frame that RFC 9113 forbids a server in that state fails the test.

// An http2Peer is the client's end of one connection. It belongs to one
// goroutine; nothing is read but by next and whatever calls it.
type http2Peer struct {
	t  testing.TB
	nc net.Conn
	br *bufio.Reader

	// manual leaves windows, SETTINGS and PING to the test; it is told by what
	// the frames leave behind here.
	manual bool

	enc  hpackEncoder
	dec  hpackDecoder
	sect fieldSection

	ours    http2Settings    // those in force: sent, and acknowledged
	pending [][]http2Setting // sent, in order
	theirs  http2Settings
	greeted bool // their first SETTINGS has come

	streams map[uint32]*http2Answer
	fresh   uint32 // the number of the next stream
	window  int64  // octets of DATA that may be sent on the connection
	room    int64  // octets of DATA that the server may send on it

	block    []byte // of the field block that is not complete
	blockOf  uint32 // 0: none
	blockEnd bool   // it ends the stream

	pings  uint64      // sent
	ponged uint64      // the newest that was answered
	pinged [][8]byte   // from the server, for whoever answers by hand
	goAway []http2Away // received
	frames map[http2FrameType]int
	over   error // why nothing more comes: io.EOF, or what the read failed with

	// keep says whether bodies are kept; onData sees them in any case.
	keep   bool
	onData func(a *http2Answer, p []byte)
}

type http2Away struct {
	last uint32
	code http2Code
}

// An http2Answer is what has come of one stream.
type http2Answer struct {
	id      uint32
	noBody  bool // the request was HEAD
	tunnel  bool // it was CONNECT: a 2xx is followed by octets, not by a body
	interim []http2Interim
	status  int // 0: no final head has come
	fields  headerFields
	length  int64 // Content-Length, -1 without
	body    []byte
	size    int64 // of the body, kept or not
	trailer headerFields
	ended   bool // END_STREAM has come
	reset   bool // RST_STREAM has come
	code    http2Code
	dropped bool // this side has sent RST_STREAM

	window int64 // octets of DATA that may be sent
	room   int64 // octets of DATA that the server may send
}

type http2Interim struct {
	status int
	fields headerFields
}

// done says whether nothing more of the stream can come.
func (a *http2Answer) done() bool { return a.ended || a.reset }

// String is what a failure prints.
func (a *http2Answer) String() string {
	s := fmt.Sprintf("stream %d: %d %q %q", a.id, a.status, a.fields.list, tail(a.body))
	if a.trailer.Len() > 0 {
		s += fmt.Sprintf(" trailer %q", a.trailer.list)
	}
	if a.reset {
		s += " reset by " + a.code.String()
	}
	if !a.done() {
		s += ", not at its end"
	}
	return s
}

// want fails the test unless the answer is whole and that one.
func (a *http2Answer) want(t testing.TB, status int, body string) {
	t.Helper()
	if a.status != status || string(a.body) != body || !a.ended {
		t.Fatalf("%v; want %d %q", a, status, tail([]byte(body)))
	}
}

// wantReset fails the test unless the stream was reset with that code.
func (a *http2Answer) wantReset(t testing.TB, code http2Code) {
	t.Helper()
	if !a.reset || a.code != code {
		t.Fatalf("%v; want a reset by %v", a, code)
	}
}

// dialHTTP2 connects to a port that takes HTTP/2 by prior knowledge.
func dialHTTP2(t testing.TB, addr string, settings ...http2Setting) *http2Peer {
	t.Helper()
	return newHTTP2Peer(t, dialFor(t, addr, false), settings...)
}

// dialHTTP2TLS connects to a port of TLS and agrees on h2.
func dialHTTP2TLS(t testing.TB, addr string, settings ...http2Setting) *http2Peer {
	t.Helper()
	return newHTTP2Peer(t, dialFor(t, addr, true), settings...)
}

// dialFor is a connection on which nothing of HTTP/2 was sent.
func dialFor(t testing.TB, addr string, secured bool) net.Conn {
	t.Helper()
	nc, err := net.Dial("tcp", addr)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { nc.Close() })
	if !secured {
		return nc
	}
	config := tlsClientConfig()
	config.NextProtos = []string{"h2"}
	tc := tls.Client(nc, config)
	nc.SetDeadline(time.Now().Add(patience))
	if err := tc.Handshake(); err != nil {
		t.Fatal(err)
	}
	if got := tc.ConnectionState().NegotiatedProtocol; got != "h2" {
		t.Fatalf("agreed on %q", got)
	}
	return tc
}

// newHTTP2Peer begins a connection with the preface and those settings. It is
// closed with the test, and no wait on it is longer than patience.
func newHTTP2Peer(t testing.TB, nc net.Conn, settings ...http2Setting) *http2Peer {
	t.Helper()
	p := quietHTTP2Peer(t, nc)
	b := []byte(http2Preface)
	p.send(appendSettings(b, settings...))
	p.pending = append(p.pending, settings)
	return p
}

// quietHTTP2Peer is a peer that has not sent anything.
func quietHTTP2Peer(t testing.TB, nc net.Conn) *http2Peer {
	p := &http2Peer{
		t: t, nc: nc, br: bufio.NewReaderSize(nc, 64<<10), keep: true,
		ours: defaultHTTP2Settings, theirs: defaultHTTP2Settings,
		streams: make(map[uint32]*http2Answer), frames: make(map[http2FrameType]int),
		fresh: 1, window: windowDefault, room: windowDefault,
	}
	p.ours.push = false // no client of this package takes pushes, whatever it says
	p.enc.reset()
	p.dec.reset()
	t.Cleanup(func() { nc.Close() })
	return p
}

// send writes octets as they are.
func (p *http2Peer) send(b []byte) {
	p.t.Helper()
	if err := p.write(b); err != nil {
		p.t.Fatalf("write: %v; GOAWAY %v", err, p.goAway)
	}
}

// write is send for a connection that may have ended.
func (p *http2Peer) write(b []byte) error {
	p.nc.SetDeadline(time.Now().Add(patience)) // also for the answer
	_, err := p.nc.Write(b)
	return err
}

// settings sends SETTINGS; they hold once the server has acknowledged them.
func (p *http2Peer) settings(settings ...http2Setting) {
	p.t.Helper()
	p.pending = append(p.pending, settings)
	p.send(appendSettings(nil, settings...))
}

// encode returns a field block with those fields, "name: value".
func (p *http2Peer) encode(lines ...string) []byte {
	b := p.enc.begin(nil)
	for _, line := range lines {
		name, value, _ := strings.Cut(line[1:], ":")
		b = p.enc.appendField(b, line[:1]+name, strings.TrimPrefix(value, " "))
	}
	return b
}

// head returns a HEADERS frame of the next stream, which is open from now on.
func (p *http2Peer) head(end bool, lines ...string) (b []byte, stream uint32) {
	a := &http2Answer{id: p.fresh, length: -1, window: int64(p.theirs.window), room: int64(p.ours.window)}
	a.noBody = slices.Contains(lines, ":method: HEAD")
	a.tunnel = slices.Contains(lines, ":method: CONNECT")
	p.streams[a.id] = a
	p.fresh += 2
	b, at := beginHeaders(nil)
	b = append(b, p.encode(lines...)...)
	return endHeaders(b, at, a.id, end, p.theirs.frameSizeMax), a.id
}

// open sends a request's head, "name: value", on a new stream, whose number it
// returns. end: there is no body.
func (p *http2Peer) open(end bool, lines ...string) uint32 {
	p.t.Helper()
	b, stream := p.head(end, lines...)
	p.send(b)
	return stream
}

// requestLines are the fields of a request, with more behind them.
func requestLines(method, path string, more ...string) []string {
	return append([]string{":method: " + method, ":scheme: http", ":path: " + path, ":authority: h"}, more...)
}

// start sends a request without a body and does not wait for the answer.
func (p *http2Peer) start(path string) uint32 {
	p.t.Helper()
	return p.open(true, requestLines("GET", path)...)
}

// get sends a request without a body and returns its answer.
func (p *http2Peer) get(path string, more ...string) *http2Answer {
	p.t.Helper()
	return p.answer(p.open(true, requestLines("GET", path, more...)...))
}

// post sends a request with a body and returns its answer. What the server says
// before it has all of the body does not hold the body back.
func (p *http2Peer) post(path, body string, more ...string) *http2Answer {
	p.t.Helper()
	stream := p.open(false, requestLines("POST", path, more...)...)
	p.data(stream, []byte(body), true)
	return p.answer(stream)
}

// data sends octets of a body as the windows allow, and reads while they are
// empty. It stops when the server has ended the stream or reset it.
func (p *http2Peer) data(stream uint32, body []byte, end bool) {
	p.t.Helper()
	a := p.streams[stream]
	for {
		room := min(a.window, p.window)
		if len(body) > 0 && room <= 0 {
			p.readUntil("room in a window", func() bool { return min(a.window, p.window) > 0 || a.done() })
			room = min(a.window, p.window)
		}
		if a.done() {
			return
		}
		n := min(len(body), int(p.theirs.frameSizeMax), int(max(room, 0)))
		last := n == len(body)
		p.send(appendData(nil, stream, body[:n], end && last))
		a.window -= int64(n)
		p.window -= int64(n)
		if body = body[n:]; last {
			return
		}
	}
}

// reset sends RST_STREAM.
func (p *http2Peer) reset(stream uint32, code http2Code) {
	p.t.Helper()
	p.streams[stream].dropped = true
	p.send(appendRSTStream(nil, stream, code))
}

// credit opens a window: the connection's for stream 0.
func (p *http2Peer) credit(stream, n uint32) {
	p.t.Helper()
	if a := p.streams[stream]; a != nil {
		a.room += int64(n)
	} else {
		p.room += int64(n)
	}
	p.send(appendWindowUpdate(nil, stream, n))
}

// sync waits until the server has looked at everything that was sent so far.
func (p *http2Peer) sync() {
	p.t.Helper()
	p.pings++
	n := p.pings
	p.send(appendHTTP2Ping(nil, pingPayload(n), false))
	p.readUntil("the answer to a PING", func() bool { return p.ponged >= n })
}

func pingPayload(n uint64) (b [pingBytes]byte) {
	binary.BigEndian.PutUint64(b[:], n)
	return b
}

// answer reads until the stream has ended, and returns what it was.
func (p *http2Peer) answer(stream uint32) *http2Answer {
	p.t.Helper()
	a := p.streams[stream]
	p.readUntil(fmt.Sprintf("the end of stream %d", stream), a.done)
	return a
}

// readUntil reads frames until cond is true.
func (p *http2Peer) readUntil(what string, cond func() bool) {
	p.t.Helper()
	for !cond() {
		if err := p.next(); err != nil {
			p.t.Fatalf("waiting for %s: %v; GOAWAY %v", what, err, p.goAway)
		}
	}
}

// toEnd reads until the connection ends, whatever comes.
func (p *http2Peer) toEnd() {
	p.t.Helper()
	for p.over == nil {
		if err := p.next(); err != nil && p.over == nil {
			p.t.Fatal(err)
		}
	}
	if isTimeout(p.over) {
		p.t.Fatalf("the connection is still open; GOAWAY %v", p.goAway)
	}
}

// failed fails the test unless the server ends the connection with that code.
func (p *http2Peer) failed(code http2Code) {
	p.t.Helper()
	p.toEnd()
	if n := len(p.goAway); n == 0 || p.goAway[n-1].code != code {
		p.t.Fatalf("ended by GOAWAY %v, %v; want %v", p.goAway, p.over, code)
	}
}

// next reads a frame. Its errors are that the connection is over, for which
// p.over stands, and what the server does against the rules.
func (p *http2Peer) next() error {
	if p.over != nil {
		return p.over
	}
	var octets [http2HeadBytes]byte
	if _, err := io.ReadFull(p.br, octets[:]); err != nil {
		p.over = err
		return err
	}
	h := parseHTTP2Head(&octets)
	if err := h.check(p.ours.frameSizeMax, p.blockOf); err != nil {
		return fmt.Errorf("frame %+v: %w", h, err)
	}
	payload := make([]byte, h.length)
	if _, err := io.ReadFull(p.br, payload); err != nil {
		p.over = err
		return err
	}
	p.frames[h.kind]++
	if err := p.frame(h, payload); err != nil {
		return fmt.Errorf("frame %+v: %w", h, err)
	}
	return nil
}

var errNotAllowed = errors.New("not allowed of a server")

func (p *http2Peer) frame(h http2Head, payload []byte) error {
	if !p.greeted && (h.kind != frameSettings || h.ack()) { // RFC 9113 §3.4
		return errors.New("the first frame is no SETTINGS")
	}
	switch h.kind {
	case frameData:
		return p.onDataFrame(h, payload)
	case frameHeaders:
		fragment, err := h.parseHeaders(payload)
		p.block, p.blockOf, p.blockEnd = append(p.block[:0], fragment...), h.stream, h.endStream()
		if err != nil || !h.endHeaders() {
			return err
		}
		return p.onFields()
	case frameContinuation:
		if len(payload) == 0 && !h.endHeaders() {
			return errors.New("CONTINUATION of nothing")
		}
		if p.block = append(p.block, payload...); h.endHeaders() {
			return p.onFields()
		}
	case frameRSTStream:
		return p.onReset(h, parseRSTStream(payload))
	case frameSettings:
		return p.onSettings(h, payload)
	case framePing:
		return p.onPing(h, payload)
	case frameGoAway:
		last, code, _ := parseGoAway(payload)
		if n := len(p.goAway); n > 0 && p.goAway[n-1].last < last { // RFC 9113 §6.8
			return errors.New("GOAWAY with a later stream than before")
		}
		p.goAway = append(p.goAway, http2Away{last, code})
	case frameWindowUpdate:
		return p.onWindowUpdate(h, payload)
	case framePriority, framePriorityUpdate: // RFC 9113 §5.3.2, RFC 9218 §7.1
		return errNotAllowed
	}
	return nil
}

// opened returns the stream of a frame.
func (p *http2Peer) opened(stream uint32) (*http2Answer, error) {
	if a := p.streams[stream]; a != nil {
		return a, nil
	}
	return nil, fmt.Errorf("stream %d was never opened", stream)
}

func (p *http2Peer) onDataFrame(h http2Head, payload []byte) error {
	a, err := p.opened(h.stream)
	if err != nil {
		return err
	}
	body, err := h.parseData(payload)
	n := int64(len(payload))
	switch {
	case err != nil:
		return err
	case a.done():
		return errors.New("DATA behind the end of its stream")
	case a.status == 0:
		return errors.New("DATA before a final head")
	case n > 0 && (n > a.room || n > p.room):
		return fmt.Errorf("%d octets of DATA, the windows are %d and %d", n, a.room, p.room)
	case len(body) > 0 && (a.noBody || a.status == http.StatusNoContent || a.status == http.StatusNotModified):
		return errors.New("a body where there is none")
	}
	a.room -= n
	p.room -= n
	a.size += int64(len(body))
	if p.keep {
		a.body = append(a.body, body...)
	}
	if p.onData != nil {
		p.onData(a, body)
	}
	if err := a.end(h.endStream()); err != nil || p.manual {
		return err
	}
	var b []byte
	if grow := int64(p.ours.window) - a.room; !a.done() && !a.dropped && grow > int64(p.ours.window)/2 {
		a.room += grow
		b = appendWindowUpdate(b, a.id, uint32(grow))
	}
	if grow := windowDefault - p.room; grow > windowDefault/2 {
		p.room += grow
		b = appendWindowUpdate(b, 0, uint32(grow))
	}
	p.writeAnswer(b)
	return nil
}

// writeAnswer writes what answers a frame. That the server has left is found by
// whoever reads on.
func (p *http2Peer) writeAnswer(b []byte) {
	if len(b) > 0 {
		p.write(b)
	}
}

// end takes END_STREAM, if it has come.
func (a *http2Answer) end(end bool) error {
	if !end {
		return nil
	}
	a.ended = true
	if a.length >= 0 && a.length != a.size && !a.noBody && a.status != http.StatusNotModified {
		return fmt.Errorf("Content-Length %d, and %d octets", a.length, a.size)
	}
	return nil
}

var peerLimits = headLimits{uriBytes: 1 << 20, headerBytes: 1 << 20, headers: 1000}

// onFields takes a field block that is complete.
func (p *http2Peer) onFields() error {
	stream := p.blockOf
	p.blockOf = 0
	p.sect.reset(&peerLimits)
	if err := p.dec.decode(&p.sect, p.block, true); err != nil {
		return err
	}
	a, err := p.opened(stream)
	switch {
	case err != nil:
		return err
	case a.done():
		return errors.New("HEADERS behind the end of its stream")
	case a.status != 0:
		if !p.blockEnd { // RFC 9113 §8.1
			return errors.New("trailers that do not end the stream")
		}
		if err := p.sect.fillTrailer(&a.trailer, &peerLimits); err != nil {
			return err
		}
		return a.end(true)
	}
	var head responseHead
	head.reset()
	if err := head.fillHTTP2(&p.sect, &peerLimits, p.blockEnd); err != nil {
		return err
	}
	var fields headerFields
	fields.fill(string(p.sect.octets), head.fields)
	if head.status < 200 {
		a.interim = append(a.interim, http2Interim{head.status, fields})
		return nil
	}
	a.status, a.fields = head.status, fields
	if text := fields.Get("content-length"); text != "" {
		if a.length, err = strconv.ParseInt(text, 10, 64); err != nil {
			return err
		}
		if a.status == http.StatusNoContent || a.tunnel && a.status < 300 {
			return errors.New("Content-Length where there is no body")
		}
	}
	return a.end(p.blockEnd)
}

func (p *http2Peer) onReset(h http2Head, code http2Code) error {
	a, err := p.opened(h.stream)
	if err != nil {
		return err
	}
	if !a.reset {
		a.reset, a.code = true, code
	}
	return nil
}

func (p *http2Peer) onSettings(h http2Head, payload []byte) error {
	if h.ack() {
		if len(p.pending) == 0 {
			return errors.New("acknowledgement of no SETTINGS")
		}
		window := p.ours.window
		for _, s := range p.pending[0] {
			if s.id == settingTableSize {
				p.dec.setLimit(s.value)
			}
			if err := p.ours.set(s, false); err != nil && s.id != settingPush {
				return err
			}
		}
		p.pending = p.pending[1:]
		for _, a := range p.streams {
			a.room += int64(p.ours.window) - int64(window)
		}
		return nil
	}
	p.greeted = true
	window := p.theirs.window
	if err := p.theirs.apply(payload, true); err != nil {
		return err
	}
	p.enc.resize(p.theirs.tableSizeLeast, p.theirs.tableSize)
	for _, a := range p.streams {
		a.window += int64(p.theirs.window) - int64(window)
	}
	if !p.manual {
		p.writeAnswer(appendSettingsAck(nil))
	}
	return nil
}

func (p *http2Peer) onPing(h http2Head, payload []byte) error {
	octets := [pingBytes]byte(payload)
	n := binary.BigEndian.Uint64(payload)
	switch {
	case h.ack() && (n <= p.ponged || n > p.pings):
		return errors.New("answer to no PING of this side")
	case h.ack():
		p.ponged = n
	case p.manual:
		p.pinged = append(p.pinged, octets)
	default:
		p.writeAnswer(appendHTTP2Ping(nil, octets, true))
	}
	return nil
}

func (p *http2Peer) onWindowUpdate(h http2Head, payload []byte) error {
	n, err := h.parseWindowUpdate(payload)
	if err != nil {
		return err
	}
	window := &p.window
	if h.stream != 0 {
		a, err := p.opened(h.stream)
		switch {
		case err != nil:
			return err
		case a.reset:
			return errors.New("WINDOW_UPDATE behind a reset")
		}
		window = &a.window
	}
	if *window += int64(n); *window > streamMax {
		return errors.New("a window beyond 2^31-1")
	}
	return nil
}
