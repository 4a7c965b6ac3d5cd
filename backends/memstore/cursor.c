/* A cursor is a position, printable: "m1-" 7 hex digits "-" 16 hex digits of a keyed checksum, and,
 * if the page ended between keys with the same tag, "-" and the last key in hex. The checksum
 * covers the prefix too and its key is the store's own: what another store, an earlier process or
 * another scan has handed out is refused like a forgery, instead of leading to some place in the
 * wrong order. */
#include "backends/memstore/store.h"

enum {
    POSITION_DIGITS = 7,
    SUM_DIGITS = 16,
    MAGIC_BYTES = 3,
    HEAD_BYTES = MAGIC_BYTES + POSITION_DIGITS + 1 + SUM_DIGITS,
};

static const char magic[] = "m1-";
static const char digits[] = "0123456789abcdef";

static uint64_t checksum(const struct memstore *store, struct slice prefix,
                         const struct memstore_position *position, struct arena *arena)
{
    uint64_t head[2] = {position->at | (position->inside ? 1ull << 32 : 0), position->after.len};
    size_t len = sizeof head + position->after.len + prefix.len;
    uint8_t *text = arena_alloc(arena, len);

    memcpy(text, head, sizeof head);
    if (position->after.len > 0)
        memcpy(text + sizeof head, position->after.data, position->after.len);
    if (prefix.len > 0)
        memcpy(text + sizeof head + position->after.len, prefix.data, prefix.len);
    return hash_bytes(&store->cursor_hash, slice_of(text, len));
}

static char *put_number(char *out, uint64_t number, unsigned n)
{
    for (unsigned i = n; i-- > 0; number >>= 4)
        out[i] = digits[number & 15];
    return out + n;
}

struct slice cursor_write(const struct memstore *store, struct slice prefix,
                          const struct memstore_position *position, struct arena *arena)
{
    size_t len = HEAD_BYTES + (position->inside ? 1 + 2 * position->after.len : 0);
    char *text = arena_alloc(arena, len), *out = text + MAGIC_BYTES;

    memcpy(text, magic, MAGIC_BYTES);
    out = put_number(out, position->at, POSITION_DIGITS);
    *out++ = '-';
    out = put_number(out, checksum(store, prefix, position, arena), SUM_DIGITS);
    if (position->inside) {
        *out++ = '-';
        for (size_t i = 0; i < position->after.len; i++)
            out = put_number(out, position->after.data[i], 2);
    }
    return slice_of(text, len);
}

static bool read_number(const uint8_t *text, unsigned n, uint64_t *number)
{
    *number = 0;
    for (unsigned i = 0; i < n; i++) {
        const char *digit = text[i] == '\0' ? NULL : strchr(digits, text[i]);

        if (digit == NULL)
            return false;
        *number = *number << 4 | (uint64_t)(digit - digits);
    }
    return true;
}

static bool read_key(struct slice hex, struct arena *arena, struct slice *key)
{
    uint64_t byte = 0;

    if (hex.len % 2 != 0 || hex.len / 2 > ENTRY_KEY_MAX)
        return false;

    uint8_t *bytes = arena_alloc(arena, hex.len / 2);

    for (size_t i = 0; i < hex.len; i += 2) {
        if (!read_number(hex.data + i, 2, &byte))
            return false;
        bytes[i / 2] = (uint8_t)byte;
    }
    *key = slice_of(bytes, hex.len / 2);
    return true;
}

static bool read_parts(struct slice cursor, struct memstore_position *position, uint64_t *sum,
                       struct arena *arena)
{
    const uint8_t *at = cursor.data + MAGIC_BYTES, *dash = at + POSITION_DIGITS;
    uint64_t number = 0;

    if (cursor.len < HEAD_BYTES || memcmp(cursor.data, magic, MAGIC_BYTES) != 0 || *dash != '-')
        return false;
    if (!read_number(at, POSITION_DIGITS, &number) || !read_number(dash + 1, SUM_DIGITS, sum))
        return false;
    position->at = (uint32_t)number;
    position->inside = cursor.len > HEAD_BYTES;
    if (!position->inside)
        return true;
    return cursor.data[HEAD_BYTES] == '-' &&
           read_key(slice_of(cursor.data + HEAD_BYTES + 1, cursor.len - HEAD_BYTES - 1), arena,
                    &position->after);
}

struct err cursor_read(const struct memstore *store, struct slice prefix, struct slice cursor,
                       struct memstore_position *position, struct arena *arena)
{
    uint64_t sum = 0;

    *position = (struct memstore_position){0};
    if (cursor.len == 0)
        return ERR_NONE;
    if (read_parts(cursor, position, &sum, arena) &&
        sum == checksum(store, prefix, position, arena))
        return ERR_NONE;
    return err_about(ERR_INVALID_ARGUMENT, "cursor",
                     "not a cursor of this scan: start again without one");
}
