/* Which topics clients may name, and what the backend calls them.
 *
 * A name that a client gives is 1 to max_bytes bytes of UTF-8 without control characters, blanks,
 * wildcards (* > ? [) and without a leading "$" or "__", which brokers keep for themselves. The
 * backend's name is topic_prefix and the client's name.
 *
 * thread: any, once initialised. */
#ifndef PRISM_PATTERNS_MESSAGING_TOPICS_H
#define PRISM_PATTERNS_MESSAGING_TOPICS_H

#include "backends/backend.h"
#include "src/base/arena.h"
#include "src/base/err.h"
#include "src/base/slice.h"

#include <stddef.h>

struct topics {
    struct slice prefix;
    struct slice *allowed; /* patterns in which "*" stands for any run of bytes */
    size_t n_allowed;
    size_t max_bytes; /* of a client's name */
};

/* `allowed` is a list with commas; blanks around an entry do not count. The prefix is borrowed, the
 * rest lives in `arena`. */
void topics_init(struct topics *topics, struct arena *arena, const char *prefix,
                 const char *allowed);

/* Adds the faults of the settings `topic_prefix` and `allowed_topics`: a prefix that no name may
 * begin with, or a list that allows nothing. */
void topics_check(struct backend_faults *faults, const char *prefix, const char *allowed);

/* The same of a setting that is part of a name. */
void topics_check_part(struct backend_faults *faults, const char *setting, const char *part);

/* What the bytes of a name, or of the beginning of one, hold that they must not; NULL: nothing. */
const char *topics_fault(struct slice name);

/* INVALID_ARGUMENT or PERMISSION_DENIED about "topic", or ERR_NONE and the backend's name in *full:
 * `name` itself where there is no prefix, else in `arena`. */
struct err topics_map(const struct topics *topics, struct arena *arena, struct slice name,
                      struct slice *full);

/* The client's name of a topic that the backend names. */
struct slice topics_unmap(const struct topics *topics, struct slice full);

#endif
