/* Claim check: a payload that is too large for a message lies in an object store; the message
 * carries a reference in the header "prism-claim" and an empty payload.
 *
 *   prism-claim: v1 size=1048576 sha256=<64 hex digits> key=claim/<32 hex digits>-<t>-<t>
 *   prism-claim: v2 size=1048576 sha256=<64 hex digits> gzip=40960 key=claim/<..>
 *
 * The second one's object has so many bytes, which gzip has made of the payload. Size and digest
 * are the payload's in both. It has a version of its own, so that who does not know it takes the
 * object for nothing else.
 *
 * The times are Unix seconds: when the object was written, and when it may go (0: no time is set).
 * They are in the key since every store has keys, and tells them in a scan: that is how objects
 * that no message refers to are found by their age. Keys of earlier versions have no times.
 *
 * The producer writes the object before the message; the consumer reads it before delivery and
 * compares size and digest. */
#ifndef PRISM_PATTERNS_MESSAGING_CLAIM_H
#define PRISM_PATTERNS_MESSAGING_CLAIM_H

#include "src/base/arena.h"
#include "src/base/digest.h"
#include "src/base/slice.h"

#include <stdbool.h>
#include <stdint.h>

#define CLAIM_HEADER "prism-claim"

enum { CLAIM_HEADER_BYTES = 192 }; /* name and value together, at most */

struct claim {
    struct slice key; /* of the object */
    uint64_t size;    /* of the payload, as published */
    struct digest sha256;
    uint64_t stored; /* bytes of the object, which gzip has made; 0: it is the payload */
};

/* A reference to this payload under a key that nobody else has: what one message claims no other
 * does, so that it can be removed. The key lives in `arena`. ttl_ms 0: the object does not expire.
 */
struct claim claim_new(struct arena *arena, struct slice payload, uint64_t ttl_ms);

/* The header's value, in `arena`. */
struct slice claim_write(struct arena *arena, const struct claim *claim);

/* False: this is no reference of ours. The key points into `text`. */
bool claim_read(struct slice text, struct claim *claim);

/* Is this the payload that was claimed? */
bool claim_matches(const struct claim *claim, struct slice payload);

#endif
