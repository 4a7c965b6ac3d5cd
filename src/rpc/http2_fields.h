/* What kind of content each header list of a connection declares: gRPC's, another, or none. gRPC C
 * core takes `content-type` away before anybody above it sees the call, so it is looked for in the
 * bytes of HPACK.
 *
 * No table of fields is kept, and nothing is decoded: of each field that the client has put into
 * the dynamic table, two bits tell whether its name is `content-type`, and whether its value is
 * another's. The table has 4096 bytes at most, a field in it 32 at least, so the last
 * FIELDS_KEPT are all that can be named. What names a field that has left the table ends the
 * connection, by gRPC. Strings are compared as they are sent, plain or in Huffman's code, which has
 * one form for each. */
#ifndef PRISM_RPC_HTTP2_FIELDS_H
#define PRISM_RPC_HTTP2_FIELDS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum { FIELDS_KEPT = 4096 / 32, FIELD_PEEK = 20 };

struct fields { /* private */
    uint64_t typed[FIELDS_KEPT / 64], foreign[FIELDS_KEPT / 64];
    uint32_t inserted;
    uint8_t state, shift;
    uint8_t lead;   /* bytes before the list */
    bool in_number; /* more bytes of it follow */
    bool keeps;     /* the field goes into the table */
    bool is_type;   /* its name is content-type */
    bool huffman;
    bool grpc, foreign_too; /* what this list has declared so far */
    uint32_t number;        /* or what is left of the string */
    uint32_t length;        /* of the string */
    uint8_t peek[FIELD_PEEK];
};

/* A header list begins behind so many bytes, whatever became of the last one. */
static inline void fields_begin(struct fields *fields, uint8_t lead)
{
    fields->lead = lead;
    fields->state = 0;
    fields->in_number = fields->grpc = fields->foreign_too = false;
}

/* Looks at the next bytes of the list, cut anywhere. */
void fields_take(struct fields *fields, const uint8_t *bytes, size_t len);

/* The list is complete: it declares gRPC's content type, and no other. */
static inline bool fields_are_grpc(const struct fields *fields)
{
    return fields->grpc && !fields->foreign_too;
}

#endif
