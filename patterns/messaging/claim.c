#include "patterns/messaging/claim.h"

#include <errno.h>
#include <stdlib.h>
#include <sys/random.h>
#include <time.h>

enum { RANDOM_BYTES = 16, SIZE_DIGITS = 19 };

static const char plain_version[] = "v1 size=", gzip_version[] = "v2 size=";
static const char digest_name[] = " sha256=", gzip_name[] = " gzip=", key_name[] = " key=";

static void random_bytes(uint8_t *out, size_t n)
{
    size_t got = 0;

    while (got < n) {
        ssize_t now = getrandom(out + got, n - got, 0);

        if (now < 0 && errno != EINTR)
            abort();
        got += now > 0 ? (size_t)now : 0;
    }
}

struct claim claim_new(struct arena *arena, struct slice payload, uint64_t ttl_ms)
{
    unsigned long long now_s = (unsigned long long)time(NULL);

    uint8_t random[RANDOM_BYTES];
    uint64_t halves[2];

    random_bytes(random, sizeof random);
    memcpy(halves, random, sizeof halves);
    return (struct claim){
        .key = slice_str(arena_printf(arena, "claim/%016llx%016llx-%llu-%llu",
                                      (unsigned long long)halves[0], (unsigned long long)halves[1],
                                      now_s, ttl_ms > 0 ? now_s + (ttl_ms + 999) / 1000 : 0)),
        .size = payload.len,
        .sha256 = digest_of(&payload, 1),
    };
}

struct slice claim_write(struct arena *arena, const struct claim *claim)
{
    bool plain = claim->stored == 0;
    const char *stored = plain ? "" : arena_decimal(arena, (int64_t)claim->stored);
    char hex[DIGEST_HEX];

    digest_hex(&claim->sha256, hex);
    return slice_str(arena_printf(
        arena, "%s%llu%s%.*s%s%s%s%.*s", plain ? plain_version : gzip_version,
        (unsigned long long)claim->size, digest_name, DIGEST_HEX, hex, plain ? "" : gzip_name,
        stored, key_name, (int)claim->key.len, (const char *)claim->key.data));
}

/* ---- reading ---- */

static bool skip(struct slice *text, const char *what)
{
    size_t len = strlen(what);

    if (!slice_starts_with(*text, slice_of(what, len)))
        return false;
    *text = slice_of(text->data + len, text->len - len);
    return true;
}

static bool read_size(struct slice *text, uint64_t *size)
{
    size_t n = 0;

    *size = 0;
    while (n < text->len && n <= SIZE_DIGITS && text->data[n] >= '0' && text->data[n] <= '9')
        *size = *size * 10 + (uint64_t)(text->data[n++] - '0');
    *text = slice_of(text->data + n, text->len - n);
    return n > 0 && n < SIZE_DIGITS;
}

static int hex_value(uint8_t c)
{
    if (c >= '0' && c <= '9')
        return c - '0';
    return c >= 'a' && c <= 'f' ? c - 'a' + 10 : -1;
}

static bool read_digest(struct slice *text, struct digest *digest)
{
    if (text->len < DIGEST_HEX)
        return false;
    for (int i = 0; i < DIGEST_BYTES; i++) {
        int high = hex_value(text->data[2 * i]), low = hex_value(text->data[2 * i + 1]);

        if (high < 0 || low < 0)
            return false;
        digest->bytes[i] = (uint8_t)(high << 4 | low);
    }
    *text = slice_of(text->data + DIGEST_HEX, text->len - DIGEST_HEX);
    return true;
}

/* What gzip has made is smaller than the payload, or it would not be there. */
static bool read_stored(struct slice *text, struct claim *claim)
{
    return skip(text, gzip_name) && read_size(text, &claim->stored) && claim->stored > 0 &&
           claim->stored < claim->size;
}

bool claim_read(struct slice text, struct claim *claim)
{
    bool plain = skip(&text, plain_version);

    claim->stored = 0;
    if ((!plain && !skip(&text, gzip_version)) || !read_size(&text, &claim->size) ||
        !skip(&text, digest_name) || !read_digest(&text, &claim->sha256) ||
        (!plain && !read_stored(&text, claim)) || !skip(&text, key_name))
        return false;
    claim->key = text;
    return text.len > 0;
}

bool claim_matches(const struct claim *claim, struct slice payload)
{
    struct digest digest;

    if (payload.len != claim->size)
        return false;
    digest = digest_of(&payload, 1);
    return memcmp(digest.bytes, claim->sha256.bytes, DIGEST_BYTES) == 0;
}
