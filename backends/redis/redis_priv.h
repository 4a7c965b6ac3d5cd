/* What the files of this backend share. All of it belongs to the instance's home worker, except
 * struct redis_store.
 *
 *   redis.c        descriptor, settings, the store, health
 *   redis_conn.c   one connection for each instance: resolve, connect, lose, reconnect, close
 *   redis_hello.c  what is said first on a new connection
 *   redis_call.c   calls in flight: commands out, answers in
 *   redis_turns.c  turns of slow enumerations
 *   redis_write.c  the connection's output
 *   redis_text.h   text in, text out: addresses, prefixes, cursors, errors, SHA-1
 *
 * The interfaces: redis_kv.c, redis_batch.c, redis_txn.c, redis_cas.c, redis_scan.c, redis_count.c.
 */
#ifndef PRISM_BACKENDS_REDIS_REDIS_PRIV_H
#define PRISM_BACKENDS_REDIS_REDIS_PRIV_H

#include "backends/kv.h"
#include "backends/redis/redis_text.h"
#include "pool/worker.h"
#include "src/base/clock.h"
#include "src/base/container.h"
#include "src/base/log.h"

#include <hiredis/async.h>
#include <pthread.h>
#include <uv.h>

enum {
    REDIS_BATCH_ITEMS = 1000, /* keys in one command: what redis does in about a millisecond */
    REDIS_SCAN_ITEMS = 1000,
    REDIS_ADDRESSES = 8,  /* of one host name */
    REDIS_RETRY_MS = 100, /* advice to callers when the connection is away */
};

#define REDIS_VALUE_BYTES (512ull << 20)

/* One redis command that writes may take this; far beyond any sane expiry, and no overflow inside
 * redis. */
#define REDIS_TTL_MAX_MS (1ull << 52)

/* ---- the store (redis.c) ---- */

struct redis_store {
    struct backend_store base;
    struct redis_address address;
    char *username, *password; /* NULL: none */
    uint64_t database;
    char *prefix;
    size_t prefix_len;
    uint64_t dial_timeout_ns, command_timeout_ns, max_in_flight, max_buffer_bytes;
    pthread_mutex_t lock; /* of the next two */
    unsigned states[BACKEND_DOWN + 1];
    const char *texts[BACKEND_DOWN + 1]; /* the latest for each state; static */
    struct log_budget connects, losses;
    _Atomic uint64_t count_slots;   /* that counts remember keys in (redis_count.c) */
    _Atomic uint64_t largest_value; /* bytes; that any instance has read, written or measured */
};

/* ---- one instance ---- */

enum redis_phase {
    REDIS_WAITING, /* not connected; the timer starts the next attempt */
    REDIS_RESOLVING,
    REDIS_CONNECTING,
    REDIS_GREETING, /* connected; hello is under way */
    REDIS_READY,
    REDIS_CLOSING
};

struct redis_poll;
struct redis_call;
struct redis_turn;

enum { REDIS_OP_WAITS = 1 }; /* op.backend_word: backend_data is a turn, else a call */

/* What hello has learned so far (redis_hello.c); it has no op and so no arena. */
struct redis_hello {
    uint8_t steps[8];                         /* which question each answer belongs to */
    struct err fatal;                         /* ERR_OK: none */
    bool names_appendonly, names_appendfsync; /* the value that comes next is theirs */
    bool appendonly_known, appendonly, fsync_always, replica;
};

struct redis {
    struct backend base;
    enum redis_phase phase;
    enum backend_state reported; /* as counted in store->states */
    struct err down;             /* what ops are told while the phase is not REDIS_READY */
    struct err why;              /* why the connection is given up; ERR_OK: as the phase tells */

    struct redis_hello hello;
    redisAsyncContext *context; /* NULL: no connection and none under way */
    struct redis_poll *poll;    /* of the context */
    redisReplyObjectFunctions answers;
    struct timer timer;     /* next attempt; dial timeout; once ready, the watch over answers */
    struct batch_hook hook; /* writes what a batch of jobs has queued */
    unsigned attempts;      /* since the connection was last ready */
    uint64_t random;        /* for jitter */

    struct redis_call *first, **last; /* in the order of their commands on the wire */
    struct redis_call *spare;
    struct redis_turn *turns, **turns_last; /* that wait, in order (redis_turns.c) */
    uint64_t turns_waiting;
    unsigned turns_held;
    uint64_t in_flight;
    uint64_t held_bytes; /* of commands not answered yet */
    uint64_t moved_ns;   /* when redis last took or gave a byte */
    uint64_t values_met; /* read, written or measured by this instance */
    bool strlen_denied;  /* the user may not measure values */

    sds unsent; /* what the socket did not take, from unsent_at; NULL: nothing */
    size_t unsent_at;
    uint64_t queued_bytes, sent_bytes; /* on this connection, since it began */

    uv_getaddrinfo_t resolver;
    char addresses[REDIS_ADDRESSES][48]; /* numeric */
    unsigned address_count, address_at;
    unsigned handles; /* libuv's, that still refer to this struct */

    struct job closed_job;
    void (*closed)(void *);
    void *closed_arg;
};

static inline struct redis *redis_of(struct backend *backend)
{
    return CONTAINER_OF(backend, struct redis, base);
}

static inline struct redis_store *redis_store_of(const struct redis *redis)
{
    return CONTAINER_OF(redis->base.store, struct redis_store, base);
}

/* How large values are, as far as this process has seen. It tells how many of them may be asked for
 * at once. */
static inline void redis_met_value(struct redis *redis, uint64_t bytes)
{
    struct redis_store *store = redis_store_of(redis);
    uint64_t largest = atomic_load_explicit(&store->largest_value, memory_order_relaxed);

    redis->values_met++;
    while (bytes > largest &&
           !atomic_compare_exchange_weak_explicit(&store->largest_value, &largest, bytes,
                                                  memory_order_relaxed, memory_order_relaxed))
        ;
}

static inline uint64_t redis_largest_value(const struct redis *redis)
{
    return atomic_load_explicit(&redis_store_of(redis)->largest_value, memory_order_relaxed);
}

/* thread: home. text is static, NULL with BACKEND_READY. */
void redis_report(struct redis *redis, enum backend_state state, const char *text);

/* What an acknowledged write means, as this instance's server told. */
void redis_report_ack(struct redis *redis, enum backend_ack ack);

/* ---- the connection (redis_conn.c) ---- */

struct backend *redis_open(struct backend_store *store, struct worker *worker);
void redis_close(struct backend *backend, void (*closed)(void *), void *arg);

/* Gives the connection up; why is what ops are told until the next one is ready. Calls in flight
 * fail with ERR_UNAVAILABLE. Safe within an answer; redis->context may be gone afterwards. */
void redis_drop(struct redis *redis, struct err why);

/* hello is through: ops may come. text: see redis_report. */
void redis_ready(struct redis *redis, enum backend_state state, const char *text);

/* Has the answers looked after at that time (redis_watch_calls). */
void redis_watch_at(struct redis *redis, uint64_t at_ns);

/* The first commands on a connection; ends in redis_ready or redis_drop (redis_hello.c). */
void redis_hello(struct redis *redis);

/* ---- output (redis_write.c) ---- */

/* Writes as much as the socket takes. May drop the connection. */
void redis_flush(struct redis *redis);
void redis_output_clear(struct redis *redis);

/* ---- calls (redis_call.c) ---- */

/* A part of an answer, as it comes off the wire; nothing is kept by hiredis. */
struct redis_node {
    int type;       /* REDIS_REPLY_* */
    unsigned depth; /* 0: the answer itself; 1: an element of it, ... */
    size_t index;   /* depth 0: which answer of the call; else the element's place in its array */
    struct slice text; /* STRING, STATUS, ERROR: valid during the call of node() only */
    long long number;  /* INTEGER; ARRAY: how many elements will come */
};

/* What a kind of call does with its answers. */
struct redis_kind {
    bool writes;      /* if the answer is lost, it may have had an effect */
    bool item_errors; /* node() is shown error answers; otherwise the first one becomes the call's
                         err */
    void (*node)(struct redis_call *call, const struct redis_node *node);
    void (*end)(struct redis_call *call); /* all answers are in: finish or go on. NULL: finish with
                                             the call's err */
};

/* Commands sent together for one op. It outlives the op if that is cancelled: answers then have no
 * taker. */
struct redis_call {
    struct redis_call *next;
    struct redis *redis;
    const struct redis_kind *kind;
    struct op *op; /* NULL: hello, or cancelled */
    void *state;   /* the kind's own, in the op's arena */
    struct err err;
    uint64_t sent_ns, bytes, offset; /* offset: of its first byte in the connection's output */
    uint32_t answers, answered;
    bool wanted;  /* somebody waits for the answers */
    bool in_turn; /* holds one of the turns */
};

/* Starts a call for an op; a later step of the same op too. NULL: refused, the op is finished.
 * bytes: what its commands hold, about. Its commands must follow before anything else is started.
 */
struct redis_call *redis_begin(struct redis *redis, struct op *op, const struct redis_kind *kind,
                               size_t bytes);

/* One command of argc words of which `name` is the first; its other words must follow. */
void redis_command(struct redis_call *call, unsigned argc, const char *name);
void redis_word(struct redis_call *call, struct slice word);
void redis_word_key(struct redis_call *call,
                    struct slice key); /* puts the namespace's prefix before it */
void redis_word_value(struct redis_call *call, struct slice value); /* notes its size */
void redis_word_number(struct redis_call *call, uint64_t number);

/* The end of an op of this backend. */
void redis_finish(struct redis *redis, struct op *op, struct err err);

/* Parks an op that waits for a turn or for answers. */
void redis_park(struct op *op);

/* The refusal when max_in_flight is reached. */
struct err redis_too_many(void);

/* ---- turns of slow enumerations (redis_turns.c) ---- */

struct redis_turn {
    struct redis_turn *next, **at; /* in redis->turns */
    struct redis *redis;
    struct op *op;
    void (*start)(struct redis_turn *); /* calls redis_begin_turn, or finishes the op */
};

/* Starts at once or when it is this one's turn, unless the op ends before. The turn is in the op's
 * arena. */
void redis_turn_take(struct redis *redis, struct redis_turn *turn, struct op *op,
                     void (*start)(struct redis_turn *));
void redis_turn_cancel(struct op *op, struct err why);
void redis_turns_go_on(struct redis *redis);

/* As redis_begin, for start() of a turn. */
struct redis_call *redis_begin_turn(struct redis_turn *turn, const struct redis_kind *kind,
                                    size_t bytes);

/* An answer of a kind that the command does not have. */
void redis_unexpected(struct redis_call *call);

/* Sets the functions by which hiredis hands over what it parses. */
void redis_take_answers(struct redis *redis);

/* A call without an op, for hello. */
struct redis_call *redis_begin_hello(struct redis *redis, const struct redis_kind *kind);

/* The connection is gone: ops get ERR_UNAVAILABLE and are told whether a write may have happened.
 */
void redis_fail_calls(struct redis *redis);
void redis_free_calls(struct redis *redis);

/* Ends ops without a deadline of their own that wait too long, and tells whether redis has fallen
 * silent. next_ns: when to look again, 0 = when there is a call. */
bool redis_watch_calls(struct redis *redis, uint64_t *next_ns);

/* Room that the words of a command take beside their bytes. */
static inline size_t redis_words(unsigned argc)
{
    return 24u * (size_t)argc;
}

/* ---- interfaces ---- */

extern const struct kv_basic redis_kv_basic;
extern const struct kv_ttl redis_kv_ttl;
extern const struct kv_batch redis_kv_batch;
extern const struct kv_txn redis_kv_txn;
extern const struct kv_scan redis_kv_scan;
extern const struct kv_cas redis_kv_cas;

void redis_get_many(struct backend *backend, struct kv_get_many *req);
void redis_probe(struct backend *backend, struct op *op);

/* Shared by put, put_many and txn. */
size_t redis_set_bytes(struct slice key, struct slice value);
void redis_set(struct redis_call *call, struct slice key, struct slice value, uint64_t ttl_ms);

/* Shared by put_many and txn. plain: no item expires, so one MSET does. */
bool redis_put_is_plain(const struct kv_put_many *req);
size_t redis_put_bytes(const struct kv_put_many *req);
void redis_put_plain(struct backend *backend, struct kv_put_many *req);

/* Of a value, in the arena. */
struct slice redis_version(struct arena *arena, struct slice value);

/* Shared by scan and count. */
enum redis_scan_part { REDIS_SCAN_ANSWER, REDIS_SCAN_CURSOR, REDIS_SCAN_KEYS, REDIS_SCAN_KEY };
enum redis_scan_part redis_scan_part(struct redis_call *call, const struct redis_node *node);
struct slice redis_scan_pattern(const struct redis *redis, struct arena *arena,
                                struct slice prefix);
void redis_scan_command(struct redis_call *call, uint64_t at, struct slice pattern, uint32_t count);
void redis_scan_next(struct redis_call *call, struct slice text, uint64_t *next);
void redis_count(struct backend *backend, struct kv_count *req);

#endif
