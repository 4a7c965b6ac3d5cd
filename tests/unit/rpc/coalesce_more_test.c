/* The level `more`: the kernel holds the bytes of a window, nothing is held here. */
#include "tests/unit/rpc/coalesce_sockets.h"

#include <linux/tcp.h> /* glibc's does not count segments */

/* Less than a segment, so MSG_MORE keeps it back; but the kernel gives up after 200 ms, hence all
 * that is asserted is what has come without it. */
static void test_a_window_leaves_together(void **state)
{
    struct coalesce_stats before = coalesce_stats();
    struct tcp_info info;
    socklen_t length = sizeof info;
    struct pair p;
    char in[16];

    (void)state;
    pair_open(&p, false);
    coalesce_begin();
    for (int i = 0; i < 4; i++)
        assert_int_equal(send_bytes(p.server, "abc", 3), 3);
    assert_int_equal(coalesce_stats().held_bytes, 0);
    coalesce_end();
    assert_true(readable(p.client, 5000));
    assert_int_equal(read(p.client, in, sizeof in), 12);
    assert_memory_equal(in, "abcabcabcabc", 12);
    assert_int_equal(getsockopt(p.server, IPPROTO_TCP, TCP_INFO, &info, &length), 0);
    assert_int_equal(info.tcpi_data_segs_out, 1);
    assert_int_equal(coalesce_stats().writes, before.writes + 4);
    assert_int_equal(coalesce_stats().flushes, before.flushes + 1);
    pair_close(&p);
}

/* The end of the window sends what is there: nobody waits for the kernel's 200 ms. */
static void test_no_window_is_forgotten(void **state)
{
    struct pair p;
    char in[4];
    uint64_t began;

    (void)state;
    pair_open(&p, false);
    began = clock_now_ns();
    for (int i = 0; i < 200; i++) {
        coalesce_begin();
        assert_int_equal(send_bytes(p.server, "abc", 3), 3);
        coalesce_end();
        assert_true(readable(p.client, 5000));
        assert_int_equal(read(p.client, in, sizeof in), 3);
    }
    assert_true(clock_now_ns() - began < 200 * 150 * NS_PER_MS);
    pair_close(&p);
}

static void test_outside_the_window_at_once(void **state)
{
    struct coalesce_stats before = coalesce_stats();
    struct pair p;

    (void)state;
    pair_open(&p, false);
    assert_int_equal(send_bytes(p.server, "now", 3), 3);
    assert_true(readable(p.client, 5000));
    assert_int_equal(coalesce_stats().flushes, before.flushes);
    pair_close(&p);
}

/* A full socket says EAGAIN to gRPC; all that was taken arrives in order. */
static void test_slow_reader(void **state)
{
    struct count sent = {0}, seen = {0};
    struct pair p;
    ssize_t n;

    (void)state;
    pair_open(&p, true);
    do {
        coalesce_begin();
        n = send_count(p.server, &sent, 250);
        for (int i = 0; i < 3 && n > 0; i++)
            n = send_count(p.server, &sent, 250);
        int error = errno;

        coalesce_end();
        assert_true(n > 0 || error == EAGAIN);
        assert_int_equal(coalesce_stats().held_bytes, 0);
    } while (n > 0);
    while (seen.next < sent.next) {
        assert_true(readable(p.client, 5000));
        assert_true(check_count(p.client, &seen) > 0);
    }
    pair_close(&p);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_a_window_leaves_together),
        cmocka_unit_test(test_no_window_is_forgotten),
        cmocka_unit_test(test_outside_the_window_at_once),
        cmocka_unit_test(test_shutdown_and_close_flush),
        cmocka_unit_test(test_slow_reader),
        cmocka_unit_test(test_two_writers_keep_order),
        cmocka_unit_test(test_more_connections_than_a_window_remembers),
    };

    coalesce_init(COALESCE_MORE);
    return cmocka_run_group_tests_name("write coalescing by the kernel", tests, NULL, NULL);
}
