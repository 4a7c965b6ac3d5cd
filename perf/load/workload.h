/* What a load asks for: how many keys there are, how large keys and values are, which key is next.
 *
 * Keys are `key-` followed by a decimal number, padded with zeros to exactly key_bytes, so every
 * key of a load has the same length and one prefix selects them all. thread: one at a time. */
#ifndef PRISM_PERF_LOAD_WORKLOAD_H
#define PRISM_PERF_LOAD_WORKLOAD_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define WORKLOAD_PREFIX "key-"

enum {
    WORKLOAD_KEY_BYTES_MIN = 14, /* the prefix and ten digits: every 32-bit number fits */
    WORKLOAD_KEY_BYTES_MAX = 1024,
    WORKLOAD_VALUE_BYTES_MAX = 1 << 24,
    WORKLOAD_BATCH_MAX = 100000
};

struct workload_options {
    uint32_t keys;        /* size of the key space, at least 1 */
    uint32_t key_bytes;   /* WORKLOAD_KEY_BYTES_MIN to WORKLOAD_KEY_BYTES_MAX */
    uint32_t value_bytes; /* 0 to WORKLOAD_VALUE_BYTES_MAX */
    uint32_t batch;       /* items of one batch call, 1 to WORKLOAD_BATCH_MAX */
    uint32_t scan_limit;  /* keys asked of one scan */
    int64_t ttl_seconds;  /* of stores, 0 = no expiration; SetExpiration uses 3600 when 0 */
    bool scan_values;     /* scans return values too */
    bool sequential;      /* keys in order instead of at random */
    const char *ids;      /* of sessions, one behind the other; NULL: none */
    uint32_t id_bytes;    /* of each */
    uint32_t id_count;
};

/* Defaults: 100,000 keys of 16 bytes, values of 128 bytes, batches of 100. */
struct workload_options workload_defaults(void);

/* NULL when every bound holds, else which one does not (static text). */
const char *workload_check(const struct workload_options *options);

struct workload {
    struct workload_options options;
    uint64_t random; /* state of the generator */
    uint32_t next;   /* next key of a sequential workload */
    uint8_t *value;  /* value_bytes that no compressor or comparison would call empty */
};

/* Two workloads of one seed ask for the same keys in the same order. */
void workload_init(struct workload *w, const struct workload_options *options, uint64_t seed);
void workload_clear(struct workload *w);

/* Number of the next key. */
uint32_t workload_next_key(struct workload *w);

/* Writes the key of that number, options.key_bytes long, without a terminator. */
void workload_write_key(const struct workload *w, uint32_t number, uint8_t *out);

/* Bytes that suffice for any request of this workload. */
size_t workload_request_bytes_max(const struct workload *w);

#endif
