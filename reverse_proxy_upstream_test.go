package flare

import (
	"bufio"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"sync/atomic"
	"testing"
	"time"
)

// TestReverseProxyForwarded is the table of what a server hears of who has asked.
func TestReverseProxyForwarded(t *testing.T) {
	t.Parallel()
	up := TestServer(t, &Server{Handler: HandlerFunc(func(w *ResponseWriter, r *Request) error {
		h := r.Header()
		return w.Text(200, fmt.Sprintf("%v%v%v%v%v", h.Values("X-Forwarded-For"), h.Values("X-Forwarded-Proto"), h.Values("X-Forwarded-Host"), h.Values("Forwarded"), h.Values("X-Real-Ip")))
	})})
	strict, trusting := startProxy(t, new(Server), up), startProxy(t, &Server{TrustedProxies: []string{"loopback"}}, up)
	for _, c := range []struct{ addr, fields, want string }{
		{strict, "", `[127.0.0.1][http][h][for=127.0.0.1;host="h";proto=http][]`},
		{strict, "X-Forwarded-For: 192.0.2.1\r\nX-Forwarded-Proto: https\r\nX-Forwarded-Host: x\r\nX-Real-IP: 192.0.2.1\r\nForwarded: for=192.0.2.1\r\nX_Forwarded_For: 192.0.2.1\r\n",
			`[127.0.0.1][http][h][for=127.0.0.1;host="h";proto=http][]`},
		{strict, "Connection: X-Forwarded-For, Forwarded, Via, Host\r\n", `[127.0.0.1][http][h][for=127.0.0.1;host="h";proto=http][]`},
		{trusting, "", `[127.0.0.1][http][h][for=127.0.0.1;host="h";proto=http][]`},
		{trusting, "X-Forwarded-For: 192.0.2.1\r\nX-Forwarded-Proto: https\r\nX-Forwarded-Host: x\r\nX-Real-IP: 192.0.2.1\r\n",
			`[192.0.2.1, 127.0.0.1][https][x][for=192.0.2.1;host="x";proto=https, for=127.0.0.1;host="x";proto=https][192.0.2.1]`},
		{trusting, "Forwarded: for=\"[2001:db8::1]:99\";proto=https;host=x\r\n",
			`[2001:db8::1, 127.0.0.1][https][x][for="[2001:db8::1]:99";proto=https;host=x, for=127.0.0.1;host="x";proto=https][]`},
		{trusting, "X-Forwarded-For: unknown\r\n", `[unknown, 127.0.0.1][http][h][for=unknown;host="h";proto=http, for=127.0.0.1;host="h";proto=http][]`},
	} {
		client := dialRaw(t, c.addr)
		client.send("GET / HTTP/1.1\r\nHost: h\r\n", c.fields, "\r\n")
		client.answer("GET").want(t, 200, c.want)
	}
}

// TestReverseProxyHostile is the table of what a server may do wrong, and what the client
// gets then. The proxy goes on in each case.
func TestReverseProxyHostile(t *testing.T) {
	t.Parallel()
	const ok = "HTTP/1.1 200 OK\r\n"
	for _, c := range []struct {
		name, answer string
		want         string // status, or "cut off"
		stays        bool   // the server does not end the connection
	}{
		{"nothing", "", "502", false},
		{"silence", "", "504", true},
		{"half a head", ok + "X: ", "502", false},
		{"half a head and silence", ok + "X: ", "504", true},
		{"another protocol", "220 mail ESMTP\r\n", "502", true},
		{"HTTP/2 at once", "\x00\x00\x00\x04\x00\x00\x00\x00\x00", "502", true},
		{"a status of two digits", "HTTP/1.1 20 OK\r\n\r\n", "502", true},
		{"a line break in a field", ok + "X: a\rSet-Cookie: b\r\n\r\n", "502", true},
		{"a field without a name", ok + ": x\r\n\r\n", "502", true},
		{"white space before a colon", ok + "X : a\r\nContent-Length: 2\r\n\r\nok", "502", true},
		{"a folded field", ok + "X: a\r\n b\r\nContent-Length: 2\r\n\r\nok", "200", true}, // the fold becomes a space (RFC 9112 §5.2)
		{"a head without end", ok + strings.Repeat("X-Fill: "+strings.Repeat("x", 1000)+"\r\n", 100), "502", true},
		{"too many fields", ok + strings.Repeat("X: x\r\n", 1000), "502", true},
		{"two lengths", ok + "Content-Length: 2\r\nContent-Length: 3\r\n\r\nabc", "502", true},
		{"a negative length", ok + "Content-Length: -1\r\n\r\n", "502", true},
		{"a length and chunks", ok + "Content-Length: 2\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n", "502", true},
		{"an unknown transfer coding", ok + "Transfer-Encoding: gzip\r\n\r\n", "502", true},
		{"1xx without end", strings.Repeat("HTTP/1.1 103 Early Hints\r\n\r\n", 50), "502", true},
		{"an upgrade that nobody asked for", "HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: x\r\n\r\n", "502", true},
		{"a chunk that is none", ok + "Transfer-Encoding: chunked\r\n\r\n2\r\nok\r\nXX\r\n", "cut off", true},
		{"a body that stops", ok + "Content-Length: 5\r\n\r\nhe", "cut off", true},
		{"a body that is short", ok + "Content-Length: 5\r\n\r\nhe", "cut off", false},
		{"a body that is long", ok + "Content-Length: 2\r\n\r\nokHTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nevil", "200", true},
		{"two answers", ok + "Content-Length: 2\r\n\r\nok" + ok + "Content-Length: 4\r\n\r\nevil", "200", false},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			done := make(chan struct{})
			up := clientAccept(t, func(conn net.Conn) {
				http.ReadRequest(bufio.NewReader(conn))
				io.WriteString(conn, c.answer)
				if c.stays {
					<-done
				}
			})
			defer close(done)
			client := proxyTestClient(t)
			client.ResponseTimeout, client.BodyTimeout = 300*time.Millisecond, 300*time.Millisecond
			s := new(Server)
			front := dialRaw(t, startProxyOf(t, s, &ReverseProxy{Upstreams: []string{up}, Client: client}))
			front.send("POST / HTTP/1.1\r\nHost: h\r\nContent-Length: 1\r\n\r\nx")
			a, err := readAnswer(front.br, "POST")
			for err == nil && a.StatusCode < 200 {
				a, err = readAnswer(front.br, "POST")
			}
			got := "cut off"
			if err == nil {
				got = fmt.Sprint(a.StatusCode)
			}
			if got != c.want || got == "200" && a.body != "ok" {
				t.Fatalf("%s %q, want %s", got, a.body, c.want)
			}
			if got != "cut off" && front.get("/").StatusCode == 0 {
				t.Error("the proxy's connection has ended")
			}
		})
	}
}

// A proxyCount is a server that counts what it is asked.
type proxyCount struct {
	url   string
	asked atomic.Int32
	serve atomic.Pointer[func(c net.Conn, method, path string)]
}

// newProxyCount starts one, whose connections are for one request each.
func newProxyCount(t testing.TB) *proxyCount {
	u := new(proxyCount)
	u.set(u.answers)
	u.url = clientAccept(t, func(c net.Conn) {
		req, err := http.ReadRequest(bufio.NewReader(c))
		if err == nil {
			io.Copy(io.Discard, req.Body)
			(*u.serve.Load())(c, req.Method, req.URL.Path)
		}
	})
	return u
}

func (u *proxyCount) set(serve func(c net.Conn, method, path string)) { u.serve.Store(&serve) }

func (u *proxyCount) answers(c net.Conn, method, path string) {
	if path != "/well" {
		u.asked.Add(1)
	}
	io.WriteString(c, "HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: 0\r\n\r\n")
}

// breaks ends the connection without an answer.
func (u *proxyCount) breaks(c net.Conn, method, path string) {
	if path != "/well" {
		u.asked.Add(1)
	}
}

func askProxy(t testing.TB, addr, method, body string) int {
	c := dialRaw(t, addr)
	defer c.Close()
	c.send(method, " /x HTTP/1.1\r\nHost: h\r\nConnection: close\r\nContent-Length: ", fmt.Sprint(len(body)), "\r\n\r\n", body)
	return c.answer(method).StatusCode
}

// deadURL is that of nobody.
func deadURL(t testing.TB) string {
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	ln.Close()
	return "http://" + ln.Addr().String()
}

// TestReverseProxyRetry is the table of requests that are sent to another server, and of
// those that must not be.
func TestReverseProxyRetry(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		method, body string
		dead         bool // nothing is sent; else the connection breaks behind the request
		want         int
	}{
		{"GET", "", true, 200},
		{"POST", "x", true, 200},
		{"GET", "", false, 200},
		{"PUT", "x", false, 200},
		{"DELETE", "", false, 200},
		{"POST", "x", false, 502},
		{"PATCH", "", false, 502},
		{"PUT", strings.Repeat("x", 1<<20), false, 502}, // it cannot be sent again
		{"POST", strings.Repeat("x", 1<<20), true, 200},
	} {
		bad, good := newProxyCount(t), newProxyCount(t)
		bad.set(bad.breaks)
		first := bad.url
		if c.dead {
			first = deadURL(t)
		}
		// By turns the second is asked first.
		addr := startProxyOf(t, new(Server), &ReverseProxy{Upstreams: []string{good.url, first}, Client: proxyTestClient(t)})
		if got := askProxy(t, addr, c.method, c.body); got != c.want {
			t.Errorf("%s of %d octets, dead %v: %d, want %d", c.method, len(c.body), c.dead, got, c.want)
		}
		if n := bad.asked.Load(); !c.dead && n != 1 {
			t.Errorf("%s: the server that breaks was asked %d times", c.method, n)
		}
	}
}

// TestReverseProxyBalance has servers take turns, and the one asked that is least busy.
func TestReverseProxyBalance(t *testing.T) {
	t.Parallel()
	a, b, c := newProxyCount(t), newProxyCount(t), newProxyCount(t)
	addr := startProxyOf(t, new(Server), &ReverseProxy{Upstreams: []string{a.url, b.url, c.url}, Client: proxyTestClient(t)})
	for range 30 {
		askProxy(t, addr, "GET", "")
	}
	if a.asked.Load() != 10 || b.asked.Load() != 10 || c.asked.Load() != 10 {
		t.Errorf("turns: %d %d %d", a.asked.Load(), b.asked.Load(), c.asked.Load())
	}
	busy, idle, held := newProxyCount(t), newProxyCount(t), make(chan struct{})
	defer close(held)
	busy.set(func(c net.Conn, method, path string) { busy.asked.Add(1); <-held })
	p := &ReverseProxy{Upstreams: []string{idle.url, busy.url}, Client: proxyTestClient(t), LeastConns: true}
	addr = startProxyOf(t, new(Server), p)
	waits := dialRaw(t, addr)
	waits.send("GET / HTTP/1.1\r\nHost: h\r\n\r\n")
	eventually(t, "the busy one is asked", func() bool { return busy.asked.Load() == 1 })
	for range 10 {
		askProxy(t, addr, "GET", "")
		eventually(t, "the request before is over", func() bool { return p.upstreams.list[0].active.Load() == 0 })
	}
	if busy.asked.Load() != 1 || idle.asked.Load() != 10 {
		t.Errorf("least: %d %d", busy.asked.Load(), idle.asked.Load())
	}
}

// TestReverseProxyPassiveHealth leaves a server out that fails, for a while, unless there
// is no other.
func TestReverseProxyPassiveHealth(t *testing.T) {
	t.Parallel()
	bad, good := newProxyCount(t), newProxyCount(t)
	bad.set(bad.breaks)
	p := &ReverseProxy{Upstreams: []string{bad.url, good.url}, Client: proxyTestClient(t), FailTimeout: time.Hour}
	addr := startProxyOf(t, new(Server), p)
	for range 20 {
		if got := askProxy(t, addr, "GET", ""); got != 200 {
			t.Fatal(got)
		}
	}
	if n := bad.asked.Load(); n != proxyFailuresMax {
		t.Errorf("the server that fails was asked %d times", n)
	}
	good.set(good.breaks)
	for range 5 {
		if got := askProxy(t, addr, "GET", ""); got != 502 {
			t.Error(got)
		}
	}
	if err := p.Check(t.Context()); err == nil {
		t.Error("Check finds a server that is well")
	}
	good.set(good.answers)
	if got := askProxy(t, addr, "GET", ""); got != 200 { // both are out, and better than none
		t.Error(got)
	}
}

// TestReverseProxyActiveHealth asks servers how they are, and none for anything that is
// not well.
func TestReverseProxyActiveHealth(t *testing.T) {
	t.Parallel()
	a := newProxyCount(t)
	p := &ReverseProxy{Upstreams: []string{a.url}, Client: proxyTestClient(t), HealthPath: "/well", HealthInterval: 5 * time.Millisecond}
	s := new(Server)
	addr := startProxyOf(t, s, p)
	if got := askProxy(t, addr, "GET", ""); got != 200 {
		t.Fatal(got)
	}
	a.set(func(c net.Conn, method, path string) {
		io.WriteString(c, "HTTP/1.1 500 Internal Server Error\r\nContent-Length: 0\r\n\r\n")
	})
	eventually(t, "it is found to be ill", func() bool { return p.Check(t.Context()) != nil })
	if got := askProxy(t, addr, "GET", ""); got != 503 {
		t.Error(got)
	}
	a.set(a.answers)
	eventually(t, "it is found to be well", func() bool { return p.Check(t.Context()) == nil })
	if got := askProxy(t, addr, "GET", ""); got != 200 {
		t.Error(got)
	}
	s.Close()
	eventually(t, "nobody asks any more", func() bool { return !p.upstreams.probing.Load() })
}

// TestReverseProxyLeavesNothing has no connection of a ReverseProxy's own Client stay when
// its Server has ended.
func TestReverseProxyLeavesNothing(t *testing.T) {
	t.Parallel()
	behind := &Server{Handler: HandlerFunc(func(w *ResponseWriter, r *Request) error { return w.Text(200, "ok") })}
	p := &ReverseProxy{Upstreams: []string{TestServer(t, behind)}}
	for _, end := range []func(s *Server) error{(*Server).Close, func(s *Server) error { return s.Shutdown(soon(t)) }} {
		s := new(Server) // one after the other: it goes on with the next
		if got := askProxy(t, startProxyOf(t, s, p), "GET", ""); got != 200 {
			t.Fatal(got)
		}
		if behind.conns.Load() == 0 {
			t.Fatal("no connection rests")
		}
		if err := end(s); err != nil {
			t.Error(err)
		}
		gone(t, behind)
	}
}

// TestReverseProxyRefusals is the table of requests that are answered here.
func TestReverseProxyRefusals(t *testing.T) {
	t.Parallel()
	up := newProxyCount(t)
	p := &ReverseProxy{Upstreams: []string{up.url}, Client: proxyTestClient(t)}
	s := &Server{MaxBodyBytes: 100_000}
	addr := startProxyOf(t, s, p)
	askProxy(t, addr, "GET", "")
	for _, c := range []struct {
		request string
		want    int
	}{
		{"GET /a/../b HTTP/1.1\r\nHost: h\r\n\r\n", 400},
		{"GET /a/%2e%2E/b HTTP/1.1\r\nHost: h\r\n\r\n", 400},
		{"GET /a%2f..%2fb HTTP/1.1\r\nHost: h\r\n\r\n", 400},
		{"GET /. HTTP/1.1\r\nHost: h\r\n\r\n", 400},
		{"GET /...well HTTP/1.1\r\nHost: h\r\n\r\n", 200},
		{"CONNECT h:80 HTTP/1.1\r\nHost: h:80\r\n\r\n", 501},
		{"OPTIONS * HTTP/1.1\r\nHost: h\r\n\r\n", 200},
		{"GET / HTTP/1.1\r\nHost: h\r\nVia: 1.1 x, 1.1 " + p.name + "\r\n\r\n", 508},
		{"PUT / HTTP/1.1\r\nHost: h\r\nContent-Length: 100001\r\n\r\n", 413},
		{"POST / HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked\r\n\r\n186A1\r\n" + strings.Repeat("x", 100_001) + "\r\n0\r\n\r\n", 413},
		{"POST / HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked\r\n\r\nXX\r\n", 400},
	} {
		client := dialRaw(t, addr)
		client.send(c.request)
		if got := client.answer("GET").StatusCode; got != c.want {
			t.Errorf("%q: %d, want %d", c.request[:min(len(c.request), 60)], got, c.want)
		}
	}
}

// TestReverseProxyHooks has Rewrite and ModifyResponse change both, middleware's fields
// stay, and a circle end.
func TestReverseProxyHooks(t *testing.T) {
	t.Parallel()
	up := TestServer(t, &Server{Handler: HandlerFunc(func(w *ResponseWriter, r *Request) error {
		w.Header().Set("X-Content-Type-Options", "theirs")
		w.Header().Set("X-Gone", "x")
		return w.Text(200, r.Target()+" "+r.Host()+" "+r.Header().Get("X-Own"))
	})})
	mux := NewMux()
	mux.Use(new(SecurityFields).Wrap)
	mux.Mount("/api", &ReverseProxy{
		Upstreams: []string{up + "/base/"}, Client: proxyTestClient(t),
		Rewrite: func(in *Request, out *ClientRequest) error {
			if in.Query().Has("no") {
				return &StatusError{Code: 403}
			}
			out.URL = strings.TrimPrefix(out.URL, "/api")
			out.Header.Set("X-Own", "own")
			out.Header.Set("Host", "inner")
			return nil
		},
		ModifyResponse: func(resp *ClientResponse) error {
			resp.Header.Del("X-Gone")
			return nil
		},
	})
	s := &Server{Handler: mux, Logger: quietLogger()}
	url := TestServer(t, s)
	mux.Mount("/circle", &ReverseProxy{Upstreams: []string{url}, Client: proxyTestClient(t)})
	c := dialRaw(t, strings.TrimPrefix(url, "http://"))
	a := c.get("/api/x%2Fy?z=1")
	a.want(t, 200, "/base/x%2Fy?z=1 inner own")
	if a.Header.Get("X-Gone") != "" || fmt.Sprint(a.Header["X-Content-Type-Options"]) != "[nosniff]" {
		t.Error(a.Header)
	}
	if got := c.get("/api/?no").StatusCode; got != 403 {
		t.Error(got)
	}
	if got := c.get("/circle").StatusCode; got != 508 {
		t.Error(got)
	}
}
