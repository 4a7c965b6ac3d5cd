/* memstore's table alone, without RPC: what its claims of speed and size rest on.
 *
 *   heap_overhead_bytes                heap per key beside the key and the value themselves
 *   insert, replace, get, remove       CPU nanoseconds per operation, keys at random
 *   expire                             the same per key that expires, in the timer's slices
 *
 * Expiry runs on a clock of the bench's own, so that a million deadlines pass at once; removing is
 * its baseline, in the same process, alternately. Every operation's outcome is checked.
 *
 * usage: prism-table-bench [KEYS [ROUNDS]] [--output json]       default: 1000000 5 */
#include "backends/memstore/instance.h"

#include "perf/bench/json.h"
#include "perf/common/clock.h"
#include "perf/common/memory.h"
#include "perf/common/samples.h"

#include <stdio.h>
#include <string.h>

#ifdef PRISM_JEMALLOC
#include <jemalloc/jemalloc.h>
#endif

enum {
    KEY_BYTES = 16,
    VALUE_BYTES = 128,
    KEYS_MIN = 1000,
    KEYS_MAX = 100000000,
    ROUNDS_MAX = 99,
    TTL_MS = 60000,
    SWEEP_STEPS = 1024, /* as prismd's timer has it */
    STRIDE = 7368787    /* a prime above any step that memory could prefetch */
};

enum figure { INSERT, REPLACE, GET, REMOVE, EXPIRE, HEAP, HEAP_TTL, FIGURES };

static const char *const names[FIGURES] = {
    [INSERT] = "insert_ns",
    [REPLACE] = "replace_ns",
    [GET] = "get_ns",
    [REMOVE] = "remove_ns",
    [EXPIRE] = "expire_ns",
    [HEAP] = "heap_overhead_bytes",
    [HEAP_TTL] = "heap_overhead_bytes_with_ttl",
};

struct bench {
    uint32_t keys;
    unsigned rounds;
    uint64_t virtual_ns;
    struct hash_key hash_key;
    struct memstore *store;
    struct arena arena;
    struct arena_cache blocks;
    double samples[FIGURES][ROUNDS_MAX];
};

_Noreturn static void fail(const char *what)
{
    fprintf(stderr, "prism-table-bench: %s\n", what);
    exit(1);
}

static uint64_t virtual_now(void *arg)
{
    return ((struct bench *)arg)->virtual_ns;
}

static uint64_t keyed_hash(void *arg, struct slice key)
{
    return hash_bytes(&((struct bench *)arg)->hash_key, key);
}

/* Long enough for every number; the order of the keys is not the order of the memory. */
static struct slice key_of(const struct bench *b, uint32_t i, char *key)
{
    uint32_t number = (uint32_t)((uint64_t)i * STRIDE % b->keys);

    memcpy(key, "key-000000000000", KEY_BYTES);
    for (char *at = key + KEY_BYTES; number != 0; number /= 10)
        *--at = (char)('0' + number % 10);
    return slice_of(key, KEY_BYTES);
}

static uint64_t heap_bytes(void)
{
#ifdef PRISM_JEMALLOC
    uint64_t epoch = 1;
    size_t bytes = 0, room = sizeof bytes;

    mallctl("epoch", NULL, NULL, &epoch, sizeof epoch);
    mallctl("stats.allocated", &bytes, &room, NULL, 0);
    return bytes;
#else
    return 0;
#endif
}

static void open_store(struct bench *b, const struct memstore_sources *sources)
{
    const struct backend_options options = {.namespace_name = "bench", .slot = "primary"};
    const struct memstore_config config = {.sources = sources};

    b->store = memstore_new(&options, &config);
}

static void close_store(struct bench *b)
{
    memstore_destroy(b->store);
    b->store = NULL;
}

/* ---- steps; each returns CPU nanoseconds per key ---- */

static double per_key(const struct bench *b, uint64_t since)
{
    return (double)(clock_own_cpu_ns() - since) / b->keys;
}

static double write_all(struct bench *b, uint64_t ttl_ms)
{
    static const char value[VALUE_BYTES] = "v";
    char key[KEY_BYTES];
    uint64_t since = clock_own_cpu_ns();

    for (uint32_t i = 0; i < b->keys; i++) {
        struct memstore_write w = {
            .key = key_of(b, i, key), .value = slice_of(value, sizeof value), .ttl_ms = ttl_ms};
        if (memstore_write(b->store, &w).code != ERR_OK || !w.stored)
            fail("a write was refused");
    }
    return per_key(b, since);
}

static double read_all(struct bench *b)
{
    char key[KEY_BYTES];
    uint64_t since = clock_own_cpu_ns();

    for (uint32_t i = 0; i < b->keys; i++) {
        struct memstore_read r = memstore_read(b->store, key_of(b, i, key), NULL, &b->arena);
        if (!r.found || r.value.len != VALUE_BYTES)
            fail("a key is missing");
        arena_clear(&b->arena);
    }
    return per_key(b, since);
}

static double remove_all(struct bench *b)
{
    char key[KEY_BYTES];
    uint64_t since = clock_own_cpu_ns();

    for (uint32_t i = 0; i < b->keys; i++) {
        if (!memstore_remove(b->store, key_of(b, i, key)))
            fail("a key to remove is missing");
    }
    return per_key(b, since);
}

static double expire_all(struct bench *b)
{
    unsigned from = 0;

    b->virtual_ns += (uint64_t)(TTL_MS + 1000) * NS_PER_MS;
    uint64_t since = clock_own_cpu_ns();
    while (expiry_sweep(b->store, &from, SWEEP_STEPS) == SWEEP_STEPS)
        ;
    double cost = per_key(b, since);
    struct memstore_totals totals = memstore_totals(b->store);
    if (totals.keys != 0 || totals.expired != b->keys)
        fail("not every key has expired");
    return cost;
}

/* ---- rounds ---- */

static void measure_plain(struct bench *b, unsigned round)
{
    uint64_t heap;

    open_store(b, NULL);
    heap = heap_bytes();
    b->samples[INSERT][round] = write_all(b, 0);
    b->samples[HEAP][round] = (double)(heap_bytes() - heap) / b->keys - KEY_BYTES - VALUE_BYTES;
    b->samples[REPLACE][round] = write_all(b, 0);
    b->samples[GET][round] = read_all(b);
    b->samples[REMOVE][round] = remove_all(b);
    close_store(b);
}

static void measure_expiry(struct bench *b, unsigned round)
{
    const struct memstore_sources sources = {.now_ns = virtual_now, .hash = keyed_hash, .arg = b};
    uint64_t heap;

    b->virtual_ns = NS_PER_S;
    open_store(b, &sources);
    heap = heap_bytes();
    write_all(b, TTL_MS);
    b->samples[HEAP_TTL][round] = (double)(heap_bytes() - heap) / b->keys - KEY_BYTES - VALUE_BYTES;
    b->samples[EXPIRE][round] = expire_all(b);
    close_store(b);
}

static void print(struct bench *b, bool as_json)
{
    struct json json;
    double median[FIGURES], ratio[ROUNDS_MAX];

    for (unsigned i = 0; i < b->rounds; i++)
        ratio[i] = b->samples[EXPIRE][i] / b->samples[REMOVE][i];
    for (unsigned f = 0; f < FIGURES; f++)
        median[f] = samples_median(b->samples[f], b->rounds);
    double expire_ratio = samples_median(ratio, b->rounds);
    double least = ratio[0], most = ratio[b->rounds - 1];
    if (!as_json) {
        printf("%u keys of %d B, values of %d B, medians of %u rounds\n", b->keys, KEY_BYTES,
               VALUE_BYTES, b->rounds);
        for (unsigned f = 0; f < FIGURES; f++)
            printf("%-30s %9.1f\n", names[f], median[f]);
        printf("%-30s %9.3f\n", "expire_to_remove", expire_ratio);
        printf("%-30s %9.3f\n", "expire_to_remove_min", least);
        printf("%-30s %9.3f\n", "expire_to_remove_max", most);
        return;
    }
    json_init(&json, stdout);
    json_open(&json, NULL, '{');
    json_number(&json, "keys", b->keys);
    json_number(&json, "rounds", b->rounds);
    for (unsigned f = 0; f < FIGURES; f++)
        json_number(&json, names[f], median[f]);
    json_number(&json, "expire_to_remove", expire_ratio);
    json_number(&json, "expire_to_remove_min", least);
    json_number(&json, "expire_to_remove_max", most);
    json_close(&json, '}');
}

static bool number(const char *text, unsigned long min, unsigned long max, unsigned long *value)
{
    char *end;

    *value = strtoul(text, &end, 10);
    return *text != '\0' && *end == '\0' && *value >= min && *value <= max;
}

int main(int argc, char **argv)
{
    static struct bench b;
    unsigned long keys = 1000000, rounds = 5;
    bool as_json =
        argc >= 3 && strcmp(argv[argc - 2], "--output") == 0 && strcmp(argv[argc - 1], "json") == 0;
    int words = as_json ? argc - 2 : argc;

    if (words > 3 || (words > 1 && !number(argv[1], KEYS_MIN, KEYS_MAX, &keys)) ||
        (words > 2 && !number(argv[2], 1, ROUNDS_MAX, &rounds)) || keys % STRIDE == 0) {
        fprintf(stderr, "usage: %s [KEYS [ROUNDS]] [--output json]\n", argv[0]);
        return 2;
    }
    b.keys = (uint32_t)keys;
    b.rounds = (unsigned)rounds;
    b.hash_key = hash_key_random();
    arena_cache_init(&b.blocks, 1);
    arena_init(&b.arena, &b.blocks);
    for (unsigned round = 0; round < b.rounds; round++) {
        if (round % 2 == 0)
            measure_plain(&b, round);
        measure_expiry(&b, round);
        if (round % 2 != 0)
            measure_plain(&b, round);
    }
    arena_clear(&b.arena);
    arena_cache_clear(&b.blocks);
    print(&b, as_json);
    return 0;
}
