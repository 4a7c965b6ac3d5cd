/* Metadata and filters as the protocol has them. */
#include "patterns/multicast_registry/filter.h"
#include "patterns/multicast_registry/metadata.h"
#include "tests/unit/one_arena.h"

#include <math.h>
#include <setjmp.h>
#include <stdarg.h>

#include <cmocka.h>

typedef Prism__Patterns__MulticastRegistry__CompositeFilter pb_composite;
typedef Prism__Patterns__MulticastRegistry__FieldFilter pb_field;
typedef Prism__Patterns__MulticastRegistry__Filter pb_filter;

#define OP(name)    PRISM__PATTERNS__MULTICAST_REGISTRY__FILTER_OPERATOR__##name
#define LOGIC(name) PRISM__PATTERNS__MULTICAST_REGISTRY__LOGICAL_OPERATOR__##name
#define KIND(name)  PRISM__PATTERNS__MULTICAST_REGISTRY__FILTER__KIND_##name

static struct slice document(const char *json)
{
    struct slice out = {0};

    assert_int_equal(document_from_json(&arena, slice_str(json), 1 << 16, &out).code, ERR_OK);
    return out;
}

/* By way of the protocol's own encoding, as it comes from a client. */
static Google__Protobuf__Struct *over_the_wire(const Google__Protobuf__Struct *metadata)
{
    size_t len = google__protobuf__struct__get_packed_size(metadata);
    uint8_t *bytes = arena_alloc(&arena, len);
    Google__Protobuf__Struct *back;

    google__protobuf__struct__pack(metadata, bytes);
    back = google__protobuf__struct__unpack(NULL, len, bytes);
    assert_non_null(back);
    return back;
}

static void test_metadata(void **state)
{
    static const char json[] = "{\"a\":[1,-2.5,\"x\",null,true,false,[],{}],\"b\":{\"c\":{}}}";
    Google__Protobuf__Struct *there = over_the_wire(metadata_write(&arena, document(json)));
    struct slice back;

    (void)state;
    assert_int_equal(metadata_read(&arena, there, 1000, &back).code, ERR_OK);
    assert_true(slice_equal(back, document(json)));
    google__protobuf__struct__free_unpacked(there, NULL);
    assert_int_equal(metadata_read(&arena, NULL, 1000, &back).code, ERR_OK);
    assert_true(slice_equal(back, document("{}")));
}

static void test_metadata_refused(void **state)
{
    Google__Protobuf__Struct *metadata = metadata_write(&arena, document("{\"a\":1}"));
    struct slice out;
    struct err err;

    (void)state;
    err = metadata_read(&arena, metadata, 10, &out);
    assert_int_equal(err.code, ERR_INVALID_ARGUMENT);
    assert_string_equal(err.subject, "metadata");
    metadata->fields[0]->value->number_value = NAN;
    assert_int_equal(metadata_read(&arena, metadata, 1000, &out).code, ERR_INVALID_ARGUMENT);
}

static pb_filter *field(const char *path, int op, const char *value)
{
    pb_filter *out = arena_alloc(&arena, sizeof *out);
    pb_field *made = arena_alloc(&arena, sizeof *made);
    struct slice named = document(arena_printf(&arena, "{\"v\":%s}", value));

    prism__patterns__multicast_registry__filter__init(out);
    prism__patterns__multicast_registry__field_filter__init(made);
    made->field = arena_strdup(&arena, slice_str(path));
    made->op = (Prism__Patterns__MulticastRegistry__FilterOperator)op;
    made->value = metadata_write(&arena, named)->fields[0]->value;
    out->kind_case = KIND(FIELD);
    out->field = made;
    return out;
}

static pb_filter *json(const char *text)
{
    pb_filter *out = arena_alloc(&arena, sizeof *out);

    prism__patterns__multicast_registry__filter__init(out);
    out->kind_case = KIND(JSON);
    out->json = arena_strdup(&arena, slice_str(text));
    return out;
}

static pb_filter *composite(int op, pb_filter *a, pb_filter *b)
{
    pb_filter *out = arena_alloc(&arena, sizeof *out);
    pb_composite *made = arena_alloc(&arena, sizeof *made);

    prism__patterns__multicast_registry__filter__init(out);
    prism__patterns__multicast_registry__composite_filter__init(made);
    made->op = (Prism__Patterns__MulticastRegistry__LogicalOperator)op;
    made->filters = arena_array(&arena, 2, sizeof *made->filters);
    made->filters[made->n_filters++] = a;
    if (b != NULL)
        made->filters[made->n_filters++] = b;
    out->kind_case = KIND(COMPOSITE);
    out->composite = made;
    return out;
}

static struct err compile(const pb_filter *message, const struct filter **filter)
{
    struct filter_limits limits = filter_limits_default();

    return multicast_filter(&arena, message, &limits, filter);
}

static bool matches(const pb_filter *message, const char *metadata)
{
    static const uint8_t no_tags[] = {DOCUMENT_LIST};
    struct filter_subject subject = {.identity = slice_str("phone"),
                                     .document = document(metadata),
                                     .tags = slice_of(no_tags, sizeof no_tags)};
    const struct filter *filter;
    struct err err = compile(message, &filter);

    if (err.code != ERR_OK)
        fail_msg("%s", err.text);
    return filter_match(filter, &subject);
}

static void test_filters(void **state)
{
    const struct filter *filter;

    (void)state;
    assert_int_equal(compile(NULL, &filter).code, ERR_OK);
    assert_null(filter);
    assert_true(matches(field("a.b", OP(EQUALS), "1"), "{\"a\":{\"b\":1}}"));
    assert_false(matches(field("a.b", OP(NOT_EQUALS), "1"), "{\"a\":{}}"));
    assert_true(matches(field("$identity", OP(STARTS_WITH), "\"ph\""), "{}"));
    assert_true(matches(field("a", OP(IN), "[1,2]"), "{\"a\":2}"));
    assert_true(matches(composite(LOGIC(AND), field("a", OP(GREATER_THAN), "1"),
                                  json("{\"$or\":[{\"b\":1},{\"b\":2}]}")),
                        "{\"a\":2,\"b\":2}"));
    assert_false(matches(composite(LOGIC(NOT), field("a", OP(EXISTS), "true"), NULL), "{\"a\":1}"));
    assert_true(matches(
        composite(LOGIC(OR), field("a", OP(TYPE), "\"null\""), field("a", OP(GLOB), "\"x?\"")),
        "{\"a\":\"xy\"}"));
}

static void expect_refused(const pb_filter *message, const char *subject)
{
    const struct filter *filter;
    struct err err = compile(message, &filter);

    assert_int_equal(err.code, ERR_INVALID_ARGUMENT);
    assert_string_equal(err.subject, subject);
    assert_non_null(err.text);
}

static void test_refused(void **state)
{
    pb_filter none;
    pb_filter *valueless = field("a", OP(EQUALS), "1"), *deep = field("a", OP(EQUALS), "1");

    (void)state;
    prism__patterns__multicast_registry__filter__init(&none);
    valueless->field->value = NULL;
    for (int i = 0; i < 5; i++)
        deep = composite(LOGIC(NOT), deep, NULL);
    expect_refused(&none, "filter");
    expect_refused(valueless, "filter.value");
    expect_refused(deep, "filter");
    expect_refused(field("", OP(EQUALS), "1"), "filter.field");
    expect_refused(field("a", 0, "1"), "filter.op");
    expect_refused(field("a", 16, "1"), "filter.op");
    expect_refused(field("a", OP(IN), "1"), "filter.value");
    expect_refused(field("a", OP(REGEX), "\"(\""), "filter.value");
    expect_refused(composite(0, deep, NULL), "filter.op");
    expect_refused(composite(LOGIC(NOT), json("{}"), json("{}")), "filter");
    expect_refused(composite(LOGIC(AND), json("{"), NULL), "filter.json");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(test_metadata, begin, end),
        cmocka_unit_test_setup_teardown(test_metadata_refused, begin, end),
        cmocka_unit_test_setup_teardown(test_filters, begin, end),
        cmocka_unit_test_setup_teardown(test_refused, begin, end),
    };

    return cmocka_run_group_tests_name("multicast filter", tests, NULL, NULL);
}
