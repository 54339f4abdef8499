package flare

import (
	"bufio"
	"bytes"
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"
)

// These tests have handlers that leave goroutines behind, which go on with what
// the handler was given. lease_test.go has the calls that come after its end.

// TestStrayBodyReaders has connections whose handlers leave a reader of the body
// behind, beside innocent ones that upload in pieces. Each of the latter gets the
// sum of its own octets, and the former can be used for another request.
func TestStrayBodyReaders(t *testing.T) {
	const bad, innocent, size = 40, 20, 100_000
	var strays sync.WaitGroup
	s := &Server{Loops: 1, Logger: quietLogger(), Handler: routes{
		"/stray": HandlerFunc(func(w *ResponseWriter, r *Request) error {
			begun, body := make(chan bool), r.Body()
			strays.Go(func() {
				body.Read(make([]byte, 1))
				close(begun)
				n, err := io.Copy(io.Discard, body)
				if n >= size || !errors.Is(err, http.ErrBodyReadAfterClose) {
					t.Errorf("a stray reader got %d octets, %v", n, err)
				}
			})
			<-begun
			return w.Text(200, "early")
		}),
		"/sum": HandlerFunc(func(w *ResponseWriter, r *Request) error {
			p, err := r.Bytes()
			if err != nil {
				return err
			}
			return w.Text(200, fmt.Sprint(len(p), bytes.Count(p, p[:1])))
		}),
		"/next": HandlerFunc(func(w *ResponseWriter, r *Request) error { return w.Text(200, "next") }),
	}}
	addr := startServer(t, s)
	var clients sync.WaitGroup
	upload := func(c *rawClient, path, octet string, between func()) {
		c.send("POST ", path, " HTTP/1.1\r\nHost: h\r\nContent-Length: ", fmt.Sprint(size), "\r\n\r\n")
		piece := strings.Repeat(octet, size/10)
		for i := range 10 {
			if i == 1 && between != nil {
				between()
			}
			c.send(piece)
			time.Sleep(time.Millisecond) // spreads the pieces, and is waited for by nobody
		}
	}
	for range bad {
		clients.Go(func() {
			c := dialRaw(t, addr)
			upload(c, "/stray", "x", func() { c.answer("POST").want(t, 200, "early") })
			c.get("/next").want(t, 200, "next")
		})
	}
	for i := range innocent {
		octet := string(rune('A' + i))
		clients.Go(func() {
			c := dialRaw(t, addr)
			for range 5 {
				upload(c, "/sum", octet, nil)
				c.answer("POST").want(t, 200, fmt.Sprint(size, size))
			}
		})
	}
	clients.Wait()
	strays.Wait()
	ends(t, s)
}

// ends fails the test unless Shutdown ends.
func ends(t testing.TB, s *Server) {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	if err := s.Shutdown(ctx); err != nil {
		t.Errorf("Shutdown: %v", err)
	}
}

// A strayCall is something that a goroutine waits in when its handler returns.
type strayCall struct {
	path string
	call func(w *ResponseWriter, r *Request) error
	goes bool // the request is answered

	// std is call for a handler of net/http's, which FromHTTP calls.
	std func(w http.ResponseWriter, r *http.Request) error
}

// handler returns one that leaves a goroutine in the call, whose error goes to
// broken.
func (tt strayCall) handler(t *testing.T, broken chan<- error) Handler {
	return HandlerFunc(func(w *ResponseWriter, r *Request) error {
		waits := strayWaits(w)
		if tt.std == nil {
			go func() { broken <- tt.call(w, r) }()
			eventually(t, "the wait", waits)
			return nil
		}
		return FromHTTP(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			go func() { broken <- tt.std(w, r) }()
			eventually(t, "the wait", waits)
		})).Serve(w, r)
	})
}

// strayWaits returns what tells that somebody waits in a call of w's or its
// request's: on a connection of flare's by its state, on another server's by being
// inside for some time.
func strayWaits(w *ResponseWriter) func() bool {
	if c := behindResponse(w).x.stream.ownConn(); c != nil {
		return func() bool { return c.own.Load()&ownWaits != 0 }
	}
	inside := 0
	return func() bool {
		if inside++; w.lease.state.Load() < leaseInside {
			inside = 0
		}
		return inside >= 20
	}
}

// strayCalls waits in every way that there is, each with the peer silent.
func strayCalls(t *testing.T) []strayCall {
	file := filepath.Join(t.TempDir(), "large")
	if err := os.WriteFile(file, make([]byte, 32<<20), 0o600); err != nil {
		t.Fatal(err)
	}
	fill := func(write func(p []byte) error) error {
		for p := make([]byte, 1<<20); ; {
			if err := write(p); err != nil {
				return err
			}
		}
	}
	calls := []strayCall{
		{"/read", func(w *ResponseWriter, r *Request) error {
			_, err := io.Copy(io.Discard, r.Body())
			return err
		}, true, nil},
		{"/bytes", func(w *ResponseWriter, r *Request) error {
			_, err := r.Bytes()
			return err
		}, true, nil},
		{"/json", func(w *ResponseWriter, r *Request) error { return r.JSON(new(any)) }, true, nil},
		{"/write", func(w *ResponseWriter, r *Request) error {
			return fill(func(p []byte) error { _, err := w.Write(p); return err })
		}, false, nil},
		{"/writestring", func(w *ResponseWriter, r *Request) error {
			return fill(func(p []byte) error { _, err := w.WriteString(string(p)); return err })
		}, false, nil},
		{"/flush", func(w *ResponseWriter, r *Request) error {
			return fill(func(p []byte) error {
				_, err := w.Write(p[:32<<10])
				return cmp.Or(err, w.Flush())
			})
		}, false, nil},
		{"/readfrom", func(w *ResponseWriter, r *Request) error {
			_, err := w.ReadFrom(endless{})
			return err
		}, false, nil},
		{"/sendfile", func(w *ResponseWriter, r *Request) error { return w.SendFile(file) }, false, nil},
		{"/eventstream", func(w *ResponseWriter, r *Request) error {
			events, err := w.EventStream()
			if err != nil {
				return err
			}
			return fill(func(p []byte) error { return events.Send(ServerSentEvent{Data: string(p)}) })
		}, false, nil},
		{"/hook", func(w *ResponseWriter, r *Request) error {
			w.OnCommit(func(_ int, _ *Header, next io.WriteCloser) io.WriteCloser { return next })
			return fill(func(p []byte) error { _, err := w.Write(p); return err })
		}, false, nil},
		{"/fromhttp", func(w *ResponseWriter, r *Request) error {
			var failed error
			err := FromHTTP(http.HandlerFunc(func(hw http.ResponseWriter, hr *http.Request) {
				failed = fill(func(p []byte) error { _, err := hw.Write(p); return err })
			})).Serve(w, r)
			return errors.Join(failed, err)
		}, false, nil},
	}
	for _, std := range []struct {
		path string
		call func(w http.ResponseWriter, r *http.Request) error
		goes bool
	}{
		{"/std-read", func(w http.ResponseWriter, r *http.Request) error {
			_, err := io.Copy(io.Discard, r.Body)
			return err
		}, true},
		{"/std-write", func(w http.ResponseWriter, r *http.Request) error {
			return fill(func(p []byte) error { _, err := w.Write(p); return err })
		}, false},
		{"/std-flush", func(w http.ResponseWriter, r *http.Request) error {
			return fill(func(p []byte) error {
				_, err := w.Write(p[:32<<10])
				return cmp.Or(err, http.NewResponseController(w).Flush())
			})
		}, false},
		{"/std-readfrom", func(w http.ResponseWriter, r *http.Request) error {
			_, err := io.Copy(w, endless{})
			return err
		}, false},
	} {
		calls = append(calls, strayCall{std.path, nil, std.goes, std.call})
	}
	return calls
}

type endless struct{}

func (endless) Read(p []byte) (int, error) { return len(p), nil }

// strayWays are the ways by which a request reaches flare's handlers. Each serves
// s and returns what opens a connection to it.
var strayWays = []struct {
	name  string
	serve func(t *testing.T, s *Server) (dial func() net.Conn)
	own   bool // of flare's own connections
}{
	{"plain", func(t *testing.T, s *Server) func() net.Conn {
		addr := startServer(t, s)
		return func() net.Conn { return dialRaw(t, addr) }
	}, true},
	{"TLS", func(t *testing.T, s *Server) func() net.Conn {
		addr := startTLSServer(t, s)
		return func() net.Conn { return dialTLSRaw(t, addr, nil) }
	}, true},
	{"ToHTTP", func(t *testing.T, s *Server) func() net.Conn {
		ts := httptest.NewServer(s)
		t.Cleanup(ts.Close)
		return func() net.Conn { return dialRaw(t, ts.Listener.Addr().String()) }
	}, false},
}

// TestStrayWaits has each call wait in a goroutine of its own when the handler
// returns. It is broken off with an error at once, and what comes of the
// connection is right: a body that nobody reads is discarded, and a response of
// which a part has left is cut off.
func TestStrayWaits(t *testing.T) {
	for _, way := range strayWays {
		for _, tt := range strayCalls(t) {
			t.Run(way.name+tt.path, func(t *testing.T) {
				broken := make(chan error, 1)
				s := &Server{Loops: 1, Logger: quietLogger(), Handler: routes{
					tt.path: tt.handler(t, broken),
					"/next": HandlerFunc(func(w *ResponseWriter, r *Request) error { return w.Text(200, "next") }),
				}}
				dial := way.serve(t, s)
				var c net.Conn
				for waited := false; !waited; {
					if c != nil {
						c.Close()
					}
					c = dial()
					fmt.Fprintf(c, "POST %s HTTP/1.1\r\nHost: h\r\nContent-Length: 100000\r\n\r\npart", tt.path)
					waited = tt.wantBroken(t, broken)
				}
				br := bufio.NewReader(c)
				a, err := readAnswer(br, "POST")
				switch {
				case !tt.goes:
					if !errors.Is(err, syscall.ECONNRESET) && !errors.Is(err, io.ErrUnexpectedEOF) {
						t.Errorf("the response was not cut off: %v", err)
					}
				case err != nil || a.StatusCode != 200:
					t.Errorf("answer %+v, %v", a, err)
				case way.own: // net/http gives a connection up on which a read has failed
					io.WriteString(c, strings.Repeat("x", 100_000-len("part"))+"GET /next HTTP/1.1\r\nHost: h\r\n\r\n")
					if a, err := readAnswer(br, "GET"); err != nil || a.body != "next" {
						t.Errorf("the next answer: %+v, %v", a, err)
					}
				}
				c.Close()
				if way.own {
					ends(t, s)
				}
			})
		}
	}
}

// wantBroken waits until the call was broken off, and reports whether it was in a
// wait: what copies could go on when the handler returned, and be between two
// writes then.
func (tt strayCall) wantBroken(t *testing.T, broken <-chan error) (waited bool) {
	t.Helper()
	select {
	case err := <-broken:
		if err == nil {
			t.Error("the call has succeeded")
		}
		return !errors.Is(err, errWriterDone)
	case <-time.After(patience):
		t.Fatal("the call still waits")
	}
	return false
}

// TestStrayWaitsHTTP2 is that for streams of HTTP/2, by net/http. The streams
// beside them go on.
func TestStrayWaitsHTTP2(t *testing.T) {
	for _, tt := range strayCalls(t) {
		t.Run(tt.path[1:], func(t *testing.T) {
			broken := make(chan error, 1)
			ts := httptest.NewUnstartedServer(&Server{Logger: quietLogger(), Handler: routes{
				tt.path: tt.handler(t, broken),
				"/next": HandlerFunc(func(w *ResponseWriter, r *Request) error { return w.Text(200, r.Proto()) }),
			}})
			ts.EnableHTTP2 = true
			ts.StartTLS()
			defer ts.Close()
			body, feed := io.Pipe()
			defer feed.Close()
			go io.WriteString(feed, "part")
			ctx, cancel := context.WithTimeout(context.Background(), patience)
			defer cancel()
			req, err := http.NewRequestWithContext(ctx, "POST", ts.URL+tt.path, body)
			if err != nil {
				t.Fatal(err)
			}
			resp, err := ts.Client().Do(req)
			tt.wantBroken(t, broken)
			if err == nil {
				_, err = io.Copy(io.Discard, resp.Body)
				resp.Body.Close()
			}
			if tt.goes && (err != nil || resp.StatusCode != 200) {
				t.Errorf("answer %+v, %v", resp, err)
			} else if !tt.goes && (err == nil || ctx.Err() != nil) {
				t.Errorf("the response was not cut off: %v", err)
			}
			resp, err = ts.Client().Get(ts.URL + "/next")
			if err != nil {
				t.Fatal(err)
			}
			defer resp.Body.Close()
			if p, err := io.ReadAll(resp.Body); err != nil || string(p) != "HTTP/2.0" {
				t.Errorf("another stream: %q, %v", p, err)
			}
		})
	}
}

// TestStrayUploadOfClient has a handler forward its body with flare's own client
// to a server that answers before it has the body. Nobody reads the body once
// the handler has returned, and nothing is left waiting.
func TestStrayUploadOfClient(t *testing.T) {
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer ln.Close()
	go func() {
		for {
			conn, err := ln.Accept()
			if err != nil {
				return
			}
			go func() {
				defer conn.Close()
				conn.Read(make([]byte, 1024))
				io.WriteString(conn, "HTTP/1.1 403 Forbidden\r\nContent-Length: 2\r\n\r\nno")
				io.Copy(io.Discard, conn)
			}()
		}
	}()
	client := &Client{}
	defer client.CloseIdleConnections()
	var bodies atomic.Int32
	s := &Server{Loops: 1, Logger: quietLogger(), Handler: routes{
		"/": HandlerFunc(func(w *ResponseWriter, r *Request) error {
			resp, err := client.Do(r.Context(), &ClientRequest{Method: "POST", URL: "http://" + ln.Addr().String() + "/", Body: r.Body()})
			if err != nil {
				return err
			}
			defer resp.Body.Close()
			p, err := resp.Bytes()
			if err != nil {
				return err
			}
			bodies.Add(1)
			return w.Blob(resp.StatusCode, "text/plain", p)
		}),
		"/next": HandlerFunc(func(w *ResponseWriter, r *Request) error { return w.Text(200, "next") }),
	}}
	addr := startServer(t, s)
	var clients sync.WaitGroup
	for range 8 {
		clients.Go(func() {
			c := dialRaw(t, addr)
			c.send("POST / HTTP/1.1\r\nHost: h\r\nContent-Length: 100000\r\n\r\n", strings.Repeat("x", 50_000))
			c.answer("POST").want(t, 403, "no")
			c.send(strings.Repeat("x", 50_000))
			c.get("/next").want(t, 200, "next")
		})
	}
	clients.Wait()
	if bodies.Load() != 8 {
		t.Errorf("%d answers of 8", bodies.Load())
	}
	ends(t, s)
}
