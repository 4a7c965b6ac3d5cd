/* See lean_headers.h. HPACK (RFC 7541): 0x80 | i refers to field i of the tables; 0x40 | i is a
 * literal whose name is that of field i, 0x40 a literal with a name of its own, both put into the
 * dynamic table. The newest dynamic field is number 62. */
#include "perf/load/lean_headers.h"

#include <string.h>

enum {
    FRAME_HEADERS = 1,
    INDEXED = 0x80,
    LITERAL = 0x40,
    METHOD_POST = 3,
    SCHEME_HTTP = 6,
    AUTHORITY = 1,
    PATH = 4,
    CONTENT_TYPE = 31,
    USER_AGENT = 58,
    FIRST_DYNAMIC = 62,
    OWN_FIELDS = 5
};

bool lean_headers_is(const uint8_t *frame, size_t bytes)
{
    return bytes >= LEAN_FRAME_HEAD && frame[3] == FRAME_HEADERS;
}

static uint8_t *put_text(uint8_t *out, const char *text)
{
    size_t bytes = strlen(text);

    *out++ = (uint8_t)bytes;
    memcpy(out, text, bytes);
    return out + bytes;
}

static uint8_t *spell_out(uint8_t *at, const char *path)
{
    *at++ = LITERAL | PATH;
    at = put_text(at, path);
    *at++ = LITERAL | AUTHORITY;
    at = put_text(at, "prism-bench");
    *at++ = LITERAL;
    at = put_text(at, "te");
    at = put_text(at, "trailers");
    *at++ = LITERAL | CONTENT_TYPE;
    at = put_text(at, "application/grpc");
    *at++ = LITERAL | USER_AGENT;
    return put_text(at, "prism-bench/1");
}

size_t lean_headers_write(const uint8_t *frame, const char *path, const char **indexed,
                          uint8_t *out)
{
    uint8_t *at = out + LEAN_FRAME_HEAD;

    *at++ = INDEXED | METHOD_POST;
    *at++ = INDEXED | SCHEME_HTTP;
    if (*indexed == path) {
        for (unsigned i = OWN_FIELDS; i-- > 0;)
            *at++ = (uint8_t)(INDEXED | (FIRST_DYNAMIC + i));
    } else {
        at = spell_out(at, path);
        *indexed = path;
    }
    size_t block = (size_t)(at - out) - LEAN_FRAME_HEAD;
    memcpy(out, frame, LEAN_FRAME_HEAD);
    out[0] = (uint8_t)(block >> 16);
    out[1] = (uint8_t)(block >> 8);
    out[2] = (uint8_t)block;
    return LEAN_FRAME_HEAD + block;
}
