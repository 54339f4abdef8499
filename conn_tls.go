package flare

import (
	"crypto/tls"
	"errors"
	"io"
	"net"
	"net/netip"
	"os"
	"sync"
	"sync/atomic"
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
	// does not take of them waits encrypted. A little more that is the last goes with
	// them: on its own it would cost a system call.
	tlsChunkBytes = 32 << 10
	tlsChunkMore  = 1 << 10

	// tlsQueueMax bounds what waits encrypted: a chunk and the overhead of its
	// records, or the messages of a handshake (64 KiB each at most). Beyond it
	// is a peer that asks for answers and does not read them.
	tlsQueueMax = 128 << 10

	tlsHeaderBytes = 5 // type, version, length (RFC 8446 §5.1)
)

// A tlsTransport is the transport of a connection that speaks TLS, and the
// net.Conn below its tls.Conn. recv is the owner's; send is for one goroutine
// at a time, which may be another than recv's.
type tlsTransport struct {
	// Fixed.
	c        *Conn
	under    transport // the descriptor, which takes no part in the connection otherwise
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

	encrypted int // bytes that are in records already and that send has not reported; the sender's

	mu      sync.Mutex // held to append and to send, never while waiting
	out     sendQueue  // waits, encrypted; guarded by mu
	err     error      // why nothing can be received or sent any more; guarded by mu
	halfEnd bool       // shut the socket's write side behind what waits; guarded by mu

	nc net.Conn // once the connection has left its loop
}

// A tlsMode is what Read does where nothing has come.
type tlsMode uint8

const (
	tlsShaking  tlsMode = iota // wait, on the handshake's own goroutine
	tlsLooping                 // answer errWouldBlock
	tlsBlocking                // it is a net.Conn's to wait
	tlsOff                     // the handshake has failed: what is left to say is not encrypted
)

// A tlsRecords follows the borders between the records that a peer sends.
type tlsRecords struct {
	got       int32 // bytes of the incomplete record
	left      int32 // bytes that it still wants, once its length is known
	completed int32 // records that the last bytes completed
	size      [2]byte
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
			r.left = int32(r.size[0])<<8 | int32(r.size[1])
		}
		n := min(int(r.left), len(p))
		r.got, r.left, p = r.got+int32(n), r.left-int32(n), p[n:]
		if r.left == 0 {
			r.got = 0
			r.completed++
		}
	}
}

// receive reads the socket without waiting.
func (t *tlsTransport) receive(p []byte) (int, error) {
	n, err := t.under.recv(p)
	if err != nil {
		t.records.completed = 0
		return 0, err
	}
	t.fin = t.fin || n == 0
	t.arrived += n
	t.records.feed(p[:n])
	if n == len(p) { // there may be more
		t.records.completed = 0
	}
	return n, nil
}

// Read is for crypto/tls.
func (t *tlsTransport) Read(p []byte) (int, error) {
	if t.mode == tlsBlocking {
		return t.nc.Read(p)
	}
	for {
		n, err := t.receive(p)
		switch {
		case err == errWouldBlock && t.mode == tlsShaking:
			if err := t.awaitPeer(); err != nil {
				return 0, err
			}
		case err != nil:
			return 0, err
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
	if t.out.len()+len(p) > tlsQueueMax {
		// crypto/tls keeps the error of what it answers by itself for the next
		// write, which may be far. With nothing left to send flush has it at once.
		t.err = ErrBackpressure
		t.drop()
		return 0, t.err
	}
	t.out.append(p, nil)
	return len(p), nil
}

// writeThrough writes p behind what the loop left in the queue.
func (t *tlsTransport) writeThrough(p []byte) (int, error) {
	t.mu.Lock()
	err := t.err
	var rest []byte
	rest = append(rest, t.out.waiting()...)
	t.drop()
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
	t.out.drop()
	t.out.count(t.c.limits.buffered)
}

// flush sends what waits, without waiting itself: EAGAIN when the socket does
// not take all of it.
func (t *tlsTransport) flush() error {
	t.mu.Lock()
	defer t.mu.Unlock()
	defer t.out.count(t.c.limits.buffered)
	for t.out.len() > 0 {
		n, err := t.under.send(t.out.waiting(), nil)
		switch err {
		case nil:
			t.out.free(n)
		case errWouldBlock:
			return errWouldBlock
		default:
			t.out.drop()
			if t.err == nil {
				t.err = err
			}
		}
	}
	if t.halfEnd {
		t.halfEnd = false
		t.under.shutdownWrite()
	}
	return t.err
}

// holds: the end of a handshake, or an answer of crypto/tls's own, waits for no
// verdict of its connection.
func (t *tlsTransport) holds() bool {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.out.len() > 0
}

// fail notes why the connection is broken, unless it is known, and returns that.
func (t *tlsTransport) fail(err error) error {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.err == nil {
		t.err = err
	}
	return t.err
}

// recv decrypts a record at most. A peer that closes the socket without a
// close_notify may have been cut off by somebody between (RFC 8446 §6.1): that
// is an error, not the end of the stream.
func (t *tlsTransport) recv(p []byte) (int, error) {
	if t.mode == tlsOff {
		return t.under.recv(p)
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
		return 0, nil
	default:
		if err == io.EOF {
			err = io.ErrUnexpectedEOF
		}
		err = t.fail(err)
		t.flush() // of an alert that says why
		return 0, err
	}
	if err := t.flush(); err != nil && err != errWouldBlock { // of what Read has written
		return 0, err
	}
	if n == 0 {
		return 0, errWouldBlock
	}
	return n, nil
}

// discard takes it undecrypted.
func (t *tlsTransport) discard(room []byte) (int, error) { return t.under.discard(room) }

// drained reports, after recv, that neither the socket nor crypto/tls has more:
// the last look at the socket was short, and brought the end of just the one
// record that recv returned.
func (t *tlsTransport) drained() bool { return t.records.completed == 1 && t.records.got == 0 }

func (t *tlsTransport) partial() partialRecord { return t.part }

func (t *tlsTransport) looked(blocked bool, now time.Duration) {
	t.arrived = 0
	if blocked {
		t.part.now(int(t.records.got), now)
	}
}

// counted counts the octets of records, which may be incomplete.
func (t *tlsTransport) counted(int) (n int) {
	n, t.arrived = t.arrived, 0
	return n
}

func (t *tlsTransport) handshaking() bool         { return t.shaking.Load() }
func (t *tlsTransport) anyoneSends() bool         { return true }
func (t *tlsTransport) promised() int             { return t.encrypted }
func (t *tlsTransport) unacked() int              { return t.under.unacked() }
func (t *tlsTransport) boundUnsent(most int32)    { t.under.boundUnsent(most) }
func (t *tlsTransport) unwritten() int            { return 0 }
func (t *tlsTransport) localAddr() netip.AddrPort { return t.under.localAddr() }
func (t *tlsTransport) halfCloses() bool          { return true }
func (t *tlsTransport) cut()                      { t.under.cut() }
func (t *tlsTransport) canTakeOver() bool         { return true }

// sendFile: what is sent has to be encrypted here.
func (t *tlsTransport) sendFile(*os.File, *int64, int) (int, error) {
	return 0, errors.ErrUnsupported
}

// send encrypts the front of a and b and sends it. What it returns has left:
// bytes that are encrypted and wait are promised, and have to be at the front of
// what comes next.
func (t *tlsTransport) send(a, b []byte) (int, error) {
	if t.mode == tlsOff {
		if err := t.flush(); err != nil {
			return 0, err
		}
		return t.under.send(a, b)
	}
	if t.encrypted == 0 {
		if err := t.flush(); err != nil {
			return 0, err
		}
		if err := t.encrypt(a, b); err != nil {
			return 0, t.fail(err)
		}
	}
	err := t.flush()
	t.mu.Lock()
	waits := t.out.len()
	t.mu.Unlock()
	if err != nil && err != errWouldBlock {
		return 0, err
	}
	done := t.encrypted - min(t.encrypted, waits)
	if t.encrypted -= done; done > 0 {
		return done, nil
	}
	return 0, err
}

// encrypt makes records of the front of a and b, and promises them. The two
// are put together first, since each Write is a record of its own.
func (t *tlsTransport) encrypt(a, b []byte) error {
	all := len(a) + len(b)
	if all > tlsChunkBytes+tlsChunkMore {
		all = tlsChunkBytes
	}
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
	t.encrypted = all
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

func (t *tlsTransport) tlsState() *tls.ConnectionState {
	if t.tls == nil {
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
	if t.err == nil {
		t.err = net.ErrClosed
	}
	t.drop()
	t.mu.Unlock()
	return t.nc.Close()
}

func (t *tlsTransport) LocalAddr() net.Addr {
	if t.mode == tlsBlocking {
		return t.nc.LocalAddr()
	}
	return netAddr(t.localAddr())
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
