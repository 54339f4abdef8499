package flare

import (
	"bytes"
	"fmt"
	"io"
	"strings"
	"testing"
	"time"
)

// This file feeds a connection without a socket. "Request splitting is
// invisible": each input has to give the same octets whole, octet by octet and
// cut at every position, on a worker's goroutine and on the loop's own, whether
// the peer reads them or not.

func describingServer() *Server { return &Server{Handler: HandlerFunc(describe)} }

func TestFeedRefusals(t *testing.T) {
	s := refusingServer()
	f := newFeeder(t, s)
	for _, row := range refusals() {
		t.Run(row.name, func(t *testing.T) {
			f.t = t
			for _, before := range []string{"", "GET / HTTP/1.1\r\nHost: h\r\n\r\nPOST / HTTP/1.1\r\nHost: h\r\nContent-Length: 3\r\n\r\nabc"} {
				if before != "" && len(row.input) > 2048 {
					continue // long inputs once
				}
				got := f.splitInvisible(before+row.input, true)
				answers := parseAnswers(t, got.out)
				last := answers[len(answers)-1]
				if last.StatusCode != row.code || !last.Close || got.reset || got.open {
					t.Errorf("%d close %v reset %v open %v", last.StatusCode, last.Close, got.reset, got.open)
				}
				if want := 1 + strings.Count(before, "HTTP/1.1"); len(answers) != want {
					t.Errorf("%d answers, want %d", len(answers), want)
				}
				if !strings.HasPrefix(row.input, "\x16") && !row.awaitsBody() {
					if quiet := f.splitInvisible(before+row.input, false); quiet != got {
						t.Errorf("without an end of the stream: %s", difference(quiet, got))
					}
				}
			}
		})
	}
}

// awaitsBody says whether the refused input could be the front of a body that
// a handler waits for; only the end of the stream ends that wait at once.
func (r refusal) awaitsBody() bool { return strings.Contains(r.input, "chunked") }

// A feedCase is a valid input and what has to come of it.
type feedCase struct {
	name    string
	input   string
	methods string   // of the requests in it, by comma
	bodies  []string // each a part of the answer's body; "" for any
	codes   []int    // nil: 200 each
	open    bool     // the connection takes another request
	expect  bool     // whether there is a 100 depends on what has arrived
	waits   bool     // the handler has to wait when the input is cut
	broken  bool     // the last answer is cut short
}

func feedCases() []feedCase {
	long := strings.Repeat("0123456789abcdef", 4<<10+1) // above awaitBodyMax
	return []feedCase{
		{name: "a request", input: "GET / HTTP/1.1\r\nHost: h\r\n\r\n", bodies: []string{"GET / \"h\" HTTP/1.1 0\nHost=\"h\"\n\"\""}, open: true},
		{name: "one empty line before", input: "\r\nGET / HTTP/1.1\r\nHost: h\r\n\r\n", open: true},
		{name: "two empty lines before", input: "\r\n\r\nGET / HTTP/1.1\r\nHost: h\r\n\r\n", open: true},
		{name: "an empty line behind a body", input: head("POST / HTTP/1.1", "Content-Length: 3") + "abc\r\nGET / HTTP/1.1\r\nHost: h\r\n\r\n",
			bodies: []string{"\"abc\"", ""}, open: true},
		{name: "octets above 0x7f in a value", input: head("GET / HTTP/1.1", "X: \x80\xff \xe9"), bodies: []string{"X=\"\\x80\\xff \\xe9\""}, open: true},
		{name: "white space around a value", input: head("GET / HTTP/1.1", "X: \t a b \t "), bodies: []string{"X=\"a b\""}, open: true},
		{name: "no white space before a value", input: head("GET / HTTP/1.1", "X:a"), bodies: []string{"X=\"a\""}, open: true},
		{name: "empty values", input: head("GET / HTTP/1.1", "X:", "Y: "), bodies: []string{"X=\"\"\nY=\"\""}, open: true},
		{name: "empty Host", input: "GET / HTTP/1.1\r\nHost:\r\n\r\n", open: true},
		{name: "absolute form overrides Host", input: head("GET http://other:81/p?q HTTP/1.1"), bodies: []string{"\"other:81\""}, open: true},
		{name: "OPTIONS asterisk", input: head("OPTIONS * HTTP/1.1"), bodies: []string{"OPTIONS *"}, open: true},
		{name: "minor version above 1", input: head("GET / HTTP/1.7"), open: true},
		{name: "method of 32 octets", input: head(strings.Repeat("M", 32) + " / HTTP/1.1"), open: true},
		{name: "X-Content-Length frames nothing", input: head("GET / HTTP/1.1", "X-Content-Length: 5") + "GET /2 HTTP/1.1\r\nHost: h\r\n\r\n",
			bodies: []string{"GET / ", "GET /2 "}, open: true},
		{name: "Content-Length in a value frames nothing",
			input:  head("GET /?Content-Length:%205 HTTP/1.1", "X: Content-Length: 5", "Y: a, Transfer-Encoding: chunked") + "GET /2 HTTP/1.1\r\nHost: h\r\n\r\n",
			bodies: []string{"GET /?", "GET /2 "}, open: true},
		{name: "Content-Length with another ending", input: head("GET / HTTP/1.1", "Content-Lengths: 5", "Content-Lengt: 5", "Content_Length: 5"), open: true},
		{name: "body with length", input: head("POST / HTTP/1.1", "content-LENGTH: 5") + "hello", bodies: []string{"\"hello\""}, open: true},
		{name: "body that looks like a request", input: head("POST / HTTP/1.1", "Content-Length: 27") + "GET /x HTTP/1.1\r\nHost: h\r\n\r\n"[:27],
			bodies: []string{"\"GET /x"}, open: true},
		{name: "body of no length", input: head("POST / HTTP/1.1", "Content-Length: 0"), bodies: []string{"\"\""}, open: true},
		{name: "body above what is awaited", input: head("POST / HTTP/1.1", fmt.Sprintf("Content-Length: %d", len(long))) + long + "GET /2 HTTP/1.1\r\nHost: h\r\n\r\n",
			bodies: []string{fmt.Sprintf("%d bytes", len(long)), "GET /2 "}, open: true, waits: true},
		{name: "chunks", input: head("POST / HTTP/1.1", "Transfer-Encoding: chunked") + "5\r\nhello\r\n06\r\n world\r\n0\r\n\r\n", bodies: []string{"\"hello world\""}, open: true, waits: true},
		{name: "chunks with extensions and a trailer",
			input:  head("POST / HTTP/1.1", "transfer-encoding: CHUNKED") + "5;a;b=c;d=\"e\\\"f\";g = h\r\nhello\r\nA \t;x\r\n0123456789\r\n000;last\r\nX-T: 1\r\nContent-Length: 7\r\nHost: evil\r\nY-T: 2\r\n\r\nGET /2 HTTP/1.1\r\nHost: h\r\n\r\n",
			bodies: []string{"\"hello0123456789\"\ntrailer X-T=\"1\"\ntrailer Y-T=\"2\"\n", "GET /2 \"h\""}, open: true, waits: true},
		{name: "chunked body of no chunks", input: head("POST / HTTP/1.1", "Transfer-Encoding: chunked") + "0\r\n\r\n", bodies: []string{"\"\""}, open: true, waits: true},
		{name: "chunk size of 16 digits", input: head("POST / HTTP/1.1", "Transfer-Encoding: chunked") + "0000000000000005\r\nhello\r\n0\r\n\r\n", bodies: []string{"\"hello\""}, open: true, waits: true},
		{name: "pipelined mix",
			input: head("GET /1 HTTP/1.1") + head("POST /2 HTTP/1.1", "Content-Length: 3") + "abc" + head("HEAD /3 HTTP/1.1") +
				head("PUT /4 HTTP/1.1", "Transfer-Encoding: chunked") + "3\r\ndef\r\n0\r\n\r\n" + head("DELETE /5 HTTP/1.1") +
				head("POST /ignore6 HTTP/1.1", "Content-Length: 40") + strings.Repeat("GET /x\r\n", 5) + head("GET /7 HTTP/1.1"),
			methods: "GET,POST,HEAD,PUT,DELETE,POST,GET", bodies: []string{"GET /1 ", "\"abc\"", "", "\"def\"", "DELETE /5 ", "POST /ignore6 ", "GET /7 "}, open: true, waits: true},
		{name: "unread body with length, long", input: head("POST /ignore HTTP/1.1", fmt.Sprintf("Content-Length: %d", len(long))) + long + "GET /2 HTTP/1.1\r\nHost: h\r\n\r\n",
			bodies: []string{"POST /ignore ", "GET /2 "}, open: true},
		{name: "unread body that ends in a request", input: head("POST /ignore HTTP/1.1", "Content-Length: 65600") + strings.Repeat("x", 65600-28) + "GET /evil HTTP/1.1\r\nHost:h\r\n" + "GET /2 HTTP/1.1\r\nHost: h\r\n\r\n",
			bodies: []string{"POST /ignore ", "GET /2 "}, open: true},
		{name: "unread body in chunks", input: head("POST /ignore HTTP/1.1", "Transfer-Encoding: chunked") + "5;a=b\r\nhello\r\n3\r\nabc\r\n0\r\nX: y\r\n\r\nGET /2 HTTP/1.1\r\nHost: h\r\n\r\n",
			bodies: []string{"POST /ignore ", "GET /2 "}, open: true},
		{name: "unread body above the bound", input: head("POST /ignore HTTP/1.1", fmt.Sprintf("Content-Length: %d", drainBytesMax+1)) + long + "GET /2 HTTP/1.1\r\nHost: h\r\n\r\n",
			bodies: []string{"POST /ignore "}},
		{name: "HEAD", input: head("HEAD / HTTP/1.1") + head("GET /2 HTTP/1.1"), methods: "HEAD,GET", open: true},
		{name: "HTTP/1.0", input: "GET / HTTP/1.0\r\n\r\nGET /never HTTP/1.0\r\n\r\n", bodies: []string{"\"\" HTTP/1.0"}},
		{name: "HTTP/1.0 keep-alive", input: "GET /1 HTTP/1.0\r\nConnection: keep-alive\r\n\r\nGET /2 HTTP/1.0\r\n\r\n", bodies: []string{"GET /1 ", "GET /2 "}},
		{name: "HTTP/1.0 keep-alive with a body", input: "POST /1 HTTP/1.0\r\nConnection: x, Keep-Alive\r\nContent-Length: 3\r\n\r\nabcGET /2 HTTP/1.0\r\n\r\n", bodies: []string{"\"abc\"", "GET /2 "}},
		{name: "HTTP/1.0 ignores Expect", input: head("POST / HTTP/1.0", "Expect: whatever", "Content-Length: 3") + "abc", bodies: []string{"\"abc\""}},
		{name: "close", input: head("GET / HTTP/1.1", "Connection: close") + head("GET /never HTTP/1.1"), bodies: []string{"GET / "}},
		{name: "close in a list on the second line", input: head("GET / HTTP/1.1", "Connection: keep-alive", "Connection: x ,\tCLOSE") + head("GET /never HTTP/1.1"), bodies: []string{"GET / "}},
		{name: "an option that contains close", input: head("GET / HTTP/1.1", "Connection: closed, x-close") + head("GET /2 HTTP/1.1"), bodies: []string{"GET / ", "GET /2 "}, open: true},
		{name: "Upgrade to something else is ignored", input: head("GET / HTTP/1.1", "Connection: Upgrade, HTTP2-Settings", "Upgrade: h2c", "HTTP2-Settings: AAMAAABkAAQAAP__"), open: true},
		{name: "Expect", input: head("POST / HTTP/1.1", "Expect: 100-Continue", "Content-Length: 5") + "helloGET /2 HTTP/1.1\r\nHost: h\r\n\r\n",
			bodies: []string{"\"hello\"", "GET /2 "}, open: true, expect: true, waits: true},
		{name: "Expect with chunks", input: head("POST / HTTP/1.1", "Expect: 100-continue", "Transfer-Encoding: chunked") + "5\r\nhello\r\n0\r\n\r\nGET /2 HTTP/1.1\r\nHost: h\r\n\r\n",
			bodies: []string{"\"hello\"", "GET /2 "}, open: true, expect: true, waits: true},
		{name: "Expect without a body", input: head("GET / HTTP/1.1", "Expect: 100-continue") + head("GET /2 HTTP/1.1"), bodies: []string{"GET / ", "GET /2 "}, open: true},
	}
}

func (fc feedCase) check(t *testing.T, got outcome, half bool) {
	t.Helper()
	var methods []string
	if fc.methods != "" {
		methods = strings.Split(fc.methods, ",")
	}
	out := got.out
	if fc.expect {
		out = strings.Replace(out, "HTTP/1.1 100 Continue\r\n\r\n", "", 1)
	}
	answers := parseAnswers(t, out, methods...)
	want := fc.bodies
	if want == nil {
		want = make([]string, strings.Count(fc.input, " HTTP/1."))
	}
	if len(answers) != len(want) {
		t.Fatalf("%d answers, want %d: %q", len(answers), len(want), tail([]byte(out)))
	}
	for i, a := range answers {
		if a.StatusCode != 200 || !strings.Contains(a.body, want[i]) {
			t.Errorf("answer %d: %d %q, want %q in it", i, a.StatusCode, a.body, want[i])
		}
		if last := i == len(answers)-1; a.Close != (last && !fc.open) {
			t.Errorf("answer %d: close %v", i, a.Close)
		}
	}
	if open := fc.open && !half; got.open != open || got.reset {
		t.Errorf("open %v, want %v; reset %v", got.open, open, got.reset)
	}
}

func TestFeedValid(t *testing.T) {
	f := newFeeder(t, describingServer())
	onLoop := newFeeder(t, &Server{Handler: Inline(HandlerFunc(describe))})
	for _, fc := range feedCases() {
		t.Run(fc.name, func(t *testing.T) {
			f.t, onLoop.t = t, t
			for _, half := range []bool{false, true} {
				if fc.expect {
					fc.check(t, f.run(feed{pieces: []string{fc.input}, half: half}), half)
					fc.check(t, f.run(feed{pieces: octets(fc.input, 1), half: half}), half)
					for at := range len(fc.input) {
						fc.check(t, f.run(feed{pieces: []string{fc.input[:at], fc.input[at:]}, half: half}), half)
					}
					continue
				}
				got := f.splitInvisible(fc.input, half)
				fc.check(t, got, half)
				if fc.waits {
					continue // on the loop a wait passes the baton, which is another test's
				}
				for _, n := range []int{1, 2, 5, 1 << 20} {
					in := feed{pieces: octets(fc.input, n), half: half, onLoop: true, sendMax: n * 3}
					if on := onLoop.run(in); on != got {
						t.Errorf("on the loop in pieces of %d: %s", n, difference(on, got))
					}
				}
			}
		})
	}
}

// TestFeedUnfinished has the inputs that no answer may come of when the peer
// stops in the middle of them.
func TestFeedUnfinished(t *testing.T) {
	f := newFeeder(t, describingServer())
	whole := head("POST /1 HTTP/1.1", "Content-Length: 5") + "hello"
	for at := range len(whole) {
		got := f.run(feed{pieces: []string{whole[:at]}, half: true})
		if got != (outcome{}) {
			t.Errorf("%q and no more: %+v", whole[:at], got)
		}
		if got := f.run(feed{pieces: []string{whole[:at]}}); !got.open || got.out != "" {
			t.Errorf("%q so far: %+v", whole[:at], got)
		}
	}
	for _, input := range []string{"", "\r\n", "\r\n\r\n", "\r"} {
		if got := f.run(feed{pieces: []string{input}, half: true}); got != (outcome{}) {
			t.Errorf("%q and no more: %+v", input, got)
		}
	}
}

// TestFeedLimits has each limit exactly reached, and exceeded by one.
func TestFeedLimits(t *testing.T) {
	const uriMax, headerMax, headersMax, bodyMax = 64, 256, 4, 128
	s := &Server{MaxURIBytes: uriMax, MaxHeaderBytes: headerMax, MaxHeaders: headersMax, MaxBodyBytes: bodyMax, Handler: HandlerFunc(describe)}
	f := newFeeder(t, s)
	target := func(n int) string { return head("GET /" + strings.Repeat("a", n-1) + " HTTP/1.1") }
	fields := func(n int) string {
		const rest = len("Host: h\r\n") + len("X: \r\n")
		return head("GET / HTTP/1.1", "X: "+strings.Repeat("a", n-rest))
	}
	count := func(n int) string { return head("GET / HTTP/1.1", strings.Fields(strings.Repeat("X:a ", n-1))...) }
	length := func(n int) string {
		return head("POST / HTTP/1.1", fmt.Sprintf("Content-Length: %d", n)) + strings.Repeat("b", n)
	}
	chunks := func(n int) string {
		return chunkedWith(strings.Repeat("1\r\nb\r\n", n) + "0\r\n\r\n")
	}
	oneChunk := func(n int) string {
		return chunkedWith(fmt.Sprintf("%x\r\n%s\r\n0\r\n\r\n", n, strings.Repeat("b", n)))
	}
	extension := func(n int) string { // octets from the semicolon to the last before the CR
		return chunkedWith("1;a=" + strings.Repeat("b", n-3) + "\r\nx\r\n0\r\n\r\n")
	}
	extensions := func(n int) string {
		var b strings.Builder
		for ; n > 0; n -= 1 << 10 {
			fmt.Fprintf(&b, "1;%s\r\nx\r\n", strings.Repeat("a", min(n, 1<<10)-1))
		}
		return chunkedWith(b.String() + "0\r\n\r\n")
	}
	trailer := func(n int) string {
		return chunkedWith("0\r\nX: " + strings.Repeat("a", n-len("X: \r\n")) + "\r\n\r\n")
	}
	trailers := func(n int) string { return chunkedWith("0\r\n" + strings.Repeat("X: a\r\n", n) + "\r\n") }
	for _, row := range []struct {
		name  string
		max   int
		input func(n int) string
		code  int // beyond it
	}{
		{"target", uriMax, target, 414},
		{"fields", headerMax, fields, 431},
		{"number of fields", headersMax, count, 431},
		{"method", methodBytesMax, func(n int) string { return head(strings.Repeat("M", n) + " / HTTP/1.1") }, 501},
		{"declared body", bodyMax, length, 413},
		{"counted body", bodyMax, chunks, 413},
		{"counted body in one chunk", bodyMax, oneChunk, 413},
		{"extension of a line", extensionLineBytesMax, extension, 413},
		{"extensions of a body", extensionBodyBytesMax + 16/extensionDataRatio, extensions, 413}, // 16 lines, an octet of data each
		{"trailer", headerMax, trailer, 431},
		{"number of trailer fields", headersMax, trailers, 431},
		{"empty lines", emptyLinesMax, func(n int) string { return strings.Repeat("\r\n", n) + head("GET / HTTP/1.1") }, 400},
	} {
		t.Run(row.name, func(t *testing.T) {
			f.t = t
			next := head("GET /next HTTP/1.1")
			got := f.splitInvisible(row.input(row.max)+next, true)
			if a := parseAnswers(t, got.out); len(a) != 2 || a[0].StatusCode != 200 || !strings.Contains(a[1].body, "GET /next ") {
				t.Errorf("at the limit: %q", tail([]byte(got.out)))
			}
			got = f.splitInvisible(row.input(row.max+1)+next, true)
			if a := parseAnswers(t, got.out); len(a) != 1 || a[0].StatusCode != row.code || !a[0].Close {
				t.Errorf("above the limit: %q", tail([]byte(got.out)))
			}
		})
	}
}

// TestFeedBounds has flare's own bounds, which change how and never what.
func TestFeedBounds(t *testing.T) {
	s := &Server{MaxBodyBytes: -1, Handler: HandlerFunc(func(w *ResponseWriter, r *Request) error {
		switch r.Path() {
		case "/ignore":
			return nil
		case "/repeat":
			n := int(r.URL().Query().Get("n")[0]-'a') - 1 + responseBufferMax
			w.Write(make([]byte, n))
			return nil
		}
		n, err := io.Copy(io.Discard, r.Body())
		fmt.Fprint(w, n)
		return err
	})}
	f := newFeeder(t, s)
	post := func(path string, n int) string {
		return head("POST "+path+" HTTP/1.1", fmt.Sprintf("Content-Length: %d", n)) + strings.Repeat("b", n) + head("GET /next HTTP/1.1")
	}
	for n := awaitBodyMax - 1; n <= awaitBodyMax+1; n++ {
		got := f.splitInvisible(post("/", n), false)
		if a := parseAnswers(t, got.out); len(a) != 2 || a[0].body != fmt.Sprint(n) || !got.open {
			t.Errorf("body of %d: %q", n, got.out)
		}
	}
	for n := drainBytesMax - 1; n <= drainBytesMax+1; n++ {
		input := post("/ignore", n)
		for _, pieces := range [][]string{{input}, octets(input, 1), octets(input, 4096)} {
			got := f.run(feed{pieces: pieces})
			a := parseAnswers(t, got.out)
			if fits := n <= drainBytesMax; got.open != fits || len(a) == 2 != fits || a[0].Close == fits {
				t.Errorf("unread body of %d in %d pieces: open %v, %d answers, close %v", n, len(pieces), got.open, len(a), a[0].Close)
			}
		}
	}
	for i, want := range []int64{responseBufferMax - 1, responseBufferMax, -1} {
		got := f.splitInvisible(head(fmt.Sprintf("GET /repeat?n=%c HTTP/1.1", 'a'+i)), false)
		a := parseAnswers(t, got.out)
		if len(a) != 1 || a[0].ContentLength != want || len(a[0].body) != responseBufferMax-1+i {
			t.Errorf("response of %d: length %d, %d octets", responseBufferMax-1+i, a[0].ContentLength, len(a[0].body))
		}
	}
}

// TestFeedTimeouts drives the turn that a passed deadline gives a connection:
// what was sent before is not lost, and half a request gets its 408.
func TestFeedTimeouts(t *testing.T) {
	f := newFeeder(t, describingServer())
	for _, row := range []struct {
		name, input string
		state       connState
		codes       string
	}{
		{"idle", "", stateIdle, ""},
		{"idle again", head("GET / HTTP/1.1"), stateIdle, "200"},
		{"head", "GET / HT", stateHead, "408"},
		{"head behind an answer", head("GET / HTTP/1.1") + "GET / HTTP/1.1\r\nX", stateHead, "200 408"},
		{"body", head("POST / HTTP/1.1", "Content-Length: 5") + "hell", stateBody, "408"},
		{"unread body", head("POST /ignore HTTP/1.1", "Content-Length: 65537") + "hell", stateDrain, "200"},
	} {
		t.Run(row.name, func(t *testing.T) {
			c := f.newConn()
			tr := &scriptedTransport{c: c, shutAt: -1, pieces: [][]byte{[]byte(row.input)}}
			c.tr = tr
			for len(tr.pieces) > 0 {
				c.edges |= ownRead
				c.drive(f.workset)
			}
			if c.state != row.state {
				t.Fatalf("state %v, want %v", c.state, row.state)
			}
			if at := c.deadline(); at <= c.since {
				t.Fatalf("no deadline in state %v", c.state)
			}
			v := c.takeTurn(f.workset, turnExpire)
			var codes []string
			for _, a := range parseAnswers(t, string(tr.sent)) {
				codes = append(codes, fmt.Sprint(a.StatusCode))
				if (a.StatusCode == 408) != a.Close {
					t.Errorf("%d with close %v", a.StatusCode, a.Close)
				}
			}
			if got := strings.Join(codes, " "); got != row.codes {
				t.Errorf("answers %q, want %q", got, row.codes)
			}
			if refused := strings.HasSuffix(row.codes, "408"); refused != (v == verdictLinger) || refused != (tr.shutAt >= 0) {
				t.Errorf("verdict %d, write side shut at %d", v, tr.shutAt)
			}
			c.setState(stateClosed)
			c.ended()
		})
	}
}

// TestFeedHeadTimeoutIsNotRearmed pins the deadline of a head to its first
// octet: a trickle does not move it.
func TestFeedHeadTimeoutIsNotRearmed(t *testing.T) {
	f := newFeeder(t, describingServer())
	c := f.newConn()
	tr := &scriptedTransport{c: c, shutAt: -1}
	c.tr = tr
	var first time.Duration
	f.workset.clock.now = time.Second
	for i, octet := range head("GET / HTTP/1.1") {
		f.workset.clock.now += time.Second
		tr.pieces = [][]byte{{byte(octet)}}
		c.edges |= ownRead
		c.drive(f.workset)
		if i == 0 {
			first = c.deadline()
			if want := f.workset.clock.now + defaultHeadTimeout; first != want {
				t.Fatalf("deadline %v, want %v", first, want)
			}
		} else if c.state == stateHead && c.deadline() != first {
			t.Fatalf("octet %d moved the deadline from %v to %v", i, first, c.deadline())
		}
	}
	if c.state != stateIdle || !bytes.Contains(tr.sent, []byte("200 OK")) {
		t.Fatalf("state %v, sent %q", c.state, tr.sent)
	}
}

// TestFeedUnreadBodyFails has bodies that their handler did not read and whose
// end cannot be reached: the answer was sent already, so all that is left is to
// end the connection in order.
func TestFeedUnreadBodyFails(t *testing.T) {
	f := newFeeder(t, describingServer())
	for _, row := range []struct{ name, input string }{
		{"bad chunk size", head("POST /ignore HTTP/1.1", "Transfer-Encoding: chunked") + "5\r\nhello\r\nx\r\n"},
		{"bad trailer", head("POST /ignore HTTP/1.1", "Transfer-Encoding: chunked") + "0\r\nX\r\n\r\n"},
		{"chunks above the bound", head("POST /ignore HTTP/1.1", "Transfer-Encoding: chunked") +
			strings.Repeat("1000\r\n"+strings.Repeat("x", 4<<10)+"\r\n", drainBytesMax>>12+1)},
	} {
		t.Run(row.name, func(t *testing.T) {
			f.t = t
			got := f.run(feed{pieces: []string{row.input, head("GET /never HTTP/1.1")}})
			if a := parseAnswers(t, got.out); len(a) != 1 || a[0].StatusCode != 200 || got.open || got.reset {
				t.Errorf("%q open %v reset %v", got.out, got.open, got.reset)
			}
			got = f.run(feed{pieces: octets(row.input+head("GET /never HTTP/1.1"), 1000)})
			if a := parseAnswers(t, got.out); len(a) != 1 || a[0].StatusCode != 200 || got.open || got.reset {
				t.Errorf("%q open %v reset %v", got.out, got.open, got.reset)
			}
		})
	}
}

// TestFeedDrainIsBounded has a client that sends an unwanted body slowly: it
// may, while it sends, but not for ever.
func TestFeedDrainIsBounded(t *testing.T) {
	f := newFeeder(t, describingServer())
	c := f.newConn()
	tr := &scriptedTransport{c: c, shutAt: -1, pieces: [][]byte{[]byte(head("POST /ignore HTTP/1.1", "Content-Length: 70000"))}}
	c.tr = tr
	var began time.Duration
	for passed := time.Duration(0); passed < 2*lingerAll; passed += lingerSilent / 2 {
		c.edges |= ownRead
		c.drive(f.workset)
		if passed == 0 {
			began = f.workset.clock.now // the handler's run has read it
		}
		if c.state != stateDrain {
			t.Fatalf("state %v", c.state)
		}
		want := began + min(passed+lingerSilent, lingerAll)
		if got := c.deadline(); got != want {
			t.Fatalf("after %v: the deadline is %v, want %v", passed, got, want)
		}
		f.workset.clock.now += lingerSilent / 2
		tr.pieces = [][]byte{[]byte("x")}
	}
}

// TestFeedLingerIsBounded has a client that sends for ever after it was refused:
// what comes is discarded, a little in each turn, until its time is over.
func TestFeedLingerIsBounded(t *testing.T) {
	f := newFeeder(t, describingServer())
	c := f.newConn()
	tr := &scriptedTransport{c: c, shutAt: -1, pieces: [][]byte{[]byte("bad\r\n")}}
	c.tr = tr
	c.edges |= ownRead
	if v := c.drive(f.workset); v != verdictLinger {
		t.Fatalf("verdict %d", v)
	}
	began := f.workset.clock.now
	for passed := time.Duration(0); passed < lingerAll; passed += lingerSilent / 2 {
		f.workset.clock.now = began + passed
		for range 100 {
			tr.pieces = [][]byte{make([]byte, discardBytes)}
			c.edges |= ownRead
			if v := c.takeTurn(f.workset, turnDiscard); v != verdictLinger {
				t.Fatalf("after %v: verdict %d", passed, v)
			}
		}
		want := began + min(passed+lingerSilent, lingerAll)
		if got := c.deadline(); got != want {
			t.Fatalf("after %v: the deadline is %v, want %v", passed, got, want)
		}
	}
	f.workset.clock.now = began + lingerAll
	if v := c.takeTurn(f.workset, turnExpire); v != verdictClose {
		t.Errorf("verdict %d when the time is over", v)
	}
}

// TestFeedLingerComesLast has very many such clients on one loop: each of its
// rounds discards from a few of them, and from each in its turn.
func TestFeedLingerComesLast(t *testing.T) {
	const clients = 10 * discardTurns
	f := newFeeder(t, describingServer())
	l := f.loop
	l.workset = f.workset
	var all []*Conn
	for range clients {
		c := f.newConn()
		c.tr = &scriptedTransport{c: c, shutAt: -1, pieces: [][]byte{[]byte("bad\r\n")}}
		c.edges |= ownRead
		if !l.turn(&c.strand, f.workset, turnDrive) {
			t.Fatal("the baton was taken")
		}
		all = append(all, c)
	}
	for round := range 3 * clients / discardTurns {
		waiting := 0
		for _, c := range all {
			tr := c.tr.(*scriptedTransport)
			tr.pieces = [][]byte{make([]byte, discardBytes)}
			c.edges |= ownRead
			if !l.turn(&c.strand, f.workset, turnDrive) { // readiness alone has nothing discarded
				t.Fatal("the baton was taken")
			}
			waiting += len(tr.pieces)
		}
		if waiting != clients {
			t.Fatalf("round %d: %d of %d were read when input came", round, clients-waiting, clients)
		}
		if !l.discardSome(f.workset) {
			t.Fatal("the baton was taken")
		}
		for i, c := range all {
			read := len(c.tr.(*scriptedTransport).pieces[0]) < discardBytes
			if turn := i/discardTurns == round%(clients/discardTurns); read != turn {
				t.Fatalf("round %d: client %d: read %v, want %v", round, i, read, turn)
			}
		}
	}
}

// TestFeedRateWaitsForTheAnswer has a client that takes an earlier answer slowly
// while it sends a body: nothing was read of the body in that time, which does
// not count against it.
func TestFeedRateWaitsForTheAnswer(t *testing.T) {
	f := newFeeder(t, describingServer())
	c := f.newConn()
	input := head("GET / HTTP/1.1") + head("POST / HTTP/1.1", "Content-Length: 1000") + "part"
	tr := &scriptedTransport{c: c, shutAt: -1, sendMax: 1, pieces: [][]byte{[]byte(input), {}}}
	c.tr = tr
	c.edges |= ownRead | ownWrite
	c.drive(f.workset)
	for c.state == stateFlush {
		f.workset.clock.now += rateGrace
		c.edges |= ownWrite
		c.drive(f.workset)
	}
	if c.state != stateBody {
		t.Fatalf("state %v, sent %q", c.state, tr.sent)
	}
	if left := c.deadline() - f.workset.clock.now; left < rateGrace {
		t.Errorf("the body has %v to go on", left)
	}
}
