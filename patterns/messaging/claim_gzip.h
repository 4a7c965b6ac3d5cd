/* Payloads of claims, compressed and inflated in gzip's format: a slice in each turn of the worker,
 * so that a neighbour waits for one slice. Who has no permit waits for its turn, and has no memory
 * of zlib's before. A semaphore of one permit is enough: a worker has one thread.
 *
 *   claim_deflate, claim_inflate -> permit -> slice, slice, .. -> done
 *   claim_gzip_stop              -> done, with `good` false
 *
 * thread: the home worker. */
#ifndef PRISM_PATTERNS_MESSAGING_CLAIM_GZIP_H
#define PRISM_PATTERNS_MESSAGING_CLAIM_GZIP_H

#include "pool/job.h"
#include "pool/semaphore.h"
#include "src/base/arena.h"
#include "src/base/slice.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct worker;
struct z_stream_s; /* zlib.h declares more than everybody wants */

enum { CLAIM_GZIP_SLICE = 64 * 1024 };

/* Zeroed before its first use, but for what the caller sets. */
struct claim_gzip {
    struct worker *home;
    struct semaphore *permits;
    struct arena *arena; /* for a few words */
    struct slice from;
    uint8_t *to;
    size_t room; /* at `to` */
    /* Once, in a later turn, or in claim_gzip_stop. good: `to` holds `made` bytes. */
    void (*done)(struct claim_gzip *, bool good);
    size_t made; /* out */

    /* private */
    bool inflates, stopped;
    size_t taken;
    struct job turn;
    struct semaphore_waiter waiter;
    struct z_stream_s *z; /* NULL: it has not begun */
};

/* What compressed bytes may take, to be worth it: an eighth less. */
static inline size_t claim_gzip_room(size_t payload)
{
    return payload - payload / 8;
}

/* Not good: it does not fit the room. */
void claim_deflate(struct claim_gzip *gzip);

/* Not good: it is not gzip's, damaged, not of exactly `room` bytes, or something follows. */
void claim_inflate(struct claim_gzip *gzip);

/* Under way: it ends soon. */
void claim_gzip_stop(struct claim_gzip *gzip);

#endif
