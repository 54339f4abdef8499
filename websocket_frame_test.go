package flare

import (
	"bytes"
	"encoding/binary"
	"errors"
	"math"
	"testing"
)

func TestFrameHead(t *testing.T) {
	cases := []struct {
		name string
		in   string
		want frameHead
		n    int
		rule string
		at   int
	}{
		{"text", "\x81\x05", frameHead{op: opText, fin: true, length: 5}, 2, "", 0},
		{"first fragment", "\x02\x00", frameHead{op: opBinary}, 2, "", 0},
		{"compressed", "\xc1\x01", frameHead{op: opText, fin: true, rsv: frameRSV1, length: 1}, 2, "", 0},
		{"two octets of length", "\x82\x7e\x01\x00", frameHead{op: opBinary, fin: true, length: 256}, 4, "", 0},
		{"shortest of two octets", "\x82\x7e\x00\x7e", frameHead{op: opBinary, fin: true, length: 126}, 4, "", 0},
		{"eight octets of length", "\x82\x7f\x00\x00\x00\x00\x00\x01\x00\x00", frameHead{op: opBinary, fin: true, length: 65536}, 10, "", 0},
		{"longest", "\x82\x7f\x7f\xff\xff\xff\xff\xff\xff\xff", frameHead{op: opBinary, fin: true, length: math.MaxInt64}, 10, "", 0},
		{"longest control", "\x89\x7d", frameHead{op: opPing, fin: true, length: 125}, 2, "", 0},
		{"RSV2", "\xa1\x00", frameHead{}, 0, ruleFrameRSV, 0},
		{"RSV3", "\x91\x00", frameHead{}, 0, ruleFrameRSV, 0},
		{"RSV1 on a continuation", "\xc0\x00", frameHead{}, 0, ruleFrameRSV, 0},
		{"RSV1 on a ping", "\xc9\x00", frameHead{}, 0, ruleFrameRSV, 0},
		{"opcode 3", "\x83\x00", frameHead{}, 0, ruleFrameOpcode, 0},
		{"opcode 7", "\x87\x00", frameHead{}, 0, ruleFrameOpcode, 0},
		{"opcode 11", "\x8b\x00", frameHead{}, 0, ruleFrameOpcode, 0},
		{"opcode 15", "\x8f\x00", frameHead{}, 0, ruleFrameOpcode, 0},
		{"fragmented ping", "\x09\x00", frameHead{}, 0, ruleFrameControlFin, 0},
		{"fragmented close", "\x08\x00", frameHead{}, 0, ruleFrameControlFin, 0},
		{"long ping", "\x89\x7e", frameHead{}, 0, ruleFrameControlLen, 1},
		{"longer ping", "\x89\x7f", frameHead{}, 0, ruleFrameControlLen, 1},
		{"masked by a server", "\x81\x80", frameHead{}, 0, ruleFrameMasked, 1},
		{"125 in two octets", "\x82\x7e\x00\x7d", frameHead{}, 0, ruleFrameLenMinimal, 3},
		{"65535 in eight octets", "\x82\x7f\x00\x00\x00\x00\x00\x00\xff\xff", frameHead{}, 0, ruleFrameLenMinimal, 9},
		{"top bit", "\x82\x7f\x80", frameHead{}, 0, ruleFrameLenTop, 2},
	}
	rules := frameRules{rsv: frameRSV1}
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			// Octet by octet: more is asked for until the head is whole, and a
			// fault is found at the octet that shows it.
			for i := range len(c.in) {
				var h frameHead
				n, rule, at := h.parse([]byte(c.in[:i+1]), rules)
				switch {
				case c.rule != "" && i >= c.at:
					if n != 0 || rule != c.rule || at != c.at {
						t.Fatalf("after %d octets: %d, %q at %d; want %q at %d", i+1, n, rule, at, c.rule, c.at)
					}
				case i+1 < len(c.in):
					if n != 0 || rule != "" {
						t.Fatalf("after %d octets: %d, %q; want more asked for", i+1, n, rule)
					}
				default:
					if n != c.n || rule != "" || h != c.want {
						t.Fatalf("%d, %q, %+v; want %d, %+v", n, rule, h, c.n, c.want)
					}
				}
			}
		})
	}
}

func TestFrameHeadUnmaskedClient(t *testing.T) {
	var h frameHead
	if n, rule, at := h.parse([]byte("\x81\x05"), frameRules{masked: true}); n != 0 || rule != ruleFrameMaskMissing || at != 1 {
		t.Fatalf("%d, %q at %d", n, rule, at)
	}
}

// wsFrameHead is appendFrameHead for a length that an int of 32 bits does not hold.
func wsFrameHead(first byte, n uint64, masked bool, key uint32) []byte {
	b := []byte{first, 127}
	if masked {
		b[1] |= 0x80
	}
	b = binary.BigEndian.AppendUint64(b, n)
	if masked {
		b = binary.LittleEndian.AppendUint32(b, key)
	}
	return b
}

// What is appended is read back, in the shortest form.
func TestFrameHeadRoundTrip(t *testing.T) {
	for _, length := range []int{0, 1, 125, 126, 127, 65535, 65536, math.MaxInt32, math.MaxInt} {
		for _, masked := range []bool{false, true} {
			b := appendFrameHead([]byte("x"), frameFin|byte(opBinary), length, masked, 0x04030201)[1:]
			var h frameHead
			n, rule, _ := h.parse(b, frameRules{masked: masked})
			if n != len(b) || rule != "" || h.length != uint64(length) || !h.fin || h.op != opBinary {
				t.Fatalf("length %d, masked %v: %x gives %d, %q, %+v", length, masked, b, n, rule, h)
			}
			if masked && (h.key != 0x04030201 || !bytes.HasSuffix(b, []byte{1, 2, 3, 4})) {
				t.Fatalf("key %x in %x", h.key, b)
			}
			if n > frameHeadBytesMax {
				t.Fatalf("%d octets", n)
			}
		}
	}
}

func TestCloseCodesSendable(t *testing.T) {
	for code := range 1 << 16 {
		want := code >= 1000 && code <= 1003 || code >= 1007 && code <= 1014 || code >= 3000 && code <= 4999
		if got := CloseCode(code).sendable(); got != want {
			t.Fatalf("%d: %v", code, got)
		}
	}
}

func TestWebSocketErrorUnwraps(t *testing.T) {
	var err error = &webSocketError{code: CloseMessageTooBig, offset: 7, rule: ruleMessageMax}
	if !errors.Is(err, ErrTooLarge) || errors.Is(err, ErrMalformed) {
		t.Error("1009 is not ErrTooLarge alone")
	}
	err = &webSocketError{code: CloseProtocolError, offset: 7, rule: ruleFrameRSV}
	if !errors.Is(err, ErrMalformed) || errors.Is(err, ErrTooLarge) {
		t.Error("1002 is not ErrMalformed alone")
	}
	if want := "flare: WebSocket byte 7: " + ruleFrameRSV; err.Error() != want {
		t.Errorf("%q", err)
	}
}

func FuzzFrameHead(f *testing.F) {
	for _, seed := range []string{"\x81\x05", "\x82\xfe\x01\x00abcd", "\x82\x7f\x00\x00\x00\x00\x00\x01\x00\x00", "\x89\x7e", "\xc1\x00", ""} {
		f.Add([]byte(seed), true, true)
		f.Add([]byte(seed), false, false)
	}
	f.Fuzz(func(t *testing.T, in []byte, masked, rsv1 bool) {
		rules := frameRules{masked: masked}
		if rsv1 {
			rules.rsv = frameRSV1
		}
		var whole frameHead
		n, rule, at := whole.parse(in, rules)
		if n > len(in) || n > frameHeadBytesMax || rule != "" && (n != 0 || at >= len(in)) {
			t.Fatalf("%d of %d, %q at %d", n, len(in), rule, at)
		}
		for i := range in {
			var h frameHead
			m, r, a := h.parse(in[:i], rules)
			switch {
			case n > 0 && i < n && (m != 0 || r != ""), n > 0 && i >= n && (m != n || h != whole):
				t.Fatalf("cut at %d: %d, %q; whole %d", i, m, r, n)
			case rule != "" && i > at && (r != rule || a != at), rule != "" && i <= at && (m != 0 || r != ""):
				t.Fatalf("cut at %d: %d, %q at %d; whole %q at %d", i, m, r, a, rule, at)
			}
		}
		if n == 0 {
			return
		}
		again := appendFrameHead(nil, in[0], int(whole.length), whole.masked, whole.key)
		if whole.length <= math.MaxInt32 && !bytes.Equal(again, in[:n]) {
			t.Fatalf("%x appended as %x", in[:n], again)
		}
	})
}
