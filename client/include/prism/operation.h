/* What a server does for one operation of a pattern: part of every pattern's capabilities. */
#ifndef PRISM_OPERATION_H
#define PRISM_OPERATION_H

#include <prism/prism.h>

#ifdef __cplusplus
extern "C" {
#endif

enum prism_performance {
    PRISM_PERFORMANCE_UNKNOWN,
    PRISM_NATIVE,      /* one backend operation that means the same */
    PRISM_PIPELINED,   /* several backend operations sent together */
    PRISM_EMULATED,    /* other backend operations with the same result, at a higher cost */
    PRISM_CLIENT_SIDE, /* by the server itself, on data read from the backend */
    PRISM_UNAVAILABLE_OPERATION
};

/* "NATIVE"; static. */
PRISM_API const char *prism_performance_name(enum prism_performance performance);

/* What the server does for one operation, or for a variant of it. Numbers: 0 = not bounded. Texts
 * are never NULL; "" = not stated. */
struct prism_operation {
    const char *name;    /* "StoreBatch" */
    const char *variant; /* "" = plain; "atomic", "if_absent", "order_per_key", ... */
    bool available;
    enum prism_performance how;
    const char *backend_calls;   /* per call, over n items: "ceil(n/256)" */
    const char *atomicity;       /* "PER_ITEM", "ALL_OR_NOTHING", ... */
    const char *ordering;        /* "REQUEST_ORDER", ... */
    const char *acknowledgement; /* what success of a write means: "MEMORY", "DISK", ... */
    const char *reason;          /* why it is not available */
    int64_t max_items;           /* of one batch */
    int64_t max_page;            /* of one page of a scan */
};

#ifdef __cplusplus
}
#endif

#endif
