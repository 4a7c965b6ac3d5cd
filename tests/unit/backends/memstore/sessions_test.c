/* Sessions of many threads in one store: what only the locks can break. The contract
 * (session_contract.h) has what callers are promised. */
#include "backends/memstore/sessions.h"
#include "tests/unit/backends/memstore/memstore_rig.h"

enum { THREADS = 4, ROUNDS = 3000, USERS = 3, CAP = 4, OWN = 8, TTL_MS = 60000, MANY = 1000 };

struct actor {
    pthread_t thread;
    struct rig *rig;
    uint64_t seed;
    unsigned number, created, refused;
    struct session_create limits; /* of fill() */
    bool one_user;
    const char *fault; /* static; NULL: none */
};

static struct slice user_of(struct arena *arena, unsigned user)
{
    return slice_str(arena_printf(arena, "user-%u", user));
}

/* Begins one, within these limits. */
static struct err begin(struct rig *rig, struct arena *arena, const char *id, unsigned user,
                        const struct session_create *limits)
{
    const struct session_value value = {.name = slice_str("n"), .value = slice_str("v")};
    struct session_create *create = arena_zalloc(arena, sizeof *create);
    struct err err = ERR_NONE;

    *create = *limits;
    create->op.arena = arena;
    create->id = slice_str(id);
    create->owner = (struct session_owner){.user = user_of(arena, user),
                                           .region = slice_str(user % 2 ? "odd" : "even")};
    create->values = &value;
    create->n = 1;
    create->ttl_ms = TTL_MS;
    create->max_bytes = 1000;
    while (sessions_create(rig->store->sessions, create, &err))
        ;
    return err;
}

static size_t count_of(struct rig *rig, struct arena *arena, struct slice user)
{
    struct session_page page = {.user = user, .max_items = SESSION_PAGE_ITEMS};
    size_t n = 0;

    page.op.arena = arena;
    do {
        page.after = page.next;
        sessions_page(rig->store->sessions, &page);
        n += page.n;
    } while (page.more);
    return n;
}

static void expect(struct actor *actor, bool fact, const char *fault)
{
    if (!fact && actor->fault == NULL)
        actor->fault = fault;
}

/* One of the actor's own sessions, which another may have ended: by the cap, or with its user. */
static void touch(struct actor *actor, struct arena *arena, const char *id)
{
    struct sessions *sessions = actor->rig->store->sessions;
    const struct session_use use = {.percent = 1};
    const struct session_value value = {.name = slice_str("n"), .value = slice_str("w")};
    struct session_get get = {.id = slice_str(id), .use = use};
    struct session_patch patch = {
        .id = slice_str(id), .set = &value, .set_n = 1, .max_bytes = 1000, .use = use};
    struct session_extend extend = {.id = slice_str(id), .add_ms = 5, .max_ttl_ms = 2 * TTL_MS};
    struct session_remove remove = {.id = slice_str(id)};

    get.op.arena = arena;
    switch (rig_random(&actor->seed) % 4) {
    case 0:
        if (sessions_get(sessions, &get).code == ERR_OK)
            expect(actor, get.n == 1 && get.owner.user.len == 6, "a session is not whole");
        break;
    case 1:
        sessions_patch(sessions, &patch);
        break;
    case 2:
        sessions_extend(sessions, &extend);
        break;
    default:
        sessions_remove(sessions, &remove);
        get.op.arena = arena;
        expect(actor, sessions_get(sessions, &get).code == ERR_NOT_FOUND, "it outlived its end");
    }
}

static void rotate(struct actor *actor, struct arena *arena, const char *id, const char *new_id)
{
    struct session_rotate rotate = {.id = slice_str(id), .new_id = slice_str(new_id)};
    struct session_get get = {.id = slice_str(id)};

    get.op.arena = arena;
    if (sessions_rotate(actor->rig->store->sessions, &rotate).code == ERR_OK)
        expect(actor, sessions_get(actor->rig->store->sessions, &get).code == ERR_NOT_FOUND,
               "its old identifier still names it");
}

static void *act(void *arg)
{
    const struct session_create limits = {.max_per_user = CAP, .end_oldest = true};
    struct actor *actor = arg;
    struct arena arena;

    arena_init(&arena, NULL);
    for (unsigned i = 0; i < ROUNDS; i++) {
        unsigned user = (unsigned)(rig_random(&actor->seed) % USERS);
        const char *id = arena_printf(&arena, "%u-%u", actor->number, i % OWN);
        struct session_remove_user all = {.user = user_of(&arena, user)};
        struct err err = begin(actor->rig, &arena, id, user, &limits);

        expect(actor, err.code == ERR_OK || err.code == ERR_ALREADY_EXISTS, "a refused creation");
        touch(actor, &arena, id);
        rotate(actor, &arena, id, arena_printf(&arena, "r%u-%u", actor->number, i % OWN));
        expect(actor, count_of(actor->rig, &arena, user_of(&arena, user)) <= CAP,
               "a user has more sessions than he may");
        if (i % 64 == 0) {
            count_of(actor->rig, &arena, slice_of(NULL, 0));
            sessions_remove_user(actor->rig->store->sessions, &all);
        }
        if (i % 32 == 0)
            rig_pass_ms(actor->rig, TTL_MS / 4);
        sessions_reap(actor->rig->store->sessions, 2);
        arena_clear(&arena);
    }
    return NULL;
}

static void run(struct rig *rig, struct actor *actors, const struct actor *like,
                void *(*what)(void *))
{
    for (unsigned i = 0; i < THREADS; i++) {
        actors[i] = *like;
        actors[i].rig = rig;
        actors[i].seed = i + 1;
        actors[i].number = i;
        assert_int_equal(pthread_create(&actors[i].thread, NULL, what, &actors[i]), 0);
    }
    for (unsigned i = 0; i < THREADS; i++) {
        pthread_join(actors[i].thread, NULL);
        if (actors[i].fault != NULL)
            fail_msg("%s", actors[i].fault);
    }
}

/* Also: nothing is left behind in any order, and the account comes out even. */
static void test_a_users_cap_holds_among_threads(void **state)
{
    struct actor actors[THREADS], like = {.fault = NULL};
    struct rig rig;
    size_t of_users = 0;

    (void)state;
    rig_open(&rig, 64, 0, 0);
    run(&rig, actors, &like, act);
    for (unsigned i = 0; i < USERS; i++)
        of_users += count_of(&rig, &rig.arena, user_of(&rig.arena, i));
    assert_int_equal(count_of(&rig, &rig.arena, slice_of(NULL, 0)), of_users);
    rig_pass_ms(&rig, 4 * TTL_MS);
    while (sessions_reap(rig.store->sessions, 16) == 16)
        ;
    assert_int_equal(sessions_totals(rig.store->sessions).sessions, 0);
    assert_int_equal(sessions_next_ns(rig.store->sessions), UINT64_MAX);
    assert_int_equal(memstore_totals(rig.store).bytes, 0);
    rig_close(&rig);
}

static void *fill(void *arg)
{
    struct actor *actor = arg;
    unsigned user = actor->one_user ? 0 : actor->number;
    struct arena arena;

    arena_init(&arena, NULL);
    for (unsigned i = 0; i < MANY; i++) {
        const char *id = arena_printf(&arena, "%u-%u", actor->number, i);
        struct err err = begin(actor->rig, &arena, id, user, &actor->limits);

        actor->created += err.code == ERR_OK;
        actor->refused += err.code == ERR_RESOURCE_EXHAUSTED;
        arena_clear(&arena);
    }
    return NULL;
}

/* Several rounds: what has expired since the last one is in the way, and no reason to refuse. */
static void fill_exactly(const struct actor *like, unsigned rounds)
{
    struct actor actors[THREADS];
    struct rig rig;

    rig_open(&rig, 64, 0, 0);
    for (unsigned round = 0; round < rounds; round++) {
        unsigned created = 0, refused = 0;

        run(&rig, actors, like, fill);
        for (unsigned i = 0; i < THREADS; i++) {
            created += actors[i].created;
            refused += actors[i].refused;
        }
        assert_int_equal(created, MANY);
        assert_int_equal(refused, (THREADS - 1) * MANY);
        rig_pass_ms(&rig, 2 * TTL_MS);
    }
    rig_close(&rig);
}

static void test_max_sessions_holds_among_threads(void **state)
{
    const struct actor like = {.limits = {.max_sessions = MANY}};

    (void)state;
    fill_exactly(&like, 3);
}

static void test_max_per_user_is_met_exactly(void **state)
{
    const struct actor like = {.limits = {.max_per_user = MANY}, .one_user = true};

    (void)state;
    fill_exactly(&like, 10);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_a_users_cap_holds_among_threads),
        cmocka_unit_test(test_max_sessions_holds_among_threads),
        cmocka_unit_test(test_max_per_user_is_met_exactly),
    };

    return cmocka_run_group_tests_name("sessions", tests, NULL, NULL);
}
