/* What a pattern is: its services, its slots, and how to bind them. src/server.c walks the list in
 * patterns/registry.c and knows no pattern by name. */
#ifndef PRISM_PATTERNS_PATTERN_H
#define PRISM_PATTERNS_PATTERN_H

#include "backends/backend.h"
#include "src/base/err.h"
#include "src/base/metrics.h"
#include "src/rpc/call.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct worker;

enum { PATTERN_MAX_SLOTS = 4, PATTERN_MAX_SERVICES = 8 };

/* A slot and what a backend must offer to fill it. */
struct slot_schema {
    const char *name; /* "primary" */
    const char *doc;
    bool optional;
    /* Each list ends with BACKEND_INTERFACE_COUNT; NULL: an empty one. */
    const enum backend_interface *required; /* all of them */
    const enum backend_interface *any_of;   /* and one of these, at least */
    const enum backend_interface *used_if_offered;
    const enum backend_interface *emulatable; /* what `emulate:` may name */
    /* Patterns of one namespace meet here: slots with this flag that name the same backend of this
     * process, with the same settings, have one store. What one pattern writes the other reads, as
     * with a server. */
    bool meets;
};

/* What the instances of one namespace on all workers have in common: a table of subscriptions, say,
 * by which a call on one worker finds what lives on another. First member of a pattern's own
 * struct, which guards what is in it: binding, calls and closing use it from many threads. */
struct pattern_shared {
    const struct pattern_type *type;
};

/* For check. Entries that are at fault already are as if they were not in the file. */
struct pattern_proposal {
    const struct backend_type *slots[PATTERN_MAX_SLOTS]; /* by slot index; NULL = empty */
    const struct backend_value *behavior;
};

/* For open_shared. What it points to outlives the shared part. */
struct pattern_sharing {
    const char *namespace_name;
    unsigned workers; /* their ids are 0..workers-1; the last is the poller's */
    struct backend_store *stores[PATTERN_MAX_SLOTS]; /* by slot index; NULL = optional and empty */
    const struct backend_value *behavior;
};

/* What an instance is bound to. What it points to outlives the instance, so it may be copied. */
struct pattern_binding {
    const char *namespace_name;
    struct worker *worker;
    struct pattern_shared *shared; /* of open_shared; NULL without it */
    size_t slot_count;
    struct backend *slots[PATTERN_MAX_SLOTS]; /* by slot index; NULL = optional and empty */
    uint32_t emulate[PATTERN_MAX_SLOTS];      /* bits, 1u << enum backend_interface: switched on */
    const struct backend_value *behavior;     /* by the order of pattern_type.behavior */
    uint32_t max_message_bytes;               /* answers larger than this are never built */
};

/* Changes when what a backend in any of the slots offers has changed: the plan is then made again.
 * Read it before the plan is made: a change in between makes the plan older than it has to be,
 * never newer. thread: any. */
static inline uint32_t pattern_facts(const struct pattern_binding *binding)
{
    uint32_t sum = 0; /* each only grows */

    for (size_t i = 0; i < binding->slot_count; i++) {
        if (binding->slots[i] != NULL)
            sum += atomic_load_explicit(&binding->slots[i]->store->facts_version,
                                        memory_order_acquire);
    }
    return sum;
}

/* First member of a pattern's own instance struct. */
struct pattern {
    const struct pattern_type *type;
    const char *namespace_name;
    struct worker *home;
    /* Most elements that the repeated fields of one request may have together; more are refused
     * while the request is decoded. 0 = no bound. */
    uint32_t max_elements;
};

/* How an operation is carried out, in the words of GetCapabilities. */
enum pattern_how { PATTERN_UNAVAILABLE, PATTERN_NATIVE, PATTERN_PIPELINED, PATTERN_EMULATED };

/* One line of `prismctl check`. strict_slots looks at the plain forms only (variant NULL). */
struct pattern_operation {
    const char *name;    /* "Scan" */
    const char *variant; /* a special form: "atomic", "expiration"; NULL: the plain form */
    enum pattern_how how;
    const char *why; /* unavailable: the missing interface and the smallest fix; else NULL */
};

struct pattern_type {
    const char *name;    /* "keyvalue" */
    const char *service; /* "prism.patterns.keyvalue.KeyValuePattern": its health name too */
    bool embedded;       /* served without a configuration, on the store of this process */
    const struct slot_schema *slots;
    size_t slot_count;
    /* Settings under `behavior:`, checked like a backend's. Ends with .name = NULL. */
    const struct backend_setting *behavior;

    /* The services of this pattern: [0] the pattern service, then the deprecated ones.
     * NULL-terminated. */
    const struct service *const *services;

    /* Adds every fault that the tables do not show: `setting` and `other` name settings of
     * `behavior`, or slots. No effect, no I/O: it serves files that are only looked at, and nothing
     * is opened before it finds none. NULL: the tables say it all. thread: any. */
    void (*check)(const struct pattern_proposal *proposal, struct backend_faults *faults);
    /* May be NULL: nothing is shared. Both on the main thread: before the first bind, and after the
     * last unbind, when the stores have stopped and the workers still run. Cannot fail. */
    struct pattern_shared *(*open_shared)(const struct pattern_sharing *sharing);
    void (*close_shared)(struct pattern_shared *shared);

    /* On the worker's own thread. Makes the plan. Cannot fail for what `check` accepted. */
    struct pattern *(*bind)(const struct pattern_binding *binding);
    /* On one worker, once all are bound: calls vetted(arg, ..) later, once, on that worker. An
     * error refuses to start; its text is valid until vetted returns. May be NULL. */
    void (*vet)(struct pattern *pattern, void (*vetted)(void *arg, struct err err), void *arg);
    /* Ends what outlives calls (subscriptions, redelivery), then calls stopped(arg), later, on this
     * worker, once. All instances stop at the same time; the backends still work. No call is in
     * flight. May be NULL. */
    void (*stop)(struct pattern *pattern, void (*stopped)(void *arg), void *arg);
    /* After stop. No call is in flight. */
    void (*unbind)(struct pattern *pattern);

    /* inline_bytes for services[i], in its method order; NULL = all on workers. Valid while bound.
     */
    const uint32_t *(*inline_bytes)(const struct pattern *pattern, size_t service);

    /* What the operations would be with these backends in the slots (by slot index; NULL: empty)
     * and `emulate` as in the binding: fills at most `max`, returns the number. Texts are static.
     * Main thread, offline. */
    size_t (*operations)(const struct backend_type *const *slots, const uint32_t *emulate,
                         struct pattern_operation *out, size_t max);

    /* Why this slot does not do all that it should for this instance although its backend answers:
     * then it counts as degraded. Static text; NULL: it does. thread: any. May be NULL. */
    const char *(*restriction)(const struct pattern *pattern, size_t slot);

    /* Families for /metrics. `instances` are all of this type: every namespace, every worker, those
     * of one namespace side by side (a family's head may stand on a page only once). thread: any.
     */
    void (*render)(struct pattern *const *instances, size_t n, struct metrics_page *page);
};

const struct pattern_type *pattern_find(struct slice name); /* NULL: unknown */
const struct pattern_type *const *pattern_all(void);        /* NULL-terminated */

#endif
