/* Samples of one figure over the rounds of a bench, and their median. */
#ifndef PRISM_PERF_COMMON_SAMPLES_H
#define PRISM_PERF_COMMON_SAMPLES_H

#include <stdlib.h>

static inline int samples_order(const void *a, const void *b)
{
    double x = *(const double *)a, y = *(const double *)b;

    return (x > y) - (x < y);
}

/* Sorts the values in place; count is at least 1. */
static inline double samples_median(double *values, unsigned count)
{
    qsort(values, count, sizeof *values, samples_order);
    return count % 2 ? values[count / 2] : (values[count / 2 - 1] + values[count / 2]) / 2;
}

#endif
