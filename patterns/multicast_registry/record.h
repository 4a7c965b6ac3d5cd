/* What is remembered under a message_id, as it lies in the store. */
#ifndef PRISM_PATTERNS_MULTICAST_REGISTRY_RECORD_H
#define PRISM_PATTERNS_MULTICAST_REGISTRY_RECORD_H

#include "patterns/multicast_registry/sending.h"

enum { RECORD_OVERFLOWED = 1, RECORD_RESUMED = 2 }; /* flags */
enum { RECORD_OPEN = 'O', RECORD_OVER = 'V', RECORD_COUNTS = 4 };

/* In the store, little-endian. Behind it: the identity after which the walk goes on, then those
 * that failed, each with its length before it. */
struct record {
    uint8_t state, ended, flags; /* not one byte more: what earlier versions wrote is read, too */
    uint8_t owner[OWNER_BYTES];  /* of the attempt that claimed: random */
    uint8_t kept_ms[8];          /* open: how long it is kept once its lease is over */
    uint8_t digest[DIGEST_BYTES];
    uint8_t counts[RECORD_COUNTS][4]; /* delivered, no_receiver, pending, skipped */
    uint8_t next_name[4], n_failed[4], after_len[2];
};

/* This delivery is to be tried again by a repetition. */
void record_failed(struct sending *sending, struct slice identity);

/* What became of the sending. */
struct slice record_over(struct sending *sending);

/* What there is to go on from, should nobody live to write the end; in the arena. While pages are
 * under way it would be wrong. */
struct slice record_open(struct sending *sending, struct arena *arena);

/* The sending goes on where the record's stood. False: it is torn. */
bool record_read(struct sending *sending, struct slice value);

/* There is none, and the sending begins at the beginning. */
void record_none(struct sending *sending);

/* What `get` of the sending has found is its own claim. */
bool record_is_ours(const struct sending *sending);

#endif
