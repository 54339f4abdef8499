package flare

import (
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"reflect"
	"strings"
	"testing"
)

// wireHead is r's head as HTTP/1.1 has it on a wire. A line break within, which
// only a request that never was on one can have, must not make two lines of it.
func wireHead(r *http.Request) []byte {
	text := func(s string) string { return strings.NewReplacer("\r", "\x00", "\n", "\x00").Replace(s) }
	version := "HTTP/1.1"
	if r.ProtoMajor == 1 && r.ProtoMinor == 0 {
		version = "HTTP/1.0"
	}
	method := r.Method
	if method == "" {
		method = "GET"
	}
	target := r.URL.RequestURI()
	switch {
	case method == "CONNECT" && r.URL.Path == "":
		target = r.Host
	case r.URL.Host != "" && r.URL.Scheme != "":
		target = (&url.URL{Scheme: r.URL.Scheme, Host: r.URL.Host}).String() + target
	}
	var b strings.Builder
	fmt.Fprintf(&b, "%s %s %s\r\nHost: %s\r\n", text(method), text(target), version, text(r.Host))
	for _, name := range sortedNames(nil, r.Header) {
		for _, value := range r.Header[name] {
			fmt.Fprintf(&b, "%s: %s\r\n", text(name), text(value))
		}
	}
	for _, coding := range r.TransferEncoding {
		fmt.Fprintf(&b, "Transfer-Encoding: %s\r\n", text(coding))
	}
	if len(r.Trailer) > 0 {
		fmt.Fprintf(&b, "Trailer: %s\r\n", text(strings.Join(sortedNames(nil, r.Trailer), ", ")))
	}
	return []byte(b.String() + "\r\n")
}

// A readHead is what a head says, with its spans as text.
type readHead struct {
	method, target, path, query, authority, host string
	form                                         targetForm
	minor                                        uint8
	flags                                        [7]bool
	fields                                       [][2]string
}

func readOf(h *requestHead, b []byte) (head readHead) {
	text := func(s span) string { return string(s.of(b)) }
	head = readHead{
		method: text(h.method), target: text(h.target), path: text(h.path), query: text(h.query),
		authority: text(h.authority), host: text(h.host), form: h.form, minor: h.minor,
		flags: [...]bool{h.hasQuery, h.pathEscaped, h.connClose, h.connKeepAlive, h.connUpgrade, h.websocket, h.expectContinue},
	}
	for _, f := range h.fields {
		head.fields = append(head.fields, [2]string{text(span{f.name, f.nameEnd}), text(span{f.value, f.valueEnd})})
	}
	return head
}

// headStatus is the status that a head is refused with, 0: none.
func headStatus(t *testing.T, err error) int {
	t.Helper()
	var fault *ParseError
	if err != nil && !errors.As(err, &fault) {
		t.Fatalf("refused with %v", err)
	}
	if fault == nil {
		return 0
	}
	return fault.Status
}

// headsOf reads r's head from octets on a wire, and as a request of net/http's.
func headsOf(t *testing.T, r *http.Request, lim *headLimits) (wire, filled readHead, wireStatus, filledStatus int) {
	t.Helper()
	var h requestHead
	h.reset()
	b := wireHead(r)
	n, err := h.parse(b, lim)
	if wireStatus = headStatus(t, err); wireStatus == 0 && n != len(b) {
		wireStatus = http.StatusBadRequest
	}
	k := &httpCarrier{r: r}
	k.x.init()
	if filledStatus = headStatus(t, k.fillHead(lim)); filledStatus == 0 && wireStatus == 0 {
		wire, filled = readOf(&h, b), readOf(&k.x.r.head, k.octets)
	}
	return wire, filled, wireStatus, filledStatus
}

// A request's head says the same, and is refused with the same status, as it
// would if it were written out and parsed.
func TestToHTTPHeads(t *testing.T) {
	lim := headLimits{uriBytes: 64, headerBytes: 512, headers: 8}
	target := func(s string) func(*http.Request) {
		return func(r *http.Request) {
			u, err := url.ParseRequestURI(s)
			if err != nil {
				t.Fatal(err)
			}
			r.URL = u
		}
	}
	field := func(name string, values ...string) func(*http.Request) {
		return func(r *http.Request) { r.Header[name] = values }
	}
	for _, test := range []struct {
		name   string
		change func(r *http.Request)
		status int
	}{
		{"plain", func(*http.Request) {}, 0},
		{"no method", func(r *http.Request) { r.Method = "" }, 0},
		{"HTTP/1.0", func(r *http.Request) { r.ProtoMinor = 0 }, 0},
		{"HTTP/2", func(r *http.Request) { r.ProtoMajor, r.ProtoMinor = 2, 0 }, 0},
		{"method of its own", func(r *http.Request) { r.Method = "M-SEARCH" }, 0},
		{"method with a blank", func(r *http.Request) { r.Method = "GET /x" }, 400},
		{"method with a line break", func(r *http.Request) { r.Method = "GET\r\n" }, 400},
		{"long method", func(r *http.Request) { r.Method = strings.Repeat("M", methodBytesMax+1) }, 501},
		{"query", target("/a/b?c=d&e"), 0},
		{"empty query", target("/a?"), 0},
		{"escapes", target("/a%2Fb/%C3%A9?x=%20"), 0},
		{"absolute", target("http://other.test:8080/a?b"), 0},
		{"absolute without a path", target("http://other.test"), 0},
		{"absolute with user", target("http://user@other.test/"), 0},
		{"absolute, another scheme", target("ftp://other.test/"), 400},
		{"asterisk", func(r *http.Request) { r.Method = "OPTIONS"; r.URL = &url.URL{Path: "*"} }, 0},
		{"asterisk without OPTIONS", func(r *http.Request) { r.URL = &url.URL{Path: "*"} }, 400},
		{"CONNECT", func(r *http.Request) { r.Method, r.Host, r.URL = "CONNECT", "a.test:443", &url.URL{Host: "a.test:443"} }, 0},
		{"CONNECT without a port", func(r *http.Request) { r.Method, r.Host, r.URL = "CONNECT", "a.test", &url.URL{Host: "a.test"} }, 400},
		{"no path", func(r *http.Request) { r.URL = &url.URL{} }, 0},
		{"relative path", func(r *http.Request) { r.URL = &url.URL{Path: "x"} }, 400},
		{"path to be escaped", func(r *http.Request) { r.URL = &url.URL{Path: "/a b\r\nc"} }, 0},
		{"opaque", func(r *http.Request) { r.URL = &url.URL{Opaque: "/opaque?x"} }, 0},
		{"opaque with a line break", func(r *http.Request) { r.URL = &url.URL{Opaque: "/x HTTP/1.1\r\nA: b"} }, 400},
		{"bad escape", func(r *http.Request) { r.URL = &url.URL{Opaque: "/%zz"} }, 400},
		{"half an escape", func(r *http.Request) { r.URL = &url.URL{Opaque: "/%"} }, 400},
		{"query with a blank", func(r *http.Request) { r.URL = &url.URL{Path: "/", RawQuery: "a b"} }, 400},
		{"longest target", target("/" + strings.Repeat("x", 63)), 0},
		{"long target", target("/" + strings.Repeat("x", 64)), 414},
		{"IPv6", func(r *http.Request) { r.Host = "[::1]:80" }, 0},
		{"no host", func(r *http.Request) { r.Host = "" }, 0},
		{"bad host", func(r *http.Request) { r.Host = "a b" }, 400},
		{"host with a line break", func(r *http.Request) { r.Host = "a\r\nb: c" }, 400},
		{"two hosts", field("Host", "b.test"), 400},
		{"fields", field("X-A", "1", " padded\t", "", "\xff"), 0},
		{"name in lower case", field("connection", "close, Upgrade"), 0},
		{"keep-alive", field("Connection", "keep-alive"), 0},
		{"websocket", field("Upgrade", "h2c, WebSocket"), 0},
		{"expectation", field("Expect", "100-continue"), 0},
		{"unknown expectation", field("Expect", "miracles"), 417},
		{"expectation of HTTP/1.0", func(r *http.Request) { r.ProtoMinor = 0; r.Header["Expect"] = []string{"miracles"} }, 0},
		{"empty name", field("", "x"), 400},
		{"name with a blank", field("X A", "x"), 400},
		{"name with a line break", field("X\r\nA", "x"), 400},
		{"value with a line break", field("X-A", "x\r\nY: z"), 400},
		{"value with NUL", field("X-A", "x\x00"), 400},
		{"Content-Length", field("Content-Length", "5"), 0},
		{"bad Content-Length", field("Content-Length", "+5"), 400},
		{"chunked", func(r *http.Request) { r.TransferEncoding = []string{"chunked"} }, 0},
		{"another coding", func(r *http.Request) { r.TransferEncoding = []string{"gzip, chunked"} }, 501},
		{"length and chunked", func(r *http.Request) {
			r.Header["Content-Length"], r.TransferEncoding = []string{"5"}, []string{"chunked"}
		}, 400},
		{"trailer", func(r *http.Request) { r.Trailer = http.Header{"X-B": nil, "X-A": nil} }, 0},
		{"as many fields as may be", field("X", "1", "2", "3", "4", "5", "6", "7"), 0},
		{"too many fields", field("X", "1", "2", "3", "4", "5", "6", "7", "8"), 431},
		{"as much as may be", field("X", strings.Repeat("x", 512-len("Host: a.test\r\nX: \r\n"))), 0},
		{"too much", field("X", strings.Repeat("x", 513-len("Host: a.test\r\nX: \r\n"))), 431},
	} {
		t.Run(test.name, func(t *testing.T) {
			r := &http.Request{Method: "GET", Host: "a.test", URL: &url.URL{Path: "/"}, Header: make(http.Header), ProtoMajor: 1, ProtoMinor: 1}
			test.change(r)
			wire, filled, wireStatus, filledStatus := headsOf(t, r, &lim)
			if wireStatus != test.status || filledStatus != test.status {
				t.Errorf("refused with %d on a wire and %d here, want %d", wireStatus, filledStatus, test.status)
			}
			if !reflect.DeepEqual(wire, filled) {
				t.Errorf("on a wire %+v\nhere      %+v", wire, filled)
			}
		})
	}
}

// No request is accepted that would not be on a wire, or reads otherwise.
func FuzzToHTTPHeads(f *testing.F) {
	f.Add("GET", "/a%20b", "c=d", "a.test", "X-A", "1", false)
	f.Add("CONNECT", "", "", "a.test:443", "Connection", "close", true)
	f.Add("OPTIONS", "*", "", "[::1]", "Expect", "100-continue", false)
	f.Add("POST", "/\r\n", "\x00", "", "Transfer-Encoding", "chunked", false)
	f.Fuzz(func(t *testing.T, method, path, query, host, name, value string, old bool) {
		r := &http.Request{
			Method: method, Host: host, URL: &url.URL{Path: path, RawQuery: query},
			Header: http.Header{name: {value}}, ProtoMajor: 1, ProtoMinor: 1,
		}
		if old {
			r.ProtoMinor = 0
		}
		lim := headLimits{uriBytes: 1 << 10, headerBytes: 1 << 10, headers: 8}
		wire, filled, wireStatus, filledStatus := headsOf(t, r, &lim)
		if (wireStatus == 0) != (filledStatus == 0) {
			t.Fatalf("refused with %d on a wire and %d here", wireStatus, filledStatus)
		}
		if !reflect.DeepEqual(wire, filled) {
			t.Errorf("on a wire %+v\nhere      %+v", wire, filled)
		}
	})
}
