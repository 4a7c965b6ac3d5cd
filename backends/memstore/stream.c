/* The stream interface. */
#include "backends/memstore/messaging.h"
#include "src/base/container.h"

static void make(struct messaging *m, struct named *named)
{
    channel_init(CONTAINER_OF(named, struct channel, named), m, false);
}

static void unmake(struct named *named)
{
    struct channel *channel = CONTAINER_OF(named, struct channel, named);

    groups_destroy(channel);
    channel_clear(channel);
}

const struct named_kind named_stream = {
    .bytes = sizeof(struct channel), .make = make, .unmake = unmake};

static void publish(struct backend *backend, struct publish *request)
{
    channel_publish(backend, request, &named_stream);
}

static void open_reader(struct backend *backend, struct subscription *subscription)
{
    reader_open(backend, subscription, &named_stream);
}

/* NULL: there is no such stream. With a reference. */
static struct channel *find(struct backend *backend, struct slice topic)
{
    bool full;
    struct named *named = names_get(messaging_of(backend), &named_stream, topic, false, &full);

    return named == NULL ? NULL : CONTAINER_OF(named, struct channel, named);
}

static void describe(struct backend *backend, struct stream_describe *request)
{
    const struct memstore_messaging *config = &messaging_of(backend)->config;
    struct channel *channel = find(backend, request->topic);

    counter_add(&backend->stats.calls, 1);
    request->found = channel != NULL;
    request->partitions = 0;
    request->retention = config->drop_unread ? RETENTION_LOSSY : RETENTION_KEEPS_UNREAD;
    request->retention_text = config->drop_unread ? "stream_drop_unread" : NULL;
    request->ack = BACKEND_ACK_MEMORY;
    request->max_message_bytes = 0;
    if (channel != NULL)
        names_put(channel->messaging, &channel->named);
    messaging_end(backend, &request->op, ERR_NONE);
}

static void fill(struct channel *channel, struct stream_position *request)
{
    const struct group *group = group_find(channel, request->group);
    struct stream_partition *p = request->partitions;

    channel_age(channel);
    *p = (struct stream_partition){.partition = -1,
                                   .first = channel->log.first,
                                   .end = channel->log.next,
                                   .committed = -1,
                                   .lag = -1,
                                   .position = message_null()};
    request->found = group != NULL;
    request->unsettled = request->parked = 0;
    if (group == NULL)
        return;
    p->committed = group_floor(group);
    p->lag = channel->log.next - msglog_seek(&channel->log, group->cursor) + group->unsettled;
    request->unsettled = group->out;
    request->parked = group->parked;
}

static void position(struct backend *backend, struct stream_position *request)
{
    struct channel *channel = find(backend, request->topic);

    counter_add(&backend->stats.calls, 1);
    if (channel == NULL) {
        messaging_end(backend, &request->op,
                      err_about(ERR_NOT_FOUND, "topic", "there is no such topic"));
        return;
    }
    request->partitions = arena_zalloc(op_arena(&request->op), sizeof *request->partitions);
    request->n = 1;
    pthread_mutex_lock(&channel->lock);
    fill(channel, request);
    pthread_mutex_unlock(&channel->lock);
    names_put(channel->messaging, &channel->named);
    messaging_end(backend, &request->op, ERR_NONE);
}

static struct err seek_group(struct channel *channel, const struct stream_seek *request)
{
    int64_t at = request->at, offset;
    struct group *group;

    channel_age(channel);
    if (request->start == START_POSITION && !channel_position(request->position, &at))
        return err_about(ERR_INVALID_ARGUMENT, "position", "this is no position of this topic");
    if (!channel_start(channel, request->start, at, &offset) || offset < channel->log.first)
        return err_about(ERR_OUT_OF_RANGE, "offset", "the topic has no message at this offset");
    group = group_find(channel, request->group);
    if (group == NULL && channel->n_groups >= MESSAGING_GROUPS)
        return err_about(ERR_RESOURCE_EXHAUSTED, "group", "the topic has as many groups as it may");
    if (group == NULL)
        group = group_new(channel, request->group);
    group_seek(group, offset);
    return ERR_NONE;
}

static void seek(struct backend *backend, struct stream_seek *request)
{
    struct channel *channel = find(backend, request->topic);
    struct err err = err_about(ERR_NOT_FOUND, "topic", "there is no such topic");

    counter_add(&backend->stats.calls, 1);
    if (channel != NULL) {
        pthread_mutex_lock(&channel->lock);
        err = seek_group(channel, request);
        pthread_mutex_unlock(&channel->lock);
        names_put(channel->messaging, &channel->named);
    }
    messaging_end(backend, &request->op, err);
}

const struct stream memstore_stream = {
    .sink = CHANNEL_SINK(publish),
    .source = CHANNEL_SOURCE(open_reader),
    .settling = CHANNEL_SETTLING,
    .offsets = true,
    .describe = describe,
    .position = position,
    .seek = seek,
};
