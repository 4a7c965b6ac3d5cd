/* Pages and counts: walks along the identities in ascending order, in slices of SLICE rows, so that
 * no statement holds postgres for long whatever the filter. A slice holds those that an index
 * finds, if the filter has something to look up and the planner takes it to be little, else all;
 * one that an index was slow to find is the last of its kind for a minute. What matches comes back
 * up to the budget in bytes, and with it where the slice ended. Every row is looked at once more
 * here: the test in SQL may let more pass.
 *
 * A row of the result: kind 0, a match; or kind 1, the last one: rows of the slice, matches in it,
 * and its last identity. */
#include "backends/postgres/postgres_registry.h"

enum {
    SLICE = 1000,       /* identities that one statement of a page looks at */
    SLICE_COUNT = 5000, /* that of a count */
    SLICES = 16,        /* statements of one page */
    PAGE_MS = 50,       /* after which no other one is begun */
    INDEX_MS = 200,     /* a slice by an index that took longer was no gain: each begins anew */
    INDEX_PAUSE_MS = 60000,
    UNBOUNDED_BYTES = 4 << 20
};

enum column { KIND, IDENTITY, DOCUMENT, TAGS, GENERATION, REGISTERED, EXPIRES, PLACE };

struct walk {
    struct postgres *postgres;
    struct op *op;
    const struct filter *filter;
    bool exact;                /* what postgres finds matches */
    bool sends;                /* it sends what it finds; else it counts */
    bool documents;            /* with documents and tags */
    uint32_t slice;            /* rows of one statement */
    struct slice after;        /* the next slice begins behind it */
    bool more;                 /* there may be something behind `after` */
    uint64_t left, left_bytes; /* matches that are still wanted, and their bytes */
    uint64_t looked_at;        /* rows, in all */
    uint64_t found;            /* matches, in all */
    unsigned slices;
    bool by_index;     /* the slice under way */
    uint64_t slice_ns; /* when it was begun */
    uint64_t begun_ns;
    /* Takes a match, borrowed from the result. */
    void (*take)(struct walk *walk, const struct registry_entry *entry);
    /* Behind each slice: true, go on with the next one. */
    bool (*goes_on)(struct walk *walk);
};

/* ---- the statement ---- */

static const char slice_sql[] =
    "WITH slice AS MATERIALIZED (SELECT *, row_number() OVER (ORDER BY identity) AS place FROM"
    " (SELECT * FROM %s.identities WHERE space = $1::int4 AND identity > $2::bytea"
    " AND (expires_at = 0 OR expires_at > floor(extract(epoch FROM now()) * 1000))%s"
    " ORDER BY identity LIMIT %u) AS walked),"
    " matched AS MATERIALIZED (SELECT identity, %s AS document, %s AS tags, generation,"
    " registered_at, expires_at, place, row_number() OVER keys AS number,"
    " sum(octet_length(identity) + octet_length(document) + octet_length(tags))"
    " OVER (keys ROWS BETWEEN UNBOUNDED PRECEDING AND 1 PRECEDING) AS before"
    " FROM slice WHERE %s WINDOW keys AS (ORDER BY identity))"
    " SELECT 0 AS kind, identity, document, tags, generation, registered_at, expires_at, place"
    " FROM matched WHERE number <= $3::int8 AND (before IS NULL OR before < $4::int8)"
    " UNION ALL SELECT 1, (SELECT identity FROM slice ORDER BY identity DESC LIMIT 1), ''::bytea,"
    " ''::bytea, (SELECT count(*) FROM slice), (SELECT count(*) FROM matched), 0, 0"
    " ORDER BY 1, 2";

static struct registry_entry entry_of(const PGresult *result, int row)
{
    return (struct registry_entry){
        .identity = postgres_bytes(result, row, IDENTITY),
        .document = postgres_bytes(result, row, DOCUMENT),
        .tags = postgres_bytes(result, row, TAGS),
        .generation = (uint64_t)postgres_int8(result, row, GENERATION),
        .registered_at_ms = (uint64_t)postgres_int8(result, row, REGISTERED),
        .expires_at_ms = (uint64_t)postgres_int8(result, row, EXPIRES),
    };
}

static bool matches(const struct walk *walk, const struct registry_entry *entry)
{
    const struct filter_subject subject = {entry->identity, entry->document, entry->tags};

    return walk->exact || filter_match(walk->filter, &subject);
}

/* Takes the rows, as many as are wanted. Returns how many were looked at. */
static int take_rows(struct walk *walk, const PGresult *result, int rows)
{
    int row = 0;

    while (row < rows && walk->left > 0 && walk->left_bytes > 0) {
        struct registry_entry entry = entry_of(result, row++);
        size_t bytes;

        if (!matches(walk, &entry))
            continue;
        bytes = entry.identity.len + (walk->documents ? entry.document.len + entry.tags.len : 0);
        walk->left--;
        walk->left_bytes -= bytes < walk->left_bytes ? bytes : walk->left_bytes;
        walk->found++;
        if (walk->take != NULL)
            walk->take(walk, &entry);
    }
    return row;
}

static void slice_result(struct postgres_call *call, const PGresult *result)
{
    struct walk *walk = call->state;
    int rows = PQntuples(result) - 1, taken, last;
    uint64_t walked, found;

    if (rows < 0 || postgres_int4(result, rows, KIND) != 1) {
        postgres_unexpected(call);
        return;
    }
    walked = (uint64_t)postgres_int8(result, rows, GENERATION);
    found = (uint64_t)postgres_int8(result, rows, REGISTERED);
    taken = take_rows(walk, result, rows);
    if (!walk->sends)
        walk->found += found;
    /* Where this slice was left: at its end, or at the last row that was looked at. */
    last = !walk->sends || (uint64_t)taken == found ? rows : taken - 1;
    if (last >= 0 && last < rows)
        walk->looked_at += (uint64_t)postgres_int8(result, last, PLACE);
    else
        walk->looked_at += walked;
    walk->more = walked == walk->slice || last < rows;
    if (walked > 0 && last >= 0)
        walk->after = arena_copy(op_arena(walk->op), postgres_bytes(result, last, IDENTITY));
}

/* What cannot be tested there comes here, and not much of it at once. */
static uint64_t rows_wanted(const struct walk *walk)
{
    if (!walk->sends)
        return 0;
    return walk->exact ? walk->left : walk->slice;
}

static uint64_t bytes_wanted(const struct walk *walk)
{
    return walk->exact || walk->left_bytes < REGISTRY_SLICE_BYTES ? walk->left_bytes
                                                                  : REGISTRY_SLICE_BYTES;
}

/* Where the planner has no statistics yet it takes all to be rare. */
static bool asks_index(const struct postgres *postgres)
{
    return postgres_now(postgres) >= postgres->index_again_ns;
}

static void judge_index(const struct walk *walk)
{
    uint64_t now = postgres_now(walk->postgres);

    if (walk->by_index && now - walk->slice_ns > INDEX_MS * NS_PER_MS)
        walk->postgres->index_again_ns = now + INDEX_PAUSE_MS * NS_PER_MS;
}

static void slice_end(struct postgres_call *call);

static const struct postgres_kind slice_kind = {.result = slice_result, .end = slice_end};

static void read_slice(struct walk *walk)
{
    struct arena *arena = op_arena(walk->op);
    struct postgres_where where = {.lookups = "", .test = "true", .exact = true};
    const char *schema = postgres_store_of(walk->postgres)->config.schema;
    bool documents;
    struct postgres_params *params = arena_alloc(arena, sizeof *params);
    char *table = arena_printf(arena, "\"%s\"", schema);

    postgres_params_init(params, arena);
    postgres_add_int4(params, walk->postgres->space);
    postgres_add(params, walk->after);
    postgres_add_int8(params, 0); /* limits, set below */
    postgres_add_int8(params, 0);
    if (walk->filter != NULL)
        where = postgres_where_of(walk->filter, params, asks_index(walk->postgres));
    walk->by_index = where.lookups[0] != '\0' && asks_index(walk->postgres);
    walk->slice_ns = postgres_now(walk->postgres);
    walk->exact = where.exact;
    walk->sends = walk->take != NULL || !where.exact;
    documents = (walk->take != NULL && walk->documents) || !where.exact;
    postgres_set_int8(params, 2, (int64_t)rows_wanted(walk));
    postgres_set_int8(params, 3, (int64_t)bytes_wanted(walk));
    postgres_run_text(walk->postgres, walk->op, &slice_kind, walk,
                      arena_printf(arena, slice_sql, table, where.lookups, walk->slice,
                                   documents ? "document" : "''::bytea",
                                   documents ? "tags" : "''::bytea", where.test),
                      params);
}

static void slice_end(struct postgres_call *call)
{
    struct walk *walk = call->state;

    walk->slices++;
    judge_index(walk);
    if (call->err.code == ERR_OK && walk->goes_on(walk) && walk->more && walk->left > 0 &&
        walk->left_bytes > 0)
        read_slice(walk);
    else
        postgres_finish(walk->postgres, walk->op, postgres_err(call, walk->op));
}

static struct walk *walk_new(struct backend *backend, struct op *op, const struct filter *filter)
{
    struct walk *walk = arena_zalloc(op_arena(op), sizeof *walk);

    walk->postgres = postgres_of(backend);
    walk->op = op;
    walk->filter = filter;
    walk->begun_ns = postgres_now(walk->postgres);
    walk->left = UINT32_MAX;
    walk->left_bytes = UINT32_MAX;
    return walk;
}

/* ---- pages ---- */

static void page_take(struct walk *walk, const struct registry_entry *entry)
{
    struct registry_page *page = CONTAINER_OF(walk->op, struct registry_page, op);
    struct registry_entry *to = &page->entries[page->n++];
    struct arena *arena = op_arena(walk->op);

    *to = *entry;
    to->identity = arena_copy(arena, entry->identity);
    to->document = to->tags = slice_of(NULL, 0);
    if (page->with_documents) {
        to->document = arena_copy(arena, entry->document);
        to->tags = arena_copy(arena, entry->tags);
    }
}

static bool page_goes_on(struct walk *walk)
{
    struct registry_page *page = CONTAINER_OF(walk->op, struct registry_page, op);

    page->examined = walk->looked_at;
    page->more = walk->more;
    page->next = walk->after;
    return walk->slices < SLICES &&
           postgres_now(walk->postgres) - walk->begun_ns < PAGE_MS * NS_PER_MS;
}

void postgres_registry_page(struct backend *backend, struct registry_page *page)
{
    struct walk *walk = walk_new(backend, &page->op, page->filter);

    page->entries = arena_array(op_arena(&page->op), page->max_items, sizeof *page->entries);
    page->n = 0;
    walk->slice = SLICE;
    walk->after = page->after;
    walk->left = page->max_items;
    walk->left_bytes = page->max_bytes > 0 ? page->max_bytes : UNBOUNDED_BYTES;
    walk->documents = page->with_documents;
    walk->take = page_take;
    walk->goes_on = page_goes_on;
    read_slice(walk);
}

/* ---- counts ---- */

/* left_bytes is of what is sent to be looked at here: for each slice anew. */
static bool count_goes_on(struct walk *walk)
{
    struct registry_count *count = CONTAINER_OF(walk->op, struct registry_count, op);

    count->count = walk->found;
    walk->left = walk->left_bytes = UINT32_MAX;
    return count->enough == 0 || walk->found < count->enough;
}

void postgres_registry_count(struct backend *backend, struct registry_count *count)
{
    struct walk *walk = walk_new(backend, &count->op, count->filter);

    count->count = 0;
    walk->slice = SLICE_COUNT;
    walk->goes_on = count_goes_on;
    read_slice(walk);
}
