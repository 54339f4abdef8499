package main

import (
	"bytes"
	"testing"
)

// Every way masks, whatever the size and the place: a table of something else would mean nothing.
func TestWaysMask(t *testing.T) {
	for _, w := range ways() {
		if w.name == "copy" {
			continue
		}
		for _, at := range places() {
			ring := at.ring()
			want := make([]byte, at.size)
			for i := range want {
				want[i] = byte(i) ^ key[i%4]
			}
			for _, p := range ring {
				for i := range p {
					p[i] = byte(i)
				}
			}
			w.around(ring, nil)
			for _, p := range ring {
				if !bytes.Equal(p, want) {
					t.Fatalf("%s: %d bytes at %d are not masked", w.name, at.size, at.offset)
				}
			}
		}
	}
}
