/* Reads the trailer "grpc-status-details-bin": an encoded google.rpc.Status whose details are
 * messages wrapped in google.protobuf.Any. gRPC has undone the base64 already. */
#include "client/src/status.h"

#include "client/src/channel.h"
#include "client/src/error.h"

#include "google/rpc/error_details.pb-c.h"
#include "google/rpc/status.pb-c.h"

#include <stdio.h>
#include <string.h>

/* Any names its message by a URL that ends in "/full.name". */
static bool holds(const Google__Protobuf__Any *any, const ProtobufCMessageDescriptor *descriptor)
{
    const char *slash = any->type_url == NULL ? NULL : strrchr(any->type_url, '/');

    return slash != NULL && strcmp(slash + 1, descriptor->name) == 0;
}

static void read_bad_request(const Google__Protobuf__Any *any, struct prism_error *error)
{
    Google__Rpc__BadRequest *bad =
        google__rpc__bad_request__unpack(NULL, any->value.len, any->value.data);

    if (bad != NULL && bad->n_field_violations > 0) {
        const char *field = bad->field_violations[0]->field;

        error_text(error->field, sizeof error->field, field, strlen(field));
    }
    google__rpc__bad_request__free_unpacked(bad, NULL);
}

static uint32_t duration_ms(const Google__Protobuf__Duration *delay)
{
    int64_t ms;

    if (delay == NULL || delay->seconds < 0 || delay->nanos < 0)
        return 1;
    if (delay->seconds >= INT32_MAX / 1000)
        return INT32_MAX;
    ms = delay->seconds * 1000 + ((int64_t)delay->nanos + 999999) / 1000000;
    return ms > 0 ? (uint32_t)ms : 1;
}

static void read_retry_info(const Google__Protobuf__Any *any, struct prism_error *error)
{
    Google__Rpc__RetryInfo *info =
        google__rpc__retry_info__unpack(NULL, any->value.len, any->value.data);

    if (info != NULL)
        error->retry_after_ms = duration_ms(info->retry_delay);
    google__rpc__retry_info__free_unpacked(info, NULL);
}

/* What Prism's ErrorInfo says about the effect; EFFECT_UNSAID: there is none of Prism's. Prism
 * names the limit of RESOURCE_EXHAUSTED, and says so when its effect is unknown. */
enum effect { EFFECT_UNSAID, EFFECT_NOT_UNKNOWN, EFFECT_NONE, EFFECT_UNKNOWN };

static bool entry_is(const Google__Rpc__ErrorInfo__MetadataEntry *entry, const char *key,
                     const char *value)
{
    return strcmp(entry->key, key) == 0 && strcmp(entry->value, value) == 0;
}

static enum effect read_effect(const Google__Protobuf__Any *any)
{
    Google__Rpc__ErrorInfo *info =
        google__rpc__error_info__unpack(NULL, any->value.len, any->value.data);
    enum effect effect = EFFECT_UNSAID;

    for (size_t i = 0; info != NULL && i < info->n_metadata; i++) {
        if (strcmp(info->domain, "prism") != 0)
            break;
        if (effect == EFFECT_UNSAID)
            effect = EFFECT_NOT_UNKNOWN;
        if (entry_is(info->metadata[i], "effect", "unknown"))
            effect = EFFECT_UNKNOWN;
        else if (effect != EFFECT_UNKNOWN && (entry_is(info->metadata[i], "effect", "none") ||
                                              entry_is(info->metadata[i], "subject", "draining")))
            effect = EFFECT_NONE;
    }
    google__rpc__error_info__free_unpacked(info, NULL);
    return effect;
}

static void read_details(grpc_slice encoded, struct prism_error *error, enum effect *effect)
{
    Google__Rpc__Status *status = google__rpc__status__unpack(NULL, GRPC_SLICE_LENGTH(encoded),
                                                              GRPC_SLICE_START_PTR(encoded));

    if (status == NULL)
        return;
    for (size_t i = 0; i < status->n_details; i++) {
        const Google__Protobuf__Any *any = status->details[i];

        if (holds(any, &google__rpc__bad_request__descriptor))
            read_bad_request(any, error);
        else if (holds(any, &google__rpc__retry_info__descriptor))
            read_retry_info(any, error);
        else if (holds(any, &google__rpc__error_info__descriptor))
            *effect = read_effect(any);
    }
    google__rpc__status__free_unpacked(status, NULL);
}

/* gRPC's server refuses a request for its size before Prism sees it, and says so in these words
 * only. An answer that is too large for our own bound reads the same but for the number. */
static bool refuses_size(const char *text, uint32_t own_max_bytes)
{
    const char *said = strstr(text, "eceived message larger than max (");
    unsigned long bytes, most;

    return said != NULL && sscanf(strchr(said, '('), "(%lu vs. %lu)", &bytes, &most) == 2 &&
           most != own_max_bytes;
}

static enum status_effect effect_of(const struct prism_error *error, enum effect effect,
                                    uint32_t own_max_bytes)
{
    if (error->code == PRISM_UNAVAILABLE)
        return effect == EFFECT_NONE ? STATUS_REPEAT : STATUS_UNSAID;
    if (error->code != PRISM_RESOURCE_EXHAUSTED || effect == EFFECT_UNKNOWN)
        return STATUS_UNSAID;
    if (error->retry_after_ms > 0)
        return STATUS_REPEAT;
    return effect != EFFECT_UNSAID || refuses_size(error->message, own_max_bytes) ? STATUS_NOT_TAKEN
                                                                                  : STATUS_UNSAID;
}

/* Of a connection that did not come about gRPC tells what it saw, not what it means. */
static void explain(const struct prism_channel *channel, struct prism_error *error)
{
    static const struct {
        bool tls;
        const char *said, *behind;
    } hints[] = {
        {false, "Socket closed", "does the server want TLS, or take no more connections?"},
        {true, "Socket closed",
         "does the server want a client's certificate from its authorities, or take no more "
         "connections?"},
        {true, "wrong version number", "the server does not speak TLS"},
        {true, "certificate verify failed",
         "the server's certificate is from none of the authorities that are trusted"},
        {true, "empty address list", "do the client's certificate and key belong together?"},
    };
    size_t len = strlen(error->message);

    if (strncmp(error->message, "failed to connect", 17) != 0 &&
        strncmp(error->message, "empty address list", 18) != 0)
        return;
    for (size_t i = 0; i < sizeof hints / sizeof *hints; i++) {
        if (hints[i].tls == channel->tls && strstr(error->message, hints[i].said) != NULL)
            snprintf(error->message + len, sizeof error->message - len, " (%s)", hints[i].behind);
    }
}

enum status_effect status_to_error(const struct prism_channel *channel, grpc_status_code status,
                                   grpc_slice text, const grpc_metadata_array *trailing,
                                   struct prism_error *error)
{
    enum effect effect = EFFECT_UNSAID;

    memset(error, 0, sizeof *error);
    error->code =
        (unsigned)status > PRISM_UNAUTHENTICATED ? PRISM_UNKNOWN : (enum prism_code)status;
    if (error->code == PRISM_OK)
        return STATUS_UNSAID;
    error_text(error->message, sizeof error->message, (const char *)GRPC_SLICE_START_PTR(text),
               GRPC_SLICE_LENGTH(text));
    for (size_t i = 0; i < trailing->count; i++) {
        if (grpc_slice_str_cmp(trailing->metadata[i].key, "grpc-status-details-bin") == 0)
            read_details(trailing->metadata[i].value, error, &effect);
    }
    if (error->code == PRISM_UNAVAILABLE)
        explain(channel, error);
    return effect_of(error, effect, channel->max_message_bytes);
}
