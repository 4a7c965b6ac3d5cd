#include "patterns/multicast_registry/filter.h"

#include "patterns/multicast_registry/metadata.h"

typedef Prism__Patterns__MulticastRegistry__CompositeFilter pb_composite_filter;
typedef Prism__Patterns__MulticastRegistry__FieldFilter pb_field_filter;
typedef Prism__Patterns__MulticastRegistry__Filter pb_filter;

struct reader {
    struct arena *arena;
    const struct filter_limits *limits;
    struct err err; /* the first fault */
};

static void fault(struct reader *reader, struct err err)
{
    if (reader->err.code == ERR_OK)
        reader->err = err;
}

static struct err invalid(const char *subject, const char *text)
{
    return err_about(ERR_INVALID_ARGUMENT, subject, text);
}

static struct filter_node *read_node(struct reader *reader, const pb_filter *message,
                                     uint32_t depth);

static struct filter_node *read_field(struct reader *reader, const pb_field_filter *field)
{
    struct filter_node *node = NULL;
    struct slice value = {0};
    struct err err = ERR_NONE;

    if (field->value != NULL)
        err = metadata_read_value(reader->arena, field->value, reader->limits->max_bytes, &value);
    if (err.code != ERR_OK)
        err.subject = "filter.value";
    else if (field->op <= 0 || field->op >= (int)FILTER_OP_COUNT)
        err = invalid("filter.op", "an operator is missing, or not known");
    else
        err = filter_condition(reader->arena, slice_str(field->field), (enum filter_op)field->op,
                               value, &node);
    if (err.code != ERR_OK)
        fault(reader, err);
    return node;
}

static struct filter_node *read_composite(struct reader *reader,
                                          const pb_composite_filter *composite, uint32_t depth)
{
    struct filter_node *node;

    switch (composite->op) {
    case PRISM__PATTERNS__MULTICAST_REGISTRY__LOGICAL_OPERATOR__AND:
        node = filter_combine(reader->arena, FILTER_AND);
        break;
    case PRISM__PATTERNS__MULTICAST_REGISTRY__LOGICAL_OPERATOR__OR:
        node = filter_combine(reader->arena, FILTER_OR);
        break;
    case PRISM__PATTERNS__MULTICAST_REGISTRY__LOGICAL_OPERATOR__NOT:
        node = filter_combine(reader->arena, FILTER_NOT);
        break;
    default:
        fault(reader, invalid("filter.op", "a logical operator is missing, or not known"));
        return NULL;
    }
    for (size_t i = 0; i < composite->n_filters && reader->err.code == ERR_OK; i++) {
        struct filter_node *child = read_node(reader, composite->filters[i], depth + 1);

        if (child != NULL)
            filter_add(node, child);
    }
    return node;
}

static struct filter_node *read_json(struct reader *reader, const char *text)
{
    struct filter_node *node = NULL;
    struct err err = filter_from_json(reader->arena, slice_str(text), reader->limits, &node);

    if (err.code != ERR_OK)
        fault(reader, err);
    return node;
}

static struct filter_node *read_node(struct reader *reader, const pb_filter *message,
                                     uint32_t depth)
{
    if (depth > reader->limits->max_depth) {
        fault(reader, invalid("filter", "nested deeper than the limit allows"));
        return NULL;
    }
    switch (message->kind_case) {
    case PRISM__PATTERNS__MULTICAST_REGISTRY__FILTER__KIND_FIELD:
        return read_field(reader, message->field);
    case PRISM__PATTERNS__MULTICAST_REGISTRY__FILTER__KIND_COMPOSITE:
        return read_composite(reader, message->composite, depth);
    case PRISM__PATTERNS__MULTICAST_REGISTRY__FILTER__KIND_JSON:
        return read_json(reader, message->json);
    default:
        fault(reader, invalid("filter", "a filter without a kind"));
        return NULL;
    }
}

struct err multicast_filter(struct arena *arena, const pb_filter *message,
                            const struct filter_limits *limits, const struct filter **out)
{
    struct reader reader = {.arena = arena, .limits = limits};
    struct filter_node *root;

    *out = NULL;
    if (message == NULL)
        return ERR_NONE;
    root = read_node(&reader, message, 1);
    return reader.err.code != ERR_OK ? reader.err : filter_compile(arena, root, limits, out);
}
