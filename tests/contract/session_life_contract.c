/* Expiry, use, extension, rotation, removal. */
#include "tests/contract/session_contract.h"

#include <string.h>

enum { PARTS = 4 };

static session_peer_fn *peer_of;

static struct kv_fixture *fixture_of(void **state)
{
    return *state;
}

static struct session_get used(struct kv_fixture *fixture, const char *id)
{
    struct session_get get = {.id = slice_str(id), .use = session_test_use};

    kv_expect(kv_do(fixture, session_start_get, &get.op), ERR_OK, NULL);
    return get;
}

/* S8: past its expiry it is in no answer, of no method, and a write to it has no effect. */
static void s8_expired_is_absent(void **state)
{
    struct kv_fixture *fixture = fixture_of(state);
    struct session_extend extend = {.id = slice_str("a"), .add_ms = 60000, .max_ttl_ms = 100000};
    struct session_rotate rotate = {.id = slice_str("a"), .new_id = slice_str("new")};
    struct session_get get = {.id = slice_str("a"), .use = session_test_use};
    struct session_remove_user of_user = {.user = slice_str("alice")};

    session_make(fixture, "b", "alice", 60000);
    session_make(fixture, "a", "alice", 100);
    KV_UNTIL(fixture, session_look(fixture, fixture->backend, "a") == NULL);
    assert_null(session_look(fixture, peer_of(fixture), "a"));
    kv_expect(kv_do(fixture, session_start_get, &get.op), ERR_NOT_FOUND, NULL);
    kv_expect(session_put(fixture, "a", "k", "v"), ERR_NOT_FOUND, NULL);
    kv_expect(kv_do(fixture, session_start_extend, &extend.op), ERR_NOT_FOUND, NULL);
    kv_expect(kv_do(fixture, session_start_rotate, &rotate.op), ERR_NOT_FOUND, NULL);
    assert_string_equal(session_ids(fixture, fixture->backend, "alice", "", 10), "b");
    assert_string_equal(session_ids(fixture, fixture->backend, "", "", 10), "b");
    assert_false(session_end(fixture, "a"));
    kv_expect(kv_do(fixture, session_start_remove_user, &of_user.op), ERR_OK, NULL);
    assert_int_equal(of_user.removed, 1);
    assert_null(session_look(fixture, fixture->backend, "new"));
}

/* S3: however often it is read, the expiry moves once in an interval. */
static void s3_reads_seldom_write(void **state)
{
    struct kv_fixture *fixture = fixture_of(state);
    struct session_get first, next;
    uint64_t before;

    session_make(fixture, "s", "alice", SESSION_LONG_MS);
    before = session_look(fixture, fixture->backend, "s")->times.expires_ms;
    kv_pass(fixture, 5);
    assert_int_equal(session_look(fixture, fixture->backend, "s")->times.expires_ms, before);
    first = used(fixture, "s");
    assert_true(first.times.expires_ms > before); /* the time to live and an interval from now */
    assert_int_equal(first.times.expires_ms, first.times.used_ms + SESSION_LONG_MS + 60000);
    for (int i = 0; i < 200; i++) {
        next = used(fixture, "s");
        assert_int_equal(next.times.expires_ms, first.times.expires_ms);
        assert_int_equal(next.times.used_ms, first.times.used_ms);
    }
}

enum { SHORT_TTL = 2000, USES = 6 };

/* Used six times, a quarter of its time to live apart. False: the machine was too slow for that. */
static bool use_regularly(struct kv_fixture *fixture, const char *id)
{
    for (int i = 0; i < USES; i++) {
        uint64_t before_ms = kv_clock_ms();
        struct session_get get = {.id = slice_str(id), .use = session_test_use};
        struct err err;

        kv_pass(fixture, SHORT_TTL / 4);
        err = kv_do(fixture, session_start_get, &get.op);
        if (kv_clock_ms() - before_ms > SHORT_TTL / 2)
            return false;
        kv_expect(err, ERR_OK, NULL);
    }
    return true;
}

/* S3: what is in use does not end. */
static void s3_in_use_it_stays(void **state)
{
    struct kv_fixture *fixture = fixture_of(state);
    unsigned tries = 0;

    do {
        session_make(fixture, kv_key(fixture, "s", ++tries), "alice", SHORT_TTL);
        assert_true(tries < 20);
    } while (!use_regularly(fixture, kv_key(fixture, "s", tries)));
}

/* S4: moving the expiry does not write what was read before. */
static void s4_use_keeps_what_others_wrote(void **state)
{
    struct kv_fixture *fixture = fixture_of(state);

    for (unsigned round = 0; round < 50; round++) {
        char *id = kv_key(fixture, "s", round), *text = kv_key(fixture, "v", round);
        struct session_value value = session_pair("k", text);
        struct session_patch patch = session_set(id, &value, 1);
        struct session_get get = {.id = slice_str(id), .use = session_test_use};
        struct session_extend extend = {
            .id = slice_str(id), .add_ms = 1000, .max_ttl_ms = 10 * SESSION_LONG_MS};
        struct kv_step steps[] = {{session_start_get, &get.op},
                                  {session_start_patch, &patch.op},
                                  {session_start_extend, &extend.op}};

        session_make(fixture, id, "alice", SESSION_LONG_MS);
        kv_run(fixture, fixture->backend, steps, 3);
        assert_string_equal(session_value(fixture, id, "k"), text);
    }
}

static void extend(void **state)
{
    struct kv_fixture *fixture = fixture_of(state);
    struct session_extend extend = {
        .id = slice_str("s"), .add_ms = 5000, .max_ttl_ms = 4 * SESSION_LONG_MS};
    uint64_t expires;

    session_make(fixture, "s", "alice", SESSION_LONG_MS);
    expires = session_look(fixture, fixture->backend, "s")->times.expires_ms;
    kv_expect(kv_do(fixture, session_start_extend, &extend.op), ERR_OK, NULL);
    assert_int_equal(extend.expires_ms, expires + 5000);

    /* To a time, twice: the same. Never back. */
    extend.add_ms = 0;
    extend.until_ms = expires + 7000;
    for (int i = 0; i < 2; i++) {
        extend.op = (struct op){0};
        kv_expect(kv_do(fixture, session_start_extend, &extend.op), ERR_OK, NULL);
        assert_int_equal(extend.expires_ms, expires + 7000);
    }
    extend.op = (struct op){0};
    extend.until_ms = 1;
    kv_expect(kv_do(fixture, session_start_extend, &extend.op), ERR_OK, NULL);
    assert_int_equal(extend.expires_ms, expires + 7000);

    /* No further than allowed; and use does not take back what was given. */
    extend.op = (struct op){0};
    extend.add_ms = 100ull * SESSION_LONG_MS;
    kv_expect(kv_do(fixture, session_start_extend, &extend.op), ERR_OK, NULL);
    assert_true(extend.expires_ms >= expires + 3 * SESSION_LONG_MS);
    assert_true(extend.expires_ms < expires + 4 * SESSION_LONG_MS);
    used(fixture, "s");
    assert_int_equal(session_look(fixture, fixture->backend, "s")->times.expires_ms,
                     extend.expires_ms);
}

/* The end of its life stands, whatever is done. */
static void life_ends(void **state)
{
    struct kv_fixture *fixture = fixture_of(state);
    struct session_create create = session_new("s", "alice", SESSION_LONG_MS);
    struct session_extend extend = {
        .id = slice_str("s"), .add_ms = SESSION_LONG_MS, .max_ttl_ms = 4 * SESSION_LONG_MS};

    create.max_life_ms = SESSION_LONG_MS + 1000;
    kv_expect(kv_do(fixture, session_start_create, &create.op), ERR_OK, NULL);
    kv_pass(fixture, 5);
    assert_int_equal(used(fixture, "s").times.expires_ms,
                     create.times.created_ms + create.max_life_ms);
    kv_expect(kv_do(fixture, session_start_extend, &extend.op), ERR_OK, NULL);
    assert_int_equal(extend.expires_ms, create.times.created_ms + create.max_life_ms);
    create.op = (struct op){0};
    create.id = slice_str("short");
    create.max_life_ms = 1000;
    kv_expect(kv_do(fixture, session_start_create, &create.op), ERR_OK, NULL);
    assert_int_equal(create.times.expires_ms, create.times.created_ms + 1000);
}

/* S11: a new identifier, and all else as it was; the old one is dead on every instance. */
static void s11_rotate(void **state)
{
    struct kv_fixture *fixture = fixture_of(state);
    struct session_rotate rotate = {.id = slice_str("old"), .new_id = slice_str("new")};
    const struct session_get *before, *after;

    session_make(fixture, "first", "alice", 60000);
    session_make(fixture, "old", "alice", 60000);
    session_make(fixture, "last", "alice", 60000);
    kv_expect(session_put(fixture, "old", "cart", "7"), ERR_OK, NULL);
    before = session_look(fixture, fixture->backend, "old");
    kv_expect(kv_do(fixture, session_start_rotate, &rotate.op), ERR_OK, NULL);
    assert_null(session_look(fixture, fixture->backend, "old"));
    assert_null(session_look(fixture, peer_of(fixture), "old"));
    after = session_look(fixture, peer_of(fixture), "new");
    assert_non_null(after);
    assert_memory_equal(&after->times, &before->times, sizeof after->times);
    assert_int_equal(after->version, before->version);
    assert_string_equal(session_value(fixture, "new", "cart"), "7");
    kv_expect(session_put(fixture, "old", "cart", "8"), ERR_NOT_FOUND, NULL);
    assert_string_equal(session_ids(fixture, fixture->backend, "alice", "", 2), "first new last");
    rotate = (struct session_rotate){.id = slice_str("new"), .new_id = slice_str("first")};
    kv_expect(kv_do(fixture, session_start_rotate, &rotate.op), ERR_ALREADY_EXISTS, NULL);
    rotate = (struct session_rotate){.id = slice_str("old"), .new_id = slice_str("again")};
    kv_expect(kv_do(fixture, session_start_rotate, &rotate.op), ERR_NOT_FOUND, NULL);
}

/* S11: writes that meet a rotation are before it, or find nothing; none is lost that succeeded. */
static void s11_rotate_among_writes(void **state)
{
    enum { WRITES = 20 };
    struct kv_fixture *fixture = fixture_of(state);
    struct session_value values[WRITES];
    struct session_patch patches[WRITES];
    struct kv_step steps[WRITES + 1];
    struct session_rotate rotate = {.id = slice_str("old"), .new_id = slice_str("new")};
    unsigned kept = 0;

    session_make(fixture, "old", "alice", 60000);
    for (unsigned i = 0; i < WRITES; i++) {
        values[i] = session_pair(kv_key(fixture, "k", i), "v");
        patches[i] = session_set("old", &values[i], 1);
        steps[i + (i >= WRITES / 2)] =
            (struct kv_step){.start = session_start_patch, .op = &patches[i].op};
    }
    steps[WRITES / 2] = (struct kv_step){.start = session_start_rotate, .op = &rotate.op};
    kv_run(fixture, fixture->backend, steps, WRITES + 1);
    kv_expect(rotate.op.err, ERR_OK, NULL);
    for (unsigned i = 0; i < WRITES; i++) {
        kept += patches[i].op.err.code == ERR_OK;
        if (patches[i].op.err.code != ERR_OK)
            kv_expect(patches[i].op.err, ERR_NOT_FOUND, NULL);
    }
    assert_int_equal(session_look(fixture, fixture->backend, "new")->n, kept);
}

/* ---- S2 ---- */

static struct backend *other_instance;

static void elsewhere_patch(struct backend *backend, struct op *op)
{
    (void)backend;
    session_start_patch(other_instance, op);
}

static void elsewhere_get(struct backend *backend, struct op *op)
{
    (void)backend;
    session_start_get(other_instance, op);
}

struct race {
    struct session_value value;
    struct session_patch patch;
    struct session_get get;
    struct session_extend extend;
    struct session_remove remove;
};

static void race_steps(struct kv_fixture *fixture, struct race *race, const char *id, unsigned i,
                       struct kv_step *steps)
{
    *race = (struct race){
        .value = session_pair("k", "v"),
        .get = {.id = slice_str(id), .use = session_test_use},
        .extend = {.id = slice_str(id), .add_ms = 1000, .max_ttl_ms = 10 * SESSION_LONG_MS},
        .remove = {.id = slice_str(id)}};
    race->patch = session_set(id, &race->value, 1);
    other_instance = peer_of(fixture);

    const struct kv_step all[PARTS] = {{elsewhere_patch, &race->patch.op},
                                       {session_start_remove, &race->remove.op},
                                       {elsewhere_get, &race->get.op},
                                       {session_start_extend, &race->extend.op}};

    for (unsigned k = 0; k < PARTS; k++)
        steps[k] = all[(i + k) % PARTS];
}

/* A set, a use and an extension against a removal on two instances, 100,000 races, or as many as
 * fifteen seconds have: nothing is there afterwards. */
static void s2_removed_stays_removed(void **state)
{
    enum { ROUNDS = 67, MOST_MS = 15000 };
    struct kv_fixture *fixture = fixture_of(state);
    unsigned sessions = session_many(fixture, 500);
    uint64_t until_ms = kv_clock_ms() + MOST_MS;

    for (unsigned round = 0; round < ROUNDS && kv_clock_ms() < until_ms; round++) {
        struct session_create *creates = arena_array(&fixture->arena, sessions, sizeof *creates);
        struct race *races = arena_array(&fixture->arena, sessions, sizeof *races);
        struct kv_step *steps =
            arena_array(&fixture->arena, (size_t)PARTS * sessions, sizeof *steps);

        for (unsigned i = 0; i < sessions; i++) {
            char *id = kv_key(fixture, "race", i);

            creates[i] = session_new(id, "alice", SESSION_LONG_MS);
            steps[i] = (struct kv_step){.start = session_start_create, .op = &creates[i].op};
        }
        session_run(fixture, steps, sessions);
        for (unsigned i = 0; i < sessions; i++) {
            kv_expect(creates[i].op.err, ERR_OK, NULL);
            race_steps(fixture, &races[i], kv_key(fixture, "race", i), i, &steps[PARTS * i]);
        }
        session_run(fixture, steps, (size_t)PARTS * sessions);
        for (unsigned i = 0; i < sessions; i++) {
            kv_expect(races[i].remove.op.err, ERR_OK, NULL);
            assert_true(races[i].remove.existed);
        }
        assert_string_equal(session_ids(fixture, fixture->backend, "", "", 1000), "");
        arena_clear(&fixture->arena);
    }
    assert_null(session_look(fixture, fixture->backend, "race00000"));
}

int session_life_contract(const char *name, CMFixtureFunction setup, CMFixtureFunction teardown,
                          session_peer_fn *peer)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_teardown(s8_expired_is_absent, session_tear_down),
        cmocka_unit_test_teardown(s3_reads_seldom_write, session_tear_down),
        cmocka_unit_test_teardown(s3_in_use_it_stays, session_tear_down),
        cmocka_unit_test_teardown(s4_use_keeps_what_others_wrote, session_tear_down),
        cmocka_unit_test_teardown(extend, session_tear_down),
        cmocka_unit_test_teardown(life_ends, session_tear_down),
        cmocka_unit_test_teardown(s11_rotate, session_tear_down),
        cmocka_unit_test_teardown(s11_rotate_among_writes, session_tear_down),
        cmocka_unit_test_teardown(s2_removed_stays_removed, session_tear_down),
    };

    peer_of = peer;
    return kv_group(name, "session, life", tests, sizeof tests / sizeof *tests, setup, teardown);
}
