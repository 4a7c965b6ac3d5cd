/* Key-value calls in few words, for the tests of this folder. */
#ifndef PRISM_TESTS_PATTERN_KEYVALUE_KV_H
#define PRISM_TESTS_PATTERN_KEYVALUE_KV_H

#include "patterns/keyvalue/deprecated/messages.h"
#include "patterns/keyvalue/keyvalue.h"
#include "patterns/keyvalue/messages.h"
#include "patterns/messages.h"
#include "src/base/container.h"
#include "src/base/log.h"
#include "tests/fake/fake_call.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

enum { KV_ITEMS = 3000 };

/* ---- rigs ---- */

static inline struct fake_rig *kv_rig_unbound(unsigned mask)
{
    struct fake_rig *rig = calloc(1, sizeof *rig);

    assert_non_null(rig);
    fake_rig_init(rig, &pattern_keyvalue, mask);
    return rig;
}

static inline struct fake_rig *kv_rig(unsigned mask)
{
    struct fake_rig *rig = kv_rig_unbound(mask);

    fake_rig_bind(rig);
    return rig;
}

/* As a store in this process: batches are pipelined, in windows or one by one. */
static inline struct fake_rig *kv_rig_in_process(unsigned mask)
{
    struct fake_rig *rig = kv_rig_unbound(mask);

    rig->world.type.name = "memstore";
    fake_world_in_process(&rig->world, true);
    rig->world.type.limits.key_bytes = 1 << 20;
    fake_rig_bind(rig);
    return rig;
}

static inline struct fake_rig *kv_rig_memstore(void)
{
    return kv_rig_in_process(FAKE_AS_MEMSTORE);
}

/* A network store without batches of its own, and batches switched on. */
static inline struct fake_rig *kv_rig_emulating(unsigned mask)
{
    struct fake_rig *rig = kv_rig_unbound(mask & ~(unsigned)FAKE_BATCH);

    rig->emulate = 1u << BACKEND_KV_BATCH;
    rig->world.mode = FAKE_PARKED;
    fake_rig_bind(rig);
    return rig;
}

/* The ways of carrying out a batch. */
enum kv_way { KV_NATIVE, KV_WINDOWS, KV_PIPELINED, KV_EMULATED, KV_WAYS };

static inline struct fake_rig *kv_rig_of(int way)
{
    if (way == KV_NATIVE)
        return kv_rig(FAKE_ALL);
    if (way == KV_WINDOWS)
        return kv_rig_memstore();
    if (way == KV_PIPELINED)
        return kv_rig_in_process(FAKE_AS_MEMSTORE & ~FAKE_WINDOW);
    return kv_rig_emulating(FAKE_ALL);
}

static inline void kv_rig_free(struct fake_rig *rig)
{
    fake_rig_clear(rig);
    free(rig);
}

/* Calls, runs to the end. The caller frees the call. */
static inline struct call *kv_run(struct fake_rig *rig, const char *path,
                                  const ProtobufCMessage *request)
{
    struct call *call = fake_call(rig, path, request);

    fake_rig_run(rig);
    assert_int_equal(call->ends, 1);
    return call;
}

static inline void kv_assert_ok(const struct call *call)
{
    if (call->status.code != ERR_OK)
        print_error("%s: %s\n", call->method->path, call->status.text);
    assert_int_equal(call->status.code, ERR_OK);
}

static inline void kv_assert_failed(const struct call *call, enum err_code code,
                                    const char *subject, const char *text)
{
    assert_int_equal(call->ends, 1);
    assert_string_equal(err_code_name(call->status.code), err_code_name(code));
    if (subject != NULL) {
        assert_non_null(call->status.subject);
        assert_string_equal(call->status.subject, subject);
    }
    if (text != NULL && strstr(call->status.text, text) == NULL)
        fail_msg("\"%s\" does not contain \"%s\"", call->status.text, text);
}

/* The call fails so, and nothing reached the backend. */
static inline void kv_refused(struct fake_rig *rig, const char *path,
                              const ProtobufCMessage *request, enum err_code code,
                              const char *subject, const char *text)
{
    uint64_t ops = rig->world.ops;
    struct call *call = kv_run(rig, path, request);

    kv_assert_failed(call, code, subject, text);
    assert_int_equal(rig->world.ops, ops);
    fake_call_free(call);
}

/* ---- requests ---- */

static inline ProtobufCBinaryData kv_bytes(const char *text)
{
    return (ProtobufCBinaryData){.len = strlen(text), .data = (uint8_t *)(uintptr_t)text};
}

static inline char *kv_text(const char *text)
{
    return (char *)(uintptr_t)text;
}

static inline pb_store_request kv_store(const char *key, const char *value)
{
    pb_store_request request = PRISM__PATTERNS__KEYVALUE__STORE_REQUEST__INIT;

    request.key = kv_text(key);
    request.value = kv_bytes(value);
    return request;
}

static inline pb_store_request kv_store_for(const char *key, const char *value, int64_t seconds)
{
    pb_store_request request = kv_store(key, value);

    request._expiration_seconds_case =
        PRISM__PATTERNS__KEYVALUE__STORE_REQUEST___EXPIRATION_SECONDS_EXPIRATION_SECONDS;
    request.expiration_seconds = seconds;
    return request;
}

static inline pb_precondition kv_if_absent(bool absent)
{
    pb_precondition condition = PRISM__PATTERNS__KEYVALUE__PRECONDITION__INIT;

    condition.condition_case = PRISM__PATTERNS__KEYVALUE__PRECONDITION__CONDITION_IF_ABSENT;
    condition.if_absent = absent;
    return condition;
}

static inline pb_precondition kv_if_version(const char *version)
{
    pb_precondition condition = PRISM__PATTERNS__KEYVALUE__PRECONDITION__INIT;

    condition.condition_case = PRISM__PATTERNS__KEYVALUE__PRECONDITION__CONDITION_IF_VERSION;
    condition.if_version = kv_bytes(version);
    return condition;
}

static inline pb_retrieve_request kv_retrieve(const char *key)
{
    pb_retrieve_request request = PRISM__PATTERNS__KEYVALUE__RETRIEVE_REQUEST__INIT;

    request.key = kv_text(key);
    return request;
}

static inline pb_set_expiration_request kv_set_expiration(const char *key, int64_t seconds)
{
    pb_set_expiration_request request = PRISM__PATTERNS__KEYVALUE__SET_EXPIRATION_REQUEST__INIT;

    request.key = kv_text(key);
    request.expiration_seconds = seconds;
    return request;
}

static inline pb_scan_request kv_scan(const char *prefix)
{
    pb_scan_request request = PRISM__PATTERNS__KEYVALUE__SCAN_REQUEST__INIT;

    request._prefix_case = PRISM__PATTERNS__KEYVALUE__SCAN_REQUEST___PREFIX_PREFIX;
    request.prefix = kv_text(prefix);
    return request;
}

static inline void kv_scan_limit(pb_scan_request *request, int32_t limit)
{
    request->_limit_case = PRISM__PATTERNS__KEYVALUE__SCAN_REQUEST___LIMIT_LIMIT;
    request->limit = limit;
}

static inline void kv_scan_values(pb_scan_request *request)
{
    request->_include_values_case =
        PRISM__PATTERNS__KEYVALUE__SCAN_REQUEST___INCLUDE_VALUES_INCLUDE_VALUES;
    request->include_values = true;
}

static inline void kv_scan_cursor(pb_scan_request *request, const char *cursor)
{
    request->_cursor_case = PRISM__PATTERNS__KEYVALUE__SCAN_REQUEST___CURSOR_CURSOR;
    request->cursor = kv_text(cursor);
}

static inline void kv_scan_bytes(pb_scan_request *request, int64_t bytes)
{
    request->_max_bytes_case = PRISM__PATTERNS__KEYVALUE__SCAN_REQUEST___MAX_BYTES_MAX_BYTES;
    request->max_bytes = bytes;
}

/* ---- batches: storage for requests ---- */

struct kv_batch_request {
    pb_store_batch_request message;
    pb_store_request items[KV_ITEMS];
    pb_store_request *pointers[KV_ITEMS];
    char texts[KV_ITEMS][24];
};

static inline struct kv_batch_request *kv_store_batch(size_t n)
{
    struct kv_batch_request *batch = calloc(1, sizeof *batch);

    assert_non_null(batch);
    assert_true(n <= KV_ITEMS);
    prism__patterns__keyvalue__store_batch_request__init(&batch->message);
    batch->message.n_requests = n;
    batch->message.requests = batch->pointers;
    for (size_t i = 0; i < n; i++) {
        snprintf(batch->texts[i], sizeof batch->texts[i], "key%05zu", i);
        batch->items[i] = kv_store(batch->texts[i], batch->texts[i]);
        batch->pointers[i] = &batch->items[i];
    }
    return batch;
}

struct kv_keys_request {
    pb_retrieve_batch_request retrieve;
    pb_remove_batch_request remove;
    char *pointers[KV_ITEMS];
    char texts[KV_ITEMS][24];
};

/* The keys of kv_store_batch. */
static inline struct kv_keys_request *kv_keys(size_t n)
{
    struct kv_keys_request *keys = calloc(1, sizeof *keys);

    assert_non_null(keys);
    assert_true(n <= KV_ITEMS);
    prism__patterns__keyvalue__retrieve_batch_request__init(&keys->retrieve);
    prism__patterns__keyvalue__remove_batch_request__init(&keys->remove);
    keys->retrieve.n_keys = keys->remove.n_keys = n;
    keys->retrieve.keys = keys->remove.keys = keys->pointers;
    for (size_t i = 0; i < n; i++) {
        snprintf(keys->texts[i], sizeof keys->texts[i], "key%05zu", i);
        keys->pointers[i] = keys->texts[i];
    }
    return keys;
}

/* Puts the n keys of a batch into the world's table. */
static inline void kv_fill(struct fake_rig *rig, size_t n)
{
    char key[24];

    for (size_t i = 0; i < n; i++) {
        snprintf(key, sizeof key, "key%05zu", i);
        fake_put(&rig->world, key, key);
    }
}

/* ---- capabilities ---- */

static inline struct call *kv_ask(struct fake_rig *rig)
{
    pb_get_capabilities_request request = PRISM__PATTERNS__KEYVALUE__GET_CAPABILITIES_REQUEST__INIT;
    uint64_t ops = rig->world.ops;
    struct call *call = kv_run(rig, "GetCapabilities", &request.base);

    kv_assert_ok(call);
    assert_int_equal(rig->world.ops, ops); /* the backend is not asked */
    return call;
}

static inline const pb_capabilities *kv_caps(const struct call *call)
{
    return (const void *)call->reply;
}

static inline const schema_operation_capability *kv_find(const pb_capabilities *caps,
                                                         const char *name, const char *variant)
{
    for (size_t i = 0; i < caps->n_operations; i++) {
        if (strcmp(caps->operations[i]->operation, name) == 0 &&
            strcmp(caps->operations[i]->variant, variant) == 0)
            return caps->operations[i];
    }
    fail_msg("no operation %s %s", name, variant);
    return NULL;
}

/* ---- scans ---- */

static inline const pb_scan_response *kv_page(const struct call *call, size_t i)
{
    assert_true(i < call->sent_count);
    return (const void *)call->sent[i].message;
}

static inline size_t kv_keys_in(const struct call *call)
{
    size_t n = 0;

    for (size_t i = 0; i < call->sent_count; i++)
        n += kv_page(call, i)->n_keys;
    return n;
}

/* Each page with more to come has a cursor, and only those. */
static inline void kv_assert_pages(const struct call *call)
{
    kv_assert_ok(call);
    assert_true(call->sent_count > 0);
    for (size_t i = 0; i < call->sent_count; i++) {
        assert_int_equal(kv_page(call, i)->has_more, kv_page(call, i)->_next_cursor_case != 0);
        if (i + 1 < call->sent_count)
            assert_true(kv_page(call, i)->has_more);
    }
}

#endif
