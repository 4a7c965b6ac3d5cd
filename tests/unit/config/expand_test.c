/* ${NAME}, ${NAME:-default}, ${file:PATH}: what they become, and that they are never shown. */
#include "tests/unit/config/loaded.h"

#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

static const char secret[] = "hunter2-s3cret";

/* ---- fixture: a folder with files, and variables ---- */

struct place {
    char folder[64];
};

static const char *path_in(const struct place *place, const char *name)
{
    static char path[128];

    snprintf(path, sizeof path, "%s/%s", place->folder, name);
    return path;
}

static void put_file(const struct place *place, const char *name, const char *text, size_t len)
{
    FILE *file = fopen(path_in(place, name), "w");

    assert_non_null(file);
    assert_int_equal(fwrite(text, 1, len, file), len);
    assert_int_equal(fclose(file), 0);
}

static int setup(void **state)
{
    struct place *place = calloc(1, sizeof *place);
    static char big[CONFIG_MAX_SCALAR + 1];

    snprintf(place->folder, sizeof place->folder, "/tmp/prism-expand-XXXXXX");
    if (mkdtemp(place->folder) == NULL)
        return -1;
    memset(big, 'x', sizeof big);
    put_file(place, "secret", "hunter2-s3cret\n", 15);
    put_file(place, "crlf", "hunter2-s3cret\r\n", 16);
    put_file(place, "bare", "hunter2-s3cret", 14);
    put_file(place, "two", "hunter2-s3cret\n\n", 16);
    put_file(place, "empty", "", 0);
    put_file(place, "binary", "hunter2-s3cret\0x", 16);
    put_file(place, "latin", "hunter2-s3cret\xfc", 15);
    put_file(place, "fits", big, CONFIG_MAX_SCALAR);
    put_file(place, "big", big, sizeof big);
    mkfifo(path_in(place, "fifo"), 0600);
    setenv("PRISM_T_SECRET", secret, 1);
    setenv("PRISM_T_EMPTY", "", 1);
    setenv("PRISM_T_NUMBER", "7", 1);
    setenv("PRISM_T_YAML", "a: {b: [c]} # ${PRISM_T_NUMBER}", 1);
    setenv("PRISM_T_LATIN", "hunter2-s3cret\xfc", 1);
    unsetenv("PRISM_T_UNSET");
    *state = place;
    return 0;
}

static int teardown(void **state)
{
    static const char *const names[] = {"secret", "crlf",  "bare", "two", "empty",
                                        "binary", "latin", "fits", "big", "fifo"};
    struct place *place = *state;

    for (size_t i = 0; i < sizeof names / sizeof names[0]; i++)
        unlink(path_in(place, names[i]));
    rmdir(place->folder);
    free(place);
    return 0;
}

/* ---- helpers ---- */

/* The redis password, given as this YAML scalar; @ stands for the folder. */
static struct loaded *load_password(const struct place *place, const char *scalar)
{
    char yaml[1024], with_folder[512];
    const char *at = strchr(scalar, '@');

    if (at != NULL)
        snprintf(with_folder, sizeof with_folder, "%.*s%s%s", (int)(at - scalar), scalar,
                 place->folder, at + 1);
    snprintf(yaml, sizeof yaml,
             "namespaces:\n- name: a\n  pattern: keyvalue\n"
             "  slots:\n    primary:\n      backend: redis\n"
             "      config:\n        address: h\n        password: %s\n",
             at != NULL ? with_folder : scalar);
    return load_text(yaml);
}

static void assert_password(const struct place *place, const char *scalar, const char *expected)
{
    struct loaded *l = load_password(place, scalar);

    assert_no_fault(l);
    assert_string_equal(l->config.namespaces[0].slots[0].values[1].text, expected);
    unload(l);
}

static void assert_hidden(const struct faults *faults)
{
    for (size_t i = 0; i < faults->count; i++) {
        const struct fault *f = &faults->items[i];

        assert_null(strstr(f->path, "hunter2"));
        assert_null(strstr(f->message, "hunter2"));
        assert_true(f->fix == NULL || strstr(f->fix, "hunter2") == NULL);
    }
}

static void assert_refused(const struct place *place, const char *scalar, const char *message)
{
    struct loaded *l = load_password(place, scalar);

    assert_int_equal(l->faults.count, 1);
    assert_string_equal(l->faults.items[0].path, "namespaces[0].slots.primary.config.password");
    assert_int_equal(l->faults.items[0].line, 9);
    if (strstr(l->faults.items[0].message, message) == NULL)
        fail_msg("%s: %s", scalar, l->faults.items[0].message);
    assert_hidden(&l->faults);
    unload(l);
}

/* ---- tests ---- */

static void test_environment(void **state)
{
    assert_password(*state, "${PRISM_T_SECRET}", secret);
    assert_password(*state, "'${PRISM_T_SECRET}'", secret);
    assert_password(*state, "\"<${PRISM_T_SECRET}|${PRISM_T_NUMBER}>\"", "<hunter2-s3cret|7>");
    assert_password(*state, "${PRISM_T_EMPTY}", "");
    assert_password(*state, "${PRISM_T_UNSET:-fallback}", "fallback");
    assert_password(*state, "${PRISM_T_EMPTY:-fallback}", "fallback");
    assert_password(*state, "${PRISM_T_SECRET:-fallback}", secret);
    assert_password(*state, "${PRISM_T_UNSET:-}", "");
    assert_password(*state, "'${PRISM_T_UNSET:-a:-b $c {d}'", "a:-b $c {d");
}

/* What is put in is data: no keys, no lists, no second expansion. */
static void test_values_are_data(void **state)
{
    assert_password(*state, "${PRISM_T_YAML}", "a: {b: [c]} # ${PRISM_T_NUMBER}");
}

static void test_escape(void **state)
{
    assert_password(*state, "'$${PRISM_T_SECRET}'", "${PRISM_T_SECRET}");
    assert_password(*state, "'$'", "$");
    assert_password(*state, "'a$b$$c'", "a$b$$c");
    assert_password(*state, "'$$${PRISM_T_NUMBER}'", "$${PRISM_T_NUMBER}");
    assert_password(*state, "'$${ ${PRISM_T_NUMBER}$'", "${ 7$");
}

static void test_files(void **state)
{
    assert_password(*state, "${file:@/secret}", secret);
    assert_password(*state, "${file:@/crlf}", secret);
    assert_password(*state, "${file:@/bare}", secret);
    assert_password(*state, "\"${file:@/two}\"", "hunter2-s3cret\n"); /* one line end only */
    assert_password(*state, "${file:@/empty}", "");
    assert_password(*state, "'x${file:@/bare}y'", "xhunter2-s3crety");
}

static void test_typed_values(void **state)
{
    (void)state;
    struct loaded *l =
        load_text("workers: ${PRISM_T_NUMBER}\nlog: {level: '${PRISM_T_UNSET:-warn}'}\n"
                  "strict_slots: ${PRISM_T_UNSET:-false}\n");

    assert_no_fault(l);
    assert_int_equal(l->config.workers, 7);
    assert_int_equal(l->config.log_level, LOG_WARN);
    unload(l);
}

static void test_refused(void **state)
{
    assert_refused(*state, "${PRISM_T_UNSET}", "`PRISM_T_UNSET` is not set");
    assert_refused(*state, "${PRISM_T_LATIN}", "`PRISM_T_LATIN` holds binary data");
    assert_refused(*state, "'${PRISM_T_SECRET'", "without its }");
    assert_refused(*state, "'${}'", "without a proper name");
    assert_refused(*state, "'${1A}'", "without a proper name");
    assert_refused(*state, "'${A B}'", "without a proper name");
    assert_refused(*state, "'${:-x}'", "without a proper name");
    assert_refused(*state, "'${A-x}'", "without a proper name");
    assert_refused(*state, "${file:@/none}", "does not exist");
    assert_refused(*state, "'${file:}'", "does not exist");
    assert_refused(*state, "${file:@}", "is not a regular file");
    assert_refused(*state, "${file:@/fifo}", "is not a regular file"); /* and does not block */
    assert_refused(*state, "${file:/dev/zero}", "is not a regular file");
    assert_refused(*state, "${file:@/binary}", "holds binary data");
    assert_refused(*state, "${file:@/latin}", "holds binary data");
    assert_refused(*state, "${file:@/big}", "larger than 64 KiB");
    assert_refused(*state, "'x${file:@/fits}'", "longer than 64 KiB");
}

/* A secret that lands where it does not belong is not shown either. */
static void test_secrets_stay_hidden(void **state)
{
    (void)state;
    static const char *const texts[] = {
        "workers: ${PRISM_T_SECRET}\n", "strict_slots: ${PRISM_T_SECRET}\n",
        "dispatch: ${PRISM_T_SECRET}\n", "listen: ${PRISM_T_SECRET}\n",
        "admin: ${PRISM_T_SECRET}\n",
        "tls: {cert: '${PRISM_T_SECRET}', key: '${PRISM_T_SECRET}'}\n",
        "limits: {intake_depth: '${PRISM_T_SECRET}'}\n",
        "namespaces:\n- name: ' ${PRISM_T_SECRET}'\n  pattern: ${PRISM_T_SECRET}\n",
        "namespaces:\n- name: a\n  pattern: keyvalue\n"
        "  slots:\n    primary: {backend: '${PRISM_T_SECRET}'}\n",
        "namespaces:\n- name: a\n  pattern: keyvalue\n"
        "  slots:\n    primary: {backend: redis, config: {address: h, "
        "database: '${PRISM_T_SECRET}', tls: '${PRISM_T_SECRET}'}}\n",
        "namespaces:\n- name: a\n  pattern: keyvalue\n"
        "  slots:\n    primary: {backend: memstore, "
        "emulate: ['${PRISM_T_SECRET}']}\n  behavior: {window: '${PRISM_T_SECRET}'}\n",
        /* written out, but in places where values are never repeated */
        "pasword: hunter2-s3cret\n",
        "namespaces:\n- name: a\n  pattern: keyvalue\n"
        "  slots:\n    primary: {backend: redis, config: {address: h, "
        "pasword: hunter2-s3cret, password: [hunter2-s3cret]}}\n",
        "a: \"hunter2-s3cret\n", "a: {hunter2-s3cret: hunter2-s3cret\n"};

    for (size_t i = 0; i < sizeof texts / sizeof texts[0]; i++) {
        struct loaded *l = load_text(texts[i]);

        assert_true(l->faults.count > 0);
        assert_hidden(&l->faults);
        unload(l);
    }
}

/* 64 KiB in each of more than sixteen values. */
static void test_sum_is_bounded(void **state)
{
    const struct place *place = *state;
    char yaml[8192];
    int n = snprintf(yaml, sizeof yaml, "namespaces:\n");

    for (int i = 0; i < 20; i++)
        n += snprintf(yaml + n, sizeof yaml - (size_t)n,
                      "- {name: n%d, pattern: keyvalue, "
                      "slots: {primary: {backend: redis, config: {address: h, "
                      "password: '${file:%s/fits}'}}}}\n",
                      i, place->folder);
    struct loaded *l = load_text(yaml);

    assert_int_equal(l->faults.count, 4); /* 16 x 64 KiB = 1 MiB is what fits */
    assert_string_equal(l->faults.items[0].path, "namespaces[16].slots.primary.config.password");
    assert_string_equal(l->faults.items[0].message, "all ${..} together add more than 1 MiB");
    unload(l);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_environment),
        cmocka_unit_test(test_values_are_data),
        cmocka_unit_test(test_escape),
        cmocka_unit_test(test_files),
        cmocka_unit_test(test_typed_values),
        cmocka_unit_test(test_refused),
        cmocka_unit_test(test_secrets_stay_hidden),
        cmocka_unit_test(test_sum_is_bounded),
    };

    return cmocka_run_group_tests_name("config expansion", tests, setup, teardown);
}
