/* The deprecated PubSubBasicInterface, its publishing half, on the same core. Faults and failures
 * are told in-band, as they always were; what ends the call, and a missing interface, is a status.
 */
#include "patterns/producer/publish.h"
#include "prism/interfaces/pubsub/pubsub_basic.pb-c.h"

#include "src/base/container.h"

typedef Prism__Interfaces__Pubsub__PublishRequest old_publish_request;
typedef Prism__Interfaces__Pubsub__PublishResponse old_publish_response;

static void reply(struct publishing *publishing, const struct outgoing *message)
{
    old_publish_response response = PRISM__INTERFACES__PUBSUB__PUBLISH_RESPONSE__INIT;
    struct call *call = publishing->call;
    pb_publish_response now;

    if (message->err.code == ERR_UNIMPLEMENTED || message->err.code == ERR_DEADLINE_EXCEEDED ||
        message->err.code == ERR_CANCELLED) {
        call_fail(call, message->err);
        return;
    }
    outcome_fill(publishing->producer, call_arena(call), message, &now);
    response.success = now.success;
    response.message_id = now.message_id;
    response.error = now.success ? response.error : now.error;
    call_reply(call, &response.base);
}

static void settled(struct frame *frame)
{
    reply(CONTAINER_OF(frame, struct publishing, frame), &frame->items[0]);
}

/* Borrows what is in `from`. */
static void translate(struct arena *arena, const old_publish_request *from, pb_publish_request *to)
{
    prism__patterns__producer__publish_request__init(to);
    to->topic = from->topic;
    to->_payload_case = PRISM__PATTERNS__PRODUCER__PUBLISH_REQUEST___PAYLOAD_PAYLOAD;
    to->payload = from->payload;
    to->metadata = arena_alloc(arena, from->n_metadata * sizeof *to->metadata);
    for (; to->n_metadata < from->n_metadata; to->n_metadata++) {
        pb_metadata_entry *entry = arena_alloc(arena, sizeof *entry);

        prism__patterns__producer__publish_request__metadata_entry__init(entry);
        entry->key = from->metadata[to->n_metadata]->key;
        entry->value = from->metadata[to->n_metadata]->value;
        to->metadata[to->n_metadata] = entry;
    }
}

static void publish(struct call *call)
{
    struct publishing *publishing = publishing_begin(call, 1, settled);
    struct reader reader = reader_of(publishing->producer, call, call_arena(call));
    struct outgoing *message = &publishing->frame.items[0];
    pb_publish_request *request = arena_alloc(call_arena(call), sizeof *request);

    translate(call_arena(call), call_request(call), request);

    struct err err = reader_read(&reader, request, message);

    if (err.code != ERR_OK) {
        message->err = err;
        reply(publishing, message);
        return;
    }
    publishing_put(publishing);
}

static const struct method methods[] = {{
    .path = "/prism.interfaces.pubsub.PubSubBasicInterface/Publish",
    .kind = METHOD_UNARY,
    .request = &prism__interfaces__pubsub__publish_request__descriptor,
    .response = &prism__interfaces__pubsub__publish_response__descriptor,
    .handle = publish,
    .replaced_by = "prism.patterns.producer.ProducerPattern.Publish",
}};

const struct service producer_old_pubsub = {
    .name = "prism.interfaces.pubsub.PubSubBasicInterface",
    .pattern = "producer",
    .methods = methods,
    .method_count = ARRAY_LEN(methods),
};
