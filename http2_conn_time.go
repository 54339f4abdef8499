package flare

import (
	"net/http"
	"time"
)

// This file is layer 4 (roles): what takes too long on a connection of HTTP/2. It
// has one timer, which looks after all streams that wait for the peer; those that
// are lent wait for themselves.

const (
	rulePartialTime = "frame or field block that takes too long (RFC 9113 §10.5)"
	rulePingTime    = "PING that is not answered (RFC 9113 §6.7)"
)

// deadline is when the connection is to be looked at.
func (h *http2Conn) deadline(c *Conn) time.Duration {
	at := c.outDue()
	if h.partial != 0 {
		at = soonest(at, after(h.partial, c.limits.head))
	}
	if h.leaving == http2Stays {
		at = soonest(at, h.ages)
	}
	if h.open > 0 || h.leaving == http2Announced {
		return soonest(at, h.lookAt)
	}
	return soonest(at, after(c.since, c.limits.idle))
}

// expired looks at what takes too long.
func (h *http2Conn) expired(c *Conn, g *workset) verdict {
	now := g.clock.now
	switch {
	case c.outExpired(g):
		return verdictClose
	case c.ending != endNot:
		return c.endSession(g)
	case h.partial != 0 && c.limits.head > 0 && now >= h.partial+c.limits.head:
		g.counts[countTimeoutHead]++
		h.fail(&http2Error{code: codeEnhanceYourCalm, rule: rulePartialTime})
	case h.ages != 0 && now >= h.ages && h.leaving == http2Stays:
		h.announce()
	case h.open == 0 && h.leaving == http2Stays:
		return h.expiredIdle(c, g)
	case now >= h.lookAt:
		h.lookAt = now + h.srv.http2.lookEvery
		if h.leaving == http2Announced && now >= h.leftAt+http2LeaveTime {
			h.sayLast()
		}
		if grace := h.srv.http2.ageGrace; grace > 0 && h.ages != 0 && now >= h.ages+grace {
			c.end(endReset, ErrTimeout)
			break
		}
		h.lookAlive(c, g, h.lookAll(g))
	}
	if c.broken() {
		return verdictClose
	}
	return verdictPartial
}

// expiredIdle ends a connection without streams, after a last look: one may have
// come that no turn has seen yet.
func (h *http2Conn) expiredIdle(c *Conn, g *workset) verdict {
	c.edges |= ownRead
	if v := c.stepSession(g); v != verdictPartial {
		return v
	}
	if limit := c.limits.idle; h.open > 0 || h.failure != nil || limit <= 0 || g.clock.now < c.since+limit {
		return verdictPartial
	}
	g.counts[countTimeoutIdle]++
	h.fail(&http2Error{code: codeNone})
	return verdictPartial
}

// An http2Taking follows what the peer takes of a connection's output, as far as that
// can be seen. What is said in two rounds, of looks, is behind it at most.
type http2Taking struct {
	sent    int64    // since the last look
	untaken int64    // as of then
	ahead   int64    // of the round before, and what was not taken then
	opened  [2]int32 // octets by which the connection's window was opened in the last two rounds
}

// look returns how much the peer has taken since the look before.
func (t *http2Taking) look(h *http2Conn) (took int64) {
	left := int64(0)
	if t.sent+t.untaken > 0 {
		left = untakenOf(h.c)
	}
	took = max(t.untaken+t.sent-left, 0)
	t.sent, t.untaken = 0, left
	said := left + int64(h.control.len())
	if t.ahead -= took; t.ahead <= 0 || said == 0 {
		h.round++
		t.ahead, t.opened[h.round%2] = said, 0
	}
	return took
}

// knows reports whether the peer has taken all of a round.
func (h *http2Conn) knows(round uint16) bool { return h.round-round >= 2 }

// lookAll looks at the streams that wait for the peer, and returns how much that has
// taken. While it takes enough, or has to take what waits for it, it is not to blame
// for the silence of those whose turn has not come, nor of those of which it has yet to
// take what was said last: the octets that have shut a window, or that another is open.
// Nor is it if it may not send.
func (h *http2Conn) lookAll(g *workset) (took int64) {
	took = h.taking.look(h)
	enough := max(h.c.limits.writeRate*int64(h.srv.http2.lookEvery)/int64(time.Second), 1)
	takes := took >= enough || h.c.out != nil
	shut := h.recvWindow <= 0 || takes && int64(h.recvWindow) <= int64(h.taking.opened[0])+int64(h.taking.opened[1])
	for s := range h.table.all() {
		behind := takes && !h.knows(s.said)
		turn := takes && (s.list == &h.heads || s.headSent && s.sendWindow > 0)
		h.excuse(s, behind || shut, behind || turn, g.clock.now)
		h.look(s, g)
	}
	return took
}

// excuse takes the time since the last look off what s has waited for the peer, to read
// or to write.
func (h *http2Conn) excuse(s *http2Stream, reads, writes bool, now time.Duration) {
	switch {
	case !reads && !writes:
	case s.running:
		s.mu.Lock()
		if reads {
			s.excused[0] = momentOf(now)
		}
		if writes {
			s.excused[1] = momentOf(now)
		}
		s.mu.Unlock()
	case s.awaits && reads, !s.awaits && writes:
		s.progress = now
		s.since = min(s.since+h.srv.http2.lookEvery, now)
	}
}

// look ends a stream whose peer is too slow with the body that its handler waits
// for, or takes nothing of its response.
func (h *http2Conn) look(s *http2Stream, g *workset) {
	limits, waited := h.c.limits, g.clock.now-s.progress
	switch {
	case s.awaits:
		if limits.body > 0 && waited >= limits.body || slow(g.clock.now-s.since, s.received, limits.bodyRate) {
			g.counts[countTimeoutBody]++
			s.refusal = &StatusError{Code: http.StatusRequestTimeout, Err: ErrTimeout}
			h.start(s)
		}
	case s.running || s.list == &h.heads || s.list != nil && (h.c.out != nil || h.sendWindow > 0): // the handler's wait, or ours
	default:
		moved := s.sent
		if limits.write > 0 && waited >= limits.write || slow(g.clock.now-s.since, moved, limits.writeRate) {
			g.counts[countTimeoutWrite]++
			h.resetFor(s, codeCancel)
		}
	}
}

// slow reports whether so many octets in that time are fewer than the rate.
func slow(took time.Duration, moved, rate int64) bool {
	limit := rateLimit(rate, moved)
	return limit > 0 && took >= limit
}

// untakenOf is how much of its output the peer has not taken, as far as can be seen.
func untakenOf(c *Conn) int64 {
	n := c.tr.unacked()
	if c.out != nil {
		n += c.out.len()
	}
	return int64(n)
}

// lookAlive asks a silent peer for a sign of life, and ends the connection of one
// that gives none. The PING stands behind what the peer has yet to take, so that
// taking it is one.
func (h *http2Conn) lookAlive(c *Conn, g *workset, took int64) {
	now := g.clock.now
	if h.pinged != 0 && took > 0 {
		h.pinged = now
	}
	switch {
	case h.pinged != 0 && now >= h.pinged+h.srv.http2.pingTimeout:
		h.failure = &http2Error{code: codeNone, rule: rulePingTime}
		c.end(endReset, ErrTimeout)
	case h.pinged == 0 && h.open > 0 && h.srv.http2.pingAfter > 0 && now >= h.heard+h.srv.http2.pingAfter:
		h.pinged = now
		var room [http2HeadBytes + pingBytes]byte
		h.say(appendHTTP2Ping(room[:0], http2PingAlive, false))
	}
}
