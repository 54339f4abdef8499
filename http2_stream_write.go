package flare

import (
	"time"
)

// This file is layer 4 (roles): a response as a stream of HTTP/2 has it. What a
// handler writes waits in the stream's queue, in the order of the wire and without
// any framing: the connection takes it from there.

const (
	// http2QueueBytes may wait for the peer before the handler does.
	http2QueueBytes = 64 << 10

	// http2HeadsMax interim responses may wait for the peer.
	http2HeadsMax = 8
)

func (s *http2Stream) sendHead(h outgoingHead) error {
	s.x.kept = http2Outgoing{fields: h.fields, status: h.status, length: h.length, dated: h.own.date}
	s.keeps = true
	if s.x.r.body.there {
		s.began.Store(true)
		if s.x.r.head.contentLength < 0 {
			s.wakeOwner(ownRead) // its limits are others from here on
		}
	}
	return nil
}

// publish gives the final head to the connection, before the handler's end.
func (s *http2Stream) publish() {
	if !s.keeps {
		return
	}
	s.keeps = false
	s.x.kept.fields = s.x.kept.fields.clone() // the handler may go on with it
	s.mu.Lock()
	s.addHead(s.x.kept)
	s.final = true
	s.mu.Unlock()
}

// addHead queues a head. s.mu is held.
func (s *http2Stream) addHead(head http2Outgoing) {
	rare := s.makeOdd()
	rare.heads = append(rare.heads, head)
}

// sendInterim sends an interim response at once. A 100 of the handler's own is the
// one that the client waits for.
func (s *http2Stream) sendInterim(status int, fields *headerFields) error {
	if status == 100 {
		s.expect.Store(false)
	}
	if err := s.awaitRoom(); err != nil {
		return err
	}
	s.mu.Lock()
	s.addHead(http2Outgoing{fields: fields.clone(), status: status, length: -1, dated: true})
	s.mu.Unlock()
	return s.push()
}

func (s *http2Stream) sendBody(p []byte) error {
	for len(p) > 0 {
		if err := s.awaitRoom(); err != nil {
			return err
		}
		s.mu.Lock()
		before := s.out.len()
		n := min(len(p), http2QueueBytes-before)
		s.out.append(p[:n], nil)
		if before+n >= streamBytes {
			s.out.count(s.conn.limits.buffered)
		}
		wish := before < streamBytes && before+n >= streamBytes && s.own.Load()&ownLent != 0
		s.mu.Unlock()
		if p = p[n:]; wish || len(p) > 0 {
			s.publish()
			s.wish()
		}
	}
	return nil
}

func (s *http2Stream) hasTrailer() bool { return true }

func (s *http2Stream) sendEnd(p []byte, trailer *headerFields) error {
	s.x.tail, s.x.behind, s.complete = p, trailer, true
	return nil
}

func (s *http2Stream) flush() error {
	if err := s.broken(); err != nil {
		return err
	}
	s.publish()
	return s.push()
}

// push sees to it that what waits leaves at once, however long the handler takes.
func (s *http2Stream) push() error {
	s.workset.detach()
	s.wish()
	return nil
}

// cutOff ends the response. What was written before is sent, unless how says that
// it does not have to be.
func (s *http2Stream) cutOff(how ending) {
	s.cut = codeInternal
	if how >= endReset {
		s.mu.Lock()
		s.dropOut()
		s.mu.Unlock()
		s.x.tail = nil
	}
}

// dropOut lets go of what waits to be sent. s.mu is held.
func (s *http2Stream) dropOut() {
	s.taken += int64(s.out.len())
	s.out.release(s.conn.limits.buffered)
}

func (s *http2Stream) broken() error {
	if s.cut != codeNone {
		return ErrClosed
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.odd().gone
}

// awaitRoom waits until there is room for octets and for a head.
func (s *http2Stream) awaitRoom() error {
	g := s.workset
	for {
		s.mu.Lock()
		err, before := s.odd().gone, s.taken
		room := err != nil || s.out.len() < http2QueueBytes && len(s.odd().heads) < http2HeadsMax
		s.wantsRoom = !room
		s.mu.Unlock()
		if room {
			return err
		}
		if g.broken(breakWrites) {
			return s.failWrite(errRequestDone)
		}
		g.detach()
		s.publish()
		s.wish()
		held := int64(g.held)
		s.conn.limits.buffered.Add(held)
		err = s.awaitTaken(g, before)
		s.conn.limits.buffered.Add(-held)
		if err != nil {
			return s.failWrite(err)
		}
	}
}

// awaitTaken waits until the peer has taken something of what waits, within the
// limits of time and rate.
func (s *http2Stream) awaitTaken(g *workset, before int64) error {
	limits := s.conn.limits
	s.conn.loop.lock(&g.roomMu)
	defer g.roomMu.Unlock()
	for {
		err := s.x.writing.await(&s.strand, ownWrite, limits.write, limits.writeRate, g.writeBy.at())
		s.mu.Lock()
		moved := s.taken - before
		s.mu.Unlock()
		s.x.writing.moved += moved
		if err != ErrTimeout {
			return err
		}
		switch {
		case s.isExcused(1, limits.write):
			s.x.writing = pace{}
		case moved == 0:
			return err
		}
		before += moved // it takes little by little
		if g.writeBy.passed() {
			return ErrTimeout
		}
	}
}

// isExcused reports whether a wait of that limit, to read (0) or to write (1), was not
// the peer's doing.
func (s *http2Stream) isExcused(direction int, limit time.Duration) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.excusedIn(direction, limit)
}

// excusedIn is isExcused for who holds s.mu.
func (s *http2Stream) excusedIn(direction int, limit time.Duration) bool {
	at := s.excused[direction]
	waited := time.Duration(momentOf(time.Since(origin))-at) * time.Millisecond
	return at != 0 && waited < max(limit, 2*s.h.srv.http2.lookEvery)
}

// failWrite ends the response for a write that has failed: a part of it may have
// left.
func (s *http2Stream) failWrite(err error) error {
	s.mu.Lock()
	gone := s.odd().gone
	s.mu.Unlock()
	if gone != nil {
		return gone
	}
	if err == ErrTimeout {
		s.workset.counts[countTimeoutWrite]++
	}
	s.cutOff(endReset)
	s.cut = codeCancel
	return err
}

// wish asks the connection to look at what s has to say beside its end. Only its
// owner calls it, and while the turn still has the loop nothing more is needed
// than that.
func (s *http2Stream) wish() {
	h := s.h
	h.wishMu.Lock()
	first := !h.asked
	h.asked = true
	if !s.wished {
		s.wished, s.nextWish, h.wishes = true, h.wishes, s
	}
	h.wishMu.Unlock()
	if first {
		h.c.loop.wish(h.c)
	}
}
