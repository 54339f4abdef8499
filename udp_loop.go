package flare

import (
	"log/slog"
	"net/netip"
	"sync"
	"sync/atomic"
	"syscall"
)

// This file is layer 3 (engine): UDP on a loop. It knows batches of datagrams
// and whose they are; loop_watch.go says when there are any, the system's files
// (datagram.go) move them.

// udpBatches is how many batches are received before others get their turn.
const udpBatches = 8

// A LoopUDPConn is a UDP socket on a loop. Its methods may be called from any
// goroutine.
type LoopUDPConn struct {
	loop    *Loop
	addr    netip.AddrPort
	handler func(*Datagram)
	w       watch
	failed  atomic.Uint64
	truncs  atomic.Uint64

	// Held for reading by who uses the descriptor, for writing by who ends that.
	mu     sync.RWMutex
	closed bool

	// Of the goroutine that is in ready; there is one at most.
	batch    *datagramBatch
	arrived  int // datagrams of batch
	handled  int // those of them that the handler was called for
	datagram Datagram
}

// A Datagram is what a handler is called with, and valid during the call only.
type Datagram struct {
	From      netip.AddrPort
	Data      []byte
	Truncated bool // it was longer than UDPOptions.MaxDatagramBytes

	conn *LoopUDPConn
}

// ListenUDP has handler called for each datagram that is sent to addr, port 0
// being one that the system chooses. An unspecified IPv6 address takes IPv4
// datagrams too. opts may be nil. Datagrams come in batches, and what is
// answered to those of a batch leaves together when all of it has been handled.
//
// The handler may block, like every callback of a loop (see Loop.Post): later
// datagrams of the socket wait for it then, in the kernel, and the rest of the
// loop does not. It is called by one goroutine at a time.
//
// ErrClosed means that the loop has ended. Any goroutine may call it.
func (l *Loop) ListenUDP(addr netip.AddrPort, opts *UDPOptions, handler func(*Datagram)) (*LoopUDPConn, error) {
	if opts == nil {
		opts = new(UDPOptions)
	}
	conn, err := listenUDP(addr, opts)
	if err != nil {
		return nil, err
	}
	defer conn.Close() // the loop has a descriptor of its own
	fd, err := dupSocket(conn)
	if err != nil {
		return nil, socketFailure("listen", err)
	}
	u := &LoopUDPConn{loop: l, addr: localUDPAddr(conn), handler: handler}
	bytesMax := opts.MaxDatagramBytes
	if bytesMax <= 0 || bytesMax > datagramRoom {
		bytesMax = datagramRoom
	}
	u.batch = newDatagramBatch(bytesMax, u.addr.Addr().Is6())
	u.datagram.conn = u
	u.w = watch{fd: fd, ready: u.ready, ended: u.end}
	if !l.call(func() {
		if err := l.watch(&u.w, Readable); err != nil {
			closeFD(fd)
			u.end()
			l.fail(err)
		}
	}) {
		closeFD(fd)
		return nil, ErrClosed
	}
	return u, nil
}

// datagramRoom is enough for all datagrams: IPv6 has room for some more than
// IPv4 (RFC 8200 §3).
const datagramRoom = 65535 - 8

// ready receives and handles what there is, and sends the answers. Where there
// is no room for those it goes on once there is.
func (u *LoopUDPConn) ready(Interest) (more Interest) {
	if !u.flush() {
		return 0
	}
	u.w.want = Readable
	for range udpBatches {
		again := true
		if u.handled == u.arrived { // else the handler has ended its goroutine in the middle of a batch
			u.handled = 0
			u.arrived, again = u.receive()
		}
		u.handle()
		if !u.flush() {
			u.w.want = Writable
			return 0
		}
		if !again {
			return 0
		}
	}
	return Readable
}

// handle calls the handler for the datagrams of a batch. A panic costs the
// datagram alone.
func (u *LoopUDPConn) handle() {
	for u.handled < u.arrived {
		i := u.handled
		u.handled++
		in, d := &u.batch.received[i], &u.datagram
		d.From, d.Data, d.Truncated = in.from, u.batch.datagram(i), in.truncated
		if in.truncated {
			u.truncs.Add(1)
		}
		if p := guard(func() { u.handler(d) }, nil); p != nil {
			logPanic(slog.Default(), "flare: a handler of datagrams panicked", p)
		}
	}
}

// receive takes a batch. more: there may be another one.
func (u *LoopUDPConn) receive() (n int, more bool) {
	u.mu.RLock()
	defer u.mu.RUnlock()
	if u.closed {
		return 0, false
	}
	n, errno := u.batch.receive(u.w.fd)
	switch errno {
	case 0:
		return n, n == batchDatagrams
	case syscall.EAGAIN:
		return 0, false
	}
	return 0, true // the next call says whether it was of the moment
}

// flush sends the answers. False: the rest of them has to wait.
func (u *LoopUDPConn) flush() bool {
	if u.batch.queued == 0 {
		return true
	}
	u.mu.RLock()
	defer u.mu.RUnlock()
	if u.closed {
		return false
	}
	failed, done := u.batch.flush(u.w.fd)
	if failed > 0 {
		u.failed.Add(uint64(failed))
	}
	return done
}

// end is called when the loop lets go of the descriptor.
func (u *LoopUDPConn) end() {
	u.mu.Lock()
	u.closed = true
	u.mu.Unlock()
}

// Conn is the socket that has received d; other goroutines may keep it.
func (d *Datagram) Conn() *LoopUDPConn { return d.conn }

// Reply sends p, which is copied, to where d came from. It fails as Send does.
func (d *Datagram) Reply(p []byte) error { return d.Send(p, d.From) }

// Send sends p, which is copied, with the answers to the batch that d is of.
// Only the handler may call it. ErrDatagramTooLarge, ErrInvalidAddr for an
// address of a family that the socket has not, and ErrBackpressure when there
// is no room: nothing is sent then. What fails later is counted by
// LoopUDPConn.Failed.
func (d *Datagram) Send(p []byte, to netip.AddrPort) error {
	u := d.conn
	if err := u.checkSend(p, to); err != nil {
		return err
	}
	if !u.batch.fits(len(p)) && !u.flush() {
		return ErrBackpressure
	}
	u.batch.queue(p, to)
	return nil
}

func (u *LoopUDPConn) checkSend(p []byte, to netip.AddrPort) error {
	switch {
	case len(p) > DatagramBytesMax:
		return ErrDatagramTooLarge
	case !to.IsValid(), u.addr.Addr().Is4() && !to.Addr().Unmap().Is4():
		return ErrInvalidAddr
	}
	return nil
}

// WriteTo sends p at once. It never waits: ErrBackpressure means that there is
// no room at the moment. Otherwise it fails as UDPConn.WriteTo does.
func (u *LoopUDPConn) WriteTo(p []byte, to netip.AddrPort) error {
	if err := u.checkSend(p, to); err != nil {
		return err
	}
	u.mu.RLock()
	defer u.mu.RUnlock()
	if u.closed {
		return ErrClosed
	}
	errno := sendDatagram(u.w.fd, p, to, u.addr.Addr().Is6())
	if errno == syscall.EAGAIN {
		return ErrBackpressure
	}
	if errno != 0 {
		return socketFailure("send", errno)
	}
	return nil
}

// LocalAddr returns the socket's own address.
func (u *LoopUDPConn) LocalAddr() netip.AddrPort { return u.addr }

// Failed returns how many answers the system refused to send.
func (u *LoopUDPConn) Failed() uint64 { return u.failed.Load() }

// Truncated returns how many datagrams were longer than MaxDatagramBytes.
func (u *LoopUDPConn) Truncated() uint64 { return u.truncs.Load() }

// Close ends the socket. It does not wait: a handler that runs goes on, and its
// answers leave only if they do before the loop comes to it. ErrClosed means that
// the socket is closed, or its loop has ended.
func (u *LoopUDPConn) Close() error {
	u.mu.RLock()
	closed := u.closed
	u.mu.RUnlock()
	if closed || !u.loop.call(func() { u.loop.unwatch(&u.w) }) {
		return ErrClosed
	}
	return nil
}
