//go:build ignore

/*
 * arena.c: the load generator of the arena's profiles. One thread, one epoll instance, requests of
 * any kind and size from a script, one line of JSON on standard output when it is done; the line
 * has the fields of load.c's. It knows nothing of targets or profiles: arena_run.go writes the script,
 * starts it and reads the line.
 * (The first line keeps the go command, which would want cgo for it, away from this file.)
 *
 * Each connection sends one request of the script, reads its whole answer, sends the next one;
 * neighbouring connections begin at neighbouring requests. A script is a file of entries, each a
 * line "SIZE BODY\n" and SIZE bytes to send; BODY is how long the body of the answer has to be, -1
 * for whatever the first answer to that entry has. What is left of a body by the first recv is
 * dropped inside the kernel (MSG_TRUNC), so that large answers do not make a slow reader.
 *
 * With --tls the connections are TLS 1.3 (built with -DWITH_TLS and OpenSSL). With --close-after N a
 * connection is closed by this side after N answers and another opened.
 */
#include "load.h"
#include <fcntl.h>
#include <sys/resource.h>
#ifdef WITH_TLS
#include <openssl/ssl.h>
static SSL_CTX *tls_context;
#endif

enum {
	CONNECTIONS_MAX = 20000,
	ENTRIES_MAX = 65536,
	INPUT_BYTES = 256 * 1024,
	HEAD_BYTES_MAX = 8192,
	EVENTS = 256,
	SOURCES = 32,             /* addresses 127.0.0.2 and up: closed connections keep their ports for a minute */
};
#define DRAIN_MAX (5 * SECOND)

struct entry {
	const char *bytes;
	size_t size;
	int64_t body; /* of its answer, -1 until known */
};

struct connection {
	int fd;
#ifdef WITH_TLS
	SSL *ssl;
#endif
	int entry;        /* of the script, in progress */
	size_t sent;      /* of its bytes */
	uint64_t since;   /* when it began to be sent */
	int answers;
	bool waiting;     /* for an answer, or for room to send */
	enum { HEAD, LENGTH, CHUNK_SIZE, CHUNK, CHUNK_END, TRAILER } state;
	uint64_t left;    /* of the body, or of the chunk */
	int64_t body;     /* so far */
	int line;         /* bytes of a line of the chunked framing so far */
	int part_bytes;
	char *part;       /* the front of a head that has not arrived whole */
};

static struct {
	int port, connections, pid, close_after;
	double warmup, seconds;
	const char *script;
	bool tls;
} opt = { .connections = 64, .warmup = 0.5, .seconds = 2 };

static struct entry *entries;
static int entry_count, epoll_fd, alive;
static struct connection *conns;
static enum { WARMING, MEASURING, DRAINING } phase = WARMING;
static uint64_t sent, answered, lost, bytes_in;
static struct histogram latency, lateness; /* nothing is late in a closed loop */

/* ---- connections ---- */

static void shut(struct connection *c)
{
#ifdef WITH_TLS
	if (c->ssl)
		SSL_free(c->ssl);
	c->ssl = NULL;
#endif
	if (c->fd >= 0) {
		close(c->fd);
		alive--;
	}
	c->fd = -1;
	c->part_bytes = 0;
}

static void fail(struct connection *c, int kind, const char *text, int n)
{
	count_error(kind, text, n);
	lost += c->waiting;
	c->waiting = false;
	shut(c);
}

static void fail_text(struct connection *c, int kind, const char *text)
{
	fail(c, kind, text, strlen(text));
}

static bool open_connection(struct connection *c)
{
	static uint32_t source;
	struct sockaddr_in to = { .sin_family = AF_INET, .sin_port = htons(opt.port), .sin_addr.s_addr = htonl(INADDR_LOOPBACK) };
	struct sockaddr_in from = { .sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK + 1 + source++ % SOURCES) };
	int one = 1;
	c->fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
	if (c->fd < 0)
		die("socket");
	alive++;
	c->state = HEAD;
	c->answers = 0;
	setsockopt(c->fd, IPPROTO_IP, IP_BIND_ADDRESS_NO_PORT, &one, sizeof one);
	if (bind(c->fd, (struct sockaddr *)&from, sizeof from) || connect(c->fd, (struct sockaddr *)&to, sizeof to)) {
		fail_text(c, ERR_CONNECT, strerror(errno));
		return false;
	}
	setsockopt(c->fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof one);
#ifdef WITH_TLS
	if (opt.tls) {
		c->ssl = SSL_new(tls_context);
		if (!c->ssl || !SSL_set_fd(c->ssl, c->fd) || SSL_connect(c->ssl) != 1) {
			fail_text(c, ERR_CONNECT, "the TLS handshake");
			return false;
		}
	}
#endif
	fcntl(c->fd, F_SETFL, O_NONBLOCK);
	struct epoll_event ev = { .events = EPOLLIN | EPOLLOUT | EPOLLRDHUP | EPOLLET, .data.ptr = c };
	if (epoll_ctl(epoll_fd, EPOLL_CTL_ADD, c->fd, &ev))
		die("epoll_ctl");
	return true;
}

/* put and take are send and recv, -1 with EAGAIN when it would wait, -1 otherwise when it failed. */
static ssize_t put(struct connection *c, const char *p, size_t n)
{
#ifdef WITH_TLS
	if (c->ssl) {
		int did = SSL_write(c->ssl, p, n);
		if (did > 0)
			return did;
		int why = SSL_get_error(c->ssl, did);
		errno = why == SSL_ERROR_WANT_READ || why == SSL_ERROR_WANT_WRITE ? EAGAIN : EPIPE;
		return -1;
	}
#endif
	return send(c->fd, p, n, MSG_NOSIGNAL);
}

static ssize_t take(struct connection *c, char *p, size_t n, int flags)
{
#ifdef WITH_TLS
	if (c->ssl) {
		int did = SSL_read(c->ssl, p, n);
		if (did > 0)
			return did;
		int why = SSL_get_error(c->ssl, did);
		if (why == SSL_ERROR_ZERO_RETURN)
			return 0;
		errno = why == SSL_ERROR_WANT_READ || why == SSL_ERROR_WANT_WRITE ? EAGAIN : EPIPE;
		return -1;
	}
#endif
	return recv(c->fd, p, n, flags);
}

static void go_on_sending(struct connection *c)
{
	struct entry *e = &entries[c->entry];
	while (c->fd >= 0 && c->sent < e->size) {
		ssize_t n = put(c, e->bytes + c->sent, e->size - c->sent);
		if (n < 0 && errno == EAGAIN)
			return;
		if (n < 0)
			fail_text(c, ERR_SEND, strerror(errno));
		else
			c->sent += n;
	}
}

static void send_next(struct connection *c, uint64_t now)
{
	c->entry = (c->entry + 1) % entry_count;
	c->sent = 0;
	c->since = now;
	c->waiting = true;
	c->body = 0;
	sent++;
	go_on_sending(c);
}

/* ---- answers ---- */

/* after_answer: false when the bytes that follow are not this connection's any more. */
static bool after_answer(struct connection *c, uint64_t now)
{
	struct entry *e = &entries[c->entry];
	c->state = HEAD;
	if (e->body < 0)
		e->body = c->body;
	if (c->body != e->body || c->sent < e->size) {
		fail_text(c, ERR_FRAMING, c->sent < e->size ? "an answer before the whole request was sent" : "a body of another length");
		return false;
	}
	answered++;
	c->waiting = false;
	if (phase == MEASURING)
		record(&latency, now - c->since);
	if (opt.close_after && ++c->answers == opt.close_after) {
		shut(c);
		if (phase != DRAINING && !open_connection(c))
			return false;
		if (phase != DRAINING)
			send_next(c, now);
		return false;
	}
	if (phase != DRAINING)
		send_next(c, now);
	return c->fd >= 0;
}

/* read_head: the size of the head at p, 0 when it has not arrived whole, -1 when it failed. */
static int read_head(struct connection *c, const char *p, int n)
{
	const char *end = memmem(p, n, "\r\n\r\n", 4);
	if (!end) {
		if (n < HEAD_BYTES_MAX)
			return 0;
		fail_text(c, ERR_FRAMING, "a head too large");
		return -1;
	}
	if (memcmp(p, "HTTP/1.1 200", 12)) {
		fail(c, ERR_STATUS, p, n);
		return -1;
	}
	bool framed = false;
	for (const char *line = memchr(p, '\n', end - p); line; line = memchr(line, '\n', end - line)) {
		line++;
		if (end - line > 15 && !strncasecmp(line, "Content-Length:", 15)) {
			c->left = strtoull(line + 15, NULL, 10);
			c->state = LENGTH;
			framed = true;
		} else if (end - line > 18 && !strncasecmp(line, "Transfer-Encoding:", 18)) {
			c->left = c->line = 0;
			c->state = CHUNK_SIZE;
			framed = true;
		}
	}
	if (!framed) {
		fail_text(c, ERR_FRAMING, "neither Content-Length nor chunks");
		return -1;
	}
	return end + 4 - p;
}

/* read_chunks moves over chunked framing (RFC 9112, section 7.1); true at its end. */
static bool read_chunks(struct connection *c, const char *p, int n, int *at)
{
	while (*at < n) {
		char b = p[*at];
		if (c->state == CHUNK) {
			uint64_t k = c->left < (uint64_t)(n - *at) ? c->left : (uint64_t)(n - *at);
			c->left -= k;
			c->body += k;
			*at += k;
			if (!c->left)
				c->state = CHUNK_END;
			continue;
		}
		++*at;
		if (c->state == CHUNK_SIZE && isxdigit((unsigned char)b)) {
			c->left = c->left << 4 | (isdigit((unsigned char)b) ? b - '0' : (b | 32) - 'a' + 10);
		} else if (c->state == TRAILER && b != '\r' && b != '\n') {
			c->line++;
		} else if (b == '\n') {
			if (c->state == TRAILER && !c->line)
				return true;
			if (c->state == CHUNK_SIZE)
				c->state = c->left ? CHUNK : TRAILER;
			else if (c->state == CHUNK_END)
				c->state = CHUNK_SIZE;
			c->line = 0;
		}
	}
	return false;
}

/* take_answers goes through n bytes at p; false when the connection failed or is another one now. */
static bool take_answers(struct connection *c, const char *p, int n, uint64_t now)
{
	int at = 0;
	for (;;) {
		if (c->state == HEAD) {
			if (at == n)
				break;
			if (!c->waiting) {
				fail_text(c, ERR_FRAMING, "bytes nobody asked for");
				return false;
			}
			int head = read_head(c, p + at, n - at);
			if (head < 0)
				return false;
			if (!head)
				break;
			at += head;
		}
		bool ended;
		if (c->state == LENGTH) {
			uint64_t k = c->left < (uint64_t)(n - at) ? c->left : (uint64_t)(n - at);
			c->left -= k;
			c->body += k;
			at += k;
			ended = !c->left;
		} else {
			ended = read_chunks(c, p, n, &at);
		}
		if (!ended)
			break;
		if (!after_answer(c, now))
			return false;
	}
	c->part_bytes = c->state == HEAD ? n - at : 0;
	if (c->part_bytes && !c->part && !(c->part = malloc(HEAD_BYTES_MAX)))
		die("malloc");
	memcpy(c->part ? c->part : (char *)p, p + at, c->part_bytes);
	return true;
}

static void readable(struct connection *c)
{
	static char in[INPUT_BYTES];
	for (;;) {
		bool drop = c->state == LENGTH && c->left > sizeof in && !opt.tls;
		int have = c->part_bytes;
		size_t room = drop ? c->left - 1 : sizeof in - have;
		if (have)
			memcpy(in, c->part, have);
		ssize_t n = take(c, in + have, room, drop ? MSG_TRUNC : 0);
		if (n < 0 && errno == EAGAIN)
			return;
		if (n <= 0) {
			fail_text(c, ERR_CLOSED, "by the server");
			return;
		}
		bytes_in += n;
		if (drop) {
			c->left -= n;
			c->body += n;
		} else if (!take_answers(c, in, have + n, now_ns())) {
			return;
		}
		if (c->fd < 0 || (!opt.tls && (size_t)n < room))
			return; /* edge-triggered epoll reports what comes later */
	}
}

/* ---- the run ---- */

static struct account { uint64_t user, all, cpu, self, answered, time, bytes; } before, after;

static struct account read_accounts(void)
{
	return (struct account){
		process_clock(opt.pid, 1), process_clock(opt.pid, 0), process_clock(opt.pid, 2), clock_ns(CLOCK_PROCESS_CPUTIME_ID), answered, now_ns(), bytes_in,
	};
}

static void run(void)
{
	uint64_t boundary = now_ns() + opt.warmup * SECOND;
	for (int i = 0; i < opt.connections; i++)
		if (conns[i].fd >= 0)
			send_next(&conns[i], now_ns());
	for (;;) {
		uint64_t now = now_ns();
		if (phase == WARMING && now >= boundary) {
			before = read_accounts();
			boundary = before.time + opt.seconds * SECOND;
			phase = MEASURING;
		} else if (phase == MEASURING && now >= boundary) {
			after = read_accounts();
			boundary = now + DRAIN_MAX;
			phase = DRAINING;
		} else if (phase == DRAINING && now >= boundary) {
			break;
		}
		if ((phase == DRAINING && sent == answered + lost) || alive == 0)
			break;
		struct epoll_event events[EVENTS];
		uint64_t left = boundary > now ? boundary - now : 0;
		struct timespec ts = { left / SECOND, left % SECOND };
		int n = epoll_pwait2(epoll_fd, events, EVENTS, &ts, NULL);
		if (n < 0 && errno != EINTR)
			die("epoll_pwait2");
		for (int i = 0; i < n; i++) {
			struct connection *c = events[i].data.ptr;
			if (c->fd >= 0 && events[i].events & EPOLLOUT && c->waiting)
				go_on_sending(c);
			if (c->fd >= 0 && events[i].events & ~EPOLLOUT)
				readable(c);
		}
	}
	if (phase == MEASURING)
		after = read_accounts(); /* every connection failed */
}

static void report(void)
{
	printf("{\"mode\":\"closed\",");
	print_number("window_ns", after.time - before.time);
	print_number("answered", after.answered - before.answered);
	print_number("sent_total", sent);
	print_number("answered_total", answered);
	print_number("unanswered", sent - answered);
	print_number("cpu_ns", after.cpu - before.cpu);
	print_number("tick_user_ns", after.user - before.user);
	print_number("tick_all_ns", after.all - before.all);
	print_tick();
	print_number("generator_cpu_ns", after.self - before.self);
	print_errors();
	printf("\"lateness\":");
	print_histogram(&lateness);
	uint64_t got = after.answered - before.answered;
	printf(",\"classes\":[{\"name\":\"main\",\"path\":\"\",\"answer_bytes\":%llu,\"latency\":",
	       (unsigned long long)(got ? (after.bytes - before.bytes) / got : 0));
	print_histogram(&latency);
	printf("}]}\n");
}

/* ---- set-up ---- */

static void usage(const char *why)
{
	fprintf(stderr, "arena: %s\nusage: arena --port P --script FILE [--connections N] [--warmup S] [--seconds S]\n"
		"  [--pid SERVER] [--close-after ANSWERS] [--tls]\n", why);
	exit(2);
}

static void parse_options(int argc, char **argv)
{
	static const struct option names[] = {
		{ "port", 1, 0, 'p' }, { "connections", 1, 0, 'c' }, { "warmup", 1, 0, 'w' }, { "seconds", 1, 0, 's' },
		{ "pid", 1, 0, 'i' }, { "close-after", 1, 0, 'n' }, { "script", 1, 0, 'f' }, { "tls", 0, 0, 't' }, { 0 },
	};
	for (int o; (o = getopt_long(argc, argv, "", names, NULL)) != -1;) {
		switch (o) {
		case 'p': opt.port = atoi(optarg); break;
		case 'c': opt.connections = atoi(optarg); break;
		case 'w': opt.warmup = atof(optarg); break;
		case 's': opt.seconds = atof(optarg); break;
		case 'i': opt.pid = atoi(optarg); break;
		case 'n': opt.close_after = atoi(optarg); break;
		case 'f': opt.script = optarg; break;
		case 't': opt.tls = true; break;
		default: usage("unknown option");
		}
	}
	if (opt.port < 1 || opt.connections < 1 || opt.connections > CONNECTIONS_MAX || !opt.script)
		usage("--port, --script and a sensible --connections are needed");
	if (opt.seconds <= 0 || opt.seconds > 600 || opt.warmup < 0 || opt.warmup > 60 || opt.close_after < 0)
		usage("--seconds is over 0 and at most 600, --warmup at most 60, --close-after at least 0");
}

static void read_script(void)
{
	FILE *f = fopen(opt.script, "rb");
	entries = calloc(ENTRIES_MAX, sizeof *entries);
	if (!f || !entries)
		die(opt.script);
	long long size, body;
	while (fscanf(f, "%lld %lld", &size, &body) == 2 && fgetc(f) == '\n') {
		char *bytes = size > 0 && entry_count < ENTRIES_MAX ? malloc(size) : NULL;
		if (!bytes || fread(bytes, 1, size, f) != (size_t)size)
			usage("a script that is cut short, or too long");
		entries[entry_count++] = (struct entry){ bytes, size, body };
	}
	if (!entry_count || !feof(f))
		usage("a script that is none");
	fclose(f);
}

int main(int argc, char **argv)
{
	parse_options(argc, argv);
	read_script();
	signal(SIGPIPE, SIG_IGN);
	struct rlimit files;
	if (!getrlimit(RLIMIT_NOFILE, &files)) {
		files.rlim_cur = files.rlim_max;
		setrlimit(RLIMIT_NOFILE, &files);
	}
#ifdef WITH_TLS
	if (opt.tls && !((tls_context = SSL_CTX_new(TLS_client_method())) && SSL_CTX_set_min_proto_version(tls_context, TLS1_3_VERSION) &&
		SSL_CTX_set_ciphersuites(tls_context, "TLS_AES_128_GCM_SHA256")))
		usage("no TLS");
	if (opt.tls)
		SSL_CTX_set_mode(tls_context, SSL_MODE_ENABLE_PARTIAL_WRITE | SSL_MODE_ACCEPT_MOVING_WRITE_BUFFER);
#else
	if (opt.tls)
		usage("built without TLS");
#endif
	epoll_fd = epoll_create1(EPOLL_CLOEXEC);
	conns = calloc(opt.connections, sizeof *conns);
	if (epoll_fd < 0 || !conns)
		die("set-up");
	for (int i = 0; i < opt.connections; i++) {
		conns[i].entry = i % entry_count;
		open_connection(&conns[i]);
	}
	run();
	report();
	return 0;
}
