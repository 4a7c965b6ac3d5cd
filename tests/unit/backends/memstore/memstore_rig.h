/* What memstore's unit tests share: a store on virtual time with a hash of the test's choice, and
 * its calls in few words. Numbers come from a generator with a fixed seed, so a failure can be
 * repeated. */
#ifndef PRISM_TESTS_UNIT_BACKENDS_MEMSTORE_MEMSTORE_RIG_H
#define PRISM_TESTS_UNIT_BACKENDS_MEMSTORE_MEMSTORE_RIG_H

#include "backends/memstore/instance.h"
#include "src/base/container.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>

#include <cmocka.h>

struct rig {
    struct memstore *store;
    struct arena arena;
    _Atomic uint64_t now_ns;
    unsigned hash_bits; /* only so many top bits of the hash differ */
    struct hash_key hash_key;
};

static inline uint64_t rig_now(void *arg)
{
    struct rig *rig = arg;

    return atomic_load(&rig->now_ns);
}

static inline uint64_t rig_hash(void *arg, struct slice key)
{
    struct rig *rig = arg;
    uint64_t hash = hash_bytes(&rig->hash_key, key);

    return rig->hash_bits == 0 ? 0 : hash >> (64 - rig->hash_bits) << (64 - rig->hash_bits);
}

static inline void rig_open(struct rig *rig, unsigned hash_bits, uint64_t max_keys,
                            uint64_t max_bytes)
{
    const struct memstore_sources sources = {.now_ns = rig_now, .hash = rig_hash, .arg = rig};
    const struct memstore_config config = {
        .max_keys = max_keys, .max_bytes = max_bytes, .sources = &sources};
    const struct backend_options options = {.namespace_name = "test", .slot = "primary"};

    rig->hash_bits = hash_bits;
    rig->hash_key = (struct hash_key){0x1234, 0x5678};
    atomic_init(&rig->now_ns, 987654321012345);
    arena_init(&rig->arena, NULL);
    rig->store = memstore_new(&options, &config);
}

static inline void rig_close(struct rig *rig)
{
    memstore_destroy(rig->store);
    arena_clear(&rig->arena);
}

static inline void rig_pass_ms(struct rig *rig, uint64_t ms)
{
    atomic_fetch_add(&rig->now_ns, ms * NS_PER_MS);
}

static inline struct err rig_put(struct rig *rig, const char *key, const char *value,
                                 uint64_t ttl_ms)
{
    struct memstore_write write = {
        .key = slice_str(key), .value = slice_str(value), .ttl_ms = ttl_ms};

    return memstore_write(rig->store, &write);
}

static inline void rig_put_ok(struct rig *rig, const char *key, const char *value, uint64_t ttl_ms)
{
    struct err err = rig_put(rig, key, value, ttl_ms);

    if (err.code != ERR_OK)
        fail_msg("put %s: %s", key, err.text);
}

static inline const char *rig_get(struct rig *rig, const char *key)
{
    struct memstore_read read = memstore_read(rig->store, slice_str(key), NULL, &rig->arena);

    return read.found ? arena_strdup(&rig->arena, read.value) : NULL;
}

static inline bool rig_exists(struct rig *rig, const char *key)
{
    return memstore_exists(rig->store, slice_str(key));
}

static inline bool rig_del(struct rig *rig, const char *key)
{
    return memstore_remove(rig->store, slice_str(key));
}

static inline uint64_t rig_keys(struct rig *rig)
{
    return memstore_totals(rig->store).keys;
}

/* In buf, which is returned. */
static inline char *rig_key(char buf[32], unsigned number)
{
    snprintf(buf, 32, "key-%08u", number);
    return buf;
}

/* Sweeps until no work is left. Returns the steps. */
static inline unsigned rig_sweep(struct rig *rig)
{
    unsigned from = 0, steps = 0, n;

    do {
        n = expiry_sweep(rig->store, &from, 1000);
        steps += n;
        assert_true(steps < 100u << 20);
    } while (n == 1000);
    return steps;
}

/* splitmix64 */
static inline uint64_t rig_random(uint64_t *seed)
{
    uint64_t z = *seed += 0x9e3779b97f4a7c15u;

    z = (z ^ z >> 30) * 0xbf58476d1ce4e5b9u;
    z = (z ^ z >> 27) * 0x94d049bb133111ebu;
    return z ^ z >> 31;
}

#endif
