/* What slots.c and slots_close.c share. */
#ifndef PRISM_SLOTS_PRIV_H
#define PRISM_SLOTS_PRIV_H

#include "backends/backend.h"
#include "backends/registry.h"
#include "patterns/pattern.h"
#include "pool/op.h"
#include "src/slots.h"

#include <stdatomic.h>
#include <stdlib.h>

struct space;

/* One slot of one namespace. */
struct slot {
    struct space *space;
    const struct slot_schema *schema;
    struct backend_store *store;
    bool borrowed;              /* the store is another slot's: slot_schema.meets */
    bool stopped;               /* store_stop was called */
    struct backend **instances; /* by worker, the poller last; NULL there unless inline_ok */

    /* the probe; runs on worker 0 */
    struct op probe;
    struct registry_count count; /* beside it, of a slot that holds identities */
    struct op_group group;
    struct arena arena;
    struct job start;
    _Atomic bool probing;
    _Atomic(const char *) probe_error; /* static; NULL: the last probe came back well */
    _Atomic(uint64_t) identities;      /* as counted last; UINT64_MAX: not known */
};

struct space {
    const struct config_namespace *config;
    struct slot slots[PATTERN_MAX_SLOTS];
    struct pattern_shared *shared; /* NULL: the pattern shares nothing */
    struct pattern **patterns;     /* by worker, the poller last */
};

struct slots {
    struct pool *pool;
    struct rpc_server *server;
    unsigned workers; /* the poller included */
    uint32_t max_message_bytes;
    struct space *spaces;
    size_t space_count;
    struct slot **filled; /* every slot that has a store */
    size_t filled_count;
    char vet_text[ERR_KEPT_BYTES];
};

/* Zeroed memory; aborts without it. Free with free(). */
static inline void *slots_zalloc(size_t n, size_t size)
{
    void *out = calloc(n, size);

    if (out == NULL)
        abort();
    return out;
}

/* By index; the last is the poller. */
struct worker *slots_worker(const struct slots *slots, unsigned i);

/* Of a slot that is there to hold identities; NULL: it is not. */
const struct registry *slots_registry(const struct slot *slot);

/* Runs fn(arg) on that worker and waits until it has returned. thread: main. */
void slots_run_on(const struct slots *slots, unsigned worker, void (*fn)(void *), void *arg);

#endif
