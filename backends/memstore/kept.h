/* A message that is kept: one block, made by one copy, never changed but for `holds`. */
#ifndef PRISM_BACKENDS_MEMSTORE_KEPT_H
#define PRISM_BACKENDS_MEMSTORE_KEPT_H

#include "backends/message.h"
#include "src/base/block.h"

struct kept {
    struct block block;   /* its bytes are the payload. One reference for all holds */
    struct block *shared; /* the payload's owner; NULL: it is behind the headers */
    uint64_t timestamp_ms;
    uint64_t due_ns; /* of a delayed push, on the store's clock; 0 = at once */
    uint32_t cost;   /* bytes charged */
    uint32_t holds;  /* the log, deliveries. Under the owner's lock */
    uint32_t n_headers;
    uint32_t topic_len;
    struct slice key, id; /* behind the headers */
    struct header headers[];
};

/* What one costs, whether or not its payload is shared. */
size_t kept_cost(const struct outgoing *m);

/* One reference, no hold. Cost: kept_cost. */
struct kept *kept_new(const struct outgoing *m, uint64_t timestamp_ms);

/* Everything but token, attempt and offset. Slices live as long as the kept message. */
void kept_tell(struct kept *kept, struct incoming *out);

static inline struct kept *kept_ref(struct kept *kept)
{
    block_ref(&kept->block);
    return kept;
}

static inline void kept_unref(struct kept *kept)
{
    block_unref(&kept->block);
}

/* What it counts against a credit. */
static inline size_t kept_bytes(const struct kept *kept)
{
    return kept->cost - sizeof *kept - kept->n_headers * sizeof(struct header);
}

#endif
