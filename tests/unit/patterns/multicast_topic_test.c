/* Topics of identities: which bytes are escaped, wherever they stand. */
#include "patterns/multicast_registry/multicast_priv.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>

#include <cmocka.h>

enum { LONGEST = 40 };

static bool is_plain(unsigned byte)
{
    return (byte >= '0' && byte <= '9') || (byte >= 'A' && byte <= 'Z') ||
           (byte >= 'a' && byte <= 'z') || byte == '-';
}

static void assert_topic(struct arena *arena, size_t len, size_t place, unsigned byte)
{
    uint8_t identity[LONGEST];
    char want[LONGEST + sizeof "p." + 2];

    memset(identity, 'x', len);
    identity[place] = (uint8_t)byte;
    if (is_plain(byte))
        snprintf(want, sizeof want, "p.%.*s", (int)len, identity);
    else
        snprintf(want, sizeof want, "p.%.*s_%02X%.*s", (int)place, identity, byte,
                 (int)(len - place - 1), identity + place + 1);

    struct slice topic = convert_topic(slice_str("p."), arena, slice_of(identity, len));

    assert_int_equal(topic.len, strlen(want));
    assert_int_equal(convert_is_plain(slice_str("p."), slice_of(identity, len)), is_plain(byte));
    assert_memory_equal(topic.data, want, topic.len);
}

static void test_each_byte_at_each_place(void **state)
{
    struct arena arena;

    (void)state;
    arena_init(&arena, NULL);
    for (size_t len = 1; len <= LONGEST; len++) {
        for (size_t place = 0; place < len; place++) {
            for (unsigned byte = 0; byte <= UINT8_MAX; byte++)
                assert_topic(&arena, len, place, byte);
        }
        arena_clear(&arena);
    }
}

static void test_a_long_name_is_another(void **state)
{
    char identity[MESSAGE_TOPIC_BYTES];
    struct slice prefix = slice_str("p.");

    (void)state;
    memset(identity, 'x', sizeof identity);
    assert_true(convert_is_plain(prefix, slice_of(identity, sizeof identity - prefix.len)));
    assert_false(convert_is_plain(prefix, slice_of(identity, sizeof identity - prefix.len + 1)));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_each_byte_at_each_place),
        cmocka_unit_test(test_a_long_name_is_another),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
