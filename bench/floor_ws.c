//go:build ignore

/*
 * floor_ws.c: the cheapest WebSocket echo this kernel allows a plain epoll server. Edge-triggered
 * epoll, one recv and one send per message, which is unmasked where it lies and sent back from
 * there. It answers every handshake as the generator's key wants it, takes only frames that arrive
 * whole, and looks at no UTF-8: it is no WebSocket server.
 */
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <errno.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <unistd.h>

enum { FDS_MAX = 65536, EVENTS = 512, INPUT_BYTES = 64 * 1024 };

static const char handshake[] = "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
	"Sec-WebSocket-Accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=\r\n\r\n";

static bool open_socket[FDS_MAX]; /* by descriptor: the handshake is over */
static unsigned char in[INPUT_BYTES];

static void die(const char *what)
{
	perror(what);
	exit(2);
}

/* echo sends back the message in the n bytes at p; -1 when they are anything else. */
static int echo(int fd, unsigned char *p, int n)
{
	int head = 2, size;
	if (n < 6 || p[0] != 0x81 || !(p[1] & 0x80))
		return -1;
	size = p[1] & 0x7f;
	if (size == 126) {
		head = 4;
		size = p[2] << 8 | p[3];
	}
	if (size > 65535 - 8 || n != head + 4 + size)
		return -1;
	uint32_t word;
	unsigned char *payload = p + head + 4;
	memcpy(&word, p + head, 4);
	uint64_t key = (uint64_t)word << 32 | word, chunk;
	int i = 0;
	for (; i + 8 <= size; i += 8) {
		memcpy(&chunk, payload + i, 8);
		chunk ^= key;
		memcpy(payload + i, &chunk, 8);
	}
	for (; i < size; i++, key = key >> 8 | key << 56)
		payload[i] ^= (unsigned char)key;
	memmove(p + 4, p, head); /* the head of the answer takes the key's place */
	p[5] &= 0x7f;
	return send(fd, p + 4, head + size, MSG_DONTWAIT | MSG_NOSIGNAL) == head + size ? 0 : -1;
}

static void serve(int fd)
{
	int n = recv(fd, in, sizeof in, MSG_DONTWAIT);
	if (n < 0 && errno == EAGAIN)
		return;
	int failed = n <= 0;
	if (!failed && open_socket[fd])
		failed = echo(fd, in, n);
	else if (!failed && n >= 4 && !memcmp(in + n - 4, "\r\n\r\n", 4)) {
		failed = send(fd, handshake, sizeof handshake - 1, MSG_DONTWAIT | MSG_NOSIGNAL) != sizeof handshake - 1;
		open_socket[fd] = true;
	}
	if (failed) {
		open_socket[fd] = false;
		close(fd);
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

int main(int argc, char **argv)
{
	if (argc != 2) {
		fprintf(stderr, "usage: floor-ws PORT\n");
		return 2;
	}
	struct sockaddr_in at = { .sin_family = AF_INET, .sin_port = htons(atoi(argv[1])),
				  .sin_addr.s_addr = htonl(INADDR_LOOPBACK) };
	int one = 1, listener = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
	setsockopt(listener, SOL_SOCKET, SO_REUSEADDR, &one, sizeof one);
	if (listener < 0 || bind(listener, (struct sockaddr *)&at, sizeof at) || listen(listener, 4096))
		die("listen");
	int epoll_fd = epoll_create1(EPOLL_CLOEXEC);
	struct epoll_event ev = { .events = EPOLLIN, .data.fd = listener }, events[EVENTS];
	if (epoll_fd < 0 || epoll_ctl(epoll_fd, EPOLL_CTL_ADD, listener, &ev))
		die("epoll");
	for (;;) {
		int n = epoll_wait(epoll_fd, events, EVENTS, -1);
		for (int i = 0; i < n; i++) {
			if (events[i].data.fd == listener)
				accept_all(epoll_fd, listener);
			else
				serve(events[i].data.fd);
		}
	}
}
