package flare

import (
	"bytes"
	"flag"
	"fmt"
	"math"
	"math/rand/v2"
	"strconv"
	"testing"
	"unsafe"
)

// A maskWay is one implementation. Each architecture's maskWays lists what this
// machine can run.
type maskWay struct {
	name     string
	bytesMin int // shortest payload it takes
	mask     func(p []byte, key uint32)
}

func forEachMaskWay(t *testing.T, f func(t *testing.T, way maskWay)) {
	for _, way := range maskWays() {
		t.Run(way.name, func(t *testing.T) { f(t, way) })
	}
}

// maskNaive is RFC 6455 §5.3 as it stands there.
func maskNaive(p []byte, key [4]byte, pos int) {
	for i := range p {
		p[i] ^= key[(pos+i)%4]
	}
}

func maskKeyWord(key [4]byte) uint32 {
	return uint32(key[0]) | uint32(key[1])<<8 | uint32(key[2])<<16 | uint32(key[3])<<24
}

func randomBytes(n int) []byte {
	rng := rand.New(rand.NewPCG(1, 2))
	b := make([]byte, n)
	for i := range b {
		b[i] = byte(rng.Uint32())
	}
	return b
}

var maskTestKey = [4]byte{0x37, 0xfa, 0x21, 0x3d}

func TestMaskBytesExample(t *testing.T) {
	p := []byte("Hello") // RFC 6455 §5.7
	if pos := MaskBytes(p, maskTestKey, 0); pos != 5 || string(p) != "\x7f\x9f\x4d\x51\x58" {
		t.Errorf("%x, pos %d", p, pos)
	}
}

func TestMaskBytesInPieces(t *testing.T) {
	for _, n := range []int{0, 1, 2, 3, 5, 8, 17, 33, 70, 150, 300, 700} {
		for start := range 5 {
			want := randomBytes(n)
			maskNaive(want, maskTestKey, start)
			for cut := range n + 1 {
				got := randomBytes(n)
				pos := MaskBytes(got[:cut], maskTestKey, start)
				pos = MaskBytes(got[cut:], maskTestKey, pos)
				if !bytes.Equal(got, want) || pos != start+n {
					t.Fatalf("%d bytes from %d, cut at %d: wrong, pos %d", n, start, cut, pos)
				}
			}
			got, pos := randomBytes(n), start
			for i := range got {
				pos = MaskBytes(got[i:i+1], maskTestKey, pos)
			}
			if !bytes.Equal(got, want) {
				t.Fatalf("%d bytes from %d, one by one: wrong", n, start)
			}
		}
	}
}

func TestMaskBytesPosIsModuloFour(t *testing.T) {
	for _, pos := range []int{4, 1 << 20, -4, math.MinInt, math.MaxInt - 3} {
		for i := range 4 {
			want, got := randomBytes(50), randomBytes(50)
			next := MaskBytes(want, maskTestKey, i)
			if n := MaskBytes(got, maskTestKey, pos+i); (n-next)%4 != 0 || !bytes.Equal(got, want) {
				t.Errorf("pos %d: not as pos %d", pos+i, i)
			}
		}
	}
}

var maskFull = flag.Bool("mask.full", false, "test masking with every length at every offset")

// maskOffsetStep thins out the offsets of one length. Those that are left
// differ from length to length.
func maskOffsetStep(length int) int {
	switch {
	case *maskFull:
		return 1
	case length > 300:
		return 61
	case testing.Short():
		return 5
	}
	return 1
}

// Each way, by name: every length × every place in a cache line × every
// rotation of the key, and not a byte beside the payload.
func TestMaskLengthsOffsetsAndPhases(t *testing.T) {
	const lengthMax, beside = 4200, 64
	source := randomBytes(lengthMax)
	var want [4][]byte
	for phase := range want {
		want[phase] = bytes.Clone(source)
		maskNaive(want[phase], maskTestKey, phase)
	}
	canary := bytes.Repeat([]byte{0xa5}, 64+beside)
	forEachMaskWay(t, func(t *testing.T, way maskWay) {
		room := make([]byte, 64+64+lengthMax+beside)
		room = room[-addressOf(room)&63:]
		for length := way.bytesMin; length <= lengthMax; length++ {
			step := maskOffsetStep(length)
			for offset := length % step; offset < 64; offset += step {
				for phase := range 4 {
					before, p, after := room[:offset], room[offset:offset+length], room[offset+length:offset+length+beside]
					copy(before, canary)
					copy(p, source)
					copy(after, canary)
					way.mask(p, rotateMask(maskKeyWord(maskTestKey), phase))
					if !bytes.Equal(p, want[phase][:length]) {
						t.Fatalf("length %d, offset %d, phase %d: wrong from byte %d", length, offset, phase, firstDifference(p, want[phase]))
					}
					if !bytes.Equal(before, canary[:offset]) || !bytes.Equal(after, canary[:beside]) {
						t.Fatalf("length %d, offset %d, phase %d: wrote beside the payload", length, offset, phase)
					}
				}
			}
		}
	})
}

// addressOf returns where p begins.
func addressOf(p []byte) int { return int(uintptr(unsafe.Pointer(unsafe.SliceData(p)))) }

func firstDifference(a, b []byte) int {
	for i := range a {
		if a[i] != b[i] {
			return i
		}
	}
	return len(a)
}

func TestMaskLongPayload(t *testing.T) {
	want := randomBytes(1<<20 + 77)
	maskNaive(want, maskTestKey, 0)
	forEachMaskWay(t, func(t *testing.T, way maskWay) {
		got := randomBytes(len(want))
		way.mask(got, maskKeyWord(maskTestKey))
		if !bytes.Equal(got, want) {
			t.Errorf("wrong from byte %d", firstDifference(got, want))
		}
	})
}

func TestMaskBytesAllocatesNothing(t *testing.T) {
	p := make([]byte, 4096)
	if n := testing.AllocsPerRun(100, func() {
		key := [4]byte{p[0], p[1], p[2], 1}
		MaskBytes(p[:20], key, 0)
		MaskBytes(p, key, 3)
	}); n != 0 {
		t.Errorf("%v allocations", n)
	}
}

func FuzzMask(f *testing.F) {
	f.Add([]byte("Hello"), uint32(0x3d21fa37), uint16(2), uint8(0))
	f.Add(bytes.Repeat([]byte("0123456789abcdef"), 20), uint32(1), uint16(100), uint8(3))
	f.Add(bytes.Repeat([]byte{0}, 1500), uint32(0x01020304), uint16(700), uint8(7))
	f.Add(bytes.Repeat([]byte{0}, 700), uint32(math.MaxUint32), uint16(64), uint8(63))
	f.Fuzz(func(t *testing.T, data []byte, word uint32, cut uint16, offset uint8) {
		key := [4]byte{byte(word), byte(word >> 8), byte(word >> 16), byte(word >> 24)}
		want := bytes.Clone(data)
		maskNaive(want, key, 0)
		place := func() []byte { return append(make([]byte, offset%64, int(offset%64)+len(data)), data...)[offset%64:] }
		for _, way := range maskWays() {
			if len(data) < way.bytesMin {
				continue
			}
			got := place()
			if way.mask(got, word); !bytes.Equal(got, want) {
				t.Fatalf("%s: wrong from byte %d of %d", way.name, firstDifference(got, want), len(got))
			}
			if way.mask(got, word); !bytes.Equal(got, data) {
				t.Fatalf("%s: masking twice does not undo it", way.name)
			}
		}
		got, at := place(), min(int(cut), len(data))
		pos := MaskBytes(got[:at], key, 0)
		if pos = MaskBytes(got[at:], key, pos); !bytes.Equal(got, want) || pos != len(data) {
			t.Fatalf("cut at %d of %d: wrong", at, len(data))
		}
	})
}

// maskRing returns payloads of n bytes that begin where a server finds them,
// behind a header of 6 bytes, 8 from 126 bytes on. The benchmarks go round
// them: a payload is masked once in its life, and masking one again at once
// measures the CPU's wait for its own overlapping stores instead.
func maskRing(n int) [][]byte {
	header := 6
	if n > 125 {
		header = 8
	}
	stride := (header + n + 63) &^ 63
	room := make([]byte, 64*stride+64)
	room = room[-addressOf(room)&63:]
	ring := make([][]byte, max(min(16<<10/stride, 64), 1))
	for i := range ring {
		ring[i] = room[i*stride+header:][:n]
	}
	return ring
}

func benchmarkMask(b *testing.B, ring [][]byte, mask func(p []byte, key uint32)) {
	b.SetBytes(int64(len(ring[0])))
	for i := 0; b.Loop(); i++ {
		if i == len(ring) {
			i = 0
		}
		mask(ring[i], 0x3d21fa37)
	}
}

func BenchmarkMaskBytes(b *testing.B) {
	for _, n := range []int{2, 4, 7, 8, 15, 16, 31, 32, 33, 48, 64, 65, 100, 125, 128, 200, 256, 512, 1 << 10, 4 << 10, 64 << 10, 1 << 20} {
		b.Run(strconv.Itoa(n), func(b *testing.B) {
			benchmarkMask(b, maskRing(n), func(p []byte, key uint32) { MaskBytes(p, maskTestKey, 0) })
		})
	}
}

// The ways beside each other, to see where each is best.
func BenchmarkMaskWays(b *testing.B) {
	for _, n := range []int{33, 48, 64, 65, 96, 125, 200, 256, 300, 512, 1 << 10, 2 << 10, 4 << 10, 64 << 10} {
		for _, way := range maskWays() {
			if n < way.bytesMin {
				continue
			}
			b.Run(fmt.Sprintf("%d/%s", n, way.name), func(b *testing.B) { benchmarkMask(b, maskRing(n), way.mask) })
		}
	}
}
