/* What a backend is: one const descriptor, a shared part for each slot that names it, and one
 * instance per worker.
 *
 *   backend_type   what it can do: interfaces (a NULL pointer means "not offered"), limits,
 *                  settings. Never changes.
 *   backend_store  one slot's configured backend: settings read, shared state (memstore's table),
 *                  health.
 *   backend        one worker's instance: the connection on that worker's loop, counters. Patterns
 *                  call through it and read `has` of the instance, not of the type: a server may
 *                  turn out to lack an interface.
 *
 * A backend's name appears in its own folder, in registry.c, and in configuration, nowhere else.
 *
 * Every method is `void m(struct backend *, struct request *)`: the outcome always arrives by
 * op_finish, also when there is no connection. The caller owns the request and its inputs until
 * done(); outputs live in op_arena(). */
#ifndef PRISM_BACKENDS_BACKEND_H
#define PRISM_BACKENDS_BACKEND_H

#include "pool/op.h"
#include "src/base/err.h"
#include "src/base/metrics.h"
#include "src/base/slice.h"

#include <stdatomic.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct worker;
struct backend;
struct backend_store;

/* The one list of interfaces. X(enum suffix, member and struct, name on the wire, configuration
 * key). `emulate:` keeps a bit for each, so there may be 32. */
#define BACKEND_INTERFACES(X)                                                                      \
    X(KV_BASIC, kv_basic, "KeyValueBasicInterface", "keyvalue_basic")                              \
    X(KV_TTL, kv_ttl, "KeyValueTTLInterface", "keyvalue_ttl")                                      \
    X(KV_SCAN, kv_scan, "KeyValueScanInterface", "keyvalue_scan")                                  \
    X(KV_BATCH, kv_batch, "KeyValueBatchInterface", "keyvalue_batch")                              \
    X(KV_TXN, kv_txn, "KeyValueTransactionalInterface", "keyvalue_transactional")                  \
    X(KV_CAS, kv_cas, "KeyValueCASInterface", "keyvalue_cas")                                      \
    X(TOPIC, topic, "PubSubBasicInterface", "pubsub_basic")                                        \
    X(STREAM, stream, "StreamBasicInterface", "stream_basic")                                      \
    X(QUEUE, queue, "QueueBasicInterface", "queue_basic")                                          \
    X(REGISTRY, registry, "IdentityRegistryInterface", "identity_registry")                        \
    X(SESSION, session, "SessionStoreInterface", "session_store")

/* What an instance offers: const struct kv_basic *kv_basic, and so on. NULL: not offered. */
struct backend_interfaces {
#define X(NAME, member, name, key) const struct member *member;
    BACKEND_INTERFACES(X)
#undef X
};

enum backend_interface {
#define X(NAME, member, name, key) BACKEND_##NAME,
    BACKEND_INTERFACES(X)
#undef X
        BACKEND_INTERFACE_COUNT
};

/* "KeyValueScanInterface"; and the configuration's "keyvalue_scan". Never NULL. */
const char *backend_interface_name(enum backend_interface interface);
const char *backend_interface_key(enum backend_interface interface);
bool backend_offers(const struct backend_interfaces *has, enum backend_interface interface);

struct backend_limits {
    uint64_t key_bytes;   /* longest key; 0 = no limit of its own */
    uint64_t value_bytes; /* longest value; 0 = no limit of its own */
    uint64_t ttl_ms;      /* longest life of a key that expires; 0 = no limit of its own */
    uint32_t pipeline; /* ops worth keeping in flight when a pattern emulates a batch; 0 = pattern's
                          default */
};

/* What an acknowledged write has reached. Probed from the server's real configuration. */
enum backend_ack {
    BACKEND_ACK_UNKNOWN,
    BACKEND_ACK_MEMORY,
    BACKEND_ACK_DISK,
    BACKEND_ACK_QUORUM_MEMORY,
    BACKEND_ACK_QUORUM_DISK
};

/* Whether the server may remove acknowledged data by itself, when it is full. Probed likewise. */
enum backend_eviction {
    BACKEND_EVICTION_UNKNOWN,
    BACKEND_EVICTION_NEVER,
    BACKEND_EVICTION_POSSIBLE
};

/* A file is a text, too: the name of one that must be there, and readable, at the start; empty:
 * none. OpenSSL must be able to read what it holds. */
enum backend_setting_kind {
    SETTING_TEXT,
    SETTING_SECRET,
    SETTING_FILE,
    SETTING_PEM, /* something in PEM form */
    SETTING_CERTIFICATES,
    SETTING_KEY, /* without a password; it belongs to the certificates in the setting before it */
    SETTING_UINT,
    SETTING_BOOL
};

/* One configuration key of a backend. The configuration module checks names, kinds and bounds of
 * the settings of a slot against this table (unknown keys are errors with a suggestion) and fills
 * defaults in. */
struct backend_setting {
    const char *name;
    enum backend_setting_kind kind;
    const char *fallback; /* default, as written in YAML; NULL = required */
    uint64_t min, max;    /* SETTING_UINT; unit in the name or doc */
    const char *doc;
};

/* A value for each entry of the type's settings table, same order. */
struct backend_value {
    const char *text; /* all kinds but numbers; never NULL */
    uint64_t number;  /* SETTING_UINT; SETTING_BOOL as 0 or 1 */
    bool expanded;    /* holds something from ${..}: never shown, whatever the kind */
    bool given;       /* stands in the file */
};

/* What the table cannot say of a slot's values: the syntax of a text, settings that contradict each
 * other. All texts are static and hold nothing of the values, which may be secrets. */
struct backend_fault {
    const char *setting; /* of the table */
    const char *other;   /* the setting that it contradicts; NULL: it is wrong by itself */
    const char *text;
    const char *fix;          /* the smallest one; NULL: the text says it */
    const char *const *words; /* those that the setting may have, ends with NULL: the one that was
                                 meant, if any is near, is the fix. NULL: it takes other texts */
};

enum { BACKEND_MAX_FAULTS = 16 }; /* of one slot; more than any table can be wrong in */

struct backend_faults {
    struct backend_fault items[BACKEND_MAX_FAULTS];
    size_t count;
};

void backend_fault_add(struct backend_faults *faults, struct backend_fault fault);

struct backend_options {
    const char
        *namespace_name; /* isolation: two namespaces on one server never see each other's keys */
    const char *slot;    /* "primary" */
    const struct backend_value *values;
};

enum backend_state { BACKEND_CONNECTING, BACKEND_READY, BACKEND_DEGRADED, BACKEND_DOWN };

/* thread: any; text is static. */
struct backend_health {
    enum backend_state state;
    const char *text; /* why not READY; NULL if READY */
};

/* Open files at most, in what a slot is used for as a rule. */
struct backend_descriptors {
    uint32_t instance; /* of each: connections, with what replaces one */
    uint32_t store;    /* beside them, of the whole slot */
};

struct backend_stats { /* one per instance: written on its worker */
    struct counter calls, errors, connects, bytes_sent, bytes_received;
    struct counter withdrawn; /* over before anything of them was sent: not carried out */
    struct counter retries, retries_refused; /* repetitions by itself: retry.h */
    struct counter in_flight;                /* gauge */
};

typedef void backend_stopped_fn(void *arg, uint64_t undelivered);

struct backend_type {
    const char *name;
    const char *doc;
    /* Instances also run on a worker without an event loop (the poller). No I/O: methods of one key
     * or one window finish before they return, in O(1) for each key; pages and counts park and go
     * on in bounded slices. Which methods of an interface are short enough for the poller is the
     * pattern's choice (pattern_type.inline_bytes). */
    bool inline_ok;
    /* Operations of one key take effect in the order in which one worker started them. */
    bool ordered;
    struct backend_interfaces interfaces;
    /* What it offers only to slots that name it in `emulate:`, because it does by means of its own
     * what its server does not know. */
    struct backend_interfaces emulations;
    struct backend_limits limits;
    const struct backend_setting *settings; /* ends with .name = NULL */

    /* Adds every fault of the values, which are as the table promises (kinds, bounds, defaults). No
     * effect, and no I/O but of files of this machine that they name: it serves configurations that
     * are only looked at. NULL: the table says it all.
     * thread: any. */
    void (*check)(const struct backend_value *values, struct backend_faults *faults);
    /* The type that these values, which have passed the check, ask for: one with the same table.
     * NULL: this one, always. thread: any. */
    const struct backend_type *(*variant)(const struct backend_value *values);
    /* For these values, which have passed the check: they are kept free of client connections.
     * NULL: none. thread: any. */
    struct backend_descriptors (*descriptors)(const struct backend_value *values);
    /* Main thread, before workers run calls. Reads settings, no I/O. On error *store stays NULL;
     * what check finds is one. Copies what it keeps of options. */
    struct err (*store_open)(struct backend_store **store, const struct backend_options *options);
    /* Takes the secrets from values, which are as store_open's but read anew (SIGHUP); the rest of
     * them is not looked at. New connections use them; those that stand are left alone. NULL:
     * there are no secrets. thread: main, while workers run calls. */
    void (*reload)(struct backend_store *store, const struct backend_value *values);
    /* Sends what it still holds of accepted messages. Begins when patterns start nothing more;
     * instances are open and workers run, so that outcomes land. All stores stop at the same time.
     * Calls stopped(arg, undelivered) exactly once, from any thread, as soon as everything is out,
     * and soon after deadline_ns (CLOCK_MONOTONIC) at the latest: undelivered is the number of
     * messages that were given up. Must not block. May be NULL: a store that keeps nothing back.
     * thread: main. */
    void (*store_stop)(struct backend_store *store, uint64_t deadline_ns,
                       backend_stopped_fn *stopped, void *arg);
    /* After all instances are closed. */
    void (*store_close)(struct backend_store *store);

    /* On the worker's own thread. Never fails for an absent server: it connects, and reconnects for
     * ever with backoff, in the background. */
    struct backend *(*open)(struct backend_store *store, struct worker *worker);
    /* On the worker's thread, asynchronous: finishes every op in flight (ERR_UNAVAILABLE), then
     * closed(arg), later, on this worker, once; then the instance is gone. */
    void (*close)(struct backend *backend, void (*closed)(void *arg), void *arg);

    /* One real round trip; finishes with ERR_OK or why not. May be NULL when there is nothing that
     * can fail. */
    void (*probe)(struct backend *backend, struct op *op);
    /* Extra families for /metrics (capacity, keys held), for all stores of this type together, so
     * that each family is written once; may be NULL. thread: any. */
    void (*render)(struct backend_store *const *stores, size_t n, struct metrics_page *page);
};

/* First member of each backend's own store struct. */
struct backend_store {
    const struct backend_type *type;
    char *namespace_name,
        *slot;   /* owned by the backend's store_open/store_close: backend_store_init/clear */
    char *place; /* likewise: where its server is, for people; NULL: here, or it came from ${..} */
    _Atomic(uint32_t) facts_version;  /* raised when ack, eviction, interfaces or limits changed */
    _Atomic(int) ack;                 /* enum backend_ack */
    _Atomic(int) eviction;            /* enum backend_eviction */
    _Atomic(uint64_t) message_bytes;  /* one message, as the connected server says; 0: not told */
    _Atomic(int) state;               /* enum backend_state: the worst of its instances' */
    _Atomic(const char *) state_text; /* static */
};

void backend_store_init(struct backend_store *store, const struct backend_type *type,
                        const struct backend_options *options);
void backend_store_clear(struct backend_store *store);

/* Says where the server is: "HOST:PORT", with ", .." behind it for the first of several. In
 * store_open. */
void backend_store_place(struct backend_store *store, const char *host, const char *port,
                         bool several);

/* First member of each backend's own instance struct. */
struct backend {
    const struct backend_type *type;
    struct backend_store *store;
    struct worker *home;
    struct backend_interfaces has;
    struct backend_limits limits;
    struct backend_stats stats;
};

struct backend_health backend_health(const struct backend_store *store);

/* ---- the one list of backends (registry.c) ---- */

const struct backend_type *backend_find(struct slice name); /* NULL: unknown */
const struct backend_type *const *backend_all(void);        /* NULL-terminated */

#endif
