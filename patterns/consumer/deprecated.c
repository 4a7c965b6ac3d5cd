/* The deprecated PubSubBasicInterface, its receiving half, on the same core: a subscription of no
 * group, from now on, settled as it is sent. Each message is sent by itself.
 *
 * Unsubscribe   find -> errand to its home -> find the next of that name .. -> answer */
#include "patterns/consumer/member.h"
#include "patterns/errand.h"
#include "prism/interfaces/pubsub/pubsub_basic.pb-c.h"

#include "src/base/container.h"

typedef Prism__Interfaces__Pubsub__Message old_message;
typedef Prism__Interfaces__Pubsub__Message__MetadataEntry old_metadata;
typedef Prism__Interfaces__Pubsub__SubscribeRequest old_subscribe_request;
typedef Prism__Interfaces__Pubsub__UnsubscribeRequest old_unsubscribe_request;
typedef Prism__Interfaces__Pubsub__UnsubscribeResponse old_unsubscribe_response;

/* ---- Subscribe ---- */

static void fill_metadata(struct arena *arena, const struct consumed *from, old_message *to)
{
    to->metadata = arena_alloc(arena, from->n_headers * sizeof *to->metadata);
    for (size_t i = 0; i < from->n_headers; i++) {
        const struct consumed_header *header = &from->headers[i];

        if (!header->metadata)
            continue;

        old_metadata *entry = arena_alloc(arena, sizeof *entry);

        prism__interfaces__pubsub__message__metadata_entry__init(entry);
        entry->key = arena_strdup(arena, header->name);
        entry->value = arena_strdup(arena, header->value);
        to->metadata[to->n_metadata++] = entry;
    }
}

static void written(struct op *op);

static void write_next(struct frame *frame)
{
    struct outlet *outlet = frame->outlet;
    old_message message = PRISM__INTERFACES__PUBSUB__MESSAGE__INIT;

    if (outlet->written == frame->n) {
        outlet_written(frame, ERR_NONE);
        return;
    }

    const struct consumed *from = &frame->messages[outlet->written++];

    arena_clear(&outlet->arena);
    message.topic = arena_strdup(&outlet->arena, from->topic);
    if (message_is_null(from->claim))
        message.payload = pb_bytes(from->payload);
    message.message_id = consumed_id(&outlet->arena, from);
    message.timestamp = (int64_t)from->from->timestamp_ms;
    fill_metadata(&outlet->arena, from, &message);
    call_send(outlet->call, &message.base, &frame->sending, written);
}

static void written(struct op *op)
{
    struct frame *frame = CONTAINER_OF(op, struct frame, sending);

    if (op->err.code != ERR_OK)
        outlet_written(frame, op->err);
    else
        write_next(frame);
}

static void write_frame(struct frame *frame)
{
    frame->outlet->written = 0;
    write_next(frame);
}

/* Options were hints to backends that are gone. */
static void subscribe(struct call *call)
{
    struct arena asked;
    const old_subscribe_request *request = call_take_request(call, &asked);
    pb_subscribe_request *now = arena_alloc(&asked, sizeof *now);
    struct outlet *outlet = outlet_new(call, false);

    outlet->asked = asked;
    prism__patterns__consumer__subscribe_request__init(now);
    now->topic = request->topic;
    now->consumer_id = request->subscriber_id;
    now->start_case = CONSUMER_PB(SUBSCRIBE_REQUEST__START_POSITION);
    now->position = CONSUMER_PB(START_POSITION__LATEST);
    now->ack_mode = PRISM__PATTERNS__SCHEMAS__ACK_MODE__ACK_AUTO;
    outlet->write = write_frame;
    outlet->want.alone = true;
    outlet_join(outlet, now);
}

/* ---- Unsubscribe ---- */

struct unsubscribing {
    struct errand errand;
    struct call *call;
    struct consumer *home;
    struct slice topic;
    const char *name;
    char id[SUBSCRIPTION_ID_BYTES + 1];
};

static void reply(struct call *call, struct err err)
{
    old_unsubscribe_response response = PRISM__INTERFACES__PUBSUB__UNSUBSCRIBE_RESPONSE__INIT;

    response.success = err.code == ERR_OK;
    response.error = pb_text(err.code == ERR_OK ? "" : err.text);
    call_reply(call, &response.base);
}

static void end_there(struct errand *errand)
{
    struct unsubscribing *u = CONTAINER_OF(errand, struct unsubscribing, errand);
    struct member *member = shared_find(u->home, u->id);

    if (member != NULL)
        member_end(member, ERR_NONE, false);
    op_finish(&errand->op, ERR_NONE);
}

static void ended(struct op *op);

static void end_next(struct unsubscribing *u)
{
    u->home = shared_home_of_old(consumer_of(u->call), u->topic, u->name, u->id);
    if (u->home == NULL) {
        reply(u->call, ERR_NONE);
        return;
    }
    u->errand.there = end_there;
    errand_start(&u->errand, call_group(u->call), u->home->base.home, ended);
}

static void ended(struct op *op)
{
    struct errand *errand = CONTAINER_OF(op, struct errand, op);
    struct unsubscribing *u = CONTAINER_OF(errand, struct unsubscribing, errand);

    if (op->err.code != ERR_OK)
        call_fail(u->call, op->err);
    else
        end_next(u);
}

static void unsubscribe(struct call *call)
{
    const old_unsubscribe_request *request = call_request(call);
    struct unsubscribing *u = arena_zalloc(call_arena(call), sizeof *u);
    struct err err = topics_map(&consumer_of(call)->topics, call_arena(call),
                                slice_str(request->topic), &u->topic);

    if (err.code == ERR_OK && request->subscriber_id[0] == '\0')
        err = err_about(ERR_INVALID_ARGUMENT, "subscriber_id", "subscriber_id is empty");
    if (err.code != ERR_OK) {
        reply(call, err);
        return;
    }
    u->call = call;
    u->name = request->subscriber_id;
    end_next(u);
}

/* ---- the service ---- */

#define OLD_METHOD(rpc, rpc_kind, request_name, response_name, handler)                            \
    {                                                                                              \
        .path = "/prism.interfaces.pubsub.PubSubBasicInterface/" rpc, .kind = (rpc_kind),          \
        .request = &prism__interfaces__pubsub__##request_name##__descriptor,                       \
        .response = &prism__interfaces__pubsub__##response_name##__descriptor,                     \
        .handle = (handler), .replaced_by = "prism.patterns.consumer.ConsumerPattern." rpc         \
    }

static const struct method methods[] = {
    OLD_METHOD("Subscribe", METHOD_SERVER_STREAM, subscribe_request, message, subscribe),
    OLD_METHOD("Unsubscribe", METHOD_UNARY, unsubscribe_request, unsubscribe_response, unsubscribe),
};

const struct service consumer_old_pubsub = {
    .name = "prism.interfaces.pubsub.PubSubBasicInterface",
    .pattern = "consumer",
    .methods = methods,
    .method_count = ARRAY_LEN(methods),
};
