#include "src/base/metrics.h"

#include "src/base/utf8.h"

#include <inttypes.h>
#include <math.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { PAGE_START_BYTES = 16384, NUMBER_BYTES = 40 };

void histogram_record(struct histogram *h, uint64_t ns)
{
    unsigned bucket = 0;

    if (ns > 1ull << HISTOGRAM_MIN_SHIFT) {
        /* The smallest k with ns <= 2^k. */
        unsigned k = 64 - (unsigned)__builtin_clzll(ns - 1);

        bucket = k - HISTOGRAM_MIN_SHIFT;
        if (bucket >= HISTOGRAM_BUCKETS)
            bucket = HISTOGRAM_BUCKETS - 1;
    }
    counter_add(&h->buckets[bucket], 1);
    counter_add(&h->sum_ns, ns);
}

void histogram_add(struct histogram *to, const struct histogram *h)
{
    for (unsigned b = 0; b < HISTOGRAM_BUCKETS; b++)
        counter_add(&to->buckets[b], counter_read(&h->buckets[b]));
    counter_add(&to->sum_ns, counter_read(&h->sum_ns));
}

void metrics_page_init(struct metrics_page *page)
{
    *page = (struct metrics_page){0};
}

void metrics_page_clear(struct metrics_page *page)
{
    free(page->text);
    metrics_page_init(page);
}

static void put(struct metrics_page *page, const char *text, size_t len)
{
    if (page->cap - page->len < len) {
        size_t cap = page->cap > 0 ? page->cap : PAGE_START_BYTES;

        while (cap - page->len < len)
            cap *= 2;
        page->text = realloc(page->text, cap);
        if (page->text == NULL)
            abort();
        page->cap = cap;
    }
    memcpy(page->text + page->len, text, len);
    page->len += len;
}

static void put_str(struct metrics_page *page, const char *text)
{
    put(page, text, strlen(text));
}

/* Backslash and newline are escaped everywhere, quotes in label values only. What is not UTF-8
 * becomes U+FFFD: one bad label would make the scraper refuse the whole page. */
static void put_escaped(struct metrics_page *page, const char *text, bool quotes)
{
    struct slice rest = slice_str(text);

    while (rest.len > 0) {
        size_t n = utf8_char_bytes(rest);
        char c = (char)rest.data[0];

        if (n == 0)
            put_str(page, "\xef\xbf\xbd");
        else if (c == '\\')
            put_str(page, "\\\\");
        else if (c == '\n')
            put_str(page, "\\n");
        else if (c == '"' && quotes)
            put_str(page, "\\\"");
        else
            put(page, (const char *)rest.data, n);
        n = n > 0 ? n : 1;
        rest = slice_of(rest.data + n, rest.len - n);
    }
}

void metrics_family(struct metrics_page *page, const char *name, const char *type, const char *help)
{
    put_str(page, "# HELP ");
    put_str(page, name);
    put_str(page, " ");
    put_escaped(page, help, false);
    put_str(page, "\n# TYPE ");
    put_str(page, name);
    put_str(page, " ");
    put_str(page, type);
    put_str(page, "\n");
}

static void put_label(struct metrics_page *page, bool *any, const char *name, const char *value)
{
    put_str(page, *any ? "," : "{");
    *any = true;
    put_str(page, name);
    put_str(page, "=\"");
    put_escaped(page, value, true);
    put_str(page, "\"");
}

/* name + suffix, labels, and le when it is not NULL. */
static void put_series(struct metrics_page *page, const char *name, const char *suffix,
                       const char *const *labels, const char *le)
{
    bool any = false;

    put_str(page, name);
    put_str(page, suffix);
    for (; labels != NULL && labels[0] != NULL; labels += 2)
        put_label(page, &any, labels[0], labels[1]);
    if (le != NULL)
        put_label(page, &any, "le", le);
    put_str(page, any ? "} " : " ");
}

/* The shortest of two forms that reads back as the same number. */
static void format_double(char out[NUMBER_BYTES], double value)
{
    if (isnan(value)) {
        snprintf(out, NUMBER_BYTES, "NaN");
    } else if (isinf(value)) {
        snprintf(out, NUMBER_BYTES, value > 0 ? "+Inf" : "-Inf");
    } else {
        snprintf(out, NUMBER_BYTES, "%.15g", value);
        if (strtod(out, NULL) != value)
            snprintf(out, NUMBER_BYTES, "%.17g", value);
    }
}

static void put_double(struct metrics_page *page, double value)
{
    char number[NUMBER_BYTES];

    format_double(number, value);
    put_str(page, number);
    put_str(page, "\n");
}

static void put_u64(struct metrics_page *page, uint64_t value)
{
    char number[NUMBER_BYTES];

    snprintf(number, sizeof number, "%" PRIu64 "\n", value);
    put_str(page, number);
}

void metrics_sample(struct metrics_page *page, const char *name, const char *const *labels,
                    double value)
{
    put_series(page, name, "", labels, NULL);
    put_double(page, value);
}

void metrics_sample_u64(struct metrics_page *page, const char *name, const char *const *labels,
                        uint64_t value)
{
    put_series(page, name, "", labels, NULL);
    put_u64(page, value);
}

void metrics_histogram(struct metrics_page *page, const char *name, const char *const *labels,
                       const struct histogram *const *parts, size_t n)
{
    uint64_t count = 0, sum_ns = 0;

    for (unsigned b = 0; b < HISTOGRAM_BUCKETS; b++) {
        char le[NUMBER_BYTES] = "+Inf";

        if (b < HISTOGRAM_BUCKETS - 1)
            format_double(le, (double)(1ull << (b + HISTOGRAM_MIN_SHIFT)) / 1e9);
        for (size_t i = 0; i < n; i++)
            count += counter_read(&parts[i]->buckets[b]);
        put_series(page, name, "_bucket", labels, le);
        put_u64(page, count);
    }
    for (size_t i = 0; i < n; i++)
        sum_ns += counter_read(&parts[i]->sum_ns);
    put_series(page, name, "_sum", labels, NULL);
    put_double(page, (double)sum_ns / 1e9);
    put_series(page, name, "_count", labels, NULL);
    put_u64(page, count);
}
