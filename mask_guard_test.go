//go:build linux || darwin

package flare

import (
	"bytes"
	"syscall"
	"testing"
)

// guardedBytes returns n bytes, a multiple of the page size, with pages before
// and after them that may neither be read nor written.
func guardedBytes(t *testing.T, n int) []byte {
	page := syscall.Getpagesize()
	all, err := syscall.Mmap(-1, 0, page+n+page, syscall.PROT_READ|syscall.PROT_WRITE, syscall.MAP_ANON|syscall.MAP_PRIVATE)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := syscall.Munmap(all); err != nil {
			t.Error(err)
		}
	})
	for _, guard := range [][]byte{all[:page], all[page+n:]} {
		if err := syscall.Mprotect(guard, syscall.PROT_NONE); err != nil {
			t.Fatal(err)
		}
	}
	return all[page : page+n : page+n]
}

// A way that reads or writes one byte beside its payload ends this test with a
// segmentation fault.
func TestMaskBetweenGuardPages(t *testing.T) {
	const lengthMax = 2500
	source := randomBytes(lengthMax)
	want := bytes.Clone(source)
	maskNaive(want, maskTestKey, 0)
	page := syscall.Getpagesize()
	room := guardedBytes(t, (lengthMax+page-1)/page*page)
	forEachMaskWay(t, func(t *testing.T, way maskWay) {
		for length := way.bytesMin; length <= lengthMax; length++ {
			for _, p := range [][]byte{room[:length], room[len(room)-length:]} {
				copy(p, source)
				way.mask(p, maskKeyWord(maskTestKey))
				if !bytes.Equal(p, want[:length]) {
					t.Fatalf("length %d: wrong from byte %d", length, firstDifference(p, want))
				}
			}
		}
	})
}
