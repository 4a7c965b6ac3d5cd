/* What the files of the dynamodb backend share. thread: home of the instance, unless said
 * otherwise.
 *
 * An item:
 *   p  S  partition: "<key_prefix>/<namespace>#<number>", the number by the key's hash
 *   k  B  sort key: the key; of a long one its beginning and its digest
 *   f  B  the whole key, where it is longer than DYNAMODB_HEAD_BYTES
 *   v  B  the value; absent: empty
 *   r  S  version: new with every write of the value
 *   e  N  expiry, in milliseconds since 1970; absent: none. What has expired is absent, whether the
 *         server has removed it or not
 *   t  N  the same in seconds, for the server's own expiry */
#ifndef PRISM_BACKENDS_DYNAMODB_DYNAMODB_PRIV_H
#define PRISM_BACKENDS_DYNAMODB_DYNAMODB_PRIV_H

#include "backends/aws/aws_client.h"
#include "backends/dynamodb/dynamodb.h"
#include "backends/kv.h"

struct cJSON;

enum {
    DYNAMODB_KEY_BYTES = 2048,
    DYNAMODB_SORT_BYTES = 1024, /* longest sort key; a key of this length or more has its digest */
    DYNAMODB_HEAD_BYTES = DYNAMODB_SORT_BYTES - DIGEST_BYTES,
    DYNAMODB_VALUE_BYTES = 409600 - 4096, /* of an item, less the rest of it */
    DYNAMODB_VERSION_BYTES = 32,
    DYNAMODB_BATCH_ITEMS = 25,
    DYNAMODB_TXN_ITEMS = 100,
};

struct dynamodb_store {
    struct aws_store aws; /* first */
    char *table;
    char *root; /* of partitions: "prism/default#" */
    uint32_t partitions;
    bool consistent, create_table;
};

/* How far the count of all sessions has been compared with what there is
 * (dynamodb_session_recount.c). */
struct dynamodb_recount {
    uint64_t place, count;   /* of the counter when the pass began */
    uint64_t entries, after; /* counted so far, and the place of the last one */
    uint64_t first_entries;  /* of the first pass */
    uint64_t next_ns;        /* not before; worker time */
    bool begun, second, busy;
};

struct dynamodb {
    struct aws_client aws; /* first */
    /* of sessions (dynamodb_session_create.c) */
    struct session_turn *turns; /* under way or waiting */
    uint64_t creations, sweep_after;
    uint32_t owed; /* places that were counted and not used: the next creation counts less */
    uint64_t owed_until_ns; /* what is older a recount may have found */
    struct dynamodb_recount recount;
};

static inline struct dynamodb_store *dynamodb_store_of(const struct aws_task *task)
{
    return CONTAINER_OF(aws_store_of(task->client), struct dynamodb_store, aws);
}

/* ---- JSON out (dynamodb_json.c) ---- */

/* A request under construction, in an arena. */
struct text {
    struct arena *arena;
    char *data;
    size_t len, room;
};

struct text text_new(struct arena *arena, size_t room);
void text_add(struct text *text, const char *part);
void text_number(struct text *text, uint64_t n);
void text_string(struct text *text, const char *string); /* quoted and escaped */
void text_bytes(struct text *text, struct slice bytes);  /* quoted base64 */

/* "TableName":"..." */
void text_table(struct text *text, const struct dynamodb_store *store);
/* "p":{"S":..},"k":{"B":..} */
void text_key(struct text *text, const struct dynamodb_store *store, struct slice key);
/* {"p":..}: a whole item. expires_ms: 0 = never. */
void text_item(struct text *text, const struct dynamodb_store *store, struct slice key,
               struct slice value, uint64_t expires_ms, const char *version);

/* The sort key of a key. */
struct slice dynamodb_sort_key(struct slice key, struct arena *arena);
uint32_t dynamodb_partition(const struct dynamodb_store *store, struct slice key);

/* Milliseconds since 1970: now, and after ttl_ms from now (0: 0). */
uint64_t dynamodb_now_ms(void);
uint64_t dynamodb_expiry_ms(uint64_t ttl_ms);

/* A version that no other write has. NUL-terminated, in arena. */
const char *dynamodb_version(struct aws_client *client, struct arena *arena);

/* ---- JSON in ---- */

/* What an item says. Slices are base64 within the JSON, or in arena. */
struct dynamodb_item {
    struct slice key;   /* in arena */
    struct slice value; /* base64; empty: an empty value */
    size_t value_bytes;
    struct slice version; /* in arena */
    uint64_t expires_ms;  /* 0: never */
};

/* False: it is none of ours, or it has expired. */
bool dynamodb_item_read(const struct cJSON *json, struct dynamodb_item *item, struct arena *arena);

/* The value itself. */
struct slice dynamodb_value(const struct dynamodb_item *item, struct arena *arena);

/* Parses the answer; what it holds goes with the arena. NULL: it is no JSON object. */
const struct cJSON *dynamodb_answer(struct aws_call *call);

/* ---- keys that are named twice (dynamodb_many.c) ---- */

/* The items of a request that are sent: the server refuses one key twice. */
struct dynamodb_many {
    struct aws_task *task;
    size_t n;          /* items of the request */
    uint32_t *twin;    /* by item: the one that is sent for it; itself, if it is */
    const char **sort; /* by item that is sent: its sort key in base64 */
    size_t unique;
};

/* last: of several with one key the last is sent; else the first. item_bytes: of the item structs,
 * each begins with a struct kv_item. */
struct dynamodb_many *dynamodb_many_new(struct aws_task *task, const void *items, size_t item_bytes,
                                        size_t n, bool last);

/* The item that a sort key of an answer belongs to; n: none. */
size_t dynamodb_many_find(const struct dynamodb_many *many, const struct cJSON *item);

/* ---- calls (dynamodb_call.c) ---- */

extern const struct aws_service dynamodb_service;

/* A call, to be sent. target: "PutItem". */
struct aws_call *dynamodb_call(struct aws_task *task, const char *target,
                               void (*done)(struct aws_call *));
void dynamodb_send(struct aws_call *call, const struct text *body);

/* The answer is not 200 with a good JSON body: what it says. ERR_OK: it is. *answer: its JSON. */
struct err dynamodb_outcome(struct aws_call *call, const struct cJSON **answer);

/* The name of the exception, "": none. */
const char *dynamodb_exception(struct aws_call *call);
bool dynamodb_is_exception(struct aws_call *call, const char *name);

/* A transaction was cancelled, for this reason among others. */
bool dynamodb_reason(struct aws_call *call, const char *code);

/* ---- transactions (dynamodb_txn.c) ---- */

/* {"ClientRequestToken":"..","TransactItems":[: the items and "]}" follow. */
struct text dynamodb_txn_begin(struct aws_task *task);
/* To be sent; may be sent again without harm. */
struct aws_call *dynamodb_txn_call(struct aws_task *task, void (*done)(struct aws_call *));

/* ---- health and the table (dynamodb_table.c) ---- */

void dynamodb_check(struct aws_task *task);

/* ---- operations ---- */

extern const struct kv_basic dynamodb_kv_basic;
extern const struct kv_ttl dynamodb_kv_ttl;
extern const struct kv_cas dynamodb_kv_cas;
extern const struct kv_batch dynamodb_kv_batch;
extern const struct kv_txn dynamodb_kv_txn;
extern const struct kv_scan dynamodb_kv_scan;

/* A removal that tells whether the key was there, as a call of a task. */
struct aws_call *dynamodb_delete_call(struct aws_task *task, struct slice key,
                                      void (*done)(struct aws_call *));
/* Its outcome. */
struct err dynamodb_deleted(struct aws_call *call, bool *existed);

/* A read of one item, bounded by the room. */
struct aws_call *dynamodb_get_call(struct aws_task *task, struct slice key,
                                   const struct kv_room *room, void (*done)(struct aws_call *));
struct err dynamodb_got(struct aws_call *call, struct kv_room *room, struct kv_get *get);

/* What a read found, within the room. Expired or absent: not found. */
struct slice dynamodb_take(const struct cJSON *json, struct kv_room *room, bool *found,
                           struct arena *arena);

#endif
