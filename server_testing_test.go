package flare

import (
	"bufio"
	"bytes"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"os"
	"strings"
	"testing"
	"time"
)

// This file has what tests of a server share: a client that writes octets as
// they are and believes nothing of what it reads.

// patience bounds every wait of a test. It says when a test has failed, never
// how long something should take.
const patience = 10 * time.Second

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
