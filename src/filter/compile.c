/* From a tree to a program: bounds and values are checked and the tree is brought into its normal
 * form (normalise), then steps are made of its conditions (emit). */
#include "src/base/utf8.h"
#include "src/filter/glob.h"
#include "src/filter/program.h"

#include <stdlib.h>

enum { CLAUSES_MAX = 1000 /* rows are emitted by recursion; steps have 16-bit numbers */ };

struct compiler {
    struct arena *arena;
    struct filter_limits limits;
    uint32_t clauses, elements, ops;
    size_t bytes;
    struct filter *filter;
    uint32_t free; /* steps not made yet */
    struct err err;
};

static void fault(struct compiler *compiler, const char *subject, const char *text)
{
    if (compiler->err.code == ERR_OK)
        compiler->err = err_about(ERR_INVALID_ARGUMENT, subject, text);
}

/* ---- values ---- */

static bool is(struct slice value, enum document_type type)
{
    return value.len > 0 && document_type_of(value) == type;
}

static void check_list(struct compiler *compiler, struct slice value)
{
    if (!is(value, DOCUMENT_LIST)) {
        fault(compiler, "filter.value", "IN and NOT_IN take a list");
        return;
    }

    struct document_walk walk = document_walk(value);

    while (document_next(&walk)) {
        if (++compiler->elements > compiler->limits.max_elements) {
            fault(compiler, "filter.value", "more elements in lists than the limit allows");
            return;
        }
    }
}

static void check_pattern(struct compiler *compiler, enum filter_op op, struct slice pattern)
{
    const char *text = NULL;

    if (pattern.len > compiler->limits.max_pattern_bytes)
        text = "a pattern is longer than the limit allows";
    else if (op == FILTER_GLOB)
        text = glob_fault(pattern);
    if (text != NULL)
        fault(compiler, "filter.value", text);
}

static void check_value(struct compiler *compiler, const struct filter_node *node)
{
    const char *text = NULL;

    switch (node->op) {
    case FILTER_EQUALS:
    case FILTER_NOT_EQUALS:
    case FILTER_CONTAINS:
        text = node->value.len > 0 ? NULL : "a value is missing";
        break;
    case FILTER_GREATER_THAN:
    case FILTER_GREATER_THAN_OR_EQUALS:
    case FILTER_LESS_THAN:
    case FILTER_LESS_THAN_OR_EQUALS:
        if (!is(node->value, DOCUMENT_NUMBER) && !is(node->value, DOCUMENT_STRING))
            text = "comparisons take a number or a string";
        break;
    case FILTER_IN:
    case FILTER_NOT_IN:
        check_list(compiler, node->value);
        return;
    case FILTER_EXISTS:
        if (!is(node->value, DOCUMENT_FALSE) && !is(node->value, DOCUMENT_TRUE))
            text = "EXISTS takes a bool";
        break;
    case FILTER_STARTS_WITH:
    case FILTER_ENDS_WITH:
    case FILTER_REGEX:
    case FILTER_TYPE:
    case FILTER_GLOB:
        if (!is(node->value, DOCUMENT_STRING))
            text = "the operator takes a string";
        else if (node->op == FILTER_REGEX || node->op == FILTER_GLOB)
            check_pattern(compiler, node->op, document_payload(node->value));
        else if (node->op == FILTER_TYPE &&
                 filter_type_named(document_payload(node->value)) == DOCUMENT_TYPES)
            text = "TYPE takes null, bool, number, string, list or struct";
        break;
    case FILTER_OP_NONE:
    case FILTER_OP_COUNT:
        fault(compiler, "filter.op", "no operator");
        return;
    }
    if (text != NULL)
        fault(compiler, "filter.value", text);
}

/* ---- the normal form ---- */

static struct slice encoded_string(struct compiler *compiler, struct slice text)
{
    uint8_t *value = arena_alloc(compiler->arena, 1 + text.len);

    value[0] = DOCUMENT_STRING;
    if (text.len > 0)
        memcpy(value + 1, text.data, text.len);
    return slice_of(value, 1 + text.len);
}

static void plain_glob(struct compiler *compiler, struct filter_node *node)
{
    struct slice text;

    switch (glob_shape(compiler->arena, document_payload(node->value), &text)) {
    case GLOB_GENERAL:
        return;
    case GLOB_ANY:
        node->op = FILTER_TYPE;
        text = slice_str("string");
        break;
    case GLOB_WHOLE:
        node->op = FILTER_EQUALS;
        break;
    case GLOB_START:
        node->op = FILTER_STARTS_WITH;
        break;
    case GLOB_END:
        node->op = FILTER_ENDS_WITH;
        break;
    }
    node->value = encoded_string(compiler, text);
}

/* No field equals an integer between two doubles; in the orders the neighbour stands for it. */
static void exact(struct filter_node *node)
{
    static const uint8_t yes[] = {DOCUMENT_TRUE};
    bool up = node->rounding == FILTER_ROUNDED_UP;

    if (node->rounding == FILTER_EXACT)
        return;
    node->rounding = FILTER_EXACT;
    switch (node->op) {
    case FILTER_NOT_EQUALS:
        node->op = FILTER_EXISTS;
        node->value = slice_of(yes, sizeof yes);
        return;
    case FILTER_GREATER_THAN:
    case FILTER_GREATER_THAN_OR_EQUALS:
        node->op = up ? FILTER_GREATER_THAN_OR_EQUALS : FILTER_GREATER_THAN;
        return;
    case FILTER_LESS_THAN:
    case FILTER_LESS_THAN_OR_EQUALS:
        node->op = up ? FILTER_LESS_THAN : FILTER_LESS_THAN_OR_EQUALS;
        return;
    default:
        node->kind = FILTER_NEVER;
        return;
    }
}

static void count(struct compiler *compiler, const struct filter_node *node)
{
    compiler->bytes += node->value.len;
    for (size_t i = 0; i < node->names_n; i++)
        compiler->bytes += node->names[i].len;
    if (++compiler->clauses > compiler->limits.max_clauses)
        fault(compiler, "filter", "more conditions than the limit allows");
    if (compiler->bytes > compiler->limits.max_bytes)
        fault(compiler, "filter", "larger than the limit allows");
}

static struct filter_node *condition(struct compiler *compiler, const struct filter_node *node)
{
    struct filter_node *made = arena_alloc(compiler->arena, sizeof *made);

    *made = *node;
    made->next = NULL;
    count(compiler, node);
    check_value(compiler, node);
    if (compiler->err.code != ERR_OK)
        return made;
    if (made->op == FILTER_GLOB)
        plain_glob(compiler, made);
    exact(made);
    if (made->kind == FILTER_CONDITION)
        compiler->ops |= FILTER_BIT(made->op);
    return made;
}

static struct filter_node *normalise(struct compiler *compiler, const struct filter_node *node,
                                     uint32_t depth)
{
    if (depth > compiler->limits.max_depth)
        fault(compiler, "filter", "nested deeper than the limit allows");
    if (node->kind == FILTER_CONDITION)
        return condition(compiler, node);

    struct filter_node *made = filter_combine(compiler->arena, node->kind);

    for (const struct filter_node *child = node->first;
         child != NULL && compiler->err.code == ERR_OK; child = child->next)
        filter_add(made, normalise(compiler, child, depth + 1));
    if (node->first == NULL)
        count(compiler, node); /* a constant: it takes room, too */
    if (node->kind == FILTER_NOT && (node->first == NULL || node->first->next != NULL))
        fault(compiler, "filter", "NOT takes exactly one filter");
    return made;
}

/* ---- steps ---- */

static int by_order(const void *a, const void *b)
{
    return program_order(*(const struct slice *)a, *(const struct slice *)b);
}

static void sort_elements(struct compiler *compiler, struct filter_step *step, struct slice value)
{
    struct document_walk walk = document_walk(value);
    struct slice *sorted;
    uint32_t n = 0;

    while (document_next(&walk))
        n++;
    sorted = arena_array(compiler->arena, n, sizeof *sorted);
    walk = document_walk(value);
    for (uint32_t i = 0; document_next(&walk); i++)
        sorted[i] = walk.value;
    qsort(sorted, n, sizeof *sorted, by_order);
    step->elements = n;
    step->sorted = sorted;
}

static void compile_regex(struct compiler *compiler, struct filter_step *step)
{
    char why[160];
    struct regex *regex = regex_new((const char *)step->payload.data, step->payload.len,
                                    FILTER_REGEX_BYTES, why, sizeof why);

    if (regex == NULL) {
        fault(compiler, "filter.value",
              arena_printf(compiler->arena, "the regular expression does not compile: %s", why));
        return;
    }
    arena_adopt(compiler->arena, regex, regex_destroy);
    step->regex = regex;
}

static void make_direct(struct compiler *compiler, struct filter_step *step,
                        const struct filter_node *node)
{
    struct slice name = node->names[0];
    uint8_t *field = arena_alloc(compiler->arena, name.len + node->value.len);

    memcpy(field, name.data, name.len);
    memcpy(field + name.len, node->value.data, node->value.len);
    step->direct = true;
    step->field = field;
    step->header = step->key | (uint64_t)(name.len + node->value.len) << 32;
}

static void fill(struct compiler *compiler, struct filter_step *step,
                 const struct filter_node *node)
{
    *step = (struct filter_step){.op = (uint8_t)node->op,
                                 .place = (uint8_t)node->place,
                                 .type = (uint8_t)document_type_of(node->value),
                                 .names = node->names,
                                 .names_n = node->names_n,
                                 .value = node->value,
                                 .payload = document_payload(node->value)};
    if (node->place == FILTER_METADATA) {
        step->key = program_key(node->names[0]);
        step->field = node->names[0].data;
    }
    if (node->op == FILTER_EQUALS && node->names_n == 1)
        make_direct(compiler, step, node);
    if (step->op == FILTER_IN || step->op == FILTER_NOT_IN)
        sort_elements(compiler, step, node->value);
    else if (step->op == FILTER_REGEX)
        compile_regex(compiler, step);
    else if (step->op == FILTER_TYPE)
        step->type = (uint8_t)filter_type_named(step->payload);
    else if (step->op == FILTER_EXISTS)
        step->wanted = step->type == DOCUMENT_TRUE;
    else if (step->type == DOCUMENT_NUMBER)
        step->number = document_number_of(node->value);
}

static uint16_t emit(struct compiler *compiler, const struct filter_node *node, uint16_t on_false,
                     uint16_t on_true);

/* The children from this one on, joined by AND or OR. */
static uint16_t emit_row(struct compiler *compiler, const struct filter_node *child, bool all,
                         uint16_t on_false, uint16_t on_true)
{
    if (child == NULL)
        return all ? on_true : on_false;

    uint16_t rest = emit_row(compiler, child->next, all, on_false, on_true);

    return all ? emit(compiler, child, on_false, rest) : emit(compiler, child, rest, on_true);
}

/* Steps are made from the last to the first, because each has to know where to go on. Returns the
 * place where the node begins. */
static uint16_t emit(struct compiler *compiler, const struct filter_node *node, uint16_t on_false,
                     uint16_t on_true)
{
    struct filter_step *step;

    switch (node->kind) {
    case FILTER_AND:
    case FILTER_OR:
        return emit_row(compiler, node->first, node->kind == FILTER_AND, on_false, on_true);
    case FILTER_NOT:
        return emit(compiler, node->first, on_true, on_false);
    case FILTER_NEVER:
        break;
    case FILTER_CONDITION:
        step = &compiler->filter->steps[--compiler->free];
        fill(compiler, step, node);
        step->on[false] = on_false;
        step->on[true] = on_true;
        return (uint16_t)(compiler->free + PROGRAM_STEPS);
    }
    return on_false;
}

struct err filter_compile(struct arena *arena, const struct filter_node *root,
                          const struct filter_limits *limits, const struct filter **out)
{
    struct compiler compiler = {.arena = arena, .limits = *limits};

    if (compiler.limits.max_clauses > CLAUSES_MAX)
        compiler.limits.max_clauses = CLAUSES_MAX;

    const struct filter_node *made = normalise(&compiler, root, 1);

    if (compiler.err.code != ERR_OK)
        return compiler.err;
    compiler.free = compiler.clauses;
    compiler.filter = arena_alloc(arena, sizeof *compiler.filter +
                                             compiler.clauses * sizeof *compiler.filter->steps);
    compiler.filter->root = made;
    compiler.filter->ops = compiler.ops;
    compiler.filter->entry = emit(&compiler, made, PROGRAM_FALSE, PROGRAM_TRUE);
    compiler.filter->direct = made->kind == FILTER_CONDITION && compiler.filter->steps[0].direct;
    *out = compiler.filter;
    return compiler.err;
}

const struct filter_node *filter_root(const struct filter *filter)
{
    return filter->root;
}

uint32_t filter_ops(const struct filter *filter)
{
    return filter->ops;
}
