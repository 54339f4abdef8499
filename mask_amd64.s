//go:build !purego

// Layer 0 (base): masking with AVX2 and AVX-512, and the questions to the CPU.
// mask_amd64.go says when which is called, mask.go how ends are handled.
//
// A store that crosses a cache line takes twice as long or more, so a long
// payload's blocks begin on a boundary: the first vector, then blocks of four
// vectors that are aligned, then the last four vectors. What is not aligned,
// and so may overlap, is read before the blocks and written after them. The
// key is rotated for each of the three, RORL by 8 × their offset: the CPU takes
// the shift mod 32, and with it the offset mod 4. Up to maskAlign bytes the
// blocks simply begin where the payload does.

#define maskAlign $512

#include "textflag.h"

// AVX-512 where its vectors, as long as a cache line, do not cross two.
//
// func maskByVectors(p *byte, n int, key uint32)
TEXT ·maskByVectors(SB), NOSPLIT, $0-20
	CMPB ·maskBest(SB), $2   // maskByAVX512
	JNE  avx2
	CMPQ n+8(FP), maskAlign
	JA   avx512
	CMPQ n+8(FP), $512
	JB   avx2
	MOVQ p+0(FP), AX
	TESTQ $63, AX
	JEQ  avx512

avx2:
	JMP  ·maskAVX2(SB)

avx512:
	JMP  ·maskAVX512(SB)

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
	CMPQ BX, maskAlign
	JBE  block
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

block:
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
	JB   block
	VMOVDQU Y3, -128(SI)
	VMOVDQU Y4, -96(SI)
	VMOVDQU Y5, -64(SI)
	VMOVDQU Y6, -32(SI)
	CMPQ BX, maskAlign
	JBE  done
	VMOVDQU Y2, (DI)

done:
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

// Only registers 16 to 31 are written: they have no legacy SSE half, so no
// VZEROUPPER is due.
//
// func maskAVX512(p *byte, n int, key uint32)
TEXT ·maskAVX512(SB), NOSPLIT, $0-20
	MOVQ p+0(FP), DI
	MOVQ n+8(FP), BX
	MOVL key+16(FP), AX
	VPBROADCASTD AX, Z16     // key of the first vector, and of blocks that begin there
	LEAL (BX*8), CX
	MOVL AX, DX
	RORL CX, DX
	VPBROADCASTD DX, Z17     // key of the last vectors
	LEAQ (DI)(BX*1), SI      // end
	VPXORD -256(SI), Z17, Z19 // last four
	VPXORD -192(SI), Z17, Z20
	VPXORD -128(SI), Z17, Z21
	VPXORD -64(SI), Z17, Z22
	LEAQ -256(SI), R9        // blocks end where the last four begin, or after
	MOVQ DI, R8
	MOVQ DI, R10
	ANDQ $63, R10
	JEQ  block               // and begin here
	VPXORD (DI), Z16, Z18    // first
	ADDQ $63, R8             // or begin at the next boundary
	ANDQ $-64, R8
	MOVQ R8, CX
	SUBQ DI, CX
	SHLL $3, CX
	RORL CX, AX
	VPBROADCASTD AX, Z16     // key of the blocks
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
	VMOVDQU64 Z19, -256(SI)
	VMOVDQU64 Z20, -192(SI)
	VMOVDQU64 Z21, -128(SI)
	VMOVDQU64 Z22, -64(SI)
	TESTQ R10, R10
	JEQ  done
	VMOVDQU64 Z18, (DI)

done:
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
