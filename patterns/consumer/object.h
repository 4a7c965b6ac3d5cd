/* Payloads that lie in the object store (claim check): fetched when a member that wants them has
 * room, one operation for each.
 *
 *   READY -> FETCHING: waits for room -> get, inflate -> READY, with its payload
 *                          ^             -> away, denied: again after a delay that grows
 *                          |             -> not there, or another: a dead letter
 *                          +--- parked, released ...: the payload is let go
 *
 * While any waits for the store, the slot is DEGRADED, with the reason.
 *
 * Budget: payloads count as what the group and the worker hold (max_group_bytes,
 * max_message_memory) from before they are asked for until their last frame was sent and they are
 * settled, compressed ones with both forms while they are inflated; one of a group always goes on.
 * OBJECT_WIDTH of a group are asked for at a time.
 *
 * thread: the feed's home. */
#ifndef PRISM_PATTERNS_CONSUMER_OBJECT_H
#define PRISM_PATTERNS_CONSUMER_OBJECT_H

#include "patterns/consumer/member.h"
#include "patterns/messaging/claim.h"

enum { OBJECT_WIDTH = 16, OBJECT_AGAIN_MS = 1000, OBJECT_AGAIN_MAX_MS = 8000 };

struct object;

/* The message's claim, in `arena`; NULL: it is an ordinary message. */
struct claim *object_claim(struct arena *arena, const struct incoming *message);

/* Its payload has to be fetched before this member gets it. */
bool object_is_wanted(const struct member *member, const struct delivery *delivery);
/* From READY, and no longer in its queue. */
void object_fetch(struct delivery *delivery);
/* There may be room. */
void object_pump(struct feed *feed);

/* FETCHING. False: it is being asked for, and ends by its outcome. */
bool object_take_out(struct delivery *delivery);
/* Lets go of the payload, which can be fetched again. */
void object_release(struct delivery *delivery);

/* For a frame that is written from it; NULL stays NULL. */
struct object *object_ref(struct object *object);
void object_unref(struct object *object);

#endif
