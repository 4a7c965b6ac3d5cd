/* A set of keys of topics, bounded: the keys of a stream that stopped after a failure.
 *
 * thread: one at a time. */
#ifndef PRISM_PATTERNS_MESSAGING_KEY_SET_H
#define PRISM_PATTERNS_MESSAGING_KEY_SET_H

#include "src/base/arena.h"
#include "src/base/slice.h"

#include <stdbool.h>
#include <stddef.h>

/* Most memory of a set. That of a removed key is had again when the set is empty. */
enum { KEY_SET_BYTES = 1 << 20 };

struct key_entry;

struct key_set {
    struct arena memory;
    struct key_entry **buckets; /* NULL while empty */
    size_t n;
};

/* cache: the worker's; may be NULL. */
void key_set_init(struct key_set *set, struct arena_cache *cache);

/* Empty again, and without memory. */
void key_set_clear(struct key_set *set);

bool key_set_has(const struct key_set *set, struct slice topic, struct slice key);

/* False: the set is full, and nothing was added. */
bool key_set_add(struct key_set *set, struct slice topic, struct slice key);

/* Removes the key of every topic. */
void key_set_remove(struct key_set *set, struct slice key);

#endif
