package flare

import "math"

// This file is layer 4 (roles): what leaves a connection of HTTP/2, at the end of
// each round: frames of the connection first, then heads in the order in which
// they came, then octets of bodies by priority (RFC 9218 §10). One encoder has all
// heads, in the order in which they are sent; nothing that was encoded is dropped.

// http2FlushMax of a connection are sent in one round.
const http2FlushMax = 256 << 10

// push puts s at the end.
func (l *http2List) push(s *http2Stream) { l.insertAfter(l.last, s) }

// insertAfter puts s behind at, nil for the front.
func (l *http2List) insertAfter(at, s *http2Stream) {
	s.list, s.prev = l, at
	if at == nil {
		s.next, l.first = l.first, s
	} else {
		s.next, at.next = at.next, s
	}
	if s.next == nil {
		l.last = s
	} else {
		s.next.prev = s
	}
}

func (l *http2List) remove(s *http2Stream) {
	if s.prev == nil {
		l.first = s.next
	} else {
		s.prev.next = s.next
	}
	if s.next == nil {
		l.last = s.prev
	} else {
		s.next.prev = s.prev
	}
	s.list, s.prev, s.next = nil, nil, nil
}

// insert puts s where its priority has it: behind all that are more urgent, and of
// those that are as urgent behind all if parts of it are of use, else in the order
// in which they were asked for.
func (l *http2List) insert(s *http2Stream) {
	at := l.last
	for at != nil && (at.priority.urgency > s.priority.urgency ||
		at.priority == s.priority && !s.priority.incremental && at.id > s.id) {
		at = at.prev
	}
	l.insertAfter(at, s)
}

// prioritize has s leave when its priority says so.
func (h *http2Conn) prioritize(s *http2Stream, priority streamPriority) {
	if s.priority == priority {
		return
	}
	listed := s.list == &h.ready
	if listed {
		h.ready.remove(s)
	}
	if s.priority = priority; listed {
		h.ready.insert(s)
	}
}

// enqueue has s send what it has.
func (h *http2Conn) enqueue(s *http2Stream) {
	if s.list == &h.heads || s.closed {
		return
	}
	if !s.running {
		h.queue(s, len(s.odd().heads) > 0 || s.keeps, true)
		return
	}
	s.mu.Lock()
	heads := len(s.odd().heads) > 0
	sends := s.headSent && (s.out.len() > 0 || s.outEnded && s.wire&http2EndSent == 0) // else the head comes with a wish
	s.mu.Unlock()
	h.queue(s, heads, sends)
}

// queue has s wait for the end of the round, with heads or with octets of a body.
func (h *http2Conn) queue(s *http2Stream, heads, sends bool) {
	switch {
	case heads:
		if s.list != nil {
			s.list.remove(s)
		}
		h.heads.push(s)
	case sends && s.list == nil:
		h.ready.insert(s)
	case s.list == nil:
		return
	}
	h.c.flushLater()
}

// encodesNow reports whether all of the answer of s, settled, can be encoded at once:
// nobody waits whom it would pass.
func (h *http2Conn) encodesNow(s *http2Stream) bool {
	return s.keeps && s.complete && len(s.odd().heads) == 0 && s.list == nil && h.heads.first == nil && h.ready.first == nil &&
		h.failure == nil && h.c.out == nil && (h.encoded == nil || len(h.encoded.b) < flushBytes)
}

// encode is for an answer that does not wait until the end of the round: what s has
// for it is the next one's then.
func (h *http2Conn) encode(s *http2Stream) {
	if h.encoded == nil {
		h.encoded = getBuffer(http2EncodedMin)
	}
	s.keeps = false
	b, ended := h.appendHead(h.encoded.b, s, &s.x.kept, h.c.loop.workset)
	if !ended {
		b = h.appendBody(b, s)
	}
	h.keepEncoded(b)
}

// http2EncodedMin is enough for a hundred short answers.
const http2EncodedMin = 4 << 10

// flush sends what there is, as far as the peer takes it.
func (h *http2Conn) flush(c *Conn, g *workset) {
	more := true
	for sent := 0; more && sent < http2FlushMax && !c.broken(); {
		b := append(g.out[:0], h.control.waiting()...)
		h.control.drop()
		h.control.count(c.limits.buffered)
		if h.encoded != nil {
			b = append(b, h.encoded.b...)
			h.dropEncoded()
		}
		if h.failure == nil {
			b = h.appendHeads(b, g)
			b = h.appendBodies(b)
		}
		g.out = b[:0]
		if len(b) == 0 {
			more = false
			break
		}
		sent += len(b)
		h.taking.sent += int64(len(b))
		more = c.sendAll(g, b)
	}
	if more {
		c.flushLater()
	} else if h.eof {
		h.dropShut()
	}
	h.dropFailed()
	h.ends()
}

// appendHeads appends heads, and the little bodies of those behind which nobody
// else has something to send.
func (h *http2Conn) appendHeads(b []byte, g *workset) []byte {
	for s := h.heads.first; s != nil && len(b) < flushBytes; s = h.heads.first {
		h.heads.remove(s)
		var ended bool
		b, ended = h.appendStreamHeads(b, s, g)
		switch {
		case ended: // s may be another's by now
		case h.ready.first == nil:
			b = h.appendBody(b, s)
		default:
			h.ready.insert(s)
		}
	}
	return b
}

// appendStreamHeads appends the heads that s has. ended: one is all of a response,
// and s is closed.
func (h *http2Conn) appendStreamHeads(b []byte, s *http2Stream, g *workset) (with []byte, ended bool) {
	if !s.running {
		if rare := s.rare; rare != nil { // it goes with s
			heads := rare.heads
			rare.heads = heads[:0]
			for i := range heads {
				b, ended = h.appendHead(b, s, &heads[i], g)
			}
		}
		if s.keeps {
			s.keeps = false
			return h.appendHead(b, s, &s.x.kept, g)
		}
		return b, ended
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	rare := s.rare
	if rare == nil {
		return b, false
	}
	full := len(rare.heads) >= http2HeadsMax
	for i := range rare.heads {
		b, _ = h.appendHead(b, s, &rare.heads[i], g)
	}
	clear(rare.heads)
	rare.heads = rare.heads[:0]
	if full {
		h.wakeWriter(s)
	}
	return b, false
}

// appendHead appends a head of a response. ended as of appendStreamHeads.
func (h *http2Conn) appendHead(b []byte, s *http2Stream, head *http2Outgoing, g *workset) (with []byte, ended bool) {
	final := head.status >= 200
	end := final && !s.running && s.complete && s.cut == codeNone && s.out.len()+len(s.tail()) == 0 && s.x.behind == nil
	b, at := beginHeaders(b)
	b = h.enc.appendResponse(b, head.status, head.fields, head.length)
	if !head.dated {
		line := g.clock.date.line(g.clock.unix)
		b = h.enc.appendDate(b, g.clock.unix, viewString(line[len(dateName):len(line)-len("\r\n")]))
	}
	b = endHeaders(b, at, s.id, end, h.peer.frameSizeMax)
	s.said = h.round
	if final {
		s.headSent = true
	}
	if end {
		b = h.sentEnd(b, s)
	}
	return b, end
}

// appendBodies appends octets of bodies, most urgent first.
func (h *http2Conn) appendBodies(b []byte) []byte {
	for s := h.ready.first; s != nil && len(b) < flushBytes; s = h.ready.first {
		if h.sendWindow <= 0 && s.pending() > 0 {
			break // all of them wait for it; ends need none, and come in their turn
		}
		h.ready.remove(s)
		b = h.appendBody(b, s)
	}
	return b
}

// pending is how many octets of its body s has to send.
func (s *http2Stream) pending() int {
	if s.running {
		s.mu.Lock()
		defer s.mu.Unlock()
		return s.out.len()
	}
	return s.out.len() + len(s.tail())
}

// appendBody appends what s, which is in no list, may send before others have
// their turn, and puts it back into the list if there is more.
func (h *http2Conn) appendBody(b []byte, s *http2Stream) []byte {
	switch {
	case !s.running && s.wire&http2EndSent != 0: // a tunnel that was half closed
		return h.sentEnd(b, s)
	case !s.running && s.cut != codeNone && s.out.len()+len(s.tail()) == 0:
		return h.sendCut(b, s)
	case s.running:
		s.mu.Lock()
	}
	b, whole, ended := h.appendFrames(b, s)
	switch {
	case whole && s.running:
		s.wire |= http2EndSent
	case whole:
		return h.finishBody(b, s, ended)
	}
	more := s.out.len() > 0 || !s.running && len(s.tail()) > 0
	if s.running {
		if s.wantsRoom && s.out.len() <= http2QueueBytes/2 {
			h.wakeWriter(s)
		}
		s.mu.Unlock()
	}
	switch {
	case !more && !s.running && s.cut != codeNone:
		return h.sendCut(b, s)
	case more && s.sendWindow > 0 && s.headSent:
		h.ready.insert(s)
	}
	h.hold(s)
	return b
}

// appendFrames appends DATA frames. whole: nothing of the body is left; ended: that
// was said.
func (h *http2Conn) appendFrames(b []byte, s *http2Stream) (with []byte, whole, ended bool) {
	for {
		p, last := s.nextOctets()
		n := max(min(int64(len(p)), s.sendWindow, h.sendWindow, int64(h.peer.frameSizeMax), http2DataMax), 0)
		if n == 0 && (len(p) > 0 || !last) {
			return b, false, false
		}
		last = last && n == int64(len(p))
		ended = last && s.x.behind == nil
		if n > 0 || ended {
			s.said = h.round
			b = appendData(b, s.id, p[:n], ended)
			h.budget.earnSmall(n)
		}
		s.sentOctets(int(n))
		s.sendWindow -= n
		h.sendWindow -= n
		if s.progress = h.now(); last || len(b) >= flushBytes || s.priority.incremental && h.ready.first != nil {
			return b, last, ended
		}
	}
}

// http2DataMax is the longest payload of a DATA frame.
const http2DataMax = frameSizeDefault

// nextOctets returns what comes next of the body of s, and whether it is its end.
func (s *http2Stream) nextOctets() (p []byte, last bool) {
	if !s.headSent || s.wire&http2EndSent != 0 {
		return nil, false
	}
	if p = s.out.waiting(); s.running {
		return p, s.outEnded
	} else if len(p) > 0 {
		return p, !s.running && s.complete && s.cut == codeNone && len(s.tail()) == 0
	}
	return s.tail(), s.complete && s.cut == codeNone
}

// sentOctets lets go of what was sent.
func (s *http2Stream) sentOctets(n int) {
	if s.out.len() > 0 {
		s.out.free(n)
		s.out.count(s.conn.limits.buffered)
		s.taken += int64(n)
	} else {
		s.x.tail = s.x.tail[n:]
	}
	s.sent += int64(n)
}

// wakeWriter tells the handler of s that there is room. s.mu is held.
func (h *http2Conn) wakeWriter(s *http2Stream) {
	if s.wantsRoom {
		s.wantsRoom = false
		s.take(ownWrite)
		s.wakeThrough()
	}
}

// hold counts the memory of an answer that the peer does not take.
func (h *http2Conn) hold(s *http2Stream) {
	if s.running || s.held > 0 || len(s.tail()) == 0 {
		return
	}
	s.held = int32(min(cap(s.x.tail), math.MaxInt32))
	h.c.limits.buffered.Add(int64(s.held))
}

// finishBody appends what stands behind a body of which all was sent. ended: that
// was said already.
func (h *http2Conn) finishBody(b []byte, s *http2Stream, ended bool) []byte {
	if !ended {
		var at int
		b, at = beginHeaders(b)
		b = h.enc.appendTrailer(b, s.x.behind)
		b = endHeaders(b, at, s.id, true, h.peer.frameSizeMax)
	}
	return h.sentEnd(b, s)
}

// sentEnd is behind the last frame of a response. A request whose body has not
// ended is not wanted any more (RFC 9113 §8.1).
func (h *http2Conn) sentEnd(b []byte, s *http2Stream) []byte {
	s.wire |= http2EndSent
	if s.wire&http2Ended == 0 {
		b = appendRSTStream(b, s.id, codeNone)
		h.close(s, http2ClosedByUs)
	} else {
		h.close(s, http2ClosedInOrder)
	}
	return b
}

// sendCut ends a response that is not whole.
func (h *http2Conn) sendCut(b []byte, s *http2Stream) []byte {
	b = appendRSTStream(b, s.id, s.cut)
	h.srv.http2Counts.resetByServer.Add(1)
	h.close(s, http2ClosedByUs)
	return b
}
