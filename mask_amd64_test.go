//go:build !purego

package flare

import (
	"os"
	"regexp"
	"runtime"
	"testing"
)

// maskWays lists maskWord on each level that this machine has.
func maskWays() (ways []maskWay) {
	for level, name := range []string{maskBySSE2: "SSE2", maskByAVX2: "AVX2", maskByAVX512: "AVX-512"}[:maskBest+1] {
		ways = append(ways, maskWay{name, 0, func(p []byte, key uint32) {
			best := maskBest
			maskBest = uint8(level)
			maskWord(p, key)
			maskBest = best
		}})
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
	want := uint8(maskBySSE2)
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
