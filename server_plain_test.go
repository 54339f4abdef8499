package flare

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"strings"
	"sync"
	"testing"
	"time"
)

// This file is about the plain driver: listeners without a descriptor. The
// other tests of the server run on it with FLARE_TEST_PLAIN=1, through TestMain.

// A server may have connections with and without descriptors on the same loops.
func TestPlainBesideTheLoop(t *testing.T) {
	s := &Server{Loops: 1, Handler: HandlerFunc(describe)}
	addr := startServer(t, s)
	ln := startPlain(t, s)
	plain, raw := dialPlain(t, ln), dialRaw(t, addr)
	for range 3 {
		for _, input := range []string{
			request("/"),
			head("POST /x HTTP/1.1", "Content-Length: 5") + "hello",
			head("POST /x HTTP/1.1", "Transfer-Encoding: chunked") + "5\r\nhello\r\n0\r\nT: v\r\n\r\n",
			head("POST /x HTTP/1.1", "Content-Length: 100000") + strings.Repeat("x", 100_000),
		} {
			plain.send(input)
			raw.send(input)
			want := raw.answer("POST")
			plain.answer("POST").want(t, want.StatusCode, want.body)
		}
	}
	if st := s.Stats(); st.Accepted != 2 || st.Connections.Open != 2 {
		t.Errorf("%d accepted, %d open", st.Accepted, st.Connections.Open)
	}
	if n := len(s.Addrs()); n != 2 {
		t.Errorf("%d addresses", n)
	}
	if !onPlain() && len(loopsOf(s)[0].plain) != 1 {
		t.Error("the connection in memory is not one of the plain driver")
	}
}

// A burst of requests is answered in order, and the last answer closes at once:
// nobody can shut one direction of a pipe.
func TestPlainPipelineAndEnd(t *testing.T) {
	s := &Server{Handler: routes{"/": textHandler("fine"), "/big": textHandler(strings.Repeat("x", 300<<10))}}
	c := dialPlain(t, startPlain(t, s))
	c.send(strings.Repeat(request("/")+request("/big"), 10) + request("/", "Connection: close"))
	for range 10 {
		c.answer("GET").want(t, 200, "fine")
		c.answer("GET").want(t, 200, strings.Repeat("x", 300<<10))
	}
	if a := c.answer("GET"); a.body != "fine" || !a.Close {
		t.Errorf("%q, close %v", a.body, a.Close)
	}
	c.ended()
	gone(t, s)
}

// net/http's client, WebSockets of both kinds and files over connections in
// memory.
func TestPlainRoles(t *testing.T) {
	file := t.TempDir() + "/file.txt"
	text := strings.Repeat("0123456789", 50_000)
	if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	mux := NewMux()
	mux.Post("/echo", echoHandler)
	mux.Get("/file", func(w *ResponseWriter, r *Request) error { return w.SendFile(file) })
	mux.Get("/peer", func(w *ResponseWriter, r *Request) error { return w.Text(200, fmt.Sprint(r.RemoteAddr())) })
	for style, h := range wsStyles(WebSocketOptions{Compression: CompressionOn}) {
		mux.Handle("GET /ws/"+style, h)
	}
	ln := startPlain(t, &Server{Handler: mux, MaxConnsPerIP: 1}) // no address, so not counted
	transport := &http.Transport{DialContext: ln.dial}
	defer transport.CloseIdleConnections()
	client := &http.Client{Transport: transport}
	fetch := func(method, path string, body io.Reader) string {
		t.Helper()
		req, err := http.NewRequest(method, "http://h"+path, body)
		if err != nil {
			t.Fatal(err)
		}
		resp, err := client.Do(req)
		if err != nil {
			t.Fatal(err)
		}
		defer resp.Body.Close()
		p, err := io.ReadAll(resp.Body)
		if err != nil || resp.StatusCode != 200 {
			t.Fatalf("%s: %d, %v", path, resp.StatusCode, err)
		}
		return string(p)
	}
	if got := fetch("GET", "/file", nil); got != text {
		t.Errorf("the file: %d bytes", len(got))
	}
	if got := fetch("POST", "/echo", io.MultiReader(strings.NewReader(text))); got != text { // in chunks
		t.Errorf("the echo: %d bytes", len(got))
	}
	if got := fetch("GET", "/peer", nil); got != "invalid AddrPort" {
		t.Errorf("RemoteAddr of a connection without one: %s", got)
	}
	for style := range wsStyles(WebSocketOptions{}) {
		ctx := wsPatience(t)
		ws, _, err := DialWebSocket(ctx, "ws://h/ws/"+style, &WebSocketDialOptions{NetDial: ln.dial})
		if err != nil {
			t.Fatalf("%s: %v", style, err)
		}
		for _, message := range []string{"a", strings.Repeat("b", 200_000), ""} {
			go ws.WriteText(ctx, message)
			if _, p, err := ws.Read(ctx); err != nil || string(p) != message {
				t.Errorf("%s: %d bytes, %v", style, len(p), err)
			}
		}
		ws.Close(CloseNormal, "")
	}
}

// Hijack gives the very net.Conn, with everything that was sent behind the
// request.
func TestPlainHijack(t *testing.T) {
	type taken struct {
		conn net.Conn
		rest string
		err  error
	}
	hijacked := make(chan taken, 1)
	h := HandlerFunc(func(w *ResponseWriter, r *Request) error {
		conn, rw, err := w.Hijack()
		if err != nil {
			hijacked <- taken{err: err}
			return nil
		}
		rest := make([]byte, 2*plainReadBytes)
		n, err := io.ReadFull(rw, rest)
		hijacked <- taken{conn, string(rest[:n]), err}
		return nil
	})
	for name, pin := range map[string]Middleware{"on a worker": Offload, "on the loop": Inline} {
		t.Run(name, func(t *testing.T) {
			var given net.Conn
			ln := newPlainListener()
			ln.wrap = func(c net.Conn) net.Conn { given = c; return c }
			s := &Server{Handler: pin(h)}
			startPlainOn(t, s, ln)
			c := dialPlain(t, ln)
			// More than the driver reads ahead: some of it is in the turn's input,
			// some received and not taken, and some still with the writer.
			behind := strings.Repeat("0123456789abcdef", 2*plainReadBytes/16)
			c.send(request("/") + behind)
			got := <-hijacked
			if got.err != nil || got.rest != behind {
				t.Fatalf("%d bytes behind the request, want %d: %v", len(got.rest), len(behind), got.err)
			}
			if got.conn != given {
				t.Errorf("a %T instead of the listener's own connection", got.conn)
			}
			gone(t, s)
			go got.conn.Write([]byte("hello"))
			if p := make([]byte, 5); func() bool { _, err := io.ReadFull(c.br, p); return err != nil || string(p) != "hello" }() {
				t.Errorf("%q", p)
			}
			go io.WriteString(c, "bye")
			p := make([]byte, 3)
			if _, err := io.ReadFull(got.conn, p); err != nil || string(p) != "bye" {
				t.Errorf("%q, %v", p, err)
			}
			got.conn.Close()
		})
	}
	t.Run("without deadlines", func(t *testing.T) {
		ln := newPlainListener()
		ln.wrap = func(c net.Conn) net.Conn { return plainTimeless{c} }
		startPlainOn(t, &Server{Handler: h}, ln)
		c := dialPlain(t, ln)
		c.send(request("/"))
		if got := <-hijacked; !errors.Is(got.err, errors.ErrUnsupported) {
			t.Errorf("Hijack of a connection that cannot be taken from its reader: %v", got.err)
		}
	})
}

// A plainTimeless is a net.Conn without deadlines.
type plainTimeless struct{ net.Conn }

func (plainTimeless) SetReadDeadline(time.Time) error { return errors.ErrUnsupported }

// Shutdown closes idle connections, answers what was begun, and waits until the
// answer has left; Close cuts.
func TestPlainShutdown(t *testing.T) {
	running, leave := make(chan bool, 1), make(chan bool)
	body := strings.Repeat("x", plainQueueBytes/2)
	s := &Server{Logger: quietLogger(), Handler: HandlerFunc(func(w *ResponseWriter, r *Request) error {
		running <- true
		<-leave
		return w.Text(200, body)
	})}
	ln := startPlain(t, s)
	idle, busy := dialPlain(t, ln), dialPlain(t, ln)
	busy.send(request("/"))
	<-running
	down := make(chan error, 1)
	go func() { down <- s.Shutdown(context.Background()) }()
	idle.ended()
	leave <- true
	eventually(t, "the answer to be queued", func() bool { return gauge(s, stateFlush) == 1 })
	select {
	case err := <-down:
		t.Fatalf("Shutdown returned with an answer unsent: %v", err)
	default:
	}
	if a := busy.answer("GET"); a.body != body || !a.Close {
		t.Errorf("%d bytes, close %v", len(a.body), a.Close)
	}
	busy.ended()
	if err := <-down; err != nil {
		t.Errorf("Shutdown: %v", err)
	}

	s2 := &Server{Handler: textHandler(strings.Repeat("x", 1<<20))}
	ln2 := startPlain(t, s2)
	var cut []*plainPeer
	for range 4 {
		c := dialPlain(t, ln2)
		c.send(request("/"))
		cut = append(cut, c)
	}
	eventually(t, "answers under way", func() bool { return s2.Stats().Requests == 4 })
	s2.Close()
	for _, c := range cut {
		c.cut()
	}
}

// A user's own Protocol, with its back-pressure.
func TestPlainProtocol(t *testing.T) {
	const bound = 8 << 20 // beyond what sockets hold
	closed := make(chan error, 1)
	s := &Server{MaxOutputBytes: bound, NewProtocol: func(c *Conn) Protocol { return &plainLines{closed: closed} }}
	addr, ln := startServer(t, s), startPlain(t, s)
	for name, dial := range map[string]func() *plainPeer{
		"plain":    func() *plainPeer { return dialPlain(t, ln) },
		"the loop": func() *plainPeer { c := dialRaw(t, addr); return &plainPeer{c, t, c.br} },
	} {
		t.Run(name, func(t *testing.T) {
			c := dial()
			c.send("one\ntwo\n")
			for _, want := range []string{"ONE\n", "TWO\n"} {
				if got, err := c.br.ReadString('\n'); err != nil || got != want {
					t.Fatalf("%q, %v", got, err)
				}
			}
			c.send("flood\n")
			n, err := io.Copy(io.Discard, c.br)
			if err != nil || n < bound/2*3 { // Drained is called at the low mark
				t.Errorf("%d bytes of the flood, %v", n, err)
			}
			c.Close()
			if err := <-closed; err != nil {
				t.Errorf("Closed: %v", err)
			}
		})
	}
}

// plainLines answers lines in capitals, and "flood" with as much as is taken,
// twice over.
type plainLines struct {
	closed chan error
	floods int
}

func (p *plainLines) Data(c *Conn, in []byte, eof bool) (int, error) {
	i := bytes.IndexByte(in, '\n')
	if i < 0 {
		return 0, nil
	}
	if string(in[:i]) == "flood" {
		p.flood(c)
	} else {
		c.Write(bytes.ToUpper(in[:i+1]))
	}
	return i + 1, nil
}

func (p *plainLines) flood(c *Conn) {
	p.floods++
	for c.Write(make([]byte, 1000)) == nil {
	}
}

func (p *plainLines) Drained(c *Conn) {
	if p.floods == 1 {
		p.flood(c)
		c.Close()
	}
}

func (p *plainLines) Closed(c *Conn, err error) { p.closed <- err }

// More connections than the server takes wait, with a listener whose Accept is
// under way when the server fills up.
func TestPlainMaxConns(t *testing.T) {
	s := &Server{MaxConns: 1, Handler: textHandler("fine")}
	one, two := startPlain(t, s), startPlain(t, s)
	eventually(t, "both", func() bool { return len(s.Addrs()) == 2 })
	first := dialPlain(t, one)
	first.send(request("/"))
	first.answer("GET").want(t, 200, "fine")
	second := dialPlain(t, two)
	second.send(request("/"))
	eventually(t, "the wait", func() bool {
		s.mu.Lock()
		defer s.mu.Unlock()
		return s.listeners[0].paused.Load() && s.listeners[1].paused.Load()
	})
	if n := s.conns.Load(); n != 1 {
		t.Errorf("%d connections", n)
	}
	first.Close()
	second.answer("GET").want(t, 200, "fine")
}

// Errors of Accept: one that passes is tried again, another ends Serve and
// leaves the connections alone.
func TestPlainAcceptErrors(t *testing.T) {
	s := &Server{Handler: textHandler("fine")}
	ln := &plainFlaky{plainListener: newPlainListener(), errs: make(chan error, 1)}
	ln.errs <- plainPassing{}
	served := make(chan error, 1)
	go func() { served <- s.Serve(ln) }()
	defer s.Close()
	c := dialPlain(t, ln.plainListener)
	c.send(request("/"))
	c.answer("GET").want(t, 200, "fine")
	ln.errs <- io.ErrNoProgress
	if err := <-served; err != io.ErrNoProgress {
		t.Errorf("Serve: %v", err)
	}
	c.send(request("/"))
	c.answer("GET").want(t, 200, "fine")
}

type plainFlaky struct {
	*plainListener
	errs chan error
}

func (ln *plainFlaky) Accept() (net.Conn, error) {
	select {
	case err := <-ln.errs:
		return nil, err
	case c := <-ln.conns:
		return c, nil
	}
}

type plainPassing struct{}

func (plainPassing) Error() string   { return "passing" }
func (plainPassing) Timeout() bool   { return false }
func (plainPassing) Temporary() bool { return true }

// A listener that embeds one with a descriptor is asked for its connections all
// the same: its Accept may do what it likes.
func TestPlainEmbeddedListener(t *testing.T) {
	tcp, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	ln := &plainCounting{TCPListener: tcp.(*net.TCPListener)}
	s := &Server{Handler: HandlerFunc(func(w *ResponseWriter, r *Request) error {
		return w.Text(200, r.RemoteAddr().String())
	})}
	startPlainOn(t, s, ln)
	c := dialRaw(t, tcp.Addr().String())
	c.get("/").want(t, 200, c.LocalAddr().String())
	if ln.accepted != 1 {
		t.Errorf("Accept was called for %d connections", ln.accepted)
	}
	c.Close()
	gone(t, s)
}

type plainCounting struct {
	*net.TCPListener
	accepted int
}

func (ln *plainCounting) Accept() (net.Conn, error) {
	c, err := ln.TCPListener.Accept()
	if err == nil {
		ln.accepted++
	}
	return c, err
}

// Numbers of the plain driver are used again, and many connections come and go
// at the same time.
func TestPlainChurn(t *testing.T) {
	s := &Server{Loops: 2, Handler: routes{"/": textHandler("fine"), "/worker": Offload(textHandler("worker"))}}
	ln := startPlain(t, s)
	var all sync.WaitGroup
	for i := range 16 {
		all.Go(func() {
			for n := range 30 {
				c := dialPlain(t, ln)
				for range n % 3 {
					c.send(request("/") + request("/worker"))
					for _, want := range []string{"fine", "worker"} {
						if a, err := readAnswer(c.br, "GET"); err != nil || a.body != want {
							t.Errorf("%v", err)
							return
						}
					}
				}
				if (i+n)%2 == 0 {
					c.Close()
				} else {
					c.send(request("/", "Connection: close"))
					c.cut()
				}
			}
		})
	}
	all.Wait()
	gone(t, s)
	for _, l := range loopsOf(s) {
		// Of 480 connections in all; those that were left are forgotten late.
		if n := len(l.plain); n > 100 {
			t.Errorf("%d numbers for 16 connections and what is left of earlier ones", n)
		}
	}
}
