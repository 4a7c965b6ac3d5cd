/* Enumerate with sort_by: the order of values, pages, and what bounds them. */
#include "patterns/multicast_registry/sorted.h"
#include "tests/pattern/multicast_registry/multicast.h"

enum { MANY = 300, NUMBERS = 37 };

static struct fake_rig *rig_of(uint64_t max_sorted)
{
    struct fake_rig *rig = unbound();

    fake_rig_set(rig, "max_sorted", max_sorted);
    fake_rig_bind(rig);
    return rig;
}

static struct call *enumerate(struct fake_rig *rig, const char *first, const char *second,
                              int32_t limit, const char *cursor)
{
    pb_enumerate_request request = MULTICAST_PB(ENUMERATE_REQUEST__INIT);
    char *sort_by[] = {pb_text(first), pb_text(second)};
    struct call *call;

    request.sort_by = sort_by;
    request.n_sort_by = second[0] != '\0' ? 2 : 1;
    request._limit_case = MULTICAST_PB(ENUMERATE_REQUEST___LIMIT_LIMIT);
    request.limit = limit;
    request._cursor_case = MULTICAST_PB(ENUMERATE_REQUEST___CURSOR_CURSOR);
    request.cursor = pb_text(cursor);
    call = fake_call(rig, "Enumerate", &request.base);
    settle(rig, call);
    return call;
}

static const pb_enumerate_response *page_of(const struct call *call)
{
    assert_int_equal(call->status.code, ERR_OK);
    return (const pb_enumerate_response *)call->reply;
}

/* All names, in pages of `limit`, each followed by a blank. */
static char *names_by(struct fake_rig *rig, const char *first, const char *second, int32_t limit)
{
    static char names[MANY * 8];
    char cursor[4096] = "";
    size_t used = 0;
    bool more = true;

    names[0] = '\0';
    while (more) {
        struct call *call = enumerate(rig, first, second, limit, cursor);
        const pb_enumerate_response *page = page_of(call);

        for (size_t i = 0; i < page->n_identities; i++) {
            used += (size_t)snprintf(names + used, sizeof names - used, "%s ",
                                     page->identities[i]->identity);
        }
        more = page->has_more;
        if (more)
            snprintf(cursor, sizeof cursor, "%s", page->next_cursor);
        fake_call_free(call);
    }
    return names;
}

static void test_values_of_all_types_have_an_order(void **state)
{
    static const char *const documents[] = {"{}",
                                            "{\"v\": null}",
                                            "{\"v\": false}",
                                            "{\"v\": true}",
                                            "{\"v\": -2}",
                                            "{\"v\": -1.5}",
                                            "{\"v\": 0}",
                                            "{\"v\": 10}",
                                            "{\"v\": \"\"}",
                                            "{\"v\": \"A\"}",
                                            "{\"v\": \"AB\"}",
                                            "{\"v\": \"a\"}",
                                            "{\"v\": []}"};
    struct fake_rig *rig = rig_of(1000);

    (void)state;
    for (size_t i = 0; i < ARRAY_LEN(documents); i++) {
        char name[2] = {(char)('m' - i), '\0'};

        fake_register(&rig->world, name, documents[i], 0);
    }
    for (int32_t limit = 1; limit < 16; limit += 5) {
        assert_string_equal(names_by(rig, "v", "", limit), "m l k j i h g f e d c b a ");
        assert_string_equal(names_by(rig, "-v", "", limit), "a b c d e f g h i j k l m ");
        assert_string_equal(names_by(rig, "absent", "-$identity", limit),
                            "m l k j i h g f e d c b a ");
        assert_string_equal(names_by(rig, "$registered_at", "", limit),
                            "a b c d e f g h i j k l m ");
    }
    free_rig(rig);
}

static void test_many_are_sorted_in_pages(void **state)
{
    struct fake_rig *rig = rig_of(MANY);
    char expected[MANY * 8] = "", name[8], document[32];

    (void)state;
    for (int i = 0; i < MANY; i++) {
        snprintf(name, sizeof name, "i%03d", i);
        snprintf(document, sizeof document, "{\"n\": %d}", i * 7 % NUMBERS);
        fake_register(&rig->world, name, document, 0);
    }
    for (int n = NUMBERS - 1; n >= 0; n--) {
        for (int i = 0; i < MANY; i++) {
            if (i * 7 % NUMBERS == n)
                snprintf(expected + strlen(expected), 8, "i%03d ", i);
        }
    }
    assert_string_equal(names_by(rig, "-n", "$identity", 64), expected);
    assert_string_equal(names_by(rig, "-n", "", 7), expected);
    assert_string_equal(names_by(rig, "-n", "", 1000), expected);
    fake_register(&rig->world, "more", "{}", 0);

    struct call *call = enumerate(rig, "n", "", 10, "");

    assert_int_equal(call->status.code, ERR_FAILED_PRECONDITION);
    fake_call_free(call);
    free_rig(rig);
}

static void expect_refused(struct fake_rig *rig, const char *path, const char *cursor)
{
    struct call *call = enumerate(rig, path, "", 1, cursor);

    assert_int_equal(call->status.code, ERR_INVALID_ARGUMENT);
    fake_call_free(call);
}

static void test_what_is_no_order_is_refused(void **state)
{
    struct fake_rig *rig = rig_of(1000);
    char cursor[256];
    struct call *call;

    (void)state;
    enter(rig);
    expect_refused(rig, "", "");
    expect_refused(rig, "-", "");
    expect_refused(rig, "$tags", "");
    expect_refused(rig, "$nothing", "");
    expect_refused(rig, "a..b", "");
    expect_refused(rig, "a", "s:");
    expect_refused(rig, "a", "s:00");
    expect_refused(rig, "a", "s:0000000000000g");
    expect_refused(rig, "a", "i:i3");
    call = enumerate(rig, "a", "", 1, "");
    snprintf(cursor, sizeof cursor, "%s", page_of(call)->next_cursor);
    fake_call_free(call);
    expect_refused(rig, "-a", cursor);
    call = enumerate(rig, "a", "", 1, cursor);
    assert_string_equal(page_of(call)->identities[0]->identity, "i1");
    fake_call_free(call);
    free_rig(rig);
}

static void test_a_registry_that_fails_is_told_of(void **state)
{
    struct fake_rig *rig = rig_of(1000);

    (void)state;
    enter(rig);
    for (unsigned nth = 1; nth <= 2; nth++) { /* the page, the get */
        struct call *call;

        rig->world.fail_at = rig->world.ops + nth;
        rig->world.fail_with = err_make(ERR_UNAVAILABLE, "away");
        call = enumerate(rig, "a", "", 3, "");
        assert_int_equal(call->status.code, ERR_UNAVAILABLE);
        assert_string_equal(call->status.text, "away");
        fake_call_free(call);
    }
    free_rig(rig);
}

/* Documents are long: they are fetched only where the order needs them. */
static void test_documents_are_read_for_fields_alone(void **state)
{
    struct fake_rig *rig = rig_of(1000);
    const struct fake_registry *registry = &rig->world.registry;
    struct call *call;

    (void)state;
    enter(rig);
    call = enumerate(rig, "$registered_at", "-$identity", 3, "");
    assert_int_equal(page_of(call)->identities[0]->metadata->n_fields, 1);
    fake_call_free(call);
    assert_true(registry->pages > 0);
    assert_int_equal(registry->whole_pages, 0);
    fake_call_free(enumerate(rig, "$identity", "a", 3, ""));
    assert_true(registry->whole_pages > 0);
    free_rig(rig);
}

static void test_a_filter_over_too_many_says_so(void **state)
{
    enum { MOST = 10 };
    pb_enumerate_request request = MULTICAST_PB(ENUMERATE_REQUEST__INIT);
    pb_filter filter = MULTICAST_PB(FILTER__INIT);
    char *sort_by[] = {pb_text("$identity")};
    struct fake_rig *rig = rig_of(MOST);
    struct call *call;
    char name[8];

    (void)state;
    for (int i = 0; i < MANY; i++) {
        snprintf(name, sizeof name, "i%03d", i);
        fake_register(&rig->world, name, "{}", 0);
    }
    filter.kind_case = MULTICAST_PB(FILTER__KIND_JSON);
    filter.json = pb_text("{\"a\": 1}");
    request.filter = &filter;
    request.sort_by = sort_by;
    request.n_sort_by = 1;
    call = fake_call(rig, "Enumerate", &request.base);
    settle(rig, call);
    assert_int_equal(call->status.code, ERR_FAILED_PRECONDITION);
    assert_non_null(strstr(call->status.text, "evaluated for more than 100 "));
    fake_call_free(call);
    free_rig(rig);
}

static struct call *begin(struct fake_rig *rig)
{
    pb_enumerate_request request = MULTICAST_PB(ENUMERATE_REQUEST__INIT);
    char *sort_by[] = {pb_text("a")};

    request.sort_by = sort_by;
    request.n_sort_by = 1;
    return fake_call(rig, "Enumerate", &request.base);
}

static void test_walks_stand_in_a_line(void **state)
{
    enum { ALL = SORTED_AT_ONCE + SORTED_WAITING };
    struct fake_rig *rig = rig_of(1000);
    const struct multicast *multicast = CONTAINER_OF(rig->pattern, struct multicast, base);
    struct call *calls[ALL], *more;

    (void)state;
    enter(rig);
    rig->world.page_limit = 3;
    rig->world.mode = FAKE_PARKED;
    for (int i = 0; i < ALL; i++)
        calls[i] = begin(rig);
    more = begin(rig);
    fake_rig_drain(rig);
    assert_int_equal(rig->world.in_flight, SORTED_AT_ONCE);
    assert_int_equal(more->status.code, ERR_RESOURCE_EXHAUSTED);
    assert_int_equal(counter_read(&multicast->stats.sorts_refused), 1);
    fake_call_free(more);
    fake_call_cancel(calls[ALL - 1]); /* one that waits */
    assert_int_equal(calls[ALL - 1]->status.code, ERR_CANCELLED);
    fake_call_cancel(calls[0]); /* one that walks: another goes on in its place */
    settle(rig, calls[0]);
    for (int i = 0; i < ALL; i++) {
        settle(rig, calls[i]);
        assert_int_equal(calls[i]->status.code, i == 0 || i == ALL - 1 ? ERR_CANCELLED : ERR_OK);
        fake_call_free(calls[i]);
    }
    assert_int_equal(multicast->sorting_waits, 0);
    assert_int_equal(multicast->sorting.held, 0);
    free_rig(rig);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_values_of_all_types_have_an_order),
        cmocka_unit_test(test_many_are_sorted_in_pages),
        cmocka_unit_test(test_what_is_no_order_is_refused),
        cmocka_unit_test(test_a_registry_that_fails_is_told_of),
        cmocka_unit_test(test_documents_are_read_for_fields_alone),
        cmocka_unit_test(test_a_filter_over_too_many_says_so),
        cmocka_unit_test(test_walks_stand_in_a_line),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
