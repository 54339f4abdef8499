/*
 * load.h: what both load generators have: a histogram, clocks of this process and the server's,
 * the first of their errors, and JSON. buildC puts it in the place of its #include.
 */
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <ctype.h>
#include <errno.h>
#include <getopt.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <signal.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

enum {
	SUB_BITS = 6,                /* 64 buckets an octave: 1.6 % wide; stats.go has the inverse */
	BUCKETS = 36 << SUB_BITS,    /* up to 2^40 ns, 18 minutes */
};
#define SECOND 1000000000ull

struct histogram {
	uint64_t count, max, bucket[BUCKETS];
};

static void record(struct histogram *h, uint64_t ns)
{
	if (ns >> 40)
		ns = (1ull << 40) - 1;
	int shift = ns < (2 << SUB_BITS) ? 0 : 63 - __builtin_clzll(ns) - SUB_BITS;
	h->bucket[(shift << SUB_BITS) + (ns >> shift)]++;
	h->count++;
	if (ns > h->max)
		h->max = ns;
}

static uint64_t clock_ns(clockid_t clock)
{
	struct timespec t;
	if (clock_gettime(clock, &t))
		return 0;
	return t.tv_sec * SECOND + t.tv_nsec;
}

static uint64_t now_ns(void) { return clock_ns(CLOCK_MONOTONIC); }

/* process_clock: 0 PROF, 1 VIRT, 2 SCHED: include/linux/posix-timers.h */
static uint64_t process_clock(int pid, int which)
{
	return pid ? clock_ns((clockid_t)((~(unsigned)pid << 3) | which)) : 0;
}

static void die(const char *what)
{
	fprintf(stderr, "%s: %s: %s\n", program_invocation_short_name, what, strerror(errno));
	exit(2);
}

enum { ERR_CONNECT, ERR_STATUS, ERR_FRAMING, ERR_CLOSED, ERR_SEND, ERRORS };
static const char *error_names[ERRORS] = { "connect", "status", "framing", "closed", "send" };
static uint64_t errors[ERRORS];
static char first_error[160];

/* count_error keeps what can be read in the first line of n bytes at text, of the first error. */
static void count_error(int kind, const char *text, int n)
{
	errors[kind]++;
	if (first_error[0])
		return;
	int at = snprintf(first_error, sizeof first_error, "%s: ", error_names[kind]);
	for (int i = 0; i < n && text[i] != '\r' && at < (int)sizeof first_error - 1; i++)
		if (isprint((unsigned char)text[i]) && text[i] != '"' && text[i] != '\\')
			first_error[at++] = text[i];
	first_error[at] = 0;
}

static void print_number(const char *name, uint64_t n)
{
	printf("\"%s\":%llu,", name, (unsigned long long)n);
}

/* print_tick: what is sampled by scheduler ticks is no better than that. */
static void print_tick(void)
{
	struct timespec tick;
	clock_getres(CLOCK_MONOTONIC_COARSE, &tick);
	print_number("tick_ns", tick.tv_nsec);
}

static void print_errors(void)
{
	printf("\"errors\":{");
	for (int i = 0; i < ERRORS; i++)
		printf("%s\"%s\":%llu", i ? "," : "", error_names[i], (unsigned long long)errors[i]);
	printf("},\"first_error\":\"%s\",", first_error);
}

static void print_histogram(const struct histogram *h)
{
	printf("{\"count\":%llu,\"max_ns\":%llu,\"buckets\":[", (unsigned long long)h->count, (unsigned long long)h->max);
	const char *comma = "";
	for (int i = 0; i < BUCKETS; i++) {
		if (h->bucket[i]) {
			printf("%s[%d,%llu]", comma, i, (unsigned long long)h->bucket[i]);
			comma = ",";
		}
	}
	printf("]}");
}
