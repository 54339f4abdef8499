package flare

import (
	"context"
	"errors"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"net/http/httptrace"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"
)

func clientPooled(name string) *clientConn {
	near, far := net.Pipe()
	far.Close()
	return newClientConn(near, clientRoute{origin: clientOrigin{host: name, port: 80}}, name)
}

func TestClientPoolOrder(t *testing.T) {
	p := &clientPool{perRouteMax: 2, totalMax: 3, idleTimeout: time.Minute}
	defer p.closeIdle(true)
	now := time.Now()
	a1, a2, a3, b1, b2 := clientPooled("a"), clientPooled("a"), clientPooled("a"), clientPooled("b"), clientPooled("b")
	for i, c := range []*clientConn{a1, a2, a3, b1, b2} {
		p.put(c, now.Add(time.Duration(i)*time.Second))
	}
	now = now.Add(5 * time.Second)
	// a1 went for a3, a2 for b2: the oldest of the route, then of all.
	for i, want := range []*clientConn{b2, b1, nil} {
		if got := p.get(b1.route, now); got != want {
			t.Errorf("b, %d: the wrong connection", i)
		}
	}
	for i, want := range []*clientConn{a3, nil} {
		if got := p.get(a1.route, now); got != want {
			t.Errorf("a, %d: the wrong connection", i)
		}
	}
	p.put(a3, now)
	if p.get(a1.route, now.Add(time.Minute)) != nil {
		t.Error("a connection that has rested too long was handed out")
	}
	p.closeIdle(true)
	p.put(b1, now)
	if p.get(b1.route, now) != nil {
		t.Error("a closed pool has kept a connection")
	}
}

// Without a sweep nothing is left of routes that no connection rests on.
func TestClientPoolForgets(t *testing.T) {
	p := &clientPool{perRouteMax: 2, totalMax: 3}
	defer p.closeIdle(true)
	for range 2 {
		p.put(clientPooled("a"), time.Now())
	}
	for _, routes := range []int{1, 0} {
		c := p.get(clientRoute{origin: clientOrigin{host: "a", port: 80}}, time.Now())
		if c == nil || len(p.idle) != routes {
			t.Fatalf("%v, %d routes, want %d", c, len(p.idle), routes)
		}
		c.close()
	}
}

func TestClientPoolSweep(t *testing.T) {
	p := &clientPool{perRouteMax: 2, totalMax: 3, idleTimeout: 20 * time.Millisecond}
	c := clientPooled("a")
	closed := make(chan struct{})
	c.raw = clientCloseConn{c.raw, sync.OnceFunc(func() { close(closed) })}
	p.put(c, time.Now())
	select {
	case <-closed:
	case <-time.After(patience):
		t.Fatal("the connection was not closed")
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.total != 0 || len(p.idle) != 0 || p.sweep != nil {
		t.Errorf("%d connections, sweep %v", p.total, p.sweep)
	}
}

type clientCloseConn struct {
	net.Conn
	closed func()
}

func (c clientCloseConn) Close() error {
	c.closed()
	return c.Conn.Close()
}

// A connection that had rested and ends after the request was sent, with no
// answer, is made up for, once and where the request may be sent twice. A new
// one that does so is the caller's to know of.
func TestClientRetry(t *testing.T) {
	const ok = "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"
	for _, tt := range []struct {
		name, method string
		body         any
		rested       bool
		silent       int // requests that are read and not answered
		requests     int // what is sent in all
		works        bool
	}{
		{"GET", "GET", nil, true, 1, 2, true},
		{"GET twice", "GET", nil, true, 2, 2, false},
		{"GET, fresh", "GET", nil, false, 1, 1, false},
		{"POST", "POST", nil, true, 1, 1, false},
		{"PUT", "PUT", strings.NewReader("abc"), true, 1, 2, true},
		{"PUT, fresh", "PUT", strings.NewReader("abc"), false, 1, 1, false},
		{"PUT of a stream", "PUT", io.MultiReader(strings.NewReader("abc")), true, 1, 1, false},
	} {
		var requests atomic.Int32
		primed := !tt.rested
		url := clientAccept(t, func(c net.Conn) {
			for clientReadHead(c) {
				if !primed {
					primed = true
					io.WriteString(c, ok)
					continue
				}
				if int(requests.Add(1)) <= tt.silent {
					return
				}
				io.WriteString(c, strings.Replace(ok, "\r\n\r\n", "\r\nConnection: close\r\n\r\n", 1))
				c.(*net.TCPConn).CloseWrite()
				io.Copy(io.Discard, c)
				return
			}
		})
		c := clientOf(t, &Client{})
		if tt.rested {
			if body, err := clientFetch(t, c, url); err != nil || body != "ok" {
				t.Fatal(body, err)
			}
		}
		r := &ClientRequest{Method: tt.method, URL: url}
		if err := r.SetBody(tt.body); err != nil {
			t.Fatal(err)
		}
		resp, err := c.Do(clientContext(t), r)
		if err == nil {
			_, err = resp.Bytes()
		}
		if (err == nil) != tt.works || int(requests.Load()) != tt.requests {
			t.Errorf("%s: %d requests, %v; want %d", tt.name, requests.Load(), err, tt.requests)
		}
		if err != nil && !errors.Is(err, ErrUnexpectedEOF) && !errors.Is(err, ErrReset) {
			t.Errorf("%s: %v", tt.name, err)
		}
	}
}

// Servers close idle connections and restart behind a listener that stays open.
func TestClientRestarts(t *testing.T) {
	idle := clientIdleTimeout()
	t.Run("flare", func(t *testing.T) {
		clientRestarts(t, false, func() clientRestarter {
			return &Server{
				Handler: textHandler("ok"), IdleTimeout: idle, MaxRequestsPerConn: 50,
				DrainDelay: 200 * time.Millisecond, // what a restart without a failed request takes
			}
		})
	})
	t.Run("net/http", func(t *testing.T) {
		clientRestarts(t, true, func() clientRestarter {
			return &http.Server{Handler: http.HandlerFunc(clientEcho), IdleTimeout: idle}
		})
	})
}

// clientIdleTimeout is short for a server and long for a machine with much to
// do: a fresh connection whose request is that late counts as idle too.
func clientIdleTimeout() time.Duration {
	if raceEnabled || onPlain() {
		return 400 * time.Millisecond
	}
	return 200 * time.Millisecond
}

type clientRestarter interface {
	Serve(net.Listener) error
	Shutdown(context.Context) error
	Close() error
}

// clientRestarts has 64 callers ask a server while it is replaced ten times.
func clientRestarts(t *testing.T, freshMayEnd bool, build func() clientRestarter) {
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer ln.Close()
	url := "http://" + ln.Addr().String()
	newServer := func() clientRestarter {
		dup, err := ln.(*net.TCPListener).File()
		if err != nil {
			t.Fatal(err)
		}
		defer dup.Close()
		own, err := net.FileListener(dup)
		if err != nil {
			t.Fatal(err)
		}
		s := build()
		go s.Serve(own)
		return s
	}
	c := clientOf(t, &Client{})
	s := newServer()
	stop := make(chan struct{})
	var calls, failures atomic.Int64
	var callers sync.WaitGroup
	for range 64 {
		callers.Go(func() {
			for {
				select {
				case <-stop:
					return
				default:
				}
				ctx, cancel := context.WithTimeout(context.Background(), patience)
				fresh := false // the last connection that was tried
				resp, err := c.Get(httptrace.WithClientTrace(ctx, &httptrace.ClientTrace{
					GotConn: func(info httptrace.GotConnInfo) { fresh = !info.Reused },
				}), url)
				if err == nil {
					_, err = resp.Bytes()
				}
				cancel()
				// net/http's Shutdown may end a connection that has just been accepted:
				// that is for the caller to know.
				if err != nil && !(freshMayEnd && fresh) && failures.Add(1) < 5 {
					t.Errorf("call %d: %v", calls.Load(), err)
				}
				calls.Add(1)
			}
		})
	}
	for range 10 {
		want := calls.Load() + 500
		eventually(t, "calls between two restarts", func() bool { return calls.Load() >= want })
		next := newServer()
		ctx, cancel := context.WithTimeout(context.Background(), patience)
		if err := s.Shutdown(ctx); err != nil {
			t.Errorf("Shutdown: %v", err)
		}
		cancel()
		s = next
	}
	close(stop)
	callers.Wait()
	s.Close()
	t.Logf("%d calls, %d failures", calls.Load(), failures.Load())
}

// Callers whose pauses are as long as the server's patience: each connection is
// closed about when its next request is sent, and none of them fails.
func TestClientIdleCloses(t *testing.T) {
	t.Parallel()
	const callers, calls = 64, 10
	idle := clientIdleTimeout()
	std := httptest.NewUnstartedServer(http.HandlerFunc(clientEcho))
	std.Config.IdleTimeout = idle
	std.Start()
	defer std.Close()
	for name, url := range map[string]string{
		"flare":    TestServer(t, &Server{Handler: textHandler("ok"), IdleTimeout: idle}),
		"net/http": std.URL,
	} {
		var dials atomic.Int64
		var dialer net.Dialer
		c := clientOf(t, &Client{Dial: func(ctx context.Context, network, addr string) (net.Conn, error) {
			dials.Add(1)
			return dialer.DialContext(ctx, network, addr)
		}})
		var all sync.WaitGroup
		for i := range callers {
			all.Go(func() {
				pause := time.NewTicker(idle + time.Duration(i-callers/2)*500*time.Microsecond)
				defer pause.Stop()
				for range calls {
					resp, err := c.Get(clientContext(t), url)
					if err == nil {
						_, err = resp.Bytes()
					}
					if err != nil {
						t.Errorf("%s: %v", name, err)
						return
					}
					<-pause.C
				}
			})
		}
		all.Wait()
		t.Logf("%s: %d connections for %d calls", name, dials.Load(), callers*calls)
	}
}

func TestClientConcurrent(t *testing.T) {
	ts := httptest.NewServer(http.HandlerFunc(clientEcho))
	defer ts.Close()
	c := clientOf(t, &Client{BaseURL: ts.URL})
	var callers sync.WaitGroup
	for i := range 32 {
		callers.Go(func() {
			body := strings.Repeat(string(rune('a'+i%26)), 1+i*700)
			for range 20 {
				resp, err := c.Post(clientContext(t), "/", body)
				if err != nil {
					t.Error(err)
					return
				}
				if got, err := resp.Text(); err != nil || got != body {
					t.Errorf("%d bytes, %v", len(got), err)
				}
			}
		})
	}
	callers.Wait()
}

func TestClientAllocations(t *testing.T) {
	if raceEnabled {
		t.Skip("the race detector allocates, and nothing is reused under it")
	}
	url := clientBenchServer(t)
	c := clientOf(t, &Client{})
	ctx := context.Background()
	got := testing.AllocsPerRun(500, func() {
		resp, err := c.Get(ctx, url)
		if err != nil {
			t.Fatal(err)
		}
		if p, err := resp.Bytes(); err != nil || len(p) != 13 {
			t.Fatal(p, err)
		}
	})
	if got > 5 {
		t.Errorf("%v allocations a keep-alive GET, want at most 5", got)
	}
	t.Logf("%v allocations a keep-alive GET", got)
}
