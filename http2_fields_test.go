package flare

import (
	"bytes"
	"errors"
	"net/http"
	"slices"
	"strings"
	"testing"
)

// fill makes s the section that has those fields, "name: value", as the wire
// has them.
func (s *fieldSection) fill(lim *headLimits, lines ...string) {
	s.reset(lim)
	for _, line := range lines {
		colon := strings.Index(line[1:], ":") + 1
		if s.cut {
			return
		}
		s.octets = append(append(s.octets, line[:colon]...), line[colon+len(": "):]...)
		s.add(uint32(colon), kindOfName([]byte(line[:colon])))
	}
}

// headLines are the fields of a head, "name: value".
func headLines(fields []field, octets []byte) []string {
	var lines []string
	for _, f := range fields {
		lines = append(lines, string(octets[f.name:f.nameEnd])+": "+string(octets[f.value:f.valueEnd]))
	}
	return lines
}

// getLines is a request that nothing is wrong with; with puts more behind it.
var getLines = []string{":method: GET", ":scheme: https", ":path: /a?b", ":authority: a.example"}

func with(lines ...string) []string { return append(getLines[:4:4], lines...) }

// replaced is getLines with other pseudo-fields; an empty one goes.
func replaced(lines ...string) []string {
	all := slices.Clone(getLines)
	for _, line := range lines {
		name, value, _ := strings.Cut(line[1:], ": ")
		at := slices.IndexFunc(all, func(s string) bool { return strings.HasPrefix(s, ":"+name+": ") })
		switch {
		case at < 0:
			all = append(all, line)
		case value == "-":
			all = slices.Delete(all, at, at+1)
		default:
			all[at] = line
		}
	}
	return all
}

// Requests that are malformed, by the rule they break. The last column is the
// same over HTTP/1.1, where there is one: refused too.
func TestHTTP2RequestMalformed(t *testing.T) {
	const malformed = 400
	for _, test := range []struct {
		name  string
		lines []string
		rule  string
		http1 string // head of HTTP/1.1 with the same fault, "" if it has no such thing
	}{
		{"name with a capital", with("X-a: b"), ruleSectionName, ""},
		{"name with a capital at its end", with("xA: b"), ruleSectionName, ""},
		{"name with a space", with("x a: b"), ruleSectionName, "GET / HTTP/1.1\r\nHost: a\r\nx a: b\r\n\r\n"},
		{"name with an octet above 0x7f", with("x\xe9: b"), ruleSectionName, "GET / HTTP/1.1\r\nHost: a\r\nx\xe9: b\r\n\r\n"},
		{"name with NUL", with("x\x00: b"), ruleSectionName, "GET / HTTP/1.1\r\nHost: a\r\nx\x00: b\r\n\r\n"},
		{"CR in a value", with("x: a\rb"), ruleSectionValue, "GET / HTTP/1.1\r\nHost: a\r\nx: a\rb\r\n\r\n"},
		{"LF in a value", with("x: a\nb"), ruleSectionValue, "GET / HTTP/1.1\r\nHost: a\r\nx: a\nb\r\n\r\n"},
		{"NUL in a value", with("x: a\x00b"), ruleSectionValue, "GET / HTTP/1.1\r\nHost: a\r\nx: a\x00b\r\n\r\n"},
		{"DEL in a long value", with("x: " + strings.Repeat("a", 30) + "\x7f"), ruleSectionValue, "GET / HTTP/1.1\r\nHost: a\r\nx: \x7f\r\n\r\n"},
		{"control in the path", replaced(":path: /a\x01"), ruleSectionValue, "GET /a\x01 HTTP/1.1\r\nHost: a\r\n\r\n"},
		{"space before a value", with("x:  a"), ruleSectionValue, ""},
		{"tab behind a value", with("x: a\t"), ruleSectionValue, ""},
		{"Connection", with("connection: close"), ruleSectionConnection, ""},
		{"Proxy-Connection", with("proxy-connection: close"), ruleSectionConnection, ""},
		{"Keep-Alive", with("keep-alive: timeout=5"), ruleSectionConnection, ""},
		{"Transfer-Encoding", with("transfer-encoding: chunked"), ruleSectionConnection, ""},
		{"Upgrade", with("upgrade: websocket"), ruleSectionConnection, ""},
		{"TE: gzip", with("te: gzip"), ruleSectionTE, ""},
		{"TE: trailers and more", with("te: trailers, deflate;q=0.5"), ruleSectionTE, ""},
		{"pseudo-field behind a field", []string{getLines[0], getLines[1], getLines[2], "x: y", getLines[3]}, rulePseudoLate, ""},
		{"pseudo-field behind Host", []string{getLines[0], getLines[1], "host: a.example", getLines[2]}, rulePseudoLate, ""},
		{"pseudo-field behind a Cookie", []string{getLines[0], getLines[1], "cookie: a", getLines[2]}, rulePseudoLate, ""},
		{"pseudo-field twice", with(":path: /a?b"), rulePseudoTwice, ""},
		{"pseudo-field of a response", with(":status: 200"), rulePseudoUnknown, ""},
		{"unknown pseudo-field", with(":x: y"), rulePseudoUnknown, ""},
		{"no name but a colon", with(":: y"), rulePseudoUnknown, ""},
		{"no method", replaced(":method: -"), rulePseudoMissing, "/ HTTP/1.1\r\nHost: a\r\n\r\n"},
		{"no scheme", replaced(":scheme: -"), rulePseudoMissing, ""},
		{"no path", replaced(":path: -"), rulePseudoMissing, "GET HTTP/1.1\r\nHost: a\r\n\r\n"},
		{"method not a token", replaced(":method: G(T"), ruleMethod, "G(T / HTTP/1.1\r\nHost: a\r\n\r\n"},
		{"empty method", replaced(":method: "), ruleMethod, " / HTTP/1.1\r\nHost: a\r\n\r\n"},
		{"scheme of another protocol", replaced(":scheme: ftp"), ruleScheme, "GET ftp://a/ HTTP/1.1\r\nHost: a\r\n\r\n"},
		{"empty path", replaced(":path: "), ruleTargetEmpty, "GET  HTTP/1.1\r\nHost: a\r\n\r\n"},
		{"path without a slash", replaced(":path: a"), ruleTargetForm, "GET a HTTP/1.1\r\nHost: a\r\n\r\n"},
		{"path in absolute form", replaced(":path: https://a.example/a"), rulePath, ""},
		{"* without OPTIONS", replaced(":path: *"), ruleTargetAsterisk, "GET * HTTP/1.1\r\nHost: a\r\n\r\n"},
		{"path with a space", replaced(":path: /a b"), rulePath, "GET /a b HTTP/1.1\r\nHost: a\r\n\r\n"},
		{"path with #", replaced(":path: /a#b"), ruleTargetOctet, "GET /a#b HTTP/1.1\r\nHost: a\r\n\r\n"},
		{"path with a bad escape", replaced(":path: /%4"), ruleTargetEscape, "GET /%4 HTTP/1.1\r\nHost: a\r\n\r\n"},
		{"path that ends in %", replaced(":path: /%"), ruleTargetEscape, "GET /% HTTP/1.1\r\nHost: a\r\n\r\n"},
		{"no host", replaced(":authority: -"), ruleAuthorityMissing, "GET / HTTP/1.1\r\n\r\n"},
		{"empty authority", replaced(":authority: "), ruleAuthorityMissing, ""},
		{"empty Host alone", append(replaced(":authority: -"), "host: "), ruleAuthorityMissing, ""},
		{"authority with userinfo", replaced(":authority: u@a"), ruleHostValue, "GET / HTTP/1.1\r\nHost: u@a\r\n\r\n"},
		{"authority with a bad port", replaced(":authority: a:65536"), ruleHostValue, "GET / HTTP/1.1\r\nHost: a:65536\r\n\r\n"},
		{"Host with a slash", append(replaced(":authority: -"), "host: a/b"), ruleHostValue, "GET / HTTP/1.1\r\nHost: a/b\r\n\r\n"},
		{"another Host", with("host: b.example"), ruleAuthorityHost, ""},
		{"another port in Host", with("host: a.example:444"), ruleAuthorityHost, ""},
		{"empty Host beside an authority", with("host: "), ruleAuthorityHost, ""},
		{"two Hosts", with("host: a.example", "host: a.example"), ruleHostTwice, "GET / HTTP/1.1\r\nHost: a\r\nHost: a\r\n\r\n"},
		{"Content-Length with a sign", with("content-length: +1"), ruleLengthValue, "GET / HTTP/1.1\r\nHost: a\r\nContent-Length: +1\r\n\r\n"},
		{"Content-Length with a zero in front", with("content-length: 01"), ruleLengthValue, "GET / HTTP/1.1\r\nHost: a\r\nContent-Length: 01\r\n\r\n"},
		{"Content-Length twice", with("content-length: 0", "content-length: 0"), ruleLengthTwice, "GET / HTTP/1.1\r\nHost: a\r\nContent-Length: 0\r\nContent-Length: 0\r\n\r\n"},
		{"Content-Length without a body", with("content-length: 1"), ruleLengthNoBody, ""},
		{"CONNECT with a path", replaced(":method: CONNECT", ":scheme: -", ":authority: a:1"), rulePseudoConnect, ""},
		{"CONNECT with a scheme", replaced(":method: CONNECT", ":path: -", ":authority: a:1"), rulePseudoConnect, ""},
		{"CONNECT without an authority", replaced(":method: CONNECT", ":path: -", ":scheme: -", ":authority: -"), rulePseudoConnect, ""},
		{"CONNECT without a port", replaced(":method: CONNECT", ":path: -", ":scheme: -"), ruleTargetAuthority, "CONNECT a HTTP/1.1\r\nHost: a\r\n\r\n"},
		{":protocol without CONNECT", with(":protocol: websocket"), ruleProtocol, ""},
		{":protocol that is no token", replaced(":method: CONNECT", ":protocol: web socket"), ruleProtocol, ""},
		{"extended CONNECT without a path", replaced(":method: CONNECT", ":path: -", ":protocol: websocket"), rulePseudoMissing, ""},
		{"extended CONNECT with *", replaced(":method: CONNECT", ":path: *", ":protocol: websocket"), ruleTargetAsterisk, ""},
		// Malformed goes before refused.
		{"expectation before a fault", with("expect: x", "X: y"), ruleSectionName, ""},
		{"method too long before a fault", append(replaced(":method: "+strings.Repeat("A", 33)), "connection: x"), ruleSectionConnection, ""},
	} {
		t.Run(test.name, func(t *testing.T) {
			var s fieldSection
			s.fill(&sectionLimits, test.lines...)
			var h requestHead
			h.reset()
			err := h.fillHTTP2(&s, &sectionLimits, requestOffer{endStream: true, connect: true})
			checkHTTP2Error(t, err, ofStream(codeProtocol, test.rule))
			if test.http1 == "" {
				return
			}
			h.reset()
			var fault *ParseError
			if _, err := h.parse([]byte(test.http1), &sectionLimits); !errors.As(err, &fault) || fault.Status != malformed {
				t.Errorf("HTTP/1.1 says %v", err)
			}
		})
	}
	// An empty name has no place in the notation above.
	var s fieldSection
	s.fill(&sectionLimits, getLines...)
	s.octets = append(s.octets, 'x')
	s.add(0, kindOfName(nil))
	var h requestHead
	h.reset()
	checkHTTP2Error(t, h.fillHTTP2(&s, &sectionLimits, requestOffer{endStream: true}), ofStream(codeProtocol, ruleSectionName))
	// Extended CONNECT that was not offered.
	s.fill(&sectionLimits, replaced(":method: CONNECT", ":protocol: websocket")...)
	h.reset()
	checkHTTP2Error(t, h.fillHTTP2(&s, &sectionLimits, requestOffer{}), ofStream(codeProtocol, ruleProtocol))
}

// Requests that are refused with a status, the same over both versions.
func TestHTTP2RequestRefused(t *testing.T) {
	lim := headLimits{uriBytes: 20, headerBytes: 100, headers: 5}
	long := strings.Repeat("x", 60)
	for _, test := range []struct {
		name   string
		lines  []string
		status int // 0: accepted
		http1  string
	}{
		{"method of 32 octets", replaced(":method: " + strings.Repeat("A", 32)), 0, strings.Repeat("A", 32) + " / HTTP/1.1\r\nHost: a\r\n\r\n"},
		{"method of 33 octets", replaced(":method: " + strings.Repeat("A", 33)), 501, strings.Repeat("A", 33) + " / HTTP/1.1\r\nHost: a\r\n\r\n"},
		{"target at the limit", replaced(":path: /" + strings.Repeat("a", 19)), 0, "GET /" + strings.Repeat("a", 19) + " HTTP/1.1\r\nHost: a\r\n\r\n"},
		{"target over the limit", replaced(":path: /" + strings.Repeat("a", 20)), 414, "GET /" + strings.Repeat("a", 20) + " HTTP/1.1\r\nHost: a\r\n\r\n"},
		{"target far over the limit", append(replaced(":path: /"+strings.Repeat("a", 2000)), "x: y"), 414, "GET /" + strings.Repeat("a", 2000) + " HTTP/1.1\r\nHost: a\r\n\r\n"},
		// Host is a field of both: 21 octets with what a line has.
		{"fields at the limit", with("abcd: " + strings.Repeat("x", 100-21-8)), 0, "GET / HTTP/1.1\r\nHost: a.example\r\nabcd: " + strings.Repeat("x", 100-17-8-4+4) + "\r\n\r\n"},
		{"fields over the limit", with("abcd: " + strings.Repeat("x", 100-17-8-4+9)), 431, "GET / HTTP/1.1\r\nHost: a.example\r\nabcd: " + strings.Repeat("x", 100-17-8-4+9) + "\r\n\r\n"},
		{"many fields", with("a: b", "c: d", "e: f", "g: h"), 0, "GET / HTTP/1.1\r\nHost: a\r\na: b\r\nc: d\r\ne: f\r\ng: h\r\n\r\n"},
		{"too many fields", with("a: b", "c: d", "e: f", "g: h", "i: j"), 431, "GET / HTTP/1.1\r\nHost: a\r\na: b\r\nc: d\r\ne: f\r\ng: h\r\ni: j\r\n\r\n"},
		{"too many Hosts count once", with("host: a.example", "a: b", "c: d", "e: f", "g: h"), 0, ""},
		{"cookies count once", with("cookie: a", "cookie: b", "cookie: c", "cookie: d", "cookie: e", "cookie: f", "a: b"), 0, ""},
		{"cookies count with their octets", with("cookie: "+long, "cookie: "+long), 431, ""},
		{"far too many fields", with(slices.Repeat([]string{"x: " + long}, 20)...), 431, ""},
		{"Expect of something else", with("expect: x"), 417, "GET / HTTP/1.1\r\nHost: a\r\nExpect: x\r\n\r\n"},
		{"the request line goes before fields", append(replaced(":path: /"+strings.Repeat("a", 20)), "a: b", "c: d", "e: f", "g: h", "i: j", "expect: x"), 414, ""},
	} {
		t.Run(test.name, func(t *testing.T) {
			var s fieldSection
			s.fill(&lim, test.lines...)
			var h requestHead
			h.reset()
			err := h.fillHTTP2(&s, &lim, requestOffer{endStream: true})
			checkStatus(t, err, test.status)
			if !strings.HasPrefix(test.lines[0], ":method: "+string(h.method.of(s.octets))) || h.method.len() == 0 {
				t.Errorf("method is %q", h.method.of(s.octets))
			}
			if test.http1 != "" {
				h.reset()
				_, err := h.parse([]byte(test.http1), &lim)
				checkStatus(t, err, test.status)
			}
		})
	}
}

func checkStatus(t *testing.T, err error, status int) {
	t.Helper()
	var fault *ParseError
	if errors.As(err, &fault) && fault.Status == status || err == nil && status == 0 {
		return
	}
	t.Errorf("error %v, want status %d", err, status)
}

// What a request becomes.
func TestHTTP2Request(t *testing.T) {
	for _, test := range []struct {
		name   string
		lines  []string
		offer  requestOffer
		fields []string
		want   requestHead // what is compared: flags, form, length
		line   string      // method, target, path, query, host, authority
	}{
		{"the usual", with("user-agent: x", "accept: */*"), requestOffer{endStream: true},
			[]string{"host: a.example", "user-agent: x", "accept: */*"}, requestHead{hasQuery: true}, "GET /a?b /a b a.example -"},
		{"pseudo-fields in another order", []string{getLines[3], getLines[2], getLines[1], getLines[0]}, requestOffer{endStream: true},
			[]string{"host: a.example"}, requestHead{hasQuery: true}, "GET /a?b /a b a.example -"},
		{"Host alone", append(replaced(":authority: -"), "x: y", "host: b:8080"), requestOffer{endStream: true},
			[]string{"host: b:8080", "x: y"}, requestHead{hasQuery: true}, "GET /a?b /a b b:8080 -"},
		{"Host that says the same", with("host: A.example:443"), requestOffer{endStream: true},
			[]string{"host: A.example:443"}, requestHead{hasQuery: true}, "GET /a?b /a b A.example:443 -"},
		{"a port that http implies", append(replaced(":scheme: HTTP", ":authority: a:80"), "host: a"), requestOffer{endStream: true},
			[]string{"host: a"}, requestHead{hasQuery: true}, "GET /a?b /a b a -"},
		{"escapes", replaced(":path: /%41?"), requestOffer{endStream: true},
			[]string{"host: a.example"}, requestHead{hasQuery: true, pathEscaped: true}, "GET /%41? /%41  a.example -"},
		{"OPTIONS *", replaced(":method: OPTIONS", ":path: *"), requestOffer{endStream: true},
			[]string{"host: a.example"}, requestHead{form: asteriskForm}, "OPTIONS * *  a.example -"},
		{"cookies", with("cookie: a=1", "x: y", "cookie: b=2", "cookie: ", "z: z", "cookie: c=3"), requestOffer{endStream: true},
			[]string{"host: a.example", "cookie: a=1; b=2; ; c=3", "x: y", "z: z"}, requestHead{hasQuery: true}, "GET /a?b /a b a.example -"},
		{"cookies, the first empty", with("cookie: ", "cookie: b"), requestOffer{endStream: true},
			[]string{"host: a.example", "cookie: ; b"}, requestHead{hasQuery: true}, "GET /a?b /a b a.example -"},
		{"TE: trailers", with("te: trailers"), requestOffer{endStream: true},
			[]string{"host: a.example", "te: trailers"}, requestHead{hasQuery: true}, "GET /a?b /a b a.example -"},
		{"a body of a known length", append(replaced(":method: POST"), "content-length: 12", "expect: 100-continue"), requestOffer{},
			[]string{"host: a.example", "content-length: 12", "expect: 100-continue"},
			requestHead{hasQuery: true, messageHead: messageHead{contentLength: 13, expectContinue: true}}, "POST /a?b /a b a.example -"},
		{"a body of an unknown length", replaced(":method: POST"), requestOffer{},
			[]string{"host: a.example"}, requestHead{hasQuery: true, messageHead: messageHead{chunked: true}}, "POST /a?b /a b a.example -"},
		{"CONNECT", replaced(":method: CONNECT", ":scheme: -", ":path: -", ":authority: a:443"), requestOffer{},
			[]string{"host: a:443"}, requestHead{form: authorityForm}, "CONNECT a:443   a:443 a:443"},
		{"WebSocket", append(replaced(":method: CONNECT", ":protocol: websocket"), "sec-websocket-version: 13"), requestOffer{connect: true},
			[]string{"host: a.example", "sec-websocket-version: 13"},
			requestHead{hasQuery: true, messageHead: messageHead{websocket: true, connUpgrade: true}}, "GET /a?b /a b a.example -"},
		{"another extended CONNECT", replaced(":method: CONNECT", ":protocol: connect-udp"), requestOffer{connect: true},
			[]string{"host: a.example"}, requestHead{hasQuery: true}, "CONNECT /a?b /a b a.example -"},
		{"a value with a tab and octets above 0x7f", with("x: a\tb\xff"), requestOffer{endStream: true},
			[]string{"host: a.example", "x: a\tb\xff"}, requestHead{hasQuery: true}, "GET /a?b /a b a.example -"},
		{"a long path that is last", []string{getLines[0], getLines[1], getLines[3], ":path: /a?b"}, requestOffer{endStream: true},
			[]string{"host: a.example"}, requestHead{hasQuery: true}, "GET /a?b /a b a.example -"},
	} {
		t.Run(test.name, func(t *testing.T) {
			var s fieldSection
			s.fill(&sectionLimits, test.lines...)
			var h requestHead
			h.reset()
			if err := h.fillHTTP2(&s, &sectionLimits, test.offer); err != nil {
				t.Fatal(err)
			}
			equalLines(t, "head", headLines(h.fields, s.octets), test.fields...)
			authority := "-"
			if h.authority.end > 0 {
				authority = string(h.authority.of(s.octets))
			}
			line := strings.Join([]string{string(h.method.of(s.octets)), string(h.target.of(s.octets)), string(h.path.of(s.octets)),
				string(h.query.of(s.octets)), string(h.host.of(s.octets)), authority}, " ")
			if line != test.line {
				t.Errorf("request is %q, want %q", line, test.line)
			}
			got := requestHead{form: h.form, hasQuery: h.hasQuery, pathEscaped: h.pathEscaped, messageHead: messageHead{
				contentLength: h.contentLength + 1, chunked: h.chunked, websocket: h.websocket, connUpgrade: h.connUpgrade,
				expectContinue: h.expectContinue, expectOther: h.expectOther, connClose: h.connClose,
			}}
			if got.form != test.want.form || got.hasQuery != test.want.hasQuery || got.pathEscaped != test.want.pathEscaped ||
				got.contentLength != test.want.contentLength || got.chunked != test.want.chunked ||
				got.websocket != test.want.websocket || got.connUpgrade != test.want.connUpgrade ||
				got.expectContinue != test.want.expectContinue || got.expectOther || got.connClose {
				t.Errorf("head is %+v, want %+v", got, test.want)
			}
			if !h.keepAlive() || h.minor != 1 {
				t.Errorf("minor %d, keep-alive %t", h.minor, h.keepAlive())
			}
		})
	}
}

func TestHTTP2RequestPriority(t *testing.T) {
	var s fieldSection
	var h requestHead
	s.fill(&sectionLimits, with("priority: u=1, i")...)
	h.reset()
	if err := h.fillHTTP2(&s, &sectionLimits, requestOffer{}); err != nil || s.priority != (streamPriority{1, true}) {
		t.Errorf("priority %+v, %v", s.priority, err)
	}
	s.fill(&sectionLimits, replaced(":method: CONNECT", ":protocol: connect-ip")...)
	h.reset()
	err := h.fillHTTP2(&s, &sectionLimits, requestOffer{connect: true})
	if err != nil || s.priority != defaultPriority {
		t.Errorf("of CONNECT: priority %+v, %v", s.priority, err)
	}
}

func TestHTTP2Response(t *testing.T) {
	lim := headLimits{headerBytes: 100, headers: 3}
	for _, test := range []struct {
		name      string
		lines     []string
		endStream bool
		err       *http2Error
		status    int // of a refusal, or of the response
	}{
		{"the usual", []string{":status: 200", "server: x", "content-length: 3"}, false, nil, 200},
		{"interim", []string{":status: 103", "link: x"}, false, nil, 103},
		{"999", []string{":status: 999"}, true, nil, 999},
		{"cookies", []string{":status: 200", "set-cookie: a", "set-cookie: b", "cookie: c"}, true, nil, 200},
		{"Host and Expect mean nothing", []string{":status: 200", "host: a/b", "host: ", "expect: x"}, true, nil, 200},
		{"no status", []string{"server: x"}, false, ofStream(codeProtocol, rulePseudoMissing), 0},
		{"two statuses", []string{":status: 200", ":status: 200"}, false, ofStream(codeProtocol, rulePseudoTwice), 0},
		{"status behind a field", []string{"server: x", ":status: 200"}, false, ofStream(codeProtocol, rulePseudoLate), 0},
		{"pseudo-field of a request", []string{":status: 200", ":path: /"}, false, ofStream(codeProtocol, rulePseudoUnknown), 0},
		{"status of two digits", []string{":status: 20"}, false, ofStream(codeProtocol, ruleStatus), 0},
		{"status of four digits", []string{":status: 2000"}, false, ofStream(codeProtocol, ruleStatus), 0},
		{"status below 100", []string{":status: 099"}, false, ofStream(codeProtocol, ruleStatus), 0},
		{"empty status", []string{":status: "}, false, ofStream(codeProtocol, ruleStatus), 0},
		{"status with a sign", []string{":status: +20"}, false, ofStream(codeProtocol, ruleStatus), 0},
		{"101", []string{":status: 101"}, false, ofStream(codeProtocol, ruleStatus), 0},
		{"interim that ends", []string{":status: 100"}, true, ofStream(codeProtocol, ruleInterimEnd), 0},
		{"Connection", []string{":status: 200", "connection: close"}, false, ofStream(codeProtocol, ruleSectionConnection), 0},
		{"TE", []string{":status: 200", "te: trailers"}, false, ofStream(codeProtocol, ruleSectionConnection), 0},
		{"a name in capitals", []string{":status: 200", "Server: x"}, false, ofStream(codeProtocol, ruleSectionName), 0},
		{"LF in a value", []string{":status: 200", "server: x\ny"}, false, ofStream(codeProtocol, ruleSectionValue), 0},
		{"Content-Length twice", []string{":status: 200", "content-length: 3", "content-length: 3"}, false, ofStream(codeProtocol, ruleLengthTwice), 0},
		{"too many fields", []string{":status: 200", "a: b", "a: b", "a: b", "a: b"}, false, nil, 431},
		{"too large", []string{":status: 200", "a: " + strings.Repeat("b", 96)}, false, nil, 431},
	} {
		t.Run(test.name, func(t *testing.T) {
			var s fieldSection
			s.fill(&lim, test.lines...)
			var h responseHead
			h.reset()
			err := h.fillHTTP2(&s, &lim, test.endStream)
			switch {
			case test.err != nil:
				checkHTTP2Error(t, err, test.err)
			case test.status == 431:
				checkStatus(t, err, test.status)
			default:
				if err != nil || h.status != test.status {
					t.Errorf("status %d, %v", h.status, err)
				}
				equalLines(t, "head", headLines(h.fields, s.octets), test.lines[1:]...)
				if want := slices.Contains(test.lines, "content-length: 3"); (h.contentLength == 3) != want {
					t.Errorf("length %d", h.contentLength)
				}
			}
		})
	}
}

func TestHTTP2Trailer(t *testing.T) {
	lim := headLimits{headerBytes: 100, headers: 3}
	for _, test := range []struct {
		name  string
		lines []string
		want  []string
		err   *http2Error
	}{
		{"the usual", []string{"grpc-status: 0", "x: y"}, []string{"grpc-status: 0", "x: y"}, nil},
		{"none", nil, nil, nil},
		{"what has no place there", []string{"content-length: x", "host: a/b", "x: y"}, []string{"x: y"}, nil},
		{"a pseudo-field", []string{"x: y", ":status: 200"}, nil, ofStream(codeProtocol, rulePseudoLate)},
		{"a pseudo-field alone", []string{":path: /"}, nil, ofStream(codeProtocol, rulePseudoLate)},
		{"Connection", []string{"connection: close"}, nil, ofStream(codeProtocol, ruleSectionConnection)},
		{"TE", []string{"te: trailers"}, nil, ofStream(codeProtocol, ruleSectionConnection)},
		{"a name in capitals", []string{"X: y"}, nil, ofStream(codeProtocol, ruleSectionName)},
	} {
		t.Run(test.name, func(t *testing.T) {
			var s fieldSection
			s.fill(&lim, test.lines...)
			var h headerFields
			checkHTTP2Error(t, s.fillTrailer(&h, &lim), test.err)
			var got []string
			for name, value := range h.All() {
				got = append(got, name+": "+value)
			}
			equalLines(t, "trailer", got, test.want...)
		})
	}
	var s fieldSection
	var h headerFields
	s.fill(&lim, "a: b", "a: b", "a: b", "a: b")
	checkStatus(t, s.fillTrailer(&h, &lim), 431)
	s.fill(&lim, slices.Repeat([]string{"a: " + strings.Repeat("b", 90)}, 100)...)
	checkStatus(t, s.fillTrailer(&h, &lim), 431)
}

// What a client sends is what the server's side reads, and the same back.
func TestHTTP2HeadsRoundTrip(t *testing.T) {
	p := newHPACKPair()
	decode := func(block []byte) {
		p.s.reset(&sectionLimits)
		if err := p.d.decode(&p.s, block, true); err != nil {
			t.Fatal(err)
		}
	}
	var h headerFields
	for _, f := range [][2]string{
		{"Host", "ignored"}, {"User-Agent", "x"}, {"Connection", "close"}, {"Keep-Alive", "x"}, {"Proxy-Connection", "x"},
		{"Transfer-Encoding", "chunked"}, {"Upgrade", "x"}, {"TE", "gzip"}, {"Cookie", "a=b"}, {"te", "Trailers"},
	} {
		h.Add(f[0], f[1])
	}
	for range 3 {
		decode(p.e.appendRequest(nil, requestLine{"CONNECT", "https", "a.example", "/chat", "websocket"}, &h))
		equalLines(t, "request", p.s.lines(), ":method: CONNECT", ":scheme: https", ":authority: a.example", ":path: /chat",
			":protocol: websocket", "user-agent: x", "cookie: a=b", "te: Trailers")
		var head requestHead
		head.reset()
		if err := head.fillHTTP2(&p.s, &sectionLimits, requestOffer{connect: true}); err != nil || !head.upgradeWebSocket() {
			t.Errorf("websocket %t, %v", head.websocket, err)
		}
		decode(p.e.appendRequest(nil, requestLine{method: "CONNECT", authority: "a:1"}, new(headerFields)))
		equalLines(t, "tunnel", p.s.lines(), ":method: CONNECT", ":authority: a:1")
		h.Del("te")
		decode(p.e.appendResponse(nil, 404, &h, 12))
		equalLines(t, "response", p.s.lines(), ":status: 404", "host: ignored", "user-agent: x", "cookie: a=b", "content-length: 12")
		decode(p.e.appendResponse(nil, 299, &h, -1))
		equalLines(t, "response", p.s.lines(), ":status: 299", "host: ignored", "user-agent: x", "cookie: a=b")
		decode(p.e.appendTrailer(nil, &h))
		equalLines(t, "trailer", p.s.lines(), "host: ignored", "user-agent: x", "cookie: a=b")
		h.Set("te", "Trailers")
	}
}

func TestHTTP2RequestAllocations(t *testing.T) {
	p := newHPACKPair()
	block := p.e.begin(nil)
	for _, f := range browserFields {
		block = appendHPACKLiteral(block, 0, 0x0f, 0, f[0], f[1])
	}
	block = appendHPACKLiteral(block, 0, 0x0f, 0, "cookie", "more=of it")
	var h requestHead
	read := func() {
		p.s.reset(&sectionLimits)
		h.reset()
		if err := p.d.decode(&p.s, block, true); err != nil {
			t.Fatal(err)
		}
		if err := h.fillHTTP2(&p.s, &sectionLimits, requestOffer{endStream: true}); err != nil {
			t.Fatal(err)
		}
	}
	read()
	if n := testing.AllocsPerRun(100, read); n > 0 {
		t.Errorf("a request takes %v allocations", n)
	}
}

// FuzzHTTP2Request holds that what is accepted as a request, written as
// HTTP/1.1, is accepted there and says the same.
func FuzzHTTP2Request(f *testing.F) {
	for _, seed := range [][]string{
		with("user-agent: x", "cookie: a", "cookie: b"), replaced(":method: OPTIONS", ":path: *"),
		replaced(":method: POST", ":path: /%41?%zz"), with("content-length: 5", "expect: 100-continue"),
		append(replaced(":authority: -"), "host: [::1]:80", "te: trailers"), with("host: a.example:443", "x: \xff\t~"),
		replaced(":method: CONNECT", ":scheme: -", ":path: -", ":authority: a:1"), with("X: y"), with("x: a\nb"), with("x: " + strings.Repeat("y", 300)),
	} {
		f.Add(strings.Join(seed, "\r"), false)
	}
	lim := headLimits{uriBytes: 100, headerBytes: 200, headers: 8}
	f.Fuzz(func(t *testing.T, text string, endStream bool) {
		lines := strings.Split(text, "\r")
		for _, line := range lines {
			if len(line) < 4 || !strings.Contains(line[1:], ": ") || strings.Index(line[1:], ":") != strings.Index(line[1:], ": ") {
				return
			}
		}
		var s fieldSection
		var h requestHead
		s.fill(&lim, lines...)
		h.reset()
		err := h.fillHTTP2(&s, &lim, requestOffer{endStream: endStream})
		if err != nil {
			return
		}
		var b []byte
		b = append(append(append(append(b, h.method.of(s.octets)...), ' '), h.target.of(s.octets)...), " HTTP/1.1\r\n"...)
		for _, line := range headLines(h.fields, s.octets) {
			b = append(append(b, line...), "\r\n"...)
		}
		b = append(b, "\r\n"...)
		var old requestHead
		old.reset()
		n, err := old.parse(b, &lim)
		if err != nil || n != len(b) {
			t.Fatalf("%q: HTTP/1.1 says %v", b, err)
		}
		for what, pair := range map[string][2][]byte{
			"path":      {h.path.of(s.octets), old.path.of(b)},
			"query":     {h.query.of(s.octets), old.query.of(b)},
			"host":      {h.host.of(s.octets), old.host.of(b)},
			"authority": {h.authority.of(s.octets), old.authority.of(b)},
		} {
			if !bytes.Equal(pair[0], pair[1]) {
				t.Errorf("%q: the %s is %q, over HTTP/1.1 %q", b, what, pair[0], pair[1])
			}
		}
		if h.form != old.form || h.contentLength != old.contentLength || h.expectContinue != old.expectContinue ||
			h.pathEscaped != old.pathEscaped || h.hasQuery != old.hasQuery {
			t.Errorf("%q: head %+v, over HTTP/1.1 %+v", b, h, old)
		}
		if endStream && (h.contentLength > 0 || h.chunked) && string(h.method.of(s.octets)) != http.MethodConnect {
			t.Errorf("%q has a body and none", b)
		}
	})
}
