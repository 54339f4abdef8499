package flare

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"strings"
	"testing"
)

// A bridgeCase is a handler of net/http's and what a client does to it. It is
// run against net/http's server and flare's, which have to say the same.
type bridgeCase struct {
	name    string
	handler func(b *bridgeTalk) http.HandlerFunc // made anew for each server
	client  func(b *bridgeTalk)

	// differs says why flare's server is different, if it is: then it has to be.
	// over2 says what is otherwise over HTTP/2.
	differs string
	over2   bridgeOver2
}

// A bridgeOver2 says what a row is about over HTTP/2, if not the same.
type bridgeOver2 struct {
	none    string // why there is no such thing
	differs string // as in bridgeCase
	same    bool   // there is no difference
}

func (c *bridgeCase) run(t *testing.T, name string, serve func(*testing.T, http.Handler) string) string {
	return c.talk(&bridgeTalk{t: t, name: name, tls: strings.Contains(name, "TLS")}, serve)
}

func (c *bridgeCase) talk(b *bridgeTalk, serve func(*testing.T, http.Handler) string) string {
	t := b.t
	b.addr = serve(t, b.watched(c.handler(b)))
	b.dial()
	defer func() { b.conn.Close() }()
	c.client(b)
	return b.transcript()
}

func bridgeCases() (cases []bridgeCase) {
	for _, table := range [][]bridgeCase{
		bridgeBodies(), bridgeHeads(), bridgeStreams(), bridgeRequests(), bridgeConnections(), bridgeStandard(), bridgeDifferences(),
	} {
		cases = append(cases, table...)
	}
	return cases
}

// TestFromHTTP is the table of what net/http's handlers see and cause on both
// servers, and on flare's over TLS. Rows that differ say why.
func TestFromHTTP(t *testing.T) {
	for _, c := range bridgeCases() {
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

// TestFromHTTPOverHTTP2 is the same table over HTTP/2: what handlers see and
// cause there is what they do over HTTP/1.1 on net/http's server.
func TestFromHTTPOverHTTP2(t *testing.T) {
	for _, c := range bridgeCases() {
		differs := c.differs
		switch {
		case c.over2.none != "":
			continue
		case c.over2.differs != "":
			differs = c.over2.differs
		case c.over2.same:
			differs = ""
		}
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			want := c.talk(&bridgeTalk{t: t, name: "net/http", both: true}, bridgeNetHTTP)
			got := c.talk(&bridgeTalk{t: t, name: "flare, HTTP/2", both: true, two: true}, func(t *testing.T, h http.Handler) string {
				return startHTTP2(t, &Server{Handler: FromHTTP(h), Loops: 1}).addr
			})
			overTLS := c.talk(&bridgeTalk{t: t, name: "flare, HTTP/2 over TLS", both: true, tls: true, two: true}, func(t *testing.T, h http.Handler) string {
				return startTLSServer(t, &Server{Handler: FromHTTP(h), Loops: 1})
			})
			if differs == "" {
				sameLines(t, got, want)
				sameLines(t, overTLS, want)
			} else if got == want || overTLS == want {
				t.Errorf("%s\nis no difference any more: both say\n%s", differs, got)
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
