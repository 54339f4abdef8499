//go:build linux || darwin

package flare

import (
	"errors"
	"fmt"
	"io"
	"net"
	"testing"
	"time"
)

// This file has protocols in straight lines, on a net.Conn.

// Code that reads and writes in a straight line holds nobody up, and gives back
// what it did not read.
func TestConnNetConn(t *testing.T) {
	eachLoop(t, func(t *testing.T, l *Loop) {
		addr := loopServe(t, l, nil, func(c *Conn) Protocol {
			return &testProtocol{data: func(c *Conn, in []byte, eof bool) (int, error) {
				if len(in) == 0 || in[0] != '>' {
					return len(in), c.Write(in)
				}
				return c.NetConn(in, func(conn net.Conn) error {
					if conn.RemoteAddr().String() != c.RemoteAddr().String() {
						t.Errorf("the peer is %v", conn.RemoteAddr())
					}
					line := make([]byte, 0, 64)
					for one := make([]byte, 1); ; line = append(line, one...) {
						if _, err := conn.Read(one); err != nil {
							return err
						}
						if one[0] == '\n' {
							break
						}
					}
					_, err := fmt.Fprintf(conn, "<%s>", line)
					return err
				})
			}}
		})
		slow := dialRaw(t, addr)
		slow.send(">hel") // and now it blocks
		other := dialRaw(t, addr)
		for range 100 {
			other.send("x")
			loopRead(t, other, "x")
		}
		slow.send("lo\nrest")
		loopRead(t, slow, "<>hello>rest")
		slow.send(">all\nof\n>it\n")
		loopRead(t, slow, "<>all>of\n")
		slow.CloseWrite()
		if rest := string(slow.toEnd()); rest != "<>it>" && rest != ">it\n" { // by where the stream was cut
			t.Errorf("then %q", rest)
		}
	})
}

func TestConnNetConnDeadlines(t *testing.T) {
	eachLoop(t, func(t *testing.T, l *Loop) {
		closed := make(chan error, 1)
		addr := loopServe(t, l, nil, func(c *Conn) Protocol {
			return &testProtocol{data: func(c *Conn, in []byte, eof bool) (int, error) {
				var kept net.Conn
				n, err := c.NetConn(in, func(conn net.Conn) error {
					kept = conn
					io.ReadFull(conn, make([]byte, 2))
					conn.SetReadDeadline(time.Now().Add(10 * time.Millisecond))
					_, err := conn.Read(make([]byte, 1))
					var ne net.Error
					if !errors.As(err, &ne) || !ne.Timeout() {
						t.Errorf("after the deadline: %v", err)
					}
					conn.SetReadDeadline(time.Time{})
					conn.Close()
					if _, err := conn.Write([]byte("x")); !errors.Is(err, net.ErrClosed) {
						t.Errorf("Write after Close: %v", err)
					}
					return nil
				})
				if _, err := kept.Read(make([]byte, 1)); !errors.Is(err, net.ErrClosed) {
					t.Errorf("Read after use: %v", err)
				}
				return n, err
			}, closed: closed}
		})
		c := dialRaw(t, addr)
		c.send("go")
		c.ended()
		c.Close()
		if err := toldClosed(t, closed); err != nil {
			t.Error(err)
		}
	})
}

// Calls that wait when use returns, or when another goroutine closes the
// net.Conn, end; the connection goes on, unless it was closed or a write failed.
func TestConnNetConnEndsCalls(t *testing.T) {
	eachLoop(t, func(t *testing.T, l *Loop) {
		read := func(conn net.Conn) chan error {
			ended := make(chan error, 1)
			go func() {
				_, err := conn.Read(make([]byte, 1))
				ended <- err
			}()
			return ended
		}
		for name, row := range map[string]struct {
			use    func(c *Conn, conn net.Conn) (calls chan error, err error)
			call   error
			closed error
			goesOn bool
		}{
			"use returns": {use: func(c *Conn, conn net.Conn) (chan error, error) {
				ended := read(conn)
				eventually(t, "a read that waits", func() bool { return c.own.Load()&ownWaitRead != 0 })
				return ended, nil
			}, call: net.ErrClosed, goesOn: true},
			"use returns at once": {use: func(c *Conn, conn net.Conn) (chan error, error) {
				return read(conn), nil
			}, call: net.ErrClosed, goesOn: true},
			"closed": {use: func(c *Conn, conn net.Conn) (chan error, error) {
				ended := read(conn)
				eventually(t, "a read that waits", func() bool { return c.own.Load()&ownWaitRead != 0 })
				conn.Close()
				again := make(chan error, 1)
				again <- <-ended
				return again, nil
			}, call: net.ErrClosed},
			"a write fails": {use: func(c *Conn, conn net.Conn) (chan error, error) {
				ended := make(chan error, 1)
				conn.SetWriteDeadline(time.Now().Add(10 * time.Millisecond))
				_, err := conn.Write(make([]byte, 64<<20))
				ended <- err
				return ended, nil
			}, call: ErrTimeout, closed: ErrTimeout},
		} {
			t.Run(name, func(t *testing.T) {
				calls, closed := make(chan chan error, 1), make(chan error, 1)
				addr := loopServe(t, l, nil, func(c *Conn) Protocol {
					return &testProtocol{data: func(c *Conn, in []byte, eof bool) (int, error) {
						if len(in) == 0 || in[0] != '>' {
							return len(in), c.Write(in)
						}
						return c.NetConn(in, func(conn net.Conn) error {
							conn.Read(make([]byte, 1))
							ended, err := row.use(c, conn)
							calls <- ended
							return err
						})
					}, closed: closed}
				})
				c := dialRaw(t, addr)
				c.send(">")
				if err := toldClosed(t, <-calls); !errors.Is(err, row.call) {
					t.Errorf("the call ends with %v", err)
				}
				if row.goesOn {
					c.send("hello")
					loopRead(t, c, "hello")
				}
				c.Close()
				if err := toldClosed(t, closed); err != row.closed {
					t.Errorf("closed with %v", err)
				}
			})
		}
	})
}
