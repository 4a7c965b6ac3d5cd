/* Publishes many messages on one stream; each has its own outcome, told as it comes.
 *
 *   cc publisher.c $(pkg-config --cflags --libs prism) && ./a.out 127.0.0.1:8980 10000 */
#include <prism/publisher.h>

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* On the publisher's thread. */
static void settled(void *context, void *tag, const struct prism_publish_result *result)
{
    (void)context;
    if (result->outcome != PRISM_STORED)
        fprintf(stderr, "message %ld: %s: %s\n", (long)(size_t)tag,
                prism_outcome_name(result->outcome), result->message);
}

static enum prism_code publish(struct prism_publisher *publisher, size_t n,
                               struct prism_error *error)
{
    enum prism_code code = PRISM_OK;

    for (size_t i = 1; i <= n && code == PRISM_OK; i++) {
        char text[32];
        const struct prism_message message = {
            .topic = "example",
            .payload = prism_bytes_of(text, (size_t)snprintf(text, sizeof text, "number %zu", i))};

        /* Waits while too much is on its way. */
        code = prism_publisher_put(publisher, &message, (void *)i, 30000, error);
    }
    return code == PRISM_OK ? prism_publisher_flush(publisher, 30000, error) : code;
}

int main(int argc, char **argv)
{
    const char *server = argc > 1 ? argv[1] : "127.0.0.1:8980";
    size_t n = argc > 2 ? strtoul(argv[2], NULL, 10) : 1000;
    const struct prism_publisher_options options = {.settled = settled};
    struct prism_channel *channel = NULL;
    struct prism_producer *producer = NULL;
    struct prism_publisher *publisher = NULL;
    struct prism_error error;
    enum prism_code code;

    code = prism_channel_open(server, NULL, &channel, &error);
    if (code == PRISM_OK)
        code = prism_producer_open(channel, &producer, &error);
    if (code == PRISM_OK)
        code = prism_publisher_open(producer, &options, &publisher, &error);
    if (code == PRISM_OK)
        code = publish(publisher, n, &error);
    if (code != PRISM_OK)
        fprintf(stderr, "%s: %s\n", prism_code_name(code), error.message);
    if (publisher != NULL)
        printf("%llu stored\n", (unsigned long long)prism_publisher_stats(publisher).stored);
    prism_publisher_close(publisher, 1000, NULL);
    prism_producer_close(producer);
    prism_channel_close(channel);
    return code == PRISM_OK ? 0 : 1;
}
