/* The pattern's families on the metrics page. */
#include "patterns/families.h"
#include "patterns/keyvalue/keyvalue_priv.h"

#include "src/base/container.h"

static const struct family families[] = {
    {"prism_keyvalue_batch_items_total",
     "counter",
     "operation",
     "Items of batch requests.",
     {{"store", offsetof(struct keyvalue, stats.stored)},
      {"retrieve", offsetof(struct keyvalue, stats.retrieved)},
      {"remove", offsetof(struct keyvalue, stats.removed)}}},
    {"prism_keyvalue_batch_permits_total",
     "counter",
     NULL,
     "Backend calls that batches were permitted.",
     {{NULL, offsetof(struct keyvalue, semaphore.acquired)}}},
    {"prism_keyvalue_batch_waits_total",
     "counter",
     NULL,
     "Times that a batch had to wait for a permit.",
     {{NULL, offsetof(struct keyvalue, semaphore.waited)}}},
    {"prism_keyvalue_scan_pages_total",
     "counter",
     NULL,
     "Pages read by scans.",
     {{NULL, offsetof(struct keyvalue, stats.scan_pages)}}},
    {"prism_keyvalue_scan_keys_skipped_total",
     "counter",
     NULL,
     "Keys that scans left out because they are not text.",
     {{NULL, offsetof(struct keyvalue, stats.scan_skipped)}}},
};

_Static_assert(offsetof(struct keyvalue, base) == 0, "families count from the pattern");

void keyvalue_render(struct pattern *const *instances, size_t n, struct metrics_page *page)
{
    families_render(families, ARRAY_LEN(families), instances, n, page);
}
