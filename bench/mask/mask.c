//go:build ignore

/*
 * mask.c: masking (RFC 6455 §5.3) in C with the widest vectors that the compiler may use here, for
 * the table of main.go. It masks payloads in place, going round a ring of them, and prints
 * nanoseconds per call: one line for each pair of arguments SIZE OFFSET.
 */
#define _GNU_SOURCE
#include <immintrin.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#if defined __AVX512BW__ && defined __AVX512F__
#define NAME "AVX-512"
__attribute__((noinline)) static void mask(uint8_t *p, size_t n, uint32_t key)
{
	__m512i k = _mm512_set1_epi32((int)key);
	for (; n >= 256; p += 256, n -= 256) {
		__m512i a = _mm512_xor_si512(_mm512_loadu_si512(p), k);
		__m512i b = _mm512_xor_si512(_mm512_loadu_si512(p + 64), k);
		__m512i c = _mm512_xor_si512(_mm512_loadu_si512(p + 128), k);
		__m512i d = _mm512_xor_si512(_mm512_loadu_si512(p + 192), k);
		_mm512_storeu_si512(p, a);
		_mm512_storeu_si512(p + 64, b);
		_mm512_storeu_si512(p + 128, c);
		_mm512_storeu_si512(p + 192, d);
	}
	for (; n >= 64; p += 64, n -= 64)
		_mm512_storeu_si512(p, _mm512_xor_si512(_mm512_loadu_si512(p), k));
	if (n) {
		__mmask64 m = ~0ull >> (64 - n);
		_mm512_mask_storeu_epi8(p, m, _mm512_xor_si512(_mm512_maskz_loadu_epi8(m, p), k));
	}
}
#else
#define NAME "the compiler's vectors"
__attribute__((noinline)) static void mask(uint8_t *p, size_t n, uint32_t key)
{
	for (; n >= 4; p += 4, n -= 4) {
		uint32_t word;
		memcpy(&word, p, 4);
		word ^= key;
		memcpy(p, &word, 4);
	}
	for (; n; p++, n--, key >>= 8)
		*p ^= (uint8_t)key;
}
#endif

static double now(void)
{
	struct timespec t;
	clock_gettime(CLOCK_MONOTONIC, &t);
	return t.tv_sec * 1e9 + t.tv_nsec;
}

int main(int argc, char **argv)
{
	enum { RING_BYTES = 16 * 1024, RING_MAX = 64 };
	const double window = 5e5; /* ns */
	printf("%s\n", NAME);
	for (int i = 1; i + 1 < argc; i += 2) {
		size_t n = strtoul(argv[i], NULL, 10), offset = strtoul(argv[i + 1], NULL, 10);
		size_t stride = (offset + n + 63) / 64 * 64, count = RING_BYTES / stride;
		count = count > RING_MAX ? RING_MAX : count < 1 ? 1 : count;
		uint8_t *room = aligned_alloc(64, stride * count);
		if (!room)
			return 2;
		memset(room, 1, stride * count);
		double begin = now(), spent;
		size_t calls = 0;
		do {
			for (int round = 0; round < 64; round++)
				for (size_t j = 0; j < count; j++)
					mask(room + j * stride + offset, n, 0x3d21fa37);
			calls += 64 * count;
		} while ((spent = now() - begin) < window);
		printf("%.4f\n", spent / calls);
		free(room);
	}
	return 0;
}
