/* The write coalescer on real sockets: nothing lost, nothing reordered, bounded, and strangers left
 * alone. */
#include "tests/unit/rpc/coalesce_sockets.h"

static ssize_t send_two_parts(int fd, const void *bytes, size_t len)
{
    size_t first = len / 3;
    struct iovec parts[2] = {
        {.iov_base = (char *)(uintptr_t)bytes, .iov_len = first},
        {.iov_base = (char *)(uintptr_t)bytes + first, .iov_len = len - first}};
    struct msghdr message = {.msg_iov = parts, .msg_iovlen = 2};

    return sendmsg(fd, &message, MSG_NOSIGNAL | MSG_DONTWAIT);
}

static void test_held_until_the_end_of_the_window(void **state)
{
    struct pair p;
    char in[16];

    (void)state;
    pair_open(&p, false);
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
    pair_close(&p);
}

static void test_strangers_pass_through(void **state)
{
    struct pair p;

    (void)state;
    pair_bind(&p);
    assert_int_equal(listen(p.listener, 4), 0);
    pair_connect(&p, false);
    coalesce_begin();
    assert_int_equal(send_two_parts(p.server, "now", 3), 3);
    assert_true(readable(p.client, 5000));
    assert_int_equal(send_two_parts(p.client, "and", 3), 3);
    assert_true(readable(p.server, 5000));
    coalesce_end();
    pair_close(&p);
}

static void test_outside_the_window_at_once(void **state)
{
    struct pair p;

    (void)state;
    pair_open(&p, false);
    assert_int_equal(send_two_parts(p.server, "now", 3), 3);
    assert_true(readable(p.client, 5000));
    pair_close(&p);
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
    pair_open(&p, true);
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
    pair_close(&p);
}

static void test_vanished_reader(void **state)
{
    static char block[60000];
    struct linger reset = {.l_onoff = 1};
    struct pair p;
    bool failed = false;
    uint64_t end = clock_now_ns() + 20 * NS_PER_S;

    (void)state;
    pair_open(&p, false);
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
