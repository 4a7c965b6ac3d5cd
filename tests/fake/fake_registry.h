/* The fake's identity registry: a sorted array, every filter evaluated for every entry. Operations
 * arrive as those of key-value do, with the world's modes and faults:
 *
 *   fail_at, lose_at   as everywhere: an operation fails before its effect, or its answer is lost
 *   poison             an item with this identity fails by itself, with fail_with
 *   page_limit         pages hold so many entries at most
 *   empty_pages        so many pages come empty, with more to follow
 *
 * The interface that the world offers is its own copy: tests change what it says (native, indexed)
 * before fake_open. thread: the home worker's, as the world. */
#ifndef PRISM_TESTS_FAKE_FAKE_REGISTRY_H
#define PRISM_TESTS_FAKE_FAKE_REGISTRY_H

#include "backends/registry.h"

struct fake_world;

enum { FAKE_UNIX_MS = 1700000000 /* seconds: what world.now_ms 0 is on the calendar */ };

struct fake_identity {
    struct registry_entry entry; /* owned */
    uint64_t ttl_ms;
};

struct fake_registry {
    struct registry methods;
    uint64_t pages, whole_pages; /* asked for; with documents */

    /* private */
    struct fake_identity *items; /* by identity */
    size_t n, room;
    uint64_t generation;
};

void fake_registry_init(struct fake_world *world);
void fake_registry_clear(struct fake_world *world);

/* Unix time in the world. */
uint64_t fake_registry_now_ms(const struct fake_world *world);

/* Registers without an operation. json: the metadata; NULL: none. ttl_ms 0: never expires. */
void fake_register(struct fake_world *world, const char *identity, const char *json,
                   uint64_t ttl_ms);

/* NULL: absent or expired. */
const struct registry_entry *fake_registered(const struct fake_world *world, const char *identity);

#endif
