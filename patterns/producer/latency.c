#include "patterns/producer/latency.h"

#include "src/base/clock.h"

enum { STEP_BITS = 3, MINUTE_S = 60 };

/* Times below LATENCY_STEPS have a bucket each; above, the leading bit chooses the power, and the
 * STEP_BITS behind it the step. */
static unsigned bucket_of(uint64_t us)
{
    if (us < LATENCY_STEPS)
        return (unsigned)us;

    unsigned power = 63u - (unsigned)__builtin_clzll(us);
    unsigned step = (unsigned)(us >> (power - STEP_BITS)) & (LATENCY_STEPS - 1);
    unsigned bucket = (power - STEP_BITS + 1) * LATENCY_STEPS + step;

    return bucket < LATENCY_BUCKETS ? bucket : LATENCY_BUCKETS - 1;
}

/* Largest time of a bucket. */
static uint64_t end_of(unsigned bucket)
{
    unsigned power = bucket / LATENCY_STEPS, step = bucket % LATENCY_STEPS;

    if (power == 0)
        return step;
    return ((uint64_t)(LATENCY_STEPS + step + 1) << (power - 1)) - 1;
}

static void clear(struct counter *buckets)
{
    for (unsigned i = 0; i < LATENCY_BUCKETS; i++)
        atomic_store_explicit(&buckets[i].value, 0, memory_order_relaxed);
}

void latency_record(struct latency *latency, uint64_t now_ns, uint64_t us, uint64_t n)
{
    uint64_t minute = now_ns / NS_PER_S / MINUTE_S, last = counter_read(&latency->minute);

    if (minute != last) {
        clear(latency->buckets[minute % 2]);
        if (minute != last + 1)
            clear(latency->buckets[(minute + 1) % 2]); /* no record is of the minute before */
        atomic_store_explicit(&latency->minute.value, minute, memory_order_relaxed);
    }
    counter_add(&latency->buckets[minute % 2][bucket_of(us)], n);
}

void latency_add(struct latency_sum *sum, const struct latency *latency, uint64_t now_ns)
{
    uint64_t minute = now_ns / NS_PER_S / MINUTE_S, last = counter_read(&latency->minute);

    for (uint64_t m = last; m + 1 >= minute && m + 2 > last; m--) {
        for (unsigned i = 0; i < LATENCY_BUCKETS; i++) {
            uint64_t n = counter_read(&latency->buckets[m % 2][i]);

            sum->buckets[i] += n;
            sum->total += n;
        }
        if (m == 0)
            break;
    }
}

uint64_t latency_quantile(const struct latency_sum *sum, unsigned per_mille)
{
    uint64_t wanted = (sum->total * per_mille + 999) / 1000, seen = 0;

    for (unsigned i = 0; sum->total > 0 && i < LATENCY_BUCKETS; i++) {
        seen += sum->buckets[i];
        if (seen >= wanted)
            return end_of(i);
    }
    return 0;
}
