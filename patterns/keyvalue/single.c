/* Operations on one key, as both protocols run them: the request struct, one backend call, and back
 * to `reply`. Keys and values have been checked by the handler. */
#include "patterns/keyvalue/keyvalue_priv.h"

#include "src/base/container.h"

enum { MS_PER_S = 1000 };

struct single *single_new(struct call *call, void (*reply)(struct single *, struct err))
{
    struct single *single = arena_zalloc(call_arena(call), sizeof *single);

    single->call = call;
    single->kv = keyvalue_of(call);
    single->reply = reply;
    return single;
}

void single_done(struct op *op)
{
    /* Every request begins with its op, so the union's address is the op's. */
    struct single *single = CONTAINER_OF(op, struct single, put);

    single->reply(single, op->err);
}

void store_fill_put_if(struct kv_put_if *put_if, const struct store_args *args)
{
    const pb_precondition *wanted = args->precondition;
    bool version =
        wanted->condition_case == PRISM__PATTERNS__KEYVALUE__PRECONDITION__CONDITION_IF_VERSION;

    put_if->key = args->key;
    put_if->value = args->value;
    put_if->ttl_ms = args->ttl_ms;
    put_if->condition = version ? KV_IF_VERSION : KV_IF_ABSENT;
    if (version)
        put_if->version = pb_slice(wanted->if_version);
}

/* Value, expiry and precondition are one operation of the backend: nothing can be half done. */
void store_start(struct single *single, const struct store_args *args)
{
    struct keyvalue *kv = single->kv;

    if (args->precondition != NULL) {
        store_fill_put_if(&single->put_if, args);
        call_start(single->call, &single->put_if.op, single_done);
        kv->plan.cas->put_if(kv->backend, &single->put_if);
        return;
    }
    single->put.key = args->key;
    single->put.value = args->value;
    single->put.ttl_ms = args->ttl_ms;
    call_start(single->call, &single->put.op, single_done);
    kv->plan.basic->put(kv->backend, &single->put);
}

void retrieve_start(struct single *single, struct slice key, bool want_version)
{
    single->get.key = key;
    single->get.want_version = want_version;
    single->room.bytes = single->kv->max_message_bytes;
    single->get.room = &single->room;
    call_start(single->call, &single->get.op, single_done);
    single->kv->plan.basic->get(single->kv->backend, &single->get);
}

void remove_start(struct single *single, struct slice key)
{
    single->del.key = key;
    call_start(single->call, &single->del.op, single_done);
    single->kv->plan.basic->del(single->kv->backend, &single->del);
}

void exists_start(struct single *single, struct slice key)
{
    single->exists.key = key;
    call_start(single->call, &single->exists.op, single_done);
    single->kv->plan.basic->exists(single->kv->backend, &single->exists);
}

/* 0 seconds: expired at once, so the key is removed. */
void set_expiration_start(struct single *single, struct slice key, int64_t seconds)
{
    if (seconds == 0) {
        single->by_removal = true;
        remove_start(single, key);
        return;
    }
    single->expire.key = key;
    single->expire.ttl_ms = (uint64_t)seconds * MS_PER_S;
    call_start(single->call, &single->expire.op, single_done);
    single->kv->plan.ttl->expire(single->kv->backend, &single->expire);
}

void get_expiration_start(struct single *single, struct slice key)
{
    single->ttl_get.key = key;
    call_start(single->call, &single->ttl_get.op, single_done);
    single->kv->plan.ttl->get(single->kv->backend, &single->ttl_get);
}

void clear_expiration_start(struct single *single, struct slice key)
{
    single->persist.key = key;
    call_start(single->call, &single->persist.op, single_done);
    single->kv->plan.ttl->persist(single->kv->backend, &single->persist);
}

void count_start(struct single *single, struct slice prefix)
{
    single->count.prefix = prefix;
    call_start(single->call, &single->count.op, single_done);
    single->kv->plan.scan->count(single->kv->backend, &single->count);
}

bool set_expiration_existed(const struct single *single)
{
    return single->by_removal ? single->del.existed : single->expire.existed;
}

int64_t get_expiration_seconds(const struct kv_ttl_get *ttl_get)
{
    if (!ttl_get->found)
        return -2;
    if (!ttl_get->has_ttl)
        return -1;
    return (int64_t)((ttl_get->ttl_ms + MS_PER_S - 1) / MS_PER_S);
}
