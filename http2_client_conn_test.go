package flare

import (
	"context"
	"crypto/tls"
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

// Callers beyond the streams that the server takes wait, and the context of one
// that waits ends its call alone.
func TestHTTP2ClientStreamLimit(t *testing.T) {
	t.Parallel()
	const streams, callers = 3, 20
	var open, most atomic.Int32
	c, url := hostileHTTP2(t, func(p *http2Answerer, n int) {
		if n > 0 {
			t.Error("a second connection was made")
		}
		p.settings(http2Setting{settingStreamsMax, streams})
		var waiting []uint32
		for done := 0; done < callers; {
			for len(waiting) < min(streams, callers-done) {
				stream, ok := p.request()
				if !ok {
					return
				}
				waiting = append(waiting, stream)
				most.Store(max(most.Load(), open.Add(1)))
			}
			for _, stream := range waiting {
				open.Add(-1)
				done++
				p.answer(stream, "x")
			}
			waiting = waiting[:0]
		}
		p.drain()
	})
	// The first call brings the limit.
	ready := make(chan struct{})
	go func() {
		defer close(ready)
		waitForHTTP2(t, c, func(conn *http2ClientConn) bool { return conn.greeted && conn.active == 1 })
	}()
	var all sync.WaitGroup
	get := func() {
		resp, err := c.Get(soon(t), url)
		if err != nil {
			t.Error(err)
			return
		}
		resp.Body.Close()
	}
	all.Go(get)
	<-ready
	for range callers - 1 {
		all.Go(get)
	}
	all.Wait()
	if most.Load() > streams {
		t.Errorf("%d streams at once, the server takes %d", most.Load(), streams)
	}
}

// waitForHTTP2 waits until the client's connection is in a state.
func waitForHTTP2(t testing.TB, c *Client, is func(conn *http2ClientConn) bool) {
	t.Helper()
	for end := time.Now().Add(20 * time.Second); time.Now().Before(end); time.Sleep(time.Millisecond) {
		c.http2.mu.Lock()
		var conn *http2ClientConn
		for _, r := range c.http2.routes {
			conn = r.conn
		}
		c.http2.mu.Unlock()
		if conn == nil {
			continue
		}
		conn.mu.Lock()
		ok := is(conn)
		conn.mu.Unlock()
		if ok {
			return
		}
	}
	t.Error("the connection never came into that state")
}

func TestHTTP2ClientWaitingCallEnds(t *testing.T) {
	t.Parallel()
	c, url := hostileHTTP2(t, func(p *http2Answerer, n int) {
		p.settings(http2Setting{settingStreamsMax, 1})
		first, _ := p.request()
		second, ok := p.request() // once the first is reset
		if !ok || p.reset[first] != codeCancel {
			t.Errorf("the first stream was reset: %v", p.reset)
		}
		p.answer(second, "x")
		p.drain()
	})
	first, cancelFirst := context.WithCancel(soon(t))
	ended := make(chan error, 1)
	go func() {
		_, err := c.Get(first, url)
		ended <- err
	}()
	waitForHTTP2(t, c, func(conn *http2ClientConn) bool { return conn.greeted && conn.active == 1 })
	waits, cancel := context.WithTimeout(soon(t), 20*time.Millisecond)
	defer cancel()
	_, err := c.Get(waits, url)
	wantClientError(t, err, PhaseRequest, ErrTimeout)
	cancelFirst()
	if err := <-ended; !errors.Is(err, context.Canceled) {
		t.Errorf("the cancelled call: %v", err)
	}
	resp, err := c.Get(soon(t), url)
	if err != nil {
		t.Fatal(err)
	}
	resp.Body.Close()
}

// What a server has not looked at is sent again, whatever the method: on the same
// connection after REFUSED_STREAM, on another one after GOAWAY. What it may have
// looked at is not.
func TestHTTP2ClientUnprocessed(t *testing.T) {
	for _, test := range []struct {
		name     string
		act      func(p *http2Answerer, stream uint32)
		attempts int32
		kind     error
	}{
		{"refused", func(p *http2Answerer, s uint32) { p.send(appendRSTStream(nil, s, codeRefusedStream)) }, 2, nil},
		{"GOAWAY below", func(p *http2Answerer, s uint32) { p.send(appendGoAway(nil, s-1, codeNone)) }, 2, nil},
		{"GOAWAY below, with a reason", func(p *http2Answerer, s uint32) { p.send(appendGoAway(nil, s-1, codeEnhanceYourCalm)) }, 2, nil},
		{"GOAWAY twice", func(p *http2Answerer, s uint32) {
			p.send(appendGoAway(appendGoAway(nil, streamMax, codeNone), s-1, codeNone))
		}, 2, nil},
		{"GOAWAY that goes up again", func(p *http2Answerer, s uint32) {
			p.send(appendGoAway(appendGoAway(nil, s-1, codeNone), streamMax, codeNone))
		}, 2, nil},
		{"GOAWAY above, answered", func(p *http2Answerer, s uint32) {
			p.send(appendGoAway(nil, s, codeNone))
			p.answer(s, "fine")
		}, 1, nil},
		{"GOAWAY above, and the end", func(p *http2Answerer, s uint32) {
			p.send(appendGoAway(nil, s, codeNone))
			p.nc.(*net.TCPConn).CloseWrite() // Close resets if something has come since
		}, 1, ErrUnexpectedEOF},
		{"refused behind a head", func(p *http2Answerer, s uint32) {
			p.send(appendRSTStream(p.headers(nil, s, false, [2]string{":status", "103"}), s, codeRefusedStream))
		}, 1, ErrReset},
		{"cancelled", func(p *http2Answerer, s uint32) { p.send(appendRSTStream(nil, s, codeCancel)) }, 1, ErrReset},
	} {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			var attempts atomic.Int32
			c, url := hostileHTTP2(t, func(p *http2Answerer, n int) {
				p.settings()
				for {
					stream, ok := p.request()
					if !ok {
						return
					}
					for !p.ended[stream] {
						if _, _, ok := p.next(); !ok {
							return
						}
					}
					if attempts.Add(1) == 1 {
						test.act(p, stream)
					} else if p.data[stream] != 100_000 && p.data[stream] != 4 {
						t.Errorf("a body of %d octets", p.data[stream])
					} else {
						p.answer(stream, "fine")
					}
				}
			})
			resp, err := c.Do(soon(t), &ClientRequest{Method: "POST", URL: url, Body: strings.NewReader("body")})
			switch {
			case test.kind != nil:
				wantClientError(t, err, PhaseHead, test.kind)
			case err != nil:
				t.Error(err)
			default:
				if text, err := resp.Text(); err != nil || text != "fine" {
					t.Errorf("%q, %v", text, err)
				}
			}
			if n := attempts.Load(); n != test.attempts {
				t.Errorf("%d attempts, want %d", n, test.attempts)
			}
		})
	}
}

// A server that refuses again and again is asked again until the context ends, at
// times further and further apart.
func TestHTTP2ClientRefusedForEver(t *testing.T) {
	t.Parallel()
	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()
	var attempts atomic.Int32
	c, url := hostileHTTP2(t, func(p *http2Answerer, n int) {
		p.settings()
		for {
			stream, ok := p.request()
			if !ok {
				return
			}
			if attempts.Add(1) == 6 {
				cancel()
			}
			p.send(appendRSTStream(nil, stream, codeRefusedStream))
		}
	})
	begun := time.Now()
	if _, err := c.Get(ctx, url); !errors.Is(err, context.Canceled) {
		t.Error(err)
	}
	if took := time.Since(begun); took < (1+2+4+8)*resendDelayFirst/2 {
		t.Errorf("6 attempts in %v", took)
	}
	var err error
	for limit := 200 * time.Millisecond; limit < patience; limit *= 2 { // one attempt may take all of it on a busy machine
		limited := &Client{Protocols: c.Protocols, ResponseTimeout: limit}
		_, err = limited.Get(context.Background(), url)
		limited.CloseIdleConnections()
		if errors.Is(err, ErrReset) {
			break
		}
	}
	wantClientError(t, err, PhaseHead, ErrReset)
}

// HTTP_1_1_REQUIRED is obeyed: the request goes over HTTP/1.1 (RFC 9113 §7).
func TestHTTP2ClientHTTP1Required(t *testing.T) {
	t.Parallel()
	srv := httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		io.WriteString(w, r.Proto)
	}))
	srv.EnableHTTP2 = true
	srv.Config.TLSNextProto = map[string]func(*http.Server, *tls.Conn, http.Handler){
		protoHTTP2: func(_ *http.Server, nc *tls.Conn, _ http.Handler) {
			p := newHTTP2Answerer(t, nc)
			p.br.Discard(len(http2Preface))
			p.settings()
			if stream, ok := p.request(); ok {
				p.send(appendRSTStream(nil, stream, codeHTTP11Required))
				p.drain()
			}
		},
	}
	srv.StartTLS()
	defer srv.Close()
	c := &Client{TLSConfig: &tls.Config{RootCAs: srv.Client().Transport.(*http.Transport).TLSClientConfig.RootCAs}}
	defer c.CloseIdleConnections()
	resp, err := c.Post(soon(t), srv.URL, []byte("body"))
	if err != nil {
		t.Fatal(err)
	}
	if text, err := resp.Text(); err != nil || text != "HTTP/1.1" {
		t.Errorf("%q, %v", text, err)
	}
}

// A connection with calls that is silent is asked for a sign of life, and given up
// without one.
func TestHTTP2ClientSilence(t *testing.T) {
	for _, alive := range []bool{true, false} {
		t.Run(map[bool]string{true: "answers", false: "dead"}[alive], func(t *testing.T) {
			t.Parallel()
			c, url := hostileHTTP2(t, func(p *http2Answerer, n int) {
				p.settings()
				stream, _ := p.request()
				if !alive {
					io.Copy(io.Discard, p.br)
					return
				}
				for pings := 0; pings < 3; {
					h, _, ok := p.next()
					if !ok {
						t.Error("the connection was given up")
						return
					}
					if h.kind == framePing {
						pings++
					}
				}
				p.answer(stream, "fine")
				p.drain()
			})
			c.HTTP2 = &http.HTTP2Config{SendPingTimeout: 30 * time.Millisecond, PingTimeout: 500 * time.Millisecond}
			resp, err := c.Get(soon(t), url)
			if alive {
				if err != nil {
					t.Fatal(err)
				}
				resp.Body.Close()
				return
			}
			wantClientError(t, err, PhaseHead, ErrTimeout)
			if !errors.Is(err, errHTTP2Silent) {
				t.Error(err)
			}
		})
	}
}

// The silence of a server ends a call that is still sending, at once.
func TestHTTP2ClientSilentUpload(t *testing.T) {
	t.Parallel()
	c, url := hostileHTTP2(t, func(p *http2Answerer, n int) {
		p.settings()
		p.request()
		io.Copy(io.Discard, p.br)
	})
	c.HTTP2 = &http.HTTP2Config{SendPingTimeout: 30 * time.Millisecond, PingTimeout: 100 * time.Millisecond}
	begun := time.Now()
	_, err := c.Post(soon(t), url, make([]byte, 1<<20))
	if took := time.Since(begun); !errors.Is(err, ErrTimeout) || took > patience/3 { // of the sending or of the head
		t.Errorf("after %v: %v", took, err)
	}
}

// A server that takes an upload slowly is alive, though the PING that asks it stands
// behind what it has yet to take.
func TestHTTP2ClientPingBehindUpload(t *testing.T) {
	t.Parallel()
	const size = 8 << 20
	c, url := hostileHTTP2(t, func(p *http2Answerer, n int) {
		p.nc.(*net.TCPConn).SetReadBuffer(128 << 10) // what is there is taken, as far as the client can see
		p.settings(http2Setting{settingWindow, streamMax})
		p.send(appendWindowUpdate(nil, 0, streamMax-windowDefault))
		stream, ok := p.request()
		for ok && !p.ended[stream] {
			_, _, ok = p.next()
			time.Sleep(8 * time.Millisecond) // the pace of the server: a frame of 16 KiB
		}
		p.answer(stream, "fine")
		p.drain()
	})
	c.HTTP2 = &http.HTTP2Config{SendPingTimeout: 50 * time.Millisecond, PingTimeout: time.Second}
	resp, err := c.Post(soon(t), url, make([]byte, size))
	clientWantText(t, resp, err, 200, "fine")
}

// Connections without streams end after IdleTimeout, and at once where none are to
// rest.
func TestHTTP2ClientIdle(t *testing.T) {
	for name, set := range map[string]func(c *Client){
		"IdleTimeout": func(c *Client) { c.IdleTimeout = 20 * time.Millisecond },
		"none":        func(c *Client) { c.MaxIdleConns = -1 },
		"Close":       func(c *Client) {},
		"told":        func(c *Client) {},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			ended := make(chan struct{})
			c, url := hostileHTTP2(t, func(p *http2Answerer, n int) {
				p.serveAll("x")
				close(ended)
			})
			set(c)
			resp, err := c.Do(soon(t), &ClientRequest{URL: url, Close: name == "Close"})
			if err != nil {
				t.Fatal(err)
			}
			resp.Body.Close()
			if name == "told" {
				c.CloseIdleConnections()
			}
			<-ended
		})
	}
}

// SETTINGS that shrink windows below zero stop a body; it goes on when they are
// open again (RFC 9113 §6.9.2).
func TestHTTP2ClientWindowShrinks(t *testing.T) {
	t.Parallel()
	const size = 200_000
	c, url := hostileHTTP2(t, func(p *http2Answerer, n int) {
		p.settings()
		stream, _ := p.request()
		for p.data[stream] < 10_000 {
			p.next()
		}
		p.settings(http2Setting{settingWindow, 0})
		p.send(appendWindowUpdate(nil, 0, size))
		for p.data[stream] < windowDefault { // what may still be under way
			if _, _, ok := p.next(); !ok {
				t.Error("the connection ended")
				return
			}
		}
		if p.data[stream] > windowDefault {
			t.Errorf("%d octets in a window of %d", p.data[stream], windowDefault)
		}
		p.send(appendWindowUpdate(nil, stream, 10))
		p.send(appendHTTP2Ping(nil, [pingBytes]byte{1}, false))
		for h, _, ok := p.next(); ok && !(h.kind == framePing && h.ack()); h, _, ok = p.next() {
		}
		p.settings(http2Setting{settingWindow, streamMax - size})
		for !p.ended[stream] {
			if _, _, ok := p.next(); !ok {
				return
			}
		}
		if p.data[stream] != size {
			t.Errorf("%d octets of %d", p.data[stream], size)
		}
		p.answer(stream, "fine")
		p.drain()
	})
	resp, err := c.Post(soon(t), url, []byte(strings.Repeat("x", size)))
	if err != nil {
		t.Fatal(err)
	}
	resp.Body.Close()
}

// A body for which the server opens no window ends with WriteTimeout, and so does
// nothing else.
func TestHTTP2ClientWindowNeverOpens(t *testing.T) {
	t.Parallel()
	c, url := hostileHTTP2(t, func(p *http2Answerer, n int) {
		p.settings(http2Setting{settingWindow, 0})
		stuck, _ := p.request()
		other, _ := p.request()
		p.answer(other, "fine")
		for p.reset[stuck] == codeNone {
			if _, _, ok := p.next(); !ok {
				t.Error("the connection ended")
				return
			}
		}
		p.serveAll("fine")
	})
	c.WriteTimeout = time.Second // long enough to be seen below
	ended := make(chan error, 1)
	go func() {
		_, err := c.Post(soon(t), url, []byte(strings.Repeat("x", 100_000)))
		ended <- err
	}()
	waitForHTTP2(t, c, func(conn *http2ClientConn) bool { return conn.active == 1 && conn.greeted })
	get := func() {
		resp, err := c.Get(soon(t), url)
		if err != nil {
			t.Fatal(err)
		}
		resp.Body.Close()
	}
	get()
	wantClientError(t, <-ended, PhaseWrite, ErrTimeout)
	get()
}

// A body that nobody reads holds up its own stream alone, in bounded memory.
func TestHTTP2ClientSlowReader(t *testing.T) {
	for _, kind := range http2Servers {
		t.Run(kind, func(t *testing.T) {
			t.Parallel()
			url, c := http2Std(t, kind, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
				if r.URL.Path == "/big" {
					for range 100 {
						w.Write(make([]byte, 64<<10))
					}
				}
			}))
			big, err := c.Get(soon(t), url+"/big")
			if err != nil {
				t.Fatal(err)
			}
			waitForHTTP2(t, c, func(conn *http2ClientConn) bool {
				for _, st := range conn.streams {
					if st.recv.n > http2StreamWindow {
						t.Errorf("%d octets wait", st.recv.n)
					}
					return st.recv.n == http2StreamWindow
				}
				return false
			})
			for range 10 {
				resp, err := c.Get(soon(t), url+"/small")
				if err != nil {
					t.Fatal(err)
				}
				resp.Body.Close()
			}
			n, err := io.Copy(io.Discard, big.Body)
			if err != nil || n != 100*64<<10 {
				t.Errorf("%d octets, %v", n, err)
			}
		})
	}
}

// A server behind TLS that speaks HTTP/1.1 alone gets HTTP/1.1, and so does a
// request that asks for an upgrade.
func TestHTTP2ClientVersions(t *testing.T) {
	protocols := func(set ...func(*http.Protocols, bool)) *http.Protocols {
		p := new(http.Protocols)
		for _, f := range set {
			f(p, true)
		}
		return p
	}
	http1, http2 := (*http.Protocols).SetHTTP1, (*http.Protocols).SetHTTP2
	for _, test := range []struct {
		name           string
		server, client *http.Protocols
		upgrade        bool
		want           string // "" is an error
	}{
		{"both", protocols(http1, http2), nil, false, "HTTP/2.0"},
		{"server of HTTP/1.1", protocols(http1), nil, false, "HTTP/1.1"},
		{"client of HTTP/1.1", protocols(http1, http2), protocols(http1), false, "HTTP/1.1"},
		{"client of HTTP/2", protocols(http1, http2), protocols(http2), false, "HTTP/2.0"},
		{"client of HTTP/2, server of HTTP/1.1", protocols(http1), protocols(http2), false, ""},
		{"upgrade", protocols(http1, http2), nil, true, "HTTP/1.1"},
	} {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			srv := newTLSProtocols(t, test.server)
			c := &Client{Protocols: test.client, TLSConfig: &tls.Config{RootCAs: srv.roots}}
			defer c.CloseIdleConnections()
			r := &ClientRequest{URL: srv.url}
			if test.upgrade {
				r.Header.Set("Upgrade", "other")
				r.Header.Set("Connection", "Upgrade")
			}
			for range 2 {
				resp, err := c.Do(soon(t), r)
				if test.want == "" {
					var e *ClientError
					if !errors.As(err, &e) || e.Phase != PhaseTLS {
						t.Errorf("error %v", err)
					}
					continue
				}
				if err != nil {
					t.Fatal(err)
				}
				resp.Body.Close()
				if resp.Proto() != test.want || resp.Header.Get("X-Proto") != test.want {
					t.Errorf("%s, the server saw %s; want %s", resp.Proto(), resp.Header.Get("X-Proto"), test.want)
				}
			}
		})
	}
}

// Many who call a server at once, of which it is not known what it speaks, make
// one connection.
func TestHTTP2ClientOneConnection(t *testing.T) {
	t.Parallel()
	srv := newTLSProtocols(t, nil)
	var dials atomic.Int32
	c := &Client{TLSConfig: &tls.Config{RootCAs: srv.roots}, Dial: func(ctx context.Context, network, addr string) (net.Conn, error) {
		dials.Add(1)
		return new(net.Dialer).DialContext(ctx, network, addr)
	}}
	defer c.CloseIdleConnections()
	var reused atomic.Int32
	ctx := httptrace.WithClientTrace(soon(t), &httptrace.ClientTrace{GotConn: func(info httptrace.GotConnInfo) {
		if info.Reused {
			reused.Add(1)
		}
	}})
	var all sync.WaitGroup
	for range 50 {
		all.Go(func() {
			resp, err := c.Get(ctx, srv.url)
			if err != nil {
				t.Error(err)
				return
			}
			resp.Body.Close()
		})
	}
	all.Wait()
	if dials.Load() != 1 {
		t.Errorf("%d connections", dials.Load())
	}
}
