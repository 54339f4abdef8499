package flare

import (
	"bytes"
	"errors"
	"fmt"
	"math/rand/v2"
	"strings"
	"testing"
)

const wsTestKey = 0x9f3c51a7

// wsFrame returns one frame; first has FIN, RSV and the opcode.
func wsFrame(first byte, payload string, masked bool) []byte {
	b := appendFrameHead(nil, first, len(payload), masked, wsTestKey)
	n := len(b)
	b = append(b, payload...)
	if masked {
		maskWord(b[n:], wsTestKey)
	}
	return b
}

// wsEvents renders what a reader makes of in, which arrives cut at the given
// places. Bytes that were not used are given again, as a connection does.
func wsEvents(r *messageReader, in []byte, cuts ...int) string {
	var b strings.Builder
	var held []byte
	var piece []byte
	for from, i := 0, 0; i <= len(cuts); i++ {
		to := len(in)
		if i < len(cuts) {
			to = cuts[i]
		}
		held = append(held, in[from:to]...)
		from = to
		for {
			n, ev, err := r.next(held)
			held = held[n:]
			switch ev {
			case eventMessage:
				fmt.Fprintf(&b, "%v %q\n", r.kind, r.data)
			case eventPiece:
				piece = append(piece, r.data...)
				if r.last {
					fmt.Fprintf(&b, "%v %q\n", r.kind, piece)
					piece = piece[:0]
				}
			case eventPing:
				fmt.Fprintf(&b, "ping %q\n", r.data)
			case eventPong:
				fmt.Fprintf(&b, "pong %q\n", r.data)
			case eventClose:
				fmt.Fprintf(&b, "close %d %q\n", r.code, r.data)
			}
			if err != nil {
				e := err.(*webSocketError)
				fmt.Fprintf(&b, "failed %d %s\n", e.code, e.rule)
				r.release()
				return b.String()
			}
			if ev == eventNone {
				break
			}
		}
	}
	r.release()
	return b.String()
}

// everyCut gives in whole, octet by octet, and cut at every position.
func everyCut(in []byte, f func(how string, cuts ...int)) {
	f("whole")
	all := make([]int, 0, len(in))
	for i := 1; i < len(in); i++ {
		all = append(all, i)
	}
	f("octet by octet", all...)
	if len(in) > 2000 {
		return
	}
	for i := range in {
		f(fmt.Sprintf("cut at %d", i), i)
	}
}

func TestMessageReader(t *testing.T) {
	type frames []string // first octet, then payload
	long := strings.Repeat("0123456789", 30)
	cases := []struct {
		name   string
		frames frames
		want   string
	}{
		{"text", frames{"\x81hello"}, "text \"hello\"\n"},
		{"empty", frames{"\x81", "\x82"}, "text \"\"\nbinary \"\"\n"},
		{"binary", frames{"\x82\x00\xff"}, "binary \"\\x00\\xff\"\n"},
		{"fragments", frames{"\x01one ", "\x00two ", "\x80three"}, "text \"one two three\"\n"},
		{"empty fragments", frames{"\x01", "\x00", "\x80"}, "text \"\"\n"},
		{"empty last fragment", frames{"\x02one", "\x80"}, "binary \"one\"\n"},
		{"empty first fragment", frames{"\x02", "\x80two"}, "binary \"two\"\n"},
		{"ping inside", frames{"\x01one ", "\x89p", "\x80two"}, "ping \"p\"\ntext \"one two\"\n"},
		{"pong", frames{"\x8a", "\x8ax"}, "pong \"\"\npong \"x\"\n"},
		{"character across fragments", frames{"\x01\xce", "\x89", "\x80\xba"}, "ping \"\"\ntext \"κ\"\n"},
		{"long", frames{"\x82" + long}, "binary \"" + long + "\"\n"},
		{"close", frames{"\x88"}, "close 1005 \"\"\n"},
		{"close with code", frames{"\x88\x03\xe8"}, "close 1000 \"\"\n"},
		{"close with reason", frames{"\x88\x0f\xa0bye κ"}, "close 4000 \"bye κ\"\n"},
		{"message, then close", frames{"\x81a", "\x88\x03\xe9"}, "text \"a\"\nclose 1001 \"\"\n"},

		{"continuation of nothing", frames{"\x80a"}, "failed 1002 " + ruleFrameContinues + "\n"},
		{"continuation after the end", frames{"\x81a", "\x00b"}, "text \"a\"\nfailed 1002 " + ruleFrameContinues + "\n"},
		{"message inside of another", frames{"\x01a", "\x81b"}, "failed 1002 " + ruleFrameInterrupts + "\n"},
		{"RSV1 without extension", frames{"\xc1a"}, "failed 1002 " + ruleFrameRSV + "\n"},
		{"opcode 3", frames{"\x83a"}, "failed 1002 " + ruleFrameOpcode + "\n"},
		{"frame after close", frames{"\x88", "\x89"}, "close 1005 \"\"\nfailed 1002 " + ruleAfterClose + "\n"},
		{"close of one byte", frames{"\x88\x03"}, "failed 1002 " + ruleCloseShort + "\n"},
		{"close 999", frames{"\x88\x03\xe7"}, "failed 1002 " + ruleCloseCode + "\n"},
		{"close 1005", frames{"\x88\x03\xed"}, "failed 1002 " + ruleCloseCode + "\n"},
		{"close 1006", frames{"\x88\x03\xee"}, "failed 1002 " + ruleCloseCode + "\n"},
		{"close 1015", frames{"\x88\x03\xf7"}, "failed 1002 " + ruleCloseCode + "\n"},
		{"close 5000", frames{"\x88\x13\x88"}, "failed 1002 " + ruleCloseCode + "\n"},
		{"close reason not UTF-8", frames{"\x88\x03\xe8\xff"}, "failed 1007 " + ruleCloseUTF8 + "\n"},
		{"close reason cut short", frames{"\x88\x03\xe8\xce"}, "failed 1007 " + ruleCloseUTF8 + "\n"},
		{"text not UTF-8", frames{"\x81\xce\xba\xff"}, "failed 1007 " + ruleMessageUTF8 + "\n"},
		{"text cut short", frames{"\x81\xce\xba\xce"}, "failed 1007 " + ruleMessageUTF8 + "\n"},
		{"wrong in the second fragment", frames{"\x01\xce", "\x80\xce"}, "failed 1007 " + ruleMessageUTF8 + "\n"},
		{"fragments cut short", frames{"\x01a", "\x80\xce"}, "failed 1007 " + ruleMessageUTF8 + "\n"},
		{"over the limit", frames{"\x82" + long + "x"}, "failed 1009 " + ruleMessageMax + "\n"},
		{"sum over the limit", frames{"\x02" + long, "\x80x"}, "failed 1009 " + ruleMessageMax + "\n"},
		{"sum at the limit", frames{"\x02" + long[1:], "\x80x"}, "binary \"" + long[1:] + "x\"\n"},
		{"limit is of a message", frames{"\x82" + long, "\x82" + long}, strings.Repeat("binary \""+long+"\"\n", 2)},
	}
	for _, masked := range []bool{true, false} {
		for _, c := range cases {
			var in []byte
			for _, f := range c.frames {
				in = append(in, wsFrame(f[0], f[1:], masked)...)
			}
			everyCut(in, func(how string, cuts ...int) {
				for _, pieces := range []bool{false, true} {
					r := &messageReader{rules: frameRules{masked: masked}, bytesMax: int64(len(long)), pieces: pieces}
					if got := wsEvents(r, bytes.Clone(in), cuts...); got != c.want {
						t.Fatalf("%s, masked %v, pieces %v, %s: %s; want %s", c.name, masked, pieces, how, got, c.want)
					}
				}
			})
		}
	}
}

// Text is refused at its first wrong octet, before the frame has ended.
func TestMessageReaderFailsEarly(t *testing.T) {
	in := wsFrame(0x81, "κόσμε\xf4\x90 and much more", true)
	at := bytes.Index(in, wsFrame(0x81, "κόσμε", true)[6:]) + len("κόσμε") + 1
	r := &messageReader{rules: frameRules{masked: true}, bytesMax: -1}
	if got := wsEvents(r, bytes.Clone(in[:at])); got != "" {
		t.Fatalf("before the wrong octet: %s", got)
	}
	r = &messageReader{rules: frameRules{masked: true}, bytesMax: -1}
	if got, want := wsEvents(r, bytes.Clone(in[:at+1]), at), "failed 1007 "+ruleMessageUTF8+"\n"; got != want {
		t.Fatalf("at the wrong octet: %q, want %q", got, want)
	}
}

// What was declared is refused with the head, and nothing is kept for it.
func TestMessageReaderDeclared(t *testing.T) {
	for _, length := range []uint64{1<<20 + 1, 1 << 32, 1<<63 - 1} {
		r := &messageReader{bytesMax: 1 << 20}
		_, _, err := r.next(wsFrameHead(0x82, length, false, 0))
		if !errors.Is(err, ErrTooLarge) || err.(*webSocketError).code != CloseMessageTooBig {
			t.Errorf("%d bytes declared: %v", length, err)
		}
		// With no limit only what has arrived is kept.
		r = &messageReader{bytesMax: -1}
		r.next(append(wsFrameHead(0x82, length, false, 0), "abc"...))
		if r.msg == nil || cap(r.msg.b) > bufferBytesMin {
			t.Errorf("%d bytes declared, 3 sent: the buffer has %d", length, cap(r.msg.b))
		}
		r.release()
	}
}

// A message that arrives whole is neither copied nor allocated for.
func TestMessageReaderNoCopy(t *testing.T) {
	in := wsFrame(0x81, "hello, world", false)
	r := &messageReader{bytesMax: 1 << 20}
	allocs := testing.AllocsPerRun(100, func() {
		n, ev, err := r.next(in)
		if n != len(in) || ev != eventMessage || err != nil || &r.data[0] != &in[2] {
			t.Fatalf("%d, %d, %v", n, ev, err)
		}
	})
	if allocs != 0 {
		t.Errorf("%v allocations", allocs)
	}
}

// Memory of a message of many parts goes back to the pool.
func TestMessageReaderRecycles(t *testing.T) {
	r := &messageReader{bytesMax: 1 << 20}
	first := append(wsFrame(0x01, "one", false), wsFrame(0x80, "two", false)...)
	if n, ev, _ := r.next(first); n != len(first) || ev != eventMessage || string(r.data) != "onetwo" {
		t.Fatalf("%d, %d, %q", n, ev, r.data)
	}
	if n, ev, _ := r.next(nil); n != 0 || ev != eventNone || r.msg != nil || r.data != nil {
		t.Error("the message is still held after the next call")
	}
}

// FuzzMessageReader holds any cut of any input to what it gives whole.
func FuzzMessageReader(f *testing.F) {
	var seed []byte
	for _, fr := range []string{"\x01one \xce", "\x89ping", "\x80\xbatwo", "\x82\x00\x01", "\x88\x03\xe8bye"} {
		seed = append(seed, wsFrame(fr[0], fr[1:], true)...)
	}
	f.Add(seed, uint16(7), true, true)
	f.Add(wsFrame(0xc1, "\xf2\x48\xcd\xc9\xc9\x07\x00", false), uint16(4), false, true)
	f.Add([]byte("\x82\x7f\x00\x00\x00\x01\x00\x00\x00\x00"), uint16(3), false, false)
	f.Fuzz(func(t *testing.T, in []byte, cut uint16, masked, flated bool) {
		reader := func(pieces bool) *messageReader {
			r := &messageReader{rules: frameRules{masked: masked}, bytesMax: 1 << 12, pieces: pieces}
			if flated {
				r.rules.rsv, r.inflater = frameRSV1, new(inflater)
			}
			return r
		}
		whole := wsEvents(reader(false), bytes.Clone(in))
		at := 0
		if len(in) > 0 {
			at = int(cut) % len(in)
		}
		if got := wsEvents(reader(false), bytes.Clone(in), at); got != whole {
			t.Fatalf("cut at %d: %s; whole: %s", at, got, whole)
		}
		if got := wsEvents(reader(true), bytes.Clone(in), at); got != whole {
			t.Fatalf("in pieces: %s; whole: %s", got, whole)
		}
		if len(in) < 256 {
			everyCut(in, func(how string, cuts ...int) {
				if len(cuts) > 1 {
					if got := wsEvents(reader(false), bytes.Clone(in), cuts...); got != whole {
						t.Fatalf("%s: %s; whole: %s", how, got, whole)
					}
				}
			})
		}
	})
}

func BenchmarkMessageReader(b *testing.B) {
	for _, size := range []int{32, 1 << 10, 64 << 10} {
		b.Run(fmt.Sprint(size), func(b *testing.B) {
			frame := wsFrame(0x81, strings.Repeat("a", size), true)
			in := bytes.Clone(frame)
			r := &messageReader{rules: frameRules{masked: true}, bytesMax: -1}
			b.SetBytes(int64(size))
			for b.Loop() {
				copy(in, frame)
				if _, ev, _ := r.next(in); ev != eventMessage {
					b.Fatal(ev)
				}
			}
		})
	}
}

// wsRandom returns bytes that do not compress.
func wsRandom(n int) []byte {
	rng := rand.NewChaCha8([32]byte{1})
	p := make([]byte, n)
	rng.Read(p)
	return p
}
