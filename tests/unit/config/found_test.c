/* What no table says: what backends and patterns find by themselves. And where faults are. */
#include "tests/unit/config/examples.h"

/* ---- settings that the backend itself looks at ---- */

#define CONFIG NS "  slots:\n    primary:\n      backend: redis\n      config:\n"
#define AT     "namespaces[0].slots.primary.config."

static const struct example together[] = {
    {CONFIG "        address: '/h'\n",
     {{AT "address", 8, "the host is empty", "like localhost:6379"}}},
    /* Each one at its own line; what is wrong by itself is said as well. */
    {CONFIG "        tls: maybe\n        password: p\n        database: 3\n"
            "        address: '/q@h'\n",
     {{AT "tls", 8, "`maybe` is neither", "true or false"},
      {AT "password", 9, "the address holds a password as well", "remove it, or the password"},
      {AT "database", 10, "the address names another database", "remove it, or the database"},
      {AT "address", 11, "the host is empty", "like localhost:6379"}}},
    /* The consequences of a fault are not told: neither of the setting itself nor of its other. */
    {CONFIG "        address: 'h/1'\n        database: 16\n",
     {{AT "database", 9, "`16` is out of bounds", "use 0..15"}}},
    {CONFIG "        address: [h/1]\n        database: 2\n",
     {{AT "address", 8, "is a list", NULL}}},
    {CONFIG "        address: 'q@h/1'\n        password: ${NOT_SET_AT_ALL}\n        database: 2\n",
     {{AT "password", 9, "NOT_SET_AT_ALL", ""},
      {AT "database", 10, "the address names another database", "remove it"}}},
    {NS "  slots: {primary: {backend: redis, config: 5}}\n",
     {{"namespaces[0].slots.primary.config", 4, "is a single value", NULL}}},
    /* A slot that the pattern does not have is looked at, too. */
    {NS "  slots:\n    primary: {backend: memstore}\n"
        "    other: {backend: redis, config: {address: '/h'}}\n",
     {{"namespaces[0].slots.other", 6, "has no slot `other`", "known here: primary"},
      {"namespaces[0].slots.other.config.address", 6, "the host is empty", "like"}}},
};

/* ---- what the pattern itself looks at ---- */

static const struct example looked_at[] = {
    /* All of it at once, each with its line, beside the faults of others. */
    {"workers: 99\n" NS "  slots: {primary: {backend: s3, emulate: [keyvalue_tll]}}\n"
     "  behavior:\n    window: 501\n    when_full: refsue\n    spare: 700\n",
     {{"workers", 1, "out of bounds", "0..64"},
      {"namespaces[0].slots.primary.emulate[0]", 5, "`keyvalue_tll`", "`keyvalue_ttl`?"},
      {"namespaces[0].slots.primary", 5, "the window is too large for this backend", "at most"},
      {"namespaces[0].behavior.when_full", 8, "is neither wait nor refuse",
       "did you mean `refuse`?"},
      {"namespaces[0].behavior.spare", 9, "is not below the window", "lower it"}}},
    {NS "  slots: {primary: {backend: s3}}\n  behavior: {when_full: xyzzy}\n",
     {{"namespaces[0].behavior.when_full", 5, "is neither wait nor refuse", NULL}}},
    /* The consequences of a fault are not told, and a slot without a backend is an empty one. */
    {NS "  slots: {primary: {backend: redsi}}\n  behavior: {window: 5000, spare: 600}\n",
     {{"namespaces[0].slots.primary.backend", 4, "no backend", "did you mean `redis`?"},
      {"namespaces[0].behavior.window", 5, "`5000` is out of bounds", "use 1..1000"}}},
};

/* ---- lines ---- */

static const struct example places[] = {
    /* Of the key, wherever its value stands, and whatever stands between. */
    {"namespaces:\n- name: a\n  description: x\n\n  pattern: kv\n- name: b\n"
     "  pattern: keyvalue\n  slots:\n    primary:\n      emulate: []\n"
     "      backend:\n        rediss\n",
     {{"namespaces[0].pattern", 5, "no pattern has this name", "known here"},
      {"namespaces[1].slots.primary.backend", 11, "no backend has this name", "`redis`?"}}},
    {RELAY "    registry:\n      emulate: []\n      backend: s3\n",
     {{"namespaces[0].slots.registry", 5, "needs KeyValueScanInterface", "memstore or redis"}}},
    /* What is missing: the line of what it would stand in. */
    {"listen: 'h:1'\ntls:\n  cert: /etc/passwd\n", {{"tls.key", 2, "missing", "add"}}},
    {NS "  slots:\n    primary:\n      config:\n        tls: true\n      backend: redis\n",
     {{"namespaces[0].slots.primary.config.address", 6, "needs the setting `address`", "add"}}},
};

static void test_together(void **state)
{
    (void)state;
    CHECK_ALL(together);
}

static void test_what_patterns_look_at(void **state)
{
    (void)state;
    CHECK_ALL(looked_at);
}

static void test_places(void **state)
{
    (void)state;
    CHECK_ALL(places);
}

/* What a program shows apart from the sentence. */
static void test_fields_of_a_slot_fault(void **state)
{
    (void)state;
    struct loaded *l = load_text(RELAY "    registry: {backend: s3}\n");

    assert_int_equal(l->faults.count, 1);
    assert_string_equal(l->faults.items[0].slot, "registry");
    assert_string_equal(l->faults.items[0].backend, "s3");
    assert_string_equal(l->faults.items[0].interface, "KeyValueScanInterface");
    unload(l);
    l = load_text(CONFIG "        address: '/h'\n");
    assert_string_equal(l->faults.items[0].slot, "primary");
    assert_string_equal(l->faults.items[0].backend, "redis");
    assert_null(l->faults.items[0].interface);
    unload(l);
    l = load_text("workers: x\n");
    assert_null(l->faults.items[0].slot);
    assert_null(l->faults.items[0].backend);
    assert_null(l->faults.items[0].interface);
    unload(l);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_together),
        cmocka_unit_test(test_what_patterns_look_at),
        cmocka_unit_test(test_places),
        cmocka_unit_test(test_fields_of_a_slot_fault),
    };

    return cmocka_run_group_tests_name("config findings", tests, NULL, NULL);
}
