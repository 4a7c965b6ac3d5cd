/* kv_basic: put, get, del, exists. */
#include "tests/contract/kv_contract.h"

#include <stdlib.h>
#include <string.h>

static struct slice pattern(struct kv_fixture *fixture, size_t len, uint8_t seed)
{
    uint8_t *bytes = arena_alloc(&fixture->arena, len);

    for (size_t i = 0; i < len; i++)
        bytes[i] = (uint8_t)(i * 31 + i / 256 + seed);
    return slice_of(bytes, len);
}

/* Writes and reads back. */
static void round_trip(struct kv_fixture *fixture, struct slice key, struct slice value)
{
    struct kv_put put = {.key = key, .value = value};
    struct kv_get get = {.key = key};

    kv_expect(kv_do(fixture, kv_start_put, &put.op), ERR_OK, NULL);
    kv_expect(kv_do(fixture, kv_start_get, &get.op), ERR_OK, NULL);
    assert_true(get.found);
    assert_int_equal(get.value.len, value.len);
    assert_true(slice_equal(get.value, value));
}

static void test_put_and_get(void **state)
{
    struct kv_fixture *fixture = *state;

    kv_put_ok(fixture, "basic/one", "first", 0);
    assert_string_equal(kv_get_ok(fixture, "basic/one"), "first");
}

static void test_absent_is_not_found_and_no_error(void **state)
{
    assert_null(kv_get_ok(*state, "basic/absent"));
    assert_false(kv_exists_ok(*state, "basic/absent"));
    assert_false(kv_del_ok(*state, "basic/absent"));
}

static void test_overwrite(void **state)
{
    struct kv_fixture *fixture = *state;

    kv_put_ok(fixture, "basic/over", "a longer first value", 0);
    kv_put_ok(fixture, "basic/over", "second", 0);
    assert_string_equal(kv_get_ok(fixture, "basic/over"), "second");
    kv_put_ok(fixture, "basic/over", "a third value that is the longest of all three", 0);
    assert_string_equal(kv_get_ok(fixture, "basic/over"),
                        "a third value that is the longest of all three");
}

static void test_value_beyond_the_room(void **state)
{
    struct kv_fixture *fixture = *state;
    struct kv_room room = {.bytes = 4};
    struct kv_get get = {.key = slice_str("basic/room"), .room = &room};

    kv_put_ok(fixture, "basic/room", "fives", 0);
    kv_expect(kv_do(fixture, kv_start_get, &get.op), ERR_OK, NULL);
    assert_true(get.found);
    assert_null(get.value.data);
    assert_int_equal(get.value.len, 5);
    assert_true(room.exceeded);
    room = (struct kv_room){.bytes = 5};
    kv_expect(kv_do(fixture, kv_start_get, &get.op), ERR_OK, NULL);
    assert_true(slice_equal(get.value, slice_str("fives")));
    assert_false(room.exceeded);
    assert_int_equal(room.bytes, 0);
}

static void test_empty_value_is_found(void **state)
{
    struct kv_fixture *fixture = *state;

    round_trip(fixture, slice_str("basic/empty"), slice_of(NULL, 0));
    assert_true(kv_exists_ok(fixture, "basic/empty"));
    kv_put_ok(fixture, "basic/emptied", "something", 0);
    round_trip(fixture, slice_str("basic/emptied"), slice_str(""));
}

static void test_binary_keys_and_values(void **state)
{
    struct kv_fixture *fixture = *state;

    for (unsigned byte = 0; byte < 256; byte++) {
        char key[] = {'b', (char)byte, '/', (char)byte};

        round_trip(fixture, slice_of(key, sizeof key), pattern(fixture, 256 + byte, (uint8_t)byte));
    }
    round_trip(fixture, slice_of("\0", 1), slice_of("\0", 1));
    round_trip(fixture, slice_of("\0\0", 2), slice_of("\0\0", 2));
    round_trip(fixture, slice_str("basic/\r\n$5\r\n\"'{}%s"), slice_str("\r\n$5\r\nhello\r\n"));

    struct kv_get one = {.key = slice_of("\0", 1)};

    kv_expect(kv_do(fixture, kv_start_get, &one.op), ERR_OK, NULL);
    assert_int_equal(one.value.len, 1);
}

/* Values around sizes at which buffers, packets and allocations change. */
static void test_values_of_all_sizes(void **state)
{
    struct kv_fixture *fixture = *state;
    const size_t sizes[] = {1,    7,    8,     15,    16,    17,    127,    128,
                            4095, 4096, 16383, 16384, 65535, 65536, 262144, 1 << 20};
    uint64_t most = fixture->backend->limits.value_bytes;

    for (size_t i = 0; i < sizeof sizes / sizeof sizes[0]; i++) {
        if (most == 0 || sizes[i] <= most)
            round_trip(fixture, slice_str("basic/sizes"), pattern(fixture, sizes[i], (uint8_t)i));
    }
}

static void test_keys_of_all_sizes(void **state)
{
    struct kv_fixture *fixture = *state;
    const size_t sizes[] = {1, 15, 16, 17, 255, 256, 1023, 1024, 8192, 65536, 1 << 20};
    uint64_t most = fixture->backend->limits.key_bytes;

    for (size_t i = 0; i < sizeof sizes / sizeof sizes[0]; i++) {
        if (most == 0 || sizes[i] <= most)
            round_trip(fixture, pattern(fixture, sizes[i], 77), slice_str("value of a long key"));
    }
}

/* One key is the beginning of another, and they differ in one byte at the end. */
static void test_keys_are_not_mixed_up(void **state)
{
    struct kv_fixture *fixture = *state;

    kv_put_ok(fixture, "basic/mix", "short", 0);
    kv_put_ok(fixture, "basic/mix/a", "a", 0);
    kv_put_ok(fixture, "basic/mix/b", "b", 0);
    assert_true(kv_del_ok(fixture, "basic/mix/a"));
    assert_string_equal(kv_get_ok(fixture, "basic/mix"), "short");
    assert_null(kv_get_ok(fixture, "basic/mix/a"));
    assert_string_equal(kv_get_ok(fixture, "basic/mix/b"), "b");
}

static void test_delete(void **state)
{
    struct kv_fixture *fixture = *state;

    kv_put_ok(fixture, "basic/del", "value", 0);
    assert_true(kv_exists_ok(fixture, "basic/del"));
    assert_true(kv_del_ok(fixture, "basic/del"));
    assert_false(kv_exists_ok(fixture, "basic/del"));
    assert_null(kv_get_ok(fixture, "basic/del"));
    assert_false(kv_del_ok(fixture, "basic/del"));
    kv_put_ok(fixture, "basic/del", "again", 0);
    assert_string_equal(kv_get_ok(fixture, "basic/del"), "again");
}

enum { CROWD = 300 };

static void test_many_at_once(void **state)
{
    struct kv_fixture *fixture = *state;
    struct kv_get gets[CROWD] = {0};
    struct kv_step steps[CROWD];

    kv_fill(fixture, "basic/crowd/", 0, CROWD);
    for (unsigned i = 0; i < CROWD; i++) {
        gets[i].key = slice_str(kv_key(fixture, "basic/crowd/", i));
        steps[i] = (struct kv_step){.start = kv_start_get, .op = &gets[i].op};
    }
    kv_run(fixture, fixture->backend, steps, CROWD);
    for (unsigned i = 0; i < CROWD; i++) {
        kv_expect(gets[i].op.err, ERR_OK, NULL);
        assert_true(gets[i].found);
        assert_true(slice_equal(gets[i].value, gets[i].key));
    }
    kv_empty(fixture, "basic/crowd/", 0, CROWD);
    for (unsigned i = 0; i < CROWD; i += 37)
        assert_null(kv_get_ok(fixture, kv_key(fixture, "basic/crowd/", i)));
}

enum { DELETERS = 10, WRITERS = 20 };

/* Many remove the same key at once: one of them did; or some saw it, where that is all that is
 * promised. */
static void test_delete_is_atomic(void **state)
{
    struct kv_fixture *fixture = *state;
    struct kv_del dels[DELETERS] = {0};
    struct kv_step steps[DELETERS];
    unsigned existed = 0;

    kv_put_ok(fixture, "basic/once", "value", 0);
    for (unsigned i = 0; i < DELETERS; i++) {
        dels[i].key = slice_str("basic/once");
        steps[i] = (struct kv_step){.start = kv_start_del, .op = &dels[i].op};
    }
    kv_run(fixture, fixture->backend, steps, DELETERS);
    for (unsigned i = 0; i < DELETERS; i++) {
        kv_expect(dels[i].op.err, ERR_OK, NULL);
        existed += dels[i].existed;
    }
    assert_in_range(existed, 1, fixture->backend->has.kv_basic->del_races ? DELETERS : 1);
}

/* Many write one key at once while others read it: readers see a whole value, and one of them
 * stays. */
static void test_writers_of_one_key(void **state)
{
    struct kv_fixture *fixture = *state;
    struct kv_put puts[WRITERS] = {0};
    struct kv_get gets[WRITERS] = {0};
    struct kv_step steps[2 * WRITERS];

    kv_put_ok(fixture, "basic/same", kv_key(fixture, "value ", 0), 0);
    for (unsigned i = 0; i < WRITERS; i++) {
        puts[i].key = slice_str("basic/same");
        puts[i].value = slice_str(kv_key(fixture, "value ", i));
        gets[i].key = slice_str("basic/same");
        steps[2 * i] = (struct kv_step){.start = kv_start_put, .op = &puts[i].op};
        steps[2 * i + 1] = (struct kv_step){.start = kv_start_get, .op = &gets[i].op};
    }
    kv_run(fixture, fixture->backend, steps, 2 * WRITERS);
    for (unsigned i = 0; i < WRITERS; i++) {
        kv_expect(puts[i].op.err, ERR_OK, NULL);
        kv_expect(gets[i].op.err, ERR_OK, NULL);
        assert_true(gets[i].found);
        assert_int_equal(gets[i].value.len, strlen("value 00000"));
        assert_true(slice_starts_with(gets[i].value, slice_str("value 000")));
    }
    assert_memory_equal(kv_get_ok(fixture, "basic/same"), "value 000", 9);
}

static void test_namespaces_are_apart(void **state)
{
    struct kv_fixture *fixture = *state;
    struct kv_put put = {.key = slice_str("basic/space"), .value = slice_str("theirs")};
    struct kv_get get = {.key = slice_str("basic/space")};
    struct kv_del del = {.key = slice_str("basic/space")};
    struct kv_step write = {.start = kv_start_put, .op = &put.op};
    struct kv_step read = {.start = kv_start_get, .op = &get.op};
    struct kv_step drop = {.start = kv_start_del, .op = &del.op};

    if (fixture->elsewhere == NULL)
        skip();
    kv_put_ok(fixture, "basic/space", "ours", 0);
    kv_run(fixture, fixture->elsewhere, &read, 1);
    kv_expect(get.op.err, ERR_OK, NULL);
    assert_false(get.found);
    kv_run(fixture, fixture->elsewhere, &write, 1);
    kv_expect(put.op.err, ERR_OK, NULL);
    assert_string_equal(kv_get_ok(fixture, "basic/space"), "ours");
    kv_run(fixture, fixture->elsewhere, &drop, 1);
    assert_true(del.existed);
    assert_string_equal(kv_get_ok(fixture, "basic/space"), "ours");
}

/* The round trip that health checks use, where there is one. */
static void start_probe(struct backend *backend, struct op *op)
{
    backend->type->probe(backend, op);
}

static void test_probe(void **state)
{
    struct kv_fixture *fixture = *state;
    struct op op = {0};

    if (fixture->backend->type->probe == NULL)
        skip();
    kv_expect(kv_do(fixture, start_probe, &op), ERR_OK, NULL);
}

static void test_calls_are_counted(void **state)
{
    struct kv_fixture *fixture = *state;
    uint64_t before = counter_read(&fixture->backend->stats.calls);

    kv_put_ok(fixture, "basic/counted", "value", 0);
    kv_get_ok(fixture, "basic/counted");
    assert_int_equal(counter_read(&fixture->backend->stats.calls) - before, 2);
    /* A cluster's other connections may be on their way still, with questions of their own. */
    for (int i = 0; i < 1000 && counter_read(&fixture->backend->stats.in_flight) > 0; i++)
        kv_get_ok(fixture, "basic/counted");
    assert_int_equal(counter_read(&fixture->backend->stats.in_flight), 0);
}

int kv_basic_contract(const char *name, CMFixtureFunction setup, CMFixtureFunction teardown)
{
    const struct CMUnitTest tests[] = {
        KV_TEST(test_put_and_get),
        KV_TEST(test_absent_is_not_found_and_no_error),
        KV_TEST(test_overwrite),
        KV_TEST(test_value_beyond_the_room),
        KV_TEST(test_empty_value_is_found),
        KV_TEST(test_binary_keys_and_values),
        KV_TEST(test_values_of_all_sizes),
        KV_TEST(test_keys_of_all_sizes),
        KV_TEST(test_keys_are_not_mixed_up),
        KV_TEST(test_delete),
        KV_TEST(test_many_at_once),
        KV_TEST(test_delete_is_atomic),
        KV_TEST(test_writers_of_one_key),
        KV_TEST(test_namespaces_are_apart),
        KV_TEST(test_probe),
        KV_TEST(test_calls_are_counted),
    };

    return kv_group(name, "kv_basic", tests, sizeof tests / sizeof tests[0], setup, teardown);
}
