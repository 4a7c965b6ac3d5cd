/* Names of a request as a set: a request may name many, and what is held may be much; so each of
 * those is looked up among these. thread: any, one at a time. */
#ifndef PRISM_PATTERNS_NAME_SET_H
#define PRISM_PATTERNS_NAME_SET_H

#include "src/base/arena.h"

struct name_set {
    struct slice *names; /* in the order of their bytes, each once */
    size_t n;
};

/* Sorts the names where they are, and drops repetitions. */
void name_set_make(struct name_set *set);

/* Of texts that live as long as the set. */
struct name_set name_set_of_texts(struct arena *arena, char *const *texts, size_t n);

/* set->n: it is not there. */
size_t name_set_find(const struct name_set *set, struct slice name);

#endif
