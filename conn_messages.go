package flare

// This file is layer 3 (engine): bytes that wait to be sent, with the bound on
// them and what becomes of a message that finds no room. It knows no socket and
// no lock: who has it guards it. conn_outbox.go has one, and so have
// connections of blocking goroutines.

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

// An outQueue is output that waits.
type outQueue struct {
	bound  int // bytes that may wait
	policy QueuePolicy

	queue    *buffer       // queue.b[sent:] waits
	sent     int           // bytes of queue that are gone
	messages []queued      // those in queue that may be dropped
	latest   []byte        // leaves when the queue is empty; a later one replaces it
	room     chan struct{} // closed when there is room; made by who waits for it
	roomAt   int           // waiting bytes at which there is
	err      error         // nothing can be sent any more
	sealed   bool          // the last message was written
}

// A queued message is where it stands in the queue.
type queued struct{ start, end int }

// putKind says what a write is.
type putKind uint8

const (
	putMessage  putKind = iota // bounded, and dropped where the policy says so
	putAdmitted                // the same, after reserve
	putControl                 // of bounded size and number
	putLatest                  // replaced by the next of its kind while it waits
	putLast                    // nothing comes after it
)

// waiting is how many bytes the peer has not taken.
func (q *outQueue) waiting() int {
	if q.queue == nil {
		return 0
	}
	return len(q.queue.b) - q.sent
}

// size is how many bytes of memory the queue takes up.
func (q *outQueue) size() int {
	if q.queue == nil {
		return 0
	}
	return cap(q.queue.b)
}

// fits reports whether a message of n bytes has room. One that is alone always
// has.
func (q *outQueue) fits(n int) bool {
	waits := q.waiting()
	return waits == 0 || waits+n <= q.bound
}

// refused is the error of a write that must not be taken, nil if it may.
func (q *outQueue) refused() error {
	if q.err == nil && q.sealed {
		return ErrClosed
	}
	return q.err
}

// dropOldest drops messages that nothing of was sent, oldest first, until n
// more bytes fit. promised bytes of what waits cannot be taken back.
func (q *outQueue) dropOldest(n, promised int) {
	for i := 0; i < len(q.messages) && q.waiting()+n > q.bound; {
		m := q.messages[i]
		if m.start < q.sent+promised { // part of it is out
			i++
			continue
		}
		size := m.end - m.start
		q.queue.b = append(q.queue.b[:m.start], q.queue.b[m.end:]...)
		q.messages = append(q.messages[:i], q.messages[i+1:]...)
		for j := i; j < len(q.messages); j++ {
			q.messages[j].start -= size
			q.messages[j].end -= size
		}
	}
}

// enqueue keeps what was not sent.
func (q *outQueue) enqueue(head, p []byte, kind putKind) {
	n := len(head) + len(p)
	if n == 0 {
		return
	}
	if q.queue == nil {
		q.queue = getBuffer(n)
		q.sent = 0
	} else {
		q.compact()
		q.queue = q.queue.grown(n)
	}
	start := len(q.queue.b)
	q.queue.b = append(append(q.queue.b, head...), p...)
	if kind <= putAdmitted && q.policy == QueueDropOldest {
		q.messages = append(q.messages, queued{start, len(q.queue.b)})
	}
}

// compact moves what waits to the front of its buffer when most of it is gone,
// so that a queue which is never empty does not grow for ever.
func (q *outQueue) compact() {
	if q.sent == 0 || q.sent < len(q.queue.b)/2 {
		return
	}
	q.queue.b = q.queue.b[:copy(q.queue.b, q.queue.b[q.sent:])]
	kept := q.messages[:0]
	for _, m := range q.messages {
		if m.start >= q.sent {
			kept = append(kept, queued{m.start - q.sent, m.end - q.sent})
		}
	}
	q.messages, q.sent = kept, 0
}

// takeLatest queues the latest, behind everything else.
func (q *outQueue) takeLatest() {
	if len(q.latest) > 0 && !q.sealed {
		q.enqueue(q.latest, nil, putControl)
	}
	q.latest = q.latest[:0]
}

// roomFor is how much may wait when a message of n bytes is tried again.
func (q *outQueue) roomFor(n int) int { return min(max(q.bound-n, 0), q.bound/2) }

// awaited returns what is closed when no more than enough waits.
func (q *outQueue) awaited(enough int) chan struct{} {
	if q.room == nil {
		q.room, q.roomAt = make(chan struct{}), enough
	}
	q.roomAt = min(q.roomAt, enough)
	return q.room
}

// wake lets writers try again when there is room, or will be none any more.
func (q *outQueue) wake() {
	if q.room != nil && (q.waiting() <= q.roomAt || q.refused() != nil) {
		close(q.room)
		q.room = nil
	}
}

// empty lets go of the buffer.
func (q *outQueue) empty() {
	if q.queue != nil {
		q.queue.release()
	}
	q.queue, q.sent, q.messages = nil, 0, q.messages[:0]
}

// seal makes every later write fail. Whoever waits to write has waited in vain.
func (q *outQueue) seal() {
	q.sealed = true
	q.wake()
}

// end drops everything, makes later writes fail and wakes who waits.
func (q *outQueue) end(err error) {
	q.err = err
	q.latest = nil
	q.empty()
	q.wake()
}
