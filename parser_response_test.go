package flare

import (
	"bytes"
	"fmt"
	"strings"
	"testing"
)

func parseResponseCut(h *responseHead, in []byte, lim *headLimits, cuts ...int) headOutcome {
	h.reset()
	var before []byte // as parse has left it: folds are written over
	for _, cut := range append(cuts, len(in)) {
		b := bytes.Clone(in[:cut])
		copy(b, before)
		n, err := h.parse(b, lim)
		if err != nil {
			return refusedHead(err)
		}
		if n > 0 {
			return headOutcome{n: n, text: fmt.Sprintf("%d %q\n%s", h.status, h.reason.of(b), h.fieldsText(b))}
		}
		before = bytes.Clone(b)
		clear(b)
	}
	return headOutcome{}
}

func TestResponseHead(t *testing.T) {
	ok := func(fields string) string { return "HTTP/1.1 200 OK\r\n" + fields + "\r\n" }
	for _, test := range []struct {
		name, in string
		status   int // 0: accepted
	}{
		{"plain", ok(""), 0},
		{"1.0", "HTTP/1.0 404 Not Found\r\n\r\n", 0},
		{"1.2", "HTTP/1.2 200 OK\r\n\r\n", 0},
		{"empty reason", "HTTP/1.1 200 \r\n\r\n", 0},
		{"no space before the missing reason", "HTTP/1.1 200\r\n\r\n", 0},
		{"reason with tab and obs-text", "HTTP/1.1 200 a\tb \xc3\xa9\r\n\r\n", 0},
		{"lowest code", "HTTP/1.1 100 Continue\r\n\r\n", 0},
		{"highest code", "HTTP/1.1 999 ?\r\n\r\n", 0},
		{"code below 100", "HTTP/1.1 099 ?\r\n\r\n", 400},
		{"code of two digits", "HTTP/1.1 20 OK\r\n\r\n", 400},
		{"code of four digits", "HTTP/1.1 2000 OK\r\n\r\n", 400},
		{"code with a letter", "HTTP/1.1 2x0 OK\r\n\r\n", 400},
		{"code with a sign", "HTTP/1.1 +20 OK\r\n\r\n", 400},
		{"no code", "HTTP/1.1\r\n\r\n", 400},
		{"two spaces before the code", "HTTP/1.1  200 OK\r\n\r\n", 400},
		{"tab before the code", "HTTP/1.1\t200 OK\r\n\r\n", 400},
		{"tab behind the code", "HTTP/1.1 200\tOK\r\n\r\n", 400},
		{"control in the reason", "HTTP/1.1 200 O\x01K\r\n\r\n", 400},
		{"NUL in the reason", "HTTP/1.1 200 O\x00K\r\n\r\n", 400},
		{"bare CR in the reason", "HTTP/1.1 200 O\rK\r\n\r\n", 400},
		{"bare LF behind the reason", "HTTP/1.1 200 OK\n\r\n", 400},
		{"bare LF behind the code", "HTTP/1.1 200\n\r\n", 400},
		{"reason without end", "HTTP/1.1 200 " + strings.Repeat("a", 2000), 431},
		{"version 2.0", "HTTP/2.0 200 OK\r\n\r\n", 400},
		{"version in lower case", "http/1.1 200 OK\r\n\r\n", 400},
		{"version of something else", "ICY 200 OK\r\n\r\n", 400},
		{"empty line first", "\r\nHTTP/1.1 200 OK\r\n\r\n", 400},
		{"space first", " HTTP/1.1 200 OK\r\n\r\n", 400},
		{"bare LF behind a value", ok("A: b\n"), 400},
		{"fold before the first field", ok(" A: b\r\n"), 400},
		{"folded line without a CR", ok("A: b\n c\r\n"), 400},
		{"folded length that is two", ok("Content-Length: 1\r\n 2\r\n"), 400},
		{"control in a folded line", ok("A: b\r\n c\x00\r\n"), 400},
		{"space before the colon", ok("A : b\r\n"), 400},
		{"NUL in a value", ok("A: b\x00\r\n"), 400},
		{"many fields", ok(strings.Repeat("A: b\r\n", 6)), 431},
		{"large fields", ok("A: " + strings.Repeat("b", 300) + "\r\n"), 431},
		{"Content-Length", ok("Content-Length: 5\r\n"), 0},
		{"Content-Length twice, equal", ok("Content-Length: 5\r\nContent-Length: 5\r\n"), 400},
		{"Content-Length as a list", ok("Content-Length: 5, 5\r\n"), 400},
		{"Content-Length with a sign", ok("Content-Length: -5\r\n"), 400},
		{"Content-Length with Transfer-Encoding", ok("Content-Length: 5\r\nTransfer-Encoding: chunked\r\n"), 400},
		{"Transfer-Encoding", ok("Transfer-Encoding: Chunked\r\n"), 0},
		{"Transfer-Encoding in 1.0", "HTTP/1.0 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n", 400},
		{"chunked not last", ok("Transfer-Encoding: chunked, gzip\r\n"), 400},
		{"another coding", ok("Transfer-Encoding: gzip, chunked\r\n"), 400},
		{"another coding alone", ok("Transfer-Encoding: gzip\r\n"), 400},
		{"Host and Expect mean nothing here", ok("Host: /\r\nHost: /\r\nExpect: tea\r\n"), 0},
	} {
		t.Run(test.name, func(t *testing.T) {
			var h responseHead
			got := checkSplits(t, []byte(test.in), func(cuts ...int) headOutcome {
				return parseResponseCut(&h, []byte(test.in), &testLimits, cuts...)
			})
			if got.status != test.status || test.status == 0 && got.n != len(test.in) {
				t.Errorf("status %d, head of %d octets; want %d, all %d", got.status, got.n, test.status, len(test.in))
			}
		})
	}
}

func TestResponseHeadResult(t *testing.T) {
	in := "HTTP/1.1 206 Partly, \xc3\xa9\r\nContent-Length: 12\r\nconnection: Close\r\n\r\nHTTP/1.1 200 OK\r\n"
	var h responseHead
	got := parseResponseCut(&h, []byte(in), &testLimits)
	want := "206 \"Partly, é\"\nContent-Length: 12\nconnection: Close\n" +
		"minor=1 length=12 chunked=false host=\"\" keepalive=false close=true upgrade=false websocket=false"
	if got.text != want || got.n != strings.Index(in, "\r\n\r\n")+4 {
		t.Errorf("%d %s\nwant\n%s", got.n, got.text, want)
	}
}

// TestResponseFraming is RFC 9112 §6.3 for a client, case by case.
func TestResponseFraming(t *testing.T) {
	const length, chunked = "Content-Length: 5\r\n", "Transfer-Encoding: chunked\r\n"
	for _, test := range []struct {
		method, status, fields string
		kind                   bodyKind
		length                 int64
		persists               bool
	}{
		{"GET", "1.1 200", length, bodyLength, 5, true},
		{"GET", "1.1 200", "Content-Length: 0\r\n", bodyLength, 0, true},
		{"GET", "1.1 200", length + "Connection: close\r\n", bodyLength, 5, false},
		{"GET", "1.0 200", length, bodyLength, 5, false},
		{"GET", "1.0 200", length + "Connection: Keep-Alive\r\n", bodyLength, 5, true},
		{"GET", "1.1 200", chunked, bodyChunked, -1, true},
		{"GET", "1.1 200", "", bodyUntilClose, -1, false},
		{"POST", "1.1 404", length, bodyLength, 5, true},
		{"HEAD", "1.1 200", length, bodyNone, -1, true},
		{"HEAD", "1.1 200", chunked, bodyNone, -1, true},
		{"HEAD", "1.1 200", "", bodyNone, -1, true},
		{"GET", "1.1 304", length, bodyNone, -1, true},
		{"GET", "1.1 204", chunked, bodyNone, -1, true},
		{"GET", "1.1 100", "", bodyNone, -1, true},
		{"GET", "1.1 103", length, bodyNone, -1, true},
		{"GET", "1.1 101", "", bodyNone, -1, false},
		{"CONNECT", "1.1 200", length, bodyNone, -1, false},
		{"CONNECT", "1.1 407", length, bodyLength, 5, true},
	} {
		var h responseHead
		h.reset()
		in := "HTTP/" + test.status + " x\r\n" + test.fields + "\r\n"
		if n, err := h.parse([]byte(in), &testLimits); n != len(in) {
			t.Fatalf("%q: %d, %v", in, n, err)
		}
		kind, length := h.framing(test.method)
		if kind != test.kind || length != test.length || h.persists(test.method) != test.persists {
			t.Errorf("%s %q: kind %d length %d persists %t, want %d %d %t",
				test.method, in, kind, length, h.persists(test.method), test.kind, test.length, test.persists)
		}
	}
}

func TestResponseHeadAllocations(t *testing.T) {
	in := []byte("HTTP/1.1 200 OK\r\nDate: Mon, 23 Nov 2026 02:37:00 GMT\r\nContent-Type: text/plain\r\nContent-Length: 13\r\n\r\n")
	var h responseHead
	if n := testing.AllocsPerRun(100, func() {
		h.reset()
		if n, err := h.parse(in, &benchLimits); n != len(in) {
			t.Fatal(n, err)
		}
	}); n != 0 {
		t.Errorf("%v allocations, want none", n)
	}
}

// A folded value is one value, with white space where the fold was, whole and
// octet by octet; what frames the body is read from it.
func TestResponseFold(t *testing.T) {
	for _, tt := range []struct {
		lines, want string // names and values, white space as one space
		chunked     bool
		length      int64
	}{
		{"A: b\r\n c\r\n", "A=b c", false, -1},
		{"A: b\r\n\tc\r\nD: e\r\n", "A=b c|D=e", false, -1},
		{"A:\r\n b\r\n", "A=b", false, -1},
		{"A: \r\n \r\n\t b\r\n", "A=b", false, -1},
		{"A: b\r\n \r\n", "A=b", false, -1},
		{"A:\r\n \r\n", "A=", false, -1},
		{"A: b\r\n c\r\n  d, e\r\n f\r\n", "A=b c d, e f", false, -1},
		{"Content-Length:\r\n 5\r\n", "Content-Length=5", false, 5},
		{"Transfer-Encoding:\r\n\tchunked\r\nA: b\r\n", "Transfer-Encoding=chunked|A=b", true, -1},
		{"A: " + strings.Repeat("x\r\n ", 5000) + "\r\n", "A=" + strings.TrimSpace(strings.Repeat("x ", 5000)), false, -1},
	} {
		whole := "HTTP/1.1 200 OK\r\n" + tt.lines + "\r\n"
		lim := headLimits{headerBytes: 64 << 10, headers: 10}
		step := 1
		if len(whole) > 1000 {
			step = 997
		}
		for _, step := range []int{step, len(whole)} {
			b := []byte(whole)
			var h responseHead
			h.reset()
			n, err := 0, error(nil)
			for at := step; n == 0 && err == nil && at < len(whole)+step; at += step {
				n, err = h.parse(b[:min(at, len(whole))], &lim)
			}
			var got []string
			for _, f := range h.fields {
				value := strings.Join(strings.Fields(string(b[f.value:f.valueEnd])), " ")
				got = append(got, string(b[f.name:f.nameEnd])+"="+value)
				if strings.ContainsAny(string(b[f.value:f.valueEnd]), "\r\n") {
					t.Errorf("%.40q: a line end in a value", tt.lines)
				}
			}
			if err != nil || n != len(whole) || strings.Join(got, "|") != tt.want || h.chunked != tt.chunked || h.contentLength != tt.length {
				t.Errorf("%.40q in steps of %d: %d of %d, %.60q, %v", tt.lines, step, n, len(whole), got, err)
			}
		}
	}
}
