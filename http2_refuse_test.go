package flare

import (
	"fmt"
	"strings"
	"testing"
	"time"
)

// This file has what a server refuses, over both versions in one table: what
// http1_table_test.go has in all its forms, by one or two of each kind, beside
// what becomes of the same over HTTP/2.

// outcome2 is what becomes of a request over HTTP/2: a status, a reset of its
// stream, or the end of the connection, in this order.
type outcome2 struct {
	status int
	reset  http2Code
	away   http2Code
}

var (
	malformed2 = outcome2{reset: codeProtocol} // RFC 9113 §8.1.1
	none2      = outcome2{}                    // HTTP/2 has no such thing
)

func status2(status int) outcome2 { return outcome2{status: status} }

// A refusal2 is a request that is refused, in both versions.
type refusal2 struct {
	name  string
	one   string // over HTTP/1.1; "": it has no such thing
	code1 int
	two   []string // the fields over HTTP/2, as they are on the wire
	body2 string   // behind them
	tail2 []string // its trailer section
	open2 bool     // it does not end: the refusal is not for what comes later
	code2 outcome2
}

// lines2 are the fields of a request with replaced pseudo-fields, as replaced
// does it, and more behind them.
func lines2(lines ...string) []string {
	pseudo, more := []string{}, []string{}
	for _, line := range lines {
		if strings.HasPrefix(line, ":") {
			pseudo = append(pseudo, line)
		} else {
			more = append(more, line)
		}
	}
	return append(replaced(append([]string{":path: /" + mark, ":scheme: http"}, pseudo...)...), more...)
}

func post2(lines ...string) []string { return lines2(append([]string{":method: POST"}, lines...)...) }

// refusals2 has a row for each of HTTP.md's kinds, in its order.
func refusals2() []refusal2 {
	const m = mark
	get := func(field string) string { return getWith(field + "\r\nY: " + m) }
	post := func(field, body string) string { return head("POST /"+m+" HTTP/1.1", field) + body }
	long := strings.Repeat("a", refusingHeaderMax)
	many := strings.Repeat("X: a\r\n", refusingHeaders) + "Z: a"
	var many2 []string
	for range refusingHeaders {
		many2 = append(many2, "x: a")
	}
	target := func(path string, code2 outcome2) refusal2 {
		return refusal2{name: fmt.Sprintf("target %.20q", path), one: head("GET " + path + " HTTP/1.1"), code1: 400, two: lines2(":path: " + path), code2: code2}
	}
	length := func(value string) refusal2 {
		return refusal2{name: fmt.Sprintf("Content-Length %q", value), one: post("Content-Length: "+value, "hello"), code1: 400,
			two: post2("content-length: " + value), body2: "hello", code2: malformed2}
	}
	host := func(value string) refusal2 {
		return refusal2{name: fmt.Sprintf("Host %q", value), one: "GET /" + m + " HTTP/1.1\r\nHost: " + value + "\r\n\r\n", code1: 400,
			two: lines2(":authority: " + value), code2: malformed2}
	}
	value := func(what, value string) refusal2 {
		return refusal2{name: what + " in a value", one: get("X: " + value), code1: 400, two: lines2("x: " + value), code2: malformed2}
	}
	field := func(name, value string, code1 int) refusal2 {
		row := refusal2{name: name + ": " + value, code1: code1, two: lines2(strings.ToLower(name) + ": " + value), code2: malformed2}
		if code1 > 0 {
			row.one = get(name + ": " + value)
		}
		return row
	}
	return []refusal2{
		value("bare CR", "a\rb"), value("bare LF", "a\nb"), value("folding", "a\r\n b"),
		value("NUL", "a\x00b"), value("DEL", "a\x7f"), value("a control", "\x01a"),
		{name: "bare LF at the end of a line", one: "GET /" + m + " HTTP/1.1\nHost: h\r\n\r\n", code1: 400, code2: none2},
		{name: "three empty lines", one: "\r\n\r\n\r\n" + head("GET /"+m+" HTTP/1.1"), code1: 400, code2: none2},
		{name: "four parts", one: head("GET /" + m + " x HTTP/1.1"), code1: 400, two: lines2(":path: /" + m + " x"), code2: malformed2},
		target("/"+m+"\x01", malformed2), target("/"+m+"\x7f", malformed2), target("/"+m+"#x", malformed2), target("/"+m+"\\x", malformed2),
		target("/"+m+"%zz", malformed2), target("/"+m+"%2", malformed2), target(m, malformed2), target("ftp://h/"+m, malformed2),
		{name: "target that is empty", one: head("GET  HTTP/1.1"), code1: 400, two: lines2(":path: "), code2: malformed2},
		{name: "no target", one: head("GET HTTP/1.1"), code1: 400, two: lines2(":path: -"), code2: malformed2},
		{name: "method that is no token", one: head("G(T /" + m + " HTTP/1.1"), code1: 400, two: lines2(":method: G(T"), code2: malformed2},
		{name: "method of 33 octets", one: head(strings.Repeat("M", 33) + " /" + m + " HTTP/1.1"), code1: 501,
			two: lines2(":method: " + strings.Repeat("M", 33)), code2: status2(501)},
		{name: "target over its limit", one: head("GET /" + m + strings.Repeat("a", refusingURIMax) + " HTTP/1.1"), code1: 414,
			two: lines2(":path: /" + m + strings.Repeat("a", refusingURIMax)), code2: status2(414)},
		{name: "version in lower case", one: head("GET /" + m + " http/1.1"), code1: 400, code2: none2},
		{name: "another major version", one: head("GET /" + m + " HTTP/3.0"), code1: 505, code2: none2},
		{name: "asterisk with GET", one: head("GET * HTTP/1.1"), code1: 400, two: lines2(":path: *"), code2: malformed2},
		{name: "CONNECT with a path", one: head("CONNECT /" + m + " HTTP/1.1"), code1: 400, two: lines2(":method: CONNECT"), code2: malformed2},
		{name: "CONNECT without a port", one: head("CONNECT " + m + " HTTP/1.1"), code1: 400,
			two: lines2(":method: CONNECT", ":path: -", ":scheme: -", ":authority: "+m), code2: malformed2},
		{name: "CONNECT", one: head("CONNECT " + m + ":80 HTTP/1.1"), code1: 405,
			two: lines2(":method: CONNECT", ":path: -", ":scheme: -", ":authority: "+m+":80"), code2: status2(405)},
		{name: "space before the colon", one: get("X : a"), code1: 400, two: lines2("x : a"), code2: malformed2},
		{name: "name that is no token", one: get("X(: a"), code1: 400, two: lines2("x(: a"), code2: malformed2},
		{name: "name that is not ASCII", one: get("X\x80: a"), code1: 400, two: lines2("x\x80: a"), code2: malformed2},
		{name: "name with a capital", two: lines2("X: a"), code2: malformed2},
		{name: "fields over their limit", one: get("X: " + long), code1: 431, two: lines2("x: " + long), code2: status2(431)},
		{name: "too many fields", one: get(many), code1: 431, two: lines2(many2...), code2: status2(431)},
		{name: "no Host", one: "GET /" + m + " HTTP/1.1\r\n\r\n", code1: 400, two: lines2(":authority: -"), code2: malformed2},
		{name: "Host twice", one: getWith("Host: " + m), code1: 400, two: lines2(":authority: -", "host: h", "host: h"), code2: malformed2},
		{name: "a Host that differs from the authority", two: lines2("host: " + m), code2: malformed2},
		host("u@h"), host("h/x"), host("h:65536"), host("[::g]"), host("h x"),
		{name: "an authority that is empty", two: lines2(":authority: "), code2: malformed2},
		length("+5"), length("0x5"), length("5 5"), length("05"), length("5, 5"), length(""), length("1234567890123456789"),
		{name: "Content-Length twice", one: post("Content-Length: 5\r\nContent-Length: 5", "hello"), code1: 400,
			two: post2("content-length: 5", "content-length: 5"), body2: "hello", code2: malformed2},
		{name: "Content-Length and no body", two: post2("content-length: 5"), code2: malformed2},
		{name: "a body that is shorter than its Content-Length", two: post2("content-length: 5"), body2: "hell", code2: malformed2},
		{name: "a body that is longer than its Content-Length", two: post2("content-length: 5"), body2: "hello!", code2: malformed2},
		{name: "Content-Length with Transfer-Encoding", one: post("Content-Length: 5\r\nTransfer-Encoding: chunked", "hello"), code1: 400,
			two: post2("content-length: 5", "transfer-encoding: chunked"), body2: "hello", code2: malformed2},
		{name: "a coding before chunked", one: post("Transfer-Encoding: gzip, chunked", "0\r\n\r\n"), code1: 501,
			two: post2("transfer-encoding: gzip, chunked"), body2: "x", code2: malformed2},
		field("Transfer-Encoding", "gzip", 400),
		field("Connection", "close", 0), field("Keep-Alive", "timeout=5", 0), field("Proxy-Connection", "close", 0), field("Upgrade", "x", 0),
		field("TE", "gzip", 0),
		{name: "chunk size of letters", one: chunkedWith("xyz\r\nhello\r\n0\r\n\r\n"), code1: 400, code2: none2},
		{name: "chunk extensions over their limit", one: chunkedWith("1;a=" + strings.Repeat("b", 1<<10) + "\r\nx\r\n0\r\n\r\n"), code1: 413, code2: none2},
		{name: "trailer over the head's limit", one: chunkedWith("1\r\nx\r\n0\r\nX: " + long + "\r\n\r\n"), code1: 431,
			two: post2(), body2: "x", tail2: []string{"x: " + long}, code2: status2(431)},
		{name: "trailer with a bad name", one: chunkedWith("1\r\nx\r\n0\r\nX(: a\r\n\r\n"), code1: 400,
			two: post2(), body2: "x", tail2: []string{"x(: a"}, code2: malformed2},
		{name: "trailer with a pseudo-field", two: post2(), body2: "x", tail2: []string{":path: /"}, code2: malformed2},
		{name: "declared body over its limit", one: post(fmt.Sprintf("Content-Length: %d", refusingBodyMax+1), ""), code1: 413,
			two: post2(fmt.Sprintf("content-length: %d", refusingBodyMax+1)), open2: true, code2: status2(413)},
		{name: "declared body over its limit, with Expect", one: post(fmt.Sprintf("Content-Length: %d\r\nExpect: 100-continue", refusingBodyMax+1), ""), code1: 413,
			two: post2(fmt.Sprintf("content-length: %d", refusingBodyMax+1), "expect: 100-continue"), open2: true, code2: status2(413)},
		{name: "counted body over its limit", one: chunkedWith("7fff\r\n" + strings.Repeat("x", refusingBodyMax+1)), code1: 413,
			two: post2(), body2: strings.Repeat("x", refusingBodyMax+1), open2: true, code2: status2(413)},
		{name: "unknown expectation", one: get("Expect: x"), code1: 417, two: lines2("expect: x"), code2: status2(417)},
		{name: "unknown expectation of a body", one: post("Content-Length: 5\r\nExpect: x", ""), code1: 417,
			two: post2("content-length: 5", "expect: x"), open2: true, code2: status2(417)},
		{name: "TLS hello", one: "\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" + m, code1: 400, code2: none2},

		// What HTTP/2 alone has.
		{name: "pseudo-field that is unknown", two: lines2(":x: y"), code2: malformed2},
		{name: "pseudo-field of a response", two: lines2(":status: 200"), code2: malformed2},
		{name: "pseudo-field twice", two: append(lines2()[:4:4], ":path: /"), code2: malformed2},
		{name: "pseudo-field behind a field", two: append([]string{"x: y"}, lines2()...), code2: malformed2},
		{name: "no scheme", two: lines2(":scheme: -"), code2: malformed2},
		{name: "another scheme", two: lines2(":scheme: ftp"), code2: malformed2},
		{name: ":protocol of GET", two: lines2(":protocol: websocket"), code2: malformed2},
		{name: "malformed goes before refused", two: lines2("expect: x", "X: a"), code2: malformed2},
	}
}

// rawBlock encodes fields as they are, capitals and all.
func rawBlock(lines ...string) (b []byte) {
	for _, line := range lines {
		name, value, _ := strings.Cut(line[1:], ":")
		name = line[:1] + name
		b = appendHPACKInteger(append(b, 0), 0, 0x7f, uint32(len(name)))
		b = append(b, name...)
		value = strings.TrimPrefix(value, " ")
		b = appendHPACKInteger(b, 0, 0x7f, uint32(len(value)))
		b = append(b, value...)
	}
	return b
}

// ask sends the row over HTTP/2 and returns what came of it.
func (row *refusal2) ask(p *http2Peer) *http2Answer {
	p.t.Helper()
	headers := func(stream uint32, end bool, lines []string) []byte {
		b, at := beginHeaders(nil)
		return endHeaders(append(b, rawBlock(lines...)...), at, stream, end, p.theirs.frameSizeMax)
	}
	_, stream := p.head(true)
	p.enc.reset() // nothing of that was sent
	b := headers(stream, !row.open2 && row.body2 == "" && row.tail2 == nil, row.two)
	if row.body2 != "" {
		p.send(b)
		b = nil
		p.data(stream, []byte(row.body2), !row.open2 && row.tail2 == nil)
	}
	if row.tail2 != nil {
		b = append(b, headers(stream, true, row.tail2)...)
	}
	p.send(b)
	return p.answer(stream)
}

// Over HTTP/2 the requests share one connection: what is refused is the
// request, and those beside it are answered.
func TestRefusalsOfBothVersions(t *testing.T) {
	s := refusingServer()
	mux := NewMux()
	mux.Handle("/", s.Handler)
	s.Handler = mux
	two := startHTTP2(t, s)
	p := two.dial(t)
	slow := p.open(false, requestLines("POST", "/slow")...)
	for _, row := range refusals2() {
		if row.one != "" {
			c := dialRaw(t, two.addr)
			c.send(row.one)
			if a := c.answer("GET"); a.StatusCode != row.code1 || !a.Close {
				t.Errorf("%s: HTTP/1.1 says %d, close %v; want %d", row.name, a.StatusCode, a.Close, row.code1)
			}
			c.Close()
		}
		if row.code2 == none2 {
			continue
		}
		a := row.ask(p)
		text := fmt.Sprint(a, a.interim)
		switch {
		case row.code2.status > 0 && (a.status != row.code2.status || !a.ended || len(a.interim) > 0):
			t.Errorf("%s: HTTP/2 says %s, want %d", row.name, text, row.code2.status)
		case row.code2.status > 0 && row.open2:
			p.readUntil("the reset of what is still coming", func() bool { return a.reset })
			if a.code != codeNone { // RFC 9113 §8.1
				t.Errorf("%s: reset by %v, want %v", row.name, a.code, codeNone)
			}
		case row.code2.status == 0 && (a.status != 0 || !a.reset || a.code != row.code2.reset):
			t.Errorf("%s: HTTP/2 says %s, want a reset by %v", row.name, text, row.code2.reset)
		}
		if strings.Contains(string(a.body), mark) {
			t.Errorf("%s: the answer repeats the input: %s", row.name, text)
		}
		if a.status > 0 && (a.fields.Get("date") == "" || a.length < 0) {
			t.Errorf("%s: without a date or a length: %s", row.name, text)
		}
		p.get("/").want(t, 200, "fine")
	}
	p.data(slow, []byte("x"), true)
	p.answer(slow).want(t, 200, "fine")
}

// What is too slow is refused in time, and what is beside it is not.
func TestRefusedSlowHTTP2(t *testing.T) {
	t.Parallel()
	const limit = 300 * time.Millisecond
	s := refusingServer()
	s.HeadTimeout, s.BodyTimeout = limit, limit
	two := startHTTP2(t, s)
	p := two.dial(t)
	for _, body := range []string{"", "hel"} {
		for _, lines := range [][]string{{"content-length: 10"}, nil} {
			began := time.Now()
			stream := p.open(false, requestLines("POST", "/"+mark, lines...)...)
			if body != "" {
				p.data(stream, []byte(body), false)
			}
			a := p.answer(stream)
			if took := time.Since(began); took < limit-tick || a.status != 408 || !a.ended {
				t.Errorf("%q of %q: %v after %v, the limit is %v", body, lines, a, took, limit)
			}
			p.readUntil("the reset of what is still coming", func() bool { return a.reset })
			if a.code != codeNone {
				t.Errorf("%q of %q: reset by %v", body, lines, a.code)
			}
			p.get("/").want(t, 200, "fine")
		}
	}
	// A field section that does not come to its end leaves nothing to go on with.
	b, at := beginHeaders(nil)
	b = append(b, p.encode(requestLines("GET", "/")...)...)
	b = endHeaders(b, at, p.fresh, true, frameSizeDefault)
	b[4] &^= flagEndHeaders
	began := time.Now()
	p.send(b)
	p.toEnd()
	if took := time.Since(began); took < limit-tick || took > patience/2 {
		t.Errorf("ended after %v, the limit is %v", took, limit)
	}
	if len(p.goAway) == 0 {
		t.Errorf("no GOAWAY: %v", p.over)
	}
	// Nor does a connection that has not begun.
	idle := refusingServer()
	idle.HeadTimeout, idle.IdleTimeout = limit, limit
	secured := startHTTP2TLS(t, idle)
	for _, start := range []string{"", http2Preface[:10], http2Preface, http2Preface + "\x00\x00\x06"} {
		began := time.Now()
		late := secured.quiet(t)
		late.manual = true
		late.send([]byte(start))
		late.toEnd()
		if took := time.Since(began); took < limit-2*tick || took > patience/2 {
			t.Errorf("%q: ended after %v, the limit is %v", start, took, limit)
		}
	}
}
