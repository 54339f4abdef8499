package main

import (
	"bytes"
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"
)

// request is a command as clients send it.
func request(args ...string) string {
	var b strings.Builder
	fmt.Fprintf(&b, "*%d\r\n", len(args))
	for _, arg := range args {
		fmt.Fprintf(&b, "$%d\r\n%s\r\n", len(arg), arg)
	}
	return b.String()
}

func TestParse(t *testing.T) {
	long := strings.Repeat("x", bulkBytesMax)
	for _, test := range []struct {
		in   string
		want []string
		n    int // -1: all of in
		err  string
	}{
		{in: request("GET", "key"), want: []string{"GET", "key"}, n: -1},
		{in: request("SET", "", "a\r\nb"), want: []string{"SET", "", "a\r\nb"}, n: -1},
		{in: request("SET", "k", long), want: []string{"SET", "k", long}, n: -1},
		{in: "*0\r\n", n: -1},
		{in: "*-1\r\n", n: -1},
		{in: "*1\r\n$4\r\nPING\r\n*1\r\n", want: []string{"PING"}, n: 14},
		{in: "PING\r\n", want: []string{"PING"}, n: -1},
		{in: "PING\n", want: []string{"PING"}, n: -1},
		{in: " SET\tk  v \r\n", want: []string{"SET", "k", "v"}, n: -1},
		{in: "\r\n", n: -1},

		{in: "*a\r\n", err: "invalid multibulk length"},
		{in: "*+1\r\n", err: "invalid multibulk length"},
		{in: "*\r\n", err: "invalid multibulk length"},
		{in: "*01\r\n", err: "invalid multibulk length"},
		{in: "*-2\r\n", err: "invalid multibulk length"},
		{in: "*1025\r\n", err: "invalid multibulk length"},
		{in: "*99999999999999999999\r\n", err: "invalid multibulk length"},
		{in: "*1\r\r", err: "invalid multibulk length"},
		{in: "*1\n$4\r\nPING\r\n", err: "invalid multibulk length"},
		{in: "*1\r\n:4\r\n", err: "expected '$'"},
		{in: "*1\r\n$-1\r\n", err: "invalid bulk length"},
		{in: "*1\r\n$524289\r\n", err: "invalid bulk length"},
		{in: "*1\r\n$4294967297\r\n", err: "invalid bulk length"},
		{in: "*1\r\n$-0\r\n", err: "invalid bulk length"},
		{in: "*1\r\n$4\r\nPINGxx", err: "bulk without CRLF"},
		{in: "*3\r\n$524288\r\n" + long + "\r\n$524288\r\n", err: "too big request"},
		{in: strings.Repeat("x", inlineBytesMax), err: "too big inline request"},
	} {
		name := test.in[:min(len(test.in), 30)]
		args, n, err := parse(nil, []byte(test.in))
		if test.err != "" {
			var pe protocolError
			if !errors.As(err, &pe) || string(pe) != test.err {
				t.Errorf("%q: %v, want %q", name, err, test.err)
			}
			continue
		}
		if test.n == -1 {
			test.n = len(test.in)
		}
		if err != nil || n != test.n || !slices.Equal(texts(args), test.want) {
			t.Errorf("%q: %d arguments, %d bytes, %v", name, len(args), n, err)
		}
		step := max(1, test.n/2000)
		for cut := 0; cut < test.n; cut += step {
			if _, n, err := parse(nil, []byte(test.in[:cut])); n != 0 || err != nil {
				t.Errorf("%q cut at %d: %d bytes, %v", name, cut, n, err)
			}
		}
	}
}

func texts(args [][]byte) (s []string) {
	for _, arg := range args {
		s = append(s, string(arg))
	}
	return s
}

// What is a command, or an error, of the whole input is one of every longer one
// too, and of no shorter one that is not refused as well.
func FuzzParse(f *testing.F) {
	for _, seed := range []string{request("SET", "k", "v"), "PING\r\n", "*-1\r\n", "*1\r\n$-1\r\n", "*2\r\n$1\r\na\r\n$0\r\n\r\n"} {
		f.Add([]byte(seed))
	}
	f.Fuzz(func(t *testing.T, in []byte) {
		args, n, err := parse(nil, in)
		if n < 0 || n > len(in) || len(args) > argsMax {
			t.Fatalf("%d of %d bytes, %d arguments", n, len(in), len(args))
		}
		if again, m, e := parse(nil, append(bytes.Clone(in), "more"...)); (n > 0 || err != nil) &&
			(m != n || !errors.Is(e, err) || n > 0 && !slices.Equal(texts(again), texts(args))) {
			t.Errorf("%d bytes, %v; with more behind it %d, %v", n, err, m, e)
		}
		for cut := range in {
			_, m, e := parse(nil, in[:cut])
			if e != nil && !errors.Is(e, err) {
				t.Errorf("cut at %d: %v, whole: %v", cut, e, err)
			}
			if m != 0 && m != n {
				t.Errorf("cut at %d: %d bytes, whole: %d", cut, m, n)
			}
		}
	})
}
