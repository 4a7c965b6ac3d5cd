/* Log-linear histogram of latencies, in the manner of HDR histograms.
 *
 * Every power of two is cut into HISTOGRAM_SUB equal buckets, so a recorded value is known to
 * better than 1/HISTOGRAM_SUB (0.8 %) whatever its size, in constant memory and constant time per
 * record.
 *
 * unit: whatever the caller records; the benches record nanoseconds.
 * bounds: values up to HISTOGRAM_MAX_VALUE; a larger one is counted in the last bucket, and its
 * exact size still shows in histogram_max(). thread: one at a time; the structure has no lock.
 * errors: none, no function can fail. */
#ifndef PRISM_PERF_HISTOGRAM_H
#define PRISM_PERF_HISTOGRAM_H

#include <stdint.h>

enum {
    HISTOGRAM_SUB_BITS = 7,
    HISTOGRAM_SUB = 1 << HISTOGRAM_SUB_BITS,
    HISTOGRAM_MAX_BITS = 41, /* 2^41 ns are 36 minutes: longer than any run */
    HISTOGRAM_BUCKETS = (HISTOGRAM_MAX_BITS - HISTOGRAM_SUB_BITS + 1) * HISTOGRAM_SUB
};

#define HISTOGRAM_MAX_VALUE ((UINT64_C(1) << HISTOGRAM_MAX_BITS) - 1)

struct histogram {
    uint64_t bucket[HISTOGRAM_BUCKETS];
    uint64_t count;
    uint64_t sum; /* exact, for the mean */
    uint64_t min; /* exact; UINT64_MAX while empty */
    uint64_t max; /* exact */
};

void histogram_init(struct histogram *h);

void histogram_record(struct histogram *h, uint64_t value);

/* Adds everything that src holds to dst. */
void histogram_merge(struct histogram *dst, const struct histogram *src);

/* The value that `percent` (0 to 100) of the records do not exceed: the upper edge of the bucket in
 * which the record of that rank lies, never above the largest record. 0 while empty. */
uint64_t histogram_percentile(const struct histogram *h, double percent);

/* Exact figures of what was recorded; 0 while empty. */
double histogram_mean(const struct histogram *h);
uint64_t histogram_min(const struct histogram *h);
uint64_t histogram_max(const struct histogram *h);

#endif
