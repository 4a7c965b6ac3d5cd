/* src/rpc against a C-core client: unary calls on the poller and on workers, with their deadlines,
 * cancellation and refusals. */
#include "tests/unit/rpc/rpc_service.h"

static void test_unary(void **state)
{
    struct fixture f;

    (void)state;
    for (int ring = 0; ring < 2; ring++) {
        struct rpc_options options = default_options();

        options.dispatch = ring ? RPC_DISPATCH_RING : RPC_DISPATCH_AUTO;
        start(&f, &options, 2, 64);
        for (int i = 0; i < 200; i++)
            assert_int_equal(client_unary(&f.client, "/test.Service/Echo", "k", i % 2 ? 0 : 10000,
                                          in_seconds(20)),
                             0);
        assert_int_equal(client_unary(&f.client, "/test.Service/Fail", "", 0, in_seconds(20)), 3);
        assert_int_equal(client_unary(&f.client, "/test.Service/Nope", "", 0, in_seconds(20)), 12);
        stop(&f);
    }
}

static void test_details_name_the_field(void **state)
{
    struct rpc_options options = default_options();
    struct fixture f;
    struct client_call c;
    bool found = false;

    (void)state;
    start(&f, &options, 1, 64);
    client_begin(&c, &f.client, "/test.Service/Fail", in_seconds(20), "default");
    client_send(&c, "", 0);
    client_half_close(&c);
    assert_int_equal(client_status(&c), GRPC_STATUS_INVALID_ARGUMENT);
    for (size_t i = 0; i < c.trailing.count; i++) {
        if (grpc_slice_str_cmp(c.trailing.metadata[i].key, "grpc-status-details-bin") == 0)
            found =
                memmem(GRPC_SLICE_START_PTR(c.trailing.metadata[i].value),
                       GRPC_SLICE_LENGTH(c.trailing.metadata[i].value), "BadRequest", 10) != NULL;
    }
    assert_true(found);
    client_end(&c);
    stop(&f);
}

static void test_namespace(void **state)
{
    struct rpc_options options = default_options();
    struct fixture f;
    struct client_call c;

    (void)state;
    start(&f, &options, 1, 64);
    client_begin(&c, &f.client, "/test.Service/Echo", in_seconds(20), "elsewhere");
    client_send(&c, "", 0);
    client_half_close(&c);
    assert_int_equal(client_status(&c), GRPC_STATUS_NOT_FOUND);
    client_end(&c);
    stop(&f);
}

static void test_garbage_and_size(void **state)
{
    struct rpc_options options = default_options();
    struct fixture f;
    struct client_call c;

    (void)state;
    start(&f, &options, 1, 64);
    client_begin(&c, &f.client, "/test.Service/Echo", in_seconds(20), NULL);
    client_send(&c, "\xff\xff\xff", 3);
    client_half_close(&c);
    assert_int_equal(client_status(&c), GRPC_STATUS_INVALID_ARGUMENT);
    client_end(&c);
    assert_int_equal(client_unary(&f.client, "/test.Service/Echo", "k", 2 << 20, in_seconds(20)),
                     GRPC_STATUS_RESOURCE_EXHAUSTED);
    assert_int_equal(client_unary(&f.client, "/test.Service/Echo", "k", 1, in_seconds(20)), 0);
    stop(&f);
}

static void test_disabled(void **state)
{
    struct rpc_options options = default_options();
    struct fixture f;

    (void)state;
    start(&f, &options, 1, 64);
    assert_int_equal(client_unary(&f.client, "/test.Service/Old", "k", 1, in_seconds(20)), 0);
    stop(&f);
    options.deprecated_services = false;
    start(&f, &options, 1, 64);
    assert_int_equal(client_unary(&f.client, "/test.Service/Old", "k", 1, in_seconds(20)),
                     GRPC_STATUS_UNIMPLEMENTED);
    stop(&f);
}

static void test_deadline_reaches_the_op(void **state)
{
    struct fixture f;

    (void)state;
    for (int ring = 0; ring < 2; ring++) {
        struct rpc_options options = default_options();
        gpr_timespec soon;

        options.dispatch = ring ? RPC_DISPATCH_RING : RPC_DISPATCH_AUTO;
        start(&f, &options, 1, 64);
        soon = gpr_time_add(gpr_now(GPR_CLOCK_MONOTONIC), gpr_time_from_millis(60, GPR_TIMESPAN));
        assert_int_equal(client_unary(&f.client, "/test.Service/Park", "k", 1, soon),
                         GRPC_STATUS_DEADLINE_EXCEEDED);
        until(&cancelled_ops, 1);
        until(&parked_now, 0);
        stop(&f);
    }
}

static void test_cancel_reaches_the_op(void **state)
{
    struct fixture f;

    (void)state;
    for (int ring = 0; ring < 2; ring++) {
        struct rpc_options options = default_options();
        struct client_call c;

        options.dispatch = ring ? RPC_DISPATCH_RING : RPC_DISPATCH_AUTO;
        start(&f, &options, 1, 64);
        client_begin(&c, &f.client, "/test.Service/Park", in_seconds(20), NULL);
        client_send(&c, "", 0);
        client_half_close(&c);
        until(&parked_now, 1);
        grpc_call_cancel(c.call, NULL);
        until(&cancelled_ops, 1);
        until(&parked_now, 0);
        assert_int_equal(client_status(&c), GRPC_STATUS_CANCELLED);
        client_end(&c);
        stop(&f);
    }
}

static void test_limits_refuse(void **state)
{
    struct rpc_options options = default_options();
    struct fixture f;
    struct client_call c[2];

    (void)state;
    options.max_inflight_calls = 2;
    start(&f, &options, 1, 64);
    for (int i = 0; i < 2; i++) {
        client_begin(&c[i], &f.client, "/test.Service/Park", in_seconds(20), NULL);
        client_send(&c[i], "", 0);
        client_half_close(&c[i]);
    }
    until(&parked_now, 2);
    assert_int_equal(client_unary(&f.client, "/test.Service/Echo", "k", 1, in_seconds(20)),
                     GRPC_STATUS_RESOURCE_EXHAUSTED);
    for (int i = 0; i < 2; i++) {
        grpc_call_cancel(c[i].call, NULL);
        client_status(&c[i]);
        client_end(&c[i]);
    }
    until(&parked_now, 0);
    /* The place is free once the cancelled call has been answered. */
    uint64_t end = clock_now_ns() + 20 * NS_PER_S;

    while (client_unary(&f.client, "/test.Service/Echo", "k", 1, in_seconds(20)) != 0)
        assert_true(clock_now_ns() < end);
    stop(&f);
}

/* ---- many at once ---- */

struct load {
    struct fixture *f;
    int channel, failures;
};

static void *load_main(void *arg)
{
    static const char *paths[] = {"/test.Service/Echo", "/test.Service/Stream",
                                  "/test.Service/Fail"};
    struct load *load = arg;
    struct client client;

    client_open(&client, load->f->target, load->channel);
    for (int i = 0; i < 300; i++) {
        grpc_status_code status =
            client_unary(&client, paths[i % 3], "key", (size_t)(i % 7) * 40, in_seconds(20));

        if (i % 3 == 0 && status != 0)
            load->failures++;
        if (i % 3 == 2 && status != GRPC_STATUS_INVALID_ARGUMENT)
            load->failures++;
    }
    client_close(&client);
    return NULL;
}

static void test_threads_and_levels(void **state)
{
    static const enum rpc_coalesce levels[] = {RPC_COALESCE_BUFFER};

    (void)state;
    for (size_t l = 0; l < ARRAY_LEN(levels); l++) {
        struct rpc_options options = default_options();
        struct load loads[6];
        pthread_t threads[6];
        struct fixture f;

        options.coalesce = levels[l];
        start(&f, &options, 2, 64);
        for (int i = 0; i < 6; i++) {
            loads[i] = (struct load){.f = &f, .channel = 1000 + i};
            pthread_create(&threads[i], NULL, load_main, &loads[i]);
        }
        for (int i = 0; i < 6; i++) {
            pthread_join(threads[i], NULL);
            assert_int_equal(loads[i].failures, 0);
        }
        struct metrics_page page;

        metrics_page_init(&page);
        rpc_server_render(f.server, &page);
        assert_non_null(strstr(page.text, "prism_rpc_total"));
        metrics_page_clear(&page);
        stop(&f);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_unary),
        cmocka_unit_test(test_details_name_the_field),
        cmocka_unit_test(test_namespace),
        cmocka_unit_test(test_garbage_and_size),
        cmocka_unit_test(test_disabled),
        cmocka_unit_test(test_deadline_reaches_the_op),
        cmocka_unit_test(test_cancel_reaches_the_op),
        cmocka_unit_test(test_limits_refuse),
        cmocka_unit_test(test_threads_and_levels),
    };
    int failed;

    grpc_init();
    failed = cmocka_run_group_tests_name("rpc server", tests, NULL, NULL);
    grpc_shutdown();
    return failed;
}
