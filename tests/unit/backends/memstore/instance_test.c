/* Instances on workers: the sweeper's timer, who inherits it, closing; counts in slices; settings;
 * metrics. Workers have no thread here: the test drives them and tells their timers the time. */
#include "backends/memstore/roster.h"
#include "src/base/metrics.h"
#include "tests/unit/backends/memstore/desk.h"

enum { KEYS = 3000, LARGE = 100000, COUNTS = 64 };

static void fill(struct rig *rig, unsigned n, uint64_t ttl_ms)
{
    char key[32];

    for (unsigned i = 0; i < n; i++)
        rig_put_ok(rig, rig_key(key, i), "v", ttl_ms);
}

/* ---- the sweeper ---- */

static void test_an_idle_store_is_reclaimed(void **state)
{
    struct rig rig;
    struct desk desk;

    (void)state;
    rig_open(&rig, 64, 0, 0);
    desk_open(&desk, &rig, 0);
    fill(&rig, KEYS, 0);
    drain(&desk);
    assert_int_equal(desk.worker.timers.armed, 0); /* no deadline, no timer */
    fill(&rig, KEYS, 5000);
    drain(&desk);
    assert_int_equal(desk.worker.timers.armed, 1);
    rig_pass_ms(&rig, 4000);
    tick(&desk, 3000);
    assert_int_equal(rig_keys(&rig), KEYS);
    rig_pass_ms(&rig, 1100);
    for (unsigned i = 0; i < KEYS && rig_keys(&rig) > 0; i++)
        tick(&desk, 1001);
    assert_int_equal(rig_keys(&rig), 0);
    for (unsigned i = 0; i < 5; i++)
        tick(&desk, 1001);
    assert_int_equal(desk.worker.timers.armed, 0); /* and it comes to rest */
    assert_false(rig.store->sweep.active);

    rig_put_ok(&rig, "again", "v", 100);
    drain(&desk);
    assert_int_equal(desk.worker.timers.armed, 1);
    desk_close(&desk);
    rig_close(&rig);
}

/* One turn of the timer is a bounded piece of work; the next comes a millisecond later. */
static void test_sweeping_in_small_pieces(void **state)
{
    struct rig rig;
    struct desk desk;
    unsigned turns = 0;

    (void)state;
    rig_open(&rig, 64, 0, 0);
    desk_open(&desk, &rig, 0);
    fill(&rig, LARGE, 1000);
    drain(&desk);
    rig_pass_ms(&rig, 2000);
    tick(&desk, 1001);
    while (rig_keys(&rig) > 0) {
        uint64_t before = rig_keys(&rig);

        tick(&desk, 2);
        assert_true(before - rig_keys(&rig) <= 1100); /* a step may free two of one tag */
        turns++;
    }
    assert_in_range(turns, LARGE / 1100, LARGE / 50);
    desk_close(&desk);
    rig_close(&rig);
}

/* Of identities, too; and who calls meanwhile takes out a few, not all that are there. */
static void test_identities_go_in_small_pieces(void **state)
{
    enum { MOST_IN_A_TURN = 1024, MOST_BY_A_CALL = 8 };
    struct registry_beat_item nobody = {.identity = slice_str("nobody")};
    struct rig rig;
    struct desk desk;
    uint64_t left = LARGE;
    char name[32];

    (void)state;
    rig_open(&rig, 64, 0, 0);
    desk_open(&desk, &rig, 0);
    for (unsigned i = 0; i < LARGE; i++) {
        struct registry_put_item item = {.identity = slice_str(rig_key(name, i)), .ttl_ms = 1000};

        roster_put(rig.store->roster, &item, 0);
        assert_int_equal(item.err.code, ERR_OK);
    }
    drain(&desk);
    rig_pass_ms(&rig, 2000);
    for (uint64_t ms = 1001, before; left > MOST_BY_A_CALL; ms = 2) {
        before = left;
        roster_beat(rig.store->roster, &nobody, 0);
        left = roster_totals(rig.store->roster).identities;
        assert_in_range(before - left, 1, MOST_BY_A_CALL);
        before = left;
        tick(&desk, ms);
        left = roster_totals(rig.store->roster).identities;
        assert_in_range(before - left, 1, MOST_IN_A_TURN);
    }
    desk_close(&desk);
    rig_close(&rig);
}

/* The sweeper leaves while keys wait to expire: the other instance takes over, on its own worker.
 */
static void test_another_takes_over(void **state)
{
    struct rig rig;
    struct desk first, second;

    (void)state;
    rig_open(&rig, 64, 0, 0);
    desk_open(&first, &rig, 0);
    desk_open(&second, &rig, 1);
    fill(&rig, KEYS, 1000);
    drain(&first);
    drain(&second);
    assert_int_equal(first.worker.timers.armed + second.worker.timers.armed, 1);

    struct desk *sweeper = first.worker.timers.armed > 0 ? &first : &second;
    struct desk *other = sweeper == &first ? &second : &first;

    desk_close(sweeper);
    drain(other);
    assert_int_equal(other->worker.timers.armed, 1);
    rig_pass_ms(&rig, 2000);
    for (unsigned i = 0; i < KEYS && rig_keys(&rig) > 0; i++)
        tick(other, 1001);
    assert_int_equal(rig_keys(&rig), 0);
    desk_close(other);
    rig_close(&rig);
}

/* It leaves before it has even noticed that it was woken. */
static void test_closing_while_being_woken(void **state)
{
    struct rig rig;
    struct desk desk;

    (void)state;
    rig_open(&rig, 64, 0, 0);
    desk_open(&desk, &rig, 0);
    rig_put_ok(&rig, "key", "v", 1000);
    desk_close(&desk);
    assert_false(rig.store->sweep.active);

    /* Whoever comes next finds the work. */
    desk_open(&desk, &rig, 0);
    drain(&desk);
    assert_int_equal(desk.worker.timers.armed, 1);
    desk_close(&desk);
    rig_put_ok(&rig, "nobody is there", "v", 1000);
    rig_close(&rig);
}

/* ---- single operations ---- */

static void nothing(struct op *op)
{
    assert_int_equal(op->err.code, ERR_OK);
}

/* Each takes effect after those that were started before it, whatever they are. */
static void test_operations_follow_their_starts(void **state)
{
    struct rig rig;
    struct desk desk;
    struct slice key = slice_str("key");
    struct kv_put put = {.key = key, .value = slice_str("one")};
    struct kv_get first = {.key = key, .want_version = true}, last = {.key = key};
    struct kv_put_if only_new = {.key = key, .value = slice_str("two"), .condition = KV_IF_ABSENT};
    struct kv_del del = {.key = key};
    struct kv_exists exists = {.key = key};
    struct kv_expire expire = {.key = key, .ttl_ms = 5000};
    struct kv_persist persist = {.key = key};
    struct kv_ttl_get ttl = {.key = key};
    struct kv_put_if again = {.key = key, .value = slice_str("three"), .condition = KV_IF_ABSENT};
    struct op *ops[] = {&put.op, &expire.op, &first.op,  &persist.op, &only_new.op,
                        &ttl.op, &del.op,    &exists.op, &again.op,   &last.op};

    (void)state;
    rig_open(&rig, 64, 0, 0);
    desk_open(&desk, &rig, 0);

    const struct kv_basic *basic = desk.backend->has.kv_basic;
    const struct kv_cas *cas = desk.backend->has.kv_cas;
    const struct kv_ttl *ttls = desk.backend->has.kv_ttl;

    for (size_t i = 0; i < ARRAY_LEN(ops); i++)
        op_start(ops[i], &desk.group, nothing);
    basic->put(desk.backend, &put);
    ttls->expire(desk.backend, &expire);
    basic->get(desk.backend, &first);
    ttls->persist(desk.backend, &persist);
    cas->put_if(desk.backend, &only_new);
    ttls->get(desk.backend, &ttl);
    basic->del(desk.backend, &del);
    basic->exists(desk.backend, &exists);
    cas->put_if(desk.backend, &again);
    basic->get(desk.backend, &last);
    drain(&desk);
    assert_true(first.found && slice_equal(first.value, slice_str("one")));
    assert_int_equal(first.version.len, MEMSTORE_VERSION_BYTES);
    assert_true(expire.existed);
    assert_true(persist.removed);
    assert_true(ttl.found && !ttl.has_ttl);
    assert_false(only_new.stored);
    assert_true(del.existed);
    assert_false(exists.found);
    assert_true(again.stored);
    assert_true(last.found && slice_equal(last.value, slice_str("three")));
    desk_close(&desk);
    rig_close(&rig);
}

/* ---- counts ---- */

struct counting {
    struct kv_count request; /* first */
    bool done;
};

static void on_counted(struct op *op)
{
    struct counting *counting = CONTAINER_OF(op, struct counting, request.op);

    counting->done = true;
}

static void count_start(struct counting *counting, struct desk *desk)
{
    *counting = (struct counting){.done = false};
    worker_set_current(&desk->worker);
    op_start(&counting->request.op, &desk->group, on_counted);
    desk->backend->has.kv_scan->count(desk->backend, &counting->request);
    assert_false(counting->done);
}

static void on_neighbour(struct job *job)
{
    job->run = NULL;
}

/* Many counts share one slice: whoever lands a job waits for that slice only, and the counts end in
 * the order in which they came. */
static void test_counts_take_turns_with_others(void **state)
{
    struct rig rig;
    struct desk desk;
    struct counting countings[COUNTS];
    struct job neighbour = {.run = on_neighbour};

    (void)state;
    rig_open(&rig, 64, 0, 0);
    desk_open(&desk, &rig, 0);
    fill(&rig, LARGE, 3600000); /* with an expiry: every key has to be looked at */
    drain(&desk);
    for (unsigned i = 0; i < COUNTS; i++)
        count_start(&countings[i], &desk);
    worker_land(&desk.worker, &neighbour);
    assert_int_equal(worker_drain(&desk.worker, 1), 1);
    assert_non_null(neighbour.run);
    assert_int_equal(worker_drain(&desk.worker, 1), 1);
    assert_null(neighbour.run);
    assert_false(countings[COUNTS - 1].done);
    while (!countings[COUNTS - 1].done) {
        assert_int_equal(worker_drain(&desk.worker, 1), 1);
        for (unsigned i = 1; i < COUNTS; i++)
            assert_true(countings[i - 1].done || !countings[i].done);
    }
    for (unsigned i = 0; i < COUNTS; i++) {
        assert_int_equal(countings[i].request.op.err.code, ERR_OK);
        assert_int_equal(countings[i].request.count, LARGE);
    }
    desk_close(&desk);
    rig_close(&rig);
}

/* A page does not stand behind the counts that came before it, nor they behind pages. */
static void test_pages_and_counts_side_by_side(void **state)
{
    struct rig rig;
    struct desk desk;
    struct counting countings[COUNTS];
    struct kv_scan_page page = {.prefix = slice_str("key"), .max_items = 100, .max_bytes = 1000};

    (void)state;
    rig_open(&rig, 64, 0, 0);
    desk_open(&desk, &rig, 0);
    fill(&rig, LARGE, 3600000);
    drain(&desk);
    for (unsigned i = 0; i < COUNTS; i++)
        count_start(&countings[i], &desk);
    op_start(&page.op, &desk.group, nothing);
    desk.backend->has.kv_scan->page(desk.backend, &page);
    for (unsigned i = 0; i < 3; i++)
        worker_drain(&desk.worker, 1);
    assert_int_equal(page.op.state, OP_IDLE);
    assert_true(page.n > 0 && page.more);
    assert_false(countings[COUNTS - 1].done);
    op_group_cancel(&desk.group, err_make(ERR_CANCELLED, "the caller went away"));
    drain(&desk);
    assert_true(countings[COUNTS - 1].done);
    assert_int_equal(countings[COUNTS - 1].request.op.err.code, ERR_CANCELLED);
    desk_close(&desk);
    rig_close(&rig);
}

static void test_closing_ends_counts(void **state)
{
    struct rig rig;
    struct desk desk;
    struct counting countings[COUNTS];

    (void)state;
    rig_open(&rig, 64, 0, 0);
    desk_open(&desk, &rig, 0);
    fill(&rig, LARGE, 3600000);
    for (unsigned i = 0; i < COUNTS; i++)
        count_start(&countings[i], &desk);
    worker_drain(&desk.worker, 1);
    desk_leave(&desk);
    drain(&desk);
    assert_true(desk.closed);
    for (unsigned i = COUNTS / 2; i < COUNTS; i++) {
        assert_true(countings[i].done);
        assert_int_equal(countings[i].request.op.err.code, ERR_UNAVAILABLE);
    }
    assert_int_equal(desk.worker.timers.armed, 0);
    worker_clear(&desk.worker);
    rig_close(&rig);
}

/* ---- the type ---- */

static void test_settings(void **state)
{
    const struct backend_setting *settings = backend_memstore.settings;
    const struct backend_value values[16] = {{.text = "", .number = 2}}; /* 0 = no limit */
    const struct backend_options options = {
        .namespace_name = "ns", .slot = "primary", .values = values};
    struct backend_store *store = NULL;
    struct memstore_write write = {.key = slice_str("a")};

    (void)state;
    assert_string_equal(settings[0].name, "max_keys");
    assert_string_equal(settings[1].name, "max_bytes");
    for (unsigned i = 0; settings[i].name != NULL; i++)
        assert_true(i < ARRAY_LEN(values) - 1);
    for (unsigned i = 0; i < 2; i++) {
        uint64_t fallback = strtoull(settings[i].fallback, NULL, 10);

        assert_int_equal(settings[i].kind, SETTING_UINT);
        assert_true(fallback > settings[i].min && fallback < settings[i].max);
    }
    assert_int_equal(backend_memstore.store_open(&store, &options).code, ERR_OK);

    struct memstore *memstore = CONTAINER_OF(store, struct memstore, base);

    assert_int_equal(memstore_write(memstore, &write).code, ERR_OK);
    write.key = slice_str("b");
    assert_int_equal(memstore_write(memstore, &write).code, ERR_OK);
    write.key = slice_str("c");
    assert_int_equal(memstore_write(memstore, &write).code, ERR_RESOURCE_EXHAUSTED);
    assert_int_equal(store->ack, BACKEND_ACK_MEMORY);
    assert_string_equal(store->namespace_name, "ns");
    backend_memstore.store_close(store);
}

static unsigned occurrences(const struct metrics_page *page, const char *what)
{
    unsigned n = 0;
    const char *end = page->text + page->len;

    for (const char *at = page->text;
         (at = memmem(at, (size_t)(end - at), what, strlen(what))) != NULL; at++)
        n++;
    return n;
}

static void test_metrics(void **state)
{
    struct rig one, two;
    struct metrics_page page;

    (void)state;
    rig_open(&one, 64, 7, 0);
    rig_open(&two, 64, 0, 0);
    rig_put_ok(&one, "a", "v", 0);
    rig_put_ok(&one, "b", "v", 10);
    rig_pass_ms(&one, 1000);
    rig_sweep(&one);

    struct backend_store *stores[] = {&one.store->base, &two.store->base};

    metrics_page_init(&page);
    backend_memstore.render(stores, 2, &page);
    assert_int_equal(occurrences(&page, "# TYPE prism_memstore_keys gauge\n"), 1);
    assert_int_equal(
        occurrences(&page, "prism_memstore_keys{namespace=\"test\",slot=\"primary\"} 1\n"), 1);
    assert_int_equal(
        occurrences(&page, "prism_memstore_keys{namespace=\"test\",slot=\"primary\"} 0\n"), 1);
    assert_int_equal(
        occurrences(&page, "prism_memstore_keys_limit{namespace=\"test\",slot=\"primary\"} 7\n"),
        1);
    assert_int_equal(
        occurrences(&page, "prism_memstore_expired_total{namespace=\"test\",slot=\"primary\"} 1\n"),
        1);
    metrics_page_clear(&page);
    rig_close(&one);
    rig_close(&two);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_an_idle_store_is_reclaimed),
        cmocka_unit_test(test_sweeping_in_small_pieces),
        cmocka_unit_test(test_identities_go_in_small_pieces),
        cmocka_unit_test(test_another_takes_over),
        cmocka_unit_test(test_closing_while_being_woken),
        cmocka_unit_test(test_operations_follow_their_starts),
        cmocka_unit_test(test_counts_take_turns_with_others),
        cmocka_unit_test(test_pages_and_counts_side_by_side),
        cmocka_unit_test(test_closing_ends_counts),
        cmocka_unit_test(test_settings),
        cmocka_unit_test(test_metrics),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
