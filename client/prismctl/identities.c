/* prismctl enumerate, identity: what the registry holds, one identity a line. */
#include "client/prismctl/command.h"
#include "client/prismctl/output.h"
#include "prism/registry.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

enum { MS_PER_S = 1000 };

struct listing {
    const struct options *options;
    int64_t count, most; /* most 0: all */
};

static void print_json(const struct prism_identity *identity)
{
    struct json json = {.out = stdout};

    json_open(&json, NULL, '{');
    json_text(&json, "identity", identity->name);
    json_int(&json, "generation", identity->generation);
    json_int(&json, "registered_at_ms", identity->registered_at_ms);
    if (identity->expires_at_ms >= 0)
        json_int(&json, "expires_at_ms", identity->expires_at_ms);
    else
        json_null(&json, "expires_at_ms");
    json_open(&json, "tags", '[');
    for (size_t i = 0; i < identity->tag_count; i++)
        json_text(&json, NULL, identity->tags[i]);
    json_close(&json, ']');
    json_raw(&json, "metadata", identity->metadata);
    json_close(&json, '}');
}

static void print_text(const struct prism_identity *identity)
{
    time_t seconds = (time_t)(identity->expires_at_ms / MS_PER_S);
    char when[32];
    struct tm tm;

    print_escaped(stdout, prism_bytes_of(identity->name, strlen(identity->name)));
    if (identity->expires_at_ms >= 0 && gmtime_r(&seconds, &tm) != NULL) {
        strftime(when, sizeof when, "%Y-%m-%dT%H:%M:%SZ", &tm);
        printf("  expires %s", when);
    }
    printf("  %s\n", identity->metadata);
}

/* False: that is enough, or it cannot be written. */
static bool print_one(void *context, const struct prism_identity *identity)
{
    struct listing *listing = context;

    if (listing->options->json)
        print_json(identity);
    else
        print_text(identity);
    listing->count++;
    return !ferror(stdout) && (listing->most == 0 || listing->count < listing->most);
}

static int list(const struct invocation *in, const char *filter, struct listing *listing)
{
    struct prism_registry *registry = NULL;
    struct session session;
    struct prism_error error;
    int code = session_connect(&session, in->options);

    if (code == EXIT_DONE && prism_registry_open(session.channel, &registry, &error) != PRISM_OK)
        code = fail_unserved(&session, in->options, "multicast_registry", &error);
    if (code == EXIT_DONE &&
        prism_registry_enumerate(registry, filter, print_one, listing, &error) != PRISM_OK)
        code = fail(in->options, &error);
    prism_registry_close(registry);
    session_close(&session);
    return code;
}

int command_enumerate(const struct invocation *in)
{
    struct listing listing = {.options = in->options, .most = in->options->limit};

    return list(in, in->options->filter, &listing);
}

/* A filter that names it. */
int command_identity(const struct invocation *in)
{
    struct listing listing = {.options = in->options, .most = 1};
    char *filter = NULL;
    size_t size;
    FILE *out = open_memstream(&filter, &size);
    struct json json = {.out = out};
    int code;

    if (out == NULL)
        abort();
    json_open(&json, NULL, '{');
    json_text(&json, "$identity", in->arguments[0]);
    json_close(&json, '}');
    fclose(out);
    code = list(in, filter, &listing);
    free(filter);
    if (code != EXIT_DONE || listing.count > 0)
        return code;
    if (!in->options->json)
        puts("absent");
    return EXIT_NOT_FOUND;
}
