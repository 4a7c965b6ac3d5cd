/* src/rpc against a C-core client: every kind of call, on the poller and on workers, with its
 * deadlines, cancellation, refusals and drain. The handlers below are the tests' own; no backend
 * takes part. */
#include "tests/unit/rpc/rpc_fixture.h"

#include <pthread.h>
#include <unistd.h>

typedef Prism__Patterns__Keyvalue__StoreRequest Request;
typedef Prism__Patterns__Keyvalue__StoreResponse Response;

enum { SERVICE_METHODS = 7, INLINE_BYTES = 4096 };

/* ---- handlers ---- */

static void reply_ok(struct call *call)
{
    Response response = PRISM__PATTERNS__KEYVALUE__STORE_RESPONSE__INIT;
    const Request *request = call_request(call);

    response.success = 1;
    response.error = arena_printf(call_arena(call), "%s", request->key);
    call_reply(call, &response.base);
}

static void echo(struct call *call)
{
    reply_ok(call);
}

static void fail_field(struct call *call)
{
    call_fail(call, err_about(ERR_INVALID_ARGUMENT, "key", "key must not be empty"));
}

/* An op that only ends when it is cancelled or let go by release_parked(). */
struct parked {
    struct op op;
    struct call *call;
};

static _Atomic int parked_now, cancelled_ops;

static void parked_cancel(struct op *op, struct err why)
{
    atomic_fetch_add(&cancelled_ops, 1);
    op_finish(op, why);
}

static void parked_done(struct op *op)
{
    struct parked *p = CONTAINER_OF(op, struct parked, op);

    atomic_fetch_sub(&parked_now, 1);
    call_fail(p->call, op->err);
}

static void park(struct call *call)
{
    struct parked *p = arena_zalloc(call_arena(call), sizeof *p);

    p->call = call;
    call_start(call, &p->op, parked_done);
    atomic_fetch_add(&parked_now, 1);
    op_park(&p->op, parked_cancel);
}

/* As many messages as the request's value has bytes. */
struct stream {
    struct op sent;
    struct call *call;
    size_t left;
};

static void stream_next(struct op *op)
{
    struct stream *s = CONTAINER_OF(op, struct stream, sent);
    Response response = PRISM__PATTERNS__KEYVALUE__STORE_RESPONSE__INIT;

    if (op->err.code != ERR_OK) {
        call_fail(s->call, op->err);
        return;
    }
    if (s->left == 0) {
        call_close(s->call);
        return;
    }
    response.code = (int32_t)s->left--;
    call_send(s->call, &response.base, &s->sent, stream_next);
}

static void stream_many(struct call *call)
{
    const Request *request = call_request(call);
    struct stream *s = arena_zalloc(call_arena(call), sizeof *s);

    s->call = call;
    s->left = request->value.len;
    stream_next(&s->sent);
}

static void told(struct call *call, void *arg)
{
    (void)arg;
    atomic_fetch_add(&cancelled_ops, 1);
    call_fail(call, err_make(ERR_UNAVAILABLE, "told"));
}

static void wait_for_ever(struct call *call)
{
    atomic_fetch_add(&parked_now, 1);
    call_on_cancel(call, told, NULL);
}

/* Echoes each message until the client half-closes; key "end" ends at once, with a receive left
 * outstanding. */
struct bidi {
    struct call *call;
    struct call_receive receive, extra;
    struct op sent;
};

static void bidi_received(struct op *op);

static void bidi_ignored(struct op *op)
{
    (void)op;
    abort(); /* the call has ended: nobody is called */
}

static void bidi_sent(struct op *op)
{
    struct bidi *b = CONTAINER_OF(op, struct bidi, sent);

    if (op->err.code != ERR_OK)
        call_fail(b->call, op->err);
    else
        call_receive(b->call, &b->receive, bidi_received);
}

static void bidi_received(struct op *op)
{
    struct bidi *b = CONTAINER_OF(op, struct bidi, receive.op);
    const Request *request = (const Request *)(const void *)b->receive.message;
    Response response = PRISM__PATTERNS__KEYVALUE__STORE_RESPONSE__INIT;

    if (op->err.code != ERR_OK) {
        call_fail(b->call, op->err);
    } else if (request == NULL) {
        call_close(b->call);
    } else if (strcmp(request->key, "end") == 0) {
        call_receive(b->call, &b->extra, bidi_ignored);
        call_close(b->call);
    } else {
        response.error = request->key;
        call_send(b->call, &response.base, &b->sent, bidi_sent);
    }
}

static void bidi(struct call *call)
{
    struct bidi *b = arena_zalloc(call_arena(call), sizeof *b);

    b->call = call;
    call_receive(call, &b->receive, bidi_received);
}

#define REQUEST  &prism__patterns__keyvalue__store_request__descriptor
#define RESPONSE &prism__patterns__keyvalue__store_response__descriptor

static const struct method methods[SERVICE_METHODS] = {
    {"/test.Service/Echo", METHOD_UNARY, true, REQUEST, RESPONSE, echo, NULL},
    {"/test.Service/Park", METHOD_UNARY, false, REQUEST, RESPONSE, park, NULL},
    {"/test.Service/Fail", METHOD_UNARY, false, REQUEST, RESPONSE, fail_field, NULL},
    {"/test.Service/Stream", METHOD_SERVER_STREAM, false, REQUEST, RESPONSE, stream_many, NULL},
    {"/test.Service/Wait", METHOD_SERVER_STREAM, false, REQUEST, RESPONSE, wait_for_ever, NULL},
    {"/test.Service/Bidi", METHOD_BIDI, false, REQUEST, RESPONSE, bidi, NULL},
    {"/test.Service/Old", METHOD_UNARY, false, REQUEST, RESPONSE, echo, "test.Service.Echo"},
};

static const struct service service = {"test.Service", "test", methods, SERVICE_METHODS};

/* ---- fixture ---- */

struct fixture {
    struct pool *pool;
    struct rpc_server *server;
    struct client client;
    char target[64];
};

static struct rpc_options default_options(void)
{
    return (struct rpc_options){.listen = "127.0.0.1:0",
                                .coalesce = RPC_COALESCE_BUFFER,
                                .dispatch = RPC_DISPATCH_AUTO,
                                .max_message_bytes = 1 << 20,
                                .max_inflight_calls = 1000,
                                .max_inflight_bytes = 64 << 20,
                                .deprecated_services = true};
}

static void start(struct fixture *f, const struct rpc_options *options, unsigned workers,
                  uint32_t intake)
{
    static int channel;
    const struct service *services[] = {&service};
    struct pool_options pool_options = {.workers = workers, .intake_depth = intake};
    static const uint32_t inline_bytes[SERVICE_METHODS] = {
        INLINE_BYTES, INLINE_BYTES, 0, 0, 0, 0, 0};
    struct rpc_instance instances[8];

    atomic_store(&parked_now, 0);
    atomic_store(&cancelled_ops, 0);
    assert_int_equal(pool_start(&f->pool, &pool_options).code, ERR_OK);
    assert_int_equal(rpc_server_new(&f->server, options, f->pool, services, 1).code, ERR_OK);
    for (unsigned i = 0; i <= workers; i++)
        instances[i] = (struct rpc_instance){.pattern = f, .inline_bytes = inline_bytes};
    rpc_server_bind(f->server, &service, "default", instances);
    assert_int_equal(rpc_server_start(f->server).code, ERR_OK);
    snprintf(f->target, sizeof f->target, "127.0.0.1:%d", rpc_server_port(f->server));
    client_open(&f->client, f->target, ++channel);
}

static void stop(struct fixture *f)
{
    client_close(&f->client);
    rpc_server_destroy(f->server);
    pool_stop(f->pool);
}

static void until(_Atomic int *value, int wanted)
{
    uint64_t end = clock_now_ns() + 20 * NS_PER_S;

    while (atomic_load(value) != wanted) {
        assert_true(clock_now_ns() < end);
        sched_yield();
    }
}

/* ---- tests ---- */

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

static void test_server_stream(void **state)
{
    struct rpc_options options = default_options();
    struct fixture f;
    struct client_call c;
    uint8_t request[2000] = {0x12, 0xc4, 0x13}; /* field 2, 2500 bytes: not complete */
    Request message = PRISM__PATTERNS__KEYVALUE__STORE_REQUEST__INIT;
    uint8_t value[500] = {0};
    int n = 0;

    (void)state;
    start(&f, &options, 2, 64);
    message.key = (char *)(uintptr_t) "k";
    message.value = (ProtobufCBinaryData){.data = value, .len = sizeof value};
    size_t len = prism__patterns__keyvalue__store_request__pack(&message, request);

    client_begin(&c, &f.client, "/test.Service/Stream", in_seconds(20), NULL);
    client_send(&c, request, len);
    client_half_close(&c);
    for (;;) {
        uint8_t *out = NULL;
        size_t out_len = 0;

        if (!client_receive(&c, &out, &out_len))
            break;
        Response *response = prism__patterns__keyvalue__store_response__unpack(NULL, out_len, out);

        assert_non_null(response);
        assert_int_equal(response->code, 500 - n);
        prism__patterns__keyvalue__store_response__free_unpacked(response, NULL);
        gpr_free(out);
        n++;
    }
    assert_int_equal(n, 500);
    assert_int_equal(client_status(&c), 0);
    client_end(&c);
    stop(&f);
}

static void send_key(struct client_call *c, const char *key)
{
    uint8_t bytes[64] = {0x0a, (uint8_t)strlen(key)};

    memcpy(bytes + 2, key, strlen(key));
    assert_true(client_send(c, bytes, 2 + strlen(key)));
}

static void test_bidi(void **state)
{
    struct rpc_options options = default_options();
    struct fixture f;

    (void)state;
    start(&f, &options, 1, 64);
    for (int end = 0; end < 2; end++) {
        struct client_call c;
        uint8_t *out = NULL;
        size_t len = 0;

        client_begin(&c, &f.client, "/test.Service/Bidi", in_seconds(20), NULL);
        for (int i = 0; i < 50; i++) {
            send_key(&c, "hello");
            assert_true(client_receive(&c, &out, &len));
            gpr_free(out);
        }
        if (end)
            send_key(&c, "end"); /* ends with a receive outstanding on the server */
        else
            client_half_close(&c);
        assert_int_equal(client_status(&c), 0);
        client_end(&c);
    }
    stop(&f);
}

static void test_waiting_stream_is_told(void **state)
{
    struct fixture f;

    (void)state;
    for (int drain = 0; drain < 2; drain++) {
        struct rpc_options options = default_options();
        struct rpc_drain_report report;
        struct client_call c;

        start(&f, &options, 1, 64);
        client_begin(&c, &f.client, "/test.Service/Wait", in_seconds(20), NULL);
        client_send(&c, "", 0);
        client_half_close(&c);
        until(&parked_now, 1);
        if (drain) {
            rpc_server_drain(f.server, 20000, &report, NULL, NULL);
            assert_int_equal(report.abandoned, 0);
            assert_int_equal(report.in_flight, 1);
            assert_int_equal(report.finished, 1);
        } else {
            grpc_call_cancel(c.call, NULL);
        }
        until(&cancelled_ops, 1);
        assert_int_equal(client_status(&c),
                         drain ? GRPC_STATUS_UNAVAILABLE : GRPC_STATUS_CANCELLED);
        client_end(&c);
        stop(&f);
    }
}

static void test_drain_gives_up_in_time(void **state)
{
    struct rpc_options options = default_options();
    struct rpc_drain_report report;
    struct fixture f;
    struct client_call c;

    (void)state;
    start(&f, &options, 1, 64);
    client_begin(&c, &f.client, "/test.Service/Park", in_seconds(20), NULL);
    client_send(&c, "", 0);
    client_half_close(&c);
    until(&parked_now, 1);
    rpc_server_drain(f.server, 50, &report, NULL, NULL);
    assert_int_equal(report.abandoned, 1);
    assert_int_not_equal(client_status(&c), 0);
    until(&parked_now, 0);
    client_end(&c);
    stop(&f);
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
        cmocka_unit_test(test_server_stream),
        cmocka_unit_test(test_bidi),
        cmocka_unit_test(test_waiting_stream_is_told),
        cmocka_unit_test(test_drain_gives_up_in_time),
        cmocka_unit_test(test_limits_refuse),
        cmocka_unit_test(test_threads_and_levels),
    };
    int failed;

    grpc_init();
    failed = cmocka_run_group_tests_name("rpc server", tests, NULL, NULL);
    grpc_shutdown();
    return failed;
}
