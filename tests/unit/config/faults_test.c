/* Every kind of fault: its place, its line, what it says, how it is mended. */
#include "tests/unit/config/examples.h"

/* ---- shape ---- */

static const struct example shapes[] = {
    {"just text", {{"", 1, "is a single value, but must be a mapping", NULL}}},
    {"- a\n- b\n", {{"", 1, "is a list, but must be a mapping", NULL}}},
    {"limits: 5\n", {{"limits", 1, "is a single value, but must be a mapping", NULL}}},
    {"\nlimits: [1]\n", {{"limits", 2, "is a list, but must be a mapping", NULL}}},
    {"listen: {a: b}\n", {{"listen", 1, "is a mapping, but must be a text", NULL}}},
    {"workers: [2]\n", {{"workers", 1, "is a list, but must be a number", NULL}}},
    {"workers:\n", {{"workers", 1, "has no value, but must be a number", "remove the line"}}},
    {"listen: ''\n", {{"listen", 1, "is empty", "give it a value"}}},
    {"namespaces: 5\n", {{"namespaces", 1, "is a single value, but must be a list", NULL}}},
    {"namespaces: {a: b}\n", {{"namespaces", 1, "is a mapping, but must be a list", NULL}}},
    {"namespaces: []\n", {{"namespaces", 1, "there is no namespace", "add one"}}},
    {"namespaces:\n", {{"namespaces", 1, "there is no namespace", "add one"}}},
    {"a: 1\na: 2\n",
     {{"a", 1, "unknown key `a`", "known here: listen"},
      {"a", 2, "the key `a` appears twice", "keep one"}}},
    {"workers: 1\nworkers: 2\n", {{"workers", 2, "the key `workers` appears twice", "keep one"}}},
    {"workers: !!int 3\n", {{"workers", 1, "tags are not used", "remove the tag"}}},
    {"limits: !mine {}\n", {{"limits", 1, "tags are not used", "remove the tag"}}},
    {"listen: &x 'h:1'\nadmin: *x\n",
     {{"admin", 2, "aliases (*name) are not used", "write the value out"},
      {"admin", 2, "has no value", "give"}}},
    {"a: 1\n---\nb: 2\n", {{"", 2, "a second document", "remove the `---`"}}},
    {"a: [1\n", {{"", 2, "not YAML", NULL}}},
    {"\ta: 1\n",
     {{"", 1, "not YAML: found character that cannot start any token (column 1)", NULL}}},
    {"? [a]\n: b\n", {{"", 1, "a key must be a plain text", NULL}}},
    {"{[a]: b}\n", {{"", 1, "a key must be a plain text", NULL}}},
    {"*a : b\n", {{"", 1, "a key must be a plain text", NULL}}},
    {"listen: \"a\\0b\"\n", {{"", 1, "NUL", NULL}}},
    {"\xff\xff\n", {{"", 1, "not YAML", NULL}}},
    {"a: [[[[[[[[[[[[[[[[[1]]]]]]]]]]]]]]]]]\n", {{"", 1, "nested too deeply", NULL}}},
};

/* ---- keys and values of the server ---- */

static const struct example server[] = {
    {"lisen: 'h:1'\n", {{"lisen", 1, "unknown key `lisen`", "did you mean `listen`?"}}},
    {"amdin: off\n", {{"amdin", 1, "unknown key `amdin`", "did you mean `admin`?"}}},
    {"Workers: 1\n", {{"Workers", 1, "unknown key `Workers`", "did you mean `workers`?"}}},
    {"port: 1\n", {{"port", 1, "unknown key `port`", "did you mean `listen`?"}}},
    {"strict-slots: true\n", {{"strict-slots", 1, "unknown key", "did you mean `strict_slots`?"}}},
    {"limits: {message_bytes: 1}\n",
     {{"limits.message_bytes", 1, "unknown key", "did you mean `max_message_bytes`?"}}},
    {"limits: {max_mesage_byts: 1}\n",
     {{"limits.max_mesage_byts", 1, "unknown key", "did you mean `max_message_bytes`?"}}},
    {"log: {xyzzy: 1}\n", {{"log.xyzzy", 1, "unknown key", "known here: level"}}},
    {".line: 1\n", {{".line", 1, "unknown key", "known here"}}},
    {"'': 1\n", {{"", 1, "unknown key ``", "known here"}}},
    {"workers: many\n", {{"workers", 1, "`many` is not a whole number", "digits only"}}},
    {"workers: 010\n", {{"workers", 1, "`010` is not a whole number", "digits only"}}},
    {"workers: -1\n", {{"workers", 1, "`-1` is not a whole number", "digits only"}}},
    {"workers: 1.5\n", {{"workers", 1, "`1.5` is not a whole number", "digits only"}}},
    {"workers: '3 '\n", {{"workers", 1, "`3 ` is not a whole number", "digits only"}}},
    {"drain_timeout_ms: 30s\n", {{"drain_timeout_ms", 1, "`30s` is not", "digits only"}}},
    {"workers: 65\n", {{"workers", 1, "`65` is out of bounds", "use 0..64"}}},
    {"workers: 18446744073709551616\n", {{"workers", 1, "is not a whole number", "digits"}}},
    {"workers: 18446744073709551615\n", {{"workers", 1, "out of bounds", "use 0..64"}}},
    {"keepalive: {interval_ms: 999}\n",
     {{"keepalive.interval_ms", 1, "out of bounds", "use 0 or 1000..86400000"}}},
    {"limits: {max_message_bytes: 0}\n",
     {{"limits.max_message_bytes", 1, "`0` is out of bounds", "use 1024..268435456"}}},
    {"limits: {intake_depth: 1000}\n", {{"limits.intake_depth", 1, "power of two", "use 1024"}}},
    {"limits: {max_inflight_bytes: 2048}\n",
     {{"limits.max_inflight_bytes", 1, "smaller than limits.max_message_bytes",
       "use at least 4194304"}}},
    {"dispatch: automatic\n", {{"dispatch", 1, "`automatic` is not one of auto, ring", "`auto`?"}}},
    {"dispatch: 1\n", {{"dispatch", 1, "is not one of auto, ring", "known here: auto and ring"}}},
    {"coalesce: of\n", {{"coalesce", 1, "is not one of off, more, buffer", "mean `off`?"}}},
    {"log: {level: warning}\n", {{"log.level", 1, "`warning` is not one of", "mean `warn`?"}}},
    {"deprecated_services: true\n",
     {{"deprecated_services", 1, "`true` is not one of", "known here: enabled and disabled"}}},
    {"strict_slots: yes\n", {{"strict_slots", 1, "`yes` is neither", "true or false"}}},
    {"listen: 127.0.0.1\n", {{"listen", 1, "has no port", "127.0.0.1:8980"}}},
    {"listen: ':80'\n", {{"listen", 1, "no proper host", "127.0.0.1:8980"}}},
    {"listen: '::1:80'\n", {{"listen", 1, "no proper host", "[::1]:8980"}}},
    {"listen: '[::g]:80'\n", {{"listen", 1, "no proper host", "[::1]:8980"}}},
    {"listen: 'h:65536'\n", {{"listen", 1, "not one of 0..65535", "127"}}},
    {"listen: 'h:x'\n", {{"listen", 1, "not one of 0..65535", "127"}}},
    {"listen: 'unix:'\n", {{"listen", 1, "must have 1..106 bytes", "unix:/run"}}},
    {"admin: 'unix:/x'\n", {{"admin", 1, "not one of 0..65535", "or off"}}},
    {"admin: 127.0.0.1:8980\n", {{"admin", 1, "the same address as `listen`", "port of its own"}}},
    {"tls: {cert: /etc/passwd}\n", {{"tls.key", 1, "missing", "add the private key"}}},
    {"tls: {key: /etc/passwd}\n", {{"tls.cert", 1, "missing", "add the certificate"}}},
    {"tls: {client_ca: /etc/passwd}\n",
     {{"tls.client_ca", 1, "the server has none", "add tls.cert"}}},
    {"tls: {cert: /nowhere/c, key: /etc/passwd}\n", {{"tls.cert", 1, "does not exist", NULL}}},
    {"tls:\n  cert: /\n  key: /etc/passwd\n  client_ca: /nowhere/ca\n",
     {{"tls.cert", 2, "is a folder, not a file", NULL},
      {"tls.client_ca", 4, "does not exist", NULL}}},
};

/* ---- namespaces ---- */

static const struct example spaces[] = {
    {"namespaces: [5]\n", {{"namespaces[0]", 1, "is a single value", NULL}}},
    {"namespaces:\n- pattern: keyvalue\n  slots: {primary: {backend: memstore}}\n",
     {{"namespaces[0].name", 2, "has no name", "add `name: default`"}}},
    {"namespaces:\n- name: a b\n  pattern: keyvalue\n  slots: {primary: {backend: memstore}}\n",
     {{"namespaces[0].name", 2, "not a name", NULL}}},
    {"namespaces:\n- name: -a\n  pattern: keyvalue\n  slots: {primary: {backend: memstore}}\n",
     {{"namespaces[0].name", 2, "not a name", NULL}}},
    {"namespaces:\n- name: [a]\n  pattern: {}\n",
     {{"namespaces[0].name", 2, "is a list", NULL},
      {"namespaces[0].pattern", 3, "is a mapping", NULL}}},
    {"namespaces:\n- name: a\n",
     {{"namespaces[0].pattern", 2, "names no pattern",
       "add `pattern: keyvalue or multicast_relay`"}}},
    {"namespaces:\n- name: a\n  pattern: multicast-relay\n  slots: {registry: {backend: redis}}\n",
     {{"namespaces[0].pattern", 3, "no pattern has this name", "did you mean `multicast_relay`?"},
      {"namespaces[0].slots.registry.config.address", 4,
       "backend redis needs the setting `address`", "add"}}},
    {NS,
     {{"namespaces[0].slots.primary", 2, "pattern keyvalue needs slot primary",
       "memstore, redis or s3"}}},
    {NS "  slots: 5\n",
     {{"namespaces[0].slots", 4, "is a single value, but must be a mapping", NULL}}},
    {NS "  slots: [primary]\n",
     {{"namespaces[0].slots", 4, "is a list, but must be a mapping", NULL}}},
    {NS "  slots: {primary: redis}\n",
     {{"namespaces[0].slots.primary", 4, "is a single value", NULL}}},
    {NS "  slots: {'': {}}\n",
     {{"namespaces[0].slots.", 4, "without a name", "give it a name"},
      {"namespaces[0].slots.primary", 4, "needs slot primary", "add"}}},
    {NS "  slots: {primary: {}}\n",
     {{"namespaces[0].slots.primary.backend", 4, "names no backend", "memstore, redis or s3"}}},
    {NS "  slots: {primary: {backend: }}\n",
     {{"namespaces[0].slots.primary.backend", 4, "has no value", "give"}}},
    {NS "  slots: {primary: {backend: rediss}}\n",
     {{"namespaces[0].slots.primary.backend", 4, "no backend has this name",
       "did you mean `redis`?"}}},
    {NS "  slots: {primary: {driver: memstore}}\n",
     {{"namespaces[0].slots.primary.driver", 4, "unknown key `driver`", "did you mean `backend`?"},
      {"namespaces[0].slots.primary.backend", 4, "names no backend", "add `backend: memstore"}}},
    {NS "  slots:\n    primary: {backend: memstore}\n    primery: {backend: memstore}\n",
     {{"namespaces[0].slots.primery", 6, "pattern keyvalue has no slot `primery`",
       "did you mean `primary`?"}}},
    {NS "  slots: {primary: {backend: memstore}}\n  behaviour: {window: 5}\n",
     {{"namespaces[0].behaviour", 5, "unknown key", "did you mean `behavior`?"}}},
    {NS "  slots: {primary: {backend: memstore}}\n  behavior: {windw: 5}\n",
     {{"namespaces[0].behavior.windw", 5, "pattern keyvalue has no setting `windw`",
       "mean `window`?"}}},
    {NS "  slots: {primary: {backend: memstore}}\n  behavior: {window: 0}\n",
     {{"namespaces[0].behavior.window", 5, "`0` is out of bounds", "use 1..1000"}}},
    {NS "  slots: {primary: {backend: memstore}}\n  behavior: {window: 1001}\n",
     {{"namespaces[0].behavior.window", 5, "`1001` is out of bounds", "use 1..1000"}}},
    {NS "  slots: {primary: {backend: memstore}}\n- name: a\n  pattern: keyvalue\n"
        "  slots: {primary: {backend: memstore}}\n",
     {{"namespaces[1].name", 5, "another namespace has the same name and pattern",
       "another name"}}},
    /* A broken neighbour does not shift the numbers. */
    {"namespaces:\n- x\n- name: a\n  pattern: kv\n",
     {{"namespaces[0]", 2, "is a single value", NULL},
      {"namespaces[1].pattern", 4, "no pattern", "known here"}}},
};

/* ---- settings and interfaces ---- */

static const struct example slots[] = {
    {NS "  slots: {primary: {backend: memstore, config: {adress: x}}}\n",
     {{"namespaces[0].slots.primary.config.adress", 4, "backend memstore has no setting `adress`",
       "remove it"}}},
    {NS "  slots: {primary: {backend: redis, config: {adress: 'h:1'}}}\n",
     {{"namespaces[0].slots.primary.config.adress", 4, "redis has no setting `adress`",
       "mean `address`?"},
      {"namespaces[0].slots.primary.config.address", 4, "redis needs the setting `address`",
       "host:port"}}},
    {REDIS ", database: 16}}}\n",
     {{"namespaces[0].slots.primary.config.database", 4, "`16` is out of bounds", "use 0..15"}}},
    {REDIS ", database: two}}}\n",
     {{"namespaces[0].slots.primary.config.database", 4, "`two` is not a whole number", "digits"}}},
    {REDIS ", tls: on}}}\n",
     {{"namespaces[0].slots.primary.config.tls", 4, "`on` is neither", "true or false"}}},
    {REDIS ", tls: }}}\n",
     {{"namespaces[0].slots.primary.config.tls", 4, "has no value", "\"\" for an empty"}}},
    {REDIS ", tls: [true]}}}\n",
     {{"namespaces[0].slots.primary.config.tls", 4, "is a list", NULL}}},
    {NS "  slots: {primary: {backend: redis, config: {address: }}}\n",
     {{"namespaces[0].slots.primary.config.address", 4, "has no value", "\"\""}}},
    {NS "  slots: {primary: {backend: redis, config: [1]}}\n",
     {{"namespaces[0].slots.primary.config", 4, "is a list, but must be a mapping", NULL}}},
    {NS "  slots: {primary: {backend: memstore, emulate: batch}}\n",
     {{"namespaces[0].slots.primary.emulate", 4, "is a single value, but must be a list", NULL}}},
    {NS "  slots: {primary: {backend: memstore, emulate: [bach]}}\n",
     {{"namespaces[0].slots.primary.emulate[0]", 4, "no interface has the name `bach`",
       "did you mean `keyvalue_batch`?"}}},
    {NS "  slots: {primary: {backend: memstore, emulate: [keyvalue_bach]}}\n",
     {{"namespaces[0].slots.primary.emulate[0]", 4, "no interface has the name `keyvalue_bach`",
       "did you mean `keyvalue_batch`?"}}},
    /* The nearest of all, not the nearest of those that go. */
    {NS "  slots:\n    primary:\n      backend: memstore\n      emulate:\n      - batch\n"
        "      - keyvalue_tll\n      - keyvalue_skan\n      - xyzzy\n",
     {{"namespaces[0].slots.primary.emulate[1]", 9, "no interface has the name `keyvalue_tll`",
       "did you mean `keyvalue_ttl`?"},
      {"namespaces[0].slots.primary.emulate[2]", 10, "no interface has the name `keyvalue_skan`",
       "did you mean `keyvalue_scan`? It cannot be emulated in slot primary; possible: "
       "keyvalue_ttl and keyvalue_batch"},
      {"namespaces[0].slots.primary.emulate[3]", 11, "no interface has the name `xyzzy`",
       "known here: keyvalue_ttl and keyvalue_batch"}}},
    {RELAY "    registry: {backend: memstore, emulate: [scna]}\n",
     {{"namespaces[0].slots.registry.emulate[0]", 5, "no interface has the name `scna`",
       "did you mean `keyvalue_scan`? It cannot be emulated in slot registry; possible: none"}}},
    {NS "  slots: {primary: {backend: memstore, emulate: [[batch]]}}\n",
     {{"namespaces[0].slots.primary.emulate[0]", 4, "is a list, but must be a text", NULL}}},
    {NS "  slots: {primary: {backend: memstore, emulate: [cas]}}\n",
     {{"namespaces[0].slots.primary.emulate[0]", 4,
       "KeyValueCASInterface cannot be emulated in slot primary",
       "possible here: keyvalue_ttl and keyvalue_batch"}}},
    {RELAY "    registry: {backend: memstore, emulate: [scan]}\n",
     {{"namespaces[0].slots.registry.emulate[0]", 5, "cannot be emulated in slot registry",
       "remove it"}}},
    {RELAY "    registry: {backend: s3}\n",
     {{"namespaces[0].slots.registry", 5,
       "slot registry needs KeyValueScanInterface, which backend s3 does not implement",
       "use backend: memstore or redis"}}},
    {RELAY "    registry: {backend: memstore}\n    index: {backend: s3}\n",
     {{"namespaces[0].slots.index", 6, "slot index needs KeyValueScanInterface",
       "add `emulate: [keyvalue_scan]`"}}},
    {RELAY "    registry: {backend: memstore}\n    ledger: {backend: memstore}\n",
     {{"namespaces[0].slots.ledger", 6, "slot ledger needs KeyValueTxnInterface",
       "no backend of this build"}}},
    {RELAY "    registry: {backend: memstore}\n    sink: {backend: s3}\n",
     {{"namespaces[0].slots.sink", 6,
       "slot sink needs KeyValueTxnInterface or KeyValueCASInterface, of which backend s3 "
       "implements none",
       "use backend: redis"}}},
    {"strict_slots: true\n" NS "  slots: {primary: {backend: s3}}\n",
     {{"namespaces[0]", 3, "strict_slots: Scan is not available: no KeyValueScanInterface",
       "strict_slots: false"}}},
    /* What is said already is not said again by strict_slots. */
    {"strict_slots: true\n" NS "  slots: {primary: {backend: s3, config: {a: 1}}}\n",
     {{"namespaces[0].slots.primary.config.a", 5, "backend s3 has no setting", "remove it"}}},
    {"strict_slots: true\n" NS "  slots: {primary: {backend: [s3]}}\n",
     {{"namespaces[0].slots.primary.backend", 5, "is a list, but must be a text", NULL}}},
};

/* ---- many at once ---- */

static const struct example many[] = {
    {"lisen: x\n"
     "workers: 99\n"
     "limits: {intake_depth: 3}\n"
     "log: {level: loud}\n"
     "namespaces:\n"
     "- name: ok\n"
     "  pattern: keyvalue\n"
     "  slots: {primary: {backend: memstore}}\n"
     "- name: bad name\n"
     "  pattern: multicast_relay\n"
     "  slots:\n"
     "    registry: {backend: s3, config: {x: 1}}\n"
     "    index: {backend: nats}\n"
     "    other: {backend: redis}\n"
     "  behavior: {y: 2}\n",
     {{"lisen", 1, "unknown key", "listen"},
      {"workers", 2, "out of bounds", "0..64"},
      {"limits.intake_depth", 3, "power of two", "use 4"},
      {"log.level", 4, "is not one of", "known here"},
      {"namespaces[1].name", 9, "not a name", NULL},
      {"namespaces[1].slots.registry.config.x", 12, "backend s3 has no setting", "remove"},
      {"namespaces[1].slots.registry", 12, "needs KeyValueScanInterface", "memstore or redis"},
      {"namespaces[1].slots.index.backend", 13, "no backend has this name",
       "known here: memstore, redis and s3"},
      {"namespaces[1].slots.other", 14, "has no slot `other`",
       "known here: registry, index, ledger and sink"},
      {"namespaces[1].slots.other.config.address", 14, "needs the setting `address`", "add"},
      {"namespaces[1].behavior.y", 15, "pattern multicast_relay has no setting", "remove"}}},
    /* Two namespaces, each with slots whose settings do not go together, and the server's own. */
    {"workers: 99\n"
     "tls: {cert: /nowhere/c, key: /nowhere/k, client_ca: /}\n"
     "namespaces:\n"
     "- name: a\n"
     "  pattern: keyvalue\n"
     "  slots: {primary: {backend: redis, config: {address: '/h', databse: 1}}}\n"
     "- name: b\n"
     "  pattern: multicast_relay\n"
     "  slots:\n"
     "    registry: {backend: redis, config: {address: 'h/1', database: 2}}\n"
     "    index: {backend: redis, config: {address: 'q@h', password: p}}\n"
     "    ledger: {backend: redis, config: {address: 'h:1'}}\n",
     {{"workers", 1, "out of bounds", "0..64"},
      {"tls.cert", 2, "does not exist", NULL},
      {"tls.key", 2, "does not exist", NULL},
      {"tls.client_ca", 2, "is a folder", NULL},
      {"namespaces[0].slots.primary.config.databse", 6, "has no setting", "mean `database`?"},
      {"namespaces[0].slots.primary.config.address", 6, "the host is empty", "like"},
      {"namespaces[1].slots.registry.config.database", 10, "names another database", "remove it"},
      {"namespaces[1].slots.index.config.password", 11, "holds a password as well", "remove it"},
      {"namespaces[1].slots.ledger", 12, "slot ledger needs KeyValueTxnInterface", "no backend"}}},
};

static void test_shapes(void **state)
{
    (void)state;
    CHECK_ALL(shapes);
}

static void test_server(void **state)
{
    (void)state;
    CHECK_ALL(server);
}

static void test_namespaces(void **state)
{
    (void)state;
    CHECK_ALL(spaces);
}

static void test_slots(void **state)
{
    (void)state;
    CHECK_ALL(slots);
}

static void test_many(void **state)
{
    (void)state;
    CHECK_ALL(many);
}

/* The rest is still loaded: later stages need no special cases, and a caller may look at it. */
static void test_defaults_stand_in(void **state)
{
    (void)state;
    struct loaded *l =
        load_text("workers: x\nlimits: {intake_depth: many, max_inflight_calls: 7}\n");

    assert_int_equal(l->faults.count, 2);
    assert_true(l->config.workers >= 1);
    assert_int_equal(l->config.limits.intake_depth, 4096);
    assert_int_equal(l->config.limits.max_inflight_calls, 7);
    assert_int_equal(l->config.namespace_count, 1);
    unload(l);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_shapes),     cmocka_unit_test(test_server),
        cmocka_unit_test(test_namespaces), cmocka_unit_test(test_slots),
        cmocka_unit_test(test_many),       cmocka_unit_test(test_defaults_stand_in),
    };

    return cmocka_run_group_tests_name("config faults", tests, NULL, NULL);
}
