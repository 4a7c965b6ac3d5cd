/* What is counted, logged and refused before a call has a home. */
#include "tests/unit/rpc/rpc_service.h"

#include "src/base/log.h"

#include <fcntl.h>
#include <unistd.h>

static void expect_unary(struct fixture *f, const char *path, grpc_status_code status)
{
    assert_int_equal(client_unary(&f->client, path, "k", 1, in_seconds(CALL_TIMEOUT_S)), status);
}

/* ---- old and new use ---- */

static uint64_t api_calls(const struct fixture *f, const char *api)
{
    char line[64];

    snprintf(line, sizeof line, "\nprism_api_calls_total{api=\"%s\"} ", api);
    return metric(f, line);
}

static uint64_t answered(const struct fixture *f, const char *labels)
{
    char line[128];

    snprintf(line, sizeof line, "\nprism_rpc_total{%s} ", labels);
    return metric(f, line);
}

static void test_only_patterns_count_as_new_use(void **state)
{
    struct rpc_options options = default_options();
    struct fixture f;

    (void)state;
    start(&f, &options, 1, 64);
    expect_unary(&f, "/test.General/Check", GRPC_STATUS_OK);
    assert_int_equal(api_calls(&f, "pattern"), 0);
    expect_unary(&f, "/test.Service/Echo", GRPC_STATUS_OK);
    expect_unary(&f, "/test.Service/Old", GRPC_STATUS_OK);
    assert_int_equal(api_calls(&f, "pattern"), 1);
    assert_int_equal(api_calls(&f, "deprecated"), 1);

#define OK_OF(service, method, api)                                                                \
    "service=\"test." service "\",method=\"" method "\",code=\"OK\",api=\"" api "\""
    assert_int_equal(answered(&f, OK_OF("General", "Check", "general")), 1);
    assert_int_equal(answered(&f, OK_OF("Service", "Echo", "pattern")), 1);
    assert_int_equal(answered(&f, OK_OF("Service", "Old", "deprecated")), 1);
    stop(&f);
}

/* One method called without end leaves the warning about another its place. */
static void test_each_deprecated_method_is_named(void **state)
{
    struct rpc_options options = default_options();
    struct fixture f;
    char text[1 << 14];
    int fds[2], lines = 0;

    (void)state;
    assert_int_equal(pipe2(fds, O_CLOEXEC | O_NONBLOCK), 0);
    log_configure(LOG_WARN, fds[1]);
    start(&f, &options, 1, 64);
    for (int i = 0; i < 30; i++)
        expect_unary(&f, "/test.Service/Old", GRPC_STATUS_OK);
    expect_unary(&f, "/test.Service/Older", GRPC_STATUS_OK);
    stop(&f);
    log_configure(LOG_INFO, STDERR_FILENO);

    ssize_t n = read(fds[0], text, sizeof text - 1);

    text[n > 0 ? n : 0] = '\0';
    for (const char *at = text; (at = strstr(at, "\"/test.Service/Old\"")) != NULL; at++)
        lines++;
    assert_in_range(lines, 1, 29);
    assert_non_null(strstr(text, "\"/test.Service/Older\""));
    close(fds[0]);
    close(fds[1]);
}

/* ---- order of refusals ---- */

static void begin_unary(struct client_call *c, struct fixture *f, const char *path, const char *key,
                        gpr_timespec deadline)
{
    uint8_t request[64] = {0x0a, (uint8_t)strlen(key)};

    memcpy(request + 2, key, strlen(key));
    client_begin(c, &f->client, path, deadline, NULL);
    client_send(c, request, 2 + strlen(key));
    client_half_close(c);
}

/* Both arrive while the poller is held, so they are taken up one after the other; the first holds
 * it until the deadline of the second has passed. */
static void let_one_be_late(struct fixture *f)
{
    gpr_timespec forever = in_seconds(CALL_TIMEOUT_S);
    struct client_call calls[3];

    begin_unary(&calls[0], f, "/test.General/Hold", "", forever);
    until(&held, 1);
    begin_unary(&calls[1], f, "/test.General/Hold", "timed", forever);
    begin_unary(&calls[2], f, "/test.Service/Echo", "k", in_seconds(1));
    atomic_store(&let_go, 1);
    for (size_t i = 0; i < ARRAY_LEN(calls); i++) {
        client_last_status(&calls[i]); /* the late one has given up by itself */
        client_end(&calls[i]);
    }
}

static void test_late_is_late_also_under_overload(void **state)
{
    static const char late[] = "\nprism_rpc_total{service=\"test.Service\",method=\"Echo\","
                               "code=\"DEADLINE_EXCEEDED\",api=\"pattern\"} ";
    struct rpc_options options = default_options();
    uint64_t end = clock_now_ns() + CALL_TIMEOUT_S * NS_PER_S;
    struct client_call parked;
    struct fixture f;

    (void)state;
    options.max_inflight_calls = 1;
    start(&f, &options, 1, 64);
    begin_unary(&parked, &f, "/test.Service/Park", "", in_seconds(CALL_TIMEOUT_S));
    until(&parked_now, 1);
    let_one_be_late(&f);
    while (metric(&f, late) != 1) {
        assert_int_equal(metric(&f, "\nprism_rpc_refused_total{reason=\"admission\"} "), 0);
        assert_true(clock_now_ns() < end);
        sched_yield();
    }
    expect_unary(&f, "/test.Service/Echo", GRPC_STATUS_RESOURCE_EXHAUSTED);
    grpc_call_cancel(parked.call, NULL);
    client_status(&parked);
    client_end(&parked);
    until(&parked_now, 0);
    stop(&f);
}

/* ---- shares ---- */

static void begin_parked(struct client_call *call, struct client *client)
{
    static const uint8_t request[] = {0x0a, 0};

    client_begin(call, client, "/test.Service/Park", in_seconds(CALL_TIMEOUT_S), NULL);
    client_send(call, request, sizeof request);
    client_half_close(call);
}

static void is_refused(struct client *client)
{
    struct client_call call;

    begin_parked(&call, client);
    assert_int_equal(client_status(&call), GRPC_STATUS_RESOURCE_EXHAUSTED);
    client_end(&call);
}

static void end_parked(struct client_call *call)
{
    grpc_call_cancel(call->call, NULL);
    client_status(call);
    client_end(call);
}

/* Each takes all that it gets, one after the other, and each leaves some to who comes next. */
static void test_greedy_connections_leave_room(void **state)
{
    enum { MORE = 4 };
    static const int gets[] = {16, 8, 4, 2, 1, 1};
    struct rpc_options options = default_options();
    struct client clients[ARRAY_LEN(gets)];
    struct client_call calls[32];
    struct fixture f;
    int n = 0;

    (void)state;
    options.max_inflight_calls = ARRAY_LEN(calls);
    options.connection_share_percent = 50;
    start(&f, &options, 1, 64);
    for (unsigned i = 0; i < ARRAY_LEN(gets); i++) {
        client_open(&clients[i], f.target, 100 + (int)i);
        for (int k = 0; k < gets[i]; k++)
            begin_parked(&calls[n++], &clients[i]);
        until(&parked_now, n);
        is_refused(&clients[i]);
    }
    assert_int_equal(metric(&f, "\nprism_rpc_refused_total{reason=\"connection_share\"} "), 5);
    assert_int_equal(metric(&f, "\nprism_rpc_refused_total{reason=\"admission\"} "), 1);
    for (int i = 0; i < gets[0]; i++)
        end_parked(&calls[i]);
    until(&parked_now, n - gets[0]);
    for (int i = 0; i < MORE; i++) /* what became free is the others' */
        begin_parked(&calls[i], &clients[1]);
    until(&parked_now, n - gets[0] + MORE);
    is_refused(&clients[1]); /* it has 12, and 12 are free */
    for (int i = 0; i < n; i++) {
        if (i < MORE || i >= gets[0])
            end_parked(&calls[i]);
    }
    until(&parked_now, 0);
    for (unsigned i = 0; i < ARRAY_LEN(gets); i++)
        client_close(&clients[i]);
    stop(&f);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_only_patterns_count_as_new_use),
        cmocka_unit_test(test_each_deprecated_method_is_named),
        cmocka_unit_test(test_late_is_late_also_under_overload),
        cmocka_unit_test(test_greedy_connections_leave_room),
    };
    int failed;

    grpc_init();
    failed = cmocka_run_group_tests_name("rpc admission", tests, NULL, NULL);
    grpc_shutdown();
    return failed;
}
