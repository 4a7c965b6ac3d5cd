/* Which items of a batch name the same key. By sorting, so that no choice of keys makes it slow. */
#include "patterns/keyvalue/batch.h"

#include <stdlib.h>

static const struct slice *key_of(const struct batch *batch, uint32_t i)
{
    return batch_item(batch, i);
}

static bool is_sent(const struct batch *batch, uint32_t i)
{
    const char *item = batch_item(batch, i);
    const struct err *err = (const void *)(item + batch->kind->err_offset);

    return err->code == ERR_OK;
}

static int by_key_then_index(const void *a, const void *b, void *arg)
{
    uint32_t i = *(const uint32_t *)a, j = *(const uint32_t *)b;
    int order = slice_compare(*key_of(arg, i), *key_of(arg, j));

    if (order != 0)
        return order;
    return i < j ? -1 : i > j;
}

size_t batch_chain(const struct batch *batch, uint32_t *next, uint32_t *heads, struct arena *arena)
{
    uint32_t *sorted = arena_alloc(arena, batch->n * sizeof *sorted);
    bool *follows = arena_array(arena, batch->n, sizeof *follows);
    size_t n = 0, head_count = 0;

    for (uint32_t i = 0; i < batch->n; i++) {
        next[i] = 0;
        if (is_sent(batch, i))
            sorted[n++] = i;
    }
    qsort_r(sorted, n, sizeof *sorted, by_key_then_index, (void *)(uintptr_t)batch);
    for (size_t k = 1; k < n; k++) {
        if (!slice_equal(*key_of(batch, sorted[k - 1]), *key_of(batch, sorted[k])))
            continue;
        next[sorted[k - 1]] = sorted[k] + 1;
        follows[sorted[k]] = true;
    }
    for (uint32_t i = 0; i < batch->n; i++) {
        if (is_sent(batch, i) && !follows[i])
            heads[head_count++] = i;
    }
    return head_count;
}
