/* Filters: the acceptance cases by name, the JSON form, what is refused, corner cases. */
#include "src/filter/filter.h"
#include "tests/unit/one_arena.h"

#include <setjmp.h>
#include <stdarg.h>

#include <cmocka.h>

static struct slice value_of(const char *json)
{
    struct slice value = {0};
    struct err err = document_from_json(&arena, slice_str(json), 1 << 20, &value);

    if (err.code != ERR_OK)
        fail_msg("%s: %s", json, err.text);
    assert_true(document_valid(value));
    return value;
}

static bool matches(const struct filter_node *root, const char *document)
{
    struct filter_limits limits = filter_limits_default();
    const struct filter *filter;
    const struct slice tags[] = {slice_str("beta"), slice_str("vip")};
    struct filter_subject subject = {.identity = slice_str("phone-7"),
                                     .document = value_of(document)};
    struct err err = filter_compile(&arena, root, &limits, &filter);

    if (err.code != ERR_OK)
        fail_msg("%s", err.text);
    assert_int_equal(document_of_strings(&arena, tags, 2, 1000, &subject.tags).code, ERR_OK);
    return filter_match(filter, &subject);
}

/* ---- the acceptance cases ---- */

static struct filter_node *condition(const char *path, enum filter_op op, const char *value)
{
    struct filter_node *node;

    assert_int_equal(filter_condition(&arena, slice_str(path), op, value_of(value), &node).code,
                     ERR_OK);
    return node;
}

static struct filter_node *combine(enum filter_kind kind, struct filter_node *a,
                                   struct filter_node *b)
{
    struct filter_node *node = filter_combine(&arena, kind);

    filter_add(node, a);
    if (b != NULL)
        filter_add(node, b);
    return node;
}

static const struct acceptance {
    const char *name, *document;
    enum filter_op op;
    const char *value;
    bool holds;
} acceptance[] = {
    {"Equality match", "{\"f\":\"active\"}", FILTER_EQUALS, "\"active\"", true},
    {"Equality no", "{\"f\":\"inactive\"}", FILTER_EQUALS, "\"active\"", false},
    {"Equality missing", "{\"g\":\"active\"}", FILTER_EQUALS, "\"active\"", false},
    {"Equality bool", "{\"f\":true}", FILTER_EQUALS, "true", true},
    {"Equality int64", "{\"f\":12345678901}", FILTER_EQUALS, "12345678901", true},
    {"Equality nil", "{\"f\":null}", FILTER_EQUALS, "null", true},
    {"NotEqual match", "{\"f\":\"a\"}", FILTER_NOT_EQUALS, "\"b\"", true},
    {"NotEqual missing", "{}", FILTER_NOT_EQUALS, "\"b\"", false},
    {"LessThan int", "{\"f\":17}", FILTER_LESS_THAN, "18", true},
    {"LessThan float", "{\"f\":1.5}", FILTER_LESS_THAN, "1.75", true},
    {"LessThan false", "{\"f\":20}", FILTER_LESS_THAN, "18", false},
    {"LessThan int64", "{\"f\":12345678901}", FILTER_LESS_THAN, "12345678902", true},
    {"LessThan string", "{\"f\":\"apple\"}", FILTER_LESS_THAN, "\"banana\"", true},
    {"LessThan unsupported", "{\"f\":[1]}", FILTER_LESS_THAN, "2", false},
    {"LessOrEqual equal", "{\"f\":18}", FILTER_LESS_THAN_OR_EQUALS, "18", true},
    {"LessOrEqual greater", "{\"f\":19}", FILTER_LESS_THAN_OR_EQUALS, "18", false},
    {"GreaterThan int", "{\"f\":19}", FILTER_GREATER_THAN, "18", true},
    {"GreaterThan int64", "{\"f\":12345678903}", FILTER_GREATER_THAN, "12345678902", true},
    {"GreaterThan float64", "{\"f\":2.25}", FILTER_GREATER_THAN, "2.2", true},
    {"GreaterThan string", "{\"f\":\"b\"}", FILTER_GREATER_THAN, "\"a\"", true},
    {"GreaterThan unsupported", "{\"f\":true}", FILTER_GREATER_THAN, "0", false},
    {"GreaterOrEqual", "{\"f\":18}", FILTER_GREATER_THAN_OR_EQUALS, "18", true},
    {"StartsWith match", "{\"f\":\"user-1\"}", FILTER_STARTS_WITH, "\"user\"", true},
    {"StartsWith no", "{\"f\":\"guest-1\"}", FILTER_STARTS_WITH, "\"user\"", false},
    {"StartsWith non-string", "{\"f\":5}", FILTER_STARTS_WITH, "\"5\"", false},
    {"EndsWith match", "{\"f\":\"a.com\"}", FILTER_ENDS_WITH, "\".com\"", true},
    {"EndsWith no", "{\"f\":\"a.org\"}", FILTER_ENDS_WITH, "\".com\"", false},
    {"Contains match", "{\"f\":\"hello world\"}", FILTER_CONTAINS, "\"lo wo\"", true},
    {"Contains no", "{\"f\":\"hello\"}", FILTER_CONTAINS, "\"world\"", false},
    {"Contains empty", "{\"f\":\"hello\"}", FILTER_CONTAINS, "\"\"", true},
    {"Exists", "{\"f\":null}", FILTER_EXISTS, "true", true},
    {"Exists missing", "{}", FILTER_EXISTS, "true", false},
    {"type mismatch", "{\"f\":\"18\"}", FILTER_EQUALS, "18", false},
};

static void test_acceptance(void **state)
{
    (void)state;
    for (size_t i = 0; i < sizeof acceptance / sizeof *acceptance; i++) {
        const struct acceptance *c = &acceptance[i];

        if (matches(condition("f", c->op, c->value), c->document) != c->holds)
            fail_msg("%s", c->name);
    }
}

static void test_acceptance_combined(void **state)
{
    static const char document[] = "{\"role\":\"admin\",\"age\":30}";
    struct filter_node *admin = condition("role", FILTER_EQUALS, "\"admin\"");
    struct filter_node *young = condition("age", FILTER_LESS_THAN, "18");
    struct filter_node *grown, *other;

    (void)state;
    assert_false(matches(combine(FILTER_AND, admin, young), document)); /* And, one fails */
    admin = condition("role", FILTER_EQUALS, "\"admin\"");
    grown = condition("age", FILTER_GREATER_THAN, "18");
    assert_true(matches(combine(FILTER_AND, admin, grown), document)); /* And, both hold */
    admin = condition("role", FILTER_EQUALS, "\"admin\"");
    young = condition("age", FILTER_LESS_THAN, "18");
    assert_true(matches(combine(FILTER_OR, young, admin), document)); /* Or, one holds */
    young = condition("age", FILTER_LESS_THAN, "18");
    other = condition("role", FILTER_EQUALS, "\"guest\"");
    assert_false(matches(combine(FILTER_OR, young, other), document)); /* Or, none holds */
    young = condition("age", FILTER_LESS_THAN, "18");
    assert_true(matches(combine(FILTER_NOT, young, NULL), document)); /* Not of false */
    grown = condition("age", FILTER_GREATER_THAN, "18");
    assert_false(matches(combine(FILTER_NOT, grown, NULL), document)); /* Not of true */
    /* nested And/Or */
    admin = combine(FILTER_OR, condition("role", FILTER_EQUALS, "\"guest\""),
                    condition("role", FILTER_EQUALS, "\"admin\""));
    grown = condition("age", FILTER_GREATER_THAN, "18");
    assert_true(matches(combine(FILTER_AND, admin, grown), document));
}

/* ---- JSON, and the corners ---- */

static struct err parse(const char *json, struct filter_node **node)
{
    struct filter_limits limits = filter_limits_default();
    const struct filter *filter;
    struct err err = filter_from_json(&arena, slice_str(json), &limits, node);

    return err.code != ERR_OK ? err : filter_compile(&arena, *node, &limits, &filter);
}

static const struct example {
    const char *filter, *document;
    bool holds;
} examples[] = {
    {"{}", "{}", true},
    {"{\"$and\":[]}", "{}", true},
    {"{\"$or\":[]}", "{}", false},
    {"{\"$not\":{}}", "{}", false},
    {"{\"role\":\"admin\",\"age.gte\":18}", "{\"role\":\"admin\",\"age\":18}", true},
    {"{\"role\":\"admin\",\"age.gte\":18}", "{\"role\":\"admin\",\"age\":17.9}", false},
    {"{\"$or\":[{\"a\":1},{\"b\":2}]}", "{\"b\":2}", true},
    {"{\"location.building\":\"B4\"}", "{\"location\":{\"building\":\"B4\"}}", true},
    {"{\"location.building\":\"B4\"}", "{\"location.building\":\"B4\"}", false},
    {"{\"location\\\\.building\":\"B4\"}", "{\"location.building\":\"B4\"}", true},
    {"{\"location.building\":\"B4\"}", "{\"location\":[{\"building\":\"B4\"}]}", false},
    {"{\"a.b.c\":1}", "{\"a\":{\"b\":{\"c\":1}}}", true},
    {"{\"city\":\"*\"}", "{\"city\":null}", true},
    {"{\"city\":\"*\"}", "{}", false},
    {"{\"city.exists\":false}", "{}", true},
    {"{\"city.in\":[\"Oslo\",\"Rome\"]}", "{\"city\":\"Rome\"}", true},
    {"{\"city.in\":[]}", "{\"city\":\"Rome\"}", false},
    {"{\"city.$nin\":[\"Oslo\"]}", "{\"city\":\"Rome\"}", true},
    {"{\"city.$nin\":[\"Oslo\"]}", "{}", false},
    {"{\"$not\":{\"city.$nin\":[\"Oslo\"]}}", "{}", true},
    {"{\"device.type\":\"phone\"}", "{\"device\":{\"type\":\"phone\"}}", true},
    {"{\"device.$type\":\"struct\"}", "{\"device\":{}}", true},
    {"{\"f.$type\":\"bool\"}", "{\"f\":false}", true},
    {"{\"f.$type\":\"list\"}", "{\"f\":{}}", false},
    {"{\"in\":1}", "{\"in\":1}", true},
    {"{\"x.in.$eq\":1}", "{\"x\":{\"in\":1}}", true},
    {"{\"$identity\":\"phone-7\"}", "{}", true},
    {"{\"$identity.startswith\":\"phone\"}", "{}", true},
    {"{\"$identity.gt\":\"phone-7\"}", "{}", false},
    {"{\"$tags.contains\":\"vip\"}", "{}", true},
    {"{\"$tags.contains\":\"vi\"}", "{}", false},
    {"{\"$tags\":[\"beta\",\"vip\"]}", "{}", true},
    {"{\"\\\\$tags\":1}", "{\"$tags\":1}", true},
    {"{\"n\":1}", "{\"n\":1.0}", true},
    {"{\"n\":100}", "{\"n\":1e2}", true},
    {"{\"n\":0}", "{\"n\":-0.0}", true},
    {"{\"n\":9007199254740993}", "{\"n\":9007199254740992}", false},
    {"{\"n\":9007199254740992}", "{\"n\":9007199254740992}", true},
    {"{\"n.ne\":9007199254740993}", "{\"n\":9007199254740992}", true},
    {"{\"n.lt\":9007199254740993}", "{\"n\":9007199254740992}", true},
    {"{\"n.gte\":9007199254740993}", "{\"n\":9007199254740992}", false},
    {"{\"n.gt\":9007199254740993}", "{\"n\":9007199254740994}", true},
    {"{\"n.lte\":-9007199254740993}", "{\"n\":-9007199254740994}", true},
    {"{\"n.lte\":-9007199254740993}", "{\"n\":-9007199254740992}", false},
    {"{\"n.in\":[9007199254740993]}", "{\"n\":9007199254740992}", false},
    {"{\"n\":[9007199254740993]}", "{\"n\":[9007199254740992]}", false},
    {"{\"n.lt\":1e308}", "{\"n\":1e307}", true},
    {"{\"n.lt\":123456789012345678901234567890}", "{\"n\":123456789012345678901234567889}", true},
    {"{\"f\":[1,{\"b\":2,\"a\":1}]}", "{\"f\":[1.0,{\"a\":1,\"b\":2}]}", true},
    {"{\"f\":[]}", "{\"f\":[]}", true},
    {"{\"f\":[]}", "{\"f\":{}}", false},
    {"{\"f.contains\":2}", "{\"f\":[1,2]}", true},
    {"{\"f.contains\":[1]}", "{\"f\":[[1]]}", true},
    {"{\"f.contains\":1}", "{\"f\":1}", false},
    {"{\"f.gt\":\"z\"}", "{\"f\":\"\xc3\xa9\"}", true},
    {"{\"f\":\"\\u00e9\"}", "{\"f\":\"\xc3\xa9\"}", true},
    {"{\"f\":\"\\ud83d\\ude00\"}", "{\"f\":\"\xf0\x9f\x98\x80\"}", true},
    {"{\"f.$glob\":\"a*c\"}", "{\"f\":\"abbc\"}", true},
    {"{\"f.$glob\":\"a*c\"}", "{\"f\":\"abbd\"}", false},
    {"{\"f.$glob\":\"*\"}", "{\"f\":\"\"}", true},
    {"{\"f.$glob\":\"*\"}", "{\"f\":1}", false},
    {"{\"f.$glob\":\"?\"}", "{\"f\":\"\xf0\x9f\x98\x80\"}", true},
    {"{\"f.$glob\":\"[a-c]x[!0-9]\"}", "{\"f\":\"bxz\"}", true},
    {"{\"f.$glob\":\"[a-c]x[!0-9]\"}", "{\"f\":\"bx5\"}", false},
    {"{\"f.$glob\":\"a\\\\*\"}", "{\"f\":\"a*\"}", true},
    {"{\"f.$glob\":\"a\\\\*\"}", "{\"f\":\"ab\"}", false},
    {"{\"f.$glob\":\"*a*b*c\"}", "{\"f\":\"xaxbxabc\"}", true},
    {"{\"f.regex\":\"^v[0-9]+(\\\\.[0-9]+)?$\"}", "{\"f\":\"v12.5\"}", true},
    {"{\"f.regex\":\"b+\"}", "{\"f\":\"aabb\"}", true},
    {"{\"f.regex\":\"^b\"}", "{\"f\":\"aabb\"}", false},
    {"{\"f.regex\":\"1\"}", "{\"f\":1}", false},
    {"{\"f.regex\":\"^.$\"}", "{\"f\":\"\xc3\xa9\"}", true},
};

static void test_examples(void **state)
{
    (void)state;
    for (size_t i = 0; i < sizeof examples / sizeof *examples; i++) {
        struct filter_node *node;
        struct err err = parse(examples[i].filter, &node);

        if (err.code != ERR_OK)
            fail_msg("%s: %s", examples[i].filter, err.text);
        if (matches(node, examples[i].document) != examples[i].holds)
            fail_msg("%s of %s", examples[i].filter, examples[i].document);
    }
}

/* Refused, and what the refusal is about. */
static const char *const refused[][2] = {
    {"", "filter.json"},
    {"[]", "filter.json"},
    {"{", "filter.json"},
    {"{} x", "filter.json"},
    {"{\"a\":1,}", "filter.json"},
    {"{\"a\" 1}", "filter.json"},
    {"{\"a\":01}", "filter.json"},
    {"{\"a\":1e999}", "filter.json"},
    {"{\"a\":\"\\ud800\"}", "filter.json"},
    {"{\"a\":\"\\u0000\"}", "filter.json"},
    {"{\"a\":\"\xff\"}", "filter.json"},
    {"{\"a.$foo\":1}", "filter.json"},
    {"{\"$or\":{}}", "filter.json"},
    {"{\"\":1}", "filter.field"},
    {"{\"a..b\":1}", "filter.field"},
    {"{\"a.\":1}", "filter.field"},
    {"{\"$nor\":1}", "filter.field"},
    {"{\"a\\\\\":1}", "filter.field"},
    {"{\"a.in\":1}", "filter.value"},
    {"{\"a.gt\":true}", "filter.value"},
    {"{\"a.exists\":1}", "filter.value"},
    {"{\"a.regex\":\"(\"}", "filter.value"},
    {"{\"a.regex\":\"(a)\\\\1\"}", "filter.value"},
    {"{\"a.regex\":\"((((a{100}){100}){100}){100})\"}", "filter.value"},
    {"{\"a.$glob\":\"[a\"}", "filter.value"},
    {"{\"a.$glob\":\"a\\\\\"}", "filter.value"},
    {"{\"a.$type\":\"int\"}", "filter.value"},
    {"{\"a.startswith\":1}", "filter.value"},
    {"{\"$not\":{\"$not\":{\"$not\":{\"$not\":{\"$not\":{\"a\":1}}}}}}", "filter"},
    {"{\"a\":1,\"b\":1,\"c\":1,\"d\":1,\"e\":1,\"f\":1,\"g\":1,\"h\":1,\"i\":1,\"j\":1,\"k\":1,"
     "\"l\":1,\"m\":1,\"n\":1,\"o\":1,\"p\":1,\"q\":1,\"r\":1,\"s\":1,\"t\":1,\"u\":1}",
     "filter"},
};

static void test_refused(void **state)
{
    (void)state;
    for (size_t i = 0; i < sizeof refused / sizeof *refused; i++) {
        struct filter_node *node;
        struct err err = parse(refused[i][0], &node);

        if (err.code != ERR_INVALID_ARGUMENT || err.text == NULL)
            fail_msg("taken: %s", refused[i][0]);
        assert_string_equal(err.subject, refused[i][1]);
    }
}

/* However deep the text, the reader does not follow it. */
static void test_deep(void **state)
{
    char *text = arena_alloc(&arena, 60001);
    struct filter_node *node;

    (void)state;
    memset(text, '[', 60000);
    memcpy(text, "{\"a\":", 5);
    text[60000] = '\0';
    assert_int_equal(parse(text, &node).code, ERR_INVALID_ARGUMENT);
    for (size_t i = 0; i + 8 <= 60000; i += 8)
        memcpy(text + i, "{\"$not\":", 8);
    assert_int_equal(parse(text, &node).code, ERR_INVALID_ARGUMENT);
}

static void name_of(unsigned i, char name[4])
{
    for (int at = 2; at >= 0; at--, i /= 26)
        name[at] = (char)('a' + i % 26);
    name[3] = '\0';
}

/* Two names of one length and one hash: each is found behind the other. */
static void test_colliding_names(void **state)
{
    unsigned *first = arena_array(&arena, 1 << 16, sizeof *first); /* by hash: number + 1 */
    unsigned collisions = 0;

    (void)state;
    for (unsigned i = 0; i < 26 * 26 * 26; i++) {
        char name[4], other[4];

        name_of(i, name);

        unsigned *same = &first[document_name_hash(slice_str(name))];

        if (*same == 0) {
            *same = i + 1;
            continue;
        }
        name_of(*same - 1, other);
        collisions++;

        const char *both = arena_printf(&arena, "{\"%s\":1,\"%s\":2}", other, name);
        const char *one = arena_printf(&arena, "{\"%s\":1}", other);

        assert_true(matches(condition(other, FILTER_EQUALS, "1"), both));
        assert_true(matches(condition(name, FILTER_EQUALS, "2"), both));
        assert_false(matches(condition(name, FILTER_EQUALS, "1"), both));
        assert_false(matches(condition(other, FILTER_EQUALS, "2"), both));
        assert_false(matches(condition(name, FILTER_EQUALS, "1"), one));
        assert_true(matches(condition(name, FILTER_LESS_THAN, "3"), both));
        assert_false(matches(condition(name, FILTER_LESS_THAN, "3"), one));
    }
    assert_true(collisions > 10);
}

/* What backends are shown. */
static void test_normal_form(void **state)
{
    struct filter_limits limits = filter_limits_default();
    struct filter_node *node;
    const struct filter *filter;

    (void)state;
    assert_int_equal(
        parse("{\"a.$glob\":\"x*\",\"n.gt\":9007199254740995,\"m\":-9007199254740993}", &node).code,
        ERR_OK);
    assert_int_equal(filter_compile(&arena, node, &limits, &filter).code, ERR_OK);
    assert_int_equal(filter_ops(filter),
                     FILTER_BIT(FILTER_STARTS_WITH) | FILTER_BIT(FILTER_GREATER_THAN_OR_EQUALS));

    const struct filter_node *part = filter_root(filter)->first;

    assert_int_equal(part->op, FILTER_STARTS_WITH);
    assert_true(slice_equal(document_payload(part->value), slice_str("x")));
    assert_int_equal(part->next->op, FILTER_GREATER_THAN_OR_EQUALS);
    assert_true(document_number_of(part->next->value) == 9007199254740996.0);
    assert_int_equal(part->next->next->kind, FILTER_NEVER);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(test_acceptance, begin, end),
        cmocka_unit_test_setup_teardown(test_acceptance_combined, begin, end),
        cmocka_unit_test_setup_teardown(test_examples, begin, end),
        cmocka_unit_test_setup_teardown(test_refused, begin, end),
        cmocka_unit_test_setup_teardown(test_deep, begin, end),
        cmocka_unit_test_setup_teardown(test_colliding_names, begin, end),
        cmocka_unit_test_setup_teardown(test_normal_form, begin, end),
    };

    return cmocka_run_group_tests_name("filter", tests, NULL, NULL);
}
