package flare

import (
	"bufio"
	"bytes"
	"io"
	"maps"
	"net/http"
	"net/http/httputil"
	"net/textproto"
	"net/url"
	"slices"
	"strings"
	"testing"
)

// requestSeeds are where the fuzz targets of requests begin.
var requestSeeds = []string{
	browserHead,
	plaintextHead,
	"\r\nPOST /a?b HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\nPragma: no-cache\r\n\r\nhello",
	"PUT http://a:80/%41?%20 HTTP/1.1\r\nHost: b\r\nTransfer-Encoding: chunked\r\nTrailer: X\r\n\r\n5;a=\"b\"\r\nhello\r\n0\r\nX: y\r\n\r\n",
	"CONNECT [::1]:443 HTTP/1.1\r\nHost: [::1]:443\r\nConnection: close, Keep-Alive\r\n\r\n",
	"GET /a?%64?b HTTP/1.1\r\nHost: a%2D:\r\n\r\n",
	"OPTIONS * HTTP/1.0\r\nConnection: keep-alive\r\nHost:\r\n\r\n",
	"GET / HTTP/1.1\r\nHost: a\r\nConnection: Upgrade\r\nUpgrade: websocket\r\nExpect: 100-continue\r\n\r\n",
	"GET / HTTP/1.1\r\nHost: a\r\nCookie: a=\xff~\x80; b\tc \r\nX:\r\n\r\n",
	"GET / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: gzip, chunked\r\n\r\n",
	"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
	"GET / HTTP/1.1\nHost: a\n\n",
	"\x16\x03\x01",
}

// fuzzCuts returns what parse makes of n octets, which has to be the same
// however they come.
func fuzzCuts(t *testing.T, n, cut int, parse func(cuts ...int) headOutcome) headOutcome {
	t.Helper()
	whole := parse()
	if got := parse(min(cut, n)); got != whole {
		t.Errorf("cut at %d\n%+v\nwhole\n%+v", cut, got, whole)
	}
	if got := parse(everyOctet(n)...); got != whole {
		t.Errorf("octet by octet\n%+v\nwhole\n%+v", got, whole)
	}
	return whole
}

func FuzzRequestHead(f *testing.F) {
	for _, seed := range requestSeeds {
		f.Add([]byte(seed), uint16(20))
	}
	f.Fuzz(func(t *testing.T, in []byte, cut uint16) {
		var h requestHead
		parse := func(cuts ...int) headOutcome { return parseRequestCut(&h, in, &testLimits, cuts...) }
		whole := fuzzCuts(t, len(in), int(cut), parse)
		if whole.n == 0 {
			return
		}
		if in = in[:whole.n]; parse() != whole {
			t.Errorf("without what follows\n%+v\nwith it\n%+v", parse(), whole)
		}
		checkRequestHead(t, &h, in)
		if in = in[:whole.n-1]; parse() != (headOutcome{}) {
			t.Errorf("without its last octet\n%+v", parse())
		}
	})
}

// checkRequestHead holds what is true of every head that was accepted.
func checkRequestHead(t *testing.T, h *requestHead, in []byte) {
	t.Helper()
	checkFields(t, &h.messageHead, in)
	hosts := 0
	for _, f := range h.fields {
		if equalFoldASCII(in[f.name:f.nameEnd], "host") {
			hosts++
		}
	}
	target := h.target.of(in)
	if hosts > 1 || hosts < int(h.minor) {
		t.Errorf("%d Host fields", hosts)
	}
	if !isToken(h.method.of(in)) || h.method.len() > methodBytesMax {
		t.Errorf("method %q", h.method.of(in))
	}
	if len(target) == 0 || len(target) > testLimits.uriBytes ||
		bytes.ContainsFunc(target, func(r rune) bool { return r <= ' ' || r == 0x7f || r == '#' }) {
		t.Errorf("target %q", target)
	}
	if before, _, _ := bytes.Cut(target, []byte("?")); bytes.IndexByte(before, '\\') >= 0 || !escapesAreValid(string(before)) {
		t.Errorf("target %q before its query", target)
	}
	if path := h.path.of(in); h.form == originForm && path[0] != '/' || h.pathEscaped != bytes.Contains(path, []byte("%")) {
		t.Errorf("path %q, escaped %t", path, h.pathEscaped)
	}
	if rebuilt := string(h.path.of(in)); h.form == originForm {
		if h.hasQuery {
			rebuilt += "?" + string(h.query.of(in))
		}
		if rebuilt != string(target) {
			t.Errorf("path and query make %q, target is %q", rebuilt, target)
		}
	}
}

// checkFields holds what is true of the fields of every head accepted.
func checkFields(t *testing.T, h *messageHead, in []byte) {
	t.Helper()
	if !bytes.HasSuffix(in, []byte("\r\n\r\n")) {
		t.Errorf("head %q does not end in an empty line", in)
	}
	if h.chunked && (h.contentLength >= 0 || h.minor == 0) {
		t.Errorf("chunked, with a length of %d, in minor version %d", h.contentLength, h.minor)
	}
	if len(h.fields) > testLimits.headers || len(in)-int(h.section) > testLimits.headerBytes+2 {
		t.Errorf("%d fields in %d octets", len(h.fields), len(in)-int(h.section))
	}
	// The lines, put together again, are the head.
	var lines []byte
	for _, f := range h.fields {
		name, value := in[f.name:f.nameEnd], in[f.value:f.valueEnd]
		if !isToken(name) || !isFieldValue(value) || len(trimBlank(value)) != len(value) {
			t.Errorf("field %q: %q", name, value)
		}
		lines = append(lines, in[f.name:f.nameEnd+1]...)
		lines = append(lines, value...)
		lines = append(lines, "\r\n"...)
	}
	blank := strings.NewReplacer(" ", "", "\t", "")
	if got, want := blank.Replace(string(lines)+"\r\n"), blank.Replace(string(in[h.section:])); got != want {
		t.Errorf("fields make\n%q\nhead has\n%q", got, want)
	}
}

func FuzzResponseHead(f *testing.F) {
	for _, seed := range []string{
		"HTTP/1.1 200 OK\r\nContent-Length: 5\r\nConnection: close\r\n\r\nhello",
		"HTTP/1.0 304 \r\nTransfer-Encoding: chunked\r\n\r\n",
		"HTTP/1.1 101\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\r\n",
		"HTTP/1.1 200 OK\nContent-Length: 5\n\nhello",
		"HTTP/2.0 200 OK\r\n\r\n",
		"HTTP/1.1 200 OK\r\nA:\r\n b\r\n\tc\r\nB: \r\n \r\nContent-Length:\r\n 5\r\n\r\n",
	} {
		f.Add([]byte(seed), uint16(9))
	}
	f.Fuzz(func(t *testing.T, in []byte, cut uint16) {
		var h responseHead
		parse := func(cuts ...int) headOutcome { return parseResponseCut(&h, in, &testLimits, cuts...) }
		whole := fuzzCuts(t, len(in), int(cut), parse)
		if whole.n == 0 {
			return
		}
		in = bytes.Clone(in[:whole.n])
		h.reset()
		h.parse(in, &testLimits) // folds are spaces then
		checkFields(t, &h.messageHead, in)
		if h.status < 100 || h.status > 999 || !isFieldValue(h.reason.of(in)) {
			t.Errorf("status %d %q", h.status, h.reason.of(in))
		}
		// Where net/http reads a response too, it reads the same.
		answer, err := http.ReadResponse(bufio.NewReader(bytes.NewReader(in)), nil)
		if err == nil && (answer.StatusCode != h.status || !equalFields(answer.Header, &h.messageHead, in)) {
			t.Errorf("net/http: %d %q", answer.StatusCode, answer.Header)
		}
	})
}

func FuzzChunked(f *testing.F) {
	for _, seed := range []string{
		"0\r\n\r\n", "5\r\nhello\r\n0\r\n\r\nrest", "a;b=\"c\\\"\";d = e\r\n0123456789\r\n0\r\nA: b\r\n\r\n",
		"1\r\nx\r\n8000000000000000\r\n", "0\r\nHost: a\r\nDigest: b\r\n\r\n", "5\nhello\n0\n\n", "0;a \r\n\r\n",
	} {
		f.Add([]byte(seed), uint16(3))
	}
	f.Fuzz(func(t *testing.T, in []byte, cut uint16) {
		var d chunkedDecoder
		decode := func(cuts ...int) headOutcome { return decodeChunkedCut(&d, in, &testLimits, cuts...) }
		whole := decode()
		if got := decode(min(int(cut), len(in))); got != whole {
			t.Errorf("cut at %d\n%+v\nwhole\n%+v", cut, got, whole)
		}
		if got := decode(everyOctet(len(in))...); got != whole {
			t.Errorf("octet by octet\n%+v\nwhole\n%+v", got, whole)
		}
		if whole.n == 0 {
			return
		}
		for name := range d.trailer.All() {
			if !allowedInTrailer(name) {
				t.Errorf("trailer has %q", name)
			}
		}
		// net/http accepts all that flare does, and reads the same.
		var body []byte
		for rest := in; ; {
			data, n, done, _ := decode1(&d, rest, len(rest) == len(in))
			body = append(body, data...)
			if rest = rest[n:]; done {
				break
			}
		}
		theirs, err := io.ReadAll(httputil.NewChunkedReader(bytes.NewReader(in[:whole.n])))
		if err != nil || !bytes.Equal(theirs, body) {
			t.Errorf("net/http: %q, %v; want %q", theirs, err, body)
		}
	})
}

// decode1 is decode, on a decoder that is reset first if asked.
func decode1(d *chunkedDecoder, b []byte, reset bool) (data []byte, n int, done bool, err error) {
	if reset {
		d.reset(&testLimits)
	}
	return d.decode(b)
}

// FuzzTarget compares with net/url what the parser makes of a target.
func FuzzTarget(f *testing.F) {
	for _, seed := range []string{
		"/", "/a/b?c=d", "//a", "/%2F?%zz", "*", "http://a/b?c", "HTTPS://[::1]:1", "a:443", "/?", "http://a%41/", "/a|b\"[]{}^`<>",
		"/\xc3\xa9/\xff?\xc3\xa9=\xff", `/?q=100%&p=C:\Users&u=%u00e9?%`, "/%C3\xa9",
	} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, target string) {
		in := "GET " + target + " HTTP/1.1\r\nHost: a\r\n\r\n"
		var h requestHead
		h.reset()
		n, err := h.parse([]byte(in), &benchLimits)
		if err != nil || n != len(in) {
			return
		}
		b := []byte(in)
		if string(h.target.of(b)) != target {
			t.Fatalf("target %q, want %q", h.target.of(b), target)
		}
		u, err := url.ParseRequestURI(target)
		if err != nil {
			if bytes.Contains(h.authority.of(b), []byte("%")) {
				return // net/url knows no escapes in a host
			}
			t.Fatalf("%q: net/url: %v", target, err)
		}
		path, err := url.PathUnescape(string(h.path.of(b)))
		if err != nil || path != u.Path || string(h.query.of(b)) != u.RawQuery || string(h.authority.of(b)) != u.Host {
			t.Errorf("%q: authority %q path %q query %q, net/url has %q %q %q (%v)",
				target, h.authority.of(b), path, h.query.of(b), u.Host, u.Path, u.RawQuery, err)
		}
	})
}

// FuzzHost compares with net/url what may be a Host.
func FuzzHost(f *testing.F) {
	for _, seed := range []string{"a", "a:1", "[::1]:2", "a%41", "u@a", "a:65536", "1.2.3.4", "a,b", "a:", "[::"} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, host string) {
		valid := isAuthority([]byte(host))
		h := messageHead{knownHost: new(knownHost)}
		if err := h.interpretHost([]byte(host), field{}); (err == nil) != (valid || host == "") {
			t.Errorf("%q: as a Host %v, valid as an authority: %t", host, err, valid)
		}
		if !valid || strings.Contains(host, "%") { // net/url knows no escapes in a host
			return
		}
		u, err := url.ParseRequestURI("http://" + host + "/")
		if err != nil || u.Host != host || u.User != nil || u.Path != "/" {
			t.Errorf("%q: net/url: %+v, %v", host, u, err)
		}
	})
}

// FuzzReadRequest holds that net/http reads every request that flare accepts,
// and reads the same: method, target, host, fields, body, where it ends.
func FuzzReadRequest(f *testing.F) {
	for _, seed := range requestSeeds {
		f.Add([]byte(seed))
	}
	f.Fuzz(func(t *testing.T, in []byte) {
		ours, rest, _, err := readMessage(in, false)
		if err != nil || !ours.complete {
			return
		}
		var h requestHead
		h.reset()
		if n, err := h.parse(in, &benchLimits); n == 0 || err != nil {
			return // readMessage lets a missing Host pass
		}
		message := in[h.method.start : len(in)-len(rest)] // net/http skips no empty line
		reader := bufio.NewReaderSize(bytes.NewReader(message), 64<<10)
		theirs, err := http.ReadRequest(reader)
		if err != nil {
			if netHTTPRefusesMore(&h, in) {
				return
			}
			t.Fatalf("%q: net/http: %v", message, err)
		}
		if theirs.Method != ours.method || theirs.RequestURI != ours.target || theirs.Host != string(h.host.of(in)) {
			t.Errorf("%s %s %s, net/http has %s %s %s", ours.method, ours.target, h.host.of(in),
				theirs.Method, theirs.RequestURI, theirs.Host)
		}
		if !equalFields(theirs.Header, &h.messageHead, in) {
			t.Errorf("%q: net/http has the header %q", message, theirs.Header)
		}
		body, err := io.ReadAll(theirs.Body)
		if err != nil || string(body) != ours.body {
			t.Errorf("%q: body %q, net/http has %q, %v", message, ours.body, body, err)
		}
		if left, _ := io.ReadAll(reader); len(left) > 0 {
			t.Errorf("%q: net/http leaves %q", message, left)
		}
	})
}

// netHTTPRefusesMore says whether a request is one of the few that flare
// accepts, by the grammar, and net/http does not.
func netHTTPRefusesMore(h *requestHead, in []byte) bool {
	// net/url knows no escapes in a host.
	if bytes.Contains(h.authority.of(in), []byte("%")) {
		return true
	}
	// net/http judges the names that Trailer announces; flare ignores them, and
	// drops such fields when they come.
	for _, f := range h.fields {
		if equalFoldASCII(in[f.name:f.nameEnd], "trailer") {
			return true
		}
	}
	return false
}

// equalFields says whether a header of net/http has the fields of a head, but
// for what net/http takes out and puts in.
func equalFields(theirs http.Header, h *messageHead, in []byte) bool {
	ours := http.Header{}
	for _, f := range h.fields {
		ours.Add(textproto.CanonicalMIMEHeaderKey(string(in[f.name:f.nameEnd])), string(in[f.value:f.valueEnd]))
	}
	if !h.response {
		ours.Del("Host")
	}
	if theirs.Get("Pragma") == "no-cache" && ours["Cache-Control"] == nil {
		theirs.Del("Cache-Control") // RFC 9111 §5.4
	}
	for _, header := range []http.Header{ours, theirs} {
		header.Del("Transfer-Encoding")
		header.Del("Trailer")
		if h.response {
			header.Del("Connection")
		}
	}
	return maps.EqualFunc(ours, theirs, slices.Equal)
}
