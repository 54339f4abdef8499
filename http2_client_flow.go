package flare

import (
	"io"
	"time"
)

// This file is layer 4 (roles): flow control of the client's HTTP/2 (RFC 9113
// §5.2): how much the server may send, and how much it takes; and the octets of a
// body that were received and not read. All of it is guarded by the mutex of the
// connection.
//
// A stream's window begins small and grows while it is what holds the server up:
// to twice what its reader takes in a round trip, as TCP's does. Who does not read
// keeps the small one.

// windowsMax bounds what the windows of a connection's streams have grown by, all
// together.
const windowsMax = 64 << 20

func (f *http2ClientFlow) init(cfg *http2ClientConfig) {
	f.toSend = windowDefault
	f.window, f.left = cfg.connWindow, cfg.connWindow
}

// measured takes the time of a round trip that began at begun.
func (f *http2ClientFlow) measured(begun, now time.Time) {
	if d := now.Sub(begun); f.roundTrip == 0 || d < f.roundTrip {
		f.roundTrip = max(d, 1)
	}
}

// took counts n octets of DATA that the server has sent.
func (f *http2ClientFlow) took(n int64) error {
	if f.left -= n; f.left < 0 {
		return connFault(codeFlowControl, ruleWindowOver)
	}
	return nil
}

// consumed gives back n octets of the connection's window, a good part at a time.
// c.mu is held; flush has to follow.
func (c *http2ClientConn) consumed(n int64) {
	f := &c.flow
	if f.unsaid += n; f.unsaid >= f.window/4 {
		c.output.queue = appendWindowUpdate(c.output.queue, 0, uint32(f.unsaid))
		f.left += f.unsaid
		f.unsaid = 0
	}
}

// consumed gives back n octets of the stream's window, and makes it larger if that
// is what keeps the server from sending. The connection's were given back.
func (st *clientStream) consumed(n int64) {
	f := &st.flow
	f.unsaid += n
	f.taken += n
	// A quarter, so that three are under way where the window holds the server up:
	// at a half twice of what is taken in a round trip would be no more than it has.
	if !st.open || st.ended || f.unsaid < f.window/4 {
		return
	}
	grow := st.grow()
	st.c.output.queue = appendWindowUpdate(st.c.output.queue, st.id, uint32(f.unsaid+grow))
	f.left += f.unsaid + grow
	f.window += grow
	f.unsaid = 0
}

// grow returns by how much the stream's window is to be larger.
func (st *clientStream) grow() int64 {
	c, f, now := st.c, &st.flow, time.Now()
	taken, took := f.taken, now.Sub(f.since)
	if f.since.IsZero() {
		f.since, f.taken = now, 0
		return 0
	}
	if c.flow.roundTrip == 0 || took < c.flow.roundTrip {
		return 0
	}
	f.since, f.taken = now, 0
	want := int64(2 * float64(taken) * float64(c.flow.roundTrip) / float64(took))
	grow := min(want, c.cfg.windowMax) - f.window
	grow = min(grow, windowsMax-c.flow.grown)
	if grow <= 0 {
		return 0
	}
	c.flow.grown += grow
	st.grown += grow
	return grow
}

// Write sends p in DATA frames, as far as the windows and the queue allow, and
// waits for them. It is for one goroutine at a time.
func (st *clientStream) Write(p []byte) (int, error) { return st.send(p, false) }

// send is Write; end says that the body ends with p.
func (st *clientStream) send(p []byte, end bool) (n int, err error) {
	c := st.c
	var since time.Time // when some of it was sent last
	for {
		c.mu.Lock()
		if err := st.writable(); err != nil {
			c.mu.Unlock()
			return n, err
		}
		m, blocked := st.queueData(p[n:], end)
		n += m
		if !blocked {
			c.flush()
			return n, nil
		}
		if m > 0 || since.IsZero() {
			since = time.Now()
		}
		if err := st.awaitRoom(limitFrom(since, st.writeTimeout, st.writeBy)); err != nil {
			return n, err
		}
	}
}

// queueData queues as much of p as there is room for, in frames. blocked says that
// some of it is left.
func (st *clientStream) queueData(p []byte, end bool) (n int, blocked bool) {
	c := st.c
	for {
		room := min(st.flow.toSend, c.flow.toSend, int64(c.peer.frameSizeMax), http2QueueMax)
		m := min(len(p)-n, int(max(room, 0)))
		last := n+m == len(p)
		if len(p) > n && (m == 0 || len(c.output.queue) >= http2QueueMax) {
			st.joinBlocked()
			return n, true
		}
		if m > 0 || end {
			c.output.queue = appendData(c.output.queue, st.id, p[n:n+m], last && end)
			st.flow.toSend -= int64(m)
			c.flow.toSend -= int64(m)
			n += m
		}
		if last {
			if end {
				st.endSending()
			}
			return n, false
		}
	}
}

// writable says why nothing can be sent any more. c.mu is held.
func (st *clientStream) writable() error {
	switch {
	case st.err != nil:
		return st.err
	case !st.open:
		return errUploadStopped
	}
	return nil
}

// endSending is for when the request's last frame is queued. c.mu is held.
func (st *clientStream) endSending() {
	st.endSent, st.endAt = true, st.c.output.at()
	if st.ended {
		st.closed()
	}
}

// joinBlocked notes what the stream waits for, so that it is woken.
func (st *clientStream) joinBlocked() {
	c := st.c
	if st.writeWake == nil {
		st.writeWake = make(chan struct{}, 1)
	}
	switch {
	case st.flow.toSend <= 0: // woken by its own
	case c.flow.toSend <= 0:
		c.flow.blocked = append(c.flow.blocked, st)
	default:
		c.output.blocked = append(c.output.blocked, st)
	}
}

// awaitRoom waits until there may be room. c.mu is held, and released.
func (st *clientStream) awaitRoom(by time.Time) error {
	c := st.c
	st.roomBy = by
	c.health.arm(by)
	c.flush()
	<-st.writeWake
	if !by.IsZero() && !time.Now().Before(by) {
		return ErrTimeout
	}
	return nil
}

// writePiece sends p[at:at+n].
func (st *clientStream) writePiece(p []byte, at, n int) error {
	_, err := st.Write(p[at : at+n])
	return err
}

// endBody ends the request, with a trailer section unless that is nil.
func (st *clientStream) endBody(_ bool, trailer *headerFields) error {
	if trailer == nil || len(trailer.list) == 0 {
		_, err := st.send(nil, true)
		return err
	}
	c := st.c
	c.mu.Lock()
	if err := st.writable(); err != nil {
		c.mu.Unlock()
		return err
	}
	b, at := beginHeaders(c.output.queue)
	c.output.queue = endHeaders(c.enc.appendTrailer(b, trailer), at, st.id, true, c.peer.frameSizeMax)
	st.endSending()
	c.flush()
	return nil
}

// opened is for a WINDOW_UPDATE of the connection, or settings.
func (f *http2ClientFlow) opened() {
	if f.toSend <= 0 {
		return
	}
	for _, st := range f.blocked {
		st.wakeWriter()
	}
	f.blocked = f.blocked[:0]
}

var _ io.Writer = (*clientStream)(nil)
