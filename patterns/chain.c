#include "patterns/chain.h"

#include <stdbool.h>
#include <stdlib.h>

static int by_key_then_index(const void *a, const void *b)
{
    const struct chain_item *x = a, *y = b;
    int order = slice_compare(x->key, y->key);

    if (order != 0)
        return order;
    return x->index < y->index ? -1 : x->index > y->index;
}

static int by_number(const void *a, const void *b)
{
    uint32_t x = *(const uint32_t *)a, y = *(const uint32_t *)b;

    return x < y ? -1 : x > y;
}

size_t chain_equal_keys(struct chain_item *items, size_t n, uint32_t *next, uint32_t *heads)
{
    size_t head_count = 0;

    qsort(items, n, sizeof *items, by_key_then_index);
    for (size_t i = 0; i < n; i++) {
        bool followed = i + 1 < n && slice_equal(items[i].key, items[i + 1].key);
        bool follows = i > 0 && slice_equal(items[i - 1].key, items[i].key);

        next[items[i].index] = followed ? items[i + 1].index + 1 : 0;
        if (!follows)
            heads[head_count++] = items[i].index;
    }
    qsort(heads, head_count, sizeof *heads, by_number);
    return head_count;
}
