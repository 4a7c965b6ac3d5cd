/* Publishes three messages and consumes them as a member of a group.
 *
 *   cc consume.c $(pkg-config --cflags --libs prism) && ./a.out 127.0.0.1:8980 */
#include <prism/consumer.h>

#include <stdio.h>

struct reading {
    struct prism_subscription *subscription;
    int left;
};

/* What it returns settles the delivery: the work for it is done by then. */
static enum prism_disposition show(void *context, const struct prism_delivery *delivery)
{
    struct reading *reading = context;

    printf("%.*s\n", (int)delivery->payload.len, (const char *)delivery->payload.data);
    if (--reading->left == 0)
        prism_subscription_stop(reading->subscription);
    return PRISM_DONE;
}

static enum prism_code publish_three(struct prism_channel *channel, struct prism_error *error)
{
    const struct prism_message messages[] = {
        {.topic = "example/consume", .payload = prism_bytes_of("one", 3)},
        {.topic = "example/consume", .payload = prism_bytes_of("two", 3)},
        {.topic = "example/consume", .payload = prism_bytes_of("three", 5)},
    };
    struct prism_producer *producer;
    struct prism_published published;
    enum prism_code code = prism_producer_open(channel, &producer, error);

    if (code != PRISM_OK)
        return code;
    code = prism_publish_batch(producer, messages, 3, NULL, &published, error);
    prism_published_free(&published);
    prism_producer_close(producer);
    return code;
}

static enum prism_code consume_three(struct prism_channel *channel, struct prism_error *error)
{
    const struct prism_subscribe_options options = {.group = "example"};
    struct reading reading = {.left = 3};
    struct prism_consumer *consumer;
    enum prism_code code = prism_consumer_open(channel, &consumer, error), closed;
    struct prism_error other;

    if (code == PRISM_OK)
        code = prism_subscribe(consumer, "example/consume", &options, &reading.subscription, error);
    if (code == PRISM_OK)
        code = prism_consume(reading.subscription, show, &reading, error);
    /* Only now the server has said that it took all settlements. */
    closed = prism_subscription_close(reading.subscription, code == PRISM_OK ? error : &other);
    prism_consumer_close(consumer);
    return code == PRISM_OK ? closed : code;
}

int main(int argc, char **argv)
{
    const char *server = argc > 1 ? argv[1] : "127.0.0.1:8980";
    const struct prism_channel_options options = {.deadline_ms = 60000}; /* of each call */
    struct prism_channel *channel = NULL;
    struct prism_error error;
    enum prism_code code = prism_channel_open(server, &options, &channel, &error);

    if (code == PRISM_OK)
        code = publish_three(channel, &error);
    if (code == PRISM_OK)
        code = consume_three(channel, &error);
    if (code != PRISM_OK)
        fprintf(stderr, "%s: %s\n", prism_code_name(code), error.message);
    prism_channel_close(channel);
    return code == PRISM_OK ? 0 : 1;
}
