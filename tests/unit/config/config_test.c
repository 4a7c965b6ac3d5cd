#include "tests/unit/config/loaded.h"

#include <fcntl.h>
#include <sched.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

/* ---- defaults ---- */

static void assert_default_namespace(const struct config *config)
{
    assert_int_equal(config->namespace_count, 1);
    const struct config_namespace *ns = &config->namespaces[0];

    assert_string_equal(ns->name, "default");
    assert_ptr_equal(ns->pattern, &fake_keyvalue);
    assert_ptr_equal(ns->slots[0].backend, &fake_memstore);
    assert_null(ns->slots[0].values); /* it has no settings */
    assert_int_equal(ns->slots[0].emulate, 0);
    assert_int_equal(ns->behavior[0].number, 10);
}

static void test_defaults(void **state)
{
    (void)state;
    struct config config;
    struct faults faults;
    cpu_set_t cores;

    faults_init(&faults);
    assert_int_equal(config_load(&config, NULL, &fake_catalog, &faults).code, ERR_OK);
    assert_string_equal(config.listen, "127.0.0.1:8980");
    assert_string_equal(config.admin, "127.0.0.1:9090");
    assert_int_equal(sched_getaffinity(0, sizeof cores, &cores), 0);
    assert_int_equal(config.workers, CPU_COUNT(&cores) > 64 ? 64 : CPU_COUNT(&cores));
    assert_int_equal(config.dispatch, CONFIG_DISPATCH_AUTO);
    assert_int_equal(config.coalesce, CONFIG_COALESCE_BUFFER);
    assert_int_equal(config.limits.max_message_bytes, 4 << 20);
    assert_int_equal(config.limits.max_inflight_calls, 16384);
    assert_int_equal(config.limits.connection_share_percent, 50);
    assert_int_equal(config.limits.max_general_streams, 1024);
    assert_int_equal(config.limits.request_timeout_ms, 60000);
    assert_int_equal(config.limits.unread_answer_ms, 60000);
    assert_int_equal(config.limits.intake_depth, 4096);
    assert_int_equal(config.limits.max_inflight_bytes, 256 << 20);
    assert_int_equal(config.limits.max_streams_per_connection, 4096);
    assert_int_equal(config.limits.transport_bytes, 256 << 20);
    assert_int_equal(config.limits.max_connections, 0);
    assert_int_equal(config.limits.max_connections_per_peer, 0);
    assert_int_equal(config.limits.max_metadata_bytes, 8192);
    assert_int_equal(config.keepalive.interval_ms, 60000);
    assert_int_equal(config.keepalive.timeout_ms, 20000);
    assert_int_equal(config.keepalive.min_ping_interval_ms, 10000);
    assert_int_equal(config.connection.max_idle_ms, 0);
    assert_int_equal(config.connection.max_age_ms, 0);
    assert_int_equal(config.connection.max_age_grace_ms, 0);
    assert_int_equal(config.log_level, LOG_INFO);
    assert_null(config.tls.cert);
    assert_null(config.tls.key);
    assert_null(config.tls.client_ca);
    assert_true(config.deprecated_services);
    assert_true(config.reflection);
    assert_false(config.strict_slots);
    assert_int_equal(config.drain_timeout_ms, 30000);
    assert_default_namespace(&config);
    config_clear(&config);
    faults_clear(&faults);
}

/* A file that was named and holds nothing is no wish for the defaults. */
static void test_empty_is_a_fault(void **state)
{
    (void)state;
    static const char *const texts[] = {"", "\n", "# nothing\n", "---\n", "{}", "~"};

    for (size_t i = 0; i < sizeof texts / sizeof texts[0]; i++) {
        struct loaded *l = load_text(texts[i]);

        assert_int_equal(l->faults.count, 1);
        assert_string_equal(l->faults.items[0].path, "");
        assert_non_null(strstr(l->faults.items[0].message, "empty"));
        unload(l);
    }
}

static void test_what_is_absent_is_the_default(void **state)
{
    (void)state;
    static const char *const texts[] = {"limits:\n", "limits: {}\nlog: {}\n"};

    for (size_t i = 0; i < sizeof texts / sizeof texts[0]; i++) {
        struct loaded *l = load_text(texts[i]);

        assert_no_fault(l);
        assert_int_equal(l->config.limits.intake_depth, 4096);
        assert_default_namespace(&l->config);
        unload(l);
    }
}

/* ---- everything set ---- */

static void assert_every_limit(const struct config_limits *limits)
{
    assert_int_equal(limits->max_message_bytes, 1048576);
    assert_int_equal(limits->max_inflight_calls, 100);
    assert_int_equal(limits->connection_share_percent, 70);
    assert_int_equal(limits->max_general_streams, 7);
    assert_int_equal(limits->unread_answer_ms, 0);
    assert_int_equal(limits->intake_depth, 64);
    assert_true(limits->max_inflight_bytes == 99999999999ull);
    assert_int_equal(limits->max_streams_per_connection, 7);
    assert_int_equal(limits->transport_bytes, 0);
    assert_int_equal(limits->max_connections, 60000);
    assert_int_equal(limits->max_connections_per_peer, 1);
    assert_int_equal(limits->max_metadata_bytes, 1024);
}

static void test_every_key(void **state)
{
    (void)state;
    struct loaded *l =
        load_text("listen: '[::1]:7000'\n"
                  "admin: 0.0.0.0:7001\n"
                  "workers: 3\n"
                  "dispatch: ring\n"
                  "coalesce: off\n"
                  "limits:\n"
                  "  max_message_bytes: 1048576\n"
                  "  max_inflight_calls: 100\n"
                  "  connection_share_percent: 70\n"
                  "  max_general_streams: 7\n"
                  "  unread_answer_ms: 0\n"
                  "  intake_depth: 64\n"
                  "  max_inflight_bytes: 99999999999\n"
                  "  max_streams_per_connection: 7\n"
                  "  transport_bytes: 0\n"
                  "  max_connections: 60000\n"
                  "  max_connections_per_peer: 1\n"
                  "  max_metadata_bytes: 1024\n"
                  "keepalive: {interval_ms: 1000, timeout_ms: 100, "
                  "min_ping_interval_ms: 0}\n"
                  "connection: {max_idle_ms: 1001, max_age_ms: 1002, "
                  "max_age_grace_ms: 1003}\n"
                  "log: {level: error}\n"
                  "tls: {cert: /etc/passwd, key: /etc/passwd, client_ca: /etc/passwd}\n"
                  "deprecated_services: disabled\n"
                  "reflection: disabled\n"
                  "strict_slots: true\n"
                  "drain_timeout_ms: 0\n");

    assert_no_fault(l);
    assert_string_equal(l->config.listen, "[::1]:7000");
    assert_string_equal(l->config.admin, "0.0.0.0:7001");
    assert_int_equal(l->config.workers, 3);
    assert_int_equal(l->config.dispatch, CONFIG_DISPATCH_RING);
    assert_int_equal(l->config.coalesce, CONFIG_COALESCE_OFF);
    assert_every_limit(&l->config.limits);
    assert_int_equal(l->config.keepalive.interval_ms, 1000);
    assert_int_equal(l->config.keepalive.timeout_ms, 100);
    assert_int_equal(l->config.keepalive.min_ping_interval_ms, 0);
    assert_int_equal(l->config.connection.max_idle_ms, 1001);
    assert_int_equal(l->config.connection.max_age_ms, 1002);
    assert_int_equal(l->config.connection.max_age_grace_ms, 1003);
    assert_int_equal(l->config.log_level, LOG_ERROR);
    assert_string_equal(l->config.tls.cert, "/etc/passwd");
    assert_string_equal(l->config.tls.key, "/etc/passwd");
    assert_string_equal(l->config.tls.client_ca, "/etc/passwd");
    assert_false(l->config.deprecated_services);
    assert_false(l->config.reflection);
    assert_true(l->config.strict_slots);
    assert_int_equal(l->config.drain_timeout_ms, 0);
    unload(l);
}

static void test_namespaces(void **state)
{
    (void)state;
    struct loaded *l = load_text("namespaces:\n"
                                 "  - name: orders\n"
                                 "    description: what is being ordered\n"
                                 "    pattern: keyvalue\n"
                                 "    slots:\n"
                                 "      primary:\n"
                                 "        backend: redis\n"
                                 "        config: {address: 'h:1', database: 3, tls: true}\n"
                                 "        emulate: [batch, expiration]\n"
                                 "    behavior: {window: 1000}\n"
                                 "  - name: orders\n" /* the same name, another pattern */
                                 "    pattern: multicast_relay\n"
                                 "    slots:\n"
                                 "      registry: {backend: memstore, config: , emulate: }\n"
                                 "      index: {backend: s3, emulate: [KeyValueScanInterface]}\n"
                                 "      sink: {backend: redis, config: {address: 'h:1'}}\n"
                                 "    behavior:\n");

    assert_no_fault(l);
    assert_int_equal(l->config.namespace_count, 2);
    const struct config_namespace *orders = &l->config.namespaces[0], *relay = orders + 1;

    assert_string_equal(orders->name, "orders");
    assert_ptr_equal(orders->pattern, &fake_keyvalue);
    assert_ptr_equal(orders->slots[0].backend, &fake_redis);
    assert_string_equal(orders->slots[0].values[0].text, "h:1");
    assert_string_equal(orders->slots[0].values[1].text, ""); /* by default */
    assert_int_equal(orders->slots[0].values[2].number, 3);
    assert_int_equal(orders->slots[0].values[3].number, 1);
    assert_int_equal(orders->slots[0].emulate, 1u << BACKEND_KV_BATCH | 1u << BACKEND_KV_TTL);
    assert_int_equal(orders->behavior[0].number, 1000);
    assert_ptr_equal(relay->pattern, &fake_relay);
    assert_null(relay->behavior);
    assert_ptr_equal(relay->slots[0].backend, &fake_memstore);
    assert_ptr_equal(relay->slots[1].backend, &fake_s3);
    assert_int_equal(relay->slots[1].emulate, 1u << BACKEND_KV_SCAN);
    assert_null(relay->slots[2].backend);                   /* optional, empty */
    assert_ptr_equal(relay->slots[3].backend, &fake_redis); /* one of two interfaces is enough */
    unload(l);
}

/* Texts come through as they are, whatever YAML or libcyaml may think of them. */
static void test_texts_are_kept_exactly(void **state)
{
    (void)state;
    struct loaded *l = load_text("namespaces:\n"
                                 "- name: a\n"
                                 "  pattern: keyvalue\n"
                                 "  slots: {primary: {backend: redis, config: {\n"
                                 "    address: \" a\\n\\tb\\\"\\\\: {}[],&*#?|<>=!%@\\x01\\x7f"
                                 "\\u20ac\\U0001F600\\_\\N\\L \",\n"
                                 "    password: 'null'}}}\n");

    assert_no_fault(l);
    const struct backend_value *values = l->config.namespaces[0].slots[0].values;

    assert_string_equal(values[0].text, " a\n\tb\"\\: {}[],&*#?|<>=!%@\x01\x7f\xe2\x82\xac"
                                        "\xf0\x9f\x98\x80\xc2\xa0\xc2\x85\xe2\x80\xa8 ");
    assert_string_equal(values[1].text, "null");
    unload(l);
}

static void test_largest_numbers(void **state)
{
    (void)state;
    struct loaded *l = load_text("limits: {max_inflight_bytes: 1099511627776}\n"
                                 "workers: 64\ndrain_timeout_ms: 3600000\n");

    assert_no_fault(l);
    assert_true(l->config.limits.max_inflight_bytes == 1ull << 40);
    assert_int_equal(l->config.workers, 64);
    unload(l);
}

static void test_admin_off_and_unix_socket(void **state)
{
    (void)state;
    struct loaded *l = load_text("admin: off\nlisten: unix:/run/prism.sock\n");

    assert_no_fault(l);
    assert_null(l->config.admin);
    assert_string_equal(l->config.listen, "unix:/run/prism.sock");
    unload(l);
    l = load_text("admin: localhost:0\nlisten: localhost:0\n"); /* two free ports */
    assert_no_fault(l);
    unload(l);
}

/* ---- files ---- */

static struct err try_tls(const char *cert, const char *key, const char *client_ca)
{
    assert_string_equal(cert, "/dev/../etc/passwd");
    assert_string_equal(key, "/etc/passwd");
    assert_null(client_ca);
    return err_about(ERR_FAILED_PRECONDITION, "tls.key", "is the key of another certificate");
}

static void test_tls_files_are_tried(void **state)
{
    (void)state;
    static const char text[] = "tls:\n  cert: /dev/../etc/passwd\n  key: /etc/passwd\n";
    struct config_catalog catalog = fake_catalog;
    struct config config;
    struct faults faults;

    catalog.try_tls = try_tls;
    faults_init(&faults);
    assert_int_equal(config_parse(&config, slice_str(text), &catalog, &faults).code,
                     ERR_INVALID_ARGUMENT);
    assert_int_equal(faults.count, 1);
    assert_string_equal(faults.items[0].path, "tls.key");
    assert_int_equal(faults.items[0].line, 3);
    config_clear(&config);
    faults_clear(&faults);
}

static void test_described(void **state)
{
    (void)state;
    struct loaded *l = load_text("listen: ${PRISM_T_NONE:-127.0.0.1:1}\n");
    char text[64];

    config_describe(&l->config, text, sizeof text);
    assert_string_equal(text, "default (keyvalue: primary=memstore)");
    config_describe(&l->config, text, 8);
    assert_string_equal(text, "default");
    assert_false(l->config.listen_hidden); /* the file's own default is no secret */
    unload(l);
    assert_int_equal(setenv("PRISM_T_HOST", "127.0.0.2", 1), 0);
    l = load_text("listen: ${PRISM_T_HOST}:1\n");
    assert_true(l->config.listen_hidden);
    assert_false(l->config.admin_hidden);
    unload(l);
}

static void test_file(void **state)
{
    (void)state;
    char path[] = "/tmp/prism-config-XXXXXX";
    struct config config;
    struct faults faults;
    int fd = mkstemp(path);

    assert_true(fd >= 0);
    assert_int_equal(write(fd, "workers: 5\n", 11), 11);
    close(fd);
    faults_init(&faults);
    assert_int_equal(config_load(&config, path, &fake_catalog, &faults).code, ERR_OK);
    assert_int_equal(config.workers, 5);
    config_clear(&config);
    unlink(path);

    assert_int_equal(config_load(&config, path, &fake_catalog, &faults).code, ERR_NOT_FOUND);
    assert_int_equal(faults.count, 1);
    assert_string_equal(faults.items[0].path, "");
    config_clear(&config);
    assert_int_equal(config_load(&config, "/tmp", &fake_catalog, &faults).code, ERR_NOT_FOUND);
    assert_non_null(strstr(faults.items[1].message, "folder"));
    config_clear(&config);
    assert_int_equal(config_load(&config, "/dev/zero", &fake_catalog, &faults).code,
                     ERR_INVALID_ARGUMENT);
    assert_non_null(strstr(faults.items[2].message, "larger than 1 MiB"));
    config_clear(&config);
    faults_clear(&faults);
    faults_clear(&faults); /* again: no harm */
}

static void test_clear_of_nothing(void **state)
{
    (void)state;
    struct config config = {0};

    config_clear(&config);
    config_clear(&config);
    assert_null(config.listen);
}

/* ---- the reference ---- */

static void test_facts_are_sound(void **state)
{
    (void)state;
    size_t n = 0;

    for (const struct config_fact *f = config_facts(); f->path != NULL; f++, n++) {
        assert_true(strlen(f->doc) > 10);
        assert_true(f->min <= f->max);
        for (const struct config_fact *g = config_facts(); g != f; g++)
            assert_string_not_equal(f->path, g->path);
    }
    assert_true(n >= 32); /* the documentation is held against it */
}

/* The documentation's table is the table of facts: a row "| `key` | `default` | bounds | meaning |"
 * each. */
static void test_documentation_has_every_key(void **state)
{
    (void)state;
    char *text = malloc(1 << 20), row[512], bounds[96];
    FILE *file = fopen(TEST_DATA "/../docs/configuration.md", "r");

    assert_non_null(file);
    text[fread(text, 1, (1 << 20) - 1, file)] = '\0';
    fclose(file);
    for (const struct config_fact *f = config_facts(); f->path != NULL; f++) {
        bounds[0] = '\0';
        if (f->max > 0)
            snprintf(bounds, sizeof bounds, "%s%llu..%llu", f->zero ? "0 or " : "",
                     (unsigned long long)f->min, (unsigned long long)f->max);
        snprintf(row, sizeof row, "| `%s` | %s%s%s | %s | %s |\n", f->path, f->fallback ? "`" : "",
                 f->fallback ? f->fallback : "none", f->fallback ? "`" : "", bounds, f->doc);
        if (strstr(text, row) == NULL)
            fail_msg("docs/configuration.md lacks this row:\n%s", row);
    }
    free(text);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_defaults),
        cmocka_unit_test(test_empty_is_a_fault),
        cmocka_unit_test(test_what_is_absent_is_the_default),
        cmocka_unit_test(test_every_key),
        cmocka_unit_test(test_namespaces),
        cmocka_unit_test(test_texts_are_kept_exactly),
        cmocka_unit_test(test_largest_numbers),
        cmocka_unit_test(test_admin_off_and_unix_socket),
        cmocka_unit_test(test_tls_files_are_tried),
        cmocka_unit_test(test_described),
        cmocka_unit_test(test_file),
        cmocka_unit_test(test_clear_of_nothing),
        cmocka_unit_test(test_facts_are_sound),
        cmocka_unit_test(test_documentation_has_every_key),
    };

    return cmocka_run_group_tests_name("config", tests, NULL, NULL);
}
