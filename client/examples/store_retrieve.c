/* Stores a value that expires, reads it back, removes it.
 *
 *   cc store_retrieve.c $(pkg-config --cflags --libs prism) && ./a.out 127.0.0.1:8980 */
#include <prism/keyvalue.h>

#include <stdio.h>
#include <string.h>

/* Any of the three calls may fail; error then says why. */
static enum prism_code store_and_retrieve(struct prism_keyvalue *keyvalue,
                                          struct prism_error *error)
{
    const char *text = "hello, world";
    const struct prism_store_options options = {.expiration_s = 60};
    struct prism_value value;
    enum prism_code code;
    bool existed;

    code = prism_keyvalue_store(
        keyvalue, "example/greeting", prism_bytes_of(text, strlen(text)),
        prism_keyvalue_capabilities(keyvalue)->supports_expiration ? &options : NULL, NULL, error);
    if (code != PRISM_OK)
        return code;
    code = prism_keyvalue_retrieve(keyvalue, "example/greeting", NULL, &value, error);
    if (code != PRISM_OK)
        return code;
    if (value.found)
        printf("%.*s\n", (int)value.data.len, (const char *)value.data.data);
    prism_value_free(&value);
    return prism_keyvalue_remove(keyvalue, "example/greeting", NULL, &existed, error);
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
        code = store_and_retrieve(keyvalue, &error);
    if (code != PRISM_OK)
        fprintf(stderr, "%s: %s\n", prism_code_name(code), error.message);
    prism_keyvalue_close(keyvalue);
    prism_channel_close(channel);
    return code == PRISM_OK ? 0 : 1;
}
