/* Acknowledgement tokens: a delivery's name for any server of the namespace.
 *
 *   wire   version, 8 bytes of a check; then topic as clients name it, group and the source's
 *          ticket, each behind its length as a varint
 *
 * Nothing in a token is a secret, and nothing in it is trusted: topic and group are read as those
 * of a request of the caller's namespace, so a forged token settles no more than its caller could
 * subscribe to. Hence there is no key that servers would have to share. The check covers namespace
 * and type of backend: a token that was cut, or belongs elsewhere, is told from one that is late.
 */
#ifndef PRISM_PATTERNS_CONSUMER_TOKEN_H
#define PRISM_PATTERNS_CONSUMER_TOKEN_H

#include "backends/subscription.h"
#include "src/base/arena.h"
#include "src/base/slice.h"

#include <stdbool.h>

struct token {
    struct slice topic, group, ticket; /* group: empty with queues */
};

enum {
    TOKEN_FIXED_BYTES = 9,
    TOKEN_BYTES = TOKEN_FIXED_BYTES + 3 * 2 + 2 * MESSAGE_TOPIC_BYTES + TICKET_BYTES
};

/* Where tokens are valid. */
struct token_scope {
    const char *namespace_name, *backend;
};

/* How many bytes one with this ticket takes. */
size_t token_bytes(const struct token *token);

/* In the arena. */
struct slice token_write(struct arena *arena, const struct token_scope *scope,
                         const struct token *token);

/* False: it is none. Slices point into the bytes. */
bool token_read(struct slice bytes, const struct token_scope *scope, struct token *token);

#endif
