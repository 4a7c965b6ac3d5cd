/* Whom a connection goes to.
 *
 *   one server     the address, always
 *   sentinels      one of them first, which names the primary; then the primary, once. However
 *                  that ends, a sentinel is asked again: the next in the list, if this one did not
 *                  answer
 *   a cluster      for its map, any node that the address names or that it had; for a node of the
 *                  map, that one, always; for a slot, whoever has it
 *
 * So a failover is followed by every way in which a connection ends: it is lost, redis refuses
 * writes (READONLY), or the probe finds that it has become a replica. */
#include "backends/redis/redis_conn.h"

#include <string.h>

enum { SENTINEL_PORT = 26379 };

static void set_target(struct redis *redis, const struct redis_target *to)
{
    if (strcmp(redis->to.host, to->host) != 0)
        redis->address_at = 0;
    redis->to = *to;
}

static void take_seed(struct redis *redis)
{
    const struct redis_store *store = redis_store_of(redis);

    if (redis->seed_at >= store->address.seed_count) {
        set_target(redis, &redis->known[redis->seed_at - store->address.seed_count]);
        return;
    }

    const struct redis_seed *seed = &store->address.seeds[redis->seed_at];
    struct redis_target to = {.sentinel = store->sentinel_master != NULL, .port = seed->port};

    if (seed->port == 0 && !store->address.unix_socket)
        to.port = to.sentinel ? SENTINEL_PORT : REDIS_PORT;
    memcpy(to.host, seed->host, strnlen(seed->host, REDIS_HOST_BYTES));
    set_target(redis, &to);
}

void redis_seek(struct redis *redis)
{
    if (redis->aims)
        set_target(redis, &redis->calls->at(redis->cluster, redis->slot)->to);
    if (redis->fixed)
        return;
    if (redis->found.host[0] == '\0') {
        take_seed(redis);
        return;
    }
    set_target(redis, &redis->found);
    redis->found.host[0] = '\0';
}

bool redis_seek_next(struct redis *redis)
{
    if (redis->found.host[0] != '\0')
        return true;
    if (redis->fixed || (!redis->to.sentinel && redis->cluster == NULL))
        return false;
    redis->seed_at++;
    if (redis->seed_at >= redis_store_of(redis)->address.seed_count + redis->known_count)
        redis->seed_at = 0;
    return redis->seed_at != 0; /* a round of all, then a delay */
}

const char *redis_shown_host(const struct redis *redis)
{
    const struct redis_store *store = redis_store_of(redis);

    bool learnt = redis->fixed || (store->sentinel_master != NULL && !redis->to.sentinel);

    return learnt ? redis->to.host : store->shown_host;
}
