/* Redis, asynchronous, one connection for each worker; hiredis parses the answers.
 * docs/backends/redis.md says what operators and callers may rely on. The floors of this folder,
 * each of which uses those above it in this list:
 *
 *   redis_text.h   text in, text out: addresses, prefixes, cluster slots, cursors, errors, SHA-1
 *   redis_settings.h  the tables of settings
 *   redis_tls.h    TLS, and redis_link.h, the socket with it or without
 *   redis_store.h  one slot: login, TLS, health
 *   redis_conn.h   one connection; with redis_write.c (output), redis_seek.c (whom it goes to),
 *                  redis_resolve.c (the name), redis_state.c (what it says of itself later)
 *   redis_cluster.h   the primaries of a cluster, and who of them has a key; redis_map.h, its map
 *                  as it comes
 *   redis_call.h   calls in flight (redis_call.c), turns of slow ones (redis_turns.c), and built on
 *                  them what is said first (redis_hello.c) and the life of a connection
 *                  (redis_conn.c)
 *   redis_kv.h     the interfaces: redis_kv.c, redis_batch.c, redis_get_many.c, redis_txn.c,
 *                  redis_cas.c, redis_scan.c, redis_count.c; over a cluster redis_part.c (scans),
 *                  redis_cluster_batch.c
 *   redis_scripted.h  operations that are scripts; redis_tags.h, the hash tags of their keys in a
 *                  cluster
 *   redis_registry.h  the identity registry: redis_registry_*.c
 *   redis_session.h   sessions: redis_session_*.c
 *   redis_spread.h    both of them over the partitions of a cluster
 *   redis_topic.h  topics: redis_topic.c (publishing, subscriptions), redis_listen.c (the
 *                  connection that listens), redis_backlog.c (what waits for a subscription)
 *   redis.c        the descriptor of `redis`
 *   redis_stream.h streams and queues: its own list of files, up to redis_streams.c, the descriptor
 *                  of `redis-stream` */
#ifndef PRISM_BACKENDS_REDIS_REDIS_H
#define PRISM_BACKENDS_REDIS_REDIS_H

#include "backends/backend.h"

extern const struct backend_type backend_redis, backend_redis_stream;

#endif
