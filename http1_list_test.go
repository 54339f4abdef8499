package flare

import (
	"fmt"
	"io"
	"net/http"
	"strings"
	"testing"
)

// This file goes through what RFC 9110 and 9112 ask of a server between accepting
// a request and sending its answer, sentence by sentence, each with the shortest
// exchange that shows it. The depth is in the other tests of http1_*.

// A listRow is a sentence and its exchange.
type listRow struct {
	says    string
	input   string
	methods string   // of the requests that are answered; GET where it ends
	codes   string   // of the answers
	has     []string // in what was sent
	not     []string
	open    bool // for another request
	waits   bool // for the body, inside the handler
}

func listServer() *Server {
	set := func(name, value string) Handler {
		return HandlerFunc(func(w *ResponseWriter, r *Request) error {
			w.Header().Set(name, value)
			return w.Text(200, "fine")
		})
	}
	return &Server{Logger: quietLogger(), MaxBodyBytes: 1 << 20, Handler: routes{
		"/":       textHandler("fine"),
		"/value":  HandlerFunc(func(w *ResponseWriter, r *Request) error { return w.Text(200, fmt.Sprintf("%q", r.Header().Get("X"))) }),
		"/host":   HandlerFunc(func(w *ResponseWriter, r *Request) error { return w.Text(200, "host "+r.Host()) }),
		"/server": set("Server", "mine"),
		"/echo": HandlerFunc(func(w *ResponseWriter, r *Request) error {
			p, err := r.Bytes()
			if err != nil {
				return err
			}
			return w.Text(200, fmt.Sprintf("<%s>", p))
		}),
		"/stream": HandlerFunc(func(w *ResponseWriter, r *Request) error {
			w.WriteString("in ")
			w.Flush()
			_, err := w.WriteString("parts")
			return err
		}),
		"/204": HandlerFunc(func(w *ResponseWriter, r *Request) error { w.WriteHeader(204); return nil }),
		"/304": HandlerFunc(func(w *ResponseWriter, r *Request) error { w.WriteHeader(304); return nil }),
		"/103": HandlerFunc(func(w *ResponseWriter, r *Request) error {
			if err := w.Informational(103, nil); err != nil {
				return err
			}
			return w.Text(200, "fine")
		}),
		"/fewer": HandlerFunc(func(w *ResponseWriter, r *Request) error {
			w.Header().Set("Content-Length", "9")
			_, err := w.WriteString("fine")
			return err
		}),
		"/more": HandlerFunc(func(w *ResponseWriter, r *Request) error {
			w.Header().Set("Content-Length", "4")
			if _, err := w.WriteString("fine"); err != nil {
				return err
			}
			if _, err := w.WriteString("more"); err != http.ErrContentLength {
				return fmt.Errorf("more than was declared: %v", err)
			}
			return nil
		}),
		"/cr": set("X", "a\rb"), "/lf": set("X", "a\nSet-Cookie: b"), "/nul": set("X", "a\x00b"), "/name": set("X: y\r\nZ", "a"),
		"/redirect": HandlerFunc(func(w *ResponseWriter, r *Request) error { return w.Redirect(302, "/\r\nSet-Cookie: a=b") }),
		"/cookie": HandlerFunc(func(w *ResponseWriter, r *Request) error {
			w.SetCookie(&Cookie{Name: "a", Value: "b\r\nSet-Cookie: c=d"})
			return w.Text(200, "fine")
		}),
	}}
}

var listRows = []listRow{
	{says: "a CRLF before the request line is skipped", input: "\r\n" + request("/"), codes: "200", open: true},
	{says: "two are", input: "\r\n\r\n" + request("/"), codes: "200", open: true},
	{says: "three are refused", input: "\r\n\r\n\r\n" + request("/"), codes: "400"},
	{says: "octets above 0x7f pass through a value", input: request("/value", "X: \x80\xff"), codes: "200", has: []string{`"\x80\xff"`}, open: true},
	{says: "white space around a value is trimmed", input: request("/value", "X: \t a b \t"), codes: "200", has: []string{`"a b"`}, open: true},
	{says: "the absolute form overrides Host", input: head("GET http://other/host HTTP/1.1"), codes: "200", has: []string{"host other"}, open: true},

	{says: "Connection is a list over all its lines", input: request("/", "Connection: a", "Connection: b, close") + request("/"), codes: "200", has: []string{"Connection: close\r\n"}},
	{says: "its options have no case", input: request("/", "Connection: CLOSE") + request("/"), codes: "200"},
	{says: "close wins over keep-alive", input: request("/", "Connection: close, keep-alive") + request("/"), codes: "200"},
	{says: "nothing behind close is read as a request", input: request("/", "Connection: close") + "nonsense", codes: "200"},
	{says: "HTTP/1.0 closes", input: head("GET / HTTP/1.0") + request("/"), codes: "200"},
	{says: "HTTP/1.0 with keep-alive does not, and is told", input: head("GET / HTTP/1.0", "Connection: keep-alive"), codes: "200", has: []string{"Connection: keep-alive\r\n"}, open: true},

	{says: "responses leave in the order of requests", input: request("/value", "X: 1") + request("/value", "X: 2") + request("/value", "X: 3"), codes: "200 200 200", has: []string{`"1"`, `"2"`, `"3"`}, open: true},
	{says: "a burst is answered whole", input: strings.Repeat(request("/"), 100), codes: strings.TrimSpace(strings.Repeat("200 ", 100)), open: true},

	{says: "a short body is awaited", input: head("POST /echo HTTP/1.1", "Content-Length: 5") + "hello", methods: "POST", codes: "200", has: []string{"<hello>"}, open: true},
	{says: "a longer body streams", input: head("POST /echo HTTP/1.1", "Content-Length: 65537") + strings.Repeat("x", 65537), methods: "POST", codes: "200", open: true, waits: true},
	{says: "a chunked body streams", input: head("POST /echo HTTP/1.1", "Transfer-Encoding: chunked") + "5\r\nhello\r\n0\r\n\r\n", methods: "POST", codes: "200", has: []string{"<hello>"}, open: true, waits: true},
	{says: "a body over the limit gets no 100", input: head("POST /echo HTTP/1.1", "Content-Length: 1048577", "Expect: 100-continue"), methods: "POST", codes: "413"},
	{says: "a handler that answers without reading sends no 100, and closes", input: head("POST / HTTP/1.1", "Content-Length: 5", "Expect: 100-continue"), methods: "POST", codes: "200", has: []string{"Connection: close\r\n"}},
	{says: "unless the body came", input: head("POST / HTTP/1.1", "Content-Length: 5", "Expect: 100-continue") + "hello", methods: "POST", codes: "200", open: true, waits: true},
	{says: "an unread body is discarded", input: head("POST / HTTP/1.1", "Content-Length: 65537") + strings.Repeat("x", 65537) + request("/"), methods: "POST,GET", codes: "200 200", open: true, waits: true},
	{says: "up to a bound", input: head("POST / HTTP/1.1", fmt.Sprintf("Content-Length: %d", drainBytesMax+1)), methods: "POST", codes: "200", has: []string{"Connection: close\r\n"}},

	{says: "HEAD has the fields of GET and no content", input: head("HEAD / HTTP/1.1"), methods: "HEAD", codes: "200", has: []string{"Content-Length: 4\r\n"}, not: []string{"\r\n\r\nfine"}, open: true},
	{says: "204 has no framing field", input: request("/204"), codes: "204", not: []string{"Content-Length", "Transfer-Encoding"}, open: true},
	{says: "304 has none either", input: request("/304"), codes: "304", not: []string{"Transfer-Encoding", "Content-Length"}, open: true},
	{says: "1xx has none either, nor a Date", input: request("/103"), codes: "103 200", has: []string{"HTTP/1.1 103 Early Hints\r\n\r\n"}, open: true},
	{says: "HTTP/1.0 gets no 1xx", input: head("GET /103 HTTP/1.0"), codes: "200"},
	{says: "nor chunks", input: head("GET /stream HTTP/1.0", "Connection: keep-alive"), codes: "200", has: []string{"\r\n\r\nin parts"}, not: []string{"Transfer-Encoding"}, waits: true},
	{says: "nor 100", input: head("POST /echo HTTP/1.0", "Content-Length: 5", "Expect: 100-continue") + "hello", methods: "POST", codes: "200"},

	{says: "a length that is known is sent", input: request("/"), codes: "200", has: []string{"Content-Length: 4\r\n"}, not: []string{"Transfer-Encoding"}, open: true},
	{says: "chunks are sent otherwise", input: request("/stream"), codes: "200", has: []string{"Transfer-Encoding: chunked\r\n", "0\r\n\r\n"}, not: []string{"Content-Length"}, open: true, waits: true},
	{says: "fewer bytes than declared close", input: request("/fewer") + request("/")},
	{says: "more are an error of the write", input: request("/more"), codes: "200", has: []string{"\r\n\r\nfine"}, not: []string{"more"}, open: true},

	{says: "a final response has a Date", input: request("/"), codes: "200", has: []string{"Date: "}, open: true},
	{says: "a refusal too", input: "bad\r\n", codes: "400", has: []string{"Date: "}},
	{says: "Server is not sent by itself", input: request("/"), codes: "200", not: []string{"Server"}, open: true},
	{says: "and is when it is set", input: request("/server"), codes: "200", has: []string{"Server: mine\r\n"}, open: true},

	{says: "CR is refused in a value", input: request("/cr"), codes: "500", not: []string{"a\rb"}, open: true},
	{says: "LF is", input: request("/lf"), codes: "500", not: []string{"Set-Cookie"}, open: true},
	{says: "NUL is", input: request("/nul"), codes: "500", not: []string{"\x00"}, open: true},
	{says: "CR and LF are in a name", input: request("/name"), codes: "500", not: []string{"Z: a"}, open: true},
	{says: "and in the target of a redirect", input: request("/redirect"), codes: "500", not: []string{"Set-Cookie"}, open: true},
	{says: "and in a cookie", input: request("/cookie"), codes: "500", not: []string{"Set-Cookie"}, open: true},
}

func TestBehaviourList(t *testing.T) {
	f := newFeeder(t, listServer())
	for _, row := range listRows {
		t.Run(row.says, func(t *testing.T) {
			f.t = t
			var got outcome
			if row.waits {
				got = f.run(feed{pieces: []string{row.input}})
			} else {
				got = f.splitInvisible(row.input, false)
			}
			if row.codes != "" { // else the answer is cut short
				var codes []string
				for _, a := range parseAnswers(t, got.out, strings.Split(row.methods, ",")...) {
					codes = append(codes, fmt.Sprint(a.StatusCode))
				}
				if got := strings.Join(codes, " "); got != row.codes {
					t.Errorf("answers %s, want %s", got, row.codes)
				}
			}
			for _, s := range row.has {
				if !strings.Contains(got.out, s) {
					t.Errorf("%q is not in %q", s, tail([]byte(got.out)))
				}
			}
			for _, s := range row.not {
				if strings.Contains(got.out, s) {
					t.Errorf("%q is in %q", s, tail([]byte(got.out)))
				}
			}
			if got.open != row.open {
				t.Errorf("open %v, want %v", got.open, row.open)
			}
		})
	}
}

// TestBehaviourListOnSockets has the sentences that are about when something is
// sent.
func TestBehaviourListOnSockets(t *testing.T) {
	addr := startServer(t, listServer())
	t.Run("100 is sent when the handler first reads", func(t *testing.T) {
		c := dialRaw(t, addr)
		c.send(head("POST /echo HTTP/1.1", "Content-Length: 5", "Expect: 100-continue"))
		const want = "HTTP/1.1 100 Continue\r\n\r\n"
		got := make([]byte, len(want))
		if _, err := io.ReadFull(c.br, got); err != nil || string(got) != want {
			t.Fatalf("%q, %v", got, err)
		}
		c.send("hello")
		c.answer("POST").want(t, 200, "<hello>")
	})
	t.Run("a half-close gets its answer", func(t *testing.T) {
		c := dialRaw(t, addr)
		c.send(request("/"))
		c.CloseWrite()
		c.answer("GET").want(t, 200, "fine")
		c.ended()
	})
	t.Run("fewer bytes than declared look short", func(t *testing.T) {
		c := dialRaw(t, addr)
		c.send(request("/fewer"))
		_, err := readAnswer(c.br, "GET")
		c.cut(err)
	})
}
