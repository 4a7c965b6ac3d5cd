/* A source of many jobs for one worker, from threads that may not be ours: messages that a client
 * library delivers. A producer pays one atomic step for a chain, on a line of the inbox's own. The
 * worker's landing lane, which carries the outcomes of calls, sees one job for each turn of the
 * inbox, not one for each message.
 *
 *   inbox_put   pushes the chain; whoever finds the inbox not queued lands `turn` on its home
 *   turn        takes what was put and runs at most per_turn jobs; lands itself again while jobs
 *               are left, so that a flood lets calls have their turns
 *
 * An inbox has no bound of its own: what is in it was granted as credit before it came. */
#ifndef PRISM_POOL_INBOX_H
#define PRISM_POOL_INBOX_H

#include "pool/job.h"
#include "pool/ring.h"

#include <stdatomic.h>
#include <stdbool.h>

struct inbox;
struct worker;

/* Owns the job from now on. thread: home. It must not free the inbox. */
typedef void inbox_take_fn(struct inbox *inbox, struct job *job);

/* All members are private. 64-byte aligned: allocate the owner with aligned_alloc. */
struct inbox {
    struct landing landing;
    struct worker *home;
    struct job_list waiting; /* home: taken from the landing, not run yet */
    struct job turn;         /* on home; at most one under way */
    _Atomic bool queued;     /* turn is under way */
    inbox_take_fn *take;
    unsigned per_turn;
};

/* per_turn: jobs, at least 1; so many that they last about as long as a call may wait. */
void inbox_init(struct inbox *inbox, struct worker *home, inbox_take_fn *take, unsigned per_turn);

/* Jobs first to last, linked by `next`; take sees those of one thread in the order of its puts.
 * thread: any. */
void inbox_put(struct inbox *inbox, struct job *first, struct job *last);

/* Has everything been taken that was put? Once no thread puts any more, the inbox may be freed when
 * this is true, outside `take`. thread: home. */
bool inbox_idle(const struct inbox *inbox);

#endif
