package flare

import (
	"io"
	"net"
	"sync"
	"sync/atomic"
	"time"
)

// This file is layer 3 (engine): a connection on a loop as a net.Conn, for code
// that reads and writes in a straight line. It knows how to wait: the loop is
// handed on first, so that nobody else has to.

// NetConn calls use with the connection as a net.Conn that blocks, and returns
// what Data is to return: how much of in was used, and the error of use. in is
// what Data was given, or the rest of it, which is read first.
//
//	func (p *proto) Data(c *flare.Conn, in []byte, eof bool) (int, error) {
//		return c.NetConn(in, p.serve)
//	}
//
// Reads fail with ErrTimeout after the IdleTimeout of the connection, writes
// after its WriteTimeout, both before if a deadline is set; a failed write ends
// the connection. One goroutine may read while another writes. When use returns
// the net.Conn is closed to it, which ends calls that still wait, and the
// connection goes on with Data, unless it was closed before. Only Data may call
// NetConn.
func (c *Conn) NetConn(in []byte, use func(net.Conn) error) (n int, err error) {
	g := c.workset
	g.reading = pace{}
	g.writing.reset()
	g.readBy.reset()
	g.writeBy.reset()
	b := &blockingConn{c: c, g: g, in: in}
	defer func() {
		b.end()
		b.await(&b.reading)
		b.await(&b.writing)
		g.readBy.reset()
		g.writeBy.reset()
		n = len(in) - len(b.in)
	}()
	return 0, use(b)
}

// A blockingConn is such a net.Conn.
type blockingConn struct {
	c *Conn
	g *workset // of the turn

	reading, writing sync.Mutex // held by a call of each

	mu   sync.Mutex  // held to set a deadline, and to set done
	done atomic.Bool // use has returned, or it was closed

	in []byte // the reader's: what is read first
}

// end has all calls fail from here on, those that wait included. It reports
// false for the second time.
func (b *blockingConn) end() bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.done.Swap(true) {
		return false
	}
	b.setDeadline(&b.g.readBy, ownRead, longAgo)
	b.setDeadline(&b.g.writeBy, ownWrite, longAgo)
	return true
}

// await waits for a call that goes on.
func (b *blockingConn) await(call *sync.Mutex) {
	if !call.TryLock() {
		b.g.detach()
		call.Lock()
	}
	call.Unlock()
}

// Read implements net.Conn.
func (b *blockingConn) Read(p []byte) (int, error) {
	b.reading.Lock()
	defer b.reading.Unlock()
	switch {
	case b.done.Load():
		return 0, b.failed("read", net.ErrClosed)
	case len(p) == 0:
		return 0, nil
	case len(b.in) > 0:
		n := copy(p, b.in)
		b.in = b.in[n:]
		return n, nil
	case b.c.eof:
		return 0, io.EOF
	}
	n, err := b.c.recvWait(p)
	if err != nil {
		return 0, b.failed("read", err)
	}
	if n == 0 {
		return 0, io.EOF
	}
	b.c.since = time.Since(origin)
	return n, nil
}

// Write implements net.Conn. It takes all of p or fails.
func (b *blockingConn) Write(p []byte) (int, error) {
	b.writing.Lock()
	defer b.writing.Unlock()
	if b.done.Load() {
		return 0, b.failed("write", net.ErrClosed)
	}
	if err := b.c.sendWait(p); err != nil {
		b.c.end(endFlushed, nil)
		return 0, b.failed("write", err)
	}
	return len(p), nil
}

// Close ends the connection once use has returned.
func (b *blockingConn) Close() error {
	if !b.end() {
		return b.failed("close", net.ErrClosed)
	}
	b.c.end(endFlushed, nil)
	return nil
}

// LocalAddr implements net.Conn.
func (b *blockingConn) LocalAddr() net.Addr { return netAddr(b.c.LocalAddr()) }

// RemoteAddr implements net.Conn.
func (b *blockingConn) RemoteAddr() net.Addr { return netAddr(b.c.RemoteAddr()) }

// SetDeadline implements net.Conn.
func (b *blockingConn) SetDeadline(t time.Time) error {
	b.SetReadDeadline(t)
	return b.SetWriteDeadline(t)
}

// SetReadDeadline implements net.Conn: it holds for a Read that waits, too.
func (b *blockingConn) SetReadDeadline(t time.Time) error {
	return b.changeDeadline(&b.g.readBy, ownRead, t)
}

// SetWriteDeadline implements net.Conn: it holds for a Write that waits, too.
func (b *blockingConn) SetWriteDeadline(t time.Time) error {
	return b.changeDeadline(&b.g.writeBy, ownWrite, t)
}

func (b *blockingConn) changeDeadline(by *deadline, bit uint32, t time.Time) error {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.done.Load() {
		return b.failed("set", net.ErrClosed)
	}
	b.setDeadline(by, bit, t)
	return nil
}

// setDeadline sets one of the deadlines. b.mu is held.
func (b *blockingConn) setDeadline(by *deadline, bit uint32, t time.Time) {
	by.set(sinceOrigin(t))
	b.c.wakeOwner(bit)
}

// failed makes an error of the kind that users of a net.Conn expect.
func (b *blockingConn) failed(op string, err error) error {
	if b.done.Load() && err == ErrTimeout {
		err = net.ErrClosed // which is how end ends what waits
	}
	return &net.OpError{Op: op, Net: "tcp", Source: b.LocalAddr(), Addr: b.RemoteAddr(), Err: err}
}
