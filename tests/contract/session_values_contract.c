/* Creating, reading and changing one session. */
#include "tests/contract/session_contract.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { CLIENTS = 32 };

static session_peer_fn *peer_of;

static struct kv_fixture *fixture_of(void **state)
{
    return *state;
}

static struct err patch_of(struct kv_fixture *fixture, struct session_patch *patch)
{
    patch->op = (struct op){0};
    return session_do(fixture, fixture->backend, session_start_patch, &patch->op);
}

static void create_and_get(void **state)
{
    struct kv_fixture *fixture = fixture_of(state);
    const struct session_value values[] = {
        session_pair("theme", "dark"),
        session_pair("empty", ""),
        {.name = slice_str("bytes"), .value = slice_of("\0\xff\n", 3)}};
    struct session_create create = session_new("s-1", "alice", 60000);
    const struct session_get *get;

    create.owner.region = slice_str("eu-west");
    create.owner.client = slice_str("phone");
    create.owner.attributes = slice_of("a\0b", 3);
    create.values = values;
    create.n = 3;
    kv_expect(session_do(fixture, fixture->backend, session_start_create, &create.op), ERR_OK,
              NULL);
    assert_true(create.times.created_ms > 1600000000000); /* Unix time in ms */
    assert_int_equal(create.times.expires_ms, create.times.created_ms + 60000);
    get = session_look(fixture, fixture->backend, "s-1");
    assert_non_null(get);
    assert_true(slice_equal(get->owner.user, slice_str("alice")));
    assert_true(slice_equal(get->owner.region, slice_str("eu-west")));
    assert_true(slice_equal(get->owner.client, slice_str("phone")));
    assert_true(slice_equal(get->owner.attributes, create.owner.attributes));
    assert_memory_equal(&get->times, &create.times, sizeof get->times);
    assert_int_equal(get->version, 1);
    assert_int_equal(get->n, 3);
    assert_string_equal(session_value(fixture, "s-1", "theme"), "dark");
    assert_string_equal(session_value(fixture, "s-1", "empty"), "");
    assert_null(session_value(fixture, "s-1", "nothing"));
    for (size_t i = 0; i < get->n; i++) {
        assert_int_equal(get->values[i].version, 1);
        if (slice_equal(get->values[i].name, values[2].name))
            assert_true(slice_equal(get->values[i].value, values[2].value));
    }
    create.op = (struct op){0};
    kv_expect(session_do(fixture, fixture->backend, session_start_create, &create.op),
              ERR_ALREADY_EXISTS, NULL);
}

static void absent_everywhere(void **state)
{
    struct kv_fixture *fixture = fixture_of(state);
    struct session_extend extend = {.id = slice_str("no"), .add_ms = 1000, .max_ttl_ms = 100000};
    struct session_rotate rotate = {.id = slice_str("no"), .new_id = slice_str("new")};

    assert_null(session_look(fixture, fixture->backend, "no"));
    assert_null(session_value(fixture, "no", "a"));
    kv_expect(session_put(fixture, "no", "a", "1"), ERR_NOT_FOUND, NULL);
    kv_expect(kv_do(fixture, session_start_extend, &extend.op), ERR_NOT_FOUND, NULL);
    kv_expect(kv_do(fixture, session_start_rotate, &rotate.op), ERR_NOT_FOUND, NULL);
    assert_false(session_end(fixture, "no"));
    assert_string_equal(session_ids(fixture, fixture->backend, "", "", 10), "");
    if (fixture->elsewhere != NULL) {
        session_make(fixture, "s", "alice", 60000);
        assert_null(session_look(fixture, fixture->elsewhere, "s"));
        assert_string_equal(session_ids(fixture, fixture->elsewhere, "alice", "", 10), "");
    }
}

static void patch_sets_and_removes(void **state)
{
    struct kv_fixture *fixture = fixture_of(state);
    struct session_value set[] = {session_pair("a", "1"), session_pair("b", "2")};
    struct slice gone[] = {slice_str("b"), slice_str("nothing")};
    struct session_patch patch = session_set("s", set, 2);

    session_make(fixture, "s", "alice", 60000);
    kv_expect(patch_of(fixture, &patch), ERR_OK, NULL);
    assert_int_equal(patch.version, 2);
    set[0] = session_pair("c", "3");
    patch.set_n = 1;
    patch.remove = gone;
    patch.remove_n = 2;
    kv_expect(patch_of(fixture, &patch), ERR_OK, NULL);
    assert_int_equal(patch.version, 3);
    assert_true(patch.existed);
    assert_string_equal(session_value(fixture, "s", "a"), "1");
    assert_null(session_value(fixture, "s", "b"));
    assert_string_equal(session_value(fixture, "s", "c"), "3");
    patch.set_n = 0;
    kv_expect(patch_of(fixture, &patch), ERR_OK, NULL); /* both are absent: nothing changes */
    assert_int_equal(patch.version, 3);
    assert_false(patch.existed);
}

static void conditions(void **state)
{
    struct kv_fixture *fixture = fixture_of(state);
    struct session_value set = session_pair("a", "1");
    struct session_patch patch = session_set("s", &set, 1);

    session_make(fixture, "s", "alice", 60000);
    patch.condition = SESSION_VALUE_AT;
    patch.if_version = 1; /* the session's, but the value is absent */
    kv_expect(patch_of(fixture, &patch), ERR_ABORTED, "if_version");
    assert_int_equal(patch.version, 0);
    patch.if_version = 0;
    kv_expect(patch_of(fixture, &patch), ERR_OK, NULL);
    assert_int_equal(patch.version, 2);
    kv_expect(patch_of(fixture, &patch), ERR_ABORTED, "if_version");
    assert_int_equal(patch.version, 2);
    kv_expect(session_put(fixture, "s", "b", "x"), ERR_OK, NULL); /* 3: another value */
    patch.if_version = 2;
    set = session_pair("a", "2");
    kv_expect(patch_of(fixture, &patch), ERR_OK, NULL);
    assert_int_equal(patch.version, 4);

    patch.condition = SESSION_AT_VERSION;
    patch.if_version = 3;
    kv_expect(patch_of(fixture, &patch), ERR_ABORTED, "if_version");
    assert_int_equal(patch.version, 4);
    patch.if_version = 4;
    kv_expect(patch_of(fixture, &patch), ERR_OK, NULL);

    struct slice gone = slice_str("a");

    patch.set_n = 0;
    patch.remove = &gone;
    patch.remove_n = 1;
    patch.condition = SESSION_VALUE_AT;
    patch.if_version = 4;
    kv_expect(patch_of(fixture, &patch), ERR_ABORTED, "if_version");
    assert_int_equal(patch.version, 5);
    assert_string_equal(session_value(fixture, "s", "a"), "2");
    patch.if_version = 5;
    kv_expect(patch_of(fixture, &patch), ERR_OK, NULL);
    assert_null(session_value(fixture, "s", "a"));
}

/* S1: 32 clients set different values, all at once and on two instances. */
static void s1_32_clients_set_different_values_and_all_are_kept(void **state)
{
    struct kv_fixture *fixture = fixture_of(state);
    struct session_value *values = arena_array(&fixture->arena, CLIENTS, sizeof *values);
    struct session_patch *patches = arena_array(&fixture->arena, CLIENTS, sizeof *patches);
    struct kv_step steps[CLIENTS];
    struct session_get get = {.id = slice_str("s")};

    session_make(fixture, "s", "alice", 60000);
    for (unsigned round = 0; round < 10; round++) {
        struct backend *backend = round % 2 == 0 ? fixture->backend : peer_of(fixture);

        for (unsigned i = 0; i < CLIENTS; i++) {
            values[i] = session_pair(kv_key(fixture, "key", i), kv_key(fixture, "round", round));
            patches[i] = session_set("s", &values[i], 1);
            steps[i] = (struct kv_step){.start = session_start_patch, .op = &patches[i].op};
        }
        kv_run(fixture, backend, steps, CLIENTS);
        for (unsigned i = 0; i < CLIENTS; i++)
            kv_expect(patches[i].op.err, ERR_OK, NULL);
    }
    kv_expect(kv_do(fixture, session_start_get, &get.op), ERR_OK, NULL);
    assert_int_equal(get.n, CLIENTS);
    assert_int_equal(get.version, 1 + 10 * CLIENTS);
    for (size_t i = 0; i < get.n; i++)
        assert_true(slice_equal(get.values[i].value, slice_str("round00009")));
}

/* S1: 32 clients count in one value, each under the condition that it is as it was read. */
static void s1_counting_under_a_condition(void **state)
{
    struct kv_fixture *fixture = fixture_of(state);
    struct session_value values[CLIENTS];
    struct session_patch patches[CLIENTS];
    struct kv_step steps[CLIENTS];
    char texts[CLIENTS][16];
    unsigned counted = 0, refused = 0;

    session_make(fixture, "s", "alice", 60000);
    kv_expect(session_put(fixture, "s", "n", "0"), ERR_OK, NULL);
    while (counted < CLIENTS) {
        struct session_get get = {.id = slice_str("s"), .name = slice_str("n")};
        unsigned before = counted;

        kv_expect(kv_do(fixture, session_start_get, &get.op), ERR_OK, NULL);
        for (unsigned i = 0; i < CLIENTS; i++) {
            snprintf(texts[i], sizeof texts[i], "%lu",
                     strtoul(arena_strdup(&fixture->arena, get.values[0].value), NULL, 10) + 1);
            values[i] = session_pair("n", texts[i]);
            patches[i] = session_set("s", &values[i], 1);
            patches[i].condition = SESSION_VALUE_AT;
            patches[i].if_version = get.values[0].version;
            steps[i] = (struct kv_step){.start = session_start_patch, .op = &patches[i].op};
        }
        kv_run(fixture, fixture->backend, steps, CLIENTS);
        for (unsigned i = 0; i < CLIENTS; i++) {
            counted += patches[i].op.err.code == ERR_OK;
            refused += patches[i].op.err.code == ERR_ABORTED;
        }
        assert_int_equal(counted, before + 1);
    }
    assert_int_equal(counted + refused, CLIENTS * CLIENTS);
    assert_string_equal(session_value(fixture, "s", "n"), "32");
}

/* S10: 64 writers at once, each small enough, stay within the bound together. */
static void s10_size_is_checked_with_the_write(void **state)
{
    enum { WRITERS = 64, VALUE = 1000, BOUND = 20000 };
    struct kv_fixture *fixture = fixture_of(state);
    struct session_value values[WRITERS];
    struct session_patch patches[WRITERS];
    struct kv_step steps[WRITERS];
    struct session_get get = {.id = slice_str("s")};
    uint64_t bytes = 0;
    unsigned set = 0;
    char text[VALUE];

    memset(text, 'v', sizeof text);
    session_make(fixture, "s", "alice", 60000);
    for (unsigned i = 0; i < WRITERS; i++) {
        values[i] = session_pair(kv_key(fixture, "key", i), "");
        values[i].value = slice_of(text, sizeof text);
        patches[i] = session_set("s", &values[i], 1);
        patches[i].max_bytes = BOUND;
        steps[i] = (struct kv_step){.start = session_start_patch, .op = &patches[i].op};
    }
    kv_run(fixture, fixture->backend, steps, WRITERS);
    for (unsigned i = 0; i < WRITERS; i++) {
        set += patches[i].op.err.code == ERR_OK;
        if (patches[i].op.err.code != ERR_OK)
            kv_expect(patches[i].op.err, ERR_RESOURCE_EXHAUSTED, "max_session_size");
    }
    kv_expect(kv_do(fixture, session_start_get, &get.op), ERR_OK, NULL);
    for (size_t i = 0; i < get.n; i++)
        bytes += session_value_bytes(get.values[i].name, get.values[i].value);
    assert_int_equal(get.n, set);
    assert_int_equal(set, BOUND / session_value_bytes(slice_str("key00000"), values[0].value));
    assert_true(bytes <= BOUND);
    assert_int_equal(get.version, 1 + set); /* what was refused has changed nothing */

    /* A value replaced counts once. Which of the writers came in time, the server has chosen. */
    values[0].name = get.values[0].name;
    patches[0].op = (struct op){0};
    kv_expect(kv_do(fixture, session_start_patch, &patches[0].op), ERR_OK, NULL);
}

static void s10_creation_too_large(void **state)
{
    struct kv_fixture *fixture = fixture_of(state);
    struct session_value value = session_pair("key", "0123456789");
    struct session_create create = session_new("s", "alice", 60000);

    create.values = &value;
    create.n = 1;
    create.max_bytes = session_value_bytes(value.name, value.value) - 1;
    kv_expect(kv_do(fixture, session_start_create, &create.op), ERR_RESOURCE_EXHAUSTED,
              "max_session_size");
    assert_null(session_look(fixture, fixture->backend, "s"));
    create.op = (struct op){0};
    create.max_bytes++;
    kv_expect(kv_do(fixture, session_start_create, &create.op), ERR_OK, NULL);
}

/* As many values as fit, read back whole. */
static void many_values(void **state)
{
    enum { VALUES = 2000 };
    struct kv_fixture *fixture = fixture_of(state);
    struct session_value *values = arena_array(&fixture->arena, VALUES, sizeof *values);
    struct slice *names = arena_array(&fixture->arena, VALUES, sizeof *names);
    struct session_patch patch = session_set("s", values, VALUES);
    const struct session_get *get;

    session_make(fixture, "s", "alice", 60000);
    for (unsigned i = 0; i < VALUES; i++) {
        values[i] = session_pair(kv_key(fixture, "key", i * 7919 % VALUES), "value");
        names[i] = values[i].name;
    }
    kv_expect(patch_of(fixture, &patch), ERR_OK, NULL);
    get = session_look(fixture, fixture->backend, "s");
    assert_int_equal(get->n, VALUES);
    assert_string_equal(session_value(fixture, "s", "key01999"), "value");
    patch.set_n = 0;
    patch.remove = names;
    patch.remove_n = VALUES;
    kv_expect(patch_of(fixture, &patch), ERR_OK, NULL);
    assert_int_equal(session_look(fixture, fixture->backend, "s")->n, 0);
}

int session_values_contract(const char *name, CMFixtureFunction setup, CMFixtureFunction teardown,
                            session_peer_fn *peer)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_teardown(create_and_get, session_tear_down),
        cmocka_unit_test_teardown(absent_everywhere, session_tear_down),
        cmocka_unit_test_teardown(patch_sets_and_removes, session_tear_down),
        cmocka_unit_test_teardown(conditions, session_tear_down),
        cmocka_unit_test_teardown(s1_32_clients_set_different_values_and_all_are_kept,
                                  session_tear_down),
        cmocka_unit_test_teardown(s1_counting_under_a_condition, session_tear_down),
        cmocka_unit_test_teardown(s10_size_is_checked_with_the_write, session_tear_down),
        cmocka_unit_test_teardown(s10_creation_too_large, session_tear_down),
        cmocka_unit_test_teardown(many_values, session_tear_down),
    };

    peer_of = peer;
    return kv_group(name, "session, values", tests, sizeof tests / sizeof *tests, setup, teardown);
}
