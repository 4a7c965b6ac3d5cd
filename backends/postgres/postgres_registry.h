/* What the registry's files share. */
#ifndef PRISM_BACKENDS_POSTGRES_POSTGRES_REGISTRY_H
#define PRISM_BACKENDS_POSTGRES_POSTGRES_REGISTRY_H

#include "backends/postgres/postgres_call.h"
#include "backends/registry.h"

extern const struct registry postgres_registry;

void postgres_registry_patch(struct backend *backend, struct registry_patch *patch);
void postgres_registry_page(struct backend *backend, struct registry_page *page);
void postgres_registry_count(struct backend *backend, struct registry_count *count);

/* What an empty slice stands for: no fields, no tags. */
struct slice postgres_registry_or_empty(struct slice value, enum document_type type);

/* The refusals that several methods have. */
struct err postgres_registry_absent(void);
struct err postgres_registry_other(void);

/* ---- filters as SQL (postgres_filter.c) ---- */

/* Operators that postgres evaluates; the others are evaluated here on what it sends. Its regular
 * expressions are not RE2's. */
#define POSTGRES_FILTER_OPS (FILTER_ALL_OPS & ~FILTER_BIT(FILTER_REGEX))

/* Of what is longer, postgres would take seconds over a slice of rows; it is evaluated here. */
bool postgres_glob_is_cheap(struct slice pattern);

/* A glob as a regular expression of postgres, for `~`; in the arena. */
struct slice postgres_glob(struct arena *arena, struct slice pattern);

/* Conditions on a row of identities, for behind an AND; in the arena of params, which take what
 * they compare with. Both hold for each row that matches. */
struct postgres_where {
    const char *lookups; /* what an index finds; "" if there is nothing of the kind */
    const char *test;
    bool exact; /* the test holds for no other row */
};

/* by_index: the lookups are written so that the planner can tell what an index saves. */
struct postgres_where postgres_where_of(const struct filter *filter, struct postgres_params *params,
                                        bool by_index);

#endif
