/* Building trees of conditions. */
#include "src/filter/filter.h"

#include "src/base/utf8.h"

struct filter_limits filter_limits_default(void)
{
    return (struct filter_limits){.max_depth = 5,
                                  .max_clauses = 20,
                                  .max_elements = 1000,
                                  .max_pattern_bytes = 256,
                                  .max_bytes = 64 << 10};
}

const char *filter_op_name(enum filter_op op)
{
    static const char *const names[FILTER_OP_COUNT] = {
#define X(NAME, number, suffix) [FILTER_##NAME] = #NAME,
        FILTER_OPS(X)
#undef X
    };

    return op > FILTER_OP_NONE && op < FILTER_OP_COUNT ? names[op] : "NONE";
}

enum document_type filter_type_named(struct slice name)
{
    static const char *const names[DOCUMENT_TYPES] = {
        [DOCUMENT_NULL] = "null",     [DOCUMENT_TRUE] = "bool", [DOCUMENT_NUMBER] = "number",
        [DOCUMENT_STRING] = "string", [DOCUMENT_LIST] = "list", [DOCUMENT_STRUCT] = "struct"};

    for (int type = 0; type < DOCUMENT_TYPES; type++) {
        if (names[type] != NULL && slice_equal(name, slice_str(names[type])))
            return (enum document_type)type;
    }
    return DOCUMENT_TYPES;
}

struct filter_node *filter_combine(struct arena *arena, enum filter_kind kind)
{
    struct filter_node *node = arena_zalloc(arena, sizeof *node);

    node->kind = kind;
    node->last = &node->first;
    return node;
}

void filter_add(struct filter_node *parent, struct filter_node *child)
{
    *parent->last = child;
    parent->last = &child->next;
}

static struct err about_field(const char *text)
{
    return err_about(ERR_INVALID_ARGUMENT, "filter.field", text);
}

/* The names of a path, without backslashes. *n: at most FILTER_PATH_NAMES. */
static struct err split(struct arena *arena, struct slice path, struct slice *names, size_t *n)
{
    uint8_t *out = arena_alloc(arena, path.len);
    size_t len = 0, from = 0;

    *n = 0;
    for (size_t i = 0; i <= path.len; i++) {
        if (i < path.len && path.data[i] != '.') {
            if (path.data[i] == '\\' && ++i == path.len)
                return about_field("the path ends with a backslash");
            out[len++] = path.data[i];
            continue;
        }
        if (len == from)
            return about_field("a name of the path is empty");
        if (*n == FILTER_PATH_NAMES)
            return about_field("the path has more than 32 names");
        if (len - from > DOCUMENT_NAME_BYTES)
            return about_field("a name of the path is longer than 255 bytes");
        names[(*n)++] = slice_of(out + from, len - from);
        from = len;
    }
    return ERR_NONE;
}

struct err filter_condition(struct arena *arena, struct slice path, enum filter_op op,
                            struct slice value, struct filter_node **out)
{
    struct filter_node *node = filter_combine(arena, FILTER_CONDITION);
    struct slice names[FILTER_PATH_NAMES];
    struct err err = ERR_NONE;

    node->op = op;
    node->value = value;
    *out = node;
    if (!utf8_valid(path))
        return about_field("the path is not UTF-8");
    if (slice_equal(path, slice_str("$identity"))) {
        node->place = FILTER_IDENTITY;
    } else if (slice_equal(path, slice_str("$tags"))) {
        node->place = FILTER_TAGS;
    } else if (path.len > 0 && path.data[0] == '$') {
        err = about_field("of the names with a dollar sign there are $identity and $tags");
    } else {
        err = split(arena, path, names, &node->names_n);
        if (err.code == ERR_OK) {
            node->names = arena_array(arena, node->names_n, sizeof *names);
            memcpy(node->names, names, node->names_n * sizeof *names);
        }
    }
    return err;
}
