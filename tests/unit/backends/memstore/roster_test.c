/* The registry's store: a long random life against a model, with hashes that tell everything apart
 * and with hashes that tell nothing; its account with the limits; many threads. The contract
 * (registry_contract.h) has what callers are promised. */
#include "backends/memstore/roster.h"
#include "tests/unit/backends/memstore/memstore_rig.h"

enum { NAMES = 60, VALUES = 4, ROUNDS = 6000, THREADS = 4, THREAD_ROUNDS = 4000 };

struct known {
    bool here;
    unsigned a, b; /* fields; b VALUES: absent */
    uint64_t expires_ns, generation;
};

struct bench {
    struct rig rig;
    struct known known[NAMES];
    uint64_t seed;
};

static unsigned roll(struct bench *bench, unsigned sides)
{
    return (unsigned)(rig_random(&bench->seed) % sides);
}

static struct slice name_of(struct arena *arena, unsigned i)
{
    return slice_str(arena_printf(arena, "n%02u", i));
}

static struct slice document_of(struct arena *arena, unsigned a, unsigned b)
{
    const char *json = b < VALUES ? arena_printf(arena, "{\"a\":%u,\"b\":\"v%u\"}", a, b)
                                  : arena_printf(arena, "{\"a\":%u}", a);
    struct slice out;

    assert_int_equal(document_from_json(arena, slice_str(json), 1000, &out).code, ERR_OK);
    return out;
}

static bool lives(const struct bench *bench, const struct known *known)
{
    return known->here &&
           (known->expires_ns == 0 || known->expires_ns > atomic_load(&bench->rig.now_ns));
}

static void put(struct bench *bench, unsigned i)
{
    struct known *known = &bench->known[i];
    unsigned a = roll(bench, VALUES), b = roll(bench, VALUES + 1);
    struct registry_put_item item = {.identity = name_of(&bench->rig.arena, i),
                                     .document = document_of(&bench->rig.arena, a, b),
                                     .ttl_ms = roll(bench, 3) * 20,
                                     .replace = roll(bench, 2) == 0};
    bool taken = !lives(bench, known) || item.replace;

    roster_put(bench->rig.store->roster, &item, 0);
    assert_int_equal(item.err.code, taken ? ERR_OK : ERR_ALREADY_EXISTS);
    if (!taken)
        return;
    *known = (struct known){.here = true, .a = a, .b = b, .generation = item.generation};
    if (item.ttl_ms > 0)
        known->expires_ns = atomic_load(&bench->rig.now_ns) + item.ttl_ms * NS_PER_MS;
}

static void patch(struct bench *bench, unsigned i)
{
    struct known *known = &bench->known[i];
    struct op_group group;
    struct registry_patch request = {.identity = name_of(&bench->rig.arena, i),
                                     .mode = REGISTRY_MERGE,
                                     .if_generation = roll(bench, 2) ? known->generation : 0};
    struct err err;

    request.op.group = &group;
    request.op.arena = &bench->rig.arena;
    known->a = roll(bench, VALUES);
    request.document = document_of(&bench->rig.arena, known->a, VALUES);
    err = roster_patch(bench->rig.store->roster, &request);
    assert_int_equal(err.code, lives(bench, known) ? ERR_OK : ERR_NOT_FOUND);
}

static void beat(struct bench *bench, unsigned i)
{
    struct known *known = &bench->known[i];
    struct registry_beat_item item = {.identity = name_of(&bench->rig.arena, i)};
    uint64_t ttl_ms = 10 + roll(bench, 50);

    roster_beat(bench->rig.store->roster, &item, ttl_ms);
    assert_int_equal(item.err.code, lives(bench, known) ? ERR_OK : ERR_NOT_FOUND);
    if (item.err.code == ERR_OK)
        known->expires_ns = atomic_load(&bench->rig.now_ns) + ttl_ms * NS_PER_MS;
}

static void remove_one(struct bench *bench, unsigned i)
{
    struct registry_remove_item item = {.identity = name_of(&bench->rig.arena, i)};

    roster_remove(bench->rig.store->roster, &item);
    assert_int_equal(item.existed, lives(bench, &bench->known[i]));
    bench->known[i].here = false;
}

static const struct filter *filter_of(struct arena *arena, const char *json)
{
    struct filter_limits limits = filter_limits_default();
    struct filter_node *node;
    const struct filter *filter;

    assert_int_equal(filter_from_json(arena, slice_str(json), &limits, &node).code, ERR_OK);
    assert_int_equal(filter_compile(arena, node, &limits, &filter).code, ERR_OK);
    return filter;
}

static bool is_odd(const struct registry_page *page, struct slice identity)
{
    (void)page;
    return identity.data == NULL || identity.data[identity.len - 1] % 2 == 1;
}

static bool is_nobody(const struct registry_page *page, struct slice identity)
{
    (void)page;
    (void)identity;
    return false;
}

static void look(struct bench *bench)
{
    static bool (*const wanted[])(const struct registry_page *, struct slice) = {NULL, is_odd,
                                                                                 is_nobody};
    struct arena *arena = &bench->rig.arena;
    unsigned a = roll(bench, VALUES), b = roll(bench, VALUES), asks = roll(bench, 3), found = 0,
             others = 0;
    const char *json = asks == 0   ? arena_printf(arena, "{\"a\":%u}", a)
                       : asks == 1 ? arena_printf(arena, "{\"b\":\"v%u\"}", b)
                                   : arena_printf(arena, "{\"a\":%u,\"b\":\"v%u\"}", a, b);
    struct registry_page page = {
        .filter = filter_of(arena, json), .max_items = NAMES, .wanted = wanted[roll(bench, 3)]};

    page.op.arena = arena;
    roster_page(bench->rig.store->roster, &page);
    assert_false(page.more);
    for (unsigned i = 0; i < NAMES; i++) {
        const struct known *known = &bench->known[i];
        struct slice name = name_of(arena, i);

        if (!lives(bench, known) || (asks != 1 && known->a != a) || (asks != 0 && known->b != b))
            continue;
        if (page.wanted != NULL && !page.wanted(&page, name)) {
            others++;
            continue;
        }
        assert_true(found < page.n);
        assert_true(slice_equal(page.entries[found++].identity, name));
    }
    assert_int_equal(found, page.n);
    assert_int_equal(others, page.unwanted);
}

static void live(unsigned hash_bits)
{
    struct bench *bench = calloc(1, sizeof *bench);
    struct roster *roster;

    assert_non_null(bench);
    bench->seed = 7;
    rig_open(&bench->rig, hash_bits, 0, 0);
    roster = bench->rig.store->roster;
    for (unsigned round = 0; round < ROUNDS; round++) {
        void (*const deeds[])(struct bench *, unsigned) = {put, put, patch, beat, remove_one};

        deeds[roll(bench, 5)](bench, roll(bench, NAMES));
        if (round % 3 == 0)
            rig_pass_ms(&bench->rig, roll(bench, 4));
        if (round % 5 == 0)
            look(bench);
        arena_clear(&bench->rig.arena);
    }
    for (unsigned i = 0; i < NAMES; i++)
        remove_one(bench, i);
    while (roster_reap(roster, 100))
        ;
    assert_int_equal(roster->all.entries + roster->due.entries + roster->index.entries, 0);
    assert_int_equal(memstore_totals(bench->rig.store).keys, 0);
    assert_int_equal(memstore_totals(bench->rig.store).bytes, 0);
    rig_close(&bench->rig);
    free(bench);
}

static void test_random_life(void **state)
{
    (void)state;
    live(64);
}

static void test_random_life_without_hashes(void **state)
{
    (void)state;
    live(0);
}

/* Some values meet under a number, and others do not. */
static void test_random_life_with_short_hashes(void **state)
{
    (void)state;
    for (unsigned bits = 1; bits < 6; bits++)
        live(bits);
}

/* So many, all but the first with a life of ttl_ms: one of them matches in the end. */
static void expect_one(unsigned n, unsigned a_each, unsigned b, unsigned b_each, uint64_t ttl_ms,
                       const char *json)
{
    struct rig rig;
    struct registry_page page = {.max_items = NAMES};

    rig_open(&rig, 0, 0, 0);
    page.op.arena = &rig.arena;
    page.filter = filter_of(&rig.arena, json);
    for (unsigned i = 0; i < n; i++) {
        struct registry_put_item item = {
            .identity = name_of(&rig.arena, i),
            .document = document_of(&rig.arena, 1 + i * a_each, b + i * b_each),
            .ttl_ms = i > 0 ? ttl_ms : 0};

        roster_put(rig.store->roster, &item, 0);
        assert_int_equal(item.err.code, ERR_OK);
    }
    rig_pass_ms(&rig, 11);
    roster_page(rig.store->roster, &page);
    assert_int_equal(page.n, 1);
    rig_close(&rig);
}

/* All numbers are the same. Two values of one member meet there, and values of two members; more
 * have expired than a call takes out. */
static void test_who_is_under_a_number_but_does_not_match(void **state)
{
    (void)state;
    expect_one(2, 0, 2, 1, 0, "{\"b\":\"v2\"}");
    expect_one(2, 1, VALUES, 1, 0, "{\"a\":1}");
    expect_one(40, 0, VALUES, 0, 10, "{\"a\":1}");
}

/* What is refused has taken nothing; a longer document in place of a shorter one is refused too. */
static void test_limits(void **state)
{
    struct rig rig;
    struct registry_put_item items[3] = {{.identity = slice_str("a"), .replace = true},
                                         {.identity = slice_str("b"), .ttl_ms = 10},
                                         {.identity = slice_str("c")}};
    uint64_t bytes;

    (void)state;
    rig_open(&rig, 64, 2, 1000);
    for (int i = 0; i < 3; i++)
        roster_put(rig.store->roster, &items[i], 0);
    assert_int_equal(items[1].err.code, ERR_OK);
    assert_int_equal(items[2].err.code, ERR_RESOURCE_EXHAUSTED);
    assert_string_equal(items[2].err.subject, "max_keys");
    rig_pass_ms(&rig, 11);
    roster_put(rig.store->roster, &items[2], 0); /* the expired one has made room */
    assert_int_equal(items[2].err.code, ERR_OK);
    bytes = memstore_totals(rig.store).bytes;

    uint8_t text[900];
    struct slice value = slice_of(text, sizeof text);

    memset(text, 'x', sizeof text);
    assert_int_equal(document_from_json(&rig.arena,
                                        slice_str(arena_printf(&rig.arena, "{\"t\":\"%.*s\"}",
                                                               (int)value.len, text)),
                                        2000, &items[0].document)
                         .code,
                     ERR_OK);
    roster_put(rig.store->roster, &items[0], 0);
    assert_int_equal(items[0].err.code, ERR_RESOURCE_EXHAUSTED);
    assert_string_equal(items[0].err.subject, "max_bytes");
    assert_int_equal(memstore_totals(rig.store).bytes, bytes);
    rig_close(&rig);
}

/* ---- threads ---- */

struct actor {
    pthread_t thread;
    struct rig *rig;
    uint64_t seed;
    unsigned number;
    bool fault;
};

/* Names of its own, which must be as it left them, among everybody's. */
static void *act(void *arg)
{
    struct actor *actor = arg;
    struct roster *roster = actor->rig->store->roster;
    struct arena arena;

    arena_init(&arena, NULL);
    for (unsigned i = 0; i < THREAD_ROUNDS; i++) {
        unsigned k = (unsigned)(rig_random(&actor->seed) % 50);
        struct registry_put_item item = {
            .identity = slice_str(arena_printf(&arena, "t%u-%u", actor->number, k)),
            .document = document_of(&arena, k % VALUES, actor->number),
            .ttl_ms = 3600000,
            .replace = true};
        struct registry_beat_item shared = {
            .identity = slice_str(arena_printf(&arena, "t%u-%u", k % THREADS, k))};
        struct registry_remove_item removal = {.identity = item.identity};
        struct registry_page page = {
            .filter = filter_of(&arena, arena_printf(&arena, "{\"b\":\"v%u\"}", actor->number)),
            .max_items = 100};
        struct registry_entry entry;

        page.op.arena = &arena;
        roster_put(roster, &item, 0);
        actor->fault |= item.err.code != ERR_OK ||
                        !roster_get(roster, item.identity, true, &arena, &entry) ||
                        entry.generation != item.generation;
        roster_beat(roster, &shared, 1000000);
        if (i % 16 == 0)
            roster_page(roster, &page);
        for (size_t n = 0; n < page.n; n++)
            actor->fault |= page.entries[n].identity.data[1] != '0' + actor->number;
        roster_remove(roster, &removal);
        actor->fault |= !removal.existed;
        arena_clear(&arena);
    }
    return NULL;
}

static void test_threads(void **state)
{
    struct actor actors[THREADS];
    struct rig rig;

    (void)state;
    rig_open(&rig, 64, 0, 0);
    for (unsigned i = 0; i < THREADS; i++) {
        actors[i] = (struct actor){.rig = &rig, .seed = i + 1, .number = i};
        assert_int_equal(pthread_create(&actors[i].thread, NULL, act, &actors[i]), 0);
    }
    for (unsigned i = 0; i < THREADS; i++) {
        pthread_join(actors[i].thread, NULL);
        assert_false(actors[i].fault);
    }
    assert_int_equal(memstore_totals(rig.store).bytes, 0);
    rig_close(&rig);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_random_life),
        cmocka_unit_test(test_random_life_without_hashes),
        cmocka_unit_test(test_random_life_with_short_hashes),
        cmocka_unit_test(test_who_is_under_a_number_but_does_not_match),
        cmocka_unit_test(test_limits),
        cmocka_unit_test(test_threads),
    };

    return cmocka_run_group_tests_name("roster", tests, NULL, NULL);
}
