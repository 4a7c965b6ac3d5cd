/* The answers of filters: the acceptance cases by name, and random filters on random documents,
 * where every registry has to answer as the reference does, to the last corner. */
#include "tests/contract/registry_contract.h"
#include "tests/contract/registry_reference.h"

#include "src/base/metrics.h"

#include <locale.h>
#include <stdlib.h>

static struct kv_fixture *fixture_of(void **state)
{
    return *state;
}

/* ---- the acceptance cases ---- */

static const struct acceptance {
    const char *name, *document, *filter;
    bool holds;
} acceptance[] = {
    {"Equality match", "{\"f\":\"active\"}", "{\"f\":\"active\"}", true},
    {"Equality no", "{\"f\":\"inactive\"}", "{\"f\":\"active\"}", false},
    {"Equality missing", "{\"g\":\"active\"}", "{\"f\":\"active\"}", false},
    {"Equality bool", "{\"f\":true}", "{\"f\":true}", true},
    {"Equality int64", "{\"f\":12345678901}", "{\"f\":12345678901}", true},
    {"Equality nil", "{\"f\":null}", "{\"f\":null}", true},
    {"NotEqual match", "{\"f\":\"a\"}", "{\"f.ne\":\"b\"}", true},
    {"NotEqual missing", "{}", "{\"f.ne\":\"b\"}", false},
    {"LessThan int", "{\"f\":17}", "{\"f.lt\":18}", true},
    {"LessThan float", "{\"f\":1.5}", "{\"f.lt\":1.75}", true},
    {"LessThan false", "{\"f\":20}", "{\"f.lt\":18}", false},
    {"LessThan int64", "{\"f\":12345678901}", "{\"f.lt\":12345678902}", true},
    {"LessThan string", "{\"f\":\"apple\"}", "{\"f.lt\":\"banana\"}", true},
    {"LessThan unsupported", "{\"f\":[1]}", "{\"f.lt\":2}", false},
    {"LessOrEqual equal", "{\"f\":18}", "{\"f.lte\":18}", true},
    {"LessOrEqual greater", "{\"f\":19}", "{\"f.lte\":18}", false},
    {"GreaterThan int", "{\"f\":19}", "{\"f.gt\":18}", true},
    {"GreaterThan int64", "{\"f\":12345678903}", "{\"f.gt\":12345678902}", true},
    {"GreaterThan float64", "{\"f\":2.25}", "{\"f.gt\":2.2}", true},
    {"GreaterThan string", "{\"f\":\"b\"}", "{\"f.gt\":\"a\"}", true},
    {"GreaterThan unsupported", "{\"f\":true}", "{\"f.gt\":0}", false},
    {"GreaterOrEqual", "{\"f\":18}", "{\"f.gte\":18}", true},
    {"StartsWith match", "{\"f\":\"user-1\"}", "{\"f.startswith\":\"user\"}", true},
    {"StartsWith no", "{\"f\":\"guest-1\"}", "{\"f.startswith\":\"user\"}", false},
    {"StartsWith non-string", "{\"f\":5}", "{\"f.startswith\":\"5\"}", false},
    {"EndsWith match", "{\"f\":\"a.com\"}", "{\"f.endswith\":\".com\"}", true},
    {"EndsWith no", "{\"f\":\"a.org\"}", "{\"f.endswith\":\".com\"}", false},
    {"Contains match", "{\"f\":\"hello world\"}", "{\"f.contains\":\"lo wo\"}", true},
    {"Contains no", "{\"f\":\"hello\"}", "{\"f.contains\":\"world\"}", false},
    {"Contains empty", "{\"f\":\"hello\"}", "{\"f.contains\":\"\"}", true},
    {"And both", "{\"f\":1,\"g\":2}", "{\"$and\":[{\"f\":1},{\"g\":2}]}", true},
    {"And one", "{\"f\":1,\"g\":3}", "{\"$and\":[{\"f\":1},{\"g\":2}]}", false},
    {"Or one", "{\"f\":1}", "{\"$or\":[{\"f\":1},{\"g\":2}]}", true},
    {"Or none", "{\"f\":2}", "{\"$or\":[{\"f\":1},{\"g\":2}]}", false},
    {"Not of false", "{\"f\":2}", "{\"$not\":{\"f\":1}}", true},
    {"Not of true", "{\"f\":1}", "{\"$not\":{\"f\":1}}", false},
    {"Exists", "{\"f\":null}", "{\"f.exists\":true}", true},
    {"Exists missing", "{}", "{\"f.exists\":true}", false},
    {"nested And/Or", "{\"f\":1,\"g\":2}",
     "{\"$and\":[{\"$or\":[{\"f\":9},{\"f\":1}]},{\"g.gt\":1}]}", true},
    {"type mismatch", "{\"f\":\"18\"}", "{\"f\":18}", false},
};

static void acceptance_cases(void **state)
{
    struct kv_fixture *fixture = fixture_of(state);

    for (size_t i = 0; i < sizeof acceptance / sizeof *acceptance; i++) {
        const struct acceptance *c = &acceptance[i];

        registry_put_ok(fixture, "a", c->document, 0);
        if ((registry_names(fixture, fixture->backend, registry_filter(fixture, c->filter), 9)[0] !=
             '\0') != c->holds)
            fail_msg("%s", c->name);
    }
}

/* ---- random filters on random documents ---- */

enum { DOCUMENTS = 120, FILTERS = 400, DEPTH = 3 };

struct dice {
    uint64_t state;
    struct arena *arena;
};

static unsigned roll(struct dice *dice, unsigned sides)
{
    dice->state = dice->state * 6364136223846793005u + 1442695040888963407u;
    return (unsigned)(dice->state >> 33) % sides;
}

/* Numbers that tell sloppy comparisons apart, as JSON. */
static const char *const numbers[] = {
    "0",
    "-0.0",
    "1",
    "-1",
    "2",
    "10",
    "9",
    "0.1",
    "0.30000000000000004",
    "1.5",
    "100000",
    "1e5",
    "9007199254740991",
    "9007199254740992",
    "9007199254740993",
    "9007199254740994",
    "-9007199254740993",
    "9223372036854775807",
    "9223372036854775808",
    "18446744073709551615",
    "123456789012345678901234567890",
    "1e308",
    "-1e308",
    "5e-324",
    "1e-7",
};

static const char *const texts[] = {
    "\"\"",
    "\"a\"",
    "\"b\"",
    "\"ab\"",
    "\"abc\"",
    "\"B\"",
    "\"10\"",
    "\"9\"",
    "\"a b\"",
    "\"a.b\"",
    "\"a*\"",
    "\"%a_\"",
    "\"\\\\\"",
    "\"'\"",
    "\"\\\"\"",
    "\"\\n\"",
    "\"\\u0001\"",
    "\"\\u007f\"",
    "\"null\"",
    "\"true\"",
    "\"\\u00e9\"",
    "\"\\u00e9a\"",
    "\"\\uffff\"",
    "\"e\\u0301\"",
    "\"\\u20ac\"",
    "\"\\ud83d\\ude00\"",
    "\"a\\ud83d\\ude00b\"",
    "\"aaaaaaaaaaaaaaaaaaaaaaaaaaaaa\"",
};

static const char *const others[] = {"null", "true", "false", "[]", "{}"};

static const char *const names[] = {"a",  "b",       "c",    "",      "a.b",
                                    "in", "\\u00e9", "\\\\", "$tags", "A"};

#define ONE_OF(dice, list) (list)[roll((dice), sizeof(list) / sizeof *(list))]

static const char *value(struct dice *dice, unsigned depth);

static const char *object(struct dice *dice, unsigned depth)
{
    const char *json = "";

    for (unsigned n = roll(dice, 5); n > 0; n--)
        json = arena_printf(dice->arena, "%s%s\"%s\":%s", json, json[0] != '\0' ? "," : "",
                            ONE_OF(dice, names), value(dice, depth - 1));
    return arena_printf(dice->arena, "{%s}", json);
}

static const char *list(struct dice *dice, unsigned depth)
{
    const char *json = "";

    for (unsigned n = roll(dice, 4); n > 0; n--)
        json = arena_printf(dice->arena, "%s%s%s", json, json[0] != '\0' ? "," : "",
                            value(dice, depth - 1));
    return arena_printf(dice->arena, "[%s]", json);
}

static const char *value(struct dice *dice, unsigned depth)
{
    switch (roll(dice, depth > 0 ? 10 : 7)) {
    case 0:
    case 1:
    case 2:
        return ONE_OF(dice, numbers);
    case 3:
    case 4:
    case 5:
        return ONE_OF(dice, texts);
    case 6:
        return ONE_OF(dice, others);
    case 7:
        return list(dice, depth);
    default:
        return object(dice, depth);
    }
}

static const char *const paths[] = {"a",         "b",        "c",         "a.b",    "a.a",
                                    "b.a.c",     "a\\\\.b",  "\\u00e9",   "in.$eq", "A",
                                    "a.\\u00e9", "\\\\\\\\", "\\\\$tags", "$tags",  "$identity"};

/* Patterns that both dialects read alike. */
static const char *const regexes[] = {
    "a",       "^a",  "b$",  "^$",      "^a*$",    "a|b",   "[0-9]+", "^(a|ab)(c|bcd)?$",
    "\\u00e9", "^.$", "a.b", "a\\\\.b", "^[^a]*$", "(a+)+$"};
static const char *const globs[] = {"*",
                                    "a*",
                                    "*b",
                                    "*a*",
                                    "?",
                                    "a?",
                                    "[a-c]*",
                                    "[!a]*",
                                    "",
                                    "ab",
                                    "a\\\\*",
                                    "\\u00e9*",
                                    "*\\ud83d\\ude00*",
                                    "a*b*"};
static const char *const glob_pieces[] = {"*",           "?",
                                          "a",           "b",
                                          "\\u00e9",     "\\ud83d\\ude00",
                                          "[a-c]",       "[!a]",
                                          "[a\\u00e9B]", "[!\\u00e0-\\u00ff]",
                                          "[]a]",        "[a-]",
                                          "[.%*]",       "\\\\*",
                                          ".",           "^",
                                          "$",           "%",
                                          "_",           "'",
                                          "\\\\\\\\"};
static const char *const types[] = {"null", "bool", "number", "string", "list", "struct"};

static const char *text_or_number(struct dice *dice)
{
    return roll(dice, 2) == 0 ? ONE_OF(dice, numbers) : ONE_OF(dice, texts);
}

static const char *random_glob(struct dice *dice)
{
    const char *glob = "";

    if (roll(dice, 2) == 0)
        return ONE_OF(dice, globs);
    for (unsigned n = roll(dice, 5); n > 0; n--)
        glob = arena_printf(dice->arena, "%s%s", glob, ONE_OF(dice, glob_pieces));
    return glob;
}

static const char *member(struct dice *dice)
{
    static const char *const orders[] = {"gt", "gte", "lt", "lte"};
    static const char *const text_ops[] = {"startswith", "endswith", "contains"};
    const char *path = ONE_OF(dice, paths);

    if (strcmp(path, "in.$eq") == 0)
        return arena_printf(dice->arena, "\"%s\":%s", path, value(dice, 1));
    switch (roll(dice, 12)) {
    case 0:
    case 1:
        return arena_printf(dice->arena, "\"%s\":%s", path, value(dice, 2));
    case 2:
        return arena_printf(dice->arena, "\"%s.ne\":%s", path, value(dice, 1));
    case 3:
    case 4:
    case 5:
        return arena_printf(dice->arena, "\"%s.%s\":%s", path, ONE_OF(dice, orders),
                            text_or_number(dice));
    case 6:
        return arena_printf(dice->arena, "\"%s.%s\":%s", path, roll(dice, 2) ? "in" : "$nin",
                            list(dice, 2));
    case 7:
        return arena_printf(dice->arena, "\"%s.%s\":%s", path, ONE_OF(dice, text_ops),
                            ONE_OF(dice, texts));
    case 8:
        return arena_printf(dice->arena, "\"%s.contains\":%s", path, value(dice, 1));
    case 9:
        return arena_printf(dice->arena, "\"%s.exists\":%s", path,
                            roll(dice, 2) ? "true" : "false");
    case 10:
        return arena_printf(dice->arena, "\"%s.$type\":\"%s\"", path, ONE_OF(dice, types));
    default:
        if (roll(dice, 2) == 0)
            return arena_printf(dice->arena, "\"%s.regex\":\"%s\"", path, ONE_OF(dice, regexes));
        return arena_printf(dice->arena, "\"%s.$glob\":\"%s\"", path, random_glob(dice));
    }
}

static const char *random_filter(struct dice *dice, unsigned depth)
{
    const char *json = "";

    switch (depth > 0 ? roll(dice, 5) : 4) {
    case 0:
    case 1:
        for (unsigned n = roll(dice, 4); n > 0; n--)
            json = arena_printf(dice->arena, "%s%s%s", json, json[0] != '\0' ? "," : "",
                                random_filter(dice, depth - 1));
        return arena_printf(dice->arena, "{\"%s\":[%s]}", roll(dice, 2) ? "$and" : "$or", json);
    case 2:
        return arena_printf(dice->arena, "{\"$not\":%s}", random_filter(dice, depth - 1));
    default:
        return arena_printf(dice->arena, "{%s}", member(dice));
    }
}

static struct slice random_tags(struct kv_fixture *fixture, struct dice *dice)
{
    struct slice tags = registry_document(fixture, "[]");

    if (roll(dice, 3) > 0)
        tags = registry_document(fixture, arena_printf(dice->arena, "[%s,%s]", ONE_OF(dice, texts),
                                                       ONE_OF(dice, texts)));
    return tags;
}

static void random_entries(struct kv_fixture *fixture, struct dice *dice,
                           struct registry_put_item *items)
{
    struct registry_put put = {.items = items, .n = DOCUMENTS};

    for (unsigned i = 0; i < DOCUMENTS; i++) {
        items[i] = registry_item(fixture, kv_key(fixture, i % 3 ? "a" : "\xc3\xa9", i),
                                 object(dice, 3), 0);
        items[i].tags = random_tags(fixture, dice);
    }
    kv_expect(kv_do(fixture, registry_start_put, &put.op), ERR_OK, NULL);
}

static void compare(struct kv_fixture *fixture, const struct registry_put_item *items,
                    const char *json, bool *told)
{
    struct filter_limits limits = {.max_depth = 20,
                                   .max_clauses = 200,
                                   .max_elements = 200,
                                   .max_pattern_bytes = 100,
                                   .max_bytes = 1 << 16};
    struct filter_node *node;
    const struct filter *filter;
    const char *got;
    uint64_t expected = 0;

    kv_expect(filter_from_json(&fixture->arena, slice_str(json), &limits, &node), ERR_OK, NULL);
    kv_expect(filter_compile(&fixture->arena, node, &limits, &filter), ERR_OK, NULL);
    got = registry_names(fixture, fixture->backend, filter, 50);
    for (unsigned i = 0; i < DOCUMENTS; i++) {
        struct filter_subject subject = {items[i].identity, items[i].document, items[i].tags};
        bool holds = reference_match(node, &subject);
        const char *name = arena_strdup(&fixture->arena, subject.identity);

        expected += holds;
        if ((strstr(got, name) != NULL) != holds) {
            struct slice text = document_to_json(&fixture->arena, subject.document);

            fail_msg(
                "%s %s %s, tags %s", json, holds ? "misses" : "takes",
                arena_strdup(&fixture->arena, text),
                arena_strdup(&fixture->arena, document_to_json(&fixture->arena, subject.tags)));
        }
    }
    assert_int_equal(registry_count_of(fixture, fixture->backend, filter), expected);
    told[expected == 0 ? 0 : expected == DOCUMENTS ? 1 : 2] = true;
}

/* M11: every backend's answer is that of a reference which shares no code with either.
 * PRISM_SEED=n runs another sequence. */
static void same_answers(void **state)
{
    struct kv_fixture *fixture = fixture_of(state);
    const char *seed = getenv("PRISM_SEED");
    struct dice dice = {.state = seed != NULL ? strtoull(seed, NULL, 10) : 42,
                        .arena = &fixture->arena};
    struct registry_put_item items[DOCUMENTS];
    bool told[3] = {false, false, false};

    assert_non_null(setlocale(LC_CTYPE, "C.UTF-8")); /* for the reference's fnmatch and regexec */
    random_entries(fixture, &dice, items);
    for (unsigned i = 0; i < FILTERS; i++)
        compare(fixture, items, random_filter(&dice, DEPTH), told);
    setlocale(LC_CTYPE, "C");
    assert_true(told[0] && told[1] && told[2]);
}

/* ---- who evaluates what ---- */

enum { CROWD = 40, FILLER = 4000 };

/* Nothing of the crowd matches. */
static const struct {
    enum filter_op op;
    const char *filter;
} nobody[] = {
    {FILTER_EQUALS, "{\"f\":\"zz\"}"},
    {FILTER_NOT_EQUALS, "{\"f.ne\":\"x\"}"},
    {FILTER_GREATER_THAN, "{\"f.gt\":\"y\"}"},
    {FILTER_GREATER_THAN_OR_EQUALS, "{\"f.gte\":\"y\"}"},
    {FILTER_LESS_THAN, "{\"f.lt\":\"b\"}"},
    {FILTER_LESS_THAN_OR_EQUALS, "{\"f.lte\":\"b\"}"},
    {FILTER_IN, "{\"f.in\":[\"y\",\"z\"]}"},
    {FILTER_NOT_IN, "{\"f.$nin\":[\"x\",\"y\"]}"},
    {FILTER_CONTAINS, "{\"f.contains\":\"y\"}"},
    {FILTER_STARTS_WITH, "{\"f.startswith\":\"y\"}"},
    {FILTER_ENDS_WITH, "{\"f.endswith\":\"y\"}"},
    {FILTER_EXISTS, "{\"g.exists\":true}"},
    {FILTER_REGEX, "{\"f.regex\":\"^y\"}"},
    {FILTER_TYPE, "{\"f.$type\":\"number\"}"},
    {FILTER_GLOB, "{\"f.$glob\":\"*[y-z]?\"}"},
};

static void put_crowd(struct kv_fixture *fixture)
{
    char *filler = arena_zalloc(&fixture->arena, FILLER + 1);

    memset(filler, 'a', FILLER);
    for (unsigned i = 0; i < CROWD; i++)
        registry_put_ok(fixture, kv_key(fixture, "i", i),
                        arena_printf(&fixture->arena, "{\"f\":\"x\",\"filler\":\"%s\"}", filler),
                        0);
}

/* Does the server send what is looked at, to have it looked at here? */
static bool sends_the_crowd(struct kv_fixture *fixture, const char *json)
{
    const struct counter *received = &fixture->backend->stats.bytes_received;
    uint64_t before = counter_read(received);

    assert_int_equal(registry_count_of(fixture, fixture->backend, registry_filter(fixture, json)),
                     0);
    return counter_read(received) - before > (uint64_t)CROWD * FILLER / 2;
}

/* `native` is what is announced to clients: of such operators nothing comes but matches, of all
 * others everything. A native condition beside one that is not thins that out. */
static void native_is_what_the_server_evaluates(void **state)
{
    struct kv_fixture *fixture = fixture_of(state);
    uint32_t native = fixture->backend->has.registry->native;

    if (native == 0)
        skip();
    assert_int_equal(sizeof nobody / sizeof *nobody, FILTER_OP_COUNT - 1);
    put_crowd(fixture);
    for (size_t i = 0; i < sizeof nobody / sizeof *nobody; i++) {
        enum filter_op op = nobody[i].op;

        assert_int_equal(filter_ops(registry_filter(fixture, nobody[i].filter)), FILTER_BIT(op));
        if (sends_the_crowd(fixture, nobody[i].filter) == ((native & FILTER_BIT(op)) != 0))
            fail_msg("%s", filter_op_name(op));
    }
    assert_true(sends_the_crowd(fixture, "{\"$or\":[{\"f.regex\":\"^y\"},{\"f\":\"y\"}]}") ==
                ((native & FILTER_BIT(FILTER_REGEX)) == 0));
    assert_false(sends_the_crowd(fixture, "{\"f.regex\":\"^x\",\"f\":\"y\"}"));
}

static int tear_down(void **state)
{
    registry_empty(state);
    return kv_forget(state);
}

int registry_filters_contract(const char *name, CMFixtureFunction setup, CMFixtureFunction teardown)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_teardown(acceptance_cases, tear_down),
        cmocka_unit_test_teardown(same_answers, tear_down),
        cmocka_unit_test_teardown(native_is_what_the_server_evaluates, tear_down),
    };

    return kv_group(name, "registry, filters", tests, sizeof tests / sizeof *tests, setup,
                    teardown);
}
