/* See workload.h. */
#include "perf/load/workload.h"

#include "perf/common/memory.h"
#include "perf/load/wire.h"

#include <string.h>

struct workload_options workload_defaults(void)
{
    return (struct workload_options){
        .keys = 100000,
        .key_bytes = 16,
        .value_bytes = 128,
        .batch = 100,
        .scan_limit = 100,
    };
}

const char *workload_check(const struct workload_options *o)
{
    if (o->keys == 0)
        return "keys must be at least 1";
    if (o->key_bytes < WORKLOAD_KEY_BYTES_MIN || o->key_bytes > WORKLOAD_KEY_BYTES_MAX)
        return "key-bytes must be between 14 and 1024";
    if (o->value_bytes > WORKLOAD_VALUE_BYTES_MAX)
        return "value-bytes must be at most 16777216";
    if (o->batch == 0 || o->batch > WORKLOAD_BATCH_MAX)
        return "batch must be between 1 and 100000";
    if (o->scan_limit == 0 || o->scan_limit > INT32_MAX)
        return "scan-limit must be between 1 and 2147483647";
    if (o->ttl_seconds < 0)
        return "ttl must not be negative";
    return NULL;
}

static uint64_t next_random(uint64_t *state)
{
    /* xorshift64*: a few cycles, and far better than a load needs */
    *state ^= *state >> 12;
    *state ^= *state << 25;
    *state ^= *state >> 27;
    return *state * UINT64_C(0x2545f4914f6cdd1d);
}

void workload_init(struct workload *w, const struct workload_options *options, uint64_t seed)
{
    *w = (struct workload){.options = *options, .random = seed ? seed : 1};
    w->value = memory_zalloc(options->value_bytes, 1);
    uint64_t state = UINT64_C(0x9e3779b97f4a7c15);
    for (uint32_t i = 0; i < options->value_bytes; i++)
        w->value[i] = (uint8_t)next_random(&state);
}

void workload_clear(struct workload *w)
{
    free(w->value);
    w->value = NULL;
}

uint32_t workload_next_key(struct workload *w)
{
    if (w->options.sequential) {
        uint32_t key = w->next;
        w->next = key + 1 == w->options.keys ? 0 : key + 1;
        return key;
    }
    /* The high half times the range: no division, and no visible bias at these sizes. */
    return (uint32_t)(((next_random(&w->random) >> 32) * w->options.keys) >> 32);
}

void workload_write_key(const struct workload *w, uint32_t number, uint8_t *out)
{
    const size_t prefix = sizeof WORKLOAD_PREFIX - 1;
    uint8_t *at = out + w->options.key_bytes;

    memcpy(out, WORKLOAD_PREFIX, prefix);
    while (number != 0) {
        *--at = (uint8_t)('0' + number % 10);
        number /= 10;
    }
    memset(out + prefix, '0', (size_t)(at - out) - prefix);
}

size_t workload_request_bytes_max(const struct workload *w)
{
    /* One item: key, value, expiration, each with tag and length, inside one more field; or a
     * session with the names and fields around its value. */
    size_t item = w->options.key_bytes + w->options.value_bytes + w->options.id_bytes +
                  12 * (WIRE_TAG_MAX + WIRE_VARINT_MAX) + 32;

    return item * w->options.batch;
}
