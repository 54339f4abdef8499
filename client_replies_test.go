package flare

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/cookiejar"
	"net/url"
	"strconv"
	"strings"
	"sync/atomic"
	"testing"
)

// An oddReply is what a server answers, and what the clients make of it.
type oddReply struct {
	name   string
	answer string // octets; then the server ends its side. %SELF is its host and port
	want   string // flare: status and body as in 200 "ok", or error
	theirs string // net/http, where it is not the same
	why    string // it is not

	method   string // "" is GET
	proxied  bool   // it is a proxy's
	tunnel   bool   // to a CONNECT
	untilEnd bool   // the body ends with the connection: a cut one is whole
}

const (
	replyOK      = "HTTP/1.1 200 OK\r\n"
	replyChunked = replyOK + "Transfer-Encoding: chunked\r\n\r\n"
	replyHello   = "Content-Length: 5\r\n\r\nhello"
	isHello      = `200 "hello"`
	isError      = "error"
)

// A replyServer answers requests for /N with the Nth reply, at /ok with ok, and
// at /cookie with the cookies that came.
type replyServer struct {
	addr    string
	replies []oddReply
	cut     atomic.Int64 // how many octets of a reply are sent; negative: all
}

func newReplyServer(t testing.TB, replies []oddReply) *replyServer {
	s := &replyServer{replies: replies}
	s.cut.Store(-1)
	at := clientAccept(t, s.serve)
	s.addr = strings.TrimPrefix(at, "http://")
	return s
}

func (s *replyServer) serve(c net.Conn) {
	in := bufio.NewReader(c)
	req, err := http.ReadRequest(in)
	if err != nil {
		return
	}
	name := strings.TrimPrefix(req.URL.Path, "/")
	if req.Method == http.MethodConnect {
		name, _, _ = strings.Cut(req.Host, ".")
	}
	answer := "HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: "
	switch n, err := strconv.Atoi(strings.TrimPrefix(name, "n")); {
	case err == nil && n < len(s.replies):
		answer = s.answer(n)
		if cut := int(s.cut.Load()); cut >= 0 {
			answer = answer[:min(cut, len(answer))]
		}
	case name == "cookie":
		cookies := req.Header.Get("Cookie")
		answer += strconv.Itoa(len(cookies)) + "\r\n\r\n" + cookies
	default:
		answer += "2\r\n\r\nok"
	}
	io.WriteString(c, answer)
	if c, ok := c.(*net.TCPConn); ok {
		c.CloseWrite()
		io.Copy(io.Discard, in) // no reset before the client has read
	}
}

// pipe is a dial that uses no port: there are not as many as cuts.
func (s *replyServer) pipe(context.Context, string, string) (net.Conn, error) {
	near, far := net.Pipe()
	go func() {
		defer far.Close()
		s.serve(far)
	}()
	return near, nil
}

func (s *replyServer) answer(n int) string {
	return strings.ReplaceAll(strings.ReplaceAll(s.replies[n].answer, "%SELF", s.addr), "%N", strconv.Itoa(n))
}

// flareOutcome is what flare's client makes of a reply.
func (s *replyServer) flareOutcome(t *testing.T, n int, proxy *url.URL, dial func(context.Context, string, string) (net.Conn, error)) string {
	tt := &s.replies[n]
	c := &Client{Dial: dial, Jar: new(Jar), Proxy: func(*url.URL) (*url.URL, error) { return proxy, nil }}
	defer c.CloseIdleConnections()
	resp, err := c.Do(clientContext(t), &ClientRequest{Method: tt.method, URL: s.url(n, proxy)})
	var p []byte
	if err == nil {
		p, err = io.ReadAll(resp.Body)
		resp.Body.Close()
	}
	if err != nil {
		if errors.Is(err, context.DeadlineExceeded) || errors.Is(err, ErrTimeout) {
			t.Errorf("%s: flare hangs: %v", tt.name, err)
		}
		if !errors.As(err, new(*ClientError)) || strings.ContainsAny(err.Error(), "\r\n") {
			t.Errorf("%s: %T %q", tt.name, err, err)
		}
		return isError
	}
	return replyText(resp.StatusCode, p, resp.Trailer().Get("X-Sum"))
}

// theirOutcome is what net/http's makes of it.
func (s *replyServer) theirOutcome(t *testing.T, n int, proxy *url.URL) string {
	tt := &s.replies[n]
	jar, _ := cookiejar.New(nil)
	c := &http.Client{Jar: jar, Transport: &http.Transport{DisableKeepAlives: true, Proxy: http.ProxyURL(proxy)}}
	req, err := http.NewRequestWithContext(clientContext(t), tt.method, s.url(n, proxy), nil)
	if err != nil {
		t.Fatal(err)
	}
	resp, err := c.Do(req)
	var p []byte
	if err == nil {
		p, err = io.ReadAll(resp.Body)
		resp.Body.Close()
	}
	if err != nil {
		return isError
	}
	return replyText(resp.StatusCode, p, resp.Trailer.Get("X-Sum"))
}

func (s *replyServer) url(n int, proxy *url.URL) string {
	switch {
	case proxy == nil:
		return "http://" + s.addr + "/" + strconv.Itoa(n)
	case s.replies[n].tunnel:
		return "https://n" + strconv.Itoa(n) + ".test/"
	}
	return "http://origin.test/" + strconv.Itoa(n)
}

func replyText(status int, body []byte, trailer string) string {
	text := fmt.Sprintf("%d %q", status, body)
	if trailer != "" {
		text += " X-Sum=" + strings.Join(strings.Fields(trailer), " ")
	}
	return text
}

// The table, beside net/http's client: each difference has its reason.
func TestClientOddReplies(t *testing.T) {
	replies := oddReplies(t)
	s := newReplyServer(t, replies)
	proxy := &url.URL{Scheme: "http", Host: s.addr}
	for n := range replies {
		tt := &replies[n]
		via := proxy
		if !tt.proxied && !tt.tunnel {
			via = nil
		}
		if got := s.flareOutcome(t, n, via, nil); got != tt.want {
			t.Errorf("%.60s: %.80s, want %.80s", tt.name, got, tt.want)
		}
		theirs := tt.theirs
		if theirs == "" {
			theirs = tt.want
		}
		if got := s.theirOutcome(t, n, via); got != theirs {
			t.Errorf("%.60s: net/http makes %.80s of it, want %.80s", tt.name, got, theirs)
		}
		if (tt.theirs != "") != (tt.why != "") {
			t.Errorf("%s: a difference without a reason, or a reason without one", tt.name)
		}
	}
	t.Logf("%d replies", len(replies))
}

// A reply that is cut is an error or the whole, at every octet: nothing is
// silently short, but where the end of the connection is the body's.
func TestClientOddRepliesCut(t *testing.T) {
	t.Parallel()
	replies := oddReplies(t)
	s := newReplyServer(t, replies)
	proxy := &url.URL{Scheme: "http", Host: s.addr}
	cuts := 0
	for n := range replies {
		tt := &replies[n]
		via := proxy
		if !tt.proxied && !tt.tunnel {
			via = nil
		}
		answer := s.answer(n)
		if len(answer) > 600 {
			continue // a long one is cut as short ones are
		}
		step := 1
		if raceEnabled {
			step = 7 // it takes ten times as long
		}
		for cut := 0; cut < len(answer); cut += step {
			s.cut.Store(int64(cut))
			got := s.flareOutcome(t, n, via, s.pipe)
			cuts++
			if got == isError || got == tt.want {
				continue
			}
			if body, ok := strings.CutSuffix(got, `"`); !ok || !tt.untilEnd || !strings.HasPrefix(tt.want, body) {
				t.Errorf("%s, cut at %d of %d: %.80s", tt.name, cut, len(answer), got)
			}
		}
		s.cut.Store(-1)
	}
	t.Logf("%d cuts", cuts)
}

func oddReplies(t *testing.T) []oddReply {
	var all []oddReply
	for _, table := range [][]oddReply{
		repliesOfFraming(), repliesOfHeads(), repliesOfInterims(), repliesOfCodings(t),
		repliesOfRedirects(), repliesOfCookies(), repliesOfProxies(),
	} {
		all = append(all, table...)
	}
	return all
}
