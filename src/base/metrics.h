/* Metrics in Prometheus text format 0.0.4, seconds and bytes.
 *
 * Hot counters have one writing thread each: a relaxed load and store, no locked instruction.
 * Modules keep their counters in their own structs (one per worker) and render sums when scraped.
 */
#ifndef PRISM_BASE_METRICS_H
#define PRISM_BASE_METRICS_H

#include <stdatomic.h>
#include <stddef.h>
#include <stdint.h>

struct counter {
    _Atomic uint64_t value;
};

/* thread: the counter's only writer. */
static inline void counter_add(struct counter *c, uint64_t n)
{
    uint64_t v = atomic_load_explicit(&c->value, memory_order_relaxed);

    atomic_store_explicit(&c->value, v + n, memory_order_relaxed);
}

/* thread: any writer. */
static inline void counter_add_shared(struct counter *c, uint64_t n)
{
    atomic_fetch_add_explicit(&c->value, n, memory_order_relaxed);
}

static inline uint64_t counter_read(const struct counter *c)
{
    return atomic_load_explicit(&c->value, memory_order_relaxed);
}

/* Latency histogram: bucket i counts values <= 2^(i + HISTOGRAM_MIN_SHIFT) ns; the last one counts
 * the rest. 2^13 ns (8 us) .. 2^35 ns (34 s). */
enum { HISTOGRAM_MIN_SHIFT = 13, HISTOGRAM_BUCKETS = 24 };

struct histogram {
    struct counter buckets[HISTOGRAM_BUCKETS];
    struct counter sum_ns;
};

/* thread: the histogram's only writer. */
void histogram_record(struct histogram *h, uint64_t ns);

/* thread: the only writer of `to`; any of `h`. */
void histogram_add(struct histogram *to, const struct histogram *h);

/* The page under construction: grows, owned by the caller of metrics_page_init. */
struct metrics_page {
    char *text;
    size_t len, cap;
};

void metrics_page_init(struct metrics_page *page);
void metrics_page_clear(struct metrics_page *page);

/* # HELP and # TYPE lines; type is "counter", "gauge" or "histogram". Call once per family, then
 * its samples. */
void metrics_family(struct metrics_page *page, const char *name, const char *type,
                    const char *help);

/* labels: NULL-terminated list of name, value, name, value...; may be NULL. Values are escaped. */
void metrics_sample(struct metrics_page *page, const char *name, const char *const *labels,
                    double value);
void metrics_sample_u64(struct metrics_page *page, const char *name, const char *const *labels,
                        uint64_t value);

/* _bucket (le in seconds), _sum (seconds), _count of the sum of n histograms. */
void metrics_histogram(struct metrics_page *page, const char *name, const char *const *labels,
                       const struct histogram *const *parts, size_t n);

/* Who renders: each module has one function; the admin endpoint calls all of them in order. */
typedef void metrics_render_fn(void *arg, struct metrics_page *page);

struct metrics_source {
    metrics_render_fn *render;
    void *arg;
};

#endif
