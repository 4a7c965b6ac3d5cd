/* Hash tags of a namespace's partitions: partition i of n has its keys in a slot of the i-th n-th
 * of all slots, so that primaries with as many slots have as many partitions. A tag is
 * <namespace>%<i>.<k>, with the least k that gives such a slot, so every process has the same ones;
 * no namespace's name, as it stands in keys, goes on so. One partition alone has the namespace as
 * its tag. */
#ifndef PRISM_BACKENDS_REDIS_REDIS_TAGS_H
#define PRISM_BACKENDS_REDIS_REDIS_TAGS_H

#include "src/base/slice.h"

enum { REDIS_TAGS = 256 }; /* at most */

struct redis_tags {
    unsigned n;
    char *texts[]; /* [n] */
};

/* space: the namespace as it stands in keys. */
struct redis_tags *redis_tags_new(struct slice space, unsigned n);
void redis_tags_free(struct redis_tags *tags); /* NULL: nothing */

#endif
