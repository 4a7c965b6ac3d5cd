/* Conditions on identities: checked once, compiled once, evaluated without allocation. The meaning
 * of each operator: docs/patterns/multicast_registry.md, "Filters". A backend that evaluates
 * filters itself walks the tree (filter_root) and must give the same answers, to the last corner:
 * tests/contract/registry_contract.h compares them.
 *
 *   JSON text ------ filter_from_json --\
 *                                        tree of struct filter_node -- filter_compile -- filter
 *   protocol form -- filter_condition --/
 *
 * Budget: a filter takes at most about 16 times filter_limits.max_bytes in its arena, and
 * FILTER_REGEX_BYTES for each regular expression beside it. */
#ifndef PRISM_FILTER_FILTER_H
#define PRISM_FILTER_FILTER_H

#include "src/base/arena.h"
#include "src/base/err.h"
#include "src/base/slice.h"
#include "src/filter/document.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* X(name, number in the protocol, suffix in JSON) */
#define FILTER_OPS(X)                                                                              \
    X(EQUALS, 1, "eq")                                                                             \
    X(NOT_EQUALS, 2, "ne")                                                                         \
    X(GREATER_THAN, 3, "gt")                                                                       \
    X(GREATER_THAN_OR_EQUALS, 4, "gte")                                                            \
    X(LESS_THAN, 5, "lt")                                                                          \
    X(LESS_THAN_OR_EQUALS, 6, "lte")                                                               \
    X(IN, 7, "in")                                                                                 \
    X(NOT_IN, 8, "nin")                                                                            \
    X(CONTAINS, 9, "contains")                                                                     \
    X(STARTS_WITH, 10, "startswith")                                                               \
    X(ENDS_WITH, 11, "endswith")                                                                   \
    X(EXISTS, 12, "exists")                                                                        \
    X(REGEX, 13, "regex")                                                                          \
    X(TYPE, 14, "type")                                                                            \
    X(GLOB, 15, "glob")

enum filter_op {
    FILTER_OP_NONE,
#define X(NAME, number, suffix) FILTER_##NAME = (number),
    FILTER_OPS(X)
#undef X
        FILTER_OP_COUNT
};

/* Sets of operators: bit (1 << op). */
#define FILTER_BIT(op) (1u << (op))
#define FILTER_ALL_OPS ((1u << FILTER_OP_COUNT) - 2)

enum filter_kind {
    FILTER_AND,       /* of its children; none: true */
    FILTER_OR,        /* none: false */
    FILTER_NOT,       /* of its one child */
    FILTER_CONDITION, /* on one field */
    FILTER_NEVER      /* false: a condition that nothing can meet. Only in compiled trees */
};

enum filter_place {
    FILTER_METADATA, /* names[] lead into the document */
    FILTER_IDENTITY, /* "$identity": the identity's name, a string */
    FILTER_TAGS      /* "$tags": the list of its tags */
};

/* An integer beyond 2^53 may lie between two doubles; the value of a condition is then the nearest
 * one. A compiled tree is exact throughout: filter_compile chooses operator and value so that the
 * answers are those for the integer itself. */
enum filter_rounding { FILTER_EXACT, FILTER_ROUNDED_UP, FILTER_ROUNDED_DOWN };

struct filter_node {
    enum filter_kind kind;
    struct filter_node *next;  /* the sibling */
    struct filter_node *first; /* child of AND, OR, NOT */
    struct filter_node **last; /* private: where filter_add puts the next one */
    /* ---- FILTER_CONDITION ---- */
    enum filter_op op;
    enum filter_place place;
    struct slice *names; /* FILTER_METADATA: the path, one name or more */
    size_t names_n;
    /* What to compare with, encoded: IN, NOT_IN a list; EXISTS a bool; TYPE, REGEX, GLOB,
     * STARTS_WITH, ENDS_WITH a string; the four orders a number or a string; EQUALS, NOT_EQUALS,
     * CONTAINS any value. */
    struct slice value;
    enum filter_rounding rounding;
};

struct filter_limits {
    uint32_t max_depth;         /* a single condition has depth 1 */
    uint32_t max_clauses;       /* conditions */
    uint32_t max_elements;      /* of the lists of IN and NOT_IN, all together */
    uint32_t max_pattern_bytes; /* of one REGEX or GLOB */
    size_t max_bytes;           /* of JSON text; of all names and values together */
};

/* Depth 5, 20 conditions, 1,000 elements, 256 bytes of pattern, 64 KiB. */
struct filter_limits filter_limits_default(void);

enum {
    FILTER_PATH_NAMES = DOCUMENT_DEPTH,
    FILTER_REGEX_BYTES = 256 << 10 /* memory of one regular expression, at most */
};

/* ---- trees; nodes and what they refer to live in the arena ---- */

struct filter_node *filter_combine(struct arena *arena, enum filter_kind kind);
void filter_add(struct filter_node *parent, struct filter_node *child); /* O(1) for each */

/* One condition. path: names with dots between them, "$identity" or "$tags"; a backslash takes a
 * dot, a dollar sign or a backslash as part of a name. ERR_INVALID_ARGUMENT about "filter.field":
 * an empty path or name, or an unknown "$name". The value is borrowed, encoded. */
struct err filter_condition(struct arena *arena, struct slice path, enum filter_op op,
                            struct slice value, struct filter_node **out);

/* {"role": "admin", "age.gte": 18, "$or": [{..}, ..]}: a plain path tests for EQUALS; its last name
 * may be one of ne, gt, gte, lt, lte, in, contains, startswith, endswith, regex, exists, or any
 * operator's suffix with a dollar sign before it ("device.$type"), for which no field can be
 * mistaken. "$and" and "$or" take a list of objects, "$not" one object. The value "*" stands for
 * anything present. ERR_INVALID_ARGUMENT about "filter.json". */
struct err filter_from_json(struct arena *arena, struct slice json,
                            const struct filter_limits *limits, struct filter_node **out);

/* ---- programs ---- */

struct filter;

/* Checks all bounds and values, and compiles. The filter lives in the arena and refers to what the
 * tree refers to, which must stay as it is. ERR_INVALID_ARGUMENT about "filter" or a part of it. */
struct err filter_compile(struct arena *arena, const struct filter_node *root,
                          const struct filter_limits *limits, const struct filter **out);

/* What is looked at. document: a struct; tags: a list of strings; both encoded and valid. */
struct filter_subject {
    struct slice identity, document, tags;
};

/* Allocates nothing, in time linear in the subject for each condition (GLOB: times the pattern's
 * length). thread: any; several at once. */
bool filter_match(const struct filter *filter, const struct filter_subject *subject);

/* The tree, normalised: every value is exact, a GLOB that says no more has become EQUALS,
 * STARTS_WITH, ENDS_WITH or TYPE, and conditions that nothing can meet are FILTER_NEVER. */
const struct filter_node *filter_root(const struct filter *filter);

/* The operators in filter_root: bits of FILTER_BIT. */
uint32_t filter_ops(const struct filter *filter);

/* "GREATER_THAN"; never NULL. */
const char *filter_op_name(enum filter_op op);

/* The type named by the value of TYPE: one of the six names. DOCUMENT_TRUE stands for both bools;
 * DOCUMENT_TYPES: no such name. */
enum document_type filter_type_named(struct slice name);

#endif
