package flare

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"strings"
	"testing"
	"testing/iotest"
	"time"
)

// linesOf reads all lines, the last one with a mark if it has no end.
func linesOf(r io.Reader, bytesMax int) (lines []string, err error) {
	l := NewLineReader(r, bytesMax)
	for {
		line, err := l.ReadLine()
		switch {
		case err == io.EOF:
			return lines, nil
		case errors.Is(err, io.ErrUnexpectedEOF):
			lines = append(lines, string(line)+"$")
		case err != nil:
			return lines, err
		default:
			lines = append(lines, string(line))
		}
	}
}

var lineTests = []struct {
	in   string
	want []string
}{
	{"", nil},
	{"\n", []string{""}},
	{"\r", []string{""}},
	{"\r\n", []string{""}},
	{"\n\r", []string{"", ""}},
	{"\r\r\n\n", []string{"", "", ""}},
	{"a", []string{"a$"}},
	{"a\nb\n", []string{"a", "b"}},
	{"a\rb\r", []string{"a", "b"}},
	{"a\r\nb\r\n", []string{"a", "b"}},
	{"a\r\n\r\nb", []string{"a", "", "b$"}},
	{"a\r\rb\n\nc\r\n\rd\n\re", []string{"a", "", "b", "", "c", "", "d", "", "e$"}},
	{"a\x00b\xff\n", []string{"a\x00b\xff"}},
}

// A stream reads the same in one piece, byte by byte, cut in two at every
// place, and with its end in the same read as the last bytes.
func TestLineReader(t *testing.T) {
	for _, tt := range lineTests {
		check := func(how string, r io.Reader) {
			t.Helper()
			got, err := linesOf(r, 0)
			if err != nil || fmt.Sprintf("%q", got) != fmt.Sprintf("%q", tt.want) {
				t.Errorf("%q %s: %q, %v", tt.in, how, got, err)
			}
		}
		check("whole", strings.NewReader(tt.in))
		check("by bytes", iotest.OneByteReader(strings.NewReader(tt.in)))
		check("with its end", iotest.DataErrReader(strings.NewReader(tt.in)))
		for i := range tt.in {
			check(fmt.Sprint("cut at ", i), io.MultiReader(strings.NewReader(tt.in[:i]), strings.NewReader(tt.in[i:])))
		}
	}
}

// A CR that is all there is ends its line without a wait for what follows.
func TestLineReaderDoesNotWaitForLF(t *testing.T) {
	peer, end := net.Pipe()
	defer peer.Close()
	defer end.Close()
	end.SetDeadline(time.Now().Add(patience))
	l := NewLineReader(end, 0)
	answered := make(chan error, 1)
	go func() {
		for _, s := range []string{"one\r", "\ntwo\r", "\nrest"} {
			if _, err := peer.Write([]byte(s)); err != nil {
				answered <- err
				return
			}
		}
		answered <- nil
	}()
	for _, want := range []string{"one", "two"} {
		if line, err := l.ReadLine(); err != nil || string(line) != want {
			t.Fatalf("%q, %v", line, err)
		}
	}
	p, err := l.ReadExact(4) // the LF is still the second line's
	if err != nil || string(p) != "rest" {
		t.Fatalf("%q, %v", p, err)
	}
	if err := <-answered; err != nil {
		t.Fatal(err)
	}
}

func TestLineReaderBound(t *testing.T) {
	for _, tt := range []struct {
		in   string
		ok   bool
		line string
	}{
		{"12345678\n", true, "12345678"},
		{"12345678\r\n", true, "12345678"},
		{"123456789\n", false, ""},
		{"123456789", false, ""},
		{strings.Repeat("x", 1<<20), false, ""},
	} {
		for _, r := range []io.Reader{strings.NewReader(tt.in), iotest.OneByteReader(strings.NewReader(tt.in))} {
			l := NewLineReader(r, 8)
			line, err := l.ReadLine()
			if string(line) != tt.line || tt.ok != (err == nil) || !tt.ok && !errors.Is(err, ErrTooLarge) {
				t.Errorf("%.20q: %q, %v", tt.in, line, err)
			}
			if _, err := l.ReadLine(); !tt.ok && !errors.Is(err, ErrTooLarge) {
				t.Errorf("%.20q: the second time %v", tt.in, err)
			}
			if cap(l.buf) > lineBufferBytes {
				t.Errorf("%.20q: a buffer of %d bytes for lines of 8", tt.in, cap(l.buf))
			}
		}
	}
	long := strings.Repeat("x", 1<<20)
	if lines, err := linesOf(strings.NewReader(long+"\n"), -1); err != nil || len(lines) != 1 || lines[0] != long {
		t.Errorf("without a bound: %d lines, %v", len(lines), err)
	}
	if _, err := NewLineReader(strings.NewReader(long), 0).ReadLine(); !errors.Is(err, ErrTooLarge) {
		t.Errorf("default bound: %v", err)
	}
}

func TestLineReaderUntilAndExact(t *testing.T) {
	for _, whole := range []bool{true, false} {
		var r io.Reader = strings.NewReader("key=value;\xff\r\nfour12\r\r\n\ntail")
		if !whole {
			r = iotest.OneByteReader(r)
		}
		l := NewLineReader(r, 16)
		until := func(delim byte) func() ([]byte, error) {
			return func() ([]byte, error) { return l.ReadUntil(delim) }
		}
		exact := func(n int) func() ([]byte, error) {
			return func() ([]byte, error) { return l.ReadExact(n) }
		}
		for i, step := range []struct {
			read func() ([]byte, error)
			want string
			err  error
		}{
			{exact(0), "", nil},
			{until('='), "key", nil},
			{until(';'), "value", nil},
			{until('\n'), "\xff\r", nil}, // LF and nothing else ends it
			{exact(17), "", ErrTooLarge},
			{exact(-1), "", ErrTooLarge},
			{exact(4), "four", nil},
			{l.ReadLine, "12", nil},
			{l.ReadLine, "", nil},
			{exact(1), "\n", nil}, // the CRLF before has its LF already
			{exact(9), "tail", io.ErrUnexpectedEOF},
			{exact(1), "", io.EOF},
			{until(0), "", io.EOF},
			{l.ReadLine, "", io.EOF},
		} {
			if p, err := step.read(); string(p) != step.want || !errors.Is(err, step.err) || (err == nil) != (step.err == nil) {
				t.Errorf("step %d (whole: %v): %q, %v", i, whole, p, err)
			}
		}
	}
	l := NewLineReader(strings.NewReader("head\r\nbody"), 0)
	if line, err := l.ReadLine(); err != nil || string(line) != "head" {
		t.Errorf("%q, %v", line, err)
	}
	if body, err := io.ReadAll(l); err != nil || string(body) != "body" {
		t.Errorf("the rest: %q, %v", body, err)
	}
}

// An error that is not the end loses nothing: a deadline can be followed by
// another try.
func TestLineReaderGoesOn(t *testing.T) {
	l := NewLineReader(io.MultiReader(strings.NewReader("ab"), &linesLate{}, strings.NewReader("c\nd")), 0)
	if p, err := l.ReadLine(); !errors.Is(err, os.ErrDeadlineExceeded) || p != nil {
		t.Fatalf("%q, %v", p, err)
	}
	if p, err := l.ReadLine(); err != nil || string(p) != "abc" {
		t.Errorf("%q, %v", p, err)
	}
	// Nor that the LF to come belongs to the line before.
	l = NewLineReader(io.MultiReader(strings.NewReader("ab\r"), &linesLate{}, strings.NewReader("\nc\n")), 0)
	for _, want := range []struct {
		line string
		err  error
	}{{"ab", nil}, {"", os.ErrDeadlineExceeded}, {"c", nil}} {
		if p, err := l.ReadLine(); string(p) != want.line || !errors.Is(err, want.err) {
			t.Errorf("%q, %v, want %q, %v", p, err, want.line, want.err)
		}
	}
	silent := NewLineReader(linesSilent{}, 0)
	if _, err := silent.ReadLine(); !errors.Is(err, io.ErrNoProgress) {
		t.Errorf("a reader that brings nothing: %v", err)
	}
}

// linesLate fails once with a deadline and is at its end then.
type linesLate struct{ done bool }

func (l *linesLate) Read([]byte) (int, error) {
	if l.done {
		return 0, io.EOF
	}
	l.done = true
	return 0, os.ErrDeadlineExceeded
}

type linesSilent struct{}

func (linesSilent) Read([]byte) (int, error) { return 0, nil }

// FuzzLineReader: in pieces of any size the lines are those of a naive split.
func FuzzLineReader(f *testing.F) {
	for _, tt := range lineTests {
		f.Add([]byte(tt.in), uint8(1))
	}
	f.Add([]byte("a\r\nb\rc\nd"), uint8(3))
	f.Fuzz(func(t *testing.T, in []byte, piece uint8) {
		naive := bytes.ReplaceAll(bytes.ReplaceAll(in, []byte("\r\n"), []byte("\n")), []byte("\r"), []byte("\n"))
		var want []string
		for line := range bytes.Lines(naive) {
			text, ended := bytes.CutSuffix(line, []byte("\n"))
			if ended {
				want = append(want, string(text))
			} else {
				want = append(want, string(text)+"$")
			}
		}
		got, err := linesOf(&linesPieces{in, int(piece)}, -1)
		if err != nil || fmt.Sprintf("%q", got) != fmt.Sprintf("%q", want) {
			t.Fatalf("%q, %v, want %q", got, err, want)
		}
	})
}

// linesPieces gives at most size bytes with a read, 0 for all.
type linesPieces struct {
	in   []byte
	size int
}

func (r *linesPieces) Read(p []byte) (int, error) {
	if len(r.in) == 0 {
		return 0, io.EOF
	}
	n := copy(p, r.in)
	if r.size > 0 {
		n = min(n, r.size)
	}
	r.in = r.in[n:]
	return n, nil
}
