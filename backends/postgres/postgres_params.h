/* Parameters of one statement, in PostgreSQL's binary formats. What they are made of lives in the
 * arena; slices are borrowed until the statement is sent. */
#ifndef PRISM_BACKENDS_POSTGRES_POSTGRES_PARAMS_H
#define PRISM_BACKENDS_POSTGRES_POSTGRES_PARAMS_H

#include "src/base/arena.h"
#include "src/base/slice.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum { POSTGRES_PARAMS = 100 };

enum postgres_oid { POSTGRES_BYTEA = 17, POSTGRES_INT8 = 20, POSTGRES_TEXT = 25 };

struct postgres_params {
    struct arena *arena;
    int n;
    size_t bytes; /* of all */
    const char *values[POSTGRES_PARAMS];
    int lengths[POSTGRES_PARAMS];
};

static inline void postgres_params_init(struct postgres_params *params, struct arena *arena)
{
    params->arena = arena;
    params->n = 0;
    params->bytes = 0;
}

void postgres_add(struct postgres_params *params, struct slice bytes);
void postgres_add_int4(struct postgres_params *params, int32_t number);
void postgres_add_int8(struct postgres_params *params, int64_t number);
/* Another number in place of the one that was added as number `at`, from 0. */
void postgres_set_int8(struct postgres_params *params, int at, int64_t number);
void postgres_add_bool(struct postgres_params *params, bool value);
void postgres_add_float8(struct postgres_params *params, double number);

/* An array of n elements of `bytes` octets together; its elements follow by postgres_element. */
struct postgres_array {
    uint8_t *at;
};

struct postgres_array postgres_add_array(struct postgres_params *params, enum postgres_oid type,
                                         size_t n, size_t bytes);
void postgres_element(struct postgres_array *array, struct slice bytes);
void postgres_element_int8(struct postgres_array *array, int64_t number);
void postgres_element_null(struct postgres_array *array);

#endif
