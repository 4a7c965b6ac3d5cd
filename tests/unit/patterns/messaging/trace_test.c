/* Which values of traceparent are a trace. That messages carry it: e2e/consumer_test.py. */
#include "patterns/messaging/trace.h"

#include "src/base/container.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>

#include <cmocka.h>

#define TRACE_ID  "4bf92f3577b34da6a3ce929d0e0e4736"
#define PARENT_ID "00f067aa0ba902b7"

static void test_values(void **state)
{
    static const struct {
        const char *text;
        bool valid;
    } cases[] = {
        {"00-" TRACE_ID "-" PARENT_ID "-01", true},
        {"00-" TRACE_ID "-" PARENT_ID "-ff", true},
        {"01-" TRACE_ID "-" PARENT_ID "-01", true},
        {"01-" TRACE_ID "-" PARENT_ID "-01-more", true},
        {"00-" TRACE_ID "-" PARENT_ID "-01-more", false},
        {"01-" TRACE_ID "-" PARENT_ID "-01more", false},
        {"ff-" TRACE_ID "-" PARENT_ID "-01", false},
        {"00-00000000000000000000000000000000-" PARENT_ID "-01", false},
        {"00-" TRACE_ID "-0000000000000000-01", false},
        {"00-4BF92F3577B34DA6A3CE929D0E0E4736-" PARENT_ID "-01", false},
        {"00_" TRACE_ID "-" PARENT_ID "-01", false},
        {"00-" TRACE_ID "-" PARENT_ID "-0", false},
        {"00-" TRACE_ID "-" PARENT_ID "-0g", false},
        {"", false},
    };

    (void)state;
    for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
        if (trace_is_valid(slice_str(cases[i].text)) != cases[i].valid)
            fail_msg("%s", cases[i].text);
    }
}

static void test_the_longest(void **state)
{
    char text[TRACE_VALUE_BYTES + 2];

    (void)state;
    for (int len = TRACE_VALUE_BYTES; len <= TRACE_VALUE_BYTES + 1; len++) {
        snprintf(text, sizeof text, "01-" TRACE_ID "-" PARENT_ID "-01-%0*d", len - 56, 0);
        assert_int_equal(trace_is_valid(slice_str(text)), len == TRACE_VALUE_BYTES);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_values),
        cmocka_unit_test(test_the_longest),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
