package flare

import (
	"crypto/tls"
	"errors"
	"io"
	"net"
	"sync"
	"sync/atomic"
	"syscall"
	"time"
)

// This file is layer 3 (engine): TLS between a connection and its socket. The
// protocol is crypto/tls's; this file is the net.Conn under it, which never
// waits once the handshake is done. It knows records by their length alone.
// conn_handshake.go has the handshake, server_tls.go the configuration.
//
// Three properties of crypto/tls carry all of it, and conn_tls_pin_test.go
// holds the Go release to them. A Read that finds a temporary error below goes
// on where it was when it is called again. An error of a write below is for
// ever, and a Read may write (the answer to a KeyUpdate, alerts), so Write only
// queues and never fails a peer that is slow; whoever wants to send waits before
// it calls tls.Conn.Write. And the socket is read only for a record that is not
// complete yet.

const (
	// tlsChunkBytes of what is sent become records at once. What the socket
	// does not take of them waits encrypted.
	tlsChunkBytes = 32 << 10

	// tlsQueueMax bounds what waits encrypted: a chunk and the overhead of its
	// records, or the messages of a handshake (64 KiB each at most). Beyond it
	// is a peer that asks for answers and does not read them.
	tlsQueueMax = 128 << 10

	tlsHeaderBytes = 5 // type, version, length (RFC 8446 §5.1)
)

// errWouldBlock is temporary, as the errors of package syscall know.
var errWouldBlock error = syscall.EAGAIN

// A tlsTransport is the transport of a connection that speaks TLS, and the
// net.Conn below its tls.Conn. recv is the owner's; send is for one goroutine
// at a time, which may be another than recv's.
type tlsTransport struct {
	// Fixed.
	c        *Conn
	settings *tlsSettings
	next     connState // after the handshake

	shaking atomic.Bool // the handshake has not ended

	// The owner's.
	tls     *tls.Conn            // nil until the first byte has come
	state   *tls.ConnectionState // made on first use
	mode    tlsMode
	until   time.Duration // when the handshake has to be done, 0: never
	records tlsRecords
	arrived int           // bytes from the socket since a turn or a rate has last looked
	part    partialRecord // as the last turn has seen it
	fin     bool          // the peer has closed the socket

	promised int // bytes that are in records already and that send has not reported; the sender's

	mu      sync.Mutex // held to append and to send, never while waiting
	out     *buffer    // out.b[sent:] waits, encrypted; guarded by mu
	sent    int        // guarded by mu
	err     error      // why nothing can be received or sent any more; guarded by mu
	halfEnd bool       // shut the socket's write side behind what waits; guarded by mu

	// Once the connection has left its loop.
	nc      net.Conn
	onClose func()
}

// A tlsMode is what Read does where nothing has come.
type tlsMode uint8

const (
	tlsShaking  tlsMode = iota // wait, on the handshake's own goroutine
	tlsLooping                 // answer errWouldBlock
	tlsBlocking                // it is a net.Conn's to wait
	tlsOff                     // the handshake has failed: what is left to say is not encrypted
)

// tls returns c's transport if it is one of TLS, else nil.
func (c *Conn) tls() *tlsTransport {
	t, _ := c.tr.(*tlsTransport)
	return t
}

// failure is errno, or what is behind it.
func (c *Conn) failure(errno syscall.Errno) error {
	switch t := c.tr.(type) {
	case *tlsTransport:
		t.mu.Lock()
		defer t.mu.Unlock()
		if t.err != nil {
			return t.err
		}
	case *plainTransport:
		t.mu.Lock()
		defer t.mu.Unlock()
		if t.cause != nil {
			return t.cause
		}
	}
	return errno
}

// A tlsRecords follows the borders between the records that a peer sends.
type tlsRecords struct {
	got       int // bytes of the incomplete record
	left      int // bytes that it still wants, once its length is known
	size      [2]byte
	completed int // records that the last bytes completed
}

func (r *tlsRecords) feed(p []byte) {
	r.completed = 0
	for len(p) > 0 {
		if r.got < tlsHeaderBytes {
			if at := r.got - (tlsHeaderBytes - 2); at >= 0 {
				r.size[at] = p[0]
			}
			r.got++
			p = p[1:]
			if r.got < tlsHeaderBytes {
				continue
			}
			r.left = int(r.size[0])<<8 | int(r.size[1])
		}
		n := min(r.left, len(p))
		r.got, r.left, p = r.got+n, r.left-n, p[n:]
		if r.left == 0 {
			r.got = 0
			r.completed++
		}
	}
}

// receive reads the socket without waiting.
func (t *tlsTransport) receive(p []byte) (int, syscall.Errno) {
	for {
		n, errno := recvConn(t.c.fd, p)
		switch {
		case errno == syscall.EINTR:
			continue
		case errno != 0:
			t.records.completed = 0
			return 0, errno
		case n == 0:
			t.fin = true
		}
		t.arrived += n
		t.records.feed(p[:n])
		if n == len(p) { // there may be more
			t.records.completed = 0
		}
		return n, 0
	}
}

// Read is for crypto/tls.
func (t *tlsTransport) Read(p []byte) (int, error) {
	if t.mode == tlsBlocking {
		return t.nc.Read(p)
	}
	for {
		n, errno := t.receive(p)
		switch {
		case errno == syscall.EAGAIN && t.mode == tlsShaking:
			if err := t.awaitPeer(); err != nil {
				return 0, err
			}
		case errno == syscall.EAGAIN:
			return 0, errWouldBlock
		case errno != 0:
			return 0, errno
		case n == 0:
			return 0, io.EOF
		default:
			return n, nil
		}
	}
}

// Write queues p. It is for crypto/tls.
func (t *tlsTransport) Write(p []byte) (int, error) {
	if t.mode == tlsBlocking {
		return t.writeThrough(p)
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.err != nil {
		return 0, t.err
	}
	waits := 0
	if t.out != nil {
		waits = len(t.out.b) - t.sent
	}
	if waits+len(p) > tlsQueueMax {
		t.err = ErrBackpressure
		return 0, t.err
	}
	switch {
	case t.out == nil:
		t.out = t.c.getBuffer(len(p))
	case t.sent > 0 && cap(t.out.b)-len(t.out.b) < len(p):
		t.out.b = t.out.b[:copy(t.out.b, t.out.b[t.sent:])]
		t.sent = 0
		fallthrough
	default:
		t.out = t.c.growBuffer(t.out, len(p))
	}
	t.out.b = append(t.out.b, p...)
	return len(p), nil
}

// writeThrough writes p behind what the loop left in the queue.
func (t *tlsTransport) writeThrough(p []byte) (int, error) {
	t.mu.Lock()
	err := t.err
	var rest []byte
	if t.out != nil {
		rest = append(rest, t.out.b[t.sent:]...)
		t.drop()
	}
	t.mu.Unlock() // Close must not have to wait for the peer
	if err == nil && len(rest) > 0 {
		_, err = t.nc.Write(rest)
	}
	if err != nil {
		return 0, err
	}
	return t.nc.Write(p)
}

// drop lets go of the queue. t.mu is held.
func (t *tlsTransport) drop() {
	if t.out != nil {
		t.c.putBuffer(t.out)
		t.out, t.sent = nil, 0
	}
}

// flush sends what waits, without waiting itself: EAGAIN when the socket does
// not take all of it.
func (t *tlsTransport) flush() syscall.Errno {
	t.mu.Lock()
	defer t.mu.Unlock()
	for t.out != nil {
		n, errno := sendConn(t.c.fd, t.out.b[t.sent:])
		switch errno {
		case 0:
			if t.sent += n; t.sent == len(t.out.b) {
				t.drop()
			}
		case syscall.EINTR:
		case syscall.EAGAIN:
			return errno
		default:
			t.drop()
			if t.err == nil {
				t.err = errno
			}
		}
	}
	if t.halfEnd {
		t.halfEnd = false
		shutdownWrite(t.c.fd)
	}
	if t.err != nil {
		return errnoOfTLS(t.err)
	}
	return 0
}

// fail notes why the connection is broken, unless it is known.
func (t *tlsTransport) fail(err error) syscall.Errno {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.err == nil {
		t.err = err
	}
	return errnoOfTLS(t.err)
}

// errnoOfTLS stands for err where the engine counts in errnos; Conn.failure
// has the error back.
func errnoOfTLS(err error) syscall.Errno {
	if errno, ok := err.(syscall.Errno); ok && !wouldBlock(errno) {
		return errno
	}
	return syscall.ECONNABORTED
}

// recv decrypts a record at most. A peer that closes the socket without a
// close_notify may have been cut off by somebody between (RFC 8446 §6.1): that
// is an error, not the end of the stream.
func (t *tlsTransport) recv(p []byte) (int, syscall.Errno) {
	if t.mode == tlsOff {
		return recvConn(t.c.fd, p)
	}
	n, err := t.tls.Read(p)
	switch {
	case n > 0: // an error is there to be found by the next call
		t.part = partialRecord{}
		if n == len(p) {
			t.records.completed = 0 // there may be more of it
		}
	case err == errWouldBlock || err == nil:
	case err == io.EOF && !t.fin:
		return 0, 0
	default:
		if err == io.EOF {
			err = io.ErrUnexpectedEOF
		}
		errno := t.fail(err)
		t.flush() // of an alert that says why
		return 0, errno
	}
	if errno := t.flush(); errno != 0 && errno != syscall.EAGAIN { // of what Read has written
		return 0, errno
	}
	if n == 0 {
		return 0, syscall.EAGAIN
	}
	return n, 0
}

// drained reports, after recv, that neither the socket nor crypto/tls has more:
// the last look at the socket was short, and brought the end of just the one
// record that recv returned.
func (t *tlsTransport) drained() bool { return t.records.completed == 1 && t.records.got == 0 }

// A partialRecord is the record that is not complete yet; the zero value is none.
// Nothing of it can be read, but it is what its peer has as long for as for the
// head of a request, and its bytes are progress.
type partialRecord struct {
	began time.Duration
	grew  time.Duration // when last
	size  int           // bytes
}

// now follows the record, of which size bytes have come by now.
func (r *partialRecord) now(size int, now time.Duration) {
	switch {
	case size == 0:
		*r = partialRecord{}
	case r.began == 0:
		*r = partialRecord{now, now, size}
	case r.size != size:
		r.grew, r.size = now, size
	}
}

// partialRecord returns the record of c's that is incomplete.
func (c *Conn) partialRecord() partialRecord {
	switch t := c.tr.(type) {
	case *tlsTransport:
		return t.part
	case *plainTransport:
		return t.partialRecord()
	}
	return partialRecord{}
}

// looked notes the result of a turn's recv.
func (c *Conn) looked(errno syscall.Errno, now time.Duration) {
	switch t := c.tr.(type) {
	case *tlsTransport:
		t.arrived = 0
		if errno == syscall.EAGAIN {
			t.part.now(t.records.got, now)
		}
	case *plainTransport:
		t.counted()
	}
}

// counted is what the result of a recv, n bytes, counts for in a rate: of TLS
// what has come since a turn has last looked, or since the last call.
func (c *Conn) counted(n int) int64 {
	switch t := c.tr.(type) {
	case *tlsTransport:
		n, t.arrived = t.arrived, 0
	case *plainTransport:
		if t.secured != nil {
			n = t.counted()
		}
	}
	return int64(n)
}

// send encrypts the front of p and sends it. What it returns has left: bytes
// that are encrypted and wait are promised, and have to be at the front of what
// comes next.
func (t *tlsTransport) send(p []byte) (int, syscall.Errno) { return t.sendv(p, nil) }

// sendv is send of a and then b.
func (t *tlsTransport) sendv(a, b []byte) (int, syscall.Errno) {
	if t.mode == tlsOff {
		if errno := t.flush(); errno != 0 {
			return 0, errno
		}
		return sendvConn(t.c.fd, a, b)
	}
	if t.promised == 0 {
		if errno := t.flush(); errno != 0 {
			return 0, errno
		}
		if err := t.encrypt(a, b); err != nil {
			return 0, t.fail(err)
		}
	}
	errno := t.flush()
	waits := 0
	t.mu.Lock()
	if t.out != nil {
		waits = len(t.out.b) - t.sent
	}
	t.mu.Unlock()
	if errno != 0 && errno != syscall.EAGAIN {
		return 0, errno
	}
	done := t.promised - min(t.promised, waits)
	if t.promised -= done; done > 0 {
		return done, 0
	}
	return 0, errno
}

// encrypt makes records of the front of a and b, and promises them. The two
// are put together first, since each Write is a record of its own.
func (t *tlsTransport) encrypt(a, b []byte) error {
	all := min(len(a)+len(b), tlsChunkBytes)
	if len(a) == 0 {
		a, b = b, nil
	}
	if len(a) < all {
		both := getBuffer(all)
		defer both.release()
		both.b = append(append(both.b, a...), b[:all-len(a)]...)
		a = both.b
	}
	if _, err := t.tls.Write(a[:all]); err != nil {
		return err
	}
	t.promised = all
	return nil
}

// shutdownWrite sends close_notify and shuts the socket's write side behind it.
func (t *tlsTransport) shutdownWrite() {
	if t.mode == tlsLooping {
		t.tls.CloseWrite()
	}
	t.mu.Lock()
	t.halfEnd = true
	t.mu.Unlock()
	t.flush()
}

// end is the last that the connection hears of its transport before the
// descriptor is closed. What the socket does not take now is lost.
func (t *tlsTransport) end(abort bool) {
	if !abort && t.mode == tlsLooping {
		t.tls.CloseWrite()
	}
	t.flush()
	t.mu.Lock()
	defer t.mu.Unlock()
	t.drop()
	if t.err == nil {
		t.err = ErrClosed
	}
}

// tlsState returns what was agreed with the peer; nil where there is no TLS.
func (c *Conn) tlsState() *tls.ConnectionState {
	if t := c.plain(); t != nil {
		return t.tlsState()
	}
	t := c.tls()
	if t == nil || t.tls == nil {
		return nil
	}
	if t.state == nil {
		state := t.tls.ConnectionState()
		t.state = &state
	}
	return t.state
}

// The rest of net.Conn. On a loop crypto/tls closes nothing, and deadlines are
// the loop's own.

func (t *tlsTransport) Close() error {
	if t.mode != tlsBlocking {
		return errors.ErrUnsupported
	}
	t.mu.Lock()
	first := t.err == nil
	if first {
		t.err = net.ErrClosed
	}
	t.drop()
	t.mu.Unlock()
	err := t.nc.Close()
	if first && t.onClose != nil {
		t.onClose()
	}
	return err
}

func (t *tlsTransport) LocalAddr() net.Addr {
	if t.mode == tlsBlocking {
		return t.nc.LocalAddr()
	}
	addr, _ := localAddrPort(t.c.fd)
	return netAddr(addr)
}

func (t *tlsTransport) RemoteAddr() net.Addr {
	if t.mode == tlsBlocking {
		return t.nc.RemoteAddr()
	}
	return netAddr(t.c.RemoteAddr())
}

func (t *tlsTransport) SetDeadline(at time.Time) error {
	if t.mode == tlsBlocking {
		return t.nc.SetDeadline(at)
	}
	return nil
}

func (t *tlsTransport) SetReadDeadline(at time.Time) error {
	if t.mode == tlsBlocking {
		return t.nc.SetReadDeadline(at)
	}
	return nil
}

func (t *tlsTransport) SetWriteDeadline(at time.Time) error {
	if t.mode == tlsBlocking {
		return t.nc.SetWriteDeadline(at)
	}
	return nil
}
