package flare

import (
	"bytes"
	"math/rand/v2"
	"testing"
)

// What QueueDropOldest drops is whole messages that nothing of was sent or promised,
// oldest first and no more than it takes, wherever the queue has moved them; and
// messages that have gone are forgotten.
func TestQueueDropsOldest(t *testing.T) {
	const bound = 20_000
	q := outMessages{bound: bound, policy: QueueDropOldest}
	type message struct {
		bytes   []byte // what waits of it
		keep    bool   // of control, or begun
		written bool   // in part
	}
	var model []message
	r := rand.New(rand.NewPCG(3, 4))
	waiting := func() (all []byte) {
		for _, m := range model {
			all = append(all, m.bytes...)
		}
		return all
	}
	dropped := 0
	for i := range 5000 {
		switch n := r.IntN(100); {
		case n < 75:
			p := bytes.Repeat([]byte{byte(i)}, 1+r.IntN(2000))
			kind, at := putMessage, 0
			if r.IntN(4) == 0 {
				kind, p = putControl, p[:1]
			} else {
				promised := r.IntN(min(q.out.len(), 500) + 1)
				q.dropOldest(len(p), promised)
				waits := len(waiting())
				for j := 0; j < len(model); {
					if size := len(model[j].bytes); waits+len(p) > bound && !model[j].keep && !model[j].written && at >= promised {
						model = append(model[:j], model[j+1:]...)
						waits -= size
						dropped++
					} else {
						at, j = at+size, j+1
					}
				}
			}
			q.enqueue(p[:1], p[1:], kind)
			model = append(model, message{bytes: p, keep: kind == putControl})
			if kind == putMessage && len(q.messages) > 2*len(model) {
				t.Fatalf("step %d: %d messages remembered, %d wait", i, len(q.messages), len(model))
			}
		case n < 99:
			n := r.IntN(min(q.out.len(), 1500) + 1)
			q.out.free(n)
			for n > 0 {
				m := &model[0]
				part := min(n, len(m.bytes))
				if m.bytes, m.written, n = m.bytes[part:], true, n-part; len(m.bytes) == 0 {
					model = model[1:]
				}
			}
		default:
			if all := q.out.take(); !bytes.Equal(all.waiting(), waiting()) {
				t.Fatalf("step %d: took other bytes than wait", i)
			}
			model = nil
		}
		if !bytes.Equal(q.out.waiting(), waiting()) {
			t.Fatalf("step %d: %d bytes wait, want %d, or others", i, q.out.len(), len(waiting()))
		}
	}
	if dropped < 500 {
		t.Errorf("%d messages were dropped: the test has lost its subject", dropped)
	}
}
