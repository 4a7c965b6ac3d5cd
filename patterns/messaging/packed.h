/* Messages of a batch in as few bytes as they need, for those that somebody works on for long: the
 * batch goes back to its source, whose structs and buffers are larger than what a message says.
 *
 * A payload that has a block stays in it, by a reference; the rest is copied. What a
 * settlement needs is there at once; for anything else the messages are made again.
 *
 * thread: one at a time. */
#ifndef PRISM_PATTERNS_MESSAGING_PACKED_H
#define PRISM_PATTERNS_MESSAGING_PACKED_H

#include "backends/message.h"
#include "src/base/arena.h"

/* NULL: messages of several partitions are not packed. n: 1..BATCH_MESSAGES. Nothing of them is
 * needed any more; the scratch memory is the caller's. */
struct block *packed_new(const struct incoming *messages, uint32_t n, struct arena *scratch);
void packed_destroy(struct block *packed); /* NULL is accepted */

int32_t packed_partition(const struct block *packed);
uint64_t packed_token(const struct block *packed, uint32_t i);
size_t packed_bytes(const struct block *packed, uint32_t i); /* as message_in_bytes */
int64_t packed_offset(const struct block *packed, uint32_t i);
uint32_t packed_attempt(const struct block *packed, uint32_t i);

/* All of them, in the arena; they point into what is packed. */
struct incoming *packed_open(const struct block *packed, struct arena *arena);

#endif
