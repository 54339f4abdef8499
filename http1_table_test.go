package flare

import (
	"fmt"
	"io"
	"net/http"
	"strings"
	"testing"
	"time"
)

// mark is in every refused input. No answer may repeat it.
const mark = "q7Zk9x"

// A refusal is an input that is refused, and the status.
type refusal struct {
	name  string
	code  int
	input string
}

// head is a request head with the given fields besides Host.
func head(line string, fields ...string) string {
	return line + "\r\nHost: h\r\n" + strings.Join(append(fields, ""), "\r\n") + "\r\n"
}

// getWith is a GET request with one more field line.
func getWith(field string) string { return head("GET /"+mark+" HTTP/1.1", field) }

// chunkedWith is a request with a chunked body of those octets.
func chunkedWith(body string) string {
	return head("POST /"+mark+" HTTP/1.1", "Transfer-Encoding: chunked") + body
}

// Limits of the server that refuses.
const (
	refusingURIMax    = 512
	refusingHeaderMax = 2048
	refusingHeaders   = 20
	refusingBodyMax   = 8 << 10
)

func refusingServer() *Server {
	return &Server{
		MaxURIBytes: refusingURIMax, MaxHeaderBytes: refusingHeaderMax,
		MaxHeaders: refusingHeaders, MaxBodyBytes: refusingBodyMax,
		Logger: quietLogger(),
		Handler: HandlerFunc(func(w *ResponseWriter, r *Request) error {
			if _, err := io.Copy(io.Discard, r.Body()); err != nil {
				return err
			}
			return w.Text(200, "fine")
		}),
	}
}

// refusals has every row of what is refused by the wire format alone. Rows
// about time are in http1_behaviour_test.go.
func refusals() []refusal {
	const m = mark
	rows := []refusal{
		// Line ends: RFC 9112 §2.2.
		{"bare CR before the request line", 400, "\r" + head("GET /"+m+" HTTP/1.1")},
		{"bare CR in the method", 400, "GE\rT /" + m + " HTTP/1.1\r\nHost: h\r\n\r\n"},
		{"bare CR in the target", 400, "GET /" + m + "\rx HTTP/1.1\r\nHost: h\r\n\r\n"},
		{"bare CR behind the version", 400, "GET /" + m + " HTTP/1.1\rHost: h\r\n\r\n"},
		{"bare CR in a name", 400, getWith("X-\r" + m + ": a")},
		{"bare CR in a value", 400, getWith("X: a\r" + m)},
		{"bare CR at the end of a value", 400, getWith("X: " + m + "\rY: b")},
		{"CR CR LF behind a value", 400, getWith("X: " + m + "\r")},
		{"bare CR for the empty line", 400, "GET /" + m + " HTTP/1.1\r\nHost: h\r\n\rX: a\r\n\r\n"},
		{"bare CR behind a chunk size", 400, chunkedWith("5\rhello\r\n0\r\n\r\n")},
		{"bare CR behind chunk data", 400, chunkedWith("5\r\nhello\r0\r\n\r\n")},
		{"bare CR in the last chunk", 400, chunkedWith("0\r\r\n\r\n")},
		{"bare CR in a trailer", 400, chunkedWith("0\r\nX: a\rb\r\n\r\n")},
		{"bare LF before the request line", 400, "\n" + head("GET /"+m+" HTTP/1.1")},
		{"bare LF behind the request line", 400, "GET /" + m + " HTTP/1.1\nHost: h\r\n\r\n"},
		{"bare LF behind a value", 400, "GET /" + m + " HTTP/1.1\r\nHost: h\nX: a\r\n\r\n"},
		{"bare LF for the empty line", 400, "GET /" + m + " HTTP/1.1\r\nHost: h\r\n\n"},
		{"bare LF everywhere", 400, "GET /" + m + " HTTP/1.1\nHost: h\n\n"},
		{"bare LF behind a chunk size", 400, chunkedWith("5\nhello\r\n0\r\n\r\n")},
		{"bare LF behind a chunk extension", 400, chunkedWith("5;a=b\nhello\r\n0\r\n\r\n")},
		{"bare LF behind chunk data", 400, chunkedWith("5\r\nhello\n0\r\n\r\n")},
		{"bare LF behind the last chunk", 400, chunkedWith("0\n\r\n")},
		{"bare LF in a trailer", 400, chunkedWith("0\r\nX: a\n\r\n")},
		{"bare LF for the end of a trailer", 400, chunkedWith("0\r\nX: a\r\n\n")},
		{"three empty lines", 400, "\r\n\r\n\r\n" + head("GET /"+m+" HTTP/1.1")},
		{"white space before the first field", 400, "GET /" + m + " HTTP/1.1\r\n Host: h\r\n\r\n"},
		{"tab before the first field", 400, "GET /" + m + " HTTP/1.1\r\n\tHost: h\r\n\r\n"},

		// Request line: RFC 9112 §3.
		{"two spaces behind the method", 400, head("GET  /" + m + " HTTP/1.1")},
		{"two spaces before the version", 400, head("GET /" + m + "  HTTP/1.1")},
		{"space behind the version", 400, head("GET /" + m + " HTTP/1.1 ")},
		{"space before the method", 400, head(" GET /" + m + " HTTP/1.1")},
		{"tab for a space", 400, head("GET\t/" + m + " HTTP/1.1")},
		{"tab before the version", 400, head("GET /" + m + "\tHTTP/1.1")},
		{"method alone", 400, head("GET" + m)},
		{"no version", 400, head("GET /" + m)},
		{"space for a version", 400, head("GET /" + m + " ")},
		{"four parts", 400, head("GET /" + m + " x HTTP/1.1")},

		// Target: RFC 9112 §3.2.
		{"control in the target", 400, head("GET /" + m + "\x01 HTTP/1.1")},
		{"NUL in the target", 400, head("GET /" + m + "\x00 HTTP/1.1")},
		{"DEL in the target", 400, head("GET /" + m + "\x7f HTTP/1.1")},
		{"fragment in the target", 400, head("GET /" + m + "#x HTTP/1.1")},
		{"backslash in the path", 400, head("GET /" + m + "\\x?y HTTP/1.1")},
		{"non-ASCII in the host of the absolute form", 400, head("GET http://\xc3\xa9/" + m + " HTTP/1.1")},
		{"control in the query", 400, head("GET /?" + m + "\x1f HTTP/1.1")},
		{"DEL in the query", 400, head("GET /?" + m + "\x7f HTTP/1.1")},
		{"fragment in the query", 400, head("GET /?" + m + "#x HTTP/1.1")},
		{"escape that is not hexadecimal", 400, head("GET /" + m + "%zz HTTP/1.1")},
		{"escape cut by the space", 400, head("GET /" + m + "%2 HTTP/1.1")},
		{"percent alone", 400, head("GET /" + m + "% HTTP/1.1")},
		{"bad escape before a query", 400, head("GET /%0g?" + m + " HTTP/1.1")},
		{"target without a slash", 400, head("GET " + m + " HTTP/1.1")},
		{"another scheme", 400, head("GET ftp://h/" + m + " HTTP/1.1")},
		{"absolute form without a host", 400, head("GET http:///" + m + " HTTP/1.1")},
		{"absolute form with userinfo", 400, head("GET http://u:p@h/" + m + " HTTP/1.1")},
		{"absolute form with a bad port", 400, head("GET http://h:99999/" + m + " HTTP/1.1")},
		{"asterisk with GET", 400, head("GET * HTTP/1.1", "X: "+m)},
		{"authority form with GET", 400, head("GET " + m + ":80 HTTP/1.1")},
		{"origin form with CONNECT", 400, head("CONNECT /" + m + " HTTP/1.1")},
		{"CONNECT without a port", 400, head("CONNECT " + m + " HTTP/1.1")},
		{"target over its limit", 414, head("GET /" + m + strings.Repeat("a", refusingURIMax) + " HTTP/1.1")},

		// Method: RFC 9110 §9.1.
		{"method that is no token", 400, head("G(T /" + m + " HTTP/1.1")},
		{"method with a colon", 400, head("GET: /" + m + " HTTP/1.1")},
		{"method that is not ASCII", 400, head("G\xc9T /" + m + " HTTP/1.1")},
		{"method of 33 octets", 501, head(strings.Repeat("M", 33) + " /" + m + " HTTP/1.1")},

		// Version: RFC 9112 §2.3.
		{"version in lower case", 400, head("GET /" + m + " http/1.1")},
		{"version without minor", 400, head("GET /" + m + " HTTP/1")},
		{"version without a digit", 400, head("GET /" + m + " HTTP/1.")},
		{"version with three digits", 400, head("GET /" + m + " HTTP/1.10")},
		{"version with two major digits", 400, head("GET /" + m + " HTTP/11.1")},
		{"version of another protocol", 400, head("GET /" + m + " HTTX/1.1")},
		{"version of letters", 400, head("GET /" + m + " HTTP/a.b")},
		{"version 2.0", 505, head("GET /" + m + " HTTP/2.0")},
		{"version 0.9", 505, head("GET /" + m + " HTTP/0.9")},
		{"version 9.9", 505, head("GET /" + m + " HTTP/9.9")},

		// Field lines: RFC 9112 §5.
		{"space before the colon", 400, getWith("X-" + m + " : a")},
		{"tab before the colon", 400, getWith("X-" + m + "\t: a")},
		{"space before the colon of Content-Length", 400, getWith("Content-Length : 5\r\nX: " + m)},
		{"empty name", 400, getWith(": " + m)},
		{"name that is no token", 400, getWith("X(" + m + ": a")},
		{"NUL in a name", 400, getWith("X\x00" + m + ": a")},
		{"name that is not ASCII", 400, getWith("X\x80" + m + ": a")},
		{"line without a colon", 400, getWith("X" + m)},
		{"folded line", 400, getWith("X: a\r\n " + m)},
		{"line folded with a tab", 400, getWith("X: a\r\n\t" + m)},
		{"folded Transfer-Encoding", 400, getWith("Transfer-Encoding:\r\n chunked\r\nX: " + m)},
		{"NUL in a value", 400, getWith("X: " + m + "\x00")},
		{"DEL in a value", 400, getWith("X: " + m + "\x7f")},
		{"SOH in a value", 400, getWith("X: \x01" + m)},
		{"vertical tab in a value", 400, getWith("X: " + m + "\v")},
		{"escape in a value", 400, getWith("X: " + m + "\x1b[31m")},
		{"fields over their limit", 431, getWith("X: " + m + strings.Repeat("a", refusingHeaderMax))},
		{"many fields over the limit", 431, getWith(strings.Repeat("X: "+strings.Repeat("a", 200)+"\r\n", 12) + "Y: " + m)},
		{"field name that does not end", 431, "GET /" + m + " HTTP/1.1\r\n" + strings.Repeat("a", refusingHeaderMax+3)},
		{"too many fields", 431, getWith(strings.Repeat("X: a\r\n", refusingHeaders) + "Y: " + m)},

		// Host: RFC 9112 §3.2.
		{"no Host", 400, "GET /" + m + " HTTP/1.1\r\n\r\n"},
		{"absolute form without Host", 400, "GET http://h/" + m + " HTTP/1.1\r\n\r\n"},
		{"Host twice, equal", 400, getWith("Host: h\r\nX: " + m)},
		{"Host twice, different", 400, getWith("host: " + m)},

		// Content-Length: RFC 9112 §6.3.
		{"Content-Length twice, equal", 400, getWith("Content-Length: 5\r\nContent-Length: 5\r\nX: " + m)},
		{"Content-Length twice, different", 400, getWith("Content-Length: 5\r\ncontent-length: 6\r\nX: " + m)},
		{"Content-Length, then Transfer-Encoding", 400, getWith("Content-Length: 5\r\nTransfer-Encoding: chunked\r\nX: " + m)},
		{"Transfer-Encoding, then Content-Length", 400, getWith("Transfer-Encoding: chunked\r\nContent-Length: 5\r\nX: " + m)},
		{"Content-Length 0 with Transfer-Encoding", 400, getWith("Content-Length: 0\r\nTransfer-Encoding: chunked\r\nX: " + m)},

		// Transfer-Encoding: RFC 9112 §6.1.
		{"Transfer-Encoding in HTTP/1.0", 400, head("POST /"+m+" HTTP/1.0", "Transfer-Encoding: chunked") + "0\r\n\r\n"},
		{"Transfer-Encoding on two lines", 400, getWith("Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\nX: " + m)},
		{"a coding on a line of its own", 400, getWith("Transfer-Encoding: gzip\r\nTransfer-Encoding: chunked\r\nX: " + m)},

		// Bodies: RFC 9112 §7.1.
		{"chunk data longer than its size", 400, chunkedWith("5\r\nhello" + m + "\r\n0\r\n\r\n")},
		{"chunk data followed by LF CR", 400, chunkedWith("5\r\nhello\n\r0\r\n\r\n")},
		{"second chunk size bad", 400, chunkedWith("5\r\nhello\r\nx\r\n\r\n")},
		{"extension line over its limit", 413, chunkedWith("1;a=" + strings.Repeat("b", 1<<10) + "\r\nx\r\n0\r\n\r\n")},
		{"extensions of a body over their limit", 413,
			chunkedWith(strings.Repeat("1;a="+strings.Repeat("b", 1000)+"\r\nx\r\n", 17) + "0\r\n\r\n")},
		{"extensions of tiny chunks over their limit", 413, chunkedWith(strings.Repeat("1;abcdef\r\nx\r\n", 2500) + "0\r\n\r\n")},
		{"trailer over the head's limit", 431, chunkedWith("0\r\nX: " + strings.Repeat("a", refusingHeaderMax) + "\r\n\r\n")},
		{"trailer with too many fields", 431, chunkedWith("0\r\n" + strings.Repeat("X: a\r\n", refusingHeaders+1) + "\r\n")},
		{"trailer without a colon", 400, chunkedWith("0\r\n" + m + "\r\n\r\n")},
		{"trailer with a folded line", 400, chunkedWith("0\r\nX: a\r\n b\r\n\r\n")},
		{"declared body over the limit", 413, getWith(fmt.Sprintf("Content-Length: %d", refusingBodyMax+1))},
		{"declared body over the limit, with Expect", 413,
			getWith(fmt.Sprintf("Content-Length: %d\r\nExpect: 100-continue", refusingBodyMax+1))},
		{"declared body of 18 digits", 413, getWith("Content-Length: 999999999999999999")},
		{"counted body over the limit", 413,
			chunkedWith(strings.Repeat("400\r\n"+strings.Repeat("x", 1<<10)+"\r\n", refusingBodyMax>>10) + "1\r\nx\r\n0\r\n\r\n")},
		{"chunk over the limit by its size alone", 413, chunkedWith("7fffffff\r\n" + strings.Repeat("x", refusingBodyMax+1))},

		// Expectations: RFC 9110 §10.1.1.
		{"unknown expectation", 417, getWith("Expect: " + m)},
		{"unknown expectation beside 100-continue", 417, getWith("Expect: 100-continue, " + m)},

		// What is not HTTP/1.
		{"TLS hello", 400, "\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" + m},
		{"HTTP/2 preface", 400, "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + m},
		{"binary junk", 400, "\x00\x01\x02\xff\xfe" + m},
		{"SSH", 400, "SSH-2.0-" + m + "\r\n"},

		// The first fault in wire order decides.
		{"bad version before too many fields", 400, head("GET /"+m+" HTTP/1.x", strings.Repeat("X: a\r\n", 50)+"Y: b")},
		{"length fault before a bad name", 400, getWith("Content-Length: x\r\nExpect: " + m)},
		{"long method before a bad target", 501, head(strings.Repeat("M", 40) + " \\" + m + " HTTP/3.0")},
		{"other major before a missing Host", 505, "GET /" + m + " HTTP/3.0\r\n\r\n"},
		{"unknown coding before Host twice", 501, getWith("Transfer-Encoding: gzip, chunked\r\nHost: " + m)},
	}
	add := func(code int, name string, values []string, input func(string) string) {
		for _, v := range values {
			rows = append(rows, refusal{fmt.Sprintf("%s %.30q", name, v), code, input(v)})
		}
	}
	add(400, "Host", []string{"u@h", "u:p@h", "h/x", "h x", "h:port", "h:65536", "h:-1", "h:1:2", "[::1", "[::g]", "[1]",
		"::1", "[::1]x", "[fe80::1%25eth0]", "h\\", "h?x", "%zz", "<h>", ":80"}, func(v string) string {
		return "GET /" + m + " HTTP/1.1\r\nHost: " + v + "\r\n\r\n"
	})
	add(400, "Content-Length", []string{"+5", "-5", "0x5", "5 5", "5_0", "5.0", "", "1234567890123456789", "99999999999999999999",
		"5, 5", "5,", "05", "00", "5;", "a", "5a", "\"5\"", "1e1", "\xb5"}, func(v string) string {
		return head("POST /"+m+" HTTP/1.1", "Content-Length: "+v) + "hello"
	})
	add(400, "Transfer-Encoding", []string{"chunked, gzip", "chunked, chunked", "chunked;q=1", "gzip, chunked;q=1", "", ",", "\vchunked",
		"chunked\f", "gzip", "identity", "xchunked", "chunkedx", "chunked, identity", "chunked,", "\"chunked\"", "chunk ed",
		"gz ip, chunked", "chunked\x00"},
		func(v string) string {
			return head("POST /"+m+" HTTP/1.1", "Transfer-Encoding: "+v) + "0\r\n\r\n"
		})
	add(501, "Transfer-Encoding", []string{"gzip, chunked", "identity, chunked", "x-" + m + ", chunked", "gzip;q=1, chunked", "gzip,deflate,CHUNKED"},
		func(v string) string {
			return head("POST /"+m+" HTTP/1.1", "Transfer-Encoding: "+v) + "0\r\n\r\n"
		})
	add(400, "chunk size", []string{"+5", "-5", "0x5", " 5", "", "g", "5 5", "00000000000000005", "8000000000000000",
		"FFFFFFFFFFFFFFFF", "10000000000000000", "5.", "5_0", "5\x00", "\t5", ";a=b"}, func(v string) string {
		return chunkedWith(v + "\r\nhello\r\n0\r\n\r\n")
	})
	add(400, "chunk extension", []string{";", "; ", ";=a", ";a=", ";a=b c", ";a=\"b", ";a=\"b\x01\"", ";a=\x01", ";a;", " a", ";a=\"b\"c", ";a=b=c", ";\x80",
		";a=\"\\\x01\""}, func(v string) string {
		return chunkedWith("5" + v + "\r\nhello\r\n0\r\n\r\n")
	})
	return rows
}

// TestRefusals sends each input to a server and is the client that RFC 9112
// §9.6 is about: one that is still sending while it is refused.
func TestRefusals(t *testing.T) {
	s := refusingServer()
	addr := startServer(t, s)
	const good = "GET /good HTTP/1.1\r\nHost: h\r\n\r\n" +
		"POST /good HTTP/1.1\r\nHost: h\r\nContent-Length: 3\r\n\r\nabc"
	rest := strings.Repeat("0123456789abcdef", 8<<10) // 128 KiB
	check := func(t *testing.T, c *rawClient, row refusal) {
		t.Helper()
		a := c.answer("GET")
		if a.StatusCode != row.code {
			t.Errorf("status %d, want %d", a.StatusCode, row.code)
		}
		if !a.Close {
			t.Errorf("no Connection: close in %q", tail(c.got.Bytes()))
		}
		if a.ContentLength < 0 || a.Header.Get("Date") == "" || a.Proto != "HTTP/1.1" {
			t.Errorf("length %d, Date %q, %s", a.ContentLength, a.Header.Get("Date"), a.Proto)
		}
		c.ended()
		if strings.Contains(c.got.String(), mark) {
			t.Errorf("the answer repeats the input: %q", c.got.String())
		}
	}
	for _, row := range refusals() {
		if !strings.Contains(row.input, mark) {
			t.Fatalf("%s: the input has no mark", row.name)
		}
		t.Run(row.name, func(t *testing.T) {
			t.Run("sending on before reading", func(t *testing.T) {
				t.Parallel()
				c := dialRaw(t, addr)
				c.send(row.input, rest)
				check(t, c, row)
				c.Close()
			})
			t.Run("behind good ones, sending on after the end", func(t *testing.T) {
				t.Parallel()
				c := dialRaw(t, addr)
				c.send(good, row.input)
				c.answer("GET").want(t, 200, "fine")
				c.answer("POST").want(t, 200, "fine")
				check(t, c, row)
				for range 4 {
					c.send(rest[:16<<10]) // a reset would make it fail, the first time or the next
				}
				c.ended()
			})
		})
	}
	t.Run("all of them end", func(t *testing.T) { gone(t, s) })
}

// TestRefusalsReachErrorHandler pins that a refusal is answered by the user's
// ErrorHandler where there is one, and closes all the same.
func TestRefusalsReachErrorHandler(t *testing.T) {
	s := refusingServer()
	s.ErrorHandler = func(w *ResponseWriter, r *Request, err error) {
		if behindRequest(r).refused && strings.Contains(r.Method()+r.Target()+r.Path()+r.Host(), mark) {
			t.Error("the request shows what did not parse")
		}
		w.Header().Set("X-Own", "1")
		w.Text(statusOf(err), "own\n")
	}
	addr := startServer(t, s)
	for _, row := range refusals() {
		c := dialRaw(t, addr)
		c.send(row.input)
		c.CloseWrite()
		a, err := readAnswer(c.br, "GET")
		if err != nil || a.StatusCode != row.code || a.body != "own\n" || !a.Close || a.Header.Get("X-Own") != "1" {
			t.Errorf("%s: %v %+v", row.name, err, a)
		}
		c.Close()
	}
}

func statusOf(err error) int {
	if e, ok := err.(*StatusError); ok {
		return e.Code
	}
	return http.StatusTeapot
}

// TestRefusedSlow has the rows about time.
func TestRefusedSlow(t *testing.T) {
	const limit = 300 * time.Millisecond
	s := refusingServer()
	s.HeadTimeout, s.BodyTimeout, s.IdleTimeout = limit, limit, limit
	addr := startServer(t, s)
	for _, row := range []struct{ name, input string }{
		{"one octet", "G"},
		{"half a request line", "GET /" + mark},
		{"half a head", "GET /" + mark + " HTTP/1.1\r\nHost: h\r\nX: "},
		{"a head without its last octet", "GET /" + mark + " HTTP/1.1\r\nHost: h\r\n\r"},
		{"half a short body", head("POST /"+mark+" HTTP/1.1", "Content-Length: 10") + "hello"},
		{"none of a short body", head("POST /"+mark+" HTTP/1.1", "Content-Length: 10")},
		{"half a chunked body", chunkedWith("5\r\nhel")},
		{"none of a chunked body", chunkedWith("")},
		{"chunked body without its end", chunkedWith("5\r\nhello\r\n0\r\n")},
	} {
		t.Run(row.name, func(t *testing.T) {
			t.Parallel()
			started := time.Now()
			c := dialRaw(t, addr)
			c.send(row.input)
			a := c.answer("POST")
			if took := time.Since(started); took < limit-tick {
				t.Errorf("refused after %v, the limit is %v", took, limit)
			}
			if a.StatusCode != 408 || !a.Close {
				t.Errorf("%d, close %v", a.StatusCode, a.Close)
			}
			c.ended()
			if strings.Contains(c.got.String(), mark) {
				t.Errorf("the answer repeats the input: %q", c.got.String())
			}
			c.send(strings.Repeat("x", 16<<10))
			c.ended()
		})
	}
}
