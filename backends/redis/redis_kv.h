/* What the key-value interfaces of this folder share. */
#ifndef PRISM_BACKENDS_REDIS_REDIS_KV_H
#define PRISM_BACKENDS_REDIS_REDIS_KV_H

#include "backends/kv.h"
#include "backends/redis/redis_cluster.h"

enum {
    REDIS_BATCH_ITEMS = 1000, /* keys in one command: what redis does in about a millisecond */
    REDIS_SCAN_ITEMS = 1000,
};

/* One redis command that writes may take this; far beyond any sane expiry, and no overflow inside
 * redis. */
#define REDIS_TTL_MAX_MS (1ull << 52)

extern const struct kv_basic redis_kv_basic;
extern const struct kv_ttl redis_kv_ttl;
extern const struct kv_batch redis_kv_batch, redis_cluster_batch;
extern const struct kv_txn redis_kv_txn;
extern const struct kv_scan redis_kv_scan;
extern const struct kv_cas redis_kv_cas;

/* Shared by put, put_many and txn. */
size_t redis_set_bytes(struct slice key, struct slice value);
void redis_set(struct redis_call *call, struct slice key, struct slice value, uint64_t ttl_ms);

/* Shared by put_many and txn. plain: no item expires, so one MSET does. */
bool redis_put_is_plain(const struct kv_put_many *req);
size_t redis_put_bytes(const struct kv_put_many *req);
void redis_put_plain(struct backend *backend, struct kv_put_many *req);

void redis_get_many(struct backend *backend, struct kv_get_many *req);

/* The longest value that is read before its length is known: all of them together take a quarter of
 * the room, which is the most that may be read in vain. */
uint64_t redis_value_head(const struct kv_get_many *req);

/* ---- one SCAN (redis_scan_call.c) ---- */

enum redis_scan_part { REDIS_SCAN_ANSWER, REDIS_SCAN_CURSOR, REDIS_SCAN_KEYS, REDIS_SCAN_KEY };
enum redis_scan_part redis_scan_part(struct redis_call *call, const struct redis_node *node);
struct slice redis_scan_pattern(const struct redis *redis, struct arena *arena,
                                struct slice prefix);
void redis_scan_command(struct redis_call *call, uint64_t at, struct slice pattern, uint32_t count);
void redis_scan_next(struct redis_call *call, struct slice text, uint64_t *next);
void redis_count(struct backend *backend, struct kv_count *req);

/* What a page of a cluster is about (redis_part.c): a part of the slots, on one primary. */
struct redis_part {
    struct redis_slots slots; /* redis NULL: no cluster, or nobody has them */
};

/* Calls go(turn), with the map as it is now: SCAN is not sent elsewhere when slots have moved. At
 * once where there is no cluster, or nobody to ask. The turn is that of the SCANs to come. */
void redis_part_look(struct redis *shared, struct redis_turn *turn, struct op *op,
                     void (*go)(struct redis_turn *));

/* Takes the cursor; empty: the beginning. false: it is none of this scope. *from is where the
 * primary's own SCAN goes on. */
bool redis_part_begin(const struct redis_cluster *cluster, struct arena *arena, struct slice scope,
                      struct slice cursor, struct redis_part *part, struct redis_cursor *from);

/* Is this key, with its prefix, in the part? Without a cluster: yes. */
bool redis_part_has(const struct redis_part *part, struct slice key);

/* rest: of the primary's SCAN. false: the last part is done; else *next is the cursor. */
bool redis_part_end(struct arena *arena, struct slice scope, const struct redis_part *part,
                    const struct redis_cursor *rest, struct slice *next);

#endif
