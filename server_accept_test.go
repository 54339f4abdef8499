//go:build linux || darwin

package flare

import (
	"errors"
	"log/slog"
	"net"
	"path/filepath"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"
	"time"
)

// A wrappedListener is served by the plain driver.
type wrappedListener struct{ net.Listener }

// serveUntil serves ln and returns where Serve's error comes.
func serveUntil(t *testing.T, s *Server, ln net.Listener) <-chan error {
	t.Helper()
	if s.Logger == nil {
		s.Logger = slog.New(slog.DiscardHandler)
	}
	served := make(chan error, 1)
	go func() { served <- s.Serve(ln) }()
	t.Cleanup(func() { s.Close() })
	return served
}

// serveEnds returns what Serve has returned.
func serveEnds(t *testing.T, served <-chan error) error {
	t.Helper()
	select {
	case err := <-served:
		return err
	case <-time.After(patience):
		t.Fatal("Serve goes on")
		return nil
	}
}

// A listener that its owner closes ends its Serve, with the same error whichever
// driver serves it, and nothing else: connections live on.
func TestListenerClosedByItsOwner(t *testing.T) {
	t.Parallel()
	for name, listen := range map[string]func(t *testing.T) net.Listener{
		"tcp":     func(t *testing.T) net.Listener { return listenNetTest(t, "tcp", "127.0.0.1:0") },
		"wrapped": func(t *testing.T) net.Listener { return wrappedListener{listenNetTest(t, "tcp", "127.0.0.1:0")} },
		"unix": func(t *testing.T) net.Listener {
			return listenNetTest(t, "unix", filepath.Join(t.TempDir(), "socket"))
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			ln := listen(t)
			s := &Server{Handler: helloTest}
			served := serveUntil(t, s, ln)
			conn, err := net.Dial(ln.Addr().Network(), ln.Addr().String())
			mustTest(t, err)
			defer conn.Close()
			exchangeTest(t, conn)
			mustTest(t, ln.Close())
			var op *net.OpError
			if err := serveEnds(t, served); !errors.Is(err, net.ErrClosed) || !errors.As(err, &op) || op.Op != "accept" {
				t.Errorf("Serve: %v, want what Accept says of a closed listener", err)
			}
			exchangeTest(t, conn)
		})
	}
}

var helloTest = HandlerFunc(func(w *ResponseWriter, r *Request) error { return w.Text(200, "hello") })

func listenNetTest(t *testing.T, network, addr string) net.Listener {
	t.Helper()
	ln, err := net.Listen(network, addr)
	mustTest(t, err)
	t.Cleanup(func() { ln.Close() })
	return ln
}

// exchangeTest has a request answered with hello.
func exchangeTest(t *testing.T, conn net.Conn) {
	t.Helper()
	conn.SetDeadline(time.Now().Add(patience))
	if _, err := conn.Write([]byte("GET / HTTP/1.1\r\nHost: h\r\n\r\n")); err != nil {
		t.Fatal(err)
	}
	var got []byte
	for !strings.HasSuffix(string(got), "hello") {
		var p [512]byte
		n, err := conn.Read(p[:])
		if got = append(got, p[:n]...); err != nil {
			t.Fatalf("%q, %v", got, err)
		}
	}
}

// What makes accept fail for good ends Serve with it: nothing would ever come, and
// nobody would know.
func TestAcceptThatFailsForGood(t *testing.T) {
	t.Parallel()
	ln := listenNetTest(t, "tcp", "127.0.0.1:0")
	served := serveUntil(t, &Server{Handler: helloTest}, ln)
	conn, err := net.Dial("tcp", ln.Addr().String())
	mustTest(t, err)
	defer conn.Close()
	exchangeTest(t, conn) // it is being served
	raw, err := ln.(*net.TCPListener).SyscallConn()
	mustTest(t, err)
	var errno error
	mustTest(t, raw.Control(func(fd uintptr) { errno = syscall.Shutdown(int(fd), syscall.SHUT_RDWR) }))
	if errno != nil {
		t.Skip("a listener cannot be shut down here:", errno)
	}
	if err := serveEnds(t, served); !errors.Is(err, syscall.EINVAL) {
		t.Errorf("Serve: %v, want EINVAL", err)
	}
	exchangeTest(t, conn)
}

// A process without descriptors says so, in its log and its counts, and goes on
// when it has some. Not in parallel: the bound is the process's.
func TestAcceptWithoutDescriptors(t *testing.T) {
	for name, wrap := range map[string]func(net.Listener) net.Listener{
		"loop":  func(ln net.Listener) net.Listener { return ln },
		"plain": func(ln net.Listener) net.Listener { return wrappedListener{ln} },
	} {
		t.Run(name, func(t *testing.T) {
			var log logBook
			s := &Server{Handler: helloTest, Logger: log.logger()}
			ln := listenNetTest(t, "tcp", "127.0.0.1:0")
			serveUntil(t, s, wrap(ln))
			first, err := net.Dial("tcp", ln.Addr().String())
			mustTest(t, err)
			defer first.Close()
			exchangeTest(t, first)

			var limit syscall.Rlimit
			mustTest(t, syscall.Getrlimit(syscall.RLIMIT_NOFILE, &limit))
			free, err := syscall.Dup(0) // the lowest that is free, and the last one: for the client
			mustTest(t, err)
			mustTest(t, syscall.Close(free))
			low := limit
			low.Cur = uint64(free) + 1
			mustTest(t, syscall.Setrlimit(syscall.RLIMIT_NOFILE, &low))
			restore := func() { syscall.Setrlimit(syscall.RLIMIT_NOFILE, &limit) }
			defer restore()
			conn, err := net.Dial("tcp", ln.Addr().String())
			mustTest(t, err)
			defer conn.Close()
			eventually(t, "a count", func() bool { return s.Stats().AcceptShort > 0 })
			eventually(t, "a line", func() bool { return strings.Contains(log.String(), syscall.EMFILE.Error()) })
			restore()
			exchangeTest(t, conn)
		})
	}
}

var errBrokenPoller = errors.New("the poller broke")

// A breakablePoller fails on demand.
type breakablePoller struct {
	Poller
	broken atomic.Bool
}

func (p *breakablePoller) EdgeTriggered() bool { return !pollerRepeats(p.Poller) }

func (p *breakablePoller) Wait(events []Event, timeout time.Duration) (int, error) {
	n, err := p.Poller.Wait(events, timeout)
	if p.broken.Load() {
		return 0, errBrokenPoller
	}
	return n, err
}

func (p *breakablePoller) fail() {
	p.broken.Store(true)
	p.Wake()
}

// breakableServer serves on three loops.
func breakableServer(t *testing.T, s *Server) (pollers []*breakablePoller, addr string, served <-chan error) {
	t.Helper()
	s.Handler, s.Loops = helloTest, 3
	s.NewPoller = func() (Poller, error) {
		p, err := NewPoller()
		if err != nil {
			return nil, err
		}
		pollers = append(pollers, &breakablePoller{Poller: p})
		return pollers[len(pollers)-1], nil
	}
	ln := listenNetTest(t, "tcp", "127.0.0.1:0")
	served = serveUntil(t, s, ln)
	conn, err := net.Dial("tcp", ln.Addr().String())
	mustTest(t, err)
	defer conn.Close()
	exchangeTest(t, conn)
	return pollers, ln.Addr().String(), served
}

// A loop whose poller fails takes no connection any more. The others go on, also
// when it was the one that accepted, and Serve says why at its end.
func TestLoopThatFails(t *testing.T) {
	t.Parallel()
	for _, victims := range [][]int{{0}, {1}, {0, 1}, {2, 1}} {
		var log logBook
		s := &Server{Logger: log.logger()}
		pollers, addr, served := breakableServer(t, s)
		for _, i := range victims {
			pollers[i].fail()
			<-s.loops[i].ended
		}
		for range 9 {
			conn, err := net.Dial("tcp", addr)
			mustTest(t, err)
			exchangeTest(t, conn)
			conn.Close()
		}
		eventually(t, "a line", func() bool { return strings.Contains(log.String(), errBrokenPoller.Error()) })
		mustTest(t, s.Shutdown(t.Context()))
		if err := serveEnds(t, served); !errors.Is(err, ErrServerClosed) || !errors.Is(err, errBrokenPoller) {
			t.Errorf("loops %v failed: Serve: %v, want ErrServerClosed and why", victims, err)
		}
	}
}

// A server without loops ends, and Serve says why, of whatever listener.
func TestAllLoopsFail(t *testing.T) {
	t.Parallel()
	s := &Server{}
	pollers, _, served := breakableServer(t, s)
	wrapped := serveUntil(t, s, wrappedListener{listenNetTest(t, "tcp", "127.0.0.1:0")})
	eventually(t, "two listeners", func() bool { return len(s.Addrs()) == 2 && s.acceptors.Load() == 1 })
	for _, p := range pollers {
		p.fail()
	}
	for _, served := range []<-chan error{served, wrapped} {
		if err := serveEnds(t, served); errors.Is(err, ErrServerClosed) || !errors.Is(err, errBrokenPoller) {
			t.Errorf("Serve: %v, want the poller's error", err)
		}
	}
}
