/* GetCapabilities, for each backend of the protocol's table and every combination of
 * interfaces. */
#include "tests/pattern/keyvalue/kv.h"

#define KV(name)  PRISM__PATTERNS__KEYVALUE__##name
#define ALL(name) PRISM__PATTERNS__SCHEMAS__##name

static void assert_available(const pb_capabilities *caps, const char *name, const char *variant,
                             bool available)
{
    const schema_operation_capability *operation = kv_find(caps, name, variant);

    assert_int_equal(operation->availability,
                     available ? ALL(AVAILABILITY__AVAILABLE) : ALL(AVAILABILITY__UNAVAILABLE));
    assert_true((operation->unavailable_reason != NULL) == !available);
    assert_true((operation->how == ALL(IMPLEMENTATION__IMPLEMENTATION_UNSPECIFIED)) == !available);
    assert_true((operation->backend_calls[0] == '\0') == !available);
}

/* ---- the protocol's table, one test for each backend ---- */

struct expected {
    const char *type;
    unsigned mask;
    bool in_process, emulated_scan;
    uint64_t key_bytes, value_bytes;
    bool batch, scan, expiration, transactions, preconditions;
    int scan_performance, batch_performance;
};

static const struct kv_scan *emulated_scan(void)
{
    static struct kv_scan scan;

    scan = *fake_interfaces.kv_scan;
    scan.emulated = true;
    scan.ordered = false;
    scan.calls = "n";
    return &scan;
}

static void assert_flags(const pb_capabilities *caps, const struct expected *e)
{
    assert_string_equal(caps->slots->primary_backend_type, e->type);
    assert_int_equal(caps->supports_batch, e->batch);
    assert_int_equal(caps->supports_scan, e->scan);
    assert_int_equal(caps->supports_expiration, e->expiration);
    assert_int_equal(caps->supports_transactions, e->transactions);
    assert_int_equal(caps->supports_preconditions, e->preconditions);
    assert_int_equal(caps->scan_performance, e->scan_performance);
    assert_int_equal(caps->batch_performance, e->batch_performance);
    assert_int_equal(caps->_max_key_size_case != 0, e->key_bytes != 0);
    assert_int_equal(caps->max_key_size, e->key_bytes);
    int64_t readable = FAKE_MAX_MESSAGE_BYTES - 1024; /* what every read can answer */

    assert_true(caps->_max_value_size_case != 0);
    assert_int_equal(caps->max_value_size, e->value_bytes != 0 && (int64_t)e->value_bytes < readable
                                               ? (int64_t)e->value_bytes
                                               : readable);
}

/* Flags and operations have to say the same. */
static void assert_operations(const pb_capabilities *caps, const struct expected *e)
{
    static const char *const always[] = {"GetCapabilities", "Store", "Retrieve", "Remove",
                                         "Exists"};
    static const char *const batches[] = {"StoreBatch", "RetrieveBatch", "RemoveBatch"};
    static const char *const expiries[] = {"SetExpiration", "GetExpiration", "ClearExpiration"};

    for (size_t i = 0; i < ARRAY_LEN(always); i++)
        assert_available(caps, always[i], "", true);
    for (size_t i = 0; i < ARRAY_LEN(batches); i++)
        assert_available(caps, batches[i], "", e->batch);
    for (size_t i = 0; i < ARRAY_LEN(expiries); i++)
        assert_available(caps, expiries[i], "", e->expiration);
    assert_available(caps, "Store", "expiration", e->expiration);
    assert_available(caps, "Store", "if_absent", e->preconditions);
    assert_available(caps, "Store", "if_version", e->preconditions);
    assert_available(caps, "StoreBatch", "atomic", e->transactions);
    assert_available(caps, "RemoveBatch", "atomic", e->transactions);
    assert_available(caps, "Scan", "", e->scan);
    assert_available(caps, "Count", "", e->scan);
    assert_int_equal(caps->n_operations, 18);
}

static void check_backend(const struct expected *e)
{
    struct fake_rig *rig = kv_rig_unbound(e->mask);

    rig->world.type.name = e->type;
    fake_world_in_process(&rig->world, e->in_process);
    rig->world.type.limits.key_bytes = e->key_bytes;
    rig->world.type.limits.value_bytes = e->value_bytes;
    if (e->emulated_scan)
        rig->world.type.interfaces.kv_scan = emulated_scan();
    fake_rig_bind(rig);

    struct call *call = kv_ask(rig);

    assert_flags(kv_caps(call), e);
    assert_operations(kv_caps(call), e);
    fake_call_free(call);
    kv_rig_free(rig);
}

static void test_redis(void **state)
{
    (void)state;
    check_backend(&(struct expected){
        .type = "redis",
        .mask = FAKE_AS_REDIS,
        .key_bytes = 512u << 20,
        .value_bytes = 512u << 20,
        .batch = true,
        .scan = true,
        .expiration = true,
        .transactions = true,
        .preconditions = true,
        .scan_performance = KV(SCAN_PERFORMANCE__SCAN_NATIVE),
        .batch_performance = KV(BATCH_PERFORMANCE__BATCH_NATIVE),
    });
}

static void test_postgres(void **state)
{
    (void)state;
    check_backend(&(struct expected){
        .type = "postgres",
        .mask = FAKE_AS_POSTGRES,
        .key_bytes = 8192,
        .batch = true,
        .scan = true,
        .transactions = true,
        .preconditions = true,
        .scan_performance = KV(SCAN_PERFORMANCE__SCAN_NATIVE),
        .batch_performance = KV(BATCH_PERFORMANCE__BATCH_NATIVE),
    });
}

static void test_memstore(void **state)
{
    (void)state;
    check_backend(&(struct expected){
        .type = "memstore",
        .mask = FAKE_AS_MEMSTORE,
        .in_process = true,
        .key_bytes = 1 << 20,
        .batch = true,
        .scan = true,
        .expiration = true,
        .preconditions = true,
        .scan_performance = KV(SCAN_PERFORMANCE__SCAN_NATIVE),
        .batch_performance = KV(BATCH_PERFORMANCE__BATCH_PIPELINE),
    });
}

static void test_dynamodb(void **state)
{
    (void)state;
    check_backend(&(struct expected){
        .type = "dynamodb",
        .mask = FAKE_AS_DYNAMODB,
        .emulated_scan = true,
        .key_bytes = 2048,
        .value_bytes = 409600,
        .batch = true,
        .scan = true,
        .expiration = true,
        .transactions = true,
        .preconditions = true,
        .scan_performance = KV(SCAN_PERFORMANCE__SCAN_EMULATED),
        .batch_performance = KV(BATCH_PERFORMANCE__BATCH_NATIVE),
    });
}

static void test_s3(void **state)
{
    (void)state;
    check_backend(&(struct expected){
        .type = "s3",
        .mask = FAKE_AS_S3,
        .key_bytes = 1024,
        .value_bytes = 5368709120,
        .scan_performance = KV(SCAN_PERFORMANCE__SCAN_UNAVAILABLE),
        .batch_performance = KV(BATCH_PERFORMANCE__BATCH_UNAVAILABLE),
    });
}

static void test_unknown_type_is_judged_by_its_interfaces(void **state)
{
    (void)state;
    check_backend(&(struct expected){
        .type = "never-heard-of",
        .mask = FAKE_BASIC | FAKE_SCAN,
        .scan = true,
        .scan_performance = KV(SCAN_PERFORMANCE__SCAN_NATIVE),
        .batch_performance = KV(BATCH_PERFORMANCE__BATCH_UNAVAILABLE),
    });
}

/* ---- every mask ---- */

static void test_every_combination_of_interfaces(void **state)
{
    (void)state;
    for (unsigned mask = FAKE_BASIC; mask <= FAKE_ALL; mask++) {
        if ((mask & FAKE_BASIC) == 0)
            continue;
        for (int in_process = 0; in_process < 2; in_process++) {
            bool native = (mask & FAKE_BATCH) != 0, scan = (mask & FAKE_SCAN) != 0;

            check_backend(&(struct expected){
                .type = "fake",
                .mask = mask,
                .in_process = in_process != 0,
                .batch = native || in_process != 0,
                .scan = scan,
                .expiration = (mask & FAKE_TTL) != 0,
                .transactions = (mask & FAKE_TXN) != 0,
                .preconditions = (mask & FAKE_CAS) != 0,
                .scan_performance = scan ? KV(SCAN_PERFORMANCE__SCAN_NATIVE)
                                         : KV(SCAN_PERFORMANCE__SCAN_UNAVAILABLE),
                .batch_performance = native            ? KV(BATCH_PERFORMANCE__BATCH_NATIVE)
                                     : in_process != 0 ? KV(BATCH_PERFORMANCE__BATCH_PIPELINE)
                                                       : KV(BATCH_PERFORMANCE__BATCH_UNAVAILABLE),
            });
        }
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_redis),
        cmocka_unit_test(test_postgres),
        cmocka_unit_test(test_memstore),
        cmocka_unit_test(test_dynamodb),
        cmocka_unit_test(test_s3),
        cmocka_unit_test(test_unknown_type_is_judged_by_its_interfaces),
        cmocka_unit_test(test_every_combination_of_interfaces),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
