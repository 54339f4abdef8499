//go:build !purego

// Layer 0 (base): masking with AVX2 and AVX-512, and the questions to the CPU.
// mask_amd64.go says when which is called, mask.go how ends are handled.
//
// Both routines have three cases. Up to two or four vectors' length, the first
// and the last vectors, overlapping in the middle. Beyond it: the first
// vector, then blocks of four vectors that are aligned, since stores that
// cross a cache line take twice as long, then the last four vectors. What is
// not aligned, and so may overlap, is read before and written after the
// blocks. The key is rotated for each of the three, RORL by 8 × their offset:
// the CPU takes the shift mod 32, and with it the offset mod 4.

#include "textflag.h"

// func maskAVX2(p *byte, n int, key uint32)
TEXT ·maskAVX2(SB), NOSPLIT, $0-20
	MOVQ p+0(FP), DI
	MOVQ n+8(FP), BX
	MOVL key+16(FP), AX
	VMOVD AX, X0
	VPBROADCASTD X0, Y0      // key of the first vectors
	LEAL (BX*8), CX
	MOVL AX, DX
	RORL CX, DX
	VMOVD DX, X1
	VPBROADCASTD X1, Y1      // key of the last vectors
	LEAQ (DI)(BX*1), SI      // end
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
	VPXOR (DI), Y0, Y2       // first
	VPXOR -128(SI), Y1, Y3   // last four
	VPXOR -96(SI), Y1, Y4
	VPXOR -64(SI), Y1, Y5
	VPXOR -32(SI), Y1, Y6
	LEAQ 32(DI), R8
	ANDQ $-32, R8            // blocks begin at the next boundary
	MOVQ R8, CX
	SUBQ DI, CX
	SHLL $3, CX
	RORL CX, AX
	VMOVD AX, X0
	VPBROADCASTD X0, Y0      // key of the blocks
	LEAQ -128(SI), R9        // and end where the last four begin, or after
	CMPQ R8, R9
	JAE  ends
	PCALIGN $32

block:
	VPXOR (R8), Y0, Y7
	VPXOR 32(R8), Y0, Y8
	VPXOR 64(R8), Y0, Y9
	VPXOR 96(R8), Y0, Y10
	VMOVDQA Y7, (R8)
	VMOVDQA Y8, 32(R8)
	VMOVDQA Y9, 64(R8)
	VMOVDQA Y10, 96(R8)
	ADDQ $128, R8
	CMPQ R8, R9
	JB   block

ends:
	VMOVDQU Y2, (DI)
	VMOVDQU Y3, -128(SI)
	VMOVDQU Y4, -96(SI)
	VMOVDQU Y5, -64(SI)
	VMOVDQU Y6, -32(SI)
	VZEROUPPER
	RET

// Only registers 16 to 31 are written: they have no legacy SSE half, so no
// VZEROUPPER is due.
//
// func maskAVX512(p *byte, n int, key uint32)
TEXT ·maskAVX512(SB), NOSPLIT, $0-20
	MOVQ p+0(FP), DI
	MOVQ n+8(FP), BX
	MOVL key+16(FP), AX
	VPBROADCASTD AX, Z16     // key of the first vectors
	LEAL (BX*8), CX
	MOVL AX, DX
	RORL CX, DX
	VPBROADCASTD DX, Z17     // key of the last vectors
	LEAQ (DI)(BX*1), SI      // end
	CMPQ BX, $64
	JA   over64
	VPXORD (DI), Y16, Y18
	VPXORD -32(SI), Y17, Y19
	VMOVDQU64 Y18, (DI)
	VMOVDQU64 Y19, -32(SI)
	RET

over64:
	CMPQ BX, $128
	JA   over128
	VPXORD (DI), Z16, Z18
	VPXORD -64(SI), Z17, Z19
	VMOVDQU64 Z18, (DI)
	VMOVDQU64 Z19, -64(SI)
	RET

over128:
	CMPQ BX, $256
	JA   over256
	VPXORD (DI), Z16, Z18
	VPXORD 64(DI), Z16, Z19
	VPXORD -128(SI), Z17, Z20
	VPXORD -64(SI), Z17, Z21
	VMOVDQU64 Z18, (DI)
	VMOVDQU64 Z19, 64(DI)
	VMOVDQU64 Z20, -128(SI)
	VMOVDQU64 Z21, -64(SI)
	RET

over256:
	VPXORD (DI), Z16, Z18    // first
	VPXORD -256(SI), Z17, Z19 // last four
	VPXORD -192(SI), Z17, Z20
	VPXORD -128(SI), Z17, Z21
	VPXORD -64(SI), Z17, Z22
	LEAQ 64(DI), R8
	ANDQ $-64, R8            // blocks begin at the next boundary
	MOVQ R8, CX
	SUBQ DI, CX
	SHLL $3, CX
	RORL CX, AX
	VPBROADCASTD AX, Z16     // key of the blocks
	LEAQ -256(SI), R9        // and end where the last four begin, or after
	CMPQ R8, R9
	JAE  ends
	PCALIGN $32

block:
	VPXORD (R8), Z16, Z23
	VPXORD 64(R8), Z16, Z24
	VPXORD 128(R8), Z16, Z25
	VPXORD 192(R8), Z16, Z26
	VMOVDQA64 Z23, (R8)
	VMOVDQA64 Z24, 64(R8)
	VMOVDQA64 Z25, 128(R8)
	VMOVDQA64 Z26, 192(R8)
	ADDQ $256, R8
	CMPQ R8, R9
	JB   block

ends:
	VMOVDQU64 Z18, (DI)
	VMOVDQU64 Z19, -256(SI)
	VMOVDQU64 Z20, -192(SI)
	VMOVDQU64 Z21, -128(SI)
	VMOVDQU64 Z22, -64(SI)
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
