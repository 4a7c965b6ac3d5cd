#include "src/services/admin.h"

#include <dirent.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include <cmocka.h>

/* ---- helpers ---- */

/* The page as text; to be freed. */
static char *rendered(void)
{
    struct build_facts build = {.version = "1.2.3", .grpc_version = "\"g\""};
    struct metrics_page page;
    char *text;

    metrics_page_init(&page);
    process_render(&build, &page);
    text = strndup(page.text, page.len);
    metrics_page_clear(&page);
    assert_non_null(text);
    return text;
}

static double metric(const char *page, const char *name)
{
    char line[128];
    const char *at;

    snprintf(line, sizeof line, "\n%s ", name);
    at = strstr(page, line);
    if (at == NULL)
        fail_msg("no sample of %s", name);
    return strtod(at + strlen(line), NULL);
}

static double metric_now(const char *name)
{
    char *page = rendered();
    double value = metric(page, name);

    free(page);
    return value;
}

static unsigned thread_count(void)
{
    DIR *dir = opendir("/proc/self/task");
    unsigned n = 0;

    assert_non_null(dir);
    for (struct dirent *entry; (entry = readdir(dir)) != NULL;)
        n += entry->d_name[0] != '.';
    closedir(dir);
    return n;
}

/* ---- tests ---- */

static void test_build(void **state)
{
    (void)state;
    char *page = rendered();

    assert_non_null(strstr(page, "\nprism_build_info{version=\"1.2.3\",grpc=\"\\\"g\\\"\"} 1\n"));
    assert_non_null(strstr(page, "\nprism_allocator_info{name=\""));
    free(page);
}

static void test_memory_and_cpu(void **state)
{
    (void)state;
    double before = metric_now("process_resident_memory_bytes");
    double cpu = metric_now("process_cpu_seconds_total");
    size_t bytes = 64 << 20;
    volatile char *memory = malloc(bytes);

    assert_non_null((void *)memory);
    assert_true(before > 1e6);
    for (size_t i = 0; i < bytes; i += 512)
        memory[i] = 1;
    assert_true(metric_now("process_resident_memory_bytes") - before > 32e6);
    while (metric_now("process_cpu_seconds_total") <= cpu)
        memory[0]++; /* work until it shows */
    free((void *)memory);
}

static void test_descriptors_and_threads(void **state)
{
    (void)state;
    double open_fds = metric_now("process_open_fds");
    int fd = dup(0);

    assert_int_equal(metric_now("process_open_fds"), open_fds + 1);
    close(fd);
    assert_int_equal(metric_now("process_open_fds"), open_fds);
    assert_true(metric_now("process_max_fds") >= open_fds);
    assert_int_equal(metric_now("process_threads"), thread_count());
}

static void test_start_time(void **state)
{
    (void)state;
    double age = (double)time(NULL) - metric_now("process_start_time_seconds");

    assert_true(age > -2 && age < 600);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_build),
        cmocka_unit_test(test_memory_and_cpu),
        cmocka_unit_test(test_descriptors_and_threads),
        cmocka_unit_test(test_start_time),
    };

    return cmocka_run_group_tests_name("process metrics", tests, NULL, NULL);
}
