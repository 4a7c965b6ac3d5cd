#include "tests/contract/registry_reference.h"

#include <assert.h>
#include <fnmatch.h>
#include <locale.h>
#include <math.h>
#include <regex.h>
#include <stdlib.h>

static bool same(struct slice a, struct slice b);

static bool same_struct(struct slice a, struct slice b)
{
    struct document_walk walk = document_walk(a);
    struct slice field;
    unsigned n = 0, m = 0;

    while (document_next(&walk)) {
        n++;
        if (!document_field(b, walk.name, &field) || !same(walk.value, field))
            return false;
    }
    walk = document_walk(b);
    while (document_next(&walk))
        m++;
    return n == m;
}

static bool same_list(struct slice a, struct slice b)
{
    struct document_walk x = document_walk(a), y = document_walk(b);

    for (;;) {
        bool more_x = document_next(&x), more_y = document_next(&y);

        if (!more_x || !more_y)
            return more_x == more_y;
        if (!same(x.value, y.value))
            return false;
    }
}

static bool same(struct slice a, struct slice b)
{
    if (document_type_of(a) != document_type_of(b))
        return false;
    switch (document_type_of(a)) {
    case DOCUMENT_NUMBER:
        return document_number_of(a) == document_number_of(b);
    case DOCUMENT_STRING:
        return slice_equal(document_payload(a), document_payload(b));
    case DOCUMENT_LIST:
        return same_list(a, b);
    case DOCUMENT_STRUCT:
        return same_struct(a, b);
    default:
        return true;
    }
}

/* Where an integer lies that is not the double that stands for it: half a step beside it. */
static int compare_numbers(double field, double value, enum filter_rounding rounding)
{
    if (field != value)
        return field < value ? -1 : 1;
    return rounding == FILTER_EXACT ? 0 : rounding == FILTER_ROUNDED_UP ? 1 : -1;
}

static bool ordered(const struct filter_node *node, struct slice field)
{
    int order;

    if (document_type_of(field) != document_type_of(node->value))
        return false;
    if (document_type_of(field) == DOCUMENT_NUMBER)
        order = compare_numbers(document_number_of(field), document_number_of(node->value),
                                node->rounding);
    else
        order = slice_compare(document_payload(field), document_payload(node->value));
    switch (node->op) {
    case FILTER_GREATER_THAN:
        return order > 0;
    case FILTER_GREATER_THAN_OR_EQUALS:
        return order >= 0;
    case FILTER_LESS_THAN:
        return order < 0;
    default:
        return order <= 0;
    }
}

static char *text_of(struct slice text)
{
    char *copy = malloc(text.len + 1);

    assert(copy != NULL);
    if (text.len > 0)
        memcpy(copy, text.data, text.len);
    copy[text.len] = '\0';
    return copy;
}

/* The C library's own, in its locale of UTF-8: another program altogether. */
static bool by_library(const struct filter_node *node, struct slice text)
{
    char *pattern = text_of(document_payload(node->value)), *subject = text_of(text);
    regex_t compiled;
    bool found;

    if (node->op == FILTER_GLOB) {
        found = fnmatch(pattern, subject, 0) == 0;
    } else {
        int error = regcomp(&compiled, pattern, REG_EXTENDED | REG_NOSUB);

        assert(error == 0);
        found = regexec(&compiled, subject, 0, NULL, 0) == 0;
        regfree(&compiled);
    }
    free(pattern);
    free(subject);
    return found;
}

static bool text_holds(const struct filter_node *node, struct slice field)
{
    struct slice text = document_payload(field), wanted = document_payload(node->value);

    if (document_type_of(field) != DOCUMENT_STRING)
        return false;
    switch (node->op) {
    case FILTER_STARTS_WITH:
        return wanted.len <= text.len && slice_equal(slice_of(text.data, wanted.len), wanted);
    case FILTER_ENDS_WITH:
        return wanted.len <= text.len &&
               slice_equal(slice_of(text.data + text.len - wanted.len, wanted.len), wanted);
    case FILTER_CONTAINS:
        for (size_t i = 0; i + wanted.len <= text.len; i++) {
            if (slice_equal(slice_of(text.data + i, wanted.len), wanted))
                return true;
        }
        return false;
    default:
        return by_library(node, text);
    }
}

static bool among(struct slice list, struct slice value)
{
    struct document_walk walk = document_walk(list);

    while (document_next(&walk)) {
        if (same(walk.value, value))
            return true;
    }
    return false;
}

static bool contains(const struct filter_node *node, struct slice field)
{
    if (document_type_of(field) == DOCUMENT_LIST)
        return node->rounding == FILTER_EXACT && among(field, node->value);
    return document_type_of(node->value) == DOCUMENT_STRING && text_holds(node, field);
}

static bool typed(const struct filter_node *node, struct slice field)
{
    static const char *const names[] = {"null",   "bool", "bool",  "number",
                                        "string", "list", "struct"};

    return slice_equal(document_payload(node->value), slice_str(names[document_type_of(field)]));
}

static bool present_holds(const struct filter_node *node, struct slice field)
{
    bool equal = node->rounding == FILTER_EXACT && same(field, node->value);

    switch (node->op) {
    case FILTER_EQUALS:
        return equal;
    case FILTER_NOT_EQUALS:
        return !equal;
    case FILTER_IN:
        return among(node->value, field);
    case FILTER_NOT_IN:
        return !among(node->value, field);
    case FILTER_CONTAINS:
        return contains(node, field);
    case FILTER_TYPE:
        return typed(node, field);
    case FILTER_STARTS_WITH:
    case FILTER_ENDS_WITH:
    case FILTER_REGEX:
    case FILTER_GLOB:
        return text_holds(node, field);
    default:
        return ordered(node, field);
    }
}

/* The identity as a value, in memory that is freed after the comparison. */
static bool identity_holds(const struct filter_node *node, struct slice identity)
{
    uint8_t *value = malloc(identity.len + 1);
    bool holds;

    assert(value != NULL);
    value[0] = DOCUMENT_STRING;
    memcpy(value + 1, identity.data, identity.len);
    holds = present_holds(node, slice_of(value, identity.len + 1));
    free(value);
    return holds;
}

static bool condition(const struct filter_node *node, const struct filter_subject *subject)
{
    struct slice field = subject->document;
    bool present = true;

    for (size_t i = 0; present && i < node->names_n; i++)
        present = document_field(field, node->names[i], &field);
    if (node->place == FILTER_TAGS)
        field = subject->tags;
    if (node->op == FILTER_EXISTS)
        return present == (document_type_of(node->value) == DOCUMENT_TRUE);
    if (node->place == FILTER_IDENTITY)
        return identity_holds(node, subject->identity);
    return present && present_holds(node, field);
}

bool reference_match(const struct filter_node *node, const struct filter_subject *subject)
{
    bool all = true, any = false;

    for (const struct filter_node *child = node->first; child != NULL; child = child->next) {
        bool holds = reference_match(child, subject);

        all = all && holds;
        any = any || holds;
    }
    switch (node->kind) {
    case FILTER_AND:
        return all;
    case FILTER_OR:
        return any;
    case FILTER_NOT:
        return !any;
    case FILTER_CONDITION:
        return condition(node, subject);
    case FILTER_NEVER:
        break;
    }
    return false;
}
