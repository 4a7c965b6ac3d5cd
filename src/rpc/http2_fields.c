#include "src/rpc/http2_fields.h"

#include <string.h>

/* RFC 7541, 6: the first bits of a field tell what follows. */
enum { INDEXED = 0x80, LITERAL_KEPT = 0x40, TABLE_SIZE = 0x20, HUFFMAN = 0x80 };
enum { TYPE_INDEX = 31 /* content-type, without a value */, STATIC_FIELDS = 61, MAX_SHIFT = 28 };

enum state { FIELD, INDEX, SIZE, NAME_INDEX, NAME_LENGTH, NAME, VALUE_LENGTH, VALUE };

static const char type_name[] = "content-type";
static const uint8_t type_name_coded[] = {0x21, 0xea, 0x49, 0x6a, 0x4a, 0xc9, 0xf5, 0x59, 0x7f};
static const char grpc_type[] = "application/grpc";
static const uint8_t grpc_type_coded[] = {0x1d, 0x75, 0xd0, 0x62, 0x0d, 0x26,
                                          0x3d, 0x4c, 0x4d, 0x65, 0x64};

/* ---- the dynamic table ---- */

static void remember(struct fields *f, bool foreign)
{
    uint32_t at = f->inserted++ % FIELDS_KEPT;
    uint64_t bit = (uint64_t)1 << at % 64;

    f->typed[at / 64] = f->is_type ? f->typed[at / 64] | bit : f->typed[at / 64] & ~bit;
    f->foreign[at / 64] = foreign ? f->foreign[at / 64] | bit : f->foreign[at / 64] & ~bit;
}

static bool in_table(const struct fields *f, const uint64_t *bits, uint32_t index)
{
    uint32_t age = index - STATIC_FIELDS; /* 1: the last one */

    if (index <= STATIC_FIELDS || age > FIELDS_KEPT || age > f->inserted)
        return false;

    uint32_t at = (f->inserted - age) % FIELDS_KEPT;

    return (bits[at / 64] >> at % 64 & 1) != 0;
}

/* ---- strings ---- */

static bool is(const struct fields *f, const void *text, size_t len)
{
    return f->length == len && memcmp(f->peek, text, len) == 0;
}

static bool names_type(const struct fields *f)
{
    return f->huffman ? is(f, type_name_coded, sizeof type_name_coded)
                      : is(f, type_name, sizeof type_name - 1);
}

/* application/grpc, or that and `+` or `;` with more. The code of the first ends with a byte. */
static bool is_grpc(const struct fields *f)
{
    size_t n = f->huffman ? sizeof grpc_type_coded : sizeof grpc_type - 1;
    const void *text = f->huffman ? (const void *)grpc_type_coded : grpc_type;
    const uint8_t *next = f->peek + n;

    if (f->length < n || memcmp(f->peek, text, n) != 0)
        return false;
    if (f->length == n)
        return true;
    if (!f->huffman)
        return *next == '+' || *next == ';';
    return *next == 0xfb || (f->length > n + 1 && *next == 0xff && next[1] >> 5 == 3);
}

/* ---- one field after the other ---- */

static void declare(struct fields *f, bool foreign)
{
    f->grpc |= !foreign;
    f->foreign_too |= foreign;
}

static void end_value(struct fields *f)
{
    bool foreign = f->is_type && !is_grpc(f);

    if (f->keeps)
        remember(f, foreign);
    if (f->is_type)
        declare(f, foreign);
    f->state = FIELD;
}

static void end_string(struct fields *f)
{
    if (f->state == VALUE) {
        end_value(f);
        return;
    }
    f->is_type = names_type(f);
    f->state = VALUE_LENGTH;
}

static void end_index(struct fields *f)
{
    if (f->number == TYPE_INDEX)
        declare(f, true);
    else if (in_table(f, f->typed, f->number))
        declare(f, in_table(f, f->foreign, f->number));
    f->state = FIELD;
}

static void end_name_index(struct fields *f)
{
    f->is_type = f->number == TYPE_INDEX || in_table(f, f->typed, f->number);
    f->state = f->number == 0 ? NAME_LENGTH : VALUE_LENGTH;
}

static void end_length(struct fields *f)
{
    f->state = f->state == NAME_LENGTH ? NAME : VALUE;
    f->length = f->number;
    if (f->number == 0)
        end_string(f);
}

static void end_number(struct fields *f)
{
    if (f->state == INDEX)
        end_index(f);
    else if (f->state == NAME_INDEX)
        end_name_index(f);
    else if (f->state == NAME_LENGTH || f->state == VALUE_LENGTH)
        end_length(f);
    else
        f->state = FIELD; /* the table's size */
}

/* Of a number, RFC 7541, 5.1: the low bits of a byte, and more bytes if these are all set. */
static void begin_number(struct fields *f, uint8_t byte, uint8_t mask)
{
    f->number = byte & mask;
    f->shift = 0;
    f->in_number = f->number == mask;
    if (!f->in_number)
        end_number(f);
}

static void go_on_number(struct fields *f, uint8_t byte)
{
    if (f->shift <= MAX_SHIFT) { /* more is an error, which gRPC finds */
        f->number += (uint32_t)(byte & 0x7f) << f->shift;
        f->shift = (uint8_t)(f->shift + 7);
    }
    f->in_number = byte >> 7 != 0;
    if (!f->in_number)
        end_number(f);
}

static void begin_field(struct fields *f, uint8_t byte)
{
    f->keeps = (byte & (INDEXED | LITERAL_KEPT)) == LITERAL_KEPT;
    if ((byte & INDEXED) != 0) {
        f->state = INDEX;
        begin_number(f, byte, 0x7f);
    } else if (!f->keeps && (byte & TABLE_SIZE) != 0) {
        f->state = SIZE;
        begin_number(f, byte, 0x1f);
    } else {
        f->state = NAME_INDEX;
        begin_number(f, byte, f->keeps ? 0x3f : 0x0f);
    }
}

static void take_byte(struct fields *f, uint8_t byte)
{
    if (f->in_number) {
        go_on_number(f, byte);
    } else if (f->state == FIELD) {
        begin_field(f, byte);
    } else { /* a string's length is all that else begins here */
        f->huffman = (byte & HUFFMAN) != 0;
        begin_number(f, byte, 0x7f);
    }
}

static size_t take_string(struct fields *f, const uint8_t *bytes, size_t len)
{
    size_t have = f->length - f->number, n = f->number < len ? f->number : len;

    if (have < FIELD_PEEK)
        memcpy(f->peek + have, bytes, n < FIELD_PEEK - have ? n : FIELD_PEEK - have);
    f->number -= (uint32_t)n;
    if (f->number == 0)
        end_string(f);
    return n;
}

void fields_take(struct fields *f, const uint8_t *bytes, size_t len)
{
    while (len > 0) {
        size_t n = 1;

        if (f->lead > 0)
            f->lead--;
        else if (f->state == NAME || f->state == VALUE)
            n = take_string(f, bytes, len);
        else
            take_byte(f, *bytes);
        bytes += n;
        len -= n;
    }
}
