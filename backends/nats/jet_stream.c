/* Streams and their consumers, by the library's calls, which wait for the server. thread: control.
 *
 * A group is a durable pull consumer. One that somebody else made, named as the group is and
 * reading the topic, is used as it is; otherwise it is called GROUP@TOPIC, because names of
 * consumers are the stream's and a stream may take several topics. */
#include "backends/nats/jet_priv.h"

#include <stdio.h>
#include <stdlib.h>

enum {
    CLUSTER_AWAY = 10008,
    NO_PEERS = 10005,
    NO_RESOURCES = 10023,
    LIMITS = 10028,
    NO_STORAGE = 10047,
    STREAM_OFFLINE = 10118,
};

/* ---- errors ---- */

/* The library keeps the last refusal; the journal's say nothing about others. */
static bool is_denied(struct jet_store *store)
{
    char subject[MESSAGE_TOPIC_BYTES + 1];

    return nats_violated(&store->base, "Permissions Violation for Publish to \"", subject,
                         sizeof subject) &&
           strncmp(subject, "$JS.", 4) == 0 && !jet_journal_owns(store, subject) &&
           !jet_notices_own(store, subject);
}

static struct err away(const char *text)
{
    struct err err = err_make(ERR_UNAVAILABLE, text);

    err.retry_after_ms = NATS_RETRY_MS;
    return err;
}

static struct err err_of_code(jsErrCode code)
{
    struct err err;

    switch ((int)code) {
    case JSStreamNotFoundErr:
        return err_about(ERR_NOT_FOUND, "topic", "the stream is not there any more");
    case JSNotEnabledErr:
    case JSNotEnabledForAccountErr:
        return err_make(ERR_FAILED_PRECONDITION, "JetStream is not enabled for Prism's user");
    case CLUSTER_AWAY:
    case NO_PEERS:
    case STREAM_OFFLINE:
        return away("JetStream's cluster is not complete");
    case NO_RESOURCES:
    case LIMITS:
    case NO_STORAGE:
        err = err_make(ERR_RESOURCE_EXHAUSTED, "JetStream has no room left for this");
        err.retry_after_ms = NATS_RETRY_MS;
        return err;
    default:
        return err_make(ERR_FAILED_PRECONDITION, "JetStream refused a request about the stream");
    }
}

struct err jet_stream_err(struct jet_store *store, natsStatus status, jsErrCode code)
{
    if (code != 0)
        return err_of_code(code);
    if (status == NATS_TIMEOUT && is_denied(store))
        return err_make(ERR_PERMISSION_DENIED, "NATS lets Prism's user not use $JS.API");
    if (status == NATS_NO_RESPONDERS)
        return away("JetStream does not answer: it is not enabled, or has no leader");
    if (status == NATS_TIMEOUT)
        return away("JetStream does not answer");
    return nats_unavailable();
}

/* ---- names ---- */

/* Returns how long the text would be, or is if it fits. */
static size_t add_text(char *to, size_t at, const char *text)
{
    if (at + strlen(text) < JET_NAME_BYTES)
        memcpy(to + at, text, strlen(text) + 1);
    return at + strlen(text);
}

static size_t add_name(char *to, size_t at, struct slice text)
{
    static const char plain[] = "-_";

    to[at < JET_NAME_BYTES ? at : JET_NAME_BYTES - 1] = '\0';
    for (size_t i = 0; i < text.len; i++) {
        uint8_t c = text.data[i];
        bool fits = (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') ||
                    (c != '\0' && strchr(plain, c) != NULL);
        char piece[4];

        snprintf(piece, sizeof piece, fits ? "%c" : "=%02X", c);
        at = add_text(to, at, piece);
    }
    return at;
}

bool jet_name(char name[JET_NAME_BYTES], struct slice group, struct slice topic)
{
    size_t at = add_name(name, 0, group);

    if (topic.len > 0 && group.len > 0)
        at = add_text(name, at, "@");
    at = add_name(name, at, topic);
    return at < JET_NAME_BYTES;
}

/* ---- streams ---- */

jsOptions jet_ask_options(const struct jet_store *store, uint64_t wait_ms)
{
    jsOptions options;

    jsOptions_Init(&options);
    options.Wait = (int64_t)(wait_ms != 0 ? wait_ms : store->base.config.ack_timeout_ms);
    return options;
}

uint64_t jet_ask_next(const struct jet_store *store, uint64_t wait_ms, bool answered)
{
    uint64_t most_ms = store->base.config.ack_timeout_ms;

    if (wait_ms == 0 || answered)
        wait_ms = JET_ASK_MS;
    else
        wait_ms *= 2;
    return wait_ms < most_ms ? wait_ms : most_ms;
}

struct err jet_stream_look(struct jet_store *store, jsCtx *js, const char *topic, uint64_t wait_ms,
                           char stream[JET_NAME_BYTES])
{
    jsStreamNamesList *list = NULL;
    jsErrCode code = 0;
    jsOptions options = jet_ask_options(store, wait_ms);
    struct err err = ERR_NONE;
    natsStatus s;

    options.Stream.Info.SubjectsFilter = topic;
    s = js_StreamNames(&list, js, &options, &code);
    if (s == NATS_NOT_FOUND && code == 0)
        return err_about(ERR_NOT_FOUND, "topic",
                         "no JetStream stream takes this topic: make one, or set create_streams");
    if (s != NATS_OK)
        return jet_stream_err(store, s, code);
    if (list->Count == 0)
        err = err_about(ERR_NOT_FOUND, "topic",
                        "no JetStream stream takes this topic: make one, or set create_streams");
    else
        snprintf(stream, JET_NAME_BYTES, "%s", list->List[0]);
    jsStreamNamesList_Destroy(list);
    return err;
}

static struct err make_stream(struct jet_store *store, jsCtx *js, const char *topic,
                              char stream[JET_NAME_BYTES])
{
    const struct nats_config *config = &store->base.config;
    const char *subjects[] = {topic};
    jsStreamConfig wanted;
    jsErrCode code = 0;
    natsStatus s;

    if (!jet_name(stream, message_null(), slice_str(topic)))
        return err_about(ERR_INVALID_ARGUMENT, "topic", "too long for the name of a stream");
    jsStreamConfig_Init(&wanted);
    wanted.Name = stream;
    wanted.Subjects = subjects;
    wanted.SubjectsLen = 1;
    wanted.Storage = config->stream_memory ? js_MemoryStorage : js_FileStorage;
    wanted.Replicas = (int64_t)config->stream_replicas;
    wanted.Discard = js_DiscardNew;
    wanted.MaxAge = (int64_t)(config->stream_max_age_s * 1000000000ull);
    if (config->stream_max_bytes != 0)
        wanted.MaxBytes = (int64_t)config->stream_max_bytes;
    wanted.Duplicates = (int64_t)config->dedup_window_ms * 1000000;
    if (wanted.MaxAge != 0 && wanted.MaxAge < wanted.Duplicates)
        wanted.Duplicates = wanted.MaxAge;
    s = js_AddStream(NULL, js, &wanted, NULL, &code);
    if (s == NATS_OK)
        return ERR_NONE;
    if (code == JSStreamNameExistErr)
        return err_about(ERR_FAILED_PRECONDITION, "topic",
                         "a stream of the topic's name exists and does not take it");
    return jet_stream_err(store, s, code);
}

struct err jet_stream_find(struct jet_store *store, jsCtx *js, const char *topic, uint64_t wait_ms,
                           char stream[JET_NAME_BYTES], bool *made)
{
    struct err err = jet_stream_look(store, js, topic, wait_ms, stream);

    if (err.code != ERR_NOT_FOUND || !store->base.config.create_streams)
        return err;
    err = make_stream(store, js, topic, stream);
    if (err.code == ERR_OK && made != NULL)
        *made = true;
    return err.code == ERR_FAILED_PRECONDITION ? jet_stream_look(store, js, topic, wait_ms, stream)
                                               : err;
}
