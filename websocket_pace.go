package flare

import (
	"net"
	"syscall"
	"time"
)

// This file is layer 4 (roles): the pace of a peer that a blocking WebSocket
// writes to. It is judged as those of a loop are, by what it has taken from the
// socket and not by what the socket takes. A write that takes long is looked at
// from outside, since what is under TLS cannot go on after a deadline.

const (
	// What is written at once where nothing tells how much of it has gone: little
	// once the peer is waited for, so that its progress shows.
	pacedPieceBytes     = 16 << 10
	pacedPieceBytesSlow = plainPieceBytes
)

// roomLimit is what is asked of the peer.
func (b *blockingSocket) roomLimit() roomLimit { return roomLimit{max(b.ws.lim.write, 0), defaultRate} }

// startWatch sees to it that writes which take long are looked at. b.mu is held.
func (b *blockingSocket) startWatch() {
	limit := b.roomLimit().silence
	if limit == 0 || b.watched || b.finished {
		return
	}
	b.watched = true
	b.watchIn(limit / roomLooks)
}

// watchIn has watch called. b.mu is held.
func (b *blockingSocket) watchIn(d time.Duration) {
	d = max(d, tick)
	if b.watcher == nil {
		b.watcher = time.AfterFunc(d, b.home.task(b.watch))
	} else {
		b.watcher.Reset(d)
	}
}

// watch looks at what the peer has taken while there is a sender, and ends the
// write to one that has taken too little for too long.
func (b *blockingSocket) watch() {
	b.mu.Lock()
	defer b.mu.Unlock()
	if !b.sending || b.finished {
		b.watched = false
		b.slow.Store(false)
		return
	}
	now, limit := time.Since(origin), b.roomLimit()
	unacked := b.unacked()
	first := b.lookedAt != b.stretch
	if !first {
		b.pace.moved = b.moved.Load()
		b.pace.look(unacked, now, limit)
	}
	if first || b.pace.due(limit) <= now && b.excused(limit.silence) {
		b.lookedAt = b.stretch
		b.slow.Store(true)
		b.pace.reset()
		b.pace.moved = b.moved.Load()
		b.pace.begin(unacked, now, limit)
	}
	if b.pace.due(limit) <= now {
		b.nc.SetWriteDeadline(longAgo)
		return
	}
	b.watchIn(b.pace.alarm(limit) - now)
}

// excused reports whether a wait of that limit was not the peer's doing: on a
// connection with others the turn of this WebSocket may not have come.
func (b *blockingSocket) excused(limit time.Duration) bool {
	t, ok := b.nc.(*http2Tunnel)
	return ok && t.excused(limit)
}

// takes: what somebody is writing has WriteTimeout to go.
func (b *blockingSocket) takes(limit time.Duration) bool {
	b.mu.Lock()
	writing := b.sending && b.ws.lim.write > 0
	b.mu.Unlock()
	return writing || b.excused(limit)
}

// writeCounted is nc.Write that tells how far it is.
func (b *blockingSocket) writeCounted(p []byte) error {
	if raw, ok := b.nc.(*net.TCPConn); ok && socketCalls && len(p) > pacedPieceBytesSlow {
		return b.writeSocket(raw, p)
	}
	for len(p) > 0 {
		piece := pacedPieceBytes
		if b.slow.Load() {
			piece = pacedPieceBytesSlow
		}
		n, err := b.nc.Write(p[:min(len(p), piece)])
		b.moved.Add(int64(n))
		if err != nil {
			return err
		}
		p = p[n:]
	}
	return nil
}

// writeSocket is writeCounted for a descriptor.
func (b *blockingSocket) writeSocket(nc *net.TCPConn, p []byte) error {
	raw, err := nc.SyscallConn()
	if err != nil {
		return err
	}
	failed := syscall.Errno(0)
	err = raw.Write(func(fd uintptr) bool {
		for len(p) > 0 && failed == 0 {
			n, errno := sendConn(int(fd), p)
			if errno == syscall.EAGAIN {
				return false
			}
			failed = errno
			p = p[n:]
			b.moved.Add(int64(n))
		}
		return true
	})
	if err == nil && failed != 0 {
		err = failed
	}
	return err
}

// unacked is how much the socket holds that the peer has not taken, and bounds
// what it takes from here on; 0 where that is not known.
func (b *blockingSocket) unacked() (n int) {
	onSocket(b.nc, func(fd int) {
		if b.lookedAt != b.stretch { // the first look
			setUnsentMax(fd, unsentBytesMax)
		}
		n = unackedConn(fd)
	})
	return n
}
