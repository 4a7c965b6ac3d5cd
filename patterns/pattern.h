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
    /* Ends with BACKEND_INTERFACE_COUNT. */
    const enum backend_interface *required;
    const enum backend_interface *used_if_offered;
    const enum backend_interface *emulatable; /* what `emulate:` may name */
};

/* Settings under `behavior:`, checked like a backend's. */
struct pattern_binding {
    const char *namespace_name;
    struct worker *worker;
    struct backend *slots[PATTERN_MAX_SLOTS]; /* by slot index; NULL = optional and empty */
    uint32_t emulate[PATTERN_MAX_SLOTS];      /* bits, 1u << enum backend_interface: switched on */
    const struct backend_value *behavior;     /* by the order of pattern_type.behavior */
    uint32_t max_message_bytes;               /* answers larger than this are never built */
};

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
    const struct slot_schema *slots;
    size_t slot_count;
    const struct backend_setting *behavior; /* ends with .name = NULL */

    /* The services of this pattern: [0] the pattern service, then the deprecated ones.
     * NULL-terminated. */
    const struct service *const *services;

    /* On the worker's own thread. Makes the plan. Cannot fail for a binding that pattern_check
     * accepted. */
    struct pattern *(*bind)(const struct pattern_binding *binding);
    void (*unbind)(struct pattern *pattern); /* no call is in flight */

    /* inline_bytes for services[i], in its method order; NULL = all on workers. Valid while bound.
     */
    const uint32_t *(*inline_bytes)(const struct pattern *pattern, size_t service);

    /* What the operations would be with these backends in the slots (by slot index; NULL: empty)
     * and `emulate` as in the binding: fills at most `max`, returns the number. Texts are static.
     * Main thread, offline. */
    size_t (*operations)(const struct backend_type *const *slots, const uint32_t *emulate,
                         struct pattern_operation *out, size_t max);

    /* Families for /metrics. `instances` are all of this type: every namespace, every worker, those
     * of one namespace side by side (a family's head may stand on a page only once). thread: any.
     */
    void (*render)(struct pattern *const *instances, size_t n, struct metrics_page *page);
};

const struct pattern_type *pattern_find(struct slice name); /* NULL: unknown */
const struct pattern_type *const *pattern_all(void);        /* NULL-terminated */

#endif
