/* kv_ttl, and expiry through kv_put. Where a test must know that time has passed, a witness tells:
 * a key written before with a shorter life, which has gone. */
#include "tests/contract/kv_contract.h"

enum { SHORT_MS = 300, LONG_MS = 60000 };

static void need(void **state)
{
    kv_need(*state, BACKEND_KV_TTL);
}

static struct kv_ttl_get ttl_of(struct kv_fixture *fixture, const char *key)
{
    struct kv_ttl_get get = {.key = slice_str(key)};

    kv_expect(kv_do(fixture, kv_start_ttl_get, &get.op), ERR_OK, NULL);
    return get;
}

static bool expire(struct kv_fixture *fixture, const char *key, uint64_t ttl_ms)
{
    struct kv_expire expire = {.key = slice_str(key), .ttl_ms = ttl_ms};

    kv_expect(kv_do(fixture, kv_start_expire, &expire.op), ERR_OK, NULL);
    return expire.existed;
}

static bool persist(struct kv_fixture *fixture, const char *key)
{
    struct kv_persist persist = {.key = slice_str(key)};

    kv_expect(kv_do(fixture, kv_start_persist, &persist.op), ERR_OK, NULL);
    return persist.removed;
}

static void wait_for_witness(struct kv_fixture *fixture, const char *key)
{
    KV_UNTIL(fixture, !kv_exists_ok(fixture, key));
}

static void test_a_key_expires(void **state)
{
    struct kv_fixture *fixture = *state;

    need(state);
    kv_put_ok(fixture, "ttl/gone", "value", SHORT_MS);
    assert_string_equal(kv_get_ok(fixture, "ttl/gone"), "value");
    KV_UNTIL(fixture, kv_get_ok(fixture, "ttl/gone") == NULL);
    assert_false(kv_exists_ok(fixture, "ttl/gone"));
    assert_false(ttl_of(fixture, "ttl/gone").found);
    assert_false(kv_del_ok(fixture, "ttl/gone"));
    assert_false(expire(fixture, "ttl/gone", LONG_MS));
    assert_false(persist(fixture, "ttl/gone"));
    assert_null(kv_get_ok(fixture, "ttl/gone"));
}

/* Never early: as long as the clock says that less than its life has passed, it is there. */
static void test_a_key_does_not_expire_early(void **state)
{
    struct kv_fixture *fixture = *state;
    uint64_t begin_ms;

    need(state);
    if (fixture->pass_ms != NULL)
        skip(); /* it is the real clock that is looked at */
    begin_ms = kv_clock_ms();
    kv_put_ok(fixture, "ttl/early", "value", SHORT_MS);
    for (;;) {
        bool found = kv_exists_ok(fixture, "ttl/early");
        uint64_t passed_ms = kv_clock_ms() - begin_ms;

        if (found && passed_ms < KV_PATIENCE_MS) {
            kv_pass(fixture, 5);
            continue;
        }
        assert_false(found);
        assert_true(passed_ms + 1 >= SHORT_MS);
        return;
    }
}

static void test_no_ttl_stays(void **state)
{
    struct kv_fixture *fixture = *state;

    need(state);
    kv_put_ok(fixture, "ttl/stays", "value", 0);
    kv_put_ok(fixture, "ttl/stays-witness", "", SHORT_MS);
    assert_true(ttl_of(fixture, "ttl/stays").found);
    assert_false(ttl_of(fixture, "ttl/stays").has_ttl);
    wait_for_witness(fixture, "ttl/stays-witness");
    assert_string_equal(kv_get_ok(fixture, "ttl/stays"), "value");
}

static void test_what_is_left(void **state)
{
    struct kv_fixture *fixture = *state;
    struct kv_ttl_get first, later;

    need(state);
    kv_put_ok(fixture, "ttl/left", "value", LONG_MS);
    first = ttl_of(fixture, "ttl/left");
    assert_true(first.found && first.has_ttl);
    assert_in_range(first.ttl_ms, LONG_MS - KV_PATIENCE_MS, LONG_MS);
    kv_put_ok(fixture, "ttl/left-witness", "", SHORT_MS);
    wait_for_witness(fixture, "ttl/left-witness");
    later = ttl_of(fixture, "ttl/left");
    assert_in_range(later.ttl_ms, 1, first.ttl_ms - SHORT_MS / 2);
}

static void test_overwrite_resets_the_expiry(void **state)
{
    struct kv_fixture *fixture = *state;

    need(state);
    kv_put_ok(fixture, "ttl/reset", "first", SHORT_MS);
    kv_put_ok(fixture, "ttl/cleared", "first", SHORT_MS);
    kv_put_ok(fixture, "ttl/reset-witness", "", 2 * SHORT_MS);
    kv_put_ok(fixture, "ttl/reset", "second", LONG_MS);
    kv_put_ok(fixture, "ttl/cleared", "second", 0);
    assert_false(ttl_of(fixture, "ttl/cleared").has_ttl);
    wait_for_witness(fixture, "ttl/reset-witness");
    assert_string_equal(kv_get_ok(fixture, "ttl/reset"), "second");
    assert_string_equal(kv_get_ok(fixture, "ttl/cleared"), "second");

    kv_put_ok(fixture, "ttl/cleared", "third", SHORT_MS);
    KV_UNTIL(fixture, kv_get_ok(fixture, "ttl/cleared") == NULL);
    kv_put_ok(fixture, "ttl/reset", "a shorter life", SHORT_MS);
    KV_UNTIL(fixture, kv_get_ok(fixture, "ttl/reset") == NULL);
}

static void test_expire(void **state)
{
    struct kv_fixture *fixture = *state;

    need(state);
    assert_false(expire(fixture, "ttl/set", SHORT_MS));
    assert_false(kv_exists_ok(fixture, "ttl/set"));
    kv_put_ok(fixture, "ttl/set", "value", 0);
    assert_true(expire(fixture, "ttl/set", SHORT_MS));
    assert_string_equal(kv_get_ok(fixture, "ttl/set"), "value");
    KV_UNTIL(fixture, kv_get_ok(fixture, "ttl/set") == NULL);
}

static void test_expire_prolongs_and_shortens(void **state)
{
    struct kv_fixture *fixture = *state;

    need(state);
    kv_put_ok(fixture, "ttl/longer", "value", SHORT_MS);
    kv_put_ok(fixture, "ttl/shorter", "value", LONG_MS);
    kv_put_ok(fixture, "ttl/change-witness", "", 2 * SHORT_MS);
    assert_true(expire(fixture, "ttl/longer", LONG_MS));
    assert_true(expire(fixture, "ttl/shorter", SHORT_MS));
    wait_for_witness(fixture, "ttl/change-witness");
    assert_true(kv_exists_ok(fixture, "ttl/longer"));
    KV_UNTIL(fixture, !kv_exists_ok(fixture, "ttl/shorter"));
    assert_true(kv_del_ok(fixture, "ttl/longer"));
}

static void test_persist(void **state)
{
    struct kv_fixture *fixture = *state;

    need(state);
    assert_false(persist(fixture, "ttl/kept"));
    kv_put_ok(fixture, "ttl/kept", "value", SHORT_MS);
    kv_put_ok(fixture, "ttl/kept-witness", "", 2 * SHORT_MS);
    assert_true(persist(fixture, "ttl/kept"));
    assert_false(persist(fixture, "ttl/kept"));
    assert_true(ttl_of(fixture, "ttl/kept").found);
    assert_false(ttl_of(fixture, "ttl/kept").has_ttl);
    wait_for_witness(fixture, "ttl/kept-witness");
    assert_string_equal(kv_get_ok(fixture, "ttl/kept"), "value");
}

static void test_a_key_returns_after_expiry(void **state)
{
    struct kv_fixture *fixture = *state;

    need(state);
    kv_put_ok(fixture, "ttl/returns", "first", SHORT_MS);
    KV_UNTIL(fixture, !kv_exists_ok(fixture, "ttl/returns"));
    kv_put_ok(fixture, "ttl/returns", "second", 0);
    assert_string_equal(kv_get_ok(fixture, "ttl/returns"), "second");
    assert_false(ttl_of(fixture, "ttl/returns").has_ttl);
}

static void test_delete_before_expiry(void **state)
{
    struct kv_fixture *fixture = *state;

    need(state);
    kv_put_ok(fixture, "ttl/deleted", "first", SHORT_MS);
    kv_put_ok(fixture, "ttl/deleted-witness", "", 2 * SHORT_MS);
    assert_true(kv_del_ok(fixture, "ttl/deleted"));
    assert_false(ttl_of(fixture, "ttl/deleted").found);
    kv_put_ok(fixture, "ttl/deleted", "second", 0);
    wait_for_witness(fixture, "ttl/deleted-witness");
    assert_string_equal(kv_get_ok(fixture, "ttl/deleted"), "second");
}

/* A hundred years, and more than any clock holds: not an overflow into the past. */
static void test_very_long_lives(void **state)
{
    struct kv_fixture *fixture = *state;
    const uint64_t lives_ms[] = {100ull * 365 * 86400 * 1000, 1ull << 52, UINT64_MAX};

    need(state);
    for (unsigned i = 0; i < sizeof lives_ms / sizeof lives_ms[0]; i++) {
        const char *key = kv_key(fixture, "ttl/age", i);

        kv_put_ok(fixture, key, "value", lives_ms[i]);
        assert_string_equal(kv_get_ok(fixture, key), "value");
        assert_true(ttl_of(fixture, key).has_ttl);
        assert_true(ttl_of(fixture, key).ttl_ms > 30ull * 365 * 86400 * 1000);
        assert_true(expire(fixture, key, lives_ms[i]));
        assert_true(kv_exists_ok(fixture, key));
    }
}

enum { MANY = 200 };

/* Keys of different lives go in their order, and only they. */
static void test_many_expire(void **state)
{
    struct kv_fixture *fixture = *state;
    struct kv_put puts[MANY] = {0};
    struct kv_step steps[MANY];

    need(state);
    for (unsigned i = 0; i < MANY; i++) {
        puts[i].key = slice_str(kv_key(fixture, "ttl/many", i));
        puts[i].ttl_ms = i % 2 == 0 ? SHORT_MS / 2 + i : LONG_MS;
        steps[i] = (struct kv_step){.start = kv_start_put, .op = &puts[i].op};
    }
    kv_run(fixture, fixture->backend, steps, MANY);
    for (unsigned i = 0; i < MANY; i++)
        kv_expect(puts[i].op.err, ERR_OK, NULL);
    for (unsigned i = 0; i < MANY; i += 2)
        KV_UNTIL(fixture, !kv_exists_ok(fixture, kv_key(fixture, "ttl/many", i)));
    for (unsigned i = 1; i < MANY; i += 2)
        assert_true(kv_exists_ok(fixture, kv_key(fixture, "ttl/many", i)));
}

int kv_ttl_contract(const char *name, CMFixtureFunction setup, CMFixtureFunction teardown)
{
    const struct CMUnitTest tests[] = {
        KV_TEST(test_a_key_expires),
        KV_TEST(test_a_key_does_not_expire_early),
        KV_TEST(test_no_ttl_stays),
        KV_TEST(test_what_is_left),
        KV_TEST(test_overwrite_resets_the_expiry),
        KV_TEST(test_expire),
        KV_TEST(test_expire_prolongs_and_shortens),
        KV_TEST(test_persist),
        KV_TEST(test_a_key_returns_after_expiry),
        KV_TEST(test_delete_before_expiry),
        KV_TEST(test_very_long_lives),
        KV_TEST(test_many_expire),
    };

    return kv_group(name, "kv_ttl", tests, sizeof tests / sizeof tests[0], setup, teardown);
}
