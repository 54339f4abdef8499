package flare

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/textproto"
	"net/url"
	"runtime"
	"strings"
	"sync/atomic"
	"testing"
	"time"
)

// TestConnectionFieldSaysOneThing holds that a response which ends its connection
// says close and nothing else of that, whatever the handler has set, and that
// other options of the handler's stay.
func TestConnectionFieldSaysOneThing(t *testing.T) {
	set := func(h http.Header, values string) {
		for _, value := range strings.Split(values, "|") {
			h.Add("Connection", value)
		}
		h.Set("Keep-Alive", "timeout=5")
	}
	flares := HandlerFunc(func(w *ResponseWriter, r *Request) error {
		h := http.Header{}
		set(h, r.URL().Query().Get("c"))
		for name, values := range h {
			for _, value := range values {
				w.Header().Add(name, value)
			}
		}
		return w.Text(200, "fine")
	})
	https := FromHTTP(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		set(w.Header(), r.URL.Query().Get("c"))
		io.WriteString(w, "fine")
	}))
	for name, handler := range map[string]Handler{"flare": flares, "FromHTTP": https} {
		addr := startServer(t, &Server{Handler: handler})
		for _, row := range []struct{ proto, asked, set, want, keepAlive string }{
			{"HTTP/1.1", "close", "keep-alive", "close", ""},
			{"HTTP/1.1", "close", "Keep-Alive , x", "x|close", ""},
			{"HTTP/1.1", "close", "x, keep-alive,y", "x,y|close", ""},
			{"HTTP/1.1", "close", "x|keep-alive", "x|close", ""},
			{"HTTP/1.1", "close", "close, keep-alive", "close", ""},
			{"HTTP/1.1", "x", "keep-alive|close", "close", ""},
			{"HTTP/1.1", "x", "keep-alive", "keep-alive", "timeout=5"},
			{"HTTP/1.0", "x", "keep-alive", "close", ""},
			{"HTTP/1.0", "keep-alive", "keep-alive", "keep-alive", "timeout=5"},
			{"HTTP/1.0", "keep-alive", "x", "x|keep-alive", "timeout=5"},
		} {
			c := dialRaw(t, addr)
			c.send(head("GET /?c="+url.QueryEscape(row.set)+" "+row.proto, "Connection: "+row.asked))
			c.answer("GET")
			// As it is on the wire: net/http's parser takes close out.
			lines := textproto.NewReader(bufio.NewReader(&c.got))
			lines.ReadLine()
			sent, err := lines.ReadMIMEHeader()
			got, keepAlive := strings.Join(sent["Connection"], "|"), sent.Get("Keep-Alive")
			if err != nil || got != row.want || keepAlive != row.keepAlive {
				t.Errorf("%s: %s asked %q, set %q: Connection %q, Keep-Alive %q, %v; want %q, %q",
					name, row.proto, row.asked, row.set, got, keepAlive, err, row.want, row.keepAlive)
			}
			c.Close()
		}
	}
}

// An error in place of a response keeps what was set for whatever is answered,
// all values of it, and drops what described the response that will not be.
func TestRefusalFields(t *testing.T) {
	kept := [][2]string{
		{"WWW-Authenticate", `Digest realm="r", nonce="n"`}, {"www-authenticate", `Basic realm="r"`},
		{"Proxy-Authenticate", "Basic"}, {"Allow", "GET, PUT"}, {"Retry-After", "7"}, {"Accept-Patch", "a/b"},
		{"Access-Control-Allow-Origin", "https://a.test"}, {"Vary", "Origin"},
		{"Strict-Transport-Security", "max-age=1"}, {"Content-Security-Policy", "default-src 'self'"},
		{"Content-Security-Policy-Report-Only", "default-src"}, {"X-Content-Type-Options", "nosniff"},
		{"X-Request-Id", "r1"}, {"Traceparent", "00-1-2-3"}, {"Set-Cookie", "a=1"}, {"Set-Cookie", "b=2"},
		{"Cache-Control", "private, No-Store"}, {"Content-Range", "bytes */7"},
	}
	gone := []string{
		"Content-Type", "Content-Length", "Content-Encoding", "Content-Language", "Content-Location", "Content-Disposition",
		"Content-Digest", "Repr-Digest", "Digest", "Content-MD5", "ETag", "Last-Modified", "Accept-Ranges", "Expires",
		"Age", "Pragma", "Location", "Trailer", "CDN-Cache-Control",
	}
	fill := func(w *ResponseWriter) {
		for _, name := range gone {
			w.Header().Set(name, "1")
		}
		w.Header().Add("cache-control", "max-age=1")
		w.Header().Add("content-range", "bytes 0-0/7")
		for _, f := range kept {
			w.Header().Add(f[0], f[1])
		}
		w.Trailer().Add("X-Sum", "1")
		w.WriteString("x")
	}
	handlers := routes{
		"/status": HandlerFunc(func(w *ResponseWriter, r *Request) error {
			fill(w)
			return &StatusError{Code: 401, Err: errors.New("for the log")}
		}),
		"/panic": HandlerFunc(func(w *ResponseWriter, r *Request) error { fill(w); panic("for the log") }),
		"/fault": HandlerFunc(func(w *ResponseWriter, r *Request) error {
			fill(w)
			w.Header().Add("WWW-Authenticate", "Basic realm=\"\r\n\"") // refused, and only this one
			return nil
		}),
		"/faultstatus": HandlerFunc(func(w *ResponseWriter, r *Request) error {
			fill(w)
			w.Header().Add("X-Frame-Options", "\n") // the answer must not go out without it
			return &StatusError{Code: 404}
		}),
	}
	custom := &Server{Logger: quietLogger(), Handler: handlers, ErrorHandler: func(w *ResponseWriter, r *Request, err error) {
		var status *StatusError
		if errors.As(err, &status) {
			w.Text(status.Code, "own words\n")
			return
		}
		panic("the error handler as well")
	}}
	for name, s := range map[string]*Server{"default": {Logger: quietLogger(), Handler: handlers}, "ErrorHandler": custom} {
		url := strings.TrimPrefix(TestServer(t, s), "http://")
		for path, code := range map[string]int{"/status": 401, "/panic": 500, "/fault": 500, "/faultstatus": 500} {
			a := dialRaw(t, url).get(path)
			if a.StatusCode != code {
				t.Errorf("%s %s: status %d, want %d", name, path, a.StatusCode, code)
			}
			want := http.Header{}
			for _, f := range kept {
				want.Add(f[0], f[1])
			}
			for field, values := range want {
				if got := a.Header[field]; strings.Join(got, "|") != strings.Join(values, "|") {
					t.Errorf("%s %s: %s is %q, want %q", name, path, field, got, values)
				}
			}
			for _, field := range gone {
				if got := a.Header.Get(field); got == "1" {
					t.Errorf("%s %s: %s has stayed", name, path, field)
				}
			}
			if len(a.Trailer) > 0 {
				t.Errorf("%s %s: trailer %v", name, path, a.Trailer)
			}
		}
	}
}

// Hooks are called for the answer that an error puts in the place of another:
// with its status, with the header as it was before they were called for the
// first time, and never again once their writers were closed.
func TestHooksOfARefusal(t *testing.T) {
	var closed atomic.Int32
	secured := func(h HandlerFunc) Handler {
		return HandlerFunc(func(w *ResponseWriter, r *Request) error {
			w.OnCommit(func(status int, h *Header, next io.WriteCloser) io.WriteCloser {
				h.Add("X-Hook", fmt.Sprint(status))
				return &closeCounter{next, &closed}
			})
			return h(w, r)
		})
	}
	long := strings.Repeat("x", responseBufferMax+1)
	s := &Server{Logger: quietLogger(), Handler: routes{
		"/404":   secured(func(w *ResponseWriter, r *Request) error { return &StatusError{Code: 404} }),
		"/panic": secured(func(w *ResponseWriter, r *Request) error { panic("for the log") }),
		"/fault": secured(func(w *ResponseWriter, r *Request) error { w.Header().Set("X", "\n"); return nil }),
		// The hooks have been called when the fault is found.
		"/late": secured(func(w *ResponseWriter, r *Request) error {
			w.Header().Set("X", "\n")
			_, err := w.WriteString(long)
			return err
		}),
		"/none": secured(func(w *ResponseWriter, r *Request) error {
			w.Header().Set("Content-Length", "no number") // is found behind the hooks' end
			return nil
		}),
	}}
	addr := startServer(t, s)
	for path, want := range map[string]string{"/404": "404", "/panic": "500", "/fault": "500", "/late": "500", "/none": ""} {
		closed.Store(0)
		a := dialRaw(t, addr).get(path)
		if got := strings.Join(a.Header.Values("X-Hook"), " "); got != want || closed.Load() != 1 {
			t.Errorf("%s: %d, called for %q, want %q, closed %d times", path, a.StatusCode, got, want, closed.Load())
		}
	}
}

type closeCounter struct {
	io.WriteCloser
	n *atomic.Int32
}

func (c *closeCounter) Close() error {
	c.n.Add(1)
	return c.WriteCloser.Close()
}

// A compressed response that fails leaves nothing in the answer to its error.
func TestCompressedRefusal(t *testing.T) {
	text := strings.Repeat("secret ", 1000)
	s := &Server{Logger: quietLogger(), Handler: Compress(HandlerFunc(func(w *ResponseWriter, r *Request) error {
		w.Header().Set("Content-Type", "text/plain")
		w.Header().Set("X", "\n")
		w.WriteString(text)
		return w.Flush() // fails, and leaves a writer with coded octets
	}))}
	c := dialRaw(t, startServer(t, s))
	for range 3 {
		c.send(request("/", "Accept-Encoding: gzip"))
		a := c.answer("GET")
		a.want(t, 500, "Internal Server Error\n")
		if a.Header.Get("Content-Encoding") != "" {
			t.Errorf("%v", a.Header)
		}
	}
}

// An ErrorHandler that says no status has that of the error, and one that
// writes nothing has flare's words, too.
func TestErrorHandlerSaysNothing(t *testing.T) {
	page := FromHTTP(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { io.WriteString(w, "net/http's page") }))
	s := &Server{Logger: quietLogger(), Handler: routes{
		"/":      textHandler("fine"),
		"/plain": HandlerFunc(func(w *ResponseWriter, r *Request) error { return errors.New("for the log") }),
		"/basic": RequireBasic("r", BasicUsers(nil))(textHandler("fine")),
		"/careless": HandlerFunc(func(w *ResponseWriter, r *Request) error {
			w.Unauthorized(BasicChallenge("r"))
			return nil
		}),
		"/bearer": RequireBearer("r", BearerTokens())(textHandler("fine")),
		"/digest": (&DigestVerifier{Realm: "r"}).Require(nil)(textHandler("fine")),
	}, ErrorHandler: func(w *ResponseWriter, r *Request, err error) {
		query, _ := behindRequest(r).queryView()
		switch query {
		case "write":
			fmt.Fprintf(w, "own words for %d", w.Status())
		case "head":
			w.WriteHeader(418)
		case "page":
			page.Serve(w, r)
		case "flush":
			w.Flush()
		}
	}}
	addr := startServer(t, s)
	for path, want := range map[string]string{
		"/":             "200 fine",
		"/none":         "404 Not Found\n",
		"/plain":        "500 Internal Server Error\n",
		"/none?write":   "404 own words for 404",
		"/plain?write":  "500 own words for 500",
		"/none?head":    "418 ",
		"/none?page":    "404 net/http's page",
		"/none?flush":   "404 ",
		"/basic":        "401 Unauthorized\n",
		"/basic?write":  "401 own words for 401",
		"/bearer?write": "401 own words for 401",
		"/digest?write": "401 own words for 401",
		"/careless":     "401 ",
	} {
		a := dialRaw(t, addr).get(path)
		if got := fmt.Sprintf("%d %s", a.StatusCode, a.body); got != want {
			t.Errorf("%s: %q, want %q", path, got, want)
		}
		if a.StatusCode == 401 && a.Header.Get("WWW-Authenticate") == "" {
			t.Errorf("%s: no challenge in %v", path, a.Header)
		}
	}
}

// A 2xx answer to CONNECT has no body and no field about one (RFC 9110
// §9.3.6); a refusal is an answer like others.
func TestConnectAnswer(t *testing.T) {
	s := &Server{Handler: HandlerFunc(func(w *ResponseWriter, r *Request) error {
		switch r.Host() {
		case "declared:1":
			w.Header().Set("Content-Length", "3")
		case "streamed:1":
			if err := w.Flush(); err != nil {
				return err
			}
		case "refused:1":
			return &StatusError{Code: 403}
		}
		return w.Text(200, "abc")
	})}
	addr := strings.TrimPrefix(TestServer(t, s), "http://")
	for host, want := range map[string]string{
		"plain:1": "HTTP/1.1 200 OK\r\n", "declared:1": "HTTP/1.1 200 OK\r\n", "streamed:1": "HTTP/1.1 200 OK\r\n",
		"refused:1": "HTTP/1.1 403 Forbidden\r\n",
	} {
		c := dialRaw(t, addr)
		c.send("CONNECT " + host + " HTTP/1.1\r\nHost: " + host + "\r\n\r\n")
		method := "CONNECT"
		if host == "refused:1" {
			method = "GET" // an answer with a body
		}
		resp, err := http.ReadResponse(c.br, &http.Request{Method: method})
		if err != nil {
			t.Fatal(err)
		}
		if method == "GET" {
			if resp.ContentLength != int64(len("Forbidden\n")) {
				t.Errorf("%s: length %d", host, resp.ContentLength)
			}
			continue
		}
		c.ended()
		got := c.got.String()
		if !strings.HasPrefix(got, want) || !strings.HasSuffix(got, "\r\n\r\n") ||
			strings.Contains(got, "Content-Length") || strings.Contains(got, "Transfer-Encoding") {
			t.Errorf("%s: %q", host, got)
		}
	}
}

// panickyCloser is a hook's writer that fails when all else is over.
type panickyCloser struct{ io.WriteCloser }

func (panickyCloser) Close() error { panic("hook") }

// What of the user's code runs behind the handler, or in place of it, ends the
// request and not the process, the loop or the next response.
func TestUsersCodeBehindTheHandler(t *testing.T) {
	hook := func(fn CommitFunc) Handler {
		return HandlerFunc(func(w *ResponseWriter, r *Request) error {
			w.OnCommit(fn)
			return w.Text(200, "hooked")
		})
	}
	s := &Server{Logger: quietLogger(), Handler: routes{
		"/fine":   textHandler("fine"),
		"/hook":   hook(func(int, *Header, io.WriteCloser) io.WriteCloser { panic("hook") }),
		"/close":  hook(func(_ int, _ *Header, next io.WriteCloser) io.WriteCloser { return panickyCloser{next} }),
		"/goexit": hook(func(int, *Header, io.WriteCloser) io.WriteCloser { runtime.Goexit(); return nil }),
	}, ErrorHandler: func(w *ResponseWriter, r *Request, err error) {
		switch {
		case r.Path() == "/late":
			w.WriteString("begun")
			w.Flush()
			panic("late")
		case r.Path() == "/header":
			w.Header().Set("X", "\n")
		case r.Path() == "/exits":
			runtime.Goexit()
		case r.Path() == "/aborts":
			panic(http.ErrAbortHandler)
		case r.Path() == "/hooks":
			w.OnCommit(func(int, *Header, io.WriteCloser) io.WriteCloser { panic("hook") })
		default:
			panic("error handler")
		}
	}}
	addr := startServer(t, s)
	for _, path := range []string{"/hook", "/close", "/none", "/header", "/hooks"} {
		c := dialRaw(t, addr)
		c.send(request("/fine"), request(path), request("/fine"))
		c.answer("GET").want(t, 200, "fine")
		c.answer("GET").want(t, 500, "Internal Server Error\n")
		c.answer("GET").want(t, 200, "fine") // the failure was the request's
	}
	for path, heads := range map[string]int{"/goexit": 1, "/exits": 1, "/aborts": 1, "/late": 2} {
		c := dialRaw(t, addr)
		c.send(request("/fine"), request(path))
		c.answer("GET").want(t, 200, "fine")
		c.toEnd()
		if got := c.got.String(); strings.Count(got, "HTTP/1.1 ") != heads || strings.Contains(got, "\r\n0\r\n") {
			t.Errorf("%s: received %q", path, got)
		}
	}
	refused := dialRaw(t, addr)
	refused.send("GET / HTTP/1.1\r\nHost: h\r\nno colon\r\n\r\n")
	a := refused.answer("GET")
	a.want(t, 500, "Internal Server Error\n")
	if !a.Close {
		t.Error("a refusal whose error handler panicked does not say that the connection ends")
	}
	dialRaw(t, addr).get("/fine").want(t, 200, "fine") // the loop goes on
}

// An ErrorHandler is given a refused request as it is given others: with a body,
// which is empty, and with no deadline of the handler that ran before.
func TestErrorHandlerOfARefusal(t *testing.T) {
	const long = 16 << 20 // more than sockets hold
	s := &Server{Logger: quietLogger(), Loops: 1, Handler: Inline(HandlerFunc(func(w *ResponseWriter, r *Request) error {
		w.SetWriteDeadline(time.Unix(1, 0))
		return w.Text(200, "fine")
	})), ErrorHandler: func(w *ResponseWriter, r *Request, err error) {
		body, readErr := r.Bytes()
		w.WriteHeader(418)
		fmt.Fprintf(w, "%q %v\n", body, readErr)
		w.Write(make([]byte, long))
	}}
	addr := startServer(t, s)
	c := dialRaw(t, addr)
	c.get("/").want(t, 200, "fine")
	c.send("GET / HTTP/1.1\r\nHost: h\r\nno colon\r\n\r\n")
	if a := c.answer("GET"); a.StatusCode != 418 || len(a.body) != long+len("\"\" <nil>\n") || !strings.HasPrefix(a.body, "\"\" <nil>\n") {
		t.Errorf("status %d, %d bytes: %.30q", a.StatusCode, len(a.body), a.body)
	}
}

// panickyRouter is a Router whose Route panics for one path.
type panickyRouter struct{ routes }

func (p panickyRouter) Route(r *Request) (Handler, string) {
	if r.Path() == "/panic" {
		panic("route")
	}
	return p.routes.Route(r)
}

func TestRouterPanics(t *testing.T) {
	s := &Server{Logger: quietLogger(), Handler: panickyRouter{routes{"/fine": textHandler("fine")}}}
	c := dialRaw(t, startServer(t, s))
	c.send(request("/panic"), request("/fine"))
	c.answer("GET").want(t, 500, "Internal Server Error\n")
	c.answer("GET").want(t, 200, "fine")
}
