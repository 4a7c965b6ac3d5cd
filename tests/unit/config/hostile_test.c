/* Files that nobody writes by accident: they end in a fault, soon, and in bounded memory. */
#include "tests/unit/config/loaded.h"

#include "src/base/clock.h"
#include "src/base/utf8.h"

#include <string.h>
#include <sys/resource.h>

/* ---- helpers ---- */

struct text {
    char *data;
    size_t len;
};

/* `n` times `piece` between two other texts. */
static struct text repeated(const char *before, const char *piece, size_t n, const char *after)
{
    size_t b = strlen(before), p = strlen(piece), a = strlen(after);
    struct text t = {malloc(b + n * p + a + 1), b + n * p + a};

    assert_non_null(t.data);
    memcpy(t.data, before, b);
    for (size_t i = 0; i < n; i++)
        memcpy(t.data + b + i * p, piece, p);
    memcpy(t.data + b + n * p, after, a + 1);
    return t;
}

static long peak_kib(void)
{
    struct rusage usage;

    getrusage(RUSAGE_SELF, &usage);
    return usage.ru_maxrss;
}

/* Takes the text. */
static void assert_stopped(struct text t, const char *message)
{
    uint64_t start = clock_now_ns();
    long before = peak_kib();
    struct loaded *l = load_bytes(slice_of(t.data, t.len));

    assert_true(l->faults.count > 0);
    if (strstr(l->faults.items[0].message, message) == NULL)
        fail_msg("expected \"%s\", got \"%s\"", message, l->faults.items[0].message);
    assert_true(clock_now_ns() - start < 20 * NS_PER_S);
    assert_true(peak_kib() - before < 512 * 1024);
    unload(l);
    free(t.data);
}

/* ---- tests ---- */

static void test_too_large(void **state)
{
    (void)state;
    assert_stopped(repeated("", "# x\n", CONFIG_MAX_BYTES / 4, "\n"), "larger than 1 MiB");
}

static void test_deep(void **state)
{
    (void)state;
    assert_stopped(repeated("", "[", 100000, ""), "nested too deeply");
    assert_stopped(repeated("", "{a: ", 100000, ""), "nested too deeply");
    assert_stopped(repeated("", "- ", 100000, "x"), "nested too deeply");
}

static void test_wide(void **state)
{
    (void)state;
    assert_stopped(repeated("a: [", "1,", CONFIG_MAX_ENTRIES, "1]"), "too many entries");
    assert_stopped(repeated("a: [", "1,", CONFIG_MAX_ENTRIES - 1, "1]"), "unknown key");
    assert_stopped(repeated("namespaces: [", "1,", 200000, "1]"), "too many entries");
    assert_stopped(repeated("a: [", "[1,1,1,1,1,1,1,1,1,1],", 500, "[]]"), "unknown key");
    assert_stopped(repeated("a:\n", " - {b: c}\n", 90000, ""), "too many entries");
}

/* The "billion laughs": each line names the line above nine times. */
static void test_aliases_do_not_multiply(void **state)
{
    (void)state;
    char yaml[4096];
    int n = snprintf(yaml, sizeof yaml, "a0: &a0 [x]\n");

    for (int i = 1; i < 40; i++)
        n += snprintf(yaml + n, sizeof yaml - (size_t)n, "a%d: &a%d [*a%d,*a%d,*a%d,*a%d]\n", i, i,
                      i - 1, i - 1, i - 1, i - 1);
    struct loaded *l = load_text(yaml);

    assert_int_equal(l->faults.count, CONFIG_MAX_FAULTS);
    assert_true(l->faults.omitted > 0);
    unload(l);
    l = load_text("a: &a [*a]\n"); /* a cycle */
    assert_true(l->faults.count > 0);
    unload(l);
}

static void test_many_faults_are_counted(void **state)
{
    (void)state;
    char yaml[8192];
    int n = 0;

    for (int i = 0; i < 300; i++)
        n += snprintf(yaml + n, sizeof yaml - (size_t)n, "key_%d: 1\n", i);
    struct loaded *l = load_text(yaml);

    assert_int_equal(l->faults.count, CONFIG_MAX_FAULTS);
    assert_int_equal(l->faults.omitted, 200);
    assert_int_equal(l->faults.items[99].line, 100);
    unload(l);
}

static void test_many_namespaces(void **state)
{
    (void)state;
    assert_stopped(
        repeated("namespaces:\n",
                 "- {name: a, pattern: keyvalue, slots: {primary: {backend: memstore}}}\n", 65, ""),
        "has 65 entries, 64 are allowed");
}

static void test_many_settings(void **state)
{
    (void)state;
    char yaml[8192];
    int n = snprintf(yaml, sizeof yaml,
                     "namespaces:\n- name: a\n  pattern: keyvalue\n"
                     "  slots:\n   primary:\n    backend: memstore\n"
                     "    config:\n");

    for (int i = 0; i < 65; i++)
        n += snprintf(yaml + n, sizeof yaml - (size_t)n, "     key_%d: 1\n", i);
    struct loaded *l = load_text(yaml);

    assert_int_equal(l->faults.count, 1);
    assert_string_equal(l->faults.items[0].message, "has 65 entries, 64 are allowed");
    unload(l);
}

/* Long words in messages are cut, control characters are not passed on to a terminal. */
static void test_messages_are_tame(void **state)
{
    (void)state;
    struct text t = repeated("? ", "\xe2\x82\xac", 20000, "\n: 1\n\"\\e[31m\\x01\": 2\n");
    struct loaded *l = load_bytes(slice_of(t.data, t.len));

    assert_int_equal(l->faults.count, 2);
    for (size_t i = 0; i < 2; i++) {
        assert_true(strlen(l->faults.items[i].message) < 80);
        for (const char *p = l->faults.items[i].message; *p != '\0'; p++)
            assert_true((unsigned char)*p >= 0x20);
    }
    assert_string_equal(l->faults.items[1].path, "?[31m?");
    assert_true(utf8_valid(slice_str(l->faults.items[0].path)));
    assert_non_null(strstr(l->faults.items[0].message, "\xe2\x82\xac...`"));
    assert_string_equal(l->faults.items[1].message, "unknown key `?[31m?`");
    unload(l);
    free(t.data);
}

static void test_long_value(void **state)
{
    (void)state;
    assert_stopped(repeated("listen: \"", "x", CONFIG_MAX_SCALAR + 1, "\"\n"),
                   "longer than 64 KiB");
    assert_stopped(repeated("listen: \"", "${A:-}", 100000, "\"\n"), "longer than 64 KiB");
}

static void test_every_prefix_ends(void **state)
{
    (void)state;
    static const char yaml[] =
        "listen: \"h:1\" # c\nlimits: {max_inflight_calls: 5}\nnamespaces:\n- name: 'a'\n"
        "  pattern: keyvalue\n"
        "  slots:\n    primary:\n      backend: redis\n      config:\n"
        "        address: |\n          ${A:-x}\n      emulate: [batch]\n";

    for (size_t i = 0; i < sizeof yaml; i++)
        unload(load_bytes(slice_of(yaml, i)));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_too_large),
        cmocka_unit_test(test_deep),
        cmocka_unit_test(test_wide),
        cmocka_unit_test(test_aliases_do_not_multiply),
        cmocka_unit_test(test_many_faults_are_counted),
        cmocka_unit_test(test_many_namespaces),
        cmocka_unit_test(test_many_settings),
        cmocka_unit_test(test_messages_are_tame),
        cmocka_unit_test(test_long_value),
        cmocka_unit_test(test_every_prefix_ends),
    };

    return cmocka_run_group_tests_name("hostile configuration", tests, NULL, NULL);
}
