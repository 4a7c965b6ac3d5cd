/* Get and page. A read writes nothing by itself: reads share transactions, and must hold no locks.
 * Where a use has to move the expiry, which is seldom, a statement of its own follows; when that
 * fails, the read has succeeded all the same, and the expiry stands where it stood. */
#include "backends/postgres/postgres_session.h"

#include "src/base/container.h"

enum read_column {
    READ_USER,
    READ_REGION,
    READ_CLIENT,
    READ_ATTRIBUTES,
    READ_CREATED,
    READ_USED,
    READ_EXPIRES,
    READ_VERSION,
    READ_TTL,
    READ_ENDS,
    READ_NOW,
    READ_NAME,
    READ_VALUE,
    READ_VALUE_VERSION
};

static uint64_t ms_at(const PGresult *result, int row, int column)
{
    return (uint64_t)postgres_int8(result, row, column);
}

static struct slice copy_at(struct arena *arena, const PGresult *result, int row, int column)
{
    return arena_copy(arena, postgres_bytes(result, row, column));
}

/* ---- get ---- */

struct getting {
    struct postgres *postgres;
    struct session_get *get;
    uint64_t now_ms, until_ms;
};

static struct getting *getting_of(struct postgres_call *call)
{
    return call->state;
}

static void take_values(struct session_get *get, const PGresult *result)
{
    struct arena *arena = op_arena(&get->op);
    int rows = PQntuples(result);

    get->values = arena_array(arena, (size_t)rows, sizeof *get->values);
    get->n = 0;
    for (int row = 0; row < rows; row++) {
        if (PQgetisnull(result, row, READ_NAME))
            continue; /* a session without values */
        get->values[get->n++] =
            (struct session_value){.name = copy_at(arena, result, row, READ_NAME),
                                   .value = copy_at(arena, result, row, READ_VALUE),
                                   .version = ms_at(result, row, READ_VALUE_VERSION)};
    }
}

static void get_result(struct postgres_call *call, const PGresult *result)
{
    struct getting *g = getting_of(call);
    struct session_get *get = g->get;
    struct arena *arena = op_arena(&get->op);

    if (PQntuples(result) == 0) {
        postgres_session_is_absent(call);
        return;
    }
    get->owner = (struct session_owner){.user = copy_at(arena, result, 0, READ_USER),
                                        .region = copy_at(arena, result, 0, READ_REGION),
                                        .client = copy_at(arena, result, 0, READ_CLIENT),
                                        .attributes = copy_at(arena, result, 0, READ_ATTRIBUTES)};
    get->times = (struct session_times){.created_ms = ms_at(result, 0, READ_CREATED),
                                        .used_ms = ms_at(result, 0, READ_USED),
                                        .expires_ms = ms_at(result, 0, READ_EXPIRES)};
    get->version = ms_at(result, 0, READ_VERSION);
    take_values(get, result);
    g->now_ms = ms_at(result, 0, READ_NOW);
    g->until_ms = session_used_until(&get->use, ms_at(result, 0, READ_TTL),
                                     ms_at(result, 0, READ_ENDS), get->times.expires_ms, g->now_ms);
}

static void touch_result(struct postgres_call *call, const PGresult *result)
{
    struct getting *g = getting_of(call);

    if (postgres_changed(result) == 0)
        return;
    g->get->times.used_ms = g->now_ms;
    g->get->times.expires_ms = g->until_ms;
}

static void touch_end(struct postgres_call *call)
{
    struct getting *g = getting_of(call);

    postgres_finish(g->postgres, &g->get->op, ERR_NONE);
}

static const struct postgres_kind touch_kind = {
    .writes = true, .result = touch_result, .end = touch_end};

static void get_end(struct postgres_call *call)
{
    struct getting *g = getting_of(call);
    struct session_get *get = g->get;
    struct postgres_params params;

    if (call->err.code != ERR_OK || g->until_ms == get->times.expires_ms ||
        postgres_choose(g->postgres) == NULL) {
        postgres_finish(g->postgres, &get->op, postgres_err(call, &get->op));
        return;
    }
    postgres_session_params(&params, &g->postgres->base, &get->op, get->id);
    postgres_add_int8(&params, (int64_t)g->now_ms);
    postgres_add_int8(&params, (int64_t)g->until_ms);
    postgres_run(g->postgres, &get->op, &touch_kind, g, SQL_SESSION_TOUCH, &params);
}

static const struct postgres_kind get_kind = {.result = get_result, .end = get_end};

void postgres_session_get(struct backend *backend, struct session_get *get)
{
    struct getting *g = arena_zalloc(op_arena(&get->op), sizeof *g);
    struct postgres_params params;

    g->postgres = postgres_of(backend);
    g->get = get;
    postgres_session_params(&params, backend, &get->op, get->id);
    if (get->name.len > 0)
        postgres_add(&params, get->name);
    postgres_run(g->postgres, &get->op, &get_kind, g,
                 get->name.len > 0 ? SQL_SESSION_GET_ONE : SQL_SESSION_GET, &params);
}

/* ---- page ---- */

enum page_column {
    PAGE_PLACE,
    PAGE_ID,
    PAGE_USER,
    PAGE_REGION,
    PAGE_CLIENT,
    PAGE_ATTRIBUTES,
    PAGE_CREATED,
    PAGE_USED,
    PAGE_EXPIRES,
    PAGE_VERSION
};

static uint64_t add_entry(struct session_page *page, const PGresult *result, int row)
{
    struct arena *arena = op_arena(&page->op);
    struct session_entry *entry = &page->entries[page->n++];

    *entry = (struct session_entry){
        .id = copy_at(arena, result, row, PAGE_ID),
        .owner = {.user = copy_at(arena, result, row, PAGE_USER),
                  .region = copy_at(arena, result, row, PAGE_REGION),
                  .client = copy_at(arena, result, row, PAGE_CLIENT),
                  .attributes = copy_at(arena, result, row, PAGE_ATTRIBUTES)},
        .times = {.created_ms = ms_at(result, row, PAGE_CREATED),
                  .used_ms = ms_at(result, row, PAGE_USED),
                  .expires_ms = ms_at(result, row, PAGE_EXPIRES)},
        .version = ms_at(result, row, PAGE_VERSION)};
    return sizeof *entry + entry->id.len + entry->owner.user.len + entry->owner.region.len +
           entry->owner.client.len + entry->owner.attributes.len;
}

static int64_t rows_of(const struct session_page *page)
{
    return (int64_t)page->max_items + POSTGRES_SESSION_SCAN;
}

static void page_result(struct postgres_call *call, const PGresult *result)
{
    struct session_page *page = CONTAINER_OF(call->op, struct session_page, op);
    int rows = PQntuples(result), row = 0;
    uint64_t bytes = 0;

    page->n = 0;
    page->next = page->after;
    for (; row < rows && page->n < page->max_items; row++) {
        if (page->max_bytes > 0 && bytes >= page->max_bytes)
            break;
        page->next = ms_at(result, row, PAGE_PLACE);
        if (!PQgetisnull(result, row, PAGE_ID))
            bytes += add_entry(page, result, row);
    }
    page->more = row < rows || rows == rows_of(page);
}

static const struct postgres_kind page_kind = {.result = page_result};

void postgres_session_page(struct backend *backend, struct session_page *page)
{
    struct postgres_params params;

    page->entries = arena_array(op_arena(&page->op), page->max_items, sizeof *page->entries);
    postgres_session_params(&params, backend, &page->op, page->user);
    postgres_add(&params, page->region);
    postgres_add(&params, page->client);
    postgres_add_int8(&params, (int64_t)page->after);
    postgres_add_int8(&params, rows_of(page));
    postgres_run(postgres_of(backend), &page->op, &page_kind, NULL,
                 page->user.len > 0     ? SQL_SESSION_PAGE_OF_USER
                 : page->region.len > 0 ? SQL_SESSION_PAGE_OF_REGION
                                        : SQL_SESSION_PAGE,
                 &params);
}
