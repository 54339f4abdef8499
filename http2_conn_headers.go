package flare

import "sync"

// This file is layer 4 (roles): field blocks. Each is decoded to its end, whatever
// becomes of its stream, since the table of the decoder is the connection's (RFC
// 9113 §4.3).

const (
	ruleTrailerOpen  = "trailer section that does not end the stream (RFC 9113 §8.1)"
	ruleBodyLength   = "body that is not as long as Content-Length says (RFC 9113 §8.1.1)"
	ruleStreamsMax   = "more streams than SETTINGS_MAX_CONCURRENT_STREAMS (RFC 9113 §5.1.2)"
	ruleStreamTwice  = "HEADERS on a stream that has ended (RFC 9113 §5.1)"
	ruleContinuation = "empty CONTINUATION"
)

// fieldSections are for blocks whose fields nobody keeps.
var fieldSections = sync.Pool{New: func() any { return new(fieldSection) }}

// takeHeaders begins a field block.
func (h *http2Conn) takeHeaders(head *http2Head, p []byte, g *workset) (cost int, err error) {
	p, err = head.parseHeaders(p)
	own, _ := err.(*http2Error)
	if own != nil && !own.stream {
		return 0, err
	}
	h.block = http2Block{id: head.stream, end: head.endStream()}
	if err := h.beginBlock(head); err != nil {
		return 0, err
	}
	b := &h.block
	if own != nil && b.code == codeNone {
		if b.s != nil && !b.begins {
			h.resetFor(b.s, own.code)
		} else if b.s != nil {
			h.discardStream(b.s)
		}
		b.s, b.section, b.code = nil, nil, own.code
	}
	if b.section == nil {
		b.section = fieldSections.Get().(*fieldSection)
		b.section.reset(&h.srv.lim.head)
	}
	return h.decode(p, head.endHeaders(), g)
}

// beginBlock finds out what the block of head is.
func (h *http2Conn) beginBlock(head *http2Head) error {
	b, id := &h.block, head.stream
	if id%2 == 0 {
		return connFault(codeProtocol, ruleStreamNumber)
	}
	if id <= h.last {
		return h.beginTrailer(head)
	}
	h.last = id
	switch {
	case h.leaving == http2Left, h.open >= h.srv.http2.streams:
		b.code = codeRefusedStream
		return nil
	}
	b.s, b.begins = h.newStream(id), true
	b.section = &b.s.section
	return nil
}

// beginTrailer is for a block on a stream that was begun before.
func (h *http2Conn) beginTrailer(head *http2Head) error {
	b, s := &h.block, h.table.find(head.stream)
	switch {
	case s == nil:
		switch h.closedHow(head.stream) {
		case http2ClosedByUs: // it was under way when we reset the stream; the next was not
			return h.charge()
		case http2ClosedNever:
			return connFault(codeProtocol, ruleStreamNumber)
		case http2ClosedInOrder:
			return connFault(codeStreamClosed, ruleStreamTwice)
		default:
			b.code = codeStreamClosed
		}
		return nil
	case s.wire&http2Ended != 0:
		h.resetFor(s, codeStreamClosed)
		return h.charge()
	case !b.end || s.isTunnel(): // of which only DATA comes (RFC 9113 §8.5)
		h.resetFor(s, codeProtocol)
		return h.charge()
	}
	b.s = s
	return nil
}

// takeContinuation goes on with a field block.
func (h *http2Conn) takeContinuation(head *http2Head, p []byte, g *workset) (cost int, err error) {
	if len(p) == 0 {
		if err := h.charge(); err != nil {
			return 0, err
		}
	}
	return h.decode(p, head.endHeaders(), g)
}

// decode decodes a part of the block.
func (h *http2Conn) decode(p []byte, last bool, g *workset) (cost int, err error) {
	b := &h.block
	before := len(b.section.octets)
	if err := h.dec.decode(b.section, p, last); err != nil {
		h.dropBlock()
		return 0, err
	}
	cost = max(len(b.section.octets)-before, len(p))
	if !last {
		return cost, nil
	}
	done := *b
	h.block = http2Block{}
	switch {
	case done.s == nil:
		fieldSections.Put(done.section)
		if done.code == codeNone {
			return cost, nil
		}
		h.sayReset(done.id, done.code)
		h.remember(done.id, http2ClosedByUs)
		if done.code == codeRefusedStream && (!h.acked || h.leaving == http2Left) {
			return cost, nil // the peer could not know better
		}
		return cost, h.charge()
	case done.begins:
		return cost, h.begin(done.s, done.end, g)
	}
	return cost, h.endBody(done.s, done.section)
}

// dropBlock lets go of a block that is not decoded to its end.
func (h *http2Conn) dropBlock() {
	b := h.block
	h.block = http2Block{}
	if b.s != nil && b.begins {
		h.discardStream(b.s)
	}
}

// discardStream lets go of a stream that never was one of the connection's.
func (h *http2Conn) discardStream(s *http2Stream) { s.recycle() }

// begin begins the request whose head s has.
func (h *http2Conn) begin(s *http2Stream, end bool, g *workset) error {
	h.add(s)
	g.counts[countRequests]++
	h.requests = max(h.requests+1, h.requests)
	s.progress, s.since, s.askedAt = g.clock.now, g.clock.now, g.clock.now
	if h.lastRequest() {
		h.announce()
	}
	if end { // what the head says is for its turn
		s.wire |= http2Ended
		s.ended, s.bare, s.length = true, true, -1
		h.start(s)
		return nil
	}
	return h.beginBody(s, g)
}

// beginBody begins a request whose body is to come. Its turn makes the request of the
// head once more: while it waits for the body nothing of it but the section is kept.
func (h *http2Conn) beginBody(s *http2Stream, g *workset) error {
	x, spares := g.newHTTP2Exchange(), h.spares()
	head, section := &x.r.head, &spares.section
	octets := append(section.octets[:0], s.section.octets...) // those of s are not to grow
	*section = s.section
	section.octets = octets
	err := head.fillHTTP2(section, &h.srv.lim.head, requestOffer{connect: h.srv.http2.connect})
	if err == nil {
		err = h.srv.refusesBody(head)
	}
	length, expects := head.contentLength, head.expectContinue
	priority := section.priority
	if *section = (fieldSection{}); cap(octets) <= sectionBytesKept {
		section.octets = octets
	}
	spares.recycleExchange(x)
	if e, ok := err.(*http2Error); ok {
		return h.reset(s, e.code)
	}
	s.refusal, s.priority, s.length = err, priority, length
	if s.refusal != nil || length <= 0 || length > min(awaitBodyMax, h.srv.http2.streamWindow) || expects {
		h.start(s)
	} else {
		s.awaits = true
	}
	return nil
}
