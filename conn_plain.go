package flare

import (
	"cmp"
	"crypto/tls"
	"errors"
	"io"
	"net"
	"net/netip"
	"os"
	"sync"
	"sync/atomic"
	"syscall"
	"time"
)

// This file is layer 3 (engine): the plain driver: connections that no poller
// can watch, because they have no descriptor or the system has no poller. It
// knows net.Conn and nothing of what the bytes mean.
//
// Such a connection is one of a loop like any other: its turns, deadlines and
// end are the same code. What differs is its transport. A goroutine reads the
// net.Conn into a buffer and announces that to the loop as a poller would; what
// is sent goes into a queue, and a goroutine that lives as long as there is
// something in it writes it. In place of a descriptor such a connection has a
// negative number, see Loop.addPlain.

const (
	plainReadBytes  = 4 << 10  // received ahead of the connection's turn
	plainQueueBytes = 64 << 10 // taken ahead of what the net.Conn takes

	// plainPieceBytes are written at once. Only a whole piece shows as progress,
	// so it is one that a peer at the default MinWriteRate takes within the
	// default WriteTimeout.
	plainPieceBytes = 4 << 10

	// plainEmptyReads is how many reads in a row may give neither bytes nor an
	// error.
	plainEmptyReads = 100

	// plainLastWrite is how long a write may have taken before it is cut off when
	// the connection is closed: what was sent before should leave, as it would
	// from a kernel's queue, but a peer that does not read is not waited for.
	plainLastWrite = 4 * tick

	// plainSettle is how long a reader may need to see what has arrived.
	plainSettle = 2 * tick
)

// A plainTransport is the transport of a connection of the plain driver. Any
// goroutine may use it.
type plainTransport struct {
	// Fixed.
	c       *Conn
	conn    net.Conn
	secured *plainTLS // below conn, a *tls.Conn; nil without TLS
	ring    func()    // onRing, made once

	rung atomic.Uint32 // edges announced that the loop has not seen yet

	mu         sync.Mutex
	changed    sync.Cond     // on mu: in was taken, or reading, leaving or closed changed
	in         []byte        // received and not taken; the reader's memory
	out        sendQueue     // taken and not yet the writer's
	inFlight   sendQueue     // what it writes; its bytes are the writer's
	began      time.Duration // when the writer's present write began
	err        error         // how the connection failed, nil: it has not
	eof        bool          // the peer sends no more
	reading    bool          // the reader lives
	writing    bool          // the writer lives
	shut       bool          // the writer is to shut the write side behind the queue
	full       bool          // send had no room
	asked      bool          // unwritten found something left
	detaching  bool          // the connection is being taken over
	handshaken bool          // the handshake has ended; TLS alone
	begin      func(*Conn)   // and what it has agreed on begins with this; nil: with nothing
	refused    error         // or why it failed
	closed     bool
	reset      bool // by close
}

// onPlain makes c, which no loop knows yet, a connection of the plain driver over
// conn, which belongs to it from here on. settings is nil without TLS; without a
// config conn is a *tls.Conn.
func (c *Conn) onPlain(conn net.Conn, settings *tlsSettings) {
	t := &plainTransport{c: c, conn: conn}
	t.ring = t.onRing
	t.changed.L = &t.mu
	switch {
	case settings == nil:
	case settings.config == nil:
		tc := conn.(*tls.Conn)
		t.secured = &plainTLS{Conn: tc.NetConn(), settings: settings, next: c.state, foreign: true}
		c.state = stateHandshake
	default:
		t.secured = &plainTLS{Conn: conn, settings: settings, next: c.state, changed: func() { t.announce(ownRead) }}
		t.conn = tls.Server(t.secured, settings.config)
		c.state = stateHandshake
	}
	c.fd, c.tr = -1, t
}

// addPlain gives c a number and starts its reader. The runner calls it. The
// numbers of plain connections are negative: -1 is the first of l.plain.
func (l *Loop) addPlain(c *Conn) {
	if n := len(l.plainFree); n > 0 {
		c.fd = l.plainFree[n-1]
		l.plainFree = l.plainFree[:n-1]
		l.plain[^c.fd] = c
	} else {
		c.fd = ^len(l.plain)
		l.plain = append(l.plain, c)
	}
	c.edges |= ownWrite // the first that a poller would report
	l.ready.push(&c.strand)
	t := c.tr.(*plainTransport)
	t.mu.Lock()
	t.reading = true
	t.mu.Unlock()
	go t.readGuarded()
}

// removePlain forgets c, whose number is free from here on.
func (l *Loop) removePlain(c *Conn) {
	l.plain[^c.fd] = nil
	l.plainFree = append(l.plainFree, c.fd)
}

// announce tells the loop of edges, as a poller would.
func (t *plainTransport) announce(edges uint32) {
	if t.rung.Or(edges) == 0 {
		t.c.loop.call(t.ring)
	}
}

// onRing is announce's part on the loop.
func (t *plainTransport) onRing() {
	c, edges := t.c, t.rung.Swap(0)
	if l := c.loop; l.connAt(c.fd) == c && c.take(edges) {
		l.ready.push(&c.strand)
	}
}

// drainPlain reports whether c, which may be idle, may be asked to end: what has
// come may not have been read yet. A handshake that has begun has its time.
func (l *Loop) drainPlain(c *Conn, g *workset) bool {
	if c.own.Load()&ownLent != 0 || c.outbox.Load() != nil {
		return true // that is seen to otherwise
	}
	if c.state != stateHandshake {
		return g.clock.now >= c.since+plainSettle
	}
	if l.leaving && !c.tr.(*plainTransport).secured.begun(g.clock.now-c.since) {
		l.close(c)
	}
	return false
}

// readGuarded is the reader's goroutine. The net.Conn is the user's, and so are
// functions of TLS's configuration.
func (t *plainTransport) readGuarded() {
	if p := guard(t.read, func() { t.readerFailed(errHandshakeExit) }); p != nil {
		t.readerFailed(p)
	}
}

// readerFailed ends the connection of a reader that the user's code has ended.
func (t *plainTransport) readerFailed(err error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.secured != nil && !t.handshaken {
		go t.secured.settings.done(false, err) // it calls a logger
		t.handshaken, t.refused = true, err
	}
	if t.reading {
		t.fail(err)
		t.stopReading()
	}
}

// errConnCount ends a connection that breaks the contract of io.Reader or io.Writer.
var errConnCount = errors.New("flare: a net.Conn returned an impossible number of bytes")

// read is the reader: it receives until the end.
func (t *plainTransport) read() {
	if t.secured != nil && !t.shakeHands() {
		return
	}
	b := getBuffer(plainReadBytes)
	empty := 0
	for {
		n, err := t.conn.Read(b.b[:cap(b.b)])
		if uint(n) > uint(cap(b.b)) {
			n, err = 0, errConnCount
		}
		if t.secured != nil {
			err = t.secured.cutOff(err)
		}
		if n > 0 || err != nil {
			empty = 0
		} else if empty++; empty == plainEmptyReads {
			err = io.ErrNoProgress
		}
		if !t.received(b.b[:n], err) {
			break
		}
	}
	b.release()
}

// received announces what a read gave and waits until it was taken. False: it
// was the last one.
func (t *plainTransport) received(p []byte, err error) bool {
	t.mu.Lock()
	defer t.mu.Unlock()
	if len(p) > 0 && !t.closed {
		t.in = p
		t.c.limits.buffered.Add(int64(len(p)))
		t.announce(ownRead)
		for len(t.in) > 0 && !t.closed && !t.detaching {
			t.changed.Wait()
		}
	}
	switch {
	case t.closed:
		t.announce(ownEdges)
	case t.detaching: // err is the deadline that ended the read, or comes again
	case err == nil:
		return true
	case err == io.EOF:
		t.eof = true
		t.announce(ownRead | ownRDHup)
	default:
		t.fail(err)
	}
	t.c.limits.buffered.Add(-int64(len(t.in)))
	t.in = append([]byte(nil), t.in...) // the memory is the reader's, and it ends
	t.stopReading()
	return false
}

// stopReading notes that the reader ends. t.mu is held.
func (t *plainTransport) stopReading() {
	t.reading = false
	t.changed.Broadcast()
}

// fail notes that the connection is broken. t.mu is held.
func (t *plainTransport) fail(err error) {
	if err == errWouldBlock {
		err = syscall.ECONNRESET // a net.Conn has no business saying so
	}
	if t.err == nil {
		t.err = err
	}
	t.drop()
	t.announce(ownEdges)
}

// drop forgets what the writer does not have. t.mu is held.
func (t *plainTransport) drop() {
	t.out.drop()
	t.out.count(t.c.limits.buffered)
}

// waits is how many bytes were taken and not written. t.mu is held.
func (t *plainTransport) waits() int {
	if t.err != nil {
		return 0
	}
	return t.out.len() + t.inFlight.len()
}

func (t *plainTransport) recv(p []byte) (int, error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	switch {
	case t.closed:
		return 0, cmp.Or[error](t.err, syscall.ECONNRESET)
	case len(t.in) > 0:
		n := copy(p, t.in)
		t.in = t.in[n:]
		t.c.limits.buffered.Add(-int64(n))
		if len(t.in) == 0 {
			t.changed.Broadcast()
		}
		return n, nil
	case t.err != nil:
		return 0, t.err
	case t.eof:
		return 0, nil
	}
	return 0, errWouldBlock
}

func (t *plainTransport) discard(room []byte) (int, error) { return t.recv(room) }

func (t *plainTransport) drained() bool             { return false }
func (t *plainTransport) anyoneSends() bool         { return true }
func (t *plainTransport) flush() error              { return nil }
func (t *plainTransport) holds() bool               { return false }
func (t *plainTransport) promised() int             { return 0 }
func (t *plainTransport) localAddr() netip.AddrPort { return addrPortOfNet(t.conn.LocalAddr()) }
func (t *plainTransport) cut()                      { t.end(false) }
func (t *plainTransport) canTakeOver() bool         { return true }

// looked begins to count anew.
func (t *plainTransport) looked(bool, time.Duration) { t.counted(0) }

// sendFile: the net.Conn may be anything.
func (t *plainTransport) sendFile(*os.File, *int64, int) (int, error) {
	return 0, errors.ErrUnsupported
}

func (t *plainTransport) send(a, b []byte) (int, error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	room := plainQueueBytes - t.waits()
	switch {
	case t.closed:
		return 0, cmp.Or[error](t.err, syscall.EPIPE)
	case t.err != nil:
		return 0, t.err
	case room <= 0:
		t.full = true
		return 0, errWouldBlock
	}
	a = a[:min(len(a), room)]
	b = b[:min(len(b), room-len(a))]
	t.out.append(a, b)
	t.out.count(t.c.limits.buffered)
	t.startWriter()
	return len(a) + len(b), nil
}

// unwritten is how much of what was sent has not been written. Where that is not
// 0, ownWrite announces that it is.
func (t *plainTransport) unwritten() int {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.asked = t.waits() > 0
	return t.waits()
}

// unacked counts what a socket holds too, where conn is one.
func (t *plainTransport) unacked() int {
	n := t.unwritten()
	onSocket(t.conn, func(fd int) { n += unackedConn(fd) })
	return n
}

func (t *plainTransport) boundUnsent(most int32) {
	onSocket(t.conn, func(fd int) { setUnsentMax(fd, int(most)) })
}

// startWriter sees to it that there is a writer. t.mu is held.
func (t *plainTransport) startWriter() {
	if !t.writing {
		t.writing = true
		t.began = time.Since(origin)
		go t.writeGuarded()
	}
}

// writeGuarded is the writer's goroutine: see readGuarded.
func (t *plainTransport) writeGuarded() {
	failed := func(err error) {
		t.mu.Lock()
		t.writing = false
		t.fail(err)
		closed := t.closed
		t.mu.Unlock()
		if closed {
			go t.closeConn()
		}
	}
	if p := guard(t.write, func() { failed(errGoexit) }); p != nil {
		failed(p)
	}
}

// write is the writer: it writes until the queue is empty.
func (t *plainTransport) write() {
	for p := t.nextOut(); len(p) > 0; p = t.nextOut() {
		p = p[:min(len(p), plainPieceBytes)]
		n, err := t.conn.Write(p)
		if uint(n) > uint(len(p)) {
			n, err = 0, errConnCount
		} else if n == 0 && err == nil {
			err = io.ErrShortWrite
		}
		t.wrote(n, err)
	}
	t.mu.Lock()
	closed := t.closed && !t.writing
	t.mu.Unlock()
	if closed {
		t.closeConn()
	}
}

// nextOut returns what the writer writes next; nothing ends it.
func (t *plainTransport) nextOut() []byte {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.waits() == 0 && t.shut && !t.closed {
		t.shut = false
		half := t.conn.(halfCloser)
		t.mu.Unlock()
		half.CloseWrite() // may wait, as a write does
		t.mu.Lock()
	}
	if t.inFlight.len() == 0 {
		t.inFlight = t.out.take()
	}
	t.writing = t.inFlight.len() > 0
	return t.inFlight.waiting()
}

// wrote notes the result of a write.
func (t *plainTransport) wrote(n int, err error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if err != nil {
		t.fail(err)
	}
	if t.err != nil {
		n = t.inFlight.len() // the rest is not written
	}
	t.inFlight.free(n)
	t.inFlight.count(t.c.limits.buffered)
	t.began = time.Since(origin) // of the next one
	if t.full && t.waits() <= plainQueueBytes/2 || t.asked && t.waits() == 0 {
		t.full = false
		t.announce(ownWrite)
	}
}

// A halfCloser is a net.Conn that can end its write side alone.
type halfCloser interface{ CloseWrite() error }

// halfCloses reports whether shutdownWrite can do anything.
func (t *plainTransport) halfCloses() bool {
	_, ok := t.conn.(halfCloser)
	return ok
}

// shutdownWrite ends the write side behind what was sent.
func (t *plainTransport) shutdownWrite() {
	t.mu.Lock()
	defer t.mu.Unlock()
	if !t.closed {
		t.shut = true
		t.startWriter()
	}
}

// close ends the connection, with a reset if asked to. It never waits, and a
// second one does nothing.
func (t *plainTransport) end(reset bool) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.closed {
		return
	}
	t.closed, t.reset = true, reset
	t.changed.Broadcast()
	if t.writing {
		wait := t.began + plainLastWrite - time.Since(origin)
		time.AfterFunc(wait, t.closeConn) // or by the writer, before
	} else {
		go t.closeConn() // a user's: it may wait
	}
}

// closeConn closes the net.Conn; a second time does no harm.
func (t *plainTransport) closeConn() {
	if p := guard(t.closeNow, nil); p != nil {
		logPanic(t.c.limits.log(), "flare: Close of a net.Conn panicked", p)
	}
}

func (t *plainTransport) closeNow() {
	conn := t.conn
	if over, ok := conn.(interface{ NetConn() net.Conn }); ok { // TLS
		conn = over.NetConn()
	}
	if tcp, ok := conn.(interface{ SetLinger(int) error }); ok && t.reset {
		tcp.SetLinger(0)
	}
	t.conn.Close()
}

// takeOver ends the driver's part in a connection that its loop has let go of.
// Everything sent has been written before; what was received and not taken is
// left in t.in.
func (t *plainTransport) takeOver() (net.Conn, []byte, error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.detaching = true
	t.changed.Broadcast()
	if err := t.conn.SetReadDeadline(longAgo); err != nil {
		t.conn.Close()
		return nil, nil, err
	}
	for t.reading {
		t.changed.Wait()
	}
	if t.closed {
		return nil, nil, net.ErrClosed
	}
	err := t.conn.SetReadDeadline(time.Time{})
	if err != nil {
		t.conn.Close()
	}
	return t.conn, t.in, err
}

// addrPortOfNet returns addr as RemoteAddr has it: the zero value where it is
// not one of IP.
func addrPortOfNet(addr net.Addr) netip.AddrPort {
	ip, ok := addr.(interface{ AddrPort() netip.AddrPort })
	if !ok {
		return netip.AddrPort{}
	}
	at := ip.AddrPort()
	return netip.AddrPortFrom(at.Addr().Unmap(), at.Port())
}
