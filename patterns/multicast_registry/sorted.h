/* Enumerate with sort_by, over any registry: all matches are looked at, and the first of them kept.
 *
 *   page, page, ..  each match's sort key, as bytes that compare as the keys do; the `limit`
 *                   smallest behind the cursor stay, in a heap
 *   get             those, with their documents, in order
 *
 * A key is, for each path: the rank of its type, then a number in an order of bytes, or the first
 * SORTED_TEXT_BYTES of a string and a NUL; inverted where it descends. The identity comes last, so
 * that no two keys are equal. A cursor is the key of the last one that was told.
 *
 * Absent < null < false < true < numbers < strings < lists and structs, which are alike.
 *
 * Cost: a walk over all matches for each page. Memory: SORTED_BYTES for each of `limit`, and one
 * page of the registry. More than max_sorted matches are refused. SORTED_AT_ONCE walks of a worker
 * go at a time; the others stand in a line, and beyond SORTED_WAITING are refused. */
#ifndef PRISM_PATTERNS_MULTICAST_REGISTRY_SORTED_H
#define PRISM_PATTERNS_MULTICAST_REGISTRY_SORTED_H

#include "patterns/multicast_registry/multicast_priv.h"

enum {
    SORTED_PATHS = 5,
    SORTED_TEXT_BYTES = 128,
    SORTED_BYTES = SORTED_PATHS * (SORTED_TEXT_BYTES + 2) + REGISTRY_IDENTITY_BYTES
};

enum { SORTED_AT_ONCE = 4, SORTED_WAITING = 64 }; /* walks of a worker; calls that wait for one */

/* The request has sort_by; filter and limit are read from it. Ends the call. */
void sorted_enumerate(struct call *call, const struct filter *filter, size_t limit,
                      uint64_t max_bytes);

#endif
