/* Windows of single operations: each item as if it had come alone, whatever the others do. */
#include "tests/unit/backends/memstore/memstore_rig.h"

enum { THREADS = 3, ITEMS = 70, ROUNDS = 200, LIMIT = 5 };

/* A worker without a thread: the test's threads drive theirs. */
struct desk {
    struct worker worker;
    struct backend *backend;
    struct op_group group;
    struct arena arena;
    unsigned done;
    bool closed;
};

static void no_wake(struct worker *worker)
{
    (void)worker;
}

static void desk_open(struct desk *desk, struct rig *rig, unsigned id)
{
    *desk = (struct desk){.closed = false};
    worker_init(&desk->worker, id, no_wake);
    worker_set_current(&desk->worker);
    arena_init(&desk->arena, NULL);
    desk->backend = backend_memstore.open(&rig->store->base, &desk->worker);
    op_group_init(&desk->group, &desk->worker, &desk->arena, 0);
}

static void on_closed(void *arg)
{
    ((struct desk *)arg)->closed = true;
}

static bool desk_close(struct desk *desk)
{
    backend_memstore.close(desk->backend, on_closed, desk);
    worker_drain(&desk->worker, 0);
    worker_clear(&desk->worker);
    arena_clear(&desk->arena);
    worker_set_current(NULL);
    return desk->closed;
}

static void count_done(struct op *op)
{
    struct desk *desk = CONTAINER_OF(op->group, struct desk, group);

    desk->done += op->err.code == ERR_OK;
}

/* True: done came once, later, and with ERR_OK. */
static bool settle(struct desk *desk)
{
    bool early = desk->done != 0;

    worker_drain(&desk->worker, 0);
    return !early && desk->done == 1;
}

static bool put_many(struct desk *desk, struct kv_put_item *items, size_t n)
{
    struct kv_put_many many = {.items = items, .n = n};

    desk->done = 0;
    op_start(&many.op, &desk->group, count_done);
    desk->backend->has.kv_basic->window->put_many(desk->backend, &many);
    return settle(desk);
}

static bool get_many(struct desk *desk, struct kv_get_item *items, size_t n)
{
    struct kv_get_many many = {.items = items, .n = n};

    desk->done = 0;
    op_start(&many.op, &desk->group, count_done);
    desk->backend->has.kv_basic->window->get_many(desk->backend, &many);
    return settle(desk);
}

static bool del_many(struct desk *desk, struct kv_del_item *items, size_t n)
{
    struct kv_del_many many = {.items = items, .n = n};

    desk->done = 0;
    op_start(&many.op, &desk->group, count_done);
    desk->backend->has.kv_basic->window->del_many(desk->backend, &many);
    return settle(desk);
}

static struct kv_put_item item(const char *key, const char *value)
{
    return (struct kv_put_item){.base.key = slice_str(key), .value = slice_str(value)};
}

static void test_one_key_many_times(void **state)
{
    struct kv_put_item items[] = {item("a", "1"), item("b", "2"), item("a", "longer than before"),
                                  item("a", ""), item("b", "3")};
    struct rig rig;
    struct desk desk;

    (void)state;
    rig_open(&rig, 64, 0, 0);
    desk_open(&desk, &rig, 0);
    assert_true(put_many(&desk, items, ARRAY_LEN(items)));
    assert_string_equal(rig_get(&rig, "a"), "");
    assert_string_equal(rig_get(&rig, "b"), "3");

    struct kv_del_item twice[] = {{.base.key = slice_str("a")}, {.base.key = slice_str("a")}};

    assert_true(del_many(&desk, twice, 2));
    assert_true(twice[0].existed);
    assert_false(twice[1].existed);
    assert_true(desk_close(&desk));
    rig_close(&rig);
}

/* A full store refuses the items that are new, and only those. */
static void test_items_are_refused_one_by_one(void **state)
{
    struct kv_put_item items[2 * LIMIT];
    char keys[LIMIT * 2][32];
    struct rig rig;
    struct desk desk;

    (void)state;
    rig_open(&rig, 64, LIMIT, 0);
    desk_open(&desk, &rig, 0);
    for (unsigned i = 0; i < LIMIT; i++)
        rig_put_ok(&rig, rig_key(keys[i], i), "old", 0);
    for (unsigned i = 0; i < 2 * LIMIT; i++) /* one that is there, one that is not, .. */
        items[i] = item(rig_key(keys[i], i % 2 == 0 ? i / 2 : LIMIT + i), "new");
    assert_true(put_many(&desk, items, ARRAY_LEN(items)));
    for (unsigned i = 0; i < 2 * LIMIT; i++)
        assert_int_equal(items[i].base.err.code, i % 2 == 0 ? ERR_OK : ERR_RESOURCE_EXHAUSTED);
    assert_string_equal(items[1].base.err.subject, "max_keys");
    assert_int_equal(rig_keys(&rig), LIMIT);
    assert_string_equal(rig_get(&rig, keys[0]), "new");
    assert_int_equal(counter_read(&desk.backend->stats.calls), 2 * LIMIT);
    assert_int_equal(counter_read(&desk.backend->stats.errors), LIMIT);
    assert_true(desk_close(&desk));
    rig_close(&rig);
}

static void test_expiry_in_a_window(void **state)
{
    struct kv_put_item items[] = {item("stays", "1"), item("goes", "2")};
    struct kv_get_item got[] = {{.base.key = slice_str("goes")}, {.base.key = slice_str("stays")}};
    struct rig rig;
    struct desk desk;

    (void)state;
    rig_open(&rig, 64, 0, 0);
    desk_open(&desk, &rig, 0);
    items[1].ttl_ms = 100;
    assert_true(put_many(&desk, items, 2));
    assert_true(get_many(&desk, got, 2));
    assert_true(got[0].found && got[1].found);
    rig_pass_ms(&rig, 100);
    assert_true(get_many(&desk, got, 2));
    assert_false(got[0].found);
    assert_true(got[1].found);
    assert_true(desk_close(&desk));
    rig_close(&rig);
}

/* ---- many threads: shards grow and shrink under the eyes of those that look ahead ---- */

struct actor {
    pthread_t thread;
    struct rig *rig;
    unsigned number;
    const char *fault;
};

static const char *one_round(struct desk *desk, char (*keys)[32], size_t n)
{
    struct kv_put_item put[ITEMS];
    struct kv_get_item get[ITEMS];
    struct kv_del_item del[ITEMS];

    for (size_t i = 0; i < n; i++) {
        put[i] = item(keys[i], keys[i]);
        get[i] = (struct kv_get_item){.base.key = put[i].base.key};
        del[i] = (struct kv_del_item){.base.key = put[i].base.key};
    }
    if (!put_many(desk, put, n) || !get_many(desk, get, n) || !del_many(desk, del, n))
        return "an operation that was not done once, later, and well";
    for (size_t i = 0; i < n; i++) {
        if (put[i].base.err.code != ERR_OK || !get[i].found || !del[i].existed ||
            !slice_equal(get[i].value, put[i].value))
            return "an own key came or went";
    }
    arena_clear(&desk->arena);
    return NULL;
}

static void *act(void *arg)
{
    struct actor *actor = arg;
    uint64_t seed = 7 + actor->number;
    char keys[ITEMS][32];
    struct desk desk;

    desk_open(&desk, actor->rig, actor->number);
    for (unsigned i = 0; i < ITEMS; i++)
        snprintf(keys[i], sizeof keys[i], "own-%u-%u", actor->number, i);
    for (unsigned round = 0; round < ROUNDS && actor->fault == NULL; round++)
        actor->fault = one_round(&desk, keys, 1 + rig_random(&seed) % ITEMS);
    if (!desk_close(&desk) && actor->fault == NULL)
        actor->fault = "an instance that was not closed";
    return NULL;
}

static void run_threads(unsigned hash_bits)
{
    struct actor actors[THREADS];
    struct rig rig;

    rig_open(&rig, hash_bits, 0, 0);
    for (unsigned i = 0; i < THREADS; i++) {
        actors[i] = (struct actor){.rig = &rig, .number = i};
        assert_int_equal(pthread_create(&actors[i].thread, NULL, act, &actors[i]), 0);
    }
    for (unsigned i = 0; i < THREADS; i++)
        pthread_join(actors[i].thread, NULL);
    for (unsigned i = 0; i < THREADS; i++) {
        if (actors[i].fault != NULL)
            fail_msg("%s", actors[i].fault);
    }
    assert_int_equal(rig_keys(&rig), 0);
    assert_int_equal(memstore_totals(rig.store).bytes, 0);
    rig_close(&rig);
}

static void test_windows_of_many_threads(void **state)
{
    (void)state;
    run_threads(64);
    run_threads(28); /* every bit of position, none below */
    run_threads(1);  /* two shards, one tag each */
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_one_key_many_times),
        cmocka_unit_test(test_items_are_refused_one_by_one),
        cmocka_unit_test(test_expiry_in_a_window),
        cmocka_unit_test(test_windows_of_many_threads),
    };

    return cmocka_run_group_tests_name("memstore windows", tests, NULL, NULL);
}
