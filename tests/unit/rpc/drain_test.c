/* src/rpc against a C-core client: drains, their reports, and servers that do not start. */
#include "tests/unit/rpc/rpc_service.h"

static void begin_call(struct client_call *c, struct fixture *f, const char *path)
{
    client_begin(c, &f->client, path, in_seconds(CALL_TIMEOUT_S), NULL);
    client_send(c, "", 0);
    client_half_close(c);
}

/* ---- slow readers ---- */

struct reader {
    struct fixture *f;
    struct client_call call;
    _Atomic bool go; /* the drain has counted what is in flight */
    size_t got;
    grpc_status_code status;
};

/* Begins to read once the drain has begun. */
static void *read_late(void *arg)
{
    struct reader *r = arg;
    uint8_t *out = NULL;

    while (!atomic_load(&r->go))
        sched_yield();
    if (client_receive(&r->call, &out, &r->got))
        gpr_free(out);
    r->status = client_status(&r->call);
    client_end(&r->call);
    return NULL;
}

static void let_read(void *arg)
{
    atomic_store(&((struct reader *)arg)->go, true);
}

static void test_a_slow_reader_is_waited_for(void **state)
{
    struct rpc_options options = default_options();
    struct rpc_drain_report report;
    struct reader r;
    struct fixture f;
    pthread_t thread;

    (void)state;
    start(&f, &options, 1, 64);
    r = (struct reader){.f = &f};
    begin_call(&r.call, &f, "/test.Service/Big");
    until(&big_answers, 1);
    pthread_create(&thread, NULL, read_late, &r);
    rpc_server_drain(f.server, 20000, &report, let_read, &r);
    pthread_join(thread, NULL);
    assert_in_range(r.got, BIG_BYTES, BIG_BYTES + 16);
    assert_int_equal(r.status, GRPC_STATUS_OK);
    assert_int_equal(report.in_flight, 1);
    assert_int_equal(report.finished, 1);
    assert_int_equal(report.abandoned, 0);
    assert_int_equal(report.unsent_bytes, 0);
    stop(&f);
}

static void test_a_reader_too_slow_is_reported(void **state)
{
    struct rpc_options options = default_options();
    struct rpc_drain_report report;
    struct client_call c;
    struct fixture f;
    uint8_t *out = NULL;
    size_t len = 0;

    (void)state;
    start(&f, &options, 1, 64);
    begin_call(&c, &f, "/test.Service/Big");
    until(&big_answers, 1);
    rpc_server_drain(f.server, 100, &report, NULL, NULL);
    assert_int_equal(report.in_flight, 1);
    assert_int_equal(report.finished, 0);
    assert_int_equal(report.abandoned, 1);
    assert_false(client_receive(&c, &out, &len));
    assert_int_not_equal(client_status(&c), GRPC_STATUS_OK);
    client_end(&c);
    stop(&f);
}

/* ---- nothing of a call is left when the drain returns: patterns may be unbound ---- */

static void test_the_drain_outlasts_its_calls(void **state)
{
    (void)state;
    for (int ring = 0; ring < 2; ring++) {
        struct rpc_options options = default_options();
        struct rpc_drain_report report;
        struct client_call c;
        struct fixture f;

        options.dispatch = ring ? RPC_DISPATCH_RING : RPC_DISPATCH_AUTO;
        start(&f, &options, 1, 64);
        begin_call(&c, &f, "/test.Service/Stubborn");
        until(&parked_now, 1);
        rpc_server_drain(f.server, 0, &report, NULL, NULL);
        assert_int_equal(report.abandoned, 1);
        assert_int_equal(atomic_load(&cancelled_ops), 1);
        assert_int_equal(atomic_load(&parked_now), 0);
        assert_int_equal(in_flight(&f), 0);
        client_status(&c);
        client_end(&c);
        stop(&f);
    }
}

/* ---- what is answered meanwhile ---- */

struct visit {
    struct fixture *f;
    struct client_call *parked;
    int health, others;
    grpc_status_code health_status, other_status;
};

static void visit(void *arg)
{
    struct visit *v = arg;

    if (v->others > 0)
        return;
    for (int i = 0; i < 3; i++) {
        v->health++;
        v->health_status =
            client_unary(&v->f->client, "/test.General/Check", "", 0, in_seconds(20));
    }
    v->others++;
    v->other_status = client_unary(&v->f->client, "/test.Service/Echo", "k", 1, in_seconds(20));
    grpc_call_cancel(v->parked->call, NULL);
}

/* Health has to be able to say that nothing else is answered. */
static void test_general_services_answer_during_the_drain(void **state)
{
    struct rpc_options options = default_options();
    struct rpc_drain_report report;
    struct client_call c;
    struct fixture f;
    struct visit v;

    (void)state;
    start(&f, &options, 1, 64);
    v = (struct visit){.f = &f, .parked = &c};
    begin_call(&c, &f, "/test.Service/Park");
    until(&parked_now, 1);
    rpc_server_drain(f.server, 20000, &report, visit, &v);
    assert_int_equal(v.health_status, GRPC_STATUS_OK);
    assert_int_equal(v.other_status, GRPC_STATUS_UNAVAILABLE);
    assert_int_equal(report.in_flight, 1);
    assert_int_equal(report.finished, 1);
    assert_int_equal(report.refused, 1);
    assert_int_equal(report.abandoned, 0);
    client_status(&c);
    client_end(&c);
    stop(&f);
}

/* An overloaded server is not a dead one. */
static void test_general_services_answer_under_overload(void **state)
{
    struct rpc_options options = default_options();
    struct client_call c;
    struct fixture f;

    (void)state;
    options.max_inflight_calls = 1;
    start(&f, &options, 1, 64);
    begin_call(&c, &f, "/test.Service/Park");
    until(&parked_now, 1);
    assert_int_equal(client_unary(&f.client, "/test.Service/Echo", "k", 1, in_seconds(20)),
                     GRPC_STATUS_RESOURCE_EXHAUSTED);
    assert_int_equal(client_unary(&f.client, "/test.General/Check", "", 0, in_seconds(20)), 0);
    grpc_call_cancel(c.call, NULL);
    client_status(&c);
    client_end(&c);
    stop(&f);
}

/* ---- the report under load ---- */

struct load {
    struct fixture *f;
    int channel, answered, refused, others;
};

static void *load_main(void *arg)
{
    struct load *load = arg;
    struct client client;
    grpc_status_code status;

    client_open(&client, load->f->target, load->channel);
    do {
        status = client_unary(&client, "/test.Service/Echo", "key", 20, in_seconds(20));
        load->answered += status == GRPC_STATUS_OK;
    } while (status == GRPC_STATUS_OK);
    load->refused += status == GRPC_STATUS_UNAVAILABLE;
    load->others += status != GRPC_STATUS_UNAVAILABLE;
    client_close(&client);
    return NULL;
}

static void test_the_report_adds_up(void **state)
{
    enum { THREADS = 6 };

    (void)state;
    for (int ring = 0; ring < 2; ring++) {
        struct rpc_options options = default_options();
        struct rpc_drain_report report;
        struct load loads[THREADS];
        pthread_t threads[THREADS];
        struct fixture f;

        options.dispatch = ring ? RPC_DISPATCH_RING : RPC_DISPATCH_AUTO;
        start(&f, &options, 2, 64);
        for (int i = 0; i < THREADS; i++) {
            loads[i] = (struct load){.f = &f, .channel = 2000 + ring * THREADS + i};
            pthread_create(&threads[i], NULL, load_main, &loads[i]);
        }
        while (metric(&f, "method=\"Echo\",code=\"OK\",api=\"pattern\"} ") + 1 < 300)
            sched_yield();
        rpc_server_drain(f.server, 20000, &report, NULL, NULL);
        assert_int_equal(report.abandoned, 0);
        assert_int_equal(report.finished, report.in_flight);
        assert_true(report.in_flight <= THREADS);
        for (int i = 0; i < THREADS; i++) {
            pthread_join(threads[i], NULL);
            /* gRPC's core answers what comes between its two GOAWAYs itself. */
            assert_int_equal(loads[i].refused + loads[i].others, 1);
        }
        stop(&f);
    }
}

/* ---- servers that do not start ---- */

static void test_a_port_in_use(void **state)
{
    struct rpc_options options = default_options();
    const struct service *services[] = {&service};
    struct pool_options pool_options = {.workers = 1, .intake_depth = 64};
    struct rpc_server *second = NULL;
    struct pool *pool;
    struct fixture f;

    (void)state;
    start(&f, &options, 1, 64);
    options.listen = f.target;
    assert_int_equal(pool_start(&pool, &pool_options).code, ERR_OK);
    assert_int_equal(rpc_server_new(&second, &options, pool, services, 1).code, ERR_OK);

    struct err err = rpc_server_start(second);

    assert_int_equal(err.code, ERR_UNAVAILABLE);
    assert_string_equal(err.subject, "listen");
    rpc_server_stop(second);
    pool_stop(pool);
    rpc_server_destroy(second);
    assert_int_equal(client_unary(&f.client, "/test.Service/Echo", "k", 1, in_seconds(20)), 0);
    stop(&f);
}

static void test_never_started(void **state)
{
    struct rpc_options options = default_options();
    const struct service *services[] = {&service};
    struct pool_options pool_options = {.workers = 1, .intake_depth = 64};
    struct rpc_drain_report report;
    struct rpc_server *server;
    struct pool *pool;

    (void)state;
    assert_int_equal(pool_start(&pool, &pool_options).code, ERR_OK);
    assert_int_equal(rpc_server_new(&server, &options, pool, services, 1).code, ERR_OK);
    rpc_server_drain(server, 1000, &report, NULL, NULL);
    assert_int_equal(report.in_flight + report.finished + report.abandoned + report.refused, 0);
    rpc_server_stop(server);
    pool_stop(pool);
    rpc_server_destroy(server);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_a_slow_reader_is_waited_for),
        cmocka_unit_test(test_a_reader_too_slow_is_reported),
        cmocka_unit_test(test_the_drain_outlasts_its_calls),
        cmocka_unit_test(test_general_services_answer_during_the_drain),
        cmocka_unit_test(test_general_services_answer_under_overload),
        cmocka_unit_test(test_the_report_adds_up),
        cmocka_unit_test(test_a_port_in_use),
        cmocka_unit_test(test_never_started),
    };
    int failed;

    grpc_init();
    failed = cmocka_run_group_tests_name("rpc drain", tests, NULL, NULL);
    grpc_shutdown();
    return failed;
}
