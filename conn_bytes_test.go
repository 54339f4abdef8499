package flare

import (
	"bytes"
	"math/rand/v2"
	"testing"
)

// What goes in comes out in its order, whatever goes when; memory is counted, is
// bounded by what waits, and is gone when nothing does.
func TestSendQueue(t *testing.T) {
	var q sendQueue
	var counted bufferCount
	var want []byte
	r := rand.New(rand.NewPCG(1, 2))
	for i := range 20_000 {
		if p := make([]byte, r.IntN(3000)); r.IntN(2) == 0 && len(want) < 100_000 {
			for j := range p {
				p[j] = byte(i + j)
			}
			q.append(&counted, p)
			want = append(want, p...)
		} else if n := r.IntN(len(want) + 1); n > 0 {
			q.advance(&counted, n)
			want = want[n:]
		}
		if q.len() != len(want) || !bytes.Equal(q.waiting(), want) {
			t.Fatalf("step %d: %d bytes wait, want %d, or others", i, q.len(), len(want))
		}
		if held := counted.Load(); held > 1<<20 || (held == 0) != (len(want) == 0) {
			t.Fatalf("step %d: %d bytes of memory for %d", i, held, len(want))
		}
	}
	q.drop(&counted)
	if q.buf != nil || counted.Load() != 0 {
		t.Errorf("%d bytes held when all is gone", counted.Load())
	}
}

// A queue that is never empty does not grow.
func TestSendQueueNeverEmpty(t *testing.T) {
	var q sendQueue
	var counted bufferCount
	for range 10_000 {
		q.append(&counted, make([]byte, 100))
		if q.len() > 300 {
			q.advance(&counted, 100)
		}
	}
	if held := counted.Load(); held > 4096 {
		t.Errorf("%d bytes of memory for %d", held, q.len())
	}
}
