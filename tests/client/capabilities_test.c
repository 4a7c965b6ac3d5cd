/* What the client knows about the backend, what it refuses because of that without asking the
 * server, and what it warns of. */
#include "tests/client/fixture.h"

#include "prism/registry.h"

#include "prism/patterns/multicast_registry/multicast_registry_pattern.pb-c.h"
#include "prism/patterns/schemas/slot_schema.pb-c.h"

#include <stdio.h>

typedef Prism__Patterns__Keyvalue__Capabilities capabilities;
typedef Prism__Patterns__Schemas__OperationCapability operation;

struct warnings {
    unsigned count;
    char last[512];
};

static void remember(void *context, enum prism_log_level level, const char *message)
{
    struct warnings *warnings = context;

    assert_int_equal(level, PRISM_LOG_WARNING);
    warnings->count++;
    snprintf(warnings->last, sizeof warnings->last, "%s", message);
}

/* Opens a client on a server that answers GetCapabilities like this. */
static void open_with(struct fixture *f, const capabilities *answer, struct warnings *warnings)
{
    const struct prism_channel_options options = {.log = remember, .log_context = warnings};

    memset(f, 0, sizeof *f);
    f->server = script_server_start(0);
    script_always(f->server,
                  (struct script_step){.method = "GetCapabilities", .messages = {&answer->base}});
    assert_ok(prism_channel_open(script_server_target(f->server), &options, &f->channel, &f->error),
              f->error);
    assert_ok(prism_keyvalue_open(f->channel, &f->keyvalue, &f->error), f->error);
}

static void name_backend(capabilities *answer, Prism__Patterns__Keyvalue__SlotConfiguration *slots,
                         const char *type)
{
    prism__patterns__keyvalue__capabilities__init(answer);
    prism__patterns__keyvalue__slot_configuration__init(slots);
    slots->primary_backend_type = (char *)(uintptr_t)type;
    answer->slots = slots;
}

static void assert_refused(struct fixture *f, enum prism_code code, const char *message)
{
    assert_int_equal(code, PRISM_UNIMPLEMENTED);
    assert_non_null(strstr(f->error.message, message));
    assert_false(f->error.retryable);
}

/* The memo's test: a backend without scan, batch and expiry. */
static void unsupported_operations_are_refused_before_the_call(void **state)
{
    Prism__Patterns__Keyvalue__SlotConfiguration slots;
    capabilities answer;
    struct warnings warnings = {0};
    struct fixture f;
    struct prism_store_options expiring = {.expiration_s = 60};
    struct prism_store_options absent = {.if_absent = true};
    struct prism_retrieve_options versioned = {.with_version = true};
    struct prism_store_item item = {.key = "k", .expiration_s = 1};
    const char *keys[] = {"k"};
    struct prism_scan *scan;
    struct prism_batch batch;
    struct prism_value value;
    int64_t number;

    (void)state;
    name_backend(&answer, &slots, "s3");
    open_with(&f, &answer, &warnings);
    assert_false(prism_keyvalue_capabilities(f.keyvalue)->supports_scan);
    assert_refused(&f, prism_keyvalue_scan(f.keyvalue, NULL, &scan, &f.error),
                   "scan not supported by backend (s3)");
    assert_null(scan);
    assert_refused(&f, prism_keyvalue_count(f.keyvalue, NULL, NULL, &number, &f.error),
                   "count not supported by backend (s3)");
    assert_refused(&f, prism_keyvalue_store(f.keyvalue, "k", item.value, &expiring, NULL, &f.error),
                   "expiration not supported by backend (s3)");
    assert_refused(&f, prism_keyvalue_store(f.keyvalue, "k", item.value, &absent, NULL, &f.error),
                   "if_absent not supported by backend (s3)");
    assert_refused(&f, prism_keyvalue_retrieve(f.keyvalue, "k", &versioned, &value, &f.error),
                   "if_version not supported by backend (s3)");
    assert_refused(&f, prism_keyvalue_set_expiration(f.keyvalue, "k", 5, NULL, NULL, &f.error),
                   "expiration not supported by backend");
    assert_refused(&f, prism_keyvalue_get_expiration(f.keyvalue, "k", NULL, &number, &f.error),
                   "expiration not supported by backend");
    assert_refused(&f, prism_keyvalue_clear_expiration(f.keyvalue, "k", NULL, NULL, &f.error),
                   "expiration not supported by backend");
    assert_refused(&f, prism_keyvalue_store_batch(f.keyvalue, &item, 1, NULL, &batch, &f.error),
                   "batch not supported by backend");
    assert_refused(&f, prism_keyvalue_retrieve_batch(f.keyvalue, keys, 1, NULL, &batch, &f.error),
                   "batch not supported by backend");
    assert_refused(&f, prism_keyvalue_remove_batch(f.keyvalue, keys, 1, NULL, &batch, &f.error),
                   "batch not supported by backend");
    assert_int_equal(script_calls(f.server, "Store") + script_calls(f.server, "Retrieve") +
                         script_calls(f.server, "Scan") + script_calls(f.server, "Count") +
                         script_calls(f.server, "StoreBatch"),
                     0);
    assert_int_equal(warnings.count, 0);
    fixture_close(&f);
}

static void features_of_a_batch_are_refused_with_the_item(void **state)
{
    Prism__Patterns__Keyvalue__SlotConfiguration slots;
    capabilities answer;
    struct warnings warnings = {0};
    const struct prism_batch_options atomic = {.atomic = true};
    struct prism_store_item items[] = {{.key = "a"}, {.key = "b", .expiration_s = 1}};
    const char *keys[] = {"k"};
    struct prism_batch batch;
    struct fixture f;

    (void)state;
    name_backend(&answer, &slots, "postgres");
    answer.supports_batch = true;
    open_with(&f, &answer, &warnings);
    assert_refused(&f, prism_keyvalue_store_batch(f.keyvalue, items, 2, NULL, &batch, &f.error),
                   "expiration not supported by backend (postgres)");
    assert_string_equal(f.error.field, "requests[1]");
    assert_refused(&f, prism_keyvalue_store_batch(f.keyvalue, items, 1, &atomic, &batch, &f.error),
                   "atomic batch not supported by backend (postgres)");
    assert_refused(&f, prism_keyvalue_remove_batch(f.keyvalue, keys, 1, &atomic, &batch, &f.error),
                   "atomic batch not supported by backend (postgres)");
    assert_int_equal(script_calls(f.server, "StoreBatch"), 0);
    fixture_close(&f);
}

static void operations_say_more_than_flags(void **state)
{
    Prism__Patterns__Keyvalue__SlotConfiguration slots;
    Prism__Patterns__Schemas__UnavailableReason reason =
        PRISM__PATTERNS__SCHEMAS__UNAVAILABLE_REASON__INIT;
    Prism__Patterns__Schemas__OperationLimits limits =
        PRISM__PATTERNS__SCHEMAS__OPERATION_LIMITS__INIT;
    operation scan = PRISM__PATTERNS__SCHEMAS__OPERATION_CAPABILITY__INIT;
    operation batch = PRISM__PATTERNS__SCHEMAS__OPERATION_CAPABILITY__INIT;
    operation *list[] = {&scan, &batch};
    const struct prism_keyvalue_capabilities *seen;
    capabilities answer;
    struct warnings warnings = {0};
    struct prism_scan *unused;
    struct fixture f;

    (void)state;
    name_backend(&answer, &slots, "s3");
    answer.supports_scan = true; /* contradicts the operation, which is the more exact */
    scan.operation = (char *)(uintptr_t) "Scan";
    scan.availability = PRISM__PATTERNS__SCHEMAS__AVAILABILITY__UNAVAILABLE;
    reason.message = (char *)(uintptr_t) "scan not supported: backend does not implement "
                                         "KeyValueScanInterface";
    scan.unavailable_reason = &reason;
    batch.operation = (char *)(uintptr_t) "StoreBatch";
    batch.availability = PRISM__PATTERNS__SCHEMAS__AVAILABILITY__AVAILABLE;
    batch.how = PRISM__PATTERNS__SCHEMAS__IMPLEMENTATION__PIPELINED;
    batch.backend_calls = (char *)(uintptr_t) "n";
    batch.atomicity = PRISM__PATTERNS__SCHEMAS__ATOMICITY__PER_ITEM;
    limits._max_items_case = PRISM__PATTERNS__SCHEMAS__OPERATION_LIMITS___MAX_ITEMS_MAX_ITEMS;
    limits.max_items = 1000;
    batch.limits = &limits;
    answer.n_operations = 2;
    answer.operations = list;
    open_with(&f, &answer, &warnings);

    assert_int_equal(prism_keyvalue_scan(f.keyvalue, NULL, &unused, &f.error), PRISM_UNIMPLEMENTED);
    assert_string_equal(f.error.message, "scan not supported by backend (s3): backend does not "
                                         "implement KeyValueScanInterface");
    seen = prism_keyvalue_capabilities(f.keyvalue);
    assert_int_equal(seen->operation_count, 2);
    assert_false(seen->operations[0].available);
    assert_int_equal(seen->operations[0].how, PRISM_UNAVAILABLE_OPERATION);
    assert_true(seen->operations[1].available);
    assert_int_equal(seen->operations[1].how, PRISM_PIPELINED);
    assert_string_equal(seen->operations[1].atomicity, "PER_ITEM");
    assert_string_equal(seen->operations[1].ordering, "");
    assert_int_equal(seen->operations[1].max_items, 1000);
    fixture_close(&f);
}

static void emulation_is_reported_once(void **state)
{
    Prism__Patterns__Keyvalue__SlotConfiguration slots;
    Prism__Patterns__Keyvalue__CountResponse none = PRISM__PATTERNS__KEYVALUE__COUNT_RESPONSE__INIT;
    operation count = PRISM__PATTERNS__SCHEMAS__OPERATION_CAPABILITY__INIT;
    operation *list[] = {&count};
    capabilities answer;
    struct warnings warnings = {0};
    struct prism_scan *scan;
    struct fixture f;
    int64_t number;

    (void)state;
    name_backend(&answer, &slots, "dynamodb");
    answer.supports_scan = true;
    answer.scan_performance = PRISM__PATTERNS__KEYVALUE__SCAN_PERFORMANCE__SCAN_EMULATED;
    count.operation = (char *)(uintptr_t) "Count";
    count.availability = PRISM__PATTERNS__SCHEMAS__AVAILABILITY__AVAILABLE;
    count.how = PRISM__PATTERNS__SCHEMAS__IMPLEMENTATION__CLIENT_SIDE;
    count.backend_calls = (char *)(uintptr_t) "ceil(m/100)";
    answer.n_operations = 1;
    answer.operations = list;
    open_with(&f, &answer, &warnings);
    script_always(f.server, (struct script_step){.method = "Count", .messages = {&none.base}});

    assert_int_equal(warnings.count, 0);
    assert_ok(prism_keyvalue_scan(f.keyvalue, NULL, &scan, &f.error), f.error);
    prism_scan_close(scan);
    assert_int_equal(warnings.count, 1);
    assert_non_null(strstr(warnings.last, "Scan is emulated for backend dynamodb"));
    assert_ok(prism_keyvalue_scan(f.keyvalue, NULL, &scan, &f.error), f.error);
    prism_scan_close(scan);
    assert_int_equal(warnings.count, 1);
    for (int i = 0; i < 3; i++)
        assert_ok(prism_keyvalue_count(f.keyvalue, NULL, NULL, &number, &f.error), f.error);
    assert_int_equal(warnings.count, 2);
    assert_non_null(strstr(warnings.last, "ceil(m/100)"));
    fixture_close(&f);
}

static void flags_and_limits_are_seen(void **state)
{
    Prism__Patterns__Keyvalue__SlotConfiguration slots;
    char *interfaces[] = {(char *)(uintptr_t) "KeyValueBasicInterface",
                          (char *)(uintptr_t) "KeyValueScanInterface"};
    const struct prism_keyvalue_capabilities *seen;
    capabilities answer;
    struct warnings warnings = {0};
    struct fixture f;

    (void)state;
    name_backend(&answer, &slots, "redis");
    slots.n_primary_interfaces = 2;
    slots.primary_interfaces = interfaces;
    answer.supports_batch = answer.supports_scan = true;
    answer.scan_performance = PRISM__PATTERNS__KEYVALUE__SCAN_PERFORMANCE__SCAN_NATIVE;
    answer.batch_performance = PRISM__PATTERNS__KEYVALUE__BATCH_PERFORMANCE__BATCH_PIPELINE;
    answer._max_key_size_case = PRISM__PATTERNS__KEYVALUE__CAPABILITIES___MAX_KEY_SIZE_MAX_KEY_SIZE;
    answer.max_key_size = 536870912;
    open_with(&f, &answer, &warnings);
    seen = prism_keyvalue_capabilities(f.keyvalue);
    assert_string_equal(seen->backend_type, "redis");
    assert_int_equal(seen->interface_count, 2);
    assert_string_equal(seen->interfaces[1], "KeyValueScanInterface");
    assert_true(seen->supports_batch && seen->supports_scan && !seen->supports_expiration);
    assert_int_equal(seen->scan_performance, PRISM_NATIVE);
    assert_int_equal(seen->batch_performance, PRISM_PIPELINED);
    assert_int_equal(seen->max_key_bytes, 536870912);
    assert_int_equal(seen->max_value_bytes, 0);
    fixture_close(&f);
}

/* ---- filters of the registry ---- */

typedef Prism__Patterns__MulticastRegistry__Capabilities registry_capabilities;

static void assert_filters(const registry_capabilities *answer, const char *in_backend,
                           const char *in_prism)
{
    const struct prism_registry_capabilities *seen;
    struct prism_registry *registry;
    struct fixture f = {.server = script_server_start(0)};

    script_always(f.server,
                  (struct script_step){.method = "GetCapabilities", .messages = {&answer->base}});
    assert_ok(prism_channel_open(script_server_target(f.server), NULL, &f.channel, &f.error),
              f.error);
    assert_ok(prism_registry_open(f.channel, &registry, &f.error), f.error);
    seen = prism_registry_capabilities(registry);
    assert_string_equal(seen->filters_in_backend, in_backend);
    assert_string_equal(seen->filters_in_prism, in_prism);
    prism_registry_close(registry);
    fixture_close(&f);
}

static void who_evaluates_filters_is_seen_where_it_is_told(void **state)
{
    Prism__Patterns__MulticastRegistry__FilterOperator all[] = {
        PRISM__PATTERNS__MULTICAST_REGISTRY__FILTER_OPERATOR__EQUALS,
        PRISM__PATTERNS__MULTICAST_REGISTRY__FILTER_OPERATOR__REGEX};
    registry_capabilities answer = PRISM__PATTERNS__MULTICAST_REGISTRY__CAPABILITIES__INIT;

    (void)state;
    answer.n_filter_operators = 2;
    answer.filter_operators = answer.native_filter_operators = all;
    answer.filter_performance =
        PRISM__PATTERNS__MULTICAST_REGISTRY__FILTER_PERFORMANCE__FILTER_CLIENT_SIDE;
    assert_filters(&answer, "", "EQUALS REGEX");
    answer.filter_performance =
        PRISM__PATTERNS__MULTICAST_REGISTRY__FILTER_PERFORMANCE__FILTER_MIXED;
    answer.n_native_filter_operators = 1;
    assert_filters(&answer, "EQUALS", "REGEX");
    answer.filter_performance =
        PRISM__PATTERNS__MULTICAST_REGISTRY__FILTER_PERFORMANCE__FILTER_NATIVE;
    answer.n_native_filter_operators = 2;
    assert_filters(&answer, "EQUALS REGEX", "");
    answer.n_native_filter_operators = 0; /* a server from before the list */
    assert_filters(&answer, "", "");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(unsupported_operations_are_refused_before_the_call),
        cmocka_unit_test(features_of_a_batch_are_refused_with_the_item),
        cmocka_unit_test(operations_say_more_than_flags),
        cmocka_unit_test(emulation_is_reported_once),
        cmocka_unit_test(flags_and_limits_are_seen),
        cmocka_unit_test(who_evaluates_filters_is_seen_where_it_is_told),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
