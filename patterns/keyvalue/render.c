/* The pattern's families on the metrics page: sums over the workers of each namespace. */
#include "patterns/keyvalue/keyvalue_priv.h"

#include "src/base/container.h"

struct sample {
    const char *label; /* value of `operation`; NULL: no such label */
    size_t offset;     /* of a struct counter in struct keyvalue */
};

struct family {
    const char *name, *help;
    struct sample samples[3]; /* unused ones have offset 0, where no counter is */
};

static const struct family families[] = {
    {"prism_keyvalue_batch_items_total",
     "Items of batch requests.",
     {{"store", offsetof(struct keyvalue, stats.stored)},
      {"retrieve", offsetof(struct keyvalue, stats.retrieved)},
      {"remove", offsetof(struct keyvalue, stats.removed)}}},
    {"prism_keyvalue_batch_permits_total",
     "Backend calls that batches were permitted.",
     {{NULL, offsetof(struct keyvalue, semaphore.acquired)}}},
    {"prism_keyvalue_batch_waits_total",
     "Times that a batch had to wait for a permit.",
     {{NULL, offsetof(struct keyvalue, semaphore.waited)}}},
    {"prism_keyvalue_scan_pages_total",
     "Pages read by scans.",
     {{NULL, offsetof(struct keyvalue, stats.scan_pages)}}},
    {"prism_keyvalue_scan_keys_skipped_total",
     "Keys that scans left out because they are not text.",
     {{NULL, offsetof(struct keyvalue, stats.scan_skipped)}}},
};

static uint64_t sum(struct pattern *const *instances, size_t n, size_t offset)
{
    uint64_t total = 0;

    for (size_t i = 0; i < n; i++) {
        const char *kv = (const char *)CONTAINER_OF(instances[i], struct keyvalue, base);

        total += counter_read((const struct counter *)(const void *)(kv + offset));
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

static void render_samples(struct metrics_page *page, const struct family *family,
                           struct pattern *const *instances, size_t n)
{
    for (size_t i = 0; i < ARRAY_LEN(family->samples); i++) {
        const struct sample *sample = &family->samples[i];
        const char *const labels[] = {"namespace", instances[0]->namespace_name,
                                      sample->label != NULL ? "operation" : NULL, sample->label,
                                      NULL};

        if (sample->offset != 0)
            metrics_sample_u64(page, family->name, labels, sum(instances, n, sample->offset));
    }
}

void keyvalue_render(struct pattern *const *instances, size_t n, struct metrics_page *page)
{
    for (size_t f = 0; f < ARRAY_LEN(families); f++) {
        metrics_family(page, families[f].name, "counter", families[f].help);
        for (size_t at = 0, same; at < n; at += same) {
            same = same_namespace(instances + at, n - at);
            render_samples(page, &families[f], instances + at, same);
        }
    }
}
