/* A budget of repetitions, one for each instance of a backend that repeats calls by itself: each
 * call that is answered earns a tenth of a retry, each retry costs one. So they are a tenth of all
 * calls in the long run, and a server in trouble is not asked more often for it: one that answers
 * nothing well gets what the calls are, and the reserve.
 *
 * thread: home of the instance. */
#ifndef PRISM_BACKENDS_RETRY_H
#define PRISM_BACKENDS_RETRY_H

#include "backends/backend.h"

enum {
    RETRY_CALLS = 10,   /* that earn one retry */
    RETRY_RESERVE = 10, /* retries of an instance that begins */
    RETRY_MOST = 100    /* that are saved up */
};

struct retry_budget {
    uint32_t tenths; /* of a retry */
};

static inline struct retry_budget retry_budget_begin(void)
{
    return (struct retry_budget){.tenths = RETRY_RESERVE * RETRY_CALLS};
}

/* A call was answered. */
static inline void retry_budget_earn(struct retry_budget *budget)
{
    if (budget->tenths < RETRY_MOST * RETRY_CALLS)
        budget->tenths++;
}

/* False: there is none left; what the call was told is its outcome. Both are counted. */
static inline bool retry_budget_spend(struct retry_budget *budget, struct backend_stats *stats)
{
    if (budget->tenths < RETRY_CALLS) {
        counter_add(&stats->retries_refused, 1);
        return false;
    }
    budget->tenths -= RETRY_CALLS;
    counter_add(&stats->retries, 1);
    return true;
}

#endif
