/* A vocabulary for tests of the configuration: three backends, two patterns, no code behind them
 * but one check. */
#ifndef PRISM_TESTS_FAKE_CATALOG_H
#define PRISM_TESTS_FAKE_CATALOG_H

#include "src/config/config.h"

#include "backends/kv.h"

#include <string.h>

static const struct kv_basic fake_basic;
static const struct kv_ttl fake_ttl;
static const struct kv_scan fake_scan;
static const struct kv_batch fake_batch;
static const struct kv_cas fake_cas;

static const struct backend_setting fake_redis_settings[] = {
    {"address", SETTING_TEXT, NULL, 0, 0, "host:port"},
    {"password", SETTING_SECRET, "", 0, 0, "for AUTH"},
    {"database", SETTING_UINT, "0", 0, 15, "which one"},
    {"tls", SETTING_BOOL, "false", 0, 0, "encrypt"},
    {.name = NULL},
};

/* Addresses here are like "host:1", with a password "q@host", with a database "host/2". */
static inline void fake_redis_check(const struct backend_value *values,
                                    struct backend_faults *faults)
{
    const char *address = values[0].text;

    if (address[0] == '/')
        faults->items[faults->count++] = (struct backend_fault){
            .setting = "address", .text = "the host is empty", .fix = "like localhost:6379"};
    if (strstr(address, "q@") != NULL && values[1].text[0] != '\0')
        faults->items[faults->count++] =
            (struct backend_fault){.setting = "password",
                                   .other = "address",
                                   .text = "the address holds a password as well",
                                   .fix = "remove it, or the password from `address`"};
    if (strchr(address, '/') != NULL && values[2].number != 0)
        faults->items[faults->count++] =
            (struct backend_fault){.setting = "database",
                                   .other = "address",
                                   .text = "the address names another database",
                                   .fix = "remove it, or the database from `address`"};
}

static const struct backend_type fake_memstore = {
    .name = "memstore",
    .interfaces = {.kv_basic = &fake_basic, .kv_ttl = &fake_ttl, .kv_scan = &fake_scan},
};

static const struct backend_type fake_redis = {
    .name = "redis",
    .interfaces = {.kv_basic = &fake_basic,
                   .kv_ttl = &fake_ttl,
                   .kv_scan = &fake_scan,
                   .kv_batch = &fake_batch,
                   .kv_cas = &fake_cas},
    .settings = fake_redis_settings,
    .check = fake_redis_check,
};

static const struct backend_type fake_s3 = {
    .name = "s3",
    .interfaces = {.kv_basic = &fake_basic},
};

static const struct backend_type *const fake_backends[] = {&fake_memstore, &fake_redis, &fake_s3,
                                                           NULL};

static const enum backend_interface fake_needs_basic[] = {BACKEND_KV_BASIC,
                                                          BACKEND_INTERFACE_COUNT};
static const enum backend_interface fake_needs_scan[] = {BACKEND_KV_BASIC, BACKEND_KV_SCAN,
                                                         BACKEND_INTERFACE_COUNT};
static const enum backend_interface fake_needs_txn[] = {BACKEND_KV_TXN, BACKEND_INTERFACE_COUNT};
static const enum backend_interface fake_needs_any[] = {BACKEND_KV_TXN, BACKEND_KV_CAS,
                                                        BACKEND_INTERFACE_COUNT};
static const enum backend_interface fake_emulates[] = {BACKEND_KV_BATCH, BACKEND_KV_TTL,
                                                       BACKEND_INTERFACE_COUNT};
static const enum backend_interface fake_emulates_scan[] = {BACKEND_KV_SCAN,
                                                            BACKEND_INTERFACE_COUNT};

static const struct slot_schema fake_keyvalue_slots[] = {
    {.name = "primary", .required = fake_needs_basic, .emulatable = fake_emulates},
};

static const struct slot_schema fake_relay_slots[] = {
    {.name = "registry", .required = fake_needs_scan},
    {.name = "index",
     .optional = true,
     .required = fake_needs_scan,
     .emulatable = fake_emulates_scan},
    {.name = "ledger", .optional = true, .required = fake_needs_txn},
    {.name = "sink", .optional = true, .any_of = fake_needs_any},
};

static const struct backend_setting fake_behavior[] = {
    {"window", SETTING_UINT, "10", 1, 1000, "items in flight"},
    {"when_full", SETTING_TEXT, "wait", 0, 0, "wait or refuse"},
    {"spare", SETTING_UINT, "0", 0, 1000, "of the window"},
    {.name = NULL},
};

/* The spare part is smaller than the window, and a window above 500 is too large for s3. */
static inline void fake_keyvalue_check(const struct pattern_proposal *proposal,
                                       struct backend_faults *faults)
{
    static const char *const words[] = {"wait", "refuse", NULL};
    const struct backend_value *values = proposal->behavior;
    const struct backend_type *primary = proposal->slots[0];

    if (strcmp(values[1].text, words[0]) != 0 && strcmp(values[1].text, words[1]) != 0)
        faults->items[faults->count++] = (struct backend_fault){
            .setting = "when_full", .text = "is neither wait nor refuse", .words = words};
    if (values[2].number >= values[0].number)
        faults->items[faults->count++] = (struct backend_fault){.setting = "spare",
                                                                .other = "window",
                                                                .text = "is not below the window",
                                                                .fix = "lower it"};
    if (values[0].number > 500 && primary != NULL && strcmp(primary->name, "s3") == 0)
        faults->items[faults->count++] =
            (struct backend_fault){.setting = "primary",
                                   .other = "window",
                                   .text = "the window is too large for this backend",
                                   .fix = "at most 500"};
}

/* Store always; Scan where the first slot's backend has it; the special form never. */
static size_t fake_operations(const struct backend_type *const *slots, const uint32_t *emulate,
                              struct pattern_operation *out, size_t max)
{
    bool scan = slots[0]->interfaces.kv_scan != NULL;

    (void)emulate;
    if (max < 3)
        return 0;
    out[0] = (struct pattern_operation){.name = "Store", .how = PATTERN_NATIVE};
    out[1] = (struct pattern_operation){.name = "Scan",
                                        .how = scan ? PATTERN_NATIVE : PATTERN_UNAVAILABLE,
                                        .why = scan ? NULL : "no KeyValueScanInterface"};
    out[2] =
        (struct pattern_operation){.name = "Store", .variant = "atomic", .why = "no transactions"};
    return 3;
}

static const struct pattern_type fake_keyvalue = {
    .name = "keyvalue",
    .embedded = true,
    .slots = fake_keyvalue_slots,
    .slot_count = 1,
    .behavior = fake_behavior,
    .check = fake_keyvalue_check,
    .operations = fake_operations,
};

static const struct pattern_type fake_relay = {
    .name = "multicast_relay",
    .slots = fake_relay_slots,
    .slot_count = 4,
    .operations = fake_operations,
};

static const struct pattern_type *const fake_patterns[] = {&fake_keyvalue, &fake_relay, NULL};

static const struct backend_type *fake_find_backend(struct slice name)
{
    for (const struct backend_type *const *type = fake_backends; *type != NULL; type++)
        if (slice_equal(name, slice_str((*type)->name)))
            return *type;
    return NULL;
}

static const struct backend_type *const *fake_all_backends(void)
{
    return fake_backends;
}

static const struct pattern_type *fake_find_pattern(struct slice name)
{
    for (const struct pattern_type *const *type = fake_patterns; *type != NULL; type++)
        if (slice_equal(name, slice_str((*type)->name)))
            return *type;
    return NULL;
}

static const struct pattern_type *const *fake_all_patterns(void)
{
    return fake_patterns;
}

static const char *fake_interface_name(enum backend_interface interface)
{
    static const char *const names[] = {"KeyValueBasicInterface", "KeyValueTTLInterface",
                                        "KeyValueScanInterface",  "KeyValueBatchInterface",
                                        "KeyValueTxnInterface",   "KeyValueCASInterface"};

    return (size_t)interface < sizeof names / sizeof names[0] ? names[interface] : "?";
}

static const char *fake_interface_key(enum backend_interface interface)
{
    static const char *const keys[] = {"keyvalue_basic", "keyvalue_ttl", "keyvalue_scan",
                                       "keyvalue_batch", "keyvalue_txn", "keyvalue_cas"};

    return (size_t)interface < sizeof keys / sizeof keys[0] ? keys[interface] : "?";
}

static bool fake_offers(const struct backend_interfaces *has, enum backend_interface interface)
{
    switch (interface) {
    case BACKEND_KV_BASIC:
        return has->kv_basic != NULL;
    case BACKEND_KV_TTL:
        return has->kv_ttl != NULL;
    case BACKEND_KV_SCAN:
        return has->kv_scan != NULL;
    case BACKEND_KV_BATCH:
        return has->kv_batch != NULL;
    case BACKEND_KV_TXN:
        return has->kv_txn != NULL;
    case BACKEND_KV_CAS:
        return has->kv_cas != NULL;
    default:
        return false;
    }
}

static const struct config_catalog fake_catalog = {
    .find_backend = fake_find_backend,
    .all_backends = fake_all_backends,
    .find_pattern = fake_find_pattern,
    .all_patterns = fake_all_patterns,
    .interface_name = fake_interface_name,
    .interface_key = fake_interface_key,
    .offers = fake_offers,
};

#endif
