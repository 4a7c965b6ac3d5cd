/* A compiled filter: conditions in the order of the tree, each with the place to go on at for
 * either answer. */
#ifndef PRISM_FILTER_PROGRAM_H
#define PRISM_FILTER_PROGRAM_H

#include "src/filter/filter.h"
#include "src/filter/regex.h"

/* Places that are no steps. */
enum { PROGRAM_FALSE, PROGRAM_TRUE, PROGRAM_STEPS };

struct filter_step {
    uint8_t op, place;
    uint8_t type;         /* of the value; TYPE: the one that it names */
    bool direct;          /* EQUALS of a field at the top: no lookup by path */
    uint16_t on[2];       /* where to go on for false and for true */
    uint32_t key;         /* of the first name: its length, and its hash << 16 */
    uint32_t elements;    /* of IN and NOT_IN */
    const uint8_t *field; /* the first name and, if direct, the value behind it */
    uint64_t header;      /* direct: what stands before them in a document */
    struct slice value;   /* encoded */
    struct slice payload; /* of it */
    const struct slice *names;
    size_t names_n;
    union {
        double number;
        const struct slice *sorted; /* IN, NOT_IN: whole values, by length and bytes */
        const struct regex *regex;
        bool wanted; /* EXISTS */
    };
};

struct filter {
    const struct filter_node *root;
    uint32_t ops;
    uint16_t entry;
    bool direct;                /* it is one such step */
    struct filter_step steps[]; /* the first is number PROGRAM_STEPS */
};

static inline uint32_t program_key(struct slice name)
{
    return (uint32_t)name.len | (uint32_t)document_name_hash(name) << 16;
}

/* The order of filter_step.sorted. */
static inline int program_order(struct slice a, struct slice b)
{
    return a.len != b.len ? (a.len < b.len ? -1 : 1) : memcmp(a.data, b.data, a.len);
}

#endif
