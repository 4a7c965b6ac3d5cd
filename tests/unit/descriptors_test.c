/* The limit of open files is split: what backends may need is kept free of client connections. */
#include "src/descriptors.h"

#include "backends/backend.h"
#include "src/base/container.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <sys/resource.h>

#include <cmocka.h>

enum { FILES = 1000, WORKERS = 2, INSTANCES = WORKERS + 1 };

static struct backend_descriptors as_the_value_says(const struct backend_value *values)
{
    return (struct backend_descriptors){.instance = (uint32_t)values[0].number, .store = 10};
}

static const struct backend_type plain = {.name = "plain"};
static const struct backend_type open_one = {.name = "open", .descriptors = as_the_value_says};

static uint32_t connections(const struct config_namespace *namespaces, size_t n)
{
    const struct config config = {
        .workers = WORKERS, .namespaces = namespaces, .namespace_count = n};

    return descriptors_share(&config).connections;
}

static void each_slot_has_what_it_may_need(void **state)
{
    const struct backend_value few = {.number = 5}, many = {.number = 64}, all = {.number = 5000};
    const struct config_namespace none = {.slots = {{.backend = &plain}}};
    const struct config_namespace one = {
        .slots = {{.backend = &open_one, .values = &few}, {.backend = &plain}}};
    const struct config_namespace two = {
        .slots = {{.backend = &open_one, .values = &few}, {.backend = &open_one, .values = &many}}};
    const struct config_namespace beyond = {.slots = {{.backend = &open_one, .values = &all}}};
    const struct config_namespace both[] = {one, two};
    uint32_t alone = connections(&none, 1);

    (void)state;
    assert_in_range(alone, FILES - 200, FILES - 50);
    assert_int_equal(connections(&one, 1), alone - (INSTANCES * 5 + 10));
    assert_int_equal(connections(&two, 1), alone - (INSTANCES * (5 + 64) + 20));
    assert_int_equal(connections(both, 2), alone - (INSTANCES * (5 + 5 + 64) + 30));
    assert_int_equal(connections(&beyond, 1), FILES / 4);
}

static void a_setting_is_lowered_but_not_raised(void **state)
{
    const struct config_namespace none = {.slots = {{.backend = &plain}}};
    struct config config = {.workers = WORKERS, .namespaces = &none, .namespace_count = 1};

    (void)state;
    config.limits.max_connections = 40;
    assert_int_equal(descriptors_share(&config).connections, 40);
    assert_int_equal(descriptors_share(&config).connections_per_peer, 30);
    config.limits.max_connections = 5000;
    assert_int_equal(descriptors_share(&config).connections, connections(&none, 1));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(each_slot_has_what_it_may_need),
        cmocka_unit_test(a_setting_is_lowered_but_not_raised),
    };
    const struct rlimit limit = {.rlim_cur = FILES, .rlim_max = FILES};

    if (setrlimit(RLIMIT_NOFILE, &limit) != 0)
        return 1;
    return cmocka_run_group_tests(tests, NULL, NULL);
}
