package flare

import (
	"context"
	"errors"
	"net"
	"net/http"
	"sync"
	"time"
)

// This file is layer 5 (surface): what users' own tests need: a server in memory,
// and one on a random port.

// TestClient serves s in memory until the test ends, and returns a client of it:
// no socket, any host name, http and https alike (Request.TLS is nil). Everything
// else is as on a socket: ErrorHandler, limits and timeouts, middleware, ConnState,
// streams both ways, Hijack. For a WebSocket pass the DialContext of the client's
// Transport, an *http.Transport, on as WebSocketDialOptions.NetDial.
//
// It may be called inside a bubble of testing/synctest, where timeouts pass
// without waiting: s has one loop there that blocks as a goroutine does and not
// in the system, and each handler has a goroutine. Redirects are followed as
// http.Client does; nothing is decompressed. s must not be serving yet.
func TestClient(t TestingT, s *Server) *http.Client {
	t.Helper()
	s.mu.Lock()
	s.inMemory = true
	s.mu.Unlock()
	ln := &memoryListener{conns: make(chan net.Conn), closed: make(chan struct{})}
	serveTest(t, s, ln)
	transport := &http.Transport{DialContext: ln.dial, DialTLSContext: ln.dial, DisableCompression: true}
	t.Cleanup(transport.CloseIdleConnections)
	return &http.Client{Transport: transport}
}

// A memoryConn is an end of two pipes, so that one direction can end before the other:
// an answer that comes early reaches a client that goes on sending.
type memoryConn struct {
	net.Conn // what is read
	out      net.Conn
}

func memoryPipe() (near, far net.Conn) {
	answers, sendAnswers := net.Pipe()
	requests, sendRequests := net.Pipe()
	return &memoryConn{answers, sendRequests}, &memoryConn{requests, sendAnswers}
}

func (c *memoryConn) Write(p []byte) (int, error)        { return c.out.Write(p) }
func (c *memoryConn) CloseWrite() error                  { return c.out.Close() }
func (c *memoryConn) SetWriteDeadline(t time.Time) error { return c.out.SetWriteDeadline(t) }

func (c *memoryConn) SetDeadline(t time.Time) error {
	return errors.Join(c.Conn.SetDeadline(t), c.out.SetDeadline(t))
}

func (c *memoryConn) Close() error { return errors.Join(c.out.Close(), c.Conn.Close()) }

// A memoryListener is a net.Listener whose connections are pipes.
type memoryListener struct {
	conns  chan net.Conn
	once   sync.Once
	closed chan struct{}
}

// dial has the signature of a net.Dialer's DialContext.
func (ln *memoryListener) dial(ctx context.Context, network, addr string) (net.Conn, error) {
	near, far := memoryPipe()
	select {
	case ln.conns <- far:
		return near, nil
	case <-ln.closed:
		return nil, ErrServerClosed
	case <-ctx.Done():
		return nil, context.Cause(ctx)
	}
}

func (ln *memoryListener) Accept() (net.Conn, error) {
	select {
	case conn := <-ln.conns:
		return conn, nil
	case <-ln.closed:
		return nil, net.ErrClosed
	}
}

func (ln *memoryListener) Close() error {
	ln.once.Do(func() { close(ln.closed) })
	return nil
}

func (ln *memoryListener) Addr() net.Addr { return memoryAddr{} }

// A memoryAddr is the address of a memoryListener.
type memoryAddr struct{}

func (memoryAddr) Network() string { return "memory" }
func (memoryAddr) String() string  { return "memory" }

// TestingT is the part of testing.TB that TestClient and TestServer need.
type TestingT interface {
	Helper()
	Cleanup(func())
	Fatalf(format string, args ...any)
	Errorf(format string, args ...any)
}

// TestServer serves s on a random port of 127.0.0.1 until the test ends, and
// returns its URL, without a slash at the end.
func TestServer(t TestingT, s *Server) (url string) {
	t.Helper()
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatalf("flare: %v", err)
	}
	serveTest(t, s, ln)
	return "http://" + ln.Addr().String()
}

// serveTest serves s on ln until the test ends.
func serveTest(t TestingT, s *Server, ln net.Listener) {
	served := make(chan error, 1)
	go func() { served <- s.Serve(ln) }()
	t.Cleanup(func() {
		s.Close()
		if err := <-served; !errors.Is(err, ErrServerClosed) {
			t.Errorf("flare: Serve: %v", err)
		}
	})
}
