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

static void note_backend(struct served *served, const char *backend)
{
    snprintf(served->backend, sizeof served->backend, "%s", backend);
}

static enum prism_code ask_keyvalue(struct prism_channel *channel, struct served *served)
{
    struct prism_keyvalue *keyvalue = NULL;
    enum prism_code code = prism_keyvalue_open(channel, &keyvalue, &served->error);

    if (code == PRISM_OK)
        note_backend(served, prism_keyvalue_capabilities(keyvalue)->backend_type);
    prism_keyvalue_close(keyvalue);
    return code;
}

static enum prism_code ask_producer(struct prism_channel *channel, struct served *served)
{
    struct prism_producer *producer = NULL;
    enum prism_code code = prism_producer_open(channel, &producer, &served->error);

    if (code == PRISM_OK)
        note_backend(served, prism_producer_capabilities(producer)->backend_type);
    prism_producer_close(producer);
    return code;
}

static enum prism_code ask_consumer(struct prism_channel *channel, struct served *served)
{
    struct prism_consumer *consumer = NULL;
    enum prism_code code = prism_consumer_open(channel, &consumer, &served->error);

    if (code == PRISM_OK)
        note_backend(served, prism_consumer_capabilities(consumer)->backend_type);
    prism_consumer_close(consumer);
    return code;
}

static enum prism_code ask_registry(struct prism_channel *channel, struct served *served)
{
    struct prism_registry *registry = NULL;
    enum prism_code code = prism_registry_open(channel, &registry, &served->error);
    const struct prism_registry_capabilities *has;

    if (code == PRISM_OK) {
        has = prism_registry_capabilities(registry);
        snprintf(served->backend, sizeof served->backend, "%s+%s", has->backend_type,
                 has->messaging_backend_type);
        if (strcmp(has->backend_type, has->messaging_backend_type) == 0)
            note_backend(served, has->backend_type);
    }
    prism_registry_close(registry);
    return code;
}

static enum prism_code ask_sessions(struct prism_channel *channel, struct served *served)
{
    struct prism_sessions *sessions = NULL;
    enum prism_code code = prism_sessions_open(channel, &sessions, &served->error);

    if (code == PRISM_OK)
        note_backend(served, prism_sessions_backend_type(sessions));
    prism_sessions_close(sessions);
    return code;
}

static const struct {
    const char *pattern;
    ask_fn *ask;
} patterns[SERVED_PATTERNS] = {{"keyvalue", ask_keyvalue},
                               {"producer", ask_producer},
                               {"consumer", ask_consumer},
                               {"multicast_registry", ask_registry},
                               {"session_store", ask_sessions}};

/* The server's words for a pattern, or a namespace, that it does not have. */
static bool says_absent(enum prism_code code)
{
    return code == PRISM_UNIMPLEMENTED || code == PRISM_NOT_FOUND;
}

int served_ask(struct prism_channel *channel, struct served served[SERVED_PATTERNS],
               struct prism_error *error)
{
    int n = 0;

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

/* ---- a command whose pattern is not served ---- */

int fail_unserved(struct session *session, const struct options *options, const char *pattern,
                  const struct prism_error *error)
{
    struct served served[SERVED_PATTERNS];
    struct prism_error full = *error, unused;
    size_t len;
    int n = says_absent(error->code) ? served_ask(session->channel, served, &unused) : -1;

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
