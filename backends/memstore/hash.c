#include "backends/memstore/hash.h"

#include <stdlib.h>
#include <sys/random.h>

struct sip {
    uint64_t v0, v1, v2, v3;
};

struct hash_key hash_key_random(void)
{
    struct hash_key key;

    if (getrandom(&key, sizeof key, 0) != (ssize_t)sizeof key)
        abort();
    return key;
}

static inline uint64_t rotate(uint64_t x, unsigned by)
{
    return x << by | x >> (64 - by);
}

static inline void sip_round(struct sip *s)
{
    s->v0 += s->v1;
    s->v2 += s->v3;
    s->v1 = rotate(s->v1, 13) ^ s->v0;
    s->v3 = rotate(s->v3, 16) ^ s->v2;
    s->v0 = rotate(s->v0, 32);
    s->v2 += s->v1;
    s->v0 += s->v3;
    s->v1 = rotate(s->v1, 17) ^ s->v2;
    s->v3 = rotate(s->v3, 21) ^ s->v0;
    s->v2 = rotate(s->v2, 32);
}

static inline void sip_word(struct sip *s, uint64_t word)
{
    s->v3 ^= word;
    sip_round(s);
    s->v0 ^= word;
}

static inline uint64_t load_le64(const uint8_t *at)
{
    uint64_t word;

    memcpy(&word, at, sizeof word);
#if __BYTE_ORDER__ == __ORDER_BIG_ENDIAN__
    word = __builtin_bswap64(word);
#endif
    return word;
}

uint64_t hash_bytes(const struct hash_key *key, struct slice bytes)
{
    /* The four constants are SipHash's own: "somepseudorandomlygeneratedbytes". */
    struct sip s = {.v0 = key->a ^ 0x736f6d6570736575u,
                    .v1 = key->b ^ 0x646f72616e646f6du,
                    .v2 = key->a ^ 0x6c7967656e657261u,
                    .v3 = key->b ^ 0x7465646279746573u};
    size_t rest = bytes.len % 8, whole = bytes.len - rest;
    uint64_t last = (uint64_t)bytes.len << 56;

    for (size_t i = 0; i < whole; i += 8)
        sip_word(&s, load_le64(bytes.data + i));
    if (whole > 0 && rest > 0) /* read together with some before them */
        last |= load_le64(bytes.data + bytes.len - 8) >> (64 - 8 * rest);
    for (size_t i = 0; whole == 0 && i < rest; i++)
        last |= (uint64_t)bytes.data[i] << (8 * i);
    sip_word(&s, last);
    s.v2 ^= 0xff;
    for (int i = 0; i < 3; i++)
        sip_round(&s);
    return s.v0 ^ s.v1 ^ s.v2 ^ s.v3;
}
