/* The write coalescer on real sockets: nothing lost, nothing reordered, bounded, and strangers left
 * alone. */
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
#include <fcntl.h>
#include <netinet/in.h>
#include <poll.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

static int stalled_fd = -1;

struct pair {
    int listener, server, client;
};

static void open_pair(struct pair *p, bool ours, int send_buffer)
{
    struct sockaddr_in address = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    socklen_t length = sizeof address;

    p->listener = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    assert_int_equal(bind(p->listener, (struct sockaddr *)&address, sizeof address), 0);
    if (ours)
        sockets_listen_begin();
    assert_int_equal(listen(p->listener, 4), 0);
    sockets_listen_end();
    assert_int_equal(getsockname(p->listener, (struct sockaddr *)&address, &length), 0);
    p->client = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    if (send_buffer > 0)
        setsockopt(p->client, SOL_SOCKET, SO_RCVBUF, &send_buffer, sizeof send_buffer);
    assert_int_equal(connect(p->client, (struct sockaddr *)&address, sizeof address), 0);
    p->server = accept4(p->listener, NULL, NULL, SOCK_NONBLOCK | SOCK_CLOEXEC);
    assert_true(p->server >= 0);
    if (send_buffer > 0)
        setsockopt(p->server, SOL_SOCKET, SO_SNDBUF, &send_buffer, sizeof send_buffer);
}

static void close_pair(struct pair *p)
{
    close(p->server);
    close(p->client);
    close(p->listener);
}

static ssize_t send_two_parts(int fd, const void *bytes, size_t len)
{
    size_t first = len / 3;
    struct iovec parts[2] = {
        {.iov_base = (char *)(uintptr_t)bytes, .iov_len = first},
        {.iov_base = (char *)(uintptr_t)bytes + first, .iov_len = len - first}};
    struct msghdr message = {.msg_iov = parts, .msg_iovlen = 2};

    return sendmsg(fd, &message, MSG_NOSIGNAL | MSG_DONTWAIT);
}

static bool readable(int fd, int wait_ms)
{
    struct pollfd p = {.fd = fd, .events = POLLIN};

    return poll(&p, 1, wait_ms) == 1;
}

static void test_held_until_the_end_of_the_window(void **state)
{
    struct pair p;
    char in[16];

    (void)state;
    open_pair(&p, true, 0);
    coalesce_begin();
    assert_int_equal(send_two_parts(p.server, "hello", 5), 5);
    assert_int_equal(send_two_parts(p.server, " world", 6), 6);
    assert_int_equal(coalesce_stats().held_bytes, 11);
    assert_false(readable(p.client, 0));
    coalesce_end();
    assert_int_equal(coalesce_stats().held_bytes, 0);
    assert_true(readable(p.client, 5000));
    assert_int_equal(read(p.client, in, sizeof in), 11);
    assert_memory_equal(in, "hello world", 11);
    close_pair(&p);
}

static void test_strangers_pass_through(void **state)
{
    struct pair p;

    (void)state;
    open_pair(&p, false, 0);
    coalesce_begin();
    assert_int_equal(send_two_parts(p.server, "now", 3), 3);
    assert_true(readable(p.client, 5000));
    assert_int_equal(send_two_parts(p.client, "and", 3), 3);
    assert_true(readable(p.server, 5000));
    coalesce_end();
    close_pair(&p);
}

static void test_outside_the_window_at_once(void **state)
{
    struct pair p;

    (void)state;
    open_pair(&p, true, 0);
    assert_int_equal(send_two_parts(p.server, "now", 3), 3);
    assert_true(readable(p.client, 5000));
    close_pair(&p);
}

static void test_shutdown_and_close_flush(void **state)
{
    struct pair p;
    char in[16];

    (void)state;
    for (int how = 0; how < 2; how++) {
        open_pair(&p, true, 0);
        coalesce_begin();
        assert_int_equal(send_two_parts(p.server, "bye", 3), 3);
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

/* A client that does not read: what is held stays bounded, then EAGAIN; when it reads again, the
 * stalled descriptor says so, and every byte arrives in order. */
static void test_slow_reader(void **state)
{
    enum { RECORD = 1000 };
    struct pair p;
    uint32_t record[RECORD / 4], next = 0, expected = 0, in[RECORD / 4];
    size_t have = 0;

    (void)state;
    open_pair(&p, true, 8192);
    for (;;) {
        for (size_t i = 0; i < RECORD / 4; i++)
            record[i] = next + (uint32_t)i;
        coalesce_begin();
        ssize_t n = send_two_parts(p.server, record, RECORD);
        int error = errno;

        coalesce_end();
        if (n < 0) {
            assert_int_equal(error, EAGAIN);
            break;
        }
        assert_int_equal(n, RECORD);
        next += RECORD / 4;
        assert_true(coalesce_stats().held_bytes <= COALESCE_HELD_BYTES);
        assert_true(next < 1u << 24);
    }
    assert_true(coalesce_stats().held_bytes > 0);
    assert_true(coalesce_stats().stalls > 0);
    while (expected < next) {
        if (readable(stalled_fd, 0))
            sockets_run();
        if (!readable(p.client, 10))
            continue;
        ssize_t n = read(p.client, (char *)in + have, sizeof in - have);

        assert_true(n > 0);
        have += (size_t)n;
        for (size_t i = 0; i < have / 4; i++)
            assert_int_equal(in[i], expected++);
        memmove(in, (char *)in + have / 4 * 4, have % 4);
        have %= 4;
    }
    assert_int_equal(coalesce_stats().held_bytes, 0);
    close_pair(&p);
}

static void test_vanished_reader(void **state)
{
    static char block[60000];
    struct linger reset = {.l_onoff = 1};
    struct pair p;
    bool failed = false;
    uint64_t end = clock_now_ns() + 20 * NS_PER_S;

    (void)state;
    open_pair(&p, true, 0);
    setsockopt(p.client, SOL_SOCKET, SO_LINGER, &reset, sizeof reset);
    close(p.client);
    while (!failed) {
        assert_true(clock_now_ns() < end);
        coalesce_begin();
        failed = send_two_parts(p.server, block, sizeof block) < 0 && errno != EAGAIN;
        coalesce_end();
    }
    close(p.server);
    close(p.listener);
    assert_int_equal(coalesce_stats().held_bytes, 0);
}

/* ---- two writers: one in windows, one outside; the mutex stands for gRPC's combiner ---- */

enum { WRITERS_RECORDS = 20000 };

struct writers {
    pthread_mutex_t turn;
    int fd;
    uint32_t next;
};

static bool write_one(struct writers *w)
{
    pthread_mutex_lock(&w->turn);
    bool more = w->next < WRITERS_RECORDS;
    uint32_t record[8];

    for (int i = 0; i < 8; i++)
        record[i] = w->next * 8 + (uint32_t)i;
    for (size_t at = 0; more && at < sizeof record;) {
        struct iovec part = {.iov_base = (char *)record + at, .iov_len = sizeof record - at};
        struct msghdr message = {.msg_iov = &part, .msg_iovlen = 1};
        ssize_t n = sendmsg(w->fd, &message, MSG_NOSIGNAL | MSG_DONTWAIT);

        if (n > 0) {
            at += (size_t)n;
        } else {
            struct pollfd p = {.fd = w->fd, .events = POLLOUT};

            poll(&p, 1, 10);
        }
    }
    if (more)
        w->next++;
    pthread_mutex_unlock(&w->turn);
    return more;
}

static void *in_windows(void *arg)
{
    for (bool more = true; more;) {
        coalesce_begin();
        for (int i = 0; i < 100 && more; i++)
            more = write_one(arg);
        coalesce_end();
    }
    return NULL;
}

static void *outside(void *arg)
{
    while (write_one(arg))
        sched_yield();
    return NULL;
}

static void test_two_writers_keep_order(void **state)
{
    struct pair p;
    struct writers w = {.turn = PTHREAD_MUTEX_INITIALIZER};
    pthread_t threads[2];
    uint32_t in[1024], expected = 0;
    size_t have = 0;

    (void)state;
    open_pair(&p, true, 16384);
    w.fd = p.server;
    pthread_create(&threads[0], NULL, in_windows, &w);
    pthread_create(&threads[1], NULL, outside, &w);
    while (expected < WRITERS_RECORDS * 8) {
        if (readable(stalled_fd, 0))
            sockets_run();
        if (!readable(p.client, 1))
            continue;
        ssize_t n = read(p.client, (char *)in + have, sizeof in - have);

        assert_true(n > 0);
        have += (size_t)n;
        for (size_t i = 0; i < have / 4; i++)
            assert_int_equal(in[i], expected++);
        memmove(in, (char *)in + have / 4 * 4, have % 4);
        have %= 4;
    }
    pthread_join(threads[0], NULL);
    pthread_join(threads[1], NULL);
    close_pair(&p);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_held_until_the_end_of_the_window),
        cmocka_unit_test(test_strangers_pass_through),
        cmocka_unit_test(test_outside_the_window_at_once),
        cmocka_unit_test(test_shutdown_and_close_flush),
        cmocka_unit_test(test_slow_reader),
        cmocka_unit_test(test_vanished_reader),
        cmocka_unit_test(test_two_writers_keep_order),
    };

    stalled_fd = coalesce_init(COALESCE_BUFFER);
    return cmocka_run_group_tests_name("write coalescing", tests, NULL, NULL);
}
