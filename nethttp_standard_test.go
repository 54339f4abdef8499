package flare

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"log"
	"net/http"
	"net/http/httptest"

	"net/http/httputil"
	"net/url"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"testing"
	"time"
)

// This file has the rows of TestFromHTTP about connections and about what
// net/http brings along, and those on which flare differs.

// bridgeConnections: who ends them, and who takes them over.
func bridgeConnections() []bridgeCase {
	abort := func(name string, before func(w http.ResponseWriter)) bridgeCase {
		return bridgeCase{
			name: "http.ErrAbortHandler " + name,
			handler: func(b *bridgeTalk) http.HandlerFunc {
				return func(w http.ResponseWriter, r *http.Request) {
					before(w)
					panic(http.ErrAbortHandler)
				}
			},
			client: func(b *bridgeTalk) {
				b.get("/")
				b.over()
			},
		}
	}
	return []bridgeCase{
		abort("before anything", func(http.ResponseWriter) {}),
		abort("behind a short write", func(w http.ResponseWriter) { io.WriteString(w, "hello") }),
		abort("behind a flush", func(w http.ResponseWriter) {
			io.WriteString(w, "hello")
			w.(http.Flusher).Flush()
		}),
		abort("within a Content-Length", func(w http.ResponseWriter) {
			w.Header().Set("Content-Length", "10")
			io.WriteString(w, "hello")
			w.(http.Flusher).Flush()
		}),
		{
			name: "panic behind a flush",
			handler: func(b *bridgeTalk) http.HandlerFunc {
				return func(w http.ResponseWriter, r *http.Request) {
					io.WriteString(w, "hello")
					w.(http.Flusher).Flush()
					panic("on purpose")
				}
			},
			client: func(b *bridgeTalk) {
				b.get("/")
				b.over()
			},
		},
		{
			name: "runtime.Goexit",
			handler: func(b *bridgeTalk) http.HandlerFunc {
				return func(w http.ResponseWriter, r *http.Request) {
					io.WriteString(w, "hello")
					runtime.Goexit()
				}
			},
			client: func(b *bridgeTalk) {
				b.get("/")
				b.over()
			},
		},
		{
			name: "pipeline",
			handler: func(b *bridgeTalk) http.HandlerFunc {
				return func(w http.ResponseWriter, r *http.Request) {
					p, _ := io.ReadAll(r.Body)
					if r.URL.Path == "/2" {
						w.(http.Flusher).Flush()
					}
					fmt.Fprintf(w, "%s %s", r.URL.Path, p)
				}
			},
			client: func(b *bridgeTalk) {
				b.send("GET /1 HTTP/1.1\r\nHost: h\r\n\r\nPOST /2 HTTP/1.1\r\nHost: h\r\nContent-Length: 3\r\n\r\nabcHEAD /3 HTTP/1.1\r\nHost: h\r\n\r\nGET /4 HTTP/1.1\r\nHost: h\r\nConnection: close\r\n\r\n")
				for _, method := range []string{"GET", "POST", "HEAD", "GET"} {
					b.answer(method)
				}
				b.over()
			},
		},
		{
			name:  "hijack",
			over2: bridgeOver2{none: "nothing of a stream can be taken over"},
			handler: func(b *bridgeTalk) http.HandlerFunc {
				return func(w http.ResponseWriter, r *http.Request) {
					conn, rw, err := http.NewResponseController(w).Hijack()
					if err != nil {
						b.say("%v", err)
						return
					}
					defer conn.Close()
					b.say("%v, buffered %d", conn.RemoteAddr().String() == r.RemoteAddr, rw.Reader.Buffered())
					_, _, err = w.(http.Hijacker).Hijack()
					b.say("again: %v", err)
					n, err := w.Write([]byte("x"))
					b.say("write: %d, %v", n, err)
					rw.WriteString("HTTP/1.1 101 Switching Protocols\r\nUpgrade: upper\r\nConnection: Upgrade\r\n\r\n")
					rw.Flush()
					for {
						line, err := rw.ReadString('\n')
						if err != nil {
							b.say("%q, %v", line, err)
							return
						}
						rw.WriteString(strings.ToUpper(line))
						rw.Flush()
					}
				}
			},
			client: func(b *bridgeTalk) {
				b.send("GET / HTTP/1.1\r\nHost: h\r\nConnection: Upgrade\r\nUpgrade: upper\r\n\r\nearly\n")
				b.head("GET")
				for _, line := range []string{"", "second\n", "third\n"} {
					b.send(line)
					got, _ := b.line()
					b.took("%s", got)
				}
				b.closeWrite()
				b.over()
			},
		},
		{
			name:  "hijack behind WriteHeader(101)",
			over2: bridgeOver2{none: "there is no 101"},
			handler: func(b *bridgeTalk) http.HandlerFunc {
				return func(w http.ResponseWriter, r *http.Request) {
					w.Header().Set("Connection", "Upgrade")
					w.Header().Set("Upgrade", "other")
					w.WriteHeader(http.StatusSwitchingProtocols)
					conn, rw, err := w.(http.Hijacker).Hijack()
					if err != nil {
						b.say("%v", err)
						return
					}
					defer conn.Close()
					line, err := rw.ReadString('\n')
					b.say("%q, %v", line, err)
					io.WriteString(conn, "fine\n")
				}
			},
			client: func(b *bridgeTalk) {
				b.send("GET / HTTP/1.1\r\nHost: h\r\nConnection: Upgrade\r\nUpgrade: other\r\n\r\n")
				b.head("GET")
				b.send("hello\n")
				b.over()
			},
		},
		{
			name: "CloseNotify",
			handler: func(b *bridgeTalk) http.HandlerFunc {
				return func(w http.ResponseWriter, r *http.Request) {
					gone := w.(http.CloseNotifier).CloseNotify() //lint:ignore SA1019 older handlers call it
					w.(http.Flusher).Flush()
					select {
					case v := <-gone:
						b.say("gone %v", v)
					case <-time.After(patience):
						b.t.Errorf("%s: the client is gone and nobody says so", b.name)
					}
				}
			},
			client: func(b *bridgeTalk) {
				b.send("GET / HTTP/1.1\r\nHost: h\r\n\r\n")
				b.head("GET")
				b.conn.Close()
			},
		},
		{
			name:  "HTTP/1.0",
			over2: bridgeOver2{none: "there is no 1.0 of it"},
			handler: func(b *bridgeTalk) http.HandlerFunc {
				return func(w http.ResponseWriter, r *http.Request) {
					io.WriteString(w, "hello")
				}
			},
			client: func(b *bridgeTalk) {
				b.send("GET / HTTP/1.0\r\nConnection: keep-alive\r\n\r\n")
				b.answer("GET")
				b.send("HEAD / HTTP/1.0\r\nConnection: keep-alive\r\n\r\n")
				b.answer("HEAD")
				b.alive()
			},
		},
	}
}

// bridgeModified is the time of the files that are served.
var bridgeModified = time.Date(2024, 5, 6, 7, 8, 9, 0, time.UTC)

// bridgeFiles makes a folder to serve.
func bridgeFiles(t *testing.T) string {
	dir := t.TempDir()
	for name, text := range map[string]string{
		"a.txt": "hello, files", "b.bin": strings.Repeat("\x00\x01", 3000), "sub/index.html": "<p>index</p>", "<odd>.html": "<p>odd</p>",
	} {
		name = filepath.Join(dir, name)
		os.MkdirAll(filepath.Dir(name), 0o700)
		if err := os.WriteFile(name, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		os.Chtimes(name, bridgeModified, bridgeModified)
	}
	os.Chtimes(filepath.Join(dir, "sub"), bridgeModified, bridgeModified)
	os.Chtimes(dir, bridgeModified, bridgeModified)
	return dir
}

// bridgeStandard: the handlers that net/http brings along.
func bridgeStandard() []bridgeCase {
	return []bridgeCase{
		{
			name: "http.ServeContent",
			handler: func(b *bridgeTalk) http.HandlerFunc {
				return func(w http.ResponseWriter, r *http.Request) {
					w.Header().Set("ETag", `"v1"`)
					http.ServeContent(w, r, "a.txt", bridgeModified, strings.NewReader("0123456789abcdefghij"))
				}
			},
			client: func(b *bridgeTalk) {
				for _, fields := range [][]string{
					nil, {"Range: bytes=0-4"}, {"Range: bytes=-5"}, {"Range: bytes=18-"}, {"Range: bytes=2-3,8-9"}, {"Range: bytes=30-"}, {"Range: lines=1"},
					{"Range: bytes=0-0", `If-Range: "v1"`}, {"Range: bytes=0-0", `If-Range: "v0"`},
					{`If-None-Match: "v1"`}, {`If-None-Match: "v0"`}, {`If-Match: "v0"`},
					{"If-Modified-Since: Mon, 06 May 2024 07:08:09 GMT"}, {"If-Unmodified-Since: Mon, 06 May 2024 07:08:08 GMT"},
				} {
					b.get("/", fields...)
					b.request("HEAD", "/", "", fields...)
				}
				b.alive()
			},
		},
		{
			name: "http.FileServer",
			handler: func(b *bridgeTalk) http.HandlerFunc {
				h := http.FileServer(http.Dir(bridgeFiles(b.t)))
				return h.ServeHTTP
			},
			client: func(b *bridgeTalk) {
				for _, path := range []string{"/", "/a.txt", "/b.bin", "/none", "/sub", "/sub/", "/sub/index.html", "/%3Codd%3E.html", "/../a.txt"} {
					b.get(path)
					b.request("HEAD", path, "")
				}
				b.get("/b.bin", "Range: bytes=10-20")
				b.get("/a.txt", "If-Modified-Since: Mon, 06 May 2024 07:08:09 GMT")
				b.alive()
			},
		},
		{
			name: "http.StripPrefix and http.ServeMux",
			handler: func(b *bridgeTalk) http.HandlerFunc {
				mux := http.NewServeMux()
				say := func(w http.ResponseWriter, r *http.Request) {
					fmt.Fprintf(w, "%s: path %q id %q rest %q", r.Pattern, r.URL.Path, r.PathValue("id"), r.PathValue("rest"))
				}
				mux.HandleFunc("GET /items/{id}", say)
				mux.HandleFunc("POST /items/{id}/{rest...}", say)
				mux.HandleFunc("/tree/", say)
				mux.HandleFunc("other.example/", say)
				mux.HandleFunc("/{$}", say)
				mux.Handle("/strip/", http.StripPrefix("/strip", http.HandlerFunc(say)))
				return mux.ServeHTTP
			},
			client: func(b *bridgeTalk) {
				for _, path := range []string{"/", "/items/7", "/items/a%2Fb", "/items/7/x", "/tree", "/tree/x", "/tree/../items/7", "//items/7", "/none", "/strip/x/y", "/strip/%2F"} {
					b.get(path)
					b.request("HEAD", path, "")
					b.request("POST", path, "")
				}
				b.send("GET /none HTTP/1.1\r\nHost: other.example\r\n\r\n")
				b.answer("GET")
				b.alive()
			},
		},
		{
			name: "http.TimeoutHandler",
			handler: func(b *bridgeTalk) http.HandlerFunc {
				inner := http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
					w.Header().Set("X-Inner", "1")
					if r.URL.Path == "/slow" {
						<-r.Context().Done()
						n, err := io.WriteString(w, "too late")
						_ = n // either the timeout has taken the writer, or it comes next
						_ = err
						return
					}
					p, _ := io.ReadAll(r.Body)
					w.WriteHeader(201)
					w.Write(p)
				})
				quick := http.TimeoutHandler(inner, patience, "")
				slow := http.TimeoutHandler(inner, 20*time.Millisecond, "took too long")
				return func(w http.ResponseWriter, r *http.Request) {
					if r.URL.Path == "/slow" {
						slow.ServeHTTP(w, r)
						return
					}
					quick.ServeHTTP(w, r)
				}
			},
			client: func(b *bridgeTalk) {
				b.request("POST", "/quick", "hello", "Content-Length: 5")
				b.get("/slow")
				b.alive()
			},
		},
		{
			name: "http.MaxBytesReader",
			handler: func(b *bridgeTalk) http.HandlerFunc {
				return func(w http.ResponseWriter, r *http.Request) {
					r.Body = http.MaxBytesReader(w, r.Body, 10)
					p, err := io.ReadAll(r.Body)
					b.say("%q, %v", p, err)
					if err != nil {
						http.Error(w, err.Error(), http.StatusRequestEntityTooLarge)
						return
					}
					w.Write(p)
				}
			},
			client: func(b *bridgeTalk) {
				b.request("POST", "/", "0123456789", "Content-Length: 10")
				b.request("POST", "/", "0123456789a", "Content-Length: 11")
				b.over()
				b.dial()
				b.request("POST", "/", "b\r\n0123456789a\r\n0\r\n\r\n", "Transfer-Encoding: chunked")
				b.over()
			},
		},
		bridgeProxy("httputil.ReverseProxy", func(b *bridgeTalk, upstream *url.URL) http.Handler {
			return &httputil.ReverseProxy{
				Rewrite: func(r *httputil.ProxyRequest) {
					r.SetURL(upstream)
					r.Out.Host = "upstream"
				},
				ErrorLog: log.New(io.Discard, "", 0),
			}
		}),
	}
}

// bridgeUpstream is what is behind a proxy.
func bridgeUpstream(b *bridgeTalk, next bridgeGate) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		switch r.URL.Path {
		case "/early":
			w.Header().Set("Link", "</a.css>")
			w.WriteHeader(103)
			w.Header().Del("Link")
			io.WriteString(w, "hinted")
		case "/trailer":
			w.Header().Set("Trailer", "X-Sum")
			io.WriteString(w, "summed")
			w.Header().Set("X-Sum", "6")
			w.Header().Set(http.TrailerPrefix+"X-More", "7")
		case "/events":
			w.Header().Set("Content-Type", "text/event-stream")
			io.WriteString(w, "data: 1\n\n")
			w.(http.Flusher).Flush()
			next.wait(b)
			io.WriteString(w, "data: 2\n\n")
		case "/abort":
			io.WriteString(w, "half of")
			w.(http.Flusher).Flush()
			panic(http.ErrAbortHandler)
		case "/upgrade":
			conn, rw, err := w.(http.Hijacker).Hijack()
			if err != nil {
				b.say("%v", err)
				return
			}
			defer conn.Close()
			rw.WriteString("HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: echo\r\n\r\n")
			rw.Flush()
			if line, err := rw.ReadString('\n'); err == nil {
				rw.WriteString(line)
				rw.Flush()
			}
		default:
			p, err := io.ReadAll(r.Body)
			fmt.Fprintf(w, "%s %s %s: %d bytes, %v, trailer %v", r.Method, r.URL, r.Host, len(p), err, r.Trailer)
		}
	}
}

// bridgeProxy is a row of a proxy in front of an upstream on net/http's server.
func bridgeProxy(name string, proxy func(*bridgeTalk, *url.URL) http.Handler) bridgeCase {
	gates := map[*bridgeTalk]bridgeGate{}
	return bridgeCase{
		name: name,
		handler: func(b *bridgeTalk) http.HandlerFunc {
			gates[b] = make(bridgeGate)
			addr := bridgeNetHTTP(b.t, bridgeUpstream(b, gates[b]))
			return proxy(b, &url.URL{Scheme: "http", Host: addr}).ServeHTTP
		},
		client: func(b *bridgeTalk) { bridgeProxyClient(b, gates[b]) },
	}
}

func bridgeProxyClient(b *bridgeTalk, next bridgeGate) {
	b.get("/plain?a=b")
	b.request("HEAD", "/plain", "")
	b.request("POST", "/plain", "hello", "Content-Length: 5")
	b.request("POST", "/plain", "5\r\nhello\r\n0\r\nX-Sum: 1\r\n\r\n", "Transfer-Encoding: chunked", "Trailer: X-Sum")
	b.request("POST", "/plain", strings.Repeat("x", 1<<20), "Content-Length: 1048576")
	b.get("/early")
	b.get("/trailer")
	b.send("GET /events HTTP/1.1\r\nHost: h\r\n\r\n")
	b.head("GET")
	b.some(len("data: 1\n\n"))
	next.open()
	b.rest()
	b.alive()
	b.get("/abort")
	b.over()
	if b.both {
		return
	}
	b.dial()
	b.send("GET /upgrade HTTP/1.1\r\nHost: h\r\nConnection: Upgrade\r\nUpgrade: echo\r\n\r\n")
	b.head("GET")
	b.send("through\n")
	line, _ := b.line()
	b.took("%s", line)
	b.closeWrite()
	b.over()
}

// TestFromHTTPBehindProxy has httputil.ReverseProxy on net/http's server in
// front of both.
func TestFromHTTPBehindProxy(t *testing.T) {
	run := func(name string, serve func(*testing.T, http.Handler) string) string {
		b, next := &bridgeTalk{t: t, name: name}, make(bridgeGate)
		upstream := serve(t, bridgeUpstream(b, next))
		proxy := httputil.NewSingleHostReverseProxy(&url.URL{Scheme: "http", Host: upstream})
		proxy.ErrorLog = log.New(io.Discard, "", 0)
		b.addr = bridgeNetHTTP(t, b.watched(proxy))
		b.dial()
		defer func() { b.conn.Close() }()
		bridgeProxyClient(b, next)
		return b.transcript()
	}
	want := run("net/http", bridgeNetHTTP)
	sameLines(t, run("flare", func(t *testing.T, h http.Handler) string { return bridgeFlare(t, FromHTTP(h)) }), want)
}

// bridgeDifferences: where flare's server is not net/http's, and why.
func bridgeDifferences() []bridgeCase {
	raw := func(name, why, request string, h http.HandlerFunc) bridgeCase {
		return bridgeCase{
			name: name, differs: why,
			handler: func(b *bridgeTalk) http.HandlerFunc { return h },
			client: func(b *bridgeTalk) {
				b.send(request)
				b.answer(request[:strings.IndexByte(request, ' ')])
				b.alive()
			},
		}
	}
	nothing := func(http.ResponseWriter, *http.Request) {}
	const get = "GET / HTTP/1.1\r\nHost: h\r\n"
	cases := []bridgeCase{
		raw("panic", "nothing was sent, so the client is told with a 500 instead of a closed connection", get+"\r\n",
			func(http.ResponseWriter, *http.Request) { panic("on purpose") }),
		raw("line break in a field", "a value that would split the response is refused, not mended", get+"\r\n",
			func(w http.ResponseWriter, r *http.Request) { w.Header().Set("X-Evil", "a\r\nSet-Cookie: b=c") }),
		raw("field name that is no token", "refused, not left out", get+"\r\n",
			func(w http.ResponseWriter, r *http.Request) { w.Header()["X Evil"] = []string{"1"} }),
		raw("status without a name", "the reason is left empty (RFC 9112 §4)", get+"\r\n",
			func(w http.ResponseWriter, r *http.Request) { w.WriteHeader(599) }),
		raw("Date taken away", "every response has one (RFC 9110 §6.6.1)", get+"\r\n",
			func(w http.ResponseWriter, r *http.Request) { w.Header()["Date"] = nil }),
		raw("Transfer-Encoding: identity", "framing is flare's: in chunks, so that the end can be told from a cut", get+"\r\n",
			func(w http.ResponseWriter, r *http.Request) {
				w.Header().Set("Transfer-Encoding", "identity")
				io.WriteString(w, "hello")
				w.(http.Flusher).Flush()
			}),
		raw("1xx to HTTP/1.0", "such a client does not know them (RFC 9110 §15.2)", "GET / HTTP/1.0\r\nHost: h\r\n\r\n",
			func(w http.ResponseWriter, r *http.Request) { w.WriteHeader(103) }),
		raw("read behind a write", "bodies are not taken off the wire to make room for the response",
			"POST / HTTP/1.1\r\nHost: h\r\nContent-Length: 5\r\n\r\nhello",
			func(w http.ResponseWriter, r *http.Request) {
				w.(http.Flusher).Flush()
				io.Copy(w, r.Body)
			}),
		raw("body over MaxBodyBytes", "flare has a bound", "POST / HTTP/1.1\r\nHost: h\r\nContent-Length: 99999999\r\n\r\n", nothing),
		raw("lines that end in LF", "RFC 9112 §2.2 only lets them pass", "GET / HTTP/1.1\nHost: h\n\n", nothing),
		raw("folded field", "RFC 9112 §5.2", get+"X-Folded: a\r\n b\r\n\r\n", nothing),
		raw("two equal lengths", "RFC 9112 §6.3 only lets them pass", "POST / HTTP/1.1\r\nHost: h\r\nContent-Length: 0\r\nContent-Length: 0\r\n\r\n", nothing),
		raw("unknown expectation", "answered 417 with the connection closed, before any handler", get+"Expect: tea\r\n\r\n", nothing),
		raw("octets in the target", "a backslash and a # have no place there (RFC 3986 §3.3)", "GET /a\\b#c HTTP/1.1\r\nHost: h\r\n\r\n", nothing),
		raw("invalid Content-Length", "left out as in net/http; the length that is known then takes its place", get+"\r\n",
			func(w http.ResponseWriter, r *http.Request) {
				w.Header().Set("Content-Length", "five")
				io.WriteString(w, "hello")
			}),
		raw("type of a 304", "it has the fields that a 200 would have (RFC 9110 §15.4.5)", get+"\r\n",
			func(w http.ResponseWriter, r *http.Request) {
				w.Header().Set("Content-Type", "text/plain")
				w.WriteHeader(304)
			}),
		raw("HTTP/1.0 without keep-alive", "Connection: close is sent to such a client too", "GET / HTTP/1.0\r\n\r\n", nothing),
		raw("stream to HTTP/1.0", "Connection: close says what will happen, and an end that is no end is a reset", "GET / HTTP/1.0\r\n\r\n",
			func(w http.ResponseWriter, r *http.Request) {
				w.(http.Flusher).Flush()
				io.WriteString(w, "hello")
			}),
		{
			name:    "short body that does not come",
			differs: "up to 64 KiB are awaited before the handler is called, so that it need not wait",
			handler: func(b *bridgeTalk) http.HandlerFunc {
				return func(w http.ResponseWriter, r *http.Request) { io.WriteString(w, "answered all the same") }
			},
			client: func(b *bridgeTalk) {
				b.send("POST / HTTP/1.1\r\nHost: h\r\nContent-Length: 5\r\n\r\nhe")
				b.closeWrite()
				b.answer("POST")
			},
		},
	}
	for i := range cases {
		switch cases[i].name {
		case "lines that end in LF", "folded field", "1xx to HTTP/1.0", "HTTP/1.0 without keep-alive", "stream to HTTP/1.0", "short body that does not come":
			cases[i].over2.none = "that is HTTP/1's"
		case "status without a name", "Transfer-Encoding: identity":
			cases[i].over2.same = true
		}
	}
	return cases
}

// A body without a length that grows over MaxBodyBytes is the error that
// handlers of net/http know.
func TestFromHTTPMaxBodyBytes(t *testing.T) {
	failed := make(chan error, 1)
	h := FromHTTP(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		_, err := io.ReadAll(r.Body)
		failed <- err
		http.Error(w, "too large", http.StatusRequestEntityTooLarge)
	}))
	url := TestServer(t, &Server{Handler: h, MaxBodyBytes: 1000, Logger: quietLogger()})
	resp, err := http.Post(url, "text/plain", bufio.NewReader(strings.NewReader(strings.Repeat("x", 100_000))))
	if err != nil {
		t.Fatal(err)
	}
	resp.Body.Close()
	if resp.StatusCode != 413 {
		t.Errorf("status %d, want 413", resp.StatusCode)
	}
	var tooLarge *http.MaxBytesError
	if err := <-failed; !errors.As(err, &tooLarge) || tooLarge.Limit != 1000 || !errors.Is(err, ErrTooLarge) {
		t.Errorf("error %v, want an *http.MaxBytesError of 1000 that is ErrTooLarge", err)
	}
}

// TestFromHTTPHijackerWhereOneCanHijack holds that the ResponseWriter is an
// http.Hijacker only where there is a connection to take, and has its other
// methods everywhere, as net/http's has.
func TestFromHTTPHijackerWhereOneCanHijack(t *testing.T) {
	standard := http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		_, hijacker := w.(http.Hijacker)
		_, flusher := w.(http.Flusher)
		_, readerFrom := w.(io.ReaderFrom)
		text := fmt.Sprint(r.ProtoMajor, hijacker, flusher, readerFrom)
		if !hijacker {
			_, _, err := http.NewResponseController(w).Hijack()
			text = fmt.Sprint(text, " ", errors.Is(err, http.ErrNotSupported))
		}
		fmt.Fprint(w, text)
	})
	h := FromHTTP(standard)
	secured := httptest.NewUnstartedServer(ToHTTP(h))
	secured.EnableHTTP2 = true
	secured.StartTLS()
	defer secured.Close()
	plain := httptest.NewServer(ToHTTP(h))
	defer plain.Close()
	timeout := httptest.NewServer(http.TimeoutHandler(ToHTTP(h), time.Minute, ""))
	defer timeout.Close()
	for _, test := range []struct {
		name   string
		client *http.Client
		url    string
		want   string
	}{
		{"flare's server", http.DefaultClient, TestServer(t, &Server{Handler: h}), "1 true true true"},
		{"in memory", TestClient(t, &Server{Handler: h}), "http://h", "1 true true true"},
		{"net/http's server", plain.Client(), plain.URL, "1 true true true"},
		{"HTTP/2", secured.Client(), secured.URL, "2 false true true true"},
		{"behind a writer that is none", timeout.Client(), timeout.URL, "1 false true true true"},
	} {
		resp, err := test.client.Get(test.url)
		if err != nil {
			t.Fatal(err)
		}
		if text, err := io.ReadAll(resp.Body); string(text) != test.want || err != nil {
			t.Errorf("%s: %q, %v; want %q", test.name, text, err, test.want)
		}
		resp.Body.Close()
		test.client.CloseIdleConnections()
	}
}
