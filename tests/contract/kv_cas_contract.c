/* kv_cas: writes that depend on what is there. */
#include "tests/contract/kv_contract.h"

#include <string.h>

enum { RACERS = 20, SHORT_MS = 300 };

static struct slice version_of(struct kv_fixture *fixture, const char *key)
{
    struct kv_get get = {.key = slice_str(key), .want_version = true};

    kv_expect(kv_do(fixture, kv_start_get, &get.op), ERR_OK, NULL);
    assert_true(get.found);
    assert_in_range(get.version.len, 1, 64);
    return get.version;
}

static struct kv_put_if if_absent(struct kv_fixture *fixture, const char *key, const char *value)
{
    struct kv_put_if put = {
        .key = slice_str(key), .value = slice_str(value), .condition = KV_IF_ABSENT};

    kv_expect(kv_do(fixture, kv_start_put_if, &put.op), ERR_OK, NULL);
    return put;
}

static struct kv_put_if if_version(struct kv_fixture *fixture, const char *key, const char *value,
                                   struct slice version)
{
    struct kv_put_if put = {.key = slice_str(key),
                            .value = slice_str(value),
                            .condition = KV_IF_VERSION,
                            .version = version};

    kv_expect(kv_do(fixture, kv_start_put_if, &put.op), ERR_OK, NULL);
    return put;
}

static void test_if_absent(void **state)
{
    struct kv_fixture *fixture = *state;

    kv_need(fixture, BACKEND_KV_CAS);
    assert_true(if_absent(fixture, "cas/absent", "first").stored);
    assert_false(if_absent(fixture, "cas/absent", "second").stored);
    assert_string_equal(kv_get_ok(fixture, "cas/absent"), "first");
    assert_true(kv_del_ok(fixture, "cas/absent"));
    assert_true(if_absent(fixture, "cas/absent", "third").stored);
    assert_string_equal(kv_get_ok(fixture, "cas/absent"), "third");
    kv_put_ok(fixture, "cas/empty", "", 0);
    assert_false(if_absent(fixture, "cas/empty", "not empty").stored);
}

static void test_if_version(void **state)
{
    struct kv_fixture *fixture = *state;

    kv_need(fixture, BACKEND_KV_CAS);
    kv_put_ok(fixture, "cas/version", "first", 0);

    struct slice first = version_of(fixture, "cas/version");
    struct kv_put_if put = if_version(fixture, "cas/version", "second", first);

    assert_true(put.stored);
    assert_string_equal(kv_get_ok(fixture, "cas/version"), "second");
    assert_true(slice_equal(put.current_version, version_of(fixture, "cas/version")));
    assert_false(if_version(fixture, "cas/version", "third", first).stored);
    assert_string_equal(kv_get_ok(fixture, "cas/version"), "second");
    put = if_version(fixture, "cas/version", "third", put.current_version);
    assert_true(put.stored);
    assert_string_equal(kv_get_ok(fixture, "cas/version"), "third");
}

static void test_version_of_if_absent(void **state)
{
    struct kv_fixture *fixture = *state;
    struct kv_put_if put;

    kv_need(fixture, BACKEND_KV_CAS);
    put = if_absent(fixture, "cas/chain", "first");
    assert_true(put.stored);
    assert_true(if_version(fixture, "cas/chain", "second", put.current_version).stored);
    assert_string_equal(kv_get_ok(fixture, "cas/chain"), "second");
}

/* A version stays while nobody writes, and every write of another value changes it. */
static void test_versions_follow_writes(void **state)
{
    struct kv_fixture *fixture = *state;
    struct slice before;

    kv_need(fixture, BACKEND_KV_CAS);
    kv_put_ok(fixture, "cas/follow", "value 0", 0);
    before = version_of(fixture, "cas/follow");
    assert_true(slice_equal(before, version_of(fixture, "cas/follow")));
    for (unsigned i = 1; i < 20; i++) {
        kv_put_ok(fixture, "cas/follow", kv_key(fixture, "value ", i), 0);

        struct slice after = version_of(fixture, "cas/follow");

        assert_false(slice_equal(before, after));
        before = after;
    }
}

static void test_gone_key_matches_no_version(void **state)
{
    struct kv_fixture *fixture = *state;
    struct slice version;

    kv_need(fixture, BACKEND_KV_CAS);
    kv_put_ok(fixture, "cas/gone", "first", 0);
    version = version_of(fixture, "cas/gone");
    assert_true(kv_del_ok(fixture, "cas/gone"));
    assert_false(if_version(fixture, "cas/gone", "second", version).stored);
    assert_null(kv_get_ok(fixture, "cas/gone"));
    kv_put_ok(fixture, "cas/gone", "another value", 0);
    assert_false(if_version(fixture, "cas/gone", "second", version).stored);
    assert_string_equal(kv_get_ok(fixture, "cas/gone"), "another value");
}

static void test_foreign_versions_never_match(void **state)
{
    struct kv_fixture *fixture = *state;
    const size_t sizes[] = {0, 1, 3, 4, 7, 8, 9, 16, 20, 63, 64, 65, 1000, 100000};

    kv_need(fixture, BACKEND_KV_CAS);
    kv_put_ok(fixture, "cas/foreign", "value", 0);

    struct slice ours = version_of(fixture, "cas/foreign");

    for (size_t i = 0; i < sizeof sizes / sizeof sizes[0]; i++) {
        uint8_t *version = arena_zalloc(&fixture->arena, sizes[i]);

        memcpy(version, ours.data, sizes[i] < ours.len ? sizes[i] : ours.len);
        if (sizes[i] == ours.len)
            version[i % ours.len] ^= 0x40;
        assert_false(
            if_version(fixture, "cas/foreign", "changed", slice_of(version, sizes[i])).stored);
    }
    assert_string_equal(kv_get_ok(fixture, "cas/foreign"), "value");
}

/* Many try at once with the same knowledge: one of them wins, and it is its value that stays. `who`
 * makes their values differ from what is there: where the content is the version, writing the same
 * again changes nothing. */
static void race(struct kv_fixture *fixture, const char *key, const char *who,
                 enum kv_condition condition, struct slice version)
{
    struct kv_put_if puts[RACERS] = {0};
    struct kv_step steps[RACERS];
    unsigned stored = 0, winner = 0;

    for (unsigned i = 0; i < RACERS; i++) {
        puts[i] = (struct kv_put_if){.key = slice_str(key),
                                     .value = slice_str(kv_key(fixture, who, i)),
                                     .condition = condition,
                                     .version = version};
        steps[i] = (struct kv_step){.start = kv_start_put_if, .op = &puts[i].op};
    }
    kv_run(fixture, fixture->backend, steps, RACERS);
    for (unsigned i = 0; i < RACERS; i++) {
        kv_expect(puts[i].op.err, ERR_OK, NULL);
        stored += puts[i].stored;
        winner = puts[i].stored ? i : winner;
    }
    assert_int_equal(stored, 1);
    assert_string_equal(kv_get_ok(fixture, key), kv_key(fixture, who, winner));
}

static void test_one_wins(void **state)
{
    struct kv_fixture *fixture = *state;

    kv_need(fixture, BACKEND_KV_CAS);
    race(fixture, "cas/race", "racer ", KV_IF_ABSENT, slice_str(""));
    race(fixture, "cas/race", "rival ", KV_IF_VERSION, version_of(fixture, "cas/race"));
}

static void test_with_a_ttl(void **state)
{
    struct kv_fixture *fixture = *state;
    struct kv_put_if put = {.key = slice_str("cas/ttl"),
                            .value = slice_str("first"),
                            .ttl_ms = SHORT_MS,
                            .condition = KV_IF_ABSENT};

    kv_need(fixture, BACKEND_KV_CAS);
    kv_need(fixture, BACKEND_KV_TTL);
    kv_expect(kv_do(fixture, kv_start_put_if, &put.op), ERR_OK, NULL);
    assert_true(put.stored);
    KV_UNTIL(fixture, !kv_exists_ok(fixture, "cas/ttl"));
    assert_false(if_version(fixture, "cas/ttl", "second", put.current_version).stored);
    assert_true(if_absent(fixture, "cas/ttl", "third").stored);
    assert_string_equal(kv_get_ok(fixture, "cas/ttl"), "third");

    /* Without a ttl a conditional write clears the expiry, as every write does. */
    kv_put_ok(fixture, "cas/cleared", "first", SHORT_MS);
    kv_put_ok(fixture, "cas/cleared-witness", "", 2 * SHORT_MS);
    assert_true(
        if_version(fixture, "cas/cleared", "second", version_of(fixture, "cas/cleared")).stored);
    KV_UNTIL(fixture, !kv_exists_ok(fixture, "cas/cleared-witness"));
    assert_string_equal(kv_get_ok(fixture, "cas/cleared"), "second");
}

/* A refused write leaves the expiry alone as well. */
static void test_refused_changes_nothing(void **state)
{
    struct kv_fixture *fixture = *state;
    struct kv_ttl_get ttl = {.key = slice_str("cas/refused")};

    kv_need(fixture, BACKEND_KV_CAS);
    kv_need(fixture, BACKEND_KV_TTL);
    kv_put_ok(fixture, "cas/refused", "value", 60000);
    assert_false(if_absent(fixture, "cas/refused", "other").stored);
    assert_false(if_version(fixture, "cas/refused", "other", slice_str("nonsense")).stored);
    kv_expect(kv_do(fixture, kv_start_ttl_get, &ttl.op), ERR_OK, NULL);
    assert_true(ttl.has_ttl);
    assert_in_range(ttl.ttl_ms, 60000 - KV_PATIENCE_MS, 60000);
}

int kv_cas_contract(const char *name, CMFixtureFunction setup, CMFixtureFunction teardown)
{
    const struct CMUnitTest tests[] = {
        KV_TEST(test_if_absent),
        KV_TEST(test_if_version),
        KV_TEST(test_version_of_if_absent),
        KV_TEST(test_versions_follow_writes),
        KV_TEST(test_gone_key_matches_no_version),
        KV_TEST(test_foreign_versions_never_match),
        KV_TEST(test_one_wins),
        KV_TEST(test_with_a_ttl),
        KV_TEST(test_refused_changes_nothing),
    };

    return kv_group(name, "kv_cas", tests, sizeof tests / sizeof tests[0], setup, teardown);
}
