package flare

import (
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"testing"
)

// This file runs the inputs that other projects' test suites found worth
// keeping. Their files are not part of this repository: FLARE_FIXTURES names
// the folder. Each records what its own project decided; where flare decides
// otherwise a table here says why.

// A wireMessage is one message of a stream, as far as it came.
type wireMessage struct {
	method, target string
	minor          uint8
	fields         []string // "name: value"
	body           string
	complete       bool // false: the octets ran out in it
}

// readStream takes a stream of messages apart the way a connection would: it
// stops at a fault, at the last octet, and where the connection is no longer
// HTTP or no longer persistent. A request may lack Host, as nearly all of the
// old test requests do.
func readStream(in []byte, response bool) (messages []wireMessage, err error) {
	for len(in) > 0 {
		m, rest, more, err := readMessage(in, response)
		if err != nil {
			return messages, err
		}
		messages = append(messages, m)
		if !more {
			break
		}
		in = rest
	}
	return messages, nil
}

func readMessage(in []byte, response bool) (m wireMessage, rest []byte, more bool, err error) {
	var (
		request requestHead
		answer  responseHead
		head    = &request.messageHead
		n       int
		kind    = bodyLength
		length  int64
		parse   *ParseError
	)
	if response {
		answer.reset()
		head = &answer.messageHead
		n, err = answer.parse(in, &benchLimits)
		kind, length = answer.framing("GET")
		more = answer.persists("GET")
	} else {
		request.reset()
		if n, err = request.parse(in, &benchLimits); errors.As(err, &parse) && parse.Rule == ruleHostMissing {
			n, err = parse.Offset, nil
		}
		length = max(request.contentLength, 0)
		if request.chunked {
			kind = bodyChunked
		}
		more = request.keepAlive() && request.form != authorityForm && !request.connUpgrade
	}
	m = wireMessage{
		method: string(request.method.of(in)), target: string(request.target.of(in)), minor: head.minor,
	}
	if err != nil || n == 0 {
		return m, nil, false, err
	}
	for _, f := range head.fields {
		m.fields = append(m.fields, string(in[f.name:f.nameEnd])+": "+string(in[f.value:f.valueEnd]))
	}
	rest = in[n:]
	switch kind {
	case bodyNone:
		m.complete = true
	case bodyUntilClose:
		m.body, rest, m.complete = string(rest), nil, true
	case bodyLength:
		size := int(min(length, int64(len(rest))))
		m.complete = int64(size) == length
		m.body, rest = string(rest[:size]), rest[size:]
	case bodyChunked:
		var d chunkedDecoder
		d.reset(&benchLimits)
		for !m.complete && len(rest) > 0 {
			var data []byte
			if data, n, m.complete, err = d.decode(rest); err != nil {
				return m, nil, false, err
			}
			m.body += string(data)
			rest = rest[n:]
		}
	}
	return m, rest, more && m.complete, nil
}

// readFixture decodes a file of cases, or skips the test.
func readFixture(t *testing.T, name string, cases any) {
	folder := os.Getenv("FLARE_FIXTURES")
	if folder == "" {
		t.Skip("FLARE_FIXTURES does not name the folder with the fixtures of other projects")
	}
	text, err := os.ReadFile(filepath.Join(folder, name))
	if err != nil {
		t.Fatal(err)
	}
	if err := json.Unmarshal(text, &struct{ Cases any }{cases}); err != nil {
		t.Fatal(err)
	}
}

// latin1 turns the code points of a fixture back into the octets they stand for.
func latin1(s string) []byte {
	b := make([]byte, 0, len(s))
	for _, r := range s {
		b = append(b, byte(r))
	}
	return b
}

// llhttpDecidedOtherwise are the llhttp cases with another outcome here, and why.
var llhttpDecidedOtherwise = map[string]string{
	"test/request/connection.md: Connection header / `close` / CRLF between requests, explicit `close` (lenient)":                         "a mode of llhttp that goes on after close",
	"test/request/connection.md: Connection header / `keep-alive` / Resetting flags when keep-alive is off (1.0, lenient)":                "a mode of llhttp that goes on after close",
	"test/request/content-length.md: Content-Length header / `Content-Length` with zeroes":                                                "Content-Length with leading zeros",
	"test/request/content-length.md: Content-Length header / `Content-Length` with follow-up headers":                                     "Content-Length with leading zeros",
	"test/request/content-length.md: Content-Length header / Content-Length reset when no body is received":                               "the test tells llhttp to skip the bodies",
	"test/request/invalid.md: Invalid requests / ICE protocol and GET method / HTTP protocol and ANNOUNCE method":                         "any token is a method; routing knows which there are",
	"test/request/invalid.md: Invalid requests / ICE protocol and GET method / Invalid method":                                            "any token is a method; routing knows which there are",
	"test/request/invalid.md: Invalid requests / ICE protocol and GET method / Invalid HTTP version":                                      "the version is judged with its line, which has no end here",
	"test/request/method.md: Methods / REPORT request / CONNECT with body":                                                                "a CONNECT request has a body where it declares one; the tunnel begins behind it",
	"test/request/method.md: Methods / REPORT request / M-SEARCH request":                                                                 "* without OPTIONS",
	"test/request/method.md: Methods / REPORT request / SOURCE request with ICE":                                                          "not HTTP",
	"test/request/method.md: Methods / REPORT request / OPTIONS request with RTSP":                                                        "not HTTP",
	"test/request/method.md: Methods / REPORT request / ANNOUNCE request with RTSP":                                                       "not HTTP",
	"test/request/sample.md: Sample requests / No HTTP version":                                                                           "no version",
	"test/request/transfer-encoding.md: Transfer-Encoding header / POST with `chunked` as last transfer-encoding":                         "fragment in the target",
	"test/request/transfer-encoding.md: Transfer-Encoding header / POST with `chunked` as last transfer-encoding (multiple headers)":      "fragment in the target",
	"test/request/uri.md: URI / Fragment in URI":                                                                                          "fragment in the target",
	"test/request/uri.md: URI / `host:port` and basic auth":                                                                               "userinfo in the target",
	"test/response/connection.md: Connection header / HTTP 304 with Content-Length":                                                       "empty line before a response",
	"test/response/connection.md: Connection header / HTTP 100 first, then 400":                                                           "empty line before a response",
	"test/response/content-length.md: Content-Length header / Content-Length reset when no body is received":                              "the test tells llhttp to skip the bodies",
	"test/response/pipelining.md: Pipelining / Should parse multiple events":                                                              "empty line before a response",
	"test/response/sample.md: Sample responses / RTSP response":                                                                           "not HTTP",
	"test/response/sample.md: Sample responses / ICE response":                                                                            "not HTTP",
	"test/response/sample.md: Sample responses / HTTP version 0.9":                                                                        "major version other than 1",
	"test/response/sample.md: Sample responses / Response starting with CRLF":                                                             "empty line before a response",
	"test/response/transfer-encoding.md: Transfer-Encoding header / `chunked` before other transfer-encoding":                             "transfer codings whose last is not chunked; llhttp reads until close",
	"test/response/transfer-encoding.md: Transfer-Encoding header / multiple transfer-encoding where chunked is not the last one":         "transfer codings whose last is not chunked; llhttp reads until close",
	"test/response/transfer-encoding.md: Transfer-Encoding header / `chunkedchunked` transfer-encoding does not enable chunked enconding": "transfer codings whose last is not chunked; llhttp reads until close",
}

func TestLLHTTPCases(t *testing.T) {
	var cases []struct {
		File, Name, Input string
		Meta              struct{ Type string }
		Log               []string
	}
	readFixture(t, "llhttp.json", &cases)
	var (
		span    = regexp.MustCompile(`^off=\d+ len=(\d+) span\[(method|url|body)\]="?(.*?)"?$`)
		failure = regexp.MustCompile(`error code=(\d+)`)
		seen    = map[string]bool{}
	)
	for _, c := range cases {
		name := c.File + ": " + c.Name
		if c.File == "test/url.md" {
			continue // TestLLHTTPTargets
		}
		t.Run(name, func(t *testing.T) {
			var methods, targets string
			bodyBytes, refused := 0, false
			for _, line := range c.Log {
				if m := span.FindStringSubmatch(line); m != nil {
					size, _ := strconv.Atoi(m[1])
					switch m[2] {
					case "method":
						methods += m[3]
					case "url":
						targets += m[3]
					case "body":
						bodyBytes += size
					}
				}
				if m := failure.FindStringSubmatch(line); m != nil {
					// 5: octets behind a last message; 22: pause on an upgrade.
					refused = m[1] != "5" && m[1] != "22"
				}
			}
			messages, err := readStream(latin1(c.Input), strings.HasPrefix(c.Meta.Type, "response"))
			// A lenient mode accepts what the standard does not. Refusing is right.
			if err != nil && strings.Contains(c.Meta.Type, "lenient") {
				return
			}
			got, want := fmt.Sprintf("refused=%t", err != nil), fmt.Sprintf("refused=%t", refused)
			if err == nil && !refused {
				var gotMethods, gotTargets string
				gotBytes := 0
				for _, m := range messages {
					gotMethods += m.method
					gotTargets += m.target
					gotBytes += len(m.body)
				}
				got += fmt.Sprintf(" %s %s %d", gotMethods, gotTargets, gotBytes)
				want += fmt.Sprintf(" %s %s %d", methods, targets, bodyBytes)
			}
			checkDecision(t, llhttpDecidedOtherwise, seen, name, got, want, err)
		})
	}
	checkTableUsed(t, llhttpDecidedOtherwise, seen)
}

// checkDecision fails unless got is want or the table gives a reason why not.
func checkDecision(t *testing.T, table map[string]string, seen map[string]bool, name, got, want string, err error) {
	reason := table[name]
	switch {
	case got == want && reason != "":
		t.Errorf("listed as decided otherwise (%s), and is not", reason)
	case got != want && reason == "":
		t.Errorf("got %s (%v), want %s", got, err, want)
	}
	seen[name] = true
}

// checkTableUsed fails for reasons without a case.
func checkTableUsed(t *testing.T, table map[string]string, seen map[string]bool) {
	for name := range table {
		if !seen[name] {
			t.Errorf("no case %q", name)
		}
	}
}

var llhttpTargetsDecidedOtherwise = map[string]string{
	"URL tests / Absolute URL":                                              "fragment in the target",
	"URL tests / Relative URL":                                              "fragment in the target",
	"URL tests / URL fragment":                                              "fragment in the target",
	"URL tests / Complex URL fragment":                                      "fragment in the target",
	"URL tests / Complex URL from node.js url parser doc":                   "fragment in the target",
	"URL tests / Complex URL with basic auth from node.js url parser doc":   "userinfo in the target",
	"URL tests / Proxy basic auth with url encoded space":                   "userinfo in the target",
	"URL tests / Proxy basic auth with unreserved chars":                    "userinfo in the target",
	"URL tests / IPv6 address with Zone ID":                                 "zone in an IPv6 literal",
	"URL tests / IPv6 address with Zone ID, but `%` is not percent-encoded": "zone in an IPv6 literal",
}

func TestLLHTTPTargets(t *testing.T) {
	var cases []struct {
		File, Name, Input string
		Log               []string
	}
	readFixture(t, "llhttp.json", &cases)
	seen := map[string]bool{}
	for _, c := range cases {
		if c.File != "test/url.md" {
			continue
		}
		t.Run(c.Name, func(t *testing.T) {
			var h requestHead
			in := "GET " + string(latin1(c.Input)) + " HTTP/1.1\r\nHost: a\r\n\r\n"
			h.reset()
			_, err := h.parse([]byte(in), &benchLimits)
			got, want := fmt.Sprintf("refused=%t", err != nil), "refused=false"
			parts := map[string]string{}
			for _, line := range c.Log {
				if strings.Contains(line, "error") {
					want = "refused=true"
				}
				if _, part, ok := strings.Cut(line, "span[url."); ok {
					name, value, _ := strings.Cut(part, "]=")
					parts[name] += strings.Trim(value, `"`)
				}
			}
			if got == want && err == nil {
				got += fmt.Sprintf(" %s %s %s", h.authority.of([]byte(in)), h.path.of([]byte(in)), h.query.of([]byte(in)))
				want += fmt.Sprintf(" %s %s %s", parts["host"], parts["path"], parts["query"])
			}
			checkDecision(t, llhttpTargetsDecidedOtherwise, seen, c.Name, got, want, err)
		})
	}
	checkTableUsed(t, llhttpTargetsDecidedOtherwise, seen)
}

var gunicornDecidedOtherwise = map[string]string{
	"invalid/003c.http": "any token is a method",
	"invalid/006.http":  "below the limit here",
	"invalid/007.http":  "below the limit here",
	"invalid/008.http":  "below the limit here",
	"invalid/017.http":  "below the limit here",
	"invalid/041.http":  "Content-Type twice does not concern the framing",
	"invalid/rfc9110_trailer_forbidden_cl_01.http":   "such a trailer field is dropped",
	"invalid/rfc9110_trailer_forbidden_host_01.http": "such a trailer field is dropped",
	"invalid/rfc9110_trailer_forbidden_te_01.http":   "such a trailer field is dropped",
	"valid/005.http":      "fragment in the target",
	"valid/009.http":      "fragment in the target",
	"valid/025.http":      "transfer codings on two lines",
	"valid/025_line.http": "transfer coding besides chunked",
	"valid/029.http":      "transfer codings on two lines",
	"valid/030.http":      "transfer codings on two lines",
	"valid/040.http":      "names with an underscore are fields like others; gunicorn drops them",
	"valid/099.http":      "the body is shorter than its Content-Length; gunicorn's reader does not mind",
	"valid/rfc9112_smuggle_gzip_chunked_01.http":        "transfer coding besides chunked",
	"valid/rfc9112_smuggle_te_identity_chunked_01.http": "transfer coding besides chunked",
	"valid/rfc9112_target_absolute_userinfo_01.http":    "userinfo in the target",
}

func TestGunicornCases(t *testing.T) {
	var cases []struct {
		File, Input, Error string
		Cfg                map[string]string
		Requests           []struct {
			Method, URI, Body string
			Version           [2]int
			Headers           [][2]string
		}
	}
	readFixture(t, "gunicorn.json", &cases)
	seen := map[string]bool{}
	for _, c := range cases {
		if len(c.Cfg) > 0 {
			continue // holds under a setting that is gunicorn's alone
		}
		name := strings.TrimPrefix(c.File, "tests/requests/")
		t.Run(name, func(t *testing.T) {
			var want, got strings.Builder
			for _, r := range c.Requests {
				fmt.Fprintf(&want, "%s %s 1.%d %q\n", r.Method, latin1(r.URI), r.Version[1], latin1(r.Body))
				for _, f := range r.Headers {
					fmt.Fprintf(&want, "%s: %s\n", strings.ToUpper(f[0]), latin1(f[1]))
				}
			}
			messages, err := readStream(latin1(c.Input), false)
			complete := err == nil
			for _, m := range messages {
				complete = complete && m.complete
				fmt.Fprintf(&got, "%s %s 1.%d %q\n", m.method, m.target, m.minor, m.body)
				for _, f := range m.fields {
					field, value, _ := strings.Cut(f, ": ")
					fmt.Fprintf(&got, "%s: %s\n", strings.ToUpper(field), value)
				}
			}
			if !complete {
				got.Reset()
				got.WriteString("refused")
			}
			if c.Error != "" {
				want.Reset()
				want.WriteString("refused")
			}
			checkDecision(t, gunicornDecidedOtherwise, seen, name, got.String(), want.String(), err)
		})
	}
	checkTableUsed(t, gunicornDecidedOtherwise, seen)
}
