/* Connected TCP sockets for the tests of the write coalescer. */
#ifndef PRISM_TESTS_UNIT_RPC_COALESCE_SOCKETS_H
#define PRISM_TESTS_UNIT_RPC_COALESCE_SOCKETS_H

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "src/base/clock.h"
#include "src/rpc/coalesce.h"
#include "src/rpc/sockets.h"

#include <arpa/inet.h>
#include <netinet/in.h>
#include <poll.h>
#include <stdbool.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

struct pair {
    int listener, server, client;
};

/* `small`: both ends have the least room that the kernel allows. */
static inline void pair_connect(struct pair *p, bool small)
{
    struct sockaddr_in address = {.sin_family = AF_INET};
    socklen_t length = sizeof address;
    int bytes = 4096;

    assert_int_equal(getsockname(p->listener, (struct sockaddr *)&address, &length), 0);
    p->client = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    if (small)
        setsockopt(p->client, SOL_SOCKET, SO_RCVBUF, &bytes, sizeof bytes);
    assert_int_equal(connect(p->client, (struct sockaddr *)&address, sizeof address), 0);
    p->server =
        accept4(p->listener, (struct sockaddr *)&address, &length, SOCK_NONBLOCK | SOCK_CLOEXEC);
    assert_true(p->server >= 0);
    if (small)
        setsockopt(p->server, SOL_SOCKET, SO_SNDBUF, &bytes, sizeof bytes);
}

static inline void pair_listen(struct pair *p)
{
    struct sockaddr_in address = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};

    p->listener = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    assert_int_equal(bind(p->listener, (struct sockaddr *)&address, sizeof address), 0);
    sockets_listen_begin();
    assert_int_equal(listen(p->listener, 64), 0);
    sockets_listen_end();
}

static inline void pair_open(struct pair *p, bool small)
{
    pair_listen(p);
    pair_connect(p, small);
}

static inline void pair_close(struct pair *p)
{
    close(p->server);
    close(p->client);
    close(p->listener);
}

/* sendmsg as gRPC calls it. */
static inline ssize_t send_bytes(int fd, const void *bytes, size_t len)
{
    struct iovec part = {.iov_base = (char *)(uintptr_t)bytes, .iov_len = len};
    struct msghdr message = {.msg_iov = &part, .msg_iovlen = 1};

    return sendmsg(fd, &message, MSG_NOSIGNAL | MSG_DONTWAIT);
}

static inline bool readable(int fd, int wait_ms)
{
    struct pollfd p = {.fd = fd, .events = POLLIN};

    return poll(&p, 1, wait_ms) == 1;
}

/* Counts up in words, so that a loss or a wrong order shows. */
struct count {
    uint32_t next;
    char rest[4];
    size_t have; /* bytes of a word that was cut */
};

/* The next `words` words of the count: what one write carries. */
static inline ssize_t send_count(int fd, struct count *sent, size_t words)
{
    uint32_t record[4096];

    assert_true(words <= 4096);

    for (size_t i = 0; i < words; i++)
        record[i] = sent->next + (uint32_t)i;

    ssize_t n = send_bytes(fd, record, words * 4);

    if (n > 0) {
        assert_int_equal(n % 4, 0);
        sent->next += (uint32_t)n / 4;
    }
    return n;
}

/* One read; bytes read, 0 at the end. */
static inline size_t check_count(int fd, struct count *seen)
{
    char in[8192];

    memcpy(in, seen->rest, seen->have);

    ssize_t n = read(fd, in + seen->have, sizeof in - seen->have);

    assert_true(n >= 0);

    size_t have = seen->have + (size_t)n;

    for (size_t at = 0; at + 4 <= have; at += 4) {
        uint32_t word;

        memcpy(&word, in + at, 4);
        assert_int_equal(word, seen->next++);
    }
    seen->have = have % 4;
    memcpy(seen->rest, in + have / 4 * 4, seen->have);
    return (size_t)n;
}

#endif
