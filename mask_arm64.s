//go:build !purego

// Layer 0 (base): masking with NEON. mask_arm64.go says when it is called,
// mask.go how ends are handled: blocks of four vectors, and the last four,
// which are read before the blocks and written after them.

#include "textflag.h"

// func maskNEON(p *byte, n int, key uint32)
TEXT ·maskNEON(SB), NOSPLIT, $0-20
	MOVD  p+0(FP), R0
	MOVD  n+8(FP), R1
	MOVWU key+16(FP), R2
	VDUP  R2, V0.S4          // key of the first vectors
	LSL   $3, R1, R3
	RORW  R3, R2, R2         // shifts by R3 mod 32: 8 × (n mod 4)
	VDUP  R2, V1.S4          // key of the last vectors
	ADD   R0, R1, R4         // end
	SUB   $64, R4, R5
	VLD1  (R5), [V20.B16, V21.B16, V22.B16, V23.B16]
	VEOR  V1.B16, V20.B16, V20.B16
	VEOR  V1.B16, V21.B16, V21.B16
	VEOR  V1.B16, V22.B16, V22.B16
	VEOR  V1.B16, V23.B16, V23.B16

block:
	VLD1  (R0), [V2.B16, V3.B16, V4.B16, V5.B16]
	VEOR  V0.B16, V2.B16, V2.B16
	VEOR  V0.B16, V3.B16, V3.B16
	VEOR  V0.B16, V4.B16, V4.B16
	VEOR  V0.B16, V5.B16, V5.B16
	VST1.P [V2.B16, V3.B16, V4.B16, V5.B16], 64(R0)
	CMP   R5, R0
	BLO   block              // until the last four begin, or after
	VST1  [V20.B16, V21.B16, V22.B16, V23.B16], (R5)
	RET
