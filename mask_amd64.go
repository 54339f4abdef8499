//go:build !purego

package flare

// This file is layer 0 (base): what CPU and operating system have for masking
// on amd64.

// What masks the payloads of more than 32 bytes.
const (
	maskBySSE2   = 0
	maskByAVX2   = 1
	maskByAVX512 = 2
)

// maskBest is the best that this machine has. It is read by maskRun.
var maskBest uint8 = maskDetect()

// maskRun masks n bytes at p, any number. It is assembly from the first branch
// on: masking is one call.
//
//go:noescape
func maskRun(p *byte, n int, key uint32)

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
		return maskBySSE2
	}
	_, _, ecx, _ := cpuid(1, 0)
	if ecx&(osxsave|avx) != osxsave|avx {
		return maskBySSE2
	}
	state := xgetbv0()
	_, ebx, _, _ := cpuid(7, 0)
	switch {
	case state&stateAVX512 == stateAVX512 && ebx&avx512f != 0:
		return maskByAVX512
	case state&stateAVX == stateAVX && ebx&avx2 != 0:
		return maskByAVX2
	}
	return maskBySSE2
}

// cpuid executes CPUID.
func cpuid(leaf, subleaf uint32) (eax, ebx, ecx, edx uint32)

// xgetbv0 returns the low half of XCR0. The CPU must have OSXSAVE.
func xgetbv0() uint32
