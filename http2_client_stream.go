package flare

import (
	"context"
	"io"
	"net/http/httptrace"
	"sync"
	"time"
)

// This file is layer 4 (roles): a stream of HTTP/2 as the carrier of one exchange
// of the client (RFC 9113 §8.1). What the server sends the reading goroutine puts
// here; the goroutine of the exchange waits for it, and that of an upload for room.

var clientStreams = sync.Pool{New: func() any { return &clientStream{wake: make(chan struct{}, 1)} }}

// claim counts a stream that is there for the asking. c.mu is held.
func (c *http2ClientConn) claim() bool {
	if len(c.waiting) > 0 || c.active >= c.streamsMax() {
		return false
	}
	if c.active++; c.active == 1 {
		c.resting.wake(c)
	}
	return true
}

// newStream returns a stream that counts already. c.mu is held.
func (c *http2ClientConn) newStream() *clientStream {
	st := clientStreams.Get().(*clientStream)
	st.c, st.first, st.length = c, c.next == 1, -1
	return st
}

// openStream returns a stream that has not begun, and waits for one while the server
// takes no more of them. errStale means that the connection takes none at all.
func (c *http2ClientConn) openStream(ctx context.Context, by time.Time) (*clientStream, error) {
	c.mu.Lock()
	if c.gone() {
		c.mu.Unlock()
		return nil, errStale
	}
	if c.claim() {
		st := c.newStream()
		c.mu.Unlock()
		return st, nil
	}
	w := &streamWaiter{ready: make(chan struct{})}
	c.waiting = append(c.waiting, w)
	c.mu.Unlock()
	ctx, cancel := withLimit(ctx, by, 0)
	defer cancel()
	select {
	case <-w.ready:
	case <-ctx.Done():
		return nil, c.unwait(w, ctx.Err())
	}
	if !w.granted {
		return nil, errStale
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.newStream(), nil
}

// unwait takes somebody out of those who wait, and returns err.
func (c *http2ClientConn) unwait(w *streamWaiter, err error) error {
	c.mu.Lock()
	for i := range c.waiting {
		if c.waiting[i] == w {
			c.waiting = append(c.waiting[:i], c.waiting[i+1:]...)
			break
		}
	}
	if w.granted { // meanwhile
		c.leave()
	}
	c.flush()
	return err
}

func (st *clientStream) major() uint8 { return 2 }

func (st *clientStream) lead() *clientLink { return &st.c.clientLink }

func (st *clientStream) reused() (since time.Time, yes bool) { return time.Time{}, !st.first }

// begin sends the head, and a short body with it if the windows allow.
func (st *clientStream) begin(client *Client, x *clientCall, m clientMessage) (all bool, err error) {
	c := st.c
	cfg := &client.cfg
	c.mu.Lock()
	if c.gone() || st.err != nil {
		err := st.err
		c.mu.Unlock()
		if err != nil && err != errUnprocessed {
			return false, err
		}
		return false, errStale
	}
	st.enter(x.method)
	st.writeTimeout, st.writeBy = cfg.writeTimeout, x.by
	st.by = limitFrom(m.begun, cfg.responseTimeout, x.by)
	b, at := beginHeaders(c.output.queue)
	b = client.appendBlock(&c.enc, b, x, m.length)
	end := m.whole && len(m.payload) == 0
	c.output.queue = endHeaders(b, at, st.id, end, c.peer.frameSizeMax)
	c.armCalls(m.begun)
	fits := int64(len(m.payload)) <= min(st.flow.toSend, c.flow.toSend)
	switch {
	case end:
		st.endSending()
	case m.whole && fits:
		st.queueData(m.payload, true)
	}
	all = st.endSent
	c.flush()
	if x.closes {
		c.retire()
	}
	if m.whole && !all {
		return st.beginSlowly(m.payload)
	}
	return all, nil
}

// enter gives the stream its number. c.mu is held.
func (st *clientStream) enter(method string) {
	c := st.c
	st.id, st.open, st.method = c.next, true, method
	c.next += 2
	c.streams[st.id] = st
	c.output.due = max(c.output.due-1, 0)
	st.flow = streamFlow{toSend: int64(c.peer.window), window: c.cfg.streamWindow, left: c.cfg.streamWindow}
	st.headAt = c.output.at()
}

// beginSlowly sends a short body for which there is no room at once. A failure is
// none here, but for lack of time: the answer may say why.
func (st *clientStream) beginSlowly(p []byte) (all bool, err error) {
	_, err = st.send(p, true)
	if err == ErrTimeout {
		return false, err
	}
	return err == nil, nil
}

// readBy bounds the reads that follow.
func (st *clientStream) readBy(t time.Time) {
	st.c.mu.Lock()
	st.by = t
	st.c.mu.Unlock()
}

// await waits for news. c.mu is held, and again at the end.
func (st *clientStream) await() error {
	c := st.c
	c.health.arm(st.by)
	st.waiting = true
	c.mu.Unlock()
	<-st.wake
	c.mu.Lock()
	timed := !st.waiting
	st.waiting = false
	if timed {
		return ErrTimeout
	}
	return nil
}

// readHead waits for the next head.
func (st *clientStream) readHead(*headLimits) (int, error) {
	c := st.c
	c.mu.Lock()
	defer c.mu.Unlock()
	for {
		if st.ready {
			return len(st.section.octets), nil
		}
		if st.err != nil {
			return 0, st.err
		}
		if err := st.await(); err != nil && !st.ready {
			return 0, err
		}
	}
}

func (st *clientStream) answer() *responseHead { return &st.head }
func (st *clientStream) headText(n int) []byte { return st.section.octets[:n] }

// dropHead makes room for the next head.
func (st *clientStream) dropHead(int) {
	st.c.mu.Lock()
	defer st.c.mu.Unlock()
	if st.ready = len(st.more) > 0; st.ready {
		st.section, st.head = st.more[0].section, st.more[0].head
		st.more = st.more[1:]
	}
}

// heard says whether anything of the answer has come.
func (st *clientStream) heard() bool {
	st.c.mu.Lock()
	defer st.c.mu.Unlock()
	return st.came
}

func (st *clientStream) persists(string) bool { return true }

func (st *clientStream) framing(method string) (kind bodyKind, length int64) {
	if kind, _ := st.head.framing(method); kind == bodyNone {
		return bodyNone, -1
	}
	return bodyFramed, st.head.contentLength
}

// streamInlineBytes is how much body is handed over with its head.
const streamInlineBytes = 64 << 10

// take returns the text of the head, and the usual body, which is there already.
func (st *clientStream) take(n int, kind bodyKind, _ int64) (memory []byte, whole bool) {
	c := st.c
	c.mu.Lock()
	whole = kind == bodyFramed && st.ended && st.err == nil && st.recv.n <= streamInlineBytes && len(st.trailer.list) == 0
	size := n
	if whole {
		size += st.recv.n
	}
	memory = append(make([]byte, 0, size), st.section.octets[:n]...)
	if whole && st.recv.n > 0 {
		c.consumed(int64(st.recv.n))
		st.recv.read(memory[n:size])
		memory = memory[:size]
		c.flush()
		return memory, whole
	}
	c.mu.Unlock()
	return memory, whole
}

// readBody reads octets of the body.
func (st *clientStream) readBody(b *clientBody, p []byte) (int, error) {
	c := st.c
	c.mu.Lock()
	if st.recv.n == 0 && !st.ended && st.err == nil {
		c.mu.Unlock()
		b.arm()
		c.mu.Lock()
	}
	n, ended, err := st.receive(p)
	switch {
	case ended:
		b.keepTrailer(&st.trailer)
		return n, io.EOF
	case err == io.EOF:
		err = ErrUnexpectedEOF
	}
	return n, err
}

// receive waits for octets and takes them, and gives the windows back. ended says
// that no more will come; err is nil with octets. c.mu is held, and released.
func (st *clientStream) receive(p []byte) (n int, ended bool, err error) {
	c := st.c
	for st.recv.n == 0 && !st.ended && err == nil {
		if err = st.err; err == nil {
			err = st.await()
		}
	}
	if n = st.recv.read(p); n > 0 {
		err = nil
	}
	c.consumed(int64(n))
	st.consumed(int64(n))
	ended = st.recv.n == 0 && st.ended
	c.flush()
	return n, ended, err
}

// skipBody returns io.EOF if all of the body was there.
func (st *clientStream) skipBody(*clientBody) error {
	st.c.mu.Lock()
	ended := st.ended
	st.c.mu.Unlock()
	if ended {
		return io.EOF
	}
	return errBodyClosed
}

// rest lets go of the stream. Others may have it then.
func (st *clientStream) rest(_ *Client, ctx context.Context) bool {
	c := st.c
	c.mu.Lock()
	if !st.ended || !st.endSent || st.err != nil {
		c.mu.Unlock()
		return false
	}
	if n := st.recv.drop(); n > 0 {
		c.consumed(n)
	}
	st.closed()
	c.flush()
	st.recycle()
	if trace := httptrace.ContextClientTrace(ctx); trace != nil && trace.PutIdleConn != nil {
		trace.PutIdleConn(nil)
	}
	return true
}

// recycle gives the stream to the next exchange. Nobody else may know it.
func (st *clientStream) recycle() {
	if raceEnabled || st.writeWake != nil {
		return // nothing is reused, or somebody may still wake it
	}
	select {
	case <-st.wake:
	default:
	}
	section, fields, pieces := st.section, st.head.fields[:0], st.recv.pieces[:0]
	*st = clientStream{wake: st.wake, section: section}
	st.head.fields, st.recv.pieces = fields, pieces
	clientStreams.Put(st)
}

// close ends the exchange: the stream alone is reset.
func (st *clientStream) close() {
	c := st.c
	c.mu.Lock()
	code := codeCancel
	if st.ended && st.final { // all is there, and no more of the request is wanted
		code = codeNone
	}
	st.reset(code, errHTTP2Cancel)
	if n := st.recv.drop(); n > 0 {
		c.consumed(n)
		st.ended, st.err = false, errHTTP2Cancel // whoever reads on is not at the end
	}
	c.flush()
}

// release has nothing to do: close has done it.
func (st *clientStream) release() {}
