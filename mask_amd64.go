//go:build !purego

package flare

// This file is layer 0 (base): the choice between the ways to mask on amd64,
// by size and by what CPU and operating system have.

const (
	// maskVectorMin is the shortest payload that the assembly takes; below it
	// maskGeneric is faster, measured.
	maskVectorMin = 33

	maskByAVX2   = 1
	maskByAVX512 = 2
)

// maskBest is the best way this machine has, 0 if only the generic one.
var maskBest = maskDetect()

// maskWord XORs p with key, whose lowest byte belongs to p[0].
func maskWord(p []byte, key uint32) {
	if len(p) < maskVectorMin {
		maskGeneric(p, key)
		return
	}
	switch maskBest {
	case maskByAVX512:
		maskAVX512(&p[0], len(p), key)
	case maskByAVX2:
		maskAVX2(&p[0], len(p), key)
	default:
		maskGeneric(p, key)
	}
}

// maskAVX2 masks n bytes, at least 32. The CPU must have AVX2.
//
//go:noescape
func maskAVX2(p *byte, n int, key uint32)

// maskAVX512 masks n bytes, at least 32. The CPU must have AVX-512 F and VL.
//
//go:noescape
func maskAVX512(p *byte, n int, key uint32)

// maskDetect asks the CPU what it has and the operating system, through XCR0,
// which registers it saves (Intel SDM volume 1, §14.3 and §15.2).
func maskDetect() int {
	const (
		osxsave, avx            = 1 << 27, 1 << 28         // leaf 1, ECX
		avx2, avx512f, avx512vl = 1 << 5, 1 << 16, 1 << 31 // leaf 7, EBX
		stateAVX, stateAVX512   = 0x06, 0xe6               // XCR0: XMM and YMM; opmask and ZMM besides
	)
	leaves, _, _, _ := cpuid(0, 0)
	if leaves < 7 {
		return 0
	}
	_, _, ecx, _ := cpuid(1, 0)
	if ecx&(osxsave|avx) != osxsave|avx {
		return 0
	}
	state := xgetbv0()
	_, ebx, _, _ := cpuid(7, 0)
	switch {
	case state&stateAVX512 == stateAVX512 && ebx&(avx512f|avx512vl) == avx512f|avx512vl:
		return maskByAVX512
	case state&stateAVX == stateAVX && ebx&avx2 != 0:
		return maskByAVX2
	}
	return 0
}

// cpuid executes CPUID.
func cpuid(leaf, subleaf uint32) (eax, ebx, ecx, edx uint32)

// xgetbv0 returns the low half of XCR0. The CPU must have OSXSAVE.
func xgetbv0() uint32
