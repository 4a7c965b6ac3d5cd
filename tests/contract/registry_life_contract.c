/* Staying: expiry and heartbeats. */
#include "tests/contract/registry_contract.h"

static struct kv_fixture *fixture_of(void **state)
{
    return *state;
}

/* ---- expiry ---- */

/* M1: from one moment on it is in no answer, and may come again as new. */
static void expired_is_gone(void **state)
{
    struct kv_fixture *fixture = fixture_of(state);
    struct registry_put_item item = registry_item(fixture, "a", "{\"v\":1}", 100);
    struct registry_patch patch = {.identity = slice_str("a"), .mode = REGISTRY_KEEP};
    bool existed;

    registry_put_ok(fixture, "b", NULL, 0);
    kv_expect(registry_put_one(fixture, fixture->backend, &item), ERR_OK, NULL);
    KV_UNTIL(fixture, registry_find(fixture, fixture->backend, "a") == NULL);
    assert_string_equal(registry_names(fixture, fixture->backend, NULL, 10), "b");
    assert_int_equal(registry_count_of(fixture, fixture->backend, NULL), 1);
    assert_int_equal(registry_count_of(fixture, fixture->backend, registry_filter(fixture, "{}")),
                     1);
    kv_expect(registry_beat_one(fixture, "a", 0, 1000), ERR_NOT_FOUND, NULL);
    kv_expect(kv_do(fixture, registry_start_patch, &patch.op), ERR_NOT_FOUND, NULL);
    kv_expect(registry_remove_one(fixture, fixture->backend, "a", 0, &existed), ERR_OK, NULL);
    assert_false(existed);

    uint64_t generation = item.generation, registered = item.registered_at_ms;

    item.ttl_ms = 0;
    kv_expect(registry_put_one(fixture, fixture->backend, &item), ERR_OK, NULL);
    assert_false(item.replaced);
    assert_true(item.generation > generation && item.registered_at_ms > registered);
    kv_pass(fixture, 150); /* the old deadline has nothing to say any more */
    assert_non_null(registry_find(fixture, fixture->backend, "a"));
}

/* ---- heartbeats ---- */

static void heartbeats(void **state)
{
    struct kv_fixture *fixture = fixture_of(state);
    uint64_t generation = registry_put_ok(fixture, "a", "{\"v\":1}", 60000);
    struct registry_beat_item items[] = {{.identity = slice_str("a")},
                                         {.identity = slice_str("nobody")},
                                         {.identity = slice_str("a"), .if_generation = generation},
                                         {.identity = slice_str("a"), .if_generation = 1},
                                         {.identity = slice_str("stays")}};
    struct registry_beat beat = {.items = items, .n = 5, .ttl_ms = 600000};

    registry_put_ok(fixture, "stays", NULL, 0);
    kv_expect(kv_do(fixture, registry_start_beat, &beat.op), ERR_OK, NULL);
    kv_expect(items[0].err, ERR_OK, NULL);
    kv_expect(items[1].err, ERR_NOT_FOUND, NULL);
    kv_expect(items[2].err, ERR_OK, NULL);
    kv_expect(items[3].err, ERR_FAILED_PRECONDITION, "if_generation");
    kv_expect(items[4].err, ERR_OK, NULL);
    assert_true(slice_equal(registry_find(fixture, fixture->backend, "a")->document,
                            registry_document(fixture, "{\"v\":1}")));

    const struct registry_entry *entry = registry_find(fixture, fixture->backend, "a");

    assert_int_equal(entry->generation, generation);
    assert_int_equal(entry->expires_at_ms, items[2].expires_at_ms);
    assert_true(entry->expires_at_ms >= entry->registered_at_ms + 600000);

    /* Without a life of its own: as long as it was registered for. */
    registry_put_ok(fixture, "b", NULL, 300000);
    registry_put_ok(fixture, "c", NULL, 0);
    kv_expect(registry_beat_one(fixture, "b", 0, 60000), ERR_OK, NULL);
    kv_expect(registry_beat_one(fixture, "b", 0, 0), ERR_OK, NULL);
    kv_expect(registry_beat_one(fixture, "c", 0, 0), ERR_OK, NULL);
    entry = registry_find(fixture, fixture->backend, "b");
    assert_true(entry->expires_at_ms >= entry->registered_at_ms + 300000);
    assert_int_equal(registry_find(fixture, fixture->backend, "c")->expires_at_ms, 0);
}

enum { SHORT_MS = 1000, BEYOND_MS = 1100 };

/* Registered for a short time and then, within it, kept for a long one. A machine that was too busy
 * for that begins again. */
static void keep_in_time(struct kv_fixture *fixture, const char *identity)
{
    uint64_t begun_ms;
    struct err err;

    do {
        begun_ms = kv_clock_ms();
        registry_put_ok(fixture, identity, "{}", SHORT_MS);
        err = registry_beat_one(fixture, identity, 0, 60000);
    } while (err.code == ERR_NOT_FOUND && kv_clock_ms() - begun_ms >= SHORT_MS);
    kv_expect(err, ERR_OK, NULL);
}

/* The time that counts is the one last given, longer or shorter than the one before. */
static void heartbeats_move_the_end(void **state)
{
    struct kv_fixture *fixture = fixture_of(state);

    for (unsigned i = 0; i < 20; i++) {
        keep_in_time(fixture, kv_key(fixture, "long", i));
        registry_put_ok(fixture, kv_key(fixture, "short", i), "{}", i % 2 == 0 ? 60000 : 0);
        kv_expect(registry_beat_one(fixture, kv_key(fixture, "short", i), 0, 1), ERR_OK, NULL);
    }
    kv_pass(fixture, BEYOND_MS);
    assert_int_equal(registry_count_of(fixture, fixture->backend, NULL), 20);
    for (unsigned i = 0; i < 20; i++) {
        registry_put_ok(fixture, "another", NULL, 0);
        assert_non_null(registry_find(fixture, fixture->backend, kv_key(fixture, "long", i)));
        assert_null(registry_find(fixture, fixture->backend, kv_key(fixture, "short", i)));
    }
    assert_int_equal(registry_count_of(fixture, fixture->backend, registry_filter(fixture, "{}")),
                     21);
}

/* ---- how many are there ---- */

static struct err put_of_three(struct kv_fixture *fixture, const char *identity, uint64_t ttl_ms)
{
    struct registry_put_item item = registry_item(fixture, identity, "{}", ttl_ms);
    struct registry_put put = {.items = &item, .n = 1, .max_identities = 3};

    kv_expect(kv_do(fixture, registry_start_put, &put.op), ERR_OK, NULL);
    return item.err;
}

/* One place is free, and no other. */
static void expect_room(struct kv_fixture *fixture, const char *identity)
{
    kv_expect(put_of_three(fixture, identity, 0), ERR_OK, NULL);
    kv_expect(put_of_three(fixture, "more", 0), ERR_RESOURCE_EXHAUSTED, "max_identities");
    assert_int_equal(registry_count_of(fixture, fixture->backend, NULL), 3);
}

/* However a life was made shorter or longer, it is the end last given that frees the place. */
static void quota_follows_lives(void **state)
{
    struct kv_fixture *fixture = fixture_of(state);
    struct registry_patch patch = {
        .identity = slice_str("c"), .mode = REGISTRY_KEEP, .set_ttl = true, .ttl_ms = 20};
    bool existed;

    registry_put_ok(fixture, "a", NULL, 0);
    registry_put_ok(fixture, "b", NULL, 60000);
    expect_room(fixture, "c");

    kv_expect(registry_beat_one(fixture, "b", 0, 20), ERR_OK, NULL);
    KV_UNTIL(fixture, registry_find(fixture, fixture->backend, "b") == NULL);
    expect_room(fixture, "b"); /* in its own old place, which may not be swept yet */

    kv_expect(kv_do(fixture, registry_start_patch, &patch.op), ERR_OK, NULL);
    KV_UNTIL(fixture, registry_find(fixture, fixture->backend, "c") == NULL);
    expect_room(fixture, "d");

    kv_expect(registry_remove_one(fixture, fixture->backend, "a", 0, &existed), ERR_OK, NULL);
    kv_expect(registry_remove_one(fixture, fixture->backend, "a", 0, &existed), ERR_OK, NULL);
    expect_room(fixture, "e"); /* removed twice, but one was there */

    kv_expect(put_of_three(fixture, "e", 1000), ERR_ALREADY_EXISTS, NULL);
    keep_in_time(fixture, "e");
    kv_pass(fixture, BEYOND_MS);
    kv_expect(put_of_three(fixture, "f", 0), ERR_RESOURCE_EXHAUSTED, "max_identities");
    assert_int_equal(registry_count_of(fixture, fixture->backend, NULL), 3);
}

static int tear_down(void **state)
{
    registry_empty(state);
    return kv_forget(state);
}

int registry_life_contract(const char *name, CMFixtureFunction setup, CMFixtureFunction teardown)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_teardown(expired_is_gone, tear_down),
        cmocka_unit_test_teardown(heartbeats, tear_down),
        cmocka_unit_test_teardown(heartbeats_move_the_end, tear_down),
        cmocka_unit_test_teardown(quota_follows_lives, tear_down),
    };

    return kv_group(name, "registry, life", tests, sizeof tests / sizeof *tests, setup, teardown);
}
