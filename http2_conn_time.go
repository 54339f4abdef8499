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
		h.lookAt = now + h.config.lookEvery
		if h.leaving == http2Announced && now >= h.leftAt+http2LeaveTime {
			h.sayLast()
		}
		if grace := h.config.ageGrace; grace > 0 && h.ages != 0 && now >= h.ages+grace {
			c.end(endReset, ErrTimeout)
			break
		}
		moved := h.moved
		h.lookAll(g)
		h.lookAlive(c, g, moved)
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

// lookAll looks at the streams that wait for the peer. While that takes enough of
// others, or has to take what the connection has sent already, those with an open
// window only wait for their turn, which is not its doing.
func (h *http2Conn) lookAll(g *workset) {
	enough := max(h.c.limits.writeRate*int64(h.config.lookEvery)/int64(time.Second), 1)
	takes := h.moved >= enough || h.c.out != nil
	h.moved = 0
	for s := range h.table.all() {
		if takes && (s.list == &h.heads || s.headSent && s.sendWindow > 0) {
			h.queued(s, g.clock.now)
		}
		h.look(s, g)
	}
}

// queued takes the time since the last look off what s has waited for the peer.
func (h *http2Conn) queued(s *http2Stream, now time.Duration) {
	if s.running {
		s.mu.Lock()
		s.queuedAt = now
		s.mu.Unlock()
	}
	s.progress = now
	s.since = min(s.since+h.config.lookEvery, now)
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
// taking it is one. moved octets of bodies were sent since the last look.
func (h *http2Conn) lookAlive(c *Conn, g *workset, moved int64) {
	now := g.clock.now
	if h.pinged != 0 {
		before := h.untaken
		if h.untaken = untakenOf(c); before+moved > h.untaken {
			h.pinged = now
		}
	}
	switch {
	case h.pinged != 0 && now >= h.pinged+h.config.pingTimeout:
		h.failure = &http2Error{code: codeNone, rule: rulePingTime}
		c.end(endReset, ErrTimeout)
	case h.pinged == 0 && h.open > 0 && h.config.pingAfter > 0 && now >= h.heard+h.config.pingAfter:
		h.pinged, h.untaken = now, untakenOf(c)
		var room [http2HeadBytes + pingBytes]byte
		h.say(appendHTTP2Ping(room[:0], http2PingAlive, false))
	}
}
