package flare

// This file is layer 3 (engine): bytes that wait to be sent. It knows how they
// are kept, how far they have gone and what memory that takes, and nothing of
// who sends them or of messages. Whoever has a queue guards it. The queues are:
//
//	Conn.out                output of the owner that the peer does not take
//	outMessages.out         messages, of an outbox or a WebSocket of blocking goroutines
//	blockingSocket.inFlight what such a WebSocket's sender writes
//	plainTransport.out      what the writer of a net.Conn has not come to
//	plainTransport.inFlight what it writes
//	tlsTransport.out        records that the socket does not take
//
// What a turn writes is no queue: it stands in workset.out, leaves whole when the
// turn ends, and only what the peer does not take of it comes to wait.

// A sendQueue is bytes that wait, in their order. A byte is named by its offset
// in all that was ever appended, which stays the same when bytes move in memory
// or go. The zero value is an empty queue; one that is empty holds no memory.
//
// What has gone is not needed again, since the kernel sends it as often as it
// takes. Where that falls to flare, a queue frees what is acknowledged instead,
// and its user keeps the offset that was sent up to.
type sendQueue struct {
	buf     *buffer // nil: empty
	start   int64   // offset of the first byte in buf
	freed   int64   // offset of the first byte that waits; what is before it is not needed
	counted int     // bytes of memory that the server's count has of this queue
}

// waiting returns the bytes that wait. They are valid until the next call.
func (q *sendQueue) waiting() []byte {
	if q.buf == nil {
		return nil
	}
	return q.buf.b[q.freed-q.start:]
}

// len is how many bytes wait.
func (q *sendQueue) len() int { return len(q.waiting()) }

// tail is the offset behind the last byte, that of the next one appended.
func (q *sendQueue) tail() int64 { return q.freed + int64(q.len()) }

// append puts a and then b behind what waits.
func (q *sendQueue) append(a, b []byte) {
	if n := len(a) + len(b); n > 0 {
		q.makeRoom(n)
		q.buf.b = append(append(q.buf.b, a...), b...)
	}
}

// makeRoom readies buf for n bytes more. Where bytes have to move for that, they
// make as much room as they take up at least: a byte moves a few times at most,
// and a queue that is never empty does not grow by what has gone.
func (q *sendQueue) makeRoom(n int) {
	if q.buf == nil {
		q.buf, q.start = getBuffer(n), q.freed
		return
	}
	if cap(q.buf.b)-len(q.buf.b) >= n {
		return
	}
	old, waits := q.buf, q.waiting()
	if room := len(waits) + max(len(waits), n); room > cap(old.b) {
		q.buf = getBuffer(room)
	}
	q.buf.b, q.start = append(q.buf.b[:0], waits...), q.freed
	if q.buf != old {
		old.release()
	}
}

// free lets go of the first n bytes that wait.
func (q *sendQueue) free(n int) {
	if q.freed += int64(n); q.buf != nil && q.len() == 0 {
		q.buf.release()
		q.buf = nil
	}
}

// cut takes the bytes between two offsets out of what waits. Those behind move up.
func (q *sendQueue) cut(from, to int64) {
	b := q.buf.b
	q.buf.b = append(b[:from-q.start], b[to-q.start:]...)
	q.free(0)
}

// take hands out all that waits, with its memory, to be written by whoever does
// so without the guard. What is appended from then on comes behind it.
func (q *sendQueue) take() sendQueue {
	all := *q
	*q = sendQueue{freed: all.tail()}
	return all
}

// drop lets go of all that waits.
func (q *sendQueue) drop() { q.free(q.len()) }

// release lets go of all that waits, and has it counted.
func (q *sendQueue) release(counted *bufferCount) {
	if q.buf != nil || q.counted != 0 {
		q.drop()
		q.count(counted)
	}
}

// count brings what counted has of q up to date, if there is such a count. A queue
// that is empty again before anybody waits for the peer need not be counted.
func (q *sendQueue) count(counted *bufferCount) {
	held := 0
	if q.buf != nil {
		held = cap(q.buf.b)
	}
	if counted != nil && held != q.counted {
		counted.Add(int64(held - q.counted))
		q.counted = held
	}
}
