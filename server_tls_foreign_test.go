package flare

import (
	"bufio"
	"context"
	"crypto/tls"
	"errors"
	"io"
	"net"
	"net/http"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"
)

// This file has servers whose TLS is a listener's of the user's, and servers that
// end while handshakes are under way.

// foreignTLSServer serves what tls.NewListener accepts.
func foreignTLSServer(t *testing.T, s *Server, names ...string) (addr string) {
	t.Helper()
	inner, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	ln := tls.NewListener(inner, &tls.Config{
		Certificates: []tls.Certificate{tlsTestCA().issue(t, 7, "localhost")},
		NextProtos:   names,
	})
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
	})
	return inner.Addr().String()
}

// What has TLS already is HTTPS, whoever put it on: with its state, HTTP/2 where
// that was agreed on, and the end of each connection told and counted.
func TestForeignTLS(t *testing.T) {
	t.Parallel()
	for want, names := range map[string][]string{
		"HTTP/1.1 TLS 1.3 resumed=false sni=localhost client=": {"http/1.1"},
		"HTTP/2.0 TLS 1.3 resumed=false sni=localhost client=": {"h2", "http/1.1"},
	} {
		t.Run(want[:8], func(t *testing.T) {
			t.Parallel()
			var mu sync.Mutex
			var told []http.ConnState
			s := &Server{Handler: HandlerFunc(tlsRoutes), ConnState: func(_ net.Conn, state http.ConnState) {
				mu.Lock()
				defer mu.Unlock()
				told = append(told, state)
			}}
			addr := foreignTLSServer(t, s, names...)
			client := tlsHTTPClient(t, true)
			for range 2 {
				if _, body := getBy(t, client, "https://"+addr+"/state"); body != want {
					t.Errorf("state %q, want %q", body, want)
				}
			}
			if open := s.Stats().Connections.Open; open != 1 {
				t.Errorf("%d connections are open, want 1", open)
			}
			client.CloseIdleConnections()
			gone(t, s)
			mu.Lock()
			defer mu.Unlock()
			if n := len(told); told[0] != http.StateNew || told[n-1] != http.StateClosed || !slices.Contains(told, http.StateActive) {
				t.Errorf("told of %v", told)
			}
			if done := s.Stats().Handshakes.Done; done != 1 {
				t.Errorf("%d handshakes are counted, want 1", done)
			}
		})
	}
}

// Shutdown ends such connections too.
func TestForeignTLSShutdown(t *testing.T) {
	t.Parallel()
	s := &Server{Handler: HandlerFunc(tlsRoutes)}
	addr := foreignTLSServer(t, s, "h2")
	client := tlsHTTPClient(t, true)
	getBy(t, client, "https://"+addr+"/state")
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	if err := s.Shutdown(ctx); err != nil {
		t.Error(err)
	}
}

// A client that says nothing in its handshake is bounded in time, and keeps
// nobody from being accepted; one that speaks plain HTTP is told so.
func TestForeignTLSSilentClient(t *testing.T) {
	t.Parallel()
	s := &Server{Handler: HandlerFunc(tlsRoutes), HandshakeTimeout: 300 * time.Millisecond}
	addr := foreignTLSServer(t, s, "http/1.1")
	silent := dialRaw(t, addr)
	if status, _ := getBy(t, tlsHTTPClient(t, false), "https://"+addr+"/state"); status != 200 {
		t.Errorf("beside a silent client: %d", status)
	}
	silent.toEnd()
	eventually(t, "a timeout", func() bool { return s.Stats().Timeouts.Handshake == 1 })
	mistaken := dialRaw(t, addr)
	mistaken.send("GET / HTTP/1.1\r\nHost: h\r\n\r\n")
	if a := mistaken.answer("GET"); a.StatusCode != 400 {
		t.Errorf("plain HTTP: %d", a.StatusCode)
	}
}

// A heldClient holds back what its client writes after the first time.
type heldClient struct {
	net.Conn
	first   bool
	holds   chan struct{} // closed when something is held back
	release chan struct{}
}

func (c *heldClient) Write(p []byte) (int, error) {
	if c.first {
		c.first = false
		return c.Conn.Write(p)
	}
	if c.holds != nil {
		close(c.holds)
		c.holds = nil
	}
	<-c.release
	return c.Conn.Write(p)
}

// Shutdown gives a handshake that has begun its time, and the request behind it;
// a client that has said nothing is not waited for.
func TestShutdownLetsHandshakesEnd(t *testing.T) {
	t.Parallel()
	s := &Server{Handler: HandlerFunc(tlsRoutes), Protocols: onlyHTTP1()}
	addr := startTLSServer(t, s)
	silent := dialRaw(t, addr)
	eventually(t, "the silent connection", func() bool { return s.Stats().Connections.Handshake == 1 })
	below := dialRaw(t, addr)
	holds, release := make(chan struct{}), make(chan struct{})
	tc := tls.Client(&heldClient{below.TCPConn, true, holds, release}, &tls.Config{RootCAs: tlsTestCA().pool, ServerName: "localhost"})
	shaken := make(chan error, 1)
	go func() { shaken <- tc.Handshake() }()
	<-holds // the server has answered
	ended := make(chan error, 1)
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	go func() { ended <- s.Shutdown(ctx) }()
	silent.toEnd() // the server closes what it closes
	close(release)
	if err := <-shaken; err != nil {
		t.Fatal(err)
	}
	if _, err := io.WriteString(tc, "GET /state HTTP/1.1\r\nHost: localhost\r\n\r\n"); err != nil {
		t.Fatal(err)
	}
	resp, err := http.ReadResponse(bufio.NewReader(tc), nil)
	if err != nil {
		t.Fatal(err)
	}
	body, _ := io.ReadAll(resp.Body)
	if resp.StatusCode != 200 || !resp.Close || !strings.HasPrefix(string(body), "HTTP/1.1 TLS") {
		t.Errorf("%d %q, close %t", resp.StatusCode, body, resp.Close)
	}
	tc.Close()
	if err := <-ended; err != nil {
		t.Error(err)
	}
}
