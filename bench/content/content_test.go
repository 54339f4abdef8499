package content

import (
	"bytes"
	"errors"
	"io"
	"testing"
	"testing/iotest"
)

// The same bytes come in whatever pieces they are asked for, and a changed one is found.
func TestContent(t *testing.T) {
	const seed, n = 7, 1000
	whole, err := io.ReadAll(NewReader(seed, n))
	if err != nil || len(whole) != n {
		t.Fatalf("%d bytes, %v", len(whole), err)
	}
	slow, err := io.ReadAll(iotest.OneByteReader(NewReader(seed, n)))
	if err != nil || !bytes.Equal(slow, whole) {
		t.Fatalf("byte by byte it is something else: %v", err)
	}
	if other, _ := io.ReadAll(NewReader(seed+1, n)); bytes.Equal(other, whole) {
		t.Fatal("two seeds have the same content")
	}
	for _, from := range []int{0, 1, 7, 8, 999} {
		c := Checker{Seed: seed, Off: int64(from)}
		if _, err := io.Copy(&c, iotest.HalfReader(bytes.NewReader(whole[from:]))); err != nil || c.Off != n {
			t.Errorf("from %d: %v, then at %d", from, err, c.Off)
		}
	}
	for _, at := range []int{0, 500, 999} {
		changed := bytes.Clone(whole)
		changed[at]++
		_, err := (&Checker{Seed: seed}).Write(changed)
		var wrong *Wrong
		if !errors.As(err, &wrong) || wrong.Off != int64(at) {
			t.Errorf("byte %d changed: %v", at, err)
		}
	}
}
