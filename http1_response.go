package flare

import (
	"errors"
	"os"
)

// This file is layer 4 (roles): a response as HTTP/1.1 has it: what is said of the
// connection, and how the body is framed (RFC 9112 §6, §7, §9). What leaves is
// collected in the output of the turn.

// sendFileBytes is what the kernel is asked to send at once: a write deadline
// is looked at in between.
const sendFileBytes = 1 << 20

func (s *http1Stream) sendHead(h outgoingHead) error {
	c, g, head := s.c, s.c.workset, &s.x.r.head
	if head.expectContinue {
		s.setAnswered(g)
	}
	s.chunked = h.open && head.minor > 0
	s.untilClose = h.open && head.minor == 0
	closes := h.last || s.untilClose || s.mustClose()
	if closes && h.own.keepAlive {
		h.fields.dropKeepAlive()
	}
	c.called(g) // the handler may have waited, and Date is the time of the answer
	out := appendStatusLine(g.out, h.status)
	if !h.own.date {
		out = append(out, g.clock.date.line(g.clock.unix)...)
	}
	out = h.fields.appendTo(out)
	switch {
	case h.length >= 0:
		out = appendContentLength(out, h.length)
	case s.chunked:
		out = append(out, fieldChunked...)
	}
	if closes {
		c.end(endFlushed, nil)
	}
	out = appendConnection(out, h.own, closes, head.minor)
	g.out = append(out, '\r', '\n')
	return nil
}

// mustClose reports whether an answer that begins now is the connection's last.
func (s *http1Stream) mustClose() bool {
	head := &s.x.r.head
	return s.c.ending != endNot || s.h.last() || !head.keepAlive() ||
		head.form == authorityForm || // what follows a CONNECT is for a tunnel that there is not
		s.x.r.body.failed.Load() || s.lingers.Load()
}

// appendConnection appends what the response says of its connection, unless the
// handler has said so.
func appendConnection(out []byte, own ownFields, closes bool, minor uint8) []byte {
	switch {
	case closes && !own.close:
		out = append(out, fieldClose...)
	case !closes && minor == 0 && !own.keepAlive:
		out = append(out, fieldKeepAlive...)
	}
	return out
}

// sendInterim sends nothing to a client of HTTP/1.0 (RFC 9110 §15.2).
func (s *http1Stream) sendInterim(status int, fields *headerFields) error {
	g, head := s.c.workset, &s.x.r.head
	if head.minor == 0 {
		return nil
	}
	if head.expectContinue {
		s.lockInterim(g)
		defer s.interim.Unlock()
		if status == 100 && s.kind != bodyNone {
			s.answered = true // the body needs none of its own
		}
	}
	g.out = append(fields.appendTo(appendStatusLine(g.out, status)), '\r', '\n')
	return s.c.sendWait(nil)
}

func (s *http1Stream) sendBody(p []byte) error {
	g := s.c.workset
	if s.chunked {
		g.out = appendChunkSize(g.out, len(p))
	}
	if len(g.out)+len(p) > streamBytes {
		if err := s.c.sendWait(p); err != nil {
			return err
		}
	} else {
		g.out = append(g.out, p...)
	}
	if s.chunked {
		g.out = append(g.out, '\r', '\n')
	}
	return nil
}

// sendFile moves the file's octets inside the kernel.
func (s *http1Stream) sendFile(file *os.File, start, n int64) (sent int64, err error) {
	c, g := s.c, s.c.workset
	if s.chunked {
		return 0, errors.ErrUnsupported
	}
	if err := c.sendWait(nil); err != nil {
		return 0, err
	}
	g.detach() // a disk can block
	offset := start
	for sent < n && err == nil {
		if g.broken(breakWrites) {
			err = c.breakOff()
			break
		}
		var k int
		k, err = c.tr.sendFile(file, &offset, int(min(n-sent, sendFileBytes)))
		switch {
		case err == errWouldBlock:
			err = c.roomWait()
		case err == errors.ErrUnsupported:
		case err != nil:
			c.end(endReset, err)
		case k == 0:
			n = sent // the file is shorter than it was
		}
		sent += int64(k)
		g.counts[countBytesOut] += uint64(k)
		g.writing.moved += int64(k)
	}
	return sent, err
}

// hasTrailer: HTTP/1.0 has no chunks.
func (s *http1Stream) hasTrailer() bool { return s.x.r.head.minor > 0 }

func (s *http1Stream) sendEnd(p []byte, trailer *headerFields) error {
	g := s.c.workset
	if s.chunked {
		if len(p) > 0 {
			if err := s.sendBody(p); err != nil {
				return err
			}
		}
		g.out = append(g.out, lastChunk...)
		if trailer != nil {
			g.out = trailer.appendTo(g.out)
		}
		g.out = append(g.out, '\r', '\n')
		return nil
	}
	if len(g.out)+len(p) > flushBytes {
		return s.c.sendWait(p)
	}
	g.out = append(g.out, p...)
	return nil
}

func (s *http1Stream) flush() error { return s.c.sendWait(nil) }

func (s *http1Stream) sendSwitch(hs *handshake, fields *headerFields) {
	g := s.c.workset
	g.out = hs.appendAnswer(g.out, fields)
}
