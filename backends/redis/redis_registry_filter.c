/* Filters as words of the script of pages, in prefix form:
 *
 *   & n .., | n ..   the n that follow, joined        !   not the one that follows
 *   0                nothing matches
 *   a condition      number of the operator; m, i or t (metadata, identity, tags); number of names;
 *                    for each name its key (length and hash, as in a document) and itself; then
 *                    EXISTS: 1 or 0. TYPE: number of the type. IN, NOT_IN: number of elements, and
 *                    these. Others: the value. Values are encoded.
 *
 * Of an AND whose conditions are not all for redis, those that are thin the candidates out. */
#include "backends/redis/redis_registry.h"

#include <stdio.h>

static bool is_native(const struct filter_node *node)
{
    if (node->kind == FILTER_CONDITION)
        return (REDIS_REGISTRY_OPS & FILTER_BIT(node->op)) != 0;
    for (const struct filter_node *child = node->first; child != NULL; child = child->next) {
        if (!is_native(child))
            return false;
    }
    return true;
}

/* ---- words, which are counted first and said then: call NULL counts ---- */

struct words {
    struct redis_call *call;
    unsigned n;
    size_t bytes;
};

static void word(struct words *words, struct slice text)
{
    words->n++;
    words->bytes += text.len;
    if (words->call != NULL)
        redis_word(words->call, text);
}

static void number(struct words *words, uint64_t value)
{
    char text[24];

    snprintf(text, sizeof text, "%llu", (unsigned long long)value);
    word(words, slice_str(text));
}

static uint64_t elements_of(struct slice list)
{
    struct document_walk walk = document_walk(list);
    uint64_t n = 0;

    while (document_next(&walk))
        n++;
    return n;
}

static void value(struct words *words, const struct filter_node *node)
{
    struct document_walk walk;

    switch (node->op) {
    case FILTER_EXISTS:
        number(words, document_type_of(node->value) == DOCUMENT_TRUE);
        return;
    case FILTER_TYPE:
        number(words, filter_type_named(document_payload(node->value)));
        return;
    case FILTER_IN:
    case FILTER_NOT_IN:
        number(words, elements_of(node->value));
        walk = document_walk(node->value);
        while (document_next(&walk))
            word(words, walk.value);
        return;
    default:
        word(words, node->value);
        return;
    }
}

static void condition(struct words *words, const struct filter_node *node)
{
    static const char *const places[] = {
        [FILTER_METADATA] = "m", [FILTER_IDENTITY] = "i", [FILTER_TAGS] = "t"};

    number(words, node->op);
    word(words, slice_str(places[node->place]));
    number(words, node->names_n);
    for (size_t i = 0; i < node->names_n; i++) {
        struct slice name = node->names[i];

        number(words, name.len | (uint64_t)document_name_hash(name) << 16);
        word(words, name);
    }
    value(words, node);
}

static void say_node(struct words *words, const struct filter_node *node)
{
    uint64_t n = 0;

    for (const struct filter_node *child = node->first; child != NULL; child = child->next)
        n++;
    switch (node->kind) {
    case FILTER_AND:
    case FILTER_OR:
        word(words, slice_str(node->kind == FILTER_AND ? "&" : "|"));
        number(words, n);
        break;
    case FILTER_NOT:
        word(words, slice_str("!"));
        break;
    case FILTER_NEVER:
        word(words, slice_str("0"));
        break;
    case FILTER_CONDITION:
        condition(words, node);
        break;
    }
    for (const struct filter_node *child = node->first; child != NULL; child = child->next)
        say_node(words, child);
}

static void say_part(struct words *words, const struct redis_registry_filter *part)
{
    number(words, part->n_hints);
    for (size_t i = 0; i < part->n_hints; i++) {
        word(words, part->hints[i]->names[0]);
        word(words, part->hints[i]->value);
    }
    if (part->n == 0)
        return;
    word(words, slice_str("&"));
    number(words, part->n);
    for (size_t i = 0; i < part->n; i++)
        say_node(words, part->nodes[i]);
}

/* ---- for pages ---- */

static void add_hints(struct redis_registry_filter *part, const struct filter_node *node)
{
    if (node->kind == FILTER_CONDITION && node->op == FILTER_EQUALS &&
        node->place == FILTER_METADATA && node->names_n == 1 &&
        part->n_hints < REDIS_REGISTRY_HINTS)
        part->hints[part->n_hints++] = node;
    for (const struct filter_node *child = node->kind == FILTER_AND ? node->first : NULL;
         child != NULL; child = child->next)
        add_hints(part, child);
}

void redis_registry_split(const struct filter *filter, struct redis_registry_filter *part)
{
    const struct filter_node *root = filter != NULL ? filter_root(filter) : NULL;
    struct words words = {0};

    part->n = part->n_hints = 0;
    if (root != NULL)
        add_hints(part, root);
    part->whole = root == NULL || is_native(root);
    if (root != NULL && part->whole) {
        part->nodes[part->n++] = root;
    } else if (root != NULL && root->kind == FILTER_AND) {
        for (const struct filter_node *child = root->first;
             child != NULL && part->n < ARRAY_LEN(part->nodes); child = child->next) {
            if (is_native(child))
                part->nodes[part->n++] = child;
        }
    }
    say_part(&words, part);
    part->words = words.n;
    part->bytes = words.bytes;
}

void redis_registry_say_filter(struct redis_call *call, const struct redis_registry_filter *part)
{
    struct words words = {.call = call};

    say_part(&words, part);
}
