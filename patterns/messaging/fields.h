/* The fields of a message as they stand on the wire, for frames that are written without a struct
 * of the general encoder: each field is looked at once for its size, once to be written.
 *
 * Numbers of fields are below 16, so that each takes one byte with its type. The writers return the
 * end. */
#ifndef PRISM_PATTERNS_MESSAGING_FIELDS_H
#define PRISM_PATTERNS_MESSAGING_FIELDS_H

#include "src/base/slice.h"
#include "src/base/utf8.h"
#include "src/base/varint.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum { FIELD_NUMBER = 0, FIELD_BYTES = 2 }; /* types */

/* ---- fields that are there, whatever is in them ---- */

static inline size_t field_value_bytes(int64_t value)
{
    return 1 + varint_bytes((uint64_t)value);
}

static inline uint8_t *field_write_value(uint8_t *at, unsigned field, int64_t value)
{
    *at++ = (uint8_t)(field << 3 | FIELD_NUMBER);
    return varint_write(at, (uint64_t)value);
}

static inline size_t field_content_bytes(size_t len)
{
    return 1 + varint_bytes(len) + len;
}

/* The content has to follow. */
static inline uint8_t *field_write_length(uint8_t *at, unsigned field, size_t len)
{
    *at++ = (uint8_t)(field << 3 | FIELD_BYTES);
    return varint_write(at, len);
}

static inline uint8_t *field_append(uint8_t *at, struct slice bytes)
{
    if (bytes.len > 0)
        memcpy(at, bytes.data, bytes.len);
    return at + bytes.len;
}

static inline uint8_t *field_write_content(uint8_t *at, unsigned field, struct slice bytes)
{
    return field_append(field_write_length(at, field, bytes.len), bytes);
}

/* ---- fields that are absent where they are 0 or empty ---- */

static inline size_t field_number_bytes(int64_t value)
{
    return value != 0 ? field_value_bytes(value) : 0;
}

static inline uint8_t *field_write_number(uint8_t *at, unsigned field, int64_t value)
{
    return value != 0 ? field_write_value(at, field, value) : at;
}

static inline size_t field_bytes_bytes(struct slice bytes)
{
    return bytes.len > 0 ? field_content_bytes(bytes.len) : 0;
}

static inline uint8_t *field_write_bytes(uint8_t *at, unsigned field, struct slice bytes)
{
    return bytes.len > 0 ? field_write_content(at, field, bytes) : at;
}

/* ---- texts, and headers ---- */

/* Others may have written what cannot be a text of the protocol. */
static inline bool field_is_text(struct slice bytes)
{
    return bytes.len == 0 || (utf8_valid(bytes) && memchr(bytes.data, 0, bytes.len) == NULL);
}

enum { HEADER_NAME = 1, HEADER_VALUE = 2 }; /* of schemas.Header */

/* What stands in the header's own message. name: a text. value: null is absent. */
static inline size_t field_header_bytes(struct slice name, struct slice value)
{
    return field_bytes_bytes(name) + (value.data != NULL ? field_content_bytes(value.len) : 0);
}

static inline uint8_t *field_write_header(uint8_t *at, unsigned field, struct slice name,
                                          struct slice value)
{
    at = field_write_length(at, field, field_header_bytes(name, value));
    at = field_write_bytes(at, HEADER_NAME, name);
    return value.data != NULL ? field_write_content(at, HEADER_VALUE, value) : at;
}

#endif
