/* GetCapabilities: limits, costs, reasons, and what happens when facts change. */
#include "tests/pattern/keyvalue/kv.h"

#define KV(name)  PRISM__PATTERNS__KEYVALUE__##name
#define ALL(name) PRISM__PATTERNS__SCHEMAS__##name

static const struct kv_scan *emulated_scan(void)
{
    static struct kv_scan scan;

    scan = *fake_interfaces.kv_scan;
    scan.emulated = true;
    scan.ordered = false;
    scan.calls = "n";
    return &scan;
}

/* ---- what is listed ---- */

static void test_interfaces_are_named(void **state)
{
    struct fake_rig *rig = kv_rig(FAKE_AS_MEMSTORE);
    struct call *call = kv_ask(rig);
    const pb_slot_configuration *slots = kv_caps(call)->slots;

    (void)state;
    assert_int_equal(slots->n_primary_interfaces, 4);
    assert_string_equal(slots->primary_interfaces[0], "KeyValueBasicInterface");
    assert_string_equal(slots->primary_interfaces[1], "KeyValueTTLInterface");
    assert_string_equal(slots->primary_interfaces[2], "KeyValueScanInterface");
    assert_string_equal(slots->primary_interfaces[3], "KeyValueCASInterface");
    fake_call_free(call);
    kv_rig_free(rig);
}

static void test_s3_only_basic_is_named(void **state)
{
    struct fake_rig *rig = kv_rig(FAKE_AS_S3);
    struct call *call = kv_ask(rig);

    (void)state;
    assert_int_equal(kv_caps(call)->slots->n_primary_interfaces, 1);
    fake_call_free(call);
    kv_rig_free(rig);
}

static void test_unavailable_names_interface_and_remedy(void **state)
{
    struct fake_rig *rig = kv_rig(FAKE_AS_S3);
    struct call *call = kv_ask(rig);
    const schema_operation_capability *scan = kv_find(kv_caps(call), "Scan", "");
    const schema_operation_capability *batch = kv_find(kv_caps(call), "StoreBatch", "");
    const schema_unavailable_reason *why = batch->unavailable_reason;

    (void)state;
    assert_string_equal(scan->unavailable_reason->message,
                        "scan not supported: backend does not implement KeyValueScanInterface");
    assert_string_equal(scan->unavailable_reason->missing_interface, "KeyValueScanInterface");
    assert_true(scan->unavailable_reason->n_provided_by > 0); /* some backend of ours scans */
    assert_string_equal(why->missing_interface, "KeyValueBatchInterface");
    assert_string_equal(why->provided_by[why->n_provided_by - 1], "emulate: [keyvalue_batch]");
    fake_call_free(call);
    kv_rig_free(rig);
}

static void test_emulated_batches_say_so(void **state)
{
    struct fake_rig *rig = kv_rig_emulating(FAKE_AS_S3);
    struct call *call = kv_ask(rig);
    const schema_operation_capability *batch = kv_find(kv_caps(call), "StoreBatch", "");

    (void)state;
    assert_true(kv_caps(call)->supports_batch);
    assert_int_equal(kv_caps(call)->batch_performance, KV(BATCH_PERFORMANCE__BATCH_PIPELINE));
    assert_int_equal(batch->how, ALL(IMPLEMENTATION__EMULATED));
    assert_string_equal(batch->backend_calls, "n");
    assert_int_equal(batch->limits->max_in_flight, 10);
    fake_call_free(call);
    kv_rig_free(rig);
}

static void test_native_batches_tell_their_cost(void **state)
{
    struct fake_rig *rig = kv_rig(FAKE_ALL);
    struct call *call = kv_ask(rig);
    const schema_operation_capability *batch = kv_find(kv_caps(call), "RetrieveBatch", "");
    const schema_operation_capability *atomic = kv_find(kv_caps(call), "StoreBatch", "atomic");

    (void)state;
    assert_int_equal(batch->how, ALL(IMPLEMENTATION__NATIVE));
    assert_string_equal(batch->backend_calls, "ceil(n/8)");
    assert_int_equal(batch->ordering, ALL(ORDERING__REQUEST_ORDER));
    assert_int_equal(batch->limits->max_items, 10000);
    assert_int_equal(batch->limits->max_response_bytes, 4 << 20);
    assert_string_equal(atomic->backend_calls, "1");
    assert_int_equal(atomic->atomicity, ALL(ATOMICITY__ALL_OR_NOTHING));
    assert_int_equal(atomic->limits->max_items, 20);
    fake_call_free(call);
    kv_rig_free(rig);
}

static void test_memstore_batches_are_pipelined(void **state)
{
    struct fake_rig *rig = kv_rig_memstore();
    struct call *call = kv_ask(rig);
    const schema_operation_capability *batch = kv_find(kv_caps(call), "RemoveBatch", "");

    (void)state;
    assert_int_equal(batch->how, ALL(IMPLEMENTATION__PIPELINED));
    assert_int_equal(batch->atomicity, ALL(ATOMICITY__PER_ITEM));
    fake_call_free(call);
    kv_rig_free(rig);
}

static void test_width_follows_the_backend_or_the_setting(void **state)
{
    static const struct {
        uint32_t advised;
        uint64_t setting;
        int32_t width;
    } cases[] = {{0, 0, 10}, {64, 0, 64}, {64, 3, 3}, {0, 25, 25}};

    (void)state;
    for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
        struct fake_rig *rig = kv_rig_unbound(FAKE_BASIC);

        rig->emulate = 1u << BACKEND_KV_BATCH;
        rig->world.type.limits.pipeline = cases[i].advised;
        fake_rig_set(rig, "emulation_width", cases[i].setting);
        fake_rig_bind(rig);

        struct call *call = kv_ask(rig);

        assert_int_equal(kv_find(kv_caps(call), "StoreBatch", "")->limits->max_in_flight,
                         cases[i].width);
        fake_call_free(call);
        kv_rig_free(rig);
    }
}

static void test_scan_tells_order_pages_and_cost(void **state)
{
    struct fake_rig *rig = kv_rig_unbound(FAKE_ALL);

    (void)state;
    fake_rig_set(rig, "scan_page_items", 50);
    fake_rig_set(rig, "scan_max_limit", 7000);
    fake_rig_bind(rig);

    struct call *call = kv_ask(rig);
    const schema_operation_capability *scan = kv_find(kv_caps(call), "Scan", "");

    assert_int_equal(scan->ordering, ALL(ORDERING__KEY_ORDER));
    assert_string_equal(scan->backend_calls, "ceil(m/50)");
    assert_int_equal(scan->limits->default_limit, 100);
    assert_int_equal(scan->limits->max_limit, 7000);
    fake_call_free(call);
    kv_rig_free(rig);
}

static void test_emulated_scan_tells_its_cost(void **state)
{
    struct fake_rig *rig = kv_rig_unbound(FAKE_ALL);

    (void)state;
    rig->world.type.interfaces.kv_scan = emulated_scan();
    fake_rig_bind(rig);

    struct call *call = kv_ask(rig);
    const schema_operation_capability *scan = kv_find(kv_caps(call), "Scan", "");

    assert_int_equal(scan->how, ALL(IMPLEMENTATION__EMULATED));
    assert_int_equal(scan->ordering, ALL(ORDERING__UNORDERED));
    assert_string_equal(scan->backend_calls, "ceil(m/256) * (n)");
    fake_call_free(call);
    kv_rig_free(rig);
}

static void test_limits_of_keys_values_and_expiry(void **state)
{
    struct fake_rig *rig = kv_rig_unbound(FAKE_ALL);

    (void)state;
    rig->world.type.limits = (struct backend_limits){.key_bytes = 77, .value_bytes = 999};
    fake_rig_bind(rig);

    struct call *call = kv_ask(rig);
    const schema_operation_capability *store = kv_find(kv_caps(call), "Store", "expiration");

    assert_int_equal(store->limits->max_key_bytes, 77);
    assert_int_equal(store->limits->max_value_bytes, 999);
    assert_int_equal(store->limits->expiration_step_ms, 1);
    assert_null(kv_find(kv_caps(call), "GetCapabilities", "")->limits);
    fake_call_free(call);
    kv_rig_free(rig);
}

/* ---- acknowledgements and changing facts ---- */

static void test_acknowledgement_of_every_kind(void **state)
{
    static const struct {
        enum backend_ack ack;
        int told;
    } cases[] = {
        {BACKEND_ACK_UNKNOWN, ALL(ACKNOWLEDGEMENT__UNKNOWN)},
        {BACKEND_ACK_MEMORY, ALL(ACKNOWLEDGEMENT__MEMORY)},
        {BACKEND_ACK_DISK, ALL(ACKNOWLEDGEMENT__DISK)},
        {BACKEND_ACK_QUORUM_MEMORY, ALL(ACKNOWLEDGEMENT__QUORUM_MEMORY)},
        {BACKEND_ACK_QUORUM_DISK, ALL(ACKNOWLEDGEMENT__QUORUM_DISK)},
    };
    struct fake_rig *rig = kv_rig(FAKE_ALL);

    (void)state;
    for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
        atomic_store(&rig->world.store.ack, (int)cases[i].ack);
        atomic_fetch_add(&rig->world.store.facts_version, 1);

        struct call *call = kv_ask(rig);

        assert_int_equal(kv_find(kv_caps(call), "Store", "")->acknowledgement, cases[i].told);
        assert_int_equal(kv_find(kv_caps(call), "Retrieve", "")->acknowledgement,
                         ALL(ACKNOWLEDGEMENT__ACKNOWLEDGEMENT_UNSPECIFIED));
        fake_call_free(call);
    }
    kv_rig_free(rig);
}

static int64_t generation_with(struct fake_rig *rig, enum backend_ack ack)
{
    atomic_store(&rig->world.store.ack, (int)ack);
    atomic_fetch_add(&rig->world.store.facts_version, 1);

    struct call *call = kv_ask(rig);
    int64_t generation = kv_caps(call)->generation;

    fake_call_free(call);
    return generation;
}

static void test_the_generation_follows_the_content(void **state)
{
    struct fake_rig *rig = kv_rig(FAKE_ALL);
    int64_t memory = generation_with(rig, BACKEND_ACK_MEMORY);

    (void)state;
    assert_true(memory > 0);
    assert_int_not_equal(generation_with(rig, BACKEND_ACK_DISK), memory);
    assert_int_equal(generation_with(rig, BACKEND_ACK_MEMORY), memory);
    kv_rig_free(rig);
}

static void test_a_withdrawn_interface_changes_plan_and_answer(void **state)
{
    struct fake_rig *rig = kv_rig(FAKE_ALL);
    pb_store_request request = kv_store_for("k", "v", 60);
    struct call *call = kv_run(rig, "Store", &request.base);

    (void)state;
    kv_assert_ok(call);
    fake_call_free(call);
    fake_world_offer(&rig->world, FAKE_BASIC);
    call = kv_ask(rig);
    assert_false(kv_caps(call)->supports_expiration);
    assert_false(kv_caps(call)->supports_scan);
    fake_call_free(call);
    call = kv_run(rig, "Store", &request.base);
    assert_false(((pb_store_response *)call->reply)->success);
    fake_call_free(call);
    fake_world_offer(&rig->world, FAKE_ALL);
    call = kv_ask(rig);
    assert_true(kv_caps(call)->supports_expiration);
    fake_call_free(call);
    kv_rig_free(rig);
}

static void test_same_answer_each_time(void **state)
{
    struct fake_rig *rig = kv_rig(FAKE_ALL);
    struct call *first = kv_ask(rig), *second = kv_ask(rig);
    size_t bytes = protobuf_c_message_get_packed_size(first->reply);
    uint8_t *a = malloc(bytes), *b = malloc(bytes);

    (void)state;
    assert_int_equal(protobuf_c_message_get_packed_size(second->reply), bytes);
    protobuf_c_message_pack(first->reply, a);
    protobuf_c_message_pack(second->reply, b);
    assert_memory_equal(a, b, bytes);
    free(a);
    free(b);
    fake_call_free(first);
    fake_call_free(second);
    kv_rig_free(rig);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_interfaces_are_named),
        cmocka_unit_test(test_s3_only_basic_is_named),
        cmocka_unit_test(test_unavailable_names_interface_and_remedy),
        cmocka_unit_test(test_emulated_batches_say_so),
        cmocka_unit_test(test_native_batches_tell_their_cost),
        cmocka_unit_test(test_memstore_batches_are_pipelined),
        cmocka_unit_test(test_width_follows_the_backend_or_the_setting),
        cmocka_unit_test(test_scan_tells_order_pages_and_cost),
        cmocka_unit_test(test_emulated_scan_tells_its_cost),
        cmocka_unit_test(test_limits_of_keys_values_and_expiry),
        cmocka_unit_test(test_acknowledgement_of_every_kind),
        cmocka_unit_test(test_the_generation_follows_the_content),
        cmocka_unit_test(test_a_withdrawn_interface_changes_plan_and_answer),
        cmocka_unit_test(test_same_answer_each_time),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
