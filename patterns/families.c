#include "patterns/families.h"

#include <stdint.h>
#include <string.h>

static uint64_t sum(struct pattern *const *instances, size_t n, size_t offset)
{
    uint64_t total = 0;

    for (size_t i = 0; i < n; i++) {
        const char *instance = (const char *)instances[i];

        total += counter_read((const struct counter *)(const void *)(instance + offset));
    }
    return total;
}

/* Instances of one namespace stand side by side. */
static size_t same_namespace(struct pattern *const *instances, size_t n)
{
    size_t same = 1;

    while (same < n && strcmp(instances[same]->namespace_name, instances[0]->namespace_name) == 0)
        same++;
    return same;
}

static void render_histogram(struct metrics_page *page, const struct family *family,
                             struct pattern *const *instances, size_t n)
{
    const char *const labels[] = {"namespace", instances[0]->namespace_name, NULL};
    struct histogram total = {0};
    const struct histogram *const parts[] = {&total};

    for (size_t i = 0; i < n; i++) {
        const char *instance = (const char *)instances[i];

        histogram_add(
            &total, (const struct histogram *)(const void *)(instance + family->samples[0].offset));
    }
    metrics_histogram(page, family->name, labels, parts, 1);
}

static void render_samples(struct metrics_page *page, const struct family *family,
                           struct pattern *const *instances, size_t n)
{
    for (size_t i = 0; i < FAMILY_MAX_SAMPLES; i++) {
        const struct family_sample *sample = &family->samples[i];
        const char *const labels[] = {"namespace", instances[0]->namespace_name, family->label,
                                      sample->label, NULL};

        if (sample->offset != 0)
            metrics_sample_u64(page, family->name, labels, sum(instances, n, sample->offset));
    }
}

void families_render(const struct family *families, size_t n_families,
                     struct pattern *const *instances, size_t n, struct metrics_page *page)
{
    for (size_t f = 0; f < n_families; f++) {
        metrics_family(page, families[f].name, families[f].type, families[f].help);
        for (size_t at = 0, same; at < n; at += same) {
            same = same_namespace(instances + at, n - at);
            if (strcmp(families[f].type, "histogram") == 0)
                render_histogram(page, &families[f], instances + at, same);
            else
                render_samples(page, &families[f], instances + at, same);
        }
    }
}
