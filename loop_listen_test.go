//go:build linux || darwin

package flare

import (
	"bytes"
	"context"
	"errors"
	"io"
	"net"
	"net/netip"
	"path/filepath"
	"runtime"
	"sync/atomic"
	"syscall"
	"testing"
	"time"
)

// This file has loops that listen and dial.

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

func TestLoopMaxConns(t *testing.T) {
	t.Parallel()
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

// What the last callback of a loop begins ends with the loop, and is no reason
// for its end.
func TestLoopEndTakesWhatComesLast(t *testing.T) {
	l, err := NewLoop(nil)
	if err != nil {
		t.Fatal(err)
	}
	told := make(chan error, 1)
	var ln *Listener
	var udp *LoopUDPConn
	var last func()
	last = func() {
		if l.Post(last) == nil {
			return // another one comes
		}
		fd, err := listenTCP(loopbackAny, 0, false)
		if err != nil {
			t.Error(err)
			return
		}
		defer closeFD(fd)
		addr, _ := localAddrPort(fd)
		if err := l.DialTCP(addr, nil, func(c *Conn, err error) Protocol {
			told <- err
			return nil
		}); err != nil {
			told <- err
		}
		if ln, err = l.ListenTCP(loopbackAny, nil, func(*Conn) Protocol { return nil }); err != nil && err != ErrClosed {
			t.Errorf("ListenTCP: %v", err)
		}
		if udp, err = l.ListenUDP(loopbackAny, nil, func(*Datagram) {}); err != nil && err != ErrClosed {
			t.Errorf("ListenUDP: %v", err)
		}
	}
	if err := l.Post(func() { l.Close(); last() }); err != nil {
		t.Fatal(err)
	}
	if err := l.Run(t.Context()); err != nil {
		t.Errorf("Run: %v", err)
	}
	if err := toldClosed(t, told); err != ErrClosed {
		t.Errorf("the dialler is told %v", err)
	}
	if ln != nil {
		if c, err := net.Dial("tcp", ln.Addr().String()); err == nil {
			t.Error("somebody still listens")
			c.Close()
		}
	}
	if udp != nil {
		if err := udp.WriteTo([]byte("x"), udp.LocalAddr()); err != ErrClosed {
			t.Errorf("WriteTo: %v", err)
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

// A negative WriteTimeout is none: no pace of the peer's ends the connection.
func TestConnOptionsNoWriteTimeout(t *testing.T) {
	for timeout, want := range map[time.Duration]time.Duration{0: rateGrace, time.Second: time.Second, -1: 0} {
		c := &Conn{limits: (&ConnOptions{WriteTimeout: timeout}).limits(), fd: -1}
		if got := new(roomPace).due(c.roomLimit()); got != want {
			t.Errorf("WriteTimeout %v: a peer that takes nothing is given up after %v, want %v", timeout, got, want)
		}
	}
}
