/* An arena for the tests of a program. */
#ifndef PRISM_TESTS_UNIT_ONE_ARENA_H
#define PRISM_TESTS_UNIT_ONE_ARENA_H

#include "src/base/arena.h"

static struct arena arena;

static inline int begin(void **state)
{
    (void)state;
    arena_init(&arena, NULL);
    return 0;
}

static inline int end(void **state)
{
    (void)state;
    arena_clear(&arena);
    return 0;
}

#endif
