/* Connected TCP sockets for the tests of the write coalescer, and what holds at each of its levels.
 */
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
#include <errno.h>
#include <netinet/in.h>
#include <poll.h>
#include <pthread.h>
#include <sched.h>
#include <stdbool.h>
#include <string.h>
#include <sys/resource.h>
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

static inline void pair_bind(struct pair *p)
{
    struct sockaddr_in address = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};

    p->listener = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    assert_int_equal(bind(p->listener, (struct sockaddr *)&address, sizeof address), 0);
}

static inline void pair_listen(struct pair *p)
{
    pair_bind(p);
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

/* What coalesce_init gave; -1: nothing is ever held. */
static int stalled_fd = -1;

static inline void test_shutdown_and_close_flush(void **state)
{
    struct pair p;
    char in[16];

    (void)state;
    for (int how = 0; how < 2; how++) {
        pair_open(&p, false);
        coalesce_begin();
        assert_int_equal(send_bytes(p.server, "bye", 3), 3);
        if (how == 0)
            shutdown(p.server, SHUT_WR);
        else
            close(p.server);
        assert_true(readable(p.client, 5000));
        assert_int_equal(read(p.client, in, sizeof in), 3);
        assert_int_equal(read(p.client, in, sizeof in), 0);
        coalesce_end();
        if (how == 0)
            close(p.server);
        close(p.client);
        close(p.listener);
    }
    assert_int_equal(coalesce_stats().connections, 0);
    assert_int_equal(coalesce_stats().held_bytes, 0);
}

/* A window remembers 1024 connections; the others are written at once. */
static inline void test_more_connections_than_a_window_remembers(void **state)
{
    enum { MANY = 1100 };
    static struct pair all[MANY];
    struct rlimit files;
    char in[4];

    (void)state;
    getrlimit(RLIMIT_NOFILE, &files);
    files.rlim_cur = files.rlim_max;
    setrlimit(RLIMIT_NOFILE, &files);
    pair_listen(&all[0]);
    for (int i = 0; i < MANY; i++) {
        all[i].listener = all[0].listener;
        pair_connect(&all[i], false);
    }
    coalesce_begin();
    for (int round = 0; round < 2; round++)
        for (int i = 0; i < MANY; i++)
            assert_int_equal(send_bytes(all[i].server, "ab", 2), 2);
    coalesce_end();
    assert_int_equal(coalesce_stats().held_bytes, 0);
    for (int i = 0; i < MANY; i++) {
        for (ssize_t have = 0; have < 4;) {
            assert_true(readable(all[i].client, 5000));
            have += read(all[i].client, in + have, sizeof in - (size_t)have);
        }
        assert_memory_equal(in, "abab", 4);
        close(all[i].client);
        close(all[i].server);
    }
    close(all[0].listener);
    assert_int_equal(coalesce_stats().connections, 0);
}

/* ---- two writers, one of them in windows; the mutex stands for gRPC's combiner ---- */

enum { WORDS = 200000 };

struct writers {
    pthread_mutex_t turn;
    int fd;
    struct count sent;
};

static inline bool write_one(struct writers *w)
{
    pthread_mutex_lock(&w->turn);
    bool more = w->sent.next < WORDS;

    while (more && send_count(w->fd, &w->sent, 8) < 0) {
        struct pollfd p = {.fd = w->fd, .events = POLLOUT};

        assert_int_equal(errno, EAGAIN);
        poll(&p, 1, 10);
    }
    pthread_mutex_unlock(&w->turn);
    return more;
}

static inline void *in_windows(void *arg)
{
    for (bool more = true; more;) {
        coalesce_begin();
        for (int i = 0; i < 100 && more; i++)
            more = write_one(arg);
        coalesce_end();
    }
    return NULL;
}

static inline void *outside(void *arg)
{
    while (write_one(arg))
        sched_yield();
    return NULL;
}

static inline void test_two_writers_keep_order(void **state)
{
    struct writers w = {.turn = PTHREAD_MUTEX_INITIALIZER};
    struct count seen = {0};
    struct pair p;
    pthread_t threads[2];

    (void)state;
    pair_open(&p, true);
    w.fd = p.server;
    pthread_create(&threads[0], NULL, in_windows, &w);
    pthread_create(&threads[1], NULL, outside, &w);
    while (seen.next < WORDS) {
        if (readable(stalled_fd, 0))
            sockets_run();
        if (readable(p.client, 1))
            assert_true(check_count(p.client, &seen) > 0);
    }
    pthread_join(threads[0], NULL);
    pthread_join(threads[1], NULL);
    pair_close(&p);
}

#endif
