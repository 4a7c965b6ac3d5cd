#include "src/base/block.h"

#include "src/base/container.h"

#include <stdlib.h>

struct copied {
    struct block block;
    char bytes[];
};

static void copy_free(struct block *block)
{
    free(CONTAINER_OF(block, struct copied, block));
}

struct block *block_copy(struct slice bytes)
{
    struct copied *copy = bytes.len <= SIZE_MAX / 2 ? malloc(sizeof *copy + bytes.len) : NULL;

    if (copy == NULL)
        abort();
    if (bytes.len > 0)
        memcpy(copy->bytes, bytes.data, bytes.len);
    block_init(&copy->block, slice_of(copy->bytes, bytes.len), copy_free);
    return &copy->block;
}

/* The release orders this owner's reads before the free; the acquire lets the last owner see them
 * done. */
void block_unref(struct block *block)
{
    if (block == NULL)
        return;

    uint32_t before = atomic_fetch_sub_explicit(&block->refs, 1, memory_order_acq_rel);

    if (before == 0)
        abort(); /* a reference was given back twice */
    if (before == 1)
        block->dispose(block);
}
