//go:build linux || darwin

package flare

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"
	"time"
)

// eachLoop runs a test on a running loop over each poller.
func eachLoop(t *testing.T, test func(t *testing.T, l *Loop)) {
	for _, maker := range pollerMakers {
		t.Run(maker.name, func(t *testing.T) {
			p, err := maker.make()
			if errors.Is(err, errors.ErrUnsupported) {
				t.Skip("this system has no such poller")
			}
			if err != nil {
				t.Fatal(err)
			}
			l, err := NewLoop(p)
			if err != nil {
				t.Fatal(err)
			}
			runLoop(t, l)
			test(t, l)
		})
	}
}

var loopbackAny = netip.MustParseAddrPort("127.0.0.1:0")

// A testProtocol is a Protocol of functions; those that are nil do nothing, and
// Data then takes everything.
type testProtocol struct {
	data    func(c *Conn, in []byte, eof bool) (int, error)
	drained func(c *Conn)
	expired func(c *Conn)
	closed  chan error // capacity 1
}

func (p *testProtocol) Data(c *Conn, in []byte, eof bool) (int, error) {
	if p.data == nil {
		return len(in), nil
	}
	return p.data(c, in, eof)
}

func (p *testProtocol) Drained(c *Conn) {
	if p.drained != nil {
		p.drained(c)
	}
}

func (p *testProtocol) Closed(c *Conn, err error) {
	if p.closed != nil {
		p.closed <- err // a second time it would block, and be found as a goroutine that is left
	}
}

// An expiringProtocol has an Expired method too.
type expiringProtocol struct{ testProtocol }

func (p *expiringProtocol) Expired(c *Conn) { p.expired(c) }

// loopServe listens on l and returns the address.
func loopServe(t *testing.T, l *Loop, opts *ConnOptions, newProtocol func(*Conn) Protocol) string {
	t.Helper()
	ln, err := l.ListenTCP(loopbackAny, opts, newProtocol)
	if err != nil {
		t.Fatal(err)
	}
	return ln.Addr().String()
}

// toldClosed returns what Closed was told.
func toldClosed(t *testing.T, closed <-chan error) error {
	t.Helper()
	select {
	case err := <-closed:
		return err
	case <-time.After(patience):
		t.Fatal("Closed is not called")
		return nil
	}
}

func echoData(c *Conn, in []byte, _ bool) (int, error) { return len(in), c.Write(in) }

// A server that speaks first and a client, both on one loop, over each kind of
// address.
func TestLoopListenDial(t *testing.T) {
	eachLoop(t, func(t *testing.T, l *Loop) {
		type dial func(*ConnOptions, func(*Conn, error) Protocol) error
		over := map[string]func(newProtocol func(*Conn) Protocol) (*Listener, dial, error){
			"a Unix socket": func(newProtocol func(*Conn) Protocol) (*Listener, dial, error) {
				path := filepath.Join(t.TempDir(), "s")
				ln, err := l.ListenUnix(path, nil, newProtocol)
				return ln, func(o *ConnOptions, f func(*Conn, error) Protocol) error { return l.DialUnix(path, o, f) }, err
			},
		}
		for name, addr := range map[string]string{"IPv4": "127.0.0.1:0", "IPv6": "[::1]:0", "every address": "[::]:0"} {
			over[name] = func(newProtocol func(*Conn) Protocol) (*Listener, dial, error) {
				ln, err := l.ListenTCP(netip.MustParseAddrPort(addr), nil, newProtocol)
				return ln, func(o *ConnOptions, f func(*Conn, error) Protocol) error {
					to := ln.Addr()
					if to.Addr().IsUnspecified() {
						to = netip.AddrPortFrom(loopbackAny.Addr(), to.Port())
					}
					return l.DialTCP(to, o, f)
				}, err
			}
		}
		for name, listen := range over {
			t.Run(name, func(t *testing.T) {
				serverClosed, clientClosed, heard := make(chan error, 1), make(chan error, 1), make(chan string, 1)
				addrs := make(chan [2]netip.AddrPort, 2)
				ln, dial, err := listen(func(c *Conn) Protocol {
					addrs <- [2]netip.AddrPort{c.LocalAddr(), c.RemoteAddr()}
					if c.Loop() != l {
						t.Error("the loop is another")
					}
					if err := c.Write([]byte("hello ")); err != nil {
						t.Error(err)
					}
					return &testProtocol{data: echoData, closed: serverClosed}
				})
				if errors.Is(err, syscall.EADDRNOTAVAIL) || errors.Is(err, syscall.EAFNOSUPPORT) {
					t.Skip("no IPv6 here")
				}
				if err != nil {
					t.Fatal(err)
				}
				defer ln.Close()
				if err := dial(nil, func(c *Conn, err error) Protocol {
					if err != nil {
						t.Error(err)
						return nil
					}
					addrs <- [2]netip.AddrPort{c.RemoteAddr(), c.LocalAddr()}
					if err := c.Write([]byte("world")); err != nil {
						t.Error(err)
					}
					return &testProtocol{data: func(c *Conn, in []byte, eof bool) (int, error) {
						if len(in) < len("hello world") {
							return 0, nil
						}
						heard <- string(in)
						c.Close()
						return len(in), nil
					}, closed: clientClosed}
				}); err != nil {
					t.Fatal(err)
				}
				select {
				case got := <-heard:
					if got != "hello world" {
						t.Errorf("heard %q", got)
					}
				case <-time.After(patience):
					t.Fatal("no answer")
				}
				for _, closed := range []chan error{clientClosed, serverClosed} {
					if err := toldClosed(t, closed); err != nil {
						t.Errorf("closed with %v", err)
					}
				}
				if one, other := <-addrs, <-addrs; one != other {
					t.Errorf("the ends have the addresses %v and %v", one, other)
				}
			})
		}
	})
}

// Every way in which a connection may not come about is told, once.
func TestLoopDialFails(t *testing.T) {
	eachLoop(t, func(t *testing.T, l *Loop) {
		failed := make(chan error, 2)
		connected := func(c *Conn, err error) Protocol {
			if c != nil {
				t.Error("there is a connection")
			}
			failed <- err
			return nil
		}
		t.Run("refused", func(t *testing.T) {
			fd, err := listenTCP(loopbackAny, 0, false)
			if err != nil {
				t.Fatal(err)
			}
			addr, _ := localAddrPort(fd)
			closeFD(fd)
			err = l.DialTCP(addr, nil, connected)
			if err == nil {
				err = toldClosed(t, failed)
			}
			if !errors.Is(err, syscall.ECONNREFUSED) {
				t.Errorf("%v, want ECONNREFUSED", err)
			}
		})
		t.Run("no answer", func(t *testing.T) {
			if runtime.GOOS != "linux" {
				t.Skip("only Linux leaves a connection alone that finds the backlog full")
			}
			lfd, err := listenTCP(loopbackAny, 1, false)
			if err != nil {
				t.Fatal(err)
			}
			defer closeFD(lfd)
			addr, _ := localAddrPort(lfd)
			for range 4 { // fills the backlog, and more
				fd, err := connectTCP(addr, new(SocketOptions))
				if err != nil {
					t.Fatal(err)
				}
				defer closeFD(fd)
			}
			start := time.Now()
			if err := l.DialTCP(addr, &ConnOptions{ConnectTimeout: 30 * time.Millisecond}, connected); err != nil {
				t.Fatal(err)
			}
			if err := toldClosed(t, failed); err != ErrTimeout {
				t.Errorf("%v, want ErrTimeout", err)
			}
			if took := time.Since(start); took < 30*time.Millisecond {
				t.Errorf("timed out after %v", took)
			}
		})
		t.Run("no such file", func(t *testing.T) {
			if err := l.DialUnix(filepath.Join(t.TempDir(), "s"), nil, connected); !errors.Is(err, syscall.ENOENT) {
				t.Errorf("%v, want ENOENT", err)
			}
		})
		t.Run("the loop ends", func(t *testing.T) {
			other, err := NewLoop(nil)
			if err != nil {
				t.Fatal(err)
			}
			ln, err := other.ListenTCP(loopbackAny, nil, func(*Conn) Protocol { return nil })
			if err != nil {
				t.Fatal(err)
			}
			if err := other.DialTCP(ln.Addr(), nil, connected); err != nil {
				t.Fatal(err)
			}
			other.Close()
			if err := toldClosed(t, failed); err != ErrClosed {
				t.Errorf("%v, want ErrClosed", err)
			}
			if err := other.DialTCP(ln.Addr(), nil, connected); err == nil {
				t.Error("a loop that has ended dials")
			}
			if _, err := other.ListenTCP(loopbackAny, nil, nil); err != ErrClosed {
				t.Errorf("a loop that has ended listens: %v", err)
			}
			if err := ln.Close(); err != ErrClosed {
				t.Errorf("Close of its listener: %v", err)
			}
		})
		if len(failed) != 0 {
			t.Error("told twice")
		}
	})
}

func TestLoopListenerClose(t *testing.T) {
	eachLoop(t, func(t *testing.T, l *Loop) {
		ln, err := l.ListenTCP(loopbackAny, nil, func(*Conn) Protocol { return &testProtocol{data: echoData} })
		if err != nil {
			t.Fatal(err)
		}
		c := dialRaw(t, ln.Addr().String())
		c.send("one")
		loopRead(t, c, "one")
		if err := ln.Close(); err != nil {
			t.Fatal(err)
		}
		eventually(t, "the end of listening", func() bool {
			conn, err := net.Dial("tcp", ln.Addr().String())
			if err == nil {
				conn.Close()
			}
			return errors.Is(err, syscall.ECONNREFUSED)
		})
		c.send("two")
		loopRead(t, c, "two")
	})
}

// loopRead fails unless want comes next.
func loopRead(t *testing.T, c *rawClient, want string) {
	t.Helper()
	got := make([]byte, len(want))
	if _, err := io.ReadFull(c.br, got); err != nil || string(got) != want {
		t.Fatalf("read %q, %v; want %q", got, err, want)
	}
}

func TestLoopMaxConns(t *testing.T) {
	eachLoop(t, func(t *testing.T, l *Loop) {
		var open, most atomic.Int32
		addr := loopServe(t, l, &ConnOptions{MaxConns: 2}, func(c *Conn) Protocol {
			if n := open.Add(1); n > most.Load() {
				most.Store(n)
			}
			return &testProtocol{data: func(c *Conn, in []byte, eof bool) (int, error) {
				open.Add(-1)
				c.Close()
				return len(in), c.Write(in)
			}}
		})
		var clients []*rawClient
		for range 6 {
			clients = append(clients, dialRaw(t, addr))
		}
		for _, c := range clients { // those that wait have their turn as others end
			c.send("x")
			loopRead(t, c, "x")
			c.ended()
			c.Close()
		}
		if most.Load() > 2 {
			t.Errorf("%d connections at once", most.Load())
		}
	})
}

// What a paused connection is sent stays where it is, and comes in order after
// Resume, from wherever that is called.
func TestConnPause(t *testing.T) {
	eachLoop(t, func(t *testing.T, l *Loop) {
		var paused atomic.Bool
		conns := make(chan *Conn, 1)
		addr := loopServe(t, l, nil, func(c *Conn) Protocol {
			return &testProtocol{data: func(c *Conn, in []byte, eof bool) (int, error) {
				if paused.Load() {
					t.Error("Data of a paused connection")
				}
				if i := bytes.IndexByte(in, '!'); i >= 0 {
					paused.Store(true)
					c.Pause()
					conns <- c
					return i + 1, c.Write(in[:i+1])
				}
				return len(in), c.Write(in)
			}}
		})
		c := dialRaw(t, addr)
		for range 50 {
			c.send("before!after")
			loopRead(t, c, "before!")
			c.send(" and more")
			conn := <-conns
			settled := make(chan struct{})
			l.Post(func() { close(settled) })
			loopSignal(t, "the loop", settled)
			paused.Store(false)
			conn.Resume()
			loopRead(t, c, "after and more")
		}
	})
}

// The end of a stream that comes while paused is told after Resume.
func TestConnPauseEOF(t *testing.T) {
	eachLoop(t, func(t *testing.T, l *Loop) {
		closed := make(chan error, 1)
		addr := loopServe(t, l, nil, func(c *Conn) Protocol {
			c.Pause()
			l.After(20*time.Millisecond, c.Resume)
			return &testProtocol{data: echoData, closed: closed}
		})
		c := dialRaw(t, addr)
		c.send("last words")
		c.CloseWrite()
		loopRead(t, c, "last words")
		c.ended()
		if err := toldClosed(t, closed); err != nil {
			t.Error(err)
		}
	})
}

// Functions posted to a connection may write, from any goroutine, in order.
func TestConnPost(t *testing.T) {
	eachLoop(t, func(t *testing.T, l *Loop) {
		conns := make(chan *Conn, 1)
		addr := loopServe(t, l, nil, func(c *Conn) Protocol {
			conns <- c
			return &testProtocol{data: echoData}
		})
		c := dialRaw(t, addr)
		conn := <-conns
		const posters, each = 4, 200
		for p := range posters {
			go func() {
				for i := range each {
					if err := conn.Post(func() { conn.Write([]byte{byte(p), byte(i)}) }); err != nil {
						t.Error(err)
					}
				}
			}()
		}
		var next [posters]byte
		for range posters * each {
			var pair [2]byte
			if _, err := io.ReadFull(c.br, pair[:]); err != nil {
				t.Fatal(err)
			}
			if pair[1] != next[pair[0]] {
				t.Fatalf("poster %d: %d comes, want %d", pair[0], pair[1], next[pair[0]])
			}
			next[pair[0]]++
		}
		if err := conn.Post(conn.Abort); err != nil {
			t.Error(err)
		}
		if _, err := c.br.ReadByte(); !errors.Is(err, syscall.ECONNRESET) {
			t.Errorf("after Abort: %v", err)
		}
		if err := conn.Post(func() { t.Error("called after the end") }); err != nil {
			t.Errorf("Post after the end: %v", err)
		}
	})
}

func TestConnSetTimeout(t *testing.T) {
	eachLoop(t, func(t *testing.T, l *Loop) {
		t.Run("Expired", func(t *testing.T) {
			start := time.Now()
			addr := loopServe(t, l, nil, func(c *Conn) Protocol {
				c.SetTimeout(time.Hour)
				c.SetTimeout(20 * time.Millisecond) // an earlier one counts
				p := new(expiringProtocol)
				p.expired = func(c *Conn) {
					if took := time.Since(start); took < 20*time.Millisecond {
						t.Errorf("expired after %v", took)
					}
					c.Write([]byte("late"))
					c.Close()
				}
				return p
			})
			c := dialRaw(t, addr)
			loopRead(t, c, "late")
			c.ended()
		})
		t.Run("put off", func(t *testing.T) {
			const limit = 300 * time.Millisecond
			closed := make(chan error, 1)
			var last atomic.Int64
			addr := loopServe(t, l, nil, func(c *Conn) Protocol {
				return &testProtocol{data: func(c *Conn, in []byte, eof bool) (int, error) {
					last.Store(time.Now().UnixNano())
					c.SetTimeout(limit)
					return len(in), nil
				}, closed: closed}
			})
			c := dialRaw(t, addr)
			for range 10 {
				c.send("x")
				time.Sleep(limit / 8) // what is put off has to pass
			}
			c.ended()
			c.Close()
			if err := toldClosed(t, closed); err != ErrTimeout {
				t.Errorf("closed with %v", err)
			}
			if took := time.Since(time.Unix(0, last.Load())); took < limit/2 { // the loop's clock may be a batch old
				t.Errorf("timed out %v after the last message", took)
			}
		})
		t.Run("silence", func(t *testing.T) {
			closed := make(chan error, 1)
			addr := loopServe(t, l, &ConnOptions{IdleTimeout: 300 * time.Millisecond}, func(c *Conn) Protocol {
				return &testProtocol{data: echoData, closed: closed}
			})
			c := dialRaw(t, addr)
			c.send("x")
			loopRead(t, c, "x")
			c.ended()
			c.Close()
			if err := toldClosed(t, closed); err != ErrTimeout {
				t.Errorf("closed with %v", err)
			}
		})
		t.Run("taken away", func(t *testing.T) {
			addr := loopServe(t, l, nil, func(c *Conn) Protocol {
				c.SetTimeout(10 * time.Millisecond)
				c.SetTimeout(0)
				return &testProtocol{data: echoData}
			})
			c := dialRaw(t, addr)
			later := make(chan struct{})
			l.After(40*time.Millisecond, func() { close(later) })
			loopSignal(t, "a later time", later)
			c.send("x")
			loopRead(t, c, "x")
		})
	})
}

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

// A producer that writes until it is refused and goes on when Drained is called
// sends everything, in order and within the bound, to a peer that is slow.
func TestConnBackpressure(t *testing.T) {
	eachLoop(t, func(t *testing.T, l *Loop) {
		const bound, total = 64 << 10, 24 << 20
		var drains, refusals atomic.Int32
		addr := loopServe(t, l, &ConnOptions{MaxOutputBytes: bound, Inline: true}, func(c *Conn) Protocol {
			sent := 0
			piece := make([]byte, 8<<10)
			var produce func(c *Conn)
			produce = func(c *Conn) {
				for sent < total {
					for i := range piece {
						piece[i] = byte((sent + i) >> 10)
					}
					switch err := c.Write(piece); err {
					case nil:
						sent += len(piece)
					case ErrBackpressure:
						refusals.Add(1)
						return
					default:
						t.Error(err)
						return
					}
				}
				c.Close()
			}
			if err := c.Write(make([]byte, bound+1)); err != ErrBackpressure {
				t.Errorf("a write beyond the bound: %v", err)
			}
			produce(c)
			return &testProtocol{drained: func(c *Conn) {
				drains.Add(1)
				if c.out != nil && len(c.out.b)-c.out.sent > bound/4 {
					t.Error("Drained above the low mark")
				}
				produce(c)
			}}
		})
		c := dialRaw(t, addr)
		eventually(t, "a refused write", func() bool { return refusals.Load() > 0 })
		at := 0
		for buf := make([]byte, 30<<10); ; {
			n, err := c.br.Read(buf)
			c.got.Reset()
			for i, b := range buf[:n] {
				if b != byte((at+i)>>10) {
					t.Fatalf("byte %d is wrong", at+i)
				}
			}
			at += n
			if err == io.EOF {
				break
			}
			if err != nil {
				t.Fatal(err)
			}
		}
		if at != total {
			t.Errorf("%d bytes came, want %d", at, total)
		}
		if drains.Load() == 0 {
			t.Error("Drained was not called")
		}
	})
}

// A protocol that panics, or lies, loses its connection and nothing else.
func TestConnProtocolFaults(t *testing.T) {
	eachLoop(t, func(t *testing.T, l *Loop) {
		var pe *PanicError
		boom := errors.New("boom")
		for name, fault := range map[string]func(p *expiringProtocol, c *Conn){
			"Data panics":    func(p *expiringProtocol, c *Conn) { p.data = func(*Conn, []byte, bool) (int, error) { panic(boom) } },
			"Drained panics": func(p *expiringProtocol, c *Conn) { c.Post(func() { c.callDrained(c.frame) }) },
			"Expired panics": func(p *expiringProtocol, c *Conn) { c.SetTimeout(time.Millisecond) },
			"a posted function panics": func(p *expiringProtocol, c *Conn) {
				c.Post(func() { panic(boom) })
			},
			"the beginning panics": func(p *expiringProtocol, c *Conn) { panic(boom) },
			"Data counts wrong": func(p *expiringProtocol, c *Conn) {
				p.data = func(c *Conn, in []byte, eof bool) (int, error) { return len(in) + 1, nil }
			},
		} {
			t.Run(name, func(t *testing.T) {
				closed := make(chan error, 1)
				p := new(expiringProtocol)
				p.closed = closed
				p.drained = func(*Conn) { panic(boom) }
				p.expired = func(*Conn) { panic(boom) }
				begins := strings.HasPrefix(name, "the beginning")
				addr := loopServe(t, l, nil, func(c *Conn) Protocol {
					fault(p, c)
					return p
				})
				conn, err := net.Dial("tcp", addr)
				if err == nil { // or it was reset while it began
					defer conn.Close()
					conn.SetDeadline(time.Now().Add(patience))
					io.WriteString(conn, "x")
					if _, err := conn.Read(make([]byte, 1)); err == nil || errors.Is(err, os.ErrDeadlineExceeded) {
						t.Errorf("the connection lives on: %v", err)
					}
				}
				if begins {
					return // there is no protocol that could be told
				}
				err = toldClosed(t, closed)
				if name == "Data counts wrong" {
					if err != errDataCount {
						t.Errorf("closed with %v", err)
					}
				} else if !errors.As(err, &pe) || !errors.Is(err, boom) || !bytes.Contains(pe.Stack, []byte("panic")) {
					t.Errorf("closed with %v", err)
				}
			})
		}
	})
}

// A Data that blocks holds up its own connection alone.
func TestLoopDataBlocks(t *testing.T) {
	eachLoop(t, func(t *testing.T, l *Loop) {
		release := make(chan struct{})
		addr := loopServe(t, l, &ConnOptions{Inline: true}, func(c *Conn) Protocol {
			return &testProtocol{data: func(c *Conn, in []byte, eof bool) (int, error) {
				if bytes.HasPrefix(in, []byte("block")) {
					<-release
				}
				return len(in), c.Write(in)
			}}
		})
		slow, quick := dialRaw(t, addr), dialRaw(t, addr)
		slow.send("block")
		for range 20 {
			quick.send("x")
			loopRead(t, quick, "x")
		}
		close(release)
		loopRead(t, slow, "block")
		slow.send("again")
		loopRead(t, slow, "again")
	})
}

// The connections of a loop end with it, those that block included.
func TestLoopEndCutsConnections(t *testing.T) {
	for _, maker := range pollerMakers {
		p, err := maker.make()
		if errors.Is(err, errors.ErrUnsupported) {
			continue
		}
		if err != nil {
			t.Fatal(err)
		}
		l, err := NewLoop(p)
		if err != nil {
			t.Fatal(err)
		}
		ctx, cancel := context.WithCancel(t.Context())
		ended := make(chan error, 1)
		go func() { ended <- l.Run(ctx) }()
		closed := make(chan error, 2)
		addr := loopServe(t, l, nil, func(c *Conn) Protocol {
			return &testProtocol{data: func(c *Conn, in []byte, eof bool) (int, error) {
				return c.NetConn(in, func(conn net.Conn) error {
					_, err := io.Copy(conn, conn)
					return err
				})
			}, closed: closed}
		})
		idle, busy := dialRaw(t, addr), dialRaw(t, addr)
		busy.send("x")
		loopRead(t, busy, "x")
		eventually(t, "two connections", func() bool { return l.gauges[stateSwitched].Load()+l.gauges[stateHandler].Load() == 2 })
		cancel()
		if err := loopEnd(t, ended); !errors.Is(err, context.Canceled) {
			t.Errorf("Run: %v", err)
		}
		for _, c := range []*rawClient{idle, busy} {
			if rest := c.toEnd(); len(rest) > 0 {
				t.Errorf("at the end of the loop came %q", rest)
			}
		}
		for range 2 {
			if err := toldClosed(t, closed); err == nil {
				t.Error("a connection that was cut is told that it ended in order")
			}
		}
	}
}

// What SocketOptions ask for is what the sockets have.
func TestLoopSocketOptions(t *testing.T) {
	l := newRunningLoop(t)
	for _, opts := range []SocketOptions{
		{},
		{Delay: true, KeepAlive: -1},
		{KeepAlive: 77 * time.Second, ReadBuffer: 100 << 10, WriteBuffer: 50 << 10, ReusePort: true, ReuseAddr: true},
	} {
		got := make(chan map[int]int, 2)
		look := func(c *Conn) map[int]int {
			m := make(map[int]int)
			for name, option := range map[int][2]int{
				1: {syscall.IPPROTO_TCP, syscall.TCP_NODELAY}, 2: {syscall.SOL_SOCKET, syscall.SO_KEEPALIVE},
				3: {syscall.IPPROTO_TCP, tcpKeepIdle}, 4: {syscall.SOL_SOCKET, syscall.SO_RCVBUF}, 5: {syscall.SOL_SOCKET, syscall.SO_SNDBUF},
			} {
				m[name], _ = syscall.GetsockoptInt(c.fd, option[0], option[1])
			}
			return m
		}
		ln, err := l.ListenTCP(loopbackAny, &ConnOptions{SocketOptions: opts}, func(c *Conn) Protocol { got <- look(c); return nil })
		if err != nil {
			t.Fatal(err)
		}
		if err := l.DialTCP(ln.Addr(), &ConnOptions{SocketOptions: opts}, func(c *Conn, err error) Protocol {
			if err == nil {
				got <- look(c)
			}
			return nil
		}); err != nil {
			t.Fatal(err)
		}
		for range 2 {
			m := <-got
			if (m[1] == 0) != opts.Delay {
				t.Errorf("%+v: no delay is %d", opts, m[1])
			}
			if (m[2] == 0) != (opts.KeepAlive < 0) {
				t.Errorf("%+v: keep-alive is %d", opts, m[2])
			}
			if want := int(max(opts.KeepAlive, defaultKeepAlive) / time.Second); opts.KeepAlive >= 0 && m[3] != want {
				t.Errorf("%+v: idle is %d", opts, m[3])
			}
			if m[4] < opts.ReadBuffer || m[5] < opts.WriteBuffer {
				t.Errorf("%+v: buffers are %d and %d", opts, m[4], m[5])
			}
		}
		if opts.ReusePort {
			other, err := l.ListenTCP(ln.Addr(), &ConnOptions{SocketOptions: opts}, nil)
			if err != nil {
				t.Errorf("a second listener: %v", err)
			} else {
				other.Close()
			}
		}
		ln.Close()
	}
}

// The same protocol on a Server: what NewProtocol writes is sent, and the
// server's limits hold.
func TestServerNewProtocol(t *testing.T) {
	closed := make(chan error, 1)
	s := &Server{Loops: 1, IdleTimeout: 30 * time.Millisecond, NewProtocol: func(c *Conn) Protocol {
		c.Write([]byte("hello\n"))
		if err := c.Loop().Close(); err != errLoopOwned {
			t.Errorf("Close of a server's loop: %v", err)
		}
		return &testProtocol{data: echoData, closed: closed}
	}}
	c := dialRaw(t, startServer(t, s))
	r := bufio.NewReader(c.br)
	if line, err := r.ReadString('\n'); line != "hello\n" {
		t.Errorf("%q, %v", line, err)
	}
	if err := toldClosed(t, closed); err != ErrTimeout {
		t.Errorf("closed with %v", err)
	}
	c.Close()
	gone(t, s)
}

// A negative WriteTimeout is none: no pace of the peer's ends the connection.
func TestConnOptionsNoWriteTimeout(t *testing.T) {
	for timeout, want := range map[time.Duration]time.Duration{0: rateGrace, time.Second: time.Second, -1: 0} {
		c := &Conn{limits: (&ConnOptions{WriteTimeout: timeout}).limits(), fd: -1}
		if got := new(roomPace).due(c); got != want {
			t.Errorf("WriteTimeout %v: a peer that takes nothing is given up after %v, want %v", timeout, got, want)
		}
	}
}
