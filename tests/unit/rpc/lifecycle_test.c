/* src/rpc against a C-core client: what a call holds until its very end, and cancellation at every
 * point of its life. */
#include "tests/unit/rpc/rpc_service.h"

static void begin_call(struct client_call *c, struct fixture *f, const char *path)
{
    client_begin(c, &f->client, path, in_seconds(CALL_TIMEOUT_S), NULL);
    client_send(c, "", 0);
    client_half_close(c);
}

static void check_big(struct client_call *c)
{
    uint8_t *out = NULL;
    size_t len = 0;

    assert_true(client_receive(c, &out, &len));
    assert_in_range(len, BIG_BYTES, BIG_BYTES + 16);
    gpr_free(out);
    assert_int_equal(client_status(c), GRPC_STATUS_OK);
    client_end(c);
}

/* An answer that the client does not take is the server's memory: it is in flight, by number and by
 * bytes, until it has left. */
static void test_an_answer_not_taken_is_in_flight(void **state)
{
    struct rpc_options options = default_options();
    struct client_call c[3];
    struct fixture f;

    (void)state;
    options.max_inflight_bytes = 3 * BIG_BYTES;
    start(&f, &options, 1, 64);
    for (int i = 0; i < 3; i++)
        begin_call(&c[i], &f, "/test.Service/Big");
    until(&big_answers, 3);
    until_in_flight(&f, 3);
    assert_int_equal(client_unary(&f.client, "/test.Service/Echo", "k", 1, in_seconds(20)),
                     GRPC_STATUS_RESOURCE_EXHAUSTED);
    for (int i = 0; i < 3; i++)
        check_big(&c[i]);
    until_in_flight(&f, 0);
    assert_int_equal(client_unary(&f.client, "/test.Service/Echo", "k", 1, in_seconds(20)), 0);
    stop(&f);
}

static void refused_begin_end(struct fixture *f, const char *path)
{
    struct client_call c;
    uint8_t *out = NULL;
    size_t len = 0;

    begin_call(&c, f, path);
    assert_false(client_receive(&c, &out, &len));
    assert_int_equal(client_status(&c), GRPC_STATUS_RESOURCE_EXHAUSTED);
    client_end(&c);
}

/* A request that was small enough to be let in, and whose answer is too large to be kept. What has
 * changed something is answered all the same. */
static void test_an_answer_without_room_is_refused(void **state)
{
    struct rpc_options options = default_options();
    struct client_call c[3];
    struct fixture f;

    (void)state;
    options.max_inflight_bytes = 2 * BIG_BYTES + BIG_BYTES / 2;
    start(&f, &options, 1, 64);
    begin_call(&c[0], &f, "/test.Service/Read");
    begin_call(&c[1], &f, "/test.Service/Read");
    until(&big_answers, 2);
    until_in_flight(&f, 2);
    refused_begin_end(&f, "/test.Service/Read");
    refused_begin_end(&f, "/test.Service/ReadStream");
    assert_int_equal(metric(&f, "prism_rpc_refused_total{reason=\"answers\"} "), 2);
    begin_call(&c[2], &f, "/test.Service/Big");
    for (int i = 0; i < 3; i++)
        check_big(&c[i]);
    until_in_flight(&f, 0);
    begin_call(&c[0], &f, "/test.Service/Read");
    check_big(&c[0]);
    stop(&f);
}

static void test_an_answer_not_taken_goes_with_its_client(void **state)
{
    struct rpc_options options = default_options();
    struct client_call c;
    struct fixture f;

    (void)state;
    start(&f, &options, 1, 64);
    begin_call(&c, &f, "/test.Service/Big");
    until(&big_answers, 1);
    grpc_call_cancel(c.call, NULL);
    until_in_flight(&f, 0);
    client_status(&c);
    client_end(&c);
    stop(&f);
}

/* The client is gone: what it sent before may not be all of it, so this is no half-close. Now and
 * then gRPC leaves us in the dark about that: here more than in a server, because the client's
 * thread takes part in the server's work. */
static int expired(const struct fixture *f)
{
    return (int)metric(f, "\nprism_rpc_expired_in_queue_total ");
}

static void test_a_cancelled_receive_is_no_half_close(void **state)
{
    enum { ROUNDS = 40 };
    struct rpc_options options = default_options();
    struct fixture f;

    (void)state;
    start(&f, &options, 1, 64);
    for (int i = 1; i <= ROUNDS; i++) {
        struct client_call c;

        client_begin(&c, &f.client, "/test.Service/Bidi", in_seconds(20), NULL);
        until_in_flight(&f, 1);
        grpc_call_cancel(c.call, NULL);
        until_in_flight(&f, 0);
        /* Or it was over before it was begun. */
        assert_int_equal(atomic_load(&bidi_half_closed) + atomic_load(&bidi_failed) + expired(&f),
                         i);
        client_status(&c);
        client_end(&c);
    }
    assert_true(atomic_load(&bidi_failed) + expired(&f) > ROUNDS / 2);
    stop(&f);
}

/* ---- a storm ---- */

static uint64_t dice_state = 88172645463325252ull;

static uint32_t dice(uint32_t sides)
{
    dice_state ^= dice_state << 13;
    dice_state ^= dice_state >> 7;
    dice_state ^= dice_state << 17;
    return (uint32_t)(dice_state >> 33) % sides;
}

static void test_cancelled_at_any_time(void **state)
{
    static const char *const paths[] = {"/test.Service/Park", "/test.Service/Wait",
                                        "/test.Service/Bidi", "/test.Service/Big",
                                        "/test.Service/Echo", "/test.Service/Stream",
                                        "/test.Service/Read", "/test.Service/ReadStream"};
    enum { AT_ONCE = 8, ROUNDS = 60 };

    (void)state;
    for (int ring = 0; ring < 2; ring++) {
        struct rpc_options options = default_options();
        struct fixture f;

        /* The client does not wait for the server, so all calls of the storm may still be on their
         * way when it is over: there is room for all of them, and for the one after them. */
        options.dispatch = ring ? RPC_DISPATCH_RING : RPC_DISPATCH_AUTO;
        options.max_inflight_bytes = UINT64_C(1) << 40;
        start(&f, &options, 2, 1024);
        for (int i = 0; i < ROUNDS; i++) {
            struct client_call c[AT_ONCE];

            for (int k = 0; k < AT_ONCE; k++) {
                /* Some end by their own deadline: now, or while the server is at it. */
                gpr_timespec when = gpr_time_from_millis((int)dice(12), GPR_TIMESPAN);
                gpr_timespec deadline = dice(3) == 0
                                            ? gpr_time_add(gpr_now(GPR_CLOCK_MONOTONIC), when)
                                            : in_seconds(20);

                client_begin(&c[k], &f.client, paths[dice(ARRAY_LEN(paths))], deadline, NULL);
                if (dice(4) > 0)
                    client_send(&c[k], "\x12\x05hello", dice(2) * 7);
            }
            for (int k = 0; k < AT_ONCE; k++) {
                grpc_call_cancel(c[k].call, NULL);
                client_status(&c[k]);
                client_end(&c[k]);
            }
        }
        until_in_flight(&f, 0);
        assert_int_equal(client_unary(&f.client, "/test.Service/Echo", "k", 1, in_seconds(20)), 0);
        stop(&f);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_an_answer_not_taken_is_in_flight),
        cmocka_unit_test(test_an_answer_without_room_is_refused),
        cmocka_unit_test(test_an_answer_not_taken_goes_with_its_client),
        cmocka_unit_test(test_a_cancelled_receive_is_no_half_close),
        cmocka_unit_test(test_cancelled_at_any_time),
    };
    int failed;

    grpc_init();
    failed = cmocka_run_group_tests_name("rpc calls, whole lives", tests, NULL, NULL);
    grpc_shutdown();
    return failed;
}
