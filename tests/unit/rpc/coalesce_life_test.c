/* The write coalescer and the life of descriptors: numbers that are used again, connections that
 * end while bytes are held for them, more of them than one window remembers, other kinds of
 * sockets. */
#include "tests/unit/rpc/coalesce_sockets.h"

#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/un.h>

/* Writes until the coalescer says EAGAIN: the socket and what is held are full. */
static void fill(const struct pair *p, struct count *sent)
{
    ssize_t n;

    do {
        coalesce_begin();
        n = send_count(p->server, sent, 250);
        int error = errno;

        coalesce_end();
        assert_true(n > 0 || error == EAGAIN);
    } while (n > 0);
    assert_true(coalesce_stats().held_bytes > 0);
}

static void flush_if_ready(void)
{
    if (readable(stalled_fd, 0))
        sockets_run();
}

/* Reads to the end of the stream. */
static void read_all(const struct pair *p, struct count *seen)
{
    uint64_t end = clock_now_ns() + 20 * NS_PER_S;

    for (;;) {
        assert_true(clock_now_ns() < end);
        flush_if_ready();
        if (readable(p->client, 10) && check_count(p->client, seen) == 0)
            return;
    }
}

/* gRPC was told that these bytes are sent; then the connection reached its age and was closed. The
 * kernel sends on what it has after a close, so must we. */
static void test_a_close_loses_nothing(void **state)
{
    (void)state;
    for (int how = 0; how < 2; how++) {
        struct count sent = {0}, seen = {0};
        struct pair p;

        pair_open(&p, true);
        fill(&p, &sent);
        if (how == 0) /* as gRPC does it */
            assert_int_equal(shutdown(p.server, SHUT_RDWR), 0);
        assert_int_equal(close(p.server), 0);
        assert_int_equal(coalesce_stats().connections, 0);
        read_all(&p, &seen);
        assert_int_equal(seen.next, sent.next);
        assert_int_equal(coalesce_stats().held_bytes, 0);
        close(p.client);
        close(p.listener);
    }
}

static void test_after_a_shutdown_nothing_is_taken(void **state)
{
    struct count sent = {0}, seen = {0};
    struct pair p;

    (void)state;
    pair_open(&p, true);
    fill(&p, &sent);
    assert_int_equal(shutdown(p.server, SHUT_RDWR), 0);
    for (int inside = 0; inside < 2; inside++) {
        if (inside)
            coalesce_begin();
        assert_int_equal(send_bytes(p.server, "late", 4), -1);
        assert_int_equal(errno, EPIPE);
        if (inside)
            coalesce_end();
    }
    read_all(&p, &seen);
    assert_int_equal(seen.next, sent.next);
    close(p.server);
    close(p.client);
    close(p.listener);
    assert_int_equal(coalesce_stats().held_bytes, 0);
}

/* Nobody will ever read what is held: it goes, and so does the descriptor. */
static void test_a_closed_connection_whose_reader_vanishes(void **state)
{
    struct linger reset = {.l_onoff = 1};
    struct count sent = {0};
    struct pair p;
    uint64_t end = clock_now_ns() + 20 * NS_PER_S;

    (void)state;
    pair_open(&p, true);

    int lowest = dup(p.listener);

    close(lowest);
    fill(&p, &sent);
    close(p.server);
    setsockopt(p.client, SOL_SOCKET, SO_LINGER, &reset, sizeof reset);
    close(p.client);
    while (coalesce_stats().held_bytes > 0) {
        assert_true(clock_now_ns() < end);
        if (readable(stalled_fd, 10))
            sockets_run();
    }
    close(p.listener);

    int again = dup(stalled_fd);

    assert_true(again <= lowest); /* no descriptor was left open */
    close(again);
}

/* Inside one window a connection is closed, and its number goes to somebody else. */
static void test_a_number_is_used_again(void **state)
{
    struct pair p, second;
    char in[16];
    int number;

    (void)state;
    pair_open(&p, false);
    number = p.server;
    coalesce_begin();
    assert_int_equal(send_bytes(number, "first", 5), 5);
    close(number);
    assert_int_equal(read(p.client, in, sizeof in), 5); /* nothing of it is left for the next */
    close(p.client);

    int stranger[2];

    assert_int_equal(pipe2(stranger, O_CLOEXEC), 0);
    assert_true(stranger[0] == number || stranger[1] == number);
    coalesce_end(); /* remembers the number, and must leave it alone */
    close(stranger[0]);
    close(stranger[1]);
    second.listener = p.listener;
    coalesce_begin();
    pair_connect(&second, false);
    assert_int_equal(send_bytes(second.server, "second", 6), 6);
    assert_int_equal(coalesce_stats().held_bytes, 6);
    coalesce_end();
    assert_int_equal(read(second.client, in, sizeof in), 6);
    assert_memory_equal(in, "second", 6);
    pair_close(&second);
    assert_int_equal(coalesce_stats().connections, 0);
}

/* A window remembers 1024 connections; the others are written at once. */
/* Addresses of the other two families that a server may listen on. */
static void open_other(struct pair *p, int family, const struct sockaddr *address, socklen_t length)
{
    struct sockaddr_storage bound;
    socklen_t bound_length = sizeof bound;

    p->listener = socket(family, SOCK_STREAM | SOCK_CLOEXEC, 0);
    assert_int_equal(bind(p->listener, address, length), 0);
    sockets_listen_begin();
    assert_int_equal(listen(p->listener, 4), 0);
    sockets_listen_end();
    assert_int_equal(getsockname(p->listener, (struct sockaddr *)&bound, &bound_length), 0);
    p->client = socket(family, SOCK_STREAM | SOCK_CLOEXEC, 0);
    assert_int_equal(connect(p->client, (struct sockaddr *)&bound, bound_length), 0);
    p->server = accept4(p->listener, NULL, NULL, SOCK_NONBLOCK | SOCK_CLOEXEC);
    assert_true(p->server >= 0);
}

static void test_other_families(void **state)
{
    const struct sockaddr_un local = {.sun_family = AF_UNIX}; /* the kernel picks a name */
    const struct sockaddr_in6 six = {.sin6_family = AF_INET6, .sin6_addr = IN6ADDR_LOOPBACK_INIT};

    (void)state;
    for (int i = 0; i < 2; i++) {
        struct count sent = {0}, seen = {0};
        struct pair p;

        if (i == 0)
            open_other(&p, AF_UNIX, (const struct sockaddr *)&local, sizeof(sa_family_t));
        else
            open_other(&p, AF_INET6, (const struct sockaddr *)&six, sizeof six);
        coalesce_begin();
        assert_int_equal(send_count(p.server, &sent, 10), 40);
        assert_int_equal(coalesce_stats().held_bytes, 40);
        coalesce_end();
        assert_int_equal(coalesce_stats().held_bytes, 0);
        fill(&p, &sent);
        shutdown(p.server, SHUT_RDWR);
        close(p.server);
        read_all(&p, &seen);
        assert_int_equal(seen.next, sent.next);
        close(p.client);
        close(p.listener);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_a_close_loses_nothing),
        cmocka_unit_test(test_after_a_shutdown_nothing_is_taken),
        cmocka_unit_test(test_a_closed_connection_whose_reader_vanishes),
        cmocka_unit_test(test_a_number_is_used_again),
        cmocka_unit_test(test_more_connections_than_a_window_remembers),
        cmocka_unit_test(test_other_families),
    };

    stalled_fd = coalesce_init(COALESCE_BUFFER);
    return cmocka_run_group_tests_name("write coalescing, life of descriptors", tests, NULL, NULL);
}
