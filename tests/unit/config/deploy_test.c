/* With the real backends and patterns: the examples in deploy/ are good, the reference is complete.
 */
#include "backends/backend.h"
#include "patterns/pattern.h"
#include "src/config/config.h"

#include <dirent.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cmocka.h>

enum { TEXT_BYTES = 1 << 20 };

static const struct config_catalog real = {
    .find_backend = backend_find,
    .all_backends = backend_all,
    .find_pattern = pattern_find,
    .all_patterns = pattern_all,
    .interface_name = backend_interface_name,
    .interface_key = backend_interface_key,
    .offers = backend_offers,
};

/* ---- fixture: a working directory as public.yaml wants it ---- */

static const char *const folders[] = {"tls", "secrets"};
static const char *const files[] = {"tls/server.pem", "tls/server.key", "tls/clients-ca.pem",
                                    "secrets/redis", "tls/redis-ca.pem"};

static int setup(void **state)
{
    char *folder = strdup("/tmp/prism-deploy-XXXXXX");

    if (folder == NULL || mkdtemp(folder) == NULL || chdir(folder) != 0)
        return -1;
    for (size_t i = 0; i < 2; i++)
        if (mkdir(folders[i], 0700) != 0)
            return -1;
    for (size_t i = 0; i < sizeof files / sizeof *files; i++) {
        FILE *file = fopen(files[i], "w");

        if (file == NULL || fputs("-----BEGIN CERTIFICATE-----\n", file) < 0 || fclose(file) != 0)
            return -1;
    }
    setenv("REDIS_ADDRESS", "localhost:1", 1);
    setenv("AWS_ACCESS_KEY_ID", "a", 1);
    setenv("AWS_SECRET_ACCESS_KEY", "b", 1);
    unsetenv("REDIS_PASSWORD");
    *state = folder;
    return 0;
}

static int teardown(void **state)
{
    for (size_t i = 0; i < sizeof files / sizeof *files; i++)
        unlink(files[i]);
    for (size_t i = 0; i < 2; i++)
        rmdir(folders[i]);
    if (chdir("/") == 0)
        rmdir(*state);
    free(*state);
    return 0;
}

/* ---- tests ---- */

static void assert_loads(const char *path)
{
    struct config config;
    struct faults *faults = malloc(sizeof *faults);

    assert_non_null(faults);
    faults_init(faults);
    struct err err = config_load(&config, path, &real, faults);

    for (size_t i = 0; i < faults->count; i++)
        print_error("%s:%u: %s: %s\n", path, faults->items[i].line, faults->items[i].path,
                    faults->items[i].message);
    assert_int_equal(err.code, ERR_OK);
    assert_true(config.namespace_count >= 1);
    config_clear(&config);
    faults_clear(faults);
    free(faults);
}

static void test_examples(void **state)
{
    (void)state;
    DIR *dir = opendir(TEST_DATA "/../deploy");
    size_t n = 0;
    char path[1024];

    assert_non_null(dir);
    for (struct dirent *entry; (entry = readdir(dir)) != NULL;) {
        const char *end = strrchr(entry->d_name, '.');

        if (end == NULL || strcmp(end, ".yaml") != 0)
            continue;
        snprintf(path, sizeof path, TEST_DATA "/../deploy/%s", entry->d_name);
        assert_loads(path);
        n++;
    }
    closedir(dir);
    assert_true(n >= 3);
}

static void test_embedded_defaults(void **state)
{
    (void)state;
    assert_loads(NULL);
}

static const char *documentation(void)
{
    static char text[TEXT_BYTES];
    FILE *file = fopen(TEST_DATA "/../docs/configuration.md", "r");

    assert_non_null(file);
    text[fread(text, 1, sizeof text - 1, file)] = '\0';
    fclose(file);
    return text;
}

/* As Markdown wants it: a "<" would begin a tag. */
static void escape(char *out, size_t size, const char *text)
{
    size_t len = 0;

    for (; *text != '\0' && len + 3 < size; text++) {
        if (*text == '<' || *text == '|')
            out[len++] = '\\';
        out[len++] = *text;
    }
    out[len] = '\0';
}

/* A row "| `key` | `default` | bounds | meaning |" for each setting, in the section of its owner.
 */
static void assert_documented(const char *heading, const struct backend_setting *settings)
{
    const char *section = strstr(documentation(), heading);
    char row[1024], bounds[96], doc[512];

    if (section == NULL)
        fail_msg("docs/configuration.md lacks the section %s", heading);
    for (; settings != NULL && settings->name != NULL; settings++) {
        const char *quote = settings->fallback != NULL && settings->fallback[0] != '\0' ? "`" : "";
        const char *fallback = settings->fallback == NULL      ? "required"
                               : settings->fallback[0] == '\0' ? "empty"
                                                               : settings->fallback;

        bounds[0] = '\0';
        if (settings->kind == SETTING_UINT)
            snprintf(bounds, sizeof bounds, "%llu..%llu", (unsigned long long)settings->min,
                     (unsigned long long)settings->max);
        escape(doc, sizeof doc, settings->doc);
        snprintf(row, sizeof row, "| `%s` | %s%s%s | %s | %s |\n", settings->name, quote, fallback,
                 quote, bounds, doc);
        const char *found = strstr(section, row);

        if (found == NULL)
            fail_msg("docs/configuration.md lacks, below \"%s\", this row:\n%s", heading, row);
        const char *next = strstr(section + 1, "\n### ");

        assert_true(next == NULL || found < next);
    }
}

static void test_settings_are_documented(void **state)
{
    (void)state;
    char heading[128];

    for (const struct backend_type *const *type = backend_all(); *type != NULL; type++) {
        snprintf(heading, sizeof heading, "\n### backend %s\n", (*type)->name);
        assert_documented(heading, (*type)->settings);
    }
    for (const struct pattern_type *const *type = pattern_all(); *type != NULL; type++) {
        snprintf(heading, sizeof heading, "\n### pattern %s\n", (*type)->name);
        assert_documented(heading, (*type)->behavior);
    }
}

/* What the schema of the registries promises to this module. */
static void test_registries_are_sound(void **state)
{
    (void)state;
    for (const struct backend_type *const *type = backend_all(); *type != NULL; type++) {
        assert_ptr_equal(backend_find(slice_str((*type)->name)), *type);
        for (const struct backend_setting *s = (*type)->settings; s != NULL && s->name != NULL; s++)
            assert_true(s->doc != NULL && s->min <= s->max);
    }
    for (const struct pattern_type *const *type = pattern_all(); *type != NULL; type++) {
        assert_ptr_equal(pattern_find(slice_str((*type)->name)), *type);
        assert_true((*type)->slot_count >= 1 && (*type)->slot_count <= PATTERN_MAX_SLOTS);
        assert_non_null((*type)->operations);
    }
    for (unsigned i = 0; i < BACKEND_INTERFACE_COUNT; i++)
        assert_non_null(strchr(backend_interface_key((enum backend_interface)i), '_'));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_examples),
        cmocka_unit_test(test_embedded_defaults),
        cmocka_unit_test(test_settings_are_documented),
        cmocka_unit_test(test_registries_are_sound),
    };

    return cmocka_run_group_tests_name("deployment", tests, setup, teardown);
}
