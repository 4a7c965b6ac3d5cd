/* A frame as it goes over the wire: the bytes of a SubscribeResponse, written without a struct for
 * it. Sizes are added up while messages and identities are, so that each field is looked at twice:
 * once for its size, once to be written. The bytes are the general encoder's, but that what is said
 * seldom comes last.
 *
 * A payload of REFERENCED_BYTES or more that is a block is not copied: gRPC writes it from there,
 * for each of the streams that it goes to. */
#ifndef PRISM_PATTERNS_MULTICAST_REGISTRY_FRAME_WRITER_H
#define PRISM_PATTERNS_MULTICAST_REGISTRY_FRAME_WRITER_H

#include "backends/message.h"
#include "src/rpc/call.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum { REFERENCED_BYTES = 1024 /* less is copied faster */ };

struct frame_name {
    struct slice identity; /* UTF-8 */
    struct frame_name *next;
};

/* A message, and whom it is for. What it is made from stays until it is written. */
struct frame_message {
    const struct incoming *from;
    struct slice id, content_type; /* empty: none, or no text */
    int64_t published_at_ms, attempt, sequence;
    struct frame_name first, *last;
    size_t bytes; /* of the message on the wire */
};

/* What a frame says beside its messages. */
struct frame_news {
    int64_t dropped, attached;
    bool draining;
    struct slice resume_token;
    struct slice seldom; /* fields that are encoded already */
};

struct frame {
    struct frame_message *messages;
    size_t n;
    struct frame_news news;
};

static inline bool frame_references(const struct incoming *from)
{
    return from->block != NULL && from->payload.len >= REFERENCED_BYTES;
}

void frame_message_init(struct frame_message *message, const struct incoming *from,
                        struct slice identity, int64_t sequence);
void frame_message_add(struct frame_message *message, struct frame_name *name);

/* Bytes that frame_write writes: all but the payloads that it refers to. */
size_t frame_bytes(const struct frame *frame);

/* Returns the number of parts, 2 * n + 1 at most. */
size_t frame_write(const struct frame *frame, uint8_t *out, struct call_part *parts);

#endif
