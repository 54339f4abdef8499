package flare

import (
	"bufio"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"testing"
)

// This file has what RFC 9110 and 9112 ask of an intermediary and no other test of
// ReverseProxy shows.

// What has to reach the server behind a ReverseProxy, and its client. A row says what is
// asked and answered, and which lines both have to see; one that begins with "-" they
// must not.
func TestReverseProxyMusts(t *testing.T) {
	t.Parallel()
	const ok = "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"
	const chunks = "\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nok\r\n0\r\n"
	for _, row := range []struct {
		name, request, answer string
		behind, front         []string
	}{
		{"the version is one's own", "GET / HTTP/1.0\r\nHost: h\r\n\r\n", "HTTP/1.0 200 OK\r\nContent-Length: 2\r\n\r\nok",
			[]string{"GET / HTTP/1.1"}, []string{"HTTP/1.1 200"}},
		{"Via is appended", "GET / HTTP/1.0\r\nHost: h\r\nVia: 1.1 first, 1.0 second\r\n\r\n", ok,
			[]string{"via: 1.1 first, 1.0 second", "via: 1.0 flare-"}, nil},
		{"an answer gets a Date", "GET / HTTP/1.1\r\nHost: h\r\n\r\n", ok, nil, []string{"date: "}},
		{"an answer keeps its Date", "GET / HTTP/1.1\r\nHost: h\r\n\r\n", strings.Replace(ok, "\r\n", "\r\nDate: Thu, 02 Jan 2020 03:04:05 GMT\r\n", 1),
			nil, []string{"date: Thu, 02 Jan 2020 03:04:05 GMT\n"}},
		{"credentials are not touched", "GET / HTTP/1.1\r\nHost: h\r\nAuthorization: Digest a=\"b\",  c=d\r\n\r\n", strings.Replace(ok, "\r\n", "\r\nAuthentication-Info: a=\"b\",  c=d\r\n", 1),
			[]string{"authorization: Digest a=\"b\",  c=d\n"}, []string{"authentication-info: a=\"b\",  c=d\n"}},
		{"conditions are not looked at", "GET / HTTP/1.1\r\nHost: h\r\nIf-Match: \"b\"\r\nIf-Range: \"c\"\r\nRange: bytes=0-0\r\nIf-Unmodified-Since: Thu, 02 Jan 2020 03:04:05 GMT\r\n\r\n", strings.Replace(ok, "\r\n", "\r\nETag: \"a\"\r\n", 1),
			[]string{"if-match: \"b\"", "if-range: \"c\"", "range: bytes=0-0", "if-unmodified-since: Thu"}, []string{" 200"}},
		{"the host is that of the target", "GET http://right/a HTTP/1.1\r\nHost: wrong\r\n\r\n", ok, []string{"GET /a ", "host: right\n", "-wrong"}, nil},
		{"OPTIONS of no path is for the server", "OPTIONS http://h HTTP/1.1\r\nHost: h\r\n\r\n", ok, []string{"-OPTIONS"}, []string{" 200"}},
		{"trailer fields of the connection", "POST / HTTP/1.1\r\nHost: h\r\nConnection: X-Mine" + chunks + "X-Mine: 1\r\nX-All: 2\r\n\r\n", "HTTP/1.1 200 OK\r\nConnection: X-Theirs" + chunks + "X-Theirs: 1\r\nX-All: 2\r\n\r\n",
			[]string{"x-all: 2", "-x-mine"}, []string{"x-all: 2", "-x-theirs"}},
		{"Connection takes out nothing that the gateway says", "POST / HTTP/1.1\r\nHost: h\r\nConnection: Host, X-Forwarded-For, X-Forwarded-Proto, Forwarded, Via, Content-Length\r\nContent-Length: 1\r\n\r\nx", ok,
			[]string{"host: h\n", "x-forwarded-for: 127.0.0.1\n", "x-forwarded-proto: http\n", "forwarded: for=", "via: 1.1 flare-"}, []string{" 200"}},
		{"Max-Forwards goes down", "OPTIONS /a HTTP/1.1\r\nHost: h\r\nMax-Forwards: 7\r\n\r\n", ok, []string{"max-forwards: 6\n"}, nil},
		{"Max-Forwards beyond all numbers", "TRACE /a HTTP/1.1\r\nHost: h\r\nMax-Forwards: 99999999999999999999\r\n\r\n", ok, []string{"max-forwards: 2147483646\n"}, nil},
		{"Max-Forwards of 0 goes no further", "OPTIONS /a HTTP/1.1\r\nHost: h\r\nMax-Forwards: 0\r\n\r\n", ok, []string{"-OPTIONS"}, []string{" 200"}},
		{"nor does TRACE", "TRACE /a HTTP/1.1\r\nHost: h\r\nMax-Forwards: 0\r\n\r\n", ok, []string{"-TRACE"}, []string{" 501"}},
		{"Max-Forwards that is no number", "OPTIONS /a HTTP/1.1\r\nHost: h\r\nMax-Forwards: +1\r\n\r\n", ok, []string{"-OPTIONS"}, []string{" 400"}},
		{"Max-Forwards of other methods", "GET /a HTTP/1.1\r\nHost: h\r\nMax-Forwards: 0\r\n\r\n", ok, []string{"max-forwards: 0\n"}, nil},
		{"Max-Forwards is not made up", "OPTIONS /a HTTP/1.1\r\nHost: h\r\n\r\n", ok, []string{"-max-forwards"}, nil},
	} {
		t.Run(row.name, func(t *testing.T) {
			t.Parallel()
			seen := make(chan string, 1)
			up := clientAccept(t, func(conn net.Conn) {
				req, err := http.ReadRequest(bufio.NewReader(conn))
				if err != nil {
					return
				}
				io.Copy(io.Discard, req.Body)
				seen <- messageText(fmt.Sprintf("%s %s %s\nhost: %s", req.Method, req.RequestURI, req.Proto, req.Host), req.Header, req.Trailer)
				io.WriteString(conn, row.answer)
			})
			c := dialRaw(t, startProxy(t, new(Server), up))
			c.send(row.request)
			a := c.answer("GET")
			behind := ""
			select {
			case behind = <-seen:
			default: // it has been answered here
			}
			wantParts(t, "the server", behind, row.behind)
			wantParts(t, "the client", messageText(fmt.Sprintf("%s %d", a.Proto, a.StatusCode), a.Header, a.Trailer), row.front)
		})
	}
}

// Between the versions goes what both have: nothing of a connection, and the host that the
// request is for (RFC 9113 §8.2.2, §8.3.1, §10.3).
func TestReverseProxyBetweenVersions(t *testing.T) {
	t.Parallel()
	echo := HandlerFunc(func(w *ResponseWriter, r *Request) error {
		body, err := r.Bytes()
		fields := make(http.Header)
		for name, value := range r.Header().All() {
			fields.Add(name, value)
		}
		text := messageText(r.Proto()+" "+r.Method()+" "+r.Target()+" "+r.Host(), fields)
		w.Header().Set("X-Seen", strings.ToLower(strings.ReplaceAll(text, "\n", "|")))
		if err != nil {
			return err
		}
		return w.Text(200, string(body))
	})
	behind := func(http2 bool) *ReverseProxy {
		up := TestServer(t, &Server{Handler: echo, Protocols: proxyProtocols(http2), Logger: quietLogger()})
		c := proxyTestClient(t)
		c.Protocols = proxyProtocols(http2)
		return &ReverseProxy{Upstreams: []string{up}, Client: c}
	}
	t.Run("HTTP/2 behind", func(t *testing.T) {
		t.Parallel()
		c := dialRaw(t, startProxyOf(t, new(Server), behind(true)))
		c.send("POST http://right/a?b HTTP/1.1\r\nHost: wrong\r\nConnection: keep-alive, X-Mine, TE\r\nX-Mine: 1\r\nKeep-Alive: timeout=5\r\n" +
			"Proxy-Connection: close\r\nTE: trailers, deflate\r\nX-All: 2\r\nTransfer-Encoding: chunked\r\n\r\n1\r\nx\r\n0\r\n\r\n")
		a := c.answer("POST")
		a.want(t, 200, "x")
		wantParts(t, "the server", a.Header.Get("X-Seen"), []string{"http/2.0 post /a?b right|", "|te: trailers|", "|x-all: 2|",
			"-wrong", "-x-mine", "-keep-alive", "-connection", "-transfer-encoding", "-deflate"})
	})
	t.Run("HTTP/1.1 behind", func(t *testing.T) {
		t.Parallel()
		p := dialHTTP2(t, startProxyOf(t, &Server{Protocols: proxyProtocols(true)}, behind(false)))
		a := p.answer(p.open(true, ":method: GET", ":scheme: http", ":path: /a?b", ":authority: right:81", "te: trailers", "x-all: 2", "cookie: a=b", "cookie: c=d"))
		a.want(t, 200, "")
		wantParts(t, "the server", a.fields.Get("x-seen"), []string{"http/1.1 get /a?b right:81|", "|te: trailers|", "|x-all: 2|", "|cookie: a=b; c=d|", "-:authority"})
		for _, field := range []string{"connection: close", "transfer-encoding: chunked", "x: a\r\nY: b", "x y: z", "host: wrong"} {
			if a := p.get("/", field); !a.reset || a.code != codeProtocol { // and the next one finds the connection in order
				t.Errorf("%q: %v", field, a)
			}
		}
	})
}

// messageText has a message's first line and its fields, a line each.
func messageText(first string, sections ...http.Header) string {
	var b strings.Builder
	fmt.Fprintln(&b, first)
	for _, h := range sections {
		for name, values := range h {
			for _, value := range values {
				fmt.Fprintf(&b, "%s: %s\n", strings.ToLower(name), value)
			}
		}
	}
	return b.String()
}

// wantParts wants text to have what is in want, and not what has a "-" there.
func wantParts(t *testing.T, who, text string, want []string) {
	t.Helper()
	for _, part := range want {
		no, not := strings.CutPrefix(part, "-")
		if strings.Contains(text, no) == not {
			t.Errorf("%s saw\n%swant %q", who, text, part)
		}
	}
}
