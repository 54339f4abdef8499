package flare

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"maps"
	"net"
	"net/http"
	"net/http/httptest"
	"path/filepath"
	"runtime"
	"slices"
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

// A connBook is the hooks of a server, and what they were told.
type connBook struct {
	mu    sync.Mutex
	told  map[net.Conn][]http.ConnState // guarded by mu
	addrs map[net.Conn]string           // when it was new; guarded by mu
}

type bookKey struct{}

func addrsOf(c net.Conn) string { return fmt.Sprint(c.RemoteAddr(), " ", c.LocalAddr()) }

func (b *connBook) state(c net.Conn, state http.ConnState) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.told == nil {
		b.told, b.addrs = make(map[net.Conn][]http.ConnState), make(map[net.Conn]string)
	}
	if state == http.StateNew {
		b.addrs[c] = addrsOf(c)
	}
	b.told[c] = append(b.told[c], state)
}

// firstAddrs returns the addresses of c when it was new.
func (b *connBook) firstAddrs(c net.Conn) string {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.addrs[c]
}

// of returns what was told of c.
func (b *connBook) of(c net.Conn) []http.ConnState {
	b.mu.Lock()
	defer b.mu.Unlock()
	return slices.Clone(b.told[c])
}

// conns returns the connections that were told of.
func (b *connBook) conns() []net.Conn {
	b.mu.Lock()
	defer b.mu.Unlock()
	return slices.Collect(maps.Keys(b.told))
}

// awaitLast waits until the last that was told of c is state.
func (b *connBook) awaitLast(t *testing.T, c net.Conn, state http.ConnState) {
	t.Helper()
	eventually(t, state.String(), func() bool {
		told := b.of(c)
		return len(told) > 0 && told[len(told)-1] == state
	})
}

// A hookedListener is a way to reach a server with hooks.
type hookedListener struct {
	name  string
	http2 bool
	// serve serves s, and returns who connects to it, and what its address is for
	// an http.Client.
	serve func(t *testing.T, s *Server) (dial func() net.Conn, scheme string)
}

func dialed(t *testing.T, network, addr string) func() net.Conn {
	return func() net.Conn {
		nc, err := net.Dial(network, addr)
		if err != nil {
			t.Fatal(err)
		}
		return nc
	}
}

var hookedListeners = []hookedListener{
	{name: "TCP", serve: func(t *testing.T, s *Server) (func() net.Conn, string) {
		return dialed(t, "tcp", startServer(t, s)), "http"
	}},
	{name: "Unix", serve: func(t *testing.T, s *Server) (func() net.Conn, string) {
		ln, err := net.Listen("unix", filepath.Join(t.TempDir(), "s"))
		if err != nil {
			t.Fatal(err)
		}
		startPlainOn(t, s, ln)
		return dialed(t, "unix", ln.Addr().String()), "http"
	}},
	{name: "memory", serve: func(t *testing.T, s *Server) (func() net.Conn, string) {
		ln := startPlain(t, s)
		return func() net.Conn {
			nc, err := ln.dial(t.Context(), "", "")
			if err != nil {
				t.Fatal(err)
			}
			return nc
		}, "http"
	}},
	{name: "TLS", serve: func(t *testing.T, s *Server) (func() net.Conn, string) {
		s.Protocols = onlyHTTP1()
		return dialed(t, "tcp", startTLSServer(t, s)), "https"
	}},
	{name: "HTTP 2", http2: true, serve: func(t *testing.T, s *Server) (func() net.Conn, string) {
		return dialed(t, "tcp", startTLSServer(t, s)), "https"
	}},
	{name: "HTTP 2 of tls.NewListener", http2: true, serve: func(t *testing.T, s *Server) (func() net.Conn, string) {
		return dialed(t, "tcp", foreignTLSServer(t, s, "h2")), "https"
	}},
}

// client returns a client with a connection of its own.
func (l *hookedListener) client(t *testing.T, dial func() net.Conn) *http.Client {
	client := tlsHTTPClient(t, l.http2)
	tr := client.Transport.(*http.Transport)
	tr.DialContext = func(context.Context, string, string) (net.Conn, error) { return dial(), nil }
	tr.MaxConnsPerHost = 1 // a request waits for the one before rather than dial anew
	return client
}

// Hooks hear of a connection as the same net.Conn from its first state to its last,
// on listeners on which addresses tell nothing too; and requests' contexts have what
// BaseContext and ConnContext put there.
func TestConnHooks(t *testing.T) {
	const n, a, i, h, c = http.StateNew, http.StateActive, http.StateIdle, http.StateHijacked, http.StateClosed
	for _, l := range hookedListeners {
		t.Run(l.name, func(t *testing.T) {
			t.Parallel()
			var book connBook
			type listenerKey struct{}
			seen := make(chan net.Conn, 1)
			s := &Server{ConnState: book.state}
			s.BaseContext = func(ln net.Listener) context.Context {
				return context.WithValue(context.Background(), listenerKey{}, ln)
			}
			s.ConnContext = func(ctx context.Context, c net.Conn) context.Context {
				return context.WithValue(ctx, bookKey{}, c)
			}
			s.Handler = HandlerFunc(func(w *ResponseWriter, r *Request) error {
				known, _ := r.Value(bookKey{}).(net.Conn)
				if _, ok := r.Value(listenerKey{}).(net.Listener); !ok || known == nil {
					t.Error("Value has not what the hooks gave")
				}
				if ctx := r.Context(); ctx.Value(bookKey{}) != any(known) || ctx.Value(listenerKey{}) == nil {
					t.Error("Context has not what the hooks gave")
				}
				seen <- known
				if r.Path() == "/hijack" {
					nc, _, err := w.Hijack()
					if err == nil {
						_, err = io.WriteString(nc, "HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n")
						nc.Close()
					}
					return err
				}
				return w.Text(200, "fine")
			})
			dial, scheme := l.serve(t, s)
			one, two := l.client(t, dial), l.client(t, dial)
			known := make(map[net.Conn]bool)
			for _, client := range []*http.Client{one, two, one, two} {
				getBy(t, client, scheme+"://localhost/")
				nc := <-seen
				known[nc] = true
				book.awaitLast(t, nc, i)
			}
			one.CloseIdleConnections()
			two.CloseIdleConnections()
			gone(t, s)
			if len(known) != 2 {
				t.Errorf("two connections are %d to ConnContext", len(known))
			}
			want := []http.ConnState{n, a, i, a, i, c}
			for nc := range known {
				if told := book.of(nc); !slices.Equal(told, want) {
					t.Errorf("told %v, want %v", told, want)
				}
				if was := book.firstAddrs(nc); was != addrsOf(nc) {
					t.Errorf("the addresses were %v and are %v", was, addrsOf(nc))
				}
			}
			if !l.http2 {
				getBy(t, one, scheme+"://localhost/hijack")
				nc := <-seen
				gone(t, s)
				if told := book.of(nc); !slices.Equal(told, []http.ConnState{n, a, h}) {
					t.Errorf("of a hijacked one was told %v", told)
				}
			}
			if told := book.conns(); len(told) != len(known) && len(told) != len(known)+1 {
				t.Errorf("%d connections were told of", len(told))
			}
		})
	}
}

// Addresses that hooks see are those of the connection, and all else is refused.
func TestHookConn(t *testing.T) {
	told := make(chan net.Conn, 1)
	s := &Server{ConnState: func(c net.Conn, state http.ConnState) {
		if state == http.StateNew {
			told <- c
		}
	}}
	client := dialRaw(t, startServer(t, s))
	c := <-told
	if got, want := addrsOf(c), fmt.Sprint(client.LocalAddr(), " ", client.RemoteAddr()); got != want {
		t.Errorf("addresses %q, want %q", got, want)
	}
	_, read := c.Read(make([]byte, 1))
	_, write := c.Write([]byte("x"))
	for name, err := range map[string]error{
		"Read": read, "Write": write, "Close": c.Close(), "SetDeadline": c.SetDeadline(time.Now()),
		"SetReadDeadline": c.SetReadDeadline(time.Now()), "SetWriteDeadline": c.SetWriteDeadline(time.Now()),
	} {
		if !errors.Is(err, errors.ErrUnsupported) {
			t.Errorf("%s: %v", name, err)
		}
	}
	client.get("/").want(t, 404, "Not Found\n")
}

// WebSockets keep what hooks know their connection by.
func TestConnHooksOfWebSockets(t *testing.T) {
	const n, a, c = http.StateNew, http.StateActive, http.StateClosed
	for name, handler := range map[string]Handler{
		"on the loop": wsEcho(WebSocketOptions{}), "accepted": wsEchoBlocking(WebSocketOptions{}),
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			var book connBook
			s := &Server{Handler: handler, ConnState: book.state}
			wsRaw(t, TestServer(t, s), "").Close()
			gone(t, s)
			conns := book.conns()
			if len(conns) != 1 || !slices.Equal(book.of(conns[0]), []http.ConnState{n, a, c}) {
				t.Errorf("told of %d connections: %v", len(conns), book.told)
			}
		})
	}
}

// The hook hears of another server's connection, once it is hijacked, as that
// server's hooks do.
func TestConnStateOfCarriedHijack(t *testing.T) {
	var book, others connBook
	s := &Server{ConnState: book.state, Handler: HandlerFunc(func(w *ResponseWriter, r *Request) error {
		nc, _, err := w.Hijack()
		if err == nil {
			_, err = io.WriteString(nc, "HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n")
			nc.Close()
		}
		return err
	})}
	other := httptest.NewUnstartedServer(s)
	other.Config.ConnState = others.state
	other.Start()
	defer other.Close()
	getBy(t, other.Client(), other.URL)
	gone(t, s)
	conns := book.conns()
	if len(conns) != 1 || !slices.Contains(others.of(conns[0]), http.StateHijacked) {
		t.Errorf("told of %v, the other server's of %v", book.told, others.told)
	}
}

// The end of a context that BaseContext gave ends the requests' with its cause, and
// a client that leaves does so with its own.
func TestBaseContextEnds(t *testing.T) {
	base, end := context.WithCancelCause(context.Background())
	running, causes := make(chan bool), make(chan error, 1)
	s := &Server{
		BaseContext: func(net.Listener) context.Context { return base },
		Handler: HandlerFunc(func(w *ResponseWriter, r *Request) error {
			ctx := r.Context()
			running <- true
			<-ctx.Done()
			causes <- context.Cause(ctx)
			return w.Text(200, "ended")
		}),
	}
	addr := startServer(t, s)
	leaving := dialRaw(t, addr)
	leaving.send(request("/"))
	<-running
	leaving.Close()
	if cause := <-causes; cause != errPeerLeft {
		t.Errorf("the client left: %v", cause)
	}
	staying := dialRaw(t, addr)
	staying.send(request("/"))
	<-running
	end(errOnPurpose)
	if cause := <-causes; cause != errOnPurpose {
		t.Errorf("the base context ended: %v", cause)
	}
	staying.answer("GET").want(t, 200, "ended")
}

// A BaseContext that fails is an error of Serve, which closes the listener.
func TestBaseContextFails(t *testing.T) {
	for name, hook := range map[string]func(net.Listener) context.Context{
		"nil":    func(net.Listener) context.Context { return nil },
		"panic":  func(net.Listener) context.Context { panic("on purpose") },
		"Goexit": func(net.Listener) context.Context { runtime.Goexit(); return nil },
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := &Server{BaseContext: hook, Logger: quietLogger()}
			defer s.Close()
			ln := newPlainListener()
			served := make(chan error, 1)
			go func() {
				err := ErrServerClosed
				defer func() { served <- err }()
				err = s.Serve(ln)
			}()
			err := <-served
			if name != "Goexit" && (err == nil || errors.Is(err, ErrServerClosed)) {
				t.Errorf("Serve: %v", err)
			}
			<-ln.done
		})
	}
}

// A connection whose context fails is cut: it reaches no handler, and is told of like others.
func TestConnContextFails(t *testing.T) {
	for name, hook := range map[string]func(context.Context, net.Conn) context.Context{
		"nil":    func(context.Context, net.Conn) context.Context { return nil },
		"panic":  func(context.Context, net.Conn) context.Context { panic("on purpose") },
		"Goexit": func(context.Context, net.Conn) context.Context { runtime.Goexit(); return nil },
	} {
		for _, l := range hookedListeners {
			t.Run(name+" "+l.name, func(t *testing.T) {
				t.Parallel()
				var book connBook
				s := &Server{ConnState: book.state, ConnContext: hook, MaxConnsPerIP: 1}
				s.Handler = HandlerFunc(func(w *ResponseWriter, r *Request) error {
					t.Error("the handler was called")
					return nil
				})
				dial, _ := l.serve(t, s)
				for range 2 {
					nc := dial()
					nc.SetDeadline(time.Now().Add(patience))
					if n, err := nc.Read(make([]byte, 1)); n > 0 || isTimeout(err) {
						t.Errorf("read %d bytes, %v", n, err)
					}
					nc.Close()
					gone(t, s)
				}
				if conns := book.conns(); len(conns) != 2 {
					t.Errorf("told of %d connections", len(conns))
				}
				for _, c := range book.conns() {
					if told := book.of(c); !slices.Equal(told, []http.ConnState{http.StateNew, http.StateClosed}) {
						t.Errorf("told %v", told)
					}
				}
			})
		}
	}
}

// A connection of a server without hooks has nothing of its own for them.
func TestNoHooksCostNothing(t *testing.T) {
	f := newFeeder(t, &Server{Handler: textHandler("fine")})
	ln := &servedListener{limits: &f.srv.lim.conn}
	c := f.newConn()
	f.srv.connBegins(ln, c, nil, nil)
	if c.limits != &f.srv.lim.conn {
		t.Error("a connection has limits of its own")
	}
}
