/* A scan's cursor as text: "rs1." and the hex of
 *
 *   check 8   within 1   at 8   [ next 8   count 4   last ... ]
 *
 * in octets, numbers big-endian; what is in brackets is there only if `within` is 1.
 *
 * The check is part of a SHA-1 over scope and contents. It is no secret: it finds cursors that were
 * cut, edited or made for another namespace or prefix. A cursor that somebody computes by hand
 * still reads nothing outside its namespace, because the prefix comes from the request and redis
 * accepts any number as a cursor. */
#include "backends/redis/redis_text.h"

static const char magic[] = "rs1.";

enum { MAGIC = 4, CHECK = 8, HEAD = 9, WITHIN = HEAD + 12 };

static uint8_t *put_number(uint8_t *at, uint64_t value, unsigned bytes)
{
    for (unsigned i = 0; i < bytes; i++)
        *at++ = (uint8_t)(value >> 8 * (bytes - 1 - i));
    return at;
}

static uint64_t get_number(const uint8_t *at, unsigned bytes)
{
    uint64_t value = 0;

    for (unsigned i = 0; i < bytes; i++)
        value = value << 8 | at[i];
    return value;
}

static void check_of(struct slice scope, struct slice contents, uint8_t check[CHECK])
{
    uint8_t digest[REDIS_SHA1_BYTES], length[8];
    struct redis_sha1 sha1;

    put_number(length, scope.len, sizeof length);
    redis_sha1_init(&sha1);
    redis_sha1_add(&sha1, slice_of(magic, MAGIC));
    redis_sha1_add(&sha1, slice_of(length, sizeof length));
    redis_sha1_add(&sha1, scope);
    redis_sha1_add(&sha1, contents);
    redis_sha1_finish(&sha1, digest);
    memcpy(check, digest, CHECK);
}

struct slice redis_cursor_encode(struct arena *arena, struct slice scope,
                                 const struct redis_cursor *cursor)
{
    static const char digits[] = "0123456789abcdef";
    size_t n = CHECK + (cursor->within ? WITHIN + cursor->last.len : HEAD);
    uint8_t *raw = arena_alloc(arena, n), *at = raw + CHECK;
    char *text = arena_alloc(arena, MAGIC + 2 * n);

    *at++ = cursor->within;
    at = put_number(at, cursor->at, 8);
    if (cursor->within) {
        at = put_number(at, cursor->next, 8);
        at = put_number(at, cursor->count, 4);
        if (cursor->last.len > 0)
            memcpy(at, cursor->last.data, cursor->last.len);
    }
    check_of(scope, slice_of(raw + CHECK, n - CHECK), raw);
    memcpy(text, magic, MAGIC);
    for (size_t i = 0; i < n; i++) {
        text[MAGIC + 2 * i] = digits[raw[i] >> 4];
        text[MAGIC + 2 * i + 1] = digits[raw[i] & 15];
    }
    return slice_of(text, MAGIC + 2 * n);
}

static int digit_of(uint8_t c)
{
    if (c >= '0' && c <= '9')
        return c - '0';
    return c >= 'a' && c <= 'f' ? c - 'a' + 10 : -1;
}

/* NULL: not hex. */
static uint8_t *unhex(struct arena *arena, struct slice text)
{
    uint8_t *raw = arena_alloc(arena, text.len / 2);

    for (size_t i = 0; i < text.len / 2; i++) {
        int high = digit_of(text.data[2 * i]), low = digit_of(text.data[2 * i + 1]);

        if (high < 0 || low < 0)
            return NULL;
        raw[i] = (uint8_t)(high << 4 | low);
    }
    return raw;
}

bool redis_cursor_decode(struct arena *arena, struct slice scope, struct slice text,
                         struct redis_cursor *cursor)
{
    uint8_t check[CHECK];

    if (!slice_starts_with(text, slice_of(magic, MAGIC)) || text.len % 2 != 0)
        return false;
    text = slice_of(text.data + MAGIC, text.len - MAGIC);

    size_t n = text.len / 2;
    const uint8_t *raw = n < CHECK + HEAD ? NULL : unhex(arena, text);

    if (raw == NULL)
        return false;

    const uint8_t *at = raw + CHECK;

    if (at[0] > 1 || n < CHECK + (at[0] ? WITHIN : HEAD) || (at[0] == 0 && n != CHECK + HEAD))
        return false;
    check_of(scope, slice_of(at, n - CHECK), check);
    if (memcmp(check, raw, CHECK) != 0)
        return false;
    *cursor = (struct redis_cursor){.at = get_number(at + 1, 8), .within = at[0]};
    if (cursor->within) {
        cursor->next = get_number(at + HEAD, 8);
        cursor->count = (uint32_t)get_number(at + HEAD + 8, 4);
        cursor->last = slice_of(at + WITHIN, n - CHECK - WITHIN);
    }
    return true;
}
