/* Enumerate: pages of the registry, gathered until the answer is full. */
#include "patterns/multicast_registry/filter.h"
#include "patterns/multicast_registry/multicast_priv.h"
#include "patterns/multicast_registry/sorted.h"
#include "src/base/container.h"

#include <string.h>

enum {
    DEFAULT_LIMIT = 100,
    MOST_EXAMINED = 100000, /* identities that one call looks at; then it answers with a cursor */
    WIRE_FACTOR = 2         /* an entry as a message of the protocol, by its own bytes, at most */
};

static const char cursor_mark[] = "i:"; /* before the identity behind which a page goes on */

struct enumerating {
    struct registry_page page;
    struct registry_count count;
    struct call *call;
    struct multicast *multicast;
    const struct filter *filter;
    size_t limit;
    bool with_metadata;
    uint64_t examined, max_bytes, bytes;
    pb_enumerate_response response;
};

static void fetch(struct enumerating *e, struct slice after);

static void reply(struct enumerating *e, struct slice next)
{
    struct arena *arena = call_arena(e->call);

    e->response.total_count = (int32_t)e->response.n_identities;
    if (next.data != NULL) {
        e->response.has_more = true;
        e->response._next_cursor_case = MULTICAST_PB(ENUMERATE_RESPONSE___NEXT_CURSOR_NEXT_CURSOR);
        e->response.next_cursor =
            arena_printf(arena, "%s%.*s", cursor_mark, (int)next.len, (const char *)next.data);
    }
    call_reply_read(e->call, &e->response.base);
}

static void paged(struct op *op)
{
    struct enumerating *e = CONTAINER_OF(op, struct enumerating, page.op);
    const struct registry_page *page = &e->page;

    if (op->err.code != ERR_OK) {
        call_fail(e->call, op->err);
        return;
    }
    for (size_t i = 0; i < page->n; i++) {
        const struct registry_entry *entry = &page->entries[i];

        e->bytes += entry->identity.len + entry->document.len + entry->tags.len;
        e->response.identities[e->response.n_identities++] =
            convert_entry(call_arena(e->call), entry);
    }
    e->examined += page->examined + page->n;
    if (!page->more)
        reply(e, message_null());
    else if (e->response.n_identities == e->limit || e->examined >= MOST_EXAMINED ||
             e->bytes >= e->max_bytes)
        reply(e, page->next);
    else
        fetch(e, page->next);
}

static void fetch(struct enumerating *e, struct slice after)
{
    size_t left = e->limit - e->response.n_identities;

    e->page = (struct registry_page){
        .filter = e->filter,
        .after = after,
        .max_items = (uint32_t)(left < REGISTRY_PAGE_ITEMS ? left : REGISTRY_PAGE_ITEMS),
        .max_bytes = e->max_bytes - e->bytes,
        .with_documents = e->with_metadata};
    call_start(e->call, &e->page.op, paged);
    e->multicast->plan.registry->page(e->multicast->registry, &e->page);
}

static void counted(struct op *op)
{
    struct enumerating *e = CONTAINER_OF(op, struct enumerating, count.op);

    if (op->err.code != ERR_OK) {
        call_fail(e->call, op->err);
        return;
    }
    e->response._match_count_case = MULTICAST_PB(ENUMERATE_RESPONSE___MATCH_COUNT_MATCH_COUNT);
    e->response.match_count = (int64_t)e->count.count;
    call_reply(e->call, &e->response.base);
}

static struct err read_cursor(const pb_enumerate_request *request, struct slice *after)
{
    size_t mark = strlen(cursor_mark);

    *after = slice_of("", 0);
    if (request->_cursor_case == 0 || request->cursor[0] == '\0')
        return ERR_NONE;
    if (strncmp(request->cursor, cursor_mark, mark) != 0 || request->cursor[mark] == '\0' ||
        strlen(request->cursor) > mark + REGISTRY_IDENTITY_BYTES)
        return err_about(ERR_INVALID_ARGUMENT, "cursor", "this is no cursor of Enumerate");
    *after = slice_str(request->cursor + mark);
    return ERR_NONE;
}

static struct err read_request(struct enumerating *e, const pb_enumerate_request *request,
                               struct slice *after)
{
    struct err err = request->n_sort_by > 0 ? ERR_NONE : read_cursor(request, after);

    if (err.code != ERR_OK)
        return err;
    if (request->_limit_case != 0 && request->limit < 1)
        return err_about(ERR_INVALID_ARGUMENT, "limit", "limit has to be 1 or more");
    e->limit = request->_limit_case != 0 ? (size_t)request->limit : DEFAULT_LIMIT;
    if (e->limit > REGISTRY_PAGE_ITEMS)
        e->limit = REGISTRY_PAGE_ITEMS;
    e->with_metadata = request->_include_metadata_case == 0 || request->include_metadata;
    e->max_bytes = e->multicast->binding.max_message_bytes / WIRE_FACTOR;
    return multicast_filter(call_arena(e->call), request->filter, &e->multicast->settings.filter,
                            &e->filter);
}

void multicast_enumerate(struct call *call)
{
    const pb_enumerate_request *request = call_request(call);
    struct enumerating *e = arena_zalloc(call_arena(call), sizeof *e);
    struct slice after = {0};
    struct err err;

    e->call = call;
    e->multicast = multicast_of(call);
    prism__patterns__multicast_registry__enumerate_response__init(&e->response);
    err = read_request(e, request, &after);
    if (err.code != ERR_OK) {
        call_fail(call, err);
        return;
    }
    if (request->count_only) {
        e->count.filter = e->filter;
        call_start(call, &e->count.op, counted);
        e->multicast->plan.registry->count(e->multicast->registry, &e->count);
        return;
    }
    if (request->n_sort_by > 0) {
        sorted_enumerate(call, e->filter, e->limit, e->max_bytes);
        return;
    }
    e->response.identities = arena_array(call_arena(call), e->limit, sizeof(void *));
    fetch(e, after);
}
