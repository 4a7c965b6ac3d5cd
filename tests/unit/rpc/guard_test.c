/* What the guard does at the socket calls, with an epoll set that stands for gRPC's: turns between
 * connections, pauses, bounds on connections. */
#include "tests/unit/rpc/coalesce_sockets.h"

#include "src/rpc/guard.h"
#include "src/rpc/inflow.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/epoll.h>

enum { MIB = 1 << 20, PAIRS = 3 };

static int wakes;

/* Edge-triggered, as gRPC does it. */
static void watch(int set, int fd)
{
    struct epoll_event event = {.events = EPOLLIN | EPOLLET, .data.fd = fd};

    assert_int_equal(epoll_ctl(set, EPOLL_CTL_ADD, fd, &event), 0);
}

static ssize_t receive(int fd, void *bytes, size_t len)
{
    struct iovec part = {.iov_base = bytes, .iov_len = len};
    struct msghdr message = {.msg_iov = &part, .msg_iovlen = 1};

    return recvmsg(fd, &message, MSG_DONTWAIT);
}

/* Reads until EAGAIN; the bytes, or -1 at the end of the connection. */
static ssize_t read_turn(int fd)
{
    static char in[MIB];
    ssize_t n, all = 0;

    while ((n = receive(fd, in, sizeof in)) > 0)
        all += n;
    return n < 0 && errno == EAGAIN ? all : -1;
}

/* The preface, and a frame of data that does not end. */
static void fill_socket(int fd)
{
    static char bytes[64 * 1024];

    memset(bytes, 0, sizeof bytes);
    memset(bytes + 24, 0xff, 3); /* its length */
    while (send(fd, bytes, sizeof bytes, MSG_DONTWAIT) > 0)
        memset(bytes, 'x', sizeof bytes);
}

static int open_set(struct pair pairs[PAIRS])
{
    int set = epoll_create1(EPOLL_CLOEXEC);

    pair_listen(&pairs[0]);
    watch(set, pairs[0].listener);
    for (int i = 0; i < PAIRS; i++) {
        pairs[i].listener = pairs[0].listener;
        pair_connect(&pairs[i], false);
        watch(set, pairs[i].server);
    }
    return set;
}

static void close_set(struct pair pairs[PAIRS], int set)
{
    for (int i = 0; i < PAIRS; i++) {
        close(pairs[i].server);
        close(pairs[i].client);
    }
    close(pairs[0].listener);
    close(set);
    assert_int_equal(guard_stats().connections, 0);
    assert_int_equal(inflow_stats().open_streams, 0);
}

/* A full socket is read in turns, and each turn is followed by the others'. */
static void test_turns(void **state)
{
    struct pair pairs[PAIRS];
    int set = open_set(pairs), turns[PAIRS] = {0};
    struct epoll_event events[8];
    int n;

    (void)state;
    for (int i = 0; i < PAIRS; i++)
        fill_socket(pairs[i].client);
    while ((n = epoll_wait(set, events, 8, 0)) > 0) {
        for (int e = 0; e < n; e++) {
            for (int i = 0; i < PAIRS; i++) {
                if (events[e].data.fd != pairs[i].server)
                    continue;

                ssize_t bytes = read_turn(pairs[i].server);

                assert_true(bytes <= 256 * 1024);
                turns[i] += bytes > 0;
            }
        }
        for (int i = 1; i < PAIRS; i++)
            assert_in_range(turns[i] + 1, turns[0], turns[0] + 2);
    }
    assert_true(turns[0] > 2);
    close_set(pairs, set);
}

/* Empty frames: more than a new purse holds. */
static void send_flood(int fd)
{
    static const char flood[24 + 9 * (METER_FIRST + 1500)];

    assert_int_equal(send(fd, flood, sizeof flood, 0), sizeof flood);
}

/* A flood is not read until its time has come; then the descriptor shows itself again. */
static void test_pause(void **state)
{
    struct pair pairs[PAIRS];
    int set = open_set(pairs);
    struct epoll_event event;
    uint64_t slowed = inflow_stats().slowed[METER_EMPTY_DATA];

    (void)state;
    send_flood(pairs[0].client);
    while (inflow_stats().paused == 0) {
        assert_int_equal(epoll_wait(set, &event, 1, 5000), 1);
        assert_true(read_turn(pairs[0].server) >= 0);
    }
    assert_int_equal(inflow_stats().slowed[METER_EMPTY_DATA], slowed + 1);
    assert_int_equal(send(pairs[0].client, "x", 1, 0), 1);
    assert_int_equal(read_turn(pairs[0].server), 0);
    epoll_wait(set, &event, 1, 0); /* that byte's edge */
    while (inflow_stats().paused > 0) {
        assert_true(readable(wakes, 5000));
        sockets_run();
    }
    assert_int_equal(epoll_wait(set, &event, 1, 5000), 1);
    assert_int_equal(event.data.fd, pairs[0].server);
    assert_true(read_turn(pairs[0].server) > 0);
    close_set(pairs, set);
}

/* A number that is used again while its last owner pauses. */
static void test_pause_ends_with_its_connection(void **state)
{
    struct pair pairs[PAIRS];
    int set = open_set(pairs), number = pairs[0].server;

    (void)state;
    send_flood(pairs[0].client);
    for (int i = 0; i < 10; i++) {
        inflow_turn(1);
        read_turn(number);
    }
    assert_int_equal(inflow_stats().paused, 1);
    close(pairs[0].server);
    close(pairs[0].client);
    pair_connect(&pairs[0], false);
    assert_int_equal(pairs[0].server, number);
    watch(set, number);
    assert_int_equal(send(pairs[0].client, "x", 1, 0), 1);
    assert_true(readable(number, 5000));
    assert_int_equal(read_turn(number), 1);
    while (inflow_stats().paused > 0) {
        assert_true(readable(wakes, 5000));
        sockets_run();
    }
    close_set(pairs, set);
}

/* Beyond the bound a connection is closed at once; when one ends, the next is taken. */
static void test_connections_are_bounded(void **state)
{
    const struct guard_options few = {.max_connections = PAIRS}, none = {0};
    struct pair pairs[PAIRS], late;
    int set = open_set(pairs);
    char in;

    (void)state;
    guard_init(&few);
    assert_false(guard_accepting());
    late.listener = pairs[0].listener;
    late.client = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);

    struct sockaddr_in address = {.sin_family = AF_INET};
    socklen_t length = sizeof address;

    getsockname(late.listener, (struct sockaddr *)&address, &length);
    assert_int_equal(connect(late.client, (struct sockaddr *)&address, sizeof address), 0);
    assert_true(readable(late.listener, 5000));
    setsockopt(late.listener, SOL_SOCKET, SO_RCVTIMEO, &(struct timeval){.tv_usec = 1000},
               sizeof(struct timeval));
    assert_int_equal(accept4(late.listener, NULL, NULL, SOCK_NONBLOCK | SOCK_CLOEXEC), -1);
    assert_int_equal(errno, EAGAIN);
    assert_int_equal(read(late.client, &in, 1), 0);
    close(late.client);
    assert_int_equal(guard_stats().refused[GUARD_REFUSED_CONNECTIONS], 1);
    close(pairs[0].server);
    close(pairs[0].client);
    assert_true(guard_accepting());
    pair_connect(&pairs[0], false);
    guard_init(&none);
    close_set(pairs, set);
}

static void test_connections_of_a_peer_are_bounded(void **state)
{
    const struct guard_options few = {.max_connections_per_peer = PAIRS}, none = {0};
    struct pair pairs[PAIRS];

    (void)state;
    guard_init(&few);

    int set = open_set(pairs), client = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    struct sockaddr_in address = {.sin_family = AF_INET};
    socklen_t length = sizeof address;

    getsockname(pairs[0].listener, (struct sockaddr *)&address, &length);
    assert_int_equal(connect(client, (struct sockaddr *)&address, sizeof address), 0);
    setsockopt(pairs[0].listener, SOL_SOCKET, SO_RCVTIMEO, &(struct timeval){.tv_usec = 1000},
               sizeof(struct timeval));
    assert_int_equal(accept4(pairs[0].listener, NULL, NULL, SOCK_NONBLOCK | SOCK_CLOEXEC), -1);
    assert_int_equal(guard_stats().refused[GUARD_REFUSED_PEER], 1);
    assert_true(guard_accepting()); /* others are welcome */
    close(client);
    guard_init(&none);
    close_set(pairs, set);
}

/* The more are ready, the less each may have of a turn. */
static void test_many_share_a_turn(void **state)
{
    enum { ALONE = 256 * 1024, READY = 160, FULL = 16 };
    struct pair pairs[PAIRS];
    int set = open_set(pairs);

    (void)state;
    fill_socket(pairs[0].client);
    inflow_turn(FULL);
    read_turn(pairs[0].server);
    inflow_turn(FULL);
    assert_int_equal(read_turn(pairs[0].server), ALONE);
    inflow_turn(READY);
    assert_int_equal(read_turn(pairs[0].server), ALONE / READY * FULL);
    close_set(pairs, set);
}

static bool ends_peer(const char *form, const struct pair *p)
{
    struct sockaddr_in6 from; /* or IPv4, where the port is at the same place */
    socklen_t length = sizeof from;
    char peer[64];

    assert_int_equal(getsockname(p->client, (struct sockaddr *)&from, &length), 0);
    snprintf(peer, sizeof peer, form, (unsigned)ntohs(from.sin6_port));
    return inflow_end_peer(peer);
}

static void test_a_peer_is_found(void **state)
{
    struct pair pairs[PAIRS];
    int set = open_set(pairs);
    uint64_t ended = inflow_stats().ended[INFLOW_UNREAD];

    (void)state;
    assert_false(ends_peer("ipv4:127.0.0.2:%u", &pairs[1]));
    assert_false(ends_peer("ipv6:%%5B::1%%5D:%u", &pairs[1]));
    assert_false(ends_peer("unix:%u", &pairs[1]));
    assert_false(inflow_end_peer("ipv4:127.0.0.1:"));
    assert_false(inflow_end_peer("unix:"));
    assert_true(ends_peer("ipv4:127.0.0.1:%u", &pairs[1]));
    assert_false(ends_peer("ipv4:127.0.0.1:%u", &pairs[1]));
    assert_int_equal(read_turn(pairs[1].server), -1);
    assert_int_equal(read_turn(pairs[0].server), 0);
    assert_int_equal(read_turn(pairs[2].server), 0);
    assert_int_equal(inflow_stats().ended[INFLOW_UNREAD], ended + 1);
    close_set(pairs, set);
}

static void test_a_peer_of_ipv6_is_found(void **state)
{
    struct sockaddr_in6 address = {.sin6_family = AF_INET6, .sin6_addr = IN6ADDR_LOOPBACK_INIT};
    socklen_t length = sizeof address;
    struct pair p = {.listener = socket(AF_INET6, SOCK_STREAM | SOCK_CLOEXEC, 0)};

    (void)state;
    if (p.listener < 0 || bind(p.listener, (struct sockaddr *)&address, sizeof address) != 0)
        skip(); /* this machine has none */
    sockets_listen_begin();
    assert_int_equal(listen(p.listener, 64), 0);
    sockets_listen_end();
    assert_int_equal(getsockname(p.listener, (struct sockaddr *)&address, &length), 0);
    p.client = socket(AF_INET6, SOCK_STREAM | SOCK_CLOEXEC, 0);
    assert_int_equal(connect(p.client, (struct sockaddr *)&address, sizeof address), 0);
    p.server =
        accept4(p.listener, (struct sockaddr *)&address, &length, SOCK_NONBLOCK | SOCK_CLOEXEC);
    assert_true(ends_peer("ipv6:%%5B::1%%5D:%u", &p));
    assert_int_equal(read_turn(p.server), -1);
    pair_close(&p);
}

int main(void)
{
    const struct inflow_options options = {.each = {.max_streams = 100, .max_header_bytes = 65536},
                                           .max_incomplete = 1000};
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_turns),
        cmocka_unit_test(test_pause),
        cmocka_unit_test(test_pause_ends_with_its_connection),
        cmocka_unit_test(test_connections_are_bounded),
        cmocka_unit_test(test_connections_of_a_peer_are_bounded),
        cmocka_unit_test(test_many_share_a_turn),
        cmocka_unit_test(test_a_peer_is_found),
        cmocka_unit_test(test_a_peer_of_ipv6_is_found),
    };

    wakes = coalesce_init(COALESCE_BUFFER);
    guard_init(&(struct guard_options){0});
    inflow_init(&options);
    return cmocka_run_group_tests_name("guard", tests, NULL, NULL);
}
