#include "backends/redis/redis_text.h"
#include "src/base/container.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>

#include <cmocka.h>

static void known_digests(void **state)
{
    static const char *const cases[][2] = {
        {"", "da39a3ee5e6b4b0d3255bfef95601890afd80709"},
        {"abc", "a9993e364706816aba3e25717850c26c9cd0d89d"},
        {"abcdbcdecdefdefgefghfghighijhijkijkljklmklmnlmnomnopnopq",
         "84983e441c3bd26ebaae4aa1f95129e5e54670f1"},
        {"The quick brown fox jumps over the lazy dog", "2fd4e1c67a2d28fced849ee1bb76e7391b93eb12"},
    };
    char hex[REDIS_SHA1_HEX];

    (void)state;
    for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
        redis_sha1_hex(slice_str(cases[i][0]), hex);
        assert_memory_equal(hex, cases[i][1], sizeof hex);
    }
}

/* The standard's third example; and in pieces of every length around a block it stays the same. */
static void a_million(void **state)
{
    uint8_t want[REDIS_SHA1_BYTES] = {0x34, 0xaa, 0x97, 0x3c, 0xd4, 0xc4, 0xda, 0xa4, 0xf6, 0x1e,
                                      0xeb, 0x2b, 0xdb, 0xad, 0x27, 0x31, 0x65, 0x34, 0x01, 0x6f};
    static const size_t pieces[] = {1, 55, 56, 63, 64, 65, 127, 128, 1000000};
    uint8_t *text = malloc(1000000), digest[REDIS_SHA1_BYTES];

    (void)state;
    memset(text, 'a', 1000000);
    for (size_t i = 0; i < ARRAY_LEN(pieces); i++) {
        struct redis_sha1 sha1;
        size_t left = 1000000;

        redis_sha1_init(&sha1);
        while (left > 0) {
            size_t n = left < pieces[i] ? left : pieces[i];

            redis_sha1_add(&sha1, slice_of(text, n));
            left -= n;
        }
        redis_sha1_finish(&sha1, digest);
        assert_memory_equal(digest, want, sizeof want);
    }
    free(text);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(known_digests),
        cmocka_unit_test(a_million),
    };

    return cmocka_run_group_tests_name("redis_sha1", tests, NULL, NULL);
}
