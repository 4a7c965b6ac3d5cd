/* An ordered set of members, each under a number: first by number, then by the bytes of the
 * member's name. A B+tree with nodes of 1 KiB: 16 bytes for each entry, and between a third more
 * and as much again for the room in nodes. O(log n) for all but order_next, which is O(1).
 *
 * thread: whoever holds the owner's lock. Allocation failure aborts. */
#ifndef PRISM_BACKENDS_MEMSTORE_ORDER_H
#define PRISM_BACKENDS_MEMSTORE_ORDER_H

#include "src/base/slice.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* The bytes by which members are ordered; they stay while the member is in a set. */
typedef struct slice order_name_fn(const void *member);

struct order {
    order_name_fn *name;     /* set by the owner before anything else */
    struct order_node *root; /* NULL: empty */
    unsigned levels;
    size_t entries, nodes;
};

void order_clear(struct order *order); /* the members stay */

/* The pair is not in the set yet. Returns another member of the number; NULL: it is the first. */
void *order_insert(struct order *order, uint64_t number, void *member);

/* The pair is in the set. */
void order_remove(struct order *order, uint64_t number, void *member);

/* A place between two changes of the set. */
struct order_place {
    struct order_node *leaf; /* NULL: behind the last */
    unsigned at;
};

/* The first entry that is not before (number, name); `behind`: that is behind it. */
struct order_place order_seek(const struct order *order, uint64_t number, struct slice name,
                              bool behind);

/* The member there if its number is this one, else NULL. */
void *order_at(const struct order_place *place, uint64_t number);

/* Of the lowest number; NULL: the set is empty. */
void *order_first(const struct order *order, uint64_t *number);

void order_next(struct order_place *place);

/* Passes `most` members of the number, or all that there are. Returns how many, and the last one of
 * them. No member is looked at. */
unsigned order_skip(struct order_place *place, uint64_t number, unsigned most, void **last);

size_t order_bytes(const struct order *order);

#endif
