//go:build !purego

package flare

import (
	"bytes"
	"os"
	"regexp"
	"runtime"
	"testing"
)

func maskAssembly() (ways []maskWay) {
	if maskBest >= maskByAVX2 {
		ways = append(ways, maskWay{"AVX2", 64, func(p []byte, key uint32) { maskAVX2(&p[0], len(p), key) }})
	}
	if maskBest >= maskByAVX512 {
		ways = append(ways, maskWay{"AVX512", 512, func(p []byte, key uint32) { maskAVX512(&p[0], len(p), key) }})
	}
	return ways
}

// The kernel lists what CPU and kernel have together, as maskDetect should.
func TestMaskDetect(t *testing.T) {
	if runtime.GOOS != "linux" {
		t.Skip("only Linux has /proc/cpuinfo to compare with")
	}
	info, err := os.ReadFile("/proc/cpuinfo")
	if err != nil {
		t.Skip("no /proc/cpuinfo to compare with: ", err)
	}
	has := func(flag string) bool { return regexp.MustCompile(`(?m)^flags\b.*\b` + flag + `\b`).Match(info) }
	want := uint8(maskByGo)
	switch {
	case has("avx512f"):
		want = maskByAVX512
	case has("avx2"):
		want = maskByAVX2
	}
	if got := maskDetect(); got != want {
		t.Errorf("maskDetect %d, want %d", got, want)
	}
}

// Every choice that maskWord may be left with, on every length around it.
func TestMaskWordOnEachLevel(t *testing.T) {
	const lengthMax = 2200
	source := randomBytes(lengthMax)
	want, got := bytes.Clone(source), make([]byte, lengthMax)
	maskNaive(want, maskTestKey, 0)
	best := maskBest
	defer func() { maskBest = best }()
	for maskBest = 0; maskBest <= best; maskBest++ {
		for length := range lengthMax + 1 {
			copy(got, source)
			maskWord(got[:length], maskKeyWord(maskTestKey))
			if !bytes.Equal(got[:length], want[:length]) || !bytes.Equal(got[length:], source[length:]) {
				t.Fatalf("level %d, length %d: wrong from byte %d", maskBest, length, firstDifference(got, want))
			}
		}
	}
}
