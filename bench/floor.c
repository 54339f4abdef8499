//go:build ignore

/*
 * floor.c: the cheapest HTTP answer this kernel allows a plain epoll server, the floor other
 * targets are measured against. Edge-triggered epoll, one recv and one send per request (per
 * batch of pipelined requests), a fixed answer with a current Date. It looks for the end of each
 * head and at nothing else: it is no HTTP server.
 *
 * On SIGTERM or SIGINT it prints what it did as one line of JSON, so that the harness can hold it
 * to that claim.
 */
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <errno.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

enum {
	FDS_MAX = 65536,
	EVENTS = 512,
	INPUT_BYTES = 64 * 1024,
	PART_BYTES_MAX = 16 * 1024, /* a head that comes in pieces may be this long */
	BATCH_MAX = 1024,           /* answers in one send */
	ANSWER_BYTES_MAX = 512,
};

static struct { char *bytes; int n; } part[FDS_MAX];
static char in[PART_BYTES_MAX + INPUT_BYTES];
static char answers[BATCH_MAX * ANSWER_BYTES_MAX]; /* the same answer, over and over */
static int answer_bytes;
static const char *content_type;
static volatile sig_atomic_t stopping;
static struct { unsigned long long requests, recv_data, recv_end, recv_again, send, epoll_wait; } did;

static void on_signal(int number)
{
	(void)number;
	stopping = 1;
}

static void die(const char *what)
{
	perror(what);
	exit(2);
}

/* The clock has one-second resolution in the answer, so the coarse clock will do. */
static void refresh_answers(void)
{
	static time_t made;
	struct timespec now;
	struct tm tm;
	char date[64], one[ANSWER_BYTES_MAX];
	clock_gettime(CLOCK_REALTIME_COARSE, &now);
	if (now.tv_sec == made)
		return;
	made = now.tv_sec;
	gmtime_r(&made, &tm);
	strftime(date, sizeof date, "%a, %d %b %Y %H:%M:%S GMT", &tm);
	answer_bytes = snprintf(one, sizeof one,
		"HTTP/1.1 200 OK\r\nDate: %s\r\nContent-Type: %s\r\nContent-Length: 13\r\n\r\nHello, World!",
		date, content_type);
	for (int i = 0; i < BATCH_MAX; i++)
		memcpy(answers + i * answer_bytes, one, answer_bytes);
}

static void drop(int fd)
{
	free(part[fd].bytes);
	part[fd].bytes = NULL;
	part[fd].n = 0;
	close(fd);
}

/* answer sends one answer per whole head in the n bytes at p; -1 when the connection is no good. */
static int answer(int fd, char *p, int n)
{
	int batch = 0;
	char *end;
	while (batch < BATCH_MAX && (end = memmem(p, n, "\r\n\r\n", 4))) {
		n -= end + 4 - p;
		p = end + 4;
		batch++;
	}
	if (batch) {
		did.requests += batch;
		did.send++;
		/* An answer that does not fit whole is beyond a floor. */
		if (send(fd, answers, batch * answer_bytes, MSG_DONTWAIT | MSG_NOSIGNAL) != batch * answer_bytes)
			return -1;
	}
	if (n > PART_BYTES_MAX || batch == BATCH_MAX)
		return -1;
	if (n && !part[fd].bytes && !(part[fd].bytes = malloc(PART_BYTES_MAX)))
		die("malloc");
	if (n)
		memmove(part[fd].bytes, p, n);
	part[fd].n = n;
	return 0;
}

static void serve(int fd)
{
	for (;;) {
		int had = part[fd].n;
		if (had)
			memcpy(in, part[fd].bytes, had);
		int n = recv(fd, in + had, INPUT_BYTES, MSG_DONTWAIT);
		if (n < 0 && errno == EAGAIN) {
			did.recv_again++;
			return;
		}
		if (n <= 0) {
			did.recv_end++;
			drop(fd);
			return;
		}
		did.recv_data++;
		if (answer(fd, in, had + n)) {
			drop(fd);
			return;
		}
		/* epoll(7): a short read has emptied the socket, and what comes later, a FIN too, is a
		 * new edge. So there is no second recv to be told EAGAIN. */
		if (n < INPUT_BYTES)
			return;
	}
}

static void accept_all(int epoll_fd, int listener)
{
	int one = 1;
	for (int fd; (fd = accept4(listener, NULL, NULL, SOCK_NONBLOCK | SOCK_CLOEXEC)) >= 0;) {
		if (fd >= FDS_MAX) {
			close(fd);
			continue;
		}
		setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof one);
		struct epoll_event ev = { .events = EPOLLIN | EPOLLRDHUP | EPOLLET, .data.fd = fd };
		if (epoll_ctl(epoll_fd, EPOLL_CTL_ADD, fd, &ev))
			die("epoll_ctl");
	}
}

static int listen_on(int port)
{
	struct sockaddr_in at = { .sin_family = AF_INET, .sin_port = htons(port),
				  .sin_addr.s_addr = htonl(INADDR_LOOPBACK) };
	int one = 1, fd = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
	setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &one, sizeof one);
	if (fd < 0 || bind(fd, (struct sockaddr *)&at, sizeof at) || listen(fd, 4096))
		die("listen");
	return fd;
}

int main(int argc, char **argv)
{
	if (argc != 3) {
		fprintf(stderr, "usage: floor PORT CONTENT-TYPE\n");
		return 2;
	}
	content_type = argv[2];
	struct sigaction stop = { .sa_handler = on_signal };
	sigaction(SIGTERM, &stop, NULL);
	sigaction(SIGINT, &stop, NULL);
	int listener = listen_on(atoi(argv[1])), epoll_fd = epoll_create1(EPOLL_CLOEXEC);
	struct epoll_event ev = { .events = EPOLLIN, .data.fd = listener }, events[EVENTS];
	if (epoll_fd < 0 || epoll_ctl(epoll_fd, EPOLL_CTL_ADD, listener, &ev))
		die("epoll");
	while (!stopping) {
		int n = epoll_wait(epoll_fd, events, EVENTS, -1);
		did.epoll_wait++;
		refresh_answers();
		for (int i = 0; i < n; i++) {
			if (events[i].data.fd == listener)
				accept_all(epoll_fd, listener);
			else
				serve(events[i].data.fd);
		}
	}
	printf("{\"requests\":%llu,\"recv_data\":%llu,\"recv_end\":%llu,\"recv_again\":%llu,\"send\":%llu,"
	       "\"epoll_wait\":%llu}\n", did.requests, did.recv_data, did.recv_end, did.recv_again, did.send,
	       did.epoll_wait);
	return 0;
}
