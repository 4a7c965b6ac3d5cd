/* Bytes that outlive the call that brought them, and that many threads may read: the payload of a
 * message. They never change after the block was made, so readers need no lock.
 *
 * A block has one owner for each reference: a topic's tail, a batch, a send that gRPC has not
 * finished. Whoever drops the last reference runs dispose, on his own thread. */
#ifndef PRISM_BASE_BLOCK_H
#define PRISM_BASE_BLOCK_H

#include "src/base/slice.h"

#include <stdatomic.h>
#include <stdint.h>

struct block {
    _Atomic uint32_t refs;
    struct slice bytes;
    void (*dispose)(struct block *); /* frees the block and what its bytes point to. thread: any */
};

/* Header and bytes in one allocation; one reference, the caller's. Aborts on allocation failure:
 * the caller has checked the size. thread: any. */
struct block *block_copy(struct slice bytes);

/* For a block that is part of a larger struct, which dispose frees. One reference, the caller's. */
static inline void block_init(struct block *block, struct slice bytes,
                              void (*dispose)(struct block *))
{
    atomic_init(&block->refs, 1);
    block->bytes = bytes;
    block->dispose = dispose;
}

/* thread: any that holds a reference. */
static inline struct block *block_ref(struct block *block)
{
    atomic_fetch_add_explicit(&block->refs, 1, memory_order_relaxed);
    return block;
}

/* Gives one reference back. NULL is accepted. thread: any. */
void block_unref(struct block *block);

#endif
