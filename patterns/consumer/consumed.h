/* A message of a frame as it goes over the wire: the bytes of a ConsumedMessage, written without a
 * struct for it, as the general encoder would write them.
 *
 * The owner sets what is told and measures it; whoever writes it later, on any thread, finds what
 * may change meanwhile here (attempt, payload), the rest in the message, which stays until then. */
#ifndef PRISM_PATTERNS_CONSUMER_CONSUMED_H
#define PRISM_PATTERNS_CONSUMER_CONSUMED_H

#include "backends/message.h"
#include "src/base/arena.h"
#include "src/base/decimal.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct consumed_header {
    struct slice name, value; /* name: a text */
    bool metadata;            /* it stands in `metadata`, too */
};

struct consumed {
    /* ---- the owner's; what else it sets is told ---- */
    struct parcel *parcel; /* held */
    struct object *object; /* likewise; NULL: the payload is in the message */

    /* ---- told. Texts are UTF-8 ---- */
    const struct incoming *from;
    struct slice topic;
    struct slice id;              /* empty: made up of topic and position */
    struct slice payload;         /* null: absent */
    struct slice claim;           /* encoded, and told instead of the payload; null: none */
    struct slice subscription_id; /* empty: none */
    struct slice ack_token;       /* empty: none */
    int64_t sequence;
    int32_t attempt;
    bool claimed; /* its claim is Prism's own, and no header of the message */

    /* ---- measured ---- */
    struct slice position, place; /* place: behind the topic in an id that is made up */
    struct consumed_header *headers;
    size_t n_headers;
    size_t bytes;                   /* of the message on the wire */
    char digits[2 * DECIMAL_BYTES]; /* partition and offset, where the source writes no position */
};

/* `name` itself, or, where that is no text, with %XX for each byte that is not plain. */
struct slice consumed_name(struct arena *arena, struct slice name);

/* Every field that is told is set. */
void consumed_measure(struct consumed *message, struct arena *arena);

/* Its identifier as text, with a NUL. */
char *consumed_id(struct arena *arena, const struct consumed *message);

/* It as one of the messages of a frame. */
size_t consumed_bytes(const struct consumed *message);
uint8_t *consumed_write(uint8_t *at, const struct consumed *message);

#endif
