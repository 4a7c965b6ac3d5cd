/* Scan: an iterator over fetches. One fetch is one Scan call, bounded in keys and bytes and read to
 * its end into memory, so that a slow caller never holds a call open. Where a fetch ended, the next
 * begins; where it broke off, its repetition begins, with what came before kept.
 *
 *   prism_scan_next -> items left? -> the next one
 *                   -> server has more? -> fetch -> again
 *                   -> end, or the error that stopped the last fetch */
#include "client/src/error.h"
#include "client/src/keyvalue_priv.h"

#include <stdlib.h>
#include <string.h>

typedef Prism__Patterns__Keyvalue__ScanRequest scan_request;
typedef Prism__Patterns__Keyvalue__ScanResponse scan_response;

enum { DEFAULT_PAGE = 1000, FETCH_BYTES = 4 << 20, MAX_PAGE = INT32_MAX };

struct prism_scan {
    struct prism_keyvalue *keyvalue;
    char *prefix; /* NULL: all keys */
    char *cursor; /* where the next fetch begins; NULL: at the beginning */
    uint32_t deadline_ms;
    int32_t page_size;
    bool with_values, more;
    struct prism_error error; /* of the last fetch; reported after its items */

    /* The fetch being handed out: its messages, and the place in them. */
    scan_response **pages;
    size_t page_count, page_room, page, item;
};

enum prism_code prism_keyvalue_scan(struct prism_keyvalue *keyvalue,
                                    const struct prism_scan_options *options,
                                    struct prism_scan **scan, struct prism_error *error)
{
    static const struct prism_scan_options defaults;
    enum prism_code code = feature_require(keyvalue, FEATURE_SCAN, error);
    struct prism_scan *made;

    *scan = NULL;
    if (code != PRISM_OK)
        return code;
    if (options == NULL)
        options = &defaults;
    made = alloc_zeroed(1, sizeof *made);
    made->keyvalue = keyvalue;
    made->more = true;
    made->deadline_ms = options->deadline_ms;
    made->with_values = options->with_values;
    made->page_size = options->page_size == 0         ? DEFAULT_PAGE
                      : options->page_size > MAX_PAGE ? MAX_PAGE
                                                      : (int32_t)options->page_size;
    if (options->prefix != NULL && *options->prefix != '\0')
        made->prefix = alloc_text(options->prefix);
    *scan = made;
    return error_none(error);
}

static void drop_pages(struct prism_scan *scan)
{
    for (size_t i = 0; i < scan->page_count; i++)
        protobuf_c_message_free_unpacked(&scan->pages[i]->base, NULL);
    scan->page_count = scan->page = scan->item = 0;
}

void prism_scan_close(struct prism_scan *scan)
{
    if (scan == NULL)
        return;
    drop_pages(scan);
    free(scan->pages);
    free(scan->prefix);
    free(scan->cursor);
    free(scan);
}

static void set_request(const struct prism_scan *scan, struct rpc *rpc)
{
    scan_request request = PRISM__PATTERNS__KEYVALUE__SCAN_REQUEST__INIT;

    if (scan->prefix != NULL) {
        request._prefix_case = PRISM__PATTERNS__KEYVALUE__SCAN_REQUEST___PREFIX_PREFIX;
        request.prefix = scan->prefix;
    }
    if (scan->cursor != NULL) {
        request._cursor_case = PRISM__PATTERNS__KEYVALUE__SCAN_REQUEST___CURSOR_CURSOR;
        request.cursor = scan->cursor;
    }
    request._limit_case = PRISM__PATTERNS__KEYVALUE__SCAN_REQUEST___LIMIT_LIMIT;
    request.limit = scan->page_size;
    request._include_values_case =
        PRISM__PATTERNS__KEYVALUE__SCAN_REQUEST___INCLUDE_VALUES_INCLUDE_VALUES;
    request.include_values = scan->with_values;
    request._max_bytes_case = PRISM__PATTERNS__KEYVALUE__SCAN_REQUEST___MAX_BYTES_MAX_BYTES;
    request.max_bytes = FETCH_BYTES;
    rpc_set_request(rpc, &request.base);
}

static void keep_page(struct prism_scan *scan, scan_response *page)
{
    if (scan->page_count == scan->page_room) {
        size_t room = scan->page_room > 0 ? scan->page_room * 2 : 8;
        scan_response **pages = realloc(scan->pages, room * sizeof *pages);

        if (pages == NULL)
            abort();
        scan->pages = pages;
        scan->page_room = room;
    }
    scan->pages[scan->page_count++] = page;
}

/* Moves the scan behind the page. False if the page contradicts itself, or if following it would
 * lead nowhere: no key, and the cursor that we came from. */
static bool advance(struct prism_scan *scan, const scan_response *page)
{
    const char *next = page->next_cursor; /* NULL or "" when absent */
    bool stuck;

    scan->more = page->has_more;
    if (scan->with_values && page->n_values != page->n_keys)
        return false;
    if (!page->has_more)
        return true;
    if (next == NULL || *next == '\0')
        return false;
    stuck = page->n_keys == 0 && scan->cursor != NULL && strcmp(scan->cursor, next) == 0;
    free(scan->cursor);
    scan->cursor = alloc_text(next);
    return !stuck;
}

static bool on_message(void *context, ProtobufCMessage *message)
{
    struct prism_scan *scan = context;
    scan_response *page = (scan_response *)message;

    if (!scan->more || !advance(scan, page)) {
        protobuf_c_message_free_unpacked(message, NULL);
        return false;
    }
    keep_page(scan, page);
    return true;
}

static void fetch(struct prism_scan *scan)
{
    struct prism_keyvalue *keyvalue = scan->keyvalue;
    size_t pages_before;
    struct rpc rpc;

    drop_pages(scan);
    rpc_init(&rpc, keyvalue->channel, &keyvalue_methods[KEYVALUE_SCAN],
             keyvalue->registered[KEYVALUE_SCAN], scan->deadline_ms);
    do {
        pages_before = scan->page_count;
        set_request(scan, &rpc);
        rpc_wait(&rpc);
        rpc_stream(&rpc, on_message, scan);
    } while (scan->more && rpc_again(&rpc));
    scan->error = rpc.error;
    rpc_clear(&rpc);
    if (!scan->more && scan->error.code != PRISM_INTERNAL)
        error_none(&scan->error); /* the last page has come, however the call ended after it */
    else if (scan->error.code == PRISM_OK && scan->page_count == pages_before)
        scan->more = false; /* a stream without any message: nothing there */
}

static bool take_item(struct prism_scan *scan, struct prism_scan_item *item)
{
    while (scan->page < scan->page_count) {
        const scan_response *page = scan->pages[scan->page];

        if (scan->item < page->n_keys) {
            item->key = page->keys[scan->item];
            if (scan->with_values)
                item->value =
                    prism_bytes_of(page->values[scan->item].data, page->values[scan->item].len);
            scan->item++;
            return true;
        }
        scan->page++;
        scan->item = 0;
    }
    return false;
}

bool prism_scan_next(struct prism_scan *scan, struct prism_scan_item *item,
                     struct prism_error *error)
{
    *item = (struct prism_scan_item){0};
    error_none(error);
    for (;;) {
        if (take_item(scan, item))
            return true;
        if (scan->error.code != PRISM_OK || !scan->more) {
            error_copy(error, &scan->error);
            return false;
        }
        fetch(scan);
    }
}
