/* SHA-1 as FIPS 180-4 describes it. */
#include "backends/redis/redis_text.h"

static uint32_t rotl(uint32_t x, unsigned n)
{
    return x << n | x >> (32 - n);
}

/* f and K of the standard's four rounds of twenty steps. */
static uint32_t mix(unsigned step, uint32_t b, uint32_t c, uint32_t d)
{
    switch (step / 20) {
    case 0:
        return ((b & c) | (~b & d)) + 0x5a827999u;
    case 1:
        return (b ^ c ^ d) + 0x6ed9eba1u;
    case 2:
        return ((b & c) | (b & d) | (c & d)) + 0x8f1bbcdcu;
    default:
        return (b ^ c ^ d) + 0xca62c1d6u;
    }
}

static void add_block(struct redis_sha1 *sha1, const uint8_t *block)
{
    uint32_t w[80], v[5];

    for (unsigned i = 0; i < 16; i++)
        w[i] = (uint32_t)block[4 * i] << 24 | (uint32_t)block[4 * i + 1] << 16 |
               (uint32_t)block[4 * i + 2] << 8 | block[4 * i + 3];
    for (unsigned i = 16; i < 80; i++)
        w[i] = rotl(w[i - 3] ^ w[i - 8] ^ w[i - 14] ^ w[i - 16], 1);
    memcpy(v, sha1->state, sizeof v);
    for (unsigned i = 0; i < 80; i++) {
        uint32_t next = rotl(v[0], 5) + mix(i, v[1], v[2], v[3]) + v[4] + w[i];

        v[4] = v[3];
        v[3] = v[2];
        v[2] = rotl(v[1], 30);
        v[1] = v[0];
        v[0] = next;
    }
    for (unsigned i = 0; i < 5; i++)
        sha1->state[i] += v[i];
}

void redis_sha1_init(struct redis_sha1 *sha1)
{
    *sha1 = (struct redis_sha1){
        .state = {0x67452301u, 0xefcdab89u, 0x98badcfeu, 0x10325476u, 0xc3d2e1f0u}};
}

void redis_sha1_add(struct redis_sha1 *sha1, struct slice data)
{
    while (data.len > 0) {
        size_t held = sha1->bytes % sizeof sha1->block, room = sizeof sha1->block - held;
        size_t n = data.len < room ? data.len : room;

        if (n == sizeof sha1->block) {
            add_block(sha1, data.data);
        } else {
            memcpy(sha1->block + held, data.data, n);
            if (n == room)
                add_block(sha1, sha1->block);
        }
        sha1->bytes += n;
        data = slice_of(data.data + n, data.len - n);
    }
}

void redis_sha1_finish(struct redis_sha1 *sha1, uint8_t digest[REDIS_SHA1_BYTES])
{
    static const uint8_t padding[64] = {0x80};
    uint64_t bits = sha1->bytes * 8;
    size_t held = sha1->bytes % 64;
    uint8_t length[8];

    for (unsigned i = 0; i < 8; i++)
        length[i] = (uint8_t)(bits >> (56 - 8 * i));
    redis_sha1_add(sha1, slice_of(padding, held < 56 ? 56 - held : 120 - held));
    redis_sha1_add(sha1, slice_of(length, sizeof length));
    for (unsigned i = 0; i < REDIS_SHA1_BYTES; i++)
        digest[i] = (uint8_t)(sha1->state[i / 4] >> (24 - 8 * (i % 4)));
}

void redis_sha1_hex(struct slice data, char hex[REDIS_SHA1_HEX])
{
    static const char digits[] = "0123456789abcdef";
    uint8_t digest[REDIS_SHA1_BYTES];
    struct redis_sha1 sha1;

    redis_sha1_init(&sha1);
    redis_sha1_add(&sha1, data);
    redis_sha1_finish(&sha1, digest);
    for (unsigned i = 0; i < REDIS_SHA1_BYTES; i++) {
        hex[2 * i] = digits[digest[i] >> 4];
        hex[2 * i + 1] = digits[digest[i] & 15];
    }
}

struct slice redis_version(struct arena *arena, struct slice value)
{
    char *hex = arena_alloc(arena, REDIS_SHA1_HEX);

    redis_sha1_hex(value, hex);
    return slice_of(hex, REDIS_SHA1_HEX);
}
