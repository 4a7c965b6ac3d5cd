#include "backends/memstore/hash.h"

#include <setjmp.h>
#include <stdarg.h>

#include <cmocka.h>

/* SipHash-1-3 with an all-zero key of the bytes 0, 1, 2, ...: computed by another implementation,
 * CPython 3.11's hash of bytes under PYTHONHASHSEED=0. */
static const struct {
    size_t len;
    uint64_t hash;
} vectors[] = {
    {1, 0x68a914128e01e473u},  {2, 0x010bac45c41e3669u},  {7, 0x2f098ab0c751325au},
    {8, 0xead411e67ebe2eeau},  {9, 0x75927f9d95124362u},  {15, 0xf30eb725bb91c9eau},
    {16, 0x8972188433a5c5b7u}, {17, 0x4883c49a2c009c1du}, {31, 0x169739443111d49bu},
    {64, 0x75e05fd5bbc870c6u},
};

static void test_vectors(void **state)
{
    const struct hash_key zero = {0, 0};
    uint8_t bytes[65];

    (void)state;
    for (size_t shift = 0; shift < 2; shift++) { /* aligned or not */
        for (size_t i = 0; i < 64; i++)
            bytes[i + shift] = (uint8_t)i;
        for (size_t i = 0; i < sizeof vectors / sizeof vectors[0]; i++)
            assert_int_equal(hash_bytes(&zero, slice_of(bytes + shift, vectors[i].len)),
                             vectors[i].hash);
    }
}

static void test_the_key_matters(void **state)
{
    struct hash_key one = hash_key_random(), two = hash_key_random();

    (void)state;
    assert_true(one.a != two.a || one.b != two.b);
    assert_true(hash_bytes(&one, slice_str("key")) != hash_bytes(&two, slice_str("key")));
    two = one;
    assert_int_equal(hash_bytes(&one, slice_str("key")), hash_bytes(&two, slice_str("key")));
    two.b ^= 1;
    assert_true(hash_bytes(&one, slice_str("key")) != hash_bytes(&two, slice_str("key")));
}

static void test_empty(void **state)
{
    const struct hash_key key = {1, 2};

    (void)state;
    assert_int_equal(hash_bytes(&key, slice_of(NULL, 0)), hash_bytes(&key, slice_str("")));
    assert_true(hash_bytes(&key, slice_str("")) != hash_bytes(&key, slice_of("\0", 1)));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_vectors),
        cmocka_unit_test(test_the_key_matters),
        cmocka_unit_test(test_empty),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
