/* Multicasts by their message_id: what was sent under it is not sent again. */
#ifndef PRISM_PATTERNS_MULTICAST_REGISTRY_REMEMBER_H
#define PRISM_PATTERNS_MULTICAST_REGISTRY_REMEMBER_H

#include "patterns/multicast_registry/sending.h"

/* The request names a message_id, and the registry's backend can remember it. */
bool remember_is_asked_for(const struct sending *sending);

/* Before anything is sent: ends in sending_begin, sending_answer_as_before or the call's failure.
 */
void remember_begin(struct sending *sending);

/* This delivery is to be tried again by a repetition. */
void remember_failed(struct sending *sending, struct slice identity);

/* Before the answer. True: it is being written down, and sending_answer comes again. */
bool remember_end(struct sending *sending);

/* ---- for checkpoint.c ---- */

/* Of the next operations on the record, with a time of its own. */
void remember_group(struct sending *sending, void (*idle)(struct op_group *));

/* Into `get` of the sending, with its outputs in the arena. */
void remember_get(struct sending *sending, op_done_fn *done, struct arena *arena);

/* Behind the write that was under way when the walk ended. */
void remember_ended(struct sending *sending);

struct err remember_taken(void);

#endif
