/* Which patterns the server serves in the namespace. */
#ifndef PRISM_CLIENT_PRISMCTL_SERVED_H
#define PRISM_CLIENT_PRISMCTL_SERVED_H

#include "prism/prism.h"

#include <stdbool.h>

enum { SERVED_PATTERNS = 5 };

struct served {
    const char *pattern;
    bool served;
    char backend[64];         /* "nats"; "postgres+nats" where two are bound; "" = not told */
    struct prism_error error; /* not served: what the server says */
};

/* Asks for each pattern's capabilities. Returns how many are served; -1: a server was not reached,
 * and `error` says why. */
int served_ask(struct prism_channel *channel, struct served served[SERVED_PATTERNS],
               struct prism_error *error);

#endif
