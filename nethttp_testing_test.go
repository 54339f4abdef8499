package flare

import (
	"bufio"
	"bytes"
	"crypto/tls"
	"fmt"
	"io"
	"log"
	"net"
	"net/http"
	"net/http/httptest"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"
)

// This file has what the tests of the bridge to net/http share: a client that
// writes octets and takes down what comes back, so that two servers can be
// compared line by line.

// A bridgeTalk is a conversation with one server, and what was said.
type bridgeTalk struct {
	t    *testing.T
	name string // of the server
	addr string
	tls  bool
	both bool        // only what both versions have is asked for, and noted as both have it
	two  bool        // the client speaks HTTP/2
	peer *bridgePeer // then: on conn
	conn net.Conn
	br   *bufio.Reader
	all  bytes.Buffer // all octets received on conn

	chunked bool
	left    int64 // of a body with a length, -1: until the end
	chunk   int64 // of a chunk
	ended   bool  // the body

	received []string // what the client saw

	handlers sync.WaitGroup
	mu       sync.Mutex
	said     []string // what the handlers saw; guarded by mu
}

// took notes a line of what the client sees.
func (b *bridgeTalk) took(format string, args ...any) {
	b.received = append(b.received, fmt.Sprintf(format, args...))
}

// say notes a line of what a handler sees.
func (b *bridgeTalk) say(format string, args ...any) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.said = append(b.said, fmt.Sprintf(format, args...))
}

// transcript is all of it, without what cannot be the same twice. It waits for
// the handlers.
func (b *bridgeTalk) transcript() string {
	b.t.Helper()
	done := make(chan struct{})
	go func() {
		b.handlers.Wait()
		close(done)
	}()
	select {
	case <-done:
	case <-time.After(patience):
		b.t.Fatalf("%s: a handler does not return; client:\n%s", b.name, strings.Join(b.received, "\n"))
	}
	text := strings.Join(b.received, "\n") + "\n--- handler\n" + strings.Join(b.said, "\n")
	text = strings.ReplaceAll(text, b.addr, "ADDR")
	return bridgeBoundary.ReplaceAllString(text, "BOUNDARY")
}

var bridgeBoundary = regexp.MustCompile(`\b[0-9a-f]{60}\b`)

// dial begins a connection, and ends the one before.
func (b *bridgeTalk) dial() {
	b.t.Helper()
	conn, err := net.Dial("tcp", b.addr)
	if b.tls && err == nil {
		config := tlsClientConfig()
		if b.two {
			config.NextProtos = []string{"h2"}
		}
		conn = tls.Client(conn, config)
	}
	if err != nil {
		b.t.Fatalf("%s: %v", b.name, err)
	}
	if b.conn != nil {
		b.conn.Close()
	}
	if b.conn = conn; b.two {
		b.peer = newBridgePeer(b, conn)
		return
	}
	conn.SetDeadline(time.Now().Add(patience))
	b.all.Reset()
	b.br = bufio.NewReader(io.TeeReader(conn, &b.all))
}

// closeWrite says that nothing more is coming.
func (b *bridgeTalk) closeWrite() {
	conn := b.conn
	if tc, ok := conn.(*tls.Conn); ok {
		tc.CloseWrite()
		conn = tc.NetConn() // as who closes both ways does
	}
	conn.(*net.TCPConn).CloseWrite()
}

// send writes octets; a server that has closed already is not an error.
func (b *bridgeTalk) send(parts ...string) {
	b.t.Helper()
	if b.two {
		b.peer.send(strings.Join(parts, ""))
		return
	}
	io.WriteString(b.conn, strings.Join(parts, ""))
}

// beside sends while the answer is read: a client of HTTP/2 reads where it has
// to wait for a window.
func (b *bridgeTalk) beside(send func()) {
	if b.two {
		send()
	} else {
		go send()
	}
}

// get sends a GET with more fields, and notes the answer.
func (b *bridgeTalk) get(path string, fields ...string) {
	b.t.Helper()
	b.request("GET", path, "", fields...)
}

// request sends a request and notes the answer.
func (b *bridgeTalk) request(method, path, body string, fields ...string) {
	b.t.Helper()
	head := method + " " + path + " HTTP/1.1\r\nHost: h\r\n"
	for _, f := range fields {
		head += f + "\r\n"
	}
	b.send(head, "\r\n", body)
	b.answer(method)
}

// answer notes the next final response, interim ones before it included.
func (b *bridgeTalk) answer(method string) {
	b.t.Helper()
	for b.head(method) < 200 {
	}
	b.rest()
}

// head notes the head of a response, fields sorted, and returns the status; 999
// at the end of the connection.
func (b *bridgeTalk) head(method string) int {
	b.t.Helper()
	if b.two {
		return b.peer.next()
	}
	line, err := b.line()
	if err != nil {
		b.took("closed")
		b.ended = true
		return 999
	}
	_, status, _ := strings.Cut(line, " ")
	code, _ := strconv.Atoi(status[:min(3, len(status))])
	if b.both {
		status = strconv.Itoa(code)
	}
	b.took("< %s", status)
	var fields []string
	b.chunked, b.left, b.chunk, b.ended = false, -1, 0, false
	for {
		line, err := b.line()
		if err != nil {
			b.took("closed in a head")
			return 999
		}
		if line == "" {
			break
		}
		name, value, _ := strings.Cut(line, ": ")
		switch strings.ToLower(name) {
		case "date":
			value = "DATE"
		case "transfer-encoding":
			b.chunked = true
		case "content-length":
			b.left, _ = strconv.ParseInt(value, 10, 64)
		}
		if b.both {
			name = strings.ToLower(name)
			if name == "connection" || name == "transfer-encoding" {
				continue
			}
		}
		fields = append(fields, fmt.Sprintf("<   %s: %s", name, value))
	}
	slices.Sort(fields)
	b.took("%s", strings.Join(fields, "\n"))
	if method == "HEAD" || !bodyAllowed(code) {
		b.ended = true
	}
	return code
}

func (b *bridgeTalk) line() (string, error) {
	b.t.Helper()
	line, err := b.br.ReadString('\n')
	b.inTime(err)
	return strings.TrimSuffix(line, "\r\n"), err
}

// inTime ends the test if err says that the server has let its client wait: that
// is no way to end a response, or a connection.
func (b *bridgeTalk) inTime(err error) {
	b.t.Helper()
	if isTimeout(err) {
		b.t.Fatalf("%s: nothing in %v; so far:\n%s\nreceived %q", b.name, patience, strings.Join(b.received, "\n"), tail(b.all.Bytes()))
	}
}

// some notes exactly n octets of the body, in whatever pieces they come.
func (b *bridgeTalk) some(n int) {
	b.t.Helper()
	if b.two {
		b.peer.some(n)
		return
	}
	p := make([]byte, n)
	k, err := io.ReadFull(readerFunc(b.body), p)
	b.inTime(err)
	b.took("part %q", p[:k])
	if err != nil {
		b.took("cut: part of %d", n)
	}
}

// rest notes what is left of the body, and the trailer.
func (b *bridgeTalk) rest() {
	b.t.Helper()
	if b.two {
		b.peer.rest()
		return
	}
	p, err := io.ReadAll(readerFunc(b.body))
	b.inTime(err)
	switch {
	case len(p) > 10_000:
		b.took("body of %d: %q ... %q", len(p), p[:20], p[len(p)-20:])
	case len(p) > 0:
		b.took("body %q", p)
	}
	if err != nil {
		b.took("cut in the body")
	}
}

// body reads from the body of the response whose head was last.
func (b *bridgeTalk) body(p []byte) (int, error) {
	b.t.Helper()
	switch {
	case b.ended:
		return 0, io.EOF
	case !b.chunked:
		if b.left == 0 {
			b.ended = true
			return 0, io.EOF
		}
		if b.left > 0 {
			p = p[:min(int64(len(p)), b.left)]
		}
		n, err := b.br.Read(p)
		if b.left > 0 {
			if b.left -= int64(n); err == io.EOF {
				err = io.ErrUnexpectedEOF
			}
		}
		return n, err
	case b.chunk == 0:
		line, err := b.line()
		if err != nil {
			return 0, io.ErrUnexpectedEOF
		}
		if b.chunk, err = strconv.ParseInt(line, 16, 64); err != nil {
			b.t.Fatalf("%s: chunk size %q; received %q", b.name, line, tail(b.all.Bytes()))
		}
		if b.chunk == 0 {
			b.ended = true
			for line, err = b.line(); line != "" && err == nil; line, err = b.line() {
				if b.both {
					line = bridgeLower(line)
				}
				b.took("trailer %s", line)
			}
			return 0, io.EOF
		}
	}
	n, err := b.br.Read(p[:min(int64(len(p)), b.chunk)])
	if b.chunk -= int64(n); b.chunk == 0 && err == nil {
		b.line()
	}
	if err == io.EOF {
		err = io.ErrUnexpectedEOF
	}
	return n, err
}

// alive notes whether the connection takes another request. Between the
// versions this is no matter of comparison: over HTTP/2 a stream's end is never
// the connection's, which is checked.
func (b *bridgeTalk) alive() {
	b.t.Helper()
	if b.two {
		b.peer.alive()
	}
	if b.both {
		return
	}
	b.send("GET /ping HTTP/1.1\r\nHost: h\r\n\r\n")
	line, err := b.line()
	if err != nil {
		b.took("connection closed")
		return
	}
	b.took("connection open: %s", strings.TrimPrefix(line, "HTTP/1.1 "))
	for line, err = b.line(); line != "" && err == nil; line, err = b.line() {
	}
	p := make([]byte, len("pong"))
	if _, err := io.ReadFull(b.br, p); err != nil || string(p) != "pong" {
		b.took("then %q, %v", p, err)
	}
}

// over notes how the connection ends, which it has to, but over HTTP/2.
func (b *bridgeTalk) over() {
	b.t.Helper()
	if b.two {
		b.peer.alive()
	}
	if b.both {
		return
	}
	rest, err := io.ReadAll(b.br)
	b.inTime(err)
	b.took("connection over, %q", rest)
}

type readerFunc func([]byte) (int, error)

func (f readerFunc) Read(p []byte) (int, error) { return f(p) }

// watched answers /ping and hands the rest to h, for which transcript waits.
func (b *bridgeTalk) watched(h http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path == "/ping" {
			io.WriteString(w, "pong")
			return
		}
		b.handlers.Add(1)
		defer b.handlers.Done()
		h.ServeHTTP(w, r)
	})
}

// bridgeNetHTTP serves h on net/http's server, and returns its address.
func bridgeNetHTTP(t *testing.T, h http.Handler) string {
	t.Helper()
	s := httptest.NewUnstartedServer(h)
	s.Config.ErrorLog = log.New(io.Discard, "", 0)
	s.Start()
	t.Cleanup(func() {
		s.CloseClientConnections()
		s.Close()
	})
	return s.Listener.Addr().String()
}

// bridgeFlare serves h on flare's server, and returns its address.
func bridgeFlare(t *testing.T, h Handler) string {
	t.Helper()
	return strings.TrimPrefix(TestServer(t, &Server{Handler: h, Logger: quietLogger(), Loops: 1}), "http://")
}

// sameLines fails the test with the first lines in which two transcripts
// differ.
func sameLines(t *testing.T, got, want string) {
	t.Helper()
	if got == want {
		return
	}
	g, w := strings.Split(got, "\n"), strings.Split(want, "\n")
	i := 0
	for i < len(g) && i < len(w) && g[i] == w[i] {
		i++
	}
	t.Errorf("differs from line %d on\n--- got\n%s\n--- want\n%s", i+1,
		strings.Join(g[max(0, i-2):min(len(g), i+12)], "\n"), strings.Join(w[max(0, i-2):min(len(w), i+12)], "\n"))
}
