/* Answers of a stream: {"stream":"S","seq":7,"duplicate":true}, or
 * {"error":{"code":400,"err_code":10054,"description":".."},"stream":"S","seq":0}. */
#include "backends/nats/jet_priv.h"

#include <stdlib.h>

enum {
    TOO_LARGE = 10054,
    NO_RESOURCES = 10023,
    NO_STORAGE = 10047,
    RESOURCE_LIMITS = 10028,
    STORE_FAILED = 10077, /* full, or the disk failed */
    SEALED = 10109,
    TOO_MANY = 10167,
};

/* Behind the closing quote of the text that begins at `at`. */
static const char *skip_text(const char *at, const char *end)
{
    for (at++; at < end && *at != '"'; at++) {
        if (*at == '\\')
            at++;
    }
    return at < end ? at + 1 : end;
}

static void take_member(struct jet_members *members, const char *name, size_t len,
                        const char *value)
{
    struct slice is = slice_of(name, len);

    if (slice_equal(is, slice_str("seq")))
        members->sequence = strtoull(value, NULL, 10);
    else if (slice_equal(is, slice_str("code")))
        members->code = strtoull(value, NULL, 10);
    else if (slice_equal(is, slice_str("err_code")))
        members->err_code = strtoull(value, NULL, 10);
    else if (slice_equal(is, slice_str("duplicate")))
        members->duplicate = *value == 't';
    else if (slice_equal(is, slice_str("data")) && *value == '"')
        members->data = slice_of(value + 1, strcspn(value + 1, "\""));
}

/* A text with ':' behind it is a name. The library ends what it received by a NUL. */
struct jet_members jet_members_read(const char *at, const char *end)
{
    struct jet_members members = {0};

    while (at < end) {
        const char *name = at + 1;

        if (*at != '"') {
            at++;
            continue;
        }
        at = skip_text(at, end);
        if (at < end && *at == ':')
            take_member(&members, name, (size_t)(at - 1 - name), at + 1 + strspn(at + 1, " "));
    }
    return members;
}

static struct err full(const char *text)
{
    struct err err = err_about(ERR_RESOURCE_EXHAUSTED, "topic", text);

    err.retry_after_ms = NATS_RETRY_MS;
    return err;
}

static struct err err_of(const struct jet_members *members)
{
    switch (members->err_code) {
    case TOO_LARGE:
        return err_about(ERR_INVALID_ARGUMENT, "payload",
                         "larger than the stream's maximum message size");
    case NO_RESOURCES:
    case NO_STORAGE:
    case RESOURCE_LIMITS:
        return full("JetStream has no room left; nothing was written");
    case STORE_FAILED:
        return full("the stream is full; nothing was written");
    case TOO_MANY:
        return full("too many messages are on their way to the stream; nothing was written");
    case SEALED:
        return err_about(ERR_FAILED_PRECONDITION, "topic", "the stream is sealed");
    default:
        break;
    }
    if (members->code >= 500) {
        struct err err = err_make(ERR_UNAVAILABLE, "the stream could not store the message");

        err.retry_after_ms = NATS_RETRY_MS;
        return err;
    }
    return err_about(ERR_FAILED_PRECONDITION, "topic", "the stream refused the message");
}

struct jet_ack jet_ack_read(natsMsg *message)
{
    const char *data = natsMsg_GetData(message);
    int len = natsMsg_GetDataLength(message);
    struct jet_members members;

    if (len == 0 && natsMsg_IsNoResponders(message))
        return (struct jet_ack){.absent = true};
    members = jet_members_read(data, data + len);
    if (members.code != 0 || members.err_code != 0)
        return (struct jet_ack){.err = err_of(&members)};
    if (members.sequence == 0)
        return (struct jet_ack){.err = err_about(ERR_FAILED_PRECONDITION, "topic",
                                                 "who answers on this subject is no stream")};
    return (struct jet_ack){
        .stored = true, .duplicate = members.duplicate, .sequence = members.sequence};
}

/* $JS.ACK.STREAM.CONSUMER and five numbers; a later form has the domain and the account before the
 * stream, and may have one more token at its end. */
bool jet_source_read(struct jet_source *source, const char *reply)
{
    uint64_t numbers[4];
    unsigned dots = 0, skip;
    const char *at = reply;
    char *end;

    for (const char *c = reply; *c != '\0'; c++)
        dots += *c == '.';
    if (strncmp(reply, "$JS.ACK.", 8) != 0 || dots < 8 || dots == 9 || dots > 11)
        return false;
    skip = dots == 8 ? 4 : 6;
    for (unsigned i = 0; i < skip; i++)
        at = strchr(at, '.') + 1;
    source->prefix = (size_t)(at - reply);
    for (unsigned i = 0; i < ARRAY_LEN(numbers); i++, at = end + 1) {
        numbers[i] = strtoull(at, &end, 10);
        if (end == at || *end != '.')
            return false;
    }
    source->deliveries = numbers[0];
    source->stream_sequence = numbers[1];
    source->consumer_sequence = numbers[2];
    source->time_ns = numbers[3];
    return source->prefix < JET_PREFIX_BYTES;
}
