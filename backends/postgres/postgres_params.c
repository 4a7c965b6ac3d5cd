#include "backends/postgres/postgres_params.h"

#include <assert.h>
#include <string.h>

enum { ARRAY_HEAD = 20, LENGTH = 4 };

static uint8_t *put_number(uint8_t *at, uint64_t value, unsigned bytes)
{
    for (unsigned i = 0; i < bytes; i++)
        *at++ = (uint8_t)(value >> 8 * (bytes - 1 - i));
    return at;
}

/* NULL would be SQL's NULL. */
void postgres_add(struct postgres_params *params, struct slice bytes)
{
    assert(params->n < POSTGRES_PARAMS);
    params->values[params->n] = bytes.len > 0 ? (const char *)bytes.data : "";
    params->lengths[params->n++] = (int)bytes.len;
    params->bytes += bytes.len + LENGTH;
}

static void add_number(struct postgres_params *params, uint64_t value, unsigned bytes)
{
    uint8_t *number = arena_alloc(params->arena, bytes);

    put_number(number, value, bytes);
    postgres_add(params, slice_of(number, bytes));
}

void postgres_add_int4(struct postgres_params *params, int32_t number)
{
    add_number(params, (uint32_t)number, 4);
}

void postgres_add_int8(struct postgres_params *params, int64_t number)
{
    add_number(params, (uint64_t)number, 8);
}

void postgres_set_int8(struct postgres_params *params, int at, int64_t number)
{
    uint8_t *bytes = arena_alloc(params->arena, 8);

    put_number(bytes, (uint64_t)number, 8);
    params->values[at] = (const char *)bytes;
    params->lengths[at] = 8;
}

void postgres_add_bool(struct postgres_params *params, bool value)
{
    add_number(params, value, 1);
}

void postgres_add_float8(struct postgres_params *params, double number)
{
    uint64_t bits;

    memcpy(&bits, &number, sizeof bits);
    add_number(params, bits, 8);
}

/* Dimensions, whether there are NULLs (which is not looked at), type; length and first index of the
 * one dimension. An empty array has no dimension. */
struct postgres_array postgres_add_array(struct postgres_params *params, enum postgres_oid type,
                                         size_t n, size_t bytes)
{
    size_t len = n > 0 ? ARRAY_HEAD + n * LENGTH + bytes : ARRAY_HEAD - 8;
    uint8_t *array = arena_alloc(params->arena, len), *at = array;

    at = put_number(at, n > 0, 4);
    at = put_number(at, 1, 4);
    at = put_number(at, type, 4);
    if (n > 0) {
        at = put_number(at, n, 4);
        at = put_number(at, 1, 4);
    }
    postgres_add(params, slice_of(array, len));
    return (struct postgres_array){.at = at};
}

void postgres_element(struct postgres_array *array, struct slice bytes)
{
    array->at = put_number(array->at, bytes.len, LENGTH);
    if (bytes.len > 0)
        memcpy(array->at, bytes.data, bytes.len);
    array->at += bytes.len;
}

void postgres_element_int8(struct postgres_array *array, int64_t number)
{
    array->at = put_number(array->at, 8, LENGTH);
    array->at = put_number(array->at, (uint64_t)number, 8);
}

void postgres_element_null(struct postgres_array *array)
{
    array->at = put_number(array->at, UINT32_MAX, LENGTH);
}
