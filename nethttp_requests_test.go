package flare

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"mime/multipart"
	"net"
	"net/http"
	"net/url"
	"os"
	"sort"
	"strings"
	"time"
)

// This file is the part of the table of TestFromHTTP about requests.

// bridgeRequests: what a handler sees of a request.
func bridgeRequests() []bridgeCase {
	form := &bytes.Buffer{}
	mw := multipart.NewWriter(form)
	mw.SetBoundary("xyz")
	part, _ := mw.CreateFormFile("file", "a.txt")
	part.Write(bytes.Repeat([]byte("long "), 3000))
	mw.WriteField("name", "ada")
	mw.Close()
	expects := func(b *bridgeTalk) {
		b.send("POST / HTTP/1.1\r\nHost: h\r\nExpect: 100-continue\r\nContent-Length: 5\r\n\r\n")
		b.head("")
		b.send("hello")
		b.answer("POST")
		b.alive()
	}
	return []bridgeCase{
		{
			name: "everything of http.Request",
			handler: func(b *bridgeTalk) http.HandlerFunc {
				return func(w http.ResponseWriter, r *http.Request) { bridgeDump(b, r) }
			},
			client: func(b *bridgeTalk) {
				post := "Content-Type: application/x-www-form-urlencoded\r\nContent-Length: 11\r\n\r\na=1&b=2&a=3"
				for _, req := range []string{
					"GET / HTTP/1.1\r\nHost: h\r\n\r\n",
					"GET /a%2Fb/c%20d;x?q=1&q=2&e&%41=%42 HTTP/1.1\r\nHost: example.com:8080\r\n\r\n",
					"GET //two/slashes?? HTTP/1.1\r\nHost: h\r\n\r\n",
					"GET /? HTTP/1.1\r\nHost: h\r\n\r\n",
					"GET /a!$'()*+,;=:@-._~ HTTP/1.1\r\nHost: h\r\n\r\n",
					"GET http://other.example/abs?x=y HTTP/1.1\r\nHost: h\r\n\r\n",
					"GET http://other.example HTTP/1.1\r\nHost: h\r\n\r\n",
					"OPTIONS * HTTP/1.1\r\nHost: h\r\n\r\n",
					"OPTIONS /o HTTP/1.1\r\nHost: h\r\n\r\n",
					"DELETE /d HTTP/1.1\r\nHost: h\r\nConnection: keep-alive, x-hop\r\nX-Hop: 1\r\n\r\n",
					"POST /f?a=0 HTTP/1.1\r\nHost: h\r\n" + post,
					"PUT /f?a=0 HTTP/1.1\r\nHost: h\r\n" + post,
					"GET /h HTTP/1.1\r\nHost: h\r\nx-lower: 1\r\nX-LOWER: 2\r\nX-Lower:   3  \r\nX-Empty:\r\nAccept: a\r\nAccept: b\r\n" +
						"Cookie: a=b; c=d\r\nUser-Agent: test\r\nReferer: http://r/\r\nAuthorization: Basic YWRhOnBhc3M=\r\nPragma: no-cache\r\n\r\n",
					"POST /t HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked\r\nTrailer: X-Sum, X-Two\r\nTrailer: X-Three\r\n\r\n3\r\nabc\r\n0\r\nX-Sum: 3\r\nX-Two: 2\r\nx-two: 22\r\n\r\n",
					"POST /t HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked\r\nTrailer: X-Sum\r\n\r\n0\r\n\r\n",
					"POST /m HTTP/1.1\r\nHost: h\r\nContent-Type: multipart/form-data; boundary=xyz\r\nContent-Length: " + fmt.Sprint(form.Len()) + "\r\n\r\n" + form.String(),
					"POST /z HTTP/1.1\r\nHost: h\r\nContent-Length: 0\r\n\r\n",
					"GET /old HTTP/1.0\r\nConnection: keep-alive\r\n\r\n",
					"GET /last HTTP/1.1\r\nHost: h\r\nConnection: close\r\n\r\n",
				} {
					if b.both && !bridgeInBoth(req) {
						continue
					}
					b.dial()
					b.send(req)
					b.answer(req[:strings.IndexByte(req, ' ')])
				}
			},
		},
		{
			name: "context",
			handler: func(b *bridgeTalk) http.HandlerFunc {
				return func(w http.ResponseWriter, r *http.Request) {
					ctx := r.Context()
					srv, ok := ctx.Value(http.ServerContextKey).(*http.Server)
					b.say("server %v %v", ok, srv != nil)
					local, ok := ctx.Value(http.LocalAddrContextKey).(net.Addr)
					b.say("local %v %v", ok, local)
					host, _, err := net.SplitHostPort(r.RemoteAddr)
					b.say("remote %v %v", host, err)
					b.say("other %v", ctx.Value("other"))
					b.say("done: %v", ctx.Err())
					inner, cancel := context.WithTimeout(ctx, time.Minute)
					defer cancel()
					b.say("inner: %v", inner.Err())
					context.AfterFunc(inner, func() {})
				}
			},
			client: func(b *bridgeTalk) {
				b.get("/")
				b.alive()
			},
		},
		{
			name: "kept beyond the handler",
			handler: func(b *bridgeTalk) http.HandlerFunc {
				kept := make(chan *http.Request, 1)
				writer := make(chan http.ResponseWriter, 1)
				return func(w http.ResponseWriter, r *http.Request) {
					if r.URL.Path == "/keep" {
						kept <- r
						writer <- w
						io.WriteString(w, "kept")
						return
					}
					old := <-kept
					select {
					case <-old.Context().Done():
					case <-time.After(patience):
						b.t.Errorf("%s: the context goes on", b.name)
					}
					n, err := old.Body.Read(make([]byte, 1))
					b.say("%d, %v, %v", n, err, errors.Is(err, http.ErrBodyReadAfterClose))
					b.say("%s %s %q %v %v", old.Method, old.URL, old.Header.Get("X-Name"), old.Host, old.Context().Err())
					old.Body.Close()
					(<-writer).Header().Set("X-Late", "1")
				}
			},
			client: func(b *bridgeTalk) {
				b.request("POST", "/keep?a=b", "abc", "X-Name: value", "Content-Length: 3")
				b.get("/look", "X-Name: other")
				b.alive()
			},
		},
		{
			name: "Expect: 100-continue, read",
			handler: func(b *bridgeTalk) http.HandlerFunc {
				return func(w http.ResponseWriter, r *http.Request) {
					p, err := io.ReadAll(r.Body)
					b.say("%q, %v", p, err)
					w.Write(p)
				}
			},
			client: expects,
		},
		{
			name: "Expect: 100-continue, not read",
			handler: func(b *bridgeTalk) http.HandlerFunc {
				return func(w http.ResponseWriter, r *http.Request) { http.Error(w, "no", 403) }
			},
			client: func(b *bridgeTalk) {
				b.send("POST / HTTP/1.1\r\nHost: h\r\nExpect: 100-continue\r\nContent-Length: 5\r\n\r\n")
				b.answer("POST")
				b.send("hello")
				b.over()
			},
		},
		{
			name: "Expect: 100-continue, sent by hand",
			handler: func(b *bridgeTalk) http.HandlerFunc {
				return func(w http.ResponseWriter, r *http.Request) {
					w.WriteHeader(100)
					p, err := io.ReadAll(r.Body)
					b.say("%q, %v", p, err)
				}
			},
			client: expects,
		},
		{
			name: "body closed early",
			handler: func(b *bridgeTalk) http.HandlerFunc {
				return func(w http.ResponseWriter, r *http.Request) {
					err := r.Body.Close()
					b.say("%v", err == nil || err == io.EOF) // the latter of net/http of Go 1.27
					n, err := r.Body.Read(make([]byte, 1))
					b.say("%d, %v, %v", n, err, errors.Is(err, http.ErrBodyReadAfterClose))
				}
			},
			client: func(b *bridgeTalk) {
				b.request("POST", "/", "hello", "Content-Length: 5")
				b.alive()
			},
		},
		{
			name: "body not read",
			handler: func(b *bridgeTalk) http.HandlerFunc {
				return func(w http.ResponseWriter, r *http.Request) { io.WriteString(w, "no thanks") }
			},
			client: func(b *bridgeTalk) {
				b.request("POST", "/", strings.Repeat("x", 100_000), "Content-Length: 100000")
				b.alive()
				b.request("POST", "/", "5\r\nhello\r\n0\r\n\r\n", "Transfer-Encoding: chunked")
				b.alive()
			},
		},
		{
			name:  "body cut off",
			over2: bridgeOver2{none: "a stream that is reset has no answer"},
			handler: func(b *bridgeTalk) http.HandlerFunc {
				return func(w http.ResponseWriter, r *http.Request) {
					p, err := io.ReadAll(r.Body)
					b.say("%q, %v", p, err)
					http.Error(w, "cut", 400)
				}
			},
			client: func(b *bridgeTalk) {
				b.send("POST / HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n")
				b.closeWrite()
				b.answer("POST")
				b.over()
			},
		},
	}
}

// bridgeInBoth says whether both versions have such a request.
func bridgeInBoth(request string) bool {
	for _, text := range []string{" http://", "HTTP/1.0", "Connection: close"} {
		if strings.Contains(request, text) {
			return false
		}
	}
	return true
}

// bridgeDump says all of r.
func bridgeDump(b *bridgeTalk, r *http.Request) {
	proto, major, minor, coding := r.Proto, r.ProtoMajor, r.ProtoMinor, r.TransferEncoding
	if b.both {
		want := "HTTP/1.1 1.1"
		if b.two {
			want = "HTTP/2.0 2.0"
		}
		if got := fmt.Sprintf("%s %d.%d", proto, major, minor); got != want {
			b.t.Errorf("%s: %s", b.name, got)
		}
		proto, major, minor, coding = "", 0, 0, nil
		r.Header.Del("Connection")
	}
	b.say("> %s %s %s %d.%d", r.Method, r.RequestURI, proto, major, minor)
	b.say("> URL %#v String %s Host %q Length %d TE %v Close %v TLS %v Pattern %q", *r.URL, r.URL, r.Host, r.ContentLength, coding, r.Close, r.TLS != nil && !b.tls, r.Pattern)
	say := func(what string, values map[string][]string) {
		var names []string
		for name := range values {
			names = append(names, name)
		}
		sort.Strings(names)
		for _, name := range names {
			b.say(">   %s %s: %q", what, name, values[name])
		}
		if len(names) == 0 {
			b.say(">   %s nil %v", what, values == nil)
		}
	}
	say("header", r.Header)
	say("trailer", r.Trailer)
	b.say("> no body %v, cookies %v, agent %q, referer %q", r.Body == http.NoBody, r.Cookies(), r.UserAgent(), r.Referer())
	user, pass, ok := r.BasicAuth()
	b.say("> %q %q %v", user, pass, ok)
	if strings.HasPrefix(r.Header.Get("Content-Type"), "multipart/") {
		err := r.ParseMultipartForm(100)
		b.say("> %v", err)
		if f, head, err := r.FormFile("file"); err == nil {
			p, err := io.ReadAll(f)
			b.say("> file %s of %d: %d, %v", head.Filename, head.Size, len(p), err)
			if f, ok := f.(*os.File); ok {
				name := f.Name()
				b.t.Cleanup(func() {
					if _, err := os.Stat(name); !errors.Is(err, os.ErrNotExist) {
						b.t.Errorf("%s: the file of a form is left: %v", b.name, err)
					}
				})
			}
			f.Close()
		}
	}
	err := r.ParseForm()
	b.say("> form %v", err)
	say("form", url.Values(r.Form))
	say("post", url.Values(r.PostForm))
	p, err := io.ReadAll(r.Body)
	b.say("> body %q, %v", p, err)
	say("trailer", r.Trailer)
}
