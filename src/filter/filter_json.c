/* Filters written as JSON. */
#include "src/filter/json.h"

struct reader {
    struct json json;
    const struct filter_limits *limits;
    unsigned depth;
    struct err err; /* of a path */
};

static const struct suffix {
    const char *text;
    enum filter_op op;
    bool plain; /* an operator also without a dollar sign */
} suffixes[] = {
#define PLAIN(op)                                                                                  \
    (FILTER_BIT(op) & ~(FILTER_BIT(FILTER_EQUALS) | FILTER_BIT(FILTER_NOT_IN) |                    \
                        FILTER_BIT(FILTER_TYPE) | FILTER_BIT(FILTER_GLOB))) != 0
#define X(NAME, number, suffix) {suffix, FILTER_##NAME, PLAIN(FILTER_##NAME)},
    FILTER_OPS(X)
#undef X
#undef PLAIN
};

/* Splits "age.gte" into path and operator. */
static enum filter_op op_of(struct slice name, struct slice *path)
{
    size_t dot = name.len;

    while (dot > 0 && name.data[dot - 1] != '.')
        dot--;
    *path = name;
    if (dot < 2 || name.data[dot - 2] == '\\')
        return FILTER_EQUALS;

    struct slice last = slice_of(name.data + dot, name.len - dot);
    bool dollar = last.len > 0 && last.data[0] == '$';

    if (dollar)
        last = slice_of(last.data + 1, last.len - 1);
    for (size_t i = 0; i < sizeof suffixes / sizeof *suffixes; i++) {
        if ((dollar || suffixes[i].plain) && slice_equal(last, slice_str(suffixes[i].text))) {
            path->len = dot - 1;
            return suffixes[i].op;
        }
    }
    return dollar ? FILTER_OP_NONE : FILTER_EQUALS;
}

static struct filter_node *object(struct reader *reader);

static struct filter_node *condition(struct reader *reader, struct slice path, enum filter_op op,
                                     struct slice value)
{
    struct filter_node *node;
    struct err err = filter_condition(reader->json.arena, path, op, value, &node);

    if (err.code != ERR_OK && reader->err.code == ERR_OK)
        reader->err = err;
    return node;
}

static struct slice bool_value(bool value)
{
    static const uint8_t values[] = {DOCUMENT_FALSE, DOCUMENT_TRUE};

    return slice_of(&values[value], 1);
}

/* The elements of IN that have a double of their own; no field is equal to the others. */
static struct slice elements(struct reader *reader)
{
    struct arena *arena = reader->json.arena;
    struct document_writer list, one;
    struct slice value = {0};

    document_start(&list, arena, reader->limits->max_bytes);
    document_begin(&list, DOCUMENT_LIST);
    json_enter(&reader->json, '[');
    for (bool first = true; json_more(&reader->json, ']', first); first = false) {
        reader->json.inexact = false;
        document_start(&one, arena, reader->limits->max_bytes);
        json_value(&reader->json, &one);

        struct err err = document_finish(&one, &value);

        if (err.code != ERR_OK)
            json_fail(&reader->json, err.text);
        else if (!reader->json.inexact)
            document_value(&list, value);
    }
    document_end(&list);
    if (document_finish(&list, &value).code != ERR_OK)
        json_fail(&reader->json, "a list is too large");
    return value;
}

static struct filter_node *number(struct reader *reader, struct slice path, enum filter_op op)
{
    enum filter_rounding rounding;
    struct document_writer writer;
    struct slice value = {0};

    document_start(&writer, reader->json.arena, 16);
    document_number(&writer, json_number(&reader->json, &rounding));
    (void)document_finish(&writer, &value); /* finite, or the reader has its fault */

    struct filter_node *node = condition(reader, path, op, value);

    node->rounding = rounding;
    return node;
}

static struct filter_node *member(struct reader *reader, struct slice name)
{
    struct json *json = &reader->json;
    struct document_writer writer;
    struct slice path, value = {0};
    enum filter_op op = op_of(name, &path);
    char next = json_peek(json);

    if (op == FILTER_OP_NONE)
        json_fail(json, "an operator with a dollar sign that does not exist");
    if (next == '[' && (op == FILTER_IN || op == FILTER_NOT_IN))
        return condition(reader, path, op, elements(reader));
    if (next == '0')
        return number(reader, path, op);
    json->inexact = false;
    document_start(&writer, json->arena, reader->limits->max_bytes);
    json_value(json, &writer);

    struct err err = document_finish(&writer, &value);

    if (err.code != ERR_OK) {
        json_fail(json, err.text);
        value = bool_value(false);
    }
    if (op == FILTER_EQUALS && slice_equal(value, slice_of("\4*", 2)))
        return condition(reader, path, FILTER_EXISTS, bool_value(true));

    struct filter_node *node = condition(reader, path, op, value);

    if (json->inexact) /* somewhere inside: whatever the direction, nothing is equal */
        node->rounding = FILTER_ROUNDED_UP;
    return node;
}

static struct filter_node *alternatives(struct reader *reader, enum filter_kind kind)
{
    struct filter_node *node = filter_combine(reader->json.arena, kind);

    json_enter(&reader->json, '[');
    for (bool first = true; json_more(&reader->json, ']', first); first = false)
        filter_add(node, object(reader));
    return node;
}

static struct filter_node *entry(struct reader *reader)
{
    struct slice name = json_name(&reader->json);

    if (slice_equal(name, slice_str("$and")))
        return alternatives(reader, FILTER_AND);
    if (slice_equal(name, slice_str("$or")))
        return alternatives(reader, FILTER_OR);
    if (!slice_equal(name, slice_str("$not")))
        return member(reader, name);

    struct filter_node *node = filter_combine(reader->json.arena, FILTER_NOT);

    filter_add(node, object(reader));
    return node;
}

/* An object of one member is that member, one of several the AND of them. */
static struct filter_node *object(struct reader *reader)
{
    struct filter_node *all = filter_combine(reader->json.arena, FILTER_AND);

    if (++reader->depth > 2 * reader->limits->max_depth) /* each level may bring an AND */
        json_fail(&reader->json, "nested too deep");
    json_enter(&reader->json, '{');
    for (bool first = true; json_more(&reader->json, '}', first); first = false)
        filter_add(all, entry(reader));
    reader->depth--;
    return all->first != NULL && all->first->next == NULL ? all->first : all;
}

struct err filter_from_json(struct arena *arena, struct slice json,
                            const struct filter_limits *limits, struct filter_node **out)
{
    struct reader reader = {.json = json_of(arena, json), .limits = limits};

    if (json.len > limits->max_bytes)
        return err_about(ERR_INVALID_ARGUMENT, "filter.json", "the text is too long");
    *out = object(&reader);
    json_finish(&reader.json);
    if (reader.json.err.code != ERR_OK) {
        reader.json.err.subject = "filter.json";
        return reader.json.err;
    }
    return reader.err;
}
