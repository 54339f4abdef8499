package flare

import "iter"

// This file is layer 4 (roles): the table of a connection's streams. It knows their
// numbers, which only grow, and nothing else of them; http2_conn.go has one.

// An http2Table finds open streams by their numbers. Its memory is lent to it while
// it has any: a connection that is idle has none.
type http2Table struct {
	entries []http2Entry // in order of their numbers; those that are gone have no stream
	first   int32        // the first that is not gone
	count   int32        // those that are not
}

// An http2Entry is a stream and its number.
type http2Entry struct {
	id uint32
	s  *http2Stream
}

// http2EntriesMin is the memory of a table that was lent none.
const http2EntriesMin = 4

// find returns the stream of that number, nil for none.
func (t *http2Table) find(id uint32) *http2Stream {
	if i := t.index(id); i < len(t.entries) && t.entries[i].id == id {
		return t.entries[i].s
	}
	return nil
}

// index is where the stream of that number is, or would be. The first is asked for
// most.
func (t *http2Table) index(id uint32) int {
	lo, hi := int(t.first), len(t.entries)
	if lo < hi && t.entries[lo].id >= id {
		return lo
	}
	for lo < hi {
		if mid := int(uint(lo+hi) / 2); t.entries[mid].id < id {
			lo = mid + 1
		} else {
			hi = mid
		}
	}
	return lo
}

// add adds s, whose number is the highest. spare is memory that nobody has, and is
// taken if t has none.
func (t *http2Table) add(s *http2Stream, spare *[]http2Entry) {
	if t.entries == nil {
		if t.entries, *spare = (*spare)[:0], nil; cap(t.entries) == 0 {
			t.entries = make([]http2Entry, 0, http2EntriesMin)
		}
	}
	if len(t.entries) == cap(t.entries) && int(t.count) <= cap(t.entries)/2 {
		t.closeUp()
	}
	t.entries = append(t.entries, http2Entry{s.id, s})
	t.count++
}

// closeUp takes out entries that are gone.
func (t *http2Table) closeUp() {
	n := 0
	for _, e := range t.entries {
		if e.s != nil {
			t.entries[n] = e
			n++
		}
	}
	clear(t.entries[n:])
	t.entries, t.first = t.entries[:n], 0
}

// remove takes out s, if it is there. Without any stream t gives its memory to spare,
// if that has none.
func (t *http2Table) remove(s *http2Stream, spare *[]http2Entry) {
	i := t.index(s.id)
	if i == len(t.entries) || t.entries[i].s != s {
		return
	}
	t.entries[i].s = nil
	if t.count--; t.count == 0 {
		if *spare == nil {
			*spare = t.entries
		}
		*t = http2Table{}
		return
	}
	for t.entries[t.first].s == nil {
		t.first++
	}
}

// all goes through the streams in order of their numbers. They may be removed
// meanwhile.
func (t *http2Table) all() iter.Seq[*http2Stream] {
	return func(yield func(*http2Stream) bool) {
		for i := int(t.first); i < len(t.entries); i++ {
			if s := t.entries[i].s; s != nil && !yield(s) {
				return
			}
		}
	}
}

// last returns the stream of the highest number. There is one.
func (t *http2Table) last() *http2Stream {
	i := len(t.entries) - 1
	for t.entries[i].s == nil {
		i--
	}
	return t.entries[i].s
}
