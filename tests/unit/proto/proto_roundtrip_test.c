/* What the generated C has to keep: the presence of optional fields, the bytes of the deprecated
 * messages, fields it does not know, and an allocator's trust when decoding fails. */
#include "prism/interfaces/keyvalue/keyvalue_batch.pb-c.h"
#include "prism/interfaces/keyvalue/keyvalue_ttl.pb-c.h"
#include "prism/interfaces/proxy_control_plane.pb-c.h"
#include "prism/interfaces/pubsub/pubsub_basic.pb-c.h"
#include "prism/patterns/keyvalue/keyvalue_pattern.pb-c.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

/* ---- helpers ---- */

/* Short names for what protobuf-c spells out. */
typedef Prism__Patterns__Keyvalue__StoreRequest store_request;
typedef Prism__Patterns__Keyvalue__StoreResponse store_response;
typedef Prism__Patterns__Keyvalue__ScanRequest scan_request;
typedef Prism__Patterns__Keyvalue__Capabilities capabilities;
typedef Prism__Patterns__Schemas__OperationCapability operation_capability;

#define STORE_REQUEST(field)  PRISM__PATTERNS__KEYVALUE__STORE_REQUEST___##field
#define STORE_RESPONSE(field) PRISM__PATTERNS__KEYVALUE__STORE_RESPONSE___##field
#define SCAN_REQUEST(field)   PRISM__PATTERNS__KEYVALUE__SCAN_REQUEST___##field
#define PRECONDITION(field)   PRISM__PATTERNS__KEYVALUE__PRECONDITION__CONDITION_##field

/* Packs, and unpacks into a new message, which the caller frees. */
static void *round_trip(const void *message)
{
    const ProtobufCMessage *base = message;
    size_t len = protobuf_c_message_get_packed_size(base);
    uint8_t *bytes = malloc(len + 1);

    assert_non_null(bytes);
    assert_int_equal(protobuf_c_message_pack(base, bytes), len);
    void *copy = protobuf_c_message_unpack(base->descriptor, NULL, len, bytes);
    assert_non_null(copy);
    free(bytes);
    return copy;
}

static void release(void *message)
{
    protobuf_c_message_free_unpacked(message, NULL);
}

/* Bytes in use, and how many allocations are still granted. */
struct meter {
    size_t live;
    size_t granted;
};

static void *meter_alloc(void *data, size_t size)
{
    struct meter *meter = data;
    void *ptr = meter->granted > 0 ? malloc(size) : NULL;

    if (ptr != NULL) {
        meter->granted--;
        meter->live++;
    }
    return ptr;
}

static void meter_free(void *data, void *ptr)
{
    struct meter *meter = data;

    if (ptr != NULL)
        meter->live--;
    free(ptr);
}

/* ---- presence ---- */

static void optional_number_tells_absent_from_zero(void **state)
{
    (void)state;
    for (int64_t seconds = -1; seconds <= 60; seconds++) {
        store_request request = PRISM__PATTERNS__KEYVALUE__STORE_REQUEST__INIT;

        if (seconds >= 0) {
            request._expiration_seconds_case = STORE_REQUEST(EXPIRATION_SECONDS_EXPIRATION_SECONDS);
            request.expiration_seconds = seconds;
        }
        store_request *copy = round_trip(&request);
        assert_int_equal(copy->_expiration_seconds_case, request._expiration_seconds_case);
        if (seconds >= 0)
            assert_int_equal(copy->expiration_seconds, seconds);
        release(copy);
    }
}

static void optional_text_tells_absent_from_empty(void **state)
{
    char *const texts[] = {NULL, "", "expiration not supported by backend"};

    (void)state;
    for (size_t i = 0; i < sizeof texts / sizeof texts[0]; i++) {
        store_response response = PRISM__PATTERNS__KEYVALUE__STORE_RESPONSE__INIT;

        if (texts[i] != NULL) {
            response._error_case = STORE_RESPONSE(ERROR_ERROR);
            response.error = texts[i];
        }
        store_response *copy = round_trip(&response);
        assert_int_equal(copy->_error_case, response._error_case);
        if (texts[i] != NULL)
            assert_string_equal(copy->error, texts[i]);
        release(copy);
    }
}

static void optional_bytes_tell_absent_from_empty(void **state)
{
    uint8_t version[] = {0, 0xff, 0};

    (void)state;
    for (size_t len = 0; len <= sizeof version; len++) {
        store_response response = PRISM__PATTERNS__KEYVALUE__STORE_RESPONSE__INIT;

        response._version_case = STORE_RESPONSE(VERSION_VERSION);
        response.version = (ProtobufCBinaryData){.len = len, .data = version};
        store_response *copy = round_trip(&response);
        assert_int_equal(copy->_version_case, STORE_RESPONSE(VERSION_VERSION));
        assert_int_equal(copy->version.len, len);
        assert_true(len == 0 || memcmp(copy->version.data, version, len) == 0);
        release(copy);
    }
    store_response none = PRISM__PATTERNS__KEYVALUE__STORE_RESPONSE__INIT;
    store_response *copy = round_trip(&none);
    assert_int_equal(copy->_version_case, STORE_RESPONSE(VERSION__NOT_SET));
    release(copy);
}

/* Every combination: a generator that mixed up two presence bits would pass one field at a time. */
static void optional_fields_are_independent(void **state)
{
    (void)state;
    for (unsigned mask = 0; mask < 16; mask++) {
        scan_request request = PRISM__PATTERNS__KEYVALUE__SCAN_REQUEST__INIT;

        if (mask & 1) {
            request._prefix_case = SCAN_REQUEST(PREFIX_PREFIX);
            request.prefix = "";
        }
        if (mask & 2) {
            request._limit_case = SCAN_REQUEST(LIMIT_LIMIT);
            request.limit = 0;
        }
        if (mask & 4)
            request._include_values_case = SCAN_REQUEST(INCLUDE_VALUES_INCLUDE_VALUES);
        if (mask & 8) {
            request._max_bytes_case = SCAN_REQUEST(MAX_BYTES_MAX_BYTES);
            request.max_bytes = INT64_MAX;
        }
        scan_request *copy = round_trip(&request);
        assert_int_equal(copy->_prefix_case != 0, (mask & 1) != 0);
        assert_int_equal(copy->_limit_case != 0, (mask & 2) != 0);
        assert_int_equal(copy->_include_values_case != 0, (mask & 4) != 0);
        assert_int_equal(copy->_max_bytes_case != 0, (mask & 8) != 0);
        assert_int_equal(copy->_cursor_case, SCAN_REQUEST(CURSOR__NOT_SET));
        release(copy);
    }
}

static void message_and_oneof_keep_presence(void **state)
{
    store_request request = PRISM__PATTERNS__KEYVALUE__STORE_REQUEST__INIT;
    Prism__Common__Tags tags = PRISM__COMMON__TAGS__INIT;
    Prism__Patterns__Keyvalue__Precondition condition =
        PRISM__PATTERNS__KEYVALUE__PRECONDITION__INIT;

    (void)state;
    store_request *copy = round_trip(&request);
    assert_null(copy->tags);
    assert_null(copy->precondition);
    release(copy);

    request.tags = &tags;
    request.precondition = &condition;
    copy = round_trip(&request);
    assert_non_null(copy->tags);
    assert_non_null(copy->precondition);
    assert_int_equal(copy->precondition->condition_case, PRECONDITION(_NOT_SET));
    release(copy);

    condition.condition_case = PRECONDITION(IF_ABSENT);
    copy = round_trip(&request);
    assert_int_equal(copy->precondition->condition_case, PRECONDITION(IF_ABSENT));
    assert_false(copy->precondition->if_absent);
    release(copy);

    condition.condition_case = PRECONDITION(IF_VERSION);
    condition.if_version = (ProtobufCBinaryData){.len = 2, .data = (uint8_t *)"\0\1"};
    copy = round_trip(&request);
    assert_int_equal(copy->precondition->condition_case, PRECONDITION(IF_VERSION));
    assert_int_equal(copy->precondition->if_version.len, 2);
    assert_memory_equal(copy->precondition->if_version.data, "\0\1", 2);
    release(copy);
}

static void nested_capabilities_survive(void **state)
{
    Prism__Patterns__Schemas__OperationLimits limits =
        PRISM__PATTERNS__SCHEMAS__OPERATION_LIMITS__INIT;
    Prism__Patterns__Schemas__UnavailableReason reason =
        PRISM__PATTERNS__SCHEMAS__UNAVAILABLE_REASON__INIT;
    operation_capability scan = PRISM__PATTERNS__SCHEMAS__OPERATION_CAPABILITY__INIT;
    operation_capability store = PRISM__PATTERNS__SCHEMAS__OPERATION_CAPABILITY__INIT;
    operation_capability *operations[] = {&scan, &store};
    capabilities caps = PRISM__PATTERNS__KEYVALUE__CAPABILITIES__INIT;

    (void)state;
    reason.missing_interface = "KeyValueScanInterface";
    scan.operation = "Scan";
    scan.availability = PRISM__PATTERNS__SCHEMAS__AVAILABILITY__UNAVAILABLE;
    scan.unavailable_reason = &reason;
    limits._max_items_case = PRISM__PATTERNS__SCHEMAS__OPERATION_LIMITS___MAX_ITEMS_MAX_ITEMS;
    limits.max_items = 1000;
    store.operation = "Store";
    store.limits = &limits;
    caps.n_operations = 2;
    caps.operations = operations;

    capabilities *copy = round_trip(&caps);
    assert_int_equal(copy->n_operations, 2);
    assert_string_equal(copy->operations[0]->operation, "Scan");
    assert_int_equal(copy->operations[0]->availability,
                     PRISM__PATTERNS__SCHEMAS__AVAILABILITY__UNAVAILABLE);
    assert_string_equal(copy->operations[0]->unavailable_reason->missing_interface,
                        "KeyValueScanInterface");
    assert_null(copy->operations[0]->limits);
    assert_null(copy->operations[1]->unavailable_reason);
    assert_int_equal(copy->operations[1]->limits->max_items, 1000);
    assert_int_equal(copy->operations[1]->limits->_default_limit_case, 0);
    release(copy);
}

/* ---- bytes of the deprecated messages, written out by hand from the field numbers ---- */

struct golden {
    const ProtobufCMessageDescriptor *type;
    size_t len;
    const char *bytes;
};

#define GOLDEN(name, text)                                                                         \
    {                                                                                              \
        .type = &prism__interfaces__##name##__descriptor, .len = sizeof text - 1, .bytes = text    \
    }

static const char set_request_bytes[] = "\x0a\x02k1"           /* 1 key */
                                        "\x12\x03\x00\xff\x10" /* 2 value */
                                        "\x1a\x0d"             /* 3 tags: one entry of 11 bytes */
                                        "\x0a\x0b\x0a\x03"
                                        "env\x12\x04prod";

static const struct golden golden[] = {
    GOLDEN(keyvalue__set_request, set_request_bytes),
    /* 1 success, 3 key_existed; the empty error takes no byte */
    GOLDEN(keyvalue__expire_response, "\x08\x01\x18\x01"),
    /* 1 ttl_seconds = -2, ten bytes */
    GOLDEN(keyvalue__get_ttlresponse, "\x08\xfe\xff\xff\xff\xff\xff\xff\xff\xff\x01"),
    /* 1 results: {1 found, 2 value "v"} and an empty one; 2 found_count */
    GOLDEN(keyvalue__batch_get_response, "\x0a\x05\x08\x01\x12\x01v\x0a\x00\x10\x01"),
    /* 1 topic, 2 payload, 3 metadata, 4 message_id, 5 timestamp */
    GOLDEN(pubsub__message, "\x0a\x01t\x12\x01p\x1a\x06\x0a\x01"
                            "a\x12\x01"
                            "b\x22\x01m\x28\x01"),
    /* 1 correlation_id, 2 register {1 pattern_name, 3 process_id} */
    GOLDEN(pattern_message, "\x0a\x01"
                            "c\x12\x05\x0a\x01p\x18\x07"),
};

static void deprecated_bytes_come_back(void **state)
{
    uint8_t again[64];

    (void)state;
    for (size_t i = 0; i < sizeof golden / sizeof golden[0]; i++) {
        const struct golden *g = &golden[i];
        ProtobufCMessage *message =
            protobuf_c_message_unpack(g->type, NULL, g->len, (const uint8_t *)g->bytes);

        assert_non_null(message);
        assert_int_equal(message->n_unknown_fields, 0);
        assert_int_equal(protobuf_c_message_get_packed_size(message), g->len);
        assert_int_equal(protobuf_c_message_pack(message, again), g->len);
        assert_memory_equal(again, g->bytes, g->len);
        release(message);
    }
}

static void deprecated_set_request_is_written_as_ever(void **state)
{
    Prism__Common__Tags__TagsEntry env = PRISM__COMMON__TAGS__TAGS_ENTRY__INIT;
    Prism__Common__Tags__TagsEntry *entries[] = {&env};
    Prism__Common__Tags tags = PRISM__COMMON__TAGS__INIT;
    Prism__Interfaces__Keyvalue__SetRequest request =
        PRISM__INTERFACES__KEYVALUE__SET_REQUEST__INIT;
    uint8_t value[] = {0x00, 0xff, 0x10};
    uint8_t bytes[64];

    (void)state;
    env.key = "env";
    env.value = "prod";
    tags.n_tags = 1;
    tags.tags = entries;
    request.key = "k1";
    request.value = (ProtobufCBinaryData){.len = sizeof value, .data = value};
    request.tags = &tags;
    size_t len = prism__interfaces__keyvalue__set_request__pack(&request, bytes);
    assert_int_equal(len, sizeof set_request_bytes - 1);
    assert_memory_equal(bytes, set_request_bytes, len);
}

static void deprecated_fields_land_where_they_belong(void **state)
{
    const struct golden *g = &golden[0];

    (void)state;
    Prism__Interfaces__Keyvalue__SetRequest *set =
        prism__interfaces__keyvalue__set_request__unpack(NULL, g->len, (const uint8_t *)g->bytes);
    assert_string_equal(set->key, "k1");
    assert_int_equal(set->value.len, 3);
    assert_memory_equal(set->value.data, "\x00\xff\x10", 3);
    assert_int_equal(set->tags->n_tags, 1);
    assert_string_equal(set->tags->tags[0]->key, "env");
    assert_string_equal(set->tags->tags[0]->value, "prod");
    release(set);

    g = &golden[5];
    Prism__Interfaces__PatternMessage *pattern =
        prism__interfaces__pattern_message__unpack(NULL, g->len, (const uint8_t *)g->bytes);
    assert_int_equal(pattern->message_case, PRISM__INTERFACES__PATTERN_MESSAGE__MESSAGE_REGISTER);
    assert_int_equal(pattern->register_->process_id, 7);
    release(pattern);
}

/* ---- the future, and damage ---- */

static void unknown_fields_are_kept(void **state)
{
    /* 1 key "k"; 3 expiration_seconds 0; 100 "new" */
    static const uint8_t bytes[] = "\x0a\x01k\x18\x00\xa2\x06\x03new";
    size_t len = sizeof bytes - 1;
    uint8_t again[sizeof bytes];

    (void)state;
    store_request *request = prism__patterns__keyvalue__store_request__unpack(NULL, len, bytes);
    assert_non_null(request);
    assert_string_equal(request->key, "k");
    assert_int_equal(request->_expiration_seconds_case,
                     STORE_REQUEST(EXPIRATION_SECONDS_EXPIRATION_SECONDS));
    assert_int_equal(request->base.n_unknown_fields, 1);
    assert_int_equal(prism__patterns__keyvalue__store_request__pack(request, again), len);
    assert_memory_equal(again, bytes, len);
    release(request);
}

static void cut_message_is_refused(void **state)
{
    const struct golden *g = &golden[0];

    (void)state;
    for (size_t len = 0; len <= g->len; len++) {
        bool between_fields = len == 0 || len == 4 || len == 9 || len == g->len;
        uint8_t *bytes = malloc(len + 1); /* exact size: a read beyond it shows under ASan */

        assert_non_null(bytes);
        memcpy(bytes, g->bytes, len);
        ProtobufCMessage *message = protobuf_c_message_unpack(g->type, NULL, len, bytes);
        assert_int_equal(message != NULL, between_fields);
        release(message);
        free(bytes);
    }
}

static void failing_allocator_leaks_nothing(void **state)
{
    struct meter meter = {0};
    ProtobufCAllocator allocator = {meter_alloc, meter_free, &meter};
    const struct golden *g = &golden[0];
    ProtobufCMessage *message = NULL;

    (void)state;
    for (size_t granted = 0; message == NULL; granted++) {
        assert_in_range(granted, 0, 20);
        meter.granted = granted;
        message = protobuf_c_message_unpack(g->type, &allocator, g->len, (const uint8_t *)g->bytes);
        assert_true(message != NULL || meter.live == 0);
    }
    assert_int_equal(meter.granted, 0);
    protobuf_c_message_free_unpacked(message, &allocator);
    assert_int_equal(meter.live, 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(optional_number_tells_absent_from_zero),
        cmocka_unit_test(optional_text_tells_absent_from_empty),
        cmocka_unit_test(optional_bytes_tell_absent_from_empty),
        cmocka_unit_test(optional_fields_are_independent),
        cmocka_unit_test(message_and_oneof_keep_presence),
        cmocka_unit_test(nested_capabilities_survive),
        cmocka_unit_test(deprecated_bytes_come_back),
        cmocka_unit_test(deprecated_set_request_is_written_as_ever),
        cmocka_unit_test(deprecated_fields_land_where_they_belong),
        cmocka_unit_test(unknown_fields_are_kept),
        cmocka_unit_test(cut_message_is_refused),
        cmocka_unit_test(failing_allocator_leaks_nothing),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
