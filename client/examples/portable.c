/* One client for every backend: asks once what there is, and decides then. Stores a value, stores
 * several, lists them, lets one expire; what the backend cannot do is done otherwise or left out.
 *
 *   cc portable.c $(pkg-config --cflags --libs prism) && ./a.out 127.0.0.1:8980 */
#include <prism/keyvalue.h>

#include <stdio.h>
#include <string.h>

enum { FRUITS = 3 };

static const char *const keys[FRUITS] = {"example/apple", "example/pear", "example/quince"};
static const char *const colours[FRUITS] = {"red", "green", "yellow"};

static struct prism_bytes text(const char *string)
{
    return prism_bytes_of(string, strlen(string));
}

static void discover(const struct prism_keyvalue_capabilities *can)
{
    printf("backend %s: scan %s, batch %s, expiration %s\n", can->backend_type,
           prism_performance_name(can->scan_performance),
           prism_performance_name(can->batch_performance), can->supports_expiration ? "yes" : "no");
}

/* All at once, or one by one where there are no batches. */
static enum prism_code store_all(struct prism_keyvalue *keyvalue, struct prism_error *error)
{
    struct prism_store_item items[FRUITS] = {{.key = NULL}};
    struct prism_batch batch;
    enum prism_code code = PRISM_OK;

    if (prism_keyvalue_capabilities(keyvalue)->supports_batch) {
        for (int i = 0; i < FRUITS; i++)
            items[i] = (struct prism_store_item){.key = keys[i], .value = text(colours[i])};
        code = prism_keyvalue_store_batch(keyvalue, items, FRUITS, NULL, &batch, error);
        if (code == PRISM_OK)
            printf("stored %zu at once\n", batch.succeeded);
        prism_batch_free(&batch);
        return code;
    }
    for (int i = 0; i < FRUITS && code == PRISM_OK; i++)
        code = prism_keyvalue_store(keyvalue, keys[i], text(colours[i]), NULL, NULL, error);
    if (code == PRISM_OK)
        printf("stored %d one by one\n", FRUITS);
    return code;
}

/* Refused here, without a call, if the backend cannot scan. */
static enum prism_code list(struct prism_keyvalue *keyvalue, struct prism_error *error)
{
    const struct prism_scan_options options = {.prefix = "example/"};
    struct prism_scan_item item;
    struct prism_scan *scan;
    unsigned n = 0;

    if (prism_keyvalue_scan(keyvalue, &options, &scan, error) != PRISM_OK) {
        printf("not listed: %s\n", error->message);
        return error->code == PRISM_UNIMPLEMENTED ? PRISM_OK : error->code;
    }
    while (prism_scan_next(scan, &item, error))
        n++;
    prism_scan_close(scan);
    printf("listed %u\n", n);
    return error->code;
}

/* Value and expiry in one call: no moment in which the key would live for ever. */
static enum prism_code expire(struct prism_keyvalue *keyvalue, struct prism_error *error)
{
    const struct prism_store_options minute = {.expiration_s = 60};
    enum prism_code code;
    int64_t seconds;

    code = prism_keyvalue_store(keyvalue, keys[0], text("brown"), &minute, NULL, error);
    if (code == PRISM_UNIMPLEMENTED) {
        printf("does not expire: %s\n", error->message);
        return PRISM_OK;
    }
    if (code == PRISM_OK)
        code = prism_keyvalue_get_expiration(keyvalue, keys[0], NULL, &seconds, error);
    if (code == PRISM_OK)
        printf("%s expires: %s\n", keys[0], seconds > 50 && seconds <= 60 ? "in a minute" : "?");
    return code;
}

static enum prism_code tidy(struct prism_keyvalue *keyvalue, struct prism_error *error)
{
    enum prism_code code = PRISM_OK;

    for (int i = 0; i < FRUITS && code == PRISM_OK; i++)
        code = prism_keyvalue_remove(keyvalue, keys[i], NULL, NULL, error);
    return code;
}

int main(int argc, char **argv)
{
    const char *server = argc > 1 ? argv[1] : "127.0.0.1:8980";
    struct prism_channel *channel = NULL;
    struct prism_keyvalue *keyvalue = NULL;
    struct prism_error error;
    enum prism_code code;

    code = prism_channel_open(server, NULL, &channel, &error);
    if (code == PRISM_OK)
        code = prism_keyvalue_open(channel, &keyvalue, &error);
    if (code == PRISM_OK) {
        discover(prism_keyvalue_capabilities(keyvalue));
        code = store_all(keyvalue, &error);
    }
    if (code == PRISM_OK)
        code = list(keyvalue, &error);
    if (code == PRISM_OK)
        code = expire(keyvalue, &error);
    if (code == PRISM_OK)
        code = tidy(keyvalue, &error);
    if (code != PRISM_OK)
        fprintf(stderr, "%s: %s\n", prism_code_name(code), error.message);
    prism_keyvalue_close(keyvalue);
    prism_channel_close(channel);
    return code == PRISM_OK ? 0 : 1;
}
