/* The registry's contract on Redis, as a user that may do what docs/backends/redis.md asks for, by
 * two instances; and what is special to this backend. */
#include "tests/contract/redis_fixture.h"
#include "tests/contract/registry_contract.h"

#include <stdio.h>
#include <string.h>

static struct redis_server server;

static int open_fixture(void **state)
{
    return redis_pair_open_as(state, &server,
                              "+evalsha +eval +time +get +set +hget +hset +hmget +hdel +zadd "
                              "+zrem +zcard +zrangebylex +zrangebyscore +zscore +zlexcount");
}

/* ---- what is special to this backend ---- */

/* As redis_server_say takes it: a format. */
#define KEY(name) "prism:{default}%%registry:" name

static int open_default(void **state)
{
    return redis_default_open(state, &server);
}

static int close_default(void **state)
{
    return redis_default_close(state, &server);
}

static void scripts_are_sent_when_missing(void **state)
{
    struct kv_fixture *kv = *state;
    bool existed;

    for (int i = 0; i < 2; i++) {
        redis_server_say(&server, "SCRIPT FLUSH");
        registry_put_ok(kv, "a", "{\"v\":1}", 0);
        redis_server_say(&server, "SCRIPT FLUSH");
        assert_string_equal(registry_names(kv, kv->backend, registry_filter(kv, "{\"v\":1}"), 10),
                            "a");
        assert_int_equal(registry_count_of(kv, kv->backend, NULL), 1);
        assert_non_null(registry_find(kv, kv->backend, "a"));
        kv_expect(registry_beat_one(kv, "a", 0, 1000), ERR_OK, NULL);
        kv_expect(registry_remove_one(kv, kv->backend, "a", 0, &existed), ERR_OK, NULL);
        assert_true(existed);
    }
}

/* Of a server that lost everything, too: who was registered before is not taken for who is now. */
static void generations_grow_over_a_loss(void **state)
{
    struct kv_fixture *kv = *state;
    uint64_t before = registry_put_ok(kv, "a", NULL, 0);

    redis_server_say(&server, "FLUSHALL");
    assert_true(registry_put_ok(kv, "a", NULL, 0) > before);
}

/* Neither sees the other's keys, and nothing is left of those that have expired. */
static void keys_are_where_they_are_said_to_be(void **state)
{
    struct kv_fixture *kv = *state;
    struct kv_count count = {.count = 99};

    registry_put_ok(kv, "stays", NULL, 0);
    for (unsigned i = 0; i < 20; i++)
        registry_put_ok(kv, kv_key(kv, "dies", i), NULL, 1);
    kv_put_ok(kv, "a", "b", 0);
    kv_expect(kv_do(kv, kv_start_count, &count.op), ERR_OK, NULL);
    assert_int_equal(count.count, 1);
    KV_UNTIL(kv, registry_find(kv, kv->backend, "dies00019") == NULL);
    for (unsigned i = 0; i < 5; i++)
        registry_put_ok(kv, "stays", NULL, 0);
    assert_string_equal(redis_server_say(&server, "HLEN " KEY("entries")), "1");
    assert_string_equal(redis_server_say(&server, "ZCARD " KEY("order")), "1");
    assert_string_equal(redis_server_say(&server, "ZCARD " KEY("due")), "1");
    assert_string_equal(redis_server_say(&server, "HGET " KEY("life") " stays"), "inf");
    assert_string_equal(redis_server_say(&server, "DBSIZE"), "7");
    assert_string_equal(redis_server_say(&server, "ZCARD " KEY("index")), "1"); /* its mark */
}

/* Who asks for a metric does not wait until all that have expired are removed. */
static void a_count_aside_is_bounded(void **state)
{
    struct kv_fixture *kv = *state;
    const char *words[] = {"EVAL",
                           "for i = 1, 1200 do redis.call('ZADD', KEYS[1], 1, 'gone' .. i) end",
                           "1", "prism:{default}%registry:due"};
    static const enum err_code told[] = {ERR_UNAVAILABLE, ERR_UNAVAILABLE, ERR_OK};

    registry_put_ok(kv, "stays", NULL, 0);
    redis_server_say_words(&server, 4, words);
    for (size_t i = 0; i < 3; i++) {
        struct registry_count count = {.aside = true};

        kv_expect(kv_do(kv, registry_start_count, &count.op), told[i], NULL);
        if (told[i] == ERR_OK)
            assert_int_equal(count.count, 1);
    }
}

/* One record that is none takes nobody with it: it is skipped, and counted. */
static void foreign_data_is_skipped(void **state)
{
    struct kv_fixture *kv = *state;
    static const char *const records[] = {"short", "000000000000000000000000000000000000000000"};

    for (size_t i = 0; i < 2; i++) {
        char command[160];
        uint64_t errors = counter_read(&kv->backend->stats.errors);

        registry_put_ok(kv, "a", "{\"n\": 1}", 0);
        registry_put_ok(kv, "b", "{\"n\": 1}", 0);
        snprintf(command, sizeof command, "HSET %s a %s", KEY("entries"), records[i]);
        redis_server_say(&server, command);
        assert_string_equal(registry_names(kv, kv->backend, NULL, 10), "b");
        assert_true(counter_read(&kv->backend->stats.errors) > errors);
        assert_string_equal(registry_names(kv, kv->backend, registry_filter(kv, "{\"n\": 1}"), 10),
                            "b");
        assert_string_equal(
            registry_names(kv, kv->backend, registry_filter(kv, "{\"n.regex\": \"x\"}"), 10), "");
        assert_null(registry_find(kv, kv->backend, "a"));
        assert_non_null(registry_find(kv, kv->backend, "b"));
        assert_int_equal(registry_beat_one(kv, "a", 0, 0).code, ERR_NOT_FOUND);
        registry_put_ok(kv, "a", "{\"n\": 2}", 0); /* in its place */
        assert_non_null(registry_find(kv, kv->backend, "a"));
        redis_server_say(&server, "FLUSHALL");
    }
}

static void a_foreign_key_is_an_error(void **state)
{
    struct kv_fixture *kv = *state;
    struct registry_page page = {.max_items = 10, .with_documents = true};

    redis_server_say(&server, "SET " KEY("order") " x");
    kv_expect(kv_do(kv, registry_start_page, &page.op), ERR_FAILED_PRECONDITION, NULL);
}

enum { CROWD = 3000, EACH = 300 };

static void put_crowd(struct kv_fixture *kv)
{
    for (unsigned i = 0; i < CROWD; i++) {
        char json[96];

        snprintf(json, sizeof json, "{\"city\": \"%s\", \"status\": \"online\", \"n\": %u}",
                 i % EACH == 7 ? "Oslo" : "Bergen", i);
        registry_put_ok(kv, kv_key(kv, "i", i), json, 0);
    }
}

static uint64_t examined(struct kv_fixture *kv, const char *filter, size_t matches)
{
    struct registry_page page = {.filter = registry_filter(kv, filter), .max_items = 1000};

    kv_expect(kv_do(kv, registry_start_page, &page.op), ERR_OK, NULL);
    assert_int_equal(page.n, matches);
    assert_false(page.more);
    return page.examined;
}

/* An equality looks at what is equal, whatever the size of the registry: also where it stands in an
 * AND beside a common one, after changes, and with documents of more fields than are indexed. */
static void an_equality_is_looked_up(void **state)
{
    struct kv_fixture *kv = *state;
    struct registry_patch patch = {.identity = slice_str("i00000"), .mode = REGISTRY_MERGE};
    char *wide = arena_alloc(&kv->arena, 2000);
    size_t len = 0;
    bool existed;

    put_crowd(kv);
    assert_int_equal(examined(kv, "{\"city\": \"Oslo\"}", 10), 10);
    assert_int_equal(examined(kv, "{\"status\": \"online\", \"city\": \"Oslo\"}", 10), 10);
    assert_int_equal(examined(kv, "{\"city\": \"Oslo\", \"n.lt\": 1000}", 4), 10);
    assert_int_equal(examined(kv, "{\"city\": \"Nowhere\"}", 0), 0);
    assert_int_equal(registry_count_of(kv, kv->backend, registry_filter(kv, "{\"n\": 5}")), 1);
    patch.document = registry_document(kv, "{\"city\": \"Oslo\"}");
    kv_expect(kv_do(kv, registry_start_patch, &patch.op), ERR_OK, NULL);
    registry_put_ok(kv, "i00007", "{\"city\": \"Bergen\"}", 0);
    assert_int_equal(registry_remove_one(kv, kv->backend, "i00307", 0, &existed).code, ERR_OK);
    assert_int_equal(examined(kv, "{\"city\": \"Oslo\"}", 9), 9);
    len = (size_t)snprintf(wide, 2000, "{\"city\": \"Oslo\"");
    for (unsigned i = 0; i < 60; i++)
        len += (size_t)snprintf(wide + len, 2000 - len, ", \"f%u\": %u", i, i);
    snprintf(wide + len, 2000 - len, "}");
    registry_put_ok(kv, "aa", wide, 0);
    assert_int_equal(examined(kv, "{\"city\": \"Oslo\"}", 10), 10);
    assert_string_equal(
        registry_names(kv, kv->backend, registry_filter(kv, "{\"city\": \"Oslo\"}"), 3),
        "aa i00000 i00607 i00907 i01207 i01507 i01807 i02107 i02407 i02707");
}

/* What was written before there was an index is searched, and found. */
static void an_older_registry_is_searched(void **state)
{
    struct kv_fixture *kv = *state;

    registry_put_ok(kv, "a", "{\"city\": \"Oslo\"}", 0);
    redis_server_say(&server, "DEL " KEY("index"));
    registry_put_ok(kv, "b", "{\"city\": \"Oslo\"}", 0);
    assert_string_equal(
        registry_names(kv, kv->backend, registry_filter(kv, "{\"city\": \"Oslo\"}"), 3), "a b");
}

/* B8: and goes on by itself when there is room. */
static void a_full_server_refuses(void **state)
{
    struct kv_fixture *kv = *state;
    struct registry_put_item item = registry_item(kv, "a", "{\"v\":1}", 0);
    struct registry_put put = {.items = &item, .n = 1};

    registry_put_ok(kv, "before", NULL, 0);
    redis_server_say(&server, "CONFIG SET maxmemory 1");
    kv_expect(kv_do(kv, registry_start_put, &put.op), ERR_RESOURCE_EXHAUSTED, "maxmemory");
    assert_int_equal(put.op.err.effect, EFFECT_NONE);
    redis_server_say(&server, "CONFIG SET maxmemory 0");
    assert_null(registry_find(kv, kv->backend, "a"));
    assert_non_null(registry_find(kv, kv->backend, "before"));
}

/* A server that stands still has perhaps done it; afterwards all is as it says. */
static void outcomes_are_unknown_where_they_are(void **state)
{
    struct redis_fixture *fixture = *state;
    struct registry_put_item items[REGISTRY_BATCH];
    struct registry_put put = {.items = items, .n = REGISTRY_BATCH};
    struct registry_page page = {.max_items = 10};
    struct op *ops[] = {&put.op, &page.op};
    struct redis_flight puts, pages;

    for (unsigned i = 0; i < REGISTRY_BATCH; i++)
        items[i] = registry_item(&fixture->kv, kv_key(&fixture->kv, "b", i), NULL, 0);
    redis_server_pause(&server);
    redis_launch(&puts, fixture, registry_start_put, &ops[0], 1, 300);
    redis_launch(&pages, fixture, registry_start_page, &ops[1], 1, 300);
    redis_land(&puts);
    redis_land(&pages);
    redis_server_resume(&server);
    kv_expect(put.op.err, ERR_DEADLINE_EXCEEDED, NULL);
    assert_int_equal(put.op.err.effect, EFFECT_UNKNOWN);
    kv_expect(page.op.err, ERR_DEADLINE_EXCEEDED, NULL);
    assert_int_equal(page.op.err.effect, EFFECT_NONE);
    redis_flight_clear(&puts);
    redis_flight_clear(&pages);
    KV_UNTIL(&fixture->kv,
             registry_count_of(&fixture->kv, fixture->kv.backend, NULL) == 100); /* one step */
}

static void a_lost_server_ends_what_is_under_way(void **state)
{
    struct redis_fixture *fixture = *state;
    struct registry_put_item item = registry_item(&fixture->kv, "a", NULL, 0);
    struct registry_put put = {.items = &item, .n = 1};
    struct registry_count count = {.filter = registry_filter(&fixture->kv, "{\"v\":1}")};
    struct op *ops[] = {&put.op, &count.op};
    struct redis_flight puts, counts;

    redis_server_pause(&server);
    redis_launch(&puts, fixture, registry_start_put, &ops[0], 1, 0);
    redis_launch(&counts, fixture, registry_start_count, &ops[1], 1, 0);
    redis_server_kill(&server);
    redis_land(&puts);
    redis_land(&counts);
    kv_expect(put.op.err, ERR_UNAVAILABLE, NULL);
    kv_expect(count.op.err, ERR_UNAVAILABLE, NULL);
    redis_flight_clear(&puts);
    redis_flight_clear(&counts);
    redis_server_restart(&server);
    KV_UNTIL(&fixture->kv, atomic_load(&fixture->store->state) == BACKEND_READY);
    registry_put_ok(&fixture->kv, "a", NULL, 0);
    assert_int_equal(registry_count_of(&fixture->kv, fixture->kv.backend, NULL), 1);
}

int main(void)
{
#define ALONE(test) cmocka_unit_test_setup_teardown(test, open_default, close_default)
    const struct CMUnitTest tests[] = {
        ALONE(scripts_are_sent_when_missing),
        ALONE(generations_grow_over_a_loss),
        ALONE(keys_are_where_they_are_said_to_be),
        ALONE(foreign_data_is_skipped),
        ALONE(a_foreign_key_is_an_error),
        ALONE(an_equality_is_looked_up),
        ALONE(an_older_registry_is_searched),
        ALONE(a_full_server_refuses),
        ALONE(outcomes_are_unknown_where_they_are),
        ALONE(a_lost_server_ends_what_is_under_way),
        ALONE(a_count_aside_is_bounded),
    };
#undef ALONE

    if (!redis_server_installed())
        return redis_server_skip();
    redis_server_start(&server, NULL);

    int failed = registry_contract("redis", open_fixture, redis_pair_close, redis_pair_peer) +
                 cmocka_run_group_tests_name("redis, registry", tests, NULL, NULL);

    redis_server_stop(&server);
    return failed != 0;
}
