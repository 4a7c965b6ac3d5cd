/* The pattern's type: its operations offline, where calls run, its settings, its metrics. */
#include "tests/pattern/keyvalue/kv.h"

#include <unistd.h>

static const struct pattern_operation *find(const struct pattern_operation *list, size_t n,
                                            const char *name, const char *variant)
{
    for (size_t i = 0; i < n; i++) {
        bool same = variant == NULL
                        ? list[i].variant == NULL
                        : list[i].variant != NULL && strcmp(list[i].variant, variant) == 0;

        if (same && strcmp(list[i].name, name) == 0)
            return &list[i];
    }
    fail_msg("no operation %s", name);
    return NULL;
}

static size_t operations(unsigned mask, bool in_process, uint32_t emulate,
                         struct pattern_operation *out, size_t max)
{
    struct fake_world world;
    const struct backend_type *slots[1] = {&world.type};

    fake_world_init(&world, mask);
    fake_world_in_process(&world, in_process);

    size_t n = pattern_keyvalue.operations(slots, &emulate, out, max);

    fake_world_clear(&world);
    return n;
}

static void test_operations_offline(void **state)
{
    struct pattern_operation list[32];
    size_t n = operations(FAKE_AS_S3, false, 0, list, ARRAY_LEN(list));
    const struct pattern_operation *batch = find(list, n, "StoreBatch", NULL);
    const struct pattern_operation *scan = find(list, n, "Scan", NULL);

    (void)state;
    assert_int_equal(n, 18);
    assert_int_equal(find(list, n, "Store", NULL)->how, PATTERN_NATIVE);
    assert_null(find(list, n, "Store", NULL)->why);
    assert_int_equal(find(list, n, "Store", "expiration")->how, PATTERN_UNAVAILABLE);
    assert_int_equal(batch->how, PATTERN_UNAVAILABLE);
    assert_non_null(strstr(batch->why, "emulate: [keyvalue_batch]"));
    assert_non_null(strstr(scan->why, "KeyValueScanInterface"));

    n = operations(FAKE_AS_S3, false, 1u << BACKEND_KV_BATCH, list, ARRAY_LEN(list));
    batch = find(list, n, "StoreBatch", NULL);
    assert_int_equal(batch->how, PATTERN_EMULATED);
    assert_int_equal(find(list, n, "StoreBatch", "atomic")->how, PATTERN_UNAVAILABLE);

    n = operations(FAKE_AS_MEMSTORE, true, 0, list, ARRAY_LEN(list));
    batch = find(list, n, "RemoveBatch", NULL);
    assert_int_equal(batch->how, PATTERN_PIPELINED);

    n = operations(FAKE_AS_REDIS, false, 0, list, ARRAY_LEN(list));
    for (size_t i = 0; i < n; i++) {
        assert_int_equal(list[i].how, PATTERN_NATIVE);
    }
}

static void test_operations_of_an_empty_slot(void **state)
{
    struct pattern_operation list[32];
    const struct backend_type *slots[1] = {NULL};
    uint32_t emulate = 0;
    size_t n = pattern_keyvalue.operations(slots, &emulate, list, ARRAY_LEN(list));

    (void)state;
    for (size_t i = 0; i < n; i++) {
        assert_int_equal(list[i].how, PATTERN_UNAVAILABLE);
        assert_non_null(list[i].why);
    }
    assert_int_equal(pattern_keyvalue.operations(slots, &emulate, list, 3), 3);
}

/* A backend that would emulate expiry does so where the slot asks for it, and says so. */
static void test_expiry_that_the_backend_emulates(void **state)
{
    struct fake_world world;
    const struct backend_type *slots[1] = {&world.type};
    struct pattern_operation list[32];
    uint32_t emulate = 0;
    size_t n;

    (void)state;
    fake_world_init(&world, FAKE_AS_S3);
    world.type.emulations.kv_ttl = fake_interfaces.kv_ttl;
    n = pattern_keyvalue.operations(slots, &emulate, list, ARRAY_LEN(list));
    assert_int_equal(find(list, n, "SetExpiration", NULL)->how, PATTERN_UNAVAILABLE);
    assert_non_null(strstr(find(list, n, "SetExpiration", NULL)->why, "emulate: [keyvalue_ttl]"));
    emulate = 1u << BACKEND_KV_TTL;
    n = pattern_keyvalue.operations(slots, &emulate, list, ARRAY_LEN(list));
    assert_int_equal(find(list, n, "SetExpiration", NULL)->how, PATTERN_EMULATED);
    assert_int_equal(find(list, n, "Store", "expiration")->how, PATTERN_EMULATED);
    assert_int_equal(find(list, n, "Store", NULL)->how, PATTERN_NATIVE);
    fake_world_clear(&world);
}

static void test_registry(void **state)
{
    (void)state;
    assert_ptr_equal(pattern_find(slice_str("keyvalue")), &pattern_keyvalue);
    assert_null(pattern_find(slice_str("keyvalues")));
    assert_non_null(pattern_all()[0]);
}

static void test_slot(void **state)
{
    const struct slot_schema *slot = &pattern_keyvalue.slots[0];

    (void)state;
    assert_int_equal(pattern_keyvalue.slot_count, 1);
    assert_string_equal(slot->name, "primary");
    assert_false(slot->optional);
    assert_int_equal(slot->required[0], BACKEND_KV_BASIC);
    assert_int_equal(slot->required[1], BACKEND_INTERFACE_COUNT);
    assert_int_equal(slot->emulatable[0], BACKEND_KV_BATCH);
    assert_int_equal(slot->emulatable[1], BACKEND_INTERFACE_COUNT);
}

static void test_defaults_keep_their_own_bounds(void **state)
{
    (void)state;
    for (const struct backend_setting *s = pattern_keyvalue.behavior; s->name != NULL; s++) {
        uint64_t number = strtoull(s->fallback, NULL, 10);

        assert_int_equal(s->kind, SETTING_UINT);
        assert_true(number >= s->min && number <= s->max);
        assert_non_null(s->doc);
    }
}

/* Which methods may run on the poller: the plan decides, by the backend. */
static void test_inline_only_within_the_process(void **state)
{
    struct fake_rig *rig = kv_rig(FAKE_ALL);

    (void)state;
    for (size_t s = 0; pattern_keyvalue.services[s] != NULL; s++)
        assert_null(pattern_keyvalue.inline_bytes(rig->pattern, s));
    kv_rig_free(rig);
    rig = kv_rig_memstore();
    for (size_t s = 0; pattern_keyvalue.services[s] != NULL; s++) {
        const struct service *service = pattern_keyvalue.services[s];
        const uint32_t *bytes = pattern_keyvalue.inline_bytes(rig->pattern, s);

        for (size_t m = 0; m < service->method_count; m++) {
            const char *rpc = strrchr(service->methods[m].path, '/') + 1;
            bool walks = strstr(rpc, "Scan") != NULL || strcmp(rpc, "Count") == 0;

            assert_int_equal(bytes[m] == 0, walks);
            if (strstr(rpc, "Batch") != NULL)
                assert_in_range(bytes[m], 1, 2560);
        }
    }
    kv_rig_free(rig);
}

static void test_methods_fit_their_kind(void **state)
{
    (void)state;
    for (size_t s = 0; pattern_keyvalue.services[s] != NULL; s++) {
        const struct service *service = pattern_keyvalue.services[s];

        assert_string_equal(service->pattern, "keyvalue");
        for (size_t m = 0; m < service->method_count; m++) {
            const struct method *method = &service->methods[m];

            assert_true(strncmp(method->path + 1, service->name, strlen(service->name)) == 0);
            assert_non_null(method->handle);
            assert_int_equal(method->kind == METHOD_SERVER_STREAM,
                             strstr(strrchr(method->path, '/'), "Scan") != NULL);
        }
    }
}

/* ---- metrics ---- */

static size_t count(const char *text, const char *what)
{
    size_t n = 0;

    for (const char *at = text; (at = strstr(at, what)) != NULL; at++)
        n++;
    return n;
}

static void test_metrics_sum_over_workers_of_a_namespace(void **state)
{
    struct fake_rig *rigs[2] = {kv_rig_memstore(), kv_rig(FAKE_ALL)};
    struct kv_batch_request *batch = kv_store_batch(25);
    struct pattern *instances[3];
    struct pattern other;
    struct metrics_page page;

    (void)state;
    for (size_t i = 0; i < 2; i++) {
        worker_set_current(&rigs[i]->worker);
        fake_call_free(kv_run(rigs[i], "StoreBatch", &batch->message.base));
        instances[i] = rigs[i]->pattern;
    }
    metrics_page_init(&page);
    pattern_keyvalue.render(instances, 2, &page);
    assert_int_equal(count(page.text, "# TYPE prism_keyvalue_batch_items_total counter"), 1);
    assert_non_null(strstr(page.text, "prism_keyvalue_batch_items_total"
                                      "{namespace=\"default\",operation=\"store\"} 50"));
    assert_non_null(
        strstr(page.text,
               "prism_keyvalue_batch_permits_total{namespace=\"default\"} 7")); /* 3 windows, 4
                                                                                   batches of 8 */
    metrics_page_clear(&page);

    other = *rigs[1]->pattern; /* two namespaces: one head, two samples */
    rigs[1]->pattern->namespace_name = "other";
    metrics_page_init(&page);
    pattern_keyvalue.render(instances, 2, &page);
    assert_int_equal(count(page.text, "# TYPE prism_keyvalue_scan_pages_total counter"), 1);
    assert_int_equal(count(page.text, "prism_keyvalue_scan_pages_total{namespace="), 2);
    metrics_page_clear(&page);
    *rigs[1]->pattern = other;
    for (size_t i = 0; i < 2; i++)
        kv_rig_free(rigs[i]);
    free(batch);
}

static void test_a_warning_for_an_emulated_scan(void **state)
{
    struct fake_rig *rig = kv_rig_unbound(FAKE_ALL);
    pb_scan_request request = kv_scan("");
    struct kv_scan emulated = *fake_interfaces.kv_scan;
    char text[512] = "";
    int ends[2];

    (void)state;
    assert_int_equal(pipe(ends), 0);
    log_configure(LOG_INFO, ends[1]);
    emulated.emulated = true;
    rig->world.type.interfaces.kv_scan = &emulated;
    fake_rig_bind(rig);
    for (int i = 0; i < 5; i++) {
        struct call *call = kv_run(rig, "Scan", &request.base);

        kv_assert_ok(call);
        fake_call_free(call);
    }
    log_configure(LOG_INFO, 2);
    assert_true(read(ends[0], text, sizeof text - 1) > 0);
    assert_int_equal(count(text, "keyvalue_scan_emulated"), 1); /* once a minute */
    close(ends[0]);
    close(ends[1]);
    kv_rig_free(rig);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_operations_offline),
        cmocka_unit_test(test_operations_of_an_empty_slot),
        cmocka_unit_test(test_expiry_that_the_backend_emulates),
        cmocka_unit_test(test_registry),
        cmocka_unit_test(test_slot),
        cmocka_unit_test(test_defaults_keep_their_own_bounds),
        cmocka_unit_test(test_inline_only_within_the_process),
        cmocka_unit_test(test_methods_fit_their_kind),
        cmocka_unit_test(test_metrics_sum_over_workers_of_a_namespace),
        cmocka_unit_test(test_a_warning_for_an_emulated_scan),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
