/* Publish and PublishBatch: the messages of one request, answered together.
 *
 * happy path   read -> outbox -> settled -> reply
 * fault        Publish: a status. PublishBatch: that message's outcome; the others go on. Atomic:
 *              a status that names the message
 * not stored   told in the answer, as is an outcome that is not known */
#include "patterns/producer/publish.h"
#include "patterns/check.h"
#include "patterns/need.h"
#include "patterns/producer/prepare.h"
#include "patterns/producer/whole.h"

#include "src/base/container.h"

struct publishing *publishing_begin(struct call *call, size_t n, void (*settled)(struct frame *))
{
    struct publishing *publishing = arena_zalloc(call_arena(call), sizeof *publishing);

    publishing->call = call;
    publishing->producer = producer_of(call);
    frame_init(&publishing->frame, call_arena(call), n);
    publishing->frame.settled = settled;
    return publishing;
}

void publishing_put(struct publishing *publishing)
{
    frame_measure(publishing->producer, &publishing->frame);
    prepare_frame(publishing->producer, call_group(publishing->call), &publishing->frame);
    outbox_put(outbox_new(publishing->producer, publishing->call, FAILURE_STOP_KEY),
               &publishing->frame);
}

/* ---- Publish ---- */

static void one_settled(struct frame *frame)
{
    struct publishing *publishing = CONTAINER_OF(frame, struct publishing, frame);
    struct call *call = publishing->call;
    pb_publish_response response;

    if (outcome_is_status(&frame->items[0])) {
        call_fail(call, frame->items[0].err);
        return;
    }
    outcome_fill(publishing->producer, call_arena(call), &frame->items[0], &response);
    call_reply(call, &response.base);
}

void producer_publish(struct call *call)
{
    struct publishing *publishing = publishing_begin(call, 1, one_settled);
    struct reader reader = reader_of(publishing->producer, call, call_arena(call));
    struct err err = reader_read(&reader, call_request(call), &publishing->frame.items[0]);

    if (err.code != ERR_OK)
        call_fail(call, err);
    else
        publishing_put(publishing);
}

/* ---- PublishBatch ---- */

/* Codes and outcomes always fit; what is longer is left out where it would not. */
static void shorten(const struct producer *producer, pb_publish_batch_response *response)
{
    if (protobuf_c_message_get_packed_size(&response->base) <= producer->binding.max_message_bytes)
        return;
    for (size_t i = 0; i < response->n_results; i++) {
        response->results[i]->_error_case =
            PRISM__PATTERNS__PRODUCER__PUBLISH_RESPONSE___ERROR__NOT_SET;
        response->results[i]->message_id = response->results[i]->position = pb_text("");
    }
}

static void all_settled(struct frame *frame)
{
    struct publishing *publishing = CONTAINER_OF(frame, struct publishing, frame);
    struct arena *arena = call_arena(publishing->call);
    struct err refused = whole_refusal(frame);

    if (refused.code != ERR_OK) {
        call_fail(publishing->call, refused);
        return;
    }

    pb_publish_batch_response response = PRISM__PATTERNS__PRODUCER__PUBLISH_BATCH_RESPONSE__INIT;
    pb_publish_response *results = arena_alloc(arena, frame->n * sizeof *results);

    response.n_results = frame->n;
    response.results = arena_alloc(arena, frame->n * sizeof *response.results);
    for (size_t i = 0; i < frame->n; i++) {
        response.results[i] = &results[i];
        outcome_fill(publishing->producer, arena, &frame->items[i], &results[i]);
        response.success_count += results[i].success;
    }
    response.failure_count = (int32_t)frame->n - response.success_count;
    response.all_success = response.failure_count == 0;
    shorten(publishing->producer, &response);
    call_reply(publishing->call, &response.base);
}

static struct err check_batch(const struct producer *producer, struct call *call)
{
    const pb_publish_batch_request *request = call_request(call);

    if (request->atomic && producer->plan.sink->atomic_items == 0)
        return need_unmet(producer_need_of(NEED_ATOMIC));
    return check_items(request->n_messages,
                       request->atomic ? whole_max_items(producer)
                                       : producer->settings.max_batch_items,
                       call_arena(call), "messages");
}

/* Faults are outcomes of their messages, or of the call where it is atomic. */
static struct err read_batch(struct publishing *publishing)
{
    struct call *call = publishing->call;
    const pb_publish_batch_request *request = call_request(call);
    struct reader reader = reader_of(publishing->producer, call, call_arena(call));

    publishing->frame.whole = request->atomic;
    for (size_t i = 0; i < request->n_messages; i++) {
        struct err err = reader_read(&reader, request->messages[i], &publishing->frame.items[i]);

        if (err.code != ERR_OK && request->atomic)
            return check_at_item(err, call_arena(call), "messages", i);
        if (err.code != ERR_OK)
            frame_refuse(&publishing->frame, i, err);
    }
    return request->atomic ? whole_check(publishing->producer, &publishing->frame) : ERR_NONE;
}

void producer_publish_batch(struct call *call)
{
    const pb_publish_batch_request *request = call_request(call);
    struct err err = check_batch(producer_of(call), call);

    if (err.code != ERR_OK) {
        call_fail(call, err);
        return;
    }

    struct publishing *publishing = publishing_begin(call, request->n_messages, all_settled);

    err = read_batch(publishing);
    if (err.code != ERR_OK)
        call_fail(call, err);
    else
        publishing_put(publishing);
}
