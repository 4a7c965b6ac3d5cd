/* Whole frames, those of atomic batches: all messages are stored, or none is.
 *
 *   whole_check     before the first effect: one topic, and no more than the sink takes as one
 *   whole_judge     after each step of prepare.c: what one message cannot have, none has
 *   outbox.h        one round, one error for all
 *   whole_refusal   what the client is told: a fault is a status that names the message
 *
 * Deduplication by the state store   All known: all are duplicates. Some known: refused, for the
 *                                    others could only come in parts. What becomes of the claims
 *                                    and objects of a refused frame is as for any failed message.
 *
 * thread: home worker. */
#ifndef PRISM_PATTERNS_PRODUCER_WHOLE_H
#define PRISM_PATTERNS_PRODUCER_WHOLE_H

#include "patterns/producer/outbox.h"

/* Of one whole frame. Messages count as producer_sink_bytes says. */
uint32_t whole_max_items(const struct producer *producer);
uint64_t whole_max_bytes(const struct producer *producer);

struct err whole_check(const struct producer *producer, const struct frame *frame);

/* Settles all that wait, unless all can go on. Nothing to do for other frames. */
void whole_judge(struct frame *frame);

/* The status that refuses the call; ERR_NONE: its answer tells what became of each message. */
struct err whole_refusal(const struct frame *frame);

#endif
