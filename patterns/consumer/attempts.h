/* Attempts of a source that does not count them, kept in the slot `state_store`.
 *
 * One ledger for each partition of a feed: the messages that have failed and are not settled, with
 * the number of their next attempt. It is read before the first message of the partition is
 * delivered, and written behind each change, one write at a time: what changes meanwhile goes with
 * the next. So a message that never fails costs nothing. A message is known by offset and
 * timestamp: what a topic has left behind that was removed and made anew is no attempt of others.
 *
 *   arrival -> ledger known --------------------------> attempt as written
 *           -> not known: get, meanwhile ARRIVING ----> likewise
 *                         failed -------------------> as the source says; asked again later
 *   failed (retry, lease, vanished) -> in the ledger -> put
 *   settled --------------------------> out of it ----> put, or del when nothing is left
 *   the partition goes -> forgotten: whoever gets it reads what was written
 *
 * A crash before the write, and a store that is away, lose attempts, never messages.
 *
 * thread: the feed's home. */
#ifndef PRISM_PATTERNS_CONSUMER_ATTEMPTS_H
#define PRISM_PATTERNS_CONSUMER_ATTEMPTS_H

#include "patterns/consumer/feed.h"

enum {
    ATTEMPTS_MOST = 1024,        /* of one partition; the oldest go first */
    ATTEMPTS_PATIENCE_MS = 2000, /* of one read or write */
    ATTEMPTS_AGAIN_MS = 1000     /* after one that failed */
};

/* The feed's source does not count, and there is a store. */
bool attempts_are_kept(const struct feed *feed);

/* True: it is ARRIVING until its ledger is known; then delivery_arrived is called. */
bool attempts_hold(struct delivery *delivery);
/* Out of what it waits in as ARRIVING. */
void attempts_take_out(struct delivery *delivery);

/* Its attempt was raised. */
void attempts_raised(const struct delivery *delivery);
/* It will not come again. */
void attempts_settled(const struct delivery *delivery);

/* The partitions are no longer the feed's, or are so again. n 0: all. */
void attempts_forget(struct feed *feed, const int32_t *partitions, size_t n);

/* Nothing is under way. */
bool attempts_are_idle(const struct feed *feed);
/* Before the feed's memory goes. */
void attempts_clear(struct feed *feed);

#endif
