/* Lists the keys with a prefix, with their values, to the end.
 *
 *   cc scan.c $(pkg-config --cflags --libs prism) && ./a.out 127.0.0.1:8980 user/ */
#include <prism/keyvalue.h>

#include <stdio.h>

static enum prism_code list(struct prism_keyvalue *keyvalue, const char *prefix,
                            struct prism_error *error)
{
    const struct prism_scan_options options = {.prefix = prefix, .with_values = true};
    struct prism_scan_item item;
    struct prism_scan *scan;
    unsigned n = 0;

    /* Refused here, without a call, if the backend cannot scan. */
    if (prism_keyvalue_scan(keyvalue, &options, &scan, error) != PRISM_OK)
        return error->code;
    while (prism_scan_next(scan, &item, error)) {
        printf("%s = %.*s\n", item.key, (int)item.value.len, (const char *)item.value.data);
        n++;
    }
    prism_scan_close(scan);
    printf("%u keys\n", n);
    return error->code;
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
        code = list(keyvalue, argc > 2 ? argv[2] : "", &error);
    if (code != PRISM_OK)
        fprintf(stderr, "%s: %s\n", prism_code_name(code), error.message);
    prism_keyvalue_close(keyvalue);
    prism_channel_close(channel);
    return code == PRISM_OK ? 0 : 1;
}
