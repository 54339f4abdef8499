package flare

import "math"

// This file is layer 4 (roles): bodies of requests as they come in, and the
// windows that bound them (RFC 9113 §5.2): the peer may send what handlers read,
// and so much ahead. What a window has let in is given back to it when it was
// read, or when nobody will read it; a body that is awaited is given back as it
// arrives, since its handler reads nothing before it is complete.

// beginData begins a DATA frame. Its payload is taken as it comes.
func (h *http2Conn) beginData(head http2Head, payload []byte) (n, cost int, err error) {
	var first byte
	n = http2HeadBytes
	if head.flags&flagPadded != 0 && head.length > 0 {
		if len(payload) == 0 {
			return 0, 0, nil
		}
		first = payload[0]
		n++
	}
	before, behind, err := head.padding(first)
	if err != nil {
		return n, 0, err
	}
	if h.recvWindow -= int32(head.length); h.recvWindow < 0 {
		return n, 0, connFault(codeFlowControl, ruleWindowOver)
	}
	h.frame = http2Incoming{left: head.length - before - behind, pad: uint8(behind), end: head.endStream()}
	s, err := h.dataStream(&head)
	if s == nil {
		h.giveBack(int64(head.length))
		return n, http2HeadBytes, err
	}
	return n, http2HeadBytes, h.letIn(s, int64(head.length), int64(before+behind))
}

// letIn lets a DATA frame of so many octets in, of which some are padding.
func (h *http2Conn) letIn(s *http2Stream, size, padding int64) error {
	if s.recvWindow -= size; s.recvWindow < 0 && size > 0 {
		h.giveBack(size)
		return h.reset(s, codeFlowControl)
	}
	f := &h.frame
	f.s = s
	s.hasData = true
	s.owed += size
	if padding > 0 {
		s.mu.Lock()
		s.consumed += padding
		s.mu.Unlock()
		if h.collect(s); s.awaits { // the window is not large enough for what is in it beside the body
			h.start(s)
		}
	}
	switch {
	case f.left > 0 || f.pad > 0 && f.end:
		return nil
	case f.end:
		return h.endBody(s, nil)
	}
	return h.charge() // nothing in it
}

// dataStream returns the stream whose DATA may come; nil: it is ignored, if err
// does not say otherwise.
func (h *http2Conn) dataStream(head *http2Head) (*http2Stream, error) {
	if head.stream > h.last || head.stream%2 == 0 {
		return nil, connFault(codeProtocol, ruleStreamIdle)
	}
	s := h.table.find(head.stream)
	switch {
	case s != nil && s.wire&http2Ended == 0:
		return s, nil
	case s != nil:
		return nil, h.reset(s, codeStreamClosed)
	}
	switch h.closedHow(head.stream) {
	case http2ClosedByUs:
		return nil, h.lateData(head)
	case http2ClosedNever, http2ClosedInOrder:
		return nil, connFault(codeStreamClosed, ruleStreamClosed)
	}
	h.sayReset(head.stream, codeStreamClosed)
	return nil, h.charge()
}

// lateData takes DATA that was under way when we reset its stream: no more than was
// let in, and none that does not even take of that.
func (h *http2Conn) lateData(head *http2Head) error {
	if h.late -= int32(head.length); h.late < 0 {
		return connFault(codeStreamClosed, ruleStreamClosed)
	}
	if head.length == 0 {
		return h.charge()
	}
	return nil
}

// takePayload takes what has come of the frame's payload.
func (h *http2Conn) takePayload(in []byte) (n int, err error) {
	f := &h.frame
	n = min(len(in), int(f.left))
	f.left -= uint32(n)
	if f.s != nil && n > 0 {
		if err := h.takeBody(f.s, in[:n]); err != nil {
			return n, err
		}
	}
	pad := min(len(in)-n, int(f.pad))
	f.pad -= uint8(pad)
	n += pad
	if !f.goes() && f.end && f.s != nil {
		return n, h.endBody(f.s, nil)
	}
	return n, nil
}

// takeBody takes octets of the body of s.
func (h *http2Conn) takeBody(s *http2Stream, p []byte) error {
	s.received += int64(len(p))
	if s.length >= 0 && s.received > s.length {
		return h.reset(s, codeProtocol)
	}
	s.progress = h.now()
	s.mu.Lock()
	s.in.append(p, nil)
	s.in.count(h.c.limits.buffered)
	s.wakeThrough()
	s.mu.Unlock()
	switch {
	case !s.awaits:
		s.take(ownRead)
	case h.srv.buffered.isOver():
		h.start(s) // with what there is
	default:
		h.giveBack(int64(len(p)))
		s.owed -= int64(len(p))
	}
	return nil
}

// endBody is the end of the body of s. trailer is what stands behind it, nil
// for nothing.
func (h *http2Conn) endBody(s *http2Stream, trailer *fieldSection) error {
	var fields *headerFields
	var refused error
	if trailer != nil {
		fields = new(headerFields)
		refused = trailer.fillTrailer(fields, &h.srv.lim.head)
		fieldSections.Put(trailer)
	}
	if e, ok := refused.(*http2Error); ok {
		return h.reset(s, e.code)
	}
	if s.length >= 0 && s.received != s.length {
		return h.reset(s, codeProtocol)
	}
	s.wire |= http2Ended
	s.mu.Lock()
	s.ended = true
	switch {
	case refused != nil: // too large, as over HTTP/1.1
		s.makeOdd().inErr = refusalOf(refused)
	case fields != nil:
		s.makeOdd().trailer = fields
	}
	s.wakeThrough()
	s.mu.Unlock()
	if s.awaits {
		s.refusal = refused
		h.start(s)
	} else {
		s.take(ownRead)
	}
	return nil
}

// giveBack opens the connection's window by n octets, or will.
func (h *http2Conn) giveBack(n int64) {
	h.credit += int32(n)
	if int64(h.credit) < h.srv.http2.connWindow/2 || h.failure != nil {
		return
	}
	var room [http2HeadBytes + windowUpdateBytes]byte
	h.say(appendWindowUpdate(room[:0], 0, uint32(h.credit)))
	h.recvWindow += h.credit
	opened := &h.taking.opened[h.round%2]
	*opened = min(*opened, math.MaxInt32-h.credit) + h.credit
	h.credit = 0
}

// collect gives what the handler of s has read back to the windows.
func (h *http2Conn) collect(s *http2Stream) {
	if !s.hasData {
		return
	}
	s.mu.Lock()
	n, ended := s.consumed, s.ended
	s.consumed = 0
	s.mu.Unlock()
	if n == 0 {
		return
	}
	if owed := min(n, s.owed); owed > 0 {
		s.owed -= owed
		h.giveBack(owed)
	}
	if s.opens += n; ended || s.opens < h.srv.http2.streamWindow/2 {
		return
	}
	s.recvWindow += s.opens
	s.said = h.round
	var room [http2HeadBytes + windowUpdateBytes]byte
	h.say(appendWindowUpdate(room[:0], s.id, uint32(s.opens)))
	s.opens = 0
}

// shareWindow settles how much a handler reads before it says so, when there are
// so many streams as now: what all of them keep to themselves must not close the
// connection's window.
func (h *http2Conn) shareWindow() {
	if h.open&(h.open-1) != 0 {
		return
	}
	h.wishAt.Store(int32(min(h.srv.http2.streamWindow/2, h.srv.http2.connWindow/4/int64(h.open))))
	if int64(h.recvWindow+h.credit) == h.srv.http2.connWindow {
		return // nobody has read anything that was not given back
	}
	for s := range h.table.all() {
		h.collect(s)
	}
}
