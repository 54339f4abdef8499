package flare

import (
	"errors"
	"io"
	"net"
	"net/http"
	"net/netip"
	"runtime"
	"strings"
	"syscall"
	"testing"
	"time"
)

// After Hijack neither the request nor the response reaches any connection, not
// even one that has got the descriptor's number, and the buffer that the body
// was received into leaves the server's count.
func TestHijackEndsBodyAndResponse(t *testing.T) {
	reading, ended := make(chan bool, 1), make(chan bool)
	h := HandlerFunc(func(w *ResponseWriter, r *Request) error {
		if r.Method() == "GET" {
			return w.Text(200, "clean")
		}
		defer close(ended)
		reading <- true
		if _, err := io.ReadFull(r.Body(), make([]byte, 3)); err != nil {
			return err
		}
		conn, _, err := w.Hijack()
		if err != nil {
			return err
		}
		defer conn.Close()
		others := pairsOfConns(t, 8) // one of them has the number
		for _, c := range others {
			io.WriteString(c, "secret")
		}
		p := make([]byte, 16)
		if n, err := r.Body().Read(p); n > 0 || !errors.Is(err, errHijacked) {
			t.Errorf("the body after Hijack: %q, %v", p[:n], err)
		}
		w.WriteString("stray")
		if err := w.Flush(); !errors.Is(err, errHijacked) {
			t.Errorf("the response after Hijack: %v", err)
		}
		for _, c := range others {
			if n, err := c.Read(p); string(p[:n]) != "secret" {
				t.Errorf("another connection got %q, %v", p[:n], err)
			}
		}
		return nil
	})
	s := &Server{Handler: Offload(h)}
	url := TestServer(t, s)
	c := dialRaw(t, strings.TrimPrefix(url, "http://"))
	c.send("POST / HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked\r\n\r\n")
	<-reading
	c.send("5\r\nhello\r\n")
	<-ended
	for range 8 {
		next := dialRaw(t, strings.TrimPrefix(url, "http://"))
		next.get("/").want(t, 200, "clean")
		next.Close()
	}
	eventually(t, "the return of all buffers", func() bool { return s.buffered.Load() == 0 })
}

// pairsOfConns returns the ends of n connections over loopback.
func pairsOfConns(t *testing.T, n int) (ends []net.Conn) {
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer ln.Close()
	for range n {
		near, err := net.Dial("tcp", ln.Addr().String())
		if err != nil {
			t.Error(err)
			continue
		}
		far, err := ln.Accept()
		if err != nil {
			t.Error(err)
			continue
		}
		for _, c := range []net.Conn{near, far} {
			c.SetDeadline(time.Now().Add(patience))
			t.Cleanup(func() { c.Close() })
			ends = append(ends, c)
		}
	}
	return ends
}

// A goroutine of a net/http handler that waits for the body when another takes
// the connection over is told so.
func TestFromHTTPHijackBreaksRead(t *testing.T) {
	failed := make(chan error, 1)
	h := FromHTTP(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		reading := make(chan bool)
		go func() {
			r.Body.Read(make([]byte, 3))
			close(reading)
			_, err := r.Body.Read(make([]byte, 3))
			failed <- err
		}()
		<-reading
		conn, _, err := http.NewResponseController(w).Hijack()
		if err != nil {
			t.Error(err)
			return
		}
		defer conn.Close()
		if err := <-failed; err != http.ErrBodyReadAfterClose {
			t.Errorf("the read failed with %v", err)
		}
		at, _ := r.Context().Value(http.LocalAddrContextKey).(net.Addr)
		if at == nil || at.String() != conn.LocalAddr().String() {
			t.Errorf("the local address is %v, and %v after Hijack", conn.LocalAddr(), at)
		}
		io.WriteString(conn, "HTTP/1.0 200 OK\r\n\r\ntaken")
	}))
	c := dialRaw(t, bridgeFlare(t, h))
	c.send("POST / HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n")
	c.answer("POST").want(t, 200, "taken")
}

// A turn that does not come to its end, behind Hijack, gives back the input that was
// kept.
func TestGoexitAfterHijack(t *testing.T) {
	for _, offload := range []bool{false, true} {
		h := Handler(HandlerFunc(func(w *ResponseWriter, r *Request) error {
			conn, rw, err := w.Hijack()
			if err != nil {
				return err
			}
			defer conn.Close()
			rest := make([]byte, 4)
			if _, err := io.ReadFull(rw, rest); err != nil || string(rest) != "rest" {
				t.Errorf("the rest is %q, %v", rest, err)
			}
			runtime.Goexit()
			return nil
		}))
		if offload {
			h = Offload(h)
		}
		s := &Server{Handler: h, Loops: 1, Logger: quietLogger()}
		c := dialRaw(t, strings.TrimPrefix(TestServer(t, s), "http://"))
		c.send("GET / HTTP/1.1\r\nHo") // so that input is kept
		eventually(t, "a part of the head", func() bool { return s.buffered.Load() > 0 })
		c.send("st: h\r\n\r\nrest")
		io.Copy(io.Discard, c)
		gone(t, s)
		eventually(t, "the return of all buffers", func() bool { return s.buffered.Load() == 0 })
	}
}

// A handler that goes on writing to a client which is gone, and then ends its
// goroutine, leaves nothing for the next client of the same working set.
func TestGoexitAfterFailedWrite(t *testing.T) {
	ended := make(chan bool)
	s := &Server{Logger: quietLogger(), Handler: Offload(HandlerFunc(func(w *ResponseWriter, r *Request) error {
		if r.Path() != "/exit" {
			return w.Text(200, "clean")
		}
		defer close(ended)
		for p := make([]byte, 64<<10); ; {
			if _, err := w.Write(p); err != nil {
				w.WriteString("stray")
				runtime.Goexit()
			}
		}
	}))}
	addr := strings.TrimPrefix(TestServer(t, s), "http://")
	c := dialRaw(t, addr)
	c.send("GET /exit HTTP/1.1\r\nHost: h\r\n\r\n")
	c.SetLinger(0)
	c.Close()
	<-ended
	gone(t, s)
	for range 8 {
		next := dialRaw(t, addr)
		next.get("/").want(t, 200, "clean")
		next.Close()
	}
}

// Hijack loses nothing of a chunk that was read in part.
func TestHijackInAChunk(t *testing.T) {
	s := &Server{Handler: HandlerFunc(func(w *ResponseWriter, r *Request) error {
		if _, err := io.ReadFull(r.Body(), make([]byte, 5)); err != nil {
			return err
		}
		conn, rw, err := w.Hijack()
		if err != nil {
			return err
		}
		defer conn.Close()
		_, err = io.CopyN(conn, rw, int64(len("world\r\n0\r\n\r\nmore")))
		return err
	})}
	c := dialRaw(t, startServer(t, s))
	c.send("POST / HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked\r\n\r\na\r\nhelloworld\r\n0\r\n\r\nmore")
	if got := string(c.toEnd()); got != "world\r\n0\r\n\r\nmore" {
		t.Errorf("behind what was read came %q", got)
	}
}

// What a handler does with the response behind Hijack is refused before it touches the
// connection, which another goroutine may be letting go of.
func TestResponseAfterHijack(t *testing.T) {
	for name, wrap := range map[string]func(Handler) Handler{"inline": Inline, "on a worker": Offload} {
		t.Run(name, func(t *testing.T) {
			ended := make(chan struct{})
			url := TestServer(t, &Server{Handler: wrap(HandlerFunc(func(w *ResponseWriter, r *Request) error {
				defer close(ended)
				conn, _, err := w.Hijack()
				if err != nil {
					return err
				}
				defer conn.Close()
				for call, do := range map[string]func() error{
					"Hijack":           func() error { _, _, err := w.Hijack(); return err },
					"Informational":    func() error { return w.Informational(100, nil) },
					"SetReadDeadline":  func() error { return w.SetReadDeadline(time.Now()) },
					"SetWriteDeadline": func() error { return w.SetWriteDeadline(time.Now()) },
					"EventStream":      func() error { _, err := w.EventStream(); return err },
					"Write":            func() error { _, err := w.Write(make([]byte, 1<<20)); return err },
					"Flush":            func() error { return w.Flush() },
				} {
					if err := do(); !errors.Is(err, errHijacked) {
						t.Errorf("%s: %v", call, err)
					}
				}
				return nil
			}))})
			c := dialRaw(t, strings.TrimPrefix(url, "http://"))
			c.send("GET / HTTP/1.1\r\nHost: h\r\n\r\n")
			<-ended
			if got := c.toEnd(); len(got) > 0 {
				t.Errorf("the client has got %q", got)
			}
		})
	}
}

// A tornTransport loses what is sent first, and takes what comes then.
type tornTransport struct {
	*scriptedTransport
	torn bool
}

func (s *tornTransport) send(a, b []byte) (int, error) {
	if !s.torn {
		s.torn = true
		return 0, syscall.ETIMEDOUT
	}
	return s.scriptedTransport.send(a, b)
}

// Nothing follows what could not be sent whole, whatever the handler does then.
func TestNothingBehindWhatWasTorn(t *testing.T) {
	for name, end := range map[string]func(w *ResponseWriter) error{
		"an answer": func(w *ResponseWriter) error { return w.Text(200, "fine") },
		"an error":  func(w *ResponseWriter) error { return errors.New("no answer") },
	} {
		h := HandlerFunc(func(w *ResponseWriter, r *Request) error {
			if err := w.Informational(103, nil); !errors.Is(err, ErrTimeout) {
				t.Errorf("Informational: %v", err)
			}
			return end(w)
		})
		f := newFeeder(t, &Server{Handler: Inline(h), Logger: quietLogger()})
		c := f.srv.newConn(f.loop, -1, netip.AddrPort{})
		tr := &scriptedTransport{c: c, shutAt: -1, pieces: [][]byte{[]byte(request("/"))}}
		c.tr = &tornTransport{scriptedTransport: tr}
		c.edges = ownRead | ownWrite
		f.driveOnLoop(c)
		if len(tr.sent) > 0 || !c.broken() {
			t.Errorf("%s: the client gets %q, broken %v", name, tr.sent, c.broken())
		}
	}
}
