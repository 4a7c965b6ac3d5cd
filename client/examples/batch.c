/* Writes, reads and removes several keys in one call each; every item has its own outcome.
 *
 *   cc batch.c $(pkg-config --cflags --libs prism) && ./a.out 127.0.0.1:8980 */
#include <prism/keyvalue.h>

#include <stdio.h>

static const char *const keys[] = {"example/ada", "example/grace", "example/nobody"};

static enum prism_code write_two(struct prism_keyvalue *keyvalue, struct prism_error *error)
{
    const struct prism_store_item items[] = {
        {.key = keys[0], .value = prism_bytes_of("1815", 4)},
        {.key = keys[1], .value = prism_bytes_of("1906", 4)},
    };
    struct prism_batch batch;
    enum prism_code code = prism_keyvalue_store_batch(keyvalue, items, 2, NULL, &batch, error);

    for (size_t i = 0; i < batch.count; i++) {
        if (batch.items[i].code != PRISM_OK)
            printf("%s: %s\n", items[i].key, batch.items[i].message);
    }
    prism_batch_free(&batch);
    return code;
}

static enum prism_code read_three(struct prism_keyvalue *keyvalue, struct prism_error *error)
{
    struct prism_batch batch;
    enum prism_code code = prism_keyvalue_retrieve_batch(keyvalue, keys, 3, NULL, &batch, error);

    for (size_t i = 0; i < batch.count; i++) {
        const struct prism_item_result *item = &batch.items[i];

        if (item->code != PRISM_OK)
            printf("%s: %s\n", keys[i], item->message);
        else if (!item->found)
            printf("%s is absent\n", keys[i]);
        else
            printf("%s = %.*s\n", keys[i], (int)item->value.len, (const char *)item->value.data);
    }
    prism_batch_free(&batch);
    return code;
}

static enum prism_code remove_all(struct prism_keyvalue *keyvalue, struct prism_error *error)
{
    struct prism_batch batch;
    enum prism_code code = prism_keyvalue_remove_batch(keyvalue, keys, 3, NULL, &batch, error);

    prism_batch_free(&batch);
    return code;
}

int main(int argc, char **argv)
{
    const char *server = argc > 1 ? argv[1] : "127.0.0.1:8980";
    const struct prism_channel_options options = {.deadline_ms = 60000}; /* of each call */
    struct prism_channel *channel = NULL;
    struct prism_keyvalue *keyvalue = NULL;
    struct prism_error error;
    enum prism_code code;

    code = prism_channel_open(server, &options, &channel, &error);
    if (code == PRISM_OK)
        code = prism_keyvalue_open(channel, &keyvalue, &error);
    if (code == PRISM_OK)
        code = write_two(keyvalue, &error);
    if (code == PRISM_OK)
        code = read_three(keyvalue, &error);
    if (code == PRISM_OK)
        code = remove_all(keyvalue, &error);
    if (code != PRISM_OK)
        fprintf(stderr, "%s: %s\n", prism_code_name(code), error.message);
    prism_keyvalue_close(keyvalue);
    prism_channel_close(channel);
    return code == PRISM_OK ? 0 : 1;
}
