/* Which patterns the server serves in the namespace. */
#ifndef PRISM_CLIENT_PRISMCTL_SERVED_H
#define PRISM_CLIENT_PRISMCTL_SERVED_H

#include "prism/operation.h"

#include <stdbool.h>

enum { SERVED_PATTERNS = 5, SERVED_FACTS = 3 };

/* Something that a pattern tells beside its operations. */
struct served_fact {
    const char *name; /* NULL: none, and none behind it */
    const char *text; /* NULL: it is a number */
    int64_t number;   /* 0 = not bounded */
};

struct served {
    const char *pattern;
    bool served;
    char backend[64];         /* "nats"; "postgres+nats" where two are bound; "" = not told */
    struct prism_error error; /* not served: what the server says */
    /* ---- served; borrowed from the client object ---- */
    struct served_fact facts[SERVED_FACTS + 1];
    const struct prism_operation *operations;
    size_t operation_count;
    void *client; /* the pattern's client object */
};

/* Asks for each pattern's capabilities; served_clear in every case, before the channel is closed.
 * Returns how many are served; -1: a server was not reached, and `error` says why. */
int served_ask(struct prism_channel *channel, struct served served[SERVED_PATTERNS],
               struct prism_error *error);
void served_clear(struct served served[SERVED_PATTERNS]);

#endif
