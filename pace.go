package flare

import (
	"math"
	"math/rand/v2"
	"time"
)

// This file is layer 3 (engine): limits of time and rate on a peer. A rate is
// asked for only over time in which flare has waited for the peer, and only
// after a grace: a pause is not yet an attack, a trickle is. What was quick
// gives a lead, up to as long as the peer may be silent, or whoever took a
// megabyte at once could trickle for an hour.

// rateGrace is how long a peer may be as slow as it likes.
const rateGrace = 5 * time.Second

// A pace follows the waits of one handler in one direction.
type pace struct {
	waited time.Duration // and what a lead was cut by
	moved  int64         // bytes
}

// lead is for how much longer a peer that has moved n bytes may be waited for,
// within a limit of silence and rate bytes a second, which is not 0.
func (p *pace) lead(n int64, limit time.Duration, rate int64) time.Duration {
	lead := rateLimit(rate, n) - p.waited
	if most := max(limit, rateGrace); limit > 0 && lead > most {
		p.waited += lead - most
		lead = most
	}
	return lead
}

// rateSecondsMax is as good as for ever, and leaves room for sums.
const rateSecondsMax = 1e9

// rateLimit is how long moved bytes may take at rate bytes a second; 0 for no
// limit.
func rateLimit(rate, moved int64) time.Duration {
	if rate <= 0 {
		return 0
	}
	return rateGrace + time.Duration(min(float64(moved)/float64(rate), rateSecondsMax)*float64(time.Second))
}

// limitOr returns what a limit's field means: 0 is the default.
func limitOr[T int | int64 | time.Duration](field, byDefault T) T {
	if field == 0 {
		return byDefault
	}
	return field
}

// after returns when limit has passed since from; 0, for never, without one.
func after(from, limit time.Duration) time.Duration {
	if limit <= 0 {
		return 0
	}
	return from + min(limit, math.MaxInt64-from)
}

// soonest returns the earlier of two moments of which 0 is never.
func soonest(a, b time.Duration) time.Duration {
	if a == 0 || b != 0 && b < a {
		return b
	}
	return a
}

// await is strand.await for input within limit without progress, rate bytes a
// second, and a deadline; each of them may be 0 for none. A deadline that is
// lifted lifts the others.
func (p *pace) await(s *strand, bit uint32, limit time.Duration, rate int64, deadline time.Duration) error {
	now := time.Since(origin)
	if deadline == lifted {
		limit, rate, deadline = 0, 0, 0
	}
	until := soonest(after(now, limit), deadline)
	if rate > 0 {
		until = soonest(until, now+p.lead(p.moved, limit, rate))
	}
	wait := time.Duration(0)
	if until != 0 {
		if wait = until - now; wait <= 0 {
			return ErrTimeout
		}
	}
	err := s.await(bit, wait)
	p.waited += time.Since(origin) - now
	return err
}

// A roomPace follows the waits for room to write. What the socket takes says
// little about the peer: it holds up to megabytes, and tells of room only when
// a good part of that is gone. So the peer is judged by what it has taken from
// the socket.
type roomPace struct {
	pace                   // moved: into the socket
	base     int64         // negative: what the socket held before
	taken    int64         // of moved, by the peer as last seen; from base on
	since    time.Duration // when the wait began that goes on
	progress time.Duration // when the peer was last seen to have taken something
	nextLook time.Duration
}

// roomLooks is how often within the limit of silence is looked what the peer
// has taken.
const roomLooks = 16

// unsentBytesMax is what a socket takes beyond what is under way to its peer,
// from its first long response or wait on; or who does not read has megabytes of
// the kernel's memory. The others are spared the system call.
const unsentBytesMax = 128 << 10

// A socket whose peer has taken much of a response takes more: with a small bound
// a quick peer costs a wait for every 64 KiB. Who stops then keeps no more of the
// kernel's memory than Write may queue.
const (
	unsentTrustBytes   = 2 << 20
	unsentTrustedBytes = 1 << 20
)

// reset readies p for another response.
func (p *roomPace) reset() { *p = roomPace{} }

// A roomLimit is what is asked of a peer that has to make room; 0 for nothing.
type roomLimit struct {
	silence time.Duration // without progress
	rate    int64         // bytes a second
}

// roomLimit returns that of c's own output.
func (c *Conn) roomLimit() roomLimit { return roomLimit{c.limits.write, c.limits.writeRate} }

// begin begins a wait. unacked is what the socket holds: with the plain driver
// about, for a piece that is being written may be in the socket already. What was
// seen to be taken stays so, or the lead that it gave would be missed.
func (p *roomPace) begin(unacked int, now time.Duration, limit roomLimit) {
	if taken := p.moved - int64(unacked); p.since == 0 || taken > p.taken {
		p.taken = taken
	}
	p.base = min(p.base, p.taken)
	p.since, p.progress = now, now
	p.settle(now, limit)
}

// look goes on with a wait after a look at what the socket holds.
func (p *roomPace) look(unacked int, now time.Duration, limit roomLimit) {
	if taken := p.moved - int64(unacked); taken > p.taken {
		p.taken, p.progress = taken, now
	}
	p.settle(now, limit)
}

// settle counts the wait so far and says when to look again.
func (p *roomPace) settle(now time.Duration, limit roomLimit) {
	p.waited += now - p.since
	p.since = now
	p.nextLook = after(now, limit.silence/roomLooks)
}

// due is when the peer will have been too slow, 0 for never.
func (p *roomPace) due(limit roomLimit) time.Duration {
	due := after(p.progress, limit.silence)
	if limit.rate > 0 {
		due = soonest(due, p.since+p.lead(p.taken-p.base, limit.silence, limit.rate))
	}
	return due
}

// alarm is when the wait has to be looked at, 0 for never.
func (p *roomPace) alarm(limit roomLimit) time.Duration { return soonest(p.due(limit), p.nextLook) }

// beginRoom and lookRoom are begin and look for output of c itself.
func (c *Conn) beginRoom(p *roomPace, now time.Duration) {
	c.tr.boundUnsent(unsentBytesMax)
	p.begin(c.tr.unacked(), now, c.roomLimit())
}

func (c *Conn) lookRoom(p *roomPace, now time.Duration) { p.look(c.tr.unacked(), now, c.roomLimit()) }

// awaitRoom is Conn.await for room to write, within the limits of c and a
// deadline, which may be 0 for none.
func (p *roomPace) awaitRoom(c *Conn, deadline time.Duration) error {
	now := time.Since(origin)
	c.beginRoom(p, now)
	for {
		due := soonest(p.due(c.roomLimit()), deadline)
		if deadline == lifted {
			due = 0
		}
		if due != 0 && now >= due {
			return ErrTimeout
		}
		wait := time.Duration(0)
		if until := soonest(due, p.nextLook); until != 0 {
			wait = max(until-now, tick)
		}
		err := c.await(ownWrite, wait)
		now = time.Since(origin)
		if err != ErrTimeout {
			p.waited += now - p.since
			return err
		}
		c.lookRoom(p, now)
	}
}

// shortMomentMax is how far ahead a shortMoment may lie.
const shortMomentMax = 20 * 24 * time.Hour

// A shortMoment is a moment in half the room, since each connection that rests has
// one: milliseconds modulo 2^32, of which 0 is never.
type shortMoment uint32

// momentOf returns the one of a moment that is at most shortMomentMax ahead, or 0.
func momentOf(at time.Duration) shortMoment {
	if at == 0 {
		return 0
	}
	return max(shortMoment(at/time.Millisecond), 1)
}

// reached reports whether m, which is not 0, is not to come any more.
func (m shortMoment) reached(now time.Duration) bool {
	return int32(shortMoment(now/time.Millisecond)-m) >= 0
}

// ageEnd returns when what begins now and may get that old is to end, give or take a
// tenth: what began at one moment does not end at one moment. 0 is never.
func ageEnd(now, age time.Duration) time.Duration {
	if age <= 0 {
		return 0
	}
	age = min(age, shortMomentMax*9/10)
	return now + age - age/10 + rand.N(age/5+1)
}
