package main

import (
	"bytes"
	"context"
	"io"
	"net"
	"net/http"
	"strings"
	"sync"
	"testing"

	"flare"
)

// A lockedBuffer is a log that is read while it is written.
type lockedBuffer struct {
	mu  sync.Mutex
	buf bytes.Buffer
}

func (b *lockedBuffer) Write(p []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.buf.Write(p)
}

func (b *lockedBuffer) String() string {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.buf.String()
}

func named(name string) *flare.Server {
	return &flare.Server{Handler: flare.HandlerFunc(func(w *flare.ResponseWriter, r *flare.Request) error {
		return w.Text(200, name+" "+r.Path()+" "+r.Header().Get("X-Forwarded-Host"))
	})}
}

func get(t *testing.T, c *http.Client, url string) (status int, body string) {
	t.Helper()
	resp, err := c.Get(url)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	p, err := io.ReadAll(resp.Body)
	if err != nil {
		t.Fatal(err)
	}
	return resp.StatusCode, string(p)
}

func TestGateway(t *testing.T) {
	a, b := flare.TestServer(t, named("a")), flare.TestServer(t, named("b"))
	c, err := parseFlags([]string{"-route", "/api=" + a, "-route", "other.example/=" + b, "-rate", "2", "-trust", "loopback"})
	if err != nil {
		t.Fatal(err)
	}
	lines := new(lockedBuffer)
	c.log = lines
	g := newGateway(c)
	t.Cleanup(g.client.CloseIdleConnections)
	front, admin := flare.TestClient(t, g.front), flare.TestClient(t, g.admin)
	for _, c := range []struct {
		url, want string
		status    int
	}{
		{"http://h/api/x", "a /api/x h", 200},
		{"http://h/api", "a /api h", 200},
		{"http://other.example/y", "b /y other.example", 200},
		{"http://h/", "", 404},
		{"http://h/apifoo", "", 404},
	} {
		status, body := get(t, front, c.url)
		if status != c.status || status == 200 && body != c.want {
			t.Errorf("%s: %d %q, want %d %q", c.url, status, body, c.status, c.want)
		}
	}
	refused := 0
	for range 20 {
		if status, _ := get(t, front, "http://h/api/x"); status == 429 {
			refused++
		}
	}
	if refused == 0 {
		t.Error("no request was refused")
	}
	if status, _ := get(t, admin, "http://h/readyz"); status != 200 {
		t.Errorf("/readyz: %d", status)
	}
	if status, text := get(t, admin, "http://h/metrics"); status != 200 || !strings.Contains(text, "flare_") {
		t.Errorf("/metrics: %d %.100q", status, text)
	}
	if text := lines.String(); !strings.Contains(text, `"/api/x"`) || !strings.Contains(text, `429`) {
		t.Errorf("the log: %.300q", text)
	}
}

func TestGatewayNotReady(t *testing.T) {
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	ln.Close() // nobody is there
	g := newGateway(&config{routes: []route{{"/", []string{"http://" + ln.Addr().String()}}}, log: io.Discard})
	front, admin := flare.TestClient(t, g.front), flare.TestClient(t, g.admin)
	if status, _ := get(t, front, "http://h/"); status != 502 {
		t.Errorf("without a server: %d", status)
	}
	if status, _ := get(t, admin, "http://h/readyz"); status != 503 {
		t.Errorf("/readyz: %d", status)
	}
}

func TestGatewayServes(t *testing.T) {
	up := flare.TestServer(t, named("a"))
	front, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	admin, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	g := newGateway(&config{routes: []route{{"/", []string{up}}}, log: io.Discard})
	g.front.DrainDelay = 0
	ctx, cancel := context.WithCancel(t.Context())
	served := make(chan error, 1)
	go func() { served <- g.serve(ctx, front, admin, "", "") }()
	c := new(http.Client)
	if status, body := get(t, c, "http://"+front.Addr().String()+"/x"); status != 200 || !strings.HasPrefix(body, "a /x") {
		t.Errorf("%d %q", status, body)
	}
	c.CloseIdleConnections()
	cancel()
	if err := <-served; err != nil {
		t.Error(err)
	}
}

func TestGatewayFlags(t *testing.T) {
	for _, args := range [][]string{nil, {"-route", "x"}, {"-route", "host=http://x"}, {"-none"}} {
		if _, err := parseFlags(args); err == nil {
			t.Errorf("%q is no error", args)
		}
	}
}
