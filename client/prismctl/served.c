#include "client/prismctl/served.h"
#include "client/prismctl/command.h"
#include "prism/consumer.h"
#include "prism/keyvalue.h"
#include "prism/producer.h"
#include "prism/registry.h"
#include "prism/session.h"

#include <stdio.h>
#include <string.h>

/* ---- one pattern: opens its client, which asks for the capabilities ---- */

typedef enum prism_code ask_fn(struct prism_channel *channel, struct served *served);
typedef void close_fn(void *client);

static void note_backend(struct served *served, const char *backend)
{
    snprintf(served->backend, sizeof served->backend, "%s", backend);
}

static void note_operations(struct served *served, const struct prism_operation *operations,
                            size_t n)
{
    served->operations = operations;
    served->operation_count = n;
}

static enum prism_code ask_keyvalue(struct prism_channel *channel, struct served *served)
{
    struct prism_keyvalue *keyvalue = NULL;
    enum prism_code code = prism_keyvalue_open(channel, &keyvalue, &served->error);
    const struct prism_keyvalue_capabilities *can;

    served->client = keyvalue;
    if (code != PRISM_OK)
        return code;
    can = prism_keyvalue_capabilities(keyvalue);
    note_backend(served, can->backend_type);
    note_operations(served, can->operations, can->operation_count);
    return code;
}

static enum prism_code ask_producer(struct prism_channel *channel, struct served *served)
{
    struct prism_producer *producer = NULL;
    enum prism_code code = prism_producer_open(channel, &producer, &served->error);
    const struct prism_producer_capabilities *can;

    served->client = producer;
    if (code != PRISM_OK)
        return code;
    can = prism_producer_capabilities(producer);
    note_backend(served, can->backend_type);
    note_operations(served, can->operations, can->operation_count);
    served->facts[0] = (struct served_fact){"ack_means", can->ack_means, 0};
    served->facts[1] = (struct served_fact){"max_message_bytes", NULL, can->max_message_bytes};
    served->facts[2] = (struct served_fact){"max_batch_messages", NULL, can->max_batch_messages};
    return code;
}

static enum prism_code ask_consumer(struct prism_channel *channel, struct served *served)
{
    struct prism_consumer *consumer = NULL;
    enum prism_code code = prism_consumer_open(channel, &consumer, &served->error);
    const struct prism_consumer_capabilities *can;

    served->client = consumer;
    if (code != PRISM_OK)
        return code;
    can = prism_consumer_capabilities(consumer);
    note_backend(served, can->backend_type);
    note_operations(served, can->operations, can->operation_count);
    served->facts[0] = (struct served_fact){"ack_means", can->ack_means, 0};
    served->facts[1] = (struct served_fact){"max_attempts", NULL, can->max_attempts};
    served->facts[2] = (struct served_fact){"lease_ms", NULL, can->lease_ms};
    return code;
}

static enum prism_code ask_registry(struct prism_channel *channel, struct served *served)
{
    struct prism_registry *registry = NULL;
    enum prism_code code = prism_registry_open(channel, &registry, &served->error);
    const struct prism_registry_capabilities *can;

    served->client = registry;
    if (code != PRISM_OK)
        return code;
    can = prism_registry_capabilities(registry);
    snprintf(served->backend, sizeof served->backend, "%s+%s", can->backend_type,
             can->messaging_backend_type);
    if (strcmp(can->backend_type, can->messaging_backend_type) == 0)
        note_backend(served, can->backend_type);
    note_operations(served, can->operations, can->operation_count);
    served->facts[0] = (struct served_fact){"durability_backend", can->durability_backend_type, 0};
    served->facts[1] = (struct served_fact){"filters_in_backend", can->filters_in_backend, 0};
    served->facts[2] = (struct served_fact){"filters_in_prism", can->filters_in_prism, 0};
    return code;
}

static enum prism_code ask_sessions(struct prism_channel *channel, struct served *served)
{
    struct prism_sessions *sessions = NULL;
    enum prism_code code = prism_sessions_open(channel, &sessions, &served->error);
    const struct prism_sessions_capabilities *can;

    served->client = sessions;
    if (code != PRISM_OK)
        return code;
    can = prism_sessions_capabilities(sessions);
    note_backend(served, can->backend_type);
    note_operations(served, can->operations, can->operation_count);
    return code;
}

static void close_keyvalue(void *client)
{
    prism_keyvalue_close(client);
}

static void close_producer(void *client)
{
    prism_producer_close(client);
}

static void close_consumer(void *client)
{
    prism_consumer_close(client);
}

static void close_registry(void *client)
{
    prism_registry_close(client);
}

static void close_sessions(void *client)
{
    prism_sessions_close(client);
}

static const struct {
    const char *pattern;
    ask_fn *ask;
    close_fn *close;
} patterns[SERVED_PATTERNS] = {{"keyvalue", ask_keyvalue, close_keyvalue},
                               {"producer", ask_producer, close_producer},
                               {"consumer", ask_consumer, close_consumer},
                               {"multicast_registry", ask_registry, close_registry},
                               {"session_store", ask_sessions, close_sessions}};

/* The server's words for a pattern, or a namespace, that it does not have. */
static bool says_absent(enum prism_code code)
{
    return code == PRISM_UNIMPLEMENTED || code == PRISM_NOT_FOUND;
}

int served_ask(struct prism_channel *channel, struct served served[SERVED_PATTERNS],
               struct prism_error *error)
{
    int n = 0;

    memset(served, 0, SERVED_PATTERNS * sizeof served[0]);
    for (int i = 0; i < SERVED_PATTERNS; i++) {
        enum prism_code code;

        served[i] = (struct served){.pattern = patterns[i].pattern};
        code = patterns[i].ask(channel, &served[i]);
        served[i].served = code == PRISM_OK;
        n += served[i].served;
        if (code != PRISM_OK && !says_absent(code)) {
            *error = served[i].error;
            return -1;
        }
    }
    return n;
}

void served_clear(struct served served[SERVED_PATTERNS])
{
    for (int i = 0; i < SERVED_PATTERNS; i++)
        patterns[i].close(served[i].client);
}

/* ---- a command whose pattern is not served ---- */

int fail_unserved(struct session *session, const struct options *options, const char *pattern,
                  const struct prism_error *error)
{
    struct served served[SERVED_PATTERNS];
    struct prism_error full = *error, unused;
    size_t len;
    int n;

    if (!says_absent(error->code))
        return fail(options, error);
    n = served_ask(session->channel, served, &unused);
    served_clear(served);
    if (n <= 0)
        return fail(options, error);
    snprintf(full.message, sizeof full.message,
             "the pattern %s is not served here; served:", pattern);
    for (int i = 0; i < SERVED_PATTERNS; i++) {
        len = strlen(full.message);
        if (served[i].served)
            snprintf(full.message + len, sizeof full.message - len, " %s", served[i].pattern);
    }
    return fail(options, &full);
}
