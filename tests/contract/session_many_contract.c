/* The sessions of a user, of a region, of the namespace: limits, ending all, pages. */
#include "tests/contract/session_contract.h"

#include <stdio.h>
#include <string.h>

static session_peer_fn *peer_of;

static struct kv_fixture *fixture_of(void **state)
{
    return *state;
}

static struct session_create *creations(struct kv_fixture *fixture, unsigned from, unsigned n,
                                        const char *user, uint32_t cap)
{
    struct session_create *creates = arena_array(&fixture->arena, n, sizeof *creates);

    for (unsigned i = 0; i < n; i++) {
        creates[i] = session_new(kv_key(fixture, "s", from + i), user, SESSION_LONG_MS);
        creates[i].max_per_user = cap;
    }
    return creates;
}

static unsigned run_creations(struct kv_fixture *fixture, struct session_create *creates,
                              unsigned n)
{
    struct kv_step *steps = arena_array(&fixture->arena, n, sizeof *steps);
    unsigned created = 0;

    for (unsigned i = 0; i < n; i++)
        steps[i] = (struct kv_step){.start = session_start_create, .op = &creates[i].op};
    session_run(fixture, steps, n);
    for (unsigned i = 0; i < n; i++)
        created += creates[i].op.err.code == ERR_OK;
    return created;
}

static unsigned count_words(const char *text)
{
    unsigned n = text[0] != '\0';

    for (; *text != '\0'; text++)
        n += *text == ' ';
    return n;
}

/* S6: 100 creations at once; exactly as many live as may. */
static void s6_limit_refuses(void **state)
{
    enum { CAP = 5 };
    struct kv_fixture *fixture = fixture_of(state);
    unsigned offered = session_many(fixture, 100);
    struct session_create *creates = creations(fixture, 0, offered, "alice", CAP);

    assert_int_equal(run_creations(fixture, creates, offered), CAP);
    for (unsigned i = 0; i < offered; i++) {
        if (creates[i].op.err.code != ERR_OK)
            kv_expect(creates[i].op.err, ERR_RESOURCE_EXHAUSTED, "max_sessions_per_user");
        assert_int_equal(creates[i].ended_n, 0);
    }
    assert_int_equal(count_words(session_ids(fixture, fixture->backend, "alice", "", 100)), CAP);
    /* Others, and those that are nobody's, have limits of their own, or none. */
    assert_int_equal(run_creations(fixture, creations(fixture, 200, CAP, "bob", CAP), CAP), CAP);
    assert_int_equal(run_creations(fixture, creations(fixture, 300, 20, "", CAP), 20), 20);
}

/* S6: the oldest end, and each creation names those that ended for it. */
static void s6_limit_ends_the_oldest(void **state)
{
    enum { CAP = 5 };
    struct kv_fixture *fixture = fixture_of(state);
    unsigned offered = session_many(fixture, 100), ended = 0;
    struct session_create *creates = creations(fixture, 0, offered, "alice", CAP);
    const char *left;

    for (unsigned i = 0; i < offered; i++)
        creates[i].end_oldest = true;
    assert_int_equal(run_creations(fixture, creates, offered), offered);
    for (unsigned i = 0; i < offered; i++) {
        ended += (unsigned)creates[i].ended_n;
        for (size_t k = 0; k < creates[i].ended_n; k++)
            assert_null(session_look(fixture, fixture->backend,
                                     arena_strdup(&fixture->arena, creates[i].ended[k])));
    }
    assert_int_equal(ended, offered - CAP);
    left = session_ids(fixture, fixture->backend, "alice", "", 100);
    assert_int_equal(count_words(left), CAP);

    /* Those that are there end in the order in which they were created. */
    creates = creations(fixture, 100, CAP, "alice", CAP);
    for (unsigned i = 0; i < CAP; i++) {
        creates[i].end_oldest = true;
        kv_expect(kv_do(fixture, session_start_create, &creates[i].op), ERR_OK, NULL);
        assert_int_equal(creates[i].ended_n, 1);
        assert_true(slice_equal(creates[i].ended[0], slice_of(left, strcspn(left, " "))));
        left += strcspn(left, " ") + (i + 1 < CAP);
    }
    assert_string_equal(session_ids(fixture, fixture->backend, "alice", "", 100),
                        "s00100 s00101 s00102 s00103 s00104");
}

/* S6: those that have expired do not count. */
static void s6_expired_do_not_count(void **state)
{
    struct kv_fixture *fixture = fixture_of(state);
    struct session_create create = session_new("new", "alice", SESSION_LONG_MS);

    for (unsigned i = 0; i < 5; i++)
        session_make(fixture, kv_key(fixture, "old", i), "alice", 50);
    KV_UNTIL(fixture, session_look(fixture, fixture->backend, "old00004") == NULL);
    create.max_per_user = 1;
    kv_expect(kv_do(fixture, session_start_create, &create.op), ERR_OK, NULL);
    assert_int_equal(create.ended_n, 0);
    create.op = (struct op){0};
    create.id = slice_str("newer");
    kv_expect(kv_do(fixture, session_start_create, &create.op), ERR_RESOURCE_EXHAUSTED,
              "max_sessions_per_user");
}

/* A limit that was lowered: a user comes down to it, a bounded number at a time. */
static void s6_lowered_limit(void **state)
{
    enum { BEFORE = 250 };
    struct kv_fixture *fixture = fixture_of(state);
    struct session_create *creates = creations(fixture, 0, BEFORE, "alice", 0);

    assert_int_equal(run_creations(fixture, creates, BEFORE), BEFORE);
    creates = creations(fixture, 1000, 3, "alice", 10);
    for (unsigned i = 0; i < 3; i++)
        creates[i].end_oldest = true;
    assert_int_equal(run_creations(fixture, creates, 3), 3);
    assert_int_equal(creates[0].ended_n, SESSION_ENDED);
    assert_int_equal(count_words(session_ids(fixture, fixture->backend, "alice", "", 100)), 10);
}

/* S7: a bound for the namespace; what is there is not disturbed. */
static void s7_limit_of_the_namespace(void **state)
{
    struct kv_fixture *fixture = fixture_of(state);
    struct session_create *creates = creations(fixture, 0, 30, "", 0);

    for (unsigned i = 0; i < 30; i++)
        creates[i].max_sessions = 20;
    assert_int_equal(run_creations(fixture, creates, 30), 20);
    for (unsigned i = 0; i < 30; i++) {
        if (creates[i].op.err.code != ERR_OK)
            kv_expect(creates[i].op.err, ERR_RESOURCE_EXHAUSTED, "max_sessions");
    }
    kv_expect(session_put(fixture, "s00000", "a", "1"), ERR_OK, NULL);
    assert_true(session_end(fixture, "s00000"));
    creates = creations(fixture, 100, 2, "", 0);
    creates[0].max_sessions = creates[1].max_sessions = 20;
    assert_int_equal(run_creations(fixture, creates, 2), 1);
    /* Who has fewer than he may ends none of his own, and nobody else's. */
    creates = creations(fixture, 200, 1, "alice", 5);
    creates->max_sessions = 20;
    creates->end_oldest = true;
    kv_expect(kv_do(fixture, session_start_create, &creates->op), ERR_RESOURCE_EXHAUSTED,
              "max_sessions");
}

/* S9: all of a user at once, but one; on every instance. */
static void s9_end_all_of_a_user(void **state)
{
    struct kv_fixture *fixture = fixture_of(state);
    unsigned sessions = session_many(fixture, 700);
    struct session_remove_user remove = {.user = slice_str("alice"), .except = slice_str("s00023")};

    assert_int_equal(run_creations(fixture, creations(fixture, 0, sessions, "alice", 0), sessions),
                     sessions);
    session_make(fixture, "bob-1", "bob", SESSION_LONG_MS);
    kv_expect(kv_do(fixture, session_start_remove_user, &remove.op), ERR_OK, NULL);
    assert_int_equal(remove.removed, sessions - 1);
    assert_string_equal(session_ids(fixture, peer_of(fixture), "alice", "", 100), "s00023");
    assert_null(session_look(fixture, peer_of(fixture), "s00001"));
    assert_non_null(session_look(fixture, peer_of(fixture), "s00023"));
    assert_non_null(session_look(fixture, peer_of(fixture), "bob-1"));
    remove = (struct session_remove_user){.user = slice_str("alice"), .except = slice_str("bob-1")};
    kv_expect(kv_do(fixture, session_start_remove_user, &remove.op), ERR_OK, NULL);
    assert_int_equal(remove.removed, 1);
    assert_string_equal(session_ids(fixture, fixture->backend, "", "", 100), "bob-1");
    remove.op = (struct op){0};
    kv_expect(kv_do(fixture, session_start_remove_user, &remove.op), ERR_OK, NULL);
    assert_int_equal(remove.removed, 0);
}

/* S9: creations while it runs: those that were answered before it are gone, others may stay. */
static void s9_creations_meanwhile(void **state)
{
    struct kv_fixture *fixture = fixture_of(state);
    unsigned sessions = session_many(fixture, 300), before = sessions / 3, n = 0;
    struct session_create *creates = creations(fixture, 0, sessions, "alice", 0);
    struct kv_step *steps = arena_array(&fixture->arena, sessions + 1, sizeof *steps);
    struct session_remove_user remove = {.user = slice_str("alice")};
    unsigned left;

    for (unsigned i = 0; i < sessions; i++) {
        if (i == 2 * before)
            steps[n++] = (struct kv_step){.start = session_start_remove_user, .op = &remove.op};
        steps[n++] = (struct kv_step){.start = session_start_create, .op = &creates[i].op};
    }
    kv_run(fixture, fixture->backend, steps, before);
    kv_run(fixture, fixture->backend, steps + before, n - before);
    kv_expect(remove.op.err, ERR_OK, NULL);
    left = count_words(session_ids(fixture, fixture->backend, "alice", "", 100));
    assert_int_equal(remove.removed + left, sessions);
    assert_true(remove.removed >= before);
}

/* ---- pages ---- */

static void make_in(struct kv_fixture *fixture, const char *id, const char *user,
                    const char *region, const char *client)
{
    struct session_create create = session_new(id, user, SESSION_LONG_MS);

    create.owner.region = slice_str(region);
    create.owner.client = slice_str(client);
    kv_expect(kv_do(fixture, session_start_create, &create.op), ERR_OK, NULL);
}

static void pages_by_user_and_region(void **state)
{
    struct kv_fixture *fixture = fixture_of(state);
    struct session_page page = {.user = slice_str("alice"),
                                .region = slice_str("eu"),
                                .client = slice_str("phone"),
                                .max_items = 10};

    make_in(fixture, "1", "alice", "eu", "phone");
    make_in(fixture, "2", "alice", "us", "phone");
    make_in(fixture, "3", "bob", "eu", "tablet");
    make_in(fixture, "4", "", "eu", "");
    make_in(fixture, "5", "alice", "eu", "tablet");
    make_in(fixture, "6", "", "", "");
    for (uint32_t size = 1; size < 8; size++) {
        assert_string_equal(session_ids(fixture, fixture->backend, "", "", size), "1 2 3 4 5 6");
        assert_string_equal(session_ids(fixture, fixture->backend, "alice", "", size), "1 2 5");
        assert_string_equal(session_ids(fixture, fixture->backend, "", "eu", size), "1 3 4 5");
        assert_string_equal(session_ids(fixture, peer_of(fixture), "alice", "eu", size), "1 5");
        assert_string_equal(session_ids(fixture, fixture->backend, "carol", "", size), "");
    }
    kv_expect(kv_do(fixture, session_start_page, &page.op), ERR_OK, NULL);
    assert_int_equal(page.n, 1);
    assert_false(page.more);
    assert_true(slice_equal(page.entries[0].id, slice_str("1")));
    assert_true(slice_equal(page.entries[0].owner.client, slice_str("phone")));
    assert_true(page.entries[0].times.expires_ms > page.entries[0].times.created_ms);
    assert_int_equal(page.entries[0].version, 1);
}

/* A page ends when it has passed its bytes; nothing is left out by that. */
static void pages_are_bounded_in_bytes(void **state)
{
    struct kv_fixture *fixture = fixture_of(state);
    struct session_page page = {.user = slice_str("alice"), .max_items = 100, .max_bytes = 1};
    unsigned n = 0;

    for (unsigned i = 0; i < 5; i++)
        session_make(fixture, kv_key(fixture, "s", i), "alice", SESSION_LONG_MS);
    do {
        page.op = (struct op){0};
        page.after = page.next;
        kv_expect(kv_do(fixture, session_start_page, &page.op), ERR_OK, NULL);
        assert_true(page.n <= 1);
        n += (unsigned)page.n;
    } while (page.more);
    assert_int_equal(n, 5);
}

/* What lives from the first page to the last is in exactly one, whatever happens to it and to
 * others meanwhile. */
static void pages_stay_in_order(void **state)
{
    enum { SESSIONS = 300, PAGE = 7 };
    struct kv_fixture *fixture = fixture_of(state);
    unsigned sessions = session_many(fixture, SESSIONS);
    struct session_page page = {.user = slice_str("alice"), .max_items = PAGE};
    unsigned seen[SESSIONS] = {0}, step = 0;

    assert_int_equal(run_creations(fixture, creations(fixture, 0, sessions, "alice", 0), sessions),
                     sessions);
    do {
        page.op = (struct op){0};
        page.after = page.next;
        kv_expect(kv_do(fixture, session_start_page, &page.op), ERR_OK, NULL);
        for (size_t i = 0; i < page.n; i++) {
            unsigned number;
            char *id = arena_strdup(&fixture->arena, page.entries[i].id);

            if (sscanf(id, "s%u", &number) == 1 || sscanf(id, "t%u", &number) == 1)
                seen[number % 1000]++;
        }
        /* One with an even number is rotated, the odd one beside it removed; one comes. */
        char *old = kv_key(fixture, "s", 2 * step), *new = kv_key(fixture, "t", 2 * step);
        struct session_rotate rotate = {.id = slice_str(old), .new_id = slice_str(new)};

        kv_expect(kv_do(fixture, session_start_rotate, &rotate.op), ERR_OK, NULL);
        session_end(fixture, kv_key(fixture, "s", 2 * step + 1));
        session_make(fixture, kv_key(fixture, "u", step), "alice", SESSION_LONG_MS);
        step++;
    } while (page.more);
    for (unsigned i = 0; i < sessions; i += 2)
        assert_int_equal(seen[i], 1);
    for (unsigned i = 1; i < sessions; i += 2)
        assert_true(seen[i] <= 1);
}

/* ---- ghosts ---- */

enum { USERS = 100, EACH = 100 };

/* Sessions of one user are begun one after the other, so each round is one of each user. */
static void one_more_of_each(struct kv_fixture *fixture, unsigned round)
{
    struct session_create *creates = arena_array(&fixture->arena, USERS, sizeof *creates);

    for (unsigned user = 0; user < USERS; user++)
        creates[user] =
            session_new(kv_key(fixture, "s", user * EACH + round), kv_key(fixture, "user", user),
                        round % 2 == 0 ? 50 : SESSION_LONG_MS);
    assert_int_equal(run_creations(fixture, creates, USERS), USERS);
}

/* All that live of those of the user with numbers from `from` up to `rounds`. */
static const char *expect_listed(struct kv_fixture *fixture, unsigned user, unsigned from,
                                 unsigned rounds)
{
    const char *ids = session_ids(fixture, fixture->backend, kv_key(fixture, "user", user), "", 13);

    for (unsigned i = from; i < rounds; i += 2)
        assert_non_null(strstr(ids, kv_key(fixture, "s", user * EACH + i)));
    return ids;
}

/* S5: half expire and others are ended: lists are complete meanwhile, and without ghosts then. */
static void s5_10000_sessions_of_100_users_without_ghosts(void **state)
{
    struct kv_fixture *fixture = fixture_of(state);

    for (unsigned round = 0; round < EACH; round++) {
        one_more_of_each(fixture, round);
        expect_listed(fixture, round, 1, round + 1);
        arena_clear(&fixture->arena);
    }
    for (unsigned user = 0; user < USERS; user++)
        assert_true(session_end(fixture, kv_key(fixture, "s", user * EACH + 1)));
    KV_UNTIL(fixture, session_look(fixture, fixture->backend,
                                   kv_key(fixture, "s", USERS * EACH - 2)) == NULL);
    for (unsigned user = 0; user < USERS; user++) {
        assert_int_equal(count_words(expect_listed(fixture, user, 3, EACH)), EACH / 2 - 1);
        arena_clear(&fixture->arena);
    }
    assert_int_equal(count_words(session_ids(fixture, fixture->backend, "", "", 1000)),
                     USERS * (EACH / 2 - 1));
}

int session_many_contract(const char *name, CMFixtureFunction setup, CMFixtureFunction teardown,
                          session_peer_fn *peer)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_teardown(s6_limit_refuses, session_tear_down),
        cmocka_unit_test_teardown(s6_limit_ends_the_oldest, session_tear_down),
        cmocka_unit_test_teardown(s6_expired_do_not_count, session_tear_down),
        cmocka_unit_test_teardown(s6_lowered_limit, session_tear_down),
        cmocka_unit_test_teardown(s7_limit_of_the_namespace, session_tear_down),
        cmocka_unit_test_teardown(s9_end_all_of_a_user, session_tear_down),
        cmocka_unit_test_teardown(s9_creations_meanwhile, session_tear_down),
        cmocka_unit_test_teardown(pages_by_user_and_region, session_tear_down),
        cmocka_unit_test_teardown(pages_are_bounded_in_bytes, session_tear_down),
        cmocka_unit_test_teardown(pages_stay_in_order, session_tear_down),
        cmocka_unit_test_teardown(s5_10000_sessions_of_100_users_without_ghosts, session_tear_down),
    };

    peer_of = peer;
    return kv_group(name, "session, many", tests, sizeof tests / sizeof *tests, setup, teardown);
}
