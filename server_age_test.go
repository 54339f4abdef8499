package flare

import (
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"runtime/debug"
	"strings"
	"testing"
	"time"
)

// By its age a connection of HTTP/1.1 ends with an answer that says so, and none
// before.
func TestMaxConnAgeHTTP1(t *testing.T) {
	t.Parallel()
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	const age = 300 * time.Millisecond
	s := &Server{Loops: 1, Handler: textHandler("fine"), MaxConnAge: age}
	startPlainOn(t, s, ln)
	client := &http.Client{Transport: &http.Transport{}, Timeout: patience}
	defer client.CloseIdleConnections()
	began, answers := time.Now(), 0
	for closes := false; !closes; answers++ {
		before := time.Now()
		resp, err := client.Get("http://" + ln.Addr().String())
		if err != nil {
			t.Fatal(err)
		}
		io.Copy(io.Discard, resp.Body)
		resp.Body.Close()
		closes = resp.Close
		if took := time.Since(began); closes && took < age*9/10 || !closes && before.Sub(began) > 2*age {
			t.Fatalf("after %v the answer says close: %v", took, closes)
		}
	}
	if answers < 2 || s.Stats().Accepted != 1 {
		t.Errorf("%d answers on %d connections", answers, s.Stats().Accepted)
	}
}

// Over HTTP/1.1 an answer that outlasts age and grace is whole, and the last.
func TestMaxConnAgeSparesAnswersHTTP1(t *testing.T) {
	t.Parallel()
	inside := newTurnstile()
	s := &Server{Loops: 1, MaxConnAge: 20 * time.Millisecond, MaxConnAgeGrace: 20 * time.Millisecond, Handler: inside}
	c := dialRaw(t, startServer(t, s))
	c.send(request("/"))
	<-inside.came
	long := time.Now()
	eventually(t, "ten times as long", func() bool { return time.Since(long) > 10*(s.MaxConnAge+s.MaxConnAgeGrace) })
	inside.pass <- struct{}{}
	if a := c.answer("GET"); a.StatusCode != 200 || a.body != "passed" || !a.Close {
		t.Errorf("%s %q, the last: %v", a.Status, a.body, a.Close)
	}
	c.ended()
}

// Over HTTP/2 the client is told by itself, streams that run are answered, and those
// that outlast the grace are cut.
func TestMaxConnAgeHTTP2(t *testing.T) {
	t.Parallel()
	s := newEndServer(t, func(s *Server) { s.MaxConnAge = 100 * time.Millisecond })
	p, idle := s.dial(t), s.dial(t)
	slow := p.start("/wait")
	p.readUntil("GOAWAY", func() bool { return len(p.goAway) > 0 })
	if got := p.goAway[0]; got != (http2Away{streamMax, codeNone}) {
		t.Errorf("the first GOAWAY is %v", got)
	}
	idle.failed(codeNone)
	close(s.leave)
	p.answer(slow).want(t, 200, "waited")
	p.failed(codeNone)

	cut := newEndServer(t, func(s *Server) { s.MaxConnAge, s.MaxConnAgeGrace = 100*time.Millisecond, 200*time.Millisecond })
	p = cut.dial(t)
	p.start("/wait")
	p.toEnd()
	if len(p.goAway) == 0 {
		t.Error("it was cut without a word")
	}
	gone(t, cut.Server)
	close(cut.leave)
}

// MaxBufferedBytes and what it is a quarter of follow GOMEMLIMIT.
func TestMemoryLimit(t *testing.T) {
	before := debug.SetMemoryLimit(-1)
	defer debug.SetMemoryLimit(before)
	debug.SetMemoryLimit(64 << 20)
	if n := new(Server).limits().buffered; n != 16<<20 {
		t.Errorf("MaxBufferedBytes is %d with 64 MiB of memory", n)
	}
}

// While too much is buffered, requests with bodies are refused, and others are not.
func TestMaxBufferedBytesRefuses(t *testing.T) {
	t.Parallel()
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	s := &Server{Loops: 1, Handler: textHandler("fine"), MaxBufferedBytes: 64 << 10, MaxConns: -1}
	startPlainOn(t, s, ln)
	var conns []net.Conn
	for range 3 {
		conn, err := net.Dial("tcp", ln.Addr().String())
		if err != nil {
			t.Fatal(err)
		}
		defer conn.Close()
		conn.SetDeadline(time.Now().Add(patience))
		fmt.Fprint(conn, "GET / HTTP/1.1\r\nHost: a\r\n\r\n")
		readUntil(t, conn, "fine")
		fmt.Fprint(conn, "GET / HTTP/1.1\r\n") // or it would be closed as idle
		conns = append(conns, conn)
	}
	eventually(t, "three begun heads", func() bool { return s.Stats().Connections.Head == 3 })
	s.buffered.Add(65 << 10)
	defer s.buffered.Add(-(65 << 10))
	fmt.Fprint(conns[0], "Host: a\r\n\r\n")
	readUntil(t, conns[0], "fine")
	for i, framing := range []string{"Content-Length: 5", "Transfer-Encoding: chunked"} {
		fmt.Fprintf(conns[1+i], "Host: a\r\n%s\r\n\r\n", framing)
		got := readUntil(t, conns[1+i], "\r\n\r\n")
		if !strings.HasPrefix(got, "HTTP/1.1 503 ") || !strings.Contains(got, "\r\nRetry-After: 1\r\n") {
			t.Errorf("%s: %q", framing, got)
		}
	}
}

// The same over HTTP/2.
func TestMaxBufferedBytesRefusesHTTP2(t *testing.T) {
	t.Parallel()
	s := newEndServer(t, func(s *Server) { s.MaxBufferedBytes = 64 << 10 })
	p := s.dial(t)
	slow := p.start("/wait") // or the connection would be closed as idle
	eventually(t, "the handler", func() bool { return s.entered.Load() == 1 })
	s.buffered.Add(65 << 10)
	defer s.buffered.Add(-(65 << 10))
	for _, more := range [][]string{{"content-length: 5"}, nil} {
		a := p.answer(p.open(false, requestLines("POST", "/read", more...)...))
		if a.status != 503 || a.fields.Get("Retry-After") != "1" {
			t.Errorf("with %q: %v", more, a)
		}
	}
	p.get("/good").want(t, 200, "fine")
	close(s.leave)
	p.answer(slow).want(t, 200, "waited")
}

// What a handler has written and its client does not read counts too, with all the memory
// that holds it, until the client is gone.
func TestMaxBufferedBytesCountsResponses(t *testing.T) {
	t.Parallel()
	versions := new(http.Protocols)
	versions.SetHTTP1(true)
	versions.SetUnencryptedHTTP2(true)
	s := &Server{Loops: 1, Protocols: versions, Handler: HandlerFunc(func(w *ResponseWriter, r *Request) error {
		for range 1000 {
			if _, err := w.Write(make([]byte, 32<<10)); err != nil {
				return err
			}
		}
		return nil
	})}
	addr := startServer(t, s)
	for _, row := range []struct {
		name  string
		least int64
		ask   func() io.Closer
	}{
		{"HTTP/1.1", responseBufferMax, func() io.Closer { c := dialRaw(t, addr); c.send(request("/")); return c }},
		{"HTTP/2", responseBufferMax + http2QueueBytes, func() io.Closer { p := dialHTTP2(t, addr); p.start("/"); return p.nc }},
	} {
		client := row.ask()
		eventually(t, row.name+": the count", func() bool { return s.buffered.Load() >= row.least })
		client.Close()
		eventually(t, row.name+": its end", func() bool { return s.buffered.Load() == 0 })
	}
}

// readUntil reads until that has come, and returns all that has.
func readUntil(t *testing.T, conn net.Conn, text string) string {
	t.Helper()
	var got strings.Builder
	for buf := make([]byte, 1000); !strings.Contains(got.String(), text); {
		n, err := conn.Read(buf)
		if got.Write(buf[:n]); err != nil && !strings.Contains(got.String(), text) {
			if errors.Is(err, io.EOF) {
				err = io.ErrUnexpectedEOF
			}
			t.Fatalf("%.300q, %v; want %q", got.String(), err, text)
		}
	}
	return got.String()
}
