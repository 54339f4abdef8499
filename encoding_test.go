package flare

import (
	"bytes"
	"compress/flate"
	"compress/gzip"
	"compress/zlib"
	"errors"
	"fmt"
	"io"
	"math"
	"os/exec"
	"strings"
	"sync/atomic"
	"testing"
	"testing/iotest"
)

// codedWith compresses with the standard library, in a form by name.
func codedWith(t testing.TB, form string, content []byte) []byte {
	t.Helper()
	var b bytes.Buffer
	var w io.WriteCloser
	switch form {
	case "gzip":
		w = gzip.NewWriter(&b)
	case "zlib":
		w = zlib.NewWriter(&b)
	case "raw":
		w, _ = flate.NewWriter(&b, 6)
	}
	if _, err := w.Write(content); err != nil {
		t.Fatal(err)
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	return b.Bytes()
}

var codedForms = []struct{ form, coding string }{{"gzip", "gzip"}, {"zlib", "deflate"}, {"raw", "deflate"}}

func codedText() []byte {
	return []byte(strings.Repeat("Plain blocking Go at event-loop speed. ", 300))
}

func decoded(in []byte, coding string, limits DecodeLimits) ([]byte, error) {
	r, err := NewDecoder(bytes.NewReader(in), coding, limits)
	if err != nil {
		return nil, err
	}
	return io.ReadAll(r)
}

func TestDecode(t *testing.T) {
	text := codedText()
	gz := codedWith(t, "gzip", text)
	for _, c := range []struct {
		name, coding string
		in, want     []byte
	}{
		{"gzip", "gzip", gz, text},
		{"gzip, case and alias", " X-GZip ", gz, text},
		{"zlib", "deflate", codedWith(t, "zlib", text), text},
		{"raw deflate", "deflate", codedWith(t, "raw", text), text},
		{"raw deflate of one octet", "deflate", codedWith(t, "raw", []byte("x")), []byte("x")},
		{"identity", "identity", text, text},
		{"no coding", "", text, text},
		{"no coding, empty members", " , ", text, text},
		{"two codings", "deflate, gzip", codedWith(t, "gzip", codedWith(t, "zlib", text)), text},
		{"two members", "gzip", append(bytes.Clone(gz), gz...), append(bytes.Clone(text), text...)},
		{"empty member between two", "gzip", append(append(bytes.Clone(gz), codedWith(t, "gzip", nil)...), gz...), append(bytes.Clone(text), text...)},
		{"gzip of nothing", "gzip", codedWith(t, "gzip", nil), nil},
		{"zlib of nothing", "deflate", codedWith(t, "zlib", nil), nil},
		{"raw deflate of nothing", "deflate", codedWith(t, "raw", nil), nil},
		{"nothing as gzip", "gzip", nil, nil},
		{"nothing as deflate", "deflate", nil, nil},
	} {
		for name, r := range map[string]io.Reader{
			"whole": bytes.NewReader(c.in), "by octet": iotest.OneByteReader(bytes.NewReader(c.in)),
			"by half": iotest.HalfReader(bytes.NewReader(c.in)), "data with error": iotest.DataErrReader(bytes.NewReader(c.in)),
		} {
			d, err := NewDecoder(r, c.coding, DecodeLimits{})
			if err != nil {
				t.Fatalf("%s: %v", c.name, err)
			}
			got, err := io.ReadAll(d)
			if err != nil || !bytes.Equal(got, c.want) {
				t.Errorf("%s, %s: %d bytes, %v, want %d", c.name, name, len(got), err, len(c.want))
			}
			if _, err := d.Read(make([]byte, 1)); err != io.EOF {
				t.Errorf("%s, %s: at the end again: %v", c.name, name, err)
			}
		}
	}
}

// TestDecodeCut: a body that is cut anywhere is an error, never a short one.
func TestDecodeCut(t *testing.T) {
	for _, c := range codedForms {
		in := codedWith(t, c.form, []byte("hello, hello, hello"))
		for n := 1; n < len(in); n++ {
			got, err := decoded(in[:n], c.coding, DecodeLimits{})
			if !errors.Is(err, io.ErrUnexpectedEOF) {
				t.Errorf("%s cut at %d of %d: %q, %v", c.form, n, len(in), got, err)
			}
		}
		wrong := errors.New("the peer is gone")
		d, err := NewDecoder(io.MultiReader(bytes.NewReader(in[:len(in)-2]), iotest.ErrReader(wrong)), c.coding, DecodeLimits{})
		if err != nil {
			t.Fatal(err)
		}
		if _, err := io.ReadAll(d); err != wrong {
			t.Errorf("%s: %v, want the body's own error", c.form, err)
		}
	}
}

func TestDecodeMalformed(t *testing.T) {
	text := codedText()
	flip := func(p []byte, at int) []byte {
		p = bytes.Clone(p)
		if at < 0 {
			at += len(p)
		}
		p[at] ^= 0x55
		return p
	}
	behind := func(p []byte, s string) []byte { return append(bytes.Clone(p), s...) }
	gz, z, raw := codedWith(t, "gzip", text), codedWith(t, "zlib", text), codedWith(t, "raw", text)
	for name, c := range map[string]struct {
		coding string
		in     []byte
	}{
		"gzip magic":              {"gzip", flip(gz, 0)},
		"gzip method":             {"gzip", flip(gz, 2)},
		"gzip checksum":           {"gzip", flip(gz, -6)},
		"gzip length":             {"gzip", flip(gz, -2)},
		"gzip data":               {"gzip", flip(gz, 12)},
		"gzip, octets behind":     {"gzip", behind(gz, "garbage behind")},
		"gzip, zeros behind":      {"gzip", behind(gz, strings.Repeat("\x00", 512))},
		"gzip, an octet behind":   {"gzip", behind(gz, "x")},
		"gzip, nine behind":       {"gzip", behind(gz, "123456789")},
		"gzip, magic behind":      {"gzip", behind(gz, "\x1f\x8b\x07")},
		"gzip that is an octet":   {"gzip", []byte("x")},
		"gzip that is short":      {"gzip", []byte("short")},
		"gzip that is zlib":       {"gzip", z},
		"gzip that is text":       {"gzip", text},
		"zlib checksum":           {"deflate", flip(z, -1)},
		"zlib data":               {"deflate", flip(z, 4)},
		"zlib, octets behind":     {"deflate", behind(z, "x")},
		"zlib with a dictionary":  {"deflate", []byte{0x78, 0xbb, 0, 0, 0, 2, 3, 0}},
		"raw, octets behind":      {"deflate", behind(raw, "x")},
		"raw, a block of type 3":  {"deflate", []byte{7, 0}},
		"deflate that is gzip":    {"deflate", gz},
		"deflate that is text":    {"deflate", text},
		"two codings, inner junk": {"deflate, gzip", codedWith(t, "gzip", behind(z, "x"))},
	} {
		if got, err := decoded(c.in, c.coding, DecodeLimits{}); !errors.Is(err, ErrMalformed) {
			t.Errorf("%s: %d bytes, %v", name, len(got), err)
		}
	}
	for coding, want := range map[string]error{
		"br": ErrUnsupportedEncoding, "gzip;q=1": ErrUnsupportedEncoding, "gzip, zstd": ErrUnsupportedEncoding,
		"gzip, gzip, gzip": ErrTooLarge,
	} {
		if _, err := NewDecoder(bytes.NewReader(gz), coding, DecodeLimits{}); !errors.Is(err, want) {
			t.Errorf("%q: %v", coding, err)
		}
	}
}

func TestDecodeLimits(t *testing.T) {
	for _, c := range codedForms {
		for size := 98; size <= 102; size++ {
			content := bytes.Repeat([]byte("x"), size)
			got, err := decoded(codedWith(t, c.form, content), c.coding, DecodeLimits{MaxBytes: 100})
			if want := min(size, 100); len(got) != want || errors.Is(err, ErrTooLarge) != (size > 100) {
				t.Errorf("%s of %d: %d bytes, %v", c.form, size, len(got), err)
			}
		}
		zeros := make([]byte, 4<<20)
		bomb := codedWith(t, c.form, zeros)
		got, err := decoded(bomb, c.coding, DecodeLimits{})
		if !errors.Is(err, ErrTooLarge) || len(got) > decodedRatioFreeBytes {
			t.Errorf("%s bomb: %d bytes, %v", c.form, len(got), err)
		}
		for _, off := range []DecodeLimits{{MaxRatio: -1}, {MaxRatio: math.MaxInt64}, {MaxRatio: 2000, MaxBytes: -1}, {MaxRatio: -1, MaxBytes: math.MaxInt64}} {
			if got, err := decoded(bomb, c.coding, off); err != nil || !bytes.Equal(got, zeros) {
				t.Errorf("%s with %+v: %d bytes, %v", c.form, off, len(got), err)
			}
		}
		// A bomb in a bomb: the ratio is that of what was received.
		nested := codedWith(t, "gzip", bomb)
		if got, err := decoded(nested, c.coding+", gzip", DecodeLimits{MaxRatio: 1100}); !errors.Is(err, ErrTooLarge) {
			t.Errorf("%s in gzip: %d bytes, %v", c.form, len(got), err)
		}
	}
	if got, err := decoded(make([]byte, 5<<20), "identity", DecodeLimits{MaxRatio: 1}); err != nil || len(got) != 5<<20 {
		t.Errorf("identity: %d bytes, %v", len(got), err)
	}
}

// TestDecodeStream: what was flushed can be read before more arrives.
func TestDecodeStream(t *testing.T) {
	for _, coding := range []string{"gzip", "deflate"} {
		pr, pw := io.Pipe()
		d, err := NewDecoder(pr, coding, DecodeLimits{})
		if err != nil {
			t.Fatal(err)
		}
		next := make(chan string)
		ended := make(chan error, 1)
		go func() {
			e, err := NewEncoder(pw, coding, -1)
			for s := range next {
				if _, err = io.WriteString(e, s); err == nil {
					err = e.Flush()
				}
			}
			ended <- errors.Join(err, e.Close(), pw.Close())
		}()
		for _, want := range []string{"first", "second, longer", "x"} {
			next <- want
			got := make([]byte, len(want))
			if _, err := io.ReadFull(d, got); err != nil || string(got) != want {
				t.Fatalf("%s: %q, %v, want %q", coding, got, err, want)
			}
		}
		close(next)
		if rest, err := io.ReadAll(d); err != nil || len(rest) > 0 {
			t.Errorf("%s: at the end %q, %v", coding, rest, err)
		}
		if err := <-ended; err != nil {
			t.Error(err)
		}
	}
}

func TestDecodeClose(t *testing.T) {
	pr, pw := io.Pipe()
	d, err := NewDecoder(pr, "gzip", DecodeLimits{})
	if err != nil {
		t.Fatal(err)
	}
	if err := d.Close(); err != nil {
		t.Error(err)
	}
	if _, err := d.Read(make([]byte, 1)); err != ErrClosed {
		t.Error(err)
	}
	if _, err := pw.Write([]byte("x")); err != io.ErrClosedPipe {
		t.Error("the body is still open:", err)
	}
}

// An endlessGzip is members of gzip until it is closed.
type endlessGzip struct {
	member []byte
	closed atomic.Bool
}

func (g *endlessGzip) Read(p []byte) (int, error) {
	if g.closed.Load() {
		return 0, ErrClosed
	}
	if len(p) < len(g.member) {
		return 0, io.ErrShortBuffer
	}
	return copy(p, g.member), nil
}

func (g *endlessGzip) Close() error {
	g.closed.Store(true)
	return nil
}

// Who closes need not be who reads.
func TestDecodeCloseWhileReading(t *testing.T) {
	d, err := NewDecoder(&endlessGzip{member: codedWith(t, "gzip", []byte("abc"))}, "gzip", DecodeLimits{MaxBytes: -1, MaxRatio: -1})
	if err != nil {
		t.Fatal(err)
	}
	begun, read := make(chan struct{}), make(chan error)
	go func() {
		var err error
		for p, first := make([]byte, 3), true; err == nil; first = false {
			if _, err = d.Read(p); first {
				close(begun)
			}
		}
		read <- err
	}()
	<-begun
	d.Close()
	if err := <-read; !errors.Is(err, ErrClosed) {
		t.Error(err)
	}
}

func TestEncoder(t *testing.T) {
	text := codedText()
	for _, coding := range []string{"gzip", "deflate"} {
		for level := -2; level <= 9; level++ {
			for range 2 { // the second one is from the pool
				var b bytes.Buffer
				e, err := NewEncoder(&b, coding, level)
				if err != nil {
					t.Fatal(err)
				}
				for i := 0; i < len(text); i += 1000 {
					if _, err := e.Write(text[i:min(i+1000, len(text))]); err != nil {
						t.Fatal(err)
					}
				}
				if err := errors.Join(e.Close(), e.Close()); err != nil {
					t.Fatal(err)
				}
				if _, err := e.Write(text); err != ErrClosed || e.Flush() != ErrClosed {
					t.Errorf("%s: used after Close: %v", coding, err)
				}
				if got, err := decoded(b.Bytes(), coding, DecodeLimits{}); err != nil || !bytes.Equal(got, text) || level != 0 && b.Len() >= len(text) {
					t.Errorf("%s at level %d: %d bytes of %d, %v", coding, level, len(got), b.Len(), err)
				}
			}
		}
	}
	for _, c := range []struct {
		coding string
		level  int
	}{{"br", 1}, {"", 1}, {"gzip", 10}, {"gzip", -3}} {
		if _, err := NewEncoder(io.Discard, c.coding, c.level); err != ErrUnsupportedEncoding {
			t.Errorf("%q %d: %v", c.coding, c.level, err)
		}
	}
}

// TestCodingsOfPython reads what Python's zlib has written, and the other way.
func TestCodingsOfPython(t *testing.T) {
	t.Parallel()
	python, err := exec.LookPath("python3")
	if err != nil {
		t.Skip("no python3 to exchange coded bodies with")
	}
	run := func(program string, in []byte) []byte {
		cmd := exec.Command(python, "-c", "import sys,gzip,zlib\nb=sys.stdin.buffer.read()\nsys.stdout.buffer.write("+program+")")
		cmd.Stdin = bytes.NewReader(in)
		out, err := cmd.Output()
		if err != nil {
			t.Fatalf("%s: %v", program, err)
		}
		return out
	}
	text := codedText()
	for _, c := range []struct{ coding, encode, decode string }{
		{"gzip", "gzip.compress(b)+gzip.compress(b'')", "gzip.decompress(b)"},
		{"deflate", "zlib.compress(b)", "zlib.decompress(b)"},
		{"deflate", "(lambda c: c.compress(b)+c.flush())(zlib.compressobj(9,zlib.DEFLATED,-15))", "zlib.decompress(b)"},
	} {
		if got, err := decoded(run(c.encode, text), c.coding, DecodeLimits{}); err != nil || !bytes.Equal(got, text) {
			t.Errorf("%s: %d bytes, %v", c.encode, len(got), err)
		}
		var b bytes.Buffer
		e, err := NewEncoder(&b, c.coding, 6)
		if err != nil {
			t.Fatal(err)
		}
		e.Write(text[:999])
		e.Flush()
		e.Write(text[999:])
		if err := e.Close(); err != nil {
			t.Fatal(err)
		}
		if got := run(c.decode, b.Bytes()); !bytes.Equal(got, text) {
			t.Errorf("%s: %d bytes", c.decode, len(got))
		}
	}
}

func TestNegotiateEncoding(t *testing.T) {
	for _, c := range []struct {
		accept string // "|" between fields; "-" for none
		want   string
	}{
		{"-", ""}, {"", ""}, {"gzip", "gzip"}, {"GZIP", "gzip"}, {"x-gzip", "gzip"}, {"deflate", "deflate"},
		{"gzip, deflate, br", "gzip"}, {"deflate, gzip", "gzip"}, {"br", ""}, {"gzip;q=0", ""}, {"gzip;q=0.000", ""},
		{"gzip;q=0.5, deflate", "deflate"}, {"gzip;q=0.5, deflate;q=0.5", "gzip"}, {"gzip ; Q=1.000", "gzip"},
		{"*", "gzip"}, {"*;q=0", ""}, {"*;q=0, gzip;q=0.1", "gzip"}, {"gzip;q=0, *", "deflate"}, {"*, gzip;q=0, deflate;q=0", ""},
		{"identity", ""}, {"identity, gzip;q=0.5", ""}, {"identity;q=0.5, gzip", "gzip"}, {"identity;q=0.5, gzip;q=0.5", "gzip"},
		{"identity;q=0, br", ""}, {"deflate|gzip", "gzip"}, {"gzip;q=0.2|deflate;q=0.3", "deflate"},
		{"gzip;q=0.001", "gzip"}, {"gzip;q=1.1", ""}, {"gzip;q=1.001", ""}, {"gzip;q=2", ""}, {"gzip;q=0.0001", ""}, {"gzip;q=-1", ""},
		{"gzip;q=", ""}, {"gzip;q=a", ""}, {"gzip;q=0.a", ""}, {"gzip;q=0.", ""}, {"gzip;x=1", ""}, {"gzip q=1", ""}, {",,gzip,,", "gzip"}, {"gzipx", ""},
	} {
		var fields []string
		if c.accept != "-" {
			fields = strings.Split(c.accept, "|")
		}
		if got := NegotiateEncoding(fields, "gzip", "deflate"); got != c.want {
			t.Errorf("%q: %q, want %q", c.accept, got, c.want)
		}
	}
	fields := []string{"gzip;q=0.8, deflate, br;q=0.1, *;q=0"}
	if n := testing.AllocsPerRun(100, func() { NegotiateEncoding(fields, "gzip", "deflate") }); n != 0 {
		t.Errorf("%v allocations", n)
	}
}

func FuzzDecode(f *testing.F) {
	text := []byte("hello, hello, hello")
	for _, c := range codedForms {
		f.Add(codedWith(f, c.form, text), c.coding)
	}
	f.Add(codedWith(f, "gzip", codedWith(f, "raw", text)), "deflate,gzip")
	f.Fuzz(func(t *testing.T, in []byte, coding string) {
		limits := DecodeLimits{MaxBytes: 1 << 20}
		whole, err := decoded(in, coding, limits)
		if len(whole) > 1<<20 {
			t.Fatalf("%d bytes", len(whole))
		}
		r, err2 := NewDecoder(iotest.OneByteReader(bytes.NewReader(in)), coding, limits)
		if err2 != nil {
			if err == nil || err.Error() != err2.Error() {
				t.Fatalf("%v and %v", err, err2)
			}
			return
		}
		steps, err2 := io.ReadAll(r)
		if !bytes.Equal(whole, steps) || (err == nil) != (err2 == nil) || err != nil && err.Error() != err2.Error() {
			t.Fatalf("whole %d bytes, %v; by octet %d bytes, %v", len(whole), err, len(steps), err2)
		}
	})
}

// An Encoder that is used again writes to its new writer alone, and one that is
// closed holds on to none.
func TestEncoderReuse(t *testing.T) {
	for _, coding := range []string{codingGzip, codingDeflate} {
		var first, second bytes.Buffer
		for i, to := range []*bytes.Buffer{&first, &second} {
			e, err := NewEncoder(to, coding, 4)
			if err != nil {
				t.Fatal(err)
			}
			p := e.p
			fmt.Fprintf(e, "text %d, %s", i, strings.Repeat("again ", 100))
			if err := e.Close(); err != nil || p.to != nil {
				t.Errorf("%s: closed with %v, and holds on to %v", coding, err, p.to)
			}
			if _, err := e.Write([]byte("late")); err != ErrClosed {
				t.Errorf("%s: a write after Close: %v", coding, err)
			}
			if err := e.Close(); err != nil {
				t.Errorf("%s: a second Close: %v", coding, err)
			}
		}
		for i, from := range []*bytes.Buffer{&first, &second} {
			d, err := NewDecoder(from, coding, DecodeLimits{})
			if err != nil {
				t.Fatal(err)
			}
			got, err := io.ReadAll(d)
			if want := fmt.Sprintf("text %d, %s", i, strings.Repeat("again ", 100)); err != nil || string(got) != want {
				t.Errorf("%s: text %d is %q, %v", coding, i, got, err)
			}
		}
	}
}
