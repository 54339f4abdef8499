//go:build !purego

// Layer 0 (base): masking with SSE2, AVX2 and AVX-512, and the questions to the
// CPU. mask_amd64.go says who has which, mask.go how ends are handled.
//
// What a short payload takes is the call's instructions, its branches taken and
// its stores, the arguments among them: the shortest come first. What a long one
// takes is its stores. One that crosses a cache line costs two or more, so a
// long payload's blocks begin on a boundary. The vectors that are not aligned,
// and so may overlap, are read before the blocks and written after them.
//
// Keys are rotated by 8 × the offset of what they are for: the CPU takes the
// shift mod 32, and with it the offset mod 4.

#include "textflag.h"

// func maskRun(p *byte, n int, key uint32)
TEXT ·maskRun(SB), NOSPLIT, $0-20
	MOVQ n+8(FP), BX
	MOVQ p+0(FP), DI
	MOVL key+16(FP), AX
	CMPQ BX, $8
	JAE  over7
	CMPQ BX, $4
	JB   upto3
	LEAL (BX*8), CX
	MOVL -4(DI)(BX*1), R8
	XORL AX, (DI)
	RORL CX, AX              // key of the last word
	XORL AX, R8
	MOVL R8, -4(DI)(BX*1)
	RET

upto3:
	CMPQ BX, $2
	JB   upto1
	LEAL -16(BX*8), CX
	MOVWLZX -2(DI)(BX*1), R8
	XORW AX, (DI)
	SHRL CX, AX              // key of the last word
	XORL AX, R8
	MOVW R8, -2(DI)(BX*1)
	RET

upto1:
	TESTQ BX, BX
	JEQ  nothing
	XORB AX, (DI)

nothing:
	RET

over7:
	LEAL (BX*8), CX
	CMPQ BX, $16
	JBE  upto16
	CMPQ BX, $32
	JA   over32
	MOVQ AX, X0
	PSHUFL $0, X0, X0
	RORL CX, AX              // key of the last vector
	MOVQ AX, X1
	PSHUFL $0, X1, X1
	MOVOU (DI), X2
	MOVOU -16(DI)(BX*1), X3
	PXOR X0, X2
	PXOR X1, X3
	MOVOU X2, (DI)
	MOVOU X3, -16(DI)(BX*1)
	RET

upto16:
	MOVQ AX, DX
	SHLQ $32, AX
	ORQ  DX, AX
	MOVQ -8(DI)(BX*1), R8
	XORQ AX, (DI)
	RORQ CX, AX              // key of the last word
	XORQ AX, R8
	MOVQ R8, -8(DI)(BX*1)
	RET

// From here on SI is where the payload ends, and DX the key of the last word.
over32:
	MOVL AX, DX
	RORL CX, DX
	LEAQ (DI)(BX*1), SI
	CMPQ BX, $192
	JA   over192

upto192OrNoAVX512:
	CMPB ·maskBest(SB), $1   // maskByAVX2
	JB   sse2
	VMOVD AX, X0
	VPBROADCASTD X0, Y0      // key of the first vectors
	VMOVD DX, X1
	VPBROADCASTD X1, Y1      // key of the last vectors
	CMPQ BX, $64
	JA   over64
	VPXOR (DI), Y0, Y2
	VPXOR -32(SI), Y1, Y3
	VMOVDQU Y2, (DI)
	VMOVDQU Y3, -32(SI)
	VZEROUPPER
	RET

over64:
	CMPQ BX, $128
	JA   over128
	VPXOR (DI), Y0, Y2
	VPXOR 32(DI), Y0, Y3
	VPXOR -64(SI), Y1, Y4
	VPXOR -32(SI), Y1, Y5
	VMOVDQU Y2, (DI)
	VMOVDQU Y3, 32(DI)
	VMOVDQU Y4, -64(SI)
	VMOVDQU Y5, -32(SI)
	VZEROUPPER
	RET

over128:
	VPXOR -128(SI), Y1, Y3   // last four
	VPXOR -96(SI), Y1, Y4
	VPXOR -64(SI), Y1, Y5
	VPXOR -32(SI), Y1, Y6
	CMPQ BX, $192
	JBE  upto192
	MOVQ DI, R8              // blocks begin here
	LEAQ -128(SI), R9        // and end where the last four begin, or after
	CMPQ BX, $512
	JBE  blockAVX2
	VPXOR (DI), Y0, Y2       // first
	ADDQ $31, R8             // or begin at the next boundary
	ANDQ $-32, R8
	MOVQ R8, CX
	SUBQ DI, CX
	SHLL $3, CX
	RORL CX, AX
	VMOVD AX, X0
	VPBROADCASTD X0, Y0      // key of the blocks
	PCALIGN $32

blockAVX2:
	VPXOR (R8), Y0, Y7
	VPXOR 32(R8), Y0, Y8
	VPXOR 64(R8), Y0, Y9
	VPXOR 96(R8), Y0, Y10
	VMOVDQU Y7, (R8)
	VMOVDQU Y8, 32(R8)
	VMOVDQU Y9, 64(R8)
	VMOVDQU Y10, 96(R8)
	ADDQ $128, R8
	CMPQ R8, R9
	JB   blockAVX2
	VMOVDQU Y3, -128(SI)
	VMOVDQU Y4, -96(SI)
	VMOVDQU Y5, -64(SI)
	VMOVDQU Y6, -32(SI)
	CMPQ BX, $512
	JBE  doneAVX2
	VMOVDQU Y2, (DI)

doneAVX2:
	VZEROUPPER
	RET

upto192:
	VPXOR (DI), Y0, Y7
	VPXOR 32(DI), Y0, Y8
	VMOVDQU Y7, (DI)
	VMOVDQU Y8, 32(DI)
	VMOVDQU Y3, -128(SI)
	VMOVDQU Y4, -96(SI)
	VMOVDQU Y5, -64(SI)
	VMOVDQU Y6, -32(SI)
	VZEROUPPER
	RET

// AVX-512. Its vectors are as long as a cache line: the first and the last may
// cross two lines, all others are aligned. Blocks are of two vectors, and two
// are left for the end, so that no more than one is written twice. Only
// registers 16 to 31 are written: they have no legacy SSE half, so no
// VZEROUPPER is due.
over192:
	CMPB ·maskBest(SB), $2   // maskByAVX512
	JNE  upto192OrNoAVX512
	VPBROADCASTD DX, Z17
	SUBQ $64, SI
	VPXORD (SI), Z17, Z19    // last
	VPBROADCASTD AX, Z16
	MOVQ DI, R8              // blocks begin here
	TESTQ $63, DI
	JEQ  aligned
	VPXORD (DI), Z16, Z18    // first
	ADDQ $63, R8             // or begin at the next boundary
	ANDQ $-64, R8
	MOVQ R8, CX
	SUBQ DI, CX
	SHLL $3, CX
	RORL CX, AX
	VPBROADCASTD AX, Z16     // key of all that is aligned

aligned:
	LEAQ -1(SI), R9          // last aligned one: the line before the last byte's
	ANDQ $-64, R9
	VPXORD (R9), Z16, Z22
	PCALIGN $32

blockAVX512:
	VPXORD (R8), Z16, Z20
	VPXORD 64(R8), Z16, Z21
	VMOVDQA64 Z20, (R8)
	VMOVDQA64 Z21, 64(R8)
	ADDQ $128, R8
	CMPQ R8, R9
	JB   blockAVX512
	VMOVDQA64 Z22, (R9)
	VMOVDQU64 Z19, (SI)
	TESTQ $63, DI
	JEQ  doneAVX512
	VMOVDQU64 Z18, (DI)

doneAVX512:
	RET

sse2:
	MOVQ AX, X0
	PSHUFL $0, X0, X0        // key of the blocks
	MOVQ DX, X1
	PSHUFL $0, X1, X1        // key of the last two
	SUBQ $32, SI             // blocks end here, or after
	MOVOU (SI), X2
	MOVOU 16(SI), X3
	PXOR X1, X2
	PXOR X1, X3

blockSSE2:
	MOVOU (DI), X4
	MOVOU 16(DI), X5
	PXOR X0, X4
	PXOR X0, X5
	MOVOU X4, (DI)
	MOVOU X5, 16(DI)
	ADDQ $32, DI
	CMPQ DI, SI
	JB   blockSSE2
	MOVOU X2, (SI)
	MOVOU X3, 16(SI)
	RET

// func cpuid(leaf, subleaf uint32) (eax, ebx, ecx, edx uint32)
TEXT ·cpuid(SB), NOSPLIT, $0-24
	MOVL leaf+0(FP), AX
	MOVL subleaf+4(FP), CX
	CPUID
	MOVL AX, eax+8(FP)
	MOVL BX, ebx+12(FP)
	MOVL CX, ecx+16(FP)
	MOVL DX, edx+20(FP)
	RET

// func xgetbv0() uint32
TEXT ·xgetbv0(SB), NOSPLIT, $0-4
	XORL CX, CX
	XGETBV
	MOVL AX, ret+0(FP)
	RET
