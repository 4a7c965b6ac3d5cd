/* A filter as SQL.
 *
 * PostgreSQL's own notions differ from ours in corners, so each condition is written out: a field
 * that is absent makes it false, not NULL; types are looked at before values; strings compare by
 * their bytes; lists are not reached into by a path. What it cannot say (regular expressions
 * as RE2 reads them, more parameters than a statement takes), or what would hold it for long (some
 * globs), is left out: the test then holds for more rows, and the filter is evaluated here. Below a
 * NOT that would be fewer, so a NOT of such a thing is left out as a whole.
 *
 * Equality with a scalar, and a tag, are said once more as `@>`, which the GIN indexes know. As
 * constants: of a parameter the planner cannot tell how few rows have it. */
#include "backends/postgres/postgres_registry.h"

#include <assert.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>

enum { SPARE_PARAMS = 12 /* of the statement around it, and of one condition */ };

struct text {
    struct arena *arena;
    char *bytes;
    size_t len, room;
};

struct writer {
    struct postgres_params *params;
    bool constants; /* in lookups */
    struct text test, lookups;
};

static void add_bytes(struct text *text, const char *bytes, size_t len)
{
    if (text->len + len + 1 > text->room) {
        size_t room = 2 * (text->len + len + 1);
        char *grown = arena_alloc(text->arena, room);

        memcpy(grown, text->bytes, text->len);
        text->bytes = grown;
        text->room = room;
    }
    memcpy(text->bytes + text->len, bytes, len);
    text->len += len;
    text->bytes[text->len] = '\0';
}

static __attribute__((format(printf, 2, 3))) void add(struct text *text, const char *format, ...)
{
    char piece[256];
    va_list arguments;
    int n;

    va_start(arguments, format);
    n = vsnprintf(piece, sizeof piece, format, arguments);
    va_end(arguments);
    assert(n >= 0 && (size_t)n < sizeof piece);
    add_bytes(text, piece, (size_t)n);
}

static struct text text_of(struct arena *arena)
{
    return (struct text){.arena = arena, .bytes = arena_zalloc(arena, 1), .room = 1};
}

static int param(struct writer *writer, struct slice bytes)
{
    postgres_add(writer->params, bytes);
    return writer->params->n;
}

static struct slice json_of(struct writer *writer, struct slice value)
{
    return document_to_json(writer->params->arena, value);
}

/* ---- one condition ---- */

/* The value that is looked at: jsonb, NULL if it is absent. */
static const char *subject_of(struct writer *writer, const struct filter_node *node)
{
    struct text path = text_of(writer->params->arena);

    if (node->place == FILTER_IDENTITY)
        return "to_jsonb(convert_from(identity, 'UTF8'))";
    if (node->place == FILTER_TAGS)
        return "labels";
    add(&path, "(facts");
    for (size_t i = 0; i < node->names_n; i++)
        add(&path, " -> $%d::text", param(writer, node->names[i]));
    add(&path, ")");
    return path.bytes;
}

/* `test` of the string that is looked at, as s; $n is the string to compare with. */
static void string_test(struct writer *writer, const char *x, const char *test, int n)
{
    struct text *text = &writer->test;

    add(text, "coalesce((SELECT type = 'string' AND ");
    add(text, test, n);
    add(text, " FROM (SELECT jsonb_typeof(j) AS type, (j #>> '{}') COLLATE \"C\" AS s"
              " FROM (SELECT ");
    add_bytes(text, x, strlen(x));
    add(text, " AS j) AS o) AS t), false)");
}

static void order_test(struct writer *writer, const struct filter_node *node, const char *x)
{
    static const char *const signs[FILTER_OP_COUNT] = {[FILTER_GREATER_THAN] = ">",
                                                       [FILTER_GREATER_THAN_OR_EQUALS] = ">=",
                                                       [FILTER_LESS_THAN] = "<",
                                                       [FILTER_LESS_THAN_OR_EQUALS] = "<="};
    struct text *text = &writer->test;
    char test[64];

    if (document_type_of(node->value) == DOCUMENT_STRING) {
        snprintf(test, sizeof test, "s %s $%%d::text COLLATE \"C\"", signs[node->op]);
        string_test(writer, x, test, param(writer, document_payload(node->value)));
        return;
    }
    add(text, "coalesce(CASE jsonb_typeof(");
    add_bytes(text, x, strlen(x));
    add(text, ") WHEN 'number' THEN ");
    add_bytes(text, x, strlen(x));
    add(text, "::numeric %s ($%d::text::jsonb)::numeric ELSE false END, false)", signs[node->op],
        param(writer, json_of(writer, node->value)));
}

/* Is one of the elements of `list` equal to `value`? */
static void element_test(struct text *text, const char *list, const char *value)
{
    add(text, "EXISTS (SELECT 1 FROM jsonb_array_elements(");
    add_bytes(text, list, strlen(list));
    add(text, ") AS e WHERE e = ");
    add_bytes(text, value, strlen(value));
    add(text, ")");
}

static void contains_test(struct writer *writer, const struct filter_node *node, const char *x)
{
    struct text *text = &writer->test;
    const char *value = arena_printf(writer->params->arena, "$%d::text::jsonb",
                                     param(writer, json_of(writer, node->value)));

    add(text, "(coalesce(CASE jsonb_typeof(");
    add_bytes(text, x, strlen(x));
    add(text, ") WHEN 'array' THEN ");
    element_test(text, x, value);
    add(text, " ELSE false END, false)");
    if (document_type_of(node->value) == DOCUMENT_STRING) {
        add(text, " OR ");
        string_test(writer, x, "position($%d::text in s) > 0",
                    param(writer, document_payload(node->value)));
    }
    add(text, ")");
}

static void type_test(struct writer *writer, const struct filter_node *node, const char *x)
{
    static const char *const names[DOCUMENT_TYPES] = {
        [DOCUMENT_NULL] = "null",     [DOCUMENT_FALSE] = "boolean", [DOCUMENT_TRUE] = "boolean",
        [DOCUMENT_NUMBER] = "number", [DOCUMENT_STRING] = "string", [DOCUMENT_LIST] = "array",
        [DOCUMENT_STRUCT] = "object"};
    enum document_type type = filter_type_named(document_payload(node->value));

    add(&writer->test, "coalesce(jsonb_typeof(");
    add_bytes(&writer->test, x, strlen(x));
    add(&writer->test, ") = '%s', false)", type < DOCUMENT_TYPES ? names[type] : "none");
}

static void equal_test(struct writer *writer, const struct filter_node *node, const char *x)
{
    add(&writer->test, "coalesce(");
    add_bytes(&writer->test, x, strlen(x));
    add(&writer->test, " %s $%d::text::jsonb, false)", node->op == FILTER_EQUALS ? "=" : "<>",
        param(writer, json_of(writer, node->value)));
}

static void among_test(struct writer *writer, const struct filter_node *node, const char *x)
{
    add(&writer->test, "(");
    add_bytes(&writer->test, x, strlen(x));
    add(&writer->test, " IS NOT NULL AND %s", node->op == FILTER_IN ? "" : "NOT ");
    element_test(&writer->test,
                 arena_printf(writer->params->arena, "$%d::text::jsonb",
                              param(writer, json_of(writer, node->value))),
                 x);
    add(&writer->test, ")");
}

static void condition(struct writer *writer, const struct filter_node *node)
{
    const char *x = subject_of(writer, node);

    switch (node->op) {
    case FILTER_EQUALS:
    case FILTER_NOT_EQUALS:
        equal_test(writer, node, x);
        break;
    case FILTER_GREATER_THAN:
    case FILTER_GREATER_THAN_OR_EQUALS:
    case FILTER_LESS_THAN:
    case FILTER_LESS_THAN_OR_EQUALS:
        order_test(writer, node, x);
        break;
    case FILTER_IN:
    case FILTER_NOT_IN:
        among_test(writer, node, x);
        break;
    case FILTER_CONTAINS:
        contains_test(writer, node, x);
        break;
    case FILTER_STARTS_WITH:
        string_test(writer, x, "starts_with(s, $%d::text)",
                    param(writer, document_payload(node->value)));
        break;
    case FILTER_ENDS_WITH:
        string_test(writer, x, "right(s, length($%1$d::text)) = $%1$d::text",
                    param(writer, document_payload(node->value)));
        break;
    case FILTER_EXISTS:
        add(&writer->test, "(");
        add_bytes(&writer->test, x, strlen(x));
        add(&writer->test, " IS %sNULL)",
            document_type_of(node->value) == DOCUMENT_TRUE ? "NOT " : "");
        break;
    case FILTER_TYPE:
        type_test(writer, node, x);
        break;
    case FILTER_GLOB:
        string_test(
            writer, x, "s ~ $%d::text",
            param(writer, postgres_glob(writer->params->arena, document_payload(node->value))));
        break;
    case FILTER_REGEX:
    case FILTER_OP_NONE:
    case FILTER_OP_COUNT:
        break;
    }
}

/* ---- the tree ---- */

static bool can_say(const struct filter_node *node)
{
    return (POSTGRES_FILTER_OPS & FILTER_BIT(node->op)) != 0 &&
           (node->op != FILTER_GLOB || postgres_glob_is_cheap(document_payload(node->value)));
}

/* Parameters that the node takes; as many as cannot be had if postgres is not to be asked. */
static size_t params_of(const struct filter_node *node)
{
    size_t n = 0;

    if (node->kind == FILTER_CONDITION)
        return can_say(node) ? node->names_n + 2 : POSTGRES_PARAMS;
    for (const struct filter_node *child = node->first; child != NULL; child = child->next)
        n += params_of(child);
    return n;
}

static bool fits(const struct writer *writer, const struct filter_node *node)
{
    return params_of(node) + (size_t)writer->params->n + SPARE_PARAMS <= POSTGRES_PARAMS;
}

/* False: more rows pass than match. Nesting is bounded by filter_limits. */
static bool tree(struct writer *writer, const struct filter_node *node) // NOLINT(misc-no-recursion)
{
    const char *glue = node->kind == FILTER_AND ? " AND " : " OR ";
    bool exact = true;

    switch (node->kind) {
    case FILTER_NEVER:
        add(&writer->test, "false");
        return true;
    case FILTER_CONDITION:
        if (fits(writer, node)) {
            condition(writer, node);
            return true;
        }
        break;
    case FILTER_NOT:
        if (fits(writer, node)) {
            add(&writer->test, "(NOT ");
            tree(writer, node->first);
            add(&writer->test, ")");
            return true;
        }
        break;
    case FILTER_AND:
    case FILTER_OR:
        add(&writer->test, "(%s", node->kind == FILTER_AND ? "true" : "false");
        for (const struct filter_node *child = node->first; child != NULL; child = child->next) {
            add(&writer->test, "%s", glue);
            exact = tree(writer, child) && exact;
        }
        add(&writer->test, ")");
        return exact;
    }
    add(&writer->test, "true");
    return false;
}

/* ---- what an index finds ---- */

/* {"a":{"b":value}} */
static struct slice nested(struct writer *writer, const struct filter_node *node)
{
    struct text text = text_of(writer->params->arena);
    struct document_writer name;
    struct slice encoded, json;

    for (size_t i = 0; i < node->names_n; i++) {
        document_start(&name, writer->params->arena, REGISTRY_DOCUMENT_BYTES);
        document_string(&name, node->names[i]);
        document_finish(&name, &encoded);
        json = json_of(writer, encoded);
        add(&text, "{");
        add_bytes(&text, (const char *)json.data, json.len);
        add(&text, ":");
    }
    json = json_of(writer, node->value);
    add_bytes(&text, (const char *)json.data, json.len);
    for (size_t i = 0; i < node->names_n; i++)
        add(&text, "}");
    return slice_of(text.bytes, text.len);
}

/* As a constant: whatever the session says of backslashes. */
static void add_constant(struct text *text, struct slice json)
{
    add(text, "E'");
    for (size_t i = 0, from = 0; i < json.len; i++) {
        bool last = i + 1 == json.len, doubled = json.data[i] == '\'' || json.data[i] == '\\';

        if (!doubled && !last)
            continue;
        add_bytes(text, (const char *)json.data + from, i + 1 - from);
        if (doubled)
            add_bytes(text, (const char *)json.data + i, 1);
        from = i + 1;
    }
    add(text, "'::jsonb");
}

static void add_lookup(struct writer *writer, const char *column, struct slice json)
{
    add(&writer->lookups, " AND %s @> ", column);
    if (writer->constants)
        add_constant(&writer->lookups, json);
    else
        add(&writer->lookups, "$%d::text::jsonb", param(writer, json));
}

static void lookup(struct writer *writer, const struct filter_node *node)
{
    if (node->kind != FILTER_CONDITION || !fits(writer, node) ||
        document_type_of(node->value) >= DOCUMENT_LIST)
        return;
    if (node->op == FILTER_EQUALS && node->place == FILTER_METADATA)
        add_lookup(writer, "facts", nested(writer, node));
    else if (node->op == FILTER_CONTAINS && node->place == FILTER_TAGS)
        add_lookup(writer, "labels", json_of(writer, node->value));
}

struct postgres_where postgres_where_of(const struct filter *filter, struct postgres_params *params,
                                        bool by_index)
{
    const struct filter_node *root = filter_root(filter);
    struct writer writer = {
        .params = params,
        .constants = by_index,
        .test = text_of(params->arena),
        .lookups = text_of(params->arena),
    };
    bool exact = tree(&writer, root);

    if (root->kind == FILTER_AND) {
        for (const struct filter_node *child = root->first; child != NULL; child = child->next)
            lookup(&writer, child);
    } else {
        lookup(&writer, root);
    }
    return (struct postgres_where){
        .lookups = writer.lookups.bytes, .test = writer.test.bytes, .exact = exact};
}
