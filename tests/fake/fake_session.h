/* The fake's session store: an array in the order of places, everything looked for from its start.
 * Operations arrive as those of key-value do, with the world's modes and faults:
 *
 *   fail_at, lose_at   as everywhere: an operation fails before its effect, or its answer is lost
 *   page_limit         pages hold so many entries at most
 *   empty_pages        so many pages come empty, with more to follow
 *
 * The interface that the world offers is its own copy: tests change what it says before fake_open.
 * thread: the home worker's, as the world. */
#ifndef PRISM_TESTS_FAKE_FAKE_SESSION_H
#define PRISM_TESTS_FAKE_FAKE_SESSION_H

#include "backends/session.h"

struct fake_world;

struct fake_stay { /* a session; owned */
    struct slice id;
    struct session_owner owner;
    struct session_times times;
    uint64_t ttl_ms, end_ms, version, place;
    struct session_value *values;
    size_t n;
};

struct fake_sessions {
    struct session methods;

    /* private */
    struct fake_stay *items;
    size_t n, room;
    uint64_t place;
};

void fake_sessions_init(struct fake_world *world);
void fake_sessions_clear(struct fake_world *world);

/* Creates without an operation, for an hour. */
void fake_session(struct fake_world *world, const char *id, const char *user);

#endif
