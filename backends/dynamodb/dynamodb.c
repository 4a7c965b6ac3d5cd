/* The dynamodb backend: its settings and its descriptor. */
#include "backends/dynamodb/dynamodb_session.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum setting {
    SET_TABLE = AWS_SETTING_COUNT,
    SET_CREATE_TABLE,
    SET_KEY_PREFIX,
    SET_PARTITIONS,
    SET_CONSISTENT
};

static const struct backend_setting settings[] = {
    AWS_SETTINGS("https://dynamodb.<region>.amazonaws.com"),
    [SET_TABLE] = {"table", SETTING_TEXT, NULL, 0, 0, "name of the table"},
    [SET_CREATE_TABLE] = {"create_table", SETTING_BOOL, "false", 0, 0,
                          "true: the table is made if it does not exist, billed per request, with "
                          "expiry"},
    [SET_KEY_PREFIX] = {"key_prefix", SETTING_TEXT, "prism", 0, 0,
                        "partitions are named <key_prefix>/<namespace>#<number>; 1 to 64 letters, "
                        "digits, '-', '_' and '.'"},
    [SET_PARTITIONS] = {"partitions", SETTING_UINT, "16", 1, 1024,
                        "that the keys of a namespace are spread over; must stay while there are "
                        "keys"},
    [SET_CONSISTENT] = {"consistent_reads", SETTING_BOOL, "true", 0, 0,
                        "false: reads cost half and may miss the latest writes"},
    {.name = NULL},
};

static bool is_made_of_name_letters(const char *text, size_t min, size_t max)
{
    static const char letters[] =
        "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789-_.";
    size_t len = strlen(text);

    return len >= min && len <= max && strspn(text, letters) == len;
}

static void check(const struct backend_value *values, struct backend_faults *faults)
{
    aws_settings_check(settings, values, faults);
    if (!is_made_of_name_letters(values[SET_TABLE].text, 3, 255))
        backend_fault_add(faults, (struct backend_fault){
                                      .setting = settings[SET_TABLE].name,
                                      .text = "is not 3 to 255 letters, digits, '-', '_' and '.'"});
    if (!is_made_of_name_letters(values[SET_KEY_PREFIX].text, 1, 64))
        backend_fault_add(faults, (struct backend_fault){
                                      .setting = settings[SET_KEY_PREFIX].name,
                                      .text = "is not 1 to 64 letters, digits, '-', '_' and '.'",
                                      .fix = "remove it for the default, prism"});
}

static struct err store_open(struct backend_store **out, const struct backend_options *options)
{
    const struct backend_value *values = options->values;
    struct dynamodb_store *store = calloc(1, sizeof *store);
    struct err err;

    if (store == NULL)
        abort();
    err = aws_store_init(&store->aws, &backend_dynamodb, options, "dynamodb",
                         "dynamodb.%s.amazonaws.com");
    if (err.code != ERR_OK) {
        free(store);
        return err;
    }
    store->table = strdup(values[SET_TABLE].text);
    if (store->table == NULL ||
        asprintf(&store->root, "%s/%s#", values[SET_KEY_PREFIX].text, options->namespace_name) < 0)
        abort();
    store->partitions = (uint32_t)values[SET_PARTITIONS].number;
    store->create_table = values[SET_CREATE_TABLE].number != 0;
    store->consistent = values[SET_CONSISTENT].number != 0;
    *out = &store->aws.base;
    return ERR_NONE;
}

static void store_close(struct backend_store *base)
{
    struct dynamodb_store *store = CONTAINER_OF(base, struct dynamodb_store, aws.base);

    aws_store_clear(&store->aws);
    free(store->table);
    free(store->root);
    free(store);
}

static struct backend *open_instance(struct backend_store *store, struct worker *worker)
{
    struct dynamodb *dynamodb = calloc(1, sizeof *dynamodb);

    if (dynamodb == NULL)
        abort();
    aws_client_open(&dynamodb->aws, store, worker, &dynamodb_service);
    return &dynamodb->aws.base;
}

const struct backend_type backend_dynamodb = {
    .name = "dynamodb",
    .doc = "Amazon DynamoDB, and others that speak its protocol",
    .interfaces = {.kv_basic = &dynamodb_kv_basic,
                   .kv_ttl = &dynamodb_kv_ttl,
                   .kv_scan = &dynamodb_kv_scan,
                   .kv_batch = &dynamodb_kv_batch,
                   .kv_txn = &dynamodb_kv_txn,
                   .kv_cas = &dynamodb_kv_cas,
                   .session = &dynamodb_session},
    .limits = {.key_bytes = DYNAMODB_KEY_BYTES,
               .value_bytes = DYNAMODB_VALUE_BYTES,
               .pipeline = 32},
    .settings = settings,
    .check = check,
    .descriptors = aws_descriptors,
    .store_open = store_open,
    .reload = aws_store_reload,
    .store_close = store_close,
    .open = open_instance,
    .close = aws_client_close,
    .probe = aws_client_probe,
};
