/* Dead letters, as patterns write them: the original bytes and headers, and behind these what
 * happened. Published first, settled afterwards, so that a message is never in neither place. */
#ifndef PRISM_PATTERNS_MESSAGING_DEAD_H
#define PRISM_PATTERNS_MESSAGING_DEAD_H

#include "backends/message.h"
#include "src/base/arena.h"
#include "src/base/err.h"

#define DEAD_LETTER_HEADER   "prism-dead-letter-"
#define DEAD_LETTER_ID       DEAD_LETTER_HEADER "id"
#define DEAD_LETTER_IDENTITY DEAD_LETTER_HEADER "for"
#define DEAD_LETTER_OMITTED  DEAD_LETTER_HEADER "omitted" /* see struct death */
#define DEAD_LETTER_SUFFIX   ".dead" /* of its topic's name, if nothing else is configured */

enum { DEAD_AGAIN_MS = 1000 }; /* until one is published again that could not be */

struct death {
    const struct incoming *message;
    struct slice to, payload;         /* its topic; what is kept of the payload */
    struct slice group, id, identity; /* that it died for, and its identifier; empty: none */
    uint32_t deliveries;              /* that were made of it, as far as they count */
    const char *reason;
    struct slice omitted; /* of a payload that is left out: its length, or "null"; empty: none is */
};

/* Slices are borrowed from the message; the rest is in the arena. */
void dead_letter_fill(struct outgoing *item, struct arena *arena, const struct death *death);

/* "topic.groupSUFFIX", or "topicSUFFIX" without a group; it may be too long for a topic. */
struct slice dead_letter_topic(struct arena *arena, struct slice topic, struct slice group,
                               const char *suffix);

#endif
