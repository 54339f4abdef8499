package flare

// This file is layer 4 (roles): octets of a body that were received over HTTP/2
// and not read.

// recvPieceMax is the size of the pieces in which a body waits.
const recvPieceMax = 32 << 10

// A recvQueue holds octets that were received, in pieces.
type recvQueue struct {
	pieces []*buffer
	at     int // of the first piece, how much was read
	n      int // octets, in all
}

// append copies p into the queue.
func (q *recvQueue) append(p []byte) {
	q.n += len(p)
	if last := len(q.pieces) - 1; last >= 0 {
		b := q.pieces[last]
		n := copy(b.b[len(b.b):cap(b.b)], p)
		b.b = b.b[:len(b.b)+n]
		p = p[n:]
	}
	for len(p) > 0 {
		size := len(p)
		if len(q.pieces) > 0 {
			size = recvPieceMax
		}
		b := getBuffer(size)
		n := copy(b.b[:cap(b.b)], p)
		b.b = b.b[:n]
		q.pieces = append(q.pieces, b)
		p = p[n:]
	}
}

// read takes octets out of the queue.
func (q *recvQueue) read(p []byte) (n int) {
	for n < len(p) && len(q.pieces) > 0 {
		b := q.pieces[0]
		m := copy(p[n:], b.b[q.at:])
		n += m
		if q.at += m; q.at == len(b.b) {
			b.release()
			q.pieces[0] = nil
			q.pieces, q.at = q.pieces[1:], 0
		}
	}
	q.n -= n
	return n
}

// drop empties the queue and returns how much was in it.
func (q *recvQueue) drop() int64 {
	n := q.n
	for _, b := range q.pieces {
		b.release()
	}
	*q = recvQueue{pieces: q.pieces[:0]}
	return int64(n)
}
