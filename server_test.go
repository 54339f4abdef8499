package flare

import (
	"bufio"
	"context"
	"errors"
	"io"
	"log/slog"
	"net"
	"net/http"
	"strings"
	"testing"
	"time"
)

// startServer serves s on a random port until the test ends.
func startServer(t testing.TB, s *Server) (addr string) {
	t.Helper()
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	if s.Logger == nil {
		s.Logger = slog.New(slog.DiscardHandler)
	}
	done := make(chan error, 1)
	go func() { done <- s.Serve(ln) }()
	t.Cleanup(func() {
		http.DefaultClient.CloseIdleConnections()
		s.Close()
		if err := <-done; !errors.Is(err, ErrServerClosed) {
			t.Errorf("Serve: %v", err)
		}
	})
	return ln.Addr().String()
}

// get returns the status and body of a GET.
func get(t testing.TB, url string) (int, string) {
	t.Helper()
	return getBy(t, http.DefaultClient, url)
}

func getBy(t testing.TB, client *http.Client, url string) (int, string) {
	t.Helper()
	resp, err := client.Get(url)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body)
	if err != nil {
		t.Fatal(err)
	}
	return resp.StatusCode, string(body)
}

func echoHandler(w *ResponseWriter, r *Request) error {
	_, err := io.Copy(w, r.Body())
	return err
}

func TestServerEchoesLongBodies(t *testing.T) {
	addr := startServer(t, &Server{Handler: HandlerFunc(echoHandler)})
	big := strings.Repeat("0123456789", 200_000)
	for _, body := range []io.Reader{strings.NewReader(big), io.MultiReader(strings.NewReader(big))} { // with a length, in chunks
		resp, err := http.Post("http://"+addr+"/", "text/plain", body)
		if err != nil {
			t.Fatal(err)
		}
		got, err := io.ReadAll(resp.Body)
		resp.Body.Close()
		if err != nil || string(got) != big {
			t.Fatalf("%d bytes came back, %v", len(got), err)
		}
	}
}

func TestShutdownAnswersWhatIsInFlight(t *testing.T) {
	entered, leave := make(chan bool), make(chan bool)
	s := &Server{Handler: HandlerFunc(func(w *ResponseWriter, r *Request) error {
		close(entered)
		<-leave
		return w.Text(200, "done")
	})}
	addr := startServer(t, s)
	c, err := net.Dial("tcp", addr)
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	io.WriteString(c, "GET / HTTP/1.1\r\nHost: x\r\n\r\n")
	<-entered
	ended := make(chan error, 2)
	for range 2 { // from any goroutine, more than once
		go func() { ended <- s.Shutdown(context.Background()) }()
	}
	s.Addrs() // from any goroutine, at any time
	eventually(t, "the beginning of the end", s.draining.Load)
	close(leave)
	resp, err := http.ReadResponse(bufio.NewReader(c), nil)
	if err != nil || !resp.Close {
		t.Fatalf("%v, Connection: close %v", err, resp != nil && resp.Close)
	}
	if body, _ := io.ReadAll(resp.Body); string(body) != "done" {
		t.Fatalf("body %q", body)
	}
	c.Close()
	for range 2 {
		if err := <-ended; err != nil {
			t.Error(err)
		}
	}
	if _, err := net.Dial("tcp", addr); err == nil {
		t.Error("still accepts")
	}
}

func TestShutdownCutsAtTheDeadline(t *testing.T) {
	entered, leave := make(chan bool), make(chan bool)
	s := &Server{Handler: HandlerFunc(func(w *ResponseWriter, r *Request) error {
		close(entered)
		<-leave
		return nil
	})}
	addr := startServer(t, s)
	c, err := net.Dial("tcp", addr)
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	defer close(leave)
	io.WriteString(c, "GET / HTTP/1.1\r\nHost: x\r\n\r\n")
	<-entered
	ctx, cancel := context.WithTimeout(context.Background(), 20*time.Millisecond)
	defer cancel()
	if err := s.Shutdown(ctx); !errors.Is(err, context.DeadlineExceeded) || err.Error() != "flare: shutdown cut 1 connections: context deadline exceeded" {
		t.Fatalf("Shutdown: %v", err)
	}
}
