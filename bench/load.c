//go:build ignore

/*
 * load.c: the load generator. One thread, one epoll instance, HTTP/1.1 GETs on keep-alive
 * connections to 127.0.0.1, one line of JSON on standard output when it is done. It knows nothing
 * of targets, rounds or tables; load.go starts it and reads the line.
 * (The first line keeps the go command, which would want cgo for it, away from this file.)
 *
 * closed  every connection sends `depth` requests, waits for all their answers, sends again.
 *         Latency counts from the send. Says what a request costs, not what a user would feel.
 * paced   requests fall due at a fixed mean rate whatever the server does, and latency counts
 *         from the time a request was due, not from when it could be sent: a stall is charged to
 *         every request that fell due during it (no coordinated omission). A due request takes the
 *         connection that has been idle longest; with none idle it queues.
 *
 * With --websocket N the connections are WebSockets (RFC 6455): a request is a masked text message
 * of N bytes in one frame, its answer the same message from the server.
 *
 * The server's CPU time is read here, at the very edges of the measured window, through the
 * process's CPU clocks: CPUCLOCK_SCHED is exact to the nanosecond and sums all threads, dead ones
 * too. The user/system split is not that good: the kernel attributes whole scheduler ticks, so
 * CPUCLOCK_VIRT / CPUCLOCK_PROF is a sample of one per tick. tick_ns says how long one is.
 */
#include "load.h"
#include <dirent.h>
#include <math.h>
#include <sys/prctl.h>

enum {
	DEPTH_MAX = 128,
	CONNECTIONS_MAX = 60000,     /* below the ports one client address has */
	REQUEST_BYTES_MAX = 1024,
	ANSWER_BYTES_MAX = 64 * 1024,
	INPUT_BYTES = 4 * ANSWER_BYTES_MAX,
	BACKLOG_MAX = 1 << 20,       /* due requests without a connection; over it we stop early */
	EVENTS = 256,
};
#define DRAIN_MAX (3 * SECOND)

/* A class is one kind of request and what its answers have to look like. */
enum { MAIN, MIX, DISTURB, CLASSES };
static struct class {
	const char *name, *path;
	char request[REQUEST_BYTES_MAX];
	int request_bytes;
	int head_bytes, answer_bytes; /* learnt from the first answer, demanded of all others */
	struct histogram latency;
} classes[CLASSES] = { { .name = "main" }, { .name = "mix" }, { .name = "disturb" } };

struct flight {
	uint64_t since; /* closed: when sent; paced: when due */
	uint8_t class;
};

struct connection {
	int fd;
	int first, flying; /* ring of requests without an answer yet */
	struct flight flight[DEPTH_MAX];
	char *part;        /* the front of an answer that has not arrived whole */
	int part_bytes;
};

static struct {
	const char *host;
	int port, connections, depth, pid, mix_percent;
	int websocket; /* bytes of a message, 0: HTTP */
	double warmup, seconds, rate, disturb_every;
	uint64_t spin_ns, seed;
	bool paced, poisson;
} opt = { .host = "127.0.0.1", .connections = 64, .depth = 1, .warmup = 0.5, .seconds = 2,
	  .disturb_every = 1, .poisson = true };

static enum { WARMING, MEASURING, DRAINING } phase = WARMING;
static uint64_t window_start, window_end;
static uint64_t sent, answered, lost; /* since the start, warm-up included */

/* The echo that each message has to come back as, byte for byte. */
static char echo[REQUEST_BYTES_MAX];
static int echo_bytes;

static struct connection *conns; /* [connections] plus one for the disturbance */
static int epoll_fd, alive;
static int *idle, idle_first, idle_count;
static struct flight *backlog;
static uint64_t backlog_first, backlog_count, queued_for_connection, unsent;
static struct histogram lateness; /* of our own sends, where a connection was free in time */
static uint64_t random_state = 0x9E3779B97F4A7C15ull;

/* xorshift64*: one seed, one schedule, whatever the target. */
static uint64_t random_next(void)
{
	random_state ^= random_state >> 12;
	random_state ^= random_state << 25;
	random_state ^= random_state >> 27;
	return random_state * 0x2545F4914F6CDD1Dull;
}

/* ---- the server's accounts ---- */

struct account {
	uint64_t cpu_ns, tick_user_ns, tick_all_ns, voluntary, involuntary;
};

static void read_switches(struct account *a)
{
	char path[64], line[256];
	snprintf(path, sizeof path, "/proc/%d/task", opt.pid);
	DIR *dir = opt.pid ? opendir(path) : NULL;
	if (!dir)
		return;
	for (struct dirent *e; (e = readdir(dir));) {
		char status[sizeof path + sizeof e->d_name + 16];
		snprintf(status, sizeof status, "%s/%s/status", path, e->d_name);
		FILE *f = e->d_name[0] == '.' ? NULL : fopen(status, "r");
		if (!f)
			continue;
		unsigned long long n;
		while (fgets(line, sizeof line, f)) {
			if (sscanf(line, "voluntary_ctxt_switches: %llu", &n) == 1)
				a->voluntary += n;
			if (sscanf(line, "nonvoluntary_ctxt_switches: %llu", &n) == 1)
				a->involuntary += n;
		}
		fclose(f);
	}
	closedir(dir);
}

/* ---- connections ---- */

static void fail(struct connection *c, int kind, const char *text, int n)
{
	count_error(kind, text, n);
	lost += c->flying;
	c->flying = 0;
	if (c->fd >= 0) {
		close(c->fd);
		alive--;
	}
	c->fd = -1;
}

/* shake_hands opens the WebSocket; the connection has just been made, and its socket waits. The key
 * is that of RFC 6455 §1.3. */
static bool shake_hands(struct connection *c)
{
	char text[REQUEST_BYTES_MAX];
	int n = snprintf(text, sizeof text, "GET %s HTTP/1.1\r\nHost: %s:%d\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
		"Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n",
		classes[MAIN].path, opt.host, opt.port), have = 0;
	if (send(c->fd, text, n, MSG_NOSIGNAL) != n)
		return false;
	while (!memmem(text, have, "\r\n\r\n", 4)) {
		n = have < (int)sizeof text ? recv(c->fd, text + have, sizeof text - have, 0) : 0;
		if (n <= 0)
			return false;
		have += n;
	}
	return !memcmp(text, "HTTP/1.1 101", 12) && memmem(text, have, "s3pPLMBiTxaQ9kYGzzhZRbK+xOo=", 28);
}

static void open_connection(struct connection *c)
{
	struct sockaddr_in to = { .sin_family = AF_INET, .sin_port = htons(opt.port) };
	int one = 1;
	inet_pton(AF_INET, opt.host, &to.sin_addr);
	c->fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
	if (c->fd < 0)
		die("socket");
	alive++;
	if (connect(c->fd, (struct sockaddr *)&to, sizeof to)) {
		const char *why = strerror(errno);
		fail(c, ERR_CONNECT, why, strlen(why));
		return;
	}
	setsockopt(c->fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof one);
	if (opt.websocket && !shake_hands(c)) {
		fail(c, ERR_STATUS, "no WebSocket", 12);
		return;
	}
	struct epoll_event ev = {
		/* Level-triggered, each answer would cost a second look at its socket. */
		.events = EPOLLIN | EPOLLRDHUP | EPOLLET, .data.ptr = c,
	};
	if (epoll_ctl(epoll_fd, EPOLL_CTL_ADD, c->fd, &ev))
		die("epoll_ctl");
}

static void send_flights(struct connection *c, const struct flight *flights, int n)
{
	static char scratch[DEPTH_MAX * REQUEST_BYTES_MAX];
	const char *bytes = scratch;
	int size = 0;
	if (n == 1) {
		bytes = classes[flights->class].request;
		size = classes[flights->class].request_bytes;
	}
	for (int i = 0; i < n; i++) {
		if (n > 1) {
			struct class *k = &classes[flights[i].class];
			memcpy(scratch + size, k->request, k->request_bytes);
			size += k->request_bytes;
		}
		c->flight[(c->first + c->flying++) % DEPTH_MAX] = flights[i];
	}
	sent += n;
	/* A batch is small beside any socket buffer: one that does not fit whole is an error. */
	if (send(c->fd, bytes, size, MSG_DONTWAIT | MSG_NOSIGNAL) != size) {
		const char *why = errno ? strerror(errno) : "short";
		fail(c, ERR_SEND, why, strlen(why));
	}
}

static uint8_t pick_class(void)
{
	return opt.mix_percent && (int)(random_next() >> 33) % 100 < opt.mix_percent ? MIX : MAIN;
}

static void send_batch(struct connection *c, uint64_t now)
{
	struct flight batch[DEPTH_MAX];
	for (int i = 0; i < opt.depth; i++)
		batch[i] = (struct flight){ .since = now, .class = pick_class() };
	send_flights(c, batch, opt.depth);
}

/* ---- pacing ---- */

static uint64_t gap_ns(void)
{
	double mean = SECOND / opt.rate;
	if (!opt.poisson)
		return mean;
	return -log(((random_next() >> 11) + 1) / 9007199254740993.0) * mean;
}

static struct connection *take_idle(void)
{
	while (idle_count) {
		struct connection *c = &conns[idle[idle_first]];
		idle_first = (idle_first + 1) % opt.connections;
		idle_count--;
		if (c->fd >= 0)
			return c;
	}
	return NULL;
}

static void put_idle(struct connection *c)
{
	idle[(idle_first + idle_count++) % opt.connections] = c - conns;
}

static double next_due_exact;
static uint64_t next_due;

static void issue_due(uint64_t now)
{
	while (phase != DRAINING && next_due <= now && (phase == WARMING || next_due < window_end)) {
		struct flight f = { .since = next_due, .class = pick_class() };
		struct connection *c = take_idle();
		if (c) {
			if (phase == MEASURING && next_due >= window_start)
				record(&lateness, now - next_due);
			send_flights(c, &f, 1);
			now = now_ns();
		} else if (backlog_count < BACKLOG_MAX) {
			backlog[(backlog_first + backlog_count++) % BACKLOG_MAX] = f;
			queued_for_connection += phase == MEASURING;
		} else {
			unsent++;
		}
		next_due_exact += opt.poisson ? gap_ns() : SECOND / opt.rate;
		next_due = next_due_exact;
	}
}

/* after_answer gives the connection its next work, if there is any. */
static void after_answer(struct connection *c, uint64_t now)
{
	if (c->fd < 0 || c->flying || c == &conns[opt.connections])
		return;
	if (!opt.paced) {
		if (phase != DRAINING)
			send_batch(c, now);
	} else if (backlog_count) {
		struct flight f = backlog[backlog_first];
		backlog_first = (backlog_first + 1) % BACKLOG_MAX;
		backlog_count--;
		send_flights(c, &f, 1);
	} else {
		put_idle(c);
	}
}

/* ---- answers ---- */

static int learn(struct class *k, const char *p, int n)
{
	const char *end = memmem(p, n, "\r\n\r\n", 4);
	if (!end)
		return 0;
	for (const char *line = memchr(p, '\n', end - p); line; line = memchr(line, '\n', end - line)) {
		line++;
		if (end - line > 15 && !strncasecmp(line, "Content-Length:", 15)) {
			k->head_bytes = end + 4 - p;
			k->answer_bytes = k->head_bytes + atoi(line + 15);
			return k->answer_bytes <= ANSWER_BYTES_MAX ? 1 : -1;
		}
	}
	return -1;
}

/* take_echo is take_answer for WebSockets. */
static int take_echo(struct connection *c, struct class *k, const char *p, int n)
{
	if (n < echo_bytes)
		return 0;
	if (memcmp(p, echo, echo_bytes)) {
		fail(c, ERR_FRAMING, "another frame than the echo", 27);
		return -1;
	}
	return k->answer_bytes = echo_bytes;
}

/* take_answer: the size of the answer at p, 0 when it has not arrived whole, -1 when it failed. */
static int take_answer(struct connection *c, struct class *k, const char *p, int n)
{
	if (opt.websocket)
		return take_echo(c, k, p, n);
	if (n < 12)
		return 0;
	if (memcmp(p, "HTTP/1.1 200", 12)) {
		fail(c, memcmp(p, "HTTP/1.", 7) ? ERR_FRAMING : ERR_STATUS, p, n);
		return -1;
	}
	if (!k->answer_bytes) {
		int learnt = learn(k, p, n);
		if (learnt < 0)
			fail(c, ERR_FRAMING, "no usable Content-Length", 24);
		if (learnt <= 0)
			return learnt;
	}
	if (n < k->answer_bytes)
		return 0;
	if (memcmp(p + k->head_bytes - 4, "\r\n\r\n", 4)) {
		fail(c, ERR_FRAMING, "an answer of another length", 27);
		return -1;
	}
	return k->answer_bytes;
}

static void count_answer(struct connection *c, uint64_t now)
{
	struct flight f = c->flight[c->first];
	c->first = (c->first + 1) % DEPTH_MAX;
	c->flying--;
	answered++;
	/* Paced requests belong to the window they were due in, however late their answer is. */
	uint64_t at = opt.paced || f.class == DISTURB ? f.since : now;
	if (phase != WARMING && at >= window_start && at < window_end)
		record(&classes[f.class].latency, now - f.since);
}

/* take_answers: every whole answer in the bytes at in; what is left is kept for the next recv.
 * False when the connection failed. */
static bool take_answers(struct connection *c, const char *in, int have, uint64_t now)
{
	int at = 0;
	while (at < have) {
		if (!c->flying) {
			fail(c, ERR_FRAMING, "bytes nobody asked for", 22);
			return false;
		}
		int size = take_answer(c, &classes[c->flight[c->first].class], in + at, have - at);
		if (size < 0)
			return false;
		if (!size)
			break;
		at += size;
		count_answer(c, now);
	}
	c->part_bytes = have - at;
	if (c->part_bytes > ANSWER_BYTES_MAX) {
		fail(c, ERR_FRAMING, "an answer too large", 19);
		return false;
	}
	if (c->part_bytes && !c->part && !(c->part = malloc(ANSWER_BYTES_MAX)))
		die("malloc");
	if (c->part_bytes)
		memcpy(c->part, in + at, c->part_bytes);
	return true;
}

/* readable: one recv, then every answer in it; again only if there may be more, since a short read
 * has emptied the socket and edge-triggered epoll reports what comes later. Returns the time. */
static uint64_t readable(struct connection *c)
{
	static char in[INPUT_BYTES];
	for (;;) {
		int have = c->part_bytes, room = sizeof in - have;
		if (have)
			memcpy(in, c->part, have);
		int n = recv(c->fd, in + have, room, MSG_DONTWAIT);
		uint64_t now = now_ns();
		if (n < 0 && errno == EAGAIN)
			return now;
		if (n <= 0)
			fail(c, ERR_CLOSED, "by the server", 13);
		if (n <= 0 || !take_answers(c, in, have + n, now))
			return now;
		after_answer(c, now);
		if (n < room || c->fd < 0)
			return now;
	}
}

/* ---- the run ---- */

static void wait_events(uint64_t until)
{
	struct epoll_event events[EVENTS];
	uint64_t now = now_ns(), spin_from = opt.spin_ns < until ? until - opt.spin_ns : 0;
	int n = 0;
	if (opt.paced && now >= spin_from) {
		/* Due within the spin margin: the timer would wake us late. */
		n = epoll_wait(epoll_fd, events, EVENTS, 0);
	} else {
		uint64_t to = opt.paced ? spin_from : until;
		uint64_t left = to > now ? to - now : 0;
		struct timespec ts = { left / SECOND, left % SECOND };
		if (!opt.paced && opt.spin_ns)
			for (uint64_t stop = now + opt.spin_ns; !n && now_ns() < stop;)
				n = epoll_wait(epoll_fd, events, EVENTS, 0);
		if (!n)
			n = epoll_pwait2(epoll_fd, events, EVENTS, &ts, NULL);
	}
	if (n < 0 && errno != EINTR)
		die("epoll_pwait2");
	for (int i = 0; i < n; i++) {
		struct connection *c = events[i].data.ptr;
		if (c->fd < 0)
			continue;
		now = readable(c);
		if (opt.paced)
			issue_due(now);
	}
}

static uint64_t earlier(uint64_t a, uint64_t b) { return a < b ? a : b; }

static uint64_t flying_total(void)
{
	return sent - answered - lost;
}

static struct account before, after;
static uint64_t window_answered, window_ns, self_cpu_ns, disturb_skipped;

/* The slow reads of /proc come before the window and after the drain, so that they delay no
 * request the window counts; the CPU clock and the answer counter are read together. */
static void start_window(void)
{
	read_switches(&before);
	before.tick_user_ns = process_clock(opt.pid, 1);
	before.tick_all_ns = process_clock(opt.pid, 0);
	before.cpu_ns = process_clock(opt.pid, 2);
	window_answered = answered;
	self_cpu_ns = clock_ns(CLOCK_PROCESS_CPUTIME_ID);
	window_start = now_ns();
	window_end = window_start + opt.seconds * SECOND;
	phase = MEASURING;
}

static void end_window(uint64_t now)
{
	after.cpu_ns = process_clock(opt.pid, 2);
	after.tick_user_ns = process_clock(opt.pid, 1);
	after.tick_all_ns = process_clock(opt.pid, 0);
	window_answered = answered - window_answered;
	self_cpu_ns = clock_ns(CLOCK_PROCESS_CPUTIME_ID) - self_cpu_ns;
	window_ns = now - window_start;
	phase = DRAINING;
}

static void run(void)
{
	uint64_t start = now_ns(), boundary = start + opt.warmup * SECOND;
	uint64_t disturb_at = classes[DISTURB].path ? boundary : UINT64_MAX;
	struct connection *disturb = &conns[opt.connections];

	next_due_exact = next_due = start;
	for (int i = 0; i < opt.connections; i++)
		if (conns[i].fd >= 0)
			after_answer(&conns[i], start);
	for (;;) {
		uint64_t now = now_ns();
		if (phase == WARMING && now >= boundary) {
			start_window();
			boundary = window_end;
			if (classes[DISTURB].path)
				disturb_at = window_start + opt.disturb_every * SECOND / 2;
		} else if (phase == MEASURING && now >= boundary) {
			if (opt.paced)
				issue_due(window_end - 1); /* what fell due while we were away */
			end_window(now);
			boundary = now + DRAIN_MAX;
		} else if (phase == DRAINING && now >= boundary) {
			break;
		}
		if ((phase == DRAINING && !flying_total() && !backlog_count) || alive == 0)
			break;
		if (phase == MEASURING && now >= disturb_at) {
			disturb_at += opt.disturb_every * SECOND;
			if (disturb->fd >= 0 && !disturb->flying)
				send_flights(disturb, &(struct flight){ now, DISTURB }, 1);
			else
				disturb_skipped++;
		}
		if (opt.paced)
			issue_due(now);
		uint64_t until = boundary;
		if (opt.paced && phase != DRAINING)
			until = earlier(until, next_due);
		if (phase == MEASURING)
			until = earlier(until, disturb_at);
		wait_events(until);
	}
	if (phase == MEASURING)
		end_window(now_ns()); /* every connection failed */
	unsent += backlog_count;
	read_switches(&after);
}

/* ---- options and report ---- */

static void report(void)
{
	printf("{\"mode\":\"%s\",", opt.paced ? "paced" : "closed");
	print_number("window_ns", window_ns);
	print_number("answered", window_answered);
	print_number("sent_total", sent);
	print_number("answered_total", answered);
	print_number("unanswered", sent - answered);
	print_number("unsent", unsent);
	print_number("queued_for_connection", queued_for_connection);
	print_number("disturb_skipped", disturb_skipped);
	print_number("cpu_ns", after.cpu_ns - before.cpu_ns);
	print_number("tick_user_ns", after.tick_user_ns - before.tick_user_ns);
	print_number("tick_all_ns", after.tick_all_ns - before.tick_all_ns);
	print_tick();
	print_number("voluntary", after.voluntary - before.voluntary);
	print_number("involuntary", after.involuntary - before.involuntary);
	print_number("generator_cpu_ns", self_cpu_ns);
	print_errors();
	printf("\"lateness\":");
	print_histogram(&lateness);
	printf(",\"classes\":[");
	const char *comma = "";
	for (int i = 0; i < CLASSES; i++) {
		struct class *k = &classes[i];
		if (!k->path)
			continue;
		printf("%s{\"name\":\"%s\",\"path\":\"%s\",\"answer_bytes\":%d,\"latency\":", comma,
		       k->name, k->path, k->answer_bytes);
		print_histogram(&k->latency);
		printf("}");
		comma = ",";
	}
	printf("]}\n");
}

static void usage(const char *why)
{
	fprintf(stderr, "load: %s\nusage: load --port P [--connections N] [--depth D] [--warmup S] [--seconds S]\n"
		"  [--path /plaintext] [--pid SERVER] [--rate R: paced, per second] [--arrivals even|poisson]\n"
		"  [--mix-path P --mix-percent N] [--disturb-path P --disturb-every S] [--spin-us N]\n"
		"  [--seed N: another schedule] [--websocket N: messages of N bytes]\n", why);
	exit(2);
}

static void parse_options(int argc, char **argv)
{
	static const struct option names[] = {
		{ "port", 1, 0, 'p' }, { "connections", 1, 0, 'c' }, { "depth", 1, 0, 'd' },
		{ "warmup", 1, 0, 'w' }, { "seconds", 1, 0, 's' }, { "path", 1, 0, 'u' },
		{ "pid", 1, 0, 'i' }, { "rate", 1, 0, 'r' }, { "arrivals", 1, 0, 'a' },
		{ "mix-path", 1, 0, 'm' }, { "mix-percent", 1, 0, 'M' }, { "disturb-path", 1, 0, 'x' },
		{ "disturb-every", 1, 0, 'X' }, { "spin-us", 1, 0, 'S' },
		{ "seed", 1, 0, 'e' }, { "websocket", 1, 0, 'W' }, { 0 },
	};
	classes[MAIN].path = "/plaintext";
	for (int o; (o = getopt_long(argc, argv, "", names, NULL)) != -1;) {
		switch (o) {
		case 'p': opt.port = atoi(optarg); break;
		case 'c': opt.connections = atoi(optarg); break;
		case 'd': opt.depth = atoi(optarg); break;
		case 'w': opt.warmup = atof(optarg); break;
		case 's': opt.seconds = atof(optarg); break;
		case 'u': classes[MAIN].path = optarg; break;
		case 'i': opt.pid = atoi(optarg); break;
		case 'r': opt.rate = atof(optarg); opt.paced = true; break;
		case 'a': opt.poisson = strcmp(optarg, "even"); break;
		case 'm': classes[MIX].path = optarg; break;
		case 'M': opt.mix_percent = atoi(optarg); break;
		case 'x': classes[DISTURB].path = optarg; break;
		case 'X': opt.disturb_every = atof(optarg); break;
		case 'e': opt.seed = strtoull(optarg, NULL, 10); break;
		case 'W': opt.websocket = atoi(optarg); break;
		case 'S': opt.spin_ns = atof(optarg) * 1000; break;
		default: usage("unknown option");
		}
	}
	if (opt.port < 1 || opt.connections < 1 || opt.connections > CONNECTIONS_MAX)
		usage("--port and a sensible --connections are needed");
	if (opt.depth < 1 || opt.depth > DEPTH_MAX || (opt.paced && opt.depth != 1))
		usage("--depth is 1 to 128, and 1 when paced");
	if (opt.seconds <= 0 || opt.seconds > 600 || opt.warmup < 0 || opt.warmup > 60)
		usage("--seconds is over 0 and at most 600, --warmup at most 60");
	if (opt.paced && opt.rate <= 0)
		usage("--rate is over 0");
	if (opt.mix_percent && !classes[MIX].path)
		usage("--mix-percent needs --mix-path");
	if (opt.websocket < 0 || opt.websocket > REQUEST_BYTES_MAX - 8)
		usage("--websocket is 1 to 1016 bytes");
	if (opt.websocket && (classes[MIX].path || classes[DISTURB].path))
		usage("--websocket has one kind of request");
	if (opt.disturb_every <= 0)
		usage("--disturb-every is over 0");
}

/* make_message makes the masked message and its echo (RFC 6455 §5.2). */
static void make_message(struct class *k)
{
	static const char key[4] = "\x37\xfa\x21\x3d";
	char *request = k->request;
	int n = opt.websocket;
	request[0] = echo[0] = (char)0x81;
	if (n < 126) {
		request[1] = (char)(0x80 | n);
		echo[1] = (char)n;
		k->request_bytes = echo_bytes = 2;
	} else {
		request[1] = (char)(0x80 | 126);
		echo[1] = 126;
		request[2] = echo[2] = (char)(n >> 8);
		request[3] = echo[3] = (char)n;
		k->request_bytes = echo_bytes = 4;
	}
	memcpy(request + k->request_bytes, key, sizeof key);
	k->request_bytes += sizeof key;
	for (int i = 0; i < n; i++) {
		echo[echo_bytes++] = (char)('a' + i % 26);
		request[k->request_bytes++] = (char)('a' + i % 26) ^ key[i % 4];
	}
}

static void make_requests(void)
{
	if (opt.websocket) {
		make_message(&classes[MAIN]);
		return;
	}
	for (int i = 0; i < CLASSES; i++) {
		struct class *k = &classes[i];
		if (!k->path)
			continue;
		k->request_bytes = snprintf(k->request, sizeof k->request,
			"GET %s HTTP/1.1\r\nHost: %s:%d\r\n\r\n", k->path, opt.host, opt.port);
		if (k->request_bytes >= REQUEST_BYTES_MAX)
			usage("a path is too long");
	}
}

int main(int argc, char **argv)
{
	parse_options(argc, argv);
	make_requests();
	random_state += opt.seed * 0xBF58476D1CE4E5B9ull; /* odd: only one seed in 2^64 gives 0 */
	for (int i = 0; i < 8; i++)
		random_next(); /* neighbouring seeds start alike */
	prctl(PR_SET_TIMERSLACK, 1, 0, 0, 0); /* 50 µs by default: as long as a whole gap at 20,000/s */
	signal(SIGPIPE, SIG_IGN);
	epoll_fd = epoll_create1(EPOLL_CLOEXEC);
	conns = calloc(opt.connections + 1, sizeof *conns);
	idle = calloc(opt.connections, sizeof *idle);
	backlog = calloc(BACKLOG_MAX, sizeof *backlog);
	if (epoll_fd < 0 || !conns || !idle || !backlog)
		die("set-up");
	conns[opt.connections].fd = -1;
	for (int i = 0; i < opt.connections + (classes[DISTURB].path != NULL); i++)
		open_connection(&conns[i]);
	run();
	report();
	return 0;
}
