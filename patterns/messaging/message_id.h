/* The identifier of a message to which its producer gave none: what Publish answers and what the
 * Consumer delivers are the same. */
#ifndef PRISM_PATTERNS_MESSAGING_MESSAGE_ID_H
#define PRISM_PATTERNS_MESSAGING_MESSAGE_ID_H

#include "src/base/arena.h"
#include "src/base/slice.h"

#include <stdint.h>

/* "topic/position", or "topic/partition/offset" where the position is null; "" where the backend
 * tells neither (offset < 0). `topic` is the client's name. NUL-terminated, in `arena`. */
char *message_id_made(struct arena *arena, struct slice topic, struct slice position,
                      int32_t partition, int64_t offset);

#endif
