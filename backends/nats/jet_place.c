/* Where a group stands: the consumer that is its memory is looked up, made, or made anew somewhere
 * else. thread: control. */
#include "backends/nats/jet_priv.h"

#include <stdio.h>
#include <stdlib.h>

/* How long the server keeps the consumer of a reader without a group that is gone. */
#define INACTIVE_NS (60 * 1000000000ll)

/* A time that the protocol can name, and nanoseconds cannot, lies behind all messages. */
enum { NS_IN_MS = 1000000 };

bool jet_place_init(struct jet_place *place, struct slice topic, struct slice group)
{
    *place = (struct jet_place){.start = START_EARLIEST};
    if (topic.len > MESSAGE_TOPIC_BYTES || group.len > MESSAGE_TOPIC_BYTES)
        return false;
    if (topic.len > 0)
        memcpy(place->topic, topic.data, topic.len);
    if (group.len > 0)
        memcpy(place->group, group.data, group.len);
    return strlen(place->topic) == topic.len && strlen(place->group) == group.len;
}

/* ---- the stream ---- */

static struct err look_at_stream(struct jet_store *store, jsCtx *js, struct jet_place *place)
{
    jsStreamInfo *info = NULL;
    jsErrCode code = 0;
    jsOptions options = jet_ask_options(store, place->wait_ms);
    natsStatus s = js_GetStreamInfo(&info, js, place->stream, &options, &code);

    if (s != NATS_OK)
        return jet_stream_err(store, s, code);
    place->first = info->State.FirstSeq;
    place->last = info->State.LastSeq;
    place->clustered = info->Cluster != NULL; /* that names no leader for a moment */
    place->alone =
        info->Config->SubjectsLen == 1 && strcmp(info->Config->Subjects[0], place->topic) == 0;
    jsStreamInfo_Destroy(info);
    return ERR_NONE;
}

/* ---- the consumer ---- */

static struct err foreign(void)
{
    return err_about(ERR_FAILED_PRECONDITION, "consumer_group",
                     "a consumer of the group's name exists, and is no pull consumer of this topic "
                     "with explicit acknowledgements");
}

static bool reads_topic(const struct jet_place *place, const jsConsumerConfig *config)
{
    const char *filter = config->FilterSubject;

    return filter != NULL && filter[0] != '\0' ? strcmp(filter, place->topic) == 0 : place->alone;
}

static void take_info(struct jet_place *place, const jsConsumerInfo *info)
{
    place->found = true;
    place->created = info->Created;
    place->stream_sequence = info->Delivered.Stream;
    place->consumer_sequence = info->Delivered.Consumer;
    place->floor = info->AckFloor.Stream;
    place->pending = info->NumPending;
    place->unsettled = info->NumAckPending > 0 ? (uint64_t)info->NumAckPending : 0;
    place->ack_wait_ns = info->Config->AckWait;
    place->max_batch =
        info->Config->MaxRequestBatch > 0 ? (uint64_t)info->Config->MaxRequestBatch : 0;
    snprintf(place->consumer, sizeof place->consumer, "%s", info->Name);
}

/* found tells whether there is one of this name. */
static struct err look_at_consumer(struct jet_store *store, jsCtx *js, struct jet_place *place,
                                   const char *name, bool *fits)
{
    jsConsumerInfo *info = NULL;
    jsErrCode code = 0;
    jsOptions options = jet_ask_options(store, place->wait_ms);
    natsStatus s = js_GetConsumerInfo(&info, js, place->stream, name, &options, &code);

    *fits = false;
    if (s == NATS_NOT_FOUND || code == JSConsumerNotFoundErr)
        return ERR_NONE;
    if (s != NATS_OK)
        return jet_stream_err(store, s, code);
    *fits = info->Config->DeliverSubject == NULL && info->Config->AckPolicy == js_AckExplicit &&
            reads_topic(place, info->Config);
    if (*fits)
        take_info(place, info);
    else
        snprintf(place->consumer, sizeof place->consumer, "%s", name);
    jsConsumerInfo_Destroy(info);
    return ERR_NONE;
}

/* An existing consumer of the group; found: there is one. place->consumer: its name, or the one
 * that it gets. */
static struct err find_consumer(struct jet_store *store, jsCtx *js, struct jet_place *place)
{
    char own[JET_NAME_BYTES], plain[JET_NAME_BYTES];
    struct err err;
    bool fits;

    if (place->group[0] == '\0')
        return place->consumer[0] == '\0'
                   ? ERR_NONE
                   : look_at_consumer(store, js, place, place->consumer, &fits);
    if (!jet_name(own, slice_str(place->group), slice_str(place->topic)) ||
        !jet_name(plain, slice_str(place->group), message_null()))
        return err_about(ERR_INVALID_ARGUMENT, "consumer_group",
                         "group and topic together are too long for the name of a consumer");
    err = look_at_consumer(store, js, place, plain, &fits);
    if (err.code != ERR_OK || fits)
        return err;
    place->consumer[0] = '\0';
    err = look_at_consumer(store, js, place, own, &fits);
    if (err.code == ERR_OK && !fits && place->consumer[0] != '\0')
        return foreign();
    if (!fits)
        snprintf(place->consumer, sizeof place->consumer, "%s", own);
    return err;
}

static void set_start(jsConsumerConfig *config, const struct jet_place *place)
{
    switch (place->start) {
    case START_LATEST:
        config->DeliverPolicy = js_DeliverNew;
        break;
    case START_OFFSET:
    case START_POSITION:
        config->DeliverPolicy = js_DeliverByStartSequence;
        config->OptStartSeq = (uint64_t)place->at;
        break;
    case START_TIME:
        config->DeliverPolicy = js_DeliverByStartTime;
        config->OptStartTime =
            (place->at < INT64_MAX / NS_IN_MS ? place->at : INT64_MAX / NS_IN_MS) * NS_IN_MS;
        break;
    case START_COMMITTED:
    case START_EARLIEST:
        config->DeliverPolicy = js_DeliverAll;
        break;
    }
}

static struct err make_consumer(struct jet_store *store, jsCtx *js, struct jet_place *place)
{
    jsConsumerInfo *info = NULL;
    jsConsumerConfig config;
    jsErrCode code = 0;
    natsStatus s;

    jsConsumerConfig_Init(&config);
    if (place->group[0] != '\0')
        config.Durable = place->consumer;
    else
        config.InactiveThreshold = INACTIVE_NS;
    config.FilterSubject = place->topic;
    config.AckPolicy = js_AckExplicit;
    config.AckWait = (int64_t)store->base.config.ack_wait_ms * 1000000;
    config.MaxAckPending = JET_MAX_ACK_PENDING;
    set_start(&config, place);
    s = js_AddConsumer(&info, js, place->stream, &config, NULL, &code);
    if (s != NATS_OK)
        return jet_stream_err(store, s, code);
    take_info(place, info);
    jsConsumerInfo_Destroy(info);
    return ERR_NONE;
}

/* Others of the group may find it gone for a moment, and make one where they think that it stood:
 * then it is made once more. */
static struct err move(struct jet_store *store, jsCtx *js, struct jet_place *place)
{
    struct err err = ERR_NONE;

    for (unsigned i = 0; i < 3; i++) {
        jsErrCode code = 0;
        natsStatus s = place->found
                           ? js_DeleteConsumer(js, place->stream, place->consumer, NULL, &code)
                           : NATS_OK;

        if (s != NATS_OK && code != JSConsumerNotFoundErr)
            return jet_stream_err(store, s, code);
        err = make_consumer(store, js, place);
        if (err.code != ERR_FAILED_PRECONDITION)
            return err;
        place->found = true;
    }
    return err;
}

/* ---- where it begins ---- */

static struct err check_start(const struct jet_place *place)
{
    if (place->start != START_OFFSET && place->start != START_POSITION)
        return ERR_NONE;
    if (place->at < 1 || (uint64_t)place->at > place->last + 1 ||
        (place->first > 0 && (uint64_t)place->at < place->first))
        return err_about(ERR_OUT_OF_RANGE, "offset",
                         "the stream has no message of this sequence, or not any more");
    return ERR_NONE;
}

struct err jet_gap_err(void)
{
    return err_make(ERR_DATA_LOSS, "the stream has removed messages that the group has not read");
}

/* What the group has not read and the stream does not have any more. Told only where all messages
 * of the stream are the group's. */
static struct err look_for_gap(struct jet_store *store, jsCtx *js, struct jet_place *place)
{
    uint64_t next = place->stream_sequence + 1;

    if (!place->alone || place->first <= next)
        return ERR_NONE;
    place->gap_from = next;
    place->gap_to = place->first;
    if (place->on_gap == GAP_FAIL)
        return jet_gap_err();
    if (place->on_gap != GAP_LATEST)
        return ERR_NONE;
    place->gap_to = place->last + 1;
    place->start = START_LATEST;
    return move(store, js, place);
}

static struct err take(struct jet_store *store, jsCtx *js, struct jet_place *place)
{
    uint64_t wait_ms = place->wait_ms;
    struct err err = place->create
                         ? jet_stream_find(store, js, place->topic, wait_ms, place->stream, NULL)
                         : jet_stream_look(store, js, place->topic, wait_ms, place->stream);

    place->found = false;
    place->gap_from = 0;
    if (err.code == ERR_OK)
        err = look_at_stream(store, js, place);
    if (err.code == ERR_OK)
        err = find_consumer(store, js, place);
    if (err.code != ERR_OK || (place->found && !place->move))
        return err.code == ERR_OK && place->create ? look_for_gap(store, js, place) : err;
    if (!place->create && !place->move)
        return err;
    err = check_start(place);
    return err.code == ERR_OK ? move(store, js, place) : err;
}

struct err jet_place_take(struct jet_store *store, jsCtx *js, struct jet_place *place)
{
    struct err err = take(store, js, place);

    place->wait_ms = jet_ask_next(store, place->wait_ms, err.code != ERR_UNAVAILABLE);
    return err;
}

void jet_place_sweep(jsCtx *js, const struct jet_place *place)
{
    jsConsumerInfo *info = NULL;

    js_GetConsumerInfo(&info, js, place->stream, place->consumer, NULL, NULL);
    jsConsumerInfo_Destroy(info);
}

bool jet_place_count(const struct jet_store *store, jsCtx *js, const struct jet_place *place,
                     uint64_t *unsettled, uint64_t *floor)
{
    jsConsumerInfo *info = NULL;
    jsOptions options = jet_ask_options(store, place->wait_ms);

    if (js_GetConsumerInfo(&info, js, place->stream, place->consumer, &options, NULL) != NATS_OK)
        return false;
    *unsettled = info->NumAckPending > 0 ? (uint64_t)info->NumAckPending : 0;
    *floor = info->AckFloor.Stream;
    jsConsumerInfo_Destroy(info);
    return true;
}

void jet_place_forget(jsCtx *js, const struct jet_place *place)
{
    js_DeleteConsumer(js, place->stream, place->consumer, NULL, NULL);
}
