package flare

import (
	"bytes"
	"compress/gzip"
	"context"
	"errors"
	"io"
	"net"
	"net/url"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"
)

// clientRawServer answers each connection with serve, which gets it after the
// head of a request was read.
func clientRawServer(t testing.TB, serve func(c net.Conn)) (url string) {
	return clientAccept(t, func(c net.Conn) {
		if clientReadHead(c) {
			serve(c)
		}
	})
}

// clientReadHead reads to the empty line.
func clientReadHead(c net.Conn) bool { return clientReadTo(c, "\r\n\r\n") }

// clientReadTo reads to the end of the first end.
func clientReadTo(c net.Conn, end string) bool {
	c.SetDeadline(time.Now().Add(patience))
	var head []byte
	for p := make([]byte, 1); !bytes.HasSuffix(head, []byte(end)); head = append(head, p[0]) {
		if _, err := c.Read(p); err != nil {
			return false
		}
	}
	return true
}

// clientFetch gets url and reads the body.
func clientFetch(t testing.TB, c *Client, url string) (string, error) {
	resp, err := c.Get(clientContext(t), url)
	if err != nil {
		return "", err
	}
	return resp.Text()
}

func TestClientHostile(t *testing.T) {
	const ok = "HTTP/1.1 200 OK\r\n"
	tests := []struct {
		name, response string
		want           error
	}{
		{"no HTTP", "SSH-2.0-OpenSSH_9.2\r\n", ErrMalformed},
		{"HTTP/2", "HTTP/2.0 200 OK\r\n\r\n", ErrMalformed},
		{"no status", "HTTP/1.1 OK\r\n\r\n", ErrMalformed},
		{"status 099", "HTTP/1.1 099 OK\r\n\r\n", ErrMalformed},
		{"status 20x", "HTTP/1.1 20x OK\r\n\r\n", ErrMalformed},
		{"control in the reason", "HTTP/1.1 200 O\x01K\r\n\r\n", ErrMalformed},
		{"endless reason", "HTTP/1.1 200 " + strings.Repeat("x", 5000), ErrTooLarge},
		{"bare LF", "HTTP/1.1 200 OK\n\n", ErrMalformed},
		{"bare CR in a value", ok + "A: b\rc\r\n\r\n", ErrMalformed},
		{"NUL in a value", ok + "A: b\x00c\r\n\r\n", ErrMalformed},
		{"fold before the first field", ok + " A: b\r\n\r\n", ErrMalformed},
		{"no end of the head", ok + "A: b\r\n", ErrUnexpectedEOF},
		{"blank before the colon", ok + "Content-Length : 0\r\n\r\n", ErrMalformed},
		{"no colon", ok + "A\r\n\r\n", ErrMalformed},
		{"two lengths", ok + "Content-Length: 1\r\nContent-Length: 1\r\n\r\nx", ErrMalformed},
		{"list of lengths", ok + "Content-Length: 1, 1\r\n\r\nx", ErrMalformed},
		{"negative length", ok + "Content-Length: -1\r\n\r\n", ErrMalformed},
		{"plus sign", ok + "Content-Length: +1\r\n\r\nx", ErrMalformed},
		{"hexadecimal length", ok + "Content-Length: 0x1\r\n\r\nx", ErrMalformed},
		{"huge length", ok + "Content-Length: 99999999999999999999\r\n\r\nx", ErrMalformed},
		{"length and chunked", ok + "Content-Length: 1\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n", ErrMalformed},
		{"chunked twice", ok + "Transfer-Encoding: chunked, chunked\r\n\r\n0\r\n\r\n", ErrMalformed},
		{"unknown coding", ok + "Transfer-Encoding: zip, chunked\r\n\r\n0\r\n\r\n", ErrMalformed},
		{"chunked in HTTP/1.0", "HTTP/1.0 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n", ErrMalformed},
		{"chunk size", ok + "Transfer-Encoding: chunked\r\n\r\nxyz\r\n", ErrMalformed},
		{"chunk size sign", ok + "Transfer-Encoding: chunked\r\n\r\n-1\r\n", ErrMalformed},
		{"chunk size overflow", ok + "Transfer-Encoding: chunked\r\n\r\nfffffffffffffffff\r\n", ErrMalformed},
		{"chunk data end", ok + "Transfer-Encoding: chunked\r\n\r\n1\r\nxx\r\n0\r\n\r\n", ErrMalformed},
		{"chunk bare LF", ok + "Transfer-Encoding: chunked\r\n\r\n1\nx\n0\n\n", ErrMalformed},
		{"endless extension", ok + "Transfer-Encoding: chunked\r\n\r\n1;" + strings.Repeat("a", 5000), ErrTooLarge},
		{"length with a blank", ok + "Content-Length: 1 2\r\n\r\nx", ErrMalformed},
		{"length with a dot", ok + "Content-Length: 1.0\r\n\r\nx", ErrMalformed},
		{"length with an underscore", ok + "Content-Length: 1_0\r\n\r\nx", ErrMalformed},
		{"empty length", ok + "Content-Length:\r\n\r\nx", ErrMalformed},
		{"leading zeros of a length", ok + "Content-Length: 01\r\n\r\nx", ErrMalformed},
		{"two lengths that differ", ok + "Content-Length: 1\r\nContent-Length: 2\r\n\r\nxx", ErrMalformed},
		{"chunked on two lines", ok + "Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n", ErrMalformed},
		{"chunked, then another", ok + "Transfer-Encoding: chunked, gzip\r\n\r\n0\r\n\r\n", ErrMalformed},
		{"chunked with a parameter", ok + "Transfer-Encoding: chunked;a=b\r\n\r\n0\r\n\r\n", ErrMalformed},
		{"chunked with a vertical tab", ok + "Transfer-Encoding: \x0bchunked\r\n\r\n0\r\n\r\n", ErrMalformed},
		{"identity", ok + "Transfer-Encoding: identity\r\n\r\nx", ErrMalformed},
		{"empty transfer coding", ok + "Transfer-Encoding:\r\n\r\n0\r\n\r\n", ErrMalformed},
		{"empty name", ok + ": b\r\n\r\n", ErrMalformed},
		{"octet not of a name", ok + "A(: b\r\n\r\n", ErrMalformed},
		{"blank first line", ok + " A: b\r\n\r\n", ErrMalformed},
		{"control in a value", ok + "A: \x7f\r\n\r\n", ErrMalformed},
		{"wrong case of HTTP", "http/1.1 200 OK\r\n\r\n", ErrMalformed},
		{"no blank before the reason", "HTTP/1.1 200OK\r\n\r\n", ErrMalformed},
		{"four digits", "HTTP/1.1 2000 OK\r\n\r\n", ErrMalformed},
		{"bare CR behind the status", "HTTP/1.1 200 OK\rA: b\r\n\r\n", ErrMalformed},
		{"101 that nobody asked for", "HTTP/1.1 101 Switching Protocols\r\nUpgrade: x\r\nConnection: upgrade\r\n\r\n", ErrMalformed},
		{"chunk size with 0x", ok + "Transfer-Encoding: chunked\r\n\r\n0x1\r\nx\r\n0\r\n\r\n", ErrMalformed},
		{"chunk size with a blank", ok + "Transfer-Encoding: chunked\r\n\r\n1 \r\nx\r\n0\r\n\r\n", ErrMalformed},
		{"empty chunk size", ok + "Transfer-Encoding: chunked\r\n\r\n\r\nx\r\n0\r\n\r\n", ErrMalformed},
		{"chunk extension", ok + "Transfer-Encoding: chunked\r\n\r\n1;=\r\nx\r\n0\r\n\r\n", ErrMalformed},
		{"bare CR in chunk framing", ok + "Transfer-Encoding: chunked\r\n\r\n1\rx\r\n0\r\n\r\n", ErrMalformed},
		{"endless extensions", ok + "Transfer-Encoding: chunked\r\n\r\n" + strings.Repeat("1;"+strings.Repeat("a", 900)+"\r\nx\r\n", 40), ErrTooLarge},
		{"endless trailer", ok + "Transfer-Encoding: chunked\r\n\r\n0\r\n" + strings.Repeat("A: b\r\n", 20_000), ErrTooLarge},
		{"bad trailer", ok + "Transfer-Encoding: chunked\r\n\r\n0\r\nA b\r\n\r\n", ErrMalformed},
		{"short body", ok + "Content-Length: 10\r\n\r\nabc", ErrUnexpectedEOF},
		{"short chunk", ok + "Transfer-Encoding: chunked\r\n\r\na\r\nabc", ErrUnexpectedEOF},
		{"no last chunk", ok + "Transfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n", ErrUnexpectedEOF},
		{"endless headers", ok + strings.Repeat("A: b\r\n", 20_000), ErrTooLarge},
		{"endless header", ok + "A: " + strings.Repeat("b", 200_000), ErrTooLarge},
		{"endless 1xx", strings.Repeat("HTTP/1.1 103 Early Hints\r\n\r\n", 200), ErrMalformed},
		{"not gzip", ok + "Content-Encoding: gzip\r\nContent-Length: 12\r\n\r\nnot gzip at ", ErrMalformed},
		{"cut gzip", ok + "Content-Encoding: gzip\r\n\r\n" + string(clientGzip(t, "abc")[:15]), ErrUnexpectedEOF},
		{"gzip 1,000:1", ok + "Content-Encoding: gzip\r\n\r\n" + string(clientGzip(t, strings.Repeat("\x00", 8<<20))), ErrTooLarge},
		{"file:", "HTTP/1.1 302 Found\r\nLocation: file:///etc/passwd\r\nContent-Length: 0\r\n\r\n", ErrInvalidURL},
		{"javascript:", "HTTP/1.1 302 Found\r\nLocation: javascript:alert(1)\r\nContent-Length: 0\r\n\r\n", ErrInvalidURL},
		{"CRLF in the host", "HTTP/1.1 302 Found\r\nLocation: http://a%0d%0ab/\r\nContent-Length: 0\r\n\r\n", ErrInvalidURL},
		{"userinfo", "HTTP/1.1 302 Found\r\nLocation: http://good@127.0.0.1/\r\nContent-Length: 0\r\n\r\n", ErrInvalidURL},
		{"octal host", "HTTP/1.1 302 Found\r\nLocation: http://0177.0.0.1/\r\nContent-Length: 0\r\n\r\n", ErrInvalidURL},
		{"no host", "HTTP/1.1 302 Found\r\nLocation: http:///x\r\nContent-Length: 0\r\n\r\n", ErrInvalidURL},
		{"port 0", "HTTP/1.1 302 Found\r\nLocation: http://127.0.0.1:0/\r\nContent-Length: 0\r\n\r\n", ErrInvalidURL},
		{"redirect to itself", "HTTP/1.1 302 Found\r\nLocation: /\r\nContent-Length: 0\r\nConnection: close\r\n\r\n", ErrTooManyRedirects},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			url := clientRawServer(t, func(c net.Conn) {
				io.WriteString(c, tt.response)
				c.(*net.TCPConn).CloseWrite()
				io.Copy(io.Discard, c) // no reset before the client has read
			})
			c := clientOf(t, &Client{})
			if body, err := clientFetch(t, c, url); !errors.Is(err, tt.want) {
				t.Errorf("%.100q, %v; want %v", body, err, tt.want)
			}
		})
	}
}

func clientGzip(t testing.TB, s string) []byte {
	var b bytes.Buffer
	w := gzip.NewWriter(&b)
	if _, err := io.WriteString(w, s); err != nil {
		t.Fatal(err)
	}
	w.Close()
	return b.Bytes()
}

// A response that is cut anywhere is an error, and one that arrives in two
// pieces is the same as whole.
func TestClientCutAnywhere(t *testing.T) {
	zipped := string(clientGzip(t, "hello"))
	for name, response := range map[string]string{
		"length":  "HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhello",
		"chunked": "HTTP/1.1 103 Early\r\nA: b\r\n\r\nHTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nhe\r\n3;a=b\r\nllo\r\n0\r\nA: b\r\n\r\n",
		"gzip":    "HTTP/1.1 200 OK\r\nContent-Encoding: gzip\r\nContent-Length: " + strconv.Itoa(len(zipped)) + "\r\n\r\n" + zipped,
	} {
		type cut struct {
			at    int
			split bool // all of it, in two pieces
		}
		cuts := make(chan cut, 1)
		url := clientRawServer(t, func(c net.Conn) {
			cut := <-cuts
			io.WriteString(c, response[:cut.at])
			if cut.split {
				io.WriteString(c, response[cut.at:])
			}
			c.(*net.TCPConn).CloseWrite()
			io.Copy(io.Discard, c)
		})
		for at := range len(response) + 1 {
			cuts <- cut{at, true}
			if body, err := clientFetch(t, clientOf(t, &Client{}), url); err != nil || body != "hello" {
				t.Fatalf("%s split at %d: %q, %v", name, at, body, err)
			}
			if at == len(response) {
				continue
			}
			c := clientOf(t, &Client{})
			r := &ClientRequest{Method: "POST", URL: url} // not retried
			cuts <- cut{at, false}
			resp, err := c.Do(clientContext(t), r)
			if err == nil {
				_, err = resp.Bytes()
			}
			if !errors.Is(err, ErrUnexpectedEOF) {
				t.Fatalf("%s cut at %d: %v", name, at, err)
			}
		}
	}
}

func TestClientDripFed(t *testing.T) {
	t.Parallel()
	for name, front := range map[string]string{
		"head": "HTTP/1.1 200 OK\r\nA: ",
		"body": "HTTP/1.1 200 OK\r\nContent-Length: 1000000\r\n\r\n",
	} {
		url := clientRawServer(t, func(c net.Conn) {
			io.WriteString(c, front)
			for { // until the client has had enough
				if _, err := c.Write([]byte("x")); err != nil {
					return
				}
				time.Sleep(5 * time.Millisecond) // the pace of the drip
			}
		})
		c := clientOf(t, &Client{ResponseTimeout: 100 * time.Millisecond, Timeout: 200 * time.Millisecond})
		start := time.Now()
		_, err := clientFetch(t, c, url)
		if took := time.Since(start); !errors.Is(err, ErrTimeout) || took > patience/2 {
			t.Errorf("%s: %v after %v", name, err, took)
		}
	}
}

// Nothing that a user or a server hands to the client begins a line of its own
// in a request, or ends up in its target.
func TestClientInjection(t *testing.T) {
	dials := 0
	refuses := func(c *Client) *Client {
		c.Dial = func(context.Context, string, string) (net.Conn, error) {
			dials++
			return nil, syscall.ECONNREFUSED
		}
		return c
	}
	for _, bad := range []string{"\r\nX-Injected: 1", "\n", "\r", "\x00"} {
		request := func(set func(r *ClientRequest)) func() error {
			return func() error {
				r := &ClientRequest{Method: "POST", URL: "http://a/"}
				set(r)
				_, err := refuses(new(Client)).Do(clientContext(t), r)
				return err
			}
		}
		config := func(c *Client) func() error {
			return func() error {
				_, err := refuses(c).Get(clientContext(t), "http://a/")
				return err
			}
		}
		withProxy := func(text string) func() error {
			return config(&Client{Proxy: func(*url.URL) (*url.URL, error) {
				return &url.URL{Scheme: "http", Host: text, User: url.UserPassword("u", "p")}, nil
			}})
		}
		var defaults Header
		defaults.Set("A", bad)
		digest := &digestAuth{user: "u" + bad}
		digest.take([]challenge{{scheme: "Digest", params: []authParam{{"nonce", "n"}}}}, "")
		nonce := &digestAuth{user: "u"}
		nonce.take([]challenge{{scheme: "Digest", params: []authParam{{"nonce", "n" + bad}}}}, "")
		for name, try := range map[string]func() error{
			"method":           request(func(r *ClientRequest) { r.Method = "GET" + bad }),
			"URL":              request(func(r *ClientRequest) { r.URL = "http://a/" + bad }),
			"host in the URL":  request(func(r *ClientRequest) { r.URL = "http://a" + bad + "/" }),
			"query":            request(func(r *ClientRequest) { r.URL = "http://a/?" + bad }),
			"header name":      request(func(r *ClientRequest) { r.Header.Set("A"+bad, "b") }),
			"header value":     request(func(r *ClientRequest) { r.Header.Add("A", "b"+bad) }),
			"Host":             request(func(r *ClientRequest) { r.Header.Set("Host", "a"+bad) }),
			"content type":     request(func(r *ClientRequest) { r.Header.Set("Content-Type", "a/b"+bad); r.SetBody("{}") }),
			"cookie":           request(func(r *ClientRequest) { r.Header.Set("Cookie", "a="+bad) }),
			"default field":    config(&Client{Header: defaults}),
			"base":             config(&Client{BaseURL: "http://a" + bad}),
			"basic user":       config(&Client{Auth: BasicAuth("u"+bad, "p")}),
			"basic password":   config(&Client{Auth: BasicAuth("u", "p"+bad)}),
			"bearer token":     config(&Client{Auth: BearerAuth("t" + bad)}),
			"digest user":      config(&Client{Auth: digest}),
			"digest nonce":     config(&Client{Auth: nonce}),
			"host of a proxy":  withProxy("a" + bad),
			"user's own words": config(&Client{Auth: injectingAuth(bad)}),
		} {
			if err := try(); !errors.Is(err, ErrInvalidRequest) && !errors.Is(err, ErrInvalidURL) {
				t.Errorf("%s with %q: %v", name, bad, err)
			}
		}
	}
	if dials > 0 {
		t.Errorf("%d requests were about to be sent", dials)
	}
}

// injectingAuth is a Credentials of a user who did not look.
type injectingAuth string

func (a injectingAuth) Authorization(context.Context, *AuthRequest) (string, error) {
	return "Own " + string(a), nil
}
func (injectingAuth) Challenged(context.Context, []string, string) bool { return false }
func (injectingAuth) Answered(context.Context, string, string) error    { return nil }

// What arrives on a resting connection belongs to no request.
func TestClientUnsolicited(t *testing.T) {
	const answer = "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n"
	for name, more := range map[string]string{
		"with the answer": "HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nevil",
		"end":             "",
	} {
		rested := make(chan struct{})
		url := clientRawServer(t, func(c net.Conn) {
			io.WriteString(c, answer+"ok"+more)
			if more == "" {
				c.Close()
			}
			rested <- struct{}{}
			if clientReadHead(c) {
				io.WriteString(c, answer+"2!")
			}
		})
		c := clientOf(t, &Client{})
		for range 3 {
			body, err := clientFetch(t, c, url)
			<-rested
			if err != nil || body != "ok" {
				t.Errorf("%s: %q, %v", name, body, err)
			}
		}
	}
	// Later: the octets are there before the next request is sent. A net.Conn
	// that shows no descriptor, or is no TCP, is looked at as well.
	for name, start := range map[string]func(t *testing.T, c *Client, serve func(net.Conn)) (url string){
		"TCP": func(t *testing.T, _ *Client, serve func(net.Conn)) string { return clientRawServer(t, serve) },
		"wrapped": func(t *testing.T, c *Client, serve func(net.Conn)) string {
			c.Dial = func(ctx context.Context, network, addr string) (net.Conn, error) {
				conn, err := new(net.Dialer).DialContext(ctx, network, addr)
				return struct{ net.Conn }{conn}, err
			}
			return clientRawServer(t, serve)
		},
		"unix": func(t *testing.T, c *Client, serve func(net.Conn)) string {
			ln, err := net.Listen("unix", filepath.Join(t.TempDir(), "s"))
			if err != nil {
				t.Skip("no Unix sockets:", err)
			}
			c.Dial = func(ctx context.Context, _, _ string) (net.Conn, error) {
				return new(net.Dialer).DialContext(ctx, "unix", ln.Addr().String())
			}
			clientAcceptFrom(t, ln, func(c net.Conn) {
				if clientReadHead(c) {
					serve(c)
				}
			})
			return "http://unix.test"
		},
	} {
		t.Run(name, func(t *testing.T) { clientUnsolicitedLater(t, start) })
	}
}

func clientUnsolicitedLater(t *testing.T, start func(t *testing.T, c *Client, serve func(net.Conn)) (url string)) {
	const answer = "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n"
	push := make(chan net.Conn, 1)
	c := clientOf(t, &Client{})
	url := start(t, c, func(c net.Conn) {
		io.WriteString(c, answer+"ok")
		push <- c
		clientReadHead(c)
	})
	for range 3 {
		body, err := clientFetch(t, c, url)
		if err != nil || body != "ok" {
			t.Fatalf("%q, %v", body, err)
		}
		conn := <-push
		c.pool.mu.Lock()
		var resting *clientConn
		for _, list := range c.pool.idle {
			resting = list[0]
		}
		c.pool.mu.Unlock()
		if resting == nil {
			t.Fatal("the connection does not rest")
		}
		io.WriteString(conn, "HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nevil")
		for resting.silent() { // until the kernel has it
		}
	}
}

func TestClientInvalid(t *testing.T) {
	c := clientOf(t, &Client{Dial: func(_ context.Context, _, _ string) (net.Conn, error) {
		t.Error("dialled")
		return nil, io.EOF
	}})
	long := strings.Repeat("a", 64)
	for _, url := range []string{
		"", "/", "example.com", "ftp://a/", "file:///x", "http://", "http:///x", "http://a b/", "http://a\x00/", "http://a\r\n/",
		"http://a/\r\nX: y", "http://a/\x7f", "http://" + long + "/", "http://" + strings.Repeat("a.", 130) + "a/", "http://a..b/", "http://.a/",
		"http://a:0/", "http://a:65536/", "http://a:b/", "http://127.1/", "http://0x7f.0.0.1/", "http://0177.0.0.1/", "http://2130706433/",
		"http://1.2.3.4.5/", "http://[::1/", "http://[::g]/", "http://ä.test/", "http:a", "http://a%00b/",
	} {
		if _, err := c.Get(clientContext(t), url); !errors.Is(err, ErrInvalidURL) {
			t.Errorf("%.80q: %v", url, err)
		}
	}
	for name, set := range map[string]func(*ClientRequest){
		"host":    func(r *ClientRequest) { r.Header.Set("Host", "a b") },
		"CONNECT": func(r *ClientRequest) { r.Method = "CONNECT" },
		"method":  func(r *ClientRequest) { r.Method = "GET / HTTP/1.1\r\nX:" },
		"name":    func(r *ClientRequest) { r.Header.Set("A\r\nB", "c") },
		"value":   func(r *ClientRequest) { r.Header.Set("A", "b\r\nC: d") },
		"NUL":     func(r *ClientRequest) { r.Header.Set("A", "b\x00") },
		"length":  func(r *ClientRequest) { r.ContentLength = -1 },
	} {
		r := &ClientRequest{URL: "http://a/"}
		set(r)
		if _, err := c.Do(clientContext(t), r); !errors.Is(err, ErrInvalidRequest) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

// A response that is refused takes its connection with it, also when all of it
// has come: to rest it would be in two hands.
func TestClientRefusedConnection(t *testing.T) {
	for _, response := range []string{
		"Content-Encoding: gzip, gzip, gzip\r\nContent-Length: 2\r\n\r\nok",
		"Content-Encoding: gzip, gzip, gzip\r\nContent-Length: 0\r\n\r\n",
		"Content-Encoding: gzip, gzip, gzip\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nok\r\n0\r\n\r\n",
		"Content-Length: 3\r\n\r\nabc",
	} {
		url := clientRawServer(t, func(c net.Conn) {
			io.WriteString(c, "HTTP/1.1 200 OK\r\n"+response)
			clientReadHead(c)
		})
		c := clientOf(t, &Client{MaxBodyBytes: 2})
		if _, err := c.Get(clientContext(t), url); !errors.Is(err, ErrTooLarge) {
			t.Errorf("%q: %v", response, err)
		}
		if c.pool.total != 0 {
			t.Errorf("%q: its connection rests", response)
		}
	}
}
