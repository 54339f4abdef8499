package flare

import (
	"bufio"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"log"
	"net"
	"net/http"
	"net/http/httptest"
	"net/http/httputil"
	"net/url"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"
)

// A proxyCase is what a client sends to a proxy, and what the server behind it answers.
// net/http/httputil's proxy and flare's have to say the same to both.
type proxyCase struct {
	name    string
	request string // "" is a GET
	answer  string // of the server, in octets; it ends the connection behind them
	differs string // why flare's is different, if it is: then it has to be
	gone    bool   // there is no server
}

func proxyCases() []proxyCase {
	const ok = "HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\nContent-Length: 2\r\n\r\nok"
	long := strings.Repeat("0123456789abcdef", 20_000)
	return []proxyCase{
		{name: "get", answer: ok},
		{name: "query and escapes", request: "GET /a%2Fb/%7E?q=%20&r=a+b HTTP/1.1\r\nHost: h\r\n\r\n", answer: ok},
		{name: "fields", request: "GET / HTTP/1.1\r\nHost: h:81\r\nUser-Agent: u\r\nAccept-Encoding: gzip\r\nCookie: a=b; c=d\r\nX-Two: 1\r\nX-Two: 2\r\nRange: bytes=0-1\r\n\r\n",
			answer: "HTTP/1.1 206 Partial Content\r\nContent-Range: bytes 0-1/9\r\nContent-Length: 2\r\nX-Two: 1\r\nX-Two: 2\r\nSet-Cookie: a=b\r\nSet-Cookie: c=d\r\nServer: s\r\n\r\nok"},
		{name: "head", request: "HEAD / HTTP/1.1\r\nHost: h\r\n\r\n", answer: "HTTP/1.1 200 OK\r\nContent-Length: 99\r\nETag: \"x\"\r\n\r\n"},
		{name: "post", request: "POST / HTTP/1.1\r\nHost: h\r\nContent-Length: 5\r\n\r\nhello", answer: ok},
		{name: "post of nothing", request: "POST / HTTP/1.1\r\nHost: h\r\nContent-Length: 0\r\n\r\n", answer: ok},
		{name: "chunks", request: "POST / HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\n\r\n", answer: ok},
		{name: "much both ways", request: "PUT / HTTP/1.1\r\nHost: h\r\nContent-Length: 320000\r\n\r\n" + long,
			answer: "HTTP/1.1 200 OK\r\nContent-Length: 320000\r\n\r\n" + long},
		{name: "options", request: "OPTIONS /x HTTP/1.1\r\nHost: h\r\n\r\n", answer: "HTTP/1.1 204 No Content\r\nAllow: GET\r\n\r\n"},
		{name: "another method", request: "BREW /pot HTTP/1.1\r\nHost: h\r\n\r\n", answer: "HTTP/1.1 418 I'm a teapot\r\nContent-Length: 0\r\n\r\n"},
		{name: "not modified", request: "GET / HTTP/1.1\r\nHost: h\r\nIf-None-Match: \"x\"\r\n\r\n", answer: "HTTP/1.1 304 Not Modified\r\nETag: \"x\"\r\n\r\n"},
		{name: "a redirect", answer: "HTTP/1.1 302 Found\r\nLocation: /elsewhere\r\nContent-Length: 0\r\n\r\n"},
		{name: "an error", answer: "HTTP/1.1 503 Service Unavailable\r\nRetry-After: 5\r\nContent-Length: 4\r\n\r\nbusy"},
		{name: "a challenge", answer: "HTTP/1.1 401 Unauthorized\r\nWWW-Authenticate: Basic realm=\"x\"\r\nContent-Length: 0\r\n\r\n"},
		{name: "compressed", answer: "HTTP/1.1 200 OK\r\nContent-Encoding: gzip\r\nContent-Length: 3\r\n\r\n\x1f\x8b\x08"},
		{name: "an answer in chunks", answer: "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nok\r\n1\r\n!\r\n0\r\n\r\n"},
		{name: "an answer with a trailer", answer: "HTTP/1.1 200 OK\r\nTrailer: X-Sum\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nok\r\n0\r\nX-Sum: 2\r\n\r\n"},
		{name: "an answer until the end", answer: "HTTP/1.1 200 OK\r\n\r\nuntil here"},
		{name: "an answer of HTTP/1.0", answer: "HTTP/1.0 200 OK\r\n\r\nuntil here"},
		{name: "hops of a request", request: "GET / HTTP/1.1\r\nHost: h\r\nConnection: keep-alive, X-Mine\r\nX-Mine: 1\r\nKeep-Alive: timeout=5\r\nProxy-Connection: close\r\nProxy-Authorization: Basic eA==\r\nTE: trailers, gzip\r\nX-Theirs: 1\r\n\r\n", answer: ok},
		{name: "hops of an answer", answer: "HTTP/1.1 200 OK\r\nConnection: X-Mine\r\nX-Mine: 1\r\nKeep-Alive: timeout=5\r\nProxy-Authenticate: Basic\r\nX-Theirs: 1\r\nContent-Length: 2\r\n\r\nok"},
		{name: "fields of a proxy that is not trusted", request: "GET / HTTP/1.1\r\nHost: h\r\nForwarded: for=192.0.2.9\r\nX-Forwarded-For: 192.0.2.9\r\nX-Forwarded-Host: evil\r\nX-Forwarded-Proto: https\r\n\r\n", answer: ok},
		{name: "early hints", answer: "HTTP/1.1 103 Early Hints\r\nLink: </a.css>; rel=preload\r\n\r\n" + ok},
		{name: "continue", request: "POST / HTTP/1.1\r\nHost: h\r\nExpect: 100-continue\r\nContent-Length: 5\r\n\r\nhello", answer: "HTTP/1.1 100 Continue\r\n\r\n" + ok,
			differs: "httputil takes Expect out when the body is there"},
		{name: "a client of HTTP/1.0", request: "GET / HTTP/1.0\r\nHost: h\r\n\r\n", answer: "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nok\r\n0\r\n\r\n"},
		{name: "absolute form", request: "GET http://h/there?x HTTP/1.1\r\nHost: h\r\n\r\n", answer: ok},
		{name: "an upgrade", request: "GET /ws HTTP/1.1\r\nHost: h\r\nConnection: Upgrade\r\nUpgrade: Echo/1\r\n\r\n", answer: "HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: echo/1\r\nX-Own: 1\r\n\r\nand octets"},
		{name: "an upgrade that is refused", request: "GET /ws HTTP/1.1\r\nHost: h\r\nConnection: Upgrade\r\nUpgrade: echo\r\n\r\n", answer: "HTTP/1.1 403 Forbidden\r\nContent-Length: 2\r\n\r\nno"},
		{name: "an upgrade to something else", request: "GET /ws HTTP/1.1\r\nHost: h\r\nConnection: Upgrade\r\nUpgrade: echo\r\n\r\n", answer: "HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: other\r\n\r\n"},
		{name: "no answer", request: "POST / HTTP/1.1\r\nHost: h\r\nContent-Length: 1\r\n\r\nx", answer: ""},
		{name: "what is no answer", request: "POST / HTTP/1.1\r\nHost: h\r\nContent-Length: 1\r\n\r\nx", answer: "SSH-2.0-x\r\n\r\n"},
		{name: "no server", gone: true},
		{name: "an answer that breaks off", answer: "HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nhalf"},
		{name: "chunks that break off", answer: "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n"},
		{name: "a way out", request: "GET /a/../../secret HTTP/1.1\r\nHost: h\r\n\r\n", answer: ok, differs: "httputil passes segments of dots on"},
		{name: "HTTP/2 unseen", request: "GET / HTTP/1.1\r\nHost: h\r\nConnection: Upgrade, HTTP2-Settings\r\nUpgrade: h2c\r\nHTTP2-Settings: AAMAAABk\r\n\r\n", answer: ok,
			differs: "httputil asks the server for HTTP/2, whose requests would pass unseen"},
		{name: "an underscore", request: "GET / HTTP/1.1\r\nHost: h\r\nX_Forwarded_For: 192.0.2.9\r\nX-Real-IP: 192.0.2.9\r\n\r\n", answer: ok,
			differs: "httputil passes on what programs behind CGI take for X-Forwarded-For"},
	}
}

// TestReverseProxyTranscript has the same said through both proxies.
func TestReverseProxyTranscript(t *testing.T) {
	t.Parallel()
	for _, c := range proxyCases() {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			want := c.run(t, func(upstream string) string {
				target, err := url.Parse(upstream)
				if err != nil {
					t.Fatal(err)
				}
				transport := &http.Transport{DisableCompression: true}
				t.Cleanup(transport.CloseIdleConnections)
				front := httptest.NewServer(&httputil.ReverseProxy{
					Transport: transport,
					ErrorLog:  log.New(io.Discard, "", 0),
					Rewrite: func(r *httputil.ProxyRequest) {
						r.SetURL(target)
						r.SetXForwarded()
						r.Out.Host = r.In.Host
					},
				})
				t.Cleanup(front.Close)
				return front.Listener.Addr().String()
			})
			got := c.run(t, func(upstream string) string { return startProxy(t, new(Server), upstream) })
			switch {
			case c.differs == "" && got != want:
				t.Errorf("flare:\n%s\nhttputil:\n%s", got, want)
			case c.differs != "" && got == want:
				t.Errorf("there is no difference:\n%s", got)
			}
		})
	}
}

// startProxy starts s as a ReverseProxy in front of upstreams, and returns its address.
func startProxy(t testing.TB, s *Server, upstreams ...string) string {
	p := &ReverseProxy{Upstreams: upstreams, Client: proxyTestClient(t)}
	return startProxyOf(t, s, p)
}

func startProxyOf(t testing.TB, s *Server, p *ReverseProxy) string {
	s.Handler = p
	if s.Logger == nil {
		s.Logger = quietLogger()
	}
	return strings.TrimPrefix(TestServer(t, s), "http://")
}

func proxyTestClient(t testing.TB) *Client {
	c := &Client{Proxy: func(*url.URL) (*url.URL, error) { return nil, nil }}
	t.Cleanup(c.CloseIdleConnections)
	return c
}

// run has the case said through a proxy, and returns what both sides have seen.
func (c *proxyCase) run(t *testing.T, start func(upstream string) (addr string)) string {
	var mu sync.Mutex
	var seen []string
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	if c.gone {
		ln.Close()
	} else {
		clientAcceptFrom(t, ln, func(conn net.Conn) {
			br := bufio.NewReader(conn)
			lines := upstreamSaw(br, conn, c.answer)
			mu.Lock()
			defer mu.Unlock()
			seen = append(seen, lines...)
		})
	}
	addr := start("http://" + ln.Addr().String())
	client := dialRaw(t, addr)
	request := c.request
	broken := strings.HasSuffix(c.name, "breaks off") || strings.HasSuffix(c.name, "break off")
	if request == "" {
		request = "GET / HTTP/1.1\r\nHost: h\r\n\r\n"
	}
	go io.WriteString(client, request)
	method, _, _ := strings.Cut(request, " ")
	lines := clientSaw(client, method)
	if end := lines[max(0, len(lines)-2)]; broken && (end == "cut off" || lines[0] == "no answer") {
		lines = []string{"cut off"} // httputil may not have sent its head then
	}
	defer client.Close()
	eventually(t, "the server has seen it", func() bool {
		mu.Lock()
		defer mu.Unlock()
		return c.gone || len(seen) > 0 || slices.Contains(lines, "400")
	})
	mu.Lock()
	defer mu.Unlock()
	return strings.Join(lines, "\n") + "\n--- server\n" + strings.Join(seen, "\n")
}

// upstreamSaw reads a request, answers, and returns what it has read.
func upstreamSaw(br *bufio.Reader, conn net.Conn, answer string) (lines []string) {
	conn.SetDeadline(time.Now().Add(patience))
	req, err := http.ReadRequest(br)
	if err != nil {
		return nil
	}
	if interim, rest, ok := strings.Cut(answer, "100 Continue\r\n\r\n"); ok {
		io.WriteString(conn, interim+"100 Continue\r\n\r\n")
		answer = rest
	}
	lines = append(lines, req.Method+" "+req.RequestURI+" "+req.Host, fmt.Sprint(req.ContentLength))
	lines = append(lines, fieldLines(req.Header)...)
	if req.Header.Get("Upgrade") == "" {
		lines = append(lines, contentLine(req.Body), "trailer")
		lines = append(lines, fieldLines(req.Trailer)...)
		io.WriteString(conn, answer)
		return lines
	}
	io.WriteString(conn, answer)
	if strings.Contains(answer, " 101 ") && strings.Contains(answer, "echo") {
		p := make([]byte, len("early"))
		io.ReadFull(br, p)
		lines = append(lines, string(p))
	}
	return lines
}

// clientSaw reads answers up to the final one, and returns what it has read.
func clientSaw(client *rawClient, method string) (lines []string) {
	for {
		resp, err := http.ReadResponse(client.br, &http.Request{Method: method})
		if err != nil {
			return append(lines, "no answer")
		}
		lines = append(lines, fmt.Sprint(resp.StatusCode))
		if resp.StatusCode == 502 { // pages of errors are each one's own
			return lines
		}
		lines = append(lines, fmt.Sprint(resp.ContentLength, resp.TransferEncoding))
		lines = append(lines, fieldLines(resp.Header)...)
		if resp.StatusCode == http.StatusSwitchingProtocols {
			client.send("early")
			return append(lines, contentLine(io.LimitReader(client.br, int64(len("and octets")))))
		}
		if resp.StatusCode >= 200 {
			lines = append(lines, contentLine(resp.Body), "trailer")
			return append(lines, fieldLines(resp.Trailer)...)
		}
	}
}

// fieldLines are the fields that both proxies have, in some order.
func fieldLines(h http.Header) (lines []string) {
	for name, values := range h {
		switch name {
		case "Date", "Via", "Forwarded":
			continue
		case "Connection":
			if values[0] == "close" || values[0] == "keep-alive" || values[0] == "TE" { // between neighbours
				continue
			}
		case "Content-Type":
			if values[0] == "text/plain; charset=utf-8" { // net/http's guess
				continue
			}
		}
		lines = append(lines, strings.ToLower(fmt.Sprintf("%s: %q", name, values)))
	}
	slices.Sort(lines)
	return lines
}

// contentLine is what a body has, and how it ends.
func contentLine(body io.Reader) string {
	p, err := io.ReadAll(body)
	if errors.Is(err, io.ErrUnexpectedEOF) {
		return "cut off"
	}
	if len(p) > 1000 {
		p = fmt.Appendf(nil, "%d %x", len(p), sha256.Sum256(p))
	}
	if err == nil {
		return fmt.Sprintf("%q", p)
	}
	return fmt.Sprintf("%q, %v", p, err)
}
