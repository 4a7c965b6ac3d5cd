/* The registry's scripted operations, and what its records hold. */
#include "backends/redis/redis_topic.h"

#include <math.h>
#include <stdlib.h>

enum { RECORD_HEADER = 29, RECORD_VERSION = 1 };

void *redis_registry_new(struct backend *backend, struct op *op, size_t bytes,
                         enum redis_registry_call script)
{
    static const char *const keys[REDIS_REGISTRY_KEYS] = {"order",   "due",        "life",
                                                          "entries", "generation", "index"};
    struct redis_scripted *work =
        redis_scripted_new(redis_of(backend), op, bytes, "registry:", keys, REDIS_REGISTRY_KEYS);

    work->script = &redis_registry_scripts[script];
    work->name = &redis_instance_of(backend)->registry_names[script];
    return work;
}

/* ---- records ---- */

static double double_at(const uint8_t *at)
{
    double number;

    memcpy(&number, at, sizeof number);
    return number;
}

static bool whole_number(double number, uint64_t *out)
{
    if (!(number >= 0 && number <= 9007199254740992.0))
        return false;
    *out = (uint64_t)number;
    return true;
}

/* A header without a document is what was asked for, or a record that is not whole. */
bool redis_registry_record(struct slice record, struct registry_entry *entry)
{
    uint32_t len;

    if (record.len < RECORD_HEADER || record.data[0] != RECORD_VERSION ||
        !whole_number(double_at(record.data + 1), &entry->generation) ||
        !whole_number(double_at(record.data + 9), &entry->registered_at_ms) ||
        entry->generation == 0)
        return false;
    entry->document = entry->tags = slice_of(NULL, 0);
    if (record.len == RECORD_HEADER)
        return true;
    memcpy(&len, record.data + RECORD_HEADER - sizeof len, sizeof len);
    if (len > record.len - RECORD_HEADER)
        return false;
    entry->document = slice_of(record.data + RECORD_HEADER, len);
    entry->tags = slice_of(record.data + RECORD_HEADER + len, record.len - RECORD_HEADER - len);
    return document_valid(entry->document) &&
           document_type_of(entry->document) == DOCUMENT_STRUCT && document_valid(entry->tags) &&
           document_type_of(entry->tags) == DOCUMENT_LIST;
}

bool redis_registry_life(struct slice text, uint64_t *expires_at_ms)
{
    char number[32], *rest;
    double score;

    *expires_at_ms = 0;
    if (slice_equal(text, slice_str("inf")))
        return true;
    if (text.len == 0 || text.len >= sizeof number)
        return false;
    memcpy(number, text.data, text.len);
    number[text.len] = '\0';
    score = strtod(number, &rest);
    return *rest == '\0' && whole_number(score, expires_at_ms) && *expires_at_ms > 0;
}
