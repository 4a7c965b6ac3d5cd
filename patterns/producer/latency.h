/* Time from acceptance to acknowledgement of an instance's messages: counts by size of the time, an
 * eighth of a power of two wide, over this minute and the last one.
 *
 * thread: recorded on the home worker, read from any. */
#ifndef PRISM_PATTERNS_PRODUCER_LATENCY_H
#define PRISM_PATTERNS_PRODUCER_LATENCY_H

#include "src/base/metrics.h"

#include <stdint.h>

enum { LATENCY_STEPS = 8, LATENCY_POWERS = 32, LATENCY_BUCKETS = LATENCY_STEPS * LATENCY_POWERS };

struct latency {
    struct counter buckets[2][LATENCY_BUCKETS]; /* by the parity of the minute */
    struct counter minute;                      /* of the newest record */
};

/* What several instances counted together. */
struct latency_sum {
    uint64_t buckets[LATENCY_BUCKETS];
    uint64_t total;
};

/* n messages that took `us` microseconds. */
void latency_record(struct latency *latency, uint64_t now_ns, uint64_t us, uint64_t n);

void latency_add(struct latency_sum *sum, const struct latency *latency, uint64_t now_ns);

/* Microseconds that `per_mille` thousandths of the messages did not exceed, rounded up to the end
 * of its bucket; 0: there are none. */
uint64_t latency_quantile(const struct latency_sum *sum, unsigned per_mille);

#endif
