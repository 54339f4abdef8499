package flare

import (
	"crypto/tls"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"sync/atomic"
	"testing"
)

// This file has connections of the client's HTTP/2 that rest, beside those of
// HTTP/1.1.

// restServers are servers of which every second speaks HTTP/2 too, and a client that
// speaks what they do. open is how many connections each has.
func restServers(t *testing.T, n int) (c *Client, urls []string, open []*atomic.Int32) {
	c = &Client{TLSConfig: tlsClientConfig()}
	t.Cleanup(c.CloseIdleConnections)
	for i := range n {
		srv := httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			io.WriteString(w, r.Proto)
		}))
		count := new(atomic.Int32)
		srv.Config.ConnState = func(_ net.Conn, state http.ConnState) {
			switch state {
			case http.StateNew:
				count.Add(1)
			case http.StateClosed:
				count.Add(-1)
			}
		}
		srv.TLS = &tls.Config{Certificates: []tls.Certificate{tlsTestCA().issue(t, 3, "localhost")}}
		srv.EnableHTTP2 = i%2 == 0
		srv.StartTLS()
		t.Cleanup(srv.Close)
		urls, open = append(urls, srv.URL), append(open, count)
	}
	return c, urls, open
}

// MaxIdleConns counts connections of both versions; for one more that rests the one
// ends that has rested longest.
func TestHTTP2ClientIdleMax(t *testing.T) {
	t.Parallel()
	c, urls, open := restServers(t, 6)
	c.MaxIdleConns = 3
	get := func(i int) {
		t.Helper()
		resp, err := c.Get(soon(t), urls[i])
		if err != nil {
			t.Fatal(err)
		}
		want := []string{"HTTP/2.0", "HTTP/1.1"}[i%2]
		if text, err := resp.Text(); err != nil || text != want {
			t.Fatalf("server %d answered by %q, want %q; %v", i, text, want, err)
		}
	}
	resting := func(want ...int32) {
		t.Helper()
		for i, n := range want {
			eventually(t, "the right connections to rest", func() bool { return open[i].Load() == n })
		}
	}
	get(0)
	get(1)
	get(2)
	resting(1, 1, 1)
	get(3)
	resting(0, 1, 1, 1)
	get(1) // has rested shortest now
	get(4)
	resting(0, 1, 0, 1, 1)
	get(4)
	get(3)
	get(5)
	resting(0, 0, 0, 1, 1, 1)
	get(0)
	get(2)
	resting(1, 0, 1, 0, 0, 1)

	// One with streams is not at rest.
	held, release := make(chan struct{}), make(chan struct{})
	srv, busy := http2Std(t, "plain", http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		close(held)
		<-release
	}))
	second, _ := http2Std(t, "plain", http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {}))
	busy.MaxIdleConns = 1
	ended := make(chan error, 1)
	go func() {
		resp, err := busy.Get(soon(t), srv)
		if err == nil {
			err = resp.Body.Close()
		}
		ended <- err
	}()
	<-held
	for range 3 {
		resp, err := busy.Get(soon(t), second)
		if err != nil {
			t.Fatal(err)
		}
		resp.Body.Close()
	}
	close(release)
	if err := <-ended; err != nil {
		t.Errorf("a call on a connection that is in use: %v", err)
	}
	busy.pool.mu.Lock()
	n := len(busy.pool.shared)
	busy.pool.mu.Unlock()
	if n != 1 {
		t.Errorf("%d connections rest", n)
	}
	busy.CloseIdleConnections()
	eventually(t, "none to rest", func() bool {
		busy.pool.mu.Lock()
		defer busy.pool.mu.Unlock()
		return len(busy.pool.shared) == 0
	})
}
