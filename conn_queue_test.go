package flare

import (
	"bytes"
	"math/rand/v2"
	"testing"
)

// What goes in comes out in its order, at the offsets it was put at, whatever goes
// when; memory is counted, is bounded by what waits, and is gone when nothing does.
func TestSendQueue(t *testing.T) {
	var q sendQueue
	var counted bufferCount
	var want []byte
	total := int64(0)
	r := rand.New(rand.NewPCG(1, 2))
	for i := range 20_000 {
		if p := make([]byte, r.IntN(3000)); r.IntN(2) == 0 && len(want) < 100_000 {
			for j := range p {
				p[j] = byte(i + j)
			}
			head := r.IntN(len(p) + 1)
			q.append(p[:head], p[head:])
			want, total = append(want, p...), total+int64(len(p))
		} else if n := r.IntN(len(want) + 1); n > 0 {
			q.free(n)
			want = want[n:]
		}
		if q.len() != len(want) || !bytes.Equal(q.waiting(), want) {
			t.Fatalf("step %d: %d bytes wait, want %d, or others", i, q.len(), len(want))
		}
		if q.tail() != total || q.freed != total-int64(len(want)) {
			t.Fatalf("step %d: offsets %d to %d, want %d to %d", i, q.freed, q.tail(), total-int64(len(want)), total)
		}
		q.count(&counted)
		if held := counted.Load(); held > 512<<10 || (held == 0) != (len(want) == 0) {
			t.Fatalf("step %d: %d bytes of memory for %d", i, held, len(want))
		}
	}
	q.drop()
	q.count(&counted)
	if q.buf != nil || counted.Load() != 0 || q.freed != total {
		t.Errorf("%d bytes held when all is gone", counted.Load())
	}
}

// A queue that is never empty does not grow, and moves each byte a few times at
// most, also while nearly all of it waits.
func TestSendQueueNeverEmpty(t *testing.T) {
	for _, waits := range []int{300, 262_000} {
		var q sendQueue
		var counted bufferCount
		moves, rounds := 0, 4*waits/100
		for range rounds {
			start := q.start
			q.append(make([]byte, 100), nil)
			if q.start != start {
				moves++
			}
			if q.len() > waits {
				q.free(100)
			}
		}
		q.count(&counted)
		if held := counted.Load(); held > int64(max(4*waits, 4096)) {
			t.Errorf("%d bytes of memory for %d", held, q.len())
		}
		if moves*waits > 4*100*rounds {
			t.Errorf("moved %d times in %d appends of 100 bytes behind %d", moves, rounds, waits)
		}
	}
}
