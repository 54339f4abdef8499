package flare

// This file is layer 3 (engine): a run of bytes that waits to be sent. It knows
// how they are kept, what of them has gone and what that takes of memory, and
// nothing of who sends them, of bounds or of messages. While nothing waits it
// holds no memory. Who has one guards it.

// A sendQueue is bytes that wait, in their order. Its zero value is empty.
type sendQueue struct {
	buf  *buffer // nil: empty
	sent int     // bytes of buf that have gone
}

// waiting returns the bytes that wait. They are valid until the next call.
func (q *sendQueue) waiting() []byte {
	if q.buf == nil {
		return nil
	}
	return q.buf.b[q.sent:]
}

// len is how many bytes wait.
func (q *sendQueue) len() int { return len(q.waiting()) }

// append puts p behind what waits. counted has the memory, which changes by it.
func (q *sendQueue) append(counted *bufferCount, p []byte) {
	if len(p) == 0 {
		return
	}
	before := 0
	if q.buf == nil {
		q.buf = getBuffer(len(p))
	} else {
		before = cap(q.buf.b)
		if q.sent > len(q.buf.b)/2 || before-len(q.buf.b) < len(p) {
			// What has gone makes room first: a queue that is never empty would
			// grow for ever.
			q.buf.b = q.buf.b[:copy(q.buf.b, q.buf.b[q.sent:])]
			q.sent = 0
		}
		q.buf = q.buf.grown(len(p))
	}
	q.buf.b = append(q.buf.b, p...)
	counted.Add(int64(cap(q.buf.b) - before))
}

// advance says that the first n bytes have gone.
func (q *sendQueue) advance(counted *bufferCount, n int) {
	if q.sent += n; q.buf != nil && q.sent == len(q.buf.b) {
		q.drop(counted)
	}
}

// drop forgets what waits, and lets go of the memory.
func (q *sendQueue) drop(counted *bufferCount) {
	if q.buf != nil {
		counted.Add(-int64(cap(q.buf.b)))
		q.buf.release()
		q.buf, q.sent = nil, 0
	}
}
