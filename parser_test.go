package flare

import (
	"bytes"
	"errors"
	"fmt"
	"strings"
	"testing"
)

// A headOutcome is all that parsing a head has for a result, as values that
// compare.
type headOutcome struct {
	n      int // length of the head; 0: incomplete, or refused
	status int // 0: not refused
	offset int
	text   string // everything the head says
}

func refusedHead(err error) headOutcome {
	var parseErr *ParseError
	if !errors.As(err, &parseErr) {
		panic(fmt.Sprintf("error is a %T, want a *ParseError", err))
	}
	return headOutcome{status: parseErr.Status, offset: parseErr.Offset}
}

// fieldsText writes the fields and what they mean for the message.
func (h *messageHead) fieldsText(b []byte) string {
	var s strings.Builder
	for _, f := range h.fields {
		fmt.Fprintf(&s, "%s: %s\n", b[f.name:f.nameEnd], b[f.value:f.valueEnd])
	}
	fmt.Fprintf(&s, "minor=%d length=%d chunked=%t host=%q keepalive=%t close=%t upgrade=%t websocket=%t",
		h.minor, h.contentLength, h.chunked, h.host.of(b), h.keepAlive(), h.connClose, h.connUpgrade, h.websocket)
	return s.String()
}

func (h *requestHead) text(b []byte) string {
	return fmt.Sprintf("%q %q form=%d path=%q %t query=%q %t authority=%q continue=%t\n%s",
		h.method.of(b), h.target.of(b), h.form, h.path.of(b), h.pathEscaped, h.query.of(b), h.hasQuery,
		h.authority.of(b), h.expectContinue, h.fieldsText(b))
}

// parseRequestCut gives h the input up to each cut in turn, and then all of
// it. Every piece is a copy in a place of its own and is spoiled afterwards, so
// a head that kept octets instead of offsets would be found out.
func parseRequestCut(h *requestHead, in []byte, lim *headLimits, cuts ...int) headOutcome {
	h.reset()
	for _, cut := range append(cuts, len(in)) {
		b := bytes.Clone(in[:cut])
		n, err := h.parse(b, lim)
		if err != nil {
			return refusedHead(err)
		}
		if n > 0 {
			return headOutcome{n: n, text: h.text(b)}
		}
		clear(b)
	}
	return headOutcome{}
}

// everyOctet lists the cuts that feed n octets one by one.
func everyOctet(n int) []int {
	cuts := make([]int, n)
	for i := range cuts {
		cuts[i] = i
	}
	return cuts
}

// checkSplits fails unless the input gives the same outcome whole, octet by
// octet, and in two pieces cut anywhere. It returns that outcome.
func checkSplits(t *testing.T, in []byte, parse func(cuts ...int) headOutcome) headOutcome {
	t.Helper()
	whole := parse()
	if got := parse(everyOctet(len(in))...); got != whole {
		t.Errorf("octet by octet\n%+v\nwhole\n%+v", got, whole)
	}
	for cut := 0; cut < len(in); cut += 1 + len(in)/2000 { // all of them, but for the very long
		if got := parse(cut); got != whole {
			t.Errorf("cut at %d\n%+v\nwhole\n%+v", cut, got, whole)
			break
		}
	}
	return whole
}

var testLimits = headLimits{uriBytes: 64, headerBytes: 256, headers: 5}

// get is a request whose only interesting part are the fields behind Host.
func getWithFields(fields string) string { return "GET / HTTP/1.1\r\nHost: a\r\n" + fields + "\r\n" }

// line is a request whose only interesting part is the request line.
func line(s string) string { return s + "\r\nHost: a\r\n\r\n" }

func TestRequestHeadRefused(t *testing.T) {
	for _, test := range []struct {
		name, in string
		status   int // 0: accepted, the valid neighbour of a refusal
	}{
		{"bare CR in the target", line("GET /\r HTTP/1.1"), 400},
		{"bare CR before the LF of the request line", line("GET / HTTP/1.1\r"), 400},
		{"bare CR in a name", getWithFields("A\rb: c\r\n"), 400},
		{"bare CR in a value", getWithFields("A: b\rc\r\n"), 400},
		{"bare CR at the end of a value", getWithFields("A: b\r\r\n"), 400},
		{"bare CR for the empty line", "GET / HTTP/1.1\r\nHost: a\r\n\rX", 400},
		{"bare CR before the request line", "\rGET / HTTP/1.1\r\nHost: a\r\n\r\n", 400},
		{"CRLF", getWithFields("A: b\r\n"), 0},

		{"bare LF behind the request line", "GET / HTTP/1.1\nHost: a\r\n\r\n", 400},
		{"bare LF behind a value", getWithFields("A: b\nB: c\r\n"), 400},
		{"bare LF behind a name", getWithFields("A\n"), 400},
		{"bare LF for the empty line", "GET / HTTP/1.1\r\nHost: a\r\n\n", 400},
		{"bare LF before the request line", "\nGET / HTTP/1.1\r\nHost: a\r\n\r\n", 400},

		{"one empty line", "\r\n" + getWithFields(""), 0},
		{"two empty lines", "\r\n\r\n" + getWithFields(""), 0},
		{"three empty lines", "\r\n\r\n\r\n" + getWithFields(""), 400},
		{"space before the first field", "GET / HTTP/1.1\r\n Host: a\r\n\r\n", 400},
		{"tab before the first field", "GET / HTTP/1.1\r\n\tHost: a\r\n\r\n", 400},
		{"space before the request line", " GET / HTTP/1.1\r\nHost: a\r\n\r\n", 400},

		{"two spaces before the target", line("GET  / HTTP/1.1"), 400},
		{"two spaces behind the target", line("GET /  HTTP/1.1"), 400},
		{"space behind the version", line("GET / HTTP/1.1 "), 400},
		{"tab for a space", line("GET\t/ HTTP/1.1"), 400},
		{"tab behind the target", line("GET /\tHTTP/1.1"), 400},
		{"space in the target", line("GET /a b HTTP/1.1"), 400},
		{"no target", line("GET HTTP/1.1"), 400},
		{"method alone", line("GET"), 400},

		{"control in the target", line("GET /\x01 HTTP/1.1"), 400},
		{"NUL in the target", line("GET /\x00 HTTP/1.1"), 400},
		{"DEL in the target", line("GET /\x7f HTTP/1.1"), 400},
		{"non-ASCII in the path", line("GET /\xc3\xa9/\x80\xff HTTP/1.1"), 0},
		{"non-ASCII in the query", line("GET /?q=\xc3\xa9\x80\xff HTTP/1.1"), 0},
		{"non-ASCII in the absolute form", line("GET http://b/\xc3\xa9?\xff HTTP/1.1"), 0},
		{"non-ASCII in the host of the absolute form", line("GET http://\xc3\xa9/ HTTP/1.1"), 400},
		{"non-ASCII for a slash", line("GET \xc3\xa9 HTTP/1.1"), 400},
		{"non-ASCII with CONNECT", line("CONNECT \xc3\xa9:443 HTTP/1.1"), 400},
		{"non-ASCII behind *", line("OPTIONS *\xff HTTP/1.1"), 400},
		{"fragment in the target", line("GET /a#b HTTP/1.1"), 400},
		{"fragment in the query", line("GET /a?b#c HTTP/1.1"), 400},
		{"backslash in the path", line(`GET /a\b HTTP/1.1`), 400},
		{"backslash in the path before a query", line(`GET /a\b?c HTTP/1.1`), 400},
		{"backslash in the query", line(`GET /?p=C:\Users\x HTTP/1.1`), 0},
		{"backslash in the host of the absolute form", line(`GET http://b\c/ HTTP/1.1`), 400},
		{"DEL in the query", line("GET /?\x7f HTTP/1.1"), 400},
		{"control in the query", line("GET /?\x1f HTTP/1.1"), 400},
		{"%-escape", line("GET /%2F%aF?%20 HTTP/1.1"), 0},
		{"%-escape without digits", line("GET /% HTTP/1.1"), 400},
		{"%-escape with one digit", line("GET /%2 HTTP/1.1"), 400},
		{"%-escape with one digit before another", line("GET /%2%20 HTTP/1.1"), 400},
		{"%-escape with a letter too high", line("GET /%2g HTTP/1.1"), 400},
		{"bad %-escape before a query", line("GET /%zz?a HTTP/1.1"), 400},
		{"bad %-escape of the path, cut by the query", line("GET /%2?0 HTTP/1.1"), 400},
		{"% at the end of the query", line("GET /?q=100% HTTP/1.1"), 0},
		{"% with one digit at the end of the query", line("GET /?q=%2 HTTP/1.1"), 0},
		{"%u in the query", line("GET /?q=%u00e9 HTTP/1.1"), 0},
		{"% with no digit in the query", line("GET /?%zz?%=% HTTP/1.1"), 0},
		{"% in the query of the absolute form", line("GET http://b?100% HTTP/1.1"), 0},
		{"octets browsers leave alone", line("GET /a|b^c`{d}[e]\"<f>'?g|h?i!j HTTP/1.1"), 0},
		{"target without a slash", line("GET index.html HTTP/1.1"), 400},
		{"target with a query alone", line("GET ?a HTTP/1.1"), 400},
		{"absolute form", line("GET http://b/c HTTP/1.1"), 0},
		{"absolute form, upper case, no path", line("GET HTTPS://B:443?q HTTP/1.1"), 0},
		{"absolute form without a host", line("GET http:///c HTTP/1.1"), 400},
		{"absolute form with a port alone", line("GET http://:80/c HTTP/1.1"), 400},
		{"absolute form with userinfo", line("GET http://u:p@b/c HTTP/1.1"), 400},
		{"absolute form with a bad port", line("GET http://b:x/c HTTP/1.1"), 400},
		{"absolute form of a scheme that is not served", line("GET ftp://b/c HTTP/1.1"), 400},
		{"absolute form with one slash", line("GET http:/c HTTP/1.1"), 400},

		{"method with a non-tchar", line("GE(T / HTTP/1.1"), 400},
		{"method with a NUL", line("GE\x00T / HTTP/1.1"), 400},
		{"method with a colon", line("GET: / HTTP/1.1"), 400},
		{"method of all kinds of tchars", line("!#$%&'*+-.^_`|~09azAZ / HTTP/1.1"), 0},
		{"method in lower case", line("get / HTTP/1.1"), 0},
		{"method of 32 octets", line(strings.Repeat("M", 32) + " / HTTP/1.1"), 0},
		{"method of 33 octets", line(strings.Repeat("M", 33) + " / HTTP/1.1"), 501},
		{"long method, then junk", strings.Repeat("M", 40) + "\x00", 501},
		{"junk within the first 32 octets", strings.Repeat("M", 31) + "\x00" + strings.Repeat("M", 40), 400},

		{"target at the limit", line("GET /" + strings.Repeat("a", 63) + " HTTP/1.1"), 0},
		{"target over the limit", line("GET /" + strings.Repeat("a", 64) + " HTTP/1.1"), 414},
		{"target without an end over the limit", "GET /" + strings.Repeat("a", 100), 414},
		{"escape across the limit", line("GET /" + strings.Repeat("a", 62) + "%20 HTTP/1.1"), 414},
		{"fault before the limit", line("GET /#" + strings.Repeat("a", 100) + " HTTP/1.1"), 400},

		{"version 1.0", "GET / HTTP/1.0\r\n\r\n", 0},
		{"version 1.9", line("GET / HTTP/1.9"), 0},
		{"version 2.0", line("GET / HTTP/2.0"), 505},
		{"version 0.9", line("GET / HTTP/0.9"), 505},
		{"version 3.0 and a fault", line("GET / HTTP/3.0x"), 400},
		{"version in lower case", line("GET / http/1.1"), 400},
		{"version without a minor", line("GET / HTTP/1"), 400},
		{"version with two digits", line("GET / HTTP/1.10"), 400},
		{"version with a comma", line("GET / HTTP/1,1"), 400},
		{"version with a letter", line("GET / HTTP/d.d"), 400},
		{"version of something else", line("GET / ICE/1.0"), 400},
		{"no version", "GET /\r\n\r\n", 400},

		{"* with OPTIONS", line("OPTIONS * HTTP/1.1"), 0},
		{"* with GET", line("GET * HTTP/1.1"), 400},
		{"* and more", line("OPTIONS *a HTTP/1.1"), 400},
		{"authority form with CONNECT", line("CONNECT b:443 HTTP/1.1"), 0},
		{"authority form, IPv6", line("CONNECT [::1]:443 HTTP/1.1"), 0},
		{"authority form without a port", line("CONNECT b HTTP/1.1"), 400},
		{"authority form with an empty port", line("CONNECT b: HTTP/1.1"), 400},
		{"authority form with GET", line("GET b:443 HTTP/1.1"), 400},
		{"CONNECT with a path", line("CONNECT /a HTTP/1.1"), 400},
		{"CONNECT with the absolute form", line("CONNECT http://b:443/ HTTP/1.1"), 400},
		{"a method as long as CONNECT", line("EXPLODE /a HTTP/1.1"), 0},
		{"TRACE, which is for a route to take", line("TRACE / HTTP/1.1"), 0},

		{"space before the colon", getWithFields("A : b\r\n"), 400},
		{"tab before the colon", getWithFields("A\t: b\r\n"), 400},
		{"empty name", getWithFields(": b\r\n"), 400},
		{"non-token octet in a name", getWithFields("A@: b\r\n"), 400},
		{"parenthesis in a name", getWithFields("A(b): b\r\n"), 400},
		{"non-ASCII in a name", getWithFields("\xc3\xa9: b\r\n"), 400},
		{"NUL in a name", getWithFields("A\x00: b\r\n"), 400},
		{"line without a colon", getWithFields("Abc\r\n"), 400},
		{"colon alone in a value", getWithFields("A::\r\n"), 0},
		{"obs-fold", getWithFields("A: b\r\n c\r\n"), 400},
		{"obs-fold with a tab", getWithFields("A: b\r\n\tc\r\n"), 400},
		{"obs-fold that is empty", getWithFields("A: b\r\n \r\n"), 400},

		{"NUL in a value", getWithFields("A: b\x00c\r\n"), 400},
		{"DEL in a value", getWithFields("A: b\x7fc\r\n"), 400},
		{"VT in a value", getWithFields("A: b\x0bc\r\n"), 400},
		{"FF in a value", getWithFields("A: \x0c\r\n"), 400},
		{"ESC in a value", getWithFields("A: \x1b[0m\r\n"), 400},
		{"tab in a value", getWithFields("A: b\tc\r\n"), 0},
		{"non-ASCII in a value", getWithFields("A: \x80\xfe\xff~\xc3\xa9\r\n"), 0},

		{"fields at the limit of octets", getWithFields("A: " + strings.Repeat("v", 256-len("Host: a\r\nA: \r\n")) + "\r\n"), 0},
		{"fields one over the limit of octets", getWithFields("A: " + strings.Repeat("v", 257-len("Host: a\r\nA: \r\n")) + "\r\n"), 431},
		{"field without an end over the limit", "GET / HTTP/1.1\r\nA: " + strings.Repeat("v", 300), 431},
		{"name without an end over the limit", "GET / HTTP/1.1\r\n" + strings.Repeat("n", 300), 431},
		{"fault before the limit of octets", getWithFields("A: \x00" + strings.Repeat("v", 300) + "\r\n"), 400},
		{"fault behind the limit of octets", getWithFields("A: " + strings.Repeat("v", 300) + "\x00\r\n"), 431},
		{"fields at the limit", getWithFields("A: 1\r\nB: 2\r\nC: 3\r\nD: 4\r\n"), 0},
		{"one field over the limit", getWithFields("A: 1\r\nB: 2\r\nC: 3\r\nD: 4\r\nE: 5\r\n"), 431},
		{"one field over the limit, and malformed", getWithFields("A: 1\r\nB: 2\r\nC: 3\r\nD: 4\r\nE\x00\r\n"), 431},
		{"a fault, then one field over the limit", getWithFields("A: 1\r\nB: 2\r\nC: 3\r\nD\x00: 4\r\nE: 5\r\n"), 400},

		{"1.1 without Host", "GET / HTTP/1.1\r\n\r\n", 400},
		{"1.0 without Host", "GET / HTTP/1.0\r\nA: b\r\n\r\n", 0},
		{"absolute form without Host", "GET http://b/ HTTP/1.1\r\n\r\n", 400},
		{"two Hosts, equal", getWithFields("Host: a\r\n"), 400},
		{"two Hosts, different", getWithFields("hOST: b\r\n"), 400},
		{"two Hosts in 1.0", "GET / HTTP/1.0\r\nHost: a\r\nHost: a\r\n\r\n", 400},
		{"a name that begins as Host", getWithFields("Hos1: b\r\nXost: c\r\n"), 0},

		{"Content-Length", getWithFields("Content-Length: 12\r\n"), 0},
		{"Content-Length of zero", getWithFields("Content-Length: 0\r\n"), 0},
		{"Content-Length with white space around", getWithFields("Content-Length: \t 7 \t \r\n"), 0},
		{"Content-Length of 18 digits", getWithFields("Content-Length: 999999999999999999\r\n"), 0},
		{"Content-Length of 19 digits", getWithFields("Content-Length: 1000000000000000000\r\n"), 400},
		{"Content-Length with a plus", getWithFields("Content-Length: +1\r\n"), 400},
		{"Content-Length with a minus", getWithFields("Content-Length: -1\r\n"), 400},
		{"Content-Length in hex", getWithFields("Content-Length: 0x1\r\n"), 400},
		{"Content-Length with a hex digit", getWithFields("Content-Length: 1a\r\n"), 400},
		{"Content-Length with an inner space", getWithFields("Content-Length: 1 2\r\n"), 400},
		{"Content-Length with an underscore", getWithFields("Content-Length: 1_2\r\n"), 400},
		{"Content-Length with a dot", getWithFields("Content-Length: 1.0\r\n"), 400},
		{"Content-Length empty", getWithFields("Content-Length:\r\n"), 400},
		{"Content-Length blank", getWithFields("Content-Length:  \r\n"), 400},
		{"Content-Length as a list", getWithFields("Content-Length: 1, 1\r\n"), 400},
		{"Content-Length with leading zeros", getWithFields("Content-Length: 01\r\n"), 400},
		{"Content-Length of two zeros", getWithFields("Content-Length: 00\r\n"), 400},
		{"Content-Length twice, equal", getWithFields("Content-Length: 1\r\ncontent-length: 1\r\n"), 400},
		{"Content-Length twice, different", getWithFields("Content-Length: 1\r\nContent-Length: 2\r\n"), 400},
		{"Content-Length, then Transfer-Encoding", getWithFields("Content-Length: 1\r\nTransfer-Encoding: chunked\r\n"), 400},
		{"Transfer-Encoding, then Content-Length", getWithFields("Transfer-Encoding: chunked\r\nContent-Length: 1\r\n"), 400},
		{"Content-Length, then an unknown coding", getWithFields("Content-Length: 1\r\nTransfer-Encoding: gzip, chunked\r\n"), 400},
		{"names as long as Content-Length", getWithFields("Content-Lengtx: +1\r\nXontent-Length: z\r\n"), 0},

		{"Transfer-Encoding", getWithFields("Transfer-Encoding: chunked\r\n"), 0},
		{"Transfer-Encoding in upper case", getWithFields("TRANSFER-ENCODING: CHUNKED\r\n"), 0},
		{"Transfer-Encoding in 1.0", "GET / HTTP/1.0\r\nTransfer-Encoding: chunked\r\n\r\n", 400},
		{"unknown coding in 1.0", "GET / HTTP/1.0\r\nTransfer-Encoding: gzip, chunked\r\n\r\n", 400},
		{"chunked not last", getWithFields("Transfer-Encoding: chunked, gzip\r\n"), 400},
		{"chunked twice", getWithFields("Transfer-Encoding: chunked, chunked\r\n"), 400},
		{"chunked twice, with another between", getWithFields("Transfer-Encoding: chunked, gzip, chunked\r\n"), 400},
		{"chunked on two lines", getWithFields("Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n"), 400},
		{"codings on two lines", getWithFields("Transfer-Encoding: gzip\r\nTransfer-Encoding: chunked\r\n"), 400},
		{"chunked with parameters", getWithFields("Transfer-Encoding: chunked;a=b\r\n"), 400},
		{"chunked with parameters, then chunked", getWithFields("Transfer-Encoding: chunked;a=b, chunked\r\n"), 400},
		{"Transfer-Encoding empty", getWithFields("Transfer-Encoding:\r\n"), 400},
		{"Transfer-Encoding with an empty member", getWithFields("Transfer-Encoding: , chunked\r\n"), 400},
		{"Transfer-Encoding with an empty last member", getWithFields("Transfer-Encoding: chunked,\r\n"), 400},
		{"chunked behind VT", getWithFields("Transfer-Encoding: \x0bchunked\r\n"), 400},
		{"chunked before FF", getWithFields("Transfer-Encoding: chunked\x0c\r\n"), 400},
		{"chunked behind a non-breaking space", getWithFields("Transfer-Encoding: \xa0chunked\r\n"), 400},
		{"chunked in quotes", getWithFields("Transfer-Encoding: \"chunked\"\r\n"), 400},
		{"chunked with a letter more", getWithFields("Transfer-Encoding: chunkedx\r\n"), 400},
		{"another coding before chunked", getWithFields("Transfer-Encoding: gzip, chunked\r\n"), 501},
		{"two codings with parameters before chunked", getWithFields("Transfer-Encoding: a;q=1 ,b , chunked\r\n"), 501},
		{"identity before chunked", getWithFields("Transfer-Encoding: identity, chunked\r\n"), 501},
		{"junk before chunked", getWithFields("Transfer-Encoding: g(zip, chunked\r\n"), 400},
		{"another coding alone", getWithFields("Transfer-Encoding: gzip\r\n"), 400},
		{"identity", getWithFields("Transfer-Encoding: identity\r\n"), 400},
		{"unknown coding first, then a malformed line", getWithFields("Transfer-Encoding: gzip, chunked\r\nA b\r\n"), 501},
		{"a malformed line first, then an unknown coding", getWithFields("A b\r\nTransfer-Encoding: gzip, chunked\r\n"), 400},

		{"Expect: 100-continue", getWithFields("Expect: 100-Continue\r\n"), 0},
		{"Expect otherwise", getWithFields("Expect: tea\r\n"), 417},
		{"Expect: 100-continue and otherwise", getWithFields("Expect: 100-continue, tea\r\n"), 417},
		{"Expect otherwise in 1.0", "GET / HTTP/1.0\r\nExpect: tea\r\n\r\n", 0},
		{"Expect otherwise, then a fault", getWithFields("Expect: tea\r\nA b\r\n"), 400},
		{"Expect otherwise, without Host", "GET / HTTP/1.1\r\nExpect: tea\r\n\r\n", 400},

		{"TLS hello", "\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03", 400},
		{"HTTP/2 preface", "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", 400},
		{"binary junk", "\x00\x01\x02\x03", 400},
		{"Upgrade to another protocol", getWithFields("Connection: Upgrade, HTTP2-Settings\r\nUpgrade: h2c\r\n"), 0},
	} {
		t.Run(test.name, func(t *testing.T) {
			var h requestHead
			got := checkSplits(t, []byte(test.in), func(cuts ...int) headOutcome {
				return parseRequestCut(&h, []byte(test.in), &testLimits, cuts...)
			})
			if got.status != test.status {
				t.Errorf("status %d, want %d", got.status, test.status)
			}
			if test.status == 0 && got.n != len(test.in) {
				t.Errorf("head of %d octets, want all %d", got.n, len(test.in))
			}
		})
	}
}

// TestRequestHeadRefusedAtOnce holds that junk is refused when it arrives, not
// when a line end does: none may ever come.
func TestRequestHeadRefusedAtOnce(t *testing.T) {
	for _, in := range []string{
		"\x16", "G\x00", "GET /\x01", "GET /%z", "GET / X", "GET / HTTP/1.1\r\n\x00", "GET / HTTP/1.1\r\nA\x00",
		"GET / HTTP/1.1\r\nA: \x00", "GET / HTTP/1.1\r\n ", "\r\n\r\n\r",
	} {
		var h requestHead
		if got := parseRequestCut(&h, []byte(in), &testLimits); got.status != 400 {
			t.Errorf("%q: %+v, want status 400", in, got)
		}
	}
}

func TestRequestHeadResult(t *testing.T) {
	const rest = "GET /next HTTP/1.1\r\n"
	for _, test := range []struct{ in, want string }{
		{"GET /a/b?c=d HTTP/1.1\r\nHost: example.test:8080\r\n\r\n",
			"\"GET\" \"/a/b?c=d\" form=0 path=\"/a/b\" false query=\"c=d\" true authority=\"\" continue=false\n" +
				"Host: example.test:8080\n" +
				"minor=1 length=-1 chunked=false host=\"example.test:8080\" keepalive=true close=false upgrade=false websocket=false"},
		{"GET /a?%64 HTTP/1.1\r\nHost: a\r\n\r\n",
			"\"GET\" \"/a?%64\" form=0 path=\"/a\" false query=\"%64\" true authority=\"\" continue=false\n" +
				"Host: a\n" +
				"minor=1 length=-1 chunked=false host=\"a\" keepalive=true close=false upgrade=false websocket=false"},
		{"POST /%41? HTTP/1.0\r\ncontent-length:5\r\nConnection: keep-alive\r\n\r\n",
			"\"POST\" \"/%41?\" form=0 path=\"/%41\" true query=\"\" true authority=\"\" continue=false\n" +
				"content-length: 5\nConnection: keep-alive\n" +
				"minor=0 length=5 chunked=false host=\"\" keepalive=true close=false upgrade=false websocket=false"},
		{"\r\nGET http://b:81/c?%64 HTTP/1.1\r\nHost: a\r\nConnection: keep-alive , CLOSE\r\nExpect: 100-continue\r\n\r\n",
			"\"GET\" \"http://b:81/c?%64\" form=1 path=\"/c\" false query=\"%64\" true authority=\"b:81\" continue=true\n" +
				"Host: a\nConnection: keep-alive , CLOSE\nExpect: 100-continue\n" +
				"minor=1 length=-1 chunked=false host=\"b:81\" keepalive=false close=true upgrade=false websocket=false"},
		{"GET https://b?q HTTP/1.1\r\nHost:\r\nConnection: x\r\nConnection: upgrade\r\nUpgrade: h2c, WebSocket\r\n\r\n",
			"\"GET\" \"https://b?q\" form=1 path=\"\" false query=\"q\" true authority=\"b\" continue=false\n" +
				"Host: \nConnection: x\nConnection: upgrade\nUpgrade: h2c, WebSocket\n" +
				"minor=1 length=-1 chunked=false host=\"b\" keepalive=true close=false upgrade=true websocket=true"},
		{"CONNECT [2001:db8::1]:443 HTTP/1.1\r\nHost: x\r\n\r\n",
			"\"CONNECT\" \"[2001:db8::1]:443\" form=2 path=\"\" false query=\"\" false authority=\"[2001:db8::1]:443\" continue=false\n" +
				"Host: x\n" +
				"minor=1 length=-1 chunked=false host=\"[2001:db8::1]:443\" keepalive=true close=false upgrade=false websocket=false"},
		{"OPTIONS * HTTP/1.2\r\nHost: x\r\nTransfer-Encoding: Chunked\r\nA: \t b c\t \r\nB:\r\nC: \t \r\n\r\n",
			"\"OPTIONS\" \"*\" form=3 path=\"*\" false query=\"\" false authority=\"\" continue=false\n" +
				"Host: x\nTransfer-Encoding: Chunked\nA: b c\nB: \nC: \n" +
				"minor=1 length=-1 chunked=true host=\"x\" keepalive=true close=false upgrade=false websocket=false"},
		{"GET / HTTP/1.0\r\n\r\n",
			"\"GET\" \"/\" form=0 path=\"/\" false query=\"\" false authority=\"\" continue=false\n" +
				"minor=0 length=-1 chunked=false host=\"\" keepalive=false close=false upgrade=false websocket=false"},
	} {
		var h requestHead
		got := checkSplits(t, []byte(test.in), func(cuts ...int) headOutcome {
			return parseRequestCut(&h, []byte(test.in+rest), &testLimits, cuts...)
		})
		if got.n != len(test.in) || got.text != test.want {
			t.Errorf("%q:\n%d %s\nwant\n%d %s", test.in, got.n, got.text, len(test.in), test.want)
		}
	}
}

func TestRequestHeadUpgradeWebSocket(t *testing.T) {
	for fields, want := range map[string]bool{
		"Connection: Upgrade\r\nUpgrade: websocket\r\n":                              true,
		"Upgrade: h2c , WebSocket\r\nConnection: close\r\nConnection: x,upgrade\r\n": true,
		"Upgrade: h2c\r\nConnection: upgrade\r\nUpgrade: websocket\r\n":              true,
		"Upgrade: websocket\r\n":                           false,
		"Connection: Upgrade\r\n":                          false,
		"Connection: Upgrade\r\nUpgrade: h2c\r\n":          false,
		"Connection: Upgrade\r\nUpgrade: websocket/13\r\n": false,
		"Connection: Upgrade\r\nUpgradX: websocket\r\n":    false,
	} {
		in := "GET / HTTP/1.1\r\nHost: a\r\n" + fields + "\r\n"
		var h requestHead
		if got := parseRequestCut(&h, []byte(in), &testLimits); got.n == 0 || h.upgradeWebSocket() != want {
			t.Errorf("%q: %+v, asks for a WebSocket %t, want %t", fields, got, h.upgradeWebSocket(), want)
		}
	}
}

// TestRequestHeadValues moves each kind of octet through every place of a word
// and every distance to the end of what has arrived.
func TestRequestHeadValues(t *testing.T) {
	var h requestHead
	for c := range 256 {
		valid := c == '\t' || c >= ' ' && c != 0x7f
		for at := range 20 {
			for size := at + 1; size < at+20; size += 3 {
				value := bytes.Repeat([]byte{'v'}, size)
				value[at] = byte(c)
				in := append([]byte("GET / HTTP/1.0\r\nA:"), value...)
				in = append(in, "\r\n\r\n"...)
				got := parseRequestCut(&h, in, &benchLimits)
				if valid != (got.n == len(in)) || valid != (got.status == 0) {
					t.Fatalf("octet %#x at %d of %d: %+v", c, at, size, got)
				}
			}
		}
	}
}

func TestRequestHeadNoLimits(t *testing.T) {
	unlimited := headLimits{-1, -1, -1}
	in := "GET /" + strings.Repeat("a", 1<<16) + " HTTP/1.1\r\nHost: a\r\n" +
		strings.Repeat("Name: "+strings.Repeat("v", 300)+"\r\n", 500) + "\r\n"
	var h requestHead
	if got := parseRequestCut(&h, []byte(in), &unlimited, 100, 1<<17); got.n != len(in) || len(h.fields) != 501 {
		t.Errorf("head of %d octets, %d fields, status %d; want %d and 501", got.n, len(h.fields), got.status, len(in))
	}
}

func TestRequestHeadErrors(t *testing.T) {
	var h requestHead
	h.reset()
	_, err := h.parse([]byte("GET /a\\b HTTP/1.1\r\n"), &testLimits)
	if !errors.Is(err, ErrMalformed) || errors.Is(err, ErrTooLarge) {
		t.Errorf("%v: want ErrMalformed alone", err)
	}
	if want := "flare: byte 6: " + ruleTargetOctet; err.Error() != want {
		t.Errorf("error %q, want %q", err, want)
	}
	h.reset()
	if _, err = h.parse([]byte("GET /"+strings.Repeat("a", 99)), &testLimits); !errors.Is(err, ErrTooLarge) {
		t.Errorf("%v: want ErrTooLarge", err)
	}
}

func TestRequestHeadAllocations(t *testing.T) {
	var h requestHead
	in := []byte(browserHead)
	for _, cut := range []int{0, 100, 650} {
		if n := testing.AllocsPerRun(100, func() {
			h.reset()
			if n, err := h.parse(in[:cut], &benchLimits); n != 0 || err != nil {
				t.Fatal(n, err)
			}
			if n, err := h.parse(in, &benchLimits); n != len(in) {
				t.Fatal(n, err)
			}
		}); n != 0 {
			t.Errorf("cut at %d: %v allocations, want none", cut, n)
		}
	}
}

// TestRequestHeadFillsHeader joins the parser's offsets and the Header.
func TestRequestHeadFillsHeader(t *testing.T) {
	var h requestHead
	var header headerFields
	h.reset()
	n, err := h.parse([]byte(browserHead), &benchLimits)
	if err != nil {
		t.Fatal(err)
	}
	header.fill(browserHead[:n], h.fields)
	_, fields, _ := strings.Cut(browserHead[:n-2], "\r\n")
	if got := string(header.appendTo(nil)); got != fields {
		t.Errorf("header\n%s\nwant\n%s", got, fields)
	}
	if got := header.Get("host"); got != "www.example-photographs.test" {
		t.Errorf("Host %q", got)
	}
}
