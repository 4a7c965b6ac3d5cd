/* Many threads on one store, under ThreadSanitizer too. Each thread owns some keys, which must
 * behave as if it were alone; others are everyone's. Sweeps, scans, counts and totals go on
 * meanwhile. */
#include "tests/unit/backends/memstore/memstore_rig.h"

#include "pool/op.h"

#include <stdatomic.h>

enum { THREADS = 4, OWN_KEYS = 200, SHARED_KEYS = 20, ROUNDS = 12000 };

struct actor {
    pthread_t thread;
    struct rig *rig;
    unsigned number;
    const char *fault; /* static; NULL = none */
    uint64_t stored;   /* conditional writes that this one won */
};

static char *own_key(char key[32], const struct actor *actor, unsigned k)
{
    snprintf(key, 32, "own-%u-%u", actor->number, k);
    return key;
}

static char *shared_key(char key[32], unsigned k)
{
    snprintf(key, 32, "shared-%u", k);
    return key;
}

static void expect(struct actor *actor, bool fact, const char *fault)
{
    if (!fact && actor->fault == NULL)
        actor->fault = fault;
}

/* Keys of its own, against a model. */
static void act_alone(struct actor *actor, uint64_t *seed, uint32_t *model, struct arena *arena)
{
    unsigned k = (unsigned)(rig_random(seed) % OWN_KEYS);
    char key[32];
    uint32_t number = (uint32_t)rig_random(seed) | 1;
    struct memstore_write write = {.key = slice_str(own_key(key, actor, k)),
                                   .value = slice_of(&number, sizeof number),
                                   .ttl_ms = rig_random(seed) % 3 == 0 ? 3600000 : 0};
    struct memstore_read read = memstore_read(actor->rig->store, write.key, NULL, arena);

    expect(actor, read.found == (model[k] != 0), "an own key came or went");
    if (read.found)
        expect(actor, memcmp(read.value.data, &model[k], sizeof number) == 0, "another's value");
    if (number % 4 == 1) {
        expect(actor, memstore_remove(actor->rig->store, write.key) == (model[k] != 0),
               "removal of an own key");
        model[k] = 0;
    } else {
        expect(actor, memstore_write(actor->rig->store, &write).code == ERR_OK, "a refused write");
        model[k] = number;
    }
}

/* Keys of all: values are whole, and of those who replace one version one wins. */
static void act_shared(struct actor *actor, uint64_t *seed, struct arena *arena)
{
    struct memstore *store = actor->rig->store;
    char key[32], value[64];
    struct slice name = slice_str(shared_key(key, (unsigned)(rig_random(seed) % SHARED_KEYS)));
    struct memstore_read read = memstore_read(store, name, NULL, arena);
    size_t len = 1 + rig_random(seed) % sizeof value;
    struct memstore_write write = {.key = name, .value = slice_of(value, len)};

    for (size_t i = 1; i < read.value.len; i++)
        expect(actor, read.value.data[i] == read.value.data[0], "a torn value");
    memset(value, (int)('a' + actor->number), sizeof value);
    switch (rig_random(seed) % 4) {
    case 0:
        write.ttl_ms = 1 + rig_random(seed) % 5;
        break;
    case 1:
        memstore_expire(store, name, 1 + rig_random(seed) % 5);
        return;
    case 2:
        memstore_remove(store, name);
        return;
    default:
        break;
    }
    expect(actor, memstore_write(store, &write).code == ERR_OK, "a refused write");
}

/* A counter under compare-and-swap: no increment is lost. */
static void act_counting(struct actor *actor, struct arena *arena)
{
    struct memstore *store = actor->rig->store;
    struct memstore_read read = memstore_read(store, slice_str("counter"), NULL, arena);
    uint64_t count = 0;
    struct memstore_write write = {.key = slice_str("counter"),
                                   .value = slice_of(&count, sizeof count),
                                   .condition =
                                       read.found ? MEMSTORE_IF_VERSION : MEMSTORE_IF_ABSENT,
                                   .expected = read.version};

    if (read.found)
        memcpy(&count, read.value.data, sizeof count);
    count++;
    expect(actor, memstore_write(store, &write).code == ERR_OK, "a refused write");
    actor->stored += write.stored;
}

static void act_over_all(struct actor *actor, struct arena *arena)
{
    struct memstore *store = actor->rig->store;
    struct memstore_position position = {0};
    struct kv_scan_page page = {.max_items = 1000, .max_bytes = UINT64_MAX, .with_values = true};
    struct op_group group;
    unsigned from = actor->number * 64;
    uint64_t n = 0;

    op_group_init(&group, NULL, arena, 0);
    page.op.group = &group;
    page.op.arena = arena;
    do {
        expect(actor, memstore_page(store, &page).code == ERR_OK, "a refused page");
        n += page.n;
        page.cursor = page.next_cursor;
    } while (page.more);
    expect(actor, n <= THREADS * OWN_KEYS + SHARED_KEYS + 1, "more keys than there are");
    memstore_count(store, slice_str("own"), &position, 1000, &n);
    expiry_sweep(store, &from, 100);
    memstore_totals(store);
    rig_pass_ms(actor->rig, 1);
}

static void *act(void *arg)
{
    struct actor *actor = arg;
    uint64_t seed = 100 + actor->number;
    uint32_t model[OWN_KEYS] = {0};
    struct arena arena;

    arena_init(&arena, NULL);
    for (unsigned i = 0; i < ROUNDS && actor->fault == NULL; i++) {
        act_alone(actor, &seed, model, &arena);
        act_shared(actor, &seed, &arena);
        act_counting(actor, &arena);
        if (i % 256 == 0)
            act_over_all(actor, &arena);
        arena_clear(&arena);
    }
    for (unsigned k = 0; k < OWN_KEYS; k++) {
        char key[32];

        memstore_remove(actor->rig->store, slice_str(own_key(key, actor, k)));
    }
    return NULL;
}

static void run_threads(struct rig *rig, struct actor *actors, void *(*run)(void *))
{
    for (unsigned i = 0; i < THREADS; i++) {
        actors[i] = (struct actor){.rig = rig, .number = i};
        assert_int_equal(pthread_create(&actors[i].thread, NULL, run, &actors[i]), 0);
    }
    for (unsigned i = 0; i < THREADS; i++)
        pthread_join(actors[i].thread, NULL);
    for (unsigned i = 0; i < THREADS; i++) {
        if (actors[i].fault != NULL)
            fail_msg("%s", actors[i].fault);
    }
}

static void everything_at_once(unsigned hash_bits)
{
    struct rig rig;
    struct actor actors[THREADS];
    uint64_t count = 0, stored = 0;
    char key[32];

    rig_open(&rig, hash_bits, 0, 0);
    run_threads(&rig, actors, act);
    memcpy(&count, memstore_read(rig.store, slice_str("counter"), NULL, &rig.arena).value.data,
           sizeof count);
    for (unsigned i = 0; i < THREADS; i++)
        stored += actors[i].stored;
    assert_int_equal(count, stored);
    for (unsigned k = 0; k < SHARED_KEYS; k++)
        rig_del(&rig, shared_key(key, k));
    assert_true(rig_del(&rig, "counter"));
    assert_int_equal(memstore_totals(rig.store).keys, 0);
    assert_int_equal(memstore_totals(rig.store).bytes, 0);
    assert_int_equal(memstore_totals(rig.store).mortal, 0);
    rig_close(&rig);
}

static void test_everything_at_once(void **state)
{
    (void)state;
    everything_at_once(64);
    everything_at_once(10); /* four shards, one tag each */
}

/* ---- the limit is exact, whoever comes at once ---- */

enum { LIMIT = 1000 };

static void *fill(void *arg)
{
    struct actor *actor = arg;
    char key[32];

    for (unsigned k = 0; k < LIMIT; k++)
        actor->stored += rig_put(actor->rig, own_key(key, actor, k), "v", 0).code == ERR_OK;
    return NULL;
}

static void test_limit_is_exact(void **state)
{
    struct rig rig;
    struct actor actors[THREADS];
    uint64_t stored = 0;

    (void)state;
    rig_open(&rig, 64, LIMIT, 0);
    run_threads(&rig, actors, fill);
    for (unsigned i = 0; i < THREADS; i++)
        stored += actors[i].stored;
    assert_int_equal(stored, LIMIT);
    assert_int_equal(rig_keys(&rig), LIMIT);
    assert_int_equal(backend_health(&rig.store->base).state, BACKEND_DEGRADED);
    rig_close(&rig);
}

/* At the limit, keys come and go from all sides: in the end health tells the truth. */
static void *sway(void *arg)
{
    struct actor *actor = arg;
    char key[32];

    for (unsigned i = 0; i < ROUNDS; i++) {
        rig_put(actor->rig, own_key(key, actor, i % 3), "v", 0);
        rig_del(actor->rig, own_key(key, actor, i % 3));
    }
    return NULL;
}

static void test_health_settles(void **state)
{
    struct rig rig;
    struct actor actors[THREADS];

    (void)state;
    rig_open(&rig, 64, 2, 0);
    run_threads(&rig, actors, sway);
    assert_int_equal(backend_health(&rig.store->base).state, BACKEND_READY);
    rig_put_ok(&rig, "a", "v", 0);
    rig_put_ok(&rig, "b", "v", 0);
    assert_int_equal(backend_health(&rig.store->base).state, BACKEND_DEGRADED);
    rig_close(&rig);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_everything_at_once),
        cmocka_unit_test(test_limit_is_exact),
        cmocka_unit_test(test_health_settles),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
