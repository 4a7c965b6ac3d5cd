/* Keys as names of objects.
 *
 * A name is UTF-8 without control characters, and servers that keep objects as files add rules of
 * their own: no empty part between slashes, none that is "." or "..", none longer than a file's
 * name may be. So slashes stay where they separate parts, which keeps names legible and lets tools
 * walk them like folders; where they would make an empty part, they are spelled. */
#include "backends/aws/base64.h"
#include "backends/s3/s3_priv.h"

#include <string.h>

static const char digits[] = "0123456789ABCDEF";

static bool is_plain(uint8_t c)
{
    return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') ||
           (c != '\0' && strchr("-_.~@=+,:", c) != NULL);
}

/* Is the part that begins here "." or ".."? */
static bool is_dots(const uint8_t *at, const uint8_t *end)
{
    size_t n = 0;

    while (at + n < end && at[n] == '.')
        n++;
    return n > 0 && n <= 2 && (at + n == end || at[n] == '/');
}

static char *spell(char *to, uint8_t c)
{
    *to++ = '!';
    *to++ = digits[c >> 4];
    *to++ = digits[c & 15];
    return to;
}

struct slice s3_name_encode(struct slice key, bool flat, struct arena *arena)
{
    const uint8_t *end = key.data + key.len;
    char *out = arena_alloc(arena, 3 * key.len + 1), *to = out;
    bool dots = false, part_empty = true;

    for (const uint8_t *at = key.data; at < end; at++) {
        if (part_empty)
            dots = is_dots(at, end);
        if (*at == '/' && !part_empty && at + 1 < end && !flat) {
            *to++ = '/';
            part_empty = true;
            continue;
        }
        if (is_plain(*at) && !(dots && *at == '.'))
            *to++ = (char)*at;
        else
            to = spell(to, *at);
        part_empty = *at == '/';
    }
    *to = '\0';
    return slice_of(out, (size_t)(to - out));
}

static int digit_of(uint8_t c)
{
    const char *at = c != '\0' ? strchr(digits, c) : NULL;

    return at != NULL ? (int)(at - digits) : -1;
}

bool s3_name_decode(struct slice name, bool flat, struct slice *key, struct arena *arena)
{
    uint8_t *out = arena_alloc(arena, name.len + 1), *to = out;

    for (size_t i = 0; i < name.len; i++) {
        if (name.data[i] != '!') {
            *to++ = name.data[i];
            continue;
        }
        if (name.len - i < 3 || digit_of(name.data[i + 1]) < 0 || digit_of(name.data[i + 2]) < 0)
            return false;
        *to++ = (uint8_t)(digit_of(name.data[i + 1]) << 4 | digit_of(name.data[i + 2]));
        i += 2;
    }
    *key = slice_of(out, (size_t)(to - out));
    return slice_equal(s3_name_encode(*key, flat, arena), name);
}

static size_t longest_part(struct slice name)
{
    size_t longest = 0, len = 0;

    for (size_t i = 0; i < name.len; i++) {
        len = name.data[i] == '/' ? 0 : len + 1;
        longest = len > longest ? len : longest;
    }
    return longest;
}

const char *s3_name(const struct s3_names *names, struct slice key, bool *digested,
                    struct arena *arena)
{
    struct slice name = s3_name_encode(key, names->flat, arena);
    char hex[DIGEST_HEX + 1] = {0};

    *digested =
        strlen(names->root) + name.len > S3_NAME_BYTES || longest_part(name) > S3_SEGMENT_BYTES;
    if (*digested) {
        struct digest digest = digest_of(&key, 1);

        digest_hex(&digest, hex);
        return arena_printf(arena, "%s!~%s", names->root, hex);
    }
    return arena_printf(arena, "%s%s", names->root, (const char *)name.data);
}

const char *s3_name_spell(struct slice key, struct arena *arena)
{
    char *out = arena_alloc(arena, base64_bytes(key.len) + 1);

    *base64_encode_url(key, out) = '\0';
    return out;
}
