/* Questions about a topic or a group, and moving a group: done by the control thread. */
#include "backends/nats/jet_priv.h"
#include "pool/worker.h"

#include <stdlib.h>

static void *call_new(size_t size)
{
    struct jet_call *call = calloc(1, size);

    if (call == NULL)
        abort();
    return call;
}

static void refuse(struct backend *backend, struct op *op, struct err err)
{
    counter_add(&backend->stats.calls, 1);
    counter_add(&backend->stats.errors, 1);
    op_finish(op, err);
}

/* ---- describe ---- */

struct describe_call {
    struct jet_call call; /* first */
    struct stream_describe *describe;
    char topic[MESSAGE_TOPIC_BYTES + 1];
    bool found;
    enum retention retention;
    enum backend_ack ack;
    uint64_t max_message_bytes;
    const char *retention_text;
};

/* What removes messages that a group has not read. */
static const char *lossy_setting(const jsStreamConfig *config)
{
    if (config->MaxAge > 0)
        return "max_age";
    if (config->Discard == js_DiscardNew)
        return NULL;
    if (config->MaxBytes > 0)
        return "max_bytes with discard: old";
    if (config->MaxMsgs > 0)
        return "max_msgs with discard: old";
    return config->MaxMsgsPerSubject > 0 ? "max_msgs_per_subject with discard: old" : NULL;
}

/* Files are written when a message is acknowledged, and synced now and then. */
static enum backend_ack ack_of(const jsStreamConfig *config)
{
    return config->Replicas > 1 ? BACKEND_ACK_QUORUM_MEMORY : BACKEND_ACK_MEMORY;
}

static void take_description(struct describe_call *call, const jsStreamConfig *config)
{
    call->found = true;
    call->retention_text = lossy_setting(config);
    call->retention = call->retention_text != NULL ? RETENTION_LOSSY : RETENTION_KEEPS_UNREAD;
    call->ack = config->NoAck ? BACKEND_ACK_UNKNOWN : ack_of(config);
    call->max_message_bytes = config->MaxMsgSize > 0 ? (uint64_t)config->MaxMsgSize : 0;
}

static void work_describe(struct jet_store *store, jsCtx *js, struct jet_errand *errand)
{
    struct describe_call *call = (struct describe_call *)errand;
    char stream[JET_NAME_BYTES];
    jsStreamInfo *info = NULL;
    jsErrCode code = 0;
    struct err err = js != NULL && !atomic_load(&call->call.abandoned)
                         ? jet_stream_look(store, js, call->topic, 0, stream)
                         : nats_unavailable();

    if (err.code == ERR_OK) {
        natsStatus s = js_GetStreamInfo(&info, js, stream, NULL, &code);

        if (s == NATS_OK)
            take_description(call, info->Config);
        else
            err = jet_stream_err(store, s, code);
        jsStreamInfo_Destroy(info);
    }
    call->call.err = err.code == ERR_NOT_FOUND ? ERR_NONE : err;
}

static void done_describe(struct jet_call *base)
{
    struct describe_call *call = (struct describe_call *)base;

    call->describe->found = call->found;
    call->describe->partitions = 0;
    call->describe->retention = call->retention;
    call->describe->ack = (int)call->ack;
    call->describe->max_message_bytes = call->max_message_bytes;
    call->describe->retention_text = call->retention_text;
}

void jet_describe(struct backend *backend, struct stream_describe *describe)
{
    struct err err = nats_check_topic(describe->topic);
    struct describe_call *call;

    if (err.code != ERR_OK) {
        refuse(backend, &describe->op, err);
        return;
    }
    call = call_new(sizeof *call);
    memcpy(call->topic, describe->topic.data, describe->topic.len);
    call->describe = describe;
    call->call.errand.work = work_describe;
    call->call.done = done_describe;
    jet_call_start(jet_instance_of(backend), &call->call, &describe->op);
}

/* ---- position ---- */

struct place_call {
    struct jet_call call; /* first */
    struct nats_task look;
    struct stream_position *position;
    struct jet_place place;
};

static void work_place(struct jet_store *store, jsCtx *js, struct jet_errand *errand)
{
    struct place_call *call = (struct place_call *)errand;

    call->call.err = js != NULL ? jet_place_take(store, js, &call->place) : nats_unavailable();
    if (call->position != NULL && call->call.err.code == ERR_NOT_FOUND)
        call->call.err = ERR_NONE;
}

static void done_position(struct jet_call *base)
{
    struct place_call *call = (struct place_call *)base;
    struct stream_position *position = call->position;
    const struct jet_place *place = &call->place;
    struct stream_partition *partition;

    position->found = place->found;
    position->n = 0;
    position->unsettled = position->parked = -1;
    if (!place->found)
        return;
    partition = arena_zalloc(op_arena(&position->op), sizeof *partition);
    *partition = (struct stream_partition){
        .partition = -1,
        .first = (int64_t)place->first,
        .end = (int64_t)place->last + 1,
        .committed = (int64_t)place->floor + 1,
        .lag = (int64_t)(place->pending + place->unsettled),
    };
    position->partitions = partition;
    position->n = 1;
    position->unsettled = (int64_t)place->unsettled;
}

void jet_position(struct backend *backend, struct stream_position *position)
{
    struct err err = nats_check_topic(position->topic);
    struct place_call *call;

    if (err.code != ERR_OK) {
        refuse(backend, &position->op, err);
        return;
    }
    call = call_new(sizeof *call);
    if (!jet_place_init(&call->place, position->topic, position->group)) {
        free(call);
        refuse(backend, &position->op,
               err_about(ERR_INVALID_ARGUMENT, "consumer_group", "a group holds no NUL"));
        return;
    }
    call->position = position;
    call->call.errand.work = work_place;
    call->call.done = done_position;
    jet_call_start(jet_instance_of(backend), &call->call, &position->op);
}

/* ---- seek ---- */

/* Those of this store that read in the group are told before the operation is over. */
static bool run_look(struct nats_store *base, struct nats_task *task)
{
    struct place_call *call = CONTAINER_OF(task, struct place_call, look);

    jet_listeners_look(jet_of(base), call->place.topic, call->place.group);
    worker_land(call->call.instance->base.home, &call->call.job);
    return false;
}

static void worked_seek(struct jet_store *store, struct jet_errand *errand)
{
    nats_store_put(&store->base, &((struct place_call *)errand)->look);
}

static struct err want_seek(struct jet_place *place, const struct stream_seek *seek)
{
    struct err err = nats_check_topic(seek->topic);

    if (err.code == ERR_OK &&
        (seek->group.len == 0 || !jet_place_init(place, seek->topic, seek->group)))
        err = err_about(ERR_INVALID_ARGUMENT, "consumer_group",
                        "a group has 1 to 249 bytes and no NUL");
    if (err.code != ERR_OK)
        return err;
    place->move = true;
    place->start = seek->start;
    place->at = seek->at;
    return seek->start == START_POSITION ? jet_read_position(seek->position, &place->at) : ERR_NONE;
}

void jet_seek(struct backend *backend, struct stream_seek *seek)
{
    struct place_call *call = call_new(sizeof *call);
    struct err err = want_seek(&call->place, seek);

    if (err.code != ERR_OK) {
        free(call);
        refuse(backend, &seek->op, err);
        return;
    }
    call->look.run = run_look;
    call->call.errand.work = work_place;
    call->call.errand.worked = worked_seek;
    jet_call_start(jet_instance_of(backend), &call->call, &seek->op);
}

struct err jet_read_position(struct slice position, int64_t *sequence)
{
    int64_t number = 0;

    for (size_t i = 0; i < position.len; i++) {
        if (position.data[i] < '0' || position.data[i] > '9' || number > INT64_MAX / 10 - 1)
            number = -1;
        if (number < 0)
            break;
        number = number * 10 + (position.data[i] - '0');
    }
    if (position.len == 0 || number < 0)
        return err_about(ERR_INVALID_ARGUMENT, "position",
                         "a position on JetStream is a message's sequence in decimal digits");
    *sequence = number;
    return ERR_NONE;
}

/* ---- probe ---- */

static void work_probe(struct jet_store *store, jsCtx *js, struct jet_errand *errand)
{
    struct jet_call *call = (struct jet_call *)errand;
    jsAccountInfo *info = NULL;
    jsErrCode code = 0;
    natsStatus s = js != NULL ? js_GetAccountInfo(&info, js, NULL, &code) : NATS_NOT_INITIALIZED;

    call->err = s == NATS_OK ? ERR_NONE : jet_stream_err(store, s, code);
    jsAccountInfo_Destroy(info);
}

struct probe_call {
    struct jet_call call; /* first */
    struct nats_task task;
};

static bool run_probe(struct nats_store *base, struct nats_task *task)
{
    jet_control_put(jet_of(base), &CONTAINER_OF(task, struct probe_call, task)->call.errand);
    return false;
}

/* By way of the store's thread: the first probe comes while the connection is being made. */
void jet_probe(struct backend *backend, struct op *op)
{
    struct probe_call *probe = call_new(sizeof *probe);

    probe->call.errand.work = work_probe;
    probe->task.run = run_probe;
    jet_call_park(jet_instance_of(backend), &probe->call, op);
    nats_store_put(&jet_store_of(backend)->base, &probe->task);
}
