package flare

import (
	"context"
	"errors"
	"io"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"testing"
)

// This file is about what Serve does with listeners: Unix sockets, and a server
// that ends meanwhile.

// A Unix socket is served as TCP is: no address to be seen or counted, its own
// kind of connection on Hijack, and no file left at the end.
func TestServeUnix(t *testing.T) {
	path := filepath.Join(t.TempDir(), "s")
	ln, err := net.Listen("unix", path)
	if err != nil {
		t.Skip("no Unix sockets here: ", err)
	}
	mux := NewMux()
	mux.Post("/echo", echoHandler)
	mux.Get("/peer", func(w *ResponseWriter, r *Request) error {
		if r.RemoteAddr().IsValid() {
			return errors.New("a Unix socket with an address")
		}
		return w.Text(200, "none")
	})
	mux.Get("/hijack", func(w *ResponseWriter, r *Request) error {
		conn, _, err := w.Hijack()
		if err != nil {
			return err
		}
		defer conn.Close()
		if _, ok := conn.(*net.UnixConn); !ok {
			t.Errorf("Hijack gave a %T", conn)
		}
		_, err = io.WriteString(conn, "HTTP/1.0 200 OK\r\n\r\nhijacked")
		return err
	})
	for style, h := range wsStyles(WebSocketOptions{}) {
		mux.Handle("GET /ws/"+style, h)
	}
	s := &Server{Loops: 2, Handler: mux, MaxConnsPerIP: 1, Logger: quietLogger()}
	served := make(chan error, 1)
	go func() { served <- s.Serve(ln) }()

	dial := func(ctx context.Context, _, _ string) (net.Conn, error) {
		return new(net.Dialer).DialContext(ctx, "unix", path)
	}
	for range 3 { // each with a connection of its own, all open at the same time
		transport := &http.Transport{DialContext: dial}
		defer transport.CloseIdleConnections()
		client := &http.Client{Transport: transport}
		for path, want := range map[string]string{"/peer": "none", "/hijack": "hijacked", "/missing": "Not Found\n"} {
			resp, err := client.Get("http://h" + path)
			if err != nil {
				t.Fatal(err)
			}
			p, err := io.ReadAll(resp.Body)
			resp.Body.Close()
			if err != nil || string(p) != want {
				t.Errorf("%s: %q, %v", path, p, err)
			}
		}
	}
	for style := range wsStyles(WebSocketOptions{}) {
		ctx := wsPatience(t)
		ws, _, err := DialWebSocket(ctx, "ws://h/ws/"+style, &WebSocketDialOptions{NetDial: dial})
		if err != nil {
			t.Fatal(err)
		}
		ws.WriteText(ctx, "hello")
		if _, p, err := ws.Read(ctx); err != nil || string(p) != "hello" {
			t.Errorf("%s: %q, %v", style, p, err)
		}
		ws.Close(CloseNormal, "")
	}
	if len(s.perIP.n) != 0 {
		t.Errorf("connections without an address are counted: %v", s.perIP.n)
	}
	if err := s.Shutdown(wsPatience(t)); err != nil {
		t.Errorf("Shutdown: %v", err)
	}
	if err := <-served; err != ErrServerClosed {
		t.Errorf("Serve: %v", err)
	}
	if _, err := os.Lstat(path); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("the socket's file: %v", err)
	}
}

// Serve beside Shutdown and Close: whoever comes first, nothing is left
// listening.
func TestServeBesideItsEnd(t *testing.T) {
	t.Parallel()
	for i := range 60 {
		s := &Server{Loops: 1, Handler: textHandler("fine"), Logger: quietLogger()}
		startServer(t, s)
		eventually(t, "the start", func() bool { return loopsOf(s) != nil })
		ln, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			t.Fatal(err)
		}
		served, ended := make(chan error, 1), make(chan error, 1)
		go func() { served <- s.Serve(ln) }()
		go func() {
			if i%2 == 0 {
				ended <- s.Close()
			} else {
				ended <- s.Shutdown(context.Background())
			}
		}()
		if err := <-served; err != ErrServerClosed {
			t.Errorf("Serve: %v", err)
		}
		if err := <-ended; err != nil {
			t.Errorf("the end: %v", err)
		}
		if again, err := net.Listen("tcp", ln.Addr().String()); err != nil {
			t.Errorf("still listening: %v", err)
		} else {
			again.Close()
		}
	}
}
