/* Operations on one key. On a large store such an operation is mostly waiting: for the bucket of
 * its key, then for the entry that the bucket points to. So it is done in steps, and what one step
 * asks for arrives while other calls have their turn:
 *
 *   the method  hashes the key; asks for the bucket
 *   bring       asks for the entry
 *   do_...      the operation
 *
 * All have the same number of steps, so they take effect in the order in which they were started
 * on a worker: what the pattern builds on. Windows (window.c) and scans act at once, and may
 * overtake them. */
#include "backends/memstore/memstore_priv.h"
#include "src/base/container.h"

static struct memstore_instance *instance_of(const struct op *op)
{
    return op->backend_data;
}

static struct memstore *store_of(const struct op *op)
{
    return CONTAINER_OF(instance_of(op)->base.store, struct memstore, base);
}

static void begin(struct backend *backend, struct op *op, struct slice key,
                  op_step_fn *const *steps)
{
    struct memstore_instance *instance = CONTAINER_OF(backend, struct memstore_instance, base);

    counter_add(&backend->stats.calls, 1);
    instance->under_way++;
    op->backend_data = instance;
    op->backend_word = memstore_hash(store_of(op), key);

    struct memstore_spot spot = memstore_spot(store_of(op), op->backend_word);

    index_prefetch(&spot.shard->index, spot.tag);
    op_steps(op, steps);
}

static struct memstore_spot spot_of(const struct op *op)
{
    return memstore_spot(store_of(op), op->backend_word);
}

static void bring(struct op *op)
{
    shard_bring(spot_of(op));
}

static void end(struct op *op, struct err err)
{
    struct memstore_instance *instance = instance_of(op);

    op->err = err;
    instance->under_way--;
    if (err.code != ERR_OK)
        counter_add(&instance->base.stats.errors, 1);
}

static void do_put(struct op *op)
{
    struct kv_put *put = CONTAINER_OF(op, struct kv_put, op);
    struct memstore_write write = {.key = put->key, .value = put->value, .ttl_ms = put->ttl_ms};

    end(op, memstore_write_at(store_of(op), spot_of(op), &write));
}

/* A version is the store's nonce and the number of the write in its shard, both in the machine's
 * order. */
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

static void do_get(struct op *op)
{
    struct kv_get *get = CONTAINER_OF(op, struct kv_get, op);
    struct memstore *store = store_of(op);
    struct memstore_read read =
        memstore_read_at(store, spot_of(op), get->key, get->room, op_arena(op));

    get->found = read.found;
    get->value = read.value;
    if (read.found && get->want_version && read.value.data != NULL)
        get->version = version_write(store, read.version, op_arena(op));
    end(op, ERR_NONE);
}

static void do_del(struct op *op)
{
    struct kv_del *del = CONTAINER_OF(op, struct kv_del, op);

    del->existed = memstore_remove_at(store_of(op), spot_of(op), del->key);
    end(op, ERR_NONE);
}

static void do_exists(struct op *op)
{
    struct kv_exists *exists = CONTAINER_OF(op, struct kv_exists, op);

    exists->found = memstore_exists_at(store_of(op), spot_of(op), exists->key);
    end(op, ERR_NONE);
}

static void do_put_if(struct op *op)
{
    struct kv_put_if *put = CONTAINER_OF(op, struct kv_put_if, op);
    struct memstore *store = store_of(op);
    struct memstore_write write = {.key = put->key, .value = put->value, .ttl_ms = put->ttl_ms};
    struct err err = ERR_NONE;

    write.condition = put->condition == KV_IF_ABSENT ? MEMSTORE_IF_ABSENT : MEMSTORE_IF_VERSION;
    if (put->condition == KV_IF_ABSENT || version_read(store, put->version, &write.expected))
        err = memstore_write_at(store, spot_of(op), &write);
    put->stored = write.stored;
    if (put->stored)
        put->current_version = version_write(store, write.version, op_arena(op));
    end(op, err);
}

static void do_expire(struct op *op)
{
    struct kv_expire *expire = CONTAINER_OF(op, struct kv_expire, op);

    expire->existed = memstore_expire(store_of(op), expire->key, expire->ttl_ms);
    end(op, ERR_NONE);
}

static void do_ttl_get(struct op *op)
{
    struct kv_ttl_get *get = CONTAINER_OF(op, struct kv_ttl_get, op);

    get->found = memstore_ttl(store_of(op), get->key, &get->ttl_ms);
    get->has_ttl = get->ttl_ms > 0;
    end(op, ERR_NONE);
}

static void do_persist(struct op *op)
{
    struct kv_persist *persist = CONTAINER_OF(op, struct kv_persist, op);

    persist->removed = memstore_persist(store_of(op), persist->key);
    end(op, ERR_NONE);
}

static void put(struct backend *backend, struct kv_put *put)
{
    static op_step_fn *const steps[] = {bring, do_put, NULL};

    begin(backend, &put->op, put->key, steps);
}

static void get(struct backend *backend, struct kv_get *get)
{
    static op_step_fn *const steps[] = {bring, do_get, NULL};

    begin(backend, &get->op, get->key, steps);
}

static void del(struct backend *backend, struct kv_del *del)
{
    static op_step_fn *const steps[] = {bring, do_del, NULL};

    begin(backend, &del->op, del->key, steps);
}

static void exists(struct backend *backend, struct kv_exists *exists)
{
    static op_step_fn *const steps[] = {bring, do_exists, NULL};

    begin(backend, &exists->op, exists->key, steps);
}

static void put_if(struct backend *backend, struct kv_put_if *put)
{
    static op_step_fn *const steps[] = {bring, do_put_if, NULL};

    begin(backend, &put->op, put->key, steps);
}

static void expire(struct backend *backend, struct kv_expire *expire)
{
    static op_step_fn *const steps[] = {bring, do_expire, NULL};

    begin(backend, &expire->op, expire->key, steps);
}

static void ttl_get(struct backend *backend, struct kv_ttl_get *get)
{
    static op_step_fn *const steps[] = {bring, do_ttl_get, NULL};

    begin(backend, &get->op, get->key, steps);
}

static void persist(struct backend *backend, struct kv_persist *persist)
{
    static op_step_fn *const steps[] = {bring, do_persist, NULL};

    begin(backend, &persist->op, persist->key, steps);
}

const struct kv_basic memstore_basic = {
    .put = put, .get = get, .del = del, .exists = exists, .window = &memstore_window};
const struct kv_ttl memstore_ttl_methods = {
    .step_ms = 1, .expire = expire, .get = ttl_get, .persist = persist};
const struct kv_cas memstore_cas = {
    .version_means = "nobody has stored the key in between; its expiry may have changed",
    .put_if = put_if};
