package flare

import "time"

// This file is layer 4 (roles): the goroutine that reads a connection of the
// client's HTTP/2: frames taken apart and judged by what their streams may get
// (RFC 9113 §5.1, §6), and handed to those who wait. It handles all that has
// arrived before it wakes anybody, so that a head and its body are news once.

// http2InputBytes is what is read at once.
const http2InputBytes = 64 << 10

func (r *http2ClientReader) init(c *http2ClientConn) {
	r.dec.reset()
	r.last = streamMax
	r.section.reset(c.cfg.lim)
}

// newHTTP2ClientConn makes a connection of link, whose peer speaks HTTP/2, and
// begins to read from it.
func newHTTP2ClientConn(client *Client, link clientLink) *http2ClientConn {
	cfg := &client.cfg.http2
	c := &http2ClientConn{clientLink: link, cfg: cfg, pool: &client.http2, resting: &client.pool, next: 1, peer: defaultHTTP2Settings}
	c.streams = make(map[uint32]*clientStream)
	c.enc.reset()
	c.reading.init(c)
	c.sock.writeTimeout, c.sock.writeBy = cfg.writeTimeout, time.Time{}
	c.sock.spills = c.sock.direct
	c.flow.init(cfg)
	c.idle = time.Now()
	c.health.heardAt = c.idle
	b := append(c.output.queue, http2Preface...)
	b = appendSettings(b, cfg.settings...)
	b = appendWindowUpdate(b, 0, uint32(cfg.connWindow-windowDefault))
	c.output.queue = b
	c.flow.settingsAt = c.idle
	c.sock.readBy = time.Time{}
	c.health.init(c)
	go c.read()
	return c
}

// read reads until the connection ends.
func (c *http2ClientConn) read() {
	r := &c.reading
	buf := make([]byte, 0, http2InputBytes)
	for {
		n, err := c.Read(buf[len(buf):cap(buf)])
		if n == 0 && err != nil {
			c.die(c.endOf(err))
			return
		}
		r.now = time.Now()
		buf = buf[:len(buf)+n]
		r.in = buf
		if err := c.handleInput(); err != nil {
			c.die(err)
			return
		}
		if rest := len(r.in); rest == 0 {
			buf = buf[:0]
		} else {
			if need := frameRoom(r.in); need > cap(buf) {
				buf = make([]byte, 0, need)
			}
			buf = buf[:copy(buf[:cap(buf)], r.in)]
		}
	}
}

// frameRoom is how much room the frame needs whose front b is. Its head was judged
// if it is there.
func frameRoom(b []byte) int {
	if len(b) < http2HeadBytes {
		return http2HeadBytes
	}
	h := parseHTTP2Head((*[http2HeadBytes]byte)(b))
	return http2HeadBytes + int(h.length)
}

// handleInput handles the frames that are complete, and wakes those who have news.
func (c *http2ClientConn) handleInput() error {
	r := &c.reading
	var err error
	for len(r.in) >= http2HeadBytes && err == nil {
		h := parseHTTP2Head((*[http2HeadBytes]byte)(r.in))
		if err = c.checkFrame(&h); err != nil {
			break
		}
		size := http2HeadBytes + int(h.length)
		if len(r.in) < size {
			break
		}
		err = c.handleFrame(&h, r.in[http2HeadBytes:size])
		r.in = r.in[size:]
	}
	c.mu.Lock()
	c.health.heardAt = r.now
	c.health.budget.earn(int32(r.ended * budgetResponse))
	c.output.due += r.ended
	r.ended = 0
	c.flush()
	for i, st := range r.woken {
		st.wakeReader()
		r.woken[i] = nil
	}
	r.woken = r.woken[:0]
	return err
}

// news notes that a stream has some.
func (r *http2ClientReader) news(st *clientStream) {
	if n := len(r.woken); n == 0 || r.woken[n-1] != st {
		r.woken = append(r.woken, st)
	}
}

// checkFrame judges a frame by its head. An error of the stream alone comes again
// with the frame.
func (c *http2ClientConn) checkFrame(h *http2Head) error {
	r := &c.reading
	if !r.settings && (h.kind != frameSettings || h.ack()) {
		return connFault(codeProtocol, ruleServerPreface)
	}
	r.settings = true
	err := h.check(c.cfg.frameSizeMax, r.block)
	if fault, ok := err.(*http2Error); ok && fault.stream {
		return nil
	}
	return err
}

const (
	ruleServerPreface  = "server that does not begin with SETTINGS (RFC 9113 §3.4)"
	ruleDataBeforeHead = "DATA before the head of the response (RFC 9113 §8.1)"
	ruleDataNoBody     = "DATA of a response that has no body (RFC 9113 §8.1.1)"
	ruleDataLength     = "DATA that is not as long as Content-Length says (RFC 9113 §8.1.1)"
	ruleTrailerEnd     = "trailer section that does not end the stream (RFC 9113 §8.1)"
	ruleTunnelHeaders  = "HEADERS in a tunnel (RFC 9113 §8.5)"
	rulePriorityUpdate = "PRIORITY_UPDATE of a server (RFC 9218 §7.1)"
)

// handleFrame handles a frame. Its error is the connection's.
func (c *http2ClientConn) handleFrame(h *http2Head, p []byte) error {
	var err error
	switch h.kind {
	case frameData:
		err = c.handleData(h, p)
	case frameHeaders:
		err = c.handleHeaders(h, p)
	case frameContinuation:
		err = c.handleBlock(h, p)
	case frameRSTStream:
		err = c.handleReset(h, p)
	case frameWindowUpdate:
		err = c.handleWindowUpdate(h, p)
	case frameSettings:
		err = c.handleSettings(h, p)
	case framePing:
		err = c.handlePing(h, p)
	case frameGoAway:
		err = c.handleGoAway(p)
	case framePriorityUpdate:
		err = connFault(codeProtocol, rulePriorityUpdate)
	default: // RFC 9113 §5.5
		err = c.spendLocked()
	}
	if fault, ok := err.(*http2Error); ok && fault.stream {
		return c.resetStream(h.stream, fault)
	}
	return err
}

// spend counts a frame that brings nothing. c.mu is held.
func (c *http2ClientConn) spend() error {
	if !c.health.budget.spend(time.Since(origin)) {
		return connFault(codeEnhanceYourCalm, ruleBudget)
	}
	return nil
}

// spendLocked is spend, and takes c.mu for it.
func (c *http2ClientConn) spendLocked() error {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.spend()
}

// resetStream ends a stream whose server has broken a rule.
func (c *http2ClientConn) resetStream(id uint32, fault *http2Error) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	if err := c.spend(); err != nil {
		return err
	}
	if st := c.streams[id]; st != nil {
		st.err = fault
		st.reset(fault.code, fault)
	}
	return nil
}

// stray judges a frame on a stream that is not open, n octets long for flow
// control. c.mu is held.
func (c *http2ClientConn) stray(h *http2Head, n int64) error {
	if h.stream&1 == 0 || h.stream >= c.next {
		return connFault(codeProtocol, ruleStreamIdle)
	}
	if h.kind != frameData && h.kind != frameHeaders || c.resets.allows(h.stream, n) {
		return c.spend()
	}
	return connFault(codeStreamClosed, ruleStreamClosed)
}

// handleData takes DATA.
func (c *http2ClientConn) handleData(h *http2Head, p []byte) error {
	data, err := h.parseData(p)
	if err != nil {
		return err
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	size := int64(h.length)
	if err := c.flow.took(size); err != nil {
		return err
	}
	st := c.streams[h.stream]
	if st == nil || st.ended {
		c.consumed(size)
		return c.stray(h, size)
	}
	if size == 0 && !h.endStream() {
		return c.spend()
	}
	if padding := size - int64(len(data)); padding > 0 {
		c.consumed(padding)
		defer st.consumed(padding)
	}
	if st.flow.left -= size; st.flow.left < 0 {
		err = streamFault(codeFlowControl, ruleWindowOver)
	} else {
		err = st.takeData(data, h.endStream())
	}
	if err != nil {
		c.consumed(int64(len(data)))
		return err
	}
	c.reading.news(st)
	return nil
}

// takeData takes octets of the body. c.mu is held.
func (st *clientStream) takeData(data []byte, end bool) error {
	switch {
	case !st.final:
		return streamFault(codeProtocol, ruleDataBeforeHead)
	case st.bodiless && len(data) > 0:
		return streamFault(codeProtocol, ruleDataNoBody)
	}
	st.received += int64(len(data))
	if !st.bodiless && st.length >= 0 && (st.received > st.length || end && st.received < st.length) {
		return streamFault(codeProtocol, ruleDataLength)
	}
	st.recv.append(data)
	if end {
		st.end()
	}
	return nil
}

// end is for when the server has sent all. c.mu is held.
func (st *clientStream) end() {
	st.ended = true
	st.c.reading.ended++
	if st.endSent {
		st.closed()
	}
}

// handleHeaders begins a field block.
func (c *http2ClientConn) handleHeaders(h *http2Head, p []byte) error {
	r := &c.reading
	block, err := h.parseHeaders(p)
	if fault, ok := err.(*http2Error); ok && !fault.stream {
		return err
	}
	r.section.reset(c.cfg.lim)
	r.block, r.blockEnd, r.blockErr = h.stream, h.endStream(), err
	return c.handleBlock(h, block)
}

// handleBlock takes a fragment of a field block, and the head or the trailer
// section that is complete with it.
func (c *http2ClientConn) handleBlock(h *http2Head, p []byte) error {
	r := &c.reading
	if len(p) == 0 && !h.endHeaders() {
		if err := c.spendLocked(); err != nil {
			return err
		}
	}
	if err := r.dec.decode(&r.section, p, h.endHeaders()); err != nil || !h.endHeaders() {
		return err
	}
	r.block = 0
	c.mu.Lock()
	st := c.streams[h.stream]
	if st == nil || st.ended {
		defer c.mu.Unlock()
		return c.stray(&http2Head{kind: frameHeaders, stream: h.stream}, 0)
	}
	final := st.final
	c.mu.Unlock()
	if r.blockErr != nil {
		return r.blockErr
	}
	if final {
		return c.handleTrailer(st)
	}
	r.head.reset()
	if err := r.head.fillHTTP2(&r.section, c.cfg.lim, r.blockEnd); err != nil {
		return c.refuse(st, err)
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if !st.open {
		return nil
	}
	return st.takeHead(r)
}

// refuse ends a stream whose head is over a limit, or broken.
func (c *http2ClientConn) refuse(st *clientStream, err error) error {
	if fault, ok := err.(*http2Error); ok {
		return fault
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	st.reset(codeCancel, err)
	return nil
}

// takeHead takes a head. c.mu is held.
func (st *clientStream) takeHead(r *http2ClientReader) error {
	st.came = true
	if !r.head.isInterim() {
		st.final = true
		kind, _ := r.head.framing(st.method)
		st.bodiless, st.length = kind == bodyNone, r.head.contentLength
		st.tunnel = st.method == "" && r.head.status/100 == 2
		if r.blockEnd && !st.bodiless && st.length > 0 {
			return streamFault(codeProtocol, ruleDataLength)
		}
	}
	switch {
	case !st.ready: // swapped, so that both keep their memory
		st.section, r.section = r.section, st.section
		st.head, r.head = r.head, st.head
		st.ready = true
	case len(st.more) > interimMax:
		st.reset(codeCancel, errInterim)
	default:
		st.more = append(st.more, streamHead{r.section, r.head})
		r.section, r.head = fieldSection{}, responseHead{}
	}
	if r.blockEnd {
		st.end()
	}
	r.news(st)
	return nil
}

// handleTrailer takes the trailer section of a response.
func (c *http2ClientConn) handleTrailer(st *clientStream) error {
	r := &c.reading
	if !r.blockEnd {
		return streamFault(codeProtocol, ruleTrailerEnd)
	}
	if st.tunnel { // set by this goroutine
		return streamFault(codeProtocol, ruleTunnelHeaders)
	}
	var trailer headerFields
	if err := r.section.fillTrailer(&trailer, c.cfg.lim); err != nil {
		return c.refuse(st, err)
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if !st.open {
		return nil
	}
	if !st.bodiless && st.length >= 0 && st.received < st.length {
		return streamFault(codeProtocol, ruleDataLength)
	}
	st.trailer = trailer
	st.end()
	r.news(st)
	return nil
}

// handleReset takes RST_STREAM.
func (c *http2ClientConn) handleReset(h *http2Head, p []byte) error {
	code := parseRSTStream(p)
	c.mu.Lock()
	defer c.mu.Unlock()
	st := c.streams[h.stream]
	if st == nil {
		return c.stray(h, 0)
	}
	var err error = &http2Reset{code: code}
	if code == codeRefusedStream && !st.came {
		err = errUnprocessed
	}
	st.fail(err)
	return c.spend()
}

// handleWindowUpdate takes WINDOW_UPDATE.
func (c *http2ClientConn) handleWindowUpdate(h *http2Head, p []byte) error {
	n, err := h.parseWindowUpdate(p)
	if err != nil {
		return err
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if h.stream == 0 {
		if c.flow.toSend += int64(n); c.flow.toSend > streamMax {
			return connFault(codeFlowControl, ruleWindowMax)
		}
		c.flow.opened()
		return nil
	}
	st := c.streams[h.stream]
	if st == nil {
		return c.stray(h, 0)
	}
	if st.flow.toSend += int64(n); st.flow.toSend > streamMax {
		return streamFault(codeFlowControl, ruleWindowMax)
	}
	st.wakeWriter()
	return nil
}

// handleSettings takes SETTINGS, or the acknowledgement of the client's.
func (c *http2ClientConn) handleSettings(h *http2Head, p []byte) error {
	r := &c.reading
	c.mu.Lock()
	defer c.mu.Unlock()
	if err := c.spend(); err != nil {
		return err
	}
	if h.ack() {
		if begun := c.flow.settingsAt; !begun.IsZero() {
			c.flow.measured(begun, r.now)
			c.flow.settingsAt = time.Time{}
			r.dec.setLimit(c.cfg.tableMax)
		}
		return nil
	}
	before := c.peer.window
	if err := c.peer.apply(p, true); err != nil {
		return err
	}
	for _, st := range c.streams { // RFC 9113 §6.9.2
		if st.flow.toSend += int64(c.peer.window) - int64(before); st.flow.toSend > streamMax {
			return connFault(codeFlowControl, ruleWindowMax)
		}
		st.wakeWriter()
	}
	limit := c.cfg.encoderMax
	c.enc.resize(min(c.peer.tableSizeLeast, limit), min(c.peer.tableSize, limit))
	c.greeted = true
	c.admit()
	c.output.queue = appendSettingsAck(c.output.queue)
	return nil
}

// handlePing answers a PING, or takes the answer to one.
func (c *http2ClientConn) handlePing(h *http2Head, p []byte) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	if h.ack() {
		c.ponged(p, c.reading.now)
		return nil
	}
	c.output.queue = appendHTTP2Ping(c.output.queue, [pingBytes]byte(p), true)
	return c.spend()
}

// handleGoAway takes GOAWAY: the streams that the server has looked at go on, the
// others may be sent again (RFC 9113 §6.8).
func (c *http2ClientConn) handleGoAway(p []byte) error {
	r := &c.reading
	if err := c.spendLocked(); err != nil {
		return err
	}
	last, code, _ := parseGoAway(p)
	r.last = min(r.last, last)
	if code != codeNone {
		r.away = &http2Reset{code: code, away: true}
	}
	c.pool.forget(c)
	c.mu.Lock()
	c.leaving = true
	c.admit()
	for id, st := range c.streams {
		if id > r.last && !st.came {
			st.fail(errUnprocessed)
		}
	}
	if c.active == 0 {
		c.shut(nil)
	}
	c.mu.Unlock()
	return nil
}
