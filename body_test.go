package flare

import (
	"bytes"
	"errors"
	"fmt"
	"strings"
	"testing"
)

// decodeChunkedCut gives d the input in the pieces between the cuts. The
// outcome has the data, how many octets were consumed, and the trailer.
func decodeChunkedCut(d *chunkedDecoder, in []byte, lim *headLimits, cuts ...int) headOutcome {
	d.reset(lim)
	var body []byte
	at := 0
	for _, cut := range append(cuts, len(in)) {
		for at < cut {
			b := bytes.Clone(in[at:cut])
			data, n, done, err := d.decode(b)
			if err != nil {
				return refusedHead(err)
			}
			body = append(body, data...)
			at += n
			clear(b)
			if done {
				return headOutcome{n: at, text: fmt.Sprintf("%q %q", body, d.trailer.appendTo(nil))}
			}
			if len(data) == 0 && n != len(b) {
				return headOutcome{text: "stopped with octets left"}
			}
		}
	}
	return headOutcome{}
}

func TestChunkedDecoder(t *testing.T) {
	const rest = "GET / HTTP/1.1\r\n"
	last := func(ext string) string { return "0" + ext + "\r\n\r\n" }
	manyExtensions := strings.Repeat("1;"+strings.Repeat("a", 1023)+"\r\nx\r\n", 16)
	more := strings.Repeat("y", 24) // with manyExtensions' 16 pays for 5
	for _, test := range []struct {
		name, in string
		status   int
		body     string
		trailer  string
	}{
		{"no data", "0\r\n\r\n", 0, "", ""},
		{"one chunk", "5\r\nhello\r\n0\r\n\r\n", 0, "hello", ""},
		{"two chunks", "5\r\nhello\r\n7\r\n, world\r\n0\r\n\r\n", 0, "hello, world", ""},
		{"hex in both cases", "A\r\n0123456789\r\nb\r\n0123456789a\r\n0\r\n\r\n", 0, "01234567890123456789a", ""},
		{"data that looks like framing", "5\r\n\r\n0\r\n\r\n0\r\n\r\n", 0, "\r\n0\r\n", ""},
		{"several zeros at the end", "000\r\n\r\n", 0, "", ""},
		{"16 digits", "0000000000000001\r\nx\r\n0\r\n\r\n", 0, "x", ""},
		{"17 digits", "00000000000000001\r\nx\r\n0\r\n\r\n", 400, "", ""},
		{"overflow", "8000000000000000\r\n", 400, "", ""},
		{"overflow of 64 bits", "FFFFFFFFFFFFFFFF\r\n", 400, "", ""},
		{"plus", "+5\r\nhello\r\n0\r\n\r\n", 400, "", ""},
		{"minus", "-5\r\nhello\r\n0\r\n\r\n", 400, "", ""},
		{"0x", "0x5\r\nhello\r\n0\r\n\r\n", 400, "", ""},
		{"underscore", "1_0\r\n", 400, "", ""},
		{"space before the size", " 5\r\nhello\r\n0\r\n\r\n", 400, "", ""},
		{"space behind the size", "5 \r\nhello\r\n0\r\n\r\n", 400, "", ""},
		{"space within the size", "1 0\r\n", 400, "", ""},
		{"empty size", "\r\nhello\r\n0\r\n\r\n", 400, "", ""},
		{"extension without a size", ";a\r\n", 400, "", ""},
		{"size that is no number", "g\r\n", 400, "", ""},
		{"NUL in the size", "5\x00\r\n", 400, "", ""},
		{"bare LF behind the size", "5\nhello\r\n0\r\n\r\n", 400, "", ""},
		{"bare CR behind the size", "5\rhello\r\n0\r\n\r\n", 400, "", ""},
		{"two CRs behind the size", "5\r\r\nhello\r\n0\r\n\r\n", 400, "", ""},
		{"bare LF behind the data", "5\r\nhello\n0\r\n\r\n", 400, "", ""},
		{"bare CR behind the data", "5\r\nhello\r0\r\n\r\n", 400, "", ""},
		{"data too long", "5\r\nhello!\r\n0\r\n\r\n", 400, "", ""},
		{"data too short", "6\r\nhello\r\n0\r\n\r\n", 400, "", ""},
		{"data without an end", "5\r\nhello0\r\n\r\n", 400, "", ""},

		{"extension", "1;a\r\nx\r\n" + last(";b"), 0, "x", ""},
		{"extension with a token", last(";a=b"), 0, "", ""},
		{"extension with a string", last(`;a="b; \" \\ ` + "\t\xc3\xa9" + `";c`), 0, "", ""},
		{"extensions with white space", last(" ;\ta = b\t; c ; d=\"\" ;e"), 0, "", ""},
		{"extension without a name", last(";"), 400, "", ""},
		{"extension with a value alone", last(";=b"), 400, "", ""},
		{"extension without its value", last(";a="), 400, "", ""},
		{"extension with white space at its end", last(";a "), 400, "", ""},
		{"extension with white space behind its value", last(";a=b "), 400, "", ""},
		{"extension with two names", last(";a b"), 400, "", ""},
		{"extension with two values", last(";a=b c"), 400, "", ""},
		{"extension with two equals", last(";a=b=c"), 400, "", ""},
		{"extension that is not a token", last(";a(b"), 400, "", ""},
		{"extension with a string without end", last(`;a="b`), 400, "", ""},
		{"extension with octets behind its string", last(`;a="b"c`), 400, "", ""},
		{"extension with a control", last(";a=\"\x01\""), 400, "", ""},
		{"extension with a control, escaped", last(";a=\"\\\x01\""), 400, "", ""},
		{"extension with a bare LF in a string", last(";a=\"\n\""), 400, "", ""},
		{"extension with a bare LF at its end", "0;a\n\r\n", 400, "", ""},
		{"extension with a bare CR in a string", last(";a=\"\r\""), 400, "", ""},
		{"extension at the limit of a line", last(";" + strings.Repeat("a", 1023)), 0, "", ""},
		{"extension over the limit of a line", last(";" + strings.Repeat("a", 1024)), 413, "", ""},
		{"extensions at the limit of a body", manyExtensions + last(";a"), 0, strings.Repeat("x", 16), ""},
		{"extensions over the limit of a body", manyExtensions + last(";ab"), 413, "", ""},
		{"extensions that data pays for", manyExtensions + "18\r\n" + more + "\r\n" + last(";abcd"), 0, strings.Repeat("x", 16) + more, ""},
		{"extensions that data does not pay for", manyExtensions + "18\r\n" + more + "\r\n" + last(";abcde"), 413, "", ""},
		{"extensions that later data would pay for", manyExtensions + "18;ab\r\n" + more + "\r\n" + last(""), 413, "", ""},

		{"trailer", "0\r\nA: b\r\nC-D:  e f\t\r\n\r\n", 0, "", "A: b\r\nC-D: e f\r\n"},
		{"trailer that frames, routes or authenticates",
			"0\r\ncontent-LENGTH: -1\r\nHost: /\r\nAuthorization: a\r\nDigest: b\r\nTransfer-Encoding: gzip\r\n\r\n",
			0, "", "Digest: b\r\n"},
		{"trailer with a bare LF", "0\r\nA: b\n\r\n", 400, "", ""},
		{"trailer with a bare LF at its end", "0\r\nA: b\r\n\n", 400, "", ""},
		{"bare LF for the empty line", "0\r\n\n", 400, "", ""},
		{"trailer with a bare CR", "0\r\nA: b\rc\r\n\r\n", 400, "", ""},
		{"trailer with a bare CR at its end", "0\r\n\rX", 400, "", ""},
		{"trailer with a space before the colon", "0\r\nA : b\r\n\r\n", 400, "", ""},
		{"trailer with a fold", "0\r\nA: b\r\n c\r\n\r\n", 400, "", ""},
		{"trailer without a colon", "0\r\nGET / HTTP/1.1\r\n\r\n", 400, "", ""},
		{"trailer with a NUL", "0\r\nA: \x00\r\n\r\n", 400, "", ""},
		{"trailer at the limit of fields", "0\r\n" + strings.Repeat("A: b\r\n", 5) + "\r\n", 0, "", strings.Repeat("A: b\r\n", 5)},
		{"trailer over the limit of fields", "0\r\n" + strings.Repeat("A: b\r\n", 6) + "\r\n", 431, "", ""},
		{"trailer at the limit of octets", "0\r\nA: " + strings.Repeat("b", 251) + "\r\n\r\n", 0, "", "A: " + strings.Repeat("b", 251) + "\r\n"},
		{"trailer over the limit of octets", "0\r\nA: " + strings.Repeat("b", 252) + "\r\n\r\n", 431, "", ""},
		{"trailer without end over the limit of octets", "0\r\nA: " + strings.Repeat("b", 500), 431, "", ""},
		{"fault before the limit of octets", "0\r\nA: \x00" + strings.Repeat("b", 500), 400, "", ""},
	} {
		t.Run(test.name, func(t *testing.T) {
			in := test.in
			if test.status == 0 {
				in += rest
			}
			var d chunkedDecoder
			got := checkSplits(t, []byte(in), func(cuts ...int) headOutcome {
				return decodeChunkedCut(&d, []byte(in), &testLimits, cuts...)
			})
			if got.status != test.status {
				t.Fatalf("status %d, want %d", got.status, test.status)
			}
			if want := fmt.Sprintf("%q %q", test.body, test.trailer); test.status == 0 && got.text != want {
				t.Errorf("got %s, want %s", got.text, want)
			}
			if test.status == 0 && got.n != len(test.in) {
				t.Errorf("consumed %d octets, want %d", got.n, len(test.in))
			}
		})
	}
}

// TestChunkExtensionsGrowWithData holds that a client may sign each chunk of a
// body of any length, as AWS's do, and that tiny chunks still end somewhere.
func TestChunkExtensionsGrowWithData(t *testing.T) {
	for _, test := range []struct {
		name   string
		size   int // of a chunk
		ext    string
		chunks int // sent
		taken  int // before the fault; -1: all of them
	}{
		{"signed chunks of 64 KiB", 64 << 10, ";chunk-signature=" + strings.Repeat("0f", 32), 3000, -1},
		{"signed chunks of 1 KiB", 1 << 10, ";chunk-signature=" + strings.Repeat("0f", 32), 3000, -1},
		{"chunks of one octet", 1, ";a", 10_000, 8738},
		{"chunks of one octet with long extensions", 1, ";a=" + strings.Repeat("b", 1000), 100, 16},
		{"chunks that pay for nothing", 7, ";" + strings.Repeat("a", 1023), 100, 16},
	} {
		t.Run(test.name, func(t *testing.T) {
			chunk := fmt.Appendf(nil, "%x%s\r\n%s\r\n", test.size, test.ext, strings.Repeat("x", test.size))
			var d chunkedDecoder
			d.reset(&testLimits)
			for i := range test.chunks {
				for b := chunk; len(b) > 0; {
					_, n, _, err := d.decode(b)
					if err != nil {
						var parse *ParseError
						if i != test.taken || !errors.As(err, &parse) || parse.Status != 413 || parse.Rule != ruleExtensionMax {
							t.Errorf("chunk %d: %v, want it at %d", i, err, test.taken)
						}
						return
					}
					b = b[n:]
				}
			}
			if test.taken >= 0 {
				t.Errorf("all taken, want a fault at chunk %d", test.taken)
			}
		})
	}
}

// TestChunkedDecoderErrors holds that the offset counts from the first octet of
// the coding, in whatever pieces it came, and which errors there are.
func TestChunkedDecoderErrors(t *testing.T) {
	for _, test := range []struct {
		in     string
		offset int
		is     error
	}{
		{"5\r\nhello\r\nx", 10, ErrMalformed},
		{"5\r\nhelloX", 8, ErrMalformed},
		{"0\r\nA: b\r\nC\x00", 10, ErrMalformed},
		{"0;" + strings.Repeat("a", 2000), 1025, ErrTooLarge},
	} {
		for _, cuts := range [][]int{nil, everyOctet(len(test.in))} {
			var d chunkedDecoder
			if got := decodeChunkedCut(&d, []byte(test.in), &testLimits, cuts...); got.offset != test.offset {
				t.Errorf("%.40q: offset %d, want %d", test.in, got.offset, test.offset)
			}
		}
		var d chunkedDecoder
		d.reset(&testLimits)
		var err error
		for b := []byte(test.in); err == nil; {
			var n int
			_, n, _, err = d.decode(b)
			b = b[n:]
		}
		if !errors.Is(err, test.is) {
			t.Errorf("%.40q: %v, want %v", test.in, err, test.is)
		}
	}
}

// TestChunkedDecoderData holds that data is handed out where it lies.
func TestChunkedDecoderData(t *testing.T) {
	var d chunkedDecoder
	d.reset(&testLimits)
	b := []byte("5\r\nhello\r\n0\r\n\r\nrest")
	data, n, done, err := d.decode(b)
	if string(data) != "hello" || &data[0] != &b[3] || cap(data) != 5 || n != 8 || done || err != nil {
		t.Fatalf("first %q %d %t %v", data, n, done, err)
	}
	data, n, done, err = d.decode(b[n:])
	if len(data) != 0 || n != 7 || !done || err != nil {
		t.Fatalf("then %q %d %t %v", data, n, done, err)
	}
	if data, n, done, err = d.decode([]byte("rest")); len(data) != 0 || n != 0 || !done || err != nil {
		t.Fatalf("done %q %d %t %v", data, n, done, err)
	}
}

// TestChunkedDecoderReset holds that nothing of one body is left for the next:
// no trailer, and no memory beyond the usual.
func TestChunkedDecoderReset(t *testing.T) {
	var d chunkedDecoder
	in := "0\r\n" + strings.Repeat("A: "+strings.Repeat("b", 1000)+"\r\n", 5) + "\r\n"
	if got := decodeChunkedCut(&d, []byte(in), &benchLimits); got.n != len(in) || d.trailer.Len() != 5 {
		t.Fatalf("%+v, %d trailer fields", got, d.trailer.Len())
	}
	d.reset(&benchLimits)
	if d.trailer.Len() != 0 || cap(d.lines) > trailerBytesKept {
		t.Errorf("%d trailer fields and room for %d octets left", d.trailer.Len(), cap(d.lines))
	}
	if got := decodeChunkedCut(&d, []byte("1\r\nx\r\n0\r\n\r\n"), &benchLimits); got.text != `"x" ""` {
		t.Errorf("second body %+v", got)
	}
}

func TestChunkedDecoderAllocations(t *testing.T) {
	in := []byte("5;a=b\r\nhello\r\n7\r\n, world\r\n0\r\n\r\n")
	var d chunkedDecoder
	if n := testing.AllocsPerRun(100, func() {
		d.reset(&benchLimits)
		for b := in; ; {
			_, n, done, err := d.decode(b)
			if err != nil {
				t.Fatal(err)
			}
			if b = b[n:]; done {
				return
			}
		}
	}); n != 0 {
		t.Errorf("%v allocations, want none", n)
	}
}
