/* Work on another worker on behalf of a call: what the instances of a namespace know only of
 * themselves.
 *
 * The errand lives in the call's arena and counts as an op of its group, so both stay until it is
 * back. */
#ifndef PRISM_PATTERNS_ERRAND_H
#define PRISM_PATTERNS_ERRAND_H

#include "pool/op.h"
#include "pool/worker.h"
#include "src/base/container.h"

struct errand {
    struct op op;
    void (*there)(struct errand *); /* runs on the other worker; ends in op_finish(&errand->op), at
                                       once or later */
    struct job job;                 /* private */
};

static inline void errand_arrived(struct job *job)
{
    struct errand *errand = CONTAINER_OF(job, struct errand, job);

    errand->there(errand);
}

/* thread: home worker of the group; `to` may be it. */
static inline void errand_start(struct errand *errand, struct op_group *group, struct worker *to,
                                op_done_fn *done)
{
    op_start(&errand->op, group, done);
    errand->job.run = errand_arrived;
    worker_land(to, &errand->job);
}

#endif
