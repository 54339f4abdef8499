//go:build linux || darwin

package flare

import (
	"bytes"
	"encoding/binary"
	"net/http"
	"syscall"
	"testing"
	"time"
)

// This file has what a request over HTTP/2 costs without system calls.

// An http2Asker is the transport of a client that opens streams again and again, each
// with the same block. Every second receive finds nothing.
type http2Asker struct {
	memoryBase
	streams int
	block   []byte
	input   []byte // what the next receive finds
	next    uint32
	took    int // octets of answers
	given   bool
}

// A http2Ask is a field block that is the first of a connection, and what says the same from
// then on.
type http2Ask struct{ first, then []byte }

// h2loadAsk asks as h2load does: a path that is no entry of the table, and two fields
// that are.
func h2loadAsk() (ask http2Ask) {
	b := []byte{0x80 | 2, 0x80 | 6}
	b = appendHPACKLiteral(b, 0, 0x0f, 4, "", "/plaintext")
	ask.first = appendHPACKLiteral(b[:len(b):len(b)], 0x40, 0x3f, 1, "", "127.0.0.1:8080")
	ask.first = appendHPACKLiteral(ask.first, 0x40, 0x3f, 58, "", "h2load nghttp2/1.52.0")
	ask.then = append(b[:len(b):len(b)], 0x80|63, 0x80|62)
	return ask
}

func appendHTTP2Ask(b []byte, stream uint32, block []byte) []byte {
	b = appendHTTP2Head(b, http2Head{length: uint32(len(block)), kind: frameHeaders, flags: flagEndHeaders | flagEndStream, stream: stream})
	return append(b, block...)
}

func newHTTP2Asker(ask http2Ask, streams int) *http2Asker {
	first := appendWindowUpdate(appendSettings([]byte(http2Preface)), 0, 1<<30)
	return &http2Asker{block: ask.then, input: appendHTTP2Ask(first, 1, ask.first), next: 3, streams: streams}
}

func (t *http2Asker) recv(p []byte) (int, error) {
	if t.given = !t.given; !t.given {
		return 0, errWouldBlock
	}
	n := copy(p, t.input)
	if t.next == 3 { // the first time
		t.input = appendWindowUpdate(nil, 0, uint32(t.streams*len("Hello, World!")))
		for range t.streams {
			t.input = appendHTTP2Ask(t.input, 0, t.block)
		}
	}
	at := http2HeadBytes + windowUpdateBytes
	for range t.streams {
		binary.BigEndian.PutUint32(t.input[at+5:], t.next)
		at += http2HeadBytes + len(t.block)
		t.next += 2
	}
	return n, nil
}

func (t *http2Asker) send(a, b []byte) (int, error) {
	t.took += len(a) + len(b)
	return len(a) + len(b), nil
}

// round is a round of a loop in which something has come on p's connection.
func (p *pairServer) round() {
	l, c := p.loop, p.conn
	for range 2 {
		if c.take(ownRead) {
			l.turn(&c.strand, p.workset, turnDrive)
		}
		l.ready = strandList{}
		for s := l.tasks.pop(); s != nil; s = l.tasks.pop() {
			l.turn(s, p.workset, turnDrive)
		}
		if len(l.flushing) > 0 {
			l.flushSessions(p.workset)
		}
	}
}

// processTime is the CPU time of the process, which others on the machine do not add to.
func processTime() time.Duration {
	var u syscall.Rusage
	syscall.Getrusage(syscall.RUSAGE_SELF, &u)
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}

// measureRounds measures rounds of so many requests each.
func measureRounds(b *testing.B, requests int, round func()) {
	left, used := 0, processTime()
	b.ReportAllocs()
	for b.Loop() {
		if left == 0 {
			round()
			left = requests
		}
		left--
	}
	b.StopTimer()
	b.ReportMetric(float64(processTime()-used)/float64(b.N), "cpu-ns/op")
}

func benchmarkHTTP2User(b *testing.B, ask http2Ask, streams int) {
	s := plaintextServer()
	s.Protocols = new(http.Protocols)
	s.Protocols.SetUnencryptedHTTP2(true)
	p := newPairServer(b, s)
	t := newHTTP2Asker(ask, streams)
	p.conn.tr = t
	for range 3 {
		p.round()
	}
	before := t.took
	measureRounds(b, streams, p.round)
	if t.took-before < b.N/streams*streams*(2*http2HeadBytes+len("Hello, World!")) {
		b.Fatalf("%d octets in answer to %d requests", t.took-before, b.N)
	}
}

// BenchmarkHTTP2User is a request of a hundred that come at once on one connection.
func BenchmarkHTTP2User(b *testing.B) { benchmarkHTTP2User(b, h2loadAsk(), 100) }

// BenchmarkHTTP2UserAlone is one that comes alone.
func BenchmarkHTTP2UserAlone(b *testing.B) { benchmarkHTTP2User(b, h2loadAsk(), 1) }

// BenchmarkHTTP2UserHTTP1 is one of a hundred that come at once over HTTP/1.1.
func BenchmarkHTTP2UserHTTP1(b *testing.B) {
	p := newPairServer(b, plaintextServer())
	p.conn.tr = &loopTransport{inputs: [][]byte{bytes.Repeat([]byte("GET /plaintext HTTP/1.1\r\nHost: 127.0.0.1:8080\r\nuser-agent: h2load nghttp2/1.52.0\r\n\r\n"), 100)}}
	measureRounds(b, 100, p.round)
}
