/* Which of many items name the same key: those take effect one after the other, in request order.
 * Found by sorting, so that no choice of keys makes it slow. */
#ifndef PRISM_PATTERNS_CHAIN_H
#define PRISM_PATTERNS_CHAIN_H

#include "src/base/slice.h"

#include <stddef.h>
#include <stdint.h>

struct chain_item {
    struct slice key;
    uint32_t index; /* in the request */
};

/* Sorts `items`, n of them, by key. For the index of each, next[index] becomes the index plus 1 of
 * the item that follows on the same key, or 0. `heads` becomes the indices of those that follow no
 * other, ascending; it holds n. Returns their number. thread: any. */
size_t chain_equal_keys(struct chain_item *items, size_t n, uint32_t *next, uint32_t *heads);

#endif
