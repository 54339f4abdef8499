package flare

import (
	"net/http"
	"net/netip"
)

// This file is layer 4 (roles): how a connection of HTTP/2 and its streams begin,
// and what becomes of a stream whose handler has returned, or has something to say.

// opensHTTP2 reports whether in, the first that came on a connection without TLS,
// is the preface of HTTP/2 or may become that. If it is, the connection speaks
// HTTP/2 from the next turn on, which finds the preface unread.
func (s *Server) opensHTTP2(c *Conn, in []byte) bool {
	if !s.http2.cleartext || c.tr.tlsState() != nil {
		return false
	}
	n := min(len(in), len(http2Preface))
	if s.http2.http1 && string(in[:n]) != http2Preface[:n] {
		return false
	}
	if n == len(http2Preface) || !s.http2.http1 {
		s.beginHTTP2(c)
		c.want = wantTurn
	}
	return true
}

// beginHTTP2 has c, whose owner the caller is, speak HTTP/2 from its next turn on.
func (s *Server) beginHTTP2(c *Conn) {
	h := &http2Conn{srv: s, c: c, peer: defaultHTTP2Settings}
	h.local = c.workset.http2Spares().localAddr((*connSession)(c).localAddr())
	h.dec.reset()
	h.enc.reset()
	h.sendWindow, h.recvWindow = windowDefault, int32(h.srv.http2.connWindow)
	h.budget.left = http2BudgetMax
	h.ages = ageEnd(c.workset.clock.now, s.MaxConnAge)
	if s.ConnState != nil {
		h.told = &http2Told{h: h}
	}
	s.http2Counts.open.Add(1)
	h.sayFirst()
	c.proto, c.many = h, true
	c.held = true // the next turn has something to say, also when nothing has come
}

// localAddr returns what has that address: most connections have come to the same.
func (all *http2Spares) localAddr(local netip.AddrPort) *netip.AddrPort {
	if all.local == nil || *all.local != local {
		all.local = &local
	}
	return all.local
}

// sayFirst queues what a server begins with (RFC 9113 §3.4).
func (h *http2Conn) sayFirst() {
	var room [8]http2Setting
	settings := h.srv.http2.settings(room[:0])
	var frames [2*http2HeadBytes + len(room)*settingBytes + windowUpdateBytes]byte
	b := appendSettings(frames[:0], settings...)
	if more := h.srv.http2.connWindow - windowDefault; more > 0 {
		b = appendWindowUpdate(b, 0, uint32(more))
	}
	h.control.append(b, nil)
}

// add makes s, new, one of the streams.
func (h *http2Conn) add(s *http2Stream) {
	h.table.add(s, &h.spares().entries)
	h.open++
	h.shareWindow()
	if h.open == 1 {
		h.lookAt = h.now() + h.srv.http2.lookEvery
		h.c.setState(stateStreams)
		h.tell(http.StateActive)
	}
}

// start has s take its turn.
func (h *http2Conn) start(s *http2Stream) {
	s.awaits, s.running = false, true
	h.running++
	h.c.loop.tasks.push(&s.strand)
}

// close ends a stream as far as the peer is concerned.
func (h *http2Conn) close(s *http2Stream, how http2ClosedHow) {
	if s.closed {
		return
	}
	s.closed = true
	h.table.remove(s, &h.spares().entries)
	h.remember(s.id, how)
	if s.list != nil {
		s.list.remove(s)
	}
	if h.frame.s == s {
		h.frame.s = nil
	}
	if h.block.s == s {
		h.block.s = nil
	}
	h.giveBack(s.owed)
	s.owed = 0
	if h.dead {
		return
	}
	if !s.running {
		h.forget(s)
	}
}

// abort closes a stream that ends before its time. Its handler, if it runs, is told
// so: cause ends its writes, and edges its context.
func (h *http2Conn) abort(s *http2Stream, how http2ClosedHow, edges uint32, cause error) {
	if s.running {
		s.mu.Lock()
		rare := s.makeOdd()
		rare.gone = cause
		if !s.ended {
			s.ended, rare.inErr = true, cause
			if cause == errPeerLeft {
				rare.inErr = errBodyCut()
			}
		}
		s.in.release(h.c.limits.buffered)
		s.dropOut()
		s.wakeThrough()
		s.mu.Unlock()
		s.take(edges | ownRead | ownWrite)
	}
	h.close(s, how)
}

// reset resets s, for a fault of the peer's. It is charged for that: it could make
// streams without end, each of which it makes us reset.
func (h *http2Conn) reset(s *http2Stream, code http2Code) error {
	h.resetFor(s, code)
	return h.charge()
}

// resetFor resets s.
func (h *http2Conn) resetFor(s *http2Stream, code http2Code) {
	h.sayReset(s.id, code)
	h.abort(s, http2ClosedByUs, ownHup, errPeerLeft)
}

// forget lets go of a stream that is closed and does not run.
func (h *http2Conn) forget(s *http2Stream) {
	h.unwish(s)
	buffered := h.c.limits.buffered
	s.in.release(buffered)
	s.out.release(buffered)
	if s.held > 0 {
		buffered.Add(-int64(s.held))
	}
	s.recycle()
	if h.open--; h.open == 0 && !h.dead && h.c.state == stateStreams {
		h.c.setState(stateIdle)
		h.c.since = h.now()
		h.tell(http.StateIdle)
	}
}

// settled takes back a stream whose turn is over.
func (h *http2Conn) settled(s *http2Stream) {
	if h.dead {
		s.closed = true
		h.forget(s)
		h.leave()
		return
	}
	h.running--
	if s.closed {
		h.forget(s)
		h.c.flushLater() // it may have been the last
		return
	}
	if s.malformed != codeNone {
		if err := h.reset(s, s.malformed); err != nil {
			h.fault(err)
		}
		return
	}
	if !s.complete && s.cut == codeNone {
		s.cut = codeInternal
	}
	h.budget.earn(1)
	h.collect(s)
	s.progress = h.now()
	s.since = s.progress
	h.learn(s)
	if h.encodesNow(s) {
		h.encode(s)
	} else {
		h.enqueue(s)
	}
}

// learn takes the priority of s from its head, which its turn has read.
func (h *http2Conn) learn(s *http2Stream) {
	if !s.urged {
		h.prioritize(s, s.section.priority)
	}
}

// wished looks at streams that are lent and have something to say.
func (h *http2Conn) wished(*Conn) {
	h.wishMu.Lock()
	h.asked = false
	var room [16]*http2Stream
	all := room[:0]
	for h.wishes != nil {
		s := h.wishes
		h.wishes, s.nextWish, s.wished = s.nextWish, nil, false
		all = append(all, s)
	}
	h.wishMu.Unlock()
	for _, s := range all {
		if !s.closed {
			h.collect(s)
			h.learn(s)
			h.enqueue(s)
		}
	}
}

// unwish takes s, whose turn is over, out of the wishes: it may be another
// connection's soon. Nobody but the runner changes s.wished by now.
func (h *http2Conn) unwish(s *http2Stream) {
	if !s.wished {
		return
	}
	h.wishMu.Lock()
	defer h.wishMu.Unlock()
	at := &h.wishes
	for *at != s {
		at = &(*at).nextWish
	}
	*at, s.nextWish, s.wished = s.nextWish, nil, false
}

// Drained goes on with what had to wait for the peer.
func (h *http2Conn) Drained(c *Conn) { c.flushLater() }
