/* Settlements that wait to be sent, gathered so that one message carries many. Not safe with
 * threads: the subscription locks. */
#ifndef PRISM_CLIENT_SETTLEMENTS_H
#define PRISM_CLIENT_SETTLEMENTS_H

#include "prism/consumer.h"

#include <protobuf-c/protobuf-c.h>

struct sequences {
    int64_t *at;
    size_t n, room;
};

/* Deliveries to which the same happens. */
struct settlement_group {
    struct settlement_group *next;
    enum prism_disposition disposition; /* unless lease_ms is set */
    int64_t lease_ms, delay_ms;
    char *reason; /* NULL: none */
    struct sequences sequences;
};

struct settlements {
    struct settlement_group *first, **last; /* all but those that are done */
    struct sequences done;
    int64_t through;      /* this delivery and all before are settled */
    int64_t sent_through; /* and the server was told */
};

void settlements_init(struct settlements *settlements); /* of a new connection */
void settlements_clear(struct settlements *settlements);

/* lease_ms > 0: an extension. `options` may be NULL. */
void settlements_add(struct settlements *settlements, int64_t sequence,
                     enum prism_disposition disposition, int64_t lease_ms,
                     const struct prism_settle_options *options);

bool settlements_wait(const struct settlements *settlements);

/* Packs what goes first and forgets it. Nothing waits: an acknowledgement that changes nothing.
 * Returns the bytes (free with free). */
uint8_t *settlements_pack(struct settlements *settlements, size_t *len);

#endif
