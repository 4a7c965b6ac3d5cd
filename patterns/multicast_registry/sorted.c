#include "patterns/multicast_registry/sorted.h"

#include "src/base/container.h"
#include "src/base/digest.h"

#include <stdlib.h>
#include <string.h>

enum {
    MARK_BYTES = 4,  /* of the digest of sort_by, which a cursor begins with */
    MOST_WALKED = 10 /* times max_sorted: identities that a filter is evaluated for */
};

static const char cursor_mark[] = "s:";

enum rank { RANK_ABSENT, RANK_NULL, RANK_FALSE, RANK_TRUE, RANK_NUMBER, RANK_STRING, RANK_OTHER };

struct path {
    enum { PATH_FIELD, PATH_IDENTITY, PATH_REGISTERED, PATH_EXPIRES } kind;
    const struct filter_node *field; /* PATH_FIELD */
    bool descends;
};

struct key {
    uint8_t bytes[SORTED_BYTES];
    size_t len, identity; /* identity: where it begins */
};

struct sorting {
    struct call *call;
    struct multicast *multicast;
    const pb_enumerate_request *request;
    const struct filter *filter;
    struct path paths[SORTED_PATHS];
    size_t n_paths;
    uint8_t mark[MARK_BYTES];
    struct slice after; /* the cursor's key; null: from the start */
    struct semaphore_waiter permit;
    bool wants_documents; /* for the keys */
    size_t limit;
    struct key **heap; /* the greatest first; sorted in the end */
    size_t n;
    struct key next;                             /* being looked at */
    uint64_t matches, walked, beyond, max_bytes; /* beyond: behind those that are kept */
    struct arena memory;                         /* of a page */
    struct registry_page page;
    struct registry_get get;
    pb_enumerate_response response;
};

/* ---- paths ---- */

static struct err read_path(struct arena *arena, const char *text, struct path *path)
{
    static const uint8_t present = DOCUMENT_TRUE;
    struct filter_node *node;
    struct err err;

    *path = (struct path){.descends = text[0] == '-'};
    text += path->descends;
    if (strcmp(text, "$registered_at") == 0) {
        path->kind = PATH_REGISTERED;
        return ERR_NONE;
    }
    if (strcmp(text, "$expires_at") == 0) {
        path->kind = PATH_EXPIRES;
        return ERR_NONE;
    }
    err = filter_condition(arena, slice_str(text), FILTER_EXISTS, slice_of(&present, 1), &node);
    err.subject = "sort_by";
    path->field = node;
    if (err.code == ERR_OK && node->place == FILTER_IDENTITY)
        path->kind = PATH_IDENTITY;
    if (err.code == ERR_OK && node->place == FILTER_TAGS)
        return err_about(ERR_INVALID_ARGUMENT, "sort_by", "tags have no order");
    return err;
}

static struct err read_paths(struct sorting *s)
{
    struct arena *arena = call_arena(s->call);
    struct slice parts[2 * SORTED_PATHS];
    unsigned n = 0;
    struct digest digest;

    if (s->request->n_sort_by > SORTED_PATHS)
        return err_about(ERR_INVALID_ARGUMENT, "sort_by", "sort_by has at most 5 paths");
    for (; s->n_paths < s->request->n_sort_by; s->n_paths++) {
        const char *text = s->request->sort_by[s->n_paths];
        struct err err = read_path(arena, text, &s->paths[s->n_paths]);

        if (err.code != ERR_OK)
            return err;
        s->wants_documents = s->wants_documents || s->paths[s->n_paths].kind == PATH_FIELD;
        parts[n++] = slice_str(text);
        parts[n++] = slice_of("", 1);
    }
    digest = digest_of(parts, n);
    memcpy(s->mark, digest.bytes, MARK_BYTES);
    return ERR_NONE;
}

/* ---- keys ---- */

static void put(struct key *key, uint8_t byte)
{
    key->bytes[key->len++] = byte;
}

/* As an integer whose order is that of the numbers. */
static void put_number(struct key *key, double number)
{
    uint64_t bits;

    memcpy(&bits, &number, sizeof bits);
    bits ^= bits >> 63 != 0 ? UINT64_MAX : UINT64_C(1) << 63;
    for (int i = 7; i >= 0; i--)
        put(key, (uint8_t)(bits >> 8 * i));
}

static void put_text(struct key *key, struct slice text)
{
    for (size_t i = 0; i < text.len && i < SORTED_TEXT_BYTES; i++)
        put(key, text.data[i]);
    put(key, 0);
}

static void put_value(struct key *key, struct slice value)
{
    switch (document_type_of(value)) {
    case DOCUMENT_NULL:
        put(key, RANK_NULL);
        return;
    case DOCUMENT_FALSE:
        put(key, RANK_FALSE);
        return;
    case DOCUMENT_TRUE:
        put(key, RANK_TRUE);
        return;
    case DOCUMENT_NUMBER:
        put(key, RANK_NUMBER);
        put_number(key, document_number_of(value));
        return;
    case DOCUMENT_STRING:
        put(key, RANK_STRING);
        put_text(key, document_payload(value));
        return;
    default:
        put(key, RANK_OTHER);
    }
}

static void put_field(struct key *key, const struct filter_node *field, struct slice value)
{
    bool found = value.len > 0;

    for (size_t i = 0; i < field->names_n && found; i++)
        found = document_field(value, field->names[i], &value);
    if (found)
        put_value(key, value);
    else
        put(key, RANK_ABSENT);
}

static void put_path(struct key *key, const struct path *path, const struct registry_entry *entry)
{
    size_t from = key->len;

    switch (path->kind) {
    case PATH_FIELD:
        put_field(key, path->field, entry->document);
        break;
    case PATH_IDENTITY:
        put_text(key, entry->identity);
        break;
    case PATH_REGISTERED:
        put_number(key, (double)entry->registered_at_ms);
        break;
    case PATH_EXPIRES: /* never is later than any time */
        put_number(key, entry->expires_at_ms > 0 ? (double)entry->expires_at_ms : 1e300);
        break;
    }
    for (; path->descends && from < key->len; from++)
        key->bytes[from] ^= UINT8_MAX;
}

static void make_key(const struct sorting *s, const struct registry_entry *entry, struct key *key)
{
    key->len = 0;
    for (size_t i = 0; i < s->n_paths; i++)
        put_path(key, &s->paths[i], entry);
    key->identity = key->len;
    memcpy(key->bytes + key->len, entry->identity.data, entry->identity.len);
    key->len += entry->identity.len;
}

static struct slice bytes_of(const struct key *key)
{
    return slice_of(key->bytes, key->len);
}

/* ---- the heap ---- */

static void swap(struct key **heap, size_t a, size_t b)
{
    struct key *key = heap[a];

    heap[a] = heap[b];
    heap[b] = key;
}

static bool is_less(struct key *const *heap, size_t a, size_t b)
{
    return slice_compare(bytes_of(heap[a]), bytes_of(heap[b])) < 0;
}

static void sift_up(struct key **heap, size_t at)
{
    while (at > 0 && is_less(heap, (at - 1) / 2, at)) {
        swap(heap, (at - 1) / 2, at);
        at = (at - 1) / 2;
    }
}

static void sift_down(struct key **heap, size_t n)
{
    for (size_t at = 0, child; (child = 2 * at + 1) < n; at = child) {
        if (child + 1 < n && is_less(heap, child, child + 1))
            child++;
        if (!is_less(heap, at, child))
            return;
        swap(heap, at, child);
    }
}

static int by_bytes(const void *a, const void *b)
{
    struct key *const *x = a, *const *y = b;

    return slice_compare(bytes_of(*x), bytes_of(*y));
}

static void keep(struct sorting *s)
{
    struct slice bytes = bytes_of(&s->next);

    if (s->after.data != NULL && slice_compare(bytes, s->after) <= 0)
        return;
    if (s->n < s->limit) {
        s->heap[s->n] = arena_alloc(call_arena(s->call), sizeof *s->heap[s->n]);
        *s->heap[s->n] = s->next;
        sift_up(s->heap, s->n++);
        return;
    }
    s->beyond++;
    if (slice_compare(bytes, bytes_of(s->heap[0])) >= 0)
        return;
    *s->heap[0] = s->next;
    sift_down(s->heap, s->n);
}

/* ---- the answer ---- */

static char *cursor_of(const struct sorting *s, const struct key *key)
{
    static const char digits[] = "0123456789abcdef";
    size_t mark = strlen(cursor_mark), n = MARK_BYTES + key->len;
    char *text = arena_alloc(call_arena(s->call), mark + 2 * n + 1);

    memcpy(text, cursor_mark, mark);
    for (size_t i = 0; i < n; i++) {
        uint8_t byte = i < MARK_BYTES ? s->mark[i] : key->bytes[i - MARK_BYTES];

        text[mark + 2 * i] = digits[byte >> 4];
        text[mark + 2 * i + 1] = digits[byte & 15];
    }
    text[mark + 2 * n] = '\0';
    return text;
}

static void reply(struct sorting *s, size_t told)
{
    pb_enumerate_response *response = &s->response;

    response->total_count = (int32_t)response->n_identities;
    if (s->beyond > 0 || told < s->n) {
        response->has_more = true;
        response->_next_cursor_case = MULTICAST_PB(ENUMERATE_RESPONSE___NEXT_CURSOR_NEXT_CURSOR);
        response->next_cursor = cursor_of(s, s->heap[told - 1]);
    }
    call_reply_read(s->call, &response->base);
}

static void got(struct op *op)
{
    struct sorting *s = CONTAINER_OF(op, struct sorting, get.op);
    const struct registry_get *get = &s->get;

    if (op->err.code != ERR_OK) {
        call_fail(s->call, op->err);
        return;
    }
    for (size_t i = 0; i < get->looked_up; i++) {
        if (get->entries[i].generation != 0)
            s->response.identities[s->response.n_identities++] =
                convert_entry(call_arena(s->call), &get->entries[i]);
    }
    reply(s, get->looked_up);
}

static void get_them(struct sorting *s)
{
    struct arena *arena = call_arena(s->call);
    struct slice *names = arena_array(arena, s->n, sizeof *names);

    if (s->n == 0) {
        reply(s, 0);
        return;
    }
    qsort(s->heap, s->n, sizeof *s->heap, by_bytes);
    for (size_t i = 0; i < s->n; i++)
        names[i] = slice_of(s->heap[i]->bytes + s->heap[i]->identity,
                            s->heap[i]->len - s->heap[i]->identity);
    s->response.identities = arena_array(arena, s->n, sizeof(void *));
    s->get = (struct registry_get){.identities = names,
                                   .n = s->n,
                                   .max_bytes = s->max_bytes,
                                   .with_documents = s->request->_include_metadata_case == 0 ||
                                                     s->request->include_metadata};
    call_start(s->call, &s->get.op, got);
    s->multicast->plan.registry->get(s->multicast->registry, &s->get);
}

/* ---- the walk ---- */

static void fetch(struct sorting *s, struct slice after);

static struct err too_many(const struct sorting *s)
{
    uint64_t most = s->multicast->settings.max_sorted;
    const char *text = s->matches > most
                           ? "more than %llu identities match: so many are not sorted (max_sorted)"
                           : "the filter was evaluated for more than %llu identities: so many are "
                             "not looked at for an order (10 times max_sorted)";

    most *= s->matches > most ? 1 : MOST_WALKED;
    return err_about(ERR_FAILED_PRECONDITION, "sort_by",
                     arena_printf(call_arena(s->call), text, (unsigned long long)most));
}

/* ---- the line: few walks of a worker at a time, whose pages would else pile up ---- */

static void left(struct call *call, void *arg)
{
    struct sorting *s = arg;

    semaphore_leave(&s->multicast->sorting, &s->permit);
    s->multicast->sorting_waits--;
    call_fail(call, call_group(call)->cancelled);
}

static void granted(struct semaphore_waiter *waiter)
{
    struct sorting *s = CONTAINER_OF(waiter, struct sorting, permit);

    s->multicast->sorting_waits--;
    call_on_cancel(s->call, NULL, NULL);
    fetch(s, slice_of("", 0));
}

static void stand_in_line(struct sorting *s)
{
    struct multicast *multicast = s->multicast;

    if (semaphore_try(&multicast->sorting)) {
        fetch(s, slice_of("", 0));
    } else if (multicast->sorting_waits == SORTED_WAITING) {
        counter_add(&multicast->stats.sorts_refused, 1);
        call_fail(s->call, err_about(ERR_RESOURCE_EXHAUSTED, "sort_by",
                                     "too many Enumerate calls wait for their order already"));
    } else {
        multicast->sorting_waits++;
        s->permit.granted = granted;
        semaphore_wait(&multicast->sorting, &s->permit);
        call_on_cancel(s->call, left, s);
    }
}

/* ---- pages ---- */

static void paged(struct op *op)
{
    struct sorting *s = CONTAINER_OF(op, struct sorting, page.op);
    const struct registry_page *page = &s->page;
    uint64_t most = s->multicast->settings.max_sorted;
    struct slice after;

    if (op->err.code != ERR_OK) {
        call_fail(s->call, op->err); /* its text may lie in the page's memory */
        arena_clear(&s->memory);
        semaphore_release(&s->multicast->sorting);
        return;
    }
    for (size_t i = 0; i < page->n; i++) {
        make_key(s, &page->entries[i], &s->next);
        keep(s);
    }
    s->matches += page->n;
    s->walked += page->examined + page->n;
    after = page->more ? arena_copy(call_arena(s->call), page->next) : message_null();
    arena_clear(&s->memory);
    if (s->matches > most || s->walked > MOST_WALKED * most) {
        call_fail(s->call, too_many(s));
        semaphore_release(&s->multicast->sorting);
    } else if (after.data != NULL) {
        fetch(s, after);
    } else {
        get_them(s);
        semaphore_release(&s->multicast->sorting);
    }
}

static void fetch(struct sorting *s, struct slice after)
{
    s->page = (struct registry_page){.filter = s->filter,
                                     .after = after,
                                     .max_items = REGISTRY_PAGE_ITEMS,
                                     .max_bytes = REGISTRY_SLICE_BYTES,
                                     .with_documents = s->wants_documents};
    arena_init(&s->memory, NULL);
    call_start(s->call, &s->page.op, paged);
    s->page.op.arena = &s->memory;
    s->multicast->plan.registry->page(s->multicast->registry, &s->page);
}

/* ---- the request ---- */

static int digit_of(char c)
{
    return c >= '0' && c <= '9' ? c - '0' : c >= 'a' && c <= 'f' ? c - 'a' + 10 : -1;
}

static struct err read_cursor(struct sorting *s)
{
    const char *text = s->request->_cursor_case != 0 ? s->request->cursor : "";
    size_t mark = strlen(cursor_mark), n = strlen(text);
    struct err wrong = err_about(ERR_INVALID_ARGUMENT, "cursor",
                                 "this is no cursor of Enumerate with this sort_by");
    uint8_t *bytes;

    if (n == 0)
        return ERR_NONE;
    if (strncmp(text, cursor_mark, mark) != 0 || (n - mark) % 2 != 0 ||
        (n - mark) / 2 <= MARK_BYTES || (n - mark) / 2 > MARK_BYTES + SORTED_BYTES)
        return wrong;
    n = (n - mark) / 2;
    bytes = arena_alloc(call_arena(s->call), n);
    for (size_t i = 0; i < n; i++) {
        int high = digit_of(text[mark + 2 * i]), low = digit_of(text[mark + 2 * i + 1]);

        if (high < 0 || low < 0)
            return wrong;
        bytes[i] = (uint8_t)(high << 4 | low);
    }
    if (memcmp(bytes, s->mark, MARK_BYTES) != 0)
        return wrong;
    s->after = slice_of(bytes + MARK_BYTES, n - MARK_BYTES);
    return ERR_NONE;
}

void sorted_enumerate(struct call *call, const struct filter *filter, size_t limit,
                      uint64_t max_bytes)
{
    struct sorting *s = arena_zalloc(call_arena(call), sizeof *s);
    struct err err;

    s->call = call;
    s->multicast = multicast_of(call);
    s->request = call_request(call);
    s->filter = filter;
    s->limit = limit;
    s->max_bytes = max_bytes;
    prism__patterns__multicast_registry__enumerate_response__init(&s->response);
    err = read_paths(s);
    if (err.code == ERR_OK)
        err = read_cursor(s);
    if (err.code == ERR_OK)
        err = call_hold(call, limit * sizeof(struct key) + REGISTRY_SLICE_BYTES);
    if (err.code != ERR_OK) {
        call_fail(call, err);
        return;
    }
    s->heap = arena_array(call_arena(call), limit, sizeof(struct key *));
    stand_in_line(s);
}
