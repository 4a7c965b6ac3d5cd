/* Following a scan's cursors to its end, through pages, calls and failures. */
#include "tests/client/fixture.h"

#include <grpc/status.h>
#include <stdio.h>

typedef Prism__Patterns__Keyvalue__ScanRequest scan_request;
typedef Prism__Patterns__Keyvalue__ScanResponse scan_response;

enum { PAGE_KEYS = 2 };

static const struct prism_channel_options quick = {
    .retry = {.max_attempts = 3, .initial_ms = 5, .max_ms = 20}};

/* A page with the keys "k<first>", "k<first + 1>", and a cursor unless next is NULL. */
struct page {
    scan_response message;
    char text[PAGE_KEYS][8];
    char *keys[PAGE_KEYS];
    ProtobufCBinaryData values[PAGE_KEYS];
};

static const ProtobufCMessage *page_init(struct page *page, unsigned first, size_t n,
                                         const char *next)
{
    scan_response *m = &page->message;

    prism__patterns__keyvalue__scan_response__init(m);
    for (size_t i = 0; i < n; i++) {
        snprintf(page->text[i], sizeof page->text[i], "k%u", first + (unsigned)i);
        page->keys[i] = page->text[i];
        page->values[i] =
            (ProtobufCBinaryData){.len = strlen(page->text[i]), .data = (uint8_t *)page->text[i]};
    }
    m->n_keys = m->n_values = n;
    m->keys = page->keys;
    m->values = page->values;
    m->has_more = next != NULL;
    if (next != NULL) {
        m->_next_cursor_case = PRISM__PATTERNS__KEYVALUE__SCAN_RESPONSE___NEXT_CURSOR_NEXT_CURSOR;
        m->next_cursor = (char *)(uintptr_t)next;
    }
    return &m->base;
}

static struct prism_scan *open_scan(struct fixture *f)
{
    const struct prism_scan_options options = {.prefix = "k", .page_size = 7, .with_values = true};
    struct prism_scan *scan;

    assert_ok(prism_keyvalue_scan(f->keyvalue, &options, &scan, &f->error), f->error);
    return scan;
}

/* Reads to the end; the keys must be k0, k1, ... Returns how many. */
static unsigned drain(struct prism_scan *scan, struct prism_error *error)
{
    struct prism_scan_item item;
    unsigned n = 0;
    char expected[8];

    while (prism_scan_next(scan, &item, error)) {
        snprintf(expected, sizeof expected, "k%u", n++);
        assert_string_equal(item.key, expected);
        assert_int_equal(item.value.len, strlen(expected));
        assert_memory_equal(item.value.data, expected, item.value.len);
    }
    assert_null(item.key);
    return n;
}

static void cursors_are_followed_over_messages_and_calls(void **state)
{
    struct page a, b, c;
    struct prism_scan *scan;
    scan_request *request;
    struct fixture f;

    (void)state;
    fixture_open(&f, &quick);
    script_once(f.server, (struct script_step){.method = "Scan",
                                               .messages = {page_init(&a, 0, 2, "after1"),
                                                            page_init(&b, 2, 2, "after3")}});
    script_once(f.server,
                (struct script_step){.method = "Scan", .messages = {page_init(&c, 4, 1, NULL)}});
    scan = open_scan(&f);
    assert_int_equal(script_calls(f.server, "Scan"), 0);
    assert_int_equal(drain(scan, &f.error), 5);
    assert_int_equal(f.error.code, PRISM_OK);
    assert_int_equal(drain(scan, &f.error), 0);
    assert_int_equal(script_calls(f.server, "Scan"), 2);
    request = (scan_request *)script_request(f.server, "Scan",
                                             &prism__patterns__keyvalue__scan_request__descriptor);
    assert_string_equal(request->prefix, "k");
    assert_string_equal(request->cursor, "after3");
    assert_int_equal(request->limit, 7);
    assert_true(request->include_values);
    protobuf_c_message_free_unpacked(&request->base, NULL);
    prism_scan_close(scan);
    fixture_close(&f);
}

static void empty_pages_and_empty_streams_end_well(void **state)
{
    struct page a, b;
    struct prism_scan *scan;
    struct fixture f;

    (void)state;
    fixture_open(&f, &quick);
    /* A page of which nothing matched, then the rest. */
    script_once(f.server,
                (struct script_step){.method = "Scan", .messages = {page_init(&a, 0, 0, "on")}});
    script_once(f.server,
                (struct script_step){.method = "Scan", .messages = {page_init(&b, 0, 1, NULL)}});
    scan = open_scan(&f);
    assert_int_equal(drain(scan, &f.error), 1);
    assert_int_equal(f.error.code, PRISM_OK);
    prism_scan_close(scan);

    script_once(f.server, (struct script_step){.method = "Scan"});
    scan = open_scan(&f);
    assert_int_equal(drain(scan, &f.error), 0);
    assert_int_equal(f.error.code, PRISM_OK);
    prism_scan_close(scan);
    assert_int_equal(script_calls(f.server, "Scan"), 3);
    fixture_close(&f);
}

static void broken_stream_goes_on_at_its_last_cursor(void **state)
{
    struct page a, b;
    struct prism_scan *scan;
    scan_request *request;
    struct fixture f;

    (void)state;
    fixture_open(&f, &quick);
    script_once(f.server, (struct script_step){.method = "Scan",
                                               .messages = {page_init(&a, 0, 2, "after1")},
                                               .status = GRPC_STATUS_UNAVAILABLE,
                                               .text = "gone"});
    script_once(f.server,
                (struct script_step){.method = "Scan", .messages = {page_init(&b, 2, 1, NULL)}});
    scan = open_scan(&f);
    assert_int_equal(drain(scan, &f.error), 3);
    assert_int_equal(f.error.code, PRISM_OK);
    request = (scan_request *)script_request(f.server, "Scan",
                                             &prism__patterns__keyvalue__scan_request__descriptor);
    assert_string_equal(request->cursor, "after1");
    protobuf_c_message_free_unpacked(&request->base, NULL);
    prism_scan_close(scan);
    fixture_close(&f);
}

static void failure_comes_after_the_keys_that_came_before_it(void **state)
{
    struct page a;
    struct prism_scan *scan;
    struct fixture f;

    (void)state;
    fixture_open(&f, &quick);
    script_once(f.server, (struct script_step){.method = "Scan",
                                               .messages = {page_init(&a, 0, 2, "after1")},
                                               .status = GRPC_STATUS_INTERNAL,
                                               .text = "bug"});
    scan = open_scan(&f);
    assert_int_equal(drain(scan, &f.error), 2);
    assert_int_equal(f.error.code, PRISM_INTERNAL);
    assert_string_equal(f.error.message, "bug");
    assert_int_equal(drain(scan, &f.error), 0);
    assert_int_equal(f.error.code, PRISM_INTERNAL);
    assert_int_equal(script_calls(f.server, "Scan"), 1);
    prism_scan_close(scan);
    fixture_close(&f);
}

/* A server that leads nowhere must not keep the client busy for ever. */
static void nonsense_ends_the_scan(void **state)
{
    struct page a, b;
    struct prism_scan *scan;
    struct fixture f;

    (void)state;
    fixture_open(&f, &quick);
    /* More, but no cursor. */
    page_init(&a, 0, 1, "x");
    a.message._next_cursor_case = PRISM__PATTERNS__KEYVALUE__SCAN_RESPONSE___NEXT_CURSOR__NOT_SET;
    script_once(f.server, (struct script_step){.method = "Scan", .messages = {&a.message.base}});
    scan = open_scan(&f);
    assert_int_equal(drain(scan, &f.error), 0);
    assert_int_equal(f.error.code, PRISM_INTERNAL);
    prism_scan_close(scan);

    /* No keys, and the cursor that was sent. */
    script_always(f.server,
                  (struct script_step){.method = "Scan", .messages = {page_init(&b, 0, 0, "on")}});
    scan = open_scan(&f);
    assert_int_equal(drain(scan, &f.error), 0);
    assert_int_equal(f.error.code, PRISM_INTERNAL);
    prism_scan_close(scan);

    /* Keys without values. */
    page_init(&a, 0, 2, NULL);
    a.message.n_values = 1;
    script_once(f.server, (struct script_step){.method = "Scan", .messages = {&a.message.base}});
    scan = open_scan(&f);
    assert_int_equal(drain(scan, &f.error), 0);
    assert_int_equal(f.error.code, PRISM_INTERNAL);
    prism_scan_close(scan);

    /* Bytes that are no page. */
    script_once(f.server, (struct script_step){.method = "Scan", .garbage = 3});
    scan = open_scan(&f);
    assert_int_equal(drain(scan, &f.error), 0);
    assert_int_equal(f.error.code, PRISM_INTERNAL);
    prism_scan_close(scan);
    fixture_close(&f);
}

static void scan_may_be_left_early(void **state)
{
    struct page a;
    struct prism_scan *scan;
    struct prism_scan_item item;
    struct fixture f;

    (void)state;
    fixture_open(&f, &quick);
    script_once(f.server,
                (struct script_step){.method = "Scan", .messages = {page_init(&a, 0, 2, "more")}});
    scan = open_scan(&f);
    assert_true(prism_scan_next(scan, &item, &f.error));
    assert_string_equal(item.key, "k0");
    prism_scan_close(scan);
    prism_scan_close(NULL);
    fixture_close(&f);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(cursors_are_followed_over_messages_and_calls),
        cmocka_unit_test(empty_pages_and_empty_streams_end_well),
        cmocka_unit_test(broken_stream_goes_on_at_its_last_cursor),
        cmocka_unit_test(failure_comes_after_the_keys_that_came_before_it),
        cmocka_unit_test(nonsense_ends_the_scan),
        cmocka_unit_test(scan_may_be_left_early),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
