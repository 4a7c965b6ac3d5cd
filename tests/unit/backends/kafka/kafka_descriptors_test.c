/* What a slot keeps free of client connections: for what it is likely to open, not for the most
 * that it may. */
#include "backends/kafka/kafka.h"

#include "src/base/container.h"

#include <setjmp.h>
#include <stdarg.h>
#include <string.h>

#include <cmocka.h>

enum { SETTINGS = 32, HANDLE = 16, USUAL_LIMIT = 4096, WORKERS = 64 };

static struct backend_descriptors with_consumers(uint64_t n)
{
    struct backend_value values[SETTINGS] = {{0}};
    const struct backend_setting *settings = backend_kafka.settings;
    size_t at = 0;

    while (settings[at].name != NULL && strcmp(settings[at].name, "max_consumers") != 0)
        at++;
    assert_non_null(settings[at].name);
    assert_in_range(at, 0, SETTINGS - 1);
    values[at].number = n;
    return backend_kafka.descriptors(values);
}

static void few_consumers_are_all_counted(void **state)
{
    (void)state;
    assert_int_equal(with_consumers(1).store, 2 * HANDLE);
    assert_int_equal(with_consumers(8).store, 9 * HANDLE);
    assert_int_equal(with_consumers(32).store, 33 * HANDLE);
}

static void many_consumers_leave_room_for_clients(void **state)
{
    (void)state;
    assert_int_equal(with_consumers(256).store, 33 * HANDLE);
    assert_int_equal(with_consumers(100000).store, 33 * HANDLE);
    assert_in_range(with_consumers(256).store + WORKERS * with_consumers(256).instance, 0,
                    USUAL_LIMIT / 4);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(few_consumers_are_all_counted),
        cmocka_unit_test(many_consumers_leave_room_for_clients),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
