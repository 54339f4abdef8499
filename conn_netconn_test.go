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
