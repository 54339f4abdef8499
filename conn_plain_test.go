package flare

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"strings"
	"syscall"
	"testing"
	"time"
)

// This file has connections of the plain driver that are slow, broken or left.

// Limits of time hold without a descriptor.
func TestPlainTimeouts(t *testing.T) {
	t.Parallel()
	const limit = 200 * time.Millisecond
	fine := textHandler("fine")
	for _, tt := range []struct {
		name  string
		srv   *Server
		input string
		want  string // the front of the answer, "" for none
		count func(*Stats) *uint64
	}{
		{"idle", &Server{IdleTimeout: limit, Handler: fine}, "", "", timeoutsIdle},
		{"head", &Server{HeadTimeout: limit, Handler: fine}, "GET / HTTP", "HTTP/1.1 408 ", timeoutsHead},
		{"body", &Server{BodyTimeout: limit, Handler: fine}, head("POST / HTTP/1.1", "Content-Length: 2") + "x", "HTTP/1.1 408 ", timeoutsBody},
		{"body in a handler", &Server{BodyTimeout: limit, Handler: HandlerFunc(echoHandler)}, head("POST / HTTP/1.1", "Content-Length: 70000") + "x", "HTTP/1.1 408 ", timeoutsBody},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			c := dialPlain(t, startPlain(t, tt.srv))
			c.send(tt.input)
			got, err := io.ReadAll(c.br)
			if err != nil || !strings.HasPrefix(string(got), tt.want) || tt.want == "" && len(got) > 0 {
				t.Errorf("%q, %v", tail(got), err)
			}
			eventually(t, "the count", func() bool {
				st := tt.srv.Stats()
				return *tt.count(&st) == 1
			})
		})
	}
	// A peer that reads nothing: of one short answer, of a long one that is
	// queued, and of one that a handler streams.
	for _, size := range []int{10, plainQueueBytes / 2, 5 * plainQueueBytes} {
		for name, pin := range map[string]Middleware{"on a worker": Offload, "on the loop": Inline} {
			t.Run(fmt.Sprintf("write of %d %s", size, name), func(t *testing.T) {
				t.Parallel()
				s := &Server{WriteTimeout: limit, Handler: pin(textHandler(strings.Repeat("x", size)))}
				c := dialPlain(t, startPlain(t, s))
				c.send(request("/"))
				eventually(t, "the timeout", func() bool { return s.Stats().Timeouts.Write == 1 })
				gone(t, s)
				c.cut()
			})
		}
	}
}

// A peer that reads slowly but steadily is no timeout: what the driver has taken
// and what has left are not the same.
func TestPlainSlowReader(t *testing.T) {
	t.Parallel()
	const limit = 400 * time.Millisecond
	body := strings.Repeat("x", 40<<10)
	s := &Server{WriteTimeout: limit, MinWriteRate: -1, Handler: textHandler(body)}
	ln := newPlainListener()
	ln.wrap = func(c net.Conn) net.Conn { return &plainSlow{c, limit / 4} }
	startPlainOn(t, s, ln)
	c := dialPlain(t, ln)
	c.send(request("/"))
	c.answer("GET").want(t, 200, body) // 10 pieces, two and a half limits
	if st := s.Stats(); st.Timeouts != new(Stats).Timeouts {
		t.Errorf("%+v", st.Timeouts)
	}
}

// A plainSlow takes its time for each write, as a slow peer has it take.
type plainSlow struct {
	net.Conn
	each time.Duration
}

func (c *plainSlow) Write(p []byte) (int, error) {
	time.Sleep(c.each) // what it is: a slow peer
	return c.Conn.Write(p)
}

// A connection that breaks the contract of io.Reader or io.Writer ends, and
// takes no processor with it.
func TestPlainBadConn(t *testing.T) {
	for name, wrap := range map[string]func(net.Conn) net.Conn{
		"reads nothing": func(c net.Conn) net.Conn { return plainBad{Conn: c, read: func([]byte) (int, error) { return 0, nil }} },
		"writes nothing": func(c net.Conn) net.Conn {
			return plainBad{Conn: c, write: func([]byte) (int, error) { return 0, nil }}
		},
		"reads more than there is room": func(c net.Conn) net.Conn {
			return plainBad{Conn: c, read: func(p []byte) (int, error) { return len(p) + 1, nil }}
		},
		"writes more than there is": func(c net.Conn) net.Conn {
			return plainBad{Conn: c, write: func(p []byte) (int, error) { return len(p) + 1, nil }}
		},
		"fails to read": func(c net.Conn) net.Conn {
			return plainBad{Conn: c, read: func([]byte) (int, error) { return 0, io.ErrNoProgress }}
		},
		"is interrupted for ever": func(c net.Conn) net.Conn {
			return plainBad{Conn: c, read: plainOnce(request("/")[:9], syscall.EINTR)}
		},
		"fails with a number that is no error": func(c net.Conn) net.Conn {
			return plainBad{Conn: c, read: plainOnce(request("/")[:9], syscall.Errno(0))}
		},
		"fails to write": func(c net.Conn) net.Conn {
			return plainBad{Conn: c, write: func([]byte) (int, error) { return 0, io.ErrClosedPipe }}
		},
		"ends with its data": func(c net.Conn) net.Conn { return plainBad{Conn: c, read: plainOnce(request("/"), io.EOF)} },
		"breaks with its data": func(c net.Conn) net.Conn {
			return plainBad{Conn: c, read: plainOnce(request("/"), io.ErrUnexpectedEOF)}
		},
	} {
		t.Run(name, func(t *testing.T) {
			s := &Server{Handler: textHandler("fine"), HeadTimeout: -1}
			ln := newPlainListener()
			ln.wrap = wrap
			startPlainOn(t, s, ln)
			c := dialPlain(t, ln)
			c.send(request("/"))
			if name == "ends with its data" {
				c.answer("GET").want(t, 200, "fine")
			}
			c.cut()
			gone(t, s)
		})
	}
}

type plainBad struct {
	net.Conn
	read, write func([]byte) (int, error)
}

func (c plainBad) Read(p []byte) (int, error) {
	if c.read != nil {
		return c.read(p)
	}
	return c.Conn.Read(p)
}

func (c plainBad) Write(p []byte) (int, error) {
	if c.write != nil {
		return c.write(p)
	}
	return c.Conn.Write(p)
}

// plainOnce gives text and err in one read.
func plainOnce(text string, err error) func([]byte) (int, error) {
	return func(p []byte) (int, error) {
		n := copy(p, text)
		text = text[n:]
		if len(text) > 0 {
			return n, nil
		}
		return n, err
	}
}

// The context of a handler ends with its client, who may have sent a body that
// nobody reads.
func TestPlainContext(t *testing.T) {
	ended := make(chan error, 1)
	running := make(chan bool)
	s := &Server{Handler: HandlerFunc(func(w *ResponseWriter, r *Request) error {
		ctx := r.Context()
		close(running)
		<-ctx.Done()
		ended <- ctx.Err()
		return nil
	})}
	c := dialPlain(t, startPlain(t, s))
	c.send(request("/"))
	<-running
	c.Close()
	if err := <-ended; !errors.Is(err, context.Canceled) {
		t.Error(err)
	}
}
