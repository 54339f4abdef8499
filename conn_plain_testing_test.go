package flare

import (
	"bufio"
	"context"
	"errors"
	"io"
	"net"
	"os"
	"sync"
	"testing"
	"time"
)

// This file has what tests of the plain driver share: a listener in memory.

// onPlain says whether all servers of the tests are on the plain driver.
func onPlain() bool { return os.Getenv("FLARE_TEST_PLAIN") != "" }

// notPlain skips a test of what the plain driver does not have.
func notPlain(t testing.TB, reason string) {
	t.Helper()
	if onPlain() {
		t.Skip("the plain driver: " + reason)
	}
}

// A plainListener is a listener in memory.
type plainListener struct {
	conns chan net.Conn
	once  sync.Once
	done  chan struct{}
	wrap  func(net.Conn) net.Conn // of the server's end; nil: as it is
}

func newPlainListener() *plainListener {
	return &plainListener{conns: make(chan net.Conn), done: make(chan struct{})}
}

func (ln *plainListener) Accept() (net.Conn, error) {
	select {
	case c := <-ln.conns:
		return c, nil
	case <-ln.done:
		return nil, net.ErrClosed
	}
}

func (ln *plainListener) Close() error {
	ln.once.Do(func() { close(ln.done) })
	return nil
}

func (ln *plainListener) Addr() net.Addr { return plainAddr{} }

type plainAddr struct{}

func (plainAddr) Network() string { return "memory" }
func (plainAddr) String() string  { return "memory" }

// dial connects to whoever accepts from ln.
func (ln *plainListener) dial(ctx context.Context, _, _ string) (net.Conn, error) {
	client, server := net.Pipe()
	if ln.wrap != nil {
		server = ln.wrap(server)
	}
	select {
	case ln.conns <- server:
		return client, nil
	case <-ln.done:
		return nil, net.ErrClosed
	case <-ctx.Done():
		return nil, ctx.Err()
	}
}

// startPlain serves s from memory until the test ends.
func startPlain(t *testing.T, s *Server) *plainListener {
	t.Helper()
	ln := newPlainListener()
	startPlainOn(t, s, ln)
	return ln
}

func startPlainOn(t *testing.T, s *Server, ln net.Listener) {
	t.Helper()
	if s.Logger == nil {
		s.Logger = quietLogger()
	}
	served := make(chan error, 1)
	go func() { served <- s.Serve(ln) }()
	t.Cleanup(func() {
		s.Close()
		if err := <-served; !errors.Is(err, ErrServerClosed) {
			t.Errorf("Serve: %v", err)
		}
		gone(t, s)
		eventually(t, "the return of all buffers", func() bool { return s.buffered.Load() == 0 })
	})
}

// A plainPeer is the client's end of a connection in memory.
type plainPeer struct {
	net.Conn
	t  testing.TB
	br *bufio.Reader
}

func dialPlain(t testing.TB, ln *plainListener) *plainPeer {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	conn, err := ln.dial(ctx, "", "")
	if err != nil {
		t.Fatal(err)
	}
	conn.SetDeadline(time.Now().Add(patience))
	t.Cleanup(func() { conn.Close() })
	return &plainPeer{conn, t, bufio.NewReader(conn)}
}

// send writes s, beside whatever the test reads: a pipe has no room.
func (p *plainPeer) send(s string) {
	go io.WriteString(p, s)
}

func (p *plainPeer) answer(method string) answer {
	p.t.Helper()
	a, err := readAnswer(p.br, method)
	if err != nil {
		p.t.Fatalf("answer to %s: %v", method, err)
	}
	return a
}

// ended fails the test unless the server has closed, with nothing more sent.
func (p *plainPeer) ended() {
	p.t.Helper()
	if rest, err := io.ReadAll(p.br); err != nil || len(rest) > 0 {
		p.t.Fatalf("at the end of the connection: %q, %v", tail(rest), err)
	}
}

// cut reads to the end of the connection, wherever that is, and fails the test
// if it stays open.
func (p *plainPeer) cut() {
	p.t.Helper()
	if _, err := io.Copy(io.Discard, p.br); isTimeout(err) {
		p.t.Error("the connection is still open")
	}
}
