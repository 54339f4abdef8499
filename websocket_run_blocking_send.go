package flare

import (
	"context"
	"errors"
	"os"
	"time"
)

// This file is layer 4 (roles): what a WebSocket that a goroutine reads sends.
// Whoever writes first is the sender, while others only append: nobody has a
// goroutine for it, and the frames of several writers leave in one call.
// websocket_pace.go judges the peer meanwhile.

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
		b.home.spawn(func() { b.finish(ErrBackpressure, false) })
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
	defer b.home.resumed()
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
		b.home.spawn(b.flushRest)
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
	defer b.home.resumed()
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
		b.home.spawn(b.flushRest)
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
	b.inFlight.count(b.buffered) // another may take its place before unlock
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
		b.home.spawn(func() { b.finish(cause, false) }) // half a frame may be out
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
		stop := context.AfterFunc(ctx, b.home.task(func() {
			b.nc.SetWriteDeadline(longAgo)
			close(set)
		}))
		defer func() {
			if !stop() {
				<-set
				b.home.resumed()
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

func (b *blockingSocket) closing() bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.refused() != nil
}
