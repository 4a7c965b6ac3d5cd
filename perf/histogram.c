/* See histogram.h. Values below HISTOGRAM_SUB have a bucket each; above, a value's bucket is its
 * power of two and the HISTOGRAM_SUB_BITS bits after its leading one. */
#include "perf/histogram.h"

#include <math.h>
#include <string.h>

static unsigned bucket_of(uint64_t value)
{
    if (value > HISTOGRAM_MAX_VALUE)
        value = HISTOGRAM_MAX_VALUE;
    if (value < HISTOGRAM_SUB)
        return (unsigned)value;
    unsigned shift = 63u - (unsigned)__builtin_clzll(value) - HISTOGRAM_SUB_BITS;
    return shift * HISTOGRAM_SUB + (unsigned)(value >> shift);
}

/* The largest value that falls into the bucket. */
static uint64_t bucket_top(unsigned bucket)
{
    if (bucket < 2 * HISTOGRAM_SUB)
        return bucket;
    unsigned shift = bucket / HISTOGRAM_SUB - 1;
    uint64_t lead = bucket - shift * HISTOGRAM_SUB;
    return ((lead + 1) << shift) - 1;
}

void histogram_init(struct histogram *h)
{
    memset(h, 0, sizeof *h);
    h->min = UINT64_MAX;
}

void histogram_record(struct histogram *h, uint64_t value)
{
    h->bucket[bucket_of(value)]++;
    h->count++;
    h->sum += value;
    if (value < h->min)
        h->min = value;
    if (value > h->max)
        h->max = value;
}

void histogram_merge(struct histogram *dst, const struct histogram *src)
{
    for (unsigned i = 0; i < HISTOGRAM_BUCKETS; i++)
        dst->bucket[i] += src->bucket[i];
    dst->count += src->count;
    dst->sum += src->sum;
    if (src->min < dst->min)
        dst->min = src->min;
    if (src->max > dst->max)
        dst->max = src->max;
}

uint64_t histogram_percentile(const struct histogram *h, double percent)
{
    if (h->count == 0)
        return 0;
    /* A percentile is the value of a rank, so one record answers for every percentile. */
    double exact = ceil(percent / 100.0 * (double)h->count);
    uint64_t rank = exact < 1.0 ? 1 : (uint64_t)exact;
    uint64_t seen = 0;

    for (unsigned i = 0; i < HISTOGRAM_BUCKETS; i++) {
        seen += h->bucket[i];
        if (seen >= rank) {
            uint64_t top = bucket_top(i);
            return top < h->max && i != HISTOGRAM_BUCKETS - 1 ? top : h->max;
        }
    }
    return h->max;
}

double histogram_mean(const struct histogram *h)
{
    return h->count == 0 ? 0.0 : (double)h->sum / (double)h->count;
}

uint64_t histogram_min(const struct histogram *h)
{
    return h->count == 0 ? 0 : h->min;
}

uint64_t histogram_max(const struct histogram *h)
{
    return h->max;
}
