/* The embedded default: a key-value store, topics, streams and queues in this process's memory,
 * shared by all workers and the poller.
 *
 *   hash.c      which shard, which tag: SipHash under a random key
 *   index.c     one shard's table: 8-byte buckets, ordered by tag
 *   wheel.c     one shard's deadlines: when which tag is due
 *   entry.h     one key with its value: 16 bytes beside them
 *   shard.c     what is done to one shard under its lock
 *   store.c     the store, and writing; read.c everything else that concerns one key
 *   capacity.c  the limits, and health
 *   expiry.c    what has expired is taken out, in small steps
 *   sweep.c     the timer that drives expiry while nobody writes
 *   roster.h    the identity registry: roster.c, roster_page.c (who matches), order.c (ordering)
 *   sessions.h  the session store: sessions.c, sessions_many.c, session_items.c
 *   enumerate.c what goes by slices
 *   scan.c      pages and counts; cursor.c their cursors; count.c a count in slices
 *   messaging.h topics, streams and queues: its own list of files
 *   memstore.c  the backend: descriptor, settings, instances, methods */
#ifndef PRISM_BACKENDS_MEMSTORE_MEMSTORE_H
#define PRISM_BACKENDS_MEMSTORE_MEMSTORE_H

#include "backends/backend.h"

extern const struct backend_type backend_memstore;

#endif
