/* See operation.h. Field numbers are those of proto/prism/patterns/keyvalue/keyvalue_pattern.proto
 * and session_store/session_store_pattern.proto, and, for the deprecated rows, of
 * proto/prism/interfaces/keyvalue. */
#include "perf/load/operation.h"

#include "perf/load/wire.h"

#include <string.h>

#define PATTERN    "/prism.patterns.keyvalue.KeyValuePattern/"
#define DEPRECATED "/prism.interfaces.keyvalue.KeyValueBasicInterface/"
#define SESSIONS   "/prism.patterns.session_store.SessionStorePattern/"

#define VALUE_NAME "value"
#define VALUE_TYPE "type.prism/bench"

enum { DEFAULT_TTL_SECONDS = 3600 };

/* ---- requests ---- */

static uint8_t *put_key(struct workload *w, uint8_t *out)
{
    out = wire_put_length(out, 1, w->options.key_bytes);
    workload_write_key(w, workload_next_key(w), out);
    return out + w->options.key_bytes;
}

static size_t write_store(struct workload *w, uint8_t *out)
{
    uint8_t *at = put_key(w, out);

    at = wire_put_bytes(at, 2, w->value, w->options.value_bytes);
    if (w->options.ttl_seconds != 0)
        at = wire_put_uint(at, 3, (uint64_t)w->options.ttl_seconds);
    return (size_t)(at - out);
}

static size_t write_key(struct workload *w, uint8_t *out)
{
    return (size_t)(put_key(w, out) - out);
}

/* The deprecated Set has no expiration. */
static size_t write_deprecated_set(struct workload *w, uint8_t *out)
{
    uint8_t *at = put_key(w, out);

    at = wire_put_bytes(at, 2, w->value, w->options.value_bytes);
    return (size_t)(at - out);
}

static size_t write_set_expiration(struct workload *w, uint8_t *out)
{
    int64_t ttl = w->options.ttl_seconds != 0 ? w->options.ttl_seconds : DEFAULT_TTL_SECONDS;
    uint8_t *at = put_key(w, out);

    at = wire_put_uint(at, 2, (uint64_t)ttl);
    return (size_t)(at - out);
}

static size_t store_bytes(const struct workload *w)
{
    size_t bytes = 2 + wire_varint_bytes(w->options.key_bytes) + w->options.key_bytes +
                   wire_varint_bytes(w->options.value_bytes) + w->options.value_bytes;

    if (w->options.ttl_seconds != 0)
        bytes += 1 + wire_varint_bytes((uint64_t)w->options.ttl_seconds);
    return bytes;
}

static size_t write_store_batch(struct workload *w, uint8_t *out)
{
    const size_t item = store_bytes(w);
    uint8_t *at = out;

    for (uint32_t i = 0; i < w->options.batch; i++) {
        at = wire_put_length(at, 1, item);
        at += write_store(w, at);
    }
    return (size_t)(at - out);
}

static size_t write_key_batch(struct workload *w, uint8_t *out)
{
    uint8_t *at = out;

    for (uint32_t i = 0; i < w->options.batch; i++)
        at = put_key(w, at);
    return (size_t)(at - out);
}

static size_t write_scan(struct workload *w, uint8_t *out)
{
    uint8_t *at = wire_put_bytes(out, 1, WORKLOAD_PREFIX, sizeof WORKLOAD_PREFIX - 1);

    at = wire_put_uint(at, 3, w->options.scan_limit);
    if (w->options.scan_values)
        at = wire_put_uint(at, 4, 1);
    return (size_t)(at - out);
}

static size_t field_bytes(size_t bytes)
{
    return 1 + wire_varint_bytes(bytes) + bytes;
}

/* A user of the key space begins a session with one value. */
static size_t write_session_create(struct workload *w, uint8_t *out)
{
    const size_t name = sizeof VALUE_NAME - 1, type = sizeof VALUE_TYPE - 1;
    size_t any = field_bytes(type) + field_bytes(w->options.value_bytes);
    uint8_t *at = wire_put_length(out, 1, field_bytes(w->options.key_bytes));

    at = put_key(w, at);
    at = wire_put_uint(at, 2,
                       w->options.ttl_seconds != 0 ? (uint64_t)w->options.ttl_seconds
                                                   : DEFAULT_TTL_SECONDS);
    at = wire_put_length(at, 3, field_bytes(name) + field_bytes(any));
    at = wire_put_bytes(at, 1, VALUE_NAME, name);
    at = wire_put_length(at, 2, any);
    at = wire_put_bytes(at, 1, VALUE_TYPE, type);
    at = wire_put_bytes(at, 2, w->value, w->options.value_bytes);
    return (size_t)(at - out);
}

static size_t write_session_id(struct workload *w, uint8_t *out)
{
    uint32_t number = workload_next_key(w) % w->options.id_count;
    const char *id = w->options.ids + (size_t)number * w->options.id_bytes;

    return (size_t)(wire_put_bytes(out, 1, id, w->options.id_bytes) - out);
}

static size_t write_empty(struct workload *w, uint8_t *out)
{
    (void)w;
    (void)out;
    return 0;
}

/* ---- replies ---- */

enum { REPLY_FIELDS = 8 };

/* What a reply says at its top level. Later occurrences win, as protobuf has it. */
struct reply {
    uint64_t value[REPLY_FIELDS]; /* varints, by field number */
    size_t bytes[REPLY_FIELDS];   /* length of the last length-delimited value */
    uint32_t times[REPLY_FIELDS]; /* how often the field occurred */
};

static bool read_reply(const uint8_t *message, size_t bytes, struct reply *reply)
{
    struct wire_reader reader;
    struct wire_field field;

    memset(reply, 0, sizeof *reply);
    wire_read(&reader, message, bytes);
    while (wire_next(&reader, &field)) {
        if (field.number >= REPLY_FIELDS)
            continue;
        reply->value[field.number] = field.value;
        reply->bytes[field.number] = field.bytes;
        reply->times[field.number]++;
    }
    return !reader.malformed;
}

static void add(struct operation_outcome *outcome, uint32_t items, uint32_t hits)
{
    outcome->items += items;
    outcome->hits += hits;
}

/* Same length as the request: the echo's only promise. */
static bool judge_echo(const struct workload *w, const uint8_t *message, size_t bytes,
                       struct operation_outcome *outcome)
{
    (void)message;
    add(outcome, 1, 1);
    return bytes == store_bytes(w);
}

/* success = 1, error = 2 */
static bool judge_success(const struct workload *w, const uint8_t *message, size_t bytes,
                          struct operation_outcome *outcome)
{
    struct reply reply;

    (void)w;
    add(outcome, 1, 1);
    return read_reply(message, bytes, &reply) && reply.value[1] == 1 && reply.bytes[2] == 0;
}

/* success = 1, error = 2, and whether the key was there = 3 */
static bool judge_success_existed(const struct workload *w, const uint8_t *message, size_t bytes,
                                  struct operation_outcome *outcome)
{
    struct reply reply;

    (void)w;
    if (!read_reply(message, bytes, &reply))
        return false;
    add(outcome, 1, reply.value[3] == 1);
    return reply.value[1] == 1 && reply.bytes[2] == 0;
}

/* found = 1, value = 2, error = 3 */
static bool judge_found(const struct workload *w, const uint8_t *message, size_t bytes,
                        struct operation_outcome *outcome)
{
    struct reply reply;

    if (!read_reply(message, bytes, &reply))
        return false;
    add(outcome, 1, reply.value[1] == 1);
    return reply.bytes[3] == 0 && (reply.value[1] == 0 || reply.bytes[2] == w->options.value_bytes);
}

/* exists = 1, error = 2 */
static bool judge_exists(const struct workload *w, const uint8_t *message, size_t bytes,
                         struct operation_outcome *outcome)
{
    struct reply reply;

    (void)w;
    if (!read_reply(message, bytes, &reply))
        return false;
    add(outcome, 1, reply.value[1] == 1);
    return reply.bytes[2] == 0;
}

/* results = 1, all_success = 2, success_count = 3. The baseline that only parses sends no results,
 * so their number is not asked for here; it is in the judgement of retrieve-batch. */
static bool judge_batch_success(const struct workload *w, const uint8_t *message, size_t bytes,
                                struct operation_outcome *outcome)
{
    struct reply reply;

    add(outcome, w->options.batch, w->options.batch);
    return read_reply(message, bytes, &reply) && reply.value[2] == 1 &&
           reply.value[3] == w->options.batch;
}

/* results = 1, found_count = 2 */
static bool judge_batch_found(const struct workload *w, const uint8_t *message, size_t bytes,
                              struct operation_outcome *outcome)
{
    struct reply reply;

    if (!read_reply(message, bytes, &reply) || reply.value[2] > w->options.batch)
        return false;
    add(outcome, w->options.batch, (uint32_t)reply.value[2]);
    return reply.times[1] == w->options.batch;
}

/* keys = 1, values = 2: one page of a scan */
static bool judge_page(const struct workload *w, const uint8_t *message, size_t bytes,
                       struct operation_outcome *outcome)
{
    struct reply reply;

    if (!read_reply(message, bytes, &reply))
        return false;
    add(outcome, reply.times[1], reply.times[1]);
    return !w->options.scan_values || reply.times[2] == reply.times[1];
}

/* expiration_seconds = 1 (-1 none, -2 no key), error = 2 */
static bool judge_expiration(const struct workload *w, const uint8_t *message, size_t bytes,
                             struct operation_outcome *outcome)
{
    struct reply reply;

    (void)w;
    if (!read_reply(message, bytes, &reply))
        return false;
    add(outcome, 1, (int64_t)reply.value[1] != -2);
    return reply.bytes[2] == 0 && (int64_t)reply.value[1] >= -2;
}

/* count = 1 */
static bool judge_count(const struct workload *w, const uint8_t *message, size_t bytes,
                        struct operation_outcome *outcome)
{
    struct reply reply;

    (void)w;
    add(outcome, 1, 1);
    return read_reply(message, bytes, &reply) && reply.value[1] > 0;
}

/* session_id = 1, error = 15 */
static bool judge_created(const struct workload *w, const uint8_t *message, size_t bytes,
                          struct operation_outcome *outcome)
{
    struct reply reply;

    (void)w;
    add(outcome, 1, 1);
    return read_reply(message, bytes, &reply) && reply.bytes[1] > 0;
}

/* session = 1, found = 2 */
static bool judge_session(const struct workload *w, const uint8_t *message, size_t bytes,
                          struct operation_outcome *outcome)
{
    struct reply reply;

    if (!read_reply(message, bytes, &reply))
        return false;
    add(outcome, 1, reply.value[2] == 1);
    return reply.value[2] == 1 && reply.bytes[1] > w->options.value_bytes;
}

/* slots = 1: no server is without one */
static bool judge_capabilities(const struct workload *w, const uint8_t *message, size_t bytes,
                               struct operation_outcome *outcome)
{
    struct reply reply;

    (void)w;
    add(outcome, 1, 1);
    return read_reply(message, bytes, &reply) && reply.times[1] == 1;
}

/* ---- the table ---- */

static const struct operation operations[] = {
    {.name = "store",
     .path = PATTERN "Store",
     .write = write_store,
     .judge = judge_success,
     .needs_keys = true,
     .keyvalue = true},
    {.name = "retrieve",
     .path = PATTERN "Retrieve",
     .write = write_key,
     .judge = judge_found,
     .needs_keys = true,
     .every_key_found = true,
     .keyvalue = true},
    {.name = "remove",
     .path = PATTERN "Remove",
     .write = write_key,
     .judge = judge_success_existed,
     .needs_keys = true,
     .uses_up_keys = true,
     .keyvalue = true},
    {.name = "exists",
     .path = PATTERN "Exists",
     .write = write_key,
     .judge = judge_exists,
     .needs_keys = true,
     .every_key_found = true,
     .keyvalue = true},
    {.name = "store-batch",
     .path = PATTERN "StoreBatch",
     .write = write_store_batch,
     .judge = judge_batch_success,
     .needs_keys = true,
     .batched = true,
     .keyvalue = true},
    {.name = "retrieve-batch",
     .path = PATTERN "RetrieveBatch",
     .write = write_key_batch,
     .judge = judge_batch_found,
     .needs_keys = true,
     .every_key_found = true,
     .batched = true,
     .keyvalue = true},
    {.name = "remove-batch",
     .path = PATTERN "RemoveBatch",
     .write = write_key_batch,
     .judge = judge_batch_success,
     .needs_keys = true,
     .uses_up_keys = true,
     .batched = true,
     .keyvalue = true},
    {.name = "scan",
     .path = PATTERN "Scan",
     .write = write_scan,
     .judge = judge_page,
     .needs_keys = true,
     .streams = true,
     .keyvalue = true},
    {.name = "set-expiration",
     .path = PATTERN "SetExpiration",
     .write = write_set_expiration,
     .judge = judge_success_existed,
     .needs_keys = true,
     .every_key_found = true,
     .keyvalue = true},
    {.name = "get-expiration",
     .path = PATTERN "GetExpiration",
     .write = write_key,
     .judge = judge_expiration,
     .needs_keys = true,
     .every_key_found = true,
     .keyvalue = true},
    {.name = "clear-expiration",
     .path = PATTERN "ClearExpiration",
     .write = write_key,
     .judge = judge_success_existed,
     .needs_keys = true,
     .keyvalue = true},
    {.name = "count",
     .path = PATTERN "Count",
     .write = write_empty,
     .judge = judge_count,
     .needs_keys = true,
     .every_key_found = true,
     .keyvalue = true},
    {.name = "capabilities",
     .path = PATTERN "GetCapabilities",
     .write = write_empty,
     .judge = judge_capabilities,
     .keyvalue = true},
    {.name = "deprecated-set",
     .path = DEPRECATED "Set",
     .write = write_deprecated_set,
     .judge = judge_success,
     .needs_keys = true,
     .keyvalue = true},
    {.name = "deprecated-get",
     .path = DEPRECATED "Get",
     .write = write_key,
     .judge = judge_found,
     .needs_keys = true,
     .every_key_found = true,
     .keyvalue = true},
    {.name = "session-create",
     .path = SESSIONS "CreateSession",
     .write = write_session_create,
     .judge = judge_created,
     .session = true},
    {.name = "session-get",
     .path = SESSIONS "GetSession",
     .write = write_session_id,
     .judge = judge_session,
     .session = true,
     .needs_ids = true},
    {.name = "echo", .path = "/prism.bench.Echo/Unary", .write = write_store, .judge = judge_echo},
};

const struct operation *operation_all(size_t *count)
{
    *count = sizeof operations / sizeof operations[0];
    return operations;
}

const struct operation *operation_find(const char *name)
{
    for (size_t i = 0; i < sizeof operations / sizeof operations[0]; i++) {
        if (strcmp(operations[i].name, name) == 0)
            return &operations[i];
    }
    return NULL;
}
