package flare

// This file holds flare's wire format of HTTP/2 beside golang.org/x/net's: HPACK in both directions,
// and the frames. It is compiled with the files of flare that have the wire format, from which it
// uses what is not exported; bench/http2_test.go does that and says how to fuzz.

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"strings"
	"testing"

	"golang.org/x/net/http2"
	"golang.org/x/net/http2/hpack"
)

var xnetLimits = headLimits{uriBytes: 64 << 10, headerBytes: 64 << 10, headers: 1000}

// randomFields are fields of which some repeat, with all kinds of octets.
func randomFields(random *rand.Rand) (fields [][2]string) {
	names := []string{":status", ":path", "server", "date", "content-type", "cookie", "authorization", "x-request-id", "x"}
	for range random.IntN(12) {
		value := []string{"200", "/", "a", "text/html; charset=utf-8", "", strings.Repeat("long", 200)}[random.IntN(6)]
		if random.IntN(3) == 0 {
			octets := make([]byte, random.IntN(60))
			for i := range octets {
				octets[i] = byte(random.IntN(256))
			}
			value = string(octets)
		}
		fields = append(fields, [2]string{names[random.IntN(len(names))], value})
	}
	return fields
}

// What flare encodes x/net decodes, and marks as sensitive what flare does not index.
func TestXNetDecodes(t *testing.T) {
	random := rand.New(rand.NewPCG(1, 2))
	var e hpackEncoder
	e.reset()
	var got []hpack.HeaderField
	d := hpack.NewDecoder(4096, func(f hpack.HeaderField) { got = append(got, f) })
	for block := range 5000 {
		if random.IntN(20) == 0 {
			least, size := uint32(random.IntN(3000)), uint32(random.IntN(3000))
			e.resize(min(least, size), size)
			d.SetAllowedMaxDynamicTableSize(size)
		}
		fields := randomFields(random)
		b := e.begin(nil)
		for _, f := range fields {
			b = e.appendField(b, f[0], f[1])
		}
		got = got[:0]
		if _, err := d.Write(b); err != nil {
			t.Fatalf("block %d: %v", block, err)
		}
		if err := d.Close(); err != nil {
			t.Fatalf("block %d: %v", block, err)
		}
		if len(got) != len(fields) {
			t.Fatalf("block %d: %d fields became %d", block, len(fields), len(got))
		}
		for i, f := range fields {
			sensitive := f[0] == "cookie" || f[0] == "authorization"
			if got[i].Name != f[0] || got[i].Value != f[1] || got[i].Sensitive != sensitive {
				t.Fatalf("block %d: %q became %+v", block, f, got[i])
			}
		}
	}
}

// What x/net encodes flare decodes.
func TestXNetEncodes(t *testing.T) {
	random := rand.New(rand.NewPCG(3, 4))
	var b bytes.Buffer
	e := hpack.NewEncoder(&b)
	var d hpackDecoder
	d.reset()
	var s fieldSection
	for block := range 5000 {
		if random.IntN(20) == 0 {
			size := uint32(random.IntN(5000))
			e.SetMaxDynamicTableSizeLimit(size)
			d.setLimit(size)
		}
		fields := randomFields(random)
		b.Reset()
		for _, f := range fields {
			if err := e.WriteField(hpack.HeaderField{Name: f[0], Value: f[1], Sensitive: random.IntN(4) == 0}); err != nil {
				t.Fatal(err)
			}
		}
		if len(fields) == 0 { // then x/net has nothing that a size update could precede
			continue
		}
		s.reset(&xnetLimits)
		if err := d.decode(&s, b.Bytes(), true); err != nil {
			t.Fatalf("block %d: %v", block, err)
		}
		if len(s.fields) != len(fields) {
			t.Fatalf("block %d: %d fields became %d", block, len(fields), len(s.fields))
		}
		for i := range s.fields {
			f := s.field(i)
			if name, value := string(s.octets[f.name:f.nameEnd]), string(s.octets[f.value:f.valueEnd]); name != fields[i][0] || value != fields[i][1] {
				t.Fatalf("block %d: %q became %q: %q", block, fields[i], name, value)
			}
		}
	}
}

// FuzzXNetHPACK holds that a block is decoded by both or by none, and to the same fields.
func FuzzXNetHPACK(f *testing.F) {
	f.Add([]byte("\x82\x86\x84\x41\x8c\xf1\xe3\xc2\xe5\xf2\x3a\x6b\xa0\xab\x90\xf4\xff"))
	f.Add([]byte("\x3f\xe1\x1f\x20\x40\x01a\x01b\xbe\xbf"))
	f.Add([]byte("\x41\x81\xff\x0f\x80\x80\x80\x00\x00"))
	f.Fuzz(func(t *testing.T, block []byte) {
		var theirs []string
		xd := hpack.NewDecoder(4096, func(f hpack.HeaderField) { theirs = append(theirs, f.Name+": "+f.Value) })
		_, xerr := xd.Write(block)
		if xerr == nil {
			xerr = xd.Close()
		}
		var d hpackDecoder
		d.reset()
		var s fieldSection
		s.reset(&xnetLimits)
		err := d.decode(&s, block, true)
		var fault *http2Error
		switch {
		case s.cut:
			return
		case errors.As(err, &fault) && (fault.rule == ruleHPACKResizeAt || fault.rule == ruleHPACKInteger || fault.rule == ruleHPACKEncoded):
			return // flare is stricter: two updates, integers of 28 bits
		case (err == nil) != (xerr == nil):
			t.Fatalf("%x: flare says %v, x/net %v", block, err, xerr)
		case err != nil:
			return
		}
		var ours []string
		for i := range s.fields {
			f := s.field(i)
			ours = append(ours, string(s.octets[f.name:f.nameEnd])+": "+string(s.octets[f.value:f.valueEnd]))
		}
		if strings.Join(ours, "\n") != strings.Join(theirs, "\n") {
			t.Errorf("%x: flare has %q, x/net %q", block, ours, theirs)
		}
	})
}

// oursOf reads a frame, and says what x/net would say of it.
func oursOf(in []byte, block *uint32) (text string, n int, err error) {
	h := parseHTTP2Head((*[http2HeadBytes]byte)(in))
	if err := h.check(frameSizeDefault, *block); err != nil {
		return "", 0, err
	}
	if len(in) < http2HeadBytes+int(h.length) {
		return "", 0, io.ErrUnexpectedEOF
	}
	p := in[http2HeadBytes:][:h.length]
	if h.kind == frameHeaders || h.kind == frameContinuation {
		if *block = h.stream; h.endHeaders() {
			*block = 0
		}
	}
	switch h.kind {
	case frameData:
		p, err = h.parseData(p)
		text = fmt.Sprintf("%q %t", p, h.endStream())
	case frameHeaders:
		p, err = h.parseHeaders(p)
		text = fmt.Sprintf("%q %t %t", p, h.endStream(), h.endHeaders())
	case framePriority:
		err = h.parsePriority(p)
	case frameRSTStream:
		text = fmt.Sprint(uint32(parseRSTStream(p)))
	case frameSettings:
		s := defaultHTTP2Settings
		err = s.apply(p, false)
		text = fmt.Sprintf("%d %t", len(p), h.ack())
	case framePing:
		text = fmt.Sprintf("%q %t", p, h.ack())
	case frameGoAway:
		last, code, debug := parseGoAway(p)
		text = fmt.Sprintf("%d %d %q", last, uint32(code), debug)
	case frameWindowUpdate:
		var increment uint32
		increment, err = h.parseWindowUpdate(p)
		text = fmt.Sprint(increment)
	case frameContinuation:
		text = fmt.Sprintf("%q %t", p, h.endHeaders())
	case framePriorityUpdate:
		var stream uint32
		stream, _, err = parsePriorityUpdate(p)
		text = fmt.Sprint(stream)
	default:
		text = fmt.Sprintf("%q", p)
	}
	return fmt.Sprintf("%d on %d: %s", h.kind, h.stream, text), http2HeadBytes + int(h.length), err
}

func theirsOf(frame http2.Frame) (text string) {
	switch f := frame.(type) {
	case *http2.DataFrame:
		text = fmt.Sprintf("%q %t", f.Data(), f.StreamEnded())
	case *http2.HeadersFrame:
		text = fmt.Sprintf("%q %t %t", f.HeaderBlockFragment(), f.StreamEnded(), f.HeadersEnded())
	case *http2.RSTStreamFrame:
		text = fmt.Sprint(uint32(f.ErrCode))
	case *http2.SettingsFrame:
		text = fmt.Sprintf("%d %t", f.Length, f.IsAck())
	case *http2.PingFrame:
		text = fmt.Sprintf("%q %t", f.Data[:], f.IsAck())
	case *http2.GoAwayFrame:
		text = fmt.Sprintf("%d %d %q", f.LastStreamID, uint32(f.ErrCode), f.DebugData())
	case *http2.WindowUpdateFrame:
		text = fmt.Sprint(f.Increment)
	case *http2.ContinuationFrame:
		text = fmt.Sprintf("%q %t", f.HeaderBlockFragment(), f.HeadersEnded())
	case *http2.PriorityUpdateFrame:
		text = fmt.Sprint(f.PrioritizedStreamID)
	case *http2.UnknownFrame:
		text = fmt.Sprintf("%q", f.Payload())
	}
	return fmt.Sprintf("%d on %d: %s", frame.Header().Type, frame.Header().StreamID, text)
}

// xnetLeaves are rules that x/net's Framer does not look at: its server or nobody does.
var xnetLeaves = []string{
	ruleFramePush, ruleFrameDependsSelf, ruleSettingPush, ruleSettingWindow, ruleSettingFrameSize, ruleSettingConnect, ruleSettingNoOrder,
}

// FuzzXNetFramer holds that both read the same frames out of the same octets, up to the first fault,
// and find that at the same frame with the same code.
func FuzzXNetFramer(f *testing.F) {
	seed := appendSettings(nil, http2Setting{settingWindow, 1})
	b, at := beginHeaders(seed)
	seed = endHeaders(append(b, "\x82\x86\x84\x41\x01a"...), at, 1, false, 2)
	seed = appendWindowUpdate(appendData(seed, 1, []byte("hello"), true), 0, 5)
	f.Add(appendGoAway(appendRSTStream(appendHTTP2Ping(seed, [8]byte{1}, true), 3, codeCancel), 1, codeNone))
	f.Add([]byte("\x00\x00\x08\x01\x2d\x00\x00\x00\x03\x01\x80\x00\x00\x01\x10a\x00\x00\x00\x00\x09\x04\x00\x00\x00\x03"))
	f.Add([]byte("\x00\x00\x04\x08\x00\x00\x00\x00\x01\x00\x00\x00\x00"))
	f.Add([]byte("\x00\x00\x07\x10\x00\x00\x00\x00\x00\x00\x00\x00\x01u=2"))
	f.Fuzz(func(t *testing.T, in []byte) {
		framer := http2.NewFramer(io.Discard, bytes.NewReader(in))
		framer.SetMaxReadFrameSize(frameSizeDefault)
		for block := uint32(0); len(in) >= http2HeadBytes; {
			ours, n, err := oursOf(in, &block)
			frame, xerr := framer.ReadFrame()
			var fault *http2Error
			if errors.As(err, &fault) {
				for _, rule := range xnetLeaves {
					if fault.rule == rule {
						return
					}
				}
			}
			if (err == nil) != (xerr == nil) {
				t.Fatalf("%x: flare says %v, x/net %v", in, err, xerr)
			}
			if err != nil {
				checkCode(t, in, fault, xerr)
				return
			}
			if theirs := theirsOf(frame); ours != theirs {
				t.Fatalf("%x: flare has %s, x/net %s", in, ours, theirs)
			}
			in = in[n:]
		}
	})
}

// checkCode compares the codes of two errors, where both can only mean the same fault: a frame on the
// wrong stream may have a wrong length as well, and x/net looks at that first.
func checkCode(t *testing.T, in []byte, fault *http2Error, xerr error) {
	var code http2.ErrCode
	var conn http2.ConnectionError
	var stream http2.StreamError
	switch {
	case fault == nil || errors.Is(xerr, io.ErrUnexpectedEOF) || errors.Is(xerr, io.EOF):
		return // the octets end
	case errors.Is(xerr, http2.ErrFrameTooLarge):
		code = http2.ErrCodeFrameSize
	case errors.As(xerr, &conn):
		code = http2.ErrCode(conn)
	case errors.As(xerr, &stream):
		code = stream.Code
	default:
		return // a connection error whose code x/net does not show
	}
	switch fault.rule {
	case ruleFrameInBlock, ruleFrameStreamZero, ruleFrameStreamOther, ruleFrameShort:
		return
	}
	if http2.ErrCode(fault.code) != code {
		t.Errorf("%x: flare says %v, x/net %v", in, fault, xerr)
	}
}
