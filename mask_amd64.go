//go:build !purego

package flare

// This file is layer 0 (base): the choice between the ways to mask on amd64,
// by size and by what CPU and operating system have.

// What masks the payloads that are long enough for vectors.
const (
	maskByGo     = 0
	maskByAVX2   = 1
	maskByAVX512 = 2
)

// maskBest is the best that this machine has. It is read by maskByVectors.
var maskBest uint8 = maskDetect()

// maskVectors masks p, of more than maskShortMax bytes, and reports whether it has.
func maskVectors(p []byte, key uint32) bool {
	if maskBest == maskByGo {
		return false
	}
	maskByVectors(&p[0], len(p), key)
	return true
}

// maskByVectors goes on as maskAVX512 or maskAVX2, as maskBest and n say. It is
// assembly so that the compiler can inline maskVectors: one call in all.
//
//go:noescape
func maskByVectors(p *byte, n int, key uint32)

// maskAVX2 masks n bytes, at least 64. The CPU must have AVX2.
//
//go:noescape
func maskAVX2(p *byte, n int, key uint32)

// maskAVX512 masks n bytes, at least 512. The CPU must have AVX-512 F.
//
//go:noescape
func maskAVX512(p *byte, n int, key uint32)

// maskDetect asks the CPU what it has and the operating system, through XCR0,
// which registers it saves (Intel SDM volume 1, §14.3 and §15.2).
func maskDetect() uint8 {
	const (
		osxsave, avx          = 1 << 27, 1 << 28 // leaf 1, ECX
		avx2, avx512f         = 1 << 5, 1 << 16  // leaf 7, EBX
		stateAVX, stateAVX512 = 0x06, 0xe6       // XCR0: XMM and YMM; opmask and ZMM besides
	)
	leaves, _, _, _ := cpuid(0, 0)
	if leaves < 7 {
		return maskByGo
	}
	_, _, ecx, _ := cpuid(1, 0)
	if ecx&(osxsave|avx) != osxsave|avx {
		return maskByGo
	}
	state := xgetbv0()
	_, ebx, _, _ := cpuid(7, 0)
	switch {
	case state&stateAVX512 == stateAVX512 && ebx&avx512f != 0:
		return maskByAVX512
	case state&stateAVX == stateAVX && ebx&avx2 != 0:
		return maskByAVX2
	}
	return maskByGo
}

// cpuid executes CPUID.
func cpuid(leaf, subleaf uint32) (eax, ebx, ecx, edx uint32)

// xgetbv0 returns the low half of XCR0. The CPU must have OSXSAVE.
func xgetbv0() uint32
