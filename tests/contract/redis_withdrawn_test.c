/* What waits here for a redis that stands still, and whose call is over meanwhile, is not carried
 * out when redis goes on. */
#include "backends/redis/redis_conn.h"
#include "src/base/container.h"
#include "tests/contract/redis_fixture.h"

#include <stdio.h>
#include <string.h>

enum {
    FLIGHTS = 24, /* every second one has a deadline */
    EACH = 40,
    VALUE = 8 << 10, /* all together more than sockets hold */
    DEADLINE_MS = 300
};

static struct redis_server server;
static char address[128];

struct wave {
    struct redis_flight flight;
    struct kv_put puts[EACH];
    struct op *ops[EACH];
    char keys[EACH][24];
    char values[EACH][VALUE];
};

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

/* The value of a key is its number, again and again. */
static void launch(struct redis_fixture *fixture, struct wave *wave, unsigned number,
                   unsigned deadline_ms)
{
    for (unsigned i = 0; i < EACH; i++) {
        snprintf(wave->keys[i], sizeof wave->keys[i], "w%05u-%02u", number, i);
        memset(wave->values[i], 'a' + (int)((number * EACH + i) % 26), VALUE);
        wave->puts[i] = (struct kv_put){.key = slice_str(wave->keys[i]),
                                        .value = slice_of(wave->values[i], VALUE)};
        wave->ops[i] = &wave->puts[i].op;
    }
    redis_launch(&wave->flight, fixture, kv_start_put, wave->ops, EACH, deadline_ms);
}

static struct err told(const struct wave *wave, unsigned i)
{
    return wave->ops[i]->err;
}

/* Those that are over must be there, or must not, or may, as their callers were told. */
static void expect_as_told(struct redis_fixture *fixture, const struct wave *wave)
{
    for (unsigned i = 0; i < EACH; i++) {
        struct kv_get get = {.key = slice_str(wave->keys[i])};

        assert_int_equal(kv_do(&fixture->kv, kv_start_get, &get.op).code, ERR_OK);
        if (told(wave, i).code == ERR_OK)
            assert_true(get.found);
        else if (told(wave, i).effect == EFFECT_NONE)
            assert_false(get.found);
        if (get.found)
            assert_true(slice_equal(get.value, slice_of(wave->values[i], VALUE)));
    }
}

static unsigned not_done(const struct wave *wave)
{
    unsigned n = 0;

    for (unsigned i = 0; i < EACH; i++) {
        assert_int_equal(told(wave, i).code, ERR_DEADLINE_EXCEEDED);
        n += told(wave, i).effect == EFFECT_NONE;
    }
    return n;
}

static void open_and_pause(struct redis_fixture *fixture, const char *max_buffer_bytes)
{
    redis_server_say(&server, "FLUSHALL");
    redis_fixture_open(fixture, "default",
                       (redis_settings){"address", address, "command_timeout_ms", "60000",
                                        "max_buffer_bytes", max_buffer_bytes, NULL});
    redis_until(fixture, BACKEND_READY);
    redis_server_pause(&server);
}

static void what_is_over_is_not_carried_out(void **state)
{
    struct wave *waves = test_calloc(FLIGHTS, sizeof *waves);
    struct redis_fixture fixture;
    const struct backend_stats *stats;
    unsigned withdrawn = 0;

    (void)state;
    open_and_pause(&fixture, "67108864");
    stats = &fixture.kv.backend->stats;
    for (unsigned f = 0; f < FLIGHTS; f++)
        launch(&fixture, &waves[f], f, f % 2 == 0 ? DEADLINE_MS : 0);
    for (unsigned f = 0; f < FLIGHTS; f += 2) {
        redis_land(&waves[f].flight);
        withdrawn += not_done(&waves[f]);
    }
    assert_true(withdrawn > 0 && withdrawn < FLIGHTS / 2 * EACH);
    assert_int_equal(counter_read(&stats->withdrawn), withdrawn);
    assert_int_equal(counter_read(&stats->in_flight), FLIGHTS * EACH - withdrawn);
    assert_string_equal(told(&waves[FLIGHTS - 2], 0).text,
                        "its time was over before this was sent to redis: nothing was done");
    redis_server_resume(&server);
    for (unsigned f = 1; f < FLIGHTS; f += 2) {
        redis_land(&waves[f].flight);
        for (unsigned i = 0; i < EACH; i++)
            assert_int_equal(told(&waves[f], i).code, ERR_OK);
    }
    KV_UNTIL(&fixture.kv, counter_read(&stats->in_flight) == 0);
    for (unsigned f = 0; f < FLIGHTS; f++) {
        expect_as_told(&fixture, &waves[f]);
        redis_flight_clear(&waves[f].flight);
    }
    assert_int_equal(counter_read(&stats->connects), 1);
    redis_fixture_close(&fixture);
    test_free(waves);
}

static void read_waiting(void *arg)
{
    struct redis_fixture *fixture = ((void **)arg)[0];
    const struct redis *redis = redis_of(fixture->kv.backend);

    *(uint64_t *)((void **)arg)[1] = redis->queued_bytes - redis->sent_bytes;
}

/* Callers go on, and none of them waits: the bound is not used up by what is over. */
static void what_is_over_takes_no_room(void **state)
{
    enum { ROUNDS = 100 }; /* twice what the bound lets in */
    struct wave *wave = test_calloc(1, sizeof *wave);
    struct redis_fixture fixture;
    uint64_t waiting;

    (void)state;
    open_and_pause(&fixture, "16777216");
    for (unsigned round = 0; round < ROUNDS; round++) {
        launch(&fixture, wave, round, 20);
        redis_land(&wave->flight);
        not_done(wave);
        redis_flight_clear(&wave->flight);
        kv_on_worker(&fixture.kv, read_waiting, (void *[]){&fixture, &waiting});
        assert_true(waiting < 2 * EACH * VALUE);
    }
    redis_server_resume(&server);
    KV_UNTIL(&fixture.kv, counter_read(&fixture.kv.backend->stats.in_flight) == 0);
    kv_put_ok(&fixture.kv, "works", "yes", 0);
    assert_string_equal(kv_get_ok(&fixture.kv, "works"), "yes");
    assert_int_equal(counter_read(&fixture.kv.backend->stats.connects), 1);
    redis_fixture_close(&fixture);
    test_free(wave);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(what_is_over_is_not_carried_out),
        cmocka_unit_test(what_is_over_takes_no_room),
    };

    if (!redis_server_installed())
        return redis_server_skip();
    return cmocka_run_group_tests_name("redis_withdrawn", tests, start_server, stop_server);
}
