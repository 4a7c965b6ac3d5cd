/* Publishes one message, then several in one call; every message has its own outcome.
 *
 *   cc publish.c $(pkg-config --cflags --libs prism) && ./a.out 127.0.0.1:8980 */
#include <prism/producer.h>

#include <stdio.h>

static void show(const struct prism_published *published)
{
    for (size_t i = 0; i < published->count; i++) {
        const struct prism_publish_result *result = &published->results[i];

        if (result->outcome == PRISM_STORED)
            printf("stored as %s\n", result->message_id);
        else
            printf("%s: %s\n", prism_outcome_name(result->outcome), result->message);
    }
}

static enum prism_code publish_one(struct prism_producer *producer, struct prism_error *error)
{
    const struct prism_header headers[] = {{"content-type", prism_bytes_of("text/plain", 10)}};
    const struct prism_message message = {.topic = "example",
                                          .payload = prism_bytes_of("hello", 5),
                                          .headers = headers,
                                          .header_count = 1};
    struct prism_published published;
    enum prism_code code = prism_publish(producer, &message, NULL, &published, error);

    show(&published);
    prism_published_free(&published);
    return code;
}

/* Messages with the same key keep their order. */
static enum prism_code publish_two(struct prism_producer *producer, struct prism_error *error)
{
    const struct prism_bytes key = prism_bytes_of("order/7", 7);
    const struct prism_message messages[] = {
        {.topic = "example", .payload = prism_bytes_of("paid", 4), .ordering_key = key},
        {.topic = "example", .payload = prism_bytes_of("sent", 4), .ordering_key = key},
    };
    struct prism_published published;
    enum prism_code code = prism_publish_batch(producer, messages, 2, NULL, &published, error);

    show(&published);
    if (code != PRISM_OK)
        printf("both messages: %s\n", prism_outcome_name(published.outcome));
    prism_published_free(&published);
    return code;
}

int main(int argc, char **argv)
{
    const char *server = argc > 1 ? argv[1] : "127.0.0.1:8980";
    const struct prism_channel_options options = {.deadline_ms = 60000}; /* of each call */
    struct prism_channel *channel = NULL;
    struct prism_producer *producer = NULL;
    struct prism_error error;
    enum prism_code code;

    code = prism_channel_open(server, &options, &channel, &error);
    if (code == PRISM_OK)
        code = prism_producer_open(channel, &producer, &error);
    if (code == PRISM_OK)
        printf("stored means: %s\n", prism_producer_capabilities(producer)->ack_means);
    if (code == PRISM_OK)
        code = publish_one(producer, &error);
    if (code == PRISM_OK)
        code = publish_two(producer, &error);
    if (code != PRISM_OK)
        fprintf(stderr, "%s: %s\n", prism_code_name(code), error.message);
    prism_producer_close(producer);
    prism_channel_close(channel);
    return code == PRISM_OK ? 0 : 1;
}
