/* Families of a pattern on the metrics page: counters of its instances, summed over the workers of
 * each namespace. */
#ifndef PRISM_PATTERNS_FAMILIES_H
#define PRISM_PATTERNS_FAMILIES_H

#include "patterns/pattern.h"
#include "src/base/metrics.h"

#include <stddef.h>

enum { FAMILY_MAX_SAMPLES = 8 };

struct family_sample {
    const char *label; /* value of the family's label; NULL: there is none */
    size_t offset;     /* of a struct counter in the instance, which begins with struct pattern */
};

struct family {
    const char *name;
    const char *type;  /* "counter", "gauge"; "histogram": the first sample is a struct histogram */
    const char *label; /* "operation"; NULL: none */
    const char *help;
    struct family_sample samples[FAMILY_MAX_SAMPLES]; /* unused ones have offset 0 */
};

/* `instances` as in pattern_type.render. thread: any. */
void families_render(const struct family *families, size_t n_families,
                     struct pattern *const *instances, size_t n, struct metrics_page *page);

#endif
