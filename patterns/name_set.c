#include "patterns/name_set.h"

#include <stdlib.h>

static int by_bytes(const void *a, const void *b)
{
    return slice_compare(*(const struct slice *)a, *(const struct slice *)b);
}

void name_set_make(struct name_set *set)
{
    size_t kept = 0;

    if (set->n > 0)
        qsort(set->names, set->n, sizeof *set->names, by_bytes);
    for (size_t i = 0; i < set->n; i++) {
        if (kept == 0 || !slice_equal(set->names[i], set->names[kept - 1]))
            set->names[kept++] = set->names[i];
    }
    set->n = kept;
}

struct name_set name_set_of_texts(struct arena *arena, char *const *texts, size_t n)
{
    struct name_set set = {.names = arena_array(arena, n, sizeof *set.names), .n = n};

    for (size_t i = 0; i < n; i++)
        set.names[i] = slice_str(texts[i]);
    name_set_make(&set);
    return set;
}

size_t name_set_find(const struct name_set *set, struct slice name)
{
    const struct slice *at =
        set->n > 0 ? bsearch(&name, set->names, set->n, sizeof *set->names, by_bytes) : NULL;

    return at != NULL ? (size_t)(at - set->names) : set->n;
}
