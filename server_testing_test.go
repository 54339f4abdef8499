package flare

import (
	"bufio"
	"bytes"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"math"
	"net"
	"net/http"
	"net/netip"
	"os"
	"strings"
	"syscall"
	"testing"
	"time"
)

// This file has what tests of a server share: a client that writes octets as
// they are and believes nothing of what it reads, and a connection without a
// socket that is fed by hand.

// patience bounds every wait of a test. It says when a test has failed, never
// how long something should take.
const patience = 30 * time.Second

// A rawClient is one TCP connection to a server. Everything that it received
// stays in got.
type rawClient struct {
	*net.TCPConn
	t   testing.TB
	br  *bufio.Reader
	got bytes.Buffer
}

func dialRaw(t testing.TB, addr string) *rawClient {
	t.Helper()
	conn, err := net.Dial("tcp", addr)
	if err != nil {
		t.Fatal(err)
	}
	c := &rawClient{TCPConn: conn.(*net.TCPConn), t: t}
	c.br = bufio.NewReader(io.TeeReader(conn, &c.got))
	c.SetDeadline(time.Now().Add(patience))
	t.Cleanup(func() { conn.Close() })
	return c
}

func (c *rawClient) send(parts ...string) {
	c.t.Helper()
	if _, err := io.WriteString(c, strings.Join(parts, "")); err != nil {
		c.t.Fatalf("write: %v", err)
	}
}

// An answer is a response that was read to its end.
type answer struct {
	*http.Response
	body string
}

// answer reads the response to a request with that method.
func (c *rawClient) answer(method string) answer {
	c.t.Helper()
	a, err := readAnswer(c.br, method)
	if err != nil {
		c.t.Fatalf("answer to %s: %v; received %q", method, err, tail(c.got.Bytes()))
	}
	return a
}

// get sends a GET request for path and reads the answer.
func (c *rawClient) get(path string) answer {
	c.t.Helper()
	c.send("GET ", path, " HTTP/1.1\r\nHost: h\r\n\r\n")
	return c.answer("GET")
}

// ended fails the test unless the server has shut its side, in order, with
// nothing more sent.
func (c *rawClient) ended() {
	c.t.Helper()
	if rest, err := io.ReadAll(c.br); err != nil || len(rest) > 0 {
		c.t.Fatalf("at the end of the connection: %q, %v", tail(rest), err)
	}
}

// toEnd returns what comes until the connection ends, in order or not, and fails
// the test if it stays open.
func (c *rawClient) toEnd() []byte {
	c.t.Helper()
	rest, err := io.ReadAll(c.br)
	if isTimeout(err) {
		c.t.Errorf("the connection is still open; received %q", tail(rest))
	}
	return rest
}

// cut fails the test unless the connection ended in disorder: by a reset, or
// in the middle of a response that was being read.
func (c *rawClient) cut(err error) {
	c.t.Helper()
	if err == nil {
		c.t.Fatal("the response was complete, and should have been cut off")
	}
	if ne, ok := err.(net.Error); ok && ne.Timeout() {
		c.t.Fatalf("the connection is still open: %v", err)
	}
}

// readAnswer reads a response and its body, strictly as far as net/http goes.
func readAnswer(br *bufio.Reader, method string) (answer, error) {
	resp, err := http.ReadResponse(br, &http.Request{Method: method})
	if err != nil {
		return answer{}, err
	}
	body, err := io.ReadAll(resp.Body)
	return answer{resp, string(body)}, err
}

func (a answer) want(t testing.TB, code int, body string) {
	t.Helper()
	if a.StatusCode != code || a.body != body {
		t.Fatalf("answer %d %q, want %d %q", a.StatusCode, tail([]byte(a.body)), code, tail([]byte(body)))
	}
}

// tail shortens what a failure prints.
func tail(b []byte) []byte {
	if len(b) > 300 {
		return b[len(b)-300:]
	}
	return b
}

// eventually fails the test unless cond comes true in time.
func eventually(t testing.TB, what string, cond func() bool) {
	t.Helper()
	for deadline := time.Now().Add(patience); !cond(); time.Sleep(time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatalf("%s: not in %v", what, patience)
		}
	}
}

// gone fails the test unless all of the server's connections end.
func gone(t testing.TB, s *Server) {
	t.Helper()
	eventually(t, "the end of all connections", func() bool { return s.conns.Load() == 0 })
}

// quietLogger keeps failures that a test provokes out of its output.
func quietLogger() *slog.Logger { return slog.New(slog.NewTextHandler(io.Discard, nil)) }

// openFDs returns how many descriptors the process has.
func openFDs(t testing.TB) int {
	t.Helper()
	entries, err := os.ReadDir("/proc/self/fd")
	if errors.Is(err, os.ErrNotExist) {
		t.Skip("no /proc/self/fd to count descriptors in")
	}
	if err != nil {
		t.Fatal(err)
	}
	return len(entries) - 1 // the one of the directory itself
}

// describe answers with everything that it saw of the request, so that two
// answers are equal only if the requests were.
func describe(w *ResponseWriter, r *Request) error {
	var b strings.Builder
	fmt.Fprintf(&b, "%s %s %q %s %d\n", r.Method(), r.Target(), r.Host(), r.Proto(), r.ContentLength())
	for name, value := range r.Header().All() {
		fmt.Fprintf(&b, "%s=%q\n", name, value)
	}
	if !strings.HasPrefix(r.Path(), "/ignore") {
		body, err := io.ReadAll(r.Body())
		if err != nil {
			return err
		}
		if len(body) > 1<<10 {
			fmt.Fprintf(&b, "%d bytes\n", len(body))
		} else {
			fmt.Fprintf(&b, "%q\n", body)
		}
		for name, value := range r.Trailer().All() {
			fmt.Fprintf(&b, "trailer %s=%q\n", name, value)
		}
	}
	if r.Method() == "HEAD" {
		w.Header().Set("X-Head", "1") // for whoever parses the answers alone
	}
	return w.Text(200, b.String())
}

// A scriptedTransport stands in for a socket: what arrives is cut into pieces
// with nothing to read between them, and what is sent may not all be taken.
type scriptedTransport struct {
	memoryBase
	c       *Conn
	pieces  [][]byte
	eof     bool // behind the last piece
	sendMax int  // octets that one send takes, with no room behind it; 0: all
	blocked bool // the next send finds no room
	sent    []byte
	shutAt  int // octets sent when the write side was shut, -1: open
	seen    uint16
}

// note collects the states in which the connection does I/O.
func (s *scriptedTransport) note() { s.seen |= 1 << s.c.state }

func (s *scriptedTransport) recv(p []byte) (int, error) {
	s.note()
	switch {
	case len(s.pieces) == 0 && s.eof:
		return 0, nil
	case len(s.pieces) == 0:
		return 0, errWouldBlock
	case len(s.pieces[0]) == 0:
		s.pieces = s.pieces[1:]
		s.c.own.Or(ownRead) // a handler that waits for more finds that it has come
		return 0, errWouldBlock
	}
	n := copy(p, s.pieces[0])
	s.pieces[0] = s.pieces[0][n:]
	return n, nil
}

func (s *scriptedTransport) discard(room []byte) (int, error) { return s.recv(room) }

func (s *scriptedTransport) send(a, b []byte) (int, error) {
	s.note()
	if s.shutAt >= 0 {
		return 0, syscall.EPIPE
	}
	if s.sendMax > 0 {
		if s.blocked = !s.blocked; !s.blocked {
			s.c.own.Or(ownWrite)
			return 0, errWouldBlock
		}
		a = a[:min(len(a), s.sendMax)]
		b = b[:min(len(b), s.sendMax-len(a))]
	}
	s.sent = append(append(s.sent, a...), b...)
	return len(a) + len(b), nil
}

func (s *scriptedTransport) shutdownWrite() { s.shutAt = len(s.sent) }

// A feeder makes connections of one server, whose loops never run.
type feeder struct {
	t       testing.TB
	srv     *Server
	loop    *Loop
	workset *workset
	seen    uint16 // states in which there was I/O
}

func newFeeder(t testing.TB, s *Server) *feeder {
	if s.Logger == nil {
		s.Logger = quietLogger()
	}
	s.lim = s.limits()
	s.http2 = s.http2Config()
	s.pin = pinOf(s.Handler)
	f := &feeder{t: t, srv: s, loop: newLoop(nil), workset: &workset{in: make([]byte, runnerReadBytes)}}
	f.workset.clock.unix, f.workset.clock.nextUnix = 784111777, math.MaxInt64 // one Date for all
	return f
}

// driveOnLoop is a turn of c that is the runner's.
func (f *feeder) driveOnLoop(c *Conn) verdict {
	f.loop.state.Add(1)
	f.workset.loop, f.workset.epoch = f.loop, f.loop.state.Load()
	v := c.drive(f.workset)
	f.workset.loop = nil
	f.loop.state.Add(1)
	return v
}

// A feed says how an input arrives.
type feed struct {
	pieces  []string
	half    bool // the peer sends no more behind the input
	sendMax int
	onLoop  bool // turns are the runner's; the handler must not have to wait
}

// An outcome is all that a peer can tell of a connection.
type outcome struct {
	out   string
	open  bool // the server would take more
	reset bool
}

// run drives a new connection until it has nothing left to do.
func (f *feeder) run(in feed) outcome {
	f.t.Helper()
	c := f.newConn()
	tr := &scriptedTransport{c: c, eof: in.half, sendMax: in.sendMax, shutAt: -1}
	for _, p := range in.pieces {
		tr.pieces = append(tr.pieces, []byte(p))
	}
	c.tr = tr
	turns := 0
	v := verdictPartial
	for turns = 0; v != verdictClose; turns++ {
		if turns > 1_000_000 {
			f.t.Fatalf("still busy in state %v with verdict %d", c.state, v)
		}
		if in.onLoop {
			f.loop.state.Add(1)
			f.workset.loop, f.workset.epoch = f.loop, f.loop.state.Load()
		}
		c.edges |= ownRead | ownWrite
		kind := turnDrive
		if v == verdictLinger {
			kind = turnDiscard
		}
		v = c.takeTurn(f.workset, kind)
		if in.onLoop {
			if f.workset.loop == nil {
				f.t.Fatal("the baton was passed")
			}
			f.workset.loop = nil
			f.loop.state.Add(1)
		}
		idle := v == verdictIdle || v == verdictPartial || v == verdictLinger
		if idle && len(tr.pieces) == 0 && !tr.eof {
			break
		}
	}
	got := outcome{string(tr.sent), v != verdictClose && v != verdictLinger, c.broken()}
	if v == verdictLinger && tr.shutAt != len(tr.sent) {
		f.t.Errorf("lingering with the write side open")
	}
	if len(f.workset.out) > 0 || c.out != nil {
		f.t.Errorf("output is left behind: %q", f.workset.out)
	}
	c.setState(stateClosed)
	c.ended()
	f.seen |= tr.seen | 1<<stateClosed
	return got
}

// octets cuts s into pieces of n.
func octets(s string, n int) (pieces []string) {
	for ; len(s) > n; s = s[n:] {
		pieces = append(pieces, s[:n])
	}
	return append(pieces, s)
}

// splitInvisible fails the test unless input gives the same outcome however it
// arrives and however its answer is taken. It returns the outcome.
func (f *feeder) splitInvisible(input string, half bool) outcome {
	f.t.Helper()
	whole := f.run(feed{pieces: []string{input}, half: half})
	same := func(how string, in feed) {
		f.t.Helper()
		in.half = half
		if got := f.run(in); got != whole {
			f.t.Errorf("%s: %s", how, difference(got, whole))
		}
	}
	same("octet by octet", feed{pieces: octets(input, 1)})
	same("in threes, sent in sevens", feed{pieces: octets(input, 3), sendMax: 7})
	same("whole, sent octet by octet", feed{pieces: []string{input}, sendMax: 1})
	step := max(1, len(input)/512)
	for at := 1; at < len(input) && !f.t.Failed(); at += step {
		same(fmt.Sprintf("cut at %d", at), feed{pieces: []string{input[:at], input[at:]}})
	}
	return whole
}

func difference(got, want outcome) string {
	if got.out == want.out {
		return fmt.Sprintf("open %v reset %v, want open %v reset %v", got.open, got.reset, want.open, want.reset)
	}
	i := 0
	for i < len(got.out) && i < len(want.out) && got.out[i] == want.out[i] {
		i++
	}
	near := func(s string) string { return s[max(0, min(i-80, len(s))):min(i+120, len(s))] }
	return fmt.Sprintf("%d octets, want %d; the first difference is at %d:\n%q\nwant\n%q",
		len(got.out), len(want.out), i, near(got.out), near(want.out))
}

// parseAnswers reads out as the answers to requests with those methods.
func parseAnswers(t testing.TB, out string, methods ...string) (answers []answer) {
	t.Helper()
	br := bufio.NewReader(strings.NewReader(out))
	for i := 0; ; i++ {
		if _, err := br.Peek(1); err == io.EOF {
			return answers
		}
		method := "GET"
		if i < len(methods) {
			method = methods[i]
		}
		a, err := readAnswer(br, method)
		if err != nil {
			t.Fatalf("answer %d: %v in %q", i, err, tail([]byte(out)))
		}
		answers = append(answers, a)
	}
}

// newConn returns a connection that the test's goroutine owns.
func (f *feeder) newConn() *Conn {
	c := f.srv.newConn(f.loop, -1, netip.AddrPort{})
	c.waits = new(ownerWaits)
	return c
}

// beginHTTP2 has c speak HTTP/2, as a turn does, by whose clock the connection ages.
func (f *feeder) beginHTTP2(c *Conn) {
	c.workset, f.loop.workset = f.workset, f.workset
	f.srv.beginHTTP2(c)
	c.workset = nil
}

// Which of the limits of time a test means.
func timeoutsIdle(s *Stats) *uint64   { return &s.Timeouts.Idle }
func timeoutsHead(s *Stats) *uint64   { return &s.Timeouts.Head }
func timeoutsBody(s *Stats) *uint64   { return &s.Timeouts.Body }
func timeoutsWrite(s *Stats) *uint64  { return &s.Timeouts.Write }
func timeoutsLinger(s *Stats) *uint64 { return &s.Timeouts.Linger }
