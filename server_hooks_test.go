package flare

import (
	"bytes"
	"context"
	"errors"
	"io"
	"log/slog"
	"net"
	"strings"
	"sync"
	"testing"
	"time"
)

// A logBook keeps what is logged to it.
type logBook struct {
	mu   sync.Mutex
	text bytes.Buffer // guarded by mu
}

func (b *logBook) Write(p []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.text.Write(p)
}

func (b *logBook) String() string {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.text.String()
}

func (b *logBook) logger() *slog.Logger { return slog.New(slog.NewTextHandler(b, nil)) }

// Whoever can make a server refuse must not fill its log, whatever the status.
func TestRefusalsAreThrottled(t *testing.T) {
	t.Parallel()
	for name, request := range map[string]string{
		"version": "GET /some/path HTTP/2.0\r\nHost: x\r\n\r\n",
		"coding":  "POST /some/path HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: x, chunked\r\n\r\n",
		"host":    "GET /some/path HTTP/1.1\r\n\r\n",
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			var log logBook
			addr := startServer(t, &Server{Logger: log.logger()})
			began, peer := time.Now(), ""
			for range 20 {
				c := dialRaw(t, addr)
				if peer == "" {
					peer = c.LocalAddr().String()
				}
				c.send(request)
				c.answer("GET")
			}
			text := log.String()
			if lines, most := strings.Count(text, "\n"), 1+int(time.Since(began)/logEvery); lines < 1 || lines > most {
				t.Errorf("%d lines in %v:\n%s", lines, time.Since(began), text)
			}
			method := request[:strings.IndexByte(request, ' ')]
			for _, want := range []string{"level=INFO", "method=" + method + " ", "path=/some/path ", "peer=" + peer + " "} {
				if !strings.Contains(text, want) {
					t.Errorf("no %q in %s", want, text)
				}
			}
			if strings.Contains(text, "ERROR") {
				t.Errorf("an error of the server's: %s", text)
			}
		})
	}
}

// A client that leaves is neither an error of the server's nor a line in its log,
// and the request's context says that it was that.
func TestClientThatLeaves(t *testing.T) {
	t.Parallel()
	var log logBook
	cause := make(chan error, 1)
	s := &Server{Logger: log.logger(), Handler: HandlerFunc(func(w *ResponseWriter, r *Request) error {
		ctx := r.Context()
		if r.Path() == "/ready" {
			return w.Text(200, "ready")
		}
		w.Informational(103, nil)
		<-ctx.Done()
		cause <- context.Cause(ctx)
		return ctx.Err()
	})}
	addr := startServer(t, s)
	c := dialRaw(t, addr)
	c.send("GET / HTTP/1.1\r\nHost: x\r\n\r\n")
	c.br.ReadString('\n') // the handler runs
	c.Close()
	if err := <-cause; !errors.Is(err, ErrClosed) || errors.Is(err, ErrServerClosed) {
		t.Errorf("the context ended for %v", err)
	}
	gone(t, s)
	eventually(t, "the counts", func() bool { return s.Stats().Responses.Class4xx == 1 })
	if n := s.Stats().Responses.Class5xx; n != 0 {
		t.Errorf("%d responses count as errors of the server's", n)
	}
	if text := log.String(); text != "" {
		t.Errorf("logged: %s", text)
	}

	c = dialRaw(t, addr)
	c.send("GET / HTTP/1.1\r\nHost: x\r\n\r\n")
	c.br.ReadString('\n')
	s.Close()
	if err := <-cause; !errors.Is(err, ErrServerClosed) {
		t.Errorf("the context ended for %v", err)
	}
}

// A client that connects to a port of TLS and leaves is no line in the log.
func TestTLSClientThatLeaves(t *testing.T) {
	t.Parallel()
	var log logBook
	s := &Server{Logger: log.logger()}
	addr := startTLSServer(t, s)
	for _, sent := range []string{"", "\x16\x03\x01"} {
		before := s.Stats()
		c := dialRaw(t, addr)
		c.send(sent)
		c.CloseWrite()
		c.toEnd()
		eventually(t, "the end of it", func() bool {
			now := s.Stats()
			return now.Accepted > before.Accepted && now.Connections.Open == 0
		})
	}
	if text := log.String(); text != "" {
		t.Errorf("logged: %s", text)
	}
}

// Without a deadline there are no limits of time and rate either: a client may
// be silent for longer.
func TestDeadlinesLifted(t *testing.T) {
	t.Parallel()
	const limit = 50 * time.Millisecond
	reading := make(chan struct{}, 1)
	s := &Server{BodyTimeout: limit, WriteTimeout: limit, Handler: HandlerFunc(func(w *ResponseWriter, r *Request) error {
		if r.Path() == "/lifted" {
			w.SetReadDeadline(time.Time{})
			w.SetWriteDeadline(time.Time{})
		}
		w.Flush()
		reading <- struct{}{}
		p, err := io.ReadAll(r.Body())
		if err != nil {
			return err
		}
		_, err = w.WriteString(strings.Repeat(string(p), 32<<20))
		return err
	})}
	addr := startServer(t, s)
	ask := func(path string) (int, error) {
		c := dialRaw(t, addr)
		c.send("POST ", path, " HTTP/1.1\r\nHost: x\r\nContent-Length: 1\r\nExpect: 100-continue\r\nConnection: close\r\n\r\n")
		<-reading
		time.Sleep(4 * limit) // the silence that is asked about
		c.send("x")
		time.Sleep(4 * limit)
		n, err := io.Copy(io.Discard, c.br)
		return int(n), err
	}
	if n, err := ask("/lifted"); err != nil || n < 32<<20 {
		t.Errorf("lifted: %d bytes, %v", n, err)
	}
	if n, _ := ask("/"); n >= 32<<20 {
		t.Errorf("not lifted: %d bytes", n)
	}
}

// A silentConn is one of a PROXY protocol: the address comes with the first octet.
type silentConn struct{ net.Conn }

func (c silentConn) RemoteAddr() net.Addr {
	c.Conn.Read(make([]byte, 1))
	return c.Conn.RemoteAddr()
}

type silentListener struct{ net.Listener }

func (ln silentListener) Accept() (net.Conn, error) {
	nc, err := ln.Listener.Accept()
	return silentConn{nc}, err
}

// A client that is slow to say who it is holds up nobody, and not for ever.
func TestSilentClientOfUsersListener(t *testing.T) {
	t.Parallel()
	s := &Server{HandshakeTimeout: 200 * time.Millisecond, Handler: textHandler("ok")}
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	startPlainOn(t, s, silentListener{ln})
	silent := dialRaw(t, ln.Addr().String())
	c := dialRaw(t, ln.Addr().String())
	c.send("-GET / HTTP/1.1\r\nHost: x\r\n\r\n")
	c.answer("GET").want(t, 200, "ok")
	c.Close()
	silent.ended()
}
