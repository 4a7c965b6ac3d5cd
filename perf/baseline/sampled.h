/* What the baselines of stores share: a warm-up, then a time that is measured, and the line that
 * tells of it. What drives it answers "begin" with a line. */
#ifndef PRISM_PERF_BASELINE_SAMPLED_H
#define PRISM_PERF_BASELINE_SAMPLED_H

#include "perf/common/begin.h"
#include "perf/common/clock.h"

#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>

struct sampled {
    uint64_t warm_ns, end_ns; /* CLOCK_MONOTONIC */
    uint64_t from_ns, cpu_ns; /* when measuring began */
    uint64_t items;
    bool measuring;
};

static inline void sampled_begin(struct sampled *s, double seconds)
{
    uint64_t now_ns = clock_now_ns();

    *s = (struct sampled){.warm_ns = now_ns + (uint64_t)(seconds * 0.25e9),
                          .end_ns = now_ns + (uint64_t)(seconds * 1.25e9)};
}

/* False: the time is over, and something was measured. */
static inline bool sampled_goes_on(struct sampled *s)
{
    uint64_t now_ns = clock_now_ns();

    if (!s->measuring && now_ns >= s->warm_ns) {
        begin_measuring();
        s->measuring = true;
        s->from_ns = clock_now_ns();
        s->end_ns += s->from_ns - now_ns;
        s->cpu_ns = clock_own_cpu_ns();
    }
    return now_ns < s->end_ns || s->items == 0;
}

static inline void sampled_count(struct sampled *s, uint64_t items)
{
    if (s->measuring)
        s->items += items;
}

static inline void sampled_report(const struct sampled *s)
{
    printf("items %llu seconds %.6f cpu %.6f\n", (unsigned long long)s->items,
           (double)(clock_now_ns() - s->from_ns) / 1e9,
           (double)(clock_own_cpu_ns() - s->cpu_ns) / 1e9);
}

/* 0: it is none. */
static inline uint32_t sampled_number(const char *text)
{
    char *end;
    unsigned long value = strtoul(text, &end, 10);

    return *text != '\0' && *end == '\0' && value <= UINT32_MAX ? (uint32_t)value : 0;
}

#endif
