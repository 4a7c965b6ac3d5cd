/* Counting by SCAN over the whole keyspace, because redis has no index of prefixes.
 *
 * SCAN may answer with a key twice while redis shrinks its table, so counted keys are remembered: a
 * 64-bit hash of each, with a seed that a client cannot know. The set is bounded, and so are the
 * sets of all counts of one store together; beyond that new keys are counted without being
 * remembered, and a shrinking table could make the count too high. */
#include "backends/redis/redis_kv.h"

#include <stdlib.h>

enum { COUNT = 1000, SLOTS_MIN = 1024, SLOTS_MAX = 1 << 21, ALL_SLOTS_MAX = 1 << 23 };

/* Open addressing, at most half full, so up to a million keys in 16 MiB; 0 is an empty slot. */
struct seen {
    _Atomic uint64_t *all; /* slots of all counts of the store */
    uint64_t *slots;
    size_t size, used;
    uint64_t seed;
};

struct counting {
    struct redis *redis;
    struct kv_count *req;
    struct slice pattern;
    uint64_t at;
    struct redis_turn turn;
    struct seen seen;
};

static void count_round(struct counting *counting);

static uint64_t stir(uint64_t h)
{
    h ^= h >> 32;
    h *= 0xd6e8feb86659fd93u;
    h ^= h >> 32;
    h *= 0xd6e8feb86659fd93u;
    return h ^ h >> 32;
}

static uint64_t hash_of(struct slice key, uint64_t seed)
{
    uint64_t h = seed ^ key.len;

    while (key.len > 0) {
        uint64_t word = 0;
        size_t n = key.len < sizeof word ? key.len : sizeof word;

        memcpy(&word, key.data, n);
        h = stir(h + word);
        key = slice_of(key.data + n, key.len - n);
    }
    return h == 0 ? 1 : h;
}

static uint64_t *slot_of(struct seen *seen, uint64_t hash)
{
    size_t i = hash & (seen->size - 1);

    while (seen->slots[i] != 0 && seen->slots[i] != hash)
        i = (i + 1) & (seen->size - 1);
    return &seen->slots[i];
}

static void seen_resize(struct seen *seen, size_t size)
{
    uint64_t *old = seen->slots;
    size_t n = seen->size;

    seen->slots = calloc(size, sizeof *seen->slots);
    if (seen->slots == NULL)
        abort();
    seen->size = size;
    atomic_fetch_add_explicit(seen->all, size - n, memory_order_relaxed);
    for (size_t i = 0; i < n; i++) {
        if (old[i] != 0)
            *slot_of(seen, old[i]) = old[i];
    }
    free(old);
}

/* thread: whichever clears the arena; the instance may be gone by then, the store is not. */
static void seen_dispose(void *arg)
{
    struct seen *seen = arg;

    atomic_fetch_sub_explicit(seen->all, seen->size, memory_order_relaxed);
    free(seen->slots);
}

/* False: it was there already. */
static bool seen_add(struct seen *seen, struct slice key)
{
    if (seen->size == 0)
        seen_resize(seen, SLOTS_MIN);

    uint64_t hash = hash_of(key, seen->seed), *slot = slot_of(seen, hash);

    if (*slot == hash)
        return false;
    if (seen->used >= seen->size / 2) {
        uint64_t all = atomic_load_explicit(seen->all, memory_order_relaxed);

        if (seen->size >= SLOTS_MAX || all + seen->size > ALL_SLOTS_MAX)
            return true;
        seen_resize(seen, 2 * seen->size);
        slot = slot_of(seen, hash);
    }
    *slot = hash;
    seen->used++;
    return true;
}

static void count_node(struct redis_call *call, const struct redis_node *node)
{
    struct counting *counting = call->state;

    switch (redis_scan_part(call, node)) {
    case REDIS_SCAN_ANSWER:
    case REDIS_SCAN_KEYS:
        return;
    case REDIS_SCAN_CURSOR:
        redis_scan_next(call, node->text, &counting->at);
        return;
    case REDIS_SCAN_KEY:
        counting->req->count += seen_add(&counting->seen, node->text);
        return;
    }
}

/* Behind one primary of a cluster comes the next. */
static bool goes_on(const struct counting *counting, const struct redis *redis)
{
    return counting->redis != redis && counting->redis != NULL;
}

static void count_end(struct redis_call *call)
{
    struct counting *counting = call->state;

    if (call->err.code == ERR_OK && counting->at == 0 && call->redis->cluster != NULL)
        counting->redis = redis_cluster_next(call->redis->cluster, call->redis);
    if (call->err.code != ERR_OK || (counting->at == 0 && !goes_on(counting, call->redis)))
        redis_finish(call->redis, call->op, call->err);
    else
        count_round(counting);
}

static const struct redis_kind count_kind = {.node = count_node, .end = count_end};

static void count_in_turn(struct redis_turn *turn)
{
    struct counting *counting = CONTAINER_OF(turn, struct counting, turn);
    struct redis_call *call =
        redis_begin_turn(turn, &count_kind, counting->pattern.len + redis_words(8));

    if (call == NULL)
        return;
    call->state = counting;
    redis_scan_command(call, counting->at, counting->pattern, COUNT);
}

static void count_round(struct counting *counting)
{
    counting->turn.buckets = COUNT;
    redis_turn_take(counting->redis, &counting->turn, &counting->req->op, count_in_turn);
}

static void count_from_first(struct redis_turn *turn)
{
    struct counting *counting = CONTAINER_OF(turn, struct counting, turn);
    struct redis *redis = counting->redis, *first = NULL;

    if (redis->cluster != NULL)
        first = redis_cluster_next(redis->cluster, NULL);
    if (first != NULL)
        counting->redis = first;
    count_round(counting);
}

void redis_count(struct backend *backend, struct kv_count *req)
{
    struct redis *redis = redis_of(backend);
    struct arena *arena = op_arena(&req->op);
    struct counting *counting = arena_zalloc(arena, sizeof *counting);

    counting->redis = redis;
    counting->req = req;
    counting->pattern = redis_scan_pattern(redis, arena, req->prefix);
    counting->seen.all = &redis_store_of(redis)->count_slots;
    counting->seen.seed = stir(clock_now_ns() ^ redis->random);
    arena_adopt(arena, &counting->seen, seen_dispose);
    req->count = 0;
    redis_part_look(redis, &counting->turn, &req->op, count_from_first);
}
