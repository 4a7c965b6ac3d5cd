/* Documents: what an identity is registered with, typed as JSON is, in one canonical encoding.
 *
 * A value is a type octet and its payload; whoever holds it knows its length.
 *
 *   null, false, true   no payload
 *   number              8 bytes: an IEEE double, little-endian; never NaN or infinite, never -0
 *   string              UTF-8 without U+0000
 *   list                elements: u32 length of the value, value
 *   struct              fields, ascending by the bytes of their names, each name once:
 *                       u16 length of the name, u16 hash of the name, u32 length of name and value
 *                       together, name, value
 *
 * Numbers are little-endian and unaligned. Two values are equal exactly when their bytes are. All
 * registries keep and return the encoding as it is; it has no version of its own, because whoever
 * stores it marks what it stores. Numbers are doubles because google.protobuf.Struct knows no
 * others. */
#ifndef PRISM_FILTER_DOCUMENT_H
#define PRISM_FILTER_DOCUMENT_H

#include "src/base/arena.h"
#include "src/base/err.h"
#include "src/base/slice.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum document_type {
    DOCUMENT_NULL,
    DOCUMENT_FALSE,
    DOCUMENT_TRUE,
    DOCUMENT_NUMBER,
    DOCUMENT_STRING,
    DOCUMENT_LIST,
    DOCUMENT_STRUCT,
    DOCUMENT_TYPES
};

enum {
    DOCUMENT_DEPTH = 32,       /* containers within each other, the outermost included */
    DOCUMENT_NAME_BYTES = 255, /* longest name of a field */
    DOCUMENT_NUMBER_CHARS = 32
};

/* ---- writing ---- */

/* Builds one value in an arena. The first fault is kept, and what follows it is ignored, so that
 * callers look at document_finish only. */
struct document_writer {
    struct arena *arena;
    uint8_t *bytes;
    size_t len, room, max_bytes;
    struct document_open {
        size_t header;   /* where the container's own length stands; SIZE_MAX: the outermost */
        size_t content;  /* where its first element begins */
        size_t previous; /* where the last field begins; SIZE_MAX: none */
        bool fields, sorted;
    } open[DOCUMENT_DEPTH];
    unsigned depth;
    struct slice name; /* of the next value */
    bool named, ended;
    struct err err;
};

/* max_bytes bounds the whole value. Memory: at most twice that in the arena. */
void document_start(struct document_writer *writer, struct arena *arena, size_t max_bytes);

/* Before each value within a struct. A name that comes again replaces what it named before. */
void document_name(struct document_writer *writer, struct slice name);

void document_null(struct document_writer *writer);
void document_bool(struct document_writer *writer, bool value);
void document_number(struct document_writer *writer, double value);
void document_string(struct document_writer *writer, struct slice text);
void document_value(struct document_writer *writer, struct slice value); /* encoded and valid */

/* type: DOCUMENT_LIST or DOCUMENT_STRUCT. */
void document_begin(struct document_writer *writer, enum document_type type);
void document_end(struct document_writer *writer);

/* The value, in the arena. ERR_INVALID_ARGUMENT, subject NULL, with a static text: too large, too
 * deep, a number that is not finite, a string that is not UTF-8 or holds U+0000, a name that is too
 * long. */
struct err document_finish(struct document_writer *writer, struct slice *out);

/* The struct of no fields: what an identity without metadata has. Static. */
struct slice document_empty(void);

/* The list of these strings. Errors as document_finish. */
struct err document_of_strings(struct arena *arena, const struct slice *strings, size_t n,
                               size_t max_bytes, struct slice *out);

/* ---- reading; no allocation, thread: any ---- */

/* Is this a value in the canonical encoding? To be asked of what comes from outside the process,
 * before anything else is done with it. */
bool document_valid(struct slice value);

static inline enum document_type document_type_of(struct slice value)
{
    return (enum document_type)value.data[0];
}

/* Payload of a string, list or struct. */
static inline struct slice document_payload(struct slice value)
{
    return slice_of(value.data + 1, value.len - 1);
}

double document_number_of(struct slice value); /* of a DOCUMENT_NUMBER */

/* Walks a list or a struct. */
struct document_walk {
    struct slice rest;
    bool fields;
    struct slice name, value; /* the current one; name: of a field */
};

struct document_walk document_walk(struct slice container);
bool document_next(struct document_walk *walk); /* false: no more */

/* The field of a struct; false: absent, or `value` is no struct. */
bool document_field(struct slice value, struct slice name, struct slice *field);

uint16_t document_name_hash(struct slice name);

/* ---- changing ---- */

/* The fields of `changes` set in `base`, both structs: a null takes the field away, all others stay
 * (top level only). Errors as document_finish. */
struct err document_merge(struct arena *arena, struct slice base, struct slice changes,
                          size_t max_bytes, struct slice *out);

/* ---- JSON ---- */

/* Errors as document_finish, and for text that is not JSON. A number is the nearest double. */
struct err document_from_json(struct arena *arena, struct slice json, size_t max_bytes,
                              struct slice *out);

/* RFC 8259, without blanks; numbers as document_number_text writes them. In the arena. */
struct slice document_to_json(struct arena *arena, struct slice value);

/* The fewest digits, but 15 at least, that give the same double, without zeros at the end; returns
 * the length. These texts, taken as exact decimals, are ordered as the doubles are. */
size_t document_number_text(double number, char text[DOCUMENT_NUMBER_CHARS]);

#endif
