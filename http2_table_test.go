package flare

import (
	"math/rand/v2"
	"slices"
	"testing"
)

// Whatever streams come and go, a table has those that are there, in order, and no
// memory without any.
func TestHTTP2Table(t *testing.T) {
	t.Parallel()
	random := rand.New(rand.NewPCG(1, 2))
	for range 50 {
		var table http2Table
		var spare []http2Entry
		var model []*http2Stream
		most := 1 + random.IntN(100)
		for next := uint32(1); next < 2000; {
			if len(model) < most && random.IntN(2) == 0 {
				s := &http2Stream{id: next}
				next += 2 * (1 + uint32(random.IntN(3)))
				table.add(s, &spare)
				model = append(model, s)
			} else if len(model) > 0 {
				i := random.IntN(len(model)) * random.IntN(2) // the first one half of the time
				table.remove(model[i], &spare)
				table.remove(&http2Stream{id: model[i].id}, &spare)
				model = slices.Delete(model, i, i+1)
			}
			if got := slices.Collect(table.all()); !slices.Equal(got, model) || int(table.count) != len(model) {
				t.Fatalf("%d streams in place of %d", len(got), len(model))
			}
			for _, s := range model {
				if table.find(s.id) != s || table.find(s.id+1) != nil {
					t.Fatalf("stream %d is not found, or another", s.id)
				}
			}
			if len(model) == 0 {
				if table.entries != nil {
					t.Fatal("an empty table has memory")
				}
			} else if table.last() != model[len(model)-1] || cap(table.entries) > 8*most+http2EntriesMin {
				t.Fatalf("the last is another, or room for %d where %d are", cap(table.entries), most)
			}
		}
		for s := range table.all() {
			table.remove(s, &spare)
		}
		if table.entries != nil {
			t.Fatal("streams are left that were removed on the way")
		}
	}
}
