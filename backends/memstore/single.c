/* Operations on one key: each is done before its method returns, so they take effect in the order
 * in which they were started on a worker. Scans and counts (enumerate.c) come later. */
#include "backends/memstore/instance.h"
#include "src/base/container.h"

static struct memstore *begin(struct backend *backend)
{
    counter_add(&backend->stats.calls, 1);
    return CONTAINER_OF(backend->store, struct memstore, base);
}

static void end(struct backend *backend, struct op *op, struct err err)
{
    if (err.code != ERR_OK)
        counter_add(&backend->stats.errors, 1);
    op_finish(op, err);
}

static void put(struct backend *backend, struct kv_put *put)
{
    struct memstore_write write = {.key = put->key, .value = put->value, .ttl_ms = put->ttl_ms};

    end(backend, &put->op, memstore_write(begin(backend), &write));
}

/* A version is the store's nonce and the number of the write in its shard, both in the machine's
 * order. A version that a client has kept while its shard took exactly 2^32 writes, the last of
 * them to this key, would match again: at a million writes a second to all shards together that
 * takes twelve days at least, and one write of four billion that hits. */
static struct slice version_write(const struct memstore *store, uint32_t version,
                                  struct arena *arena)
{
    uint32_t parts[2] = {store->nonce, version};

    return arena_copy(arena, slice_of(parts, sizeof parts));
}

static bool version_read(const struct memstore *store, struct slice from, uint32_t *version)
{
    uint32_t parts[2];

    if (from.len != sizeof parts)
        return false;
    memcpy(parts, from.data, sizeof parts);
    *version = parts[1];
    return parts[0] == store->nonce;
}

static void get(struct backend *backend, struct kv_get *get)
{
    struct memstore *store = begin(backend);
    struct memstore_read read = memstore_read(store, get->key, get->room, op_arena(&get->op));

    get->found = read.found;
    get->value = read.value;
    if (read.found && get->want_version && read.value.data != NULL)
        get->version = version_write(store, read.version, op_arena(&get->op));
    end(backend, &get->op, ERR_NONE);
}

static void del(struct backend *backend, struct kv_del *del)
{
    del->existed = memstore_remove(begin(backend), del->key);
    end(backend, &del->op, ERR_NONE);
}

static void exists(struct backend *backend, struct kv_exists *exists)
{
    exists->found = memstore_exists(begin(backend), exists->key);
    end(backend, &exists->op, ERR_NONE);
}

static void put_if(struct backend *backend, struct kv_put_if *put)
{
    struct memstore *store = begin(backend);
    struct memstore_write write = {.key = put->key, .value = put->value, .ttl_ms = put->ttl_ms};
    struct err err = ERR_NONE;

    write.condition = put->condition == KV_IF_ABSENT ? MEMSTORE_IF_ABSENT : MEMSTORE_IF_VERSION;
    if (put->condition == KV_IF_ABSENT || version_read(store, put->version, &write.expected))
        err = memstore_write(store, &write);
    put->stored = write.stored;
    if (put->stored)
        put->current_version = version_write(store, write.version, op_arena(&put->op));
    end(backend, &put->op, err);
}

static void expire(struct backend *backend, struct kv_expire *expire)
{
    expire->existed = memstore_expire(begin(backend), expire->key, expire->ttl_ms);
    end(backend, &expire->op, ERR_NONE);
}

static void ttl_get(struct backend *backend, struct kv_ttl_get *get)
{
    get->found = memstore_ttl(begin(backend), get->key, &get->ttl_ms);
    get->has_ttl = get->ttl_ms > 0;
    end(backend, &get->op, ERR_NONE);
}

static void persist(struct backend *backend, struct kv_persist *persist)
{
    persist->removed = memstore_persist(begin(backend), persist->key);
    end(backend, &persist->op, ERR_NONE);
}

const struct kv_basic memstore_basic = {
    .put = put, .get = get, .del = del, .exists = exists, .window = &memstore_window};
const struct kv_ttl memstore_ttl_methods = {
    .step_ms = 1, .expire = expire, .get = ttl_get, .persist = persist};
const struct kv_cas memstore_cas = {
    .version_means = "nobody has stored the key in between; its expiry may have changed",
    .put_if = put_if};
