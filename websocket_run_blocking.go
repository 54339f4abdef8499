package flare

import (
	"context"
	"errors"
	"net"
	"net/netip"
	"os"
	"sync"
	"sync/atomic"
	"time"
)

// This file is layer 4 (roles): a WebSocket run over a blocking net.Conn by the
// goroutine that reads it: those of AcceptWebSocket and of DialWebSocket.
// websocket_read.go has what the user calls to read. The way out is a queue of
// which whoever writes first is the sender, while others only append.

const blockingReadBytes = 8 << 10

// A blockingSocket is such a WebSocket. The core, but for ws, belongs to whoever
// has put a value into reading.
type blockingSocket struct {
	websocketCore

	nc    net.Conn
	peer  netip.AddrPort
	onEnd func() // called once
	done  chan struct{}

	buffered *bufferCount // a server's count of what waits, or nil

	mu sync.Mutex
	outMessages
	sending   bool          // a goroutine is in nc.Write
	sent      chan struct{} // closed when none is any more; made by who waits for it
	inFlight  sendQueue     // what it writes; guarded by mu, but its bytes are the writer's
	countedIn int           // of the input, in buffered
	finished  bool          // done is closed
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

// put has the contract of outbox.put, save that nothing is sent before flush.
func (b *blockingSocket) put(head frameHeadBytes, p []byte, kind putKind) error {
	b.mu.Lock()
	defer b.unlock()
	if err := b.refused(); err != nil {
		return err
	}
	switch {
	case kind == putLatest && b.sending:
		b.latest = append(append(b.latest[:0], head.bytes()...), p...)
		return nil
	case kind == putMessage:
		if err := b.admit(int(head.n)+len(p), b.policy); err != nil {
			return err
		}
	}
	if kind == putLast {
		b.seal()
	}
	b.enqueue(head.bytes(), p, kind)
	return nil
}

func (b *blockingSocket) reserve(n int, policy QueuePolicy) error {
	b.mu.Lock()
	defer b.unlock()
	if err := b.refused(); err != nil {
		return err
	}
	return b.admit(n, policy)
}

// admit is outbox.admit. b.mu is held.
func (b *blockingSocket) admit(n int, policy QueuePolicy) error {
	if b.fits(n) || !b.sending {
		return nil // whoever writes sends, and so waits for the peer
	}
	switch policy {
	case QueueDropConnection:
		b.end(ErrBackpressure)
		go b.finish(ErrBackpressure, false)
		return b.err
	case QueueDropOldest:
		b.dropOldest(n, 0)
		return nil
	}
	return ErrBackpressure
}

// awaitRoom has the contract of outbox.awaitRoom. The time of a peer that does
// not read is the sender's to take.
func (b *blockingSocket) awaitRoom(ctx context.Context, n int) error {
	b.mu.Lock()
	enough := b.roomFor(n)
	if err := b.refused(); err != nil || b.out.len() <= enough {
		b.mu.Unlock()
		return err
	}
	room := b.awaited(enough)
	b.mu.Unlock()
	select {
	case <-room:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

// flush sends what is queued, unless another goroutine does so already. Bytes
// that others queue meanwhile are not this writer's to wait for, and the end of
// the connection after its own have left is not its error.
func (b *blockingSocket) flush(ctx context.Context) error {
	b.mu.Lock()
	defer b.unlock()
	if b.sending || b.err != nil || b.out.len() == 0 {
		return b.err
	}
	b.sending = true
	b.stretch++
	err := b.sendWaiting(ctx)
	if b.out.len() > 0 && b.err == nil {
		go b.flushRest()
		return nil
	}
	b.stopSending()
	return err
}

// stopSending is the end of a sender. b.mu is held.
func (b *blockingSocket) stopSending() {
	b.sending = false
	if b.sent != nil {
		close(b.sent)
		b.sent = nil
	}
}

// awaitSent waits until nobody sends any more, and reports whether that came
// before the end of ctx.
func (b *blockingSocket) awaitSent(ctx context.Context) bool {
	b.mu.Lock()
	if !b.sending {
		b.mu.Unlock()
		return true
	}
	if b.sent == nil {
		b.sent = make(chan struct{})
	}
	sent := b.sent
	b.mu.Unlock()
	select {
	case <-sent:
		return true
	case <-b.done:
		return true
	case <-ctx.Done():
		return false
	}
}

// flushSoon has what is queued sent by another goroutine.
func (b *blockingSocket) flushSoon() {
	b.mu.Lock()
	defer b.unlock()
	if !b.sending && b.err == nil && b.out.len() > 0 {
		b.sending = true
		b.stretch++
		go b.flushRest()
	}
}

// flushRest sends until nothing is queued.
func (b *blockingSocket) flushRest() {
	b.mu.Lock()
	defer b.unlock()
	for b.out.len() > 0 && b.err == nil {
		b.sendWaiting(context.Background())
	}
	b.stopSending()
}

// sendWaiting sends the queue as it is. b.mu is held, but not while it waits.
func (b *blockingSocket) sendWaiting(ctx context.Context) error {
	b.inFlight = b.out.take()
	all := b.inFlight.waiting()
	b.startWatch()
	b.wake()
	b.unlock()
	err := b.write(ctx, all)
	b.mu.Lock()
	b.inFlight.drop()
	switch {
	case err == nil && b.err == nil:
		b.takeLatest()
	case err != nil && b.err != nil:
		return b.err // why it ended says more than what the write met then
	case err != nil:
		cause := err
		if err == ctx.Err() {
			cause = ErrClosed // the end of ctx is this writer's alone
		}
		b.end(cause)
		go b.finish(cause, false) // half a frame may be out
	}
	return err
}

// unlock ends what was done under b.mu to the queue, and counts what the peer
// has not taken.
func (b *blockingSocket) unlock() {
	b.inFlight.count(b.buffered)
	if b.sending || b.out.counted > 0 {
		b.out.count(b.buffered)
	}
	b.mu.Unlock()
}

// write writes p. Once begun it cannot be given up without ending the
// connection, so the end of ctx does that.
func (b *blockingSocket) write(ctx context.Context, p []byte) error {
	if ctx.Done() != nil {
		set := make(chan struct{})
		stop := context.AfterFunc(ctx, func() {
			b.nc.SetWriteDeadline(longAgo)
			close(set)
		})
		defer func() {
			if !stop() {
				<-set
				b.nc.SetWriteDeadline(time.Time{})
			}
		}()
	}
	err := b.writeCounted(p)
	if errors.Is(err, os.ErrDeadlineExceeded) {
		if ctx.Err() != nil {
			return ctx.Err()
		}
		return ErrTimeout
	}
	return err
}

// closeTime returns a context for as long as the closing handshake may take.
func (b *blockingSocket) closeTime() (context.Context, context.CancelFunc) {
	if limit := b.ws.lim.close; limit > 0 {
		return context.WithTimeout(context.Background(), limit)
	}
	return context.Background(), func() {}
}

func (b *blockingSocket) awaitClose(wait bool) error {
	if wait {
		return b.shakeHands()
	}
	go b.shakeHands()
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
		if b.stream != nil {
			b.stream.err = ErrClosed
		}
		for b.readErr == nil {
			if err := b.nextMessage(ctx); err != nil {
				break
			}
		}
		b.stopReading()
	case <-b.done: // the reader has seen the answer, or the end
	case <-ctx.Done():
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
	if !linger {
		b.closed()
		return
	}
	go func() {
		defer b.closed()
		if half, ok := b.nc.(halfCloser); ok && !b.ws.client {
			half.CloseWrite()
		}
		discardRest(b.nc)
	}()
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

func (b *blockingSocket) closed() {
	b.nc.Close()
	if b.onEnd != nil {
		b.onEnd()
	}
}

func (b *blockingSocket) closing() bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.refused() != nil
}

func (b *blockingSocket) remoteAddr() netip.AddrPort { return b.peer }

func (b *blockingSocket) counts() *loopCounts { return &b.ws.srv.carried }
