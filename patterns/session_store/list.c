/* ListSessions: pages of the backend, gathered until the answer is full. */
#include "patterns/session_store/session_store_priv.h"
#include "src/base/container.h"

#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

enum {
    MOST_PAGES = 50, /* of one call, where few match; then it answers with a token */
    WIRE_FACTOR = 2  /* a session as a message of the protocol, by its own bytes, at most */
};

static const char token_mark[] = "s:"; /* before the place behind which a page goes on */

struct listing {
    struct session_page page;
    struct call *call;
    struct session_store *store;
    size_t limit;
    unsigned pages;
    uint64_t max_bytes, bytes;
    pb_list_sessions_response response;
};

static void fetch(struct listing *l, uint64_t after);

static void reply(struct listing *l)
{
    if (l->page.more)
        l->response.next_page_token =
            arena_printf(call_arena(l->call), "%s%" PRIu64, token_mark, l->page.next);
    call_reply_read(l->call, &l->response.base);
}

static uint64_t bytes_of(const struct session_entry *entry)
{
    return sizeof *entry + entry->id.len + entry->owner.user.len + entry->owner.region.len +
           entry->owner.client.len + entry->owner.attributes.len;
}

static void paged(struct op *op)
{
    struct listing *l = CONTAINER_OF(op, struct listing, page.op);

    if (op->err.code != ERR_OK) {
        call_fail(l->call, op->err);
        return;
    }
    for (size_t i = 0; i < l->page.n; i++) {
        const struct session_entry *entry = &l->page.entries[i];

        l->bytes += bytes_of(entry);
        l->response.sessions[l->response.n_sessions++] = convert_session(
            call_arena(l->call), entry->id, &entry->owner, &entry->times, entry->version);
    }
    if (!l->page.more || l->response.n_sessions == l->limit || l->bytes >= l->max_bytes ||
        ++l->pages == MOST_PAGES)
        reply(l);
    else
        fetch(l, l->page.next);
}

static void fetch(struct listing *l, uint64_t after)
{
    l->page.op = (struct op){0};
    l->page.after = after;
    l->page.max_items = (uint32_t)(l->limit - l->response.n_sessions);
    l->page.max_bytes = l->max_bytes - l->bytes;
    call_start(l->call, &l->page.op, paged);
    l->store->methods->page(l->store->backend, &l->page);
}

static struct err read_token(const char *token, uint64_t *after)
{
    size_t mark = strlen(token_mark);
    char *end;

    *after = 0;
    if (token[0] == '\0')
        return ERR_NONE;
    if (strncmp(token, token_mark, mark) == 0 && token[mark] >= '0' && token[mark] <= '9' &&
        strlen(token) < mark + 20) {
        *after = strtoull(token + mark, &end, 10);
        if (*end == '\0')
            return ERR_NONE;
    }
    return err_about(ERR_INVALID_ARGUMENT, "page_token", "this is no token of ListSessions");
}

static struct err read_request(struct listing *l, const pb_list_sessions_request *request,
                               uint64_t *after)
{
    struct err err = convert_text(request->user_id, "user_id", &l->page.user);

    if (err.code == ERR_OK)
        err = convert_text(request->region, "region", &l->page.region);
    if (err.code == ERR_OK)
        err = convert_text(request->client_id, "client_id", &l->page.client);
    if (err.code == ERR_OK)
        err = read_token(request->page_token, after);
    if (err.code == ERR_OK && request->page_size < 0)
        err = err_about(ERR_INVALID_ARGUMENT, "page_size", "page_size must not be negative");
    l->limit = request->page_size > 0 ? (size_t)request->page_size : SESSIONS_DEFAULT_LIMIT;
    if (l->limit > SESSION_PAGE_ITEMS)
        l->limit = SESSION_PAGE_ITEMS;
    l->max_bytes = l->store->binding.max_message_bytes / WIRE_FACTOR;
    return err;
}

void session_list(struct call *call)
{
    struct listing *l = arena_zalloc(call_arena(call), sizeof *l);
    uint64_t after = 0;
    struct err err;

    l->call = call;
    l->store = session_store_of(call);
    prism__patterns__session_store__list_sessions_response__init(&l->response);
    err = read_request(l, call_request(call), &after);
    if (err.code != ERR_OK) {
        call_fail(call, err);
        return;
    }
    l->response.sessions = arena_array(call_arena(call), l->limit, sizeof *l->response.sessions);
    fetch(l, after);
}
