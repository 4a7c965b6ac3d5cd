/* A connection is known by the authentication context that gRPC makes for each, also without TLS:
 * every call holds a reference to it, so its address is unique while one of them lives. Asking for
 * the peer's name instead would allocate for each call, and all clients of a unix socket have the
 * same one. */
#include "src/rpc/share.h"

#include <grpc/grpc_security.h>
#include <stdlib.h>
#include <string.h>

static const void *connection_of(grpc_call *call)
{
    grpc_auth_context *context = grpc_call_auth_context(call);

    grpc_auth_context_release(context); /* the call has its own reference */
    return context;
}

static size_t bucket_of(const void *key)
{
    return (size_t)((uintptr_t)key * UINT64_C(0x9e3779b97f4a7c15) >> 54) % SHARE_BUCKETS;
}

/* In the bucket of `key`: its share, else one that nobody uses, else a new one. */
static struct share *find(struct share **bucket, const void *key)
{
    struct share *unused = NULL, *share;

    for (share = *bucket; share != NULL; share = share->next) {
        if (share->key == key)
            return share;
        if (share->users == 0)
            unused = share;
    }
    if (unused != NULL) { /* without users it holds nothing */
        unused->key = key;
        return unused;
    }
    share = calloc(1, sizeof *share);
    if (share == NULL)
        abort();
    share->key = key;
    share->next = *bucket;
    *bucket = share;
    return share;
}

struct share *share_enter(struct share_table *table, grpc_call *call)
{
    const void *key = connection_of(call);

    if (table->last == NULL || table->last->key != key)
        table->last = find(&table->buckets[bucket_of(key)], key);
    if (table->last->users++ == 0) { /* it may be another one, with the address of one before */
        table->last->taken_ns = 0;
        table->last->ended = false;
    }
    return table->last;
}

void share_leave(struct share *share)
{
    share->users--;
}

uint64_t share_bytes(const struct share *share)
{
    return counter_read(&share->bytes) +
           atomic_load_explicit(&share->held_bytes, memory_order_relaxed);
}

void share_clear(struct share_table *table)
{
    for (size_t i = 0; i < SHARE_BUCKETS; i++) {
        while (table->buckets[i] != NULL) {
            struct share *share = table->buckets[i];

            table->buckets[i] = share->next;
            free(share);
        }
    }
    table->last = NULL;
}
