package flare

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"runtime"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
)

// A thousand callers share what a server of 100 streams takes, and the server goes
// away every 100 requests: no call fails, no request is processed twice, and
// nothing is left.
func TestHTTP2ClientGoAwayStress(t *testing.T) {
	const callers, calls, streams, requestsPerConn = 1000, 3, 100, 100
	descriptors, goroutines := openFDs(t), runtime.NumGoroutine()
	var mu sync.Mutex
	processed := make(map[string]int)
	var conns atomic.Int32
	c, url := hostileHTTP2(t, func(p *http2Answerer, n int) {
		conns.Add(1)
		p.settings(http2Setting{settingStreamsMax, streams})
		for served := 1; ; served++ {
			stream, ok := p.request()
			if !ok {
				return
			}
			if served > requestsPerConn {
				continue // the client has been told
			}
			var path string
			for _, line := range p.sect.lines() {
				if after, ok := strings.CutPrefix(line, ":path: "); ok {
					path = after
				}
			}
			mu.Lock()
			processed[path]++
			mu.Unlock()
			if served == requestsPerConn {
				p.send(appendGoAway(nil, stream, codeNone))
			}
			p.answer(stream, path)
		}
	})
	var all sync.WaitGroup
	for i := range callers {
		all.Go(func() {
			for j := range calls {
				path := fmt.Sprintf("/%d/%d", i, j)
				resp, err := c.Do(soon(t), &ClientRequest{Method: "POST", URL: url + path})
				if err != nil {
					t.Error(err)
					return
				}
				if text, err := resp.Text(); err != nil || text != path {
					t.Errorf("%q, %v", text, err)
				}
			}
		})
	}
	all.Wait()
	mu.Lock()
	for path, n := range processed {
		if n != 1 {
			t.Errorf("%s was processed %d times", path, n)
		}
	}
	if len(processed) != callers*calls {
		t.Errorf("%d requests of %d", len(processed), callers*calls)
	}
	mu.Unlock()
	if n := conns.Load(); n < callers*calls/requestsPerConn {
		t.Errorf("%d connections", n)
	}
	c.CloseIdleConnections()
	// The server's listener and the goroutine that accepts are still there.
	eventually(t, "no goroutine is left", func() bool { return runtime.NumGoroutine() <= goroutines+2 })
	eventually(t, "no descriptor is left", func() bool { return openFDs(t) <= descriptors+1 })
}

// A server that is killed: of each call the error says whether it was sent.
func TestHTTP2ClientServerKilled(t *testing.T) {
	t.Parallel()
	var killed atomic.Bool
	c, url := hostileHTTP2(t, func(p *http2Answerer, n int) {
		if n > 0 {
			p.serveAll("fine")
			return
		}
		p.settings(http2Setting{settingStreamsMax, 3})
		for range 3 {
			if _, ok := p.request(); !ok {
				t.Error("no request")
			}
		}
		waitForHTTP2(t, c0.Load().(*Client), func(conn *http2ClientConn) bool { return len(conn.waiting) == 5 })
		killed.Store(true)
	})
	c0.Store(c)
	var all sync.WaitGroup
	var lost, answered atomic.Int32
	post := func() {
		resp, err := c.Post(soon(t), url, []byte("body"))
		if err != nil {
			wantClientError(t, err, PhaseHead, ErrUnexpectedEOF)
			lost.Add(1)
			return
		}
		resp.Body.Close()
		answered.Add(1)
	}
	all.Go(post)
	waitForHTTP2(t, c, func(conn *http2ClientConn) bool { return conn.greeted && conn.active == 1 })
	for range 7 {
		all.Go(post)
	}
	all.Wait()
	if !killed.Load() || lost.Load() != 3 || answered.Load() != 5 {
		t.Errorf("%d calls were lost, %d answered; want 3 that were sent, 5 that were not", lost.Load(), answered.Load())
	}
}

// c0 is the client of TestHTTP2ClientServerKilled, whose server looks at it.
var c0 atomic.Value

// What was queued and never handed to the socket is known not to have been sent.
func TestHTTP2ClientNeverSent(t *testing.T) {
	c := &http2ClientConn{cfg: new(http2ClientConfig), pool: new(http2ClientPool), streams: make(map[uint32]*clientStream), next: 1, peer: defaultHTTP2Settings}
	c.output.queue, c.output.handed, c.output.written = []byte("queued"), 100, 50
	for _, test := range []struct {
		headAt, endAt int64
		phase         ClientPhase
		stale         bool
	}{{10, 40, "", false}, {10, 60, PhaseWrite, false}, {99, 105, PhaseWrite, false}, {100, 106, "", true}} {
		st := c.newStream()
		st.enter("GET")
		st.headAt, st.endAt, st.endSent = test.headAt, test.endAt, true
		err := st.endOf(io.EOF)
		var e *ClientError
		if errors.As(err, &e) != (test.phase != "") || e != nil && e.Phase != test.phase || (err == errStale) != test.stale {
			t.Errorf("%+v: %v", test, err)
		}
	}
}

// A call that is cancelled resets its stream; others on the connection go on.
func TestHTTP2ClientCancelled(t *testing.T) {
	for _, kind := range http2Servers {
		t.Run(kind, func(t *testing.T) {
			t.Parallel()
			gone := make(chan string, 10)
			url, c := http2Std(t, kind, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
				switch r.URL.Path {
				case "/head":
				case "/body":
					w.Write([]byte("x"))
					w.(http.Flusher).Flush()
				case "/upload":
					io.Copy(io.Discard, r.Body)
				default:
					return
				}
				<-r.Context().Done()
				gone <- r.URL.Path
			}))
			get := func() {
				resp, err := c.Get(soon(t), url)
				if err != nil {
					t.Fatal(err)
				}
				resp.Body.Close()
			}
			get()
			var conn *http2ClientConn
			waitForHTTP2(t, c, func(is *http2ClientConn) bool { conn = is; return true })
			active := func(n int) {
				waitForHTTP2(t, c, func(is *http2ClientConn) bool { return is == conn && is.active == n })
			}
			for _, path := range []string{"/head", "/upload"} {
				ctx, cancel := context.WithCancel(soon(t))
				ended := make(chan error, 1)
				go func() {
					r := &ClientRequest{Method: "POST", URL: url + path}
					if path == "/upload" {
						body, w := io.Pipe()
						defer w.Close()
						r.Body = body
					}
					_, err := c.Do(ctx, r)
					ended <- err
				}()
				active(1)
				cancel()
				if err := <-ended; !errors.Is(err, context.Canceled) {
					t.Errorf("%s: %v", path, err)
				}
				if path == "/head" {
					<-gone
				}
				get()
			}
			resp, err := c.Get(soon(t), url+"/body")
			if err != nil {
				t.Fatal(err)
			}
			resp.Body.Close()
			<-gone
			get()
			active(0)
		})
	}
}
