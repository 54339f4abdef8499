package flare

import (
	"bufio"
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"maps"
	"net"
	"net/http"
	"net/http/cookiejar"
	"net/http/httptest"
	"net/http/httptrace"
	"net/textproto"
	"net/url"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"
)

func TestTransport(t *testing.T) {
	ts := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		switch r.URL.Path {
		case "/login":
			http.SetCookie(w, &http.Cookie{Name: "a", Value: "1", Path: "/"})
			http.Redirect(w, r, "/home", http.StatusFound)
		case "/home":
			io.WriteString(w, r.Header.Get("Cookie")+" "+r.Header.Get("User-Agent"))
		case "/gzip":
			if r.Header.Get("Accept-Encoding") != "gzip, deflate" {
				w.WriteHeader(400)
			}
			w.Header().Set("Content-Encoding", "gzip")
			w.Write(clientGzip(t, "plain"))
		case "/trailer":
			w.Header().Set("Trailer", "X-Sum")
			io.Copy(w, r.Body)
			w.Header().Set("X-Sum", r.Trailer.Get("X-Given"))
		case "/wait":
			<-r.Context().Done()
		default:
			clientEcho(w, r)
		}
	}))
	defer ts.Close()
	jar, _ := cookiejar.New(nil)
	c := &http.Client{Transport: (&Client{}).Transport(), Jar: jar}
	defer c.CloseIdleConnections()
	get := func(path string) (*http.Response, string) {
		t.Helper()
		resp, err := c.Get(ts.URL + path)
		if err != nil {
			t.Fatal(err)
		}
		defer resp.Body.Close()
		body, err := io.ReadAll(resp.Body)
		if err != nil {
			t.Fatal(err)
		}
		return resp, string(body)
	}
	if resp, body := get("/login"); body != "a=1 flare" || resp.Request.URL.Path != "/home" {
		t.Errorf("cookies and redirects: %q at %s", body, resp.Request.URL)
	}
	if resp, body := get("/gzip"); body != "plain" || !resp.Uncompressed || resp.ContentLength != -1 {
		t.Errorf("gzip: %q %v %d", body, resp.Uncompressed, resp.ContentLength)
	}
	resp, err := c.Post(ts.URL+"/", "text/x", strings.NewReader("abc"))
	if err != nil {
		t.Fatal(err)
	}
	body, _ := io.ReadAll(resp.Body)
	if resp.Body.Close(); string(body) != "abc" || resp.Header.Get("X-Type") != "text/x" || resp.Status != "200 OK" {
		t.Errorf("POST: %q %v", body, resp)
	}

	req, _ := http.NewRequest("POST", ts.URL+"/trailer", io.MultiReader(strings.NewReader("abc")))
	req.Trailer = http.Header{"X-Given": nil}
	req.Header.Set("Trailer", "X-Given")
	req.Body = struct {
		io.Reader
		io.Closer
	}{io.MultiReader(req.Body, clientReadFunc(func([]byte) (int, error) {
		req.Trailer.Set("X-Given", "42")
		return 0, io.EOF
	})), req.Body}
	if resp, err = c.Do(req); err != nil {
		t.Fatal(err)
	}
	if _, announced := resp.Trailer["X-Sum"]; !announced {
		t.Errorf("trailer names %v", resp.Trailer)
	}
	body, _ = io.ReadAll(resp.Body)
	if resp.Body.Close(); string(body) != "abc" || resp.Trailer.Get("X-Sum") != "42" {
		t.Errorf("trailers: %q %v", body, resp.Trailer)
	}

	quick := &http.Client{Transport: c.Transport, Timeout: 50 * time.Millisecond}
	var timeout net.Error
	if _, err := quick.Get(ts.URL + "/wait"); !errors.As(err, &timeout) || !timeout.Timeout() {
		t.Errorf("Timeout: %v", err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	time.AfterFunc(50*time.Millisecond, cancel)
	req, _ = http.NewRequestWithContext(ctx, "GET", ts.URL+"/wait", nil)
	if _, err := c.Do(req); !errors.Is(err, context.Canceled) {
		t.Errorf("cancellation: %v", err)
	}
	if _, err := c.Get("http://127.1/"); !errors.Is(err, ErrInvalidURL) {
		t.Errorf("invalid URL: %v", err)
	}
}

func TestTransportTrace(t *testing.T) {
	ts := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Link", "</x>")
		w.WriteHeader(http.StatusEarlyHints)
		w.Write(nil)
	}))
	defer ts.Close()
	c := &http.Client{Transport: (&Client{}).Transport()}
	defer c.CloseIdleConnections()
	for _, reused := range []bool{false, true} {
		var events []string
		note := func(s string) { events = append(events, s) }
		trace := &httptrace.ClientTrace{
			GetConn:      func(string) { note("get") },
			ConnectStart: func(_, _ string) { note("connect") },
			ConnectDone:  func(_, _ string, _ error) { note("connected") },
			GotConn:      func(i httptrace.GotConnInfo) { note(map[bool]string{false: "new", true: "reused"}[i.Reused]) },
			WroteHeaders: func() { note("headers") },
			WroteRequest: func(i httptrace.WroteRequestInfo) { note("wrote") },
			Got1xxResponse: func(_ int, h textproto.MIMEHeader) error {
				note(h.Get("Link"))
				return nil
			},
			GotFirstResponseByte: func() { note("first") },
			PutIdleConn:          func(err error) { note("put") },
		}
		req, _ := http.NewRequestWithContext(httptrace.WithClientTrace(context.Background(), trace), "GET", ts.URL, nil)
		resp, err := c.Do(req)
		if err != nil {
			t.Fatal(err)
		}
		resp.Body.Close()
		want := []string{"get", "connect", "connected", "new", "headers", "wrote", "</x>", "first", "put"}
		if reused {
			want = []string{"get", "reused", "headers", "wrote", "</x>", "first", "put"}
		}
		if !slices.Equal(events, want) {
			t.Errorf("events %v, want %v", events, want)
		}
	}
}

// What a trace hears of a name, a handshake and an Expect.
func TestTransportTraceTLS(t *testing.T) {
	ours := newTLSAuthority(t, "ours")
	url := tlsServer(t, &tls.Config{Certificates: []tls.Certificate{ours.leaf("localhost", time.Now().Add(-time.Minute))}})
	c := &http.Client{Transport: (&Client{TLSConfig: tlsTrusting(ours.cert), ContinueTimeout: patience, Resolver: net.DefaultResolver}).Transport()}
	defer c.CloseIdleConnections()
	var mu sync.Mutex // both look-ups are told of at the same time
	heard := make(map[string]int)
	note := func(s string) { mu.Lock(); heard[s]++; mu.Unlock() }
	trace := &httptrace.ClientTrace{
		DNSStart:          func(i httptrace.DNSStartInfo) { note("look up " + i.Host) },
		DNSDone:           func(i httptrace.DNSDoneInfo) { note("looked up") },
		TLSHandshakeStart: func() { note("handshake") },
		TLSHandshakeDone: func(s tls.ConnectionState, err error) {
			if err == nil && s.ServerName == "localhost" {
				note("shaken")
			}
		},
		Wait100Continue: func() { note("wait") },
		Got100Continue:  func() { note("continue") },
		WroteRequest:    func(i httptrace.WroteRequestInfo) { note("wrote") },
	}
	_, port, _ := net.SplitHostPort(strings.TrimPrefix(url, "https://"))
	for reused := range 2 {
		req, err := http.NewRequestWithContext(httptrace.WithClientTrace(clientContext(t), trace), "POST", "https://localhost:"+port, strings.NewReader("abc"))
		if err != nil {
			t.Fatal(err)
		}
		req.Header.Set("Expect", "100-continue")
		if reused == 1 {
			req.Body = io.NopCloser(io.MultiReader(strings.NewReader("abc"))) // sent beside
		}
		resp, err := c.Do(req)
		if err != nil {
			t.Fatal(err)
		}
		body, err := io.ReadAll(resp.Body)
		if resp.Body.Close(); err != nil || string(body) != "abc" {
			t.Errorf("%q, %v", body, err)
		}
	}
	mu.Lock()
	defer mu.Unlock()
	for event, n := range map[string]int{"handshake": 1, "shaken": 1, "wait": 2, "continue": 2, "wrote": 2} {
		if heard[event] != n {
			t.Errorf("%s: %d times, want %d", event, heard[event], n)
		}
	}
	if heard["look up localhost"] == 0 || heard["looked up"] != heard["look up localhost"] {
		t.Errorf("look-ups: %v", heard)
	}
}

// A body that is asked for once more has its trailer once, and every body is
// closed, also one of which nothing is read because the answer comes before.
func TestTransportBodies(t *testing.T) {
	var conns, open atomic.Int32
	url := clientRawServer(t, func(c net.Conn) {
		first := conns.Add(1) == 1
		if first {
			io.WriteString(c, "HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n")
		}
		if !clientReadTo(c, "0\r\nX-Sum: 42\r\n\r\n") || first {
			return // without an answer: the client, whose connection rested, tries once more
		}
		io.WriteString(c, "HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n")
	})
	refuses := clientRawServer(t, func(c net.Conn) {
		io.WriteString(c, "HTTP/1.1 417 Expectation Failed\r\nContent-Length: 0\r\n\r\n")
	})
	getBody := func() (io.ReadCloser, error) {
		open.Add(1)
		return struct {
			io.Reader
			io.Closer
		}{io.MultiReader(strings.NewReader("abc")), clientCloseFunc(sync.OnceFunc(func() { open.Add(-1) }))}, nil
	}
	c := clientOf(t, &Client{ContinueTimeout: patience})
	if _, err := clientFetch(t, c, url); err != nil {
		t.Fatal(err)
	}
	for _, tt := range []struct {
		url, expect string
		status      int
	}{{url, "", 200}, {refuses, "100-continue", 417}} {
		body, _ := getBody()
		req, err := http.NewRequestWithContext(clientContext(t), "PUT", tt.url, body)
		if err != nil {
			t.Fatal(err)
		}
		req.GetBody, req.Trailer = getBody, http.Header{"X-Sum": {"42"}}
		if tt.expect != "" {
			req.Header.Set("Expect", tt.expect)
		}
		resp, err := c.Transport().RoundTrip(req)
		if err != nil || resp.StatusCode != tt.status {
			t.Fatalf("%v, %v", resp, err)
		}
		resp.Body.Close()
		eventually(t, "all bodies are closed", func() bool { return open.Load() == 0 })
		x, err := transportCall(req)
		if err != nil {
			t.Fatal(err)
		}
		for range 2 {
			again, err := x.req.GetBody()
			if err == nil {
				_, err = io.ReadAll(again)
			}
			var trailer Header
			x.req.Trailer(&trailer)
			if err != nil || headerText(&trailer) != "X-Sum: 42\r\n" {
				t.Errorf("trailer %q, %v", headerText(&trailer), err)
			}
		}
		open.Store(0)
	}
	if conns.Load() != 2 {
		t.Errorf("%d connections", conns.Load())
	}
}

type clientCloseFunc func()

func (f clientCloseFunc) Close() error {
	f()
	return nil
}

// A trailer is there once, however often a reader looks for the end.
func TestTransportTrailerOnce(t *testing.T) {
	url := clientRawServer(t, func(c net.Conn) {
		io.WriteString(c, "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\nTrailer: X-Sum\r\n\r\n3\r\nabc\r\n0\r\nX-Sum: 42\r\n\r\n")
	})
	c := clientOf(t, &Client{})
	resp, err := (&http.Client{Transport: c.Transport()}).Get(url)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	for range 3 {
		if _, err := io.ReadAll(resp.Body); err != nil {
			t.Fatal(err)
		}
	}
	if got := resp.Trailer.Values("X-Sum"); len(got) != 1 || got[0] != "42" {
		t.Errorf("trailer %q", got)
	}
}

// Host is what Request.Host says, and the names of a trailer are announced, as
// net/http has both.
func TestTransportHead(t *testing.T) {
	heads := make(chan string, 1)
	url := clientAccept(t, func(c net.Conn) {
		req, err := http.ReadRequest(bufio.NewReader(c))
		if err != nil {
			return
		}
		heads <- req.Host + " " + strings.Join(slices.Sorted(maps.Keys(req.Trailer)), " ")
		io.WriteString(c, "HTTP/1.1 200 OK\r\nContent-Length: 0\r\nConnection: close\r\n\r\n")
	})
	c := &http.Client{Transport: clientOf(t, &Client{}).Transport()}
	req, _ := http.NewRequest("POST", url, io.MultiReader(strings.NewReader("abc")))
	req.Host = "a.test"
	req.Header.Set("Host", "b.test")
	req.Trailer = http.Header{"X-B": {"1"}, "X-A": {"2"}}
	for _, host := range []string{"a.test", strings.TrimPrefix(url, "http://")} {
		resp, err := c.Do(req)
		if err != nil {
			t.Fatal(err)
		}
		resp.Body.Close()
		if got := <-heads; got != host+" X-A X-B" {
			t.Errorf("the server has seen %q", got)
		}
		req = req.Clone(req.Context())
		req.Host, req.Body = "", io.NopCloser(strings.NewReader("abc"))
	}
}

// Transport writes requests as net/http's does: the forms of a target, a Host of
// the user's behind a proxy, and an empty body of unknown length.
func TestTransportRequests(t *testing.T) {
	heads := make(chan string, 1)
	at := clientAccept(t, func(c net.Conn) {
		in := bufio.NewReader(c)
		req, err := http.ReadRequest(in)
		if err != nil {
			return
		}
		body, _ := io.ReadAll(req.Body)
		heads <- fmt.Sprintf("%s %s host=%s length=%d %q", req.Method, req.RequestURI, req.Host, req.ContentLength, body)
		io.WriteString(c, "HTTP/1.1 200 OK\r\nContent-Length: 0\r\nConnection: close\r\n\r\n")
	})
	addr, _ := url.Parse(at)
	unknown := func(s string) io.Reader { return io.MultiReader(strings.NewReader(s)) }
	for _, tt := range []struct {
		name, method string
		url          url.URL
		host         string
		body         io.Reader
		proxied      bool
		want         string // "": as net/http
	}{
		{name: "star", method: "OPTIONS", url: url.URL{Path: "*"}},
		{name: "star behind a proxy", method: "OPTIONS", url: url.URL{Path: "*"}, proxied: true,
			want: "OPTIONS http://" + addr.Host + " host=" + addr.Host + ` length=0 ""`}, // RFC 9112 §3.2.4; net/http's is no URL
		{name: "opaque", method: "GET", url: url.URL{Opaque: "/a%2Fb"}},
		{name: "opaque with a query", method: "GET", url: url.URL{Opaque: "/a", RawQuery: "b=c"}},
		{name: "opaque and a path", method: "GET", url: url.URL{Opaque: "/a", Path: "/b"}},
		{name: "opaque with a host", method: "GET", url: url.URL{Opaque: "//h.test/a%2Fb"}},
		{name: "opaque URL", method: "GET", url: url.URL{Opaque: "http://h.test/a"}},
		{name: "opaque with a host, behind a proxy", method: "GET", url: url.URL{Opaque: "//h.test/a"}, proxied: true},
		{name: "Host", method: "GET", url: url.URL{Path: "/a"}, host: "h.test"},
		{name: "Host behind a proxy", method: "GET", url: url.URL{Path: "/a"}, host: "h.test", proxied: true},
		{name: "empty GET", method: "GET", url: url.URL{Path: "/"}, body: unknown("")},
		{name: "empty DELETE", method: "DELETE", url: url.URL{Path: "/"}, body: unknown("")},
		{name: "empty POST", method: "POST", url: url.URL{Path: "/"}, body: unknown("")},
		{name: "GET with a body", method: "GET", url: url.URL{Path: "/"}, body: unknown("abc")},
		{name: "GET with an octet", method: "GET", url: url.URL{Path: "/"}, body: unknown("a")},
		{name: "no body at all", method: "GET", url: url.URL{Path: "/"}, body: http.NoBody},
	} {
		var proxy func(*http.Request) (*url.URL, error)
		c := clientOf(t, &Client{Proxy: func(*url.URL) (*url.URL, error) { return nil, nil }})
		if tt.proxied {
			proxy = http.ProxyURL(addr)
			c.Proxy = func(*url.URL) (*url.URL, error) { return addr, nil }
		}
		tt.url.Scheme, tt.url.Host = "http", addr.Host
		ask := func(via http.RoundTripper, body io.Reader) string {
			req := (&http.Request{Method: tt.method, URL: &tt.url, Host: tt.host, Header: http.Header{}}).WithContext(clientContext(t))
			if body != nil {
				req.Body = io.NopCloser(body)
			}
			resp, err := via.RoundTrip(req)
			if err != nil {
				t.Errorf("%s: %v", tt.name, err)
				return ""
			}
			resp.Body.Close()
			return <-heads
		}
		got := ask(c.Transport(), tt.body)
		if want := tt.want; want == "" {
			if tt.body != nil {
				b := map[string]string{"GET with a body": "abc", "GET with an octet": "a"}[tt.name]
				tt.body = unknown(b)
			}
			std := &http.Transport{Proxy: proxy, DisableKeepAlives: false}
			if want = ask(std, tt.body); got != want {
				t.Errorf("%s: %s, net/http: %s", tt.name, got, want)
			}
			std.CloseIdleConnections()
		} else if got != want {
			t.Errorf("%s: %s, want %s", tt.name, got, want)
		}
	}
	for _, opaque := range []string{"a", "mailto:x", "\r\nX: y"} {
		req := (&http.Request{Method: "GET", URL: &url.URL{Scheme: "http", Host: addr.Host, Opaque: opaque}}).WithContext(clientContext(t))
		if _, err := clientOf(t, &Client{}).Transport().RoundTrip(req); !errors.Is(err, ErrInvalidURL) {
			t.Errorf("Opaque %q: %v", opaque, err)
		}
	}
}

// A body that waits does not keep its request from being sent.
func TestTransportBodyWaits(t *testing.T) {
	body, feed := io.Pipe()
	url := clientRawServer(t, func(c net.Conn) {
		feed.Write([]byte("abc"))
		feed.Close()
		clientReadTo(c, "0\r\n\r\n")
		io.WriteString(c, "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok")
	})
	req, err := http.NewRequestWithContext(clientContext(t), "GET", url, body)
	if err != nil {
		t.Fatal(err)
	}
	resp, err := clientOf(t, &Client{}).Transport().RoundTrip(req)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	if p, err := io.ReadAll(resp.Body); err != nil || string(p) != "ok" {
		t.Errorf("%q, %v", p, err)
	}
}

// A reason phrase that is missing is missing in Status.
func TestTransportStatus(t *testing.T) {
	for line, want := range map[string]string{"200": "200", "200 ": "200 ", "200 OK": "200 OK", "404 Not  Found": "404 Not  Found"} {
		url := clientRawServer(t, func(c net.Conn) {
			io.WriteString(c, "HTTP/1.1 "+line+"\r\nContent-Length: 0\r\n\r\n")
			clientReadHead(c)
		})
		for _, via := range []http.RoundTripper{clientOf(t, &Client{}).Transport(), &http.Transport{DisableKeepAlives: true}} {
			req, _ := http.NewRequestWithContext(clientContext(t), "GET", url, nil)
			resp, err := via.RoundTrip(req)
			if err != nil || resp.Status != want {
				t.Errorf("%q by %T: %+v, %v", line, via, resp, err)
				continue
			}
			resp.Body.Close()
		}
	}
}
