package flare

import (
	"bytes"
	"errors"
	"fmt"
	"strings"
	"testing"
)

// http2Frame is a frame as a test writes it.
func http2Frame(kind http2FrameType, flags uint8, stream uint32, payload string) []byte {
	return append(appendHTTP2Head(nil, http2Head{uint32(len(payload)), stream, kind, flags}), payload...)
}

// readFrame reads one frame as a connection would and says what it holds. block
// is the stream whose field block is open.
func readFrame(b []byte, sizeMax, block uint32, server bool) (text string, h http2Head, err error) {
	h = parseHTTP2Head((*[http2HeadBytes]byte)(b))
	if err := h.check(sizeMax, block); err != nil {
		return "", h, err
	}
	p := b[http2HeadBytes:][:h.length]
	switch h.kind {
	case frameData:
		p, err = h.parseData(p)
		text = fmt.Sprintf("data %q end %t", p, h.endStream())
	case frameHeaders:
		p, err = h.parseHeaders(p)
		text = fmt.Sprintf("headers %q end %t whole %t", p, h.endStream(), h.endHeaders())
	case framePriority:
		text, err = "priority", h.parsePriority(p)
	case frameRSTStream:
		text = "reset " + parseRSTStream(p).String()
	case frameSettings:
		s := defaultHTTP2Settings
		err = s.apply(p, server)
		text = fmt.Sprintf("settings %+v ack %t", s, h.ack())
	case framePing:
		text = fmt.Sprintf("ping %q ack %t", p, h.ack())
	case frameGoAway:
		last, code, debug := parseGoAway(p)
		text = fmt.Sprintf("goaway %d %s %q", last, code, debug)
	case frameWindowUpdate:
		var n uint32
		n, err = h.parseWindowUpdate(p)
		text = fmt.Sprintf("window %d", n)
	case frameContinuation:
		text = fmt.Sprintf("continuation %q whole %t", p, h.endHeaders())
	case framePriorityUpdate:
		var stream uint32
		var priority streamPriority
		stream, priority, err = parsePriorityUpdate(p)
		text = fmt.Sprintf("priority update %d %+v", stream, priority)
	default:
		text = fmt.Sprintf("unknown %q", p)
	}
	return text, h, err
}

func conn(code http2Code, rule string) *http2Error     { return &http2Error{code, false, rule} }
func ofStream(code http2Code, rule string) *http2Error { return &http2Error{code, true, rule} }

// The rules of RFC 9113 §6, a row each.
func TestHTTP2Frames(t *testing.T) {
	const zero4, zero8 = "\x00\x00\x00\x00", "\x00\x00\x00\x00\x00\x00\x00\x00"
	settings := func(id, value string) string { return "\x00" + id + value }
	for _, test := range []struct {
		name    string
		kind    http2FrameType
		flags   uint8
		stream  uint32
		payload string
		want    string // of readFrame
		err     *http2Error
	}{
		{"DATA", frameData, 0, 1, "abc", `data "abc" end false`, nil},
		{"DATA that ends the stream", frameData, 1, 1, "", `data "" end true`, nil},
		{"DATA with unknown flags", frameData, 0xf6, 1, "abc", `data "abc" end false`, nil},
		{"DATA, padded", frameData, 8, 1, "\x02abc\x00\x00", `data "abc" end false`, nil},
		{"DATA, padded with nothing", frameData, 8, 1, "\x00abc", `data "abc" end false`, nil},
		{"DATA, all padding", frameData, 9, 1, "\x02\x00\x00", `data "" end true`, nil},
		{"DATA, padding too long", frameData, 8, 1, "\x03\x00\x00", "", conn(codeProtocol, ruleFramePadding)},
		{"DATA, padding of 255", frameData, 8, 1, "\xffabc", "", conn(codeProtocol, ruleFramePadding)},
		{"DATA, padded and empty", frameData, 8, 1, "", "", conn(codeFrameSize, ruleFrameShort)},
		{"DATA on 0", frameData, 0, 0, "abc", "", conn(codeProtocol, ruleFrameStreamZero)},
		{"DATA of the largest size", frameData, 0, 1, strings.Repeat("x", 1<<14), `data "` + strings.Repeat("x", 1<<14) + `" end false`, nil},
		{"DATA of more", frameData, 0, 1, strings.Repeat("x", 1<<14+1), "", conn(codeFrameSize, ruleFrameSizeMax)},

		{"HEADERS", frameHeaders, 4, 1, "abc", `headers "abc" end false whole true`, nil},
		{"HEADERS to be continued", frameHeaders, 1, 1, "abc", `headers "abc" end true whole false`, nil},
		{"HEADERS, padded, with priority", frameHeaders, 0x2d, 3, "\x01\x80\x00\x00\x01\x10abc\x00", `headers "abc" end true whole true`, nil},
		{"HEADERS with priority and nothing else", frameHeaders, 0x24, 3, "\x00\x00\x00\x01\x10", `headers "" end false whole true`, nil},
		{"HEADERS with too little for a priority", frameHeaders, 0x24, 3, "\x00\x00\x00\x01", "", conn(codeFrameSize, ruleFrameShort)},
		{"HEADERS whose padding takes the priority", frameHeaders, 0x2c, 3, "\x01\x00\x00\x00\x01\x10", "", conn(codeProtocol, ruleFramePadding)},
		{"HEADERS, padding too long", frameHeaders, 0xc, 1, "\x04abc", "", conn(codeProtocol, ruleFramePadding)},
		{"HEADERS that depends on itself", frameHeaders, 0x24, 3, "\x80\x00\x00\x03\x10abc", "", ofStream(codeProtocol, ruleFrameDependsSelf)},
		{"HEADERS on 0", frameHeaders, 4, 0, "abc", "", conn(codeProtocol, ruleFrameStreamZero)},

		{"PRIORITY", framePriority, 0, 3, "\x80\x00\x00\x01\xff", "priority", nil},
		{"PRIORITY of an idle stream", framePriority, 0, 99, "\x80\x00\x00\x00\xff", "priority", nil},
		{"PRIORITY on itself", framePriority, 0, 3, "\x80\x00\x00\x03\xff", "", ofStream(codeProtocol, ruleFrameDependsSelf)},
		{"PRIORITY on 0", framePriority, 0, 0, "\x80\x00\x00\x01\xff", "", conn(codeProtocol, ruleFrameStreamZero)},
		{"PRIORITY too short", framePriority, 0, 3, zero4, "", ofStream(codeFrameSize, ruleFrameSizeFixed)},
		{"PRIORITY too long", framePriority, 0, 3, zero8, "", ofStream(codeFrameSize, ruleFrameSizeFixed)},

		{"RST_STREAM", frameRSTStream, 0, 1, "\x00\x00\x00\x08", "reset CANCEL", nil},
		{"RST_STREAM of an unknown code", frameRSTStream, 0, 1, "\x00\x00\xff\x08", "reset code 0xff08", nil},
		{"RST_STREAM on 0", frameRSTStream, 0, 0, zero4, "", conn(codeProtocol, ruleFrameStreamZero)},
		{"RST_STREAM too short", frameRSTStream, 0, 1, "abc", "", conn(codeFrameSize, ruleFrameSizeFixed)},
		{"RST_STREAM too long", frameRSTStream, 0, 1, "abcde", "", conn(codeFrameSize, ruleFrameSizeFixed)},

		{"SETTINGS on a stream", frameSettings, 0, 1, "", "", conn(codeProtocol, ruleFrameStreamOther)},
		{"SETTINGS of 5 octets", frameSettings, 0, 0, "abcde", "", conn(codeFrameSize, ruleFrameSettingsSize)},
		{"SETTINGS acknowledged with a payload", frameSettings, 1, 0, "abcdef", "", conn(codeFrameSize, ruleFrameSettingsAck)},
		{"SETTINGS: push 2", frameSettings, 0, 0, settings("\x02", "\x00\x00\x00\x02"), "", conn(codeProtocol, ruleSettingPush)},
		{"SETTINGS: window of 2^31", frameSettings, 0, 0, settings("\x04", "\x80\x00\x00\x00"), "", conn(codeFlowControl, ruleSettingWindow)},
		{"SETTINGS: small frames", frameSettings, 0, 0, settings("\x05", "\x00\x00\x3f\xff"), "", conn(codeProtocol, ruleSettingFrameSize)},
		{"SETTINGS: frames of 2^24", frameSettings, 0, 0, settings("\x05", "\x01\x00\x00\x00"), "", conn(codeProtocol, ruleSettingFrameSize)},
		{"SETTINGS: connect 2", frameSettings, 0, 0, settings("\x08", "\x00\x00\x00\x02"), "", conn(codeProtocol, ruleSettingConnect)},
		{"SETTINGS: connect taken back", frameSettings, 0, 0, settings("\x08", "\x00\x00\x00\x01") + settings("\x08", zero4), "", conn(codeProtocol, ruleSettingConnect)},
		{"SETTINGS: no priorities 2", frameSettings, 0, 0, settings("\x09", "\x00\x00\x00\x02"), "", conn(codeProtocol, ruleSettingNoOrder)},

		{"PUSH_PROMISE", framePushPromise, 4, 1, zero4, "", conn(codeProtocol, ruleFramePush)},

		{"PING", framePing, 0, 0, "abcdefgh", `ping "abcdefgh" ack false`, nil},
		{"PING answered", framePing, 1, 0, "abcdefgh", `ping "abcdefgh" ack true`, nil},
		{"PING on a stream", framePing, 0, 1, zero8, "", conn(codeProtocol, ruleFrameStreamOther)},
		{"PING too short", framePing, 0, 0, "abcdefg", "", conn(codeFrameSize, ruleFrameSizeFixed)},
		{"PING too long", framePing, 0, 0, "abcdefghi", "", conn(codeFrameSize, ruleFrameSizeFixed)},

		{"GOAWAY", frameGoAway, 0, 0, "\x80\x00\x00\x05\x00\x00\x00\x0bwhy", `goaway 5 ENHANCE_YOUR_CALM "why"`, nil},
		{"GOAWAY on a stream", frameGoAway, 0, 1, zero8, "", conn(codeProtocol, ruleFrameStreamOther)},
		{"GOAWAY too short", frameGoAway, 0, 0, "abcdefg", "", conn(codeFrameSize, ruleFrameSizeFixed)},

		{"WINDOW_UPDATE", frameWindowUpdate, 0, 0, "\xff\xff\xff\xff", "window 2147483647", nil},
		{"WINDOW_UPDATE of 0", frameWindowUpdate, 0, 0, "\x80\x00\x00\x00", "", conn(codeProtocol, ruleFrameIncrement)},
		{"WINDOW_UPDATE of 0 on a stream", frameWindowUpdate, 0, 1, zero4, "", ofStream(codeProtocol, ruleFrameIncrement)},
		{"WINDOW_UPDATE too short", frameWindowUpdate, 0, 1, "abc", "", conn(codeFrameSize, ruleFrameSizeFixed)},
		{"WINDOW_UPDATE too long", frameWindowUpdate, 0, 1, "abcde", "", conn(codeFrameSize, ruleFrameSizeFixed)},

		{"CONTINUATION of nothing", frameContinuation, 4, 1, "abc", "", conn(codeProtocol, ruleFrameNoBlock)},
		{"CONTINUATION on 0", frameContinuation, 4, 0, "abc", "", conn(codeProtocol, ruleFrameStreamZero)},

		{"PRIORITY_UPDATE", framePriorityUpdate, 0, 0, "\x80\x00\x00\x05u=1, i", "priority update 5 {urgency:1 incremental:true}", nil},
		{"PRIORITY_UPDATE with nothing", framePriorityUpdate, 0, 0, "\x00\x00\x00\x05", "priority update 5 {urgency:3 incremental:false}", nil},
		{"PRIORITY_UPDATE of 0", framePriorityUpdate, 0, 0, zero4, "", conn(codeProtocol, ruleFramePrioritizes)},
		{"PRIORITY_UPDATE on a stream", framePriorityUpdate, 0, 1, "\x00\x00\x00\x05", "", conn(codeProtocol, ruleFrameStreamOther)},
		{"PRIORITY_UPDATE too short", framePriorityUpdate, 0, 0, "abc", "", conn(codeFrameSize, ruleFrameSizeFixed)},

		{"unknown", 0x77, 0xff, 1, "abc", `unknown "abc"`, nil},
		{"unknown on 0", 0x77, 0xff, 0, "", `unknown ""`, nil},
	} {
		t.Run(test.name, func(t *testing.T) {
			frame := http2Frame(test.kind, test.flags, test.stream, test.payload)
			text, h, err := readFrame(frame, frameSizeDefault, 0, false)
			checkHTTP2Error(t, err, test.err)
			if test.err == nil && text != test.want {
				t.Errorf("frame holds %.100s, want %.100s", text, test.want)
			}
			if test.err != nil && !errors.Is(err, ErrMalformed) {
				t.Errorf("%v is not ErrMalformed", err)
			}
			if h.stream != test.stream {
				t.Errorf("stream %d, want %d", h.stream, test.stream)
			}
		})
	}
}

// With an error of the stream the block is there, for the table's sake.
func TestHTTP2HeadersDependSelf(t *testing.T) {
	h := http2Head{length: 8, stream: 3, kind: frameHeaders, flags: flagPriority}
	if block, err := h.parseHeaders([]byte("\x00\x00\x00\x03\x10abc")); err == nil || string(block) != "abc" {
		t.Errorf("block %q, %v", block, err)
	}
}

// Nothing may stand between the frames of a field block (RFC 9113 §4.3), and
// what does is no matter of sizes.
func TestHTTP2FieldBlockOrder(t *testing.T) {
	for _, test := range []struct {
		name string
		h    http2Head
		err  *http2Error
	}{
		{"CONTINUATION", http2Head{3, 5, frameContinuation, 0}, nil},
		{"CONTINUATION of another stream", http2Head{3, 7, frameContinuation, 0}, conn(codeProtocol, ruleFrameInBlock)},
		{"HEADERS", http2Head{3, 5, frameHeaders, 0}, conn(codeProtocol, ruleFrameInBlock)},
		{"DATA", http2Head{3, 5, frameData, 0}, conn(codeProtocol, ruleFrameInBlock)},
		{"PING", http2Head{8, 0, framePing, 0}, conn(codeProtocol, ruleFrameInBlock)},
		{"PRIORITY of a wrong length", http2Head{3, 5, framePriority, 0}, conn(codeProtocol, ruleFrameInBlock)},
		{"unknown", http2Head{3, 5, 0x77, 0}, conn(codeProtocol, ruleFrameInBlock)},
	} {
		if err := test.h.check(frameSizeDefault, 5); test.err != nil || err != nil {
			t.Run(test.name, func(t *testing.T) { checkHTTP2Error(t, err, test.err) })
		}
	}
}

func TestHTTP2Settings(t *testing.T) {
	b := appendSettings(nil,
		http2Setting{settingTableSize, 100}, http2Setting{settingPush, 0}, http2Setting{settingStreamsMax, 7},
		http2Setting{settingWindow, streamMax}, http2Setting{settingFrameSizeMax, frameSizeLimit},
		http2Setting{settingHeaderListMax, 9}, http2Setting{settingConnect, 1}, http2Setting{settingNoRFC7540Order, 1},
		http2Setting{0x4a4a, 1}, http2Setting{settingTableSize, 300})
	h := parseHTTP2Head((*[http2HeadBytes]byte)(b))
	if err := h.check(frameSizeDefault, 0); err != nil || int(h.length) != len(b)-http2HeadBytes || h.ack() {
		t.Errorf("head %+v, %v", h, err)
	}
	s := defaultHTTP2Settings
	want := http2Settings{tableSize: 300, tableSizeLeast: 100, streamsMax: 7, window: streamMax,
		frameSizeMax: frameSizeLimit, headerListMax: 9, connect: true}
	if err := s.apply(b[http2HeadBytes:], false); err != nil || s != want {
		t.Errorf("settings %+v, %v, want %+v", s, err, want)
	}
	// The next frame begins with what holds.
	want.tableSizeLeast, want.tableSize = 300, 5000
	if err := s.apply(appendSettings(nil, http2Setting{settingTableSize, 5000})[http2HeadBytes:], false); err != nil || s != want {
		t.Errorf("settings %+v, %v, want %+v", s, err, want)
	}
	// A server never enables push (RFC 9113 §6.5.2).
	push := appendSettings(nil, http2Setting{settingPush, 1})[http2HeadBytes:]
	checkHTTP2Error(t, s.apply(push, true), conn(codeProtocol, ruleSettingPush))
	if err := s.apply(push, false); err != nil || !s.push {
		t.Errorf("a client enables push: %t, %v", s.push, err)
	}
	if ack := appendSettingsAck(nil); !bytes.Equal(ack, []byte{0, 0, 0, 4, 1, 0, 0, 0, 0}) {
		t.Errorf("acknowledgement is %x", ack)
	}
}

// What is sent reads back as what was meant.
func TestHTTP2FramesRoundTrip(t *testing.T) {
	for _, test := range []struct {
		frame  []byte
		stream uint32
		want   string
	}{
		{appendData(nil, 7, []byte("abc"), false), 7, `data "abc" end false`},
		{appendData(nil, 7, nil, true), 7, `data "" end true`},
		{appendRSTStream(nil, streamMax, codeEnhanceYourCalm), streamMax, "reset ENHANCE_YOUR_CALM"},
		{appendHTTP2Ping(nil, [8]byte{'a', 'b', 'c', 'd', 'e', 'f', 'g', 'h'}, false), 0, `ping "abcdefgh" ack false`},
		{appendHTTP2Ping(nil, [8]byte{'a', 'b', 'c', 'd', 'e', 'f', 'g', 'h'}, true), 0, `ping "abcdefgh" ack true`},
		{appendGoAway(nil, streamMax, codeNone), 0, `goaway 2147483647 NO_ERROR ""`},
		{appendWindowUpdate(nil, 3, streamMax), 3, "window 2147483647"},
	} {
		text, h, err := readFrame(test.frame, frameSizeDefault, 0, false)
		if text != test.want || h.stream != test.stream || err != nil || len(test.frame) != http2HeadBytes+int(h.length) {
			t.Errorf("%x is %s on %d, %v, want %s on %d", test.frame, text, h.stream, err, test.want, test.stream)
		}
	}
}

// A block of any length becomes frames that hold it, behind what was there.
func TestHTTP2HeadersSplit(t *testing.T) {
	const sizeMax = 10
	for n := range 45 {
		for _, end := range []bool{false, true} {
			var block []byte
			for i := range n {
				block = append(block, byte('a'+i%26))
			}
			b, at := beginHeaders([]byte("before"))
			b = endHeaders(append(b, block...), at, 9, end, sizeMax)
			if string(b[:6]) != "before" {
				t.Fatalf("what was before is %q", b[:6])
			}
			var got []byte
			frames, open := 0, uint32(0)
			for rest := b[6:]; len(rest) > 0; frames++ {
				h := parseHTTP2Head((*[http2HeadBytes]byte)(rest))
				if err := h.check(sizeMax, open); err != nil {
					t.Fatalf("%d octets, frame %d: %v", n, frames, err)
				}
				if frames == 0 && (h.kind != frameHeaders || h.endStream() != end) || h.stream != 9 {
					t.Errorf("%d octets, frame %d is %+v", n, frames, h)
				}
				got = append(got, rest[http2HeadBytes:][:h.length]...)
				rest = rest[http2HeadBytes+h.length:]
				if open = 9; h.endHeaders() != (len(rest) == 0) {
					t.Errorf("%d octets, frame %d is %+v, %d octets follow", n, frames, h, len(rest))
				}
			}
			if !bytes.Equal(got, block) || frames != max(1, (n+sizeMax-1)/sizeMax) {
				t.Errorf("%d octets became %q in %d frames", n, got, frames)
			}
		}
	}
}

func TestHTTP2Errors(t *testing.T) {
	err := connFault(codeFlowControl, ruleFrameIncrement)
	if want := "flare: HTTP/2 FLOW_CONTROL_ERROR: window increment of 0 (RFC 9113 §6.9)"; err.Error() != want {
		t.Errorf("error says %q, want %q", err, want)
	}
	for code, want := range map[http2Code]string{
		codeNone: "NO_ERROR", codeHTTP11Required: "HTTP_1_1_REQUIRED", 14: "code 0xe", 1<<32 - 1: "code 0xffffffff",
	} {
		if got := code.String(); got != want {
			t.Errorf("code %d is %q, want %q", uint32(code), got, want)
		}
	}
}

// RFC 9218 §4, and what RFC 9651 says of dictionaries: one fault and nothing of
// the value counts.
func TestStreamPriority(t *testing.T) {
	for _, test := range []struct {
		value string
		want  streamPriority
	}{
		{"", streamPriority{3, false}}, {"  ", streamPriority{3, false}},
		{"u=0", streamPriority{0, false}}, {"u=7, i", streamPriority{7, true}}, {"i,u=5", streamPriority{5, true}},
		{"u=1 \t,\t i=?1 ", streamPriority{1, true}}, {"u=1, i=?0", streamPriority{1, false}},
		{"u=8", streamPriority{3, false}}, {"u=-1", streamPriority{3, false}}, {"u=1.0", streamPriority{3, false}},
		{"u", streamPriority{3, false}}, {"u=x", streamPriority{3, false}}, {"i=1", streamPriority{3, false}},
		{"u=1, u=5", streamPriority{5, false}}, {"u=1, u=9", streamPriority{3, false}}, {"i, i=?0", streamPriority{3, false}},
		{"u=2;a;b=1;*c=\"x\", i;d", streamPriority{2, true}},
		{"x=(a \"b\";p=1 ?0 ), u=4", streamPriority{4, false}}, {"x=:aGk=:, y=@12, z=%\"a%c3%bc\", u=6", streamPriority{6, false}},
		{"a=*tok/en:x, b=\"q\\\"\\\\\", u=0", streamPriority{0, false}},
		// Not dictionaries.
		{"u=1,", streamPriority{3, false}}, {"u=1 i", streamPriority{3, false}}, {"u=1, ,i", streamPriority{3, false}},
		{",u=1", streamPriority{3, false}}, {"U=1", streamPriority{3, false}}, {"u=", streamPriority{3, false}},
		{"u=1, i=?2", streamPriority{3, false}}, {"u=1, x=\"a", streamPriority{3, false}}, {"u=1, x=(a", streamPriority{3, false}},
		{"u=1, x=(a,b)", streamPriority{3, false}}, {"u=1, x=:a:", streamPriority{3, false}}, {"u=1, x=:aGk=", streamPriority{3, false}},
		{"u=1, x=@1.5", streamPriority{3, false}}, {"u=1, x=1.2345", streamPriority{3, false}}, {"u=1, x=1.", streamPriority{3, false}},
		{"u=1, x=1234567890123456", streamPriority{3, false}}, {"u=1, x=-", streamPriority{3, false}},
		{"u=1, x=%\"%C3\"", streamPriority{3, false}}, {"u=1, x=\"\\x\"", streamPriority{3, false}}, {"u=1;", streamPriority{3, false}},
		{"\tu=1", streamPriority{3, false}}, {"u=1, \x80", streamPriority{3, false}}, {"u==1", streamPriority{3, false}},
	} {
		if got := parseStreamPriority([]byte(test.value)); got != test.want {
			t.Errorf("%q is %+v, want %+v", test.value, got, test.want)
		}
	}
}

// FuzzHTTP2Frame holds that no frame reads outside of itself, that what is sent
// back reads the same, and that faults are there with the head where they can be.
func FuzzHTTP2Frame(f *testing.F) {
	f.Add(http2Frame(frameData, 9, 1, "\x02abc\x00\x00"), uint32(0))
	f.Add(http2Frame(frameHeaders, 0x2d, 3, "\x01\x80\x00\x00\x01\x10abc\x00"), uint32(0))
	f.Add(http2Frame(frameContinuation, 4, 3, "abc"), uint32(3))
	f.Add(http2Frame(frameSettings, 0, 0, "\x00\x01\x00\x00\x00\x00\x00\x04\x7f\xff\xff\xff"), uint32(0))
	f.Add(http2Frame(frameGoAway, 0, 0, "\x00\x00\x00\x01\x00\x00\x00\x02debug"), uint32(0))
	f.Add(http2Frame(framePriorityUpdate, 0, 0, "\x00\x00\x00\x01u=2;x=(a b), i"), uint32(0))
	f.Add(http2Frame(frameWindowUpdate, 0, 1, "\x00\x00\x00\x00"), uint32(0))
	f.Fuzz(func(t *testing.T, in []byte, block uint32) {
		if len(in) < http2HeadBytes {
			return
		}
		h := parseHTTP2Head((*[http2HeadBytes]byte)(in))
		if int(h.length) > len(in)-http2HeadBytes {
			h.check(frameSizeDefault, block)
			return
		}
		in = in[: http2HeadBytes+h.length : http2HeadBytes+h.length]
		if b := appendHTTP2Head(nil, h); !bytes.Equal(b[:5], in[:5]) || !bytes.Equal(b[6:], in[6:9]) || b[5] != in[5]&0x7f {
			t.Errorf("head %x became %x", in[:9], b)
		}
		_, _, err := readFrame(in, frameSizeDefault, block, false)
		if err == nil {
			return
		}
		fault, ok := err.(*http2Error)
		if !ok || fault.code == codeNone || fault.rule == "" || fault.stream && h.stream == 0 {
			t.Errorf("%x: %#v", in, err)
		}
	})
}
