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
	"testing"
	"time"
)

// A bridgeCase is a handler of net/http's and what a client does to it. It is
// run against net/http's server and flare's, which have to say the same.
type bridgeCase struct {
	name    string
	handler func(b *bridgeTalk) http.HandlerFunc // made anew for each server
	client  func(b *bridgeTalk)

	// differs says why flare's server is different, if it is: then it has to be.
	differs string
}

func (c *bridgeCase) run(t *testing.T, name string, serve func(*testing.T, http.Handler) string) string {
	b := &bridgeTalk{t: t, name: name, tls: strings.HasSuffix(name, "TLS")}
	b.addr = serve(t, b.watched(c.handler(b)))
	b.dial()
	defer func() { b.conn.Close() }()
	c.client(b)
	return b.transcript()
}

// TestFromHTTP is the table of what net/http's handlers see and cause on both
// servers, and on flare's over TLS. Rows that differ say why.
func TestFromHTTP(t *testing.T) {
	var cases []bridgeCase
	for _, table := range [][]bridgeCase{
		bridgeBodies(), bridgeHeads(), bridgeStreams(), bridgeRequests(), bridgeConnections(), bridgeStandard(), bridgeDifferences(),
	} {
		cases = append(cases, table...)
	}
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			want := c.run(t, "net/http", bridgeNetHTTP)
			got := c.run(t, "flare", func(t *testing.T, h http.Handler) string { return bridgeFlare(t, FromHTTP(h)) })
			overTLS := c.run(t, "flare over TLS", func(t *testing.T, h http.Handler) string {
				return startTLSServer(t, &Server{Handler: FromHTTP(h), Loops: 1})
			})
			if c.differs == "" {
				sameLines(t, got, want)
				sameLines(t, overTLS, want)
			} else if got == want || overTLS == want {
				t.Errorf("%s\nis no difference any more: both say\n%s", c.differs, got)
			}
			if testing.Verbose() {
				t.Log(got)
			}
		})
	}
}

// bridgeWrites is a row whose handler writes one body.
func bridgeWrites(name string, write func(w http.ResponseWriter, r *http.Request, b *bridgeTalk), methods ...string) bridgeCase {
	if len(methods) == 0 {
		methods = []string{"GET"}
	}
	return bridgeCase{
		name: name,
		handler: func(b *bridgeTalk) http.HandlerFunc {
			return func(w http.ResponseWriter, r *http.Request) { write(w, r, b) }
		},
		client: func(b *bridgeTalk) {
			for _, method := range methods {
				b.request(method, "/"+method, "")
			}
			b.alive()
		},
	}
}

// bridgeBodies: how long a body is, and of what type.
func bridgeBodies() []bridgeCase {
	both := []string{"GET", "HEAD"}
	text := func(s string) func(http.ResponseWriter, *http.Request, *bridgeTalk) {
		return func(w http.ResponseWriter, r *http.Request, b *bridgeTalk) { io.WriteString(w, s) }
	}
	cases := []bridgeCase{
		bridgeWrites("nothing written", func(http.ResponseWriter, *http.Request, *bridgeTalk) {}, both...),
		bridgeWrites("text", text("hello"), both...),
		bridgeWrites("html", text("<html><body>hello</body></html>"), both...),
		bridgeWrites("bytes", text("\x00\x01\x02\xff"), both...),
		bridgeWrites("2048 bytes", text(strings.Repeat("x", 2048)), both...),
		bridgeWrites("2049 bytes", text(strings.Repeat("x", 2049)), both...),
		bridgeWrites("many small writes", func(w http.ResponseWriter, r *http.Request, b *bridgeTalk) {
			for range 1000 {
				n, err := io.WriteString(w, "<p>line</p>\n")
				if n != 12 || err != nil {
					b.say("write: %d, %v", n, err)
				}
			}
		}, both...),
		bridgeWrites("Content-Length set", func(w http.ResponseWriter, r *http.Request, b *bridgeTalk) {
			w.Header().Set("Content-Length", "5")
			io.WriteString(w, "hello")
		}, both...),
		bridgeWrites("Content-Length too short", func(w http.ResponseWriter, r *http.Request, b *bridgeTalk) {
			w.Header().Set("Content-Length", "5")
			n, err := io.WriteString(w, "hel")
			b.say("%d, %v", n, err)
			n, err = io.WriteString(w, "lo, world")
			b.say("%d, %v, %v", n, err, errors.Is(err, http.ErrContentLength))
		}),
		bridgeWrites("Content-Length too long", func(w http.ResponseWriter, r *http.Request, b *bridgeTalk) {
			w.Header().Set("Content-Length", "10")
			io.WriteString(w, "hello")
		}),
		bridgeWrites("type set", func(w http.ResponseWriter, r *http.Request, b *bridgeTalk) {
			w.Header().Set("Content-Type", "text/x-mine")
			io.WriteString(w, "<html>")
		}, both...),
		bridgeWrites("type refused", func(w http.ResponseWriter, r *http.Request, b *bridgeTalk) {
			w.Header()["Content-Type"] = nil
			io.WriteString(w, "<html>")
		}, both...),
		bridgeWrites("coded content has no type found", func(w http.ResponseWriter, r *http.Request, b *bridgeTalk) {
			w.Header().Set("Content-Encoding", "gzip")
			io.WriteString(w, "<html>")
		}),
		bridgeWrites("type found behind a flush", func(w http.ResponseWriter, r *http.Request, b *bridgeTalk) {
			w.(http.Flusher).Flush()
			io.WriteString(w, "<html>")
		}),
		bridgeWrites("chunked set by hand", func(w http.ResponseWriter, r *http.Request, b *bridgeTalk) {
			w.Header().Set("Transfer-Encoding", "chunked")
			w.Write([]byte("hello"))
		}),
		bridgeWrites("empty writes", func(w http.ResponseWriter, r *http.Request, b *bridgeTalk) {
			n, err := w.Write(nil)
			b.say("%d, %v", n, err)
			w.Header().Set("X-Late", "1")
		}),
		bridgeWrites("4 MiB", func(w http.ResponseWriter, r *http.Request, b *bridgeTalk) {
			for range 64 {
				w.Write(bytes.Repeat([]byte("0123456789abcdef"), 4096))
			}
		}),
		bridgeWrites("from a reader", func(w http.ResponseWriter, r *http.Request, b *bridgeTalk) {
			n, err := w.(io.ReaderFrom).ReadFrom(strings.NewReader(strings.Repeat("<b>", 5000)))
			b.say("%d, %v", n, err)
		}, both...),
		bridgeWrites("from a file", func(w http.ResponseWriter, r *http.Request, b *bridgeTalk) {
			f, err := os.Open("LICENSE")
			if err != nil {
				b.t.Error(err)
				return
			}
			defer f.Close()
			info, _ := f.Stat()
			w.Header().Set("Content-Length", fmt.Sprint(info.Size()))
			n, err := io.Copy(w, f)
			b.say("%d of %d, %v", n, info.Size(), err)
		}),
		bridgeWrites("from a file without a length", func(w http.ResponseWriter, r *http.Request, b *bridgeTalk) {
			f, err := os.Open("README.md")
			if err != nil {
				b.t.Error(err)
				return
			}
			defer f.Close()
			n, err := io.Copy(w, f)
			b.say("%t, %v", n > 2048, err)
		}),
	}
	for _, code := range []int{204, 304} {
		cases = append(cases, bridgeWrites(fmt.Sprint(code), func(w http.ResponseWriter, r *http.Request, b *bridgeTalk) {
			w.Header().Set("ETag", `"x"`)
			w.WriteHeader(code)
			n, err := io.WriteString(w, "hello")
			b.say("%d, %v, %v", n, err, errors.Is(err, http.ErrBodyNotAllowed))
		}, both...))
	}
	return cases
}

// bridgeHeads: when a head is final, and what is in it.
func bridgeHeads() []bridgeCase {
	return []bridgeCase{
		bridgeWrites("status", func(w http.ResponseWriter, r *http.Request, b *bridgeTalk) {
			w.WriteHeader(http.StatusTeapot)
			io.WriteString(w, "short and stout")
		}),
		bridgeWrites("fields", func(w http.ResponseWriter, r *http.Request, b *bridgeTalk) {
			h := w.Header()
			h.Add("X-One", "1")
			h.Add("X-Two", "a")
			h.Add("X-Two", "b")
			h["x-as-is"] = []string{"kept"}
			h.Set("Date", "Thu, 01 Jan 1970 00:00:00 GMT")
			http.SetCookie(w, &http.Cookie{Name: "a", Value: "b"})
			io.WriteString(w, "x")
			h.Set("X-Late", "not yet sent, and final all the same")
		}),
		bridgeWrites("fields behind WriteHeader", func(w http.ResponseWriter, r *http.Request, b *bridgeTalk) {
			w.WriteHeader(200)
			w.Header().Set("X-Late", "1")
		}),
		bridgeWrites("second WriteHeader", func(w http.ResponseWriter, r *http.Request, b *bridgeTalk) {
			w.WriteHeader(201)
			w.WriteHeader(500)
			io.WriteString(w, "created")
			w.WriteHeader(404)
		}),
		bridgeWrites("invalid status", func(w http.ResponseWriter, r *http.Request, b *bridgeTalk) {
			for _, code := range []int{0, 99, 1000} {
				func() {
					defer func() { b.say("%v", recover()) }()
					w.WriteHeader(code)
				}()
			}
		}),
		bridgeWrites("Connection: close", func(w http.ResponseWriter, r *http.Request, b *bridgeTalk) {
			w.Header().Set("Connection", "close")
			io.WriteString(w, "bye")
		}),
		bridgeWrites("http.Error", func(w http.ResponseWriter, r *http.Request, b *bridgeTalk) {
			http.Error(w, "no such thing", 404)
		}, "GET", "HEAD"),
		bridgeWrites("http.Redirect", func(w http.ResponseWriter, r *http.Request, b *bridgeTalk) {
			http.Redirect(w, r, "/there?a=b", http.StatusFound)
		}, "GET", "HEAD", "POST"),
		bridgeWrites("1xx", func(w http.ResponseWriter, r *http.Request, b *bridgeTalk) {
			w.Header().Set("Link", "</a.css>; rel=preload")
			w.WriteHeader(103)
			w.Header().Add("Link", "</b.css>; rel=preload")
			w.Header().Set("Content-Length", "4")
			w.WriteHeader(103)
			w.WriteHeader(102)
			w.WriteHeader(100)
			w.WriteHeader(200)
			io.WriteString(w, "done")
		}),
		bridgeWrites("trailer announced", func(w http.ResponseWriter, r *http.Request, b *bridgeTalk) {
			w.Header().Set("Trailer", "X-Sum, X-Other")
			w.Header().Add("Trailer", "X-Unused")
			io.WriteString(w, "hello")
			w.Header().Set("X-Sum", "5")
			w.Header().Set("X-Other", "a")
			w.Header().Add("X-Other", "b")
			w.Header().Set("X-Not-Announced", "1")
		}, "GET", "HEAD"),
		bridgeWrites("trailer with prefix", func(w http.ResponseWriter, r *http.Request, b *bridgeTalk) {
			io.WriteString(w, "hello")
			w.(http.Flusher).Flush()
			w.Header().Set(http.TrailerPrefix+"X-Sum", "5")
		}, "GET", "HEAD"),
		bridgeWrites("trailer and Content-Length", func(w http.ResponseWriter, r *http.Request, b *bridgeTalk) {
			w.Header().Set("Trailer", "X-Sum")
			w.Header().Set("Content-Length", "5")
			io.WriteString(w, "hello")
			w.Header().Set("X-Sum", "5")
		}),
		bridgeWrites("forbidden trailer", func(w http.ResponseWriter, r *http.Request, b *bridgeTalk) {
			w.Header().Set("Trailer", "Content-Length, X-Sum")
			io.WriteString(w, "hello")
			w.Header().Set("X-Sum", "5")
		}),
	}
}

// bridgeGate lets a handler wait for its client.
type bridgeGate chan struct{}

func (g bridgeGate) open() { close(g) }
func (g bridgeGate) wait(b *bridgeTalk) {
	select {
	case <-g:
	case <-time.After(patience):
		b.t.Errorf("%s: the gate stays closed", b.name)
	}
}

// bridgeSteps has a gate for each step of a handler.
func bridgeSteps(n int) []bridgeGate {
	gates := make([]bridgeGate, n)
	for i := range gates {
		gates[i] = make(bridgeGate)
	}
	return gates
}

// bridgeStreams: bodies in pieces, both ways.
func bridgeStreams() []bridgeCase {
	var cases []bridgeCase
	add := func(name string, make func() (func(b *bridgeTalk) http.HandlerFunc, func(b *bridgeTalk))) {
		// One pair of gates for each server.
		type pair struct {
			handler func(b *bridgeTalk) http.HandlerFunc
			client  func(b *bridgeTalk)
		}
		made := map[*bridgeTalk]pair{}
		cases = append(cases, bridgeCase{
			name: name,
			handler: func(b *bridgeTalk) http.HandlerFunc {
				h, c := make()
				made[b] = pair{h, c}
				return h(b)
			},
			client: func(b *bridgeTalk) { made[b].client(b) },
		})
	}
	add("flushed parts", func() (func(b *bridgeTalk) http.HandlerFunc, func(b *bridgeTalk)) {
		steps := bridgeSteps(3)
		return func(b *bridgeTalk) http.HandlerFunc {
				return func(w http.ResponseWriter, r *http.Request) {
					for i, step := range steps {
						step.wait(b)
						fmt.Fprintf(w, "part %d;", i)
						if err := http.NewResponseController(w).Flush(); err != nil {
							b.say("%v", err)
						}
					}
				}
			}, func(b *bridgeTalk) {
				b.send("GET / HTTP/1.1\r\nHost: h\r\n\r\n")
				for i, step := range steps {
					step.open()
					if i == 0 {
						b.head("GET")
					}
					b.some(len("part 0;"))
				}
				b.rest()
				b.alive()
			}
	})
	add("server-sent events", func() (func(b *bridgeTalk) http.HandlerFunc, func(b *bridgeTalk)) {
		steps, gone := bridgeSteps(3), make(bridgeGate)
		return func(b *bridgeTalk) http.HandlerFunc {
				return func(w http.ResponseWriter, r *http.Request) {
					w.Header().Set("Content-Type", "text/event-stream")
					w.Header().Set("Cache-Control", "no-cache")
					w.WriteHeader(200)
					w.(http.Flusher).Flush()
					for i, step := range steps {
						step.wait(b)
						fmt.Fprintf(w, "id: %d\ndata: now\n\n", i)
						w.(http.Flusher).Flush()
					}
					select {
					case <-r.Context().Done():
						b.say("context: %v", r.Context().Err())
					case <-time.After(patience):
						b.t.Errorf("%s: the client is gone and nobody says so", b.name)
					}
					gone.open()
				}
			}, func(b *bridgeTalk) {
				b.send("GET / HTTP/1.1\r\nHost: h\r\nAccept: text/event-stream\r\n\r\n")
				b.head("GET")
				for _, step := range steps {
					step.open()
					b.some(len("id: 0\ndata: now\n\n"))
				}
				b.conn.Close()
				gone.wait(b)
			}
	})
	add("client closes early", func() (func(b *bridgeTalk) http.HandlerFunc, func(b *bridgeTalk)) {
		gone := make(bridgeGate)
		return func(b *bridgeTalk) http.HandlerFunc {
				return func(w http.ResponseWriter, r *http.Request) {
					defer gone.open()
					for limit := time.Now().Add(patience); time.Now().Before(limit); {
						if _, err := w.Write(make([]byte, 64<<10)); err != nil {
							b.say("a write fails")
							break
						}
					}
					<-r.Context().Done()
					b.say("context: %v", r.Context().Err())
				}
			}, func(b *bridgeTalk) {
				b.send("GET / HTTP/1.1\r\nHost: h\r\n\r\n")
				b.head("GET")
				b.conn.Close()
				gone.wait(b)
			}
	})
	add("client half-closes", func() (func(b *bridgeTalk) http.HandlerFunc, func(b *bridgeTalk)) {
		return func(b *bridgeTalk) http.HandlerFunc {
				return func(w http.ResponseWriter, r *http.Request) {
					<-r.Context().Done()
					io.WriteString(w, "still answered")
				}
			}, func(b *bridgeTalk) {
				b.send("GET / HTTP/1.1\r\nHost: h\r\n\r\n")
				b.closeWrite()
				b.answer("GET")
				b.over()
			}
	})
	add("upload read in pieces", func() (func(b *bridgeTalk) http.HandlerFunc, func(b *bridgeTalk)) {
		read := bridgeSteps(2)
		return func(b *bridgeTalk) http.HandlerFunc {
				return func(w http.ResponseWriter, r *http.Request) {
					p := make([]byte, 5)
					for _, step := range read {
						_, err := io.ReadFull(r.Body, p)
						b.say("%q, %v", p, err)
						step.open()
					}
					n, err := r.Body.Read(p)
					b.say("%d, %v", n, err)
					n, err = r.Body.Read(p)
					b.say("again %d, %v", n, err)
				}
			}, func(b *bridgeTalk) {
				b.send("POST / HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked\r\n\r\n")
				for _, step := range read {
					b.send("5\r\nabcde\r\n")
					step.wait(b)
				}
				b.send("0\r\n\r\n")
				b.answer("POST")
				b.alive()
			}
	})
	add("echo in full duplex", func() (func(b *bridgeTalk) http.HandlerFunc, func(b *bridgeTalk)) {
		return func(b *bridgeTalk) http.HandlerFunc {
				return func(w http.ResponseWriter, r *http.Request) {
					rc := http.NewResponseController(w)
					b.say("%v", rc.EnableFullDuplex())
					p := make([]byte, 5)
					for range 3 {
						if _, err := io.ReadFull(r.Body, p); err != nil {
							b.say("%v", err)
						}
						w.Write(bytes.ToUpper(p))
						rc.Flush()
					}
					n, err := r.Body.Read(p)
					b.say("%d, %v", n, err)
				}
			}, func(b *bridgeTalk) {
				b.send("POST / HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked\r\n\r\n")
				for i := range 3 {
					b.send("5\r\nabcde\r\n")
					if i == 0 {
						b.head("POST")
					}
					b.some(5)
				}
				b.send("0\r\n\r\n")
				b.rest()
				b.alive()
			}
	})
	add("4 MiB both ways", func() (func(b *bridgeTalk) http.HandlerFunc, func(b *bridgeTalk)) {
		return func(b *bridgeTalk) http.HandlerFunc {
				return func(w http.ResponseWriter, r *http.Request) {
					http.NewResponseController(w).EnableFullDuplex()
					n, err := io.Copy(w, r.Body)
					b.say("%d, %v", n, err)
				}
			}, func(b *bridgeTalk) {
				go func() {
					b.send("POST / HTTP/1.1\r\nHost: h\r\nContent-Type: x/y\r\nContent-Length: 4194304\r\n\r\n")
					for range 64 {
						b.send(strings.Repeat("0123456789abcdef", 4096))
					}
				}()
				b.answer("POST")
				b.alive()
			}
	})
	add("read deadline", func() (func(b *bridgeTalk) http.HandlerFunc, func(b *bridgeTalk)) {
		return func(b *bridgeTalk) http.HandlerFunc {
				return func(w http.ResponseWriter, r *http.Request) {
					rc := http.NewResponseController(w)
					b.say("%v", rc.SetReadDeadline(time.Now().Add(20*time.Millisecond)))
					_, err := io.ReadAll(r.Body)
					var ne net.Error
					b.say("%v, %v", errors.Is(err, os.ErrDeadlineExceeded), errors.As(err, &ne) && ne.Timeout())
					http.Error(w, "slow", http.StatusRequestTimeout)
				}
			}, func(b *bridgeTalk) {
				b.send("POST / HTTP/1.1\r\nHost: h\r\nContent-Length: 100000\r\n\r\nabc")
				b.answer("POST")
				b.over()
			}
	})
	add("read deadline set by another goroutine", func() (func(b *bridgeTalk) http.HandlerFunc, func(b *bridgeTalk)) {
		return func(b *bridgeTalk) http.HandlerFunc {
				return func(w http.ResponseWriter, r *http.Request) {
					reading := make(chan struct{})
					go func() {
						<-reading
						time.Sleep(20 * time.Millisecond) // so that it waits, as a rule
						http.NewResponseController(w).SetReadDeadline(time.Now())
					}()
					r.Body.Read(make([]byte, 3))
					close(reading)
					_, err := io.ReadAll(r.Body)
					b.say("%v", errors.Is(err, os.ErrDeadlineExceeded))
				}
			}, func(b *bridgeTalk) {
				b.send("POST / HTTP/1.1\r\nHost: h\r\nContent-Length: 100000\r\n\r\nabc")
				b.answer("POST")
				b.over()
			}
	})
	add("write deadline", func() (func(b *bridgeTalk) http.HandlerFunc, func(b *bridgeTalk)) {
		failed := make(bridgeGate)
		return func(b *bridgeTalk) http.HandlerFunc {
				return func(w http.ResponseWriter, r *http.Request) {
					defer failed.open()
					http.NewResponseController(w).SetWriteDeadline(time.Now().Add(50 * time.Millisecond))
					for limit := time.Now().Add(patience); time.Now().Before(limit); {
						if _, err := w.Write(make([]byte, 64<<10)); err != nil {
							b.say("%v", errors.Is(err, os.ErrDeadlineExceeded))
							return
						}
					}
				}
			}, func(b *bridgeTalk) {
				b.send("GET / HTTP/1.1\r\nHost: h\r\n\r\n")
				failed.wait(b)
			}
	})
	return cases
}

// bridgeRequests: what a handler sees of a request.
func bridgeRequests() []bridgeCase {
	form := &bytes.Buffer{}
	mw := multipart.NewWriter(form)
	mw.SetBoundary("xyz")
	part, _ := mw.CreateFormFile("file", "a.txt")
	part.Write(bytes.Repeat([]byte("long "), 3000))
	mw.WriteField("name", "ada")
	mw.Close()
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
			client: func(b *bridgeTalk) {
				b.send("POST / HTTP/1.1\r\nHost: h\r\nExpect: 100-continue\r\nContent-Length: 5\r\n\r\n")
				b.head("")
				b.send("hello")
				b.answer("POST")
				b.alive()
			},
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
			client: func(b *bridgeTalk) {
				b.send("POST / HTTP/1.1\r\nHost: h\r\nExpect: 100-continue\r\nContent-Length: 5\r\n\r\n")
				b.head("")
				b.send("hello")
				b.answer("POST")
				b.alive()
			},
		},
		{
			name: "body closed early",
			handler: func(b *bridgeTalk) http.HandlerFunc {
				return func(w http.ResponseWriter, r *http.Request) {
					b.say("%v", r.Body.Close())
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
			name: "body cut off",
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

// bridgeDump says all of r.
func bridgeDump(b *bridgeTalk, r *http.Request) {
	b.say("> %s %s %s %d.%d", r.Method, r.RequestURI, r.Proto, r.ProtoMajor, r.ProtoMinor)
	b.say("> URL %#v String %s Host %q Length %d TE %v Close %v TLS %v Pattern %q", *r.URL, r.URL, r.Host, r.ContentLength, r.TransferEncoding, r.Close, r.TLS != nil && !b.tls, r.Pattern)
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
