/* Every method, on every combination of interfaces: whatever fails, and wherever, a call ends once
 * and leaves nothing behind. The call layer of tests aborts otherwise. */
#include "tests/pattern/keyvalue/kv.h"

enum { ITEMS = 23, MASKS = FAKE_ALL + 1 };

/* ---- requests: one for each method, and variants ---- */

struct shot {
    const char *path;
    const ProtobufCMessage *request;
};

struct shots {
    pb_get_capabilities_request capabilities;
    pb_store_request store, store_for, store_if;
    pb_precondition absent;
    pb_retrieve_request retrieve;
    pb_remove_request removal;
    pb_exists_request exists;
    struct kv_batch_request *store_batch, *store_atomic, *store_mixed;
    struct kv_keys_request *keys, *keys_atomic;
    pb_scan_request scan;
    pb_set_expiration_request expire, expire_now;
    pb_get_expiration_request ttl;
    pb_clear_expiration_request clear;
    pb_count_request count;
    old_set_request old_set, *old_sets[2];
    old_batch_set_request old_batch_set;
    old_batch_get_request old_batch_get;
    old_batch_delete_request old_batch_delete;
    old_scan_request old_scan;
    old_scan_keys_request old_scan_keys;
    struct shot list[40];
    size_t n;
};

static void add(struct shots *s, const char *path, const ProtobufCMessage *request)
{
    assert_true(s->n < ARRAY_LEN(s->list));
    s->list[s->n++] = (struct shot){path, request};
}

#define OLD(interface, rpc) "/prism.interfaces.keyvalue.KeyValue" interface "Interface/" rpc

static void make_new(struct shots *s)
{
    prism__patterns__keyvalue__get_capabilities_request__init(&s->capabilities);
    prism__patterns__keyvalue__remove_request__init(&s->removal);
    prism__patterns__keyvalue__exists_request__init(&s->exists);
    prism__patterns__keyvalue__get_expiration_request__init(&s->ttl);
    prism__patterns__keyvalue__clear_expiration_request__init(&s->clear);
    prism__patterns__keyvalue__count_request__init(&s->count);
    s->absent = kv_if_absent(true);
    s->store = s->store_if = kv_store("key00001", "v");
    s->store_if.precondition = &s->absent;
    s->store_for = kv_store_for("key00001", "v", 9);
    s->retrieve = kv_retrieve("key00001");
    s->removal.key = s->exists.key = s->ttl.key = s->clear.key = kv_text("key00001");
    s->expire = kv_set_expiration("key00001", 9);
    s->expire_now = kv_set_expiration("key00001", 0);
    s->scan = kv_scan("");
    kv_scan_values(&s->scan);
    s->store_batch = kv_store_batch(ITEMS);
    s->store_batch->items[4].key = kv_text("");
    s->store_batch->items[9].key = s->store_batch->texts[2];
    s->store_atomic = kv_store_batch(5);
    s->store_atomic->message.atomic = true;
    s->store_mixed = kv_store_batch(ITEMS);
    s->store_mixed->items[3].precondition = &s->absent;
    s->keys = kv_keys(ITEMS);
    s->keys->pointers[7] = s->keys->texts[8];
    s->keys->pointers[11] = kv_text("");
    s->keys_atomic = kv_keys(5);
    s->keys_atomic->remove.atomic = true;
}

static void add_new(struct shots *s)
{
    add(s, "GetCapabilities", &s->capabilities.base);
    add(s, "Store", &s->store.base);
    add(s, "Store", &s->store_for.base);
    add(s, "Store", &s->store_if.base);
    add(s, "Retrieve", &s->retrieve.base);
    add(s, "Remove", &s->removal.base);
    add(s, "Exists", &s->exists.base);
    add(s, "StoreBatch", &s->store_batch->message.base);
    add(s, "StoreBatch", &s->store_atomic->message.base);
    add(s, "StoreBatch", &s->store_mixed->message.base);
    add(s, "RetrieveBatch", &s->keys->retrieve.base);
    add(s, "RemoveBatch", &s->keys->remove.base);
    add(s, "RemoveBatch", &s->keys_atomic->remove.base);
    add(s, "Scan", &s->scan.base);
    add(s, "SetExpiration", &s->expire.base);
    add(s, "SetExpiration", &s->expire_now.base);
    add(s, "GetExpiration", &s->ttl.base);
    add(s, "ClearExpiration", &s->clear.base);
    add(s, "Count", &s->count.base);
}

/* The deprecated messages with one key have the fields of the new ones, so those serve: field 1 is
 * the key. */
static void add_old(struct shots *s)
{
    prism__interfaces__keyvalue__set_request__init(&s->old_set);
    prism__interfaces__keyvalue__batch_set_request__init(&s->old_batch_set);
    prism__interfaces__keyvalue__batch_get_request__init(&s->old_batch_get);
    prism__interfaces__keyvalue__batch_delete_request__init(&s->old_batch_delete);
    prism__interfaces__keyvalue__scan_request__init(&s->old_scan);
    prism__interfaces__keyvalue__scan_keys_request__init(&s->old_scan_keys);
    s->old_set.key = kv_text("key00001");
    s->old_sets[0] = s->old_sets[1] = &s->old_set;
    s->old_batch_set.n_requests = 2;
    s->old_batch_set.requests = s->old_sets;
    s->old_batch_get.n_keys = s->old_batch_delete.n_keys = ITEMS;
    s->old_batch_get.keys = s->old_batch_delete.keys = s->keys->pointers;
    add(s, OLD("Basic", "Set"), &s->old_set.base);
    add(s, OLD("Basic", "Get"), &s->retrieve.base);
    add(s, OLD("Basic", "Delete"), &s->removal.base);
    add(s, OLD("Basic", "Exists"), &s->exists.base);
    add(s, OLD("TTL", "Expire"), &s->removal.base);
    add(s, OLD("TTL", "GetTTL"), &s->ttl.base);
    add(s, OLD("TTL", "Persist"), &s->clear.base);
    add(s, OLD("Batch", "BatchSet"), &s->old_batch_set.base);
    add(s, OLD("Batch", "BatchGet"), &s->old_batch_get.base);
    add(s, OLD("Batch", "BatchDelete"), &s->old_batch_delete.base);
    add(s, OLD("Scan", "Scan"), &s->old_scan.base);
    add(s, OLD("Scan", "ScanKeys"), &s->old_scan_keys.base);
    add(s, OLD("Scan", "Count"), &s->count.base);
}

static struct shots *shots_new(void)
{
    struct shots *s = calloc(1, sizeof *s);

    assert_non_null(s);
    make_new(s);
    add_new(s);
    add_old(s);
    return s;
}

static void shots_free(struct shots *s)
{
    free(s->store_batch);
    free(s->store_atomic);
    free(s->store_mixed);
    free(s->keys);
    free(s->keys_atomic);
    free(s);
}

/* ---- worlds ---- */

struct kind {
    unsigned mask;
    bool in_process, emulate;
    enum fake_mode mode;
    enum fake_order order;
};

static struct fake_rig *rig_new(const struct kind *kind)
{
    struct fake_rig *rig = kv_rig_unbound(kind->mask);

    fake_world_in_process(&rig->world, kind->in_process);
    rig->world.mode = kind->mode;
    rig->world.order = kind->order;
    rig->world.page_limit = 6;
    rig->emulate = kind->emulate ? 1u << BACKEND_KV_BATCH : 0;
    fake_rig_set(rig, "emulation_permits", 7);
    fake_rig_bind(rig);
    kv_fill(rig, ITEMS);
    return rig;
}

/* What is asserted of every end, whatever happened. */
static void check_end(struct call *call)
{
    assert_int_equal(call->ends, 1);
    if (call->status.code == ERR_OK && call->method->kind == METHOD_UNARY)
        assert_non_null(call->reply);
    fake_call_free(call);
}

/* Fails operation 1, then 2 .. until the call goes through untouched. Returns the number of
 * operations it takes. */
static uint64_t torture(const struct shot *shot, const struct kind *kind, enum err_code code)
{
    for (uint64_t n = 1;; n++) {
        struct fake_rig *rig = rig_new(kind);
        uint64_t ops;

        rig->world.fail_at = n;
        rig->world.fail_with = err_make(code, "told to fail");
        check_end(kv_run(rig, shot->path, shot->request));
        ops = rig->world.ops;
        kv_rig_free(rig);
        if (ops < n)
            return ops;
        assert_true(n < 1000);
    }
}

static void test_every_operation_fails_once_on_every_mask(void **state)
{
    struct shots *shots = shots_new();

    (void)state;
    for (unsigned mask = 0; mask < MASKS; mask++) {
        for (size_t i = 0; (mask & FAKE_BASIC) != 0 && i < shots->n; i++) {
            torture(&shots->list[i], &(struct kind){.mask = mask}, ERR_UNAVAILABLE);
            torture(&shots->list[i], &(struct kind){.mask = mask, .in_process = true},
                    ERR_RESOURCE_EXHAUSTED);
            torture(&shots->list[i], &(struct kind){.mask = mask | FAKE_WINDOW, .in_process = true},
                    ERR_RESOURCE_EXHAUSTED);
            torture(&shots->list[i],
                    &(struct kind){.mask = mask, .emulate = true, .mode = FAKE_PARKED},
                    ERR_INTERNAL);
        }
    }
    shots_free(shots);
}

static void test_every_operation_fails_once_out_of_order(void **state)
{
    static const unsigned masks[] = {FAKE_ALL, FAKE_BASIC, FAKE_ALL & ~FAKE_BATCH};
    struct shots *shots = shots_new();

    (void)state;
    for (size_t m = 0; m < ARRAY_LEN(masks); m++) {
        for (size_t i = 0; i < shots->n; i++) {
            for (int order = FAKE_LAST_FIRST; order <= FAKE_SHUFFLED; order++) {
                struct kind kind = {.mask = masks[m],
                                    .emulate = true,
                                    .mode = FAKE_PARKED,
                                    .order = (enum fake_order)order};

                torture(&shots->list[i], &kind, ERR_UNAVAILABLE);
            }
        }
    }
    shots_free(shots);
}

static void test_every_operation_fails_once_on_another_thread(void **state)
{
    struct shots *shots = shots_new();
    struct kind kind = {.mask = FAKE_ALL & ~FAKE_BATCH, .emulate = true, .mode = FAKE_THREAD};

    (void)state;
    for (size_t i = 0; i < shots->n; i++)
        torture(&shots->list[i], &kind, ERR_UNAVAILABLE);
    shots_free(shots);
}

static void test_all_operations_fail(void **state)
{
    struct shots *shots = shots_new();

    (void)state;
    for (unsigned mask = 0; mask < MASKS; mask++) {
        for (size_t i = 0; (mask & FAKE_BASIC) != 0 && i < shots->n; i++) {
            struct fake_rig *rig = rig_new(&(struct kind){.mask = mask, .emulate = true});

            rig->world.fail_at = 1;
            rig->world.fail_last = UINT64_MAX;
            check_end(kv_run(rig, shots->list[i].path, shots->list[i].request));
            kv_rig_free(rig);
        }
    }
    shots_free(shots);
}

/* ---- cancellation and deadlines after each step ---- */

static bool stopped_after(const struct shot *shot, const struct kind *kind, size_t steps,
                          bool deadline)
{
    struct fake_rig *rig = rig_new(kind);
    struct call *call = fake_call_with(rig, shot->path, shot->request, deadline ? 100 : 0, true);
    bool over;

    for (size_t i = 0; i < steps; i++) {
        fake_rig_drain(rig);
        if (fake_release(&rig->world, 1) == 0 && !fake_call_take(call))
            break;
    }
    fake_rig_drain(rig);
    over = call->ends > 0;
    if (deadline)
        fake_rig_advance(rig, 200);
    /* A deadline reaches operations; a reader that takes nothing is told by the transport. */
    if (!deadline || call->ends == 0)
        fake_call_cancel(call);
    fake_rig_run(rig);
    check_end(call);
    kv_rig_free(rig);
    return over;
}

static void test_cancelled_and_late_after_every_step(void **state)
{
    static const unsigned masks[] = {FAKE_ALL, FAKE_ALL & ~FAKE_BATCH};
    struct shots *shots = shots_new();

    (void)state;
    for (size_t m = 0; m < ARRAY_LEN(masks); m++) {
        struct kind kind = {.mask = masks[m], .emulate = true, .mode = FAKE_PARKED};

        for (size_t i = 0; i < shots->n; i++) {
            for (size_t steps = 0; !stopped_after(&shots->list[i], &kind, steps, false); steps++)
                assert_true(steps < 1000);
            for (size_t steps = 0; !stopped_after(&shots->list[i], &kind, steps, true); steps++)
                assert_true(steps < 1000);
        }
    }
    shots_free(shots);
}

/* ---- many calls at a time ---- */

static void test_all_methods_at_once(void **state)
{
    struct shots *shots = shots_new();
    struct kind kind = {.mask = FAKE_ALL & ~FAKE_BATCH,
                        .emulate = true,
                        .mode = FAKE_PARKED,
                        .order = FAKE_SHUFFLED};
    struct fake_rig *rig = rig_new(&kind);
    struct call *calls[10 * 40];
    size_t n = 0;

    (void)state;
    for (size_t round = 0; round < 10; round++) {
        for (size_t i = 0; i < shots->n; i++)
            calls[n++] = fake_call(rig, shots->list[i].path, shots->list[i].request);
    }
    for (size_t i = 0; i < n; i += 7)
        fake_call_cancel(calls[i]);
    fake_rig_run(rig);
    for (size_t i = 0; i < n; i++)
        check_end(calls[i]);
    kv_rig_free(rig);
    shots_free(shots);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_every_operation_fails_once_on_every_mask),
        cmocka_unit_test(test_every_operation_fails_once_out_of_order),
        cmocka_unit_test(test_every_operation_fails_once_on_another_thread),
        cmocka_unit_test(test_all_operations_fail),
        cmocka_unit_test(test_cancelled_and_late_after_every_step),
        cmocka_unit_test(test_all_methods_at_once),
    };

    log_configure(LOG_OFF, 2);
    return cmocka_run_group_tests(tests, NULL, NULL);
}
