/* A log: items by consecutive offsets, appended at the end, removed anywhere. Segments of 32 slots
 * and a ring of segments: each operation is O(1), a hole costs its slot until its segment is empty.
 *
 * thread: whoever holds the owner's lock. Allocation failure aborts. */
#ifndef PRISM_BACKENDS_MEMSTORE_MSGLOG_H
#define PRISM_BACKENDS_MEMSTORE_MSGLOG_H

#include <stddef.h>
#include <stdint.h>

struct msglog_segment;

struct msglog {
    int64_t first; /* oldest item; == next: none */
    int64_t next;  /* where the next item goes */
    uint64_t held; /* items */
    struct msglog_segment **ring;
    size_t room; /* segments, a power of two */
};

void msglog_init(struct msglog *log);
void msglog_clear(struct msglog *log); /* the items are the caller's */

/* Returns its offset. */
int64_t msglog_append(struct msglog *log, void *item);

/* NULL: before the first, behind the last, or removed. */
void *msglog_get(const struct msglog *log, int64_t offset);

/* Leaves a hole, or moves `first`. NULL as msglog_get. */
void *msglog_take(struct msglog *log, int64_t offset);

/* The first offset at or behind `offset` that has an item; next: none. Skips empty segments in one
 * step. */
int64_t msglog_seek(const struct msglog *log, int64_t offset);

#endif
