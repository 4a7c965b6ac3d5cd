/* Shows what the server's backend can do, and that a client may ask for more without harm.
 *
 *   cc capabilities.c $(pkg-config --cflags --libs prism) && ./a.out 127.0.0.1:8980 */
#include <prism/keyvalue.h>

#include <stdio.h>

static void warn(void *context, enum prism_log_level level, const char *message)
{
    (void)context;
    (void)level;
    fprintf(stderr, "warning: %s\n", message);
}

static void show(const struct prism_keyvalue_capabilities *c)
{
    printf("backend %s: batch %s, scan %s, expiration %s, atomic batches %s\n", c->backend_type,
           prism_performance_name(c->batch_performance),
           prism_performance_name(c->scan_performance), c->supports_expiration ? "yes" : "no",
           c->supports_transactions ? "yes" : "no");
    for (size_t i = 0; i < c->operation_count; i++) {
        const struct prism_operation *o = &c->operations[i];

        printf("  %s %s: %s\n", o->name, o->variant,
               o->available ? prism_performance_name(o->how) : o->reason);
    }
}

/* An atomic batch on a backend without transactions is refused before anything is sent. */
static void try_atomic(struct prism_keyvalue *keyvalue)
{
    const struct prism_batch_options atomic = {.atomic = true};
    const char *const keys[] = {"example/a", "example/b"};
    struct prism_error error;
    struct prism_batch batch;

    if (prism_keyvalue_remove_batch(keyvalue, keys, 2, &atomic, &batch, &error) == PRISM_OK)
        printf("removed as one: %zu keys\n", batch.succeeded);
    else
        printf("%s\n", error.message);
    prism_batch_free(&batch);
}

int main(int argc, char **argv)
{
    const char *server = argc > 1 ? argv[1] : "127.0.0.1:8980";
    const struct prism_channel_options options = {.deadline_ms = 60000, .log = warn};
    struct prism_channel *channel = NULL;
    struct prism_keyvalue *keyvalue = NULL;
    struct prism_error error;
    enum prism_code code;

    code = prism_channel_open(server, &options, &channel, &error);
    if (code == PRISM_OK)
        code = prism_keyvalue_open(channel, &keyvalue, &error);
    if (code == PRISM_OK) {
        show(prism_keyvalue_capabilities(keyvalue));
        try_atomic(keyvalue);
    } else {
        fprintf(stderr, "%s: %s\n", prism_code_name(code), error.message);
    }
    prism_keyvalue_close(keyvalue);
    prism_channel_close(channel);
    return code == PRISM_OK ? 0 : 1;
}
