/* What the files of this folder share: the instance with its plan, the checks before any effect,
 * and operations on one key. Batches have batch.h, scans scan.h.
 *
 * thread: everything here runs on the instance's home worker. */
#ifndef PRISM_PATTERNS_KEYVALUE_KEYVALUE_PRIV_H
#define PRISM_PATTERNS_KEYVALUE_KEYVALUE_PRIV_H

#include "backends/kv.h"
#include "patterns/check.h"
#include "patterns/keyvalue/messages.h"
#include "patterns/messages.h"
#include "patterns/need.h"
#include "patterns/pattern.h"
#include "pool/semaphore.h"
#include "src/base/arena.h"
#include "src/base/log.h"
#include "src/rpc/call.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct batch;

/* ---- plan.c: what is executed, and what GetCapabilities prints ---- */

/* What an operation may need from the backend besides KeyValueBasicInterface. */
enum keyvalue_need {
    NEED_NOTHING,
    NEED_TTL,
    NEED_SCAN,
    NEED_BATCH,
    NEED_TXN,
    NEED_CAS,
    NEED_COUNT
};

enum keyvalue_batching {
    BATCHING_NONE,
    BATCHING_NATIVE,    /* by the backend's own batch */
    BATCHING_PIPELINED, /* single operations in this process: no cost worth a switch */
    BATCHING_EMULATED,  /* single operations over a network, because the slot says `emulate:` */
};

typedef void batch_run_fn(struct batch *batch);

struct keyvalue_plan {
    const struct kv_basic *basic;
    const struct kv_ttl *ttl; /* NULL, here and below: not offered */
    const struct kv_scan *scan;
    const struct kv_batch *batch; /* the backend's own batches, or windows of single operations */
    const struct kv_txn *txn;
    const struct kv_cas *cas;
    enum keyvalue_batching batching;
    batch_run_fn *run_batch; /* NULL: no batches */
    uint32_t width;          /* backend calls in flight for one batch */
    bool ttl_emulated;       /* by the backend, because the slot says `emulate:` */
    bool ttl_emulatable;     /* the backend would */
    bool scan_emulatable;    /* likewise */
    bool in_order;           /* single operations take effect in the order of their starts */
};

/* What the plan is made from. */
struct keyvalue_offer {
    const struct backend_interfaces *has, *emulations; /* of the instance; as backend_type says */
    bool inline_ok, ordered;                           /* as backend_type says */
    uint32_t emulate;                                  /* bits, 1u << enum backend_interface */
    uint32_t width;                                    /* 0: the default */
};

struct keyvalue_plan keyvalue_plan_make(const struct keyvalue_offer *offer);

bool keyvalue_plan_meets(const struct keyvalue_plan *plan, enum keyvalue_need need);
enum pattern_how keyvalue_how(const struct keyvalue_plan *plan, enum keyvalue_need need);

/* "scan not supported: backend does not implement KeyValueScanInterface". */
struct err keyvalue_unsupported(enum keyvalue_need need);

/* With the fix that this plan leaves. NULL: NEED_NOTHING. */
const struct need *keyvalue_need_of(const struct keyvalue_plan *plan, enum keyvalue_need need);

size_t keyvalue_operations(const struct backend_type *const *slots, const uint32_t *emulate,
                           struct pattern_operation *out, size_t max);

/* The operations in the order of the service; the plain form of each has variant NULL. */
struct keyvalue_operation {
    const char *name, *variant;
    enum keyvalue_need need;
    enum { ACTS_READ, ACTS_WRITE, ACTS_WRITE_ALL_OR_NOTHING } acts;
    enum { CALLS_NONE, CALLS_ONE, CALLS_BATCH, CALLS_SCAN } calls;
    unsigned limits; /* LIMIT_ bits: which bounds apply */
};

enum {
    LIMIT_KEY = 1,
    LIMIT_VALUE = 2,
    LIMIT_ITEMS = 4,
    LIMIT_PAGES = 8,
    LIMIT_EXPIRATION = 16,
    LIMIT_RESPONSE = 32
};

extern const struct keyvalue_operation keyvalue_operation_table[]; /* ends with .name = NULL */

/* ---- keyvalue.c: the instance ---- */

struct keyvalue_settings {
    uint32_t emulation_width, emulation_permits, max_batch_items;
    uint32_t scan_page_items, scan_max_limit;
    int64_t max_expiration_seconds;
};

struct keyvalue_stats {                        /* written on the home worker */
    struct counter stored, retrieved, removed; /* items of batches */
    struct counter scan_pages, scan_skipped;
};

struct keyvalue {
    struct pattern base;
    struct arena memory; /* holds the instance itself */
    struct backend *backend;
    struct keyvalue_settings settings;
    struct pattern_binding binding;
    uint32_t max_message_bytes;
    uint32_t facts; /* pattern_facts, that the plan was made from */
    struct keyvalue_plan plan;
    struct semaphore semaphore;
    struct keyvalue_stats stats;
    struct log_budget scan_emulated, scan_not_text;

    /* caps.c */
    struct arena caps_memory;
    ProtobufCMessage *caps; /* ready to be sent; NULL: to be built */
};

/* The call's instance, with a plan that is up to date. */
struct keyvalue *keyvalue_of(const struct call *call);

enum { KEYVALUE_SCAN_DEFAULT_LIMIT = 100 };

/* Keys of one page; only where scans are offered. */
uint32_t keyvalue_page_items(const struct keyvalue *kv);

/* Most items of an atomic batch; only where transactions are offered. */
uint32_t keyvalue_atomic_items(const struct keyvalue *kv);

/* ---- caps.c ---- */

/* What GetCapabilities says, in `arena`: the message itself. */
pb_capabilities *keyvalue_describe(const struct keyvalue *kv, struct arena *arena);

/* Makes kv->caps afresh. */
void keyvalue_caps_build(struct keyvalue *kv);

/* ---- check.c: before the first effect ---- */

/* ERR_NONE, or INVALID_ARGUMENT about `subject`. Texts are static or in `arena`. */
struct err check_key(const struct keyvalue *kv, struct arena *arena, struct slice key);
struct err check_prefix(const struct keyvalue *kv, struct arena *arena, struct slice prefix);
struct err check_value(const struct keyvalue *kv, struct arena *arena, struct slice key,
                       struct slice value);

/* Bytes of the longest value that is taken: what the backend takes, and what every read can answer
 * in one message. */
uint64_t check_max_value(const struct keyvalue *kv);

/* seconds: min..max_expiration_seconds. */
struct err check_expiration(const struct keyvalue *kv, struct arena *arena, int64_t seconds,
                            int64_t min);

/* ---- operations on one key ---- */

/* A call that needs one operation of the backend. The protocols, new and old, differ in `reply`
 * only, which ends the call: with err from a check or from the backend, else with what the request
 * struct holds. */
struct single {
    struct call *call;
    struct keyvalue *kv;
    void (*reply)(struct single *, struct err);
    bool by_removal; /* an expiration of 0 seconds: `del` was run instead of `expire` */
    struct kv_room room;
    union {
        struct kv_put put;
        struct kv_put_if put_if;
        struct kv_get get;
        struct kv_del del;
        struct kv_exists exists;
        struct kv_expire expire;
        struct kv_ttl_get ttl_get;
        struct kv_persist persist;
        struct kv_count count;
    };
};

struct single *single_new(struct call *call, void (*reply)(struct single *, struct err));

/* Continuation of every request in the union. */
void single_done(struct op *op);

/* What a write is told, checked. */
struct store_args {
    struct slice key, value;
    uint64_t ttl_ms;                     /* 0: none */
    const pb_precondition *precondition; /* NULL: none */
};

/* Reads and checks one item. Its own faults are INVALID_ARGUMENT; UNIMPLEMENTED about
 * KeyValueCASInterface when the precondition cannot be checked. */
struct err store_read(const struct keyvalue *kv, struct arena *arena,
                      const pb_store_request *request, struct store_args *args);

/* What the service reports inside the response: a wish that this backend cannot grant. */
struct err store_grant(const struct keyvalue *kv, const pb_store_request *request);

/* The outcome of a put_if that ran. */
struct err store_condition_outcome(const struct kv_put_if *put_if);
void store_fill_put_if(struct kv_put_if *put_if, const struct store_args *args);

void store_start(struct single *single, const struct store_args *args);
void retrieve_start(struct single *single, struct slice key, bool want_version);
void remove_start(struct single *single, struct slice key);
void exists_start(struct single *single, struct slice key);
void set_expiration_start(struct single *single, struct slice key, int64_t seconds);
void get_expiration_start(struct single *single, struct slice key);
void clear_expiration_start(struct single *single, struct slice key);
void count_start(struct single *single, struct slice prefix);

/* TTL offered, key and seconds (0: remove at once) in their bounds. */
struct err check_expirable(const struct keyvalue *kv, struct arena *arena, struct slice key);
struct err set_expiration_check(const struct keyvalue *kv, struct arena *arena, struct slice key,
                                int64_t seconds);

/* Scans offered, prefix in its bounds. */
struct err count_check(const struct keyvalue *kv, struct arena *arena, struct slice prefix);

/* Did the key exist, whichever way its expiry was set? */
bool set_expiration_existed(const struct single *single);

/* RESOURCE_EXHAUSTED when the value does not fit one message. */
struct err retrieve_check_size(const struct keyvalue *kv, struct arena *arena, struct slice value);

/* -2: no such key, -1: no expiry, else what is left, rounded up. */
int64_t get_expiration_seconds(const struct kv_ttl_get *ttl_get);

/* ---- messages ---- */

void store_response_fill(pb_store_response *response, struct err outcome);
void store_response_version(pb_store_response *response, struct slice version);

void keyvalue_render(struct pattern *const *instances, size_t n, struct metrics_page *page);

/* ---- handlers ---- */

call_handler_fn keyvalue_get_capabilities;
call_handler_fn keyvalue_store, keyvalue_retrieve, keyvalue_remove, keyvalue_exists;
call_handler_fn keyvalue_store_batch, keyvalue_retrieve_batch, keyvalue_remove_batch;
call_handler_fn keyvalue_scan, keyvalue_count;
call_handler_fn keyvalue_set_expiration, keyvalue_get_expiration, keyvalue_clear_expiration;

#endif
