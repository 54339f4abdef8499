package flare

import (
	"bytes"
	"compress/flate"
	"fmt"
	"strings"
	"testing"
)

// deflated compresses p as a sender does.
func deflated(z *deflater, p []byte) []byte {
	out, _ := z.deflate(getBuffer(0), p)
	return out.b
}

func TestDeflateRoundTrip(t *testing.T) {
	messages := [][]byte{
		nil, []byte("Hello"), []byte("Hello"), bytes.Repeat([]byte("abc"), 50_000), wsRandom(70_000),
		[]byte(strings.Repeat("{\"id\":17,\"name\":\"x\"},", 3000)), {0}, wsRandom(31),
	}
	for _, takeover := range []bool{false, true} {
		for _, window := range []int{0, 256, 512, 1 << 14} {
			if takeover && window != 0 {
				continue // never agreed on together
			}
			z, r := &deflater{takeover: takeover, windowBytes: window}, &inflater{takeover: takeover}
			for i, m := range messages {
				got, rule := r.inflate(deflated(z, m), 1<<20)
				if rule != "" || !bytes.Equal(got.b, m) {
					t.Fatalf("takeover %v, window %d, message %d: %q, %d bytes of %d", takeover, window, i, rule, len(got.b), len(m))
				}
			}
			if !takeover && (r.window != nil || z.fw != nil) {
				t.Error("memory is kept without context takeover")
			}
			if takeover && (len(r.window) > flateWindowBytes || cap(r.window) > 2*flateWindowBytes) {
				t.Errorf("the window has %d bytes of %d", len(r.window), cap(r.window))
			}
		}
	}
}

// With takeover the second of two like messages is all but gone; without, both
// are the same.
func TestDeflateTakeover(t *testing.T) {
	m := wsRandom(2000)
	z := &deflater{takeover: true}
	first, second := len(deflated(z, m)), len(deflated(z, m))
	if second > first/10 {
		t.Errorf("with takeover %d bytes, then %d", first, second)
	}
	z = new(deflater)
	if a, b := deflated(z, m), deflated(z, m); !bytes.Equal(a, b) {
		t.Error("without takeover the same message differs")
	}
}

// A window of 2^bits is kept: a decoder that knows no more finds everything.
func TestDeflateWindow(t *testing.T) {
	block := wsRandom(300)
	m := bytes.Repeat(block, 10) // repeats lie 300 back, outside of 256
	small := deflated(&deflater{windowBytes: 256}, m)
	if len(small) < len(m) {
		t.Errorf("%d bytes became %d: a reference goes further back than 256", len(m), len(small))
	}
	if large := deflated(&deflater{windowBytes: 1024}, m); len(large) >= len(m) {
		t.Errorf("%d bytes became %d with a window that has the repeat", len(m), len(large))
	}
}

func TestDeflateSmaller(t *testing.T) {
	if _, smaller := new(deflater).deflate(getBuffer(0), wsRandom(1000)); smaller {
		t.Error("noise became smaller")
	}
	out := getBuffer(0)
	out.b = append(out.b, "head"...)
	out, smaller := new(deflater).deflate(out, bytes.Repeat([]byte("a"), 1000))
	if !smaller || string(out.b[:4]) != "head" || len(out.b) > 30 {
		t.Errorf("%v, %q", smaller, out.b)
	}
}

// The examples of RFC 7692 §7.2.3.
func TestInflateExamples(t *testing.T) {
	for name, message := range map[string]string{
		"one block":               "\xf2\x48\xcd\xc9\xc9\x07\x00",
		"no compression":          "\x00\x05\x00\xfa\xff\x48\x65\x6c\x6c\x6f\x00",
		"final block":             "\xf3\x48\xcd\xc9\xc9\x07\x00\x00",
		"two blocks":              "\xf2\x48\x05\x00\x00\x00\xff\xff\xca\xc9\xc9\x07\x00",
		"final block, bare":       "\xf3\x48\xcd\xc9\xc9\x07\x00",
		"final block, then other": "\xf3\x48\x05\x00\xca\xc9\xc9\x07\x00",
	} {
		got, rule := new(inflater).inflate([]byte(message), 100)
		if rule != "" || string(got.b) != "Hello" {
			t.Errorf("%s: %q, %q", name, got.b, rule)
		}
	}
	z := &inflater{takeover: true}
	for _, message := range []string{"\xf2\x48\xcd\xc9\xc9\x07\x00", "\xf2\x00\x11\x00\x00", "\xf2\x00\x11\x00\x00"} {
		if got, rule := z.inflate([]byte(message), 100); rule != "" || string(got.b) != "Hello" {
			t.Errorf("sliding window: %q, %q", got.b, rule)
		}
	}
}

func TestInflateRefuses(t *testing.T) {
	bomb := func(n int) []byte {
		var b bytes.Buffer
		w, _ := flate.NewWriter(&b, flate.BestCompression)
		w.Write(make([]byte, n))
		w.Flush()
		return b.Bytes()[:b.Len()-4]
	}
	big := bomb(16 << 20)
	if ratio := 16 << 20 / len(big); ratio < 1000 {
		t.Fatalf("a bomb of 1:%d only", ratio)
	}
	cases := []struct {
		name     string
		message  []byte
		bytesMax int64
		rule     string
	}{
		{"bomb", big, 1 << 20, ruleMessageMax},
		{"equal rows below a high limit", big, 64 << 20, ""},
		{"equal rows at the limit", big, 16 << 20, ""},
		{"equal rows without a limit", big, -1, ""},
		{"at the limit", bomb(1 << 20), 1 << 20, ""},
		{"one byte over", bomb(1<<20 + 1), 1 << 20, ruleMessageMax},
		{"no block of that type", []byte("\x07"), 100, ruleMessageFlate},
		{"stored length wrong", []byte("\x00\x05\x00\x00\x00hello"), 100, ruleMessageFlate},
		{"reference before the beginning", []byte("\xf2\x00\x11\x00\x00"), 100, ruleMessageFlate},
		{"a few streams", bytes.Repeat([]byte("\x03\x00"), inflateStreamsFree), 100, ""},
		{"streams without end", bytes.Repeat([]byte("\x03\x00"), 1<<19), 100, ruleMessageStreams},
		{"cut short", []byte("\xf2\x48\xcd"), 100, ruleMessageFlate},
	}
	for _, c := range cases {
		out, rule := new(inflater).inflate(c.message, c.bytesMax)
		if rule != c.rule {
			t.Errorf("%s: %q, want %q", c.name, rule, c.rule)
		}
		if c.rule != "" && cap(out.b) > 4<<20 {
			t.Errorf("%s: %d bytes held", c.name, cap(out.b))
		}
	}
}

// Compressed messages through the reader: fragments, controls between them, and
// text that is validated once inflated.
func TestMessageReaderCompressed(t *testing.T) {
	body := deflated(new(deflater), []byte(strings.Repeat("κόσμε ", 100)))
	bad := deflated(new(deflater), []byte(strings.Repeat("a", 100)+"\xff"))
	noise := deflated(new(deflater), wsRandom(1000))
	cases := []struct {
		name   string
		frames []string
		want   string
	}{
		{"whole", []string{"\xc1" + string(body)}, fmt.Sprintf("text %q\n", strings.Repeat("κόσμε ", 100))},
		{"fragments", []string{"\x41" + string(body[:5]), "\x89x", "\x00" + string(body[5:9]), "\x80" + string(body[9:])},
			"ping \"x\"\n" + fmt.Sprintf("text %q\n", strings.Repeat("κόσμε ", 100))},
		{"empty last fragment", []string{"\x41" + string(body), "\x80"}, fmt.Sprintf("text %q\n", strings.Repeat("κόσμε ", 100))},
		{"not compressed", []string{"\x81a"}, "text \"a\"\n"},
		{"noise at the limit", []string{"\xc2" + string(noise)}, fmt.Sprintf("binary %q\n", wsRandom(1000))},
		{"not UTF-8", []string{"\xc1" + string(bad)}, "failed 1007 " + ruleMessageUTF8 + "\n"},
		{"not DEFLATE", []string{"\xc1\x07"}, "failed 1007 " + ruleMessageFlate + "\n"},
		{"over the limit", []string{"\xc1" + string(deflated(new(deflater), make([]byte, 1001)))}, "failed 1009 " + ruleMessageMax + "\n"},
		{"RSV1 on a continuation", []string{"\x41" + string(body), "\xc0"}, "failed 1002 " + ruleFrameRSV + "\n"},
		{"RSV1 on a ping inside", []string{"\x41" + string(body[:5]), "\xc9x"}, "failed 1002 " + ruleFrameRSV + "\n"},
		{"RSV1 on a close", []string{"\xc8"}, "failed 1002 " + ruleFrameRSV + "\n"},
	}
	for _, c := range cases {
		var in []byte
		for _, f := range c.frames {
			in = append(in, wsFrame(f[0], f[1:], true)...)
		}
		everyCut(in, func(how string, cuts ...int) {
			for _, pieces := range []bool{false, true} {
				r := &messageReader{rules: frameRules{masked: true, rsv: frameRSV1}, bytesMax: 1000, inflater: new(inflater), pieces: pieces}
				if c.name == "whole" || strings.Contains(c.name, "fragment") {
					r.bytesMax = 1100
				}
				if got := wsEvents(r, bytes.Clone(in), cuts...); got != c.want {
					t.Fatalf("%s, %s, pieces %v: %s; want %s", c.name, how, pieces, got, c.want)
				}
			}
		})
	}
}

// fuzzDeflateMax bounds the inputs of these targets: what there is to find is in
// how blocks and messages meet, and a long input costs more than it shows.
const fuzzDeflateMax = 1 << 10

func FuzzInflate(f *testing.F) {
	f.Add([]byte("\xf2\x48\xcd\xc9\xc9\x07\x00"))
	f.Add([]byte("\xf3\x48\x05\x00\xca\xc9\xc9\x07\x00"))
	f.Fuzz(func(t *testing.T, message []byte) {
		const bound = 1 << 14
		message = message[:min(len(message), fuzzDeflateMax)]
		for _, takeover := range []bool{false, true} {
			z := &inflater{takeover: takeover}
			var first string
			for i := range 2 {
				out, rule := z.inflate(message, bound)
				if rule == "" && len(out.b) > bound {
					t.Fatalf("%d bytes came out", len(out.b))
				}
				if text := rule + string(out.b); i == 0 {
					first = text
				} else if !takeover && text != first {
					t.Fatalf("%q, and again %q", first, text)
				}
				out.release()
			}
		}
	})
}

// FuzzDeflate holds that what was compressed comes back, message after message.
func FuzzDeflate(f *testing.F) {
	f.Add([]byte("x"))
	f.Add(bytes.Repeat([]byte("ab"), 300))
	// A worker calls its target for one input at a time. A flate.Writer is large,
	// so each has one for all of them.
	taking := &deflater{takeover: true}
	f.Fuzz(func(t *testing.T, plain []byte) {
		plain = plain[:min(len(plain), fuzzDeflateMax)]
		if taking.fw != nil {
			taking.fw.Reset(&taking.out)
		}
		for _, d := range []*deflater{{windowBytes: 256}, taking} {
			r := &inflater{takeover: d.takeover}
			for range 2 {
				out, rule := r.inflate(deflated(d, plain), -1)
				if rule != "" || !bytes.Equal(out.b, plain) {
					t.Fatalf("%q came back as %q, %q", plain, out.b, rule)
				}
				out.release()
			}
		}
	})
}

func BenchmarkDeflate(b *testing.B) {
	m := []byte(strings.Repeat("{\"id\":17,\"name\":\"flare\",\"tags\":[1,2,3]},", 25))
	for _, takeover := range []bool{false, true} {
		b.Run(fmt.Sprintf("takeover=%v", takeover), func(b *testing.B) {
			z := &deflater{takeover: takeover}
			b.SetBytes(int64(len(m)))
			b.ReportAllocs()
			for b.Loop() {
				out, _ := z.deflate(getBuffer(len(m)), m)
				out.release()
			}
		})
	}
}
