/* A backend whose world the test owns: a real backend_type behind the real interfaces, over a small
 * sorted table.
 *
 *   mask        which interfaces it offers, so that every plan can be made without a server
 *   time        virtual: nothing expires and no deadline passes unless the test says so
 *   faults      the Nth operation fails with any error, before it had an effect
 *   completion  at once, parked until released in an order of the test's choice, or from another
 *               thread
 *
 * thread: one home worker, except for the completions of FAKE_THREAD. */
#ifndef PRISM_TESTS_FAKE_FAKE_BACKEND_H
#define PRISM_TESTS_FAKE_FAKE_BACKEND_H

#include "backends/kv.h"
#include "tests/fake/fake_messages.h"
#include "tests/fake/fake_registry.h"
#include "tests/fake/fake_session.h"

#include <pthread.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum fake_mode {
    FAKE_AT_ONCE, /* done before the method returns: as a store in this process */
    FAKE_PARKED,  /* takes effect and finishes in fake_release; can be cancelled until then */
    FAKE_THREAD,  /* takes effect at once, finishes from a thread of the backend's own */
};

enum fake_order { FAKE_FIRST_FIRST, FAKE_LAST_FIRST, FAKE_SHUFFLED };

/* Interface masks: bits, 1u << enum backend_interface. */
enum {
    FAKE_BASIC = 1 << BACKEND_KV_BASIC,
    FAKE_TTL = 1 << BACKEND_KV_TTL,
    FAKE_SCAN = 1 << BACKEND_KV_SCAN,
    FAKE_BATCH = 1 << BACKEND_KV_BATCH,
    FAKE_TXN = 1 << BACKEND_KV_TXN,
    FAKE_CAS = 1 << BACKEND_KV_CAS,
    FAKE_ALL = FAKE_BASIC | FAKE_TTL | FAKE_SCAN | FAKE_BATCH | FAKE_TXN | FAKE_CAS,
    FAKE_WINDOW = 1 << BACKEND_INTERFACE_COUNT, /* kv_basic.window: not an interface of its own */
    FAKE_TOPIC = 1 << BACKEND_TOPIC,
    FAKE_STREAM = 1 << BACKEND_STREAM,
    FAKE_QUEUE = 1 << BACKEND_QUEUE,
    FAKE_REGISTRY = 1 << BACKEND_REGISTRY,
    FAKE_SESSION = 1 << BACKEND_SESSION,
    /* What the backends of the protocol's table offer. */
    FAKE_AS_MEMSTORE = FAKE_BASIC | FAKE_WINDOW | FAKE_TTL | FAKE_SCAN | FAKE_CAS,
    FAKE_AS_REDIS = FAKE_ALL,
    FAKE_AS_POSTGRES = FAKE_ALL & ~FAKE_TTL,
    FAKE_AS_DYNAMODB = FAKE_ALL,
    FAKE_AS_S3 = FAKE_BASIC,
};

struct fake_entry {
    struct slice key, value;
    uint64_t expires_ms; /* 0: never */
    uint64_t version;
};

struct fake_held; /* an operation that waits for fake_release or for the thread */

struct fake_world {
    struct backend_type type; /* name, limits may be changed before fake_open */
    struct backend_store store;
    struct backend base; /* the one instance */
    uint64_t now_ms;     /* virtual, since the world began */
    enum fake_mode mode;
    enum fake_order order;

    /* Faults. */
    uint64_t
        fail_at; /* the operation with this number fails; 0: none. The first one has number 1 */
    uint64_t fail_last; /* and all that follow up to this one; 0: only that one */
    struct err fail_with;
    struct slice poison; /* an item with this key fails by itself, with fail_with */
    size_t max_keys;     /* a new key beyond them is RESOURCE_EXHAUSTED; 0: no limit */
    size_t page_limit;   /* pages hold so many items at most; 0: as asked */
    size_t empty_pages;  /* so many pages come empty, with more to follow */

    struct fake_messages messages; /* topics, streams and queues */
    struct fake_registry registry; /* identities */
    struct fake_sessions sessions;

    /* What happened. */
    uint64_t ops, cancelled, items_sent;
    unsigned in_flight, max_in_flight;

    /* private */
    struct fake_entry *entries; /* by key */
    size_t n, cap;
    uint64_t next_version;
    struct fake_held *held, **held_end;
    uint32_t shuffle;
    pthread_t thread;
    pthread_mutex_t lock;
    pthread_cond_t changed;
    struct fake_held *handed, **handed_end;
    bool thread_runs, stopping;
};

/* Offers the interfaces of `mask`; named "fake", not in this process, no limits. */
void fake_world_init(struct fake_world *world, unsigned mask);
void fake_world_clear(struct fake_world *world);

/* Before fake_open: as a store of this process, inline_ok and ordered. */
static inline void fake_world_in_process(struct fake_world *world, bool in_process)
{
    world->type.inline_ok = world->type.ordered = in_process;
}

/* Changes what the connected instance offers, as a server that turned out to be different. */
void fake_world_offer(struct fake_world *world, unsigned mask);

struct backend *fake_open(struct fake_world *world, struct worker *worker);

/* FAKE_PARKED: finishes up to n of the operations held, in the world's order. Returns how many. */
size_t fake_release(struct fake_world *world, size_t n);

/* ---- the table, without operations ---- */

void fake_put(struct fake_world *world, const char *key, const char *value);
/* NULL: absent or expired. */
const struct fake_entry *fake_find(const struct fake_world *world, struct slice key);
bool fake_has(const struct fake_world *world, const char *key, const char *value);
size_t fake_keys(const struct fake_world *world);

/* ---- for fake_kv.c and fake_table.c ---- */

struct fake_entry *fake_table_set(struct fake_world *world, struct slice key, struct slice value,
                                  uint64_t ttl_ms);
bool fake_table_remove(struct fake_world *world, struct slice key);
/* Index of the first entry that is not before `key`. */
size_t fake_table_seek(const struct fake_world *world, struct slice key);
bool fake_table_alive(const struct fake_world *world, const struct fake_entry *entry);
bool fake_table_full_for(const struct fake_world *world, struct slice key);
void fake_table_clear(struct fake_world *world);

/* The operation of `op` arrived: apply() does what it is for, now or when it is released. */
void fake_arrive(struct fake_world *world, struct op *op,
                 struct err (*apply)(struct fake_world *, struct op *));

/* The error with its text among the op's outputs. */
struct err fake_told(const struct op *op, struct err err);

extern const struct backend_interfaces fake_interfaces;
extern const struct kv_basic fake_basic_without_window;

#endif
