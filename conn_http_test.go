package flare

import (
	"bufio"
	"context"
	"io"
	"net"
	"net/http"
	"strings"
	"testing"
	"time"
)

func startServer(t testing.TB, s *Server) string {
	t.Helper()
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	done := make(chan error, 1)
	go func() { done <- s.Serve(ln) }()
	t.Cleanup(func() {
		s.Close()
		if err := <-done; err != ErrServerClosed {
			t.Errorf("Serve: %v", err)
		}
	})
	return ln.Addr().String()
}

func TestFirst(t *testing.T) {
	s := &Server{Handler: HandlerFunc(func(w *ResponseWriter, r *Request) error {
		switch r.Path() {
		case "/echo":
			_, err := io.Copy(w, r.Body())
			return err
		case "/sleep":
			time.Sleep(50 * time.Millisecond)
		case "/panic":
			panic("x")
		case "/ctx":
			<-r.Context().Done()
		}
		return w.Text(200, "hello "+r.Path())
	})}
	addr := startServer(t, s)
	for range 100 {
		resp, err := http.Get("http://" + addr + "/x")
		if err != nil {
			t.Fatal(err)
		}
		b, _ := io.ReadAll(resp.Body)
		resp.Body.Close()
		if string(b) != "hello /x" {
			t.Fatalf("%q", b)
		}
	}
	big := strings.Repeat("0123456789", 200000)
	for range 10 {
		resp, err := http.Post("http://"+addr+"/echo", "text/plain", strings.NewReader(big))
		if err != nil {
			t.Fatal(err)
		}
		b, err := io.ReadAll(resp.Body)
		resp.Body.Close()
		if string(b) != big {
			t.Fatalf("%d %v", len(b), err)
		}
		resp, err = http.Post("http://"+addr+"/echo", "text/plain", io.MultiReader(strings.NewReader(big)))
		if err != nil {
			t.Fatal(err)
		}
		b, err = io.ReadAll(resp.Body)
		resp.Body.Close()
		if string(b) != big {
			t.Fatalf("%d %v", len(b), err)
		}
	}
	for _, p := range []string{"/sleep", "/panic", "/sleep"} {
		resp, err := http.Get("http://" + addr + p)
		if err != nil {
			t.Fatal(err)
		}
		resp.Body.Close()
	}
	c, err := net.Dial("tcp", addr)
	if err != nil {
		t.Fatal(err)
	}
	go io.WriteString(c, strings.Repeat("GET /p HTTP/1.1\r\nHost: x\r\n\r\n", 1000))
	br := bufio.NewReader(c)
	for i := range 1000 {
		resp, err := http.ReadResponse(br, nil)
		if err != nil {
			t.Fatal(i, err)
		}
		io.Copy(io.Discard, resp.Body)
	}
	ctx, cancel := context.WithTimeout(context.Background(), time.Second)
	defer cancel()
	http.DefaultClient.CloseIdleConnections()
	c.Close()
	if err := s.Shutdown(ctx); err != nil {
		t.Fatal(err)
	}
}
