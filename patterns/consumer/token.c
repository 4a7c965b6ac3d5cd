#include "patterns/consumer/token.h"

#include "src/base/digest.h"
#include "src/base/varint.h"

enum { VERSION = 1, CHECK_BYTES = 8 };

_Static_assert(TOKEN_FIXED_BYTES == 1 + CHECK_BYTES, "version and check");
_Static_assert(TOKEN_BYTES <= 1024, "what the protocol says");

/* No code of authentication: whoever knows the namespace's name can make one. */
static struct digest check_of(const struct token_scope *scope, struct slice rest)
{
    const struct slice parts[] = {
        slice_of(scope->namespace_name, strlen(scope->namespace_name) + 1),
        slice_of(scope->backend, strlen(scope->backend) + 1), rest};

    return digest_of(parts, 3);
}

static size_t part_bytes(struct slice part)
{
    return varint_bytes(part.len) + part.len;
}

size_t token_bytes(const struct token *token)
{
    return TOKEN_FIXED_BYTES + part_bytes(token->topic) + part_bytes(token->group) +
           part_bytes(token->ticket);
}

static uint8_t *write_part(uint8_t *at, struct slice part)
{
    at = varint_write(at, part.len);
    if (part.len > 0)
        memcpy(at, part.data, part.len);
    return at + part.len;
}

struct slice token_write(struct arena *arena, const struct token_scope *scope,
                         const struct token *token)
{
    size_t bytes = token_bytes(token);
    uint8_t *out = arena_alloc(arena, bytes), *at = out + TOKEN_FIXED_BYTES;
    struct digest check;

    at = write_part(at, token->topic);
    at = write_part(at, token->group);
    write_part(at, token->ticket);
    check = check_of(scope, slice_of(out + TOKEN_FIXED_BYTES, bytes - TOKEN_FIXED_BYTES));
    out[0] = VERSION;
    memcpy(out + 1, check.bytes, CHECK_BYTES);
    return slice_of(out, bytes);
}

static bool read_part(struct slice *rest, struct slice *part)
{
    uint64_t len;
    size_t used = varint_read(*rest, &len);

    if (used == 0 || len > rest->len - used)
        return false;
    *part = slice_of(rest->data + used, (size_t)len);
    *rest = slice_of(rest->data + used + len, rest->len - used - (size_t)len);
    return true;
}

bool token_read(struct slice bytes, const struct token_scope *scope, struct token *token)
{
    struct slice rest;
    struct digest check;

    if (bytes.len <= TOKEN_FIXED_BYTES || bytes.len > TOKEN_BYTES || bytes.data[0] != VERSION)
        return false;
    rest = slice_of(bytes.data + TOKEN_FIXED_BYTES, bytes.len - TOKEN_FIXED_BYTES);
    check = check_of(scope, rest);
    return memcmp(bytes.data + 1, check.bytes, CHECK_BYTES) == 0 &&
           read_part(&rest, &token->topic) && read_part(&rest, &token->group) &&
           read_part(&rest, &token->ticket) && rest.len == 0;
}
