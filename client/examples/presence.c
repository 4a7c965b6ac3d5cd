/* Phones register with their city and the version of their app; those in Oslo with an old one are
 * told to update.
 *
 *   cc presence.c $(pkg-config --cflags --libs prism) && ./a.out 127.0.0.1:8980 */
#include <prism/registry.h>

#include <stdio.h>

static enum prism_code enter(struct prism_registry *registry, const char *phone, const char *city,
                             double app, struct prism_error *error)
{
    const struct prism_field fields[] = {
        {.name = "city", .type = PRISM_FIELD_TEXT, .text = city},
        {.name = "app", .type = PRISM_FIELD_NUMBER, .number = app},
    };
    const struct prism_register_options options = {
        .fields = fields, .field_count = 2, .ttl_ms = 300000, .replace = true};

    return prism_registry_register(registry, phone, &options, NULL, error);
}

static enum prism_code tell(struct prism_registry *registry, struct prism_error *error)
{
    const struct prism_multicast multicast = {
        .filter = "{\"$identity.startswith\": \"presence/\", \"city\": \"Oslo\", \"app.lt\": 12}",
        .payload = prism_bytes_of("please update", 13),
        .content_type = "text/plain",
        .max_targets = 1000,
    };
    struct prism_multicast_counts counts;
    enum prism_code code =
        prism_registry_multicast(registry, &multicast, NULL, NULL, &counts, error);

    printf("%lld of the phones match, %lld of them listen\n", (long long)counts.targets,
           (long long)counts.delivered);
    return code;
}

int main(int argc, char **argv)
{
    const char *server = argc > 1 ? argv[1] : "127.0.0.1:8980";
    const struct prism_channel_options options = {.deadline_ms = 60000}; /* of each call */
    struct prism_channel *channel = NULL;
    struct prism_registry *registry = NULL;
    struct prism_error error;
    enum prism_code code;

    code = prism_channel_open(server, &options, &channel, &error);
    if (code == PRISM_OK)
        code = prism_registry_open(channel, &registry, &error);
    if (code == PRISM_OK)
        code = enter(registry, "presence/ada", "Oslo", 11, &error);
    if (code == PRISM_OK)
        code = enter(registry, "presence/grace", "Oslo", 12, &error);
    if (code == PRISM_OK)
        code = enter(registry, "presence/edsger", "Bergen", 9, &error);
    if (code == PRISM_OK)
        code = tell(registry, &error);
    if (code != PRISM_OK)
        fprintf(stderr, "%s: %s\n", prism_code_name(code), error.message);
    prism_registry_close(registry);
    prism_channel_close(channel);
    return code == PRISM_OK ? 0 : 1;
}
