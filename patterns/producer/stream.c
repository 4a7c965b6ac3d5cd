/* PublishStream: frames of messages in, cumulative acknowledgements out.
 *
 * happy path   start -> the first acknowledgement announces the window
 *              received -> read -> outbox; received again while the window has room
 *              settled, in the order of frames -> acknowledgement -> sent
 * half-close   nothing is received any more; once all is settled, the last acknowledgement, OK
 * drain        as half-close, but told in an acknowledgement, and ended with UNAVAILABLE
 * client gone  cancelled, or a send or receive that failed: the call fails; what was sent to the
 *              sink comes back and is counted
 *
 * Of acknowledgements one is under way at a time; what is settled meanwhile, and what does not fit
 * one, is told by the next. Memory: frames are bounded by the window, and a settled frame is kept
 * only until the acknowledgement that tells of the last of its messages is packed. */
#include "patterns/check.h"
#include "patterns/producer/prepare.h"

#include "pool/worker.h"
#include "src/base/container.h"

struct flow;

/* A frame and all that came with it, in an arena of its own. */
struct parcel {
    struct frame frame;
    struct flow *stream;
    struct parcel *next;
    struct arena arena;
    size_t held; /* bytes that call_hold knows of */
    size_t told; /* messages that an acknowledgement has told of */
};

struct flow {
    struct call *call;
    struct producer *producer;
    struct outbox *outbox;
    struct call_receive receive;
    struct op sent;
    struct parcel *incoming;               /* of the receive under way */
    struct parcel *settled, **settled_end; /* not told yet, by sequence */
    struct parcel *spare;
    char *topic; /* for messages that name none */
    size_t topic_cap;
    pb_publish_ack totals; /* counts since the beginning */
    uint64_t unsettled, unsettled_bytes, held;
    int64_t told_generation;
    bool begun, with_results, receiving, sending, half_closed, over;
    bool draining;  /* the server is: as half-closed, but the client goes on elsewhere */
    struct err cut; /* half-closed, but not by the client: with what the stream ends */
};

static void received(struct op *op);
static void ack_sent(struct op *op);

/* ---- parcels ---- */

static void clear_arena(void *arena)
{
    arena_clear(arena);
}

static struct parcel *take_parcel(struct flow *stream)
{
    struct parcel *parcel = stream->spare;

    if (parcel != NULL) {
        stream->spare = parcel->next;
        return parcel;
    }
    parcel = arena_zalloc(call_arena(stream->call), sizeof *parcel);
    parcel->stream = stream;
    arena_init(&parcel->arena, &call_group(stream->call)->home->arenas);
    arena_adopt(call_arena(stream->call), &parcel->arena, clear_arena);
    return parcel;
}

static void free_parcel(struct parcel *parcel)
{
    struct flow *stream = parcel->stream;

    arena_clear(&parcel->arena);
    stream->held -= parcel->held;
    parcel->held = 0;
    if (!stream->over)
        call_hold(stream->call, stream->held); /* less: there is room */
    parcel->frame = (struct frame){0};
    parcel->told = 0;
    parcel->next = stream->spare;
    stream->spare = parcel;
}

/* ---- the end ---- */

static void fail(struct flow *stream, struct err err)
{
    if (stream->over)
        return;
    stream->over = true;
    call_fail(stream->call, err);
}

/* The client has not been told of the drain yet. */
static bool owes_notice(const struct flow *stream)
{
    return stream->draining && !stream->totals.draining;
}

static bool is_done(const struct flow *stream)
{
    return (stream->half_closed || stream->draining) && stream->unsettled == 0 &&
           stream->settled == NULL && !stream->sending && !owes_notice(stream);
}

/* ---- acknowledgements ---- */

/* An acknowledgement in the making. */
struct telling {
    struct arena arena;
    pb_publish_ack ack;
    size_t bytes, most_bytes; /* of failures and results */
    size_t most;              /* failures, and results */
    size_t n;                 /* messages that it tells of */
};

/* Clients take 4 MiB unless they are told otherwise. What does not go with one acknowledgement goes
 * with the next. */
enum { ACK_BYTES = 1 << 20, ACK_ENTRIES = 10000, FIELD_BYTES = 4 };

static pb_publish_failure *failure_of(struct arena *arena, const struct outgoing *message,
                                      int64_t sequence)
{
    pb_publish_failure *failure = arena_alloc(arena, sizeof *failure);

    prism__patterns__producer__publish_failure__init(failure);
    failure->sequence = sequence;
    failure->code = (int32_t)message->err.code;
    failure->error = pb_text(message->err.text);
    failure->outcome = outcome_of(message);
    if (message->err.retry_after_ms != 0) {
        failure->_retry_after_ms_case =
            PRISM__PATTERNS__PRODUCER__PUBLISH_FAILURE___RETRY_AFTER_MS_RETRY_AFTER_MS;
        failure->retry_after_ms = message->err.retry_after_ms;
    }
    return failure;
}

static pb_publish_response *result_of(const struct flow *stream, struct arena *arena,
                                      const struct outgoing *message)
{
    pb_publish_response *result = arena_alloc(arena, sizeof *result);

    outcome_fill(stream->producer, arena, message, result);
    return result;
}

static bool fits(struct telling *telling, const ProtobufCMessage *entry, size_t entries)
{
    telling->bytes += FIELD_BYTES + protobuf_c_message_get_packed_size(entry);
    return telling->n == 0 || (telling->bytes <= telling->most_bytes && entries < telling->most);
}

/* False: it goes with the next acknowledgement. */
static bool tell(struct flow *stream, struct telling *telling, const struct outgoing *message)
{
    pb_publish_ack *ack = &telling->ack;
    pb_publish_failure *failure = NULL;

    if (message->err.code != ERR_OK) {
        failure = failure_of(&telling->arena, message, stream->totals.settled_through + 1);
        if (!fits(telling, &failure->base, ack->n_failures))
            return false;
    }
    if (stream->with_results) {
        pb_publish_response *result = result_of(stream, &telling->arena, message);

        if (!fits(telling, &result->base, ack->n_results))
            return false;
        ack->results[ack->n_results++] = result;
    }
    if (failure == NULL)
        stream->totals.success_count++;
    else
        ack->failures[ack->n_failures++] = failure;
    stream->totals.settled_through++;
    telling->n++;
    return true;
}

/* True: of the whole of it. */
static bool tell_parcel(struct flow *stream, struct telling *telling, struct parcel *parcel)
{
    while (parcel->told < parcel->frame.n) {
        if (!tell(stream, telling, &parcel->frame.items[parcel->told]))
            return false;
        parcel->told++;
    }
    return true;
}

static void telling_init(struct telling *telling, const struct flow *stream)
{
    size_t half = stream->producer->binding.max_message_bytes / 2, n = 0;

    for (const struct parcel *p = stream->settled; p != NULL && n < ACK_ENTRIES; p = p->next)
        n += p->frame.n - p->told;
    *telling = (struct telling){.ack = stream->totals,
                                .most_bytes = half < ACK_BYTES ? half : ACK_BYTES,
                                .most = n < ACK_ENTRIES ? n : ACK_ENTRIES};
    arena_init(&telling->arena, &call_group(stream->call)->home->arenas);
    telling->ack.failures =
        arena_alloc(&telling->arena, telling->most * sizeof *telling->ack.failures);
    telling->ack.results =
        arena_alloc(&telling->arena, (stream->with_results ? telling->most : 0) * sizeof(void *));
}

static void send_ack(struct flow *stream)
{
    int64_t generation = producer_generation(stream->producer);
    struct telling telling;
    pb_publish_ack *ack = &telling.ack;
    struct parcel *parcel, *told = NULL, **told_end = &told;

    stream->totals.draining = stream->draining;
    telling_init(&telling, stream);
    while ((parcel = stream->settled) != NULL && tell_parcel(stream, &telling, parcel)) {
        stream->settled = parcel->next;
        *told_end = parcel; /* what is told points into it */
        told_end = &parcel->next;
        *told_end = NULL;
    }
    if (stream->settled == NULL)
        stream->settled_end = &stream->settled;
    stream->totals.failure_count += (int64_t)ack->n_failures;
    ack->settled_through = stream->totals.settled_through;
    ack->success_count = stream->totals.success_count;
    ack->failure_count = stream->totals.failure_count;
    if (generation != stream->told_generation)
        ack->generation = stream->told_generation = generation;
    stream->sending = true;
    call_send(stream->call, &ack->base, &stream->sent, ack_sent); /* packs it */
    arena_clear(&telling.arena);
    while ((parcel = told) != NULL) {
        told = parcel->next;
        free_parcel(parcel);
    }
}

/* ---- what comes next ---- */

static bool has_room(const struct flow *stream)
{
    const struct producer_settings *settings = &stream->producer->settings;

    return stream->unsettled < settings->window && stream->unsettled_bytes < settings->window_bytes;
}

static void go_on(struct flow *stream)
{
    if (stream->over)
        return;
    if (is_done(stream) && !stream->half_closed) {
        /* All that was read is settled, so what was not is in nobody's hands. */
        fail(stream, err_about(ERR_UNAVAILABLE, "draining", "the server is draining"));
        return;
    }
    if (is_done(stream) && stream->cut.code != ERR_OK) {
        fail(stream, stream->cut);
        return;
    }
    if (is_done(stream)) {
        stream->over = true;
        call_close(stream->call);
        return;
    }
    if (!stream->sending && (stream->settled != NULL || owes_notice(stream)))
        send_ack(stream);
    if (!stream->receiving && !stream->half_closed && !stream->draining && has_room(stream)) {
        stream->receiving = true;
        stream->incoming = take_parcel(stream);
        stream->receive.arena = &stream->incoming->arena;
        call_receive(stream->call, &stream->receive, received);
    }
}

static void ack_sent(struct op *op)
{
    struct flow *stream = CONTAINER_OF(op, struct flow, sent);

    stream->sending = false;
    if (op->err.code != ERR_OK)
        fail(stream, op->err);
    else
        go_on(stream);
}

static void settled(struct frame *frame)
{
    struct parcel *parcel = CONTAINER_OF(frame, struct parcel, frame);
    struct flow *stream = parcel->stream;

    stream->unsettled -= frame->n;
    stream->unsettled_bytes -= frame->bytes;
    parcel->next = NULL;
    *stream->settled_end = parcel;
    stream->settled_end = &parcel->next;
    go_on(stream);
}

/* ---- frames ---- */

static enum failure_mode mode_of(pb_failure_mode mode)
{
    switch (mode) {
    case PRISM__PATTERNS__PRODUCER__FAILURE_MODE__CONTINUE:
        return FAILURE_CONTINUE;
    case PRISM__PATTERNS__PRODUCER__FAILURE_MODE__STOP_STREAM:
        return FAILURE_STOP_ALL;
    default:
        return FAILURE_STOP_KEY;
    }
}

/* The topic outlives the frame that names it. */
static void keep_topic(struct flow *stream, const char *topic)
{
    size_t bytes = strlen(topic) + 1;

    if (bytes == 1)
        return;
    if (bytes > stream->topic_cap) {
        stream->topic_cap = 2 * bytes;
        stream->topic = arena_alloc(call_arena(stream->call), stream->topic_cap);
    }
    memcpy(stream->topic, topic, bytes);
}

static void read_frame(struct flow *stream, struct parcel *parcel, const pb_publish_frame *from)
{
    struct frame *frame = &parcel->frame;
    struct reader reader = reader_of(stream->producer, stream->call, &parcel->arena);

    keep_topic(stream, from->topic);
    if (stream->topic != NULL)
        reader.topic = arena_copy(&parcel->arena, slice_str(stream->topic));
    frame_init(frame, &parcel->arena, from->n_messages);
    frame->settled = settled;
    frame->resume = from->resume;
    frame->resume_keys = from->resume_keys;
    frame->n_resume_keys = from->n_resume_keys;
    for (size_t i = 0; i < from->n_messages; i++) {
        struct err err = reader_read(&reader, from->messages[i], &frame->items[i]);

        if (err.code != ERR_OK)
            frame_refuse(frame, i, err);
    }
    stream->unsettled += from->n_messages;
}

/* What was made of the frame's messages counts as the messages do. Without room for it they are
 * refused, as they would be by a full sink. */
static void hold(struct flow *stream, struct parcel *parcel)
{
    struct frame *frame = &parcel->frame;
    struct err err = call_hold(stream->call, stream->held + parcel->arena.bytes);

    if (err.code == ERR_OK) {
        parcel->held = parcel->arena.bytes;
        stream->held += parcel->held;
        return;
    }
    for (size_t i = 0; i < frame->n; i++) {
        if (frame->states[i] == ITEM_WAITING)
            frame_refuse(frame, i, err);
    }
}

static void take_frame(struct flow *stream, const pb_publish_frame *from)
{
    struct parcel *parcel = stream->incoming;
    struct err err = check_items(from->n_messages, stream->producer->settings.max_batch_items,
                                 call_arena(stream->call), "messages");

    if (err.code == ERR_OK && !stream->begun &&
        !check_is_known(&prism__patterns__producer__failure_mode__descriptor,
                        (int)from->failure_mode))
        err = err_about(ERR_INVALID_ARGUMENT, "failure_mode",
                        "failure_mode has to be a number of FailureMode");
    if (err.code != ERR_OK) {
        fail(stream, err);
        return;
    }
    if (!stream->begun) {
        stream->begun = true;
        stream->with_results = from->with_results;
        stream->outbox->mode = mode_of(from->failure_mode);
    }
    read_frame(stream, parcel, from);
    stream->unsettled_bytes += frame_measure(stream->producer, &parcel->frame);
    hold(stream, parcel);
    prepare_frame(stream->producer, call_group(stream->call), &parcel->frame);
    outbox_put(stream->outbox, &parcel->frame);
    go_on(stream);
}

static void received(struct op *op)
{
    struct flow *stream = CONTAINER_OF(op, struct flow, receive.op);
    const pb_publish_frame *frame = (const void *)stream->receive.message;

    stream->receiving = false;
    if (op->err.code != ERR_OK && op->err.code != ERR_DEADLINE_EXCEEDED) {
        fail(stream, op->err);
    } else if (frame == NULL) { /* what was read is settled, and told */
        stream->cut = op->err;
        stream->half_closed = true;
        free_parcel(stream->incoming);
        go_on(stream);
    } else {
        take_frame(stream, frame);
    }
}

static void cancelled(struct call *call, void *arg)
{
    fail(arg, call_group(call)->cancelled);
}

/* What was read is settled first. */
static void draining(struct call *call, void *arg)
{
    struct flow *stream = arg;

    (void)call;
    stream->draining = true;
    go_on(stream);
}

void producer_publish_stream(struct call *call)
{
    struct flow *stream = arena_zalloc(call_arena(call), sizeof *stream);
    struct producer *producer = producer_of(call);

    stream->call = call;
    stream->producer = producer;
    stream->settled_end = &stream->settled;
    stream->outbox = outbox_new(producer, call, FAILURE_STOP_KEY);
    stream->outbox->patient = true;
    prism__patterns__producer__publish_ack__init(&stream->totals);
    stream->totals.window = (int32_t)producer->settings.window;
    stream->totals.window_bytes = (int64_t)producer->settings.window_bytes;
    call_on_cancel(call, cancelled, stream);
    call_on_drain(call, draining, stream);
    send_ack(stream);
    go_on(stream);
}
