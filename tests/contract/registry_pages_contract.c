/* Who is there: pages in order, resumed anywhere, bounded, and right while the registry changes. */
#include "tests/contract/registry_contract.h"

#include <stdlib.h>

static registry_peer_fn *peer_of;

static struct kv_fixture *fixture_of(void **state)
{
    return *state;
}

static const char *names(struct kv_fixture *fixture, const char *filter, uint32_t max_items)
{
    return registry_names(fixture, fixture->backend, registry_filter(fixture, filter), max_items);
}

/* Registers prefix00000.. with {"n": i, "even": bool, "mod": i % 10}. */
static void fill(struct kv_fixture *fixture, const char *prefix, unsigned from, unsigned to,
                 uint64_t ttl_ms)
{
    while (from < to) {
        struct registry_put_item items[REGISTRY_BATCH];
        struct registry_put put = {.items = items};

        for (; put.n < REGISTRY_BATCH && from < to; from++) {
            char *json = arena_printf(&fixture->arena, "{\"n\":%u,\"even\":%s,\"mod\":%u}", from,
                                      from % 2 == 0 ? "true" : "false", from % 10);

            items[put.n++] = registry_item(fixture, kv_key(fixture, prefix, from), json, ttl_ms);
        }
        kv_expect(kv_do(fixture, registry_start_put, &put.op), ERR_OK, NULL);
    }
}

/* ---- acceptance ---- */

static void scan(void **state)
{
    struct kv_fixture *fixture = fixture_of(state);

    fill(fixture, "s", 0, 5, 0);
    assert_string_equal(names(fixture, NULL, 10), "s00000 s00001 s00002 s00003 s00004");
    assert_string_equal(names(fixture, NULL, 2), "s00000 s00001 s00002 s00003 s00004");
    assert_string_equal(names(fixture, "{\"even\":true}", 2), "s00000 s00002 s00004");
}

static void scan_skips_expired(void **state)
{
    struct kv_fixture *fixture = fixture_of(state);

    fill(fixture, "dies", 0, 300, 60);
    fill(fixture, "lives", 0, 3, 0);
    for (unsigned i = 0; i < 300; i++) /* each by the clock that it is kept by */
        KV_UNTIL(fixture,
                 registry_find(fixture, fixture->backend, kv_key(fixture, "dies", i)) == NULL);
    assert_string_equal(names(fixture, NULL, 100), "lives00000 lives00001 lives00002");
    assert_string_equal(names(fixture, "{\"mod\":1}", 100), "lives00001");
    assert_int_equal(registry_count_of(fixture, fixture->backend, NULL), 3);
}

/* What the server cannot evaluate itself is evaluated beside it, with the same answer. */
static void enumerate_fallback(void **state)
{
    struct kv_fixture *fixture = fixture_of(state);

    fill(fixture, "s", 0, 30, 0);
    assert_string_equal(names(fixture, "{\"$identity.regex\":\"^s0001[13]$\"}", 10),
                        "s00011 s00013");
    assert_string_equal(names(fixture, "{\"$identity.$glob\":\"s*1[13]\",\"mod\":3}", 10),
                        "s00013");
    assert_int_equal(
        registry_count_of(fixture, fixture->backend,
                          registry_filter(fixture, "{\"$identity.regex\":\"[02468]$\"}")),
        15);
}

/* ---- order ---- */

/* By octets, whatever they are; each may be where a page ends. */
static void hostile_names(void **state)
{
    static const char *const hostile[] = {
        "!",
        "*",
        "-",
        ".",
        "..",
        "0",
        "00",
        "A",
        "[x]",
        "\\",
        "a",
        "a b",
        "a*",
        "a.b",
        "a>",
        "aa",
        "ab",
        "b",
        "{}",
        "~",
        "\xc3\xa9",
        "\xe2\x82\xac",
        "\xf0\x9f\x98\x80",
    };
    struct kv_fixture *fixture = fixture_of(state);
    const size_t n = sizeof hostile / sizeof *hostile;
    char *longest = arena_alloc(&fixture->arena, REGISTRY_IDENTITY_BYTES + 1);

    memset(longest, 'z', REGISTRY_IDENTITY_BYTES);
    longest[REGISTRY_IDENTITY_BYTES] = '\0';
    for (size_t i = n; i-- > 0;)
        registry_put_ok(fixture, hostile[i], "{}", 0);
    registry_put_ok(fixture, longest, "{}", 0);
    for (uint32_t max_items = 1; max_items < 5; max_items++) {
        const char *at =
            names(fixture, max_items % 2 ? "{\"$identity.exists\":true}" : NULL, max_items);

        for (size_t i = 0; i < n; i++) {
            if (strcmp(hostile[i], "{}") == 0) { /* the longest one comes before */
                assert_memory_equal(at, longest, REGISTRY_IDENTITY_BYTES);
                at += REGISTRY_IDENTITY_BYTES + 1;
            }
            assert_memory_equal(at, hostile[i], strlen(hostile[i]));
            at += strlen(hostile[i]) + 1;
        }
    }
    assert_non_null(registry_find(fixture, fixture->backend, longest));
}

/* A position need not be an identity that is there; the peer takes it as well. */
static void resumes_anywhere(void **state)
{
    struct kv_fixture *fixture = fixture_of(state);
    struct backend *backend = peer_of != NULL ? peer_of(fixture) : fixture->backend;
    struct registry_page page = {.max_items = 2, .after = slice_str("s00001x")};
    struct kv_step step = {registry_start_page, &page.op};

    fill(fixture, "s", 0, 6, 0);
    kv_run(fixture, backend, &step, 1);
    kv_expect(page.op.err, ERR_OK, NULL);
    assert_int_equal(page.n, 2);
    assert_true(slice_equal(page.entries[0].identity, slice_str("s00002")));
    assert_true(page.more);
    page.op = (struct op){0};
    page.after = slice_str("zzz");
    kv_run(fixture, backend, &step, 1);
    assert_int_equal(page.n, 0);
    assert_false(page.more);
}

/* ---- bounds ---- */

static void bytes_end_a_page(void **state)
{
    struct kv_fixture *fixture = fixture_of(state);
    struct registry_page page = {.max_items = 100, .max_bytes = 200, .with_documents = true};
    size_t bytes = 0;

    fill(fixture, "s", 0, 50, 0);
    kv_expect(kv_do(fixture, registry_start_page, &page.op), ERR_OK, NULL);
    assert_true(page.more && page.n >= 2 && page.n < 10);
    for (size_t i = 0; i < page.n; i++) {
        assert_true(bytes < 200);
        assert_true(document_valid(page.entries[i].document));
        assert_true(document_valid(page.entries[i].tags));
        bytes +=
            page.entries[i].identity.len + page.entries[i].document.len + page.entries[i].tags.len;
    }
    page.op = (struct op){0};
    page.max_bytes = 0;
    page.with_documents = false;
    kv_expect(kv_do(fixture, registry_start_page, &page.op), ERR_OK, NULL);
    assert_int_equal(page.n, 50);
    assert_int_equal(page.entries[0].document.len, 0);
    assert_true(page.entries[0].generation > 0 && page.entries[0].registered_at_ms > 0);
}

/* One match in ten thousand: pages may come empty, and all are found. */
static void few_matches(void **state)
{
    struct kv_fixture *fixture = fixture_of(state);

    fill(fixture, "s", 0, 10000, 0);
    assert_string_equal(names(fixture, "{\"n\":7777}", 10), "s07777");
    assert_string_equal(names(fixture, "{\"n.gte\":9998}", 10), "s09998 s09999");
    assert_string_equal(names(fixture, "{\"even\":true,\"mod\":4,\"n.lt\":20}", 10),
                        "s00004 s00014");
    assert_string_equal(names(fixture, "{\"n.lt\":0}", 10), "");
    assert_int_equal(
        registry_count_of(fixture, fixture->backend, registry_filter(fixture, "{\"mod\":3}")),
        1000);
    assert_int_equal(registry_count_of(fixture, fixture->backend,
                                       registry_filter(fixture, "{\"even\":true,\"mod\":3}")),
                     0);
    assert_int_equal(registry_count_of(fixture, fixture->backend, NULL), 10000);
}

static bool ends_in_4(const struct registry_page *page, struct slice identity)
{
    (void)page;
    return identity.data == NULL || identity.data[identity.len - 1] == '4';
}

static bool is_nobody(const struct registry_page *page, struct slice identity)
{
    (void)page;
    (void)identity;
    return false;
}

/* All pages: entries are those that are wanted, and the others are counted. */
static void expect_wanted(struct kv_fixture *fixture, struct registry_page page, uint64_t all,
                          uint64_t wanted)
{
    bool heeds = fixture->backend->has.registry->heeds_wanted;
    uint64_t n = 0, unwanted = 0;

    for (page.more = true; page.more;) {
        page.op = (struct op){0};
        page.after = page.next;
        kv_expect(kv_do(fixture, registry_start_page, &page.op), ERR_OK, NULL);
        assert_true(page.n + page.unwanted <= page.max_items);
        for (size_t i = 0; heeds && i < page.n; i++)
            assert_true(page.wanted(&page, page.entries[i].identity));
        n += page.n;
        unwanted += page.unwanted;
    }
    assert_int_equal(n, heeds ? wanted : all);
    assert_int_equal(n + unwanted, all);
}

static void unwanted_are_counted(void **state)
{
    static const struct {
        const char *filter;
        uint64_t all, in_4;
    } cases[] = {{NULL, 300, 30},
                 {"{\"even\":true}", 150, 30},
                 {"{\"even\":false}", 150, 0},
                 {"{\"even\":true,\"mod\":4}", 30, 30},
                 {"{\"n.lt\":100}", 100, 10},
                 {"{\"mod\":11}", 0, 0}};
    struct kv_fixture *fixture = fixture_of(state);

    fill(fixture, "s", 0, 300, 0);
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        for (uint32_t max_items = 7; max_items < 1000; max_items *= 10) {
            struct registry_page page = {.filter = registry_filter(fixture, cases[i].filter),
                                         .max_items = max_items,
                                         .wanted = ends_in_4};

            expect_wanted(fixture, page, cases[i].all, cases[i].in_4);
            page.wanted = is_nobody;
            expect_wanted(fixture, page, cases[i].all, 0);
        }
    }
}

static void counts_enough(void **state)
{
    struct kv_fixture *fixture = fixture_of(state);
    struct registry_count count = {.filter = registry_filter(fixture, "{\"even\":true}"),
                                   .enough = 10};

    fill(fixture, "s", 0, 2000, 0);
    kv_expect(kv_do(fixture, registry_start_count, &count.op), ERR_OK, NULL);
    assert_true(count.count >= 10 && count.count <= 1000);
}

/* More fields and tags than an index may want to hold. */
static void many_fields(void **state)
{
    struct kv_fixture *fixture = fixture_of(state);
    struct registry_put_item item = {.identity = slice_str("wide")};
    struct document_writer writer;
    struct slice tags[40];

    document_start(&writer, &fixture->arena, REGISTRY_DOCUMENT_BYTES);
    document_begin(&writer, DOCUMENT_STRUCT);
    for (unsigned i = 0; i < 300; i++) {
        document_name(&writer, slice_str(kv_key(fixture, "f", i)));
        document_number(&writer, i);
        if (i < 40)
            tags[i] = slice_str(kv_key(fixture, "t", i));
    }
    document_end(&writer);
    kv_expect(document_finish(&writer, &item.document), ERR_OK, NULL);
    kv_expect(document_of_strings(&fixture->arena, tags, 40, 8192, &item.tags), ERR_OK, NULL);
    registry_put_ok(fixture, "narrow", "{\"f00000\":0,\"f00299\":299}", 0);
    kv_expect(registry_put_one(fixture, fixture->backend, &item), ERR_OK, NULL);
    assert_string_equal(names(fixture, "{\"f00000\":0}", 10), "narrow wide");
    assert_string_equal(names(fixture, "{\"f00299\":299}", 10), "narrow wide");
    assert_string_equal(names(fixture, "{\"f00299\":299,\"f00001\":1}", 10), "wide");
    assert_string_equal(names(fixture, "{\"$tags.contains\":\"t00039\"}", 10), "wide");
    assert_string_equal(names(fixture, "{\"$tags.contains\":\"t00039\",\"f00150\":150}", 10),
                        "wide");
    assert_string_equal(names(fixture, "{\"f00299\":1}", 10), "");
}

/* ---- while it changes ---- */

/* M12: those that stay are in exactly one page, whatever comes and goes between pages. */
static void stays_exactly_once(void **state)
{
    struct kv_fixture *fixture = fixture_of(state);
    const struct filter *filter = registry_filter(fixture, "{\"mod.lt\":5}");
    struct registry_page page = {.filter = filter, .max_items = 20, .more = true};
    unsigned met[400] = {0}, round = 0;
    struct slice last = {0};

    fill(fixture, "k", 0, 400, 0);
    for (; page.more; round++) {
        bool existed;

        page.op = (struct op){0};
        page.after = page.next;
        kv_expect(kv_do(fixture, registry_start_page, &page.op), ERR_OK, NULL);
        for (size_t i = 0; i < page.n; i++) {
            const char *name = arena_strdup(&fixture->arena, page.entries[i].identity);

            assert_true(slice_compare(last, page.entries[i].identity) < 0);
            last = page.entries[i].identity;
            if (name[0] == 'k' && strlen(name) == 6)
                met[strtoul(name + 1, NULL, 10)]++;
        }
        fill(fixture, round % 2 == 0 ? "a" : "k0020", round * 50, round * 50 + 50, 0);
        registry_remove_one(fixture, fixture->backend, kv_key(fixture, "a", round * 37), 0,
                            &existed);
        for (unsigned i = round; i < 400; i += 40) /* registered anew, it is still the same one */
            fill(fixture, "k", i, i + 1, 0);
    }
    for (unsigned i = 0; i < 400; i++)
        assert_int_equal(met[i], i % 10 < 5);
}

static int tear_down(void **state)
{
    registry_empty(state);
    return kv_forget(state);
}

int registry_pages_contract(const char *name, CMFixtureFunction setup, CMFixtureFunction teardown,
                            registry_peer_fn *peer)
{
#define PAGES(test)                                                                                \
    {                                                                                              \
#test, test, NULL, tear_down, NULL                                                         \
    }
    const struct CMUnitTest tests[] = {
        PAGES(scan),          PAGES(scan_skips_expired),   PAGES(enumerate_fallback),
        PAGES(hostile_names), PAGES(resumes_anywhere),     PAGES(bytes_end_a_page),
        PAGES(few_matches),   PAGES(unwanted_are_counted), PAGES(counts_enough),
        PAGES(many_fields),   PAGES(stays_exactly_once),
    };
#undef PAGES

    peer_of = peer;
    return kv_group(name, "registry, pages", tests, sizeof tests / sizeof *tests, setup, teardown);
}
