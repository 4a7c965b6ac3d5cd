/* Headers in one column: of each the length and bytes of its name, then of its value; a value that
 * is null has the length NULL_VALUE. Lengths are 4 octets, little-endian. */
#include "backends/postgres/postgres_queue.h"

#include <string.h>

enum { LENGTH = 4 };

#define NULL_VALUE UINT32_MAX

size_t postgres_headers_bytes(const struct header *headers, size_t n)
{
    size_t bytes = 0;

    for (size_t i = 0; i < n; i++)
        bytes += 2 * LENGTH + headers[i].name.len + headers[i].value.len;
    return bytes;
}

static uint8_t *put(uint8_t *to, struct slice bytes, bool null)
{
    uint32_t len = null ? NULL_VALUE : (uint32_t)bytes.len;

    for (unsigned i = 0; i < LENGTH; i++)
        *to++ = (uint8_t)(len >> 8 * i);
    if (bytes.len > 0)
        memcpy(to, bytes.data, bytes.len);
    return to + bytes.len;
}

uint8_t *postgres_headers_put(uint8_t *to, const struct header *headers, size_t n)
{
    for (size_t i = 0; i < n; i++) {
        to = put(to, headers[i].name, false);
        to = put(to, headers[i].value, message_is_null(headers[i].value));
    }
    return to;
}

static bool get(struct arena *arena, struct slice *rest, struct slice *out)
{
    uint32_t len = 0;

    if (rest->len < LENGTH)
        return false;
    for (unsigned i = 0; i < LENGTH; i++)
        len |= (uint32_t)rest->data[i] << 8 * i;
    *rest = slice_of(rest->data + LENGTH, rest->len - LENGTH);
    *out = message_null();
    if (len == NULL_VALUE)
        return true;
    if (len > rest->len)
        return false;
    *out = message_copy(arena, slice_of(rest->data, len));
    *rest = slice_of(rest->data + len, rest->len - len);
    return true;
}

const struct header *postgres_headers_read(struct arena *arena, struct slice bytes, uint32_t *n)
{
    struct header *headers;
    size_t most = bytes.len / (size_t)(2 * LENGTH);

    *n = 0;
    if (most == 0)
        return NULL;
    headers = arena_array(arena, most < MESSAGE_HEADERS ? most : MESSAGE_HEADERS, sizeof *headers);
    while (*n < most && *n < MESSAGE_HEADERS && get(arena, &bytes, &headers[*n].name) &&
           get(arena, &bytes, &headers[*n].value))
        ++*n;
    return headers;
}

struct slice postgres_copy(struct arena *arena, const PGresult *result, int row, int column)
{
    if (PQgetisnull(result, row, column))
        return message_null();
    return message_copy(arena, postgres_bytes(result, row, column));
}
