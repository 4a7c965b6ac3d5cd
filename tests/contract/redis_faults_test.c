/* What happens when redis dies, stops, refuses or is full: every operation ends once, says why, and
 * the connection comes back by itself. */
#include "src/base/clock.h"
#include "src/base/container.h"
#include "tests/contract/redis_fixture.h"

#include <stdio.h>
#include <string.h>

enum { LOAD = 2000, LARGE = 4 << 20 };

static struct redis_server server;
static char address[128];

/* ---- many operations at once ---- */

struct load {
    struct kv_put puts[LOAD];
    struct kv_get gets[LOAD];
    struct op *ops[LOAD];
    char keys[LOAD][16];
    struct redis_flight flight;
};

static struct load *load_new(void)
{
    struct load *load = test_calloc(1, sizeof *load);

    for (size_t i = 0; i < LOAD; i++)
        snprintf(load->keys[i], sizeof load->keys[i], "load-%zu", i);
    return load;
}

static void launch_puts(struct load *load, struct redis_fixture *fixture, size_t n,
                        unsigned deadline_ms)
{
    for (size_t i = 0; i < n; i++) {
        load->puts[i] =
            (struct kv_put){.key = slice_str(load->keys[i]), .value = slice_str(load->keys[i])};
        load->ops[i] = &load->puts[i].op;
    }
    redis_launch(&load->flight, fixture, kv_start_put, load->ops, n, deadline_ms);
}

static void launch_gets(struct load *load, struct redis_fixture *fixture, size_t n,
                        unsigned deadline_ms)
{
    for (size_t i = 0; i < n; i++) {
        load->gets[i] = (struct kv_get){.key = slice_str(load->keys[i])};
        load->ops[i] = &load->gets[i].op;
    }
    redis_launch(&load->flight, fixture, kv_start_get, load->ops, n, deadline_ms);
}

/* How many of the landed operations ended with the code. */
static size_t ended(const struct load *load, enum err_code code)
{
    size_t n = 0;

    for (size_t i = 0; i < load->flight.n; i++)
        n += load->ops[i]->err.code == code;
    return n;
}

static void land(struct load *load)
{
    redis_land(&load->flight);
    for (size_t i = 0; i < load->flight.n; i++)
        assert_true(load->ops[i]->err.code == ERR_OK || load->ops[i]->err.text != NULL);
    redis_flight_clear(&load->flight);
}

static uint64_t in_flight(struct redis_fixture *fixture)
{
    return counter_read(&fixture->kv.backend->stats.in_flight);
}

static void expect_works(struct redis_fixture *fixture)
{
    kv_put_ok(&fixture->kv, "works", "yes", 0);
    assert_string_equal(kv_get_ok(&fixture->kv, "works"), "yes");
}

static int start_server(void **state)
{
    (void)state;
    redis_server_start(&server, NULL);
    snprintf(address, sizeof address, "unix:%s", server.socket);
    return 0;
}

static int stop_server(void **state)
{
    (void)state;
    redis_server_stop(&server);
    return 0;
}

/* ---- killed ---- */

static void killed_with_calls_in_flight(void **state)
{
    struct load *load = load_new();
    struct redis_fixture fixture;

    (void)state;
    redis_fixture_open(&fixture, "default", (redis_settings){"address", address, NULL});
    redis_until(&fixture, BACKEND_READY);
    redis_server_pause(&server); /* nothing is answered, so all are in flight */
    launch_puts(load, &fixture, LOAD, 0);
    KV_UNTIL(&fixture.kv, in_flight(&fixture) == LOAD);
    redis_server_kill(&server);
    land(load);
    assert_int_equal(ended(load, ERR_UNAVAILABLE), LOAD);
    assert_non_null(strstr(load->ops[0]->err.text, "may or may not"));
    assert_int_equal(load->ops[0]->err.effect, EFFECT_UNKNOWN);
    assert_int_equal(in_flight(&fixture), 0);
    redis_until(&fixture, BACKEND_DOWN);

    struct err e = redis_put(&fixture, "k", "v"); /* at once, and says when to come back */

    assert_int_equal(e.code, ERR_UNAVAILABLE);
    assert_int_equal(e.effect, EFFECT_NONE);
    assert_true(e.retry_after_ms > 0);
    redis_server_restart(&server);
    redis_until(&fixture, BACKEND_READY);
    expect_works(&fixture);
    assert_int_equal(counter_read(&fixture.kv.backend->stats.connects), 2);
    redis_fixture_close(&fixture);
    test_free(load);
}

static void killed_and_restarted_under_load(void **state)
{
    struct load *load = load_new();
    struct redis_fixture fixture;

    (void)state;
    redis_fixture_open(&fixture, "default", (redis_settings){"address", address, NULL});
    for (int round = 0; round < 8; round++) {
        redis_until(&fixture, BACKEND_READY);
        launch_puts(load, &fixture, LOAD, KV_PATIENCE_MS / 2);
        if (round % 2 == 1)
            KV_UNTIL(&fixture.kv, redis_landed(&load->flight) > 0);
        redis_server_restart(&server);
        land(load);
        assert_int_equal(ended(load, ERR_OK) + ended(load, ERR_UNAVAILABLE), LOAD);
    }
    redis_until(&fixture, BACKEND_READY);
    expect_works(&fixture);
    redis_fixture_close(&fixture);
    test_free(load);
}

/* Killed while large answers are on their way: half an answer goes nowhere. */
static void killed_within_an_answer(void **state)
{
    struct load *load = load_new();
    uint8_t *large = test_malloc(LARGE);
    struct redis_fixture fixture;

    (void)state;
    memset(large, 'x', LARGE);
    redis_fixture_open(&fixture, "default", (redis_settings){"address", address, NULL});
    for (int round = 0; round < 5; round++) {
        redis_until(&fixture, BACKEND_READY);

        struct kv_put put = {.key = slice_str(load->keys[0]), .value = slice_of(large, LARGE)};

        assert_int_equal(kv_do(&fixture.kv, kv_start_put, &put.op).code, ERR_OK);
        for (size_t i = 0; i < 40; i++) {
            load->gets[i] = (struct kv_get){.key = slice_str(load->keys[0])};
            load->ops[i] = &load->gets[i].op;
        }
        redis_launch(&load->flight, &fixture, kv_start_get, load->ops, 40, 0);
        KV_UNTIL(&fixture.kv, redis_landed(&load->flight) > 0);
        redis_server_restart(&server);
        land(load);
        assert_true(ended(load, ERR_OK) > 0);
        assert_int_equal(ended(load, ERR_OK) + ended(load, ERR_UNAVAILABLE), 40);
    }
    redis_fixture_close(&fixture);
    test_free(large);
    test_free(load);
}

static void never_there(void **state)
{
    struct redis_fixture fixture;

    (void)state;
    redis_fixture_open(&fixture, "default",
                       (redis_settings){"address", "unix:/nonexistent/redis.sock", NULL});
    redis_until(&fixture, BACKEND_DOWN);
    assert_string_equal(atomic_load(&fixture.store->state_text), "cannot connect to redis");
    assert_int_equal(redis_put(&fixture, "k", "v").code, ERR_UNAVAILABLE);
    redis_fixture_close(&fixture);
}

/* ---- stopped ---- */

static void deadlines_hold_while_stopped(void **state)
{
    struct load *load = load_new(), *later = load_new();
    struct redis_fixture fixture;

    (void)state;
    redis_fixture_open(&fixture, "default", (redis_settings){"address", address, NULL});
    redis_until(&fixture, BACKEND_READY);
    launch_puts(later, &fixture, LOAD, 0);
    land(later);
    redis_server_pause(&server);

    uint64_t start_ms = kv_clock_ms();

    launch_gets(load, &fixture, LOAD, 200);
    land(load);
    assert_int_equal(ended(load, ERR_DEADLINE_EXCEEDED), LOAD);
    assert_true(kv_clock_ms() - start_ms >= 200 && kv_clock_ms() - start_ms < KV_PATIENCE_MS / 2);
    assert_int_equal(in_flight(&fixture), LOAD); /* the answers are still owed */
    /* The late answers go nowhere; those of later calls find their calls. */
    launch_gets(later, &fixture, LOAD, 0);
    redis_server_resume(&server);
    land(later);
    for (size_t i = 0; i < LOAD; i++) {
        assert_int_equal(later->gets[i].op.err.code, ERR_OK);
        assert_true(later->gets[i].found);
    }
    assert_int_equal(in_flight(&fixture), 0);
    assert_int_equal(counter_read(&fixture.kv.backend->stats.connects), 1);
    redis_fixture_close(&fixture);
    test_free(load);
    test_free(later);
}

/* Without deadlines the silence itself ends the calls, and the connection with what it holds. */
static void silence_is_a_loss(void **state)
{
    struct load *load = load_new();
    struct redis_fixture fixture;

    (void)state;
    redis_fixture_open(&fixture, "default",
                       (redis_settings){"address", address, "command_timeout_ms", "200",
                                        "dial_timeout_ms", "200", NULL});
    redis_until(&fixture, BACKEND_READY);
    redis_server_pause(&server);
    launch_puts(load, &fixture, LOAD, 0);
    land(load);
    assert_int_equal(ended(load, ERR_UNAVAILABLE), LOAD);
    redis_until(&fixture, BACKEND_DOWN);
    assert_non_null(strstr(atomic_load(&fixture.store->state_text), "did not answer"));
    assert_int_equal(in_flight(&fixture), 0);
    redis_server_resume(&server);
    redis_until(&fixture, BACKEND_READY);
    expect_works(&fixture);
    redis_fixture_close(&fixture);
    test_free(load);
}

static void what_waits_is_bounded(void **state)
{
    static const char *const limits[][3] = {{"max_in_flight", "100", "max_in_flight"},
                                            {"max_buffer_bytes", "65536", "max_buffer_bytes"}};
    struct load *load = load_new();

    (void)state;
    for (size_t l = 0; l < ARRAY_LEN(limits); l++) {
        struct redis_fixture fixture;

        redis_fixture_open(&fixture, "default",
                           (redis_settings){"address", address, limits[l][0], limits[l][1], NULL});
        redis_until(&fixture, BACKEND_READY);
        redis_server_pause(&server);
        launch_puts(load, &fixture, LOAD, 1000);
        land(load);

        size_t refused = ended(load, ERR_RESOURCE_EXHAUSTED);

        assert_true(refused >= LOAD / 2);
        assert_int_equal(refused + ended(load, ERR_DEADLINE_EXCEEDED), LOAD);
        assert_int_equal(in_flight(&fixture), LOAD - refused);
        assert_string_equal(load->ops[LOAD - 1]->err.subject, limits[l][2]);
        assert_true(load->ops[LOAD - 1]->err.retry_after_ms > 0);
        redis_server_resume(&server);
        KV_UNTIL(&fixture.kv, in_flight(&fixture) == 0);
        expect_works(&fixture);
        redis_fixture_close(&fixture);
    }
    test_free(load);
}

static void cancel_group(void *arg)
{
    struct redis_flight *flight = arg;

    op_group_cancel(&flight->group, err_make(ERR_CANCELLED, "the caller has gone"));
}

static void cancelled_while_stopped(void **state)
{
    struct load *load = load_new();
    struct redis_fixture fixture;

    (void)state;
    redis_fixture_open(&fixture, "default", (redis_settings){"address", address, NULL});
    redis_until(&fixture, BACKEND_READY);
    redis_server_pause(&server);
    launch_puts(load, &fixture, LOAD, 0);
    kv_on_worker(&fixture.kv, cancel_group, &load->flight);
    land(load);
    assert_int_equal(ended(load, ERR_CANCELLED), LOAD);
    redis_server_resume(&server);
    KV_UNTIL(&fixture.kv, in_flight(&fixture) == 0);
    expect_works(&fixture);
    redis_fixture_close(&fixture);
    test_free(load);
}

static void closed_with_calls_in_flight(void **state)
{
    struct load *load = load_new();
    struct redis_fixture fixture;

    (void)state;
    redis_fixture_open(&fixture, "default", (redis_settings){"address", address, NULL});
    redis_until(&fixture, BACKEND_READY);
    redis_server_pause(&server);
    launch_puts(load, &fixture, LOAD, 0);
    kv_close(&fixture.kv, fixture.kv.backend);
    fixture.kv.backend = NULL;
    assert_int_equal(redis_landed(&load->flight), LOAD); /* all before closed() */
    land(load);
    assert_int_equal(ended(load, ERR_UNAVAILABLE), LOAD);
    redis_server_resume(&server);
    redis_fixture_close(&fixture);
    test_free(load);
}

/* ---- refused, full ---- */

static void refused_until_the_password_is_right(void **state)
{
    struct redis_fixture fixture;

    (void)state;
    redis_fixture_open(
        &fixture, "default",
        (redis_settings){"address", address, "username", "late", "password", "secret", NULL});
    redis_until(&fixture, BACKEND_DOWN);
    assert_string_equal(atomic_load(&fixture.store->state_text),
                        "redis refused the user name or password");

    struct err e = redis_put(&fixture, "k", "v");

    assert_int_equal(e.code, ERR_FAILED_PRECONDITION);
    assert_string_equal(e.text, "redis refused the user name or password");
    redis_server_say(&server, "ACL SETUSER late on >secret ~* +@all");
    redis_until(&fixture, BACKEND_READY); /* somebody mended it: no restart is needed */
    expect_works(&fixture);
    redis_fixture_close(&fixture);
    redis_server_say(&server, "ACL DELUSER late");
}

static void a_password_is_missing(void **state)
{
    struct redis_fixture fixture;

    (void)state;
    redis_server_say(&server, "ACL SETUSER default resetpass >other");
    redis_fixture_open(&fixture, "default", (redis_settings){"address", address, NULL});
    redis_until(&fixture, BACKEND_DOWN);
    assert_string_equal(atomic_load(&fixture.store->state_text),
                        "redis asks for a password and none is set");
    redis_fixture_close(&fixture);
    redis_server_restart(&server); /* without the password */
}

static void no_such_database(void **state)
{
    struct redis_fixture fixture;

    (void)state;
    redis_fixture_open(&fixture, "default",
                       (redis_settings){"address", address, "database", "999", NULL});
    redis_until(&fixture, BACKEND_DOWN);
    assert_int_equal(redis_put(&fixture, "k", "v").code, ERR_FAILED_PRECONDITION);
    redis_fixture_close(&fixture);
}

static void expect_full(struct err e)
{
    assert_int_equal(e.code, ERR_RESOURCE_EXHAUSTED);
    assert_string_equal(e.subject, "maxmemory");
    assert_true(e.retry_after_ms > 0);
}

static void full(void **state)
{
    struct kv_put_item plain[] = {{.base.key = slice_str("a"), .value = slice_str("1")},
                                  {.base.key = slice_str("b"), .value = slice_str("2")}};
    struct kv_put_item expiring[] = {
        {.base.key = slice_str("a"), .value = slice_str("1"), .ttl_ms = 10000},
        {.base.key = slice_str("b"), .value = slice_str("2")}};
    struct kv_put_many many = {.items = plain, .n = 2}, each = {.items = expiring, .n = 2},
                       txn = {.items = expiring, .n = 2};
    struct kv_put_if absent = {.key = slice_str("a"), .value = slice_str("1")};
    struct kv_put_if version = {
        .key = slice_str("old"), .value = slice_str("new"), .condition = KV_IF_VERSION};
    struct kv_get get = {.key = slice_str("old"), .want_version = true};
    struct redis_fixture fixture;

    (void)state;
    redis_fixture_open(&fixture, "default", (redis_settings){"address", address, NULL});
    redis_until(&fixture, BACKEND_READY);
    kv_put_ok(&fixture.kv, "old", "value", 0);
    redis_server_say(&server, "CONFIG SET maxmemory 1");
    expect_full(redis_put(&fixture, "a", "v"));
    expect_full(kv_do(&fixture.kv, kv_start_put_many, &many.op));
    assert_int_equal(kv_do(&fixture.kv, kv_start_put_many, &each.op).code, ERR_OK);
    expect_full(expiring[0].base.err);
    expect_full(expiring[1].base.err);
    expect_full(kv_do(&fixture.kv, kv_start_txn_put, &txn.op));
    expect_full(kv_do(&fixture.kv, kv_start_put_if, &absent.op));
    assert_int_equal(kv_do(&fixture.kv, kv_start_get, &get.op).code, ERR_OK);
    assert_true(get.found && slice_equal(get.value, slice_str("value")));
    version.version = get.version;
    expect_full(kv_do(&fixture.kv, kv_start_put_if, &version.op));
    redis_server_say(&server, "CONFIG SET maxmemory 0");
    assert_null(kv_get_ok(&fixture.kv, "a"));
    assert_null(kv_get_ok(&fixture.kv, "b"));
    assert_string_equal(kv_get_ok(&fixture.kv, "old"), "value");
    expect_works(&fixture);
    redis_fixture_close(&fixture);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(killed_with_calls_in_flight),
        cmocka_unit_test(killed_and_restarted_under_load),
        cmocka_unit_test(killed_within_an_answer),
        cmocka_unit_test(never_there),
        cmocka_unit_test(deadlines_hold_while_stopped),
        cmocka_unit_test(silence_is_a_loss),
        cmocka_unit_test(what_waits_is_bounded),
        cmocka_unit_test(cancelled_while_stopped),
        cmocka_unit_test(closed_with_calls_in_flight),
        cmocka_unit_test(refused_until_the_password_is_right),
        cmocka_unit_test(a_password_is_missing),
        cmocka_unit_test(no_such_database),
        cmocka_unit_test(full),
    };

    if (!redis_server_installed())
        return redis_server_skip();
    return cmocka_run_group_tests_name("redis_faults", tests, start_server, stop_server);
}
