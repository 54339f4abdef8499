package flare

import (
	"slices"
	"sort"
)

// This file is layer 3 (engine): messages that wait to be sent, with the bound on
// them and what becomes of one that finds no room. It knows no socket and no
// lock: who has it guards it. conn_outbox.go has one, and so have connections of
// blocking goroutines.

// A QueuePolicy says what becomes of a write when a connection's queue is full.
type QueuePolicy uint8

const (
	// QueueBlock makes the writer wait for room.
	QueueBlock QueuePolicy = iota

	// QueueDropConnection ends a connection that does not keep up.
	QueueDropConnection

	// QueueDropOldest drops the messages that have waited longest.
	QueueDropOldest
)

// An outMessages is a queue of messages.
type outMessages struct {
	bound  int // bytes that may wait
	policy QueuePolicy

	out      sendQueue
	messages []queued      // those in out that may be dropped, and some that have gone
	latest   []byte        // leaves when out is empty; a later one replaces it
	room     chan struct{} // closed when there is room; made by who waits for it
	roomAt   int           // waiting bytes at which there is
	err      error         // nothing can be sent any more
	sealed   bool          // the last message was written
}

// A queued message is where it stands in the queue: offsets of its first byte and
// behind its last.
type queued struct{ start, end int64 }

// putKind says what a write is.
type putKind uint8

const (
	putMessage  putKind = iota // bounded, and dropped where the policy says so
	putAdmitted                // the same, after reserve
	putControl                 // of bounded size and number
	putLatest                  // replaced by the next of its kind while it waits
	putLast                    // nothing comes after it
)

// fits reports whether a message of n bytes has room. One that is alone always
// has.
func (q *outMessages) fits(n int) bool {
	waits := q.out.len()
	return waits == 0 || waits+n <= q.bound
}

// refused is the error of a write that must not be taken, nil if it may.
func (q *outMessages) refused() error {
	if q.err == nil && q.sealed {
		return ErrClosed
	}
	return q.err
}

// begun is how many of the messages have gone in part at least. promised bytes of
// what waits count as gone.
func (q *outMessages) begun(promised int) int {
	gone := q.out.freed + int64(promised)
	return sort.Search(len(q.messages), func(i int) bool { return q.messages[i].start >= gone })
}

// dropOldest drops messages that nothing of was sent, oldest first, until n
// more bytes fit. promised bytes of what waits cannot be taken back.
func (q *outMessages) dropOldest(n, promised int) {
	i := q.begun(promised)
	for i < len(q.messages) && !q.fits(n) {
		m := q.messages[i]
		q.out.cut(m.start, m.end)
		q.messages = slices.Delete(q.messages, i, i+1)
		for j := i; j < len(q.messages); j++ {
			q.messages[j].start -= m.end - m.start
			q.messages[j].end -= m.end - m.start
		}
	}
}

// enqueue keeps what was not sent.
func (q *outMessages) enqueue(head, p []byte, kind putKind) {
	start := q.out.tail()
	q.out.append(head, p)
	if kind > putAdmitted || q.policy != QueueDropOldest {
		return
	}
	if gone := q.begun(0); gone > len(q.messages)/2 {
		q.messages = slices.Delete(q.messages, 0, gone)
	}
	q.messages = append(q.messages, queued{start, q.out.tail()})
}

// takeLatest queues the latest, behind everything else.
func (q *outMessages) takeLatest() {
	if len(q.latest) > 0 && !q.sealed {
		q.enqueue(q.latest, nil, putControl)
	}
	q.latest = q.latest[:0]
}

// roomFor is how much may wait when a message of n bytes is tried again.
func (q *outMessages) roomFor(n int) int { return min(max(q.bound-n, 0), q.bound/2) }

// awaited returns what is closed when no more than enough waits.
func (q *outMessages) awaited(enough int) chan struct{} {
	if q.room == nil {
		q.room, q.roomAt = make(chan struct{}), enough
	}
	q.roomAt = min(q.roomAt, enough)
	return q.room
}

// wake lets writers try again when there is room, or will be none any more.
func (q *outMessages) wake() {
	if q.room != nil && (q.out.len() <= q.roomAt || q.refused() != nil) {
		close(q.room)
		q.room = nil
	}
}

// seal makes every later write fail. Whoever waits to write has waited in vain.
func (q *outMessages) seal() {
	q.sealed = true
	q.wake()
}

// end drops everything, makes later writes fail and wakes who waits.
func (q *outMessages) end(err error) {
	q.err = err
	q.latest = nil
	q.out.drop()
	q.wake()
}
