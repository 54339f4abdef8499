//go:build linux || darwin

package flare

import (
	"bufio"
	"bytes"
	"errors"
	"fmt"
	"io"
	"net"
	"runtime"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"
	"time"
)

// This file has what a user's own protocol may do with its connection.

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
	t.Parallel()
	eachLoop(t, func(t *testing.T, l *Loop) {
		t.Run("Expired", func(t *testing.T) {
			t.Parallel()
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
			t.Parallel()
			const limit = 600 * time.Millisecond
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
			t.Parallel()
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
		for name, expires := range map[string]bool{"while output waits": false, "Expired while output waits": true} {
			t.Run(name, func(t *testing.T) {
				t.Parallel()
				p := expiringProtocol{testProtocol{closed: make(chan error, 1)}}
				p.data = func(c *Conn, in []byte, eof bool) (int, error) {
					c.SetTimeout(20 * time.Millisecond)
					for chunk := make([]byte, 64<<10); c.Write(chunk) == nil; {
					}
					return len(in), nil
				}
				p.expired = func(c *Conn) { c.Abort() }
				addr := loopServe(t, l, nil, func(c *Conn) Protocol {
					if expires {
						return &p
					}
					return &p.testProtocol
				})
				c := dialRaw(t, addr)
				c.send("x") // and nobody reads
				if err := toldClosed(t, p.closed); expires && err != nil || !expires && err != ErrTimeout {
					t.Errorf("closed with %v", err)
				}
			})
		}
		t.Run("taken away", func(t *testing.T) {
			t.Parallel()
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
				if c.out != nil && c.out.len() > bound/4 {
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
			"Drained panics": func(p *expiringProtocol, c *Conn) { c.Post(func() { c.callDrained(c.workset) }) },
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
				loopEnds(t, addr)
				if begins {
					return // there is no protocol that could be told
				}
				err := toldClosed(t, closed)
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

// A protocol that calls runtime.Goexit, too, loses its connection and nothing
// else.
func TestConnProtocolGoexit(t *testing.T) {
	eachLoop(t, func(t *testing.T, l *Loop) {
		// Not on Run's own goroutine, which would end.
		l.Post(func() { eventually(t, "a steal", func() bool { return l.steals.Load() > 0 }) })
		for name, fault := range map[string]func(p *expiringProtocol, c *Conn){
			"Data":          func(p *expiringProtocol, c *Conn) {},
			"Expired":       func(p *expiringProtocol, c *Conn) { c.SetTimeout(time.Millisecond) },
			"posted":        func(p *expiringProtocol, c *Conn) { c.Post(runtime.Goexit) },
			"Drained":       func(p *expiringProtocol, c *Conn) { c.Post(func() { c.callDrained(c.workset) }) },
			"the beginning": func(p *expiringProtocol, c *Conn) { runtime.Goexit() },
		} {
			for _, inline := range []bool{false, true} {
				t.Run(fmt.Sprint(name, " ", inline), func(t *testing.T) {
					closed := make(chan error, 1)
					p := new(expiringProtocol)
					p.closed = closed
					p.data = func(*Conn, []byte, bool) (int, error) { runtime.Goexit(); return 0, nil }
					p.drained = func(*Conn) { runtime.Goexit() }
					p.expired = func(*Conn) { runtime.Goexit() }
					addr := loopServe(t, l, &ConnOptions{Inline: inline}, func(c *Conn) Protocol {
						fault(p, c)
						return p
					})
					loopEnds(t, addr)
					if name != "the beginning" { // there is no protocol that could be told
						if err := toldClosed(t, closed); err != errGoexit {
							t.Errorf("closed with %v", err)
						}
					}
				})
			}
		}
	})
}

// What is posted to a connection that has ended does not pile up.
func TestConnPostEnded(t *testing.T) {
	l := newRunningLoop(t)
	conns, closed := make(chan *Conn, 1), make(chan error, 1)
	addr := loopServe(t, l, nil, func(c *Conn) Protocol {
		conns <- c
		return &testProtocol{closed: closed}
	})
	peer, err := net.Dial("tcp", addr)
	if err != nil {
		t.Fatal(err)
	}
	c := <-conns
	peer.Close()
	toldClosed(t, closed)
	for range 3 {
		if err := c.Post(func() { t.Error("called") }); err != nil {
			t.Fatal(err)
		}
		done := make(chan struct{})
		l.Post(func() { close(done) })
		<-done
		l.postMu.Lock()
		if n := len(c.user().fns); n > 0 {
			t.Errorf("%d functions wait", n)
		}
		l.postMu.Unlock()
	}
}

// A Close says whether it was the one that ends the connection, as that of a
// Loop, a Listener and a UDPConn does.
func TestConnCloseTwice(t *testing.T) {
	for name, row := range map[string]struct {
		end  func(*Conn) error
		want error
	}{
		"once":        {func(c *Conn) error { return c.Close() }, nil},
		"twice":       {func(c *Conn) error { c.Close(); return c.Close() }, ErrClosed},
		"after Abort": {func(c *Conn) error { c.Abort(); return c.Close() }, ErrClosed},
	} {
		got := make(chan error, 1)
		addr := startServer(t, &Server{NewProtocol: func(*Conn) Protocol {
			return closingProtocol(func(c *Conn) { got <- row.end(c) })
		}})
		dialRaw(t, addr).send("x")
		if err := <-got; err != row.want {
			t.Errorf("%s: %v, want %v", name, err, row.want)
		}
	}
}

// A closingProtocol ends its connection with the first input.
type closingProtocol func(*Conn)

func (f closingProtocol) Data(c *Conn, in []byte, eof bool) (int, error) { f(c); return len(in), nil }
func (closingProtocol) Drained(*Conn)                                    {}
func (closingProtocol) Closed(*Conn, error)                              {}

// A timeout that passes while a method is busy elsewhere is told of right behind it.
func TestConnSetTimeoutWhileLent(t *testing.T) {
	eachLoop(t, func(t *testing.T, l *Loop) {
		returned, late := make(chan time.Time, 1), make(chan time.Duration, 1)
		addr := loopServe(t, l, nil, func(*Conn) Protocol {
			p := new(expiringProtocol)
			p.data = func(c *Conn, in []byte, _ bool) (int, error) {
				if string(in) == "x" {
					c.SetTimeout(50 * time.Millisecond)
					return 1, c.Write(in)
				}
				time.Sleep(150 * time.Millisecond) // the loop finds the connection lent
				returned <- time.Now()
				return len(in), nil
			}
			p.expired = func(c *Conn) {
				late <- time.Since(<-returned)
				c.Close()
			}
			return p
		})
		c := dialRaw(t, addr)
		c.send("x")
		loopRead(t, c, "x")
		c.send("y")
		if took := <-late; took > lentRecheck/2 {
			t.Errorf("Expired comes %v behind the method that the connection was lent for", took)
		}
		c.ended()
	})
}

// A timeout is never early, however long ago the round has begun in which it is set.
func TestConnSetTimeoutInALongRound(t *testing.T) {
	eachLoop(t, func(t *testing.T, l *Loop) {
		const limit = 50 * time.Millisecond
		took := make(chan time.Duration, 1)
		addr := loopServe(t, l, nil, func(*Conn) Protocol {
			p, began := new(expiringProtocol), time.Time{}
			p.data = func(c *Conn, in []byte, _ bool) (int, error) {
				if c.workset.loop == nil { // the call is not known to be quick yet
					return len(in), c.Write([]byte("no"))
				}
				began = time.Now()
				c.workset.clock.now -= time.Second
				c.SetTimeout(limit)
				c.workset.clock.now += time.Second
				return len(in), c.Write([]byte("ok"))
			}
			p.expired = func(c *Conn) {
				took <- time.Since(began)
				c.Close()
			}
			return p
		})
		c := dialRaw(t, addr)
		for said := make([]byte, 2); string(said) != "ok"; {
			c.send("x")
			if _, err := io.ReadFull(c.br, said); err != nil {
				t.Fatal(err)
			}
		}
		if d := <-took; d < limit {
			t.Errorf("Expired comes after %v", d)
		}
		c.ended()
	})
}
