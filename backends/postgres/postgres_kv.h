/* What the key-value interfaces of this folder share. */
#ifndef PRISM_BACKENDS_POSTGRES_POSTGRES_KV_H
#define PRISM_BACKENDS_POSTGRES_POSTGRES_KV_H

#include "backends/kv.h"
#include "backends/postgres/postgres_call.h"
#include "src/base/digest.h"

enum {
    POSTGRES_BATCH_ITEMS = 1000,
    POSTGRES_SCAN_ITEMS = 1000,
    POSTGRES_COUNT_SLICE = 20000 /* rows that one step of a count walks */
};

/* Beyond any sane expiry, and within what a timestamp holds. */
#define POSTGRES_TTL_MAX_MS (1ull << 52)

extern const struct kv_basic postgres_kv_basic;
extern const struct kv_ttl postgres_kv_ttl;
extern const struct kv_batch postgres_kv_batch;
extern const struct kv_txn postgres_kv_txn;
extern const struct kv_scan postgres_kv_scan;
extern const struct kv_cas postgres_kv_cas;

struct digest postgres_digest(struct slice key);

static inline struct slice postgres_digest_slice(const struct digest *digest)
{
    return slice_of(digest->bytes, sizeof digest->bytes);
}

static inline int64_t postgres_ttl(uint64_t ttl_ms)
{
    return (int64_t)(ttl_ms < POSTGRES_TTL_MAX_MS ? ttl_ms : POSTGRES_TTL_MAX_MS);
}

/* One row that is looked up, written or removed, and its place among those of the request. Every
 * statement names rows in ascending order of their digests, so no two lock each other out. */
struct postgres_row {
    struct digest digest;
    uint32_t place;
};

/* By digest, then by place. */
void postgres_rows_sort(struct postgres_row *rows, size_t n);

/* The first of the sorted rows with this digest; n: none. */
size_t postgres_rows_find(const struct postgres_row *rows, size_t n, struct slice digest);

/* What is written for a row; `rows` names these by place. */
struct postgres_write {
    struct slice key, value;
    uint64_t ttl_ms;
};

/* Parameters of SQL_UPSERT from sorted rows: of those with the same key the last is written. */
void postgres_upsert_params(struct postgres_params *params, int32_t space,
                            const struct postgres_row *rows, size_t n,
                            const struct postgres_write *writes);

/* Parameters of SQL_LOOKUP from sorted rows; cap: longest value that is sent. */
void postgres_lookup_params(struct postgres_params *params, int32_t space,
                            const struct postgres_row *rows, size_t n, uint64_t cap);

/* 16 hexadecimal digits. */
struct slice postgres_version(struct arena *arena, int64_t version);
bool postgres_version_read(struct slice text, int64_t *version);

/* Shared with kv_basic. */
void postgres_get_one(struct backend *backend, struct kv_get *req);
void postgres_put_one(struct backend *backend, struct kv_put *req);

/* The parameters of a statement about one key: $1 the space, $2 the digest. They live in
 * op_arena(op). */
void postgres_key_params(struct postgres_params *params, struct backend *backend, struct op *op,
                         struct slice key);

#endif
