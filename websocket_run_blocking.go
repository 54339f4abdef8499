package flare

import (
	"context"
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

// This file is layer 4 (roles): a WebSocket run over a blocking net.Conn by the
// goroutine that reads it: those of AcceptWebSocket and of DialWebSocket. Here
// octets are received and the connection ends; websocket_read.go has what the
// user calls to read, and websocket_run_blocking_send.go the way out.

const blockingReadBytes = 8 << 10

// A blockingSocket is such a WebSocket. The core, but for ws, belongs to whoever
// has put a value into reading.
type blockingSocket struct {
	websocketCore

	// Fixed.
	nc    net.Conn
	home  *Loop // that the connection was on, nil: none
	peer  netip.AddrPort
	onEnd func() // called once
	done  chan struct{}

	buffered *bufferCount // a server's count of what waits, or nil

	mu sync.Mutex

	// Guarded by mu.
	outMessages
	sending   bool          // a goroutine is in nc.Write
	sent      chan struct{} // closed when none is any more; made by who waits for it
	inFlight  sendQueue     // what it writes; guarded by mu, but its bytes are the writer's
	countedIn int           // of the input, in buffered
	finished  bool          // done is closed
	closeBy   time.Time     // when CloseTimeout is over, which began with the first who closes
	watched   bool          // watch is due
	watcher   *time.Timer   // of watch
	stretch   int           // how often sending has begun
	lookedAt  int           // the stretch that pace is of
	pace      roomPace      // of the peer, while a stretch is long

	moved atomic.Int64 // bytes written, by whoever sends
	slow  atomic.Bool  // the peer is waited for

	// The reader's: who has put a value into reading.
	reading    chan struct{} // capacity 1
	buf        []byte
	in         []byte // part of buf: received and not used
	held       int    // bytes of memory that input takes up, as last counted
	stream     *messageStream
	partial    []byte // of a message that began in pieces, for Read
	readErr    error
	readBefore time.Duration // read deadline that is set; 0: not known
}

// newBlockingSocket makes a WebSocket of the given profile that is read from nc.
// in is what has been received already.
func newBlockingSocket(nc net.Conn, profile *websocketProfile, in []byte, onEnd func()) *blockingSocket {
	b := &blockingSocket{nc: nc, onEnd: onEnd, done: make(chan struct{}), reading: make(chan struct{}, 1)}
	b.begin(profile)
	b.listen(time.Since(origin))
	b.ws.run = b
	b.takeReader()
	b.bound, b.policy = profile.lim.queueBytes, profile.policy
	b.buf = make([]byte, max(blockingReadBytes, len(in)))
	b.in = b.buf[:copy(b.buf, in)]
	b.peer = addrPortOfNet(nc.RemoteAddr())
	nc.SetDeadline(time.Time{})
	return b
}

// count has the memory of b counted in a server's bound. Nobody else has b yet.
func (b *blockingSocket) count(buffered *bufferCount) {
	b.buffered = buffered
	b.countInput()
}

// countInput brings the count of input that waits up to date. The caller is the
// one that reads.
func (b *blockingSocket) countInput() {
	held := cap(b.buf) + cap(b.partial) + b.reader.size()
	if b.buffered == nil || held == b.held {
		return
	}
	b.held = held
	b.mu.Lock()
	defer b.mu.Unlock()
	if !b.finished {
		b.buffered.Add(int64(held - b.countedIn))
		b.countedIn = held
	}
}

// nextMessage returns the next message, or piece of one. The caller is the one that
// reads.
func (b *blockingSocket) nextMessage(ctx context.Context) error {
	if b.readErr != nil {
		return b.readErr
	}
	if err := ctx.Err(); err != nil {
		return err
	}
	if ctx.Done() != nil {
		set := make(chan struct{})
		stop := context.AfterFunc(ctx, b.home.task(func() {
			b.nc.SetReadDeadline(longAgo)
			close(set)
		}))
		defer func() {
			if !stop() {
				<-set
				b.home.resumed()
			}
			b.readBefore = 0
		}()
		b.readBefore = 0
	}
	for {
		n, ev, err := b.next(b.in)
		b.in = b.in[n:]
		switch {
		case err != nil:
			return b.part(err)
		case ev == eventMessage || ev == eventPiece:
			return nil
		case ev == eventPing:
			err = b.flushReading(ctx)
		case ev == eventNone:
			err = b.fill(ctx)
		}
		if err != nil {
			return err
		}
	}
}

// flushReading is flush in a read: a peer that does not read is not read from.
// The end of ctx ends the wait and, unlike that of a write, nothing else.
func (b *blockingSocket) flushReading(ctx context.Context) error {
	if ctx.Done() == nil {
		b.flush(ctx)
		return nil
	}
	sent := make(chan struct{})
	b.home.spawn(func() {
		defer close(sent)
		b.flush(context.Background())
	})
	defer b.home.resumed()
	select {
	case <-sent:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

// part ends the connection behind the close frame that is queued. The peer has what is
// left of CloseTimeout to take all that it waits behind. err is the result of reading.
func (b *blockingSocket) part(err error) error {
	ctx, cancel := b.closeTime()
	defer cancel()
	b.flush(ctx)
	return b.readEnded(err, b.awaitSent(ctx)) // another goroutine may be the sender
}

// readEnded makes err the result of this and every later read.
func (b *blockingSocket) readEnded(err error, linger bool) error {
	b.readErr = err
	b.reader.release()
	b.finish(ErrClosed, linger)
	return err
}

// fill receives more, and keeps watch over the silence meanwhile.
func (b *blockingSocket) fill(ctx context.Context) error {
	kept := copy(b.buf, b.in)
	b.in = b.buf[:kept]
	b.countInput()
	looked := false
	for {
		b.setReadDeadline()
		if looked {
			b.readBefore = time.Since(origin) + tick
			b.nc.SetReadDeadline(origin.Add(b.readBefore))
		}
		if ctx.Err() != nil {
			return ctx.Err() // the deadline that ended with it may just have been overwritten
		}
		n, err := b.nc.Read(b.buf[kept:])
		if n > 0 {
			b.in = b.buf[:kept+n]
			b.heardAt(time.Since(origin))
			return nil
		}
		switch {
		case errors.Is(err, os.ErrDeadlineExceeded):
			if ctx.Err() != nil {
				return ctx.Err()
			}
			b.readBefore = 0
			if looked = !looked; looked {
				continue // the time may have passed while nobody read: what has come since counts
			}
			if err := b.silent(); err != nil {
				return err
			}
		case errors.Is(err, net.ErrClosed):
			b.mu.Lock()
			if err = b.err; err == nil {
				err = ErrClosed
			}
			b.mu.Unlock()
			return b.readEnded(err, false)
		case err == io.EOF:
			return b.readEnded(io.ErrUnexpectedEOF, false) // no close frame (RFC 6455 §7.1.5)
		case err != nil:
			return b.readEnded(err, false)
		}
	}
}

// setReadDeadline has the read return in time for silent. A deadline that comes
// early is left alone and looked at when it comes.
func (b *blockingSocket) setReadDeadline() {
	switch at := b.silenceEnds(); {
	case at == 0 && b.readBefore == 0:
		b.nc.SetReadDeadline(time.Time{})
	case at != 0 && (b.readBefore == 0 || at < b.readBefore):
		b.readBefore = at
		b.nc.SetReadDeadline(origin.Add(at))
	}
}

// silent deals with a silence that is over.
func (b *blockingSocket) silent() error {
	switch err := b.silenceOver(time.Since(origin)); err {
	case nil:
		b.flush(context.Background())
		return nil
	case errWebSocketIdle:
		return b.part(ErrTimeout)
	default:
		return b.readEnded(err, false)
	}
}

// closeTime returns a context for as long as the closing handshake may take yet: the
// answer to a close frame has what that one left.
func (b *blockingSocket) closeTime() (context.Context, context.CancelFunc) {
	limit := b.ws.lim.close
	if limit <= 0 {
		return context.Background(), func() {}
	}
	b.mu.Lock()
	if b.closeBy.IsZero() {
		b.closeBy = time.Now().Add(limit)
	}
	by := b.closeBy
	b.mu.Unlock()
	return context.WithDeadline(context.Background(), by)
}

func (b *blockingSocket) awaitClose(wait bool) error {
	if wait {
		return b.shakeHands()
	}
	b.home.spawn(func() { b.shakeHands() })
	return nil
}

// shakeHands waits for the answer to the close frame that was queued, and ends
// the connection.
func (b *blockingSocket) shakeHands() error {
	ctx, cancel := b.closeTime()
	defer cancel()
	b.flush(ctx)
	select {
	case b.reading <- struct{}{}: // nobody reads: this goroutine does
		b.home.resumed()
		if b.stream != nil {
			b.stream.err = ErrClosed
		}
		for b.readErr == nil {
			if err := b.nextMessage(ctx); err != nil {
				break
			}
		}
		if b.readErr == nil { // messages were skipped: the next is not for a Read that waits
			b.readErr = ErrClosed
		}
		b.stopReading()
	case <-b.done: // the reader has seen the answer, or the end
		b.home.resumed()
	case <-ctx.Done():
		b.home.resumed()
	}
	if ctx.Err() != nil {
		b.finish(ErrTimeout, false)
		return ErrTimeout
	}
	return nil
}

// finish ends the connection, once. linger leaves the peer time to read what
// was sent last, and to close first: a socket that is closed with input unread
// resets, and takes the close frame with it.
func (b *blockingSocket) finish(err error, linger bool) {
	b.mu.Lock()
	if b.finished {
		b.unlock()
		return
	}
	b.finished = true
	if b.watcher != nil {
		b.watcher.Stop()
	}
	close(b.done)
	if b.countedIn != 0 {
		b.buffered.Add(-int64(b.countedIn))
		b.countedIn = 0
	}
	if b.err == nil {
		b.end(err)
	}
	b.unlock()
	if !linger { // nor is an alert of TLS's worth a wait
		b.closed(withoutAlert(b.nc))
		return
	}
	b.home.spawn(func() {
		defer b.closed(b.nc)
		if half, ok := b.nc.(halfCloser); ok && !b.ws.client {
			half.CloseWrite()
		}
		discardRest(b.nc)
	})
}

// discardRest discards what a peer sends until it closes, in the times that a
// lingering close has.
func discardRest(nc net.Conn) {
	room := getBuffer(blockingReadBytes)
	defer room.release()
	over := time.Now().Add(lingerAll)
	for err := error(nil); err == nil; {
		at := time.Now().Add(lingerSilent)
		if at.After(over) {
			at = over
		}
		nc.SetReadDeadline(at)
		_, err = nc.Read(room.b[:cap(room.b)])
	}
}

func (b *blockingSocket) closed(nc net.Conn) {
	nc.Close()
	if b.onEnd != nil {
		b.onEnd()
	}
}

func (b *blockingSocket) loop() *Loop { return b.home }

// withoutAlert is the connection below TLS: to close it does not wait for an
// alert to be sent.
func withoutAlert(nc net.Conn) net.Conn {
	if tc, ok := nc.(*tls.Conn); ok {
		return tc.NetConn()
	}
	return nc
}

func (b *blockingSocket) remoteAddr() netip.AddrPort { return b.peer }

func (b *blockingSocket) counts() *loopCounts { return &b.ws.srv.carried }
