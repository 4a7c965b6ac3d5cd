/* The few pieces of the protobuf wire format that a load client needs. Requests are written by hand
 * because a generated encoder would cost the client more than the rest of the call, and because a
 * client that shares no code with the server also checks the server's encoding.
 *
 * thread: any, no state.       errors: the writers cannot fail, their caller sizes the buffer;
 * the reader reports malformed input. */
#ifndef PRISM_PERF_LOAD_WIRE_H
#define PRISM_PERF_LOAD_WIRE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum { WIRE_VARINT_MAX = 10, WIRE_TAG_MAX = 5 };

/* Each writer returns the first byte after what it wrote. Field numbers are below 16 here, so a tag
 * is one byte. */
uint8_t *wire_put_varint(uint8_t *out, uint64_t value);
uint8_t *wire_put_uint(uint8_t *out, unsigned field, uint64_t value);
uint8_t *wire_put_bytes(uint8_t *out, unsigned field, const void *data, size_t bytes);
/* Tag and length of a length-delimited field whose content the caller appends. */
uint8_t *wire_put_length(uint8_t *out, unsigned field, size_t bytes);

/* Bytes that wire_put_varint(value) writes. */
size_t wire_varint_bytes(uint64_t value);

struct wire_reader {
    const uint8_t *at, *end;
    bool malformed;
};

struct wire_field {
    unsigned number;
    uint64_t value; /* of a varint; 0 otherwise */
    const uint8_t
        *data; /* of a length-delimited field, inside the reader's input; NULL otherwise */
    size_t bytes;
};

void wire_read(struct wire_reader *r, const uint8_t *data, size_t bytes);

/* Steps to the next field of the message; false at its end and, with r->malformed set, at a fault.
 */
bool wire_next(struct wire_reader *r, struct wire_field *field);

#endif
