package flare

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"runtime"
	"strings"
	"sync/atomic"
	"testing"
	"time"
)

func TestGuard(t *testing.T) {
	if p := guard(func() {}, func() { t.Error("exited") }); p != nil {
		t.Errorf("a function that returned: %v", p)
	}
	cause := errors.New("cause")
	p := guard(func() { panic(cause) }, func() { t.Error("exited") })
	if p == nil || p.value != cause || !strings.Contains(string(p.stack), "TestGuard") {
		t.Errorf("a function that panicked: %v", p)
	}
	if p := guard(func() { panic(nil) }, nil); p == nil {
		t.Error("panic(nil) looks like a return")
	}
	exits := 0
	done := make(chan struct{})
	go func() {
		defer close(done)
		guard(runtime.Goexit, func() { exits++ })
		t.Error("guard has returned")
	}()
	<-done
	if exits != 1 {
		t.Errorf("exited was called %d times", exits)
	}
	n := 0
	if allocs := testing.AllocsPerRun(100, func() { guard(func() { n++ }, func() { n-- }) }); allocs != 0 {
		t.Errorf("%v allocations", allocs)
	}
}

var errOnPurpose = errors.New("on purpose")

// faults are what code of the user does, and whether the server ends with it.
var faults = []struct {
	name string
	do   func(s *Server) error
	ends bool
}{
	{"return", func(s *Server) error { return nil }, false},
	{"error", func(s *Server) error { return errOnPurpose }, false},
	{"panic", func(s *Server) error { panic("on purpose") }, false},
	{"Goexit", func(s *Server) error { runtime.Goexit(); return nil }, false},
	{"Stats", func(s *Server) error { s.Stats(); return nil }, false},
	{"Addrs", func(s *Server) error { s.Addrs(); return nil }, false},
	{"Close", func(s *Server) error { return s.Close() }, true},
	{"Shutdown", func(s *Server) error {
		ctx, cancel := context.WithTimeout(context.Background(), 10*time.Millisecond)
		defer cancel()
		s.Shutdown(ctx) // it waits for its own caller, and cuts it
		return nil
	}, true},
}

// These call fault where their names say.
type (
	faultyWriter struct {
		io.WriteCloser
		write, close func() error
	}
	faultyError    struct{ fault func() error }
	faultyLogger   struct{ fault func() error }
	faultyProtocol struct{ fault map[string]func() error }
)

func (w faultyWriter) Write(p []byte) (int, error) {
	if err := w.write(); err != nil {
		return 0, err
	}
	return w.WriteCloser.Write(p)
}

func (w faultyWriter) Close() error {
	if err := w.close(); err != nil {
		return err
	}
	return w.WriteCloser.Close()
}

func (e faultyError) Error() string   { return "faulty" }
func (e faultyError) Is(error) bool   { e.fault(); return false }
func (e faultyError) As(any) bool     { e.fault(); return false }
func nothing() error                  { return nil }
func (l faultyLogger) Unwrap() error  { return nil }
func (l faultyLogger) String() string { return "faulty" }

func (l faultyLogger) Enabled(context.Context, slog.Level) bool  { return true }
func (l faultyLogger) Handle(context.Context, slog.Record) error { return l.fault() }
func (l faultyLogger) WithAttrs([]slog.Attr) slog.Handler        { return l }
func (l faultyLogger) WithGroup(string) slog.Handler             { return l }

func (p *faultyProtocol) at(place string) error {
	if fault := p.fault[place]; fault != nil {
		return fault()
	}
	return nil
}

func (p *faultyProtocol) Data(c *Conn, in []byte, eof bool) (int, error) {
	if p.fault["Drained"] != nil {
		c.Post(func() { c.callDrained(c.workset) })
	}
	if p.fault["posted"] != nil {
		c.Post(func() { p.at("posted"); c.Close() })
	}
	if p.fault["Expired"] != nil {
		c.SetTimeout(time.Millisecond)
	}
	if err := p.at("Data"); err != nil {
		return 0, err
	}
	return len(in), c.Write(in)
}
func (p *faultyProtocol) Drained(c *Conn) {
	if p.fault["Drained"] != nil {
		p.at("Drained")
		c.Close()
	}
}

func (p *faultyProtocol) Expired(c *Conn)     { p.at("Expired"); c.Close() }
func (p *faultyProtocol) Closed(*Conn, error) { p.at("Closed") }

// A faultyListener is a listener of the user's, with connections of the user's.
type faultyListener struct {
	net.Listener
	fault map[string]func() error
}

type faultyConn struct {
	net.Conn
	ln *faultyListener
}

func (ln *faultyListener) at(place string) error {
	if fault := ln.fault[place]; fault != nil {
		return fault()
	}
	return nil
}

func (ln *faultyListener) Accept() (net.Conn, error) {
	nc, err := ln.Listener.Accept()
	if err != nil {
		return nil, err
	}
	return faultyConn{nc, ln}, nil
}
func (ln *faultyListener) Addr() net.Addr { ln.at("Addr"); return ln.Listener.Addr() }
func (ln *faultyListener) Close() error   { ln.at("Listener.Close"); return ln.Listener.Close() }

func (c faultyConn) Read(p []byte) (int, error) {
	if err := c.ln.at("Read"); err != nil {
		return 0, err
	}
	return c.Conn.Read(p)
}

func (c faultyConn) Write(p []byte) (int, error) {
	if err := c.ln.at("Write"); err != nil {
		return 0, err
	}
	return c.Conn.Write(p)
}
func (c faultyConn) Close() error         { defer c.ln.at("Conn.Close"); return c.Conn.Close() }
func (c faultyConn) RemoteAddr() net.Addr { c.ln.at("RemoteAddr"); return c.Conn.RemoteAddr() }

// A userPlace is a place where a server calls the user's code: ready has s call
// fault there, once a request has come.
type userPlace struct {
	name  string
	ready func(s *Server, fault func() error)
	tls   bool
	ws    bool
}

// serverPlaces are those of HTTP and WebSockets.
var serverPlaces = []userPlace{
	{name: "Handler", ready: func(s *Server, fault func() error) {
		s.Handler = HandlerFunc(func(w *ResponseWriter, r *Request) error {
			if err := fault(); err != nil {
				return err
			}
			return w.Text(200, "ok")
		})
	}},
	{name: "Route", ready: func(s *Server, fault func() error) { s.Handler = faultyRouter(fault) }},
	{name: "ErrorHandler", ready: func(s *Server, fault func() error) {
		s.Handler = faultyOnce(fault, func(fault func() error) Handler {
			s.ErrorHandler = func(w *ResponseWriter, r *Request, err error) { fault(); w.Text(500, "failed") }
			return HandlerFunc(func(w *ResponseWriter, r *Request) error { return errOnPurpose })
		})
	}},
	{name: "Logger", ready: func(s *Server, fault func() error) {
		s.Logger = slog.New(faultyLogger{fault})
		s.Handler = faultyOnce(fault, func(func() error) Handler {
			return HandlerFunc(func(w *ResponseWriter, r *Request) error { return errOnPurpose })
		})
	}},
	{name: "Logger of a refusal", ready: func(s *Server, fault func() error) {
		s.Logger = slog.New(faultyLogger{fault})
		s.MaxURIBytes = 5 // "/fault" is longer
	}},
	{name: "error", ready: func(s *Server, fault func() error) {
		s.Handler = faultyOnce(fault, func(fault func() error) Handler {
			return HandlerFunc(func(w *ResponseWriter, r *Request) error { return faultyError{fault} })
		})
	}},
	{name: "OnCommit", ready: onCommit(func(fault func() error) CommitFunc {
		return func(_ int, _ *Header, next io.WriteCloser) io.WriteCloser { fault(); return next }
	})},
	{name: "OnCommit's Write", ready: onCommit(func(fault func() error) CommitFunc {
		return func(_ int, _ *Header, next io.WriteCloser) io.WriteCloser {
			return faultyWriter{next, fault, nothing}
		}
	})},
	{name: "OnCommit's Close", ready: onCommit(func(fault func() error) CommitFunc {
		return func(_ int, _ *Header, next io.WriteCloser) io.WriteCloser {
			return faultyWriter{next, nothing, fault}
		}
	})},
	{name: "ConnState new", ready: toldOf(http.StateNew)},
	{name: "ConnState active", ready: toldOf(http.StateActive)},
	{name: "ConnState idle", ready: toldOf(http.StateIdle)},
	{name: "ConnState closed", ready: toldOf(http.StateClosed)},
	{name: "ConnContext", ready: faultyContext},
	{name: "ConnContext before TLS", tls: true, ready: faultyContext},
	{name: "OnOpen", ws: true, ready: func(s *Server, fault func() error) {
		s.Handler = &WebSocketHandler{OnOpen: func(*WebSocket, *Request) error { return fault() }}
	}},
	{name: "OnMessage", ws: true, ready: func(s *Server, fault func() error) {
		s.Handler = &WebSocketHandler{OnMessage: func(*WebSocket, MessageKind, []byte) error { return fault() }}
	}},
	{name: "OnClose", ws: true, ready: func(s *Server, fault func() error) {
		s.Handler = &WebSocketHandler{OnClose: func(*WebSocket, CloseCode, string) { fault() }}
	}},
	{name: "GetConfigForClient", tls: true, ready: func(s *Server, fault func() error) {
		s.TLSConfig = &tls.Config{GetConfigForClient: func(*tls.ClientHelloInfo) (*tls.Config, error) { return nil, fault() }}
	}},
	{name: "Logger of a handshake", tls: true, ready: func(s *Server, fault func() error) {
		s.Logger = slog.New(faultyLogger{fault})
		failed := new(atomic.Bool)
		s.TLSConfig = &tls.Config{GetConfigForClient: func(*tls.ClientHelloInfo) (*tls.Config, error) {
			if failed.Swap(true) {
				return nil, nil
			}
			return nil, errOnPurpose
		}}
	}},
	{name: "NewProtocol", ready: func(s *Server, fault func() error) {
		s.NewProtocol = func(*Conn) Protocol { fault(); return new(faultyProtocol) }
	}},
	{name: "Data", ready: protocolPlace("Data")},
	{name: "Drained", ready: protocolPlace("Drained")},
	{name: "Expired", ready: protocolPlace("Expired")},
	{name: "posted", ready: protocolPlace("posted")},
	{name: "Closed", ready: protocolPlace("Closed")},
}

func protocolPlace(place string) func(s *Server, fault func() error) {
	return func(s *Server, fault func() error) {
		s.NewProtocol = func(*Conn) Protocol {
			return &faultyProtocol{fault: map[string]func() error{place: fault}}
		}
	}
}

func toldOf(at http.ConnState) func(s *Server, fault func() error) {
	return func(s *Server, fault func() error) {
		s.ConnState = func(_ net.Conn, state http.ConnState) {
			if state == at {
				fault()
			}
		}
	}
}

func faultyContext(s *Server, fault func() error) {
	s.ConnContext = func(ctx context.Context, _ net.Conn) context.Context {
		if fault() != nil {
			return nil
		}
		return ctx
	}
}

func onCommit(hook func(fault func() error) CommitFunc) func(s *Server, fault func() error) {
	return func(s *Server, fault func() error) {
		s.Handler = HandlerFunc(func(w *ResponseWriter, r *Request) error {
			w.OnCommit(hook(fault))
			return w.Text(200, "ok")
		})
	}
}

// faultyOnce answers /fault by what has the fault called, and all else.
func faultyOnce(fault func() error, with func(fault func() error) Handler) Handler {
	faulty := with(fault)
	return HandlerFunc(func(w *ResponseWriter, r *Request) error {
		if r.Path() == "/fault" {
			return faulty.Serve(w, r)
		}
		return w.Text(200, "ok")
	})
}

type faultyRouter func() error

func (f faultyRouter) Serve(w *ResponseWriter, r *Request) error { return w.Text(200, "ok") }
func (f faultyRouter) Route(*Request) (Handler, string) {
	f()
	return HandlerFunc(f.Serve), "/"
}

// enter has the server at addr come to the place. What is answered, if anything,
// depends on the fault; the connection ends in any case.
func (p *userPlace) enter(t *testing.T, addr string) {
	t.Helper()
	nc, err := net.Dial("tcp", addr)
	if err != nil {
		return // a Close was as quick as that
	}
	defer nc.Close()
	nc.SetDeadline(time.Now().Add(patience))
	if p.tls {
		tc := tls.Client(nc, tlsClientConfig())
		if tc.Handshake() != nil {
			return
		}
		nc = tc
	}
	if p.ws {
		io.WriteString(nc, "GET /fault HTTP/1.1\r\nHost: x\r\nConnection: upgrade\r\nUpgrade: websocket\r\n"+
			"Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n"+
			string(wsFrame(0x81, "message", true))+string(wsFrame(0x88, "\x03\xe8", true)))
	} else {
		io.WriteString(nc, "GET /fault HTTP/1.1\r\nHost: x\r\n\r\n")
		if half, ok := nc.(halfCloser); ok && !strings.Contains("Expired Drained posted", p.name) { // they come later, and end it
			half.CloseWrite()
		}
	}
	if _, err := io.Copy(io.Discard, nc); isTimeout(err) {
		t.Error("the connection lives on")
	}
}

// alive fails the test unless another connection is served.
func (p *userPlace) alive(t *testing.T, addr string) {
	t.Helper()
	if p.tls {
		c := dialTLSRaw(t, addr, tlsClientConfig())
		defer c.Close()
		c.get("/").want(t, 404, "Not Found\n")
		return
	}
	c := dialRaw(t, addr)
	c.send("GET / HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")
	c.CloseWrite()
	if got, err := io.ReadAll(c.br); err != nil || len(got) == 0 {
		t.Errorf("another connection got %q, %v", got, err)
	}
}

// test enters the place with each fault, on each driver.
func (p *userPlace) test(t *testing.T, listen func(t *testing.T, fault func() error) net.Listener) {
	for _, f := range faults {
		t.Run(f.name, func(t *testing.T) {
			s := &Server{Loops: 1, Logger: quietLogger()}
			var once atomic.Bool
			called := make(chan struct{})
			fault := func() error {
				if once.Swap(true) {
					return nil
				}
				close(called)
				return f.do(s)
			}
			if p.ready != nil {
				p.ready(s, fault)
			}
			served := make(chan error, 1)
			ln := listen(t, fault)
			addr := ln.Addr().String()
			if l, ok := ln.(*faultyListener); ok {
				addr = l.Listener.Addr().String()
			}
			go func() {
				if !p.tls {
					served <- s.Serve(ln)
					return
				}
				if s.TLSConfig == nil {
					s.TLSConfig = new(tls.Config)
				}
				s.TLSConfig.Certificates = []tls.Certificate{tlsTestCA().issue(t, 2, "localhost")}
				served <- s.ServeTLS(ln, "", "")
			}()
			p.enter(t, addr)
			select {
			case <-called:
			case <-time.After(patience):
				t.Fatal("never called")
			}
			if !f.ends {
				p.alive(t, addr)
				gone(t, s)
				ctx, cancel := context.WithTimeout(context.Background(), patience)
				defer cancel()
				if err := s.Shutdown(ctx); err != nil {
					t.Errorf("Shutdown: %v", err)
				}
			}
			select {
			case err := <-served:
				if !errors.Is(err, ErrServerClosed) {
					t.Errorf("Serve: %v", err)
				}
			case <-time.After(patience):
				t.Fatal("Serve does not return")
			}
			gone(t, s)
		})
	}
}

func listenTest(t *testing.T, _ func() error) net.Listener {
	t.Helper()
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	return ln
}

// Whatever the user's code does, wherever a server calls it: its connection ends
// or goes on, other connections do not notice, and the server ends when it is
// told to.
func TestUsersCodeEverywhere(t *testing.T) {
	for _, p := range serverPlaces {
		t.Run(p.name, func(t *testing.T) {
			t.Parallel()
			p.test(t, listenTest)
		})
		t.Run(p.name+" plain", func(t *testing.T) {
			t.Parallel()
			p.test(t, func(t *testing.T, fault func() error) net.Listener {
				return &faultyListener{listenTest(t, fault), nil}
			})
		})
	}
}

// The same for listeners and connections of the user's.
func TestUsersListenerEverywhere(t *testing.T) {
	for _, place := range []string{"Read", "Write", "Conn.Close", "RemoteAddr"} {
		t.Run(place, func(t *testing.T) {
			t.Parallel()
			p := userPlace{name: place}
			p.test(t, func(t *testing.T, fault func() error) net.Listener {
				return &faultyListener{listenTest(t, fault), map[string]func() error{place: fault}}
			})
		})
	}
}

// Functions that are asked while the server begins or ends may call it.
func TestUsersCodeAroundServing(t *testing.T) {
	t.Parallel()
	for _, f := range faults {
		if f.name == "panic" || f.name == "Goexit" || f.name == "error" {
			continue // these are Serve's caller's
		}
		for _, place := range []string{"NewPoller", "Addr", "BaseContext", "Listener.Close"} {
			t.Run(fmt.Sprint(place, " ", f.name), func(t *testing.T) {
				t.Parallel()
				s := &Server{Loops: 1, Logger: quietLogger()}
				var once atomic.Bool
				fault := func() error {
					if !once.Swap(true) {
						f.do(s)
					}
					return nil
				}
				ln := &faultyListener{listenTest(t, nil), map[string]func() error{place: fault}}
				if place == "NewPoller" {
					s.NewPoller = func() (Poller, error) { fault(); return loopPoller() }
				}
				if place == "BaseContext" {
					s.BaseContext = func(net.Listener) context.Context { fault(); return context.Background() }
				}
				served := make(chan error, 1)
				go func() { served <- s.Serve(ln) }()
				if !f.ends || place == "Listener.Close" {
					get(t, "http://"+ln.Listener.Addr().String()+"/")
					http.DefaultClient.CloseIdleConnections()
					go s.Close()
				}
				select {
				case err := <-served:
					if !errors.Is(err, ErrServerClosed) {
						t.Errorf("Serve: %v", err)
					}
				case <-time.After(patience):
					t.Fatal("Serve does not return")
				}
			})
		}
	}
}
