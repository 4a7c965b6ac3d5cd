/* Tags of partitions: each lies in its part of the slots, and stays what it was. */
#include "backends/redis/redis_tags.h"

#include "backends/redis/redis_text.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

static void tags_lie_evenly(void **state)
{
    static const unsigned counts[] = {1, 2, 3, 16, 100, REDIS_TAGS};
    static const char *const spaces[] = {"default", "a", "a%3Ab", "x-y_z.0"};

    (void)state;
    for (size_t c = 0; c < sizeof counts / sizeof counts[0]; c++) {
        for (size_t s = 0; s < sizeof spaces / sizeof spaces[0]; s++) {
            unsigned n = counts[c];
            struct redis_tags *tags = redis_tags_new(slice_str(spaces[s]), n);

            assert_int_equal(tags->n, n);
            for (unsigned i = 0; i < n; i++) {
                char key[256];
                unsigned slot;

                snprintf(key, sizeof key, "prism:{%s}%%registry:order", tags->texts[i]);
                slot = redis_slot(slice_str(key), slice_of(NULL, 0));
                assert_true(slot >= i * REDIS_SLOTS / n && slot < (i + 1) * REDIS_SLOTS / n + 1);
                assert_int_equal(slot * n / REDIS_SLOTS, i);
            }
            redis_tags_free(tags);
        }
    }
}

/* Data is found by them: no later version may have others. */
static void tags_stay(void **state)
{
    struct redis_tags *tags = redis_tags_new(slice_str("default"), 16);

    (void)state;
    assert_string_equal(tags->texts[0], "default%0.13");
    assert_string_equal(tags->texts[7], "default%7.40");
    assert_string_equal(tags->texts[15], "default%15.11");
    redis_tags_free(tags);
    redis_tags_free(NULL);
}

/* So is the partition of a name. */
static void hashes_stay(void **state)
{
    (void)state;
    assert_int_equal(slice_hash(slice_str("")), 0x811c9dc5u ^ 0x811cu);
    assert_int_equal(slice_hash(slice_str("a")), 0xe40c292cu ^ 0xe40cu);
    assert_int_equal(slice_hash(slice_str("foobar")), 0xbf9cf968u ^ 0xbf9cu);
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(tags_lie_evenly),
                                       cmocka_unit_test(tags_stay), cmocka_unit_test(hashes_stay)};

    return cmocka_run_group_tests(tests, NULL, NULL);
}
