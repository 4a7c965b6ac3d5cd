/* Commands on many keys: batches, scan, count. */
#include "client/prismctl/command.h"
#include "client/prismctl/output.h"
#include "prism/keyvalue.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { DEFAULT_PAGE = 1000 };

/* ---- batches ---- */

struct batch_view {
    bool with_values;       /* retrieve */
    const char *found_name; /* JSON name of `found`; NULL: not told */
};

static void print_item_json(struct json *json, const char *key,
                            const struct prism_item_result *item, const struct batch_view *view)
{
    json_open(json, NULL, '{');
    json_text(json, "key", key);
    json_text(json, "code", prism_code_name(item->code));
    if (item->code != PRISM_OK)
        json_text(json, "message", item->message);
    if (item->code == PRISM_OK && view->found_name != NULL)
        json_bool(json, view->found_name, item->found);
    if (view->with_values && item->found)
        json_bytes(json, "value", item->value);
    json_close(json, '}');
}

static void print_item_text(const char *key, const struct prism_item_result *item,
                            const struct batch_view *view)
{
    print_escaped(stdout, prism_bytes_of(key, strlen(key)));
    fputc('\t', stdout);
    if (item->code != PRISM_OK)
        printf("%s: %s", prism_code_name(item->code), item->message);
    else if (view->found_name != NULL && !item->found)
        fputs("(absent)", stdout);
    else if (view->with_values)
        print_escaped(stdout, item->value);
    else
        fputs("ok", stdout);
    fputc('\n', stdout);
}

static int print_batch(const struct invocation *in, const char *const *keys,
                       const struct prism_batch *batch, const struct batch_view *view)
{
    struct json json = {.out = stdout};

    if (in->options->json) {
        json_open(&json, NULL, '{');
        json_int(&json, "count", (int64_t)batch->count);
        json_int(&json, "succeeded", (int64_t)batch->succeeded);
        json_open(&json, "items", '[');
    }
    for (size_t i = 0; i < batch->count; i++) {
        if (in->options->json)
            print_item_json(&json, keys[i], &batch->items[i], view);
        else
            print_item_text(keys[i], &batch->items[i], view);
    }
    if (in->options->json) {
        json_close(&json, ']');
        json_close(&json, '}');
    }
    return batch->succeeded == batch->count ? EXIT_DONE : EXIT_PARTIAL;
}

/* Splits KEY=VALUE at the first '='. The keys are copies. */
static int split(const struct invocation *in, struct prism_store_item *items, char **keys)
{
    for (size_t i = 0; i < in->count; i++) {
        const char *argument = in->arguments[i];
        const char *equals = strchr(argument, '=');

        if (equals == NULL)
            return fail_usage(in->options, "not KEY=VALUE", argument);
        keys[i] = strndup(argument, (size_t)(equals - argument));
        if (keys[i] == NULL)
            abort();
        items[i].key = keys[i];
        items[i].value = prism_bytes_of(equals + 1, strlen(equals + 1));
        items[i].expiration_s = in->options->ttl_s;
    }
    return EXIT_DONE;
}

static int store_batch(const struct invocation *in, const struct prism_store_item *items,
                       const char *const *keys)
{
    static const struct batch_view view = {.found_name = NULL};
    const struct prism_batch_options options = {.atomic = in->options->atomic};
    struct prism_batch batch;
    struct prism_error error;
    struct session session;
    int code = session_open(&session, in->options);

    if (code == EXIT_DONE) {
        if (prism_keyvalue_store_batch(session.keyvalue, items, in->count, &options, &batch,
                                       &error) == PRISM_OK)
            code = print_batch(in, keys, &batch, &view);
        else
            code = fail(in->options, &error);
        prism_batch_free(&batch);
    }
    session_close(&session);
    return code;
}

int command_store_batch(const struct invocation *in)
{
    struct prism_store_item *items = calloc(in->count, sizeof *items);
    char **keys = calloc(in->count, sizeof *keys);
    int code;

    if (items == NULL || keys == NULL)
        abort();
    code = split(in, items, keys);
    if (code == EXIT_DONE)
        code = store_batch(in, items, (const char *const *)keys);
    for (size_t i = 0; i < in->count; i++)
        free(keys[i]);
    free(keys);
    free(items);
    return code;
}

typedef enum prism_code keys_fn(struct prism_keyvalue *, const char *const *, size_t,
                                const struct prism_batch_options *, struct prism_batch *,
                                struct prism_error *);

static int keys_batch(const struct invocation *in, keys_fn *call, const struct batch_view *view)
{
    const struct prism_batch_options options = {.atomic = in->options->atomic};
    struct prism_batch batch;
    struct prism_error error;
    struct session session;
    int code = session_open(&session, in->options);

    if (code == EXIT_DONE) {
        if (call(session.keyvalue, in->arguments, in->count, &options, &batch, &error) == PRISM_OK)
            code = print_batch(in, in->arguments, &batch, view);
        else
            code = fail(in->options, &error);
        prism_batch_free(&batch);
    }
    session_close(&session);
    return code;
}

int command_retrieve_batch(const struct invocation *in)
{
    static const struct batch_view view = {.with_values = true, .found_name = "found"};

    return keys_batch(in, prism_keyvalue_retrieve_batch, &view);
}

int command_remove_batch(const struct invocation *in)
{
    static const struct batch_view view = {.found_name = "existed"};

    return keys_batch(in, prism_keyvalue_remove_batch, &view);
}

/* ---- scan, count ---- */

static void print_scan_item(struct json *json, const struct invocation *in,
                            const struct prism_scan_item *item)
{
    if (in->options->json) {
        json_open(json, NULL, '{');
        json_text(json, "key", item->key);
        if (in->options->values)
            json_bytes(json, "value", item->value);
        json_close(json, '}');
        return;
    }
    print_escaped(stdout, prism_bytes_of(item->key, strlen(item->key)));
    if (in->options->values) {
        fputc('\t', stdout);
        print_escaped(stdout, item->value);
    }
    fputc('\n', stdout);
}

/* No larger than what is wanted. */
static uint32_t page_size(const struct options *options)
{
    uint32_t page = options->page_size > 0 ? options->page_size : DEFAULT_PAGE;

    return options->limit > 0 && options->limit < page ? (uint32_t)options->limit : page;
}

static int scan(struct session *session, const struct invocation *in)
{
    const struct prism_scan_options options = {.prefix = in->count > 0 ? in->arguments[0] : NULL,
                                               .page_size = page_size(in->options),
                                               .with_values = in->options->values};
    uint64_t left = in->options->limit > 0 ? (uint64_t)in->options->limit : UINT64_MAX;
    struct json json = {.out = stdout};
    struct prism_scan_item item;
    struct prism_error error;
    struct prism_scan *scan;

    if (prism_keyvalue_scan(session->keyvalue, &options, &scan, &error) != PRISM_OK)
        return fail(in->options, &error);
    if (in->options->json)
        json_open(&json, NULL, '[');
    while (left > 0 && prism_scan_next(scan, &item, &error)) {
        print_scan_item(&json, in, &item);
        left--;
    }
    if (in->options->json)
        json_close(&json, ']');
    prism_scan_close(scan);
    return error.code == PRISM_OK ? EXIT_DONE : fail(in->options, &error);
}

int command_scan(const struct invocation *in)
{
    struct session session;
    int code = session_open(&session, in->options);

    if (code == EXIT_DONE)
        code = scan(&session, in);
    session_close(&session);
    return code;
}

int command_count(const struct invocation *in)
{
    const char *prefix = in->count > 0 ? in->arguments[0] : "";
    struct json json = {.out = stdout};
    struct prism_error error;
    struct session session;
    int64_t count;
    int code = session_open(&session, in->options);

    if (code != EXIT_DONE) {
        session_close(&session);
        return code;
    }
    if (prism_keyvalue_count(session.keyvalue, prefix, NULL, &count, &error) != PRISM_OK) {
        code = fail(in->options, &error);
    } else if (in->options->json) {
        json_open(&json, NULL, '{');
        json_text(&json, "prefix", prefix);
        json_int(&json, "count", count);
        json_close(&json, '}');
    } else {
        printf("%lld\n", (long long)count);
    }
    session_close(&session);
    return code;
}
