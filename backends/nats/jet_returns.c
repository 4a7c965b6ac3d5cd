/* Rows of a page in an array, by sequence. Neighbours that say the same are one row, so what one
 * reader had and gives back is a few rows as a rule, whatever its number. */
#include "backends/nats/jet_deliveries.h"

#include <stdio.h>
#include <stdlib.h>

enum { VERSION = 1, LINE_BYTES = 96, MOST_OF_A_ROW = 1 << 20 };

/* The first row that does not end before the sequence. */
static size_t find(const struct jet_returns *returns, uint64_t sequence)
{
    size_t from = 0, to = returns->n;

    while (from < to) {
        size_t middle = from + (to - from) / 2;

        if (returns->items[middle].to < sequence)
            from = middle + 1;
        else
            to = middle;
    }
    return from;
}

static const struct jet_return *row_of(const struct jet_returns *returns, uint64_t sequence)
{
    size_t at = find(returns, sequence);

    return at < returns->n && returns->items[at].from <= sequence ? &returns->items[at] : NULL;
}

static void remove_row(struct jet_returns *returns, size_t at)
{
    returns->n--;
    memmove(&returns->items[at], &returns->items[at + 1],
            (returns->n - at) * sizeof returns->items[0]);
}

static void insert_row(struct jet_returns *returns, size_t at, struct jet_return row)
{
    if (returns->n == returns->room) {
        returns->room = returns->room == 0 ? 8 : returns->room * 2;
        returns->items = realloc(returns->items, returns->room * sizeof *returns->items);
        if (returns->items == NULL)
            abort();
    }
    memmove(&returns->items[at + 1], &returns->items[at],
            (returns->n - at) * sizeof returns->items[0]);
    returns->items[at] = row;
    returns->n++;
}

/* The server's own count says the same. */
static bool is_plain(const struct jet_return *row)
{
    return row->attempt == row->deliveries + 1;
}

static bool continues(const struct jet_return *row, const struct jet_return *next)
{
    return row->to + 1 == next->from && row->deliveries == next->deliveries &&
           row->attempt == next->attempt;
}

static void join(struct jet_returns *returns, size_t at)
{
    if (at + 1 < returns->n && continues(&returns->items[at], &returns->items[at + 1])) {
        returns->items[at].to = returns->items[at + 1].to;
        remove_row(returns, at + 1);
    }
    if (at > 0 && continues(&returns->items[at - 1], &returns->items[at])) {
        returns->items[at - 1].to = returns->items[at].to;
        remove_row(returns, at);
    }
}

/* Those first that nobody misses. */
static void bound(struct jet_returns *returns)
{
    size_t at = 0;

    if (returns->n <= JET_RETURNS_MOST)
        return;
    while (at < returns->n && !is_plain(&returns->items[at]))
        at++;
    if (at == returns->n) {
        at = 0;
        returns->forgotten += returns->items[0].to - returns->items[0].from + 1;
    }
    remove_row(returns, at);
}

/* Takes a part out of its row. Returns where a row of its own belongs. */
static size_t cut_out(struct jet_returns *returns, size_t at, uint64_t from, uint64_t to)
{
    struct jet_return row = returns->items[at], behind = row;

    behind.from = to + 1;
    remove_row(returns, at);
    if (behind.from <= behind.to)
        insert_row(returns, at, behind);
    if (row.from == from)
        return at;
    row.to = from - 1;
    insert_row(returns, at, row);
    return at + 1;
}

/* What is free, or older, up to the next row. Returns the end of that. */
static uint64_t add_some(struct jet_returns *returns, struct jet_return row)
{
    size_t at = find(returns, row.from);
    const struct jet_return *next = at < returns->n ? &returns->items[at] : NULL;
    bool taken = next != NULL && next->from <= row.from;

    if (taken && next->to < row.to)
        row.to = next->to;
    else if (!taken && next != NULL && next->from <= row.to)
        row.to = next->from - 1;
    if (taken && next->deliveries >= row.deliveries)
        return row.to;
    if (taken)
        at = cut_out(returns, at, row.from, row.to);
    insert_row(returns, at, row);
    join(returns, at);
    bound(returns);
    return row.to;
}

/* In steps as many as rows that it meets, and those become one. */
static void add_row(struct jet_returns *returns, struct jet_return row)
{
    uint64_t last = row.to;

    for (uint64_t end = row.from - 1; end < last; row.from = end + 1, row.to = last)
        end = add_some(returns, row);
}

void jet_returns_add(struct jet_returns *returns, uint64_t sequence, uint32_t deliveries,
                     uint32_t attempt)
{
    add_row(returns, (struct jet_return){sequence, sequence, deliveries, attempt});
}

bool jet_returns_know(const struct jet_returns *returns, uint64_t sequence, uint64_t deliveries)
{
    const struct jet_return *row = deliveries > 1 ? row_of(returns, sequence) : NULL;

    return deliveries <= 1 || (row != NULL && row->deliveries + 1 >= deliveries);
}

/* A server that was killed may have forgotten some of its deliveries. */
uint32_t jet_returns_attempt(const struct jet_returns *returns, uint64_t sequence,
                             uint64_t deliveries)
{
    const struct jet_return *row = returns->n > 0 ? row_of(returns, sequence) : NULL;

    if (row == NULL)
        return (uint32_t)deliveries;
    if (deliveries <= row->deliveries)
        return row->attempt;
    return row->attempt + (uint32_t)(deliveries - row->deliveries - 1);
}

void jet_returns_settled(struct jet_returns *returns, uint64_t sequence)
{
    size_t at = returns->n > 0 ? find(returns, sequence) : 0;
    struct jet_return *row = at < returns->n ? &returns->items[at] : NULL;

    if (row == NULL || row->from > sequence)
        return;
    if (row->from == row->to)
        remove_row(returns, at);
    else if (row->from == sequence)
        row->from++;
    else if (row->to == sequence)
        row->to--;
}

void jet_returns_settled_to(struct jet_returns *returns, uint64_t floor)
{
    size_t gone = returns->n > 0 ? find(returns, floor + 1) : 0;

    if (gone > 0) {
        returns->n -= gone;
        memmove(returns->items, &returns->items[gone], returns->n * sizeof returns->items[0]);
    }
    if (returns->n > 0 && returns->items[0].from <= floor)
        returns->items[0].from = floor + 1;
}

void jet_returns_clear(struct jet_returns *returns)
{
    free(returns->items);
    *returns = (struct jet_returns){0};
}

/* ---- text ---- */

/* The newest messages, if they do not all fit. */
static size_t first_that_fits(const struct jet_returns *returns)
{
    size_t fits = JET_PAGE_BYTES / LINE_BYTES - 1, at = returns->n;

    while (at > 0 && fits > 0) {
        at--;
        fits -= !is_plain(&returns->items[at]);
    }
    return at;
}

char *jet_returns_write(const struct jet_returns *returns, int64_t created)
{
    size_t first = first_that_fits(returns), at;
    char *page = malloc((returns->n - first + 1) * LINE_BYTES);

    if (page == NULL)
        abort();
    at = (size_t)snprintf(page, LINE_BYTES, "%d %lld\n", VERSION, (long long)created);
    for (size_t i = first; i < returns->n; i++) {
        const struct jet_return *row = &returns->items[i];

        if (!is_plain(row))
            at += (size_t)snprintf(page + at, LINE_BYTES, "%llu-%llu %u %u\n",
                                   (unsigned long long)row->from, (unsigned long long)row->to,
                                   row->deliveries, row->attempt);
    }
    return page;
}

/* False: it ends here, or is none of ours. */
static bool read_row(const char **at, struct jet_return *row)
{
    unsigned long long numbers[4];
    static const char ends[] = {'-', ' ', ' ', '\n'};

    for (unsigned i = 0; i < ARRAY_LEN(numbers); i++) {
        char *end;

        numbers[i] = strtoull(*at, &end, 10);
        if (end == *at || *end != ends[i])
            return false;
        *at = end + 1;
    }
    *row = (struct jet_return){.from = numbers[0],
                               .to = numbers[1],
                               .deliveries = (uint32_t)numbers[2],
                               .attempt = (uint32_t)numbers[3]};
    return row->from > 0 && row->from <= row->to && row->to - row->from < MOST_OF_A_ROW &&
           numbers[2] < UINT32_MAX && numbers[3] < UINT32_MAX && row->attempt > 0;
}

void jet_returns_read(struct jet_returns *returns, const char *page, int64_t created)
{
    struct jet_return row;
    char *at;

    if (strtoll(page, &at, 10) != VERSION || strtoll(at, &at, 10) != created || *at != '\n')
        return;
    for (const char *line = at + 1; read_row(&line, &row);)
        add_row(returns, row);
}
